"""Length against outcome with difficulty held: two logistic regressions, written out.

Both estimate the change of the log odds of a right answer for each doubling of the length; ``odds_ratio`` below 1 is a
decay. Which question is hard is held fixed in two ways:

``held_difficulty``  a level for each value of the benchmark's own ``difficulty`` (or none where it has no such field).
                     Errors allow for answers of one item being alike (the sandwich estimator with items as clusters).
``within_item``      a level for each item (conditional logistic regression, exact): only items with several answers,
                     some right and some wrong, say anything. What an item is like cannot pose as length here.

Neither makes length a cause: a model that is unsure may write more. Forced lengths do (``contrasts``).
"""

from __future__ import annotations

from math import exp, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpar2.statistics import Interval

__all__ = ["Slope", "held_difficulty", "within_item"]

_Floats = NDArray[np.float64]
_LARGEST = 15.0  # a slope beyond it is separation: the data have no finite estimate
_STEPS = 60
_MOST_ANSWERS = 200  # of one item


class Slope(NamedTuple):
    """The slope for each doubling of length: log odds, odds ratio with interval, p value, and on what it rests."""

    log_odds: float | None
    odds_ratio: Interval
    p_value: float | None
    traces: int
    why_not: str = ""


def _nothing(why: str, traces: int, items: int) -> Slope:
    return Slope(None, Interval(None, None, None, items), None, traces, why)


def held_difficulty(
    right: _Floats, tokens: _Floats, codes: NDArray[np.intp], difficulty: NDArray[np.intp] | None = None
) -> Slope:
    """Logistic slope of ``right`` over log2 ``tokens``, with a level for each code of ``difficulty`` (from 0)."""
    items, n = len(np.unique(codes)), len(right)
    if n < 10 or items < 5:
        return _nothing("fewer than ten answers", n, items)
    if np.ptp(right) == 0:
        return _nothing("all answers have the same outcome", n, items)
    x = np.log2(np.maximum(tokens, 1))
    if np.ptp(x) == 0:
        return _nothing("all traces have the same length", n, items)
    groups = np.zeros(n, dtype=np.intp) if difficulty is None else difficulty
    design = np.zeros((n, int(groups.max()) + 2))
    design[np.arange(n), groups] = 1.0
    design = design[:, design.any(axis=0)]
    design = np.column_stack([design, x - x.mean()])
    # A level whose answers are all right or all wrong says nothing about the slope, and has no finite level.
    level = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ level, -30, 30)))
        information = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(len(level))
        step = np.linalg.solve(information, design.T @ (right - p))
        level = level + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9 or np.abs(level[-1]) > _LARGEST:
            break
    if abs(level[-1]) > _LARGEST:
        return _nothing("length separates right from wrong: no finite slope", n, items)
    p = 1 / (1 + np.exp(-np.clip(design @ level, -30, 30)))
    information = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(len(level))
    by_item = np.stack([np.bincount(codes, column) for column in (design * (right - p)[:, None]).T], axis=1)
    bread = np.linalg.inv(information)
    spread = bread @ (by_item.T @ by_item) @ bread
    return _slope(float(level[-1]), sqrt(max(spread[-1, -1], 0.0)), n, items)


def within_item(right: _Floats, tokens: _Floats, codes: NDArray[np.intp]) -> Slope:
    """Conditional logistic slope over log2 ``tokens``: answers of one item against each other only."""
    order = np.argsort(codes, kind="stable")
    codes, y, x = codes[order], right[order], np.log2(np.maximum(tokens[order], 1))
    _, starts, sizes = np.unique(codes, return_index=True, return_counts=True)
    wins = np.add.reduceat(y, starts) if len(y) else np.empty(0)
    telling = (wins > 0) & (wins < sizes) & (sizes <= _MOST_ANSWERS)
    if len(starts):
        spread = np.maximum.reduceat(x, starts) - np.minimum.reduceat(x, starts)
        telling &= spread > 0
    items = int(telling.sum())
    if items < 5:
        why = "no item was answered several times" if not (sizes > 1).any() else f"only {items} items had mixed answers"
        return _nothing(why, int(sizes[telling].sum()) if len(sizes) else 0, items)
    starts, sizes, wins = starts[telling], sizes[telling], wins[telling].astype(np.intp)
    width = int(sizes.max())
    place = np.arange(width)
    present = place < sizes[:, None]
    index = np.where(present, starts[:, None] + place, 0)
    lengths = np.where(present, x[index], 0.0)
    lengths = np.where(present, lengths - (lengths.sum(axis=1) / sizes)[:, None], 0.0)  # the level drops out
    observed = float((lengths * np.where(present, y[index], 0.0)).sum())
    slope = 0.0
    for _ in range(_STEPS):
        mean, variance = _moments(lengths, present, wins, slope)
        if variance.sum() < 1e-12:
            break
        step = float(np.clip((observed - mean.sum()) / variance.sum(), -1, 1))
        slope += step
        if abs(step) < 1e-10 or abs(slope) > _LARGEST:
            break
    _, variance = _moments(lengths, present, wins, slope)
    if abs(slope) > _LARGEST or variance.sum() < 1e-12:
        return _nothing("length separates right from wrong within every item: no finite slope", int(sizes.sum()), items)
    return _slope(slope, 1 / sqrt(variance.sum()), int(sizes.sum()), items)


def _moments(x: _Floats, present: NDArray[np.bool_], wins: NDArray[np.intp], slope: float) -> tuple[_Floats, _Floats]:
    """Mean and variance of the sum of lengths of the right answers, given how many are right, for each item.

    The generating function is the elementary symmetric polynomial of ``exp(slope * x)``; it is built answer by answer
    together with its first two derivatives by the slope.
    """
    items, width = x.shape
    most = int(wins.max())
    f = np.zeros((3, items, most + 1))  # value, first, second derivative, by number of right answers
    f[0, :, 0] = 1.0
    for j in range(width):
        weight = np.where(present[:, j], np.exp(np.clip(slope * x[:, j], -300, 300)), 0.0)[:, None]
        step = x[:, j][:, None]
        before = f[:, :, :-1]
        added = np.stack(
            [
                weight * before[0],
                weight * (before[1] + step * before[0]),
                weight * (before[2] + 2 * step * before[1] + step * step * before[0]),
            ]
        )
        f = f.copy()
        f[:, :, 1:] += added
        scale = np.maximum(f[0].max(axis=1), 1e-300)[None, :, None]
        f /= scale  # the ratio of derivatives to value is what counts
    rows = np.arange(items)
    value, first, second = f[0, rows, wins], f[1, rows, wins], f[2, rows, wins]
    mean = first / value
    return mean, np.maximum(second / value - mean * mean, 0.0)


def _slope(log_odds: float, error: float, traces: int, items: int) -> Slope:
    from statistics import NormalDist

    if not error > 0:
        return _nothing("the data leave no room for an error", traces, items)
    low, high = exp(log_odds - 1.959964 * error), exp(min(log_odds + 1.959964 * error, 300.0))
    p = 2 * (1 - NormalDist().cdf(abs(log_odds) / error))
    return Slope(log_odds, Interval(exp(log_odds), low, high, items), p, traces)
