"""The tasks of an evaluation: one for each answer, grouped into batches, and the answer as a line of the run.

All of it depends on the items, the arms and the seed alone, so a stopped run computes the same plan again. The seed of
an answer is derived from the run's seed, the item, the arm and the sample, independent of batch and order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from mpar2.answers import read_answer
from mpar2.arms import EvaluationArm
from mpar2.engines.base import Arm, Decoding, Generation
from mpar2.question import Item, item_to_json
from mpar2.runs import record_key

__all__ = ["Batch", "Task", "audio_seconds", "plan", "record_of_answer", "record_of_failure", "seed_of"]

_MAX_REASON_CHARS = 2000


@dataclass(frozen=True)
class Task:
    """One answer to generate."""

    item: Item
    arm: EvaluationArm
    sample: int

    @property
    def key(self) -> str:
        return record_key(self.item.id, self.arm.name, self.sample)


@dataclass(frozen=True)
class Batch:
    """Tasks that run together: one base model, equal decoding, attention recorded or not."""

    tasks: tuple[Task, ...]
    attention: bool


def plan(
    tasks: Sequence[Task],
    seconds: Mapping[str, float],
    *,
    base_of: Callable[[Arm], str],
    seed: int,
    batch_size: int,
    attention_share: float,
) -> list[Batch]:
    """Group tasks into batches.

    One base model after the other; within it long clips first, so that memory errors come early; all arms and samples
    of an item side by side.

    Args:
        tasks: The answers to generate.
        seconds: Duration of the clips in seconds, by item id.
        base_of: Maps an arm to its base (:meth:`mpar2.engines.base.Engine.base_of`).
        seed: Seed of the run, which selects the items with recorded attention.
        batch_size: Largest number of tasks in a batch.
        attention_share: Share of items with recorded attention, 0 to 1.
    """
    groups: dict[tuple[str, Decoding, bool], list[Task]] = {}
    for task in tasks:
        base = base_of(task.arm.arm)
        attention = _share(seed, task.item.id) < attention_share
        groups.setdefault((base, task.arm.decoding, attention), []).append(task)
    bases = list(dict.fromkeys(base for base, _, _ in groups))
    batches: list[Batch] = []
    for key in sorted(groups, key=lambda key: bases.index(key[0])):
        group = sorted(groups[key], key=lambda task: (-seconds[task.item.id], task.item.id))  # stable
        slices = (group[first : first + batch_size] for first in range(0, len(group), batch_size))
        batches += [Batch(tuple(slice_), attention=key[2]) for slice_ in slices]
    return batches


def audio_seconds(path: Path) -> float:
    """Return a recording's duration in seconds from its header; 0 if the header has none."""
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (RuntimeError, OSError, TypeError):
        return 0.0


def seed_of(task: Task, seed: int) -> int:
    """Return the seed of one answer, below 2**31 (servers accept no more)."""
    digest = hashlib.sha256(f"{seed}|{task.key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def record_of_failure(task: Task, reason: str) -> dict[str, Any]:
    """Return the line of a failed task."""
    error = " ".join(reason.split())[:_MAX_REASON_CHARS] or "no reason given"
    return _blank(task) | {"status": "error", "error": error}


def record_of_answer(task: Task, generation: Generation, *, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return the line of an answer."""
    answer = read_answer(generation.trace, task.item.question.choices)
    return _blank(task) | {
        "status": "ok",
        "text": generation.text,
        "answer": answer.words,
        "choice": answer.choice,
        "prediction": answer.prediction,
        "tokens": generation.token_count,
        "prompt_tokens": generation.prompt_tokens,
        "token_ends": _token_ends(generation),
        "seconds": round(generation.seconds, 4),
        "audio_seconds": round(generation.audio_seconds, 4),
        "finish": "length" if generation.finish == "length" else "stop",
        "attention": _attention(generation),
        "served_model": generation.served_model or None,
        "warnings": list(dict.fromkeys((*warnings, *generation.warnings))) or None,
    }


def _blank(task: Task) -> dict[str, Any]:
    item = item_to_json(task.item)
    return {"key": task.key, "id": item.pop("id"), "arm": task.arm.name, "sample": task.sample, "item": item}


def _token_ends(generation: Generation) -> list[int] | None:
    if not generation.tokens:
        return None
    # a token inside a character has an empty span
    return list(accumulate((max(0, token.chars.stop) for token in generation.tokens), max))


def _attention(generation: Generation) -> dict[str, Any] | None:
    record = generation.attention
    if record is None:
        return None
    from mpar2.attention import attention_ratio, corrected_ratio

    return {
        "frame_s": record.frame_s / record.frames_per_column,
        "ratio": [float(f"{value:.5g}") for value in attention_ratio(record)],
        "corrected": [float(f"{value:.5g}") for value in corrected_ratio(record)],
        "audio_positions": record.audio_positions,
    }


def _share(seed: int, id: str) -> float:
    """Return a number in [0, 1) for an item, equal in every run with this seed."""
    digest = hashlib.sha256(f"attention|{seed}|{id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
