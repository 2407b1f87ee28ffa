"""Rewards as TRL takes them: ``f(completions, **columns) -> list[float | None]``, one value for each completion.

``None`` means not scored (no truth, no answer, no judge); TRL leaves it out of the group's mean. A trace that *can* be
scored and lacks the scored part gets 0.

=============  ========================================================================================  ==========
name           value                                                                                     source
=============  ========================================================================================  ==========
format         1 if the trace has the form of its mode, else 0                                           form ours
accuracy       1 if the answer names the right choice (``strict_match``: order of words counts), else 0  the paper's
perception     a scorer's score of the perception part, in [0, 1]                                        the paper's
step           R_spr: the step scores, aggregated                                                        the paper's
review         R_rea: accuracy times ``gate + (1 - gate) * review score``                                gating the
                                                                                                         paper's, form
                                                                                                         ours
length         0 up to ``soft`` tokens, falling to -1 at ``hard``                                        ours
audio_thinker  Audio-Thinker's whole reward, see :func:`audio_thinker_reward`                            that paper's
audio_contrast log-probability of the completion with its clip minus that with silence                   ours
=============  ========================================================================================  ==========

Functions that need a scorer are synchronous with the reference scorer and asynchronous with one that calls a service.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpar2.trace import has_form
from training.rewards.aggregate import AGGREGATORS
from training.rewards.sample import Sample, Scorer, Scores, samples_of_call

Reward = Callable[..., Any]  # list[float | None], or a coroutine of one
Value = float | None


def format_reward(mode: str = "mpar2") -> Reward:
    """Make R_format: 1 for the exact form of the mode, else 0.

    Raises:
        ValueError: The mode is not known.
    """
    has_form(Sample("").trace, mode)  # raises for an unknown mode before the first generation

    def score(sample: Sample) -> Value:
        return float(has_form(sample.trace, mode))

    return _make_reward("format", score)


def accuracy_reward() -> Reward:
    """Make R_acc: 1 for the right choice, else 0; None without an answer to compare with."""
    return _make_reward("accuracy", _accuracy)


def perception_reward(scorer: Scorer) -> Reward:
    """Make R_perception: the scorer's score of the perception part."""
    return _make_scored_reward("perception", scorer, lambda sample, scores: scores.perception)


def step_reward(scorer: Scorer, aggregate: str = "geometric", **options: float) -> Reward:
    """Make R_spr: the step scores, aggregated."""
    if aggregate not in AGGREGATORS:
        raise ValueError(f"aggregate is {aggregate!r}: use one of {', '.join(AGGREGATORS)}")
    function = AGGREGATORS[aggregate]
    function([0.5], **options)  # raises for an invalid option early
    return _make_scored_reward("step", scorer, lambda sample, scores: function(scores.steps, **options))


def review_reward(scorer: Scorer, gate: float = 0.2) -> Reward:
    """Make R_rea: accuracy, gated by the review."""
    if not 0 <= gate <= 1:
        raise ValueError(f"gate is {gate}: it must lie between 0 and 1")

    def score(sample: Sample, scores: Scores) -> Value:
        accuracy = _accuracy(sample)
        return None if accuracy is None else accuracy * (gate + (1 - gate) * scores.review)

    return _make_scored_reward("review", scorer, score)


def length_reward(soft: int, hard: int) -> Reward:
    """Make a soft limit on length: 0 up to ``soft`` tokens, falling linearly to -1 at ``hard``.

    A completion of unknown length gets None. Source: soft overlong punishment of DAPO (arXiv 2503.14476).

    Raises:
        ValueError: Not 0 < soft < hard.
    """
    if not 0 < soft < hard:
        raise ValueError(f"soft is {soft} and hard {hard} tokens: 0 < soft < hard is needed")

    def score(sample: Sample) -> Value:
        return None if sample.tokens is None else -min(1.0, max(0.0, (sample.tokens - soft) / (hard - soft)))

    return _make_reward("length", score)


def audio_thinker_reward(scorer: Scorer) -> Reward:
    """Make Audio-Thinker's reward ``R_a (1 + 0.5 R_c) + 0.5 R_f + R_t``.

    R_a: right with thinking 1, wrong with thinking 0, right without 2, wrong without -1. R_c: the answer is the
        conclusion
    of the thinking. R_t: quality of the thinking, 0 without. Departures: no factors that balance the two modes over a
    batch; R_t is the scorer's score against the truth, where theirs is an LLM's without truth.
    """

    def score(sample: Sample, scores: Scores) -> Value:
        accuracy = _accuracy(sample)
        if accuracy is None:
            return None
        thinks = any(part.text.strip() for part in sample.trace.of_kind("think"))
        value = accuracy if thinks else (2.0 if accuracy else -1.0)
        form = float(has_form(sample.trace, "cot" if thinks else "direct"))
        consistent, quality = (scores.consistent, scores.thinking) if thinks else (0.0, 0.0)
        return value * (1 + 0.5 * consistent) + 0.5 * form + quality

    return _make_scored_reward("audio_thinker", scorer, score)


