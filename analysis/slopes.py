"""Length against right answers: logistic slopes with what is hard about a question held fixed.

Both estimate the change of the log odds of a right answer for each doubling of the length; ``odds_ratio`` below 1 is a
decay. Which question is hard is held fixed in two ways:

``held_difficulty``  a level for each value of the benchmark's own ``difficulty`` (or none where it has no such field);
                     standard errors are clustered by clip (statsmodels ``Logit``, with its small-sample correction)
``within_item``      a level for each item (statsmodels ``ConditionalLogit``): only items with several answers, some
                     right and some wrong, say anything. What an item is like cannot pose as length here.

Neither makes length a cause: a model that is unsure may write more. Forced lengths do (``contrasts``).
"""

from __future__ import annotations

import warnings
from math import exp
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpar2.statistics import Interval

__all__ = ["OddsSlope", "held_difficulty", "within_item"]

_Floats = NDArray[np.float64]
_LARGEST = 15.0  # a slope beyond it is separation: the data have no finite estimate
_MOST_ANSWERS = 200  # of one item
_MOST_ITEMS = 1000  # of a conditional regression; of more, that many are drawn


class OddsSlope(NamedTuple):
    """The slope for each doubling of length: log odds, odds ratio with interval, p value, and what it rests on."""

    log_odds: float | None
    odds_ratio: Interval
    p_value: float | None
    traces: int
    reason: str = ""  # why there is none


def _no_slope(reason: str, traces: int, units: int) -> OddsSlope:
    return OddsSlope(None, Interval(None, None, None, units), None, traces, reason)


def held_difficulty(
    right: _Floats, tokens: _Floats, clips: NDArray[np.intp], difficulty: NDArray[np.intp] | None = None
) -> OddsSlope:
    """Return the logistic slope of ``right`` over log2 ``tokens``, with a level for each code of ``difficulty``.

    Args:
        right: 1 or 0 for each answer, (n,).
        tokens: Its length, (n,).
        clips: Its clip, codes from 0, (n,): the clusters of the standard errors.
        difficulty: What is held, codes from 0, (n,); None holds nothing.

    Returns:
        The slope with its 95 % interval, or the reason why the data give none.
    """
    from statsmodels.discrete.discrete_model import Logit

    n, clusters = len(right), int(np.count_nonzero(np.bincount(clips)))
    if n < 10 or clusters < 5:
        return _no_slope("fewer than ten answers, or five clips", n, clusters)
    if np.ptp(right) == 0:
        return _no_slope("all answers have the same outcome", n, clusters)
    x = np.log2(np.maximum(tokens, 1))
    if np.ptp(x) == 0:
        return _no_slope("all traces have the same length", n, clusters)
    codes = np.zeros(n, dtype=np.intp) if difficulty is None else np.unique(difficulty, return_inverse=True)[1]
    # A level whose answers are all right or all wrong says nothing about the slope, and has no finite level.
    share = np.bincount(codes, right) / np.bincount(codes)
    telling = ((share > 0) & (share < 1))[codes]
    if not telling.any() or np.ptp(x[telling]) == 0:
        return _no_slope("within no difficulty do both outcome and length vary", n, clusters)
    right, x, codes, clips = (
        right[telling],
        x[telling],
        np.unique(codes[telling], return_inverse=True)[1],
        clips[telling],
    )
    design = np.column_stack([np.eye(int(codes.max()) + 1)[codes], x - x.mean()])
    clusters = int(np.count_nonzero(np.bincount(clips)))
    # clusters as floats: NumPy finds distinct floats by sorting, distinct integers a hundred times slower by hashing
    clustered = {"cov_type": "cluster", "cov_kwds": {"groups": clips.astype(float)}}
    found = _fitted(Logit(right, design), **clustered, use_t=True, maxiter=100, disp=0)
    if found is None:
        return _no_slope("length separates right from wrong: no finite slope", n, clusters)
    return _slope(found, n, clusters)


def within_item(right: _Floats, tokens: _Floats, items: NDArray[np.intp]) -> OddsSlope:
    """Return the conditional logistic slope over log2 ``tokens``: answers of one item against each other only.

    Of more than 1,000 items with mixed answers, that many are drawn (seed 0).

    Args:
        right: 1 or 0 for each answer, (n,).
        tokens: Its length, (n,).
        items: Its item, any codes, (n,).

    Returns:
        The slope with its 95 % interval, or the reason why the data give none.
    """
    from statsmodels.discrete.conditional_models import ConditionalLogit

    items = np.unique(items, return_inverse=True)[1] if len(items) else items
    x = np.log2(np.maximum(tokens, 1))
    size, wins = np.bincount(items), np.bincount(items, right)
    low, high = np.full(len(size), np.inf), np.full(len(size), -np.inf)
    np.minimum.at(low, items, x)
    np.maximum.at(high, items, x)
    telling = np.flatnonzero((wins > 0) & (wins < size) & (size <= _MOST_ANSWERS) & (high > low))
    if len(telling) < 5:
        few = f"only {len(telling)} items had mixed answers"
        return _no_slope(few if (size > 1).any() else "no item was answered several times", len(right), len(telling))
    if len(telling) > _MOST_ITEMS:
        telling = np.sort(np.random.default_rng(0).choice(telling, _MOST_ITEMS, replace=False))
    kept = np.isin(items, telling)
    centred = x - (np.bincount(items, x) / np.maximum(size, 1))[items]  # the level drops out; small numbers are stable
    found = _fitted(ConditionalLogit(right[kept], centred[kept, None], groups=items[kept]), disp=0)
    if found is None:
        return _no_slope("length separates right from wrong within every item", int(kept.sum()), len(telling))
    return _slope(found, int(kept.sum()), len(telling))


def _fitted(model: Any, **options: Any) -> Any:
    """Return the fit, None where the data have no finite one."""
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = model.fit(**options)
        except (PerfectSeparationError, np.linalg.LinAlgError):
            return None
    known = np.isfinite(found.params).all() and np.isfinite(found.bse[-1]) and found.bse[-1] > 0
    return found if known and abs(found.params[-1]) <= _LARGEST and found.bse[-1] < 100 else None


def _slope(found: Any, traces: int, units: int) -> OddsSlope:
    low, high = found.conf_int()[-1]
    odds = Interval(*(exp(min(float(value), 300.0)) for value in (found.params[-1], low, high)), units)
    return OddsSlope(float(found.params[-1]), odds, float(found.pvalues[-1]), traces)
