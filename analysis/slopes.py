"""Logistic slopes of right answers over length, with difficulty or item held fixed.

Both functions estimate the change of the log odds of a right answer for each doubling of the length; an
``odds_ratio`` below 1 is a decay. The confounder is held fixed in two ways:

``held_difficulty``  a level for each value of the benchmark's own ``difficulty`` (or none where it has no such field);
                     standard errors are clustered by clip (statsmodels ``Logit``, with its small-sample correction)
``within_item``      a level for each item (statsmodels ``ConditionalLogit``): only items with several answers, some
                     right and some wrong, contribute. Differences between items cannot confound this slope.

Neither slope is causal: an uncertain model may write more. Forced lengths are (``contrasts``).
"""

from __future__ import annotations

import warnings
from math import exp
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpar2.statistics import Interval

_Floats = NDArray[np.float64]
_LARGEST = 15.0  # a slope beyond it is separation: the data have no finite estimate
_MOST_ANSWERS = 200  # of one item
_MOST_ITEMS = 1000  # of a conditional regression; of more, that many are drawn


class OddsSlope(NamedTuple):
    """The slope for each doubling of length: log odds, odds ratio with interval, p value, number of traces."""

    log_odds: float | None
    odds_ratio: Interval
    p_value: float | None
    traces: int
    reason: str = ""  # of a missing slope


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
        difficulty: Level of difficulty to hold fixed, codes from 0, (n,); None holds nothing fixed.

    Returns:
        The slope with its 95 % interval, or the reason for its absence.
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
    # A level whose answers are all right or all wrong does not inform the slope, and its intercept is infinite.
    share = np.bincount(codes, right) / np.bincount(codes)
    informative = ((share > 0) & (share < 1))[codes]
    if not informative.any() or np.ptp(x[informative]) == 0:
        return _no_slope("within no difficulty do both outcome and length vary", n, clusters)
    right, x, codes, clips = (
        right[informative],
        x[informative],
        np.unique(codes[informative], return_inverse=True)[1],
        clips[informative],
    )
    design = np.column_stack([np.eye(int(codes.max()) + 1)[codes], x - x.mean()])
    clusters = int(np.count_nonzero(np.bincount(clips)))
    # clusters as floats: NumPy finds distinct floats by sorting, distinct integers a hundred times slower by hashing
    cluster_options = {"cov_type": "cluster", "cov_kwds": {"groups": clips.astype(float)}}
    fit = _fit(Logit(right, design), **cluster_options, use_t=True, maxiter=100, disp=0)
    if fit is None:
        return _no_slope("length separates right from wrong: no finite slope", n, clusters)
    return _slope(fit, n, clusters)


def within_item(right: _Floats, tokens: _Floats, items: NDArray[np.intp]) -> OddsSlope:
    """Return the conditional logistic slope over log2 ``tokens``, within items.

    If more than 1,000 items have mixed answers, 1,000 are sampled (seed 0).

    Args:
        right: 1 or 0 for each answer, (n,).
        tokens: Its length, (n,).
        items: Its item, any codes, (n,).

    Returns:
        The slope with its 95 % interval, or the reason for its absence.
    """
    from statsmodels.discrete.conditional_models import ConditionalLogit

    items = np.unique(items, return_inverse=True)[1] if len(items) else items
    x = np.log2(np.maximum(tokens, 1))
    size, n_right = np.bincount(items), np.bincount(items, right)
    low, high = np.full(len(size), np.inf), np.full(len(size), -np.inf)
    np.minimum.at(low, items, x)
    np.maximum.at(high, items, x)
    informative = np.flatnonzero((n_right > 0) & (n_right < size) & (size <= _MOST_ANSWERS) & (high > low))
    if len(informative) < 5:
        reason = f"only {len(informative)} items had mixed answers"
        return _no_slope(
            reason if (size > 1).any() else "no item was answered several times", len(right), len(informative)
        )
    if len(informative) > _MOST_ITEMS:
        informative = np.sort(np.random.default_rng(0).choice(informative, _MOST_ITEMS, replace=False))
    mask = np.isin(items, informative)
    centred = x - (np.bincount(items, x) / np.maximum(size, 1))[items]  # the level drops out; small numbers are stable
    fit = _fit(ConditionalLogit(right[mask], centred[mask, None], groups=items[mask]), disp=0)
    if fit is None:
        return _no_slope("length separates right from wrong within every item", int(mask.sum()), len(informative))
    return _slope(fit, int(mask.sum()), len(informative))


def _fit(model: Any, **options: Any) -> Any:
    """Return the fit, or None if it is not finite."""
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = model.fit(**options)
        except (PerfectSeparationError, np.linalg.LinAlgError):
            return None
    finite = np.isfinite(fit.params).all() and np.isfinite(fit.bse[-1]) and fit.bse[-1] > 0
    return fit if finite and abs(fit.params[-1]) <= _LARGEST and fit.bse[-1] < 100 else None


def _slope(fit: Any, traces: int, units: int) -> OddsSlope:
    low, high = fit.conf_int()[-1]
    odds = Interval(*(exp(min(float(value), 300.0)) for value in (fit.params[-1], low, high)), units)
    return OddsSlope(float(fit.params[-1]), odds, float(fit.pvalues[-1]), traces)
