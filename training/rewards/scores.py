"""What a scorer says of one trace, and what a scorer is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from training.rewards.sample import Sample

__all__ = ["Scorer", "Scores"]


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1]: of the perception part, of each step in order, of the review.

    ``thinking`` and ``consistent`` are for traces of one ``<think>``: how well it rests on the truth, and whether the
    answer is the one that it arrives at.
    """

    perception: float = 0.0
    steps: tuple[float, ...] = ()
    review: float = 0.0
    thinking: float = 0.0
    consistent: float = 0.0


class Scorer(Protocol):
    """Scores traces against their truth. ``None`` means not scored: no truth, or the judge did not answer.

    ``is_async`` says that scoring asks a service: ``score`` is then a coroutine function.
    """

    id: str
    is_async: bool

    def score(self, sample: Sample) -> Scores | None: ...
