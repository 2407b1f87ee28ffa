"""Scheduled weights of rewards, linear between the points of a recipe.

``rewards.format.weight: [[0, 1.0], [200, 0.2]]``: 1 at the first step, 0.2 from step 200 on. The weight of a format
that is learnt early can fall, and a reward that means little before the format is learnt can rise later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """Points (step, weight) in order of steps."""

    points: tuple[tuple[int, float], ...]

    def at(self, step: int) -> float:
        """Return the weight at a step; it is constant before the first and after the last point.

        >>> Schedule(((0, 1.0), (100, 0.0))).at(25)
        0.75
        """
        import numpy as np

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
