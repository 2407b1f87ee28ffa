"""Estimate the tokens and cost of a run before it starts, and report both afterwards.

Tokens before the run are an estimate: one token per 3.5 bytes of UTF-8 (English prose: about 4) and 32 tokens per
second of audio (Gemini's rate; Qwen2.5-Omni takes 25). Prices change monthly, so none is built in: they come from
JSON, ``{"<model>": {"prompt": 2.0, "completion": 12.0}}`` in units of currency per million tokens; thoughts are
billed as completion. Without prices an estimate has tokens only, and states so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mpar2.llm.base import Part, Usage, wav_seconds
from mpar2.llm.errors import SettingError

__all__ = ["Estimate", "Prices", "estimate_tokens"]

BYTES_PER_TOKEN = 3.5
AUDIO_TOKENS_PER_S = 32.0
_UNKNOWN_AUDIO_BYTES_PER_S = 4000.0  # 32 kbit/s, the low end of compressed speech: rather overestimates


@dataclass(frozen=True)
class Prices:
    """Prices per million tokens."""

    prompt: float
    completion: float
    currency: str = "USD"

    @staticmethod
    def load(source: str | Path, model: str) -> Prices | None:
        """Load the prices of a model from a JSON file or text; None if it does not list the model.

        Raises:
            SettingError: The table cannot be read.
        """
        text = str(source)
        if not text.lstrip().startswith("{"):
            text = Path(source).read_text(encoding="utf-8")
        try:
            row = json.loads(text).get(model)
            if row is None:
                return None
            prices = Prices(float(row["prompt"]), float(row["completion"]), str(row.get("currency", "USD")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            shape = '{"<model>": {"prompt": 2.0, "completion": 12.0}}, per million tokens'
            raise SettingError(f"price table is not {shape}: {error!r}") from error
        if not all(math.isfinite(price) and price >= 0 for price in (prices.prompt, prices.completion)):
            raise SettingError(f"prices of {model!r} must be finite and not negative: {row}")
        return prices

    def cost(self, usage: Usage) -> float:
        """Return the price of the tokens, in units of the currency."""
        completion = (usage.completion or 0) + (usage.thoughts or 0)
        return ((usage.prompt or 0) * self.prompt + completion * self.completion) / 1e6


@dataclass(frozen=True)
class Estimate:
    """``requests`` with their expected tokens; ``str()`` is a sentence for confirmation by the user.

    >>> print(Estimate(10, 5000, 2000))
    10 requests, about 7000 tokens (5000 in, 2000 out); no price table given, so no cost
    """

    requests: int
    prompt: int
    completion: int
    prices: Prices | None = None

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.requests + other.requests,
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.prices or other.prices,
        )

    @property
    def cost(self) -> float | None:
        """The expected price; None without a price table."""
        return None if self.prices is None else self.prices.cost(Usage(self.prompt, self.completion))

    def __str__(self) -> str:
        tokens = f"{self.requests} requests, about {self.prompt + self.completion} tokens"
        tokens += f" ({self.prompt} in, {self.completion} out)"
        if self.prices is None:
            return f"{tokens}; no price table given, so no cost"
        return f"{tokens}, about {self.cost:.2f} {self.prices.currency} at the prices given"


def estimate_tokens(*texts_or_parts: Part | Iterable[Part]) -> int:
    """Estimate the tokens of texts and audio files.

    >>> estimate_tokens("seven characters" * 7)
    32
    """
    total = 0.0
    for part in texts_or_parts:
        if isinstance(part, str):
            total += len(part.encode("utf-8", "replace")) / BYTES_PER_TOKEN
        elif isinstance(part, bytes):
            seconds = wav_seconds(part)
            total += AUDIO_TOKENS_PER_S * (len(part) / _UNKNOWN_AUDIO_BYTES_PER_S if seconds is None else seconds)
        else:
            total += sum(estimate_tokens(inner) for inner in part)
    return math.ceil(total)
