"""What a user calls from Python without knowing the parts: ``import mpar2``."""

from __future__ import annotations

from collections.abc import Sequence

from mpar2.rescore import score_by_rules

__all__ = ["score"]


def score(reply: str, answer: str, choices: Sequence[str] = ()) -> dict[str, float]:
    """Return the value of one reply under every rule in use (``mpar2.rescore``).

    >>> import mpar2
    >>> mpar2.score("The answer is B.", "Woman", ["Man", "Woman"])["strict"]
    1.0
    """
    return score_by_rules(reply, answer, tuple(choices))[0]
