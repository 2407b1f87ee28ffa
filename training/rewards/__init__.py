"""Rewards for GRPO, as functions that TRL calls: format, accuracy, perception, steps, review, length.

``functions``  the rewards                  ``aggregate``  aggregation of step scores
``sample``     a completion with its truth, and a scorer's scores
``reference``  the scorer by rules          ``words``      its own lexicon of sounds
``judge``      the scorer by an LLM

The scorers here train; ``mpar2.cafe`` evaluates. The two differ by design (see ``words``), so that a model that
optimises one has learnt nothing about the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.rewards.functions import REWARDS, make_rewards
from training.rewards.reference import ReferenceScorer
from training.rewards.sample import Sample, Scorer, Scores

__all__ = ["REWARDS", "ReferenceScorer", "Sample", "Scorer", "Scores", "make_rewards", "make_scorer", "register_scorer"]


_SCORERS: dict[str, Callable[..., Scorer]] = {}


def register_scorer(name: str, make: Callable[..., Scorer]) -> None:
    """Register a scorer, for ``scorer: {name: ...}`` of a recipe."""
    _SCORERS[name] = make


def make_scorer(name: str = "reference", **options: Any) -> Scorer:
    """Make a scorer by name.

    Args:
        name: ``reference`` (rules), a service (``server`` needs ``model`` and ``base_url``, ``gemini`` ``model``), or
            a registered scorer.
        **options: Options of the scorer.

    Raises:
        ValueError: No scorer has this name, or an option is missing.
    """
    if name in _SCORERS:
        return _SCORERS[name](**options)
    if name == "reference":
        if options:
            raise ValueError(f"the reference scorer takes no options, got {', '.join(options)}")
        return ReferenceScorer()
    from training.rewards.judge import judge_scorer

    return judge_scorer(name, **options)
