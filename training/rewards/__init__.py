"""Rewards for GRPO, as functions that TRL calls: format, accuracy, perception, steps, review, length.

``functions``  the rewards                  ``aggregate``  from step scores to one
``sample``     a completion, its truth, and what a scorer says of it
``reference``  the scorer by rules          ``words``      its own words for sounds
``judge``      the scorer by an LLM           ``schedule``   weights that change
``contrast``   with the clip against silence

The scorers here train; ``mpar2.cafe`` evaluates. The two differ by design (``words`` says how), so that a model that
learns to please the one has learnt nothing about the other.
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
    """Make a scorer known, for ``scorer: {name: ...}`` of a recipe.

    Args:
        name: Its name.
        make: Makes it; gets the recipe's other options of the scorer.
    """
    _SCORERS[name] = make


def make_scorer(name: str = "reference", **options: Any) -> Scorer:
    """Make a scorer by name.

    Args:
        name: ``reference`` (rules), a service (``server`` needs ``model`` and ``base_url``, ``gemini`` ``model``), or
            one that was registered.
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