class AudioContrast:
    """The audio contrast: the policy's log-probability of a completion with its clip minus that with silence.

    For tokens o_t of a completion, ``mean_t(log pi(o_t | clip, o_<t) - log pi(o_t | silence, o_<t))`` in nats a token,
    clipped at ``most`` on both sides and divided by it: in [-1, 1], 0 for a text that does not depend on the audio.
    Silence is as long as the clip. Definition ours; PAPO (arXiv 2507.06448) raises a divergence of the same two passes
    as a term of the loss, with gradients; this is a reward of completions, compared within a group.

    Alone it can be maximised by any text that follows the audio, right or wrong: give it a small weight beside
    ``accuracy`` or ``perception``. It costs two passes without gradients a step. The trainer sets ``measure``, which
    needs its policy and clips.
    """

    __name__ = "audio_contrast"

    def __init__(self, most: float = 0.5) -> None:
        if not most > 0:
            raise ValueError(f"most is {most}: it must be above 0 nats a token")
        self._most = most
        self.measure: Callable[[Sequence[Sequence[int]]], list[float]] | None = None

    def __call__(self, completions: Any, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float]:
        if self.measure is None:
            raise RuntimeError("audio_contrast needs training.audio_grpo.AudioGRPOTrainer, which measures it")
        return [max(-1.0, min(1.0, value / self._most)) for value in self.measure(completion_ids)]


REWARDS: dict[str, tuple[Callable[..., Reward], bool]] = {  # name -> (maker, whether it takes the scorer)
    "format": (format_reward, False),
    "accuracy": (accuracy_reward, False),
    "perception": (perception_reward, True),
    "step": (step_reward, True),
    "review": (review_reward, True),
    "length": (length_reward, False),
    "audio_thinker": (audio_thinker_reward, True),
    "audio_contrast": (AudioContrast, False),
}


@dataclass(frozen=True)
class Schedule:
    """Scheduled weight of a reward: points (step, weight) in order of steps, linear between them.

    ``rewards.format.weight: [[0, 1.0], [200, 0.2]]``: 1 at the first step, 0.2 from step 200 on. The weight of a format
    that is learnt early can fall, and a reward that means little before the format is learnt can rise later.
    """

    points: tuple[tuple[int, float], ...]

    def at(self, step: int) -> float:
        """Return the weight at a step; it is constant before the first and after the last point.

        >>> Schedule(((0, 1.0), (100, 0.0))).at(25)
        0.75
        """
        steps, weights = zip(*self.points, strict=True)
        return float(np.interp(step, steps, weights))


def read_weight(value: Any) -> float | Schedule:
    """Read the weight of a recipe: a number, or a list of [step, weight].

    Raises:
        ValueError: Neither of the two, or steps that do not rise.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value or not all(map(_is_point, value)):
        raise ValueError(f"a weight is {value!r}: give a number, or points as [[0, 1.0], [200, 0.2]]")
    steps = [step for step, _ in value]
    if steps != sorted(set(steps)):
        raise ValueError(f"the steps of a weight are {steps}: they must rise")
    return Schedule(tuple((int(step), float(weight)) for step, weight in value))


def _is_point(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return False
    step, weight = value
    return type(step) is int and step >= 0 and type(weight) in (int, float) and math.isfinite(weight)


def make_rewards(specs: Mapping[str, Mapping[str, Any]], scorer: Scorer) -> tuple[list[Reward], list[float | Schedule]]:
    """Make the reward functions of a recipe and their weights, in its order.

    Args:
        specs: ``{name: {"weight": w, **options}}``; a weight may be a schedule.
        scorer: Scores perception, steps and review.

    Raises:
        ValueError: A name or option is not known.
    """
    if not specs:
        raise ValueError(f"the recipe names no reward: give at least one of {', '.join(REWARDS)}")
    functions, weights = [], []
    for name, spec in specs.items():
        if name not in REWARDS:
            raise ValueError(f"unknown reward {name!r}: use one of {', '.join(REWARDS)}")
        options = dict(spec)
        weight = options.pop("weight", 1.0)
        maker, takes_scorer = REWARDS[name]
        try:
            functions.append(maker(scorer, **options) if takes_scorer else maker(**options))
        except TypeError as error:
            raise ValueError(f"reward '{name}': {error}") from None
        try:
            weights.append(read_weight(weight))
        except ValueError as error:
            raise ValueError(f"reward '{name}': {error}") from None
    return functions, weights


def _accuracy(sample: Sample) -> Value:
    return None if sample.right is None else float(sample.right)


def _make_reward(name: str, score: Callable[[Sample], Value]) -> Reward:
    def reward(completions: Sequence[Any], **columns: Any) -> list[Value]:
        return [score(sample) for sample in samples_of_call(completions, columns)]

    reward.__name__ = name
    return reward


def _make_scored_reward(name: str, scorer: Scorer, value: Callable[[Sample, Scores], Value]) -> Reward:
    def value_or_none(sample: Sample, scores: Scores | None) -> Value:
        return None if scores is None else value(sample, scores)

    if not scorer.is_async:

        def reward(completions: Sequence[Any], **columns: Any) -> list[Value]:
            return [value_or_none(sample, scorer.score(sample)) for sample in samples_of_call(completions, columns)]

        reward.__name__ = name
        return reward

    async def async_reward(completions: Sequence[Any], **columns: Any) -> list[Value]:
        samples = samples_of_call(completions, columns)
        results = await asyncio.gather(*(scorer.score(sample) for sample in samples))  # type: ignore[arg-type]
        return [value_or_none(sample, scores) for sample, scores in zip(samples, results, strict=True)]

    async_reward.__name__ = name
    async_reward.scorer = scorer  # type: ignore[attr-defined]  # for requests ahead (``training.judge_ahead``)
    return async_reward
