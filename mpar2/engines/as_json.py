"""A generation as plain JSON values, for ``mpar2 reason --json`` and the app's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpar2.prompts import prompt_identity
from mpar2.trace import trace_to_json

if TYPE_CHECKING:
    from mpar2.engines.base import Generation

__all__ = ["generation_to_json", "mean_attention_ratio"]


def generation_to_json(generation: Generation) -> dict[str, Any]:
    """Return the JSON object of one generation; ``attention_ratio`` is the mean share of attention on audio."""
    return {
        "answer": generation.trace.answer or generation.choice,
        "choice": generation.choice,
        "mode": generation.arm.mode,
        "model": generation.arm.model,
        "adapter": generation.arm.adapter,
        "prompt": generation.arm.prompt or "ours",
        "prompt_hash": prompt_identity(generation.arm.mode, generation.arm.prompt)[1],
        "text": generation.text,
        "trace": trace_to_json(generation.trace),
        "tokens": generation.token_count,
        "seconds": round(generation.seconds, 3),
        "audio_seconds": round(generation.audio_seconds, 3),
        "attention_ratio": mean_attention_ratio(generation),
        "finish": generation.finish,
        "warnings": list(generation.warnings),
    }


def mean_attention_ratio(generation: Generation) -> float | None:
    """Compute the mean attention on audio over tokens, layers and heads, in [0, 1]; None if not recorded."""
    from mpar2.attention import attention_ratio

    if generation.attention is None or not generation.tokens:
        return None
    return round(float(attention_ratio(generation.attention).mean()), 6)
