"""Aggregation of step scores into one score (R_spr), each in [0, 1].

``geometric``   the paper's mean, with a floor for every step: without it a single bad step makes the mean zero, and a
                group of zeros has no advantage [floor ours]
``arithmetic``  the plain mean: good steps can compensate a bad one
``until_wrong``  the sum of the scores before the first step below ``threshold``, over all steps: a step counts only
                 while all previous steps are right, which is what decays along a trace [ours]
``soft_min``    ``-t log mean exp(-s/t)``: between the mean (t large) and the worst step (t small)

A trace without steps scores 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def geometric(scores: Sequence[float], floor: float = 0.05) -> float:
    """Compute the geometric mean of step scores (arXiv 2603.02266, step-wise perception reward).

    >>> round(geometric([1.0, 0.25]), 3), round(geometric([1.0, 0.0]), 3), geometric([])
    (0.5, 0.224, 0.0)
    """
    if not 0 <= floor < 1:
        raise ValueError(f"floor is {floor}: it must be at least 0 and below 1")
    if not scores:
        return 0.0
    if floor == 0 and min(scores) <= 0:
        return 0.0
    return math.exp(sum(math.log(max(score, floor)) for score in scores) / len(scores))


def arithmetic(scores: Sequence[float]) -> float:
    """Compute the mean of step scores."""
    return sum(scores) / len(scores) if scores else 0.0


def soft_min(scores: Sequence[float], temperature: float = 0.1) -> float:
    """Compute a smooth minimum of step scores.

    >>> round(soft_min([1.0, 0.0], temperature=0.01), 2), soft_min([0.5, 0.5])
    (0.01, 0.5)
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: it must be above 0")
    if not scores:
        return 0.0
    low = min(scores)  # the largest exponent is 0, so nothing overflows
    total = sum(math.exp((low - score) / temperature) for score in scores)
    return low - temperature * math.log(total / len(scores))


def until_wrong(scores: Sequence[float], threshold: float = 0.5) -> float:
    """Sum the scores of the steps before the first wrong one, over the number of all steps.

    >>> until_wrong([1.0, 1.0, 0.0, 1.0]), until_wrong([0.0, 1.0]), until_wrong([])
    (0.5, 0.0, 0.0)
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}: it must be above 0 and at most 1")
    total = 0.0
    for score in scores:
        if score < threshold:
            break
        total += score
    return total / len(scores) if scores else 0.0


AGGREGATORS: dict[str, Callable[..., float]] = {
    "geometric": geometric,
    "arithmetic": arithmetic,
    "soft_min": soft_min,
    "until_wrong": until_wrong,
}
