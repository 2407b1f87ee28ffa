"""Confidence intervals, slopes and paired tests for the results of runs.

Conventions:

* A value belongs to one answer. It is a finite number; unscored answers are excluded by the caller, who reports their
  number. Rates are in [0, 1].
* ``groups`` gives the cluster of each value: **the clip**. Two questions about one clip, and the samples of one
  question, are not independent, so clusters are resampled whole. Without groups each value is a cluster.
* ``denominators`` turn a mean into a pooled ratio ``sum(values) / sum(denominators)`` (CAFE's micro figures: a trace
  gives its matched events and its asserted events).
* Intervals are two-sided at ``level``. Bootstrap intervals are percentile intervals of ``resamples`` draws from a
  generator seeded with ``seed``: the same call gives the same numbers. Their tails are widened for few clusters as
  Student's t is (Hesterberg 2015, "expanded percentile"), since plain percentiles are too narrow by
  ``sqrt((n - 1) / n)`` and by the normal quantile. A resample whose denominator is 0 is excluded.
* With more than 1,000 clusters, sums are sampled from their limiting normal distribution (central limit theorem).
* With no value (or a denominator of 0) there is no estimate; with fewer than two clusters there is no interval: the
  fields are None, never NaN, so that every result is JSON.

Metrics:

``wilson``               interval of a proportion (E. B. Wilson 1927); valid at 0 and 1, where a bootstrap has no width
``bootstrap_interval``   mean or pooled ratio
``bootstrap_statistic``  any vectorised statistic of paired columns
``accuracy_interval``    Wilson for one value per clip, cluster bootstrap for several
``paired_bootstrap``     difference of two arms on the same items
``mcnemar``              exact test on the items that only one arm got right (Q. McNemar 1947); for independent items
``slope``                change of an outcome per unit of x, within strata
``correlation``          Pearson's r, or Spearman's of ranks
``holm``                 p values corrected for the number of comparisons (S. Holm 1979)
``compare_arms``         all comparisons of two arms on the same items, as a dict
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import erfc, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Effect",
    "Interval",
    "McNemar",
    "accuracy_interval",
    "bootstrap_interval",
    "bootstrap_statistic",
    "compare_arms",
    "correlation",
    "holm",
    "mcnemar",
    "paired_bootstrap",
    "slope",
    "validate",
    "wilson",
]

_Floats = NDArray[np.float64]
_Groups = Sequence[Hashable] | NDArray[Any] | None
_CHUNK = 4_000_000  # numbers per chunk: 32 MB
_NORMAL_ABOVE = 1000  # clusters
_FEW_DRAWS = 5


class Interval(NamedTuple):
    """An estimate with its interval; ``n`` is the number of clusters (clips)."""

    estimate: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        """Return ``0.412 (0.371-0.455)``, ``-`` without an estimate."""
        if self.estimate is None:
            return "-"
        if self.low is None:
            return f"{self.estimate:.3f} (n={self.n})"
        return f"{self.estimate:.3f} ({self.low:.3f}-{self.high:.3f})"


class Effect(NamedTuple):
    """A difference or a slope, with the two-sided p value of the null hypothesis 0; ``n`` is the number of clusters."""

    estimate: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int


class McNemar(NamedTuple):
    """Counts of items that each arm got right, and the exact two-sided p value of equal error rates."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


def validate(*columns: ArrayLike, groups: _Groups = None, level: float = 0.95) -> tuple[_Floats, ...]:
    """Return columns as float64 vectors of one length.

    Args:
        *columns: Vectors, (n,).
        groups: The cluster of each value, (n,), if there are clusters.
        level: Confidence level, above 0 and below 1.

    Raises:
        ValueError: Lengths differ, a value is not finite, or there is no column.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1 (did you mean {level / 100:g}?)")
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    for number, array in enumerate(arrays, 1):
        if array.ndim != 1:
            raise ValueError(f"column {number} has shape {array.shape}; one value for each item is needed")
        if len(array) != len(arrays[0]):
            raise ValueError(f"column {number} has {len(array)} values and column 1 has {len(arrays[0])}: not paired")
        if not np.isfinite(array).all():
            position = int(np.flatnonzero(~np.isfinite(array))[0])
            where = f"column {number} has {array[position]} at position {position}"
            raise ValueError(f"{where}: leave unscored items out, and count them")
    if groups is not None and arrays and len(groups) != len(arrays[0]):
        raise ValueError(f"there are {len(groups)} groups for {len(arrays[0])} values: give one group for each value")
    return arrays


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Compute the Wilson score interval of a proportion (scipy ``binomtest``).

    Raises:
        ValueError: There are more successes than trials, or the level is not between 0 and 1.

    >>> [round(value, 4) for value in wilson(8, 10)[:3]]
    [0.8, 0.4902, 0.9433]
    """
    from scipy.stats import binomtest

    validate(level=level)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: successes must lie between 0 and n")
    if n == 0:
        return Interval(None, None, None, 0)
    low, high = map(float, binomtest(successes, n).proportion_ci(level, method="wilson"))
    # At p = 0 and p = 1 the bound is exactly p, apart from rounding.
    return Interval(successes / n, low if successes else 0.0, high if successes < n else 1.0, n)


def bootstrap_interval(
    values: ArrayLike,
    denominators: ArrayLike | None = None,
    *,
    groups: _Groups = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute the mean of ``values``, or ``sum(values) / sum(denominators)``, with its percentile bootstrap interval.

    >>> bootstrap_interval([1, 0, 1, 1], [2, 2, 1, 1]).estimate
    0.5
    """
    rows = _cluster_rows((values, denominators), groups, level)
    total = rows.sum(axis=0)
    if len(rows) == 0 or total[1] == 0:
        return Interval(None, None, None, len(rows))
    estimate = float(total[0] / total[1])
    sums = _resampled_sums(rows, resamples, np.random.default_rng(seed))
    return Interval(estimate, *_percentiles(_ratio(sums[:, 0], sums[:, 1]), len(rows), level), len(rows))


def bootstrap_statistic(
    statistic: Callable[..., _Floats],
    *columns: ArrayLike,
    groups: _Groups = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Compute any statistic of paired columns with its bootstrap interval.

    Args:
        statistic: Maps columns of shape (resamples, n) to (resamples,); NaN if undefined.
        *columns: Paired values, each (n,).
        groups: Clusters to resample, (n,). With groups n differs between resamples, and the statistic is
            called once for each resample.

    Raises:
        ValueError: There is no column, or :func:`validate` rejects the values.
    """
    arrays = validate(*columns, groups=groups, level=level)
    if not arrays:
        raise ValueError("give at least one column of values")
    n = len(arrays[0])
    if n == 0:
        return Interval(None, None, None, 0)
    estimate = float(statistic(*(array[None] for array in arrays))[0])
    rng = np.random.default_rng(seed)
    draws: list[_Floats] = []
    if groups is None:
        clusters = n
        for count in _chunks(resamples, n * len(arrays)):
            index = rng.integers(n, size=(count, n))
            draws.append(statistic(*(array[index] for array in arrays)))
    else:
        members = _members(groups)
        clusters = len(members)
        for _ in range(resamples):
            index = np.concatenate([members[i] for i in rng.integers(clusters, size=clusters)])
            draws.append(statistic(*(array[index][None] for array in arrays)))
    if not np.isfinite(estimate):
        return Interval(None, None, None, clusters)
    return Interval(estimate, *_percentiles(np.concatenate(draws), clusters, level), clusters)


def accuracy_interval(
    right: ArrayLike, groups: _Groups = None, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Compute the share of right answers: Wilson if each cluster has one value, else the cluster bootstrap.

    Raises:
        ValueError: A value is neither 0 nor 1.
    """
    (values,) = validate(right, groups=groups, level=level)
    if not np.isin(values, (0.0, 1.0)).all():
        raise ValueError("right must be 0 or 1 for each answer")
    clusters = len(values) if groups is None else _distinct(groups)
    if clusters == len(values):
        return wilson(int(values.sum()), len(values), level=level)
    interval = bootstrap_interval(values, groups=groups, level=level, resamples=resamples, seed=seed)
    if interval.estimate in (0.0, 1.0):  # nothing to resample: use the Wilson interval of that many clips
        return wilson(int(interval.estimate) * interval.n, interval.n, level=level)
    return interval


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    denominators: tuple[ArrayLike, ArrayLike] | None = None,
    groups: _Groups = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Effect:
    """Compute second minus first (means, or pooled ratios) over the same items, resampled together.

    The p value is the share of resamples whose difference lies at least as far from the estimate as 0 does (the
    bootstrap distribution shifted to the null hypothesis), counted with the estimate itself.

    Args:
        first: Values of the first arm, (n,).
        second: Values of the second arm on the same items, (n,).
        denominators: Denominators of both for pooled ratios, two of (n,).
    """
    divisors = denominators or (None, None)
    rows = _cluster_rows((first, divisors[0], second, divisors[1]), groups, level)
    n = len(rows)
    total = rows.sum(axis=0)
    if n == 0 or total[1] == 0 or total[3] == 0:
        return Effect(None, None, None, None, n)
    estimate = float(total[2] / total[3] - total[0] / total[1])
    sums = _resampled_sums(rows, resamples, np.random.default_rng(seed))
    draws = _ratio(sums[:, 2], sums[:, 3]) - _ratio(sums[:, 0], sums[:, 1])
    return _effect(estimate, draws, n, level)


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """Test whether the items that only one arm got right split evenly (exact McNemar test by scipy ``binomtest``).

    Args:
        first_right: 0 or 1 for each item, (n,).
        second_right: The same of the second arm.

    Raises:
        ValueError: A value is neither 0 nor 1.

    >>> mcnemar([1, 1, 1, 0], [1, 0, 0, 0])
    McNemar(both=1, only_first=2, only_second=0, neither=1, p_value=0.5)
    """
    from scipy.stats import binomtest

    a, b = validate(first_right, second_right)
    if not (np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all()):
        raise ValueError("both arms must be 0 or 1 for each item: take one answer of an item, not a mean of samples")
    x, y = a.astype(bool), b.astype(bool)
    both, only_first, only_second, neither = (int(mask.sum()) for mask in (x & y, x & ~y, ~x & y, ~x & ~y))
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemar(both, only_first, only_second, neither, p_value)


def slope(
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    groups: _Groups = None,
    strata: NDArray[np.intp] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Effect:
    """Return the least-squares slope of y over x within strata, with its cluster bootstrap interval.

    Args:
        x: The regressor, for example log2 of a trace's length, (n,).
        y: The outcome of each trace, (n,); for a rate, its value.
        weights: Denominators of the rate, (n,), for the slope of the pooled rate. All 1 by default.
        groups: The clip of each trace, (n,).
        strata: Codes from 0 of the controlled factor (difficulty, item), (n,): only differences within a stratum count.

    Returns:
        The slope; no estimate if x does not vary within any stratum. ``n`` counts the informative clips.
    """
    columns = validate(x, y, np.ones(len(np.asarray(x))) if weights is None else weights, groups=groups, level=level)
    regressor, value, weight = columns
    if not len(regressor):
        return Effect(None, None, None, None, 0)
    codes = np.zeros(len(regressor), dtype=np.intp) if strata is None else strata
    # Frisch-Waugh-Lovell: a fixed effect per stratum equals subtracting its weighted means.
    total = np.maximum(np.bincount(codes, weight), 1e-300)
    regressor = regressor - (np.bincount(codes, weight * regressor) / total)[codes]
    value = value - (np.bincount(codes, weight * value) / total)[codes]
    regressor = np.where(np.abs(regressor) < 1e-12, 0.0, regressor)
    # Numerator and denominator of each cluster; the slope is the ratio of their sums.
    rows = _cluster_rows((weight * regressor * value, weight * regressor * regressor), groups, level)
    rows = rows[rows[:, 1] > 0]
    n = len(rows)
    if n == 0:
        return Effect(None, None, None, None, 0)
    numerator, denominator = rows.sum(axis=0)
    estimate = float(numerator / denominator)
    sums = _resampled_sums(rows, resamples, np.random.default_rng(seed))
    return _effect(estimate, _ratio(sums[:, 0], sums[:, 1]), n, level)


def correlation(
    x: ArrayLike, y: ArrayLike, *, groups: _Groups = None, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Compute Pearson's r with its bootstrap interval; for ranks it is Spearman's rho, with the ranks fixed.

    >>> correlation([0, 1, 2, 3], [0, 1, 2, 3]).estimate
    1.0
    """
    first, second = validate(x, y, groups=groups, level=level)
    n = len(first) if groups is None else _distinct(groups)
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Interval(None, None, None, n)
    a, b = (first - first.mean()) / first.std(), (second - second.mean()) / second.std()
    rows = _cluster_rows((np.ones_like(a), a, b, a * a, b * b, a * b), groups, level)
    estimate = float(np.clip(_pearson(rows.sum(axis=0)[None])[0], -1, 1))
    if abs(estimate) > 1 - 1e-12:
        estimate = float(np.sign(estimate))
    if n < 3:
        return Interval(estimate, None, None, n)
    draws = np.clip(_pearson(_resampled_sums(rows, resamples, np.random.default_rng(seed))), -1, 1)
    return Interval(estimate, *_percentiles(draws, n, level), n)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for multiple comparisons by Holm's method, which controls the family-wise error rate.

    Args:
        p_values: One for each comparison; None if no test was made, which does not count.

    Returns:
        The corrected values in the same order; None stays None.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    # statsmodels' multipletests returns the same, but runs Python's garbage collector at each call (28 ms measured).
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None and p == p)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - rank)))
        corrected[place] = least
    return corrected


def compare_arms(first: ArrayLike, second: ArrayLike, *, groups: _Groups = None) -> dict[str, Any]:
    """Compare two arms on the same items: each mean, their difference, and McNemar's test.

    Args:
        first: One value for each item, (n,): 0 or 1, or the mean of several samples.
        second: The same of the second arm, in the same order.
        groups: The clip of each item, (n,).

    Returns:
        Plain JSON values. McNemar's test needs 0 and 1 and independent items (different clips); it is None otherwise.
    """
    a, b = validate(first, second, groups=groups)
    binary = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    estimate = accuracy_interval if binary else bootstrap_interval
    independent = groups is None or _distinct(groups) == len(a)
    return {
        "first": estimate(a, groups=groups)._asdict(),
        "second": estimate(b, groups=groups)._asdict(),
        "difference": paired_bootstrap(a, b, groups=groups)._asdict(),
        "mcnemar": mcnemar(a, b)._asdict() if binary and independent else None,
    }


def _pearson(sums: _Floats) -> _Floats:
    """Return r of rows (n, sum x, sum y, sum xx, sum yy, sum xy)."""
    n, x, y, xx, yy, xy = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
    return np.where(np.isfinite(r), r, np.nan)


def _effect(estimate: float, draws: _Floats, clusters: int, level: float) -> Effect:
    bounds = _percentiles(draws, clusters, level)
    return Effect(estimate, *bounds, None if bounds[0] is None else _p_value(draws, estimate, clusters), clusters)


def _p_value(draws: _Floats, estimate: float, clusters: int) -> float:
    """Return the share of draws at least as far from the estimate as 0 is, with the correction of the intervals.

    The share includes the estimate itself. Like the intervals, it is widened for few clusters: its normal quantile
    becomes one of Student's t.
    """
    from scipy.special import ndtri, stdtr

    draws = draws[np.isfinite(draws)]
    # 1e-12: sums of the same numbers in another order must compare equal.
    extreme = int((np.abs(draws - estimate) >= abs(estimate) - 1e-12).sum())
    share = (extreme + 1) / (len(draws) + 1)
    spread = float(np.sqrt(np.mean((draws - estimate) ** 2)))
    if extreme < _FEW_DRAWS and spread > 0:
        # So far out too few draws remain to count: use the normal tail with their standard deviation (otherwise a
        # correction for many comparisons would meet the floor of one over the draws).
        share = min(share, float(erfc(abs(estimate) / spread / sqrt(2))))
    if share <= 0 or clusters < 2:
        return share
    t = float(-ndtri(share / 2)) * sqrt((clusters - 1) / clusters)
    return float(2 * stdtr(clusters - 1, -t))


def _cluster_rows(columns: tuple[ArrayLike | None, ...], groups: _Groups, level: float) -> _Floats:
    """Return (clusters, columns): the sums of each cluster; a missing denominator counts the values."""
    length = len(np.asarray(columns[0]))
    full = [np.ones(length) if column is None else column for column in columns]
    values = np.stack(validate(*full, groups=groups, level=level))
    if groups is None or not length:
        return values.T  # columns are contiguous in memory, so that sums over a million rows are fast
    codes = _codes(groups)
    nonempty = np.bincount(codes) > 0
    return np.stack([np.bincount(codes, column)[nonempty] for column in values]).T


def _resampled_sums(rows: _Floats, resamples: int, rng: np.random.Generator) -> _Floats:
    """Return (resamples, columns): column sums of ``len(rows)`` rows sampled with replacement, many times.

    Equal rows are interchangeable, so sampling the count of each distinct row (a multinomial) has the same distribution
    as sampling row by row, at almost no cost if values are 0 or 1.
    """
    n = len(rows)
    if n > _NORMAL_ABOVE:
        centred = rows - rows.mean(axis=0)
        spread = centred.T @ centred  # n times the covariance
        return rng.multivariate_normal(rows.sum(axis=0), spread, size=resamples, method="svd")
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    if len(distinct) <= n // 4:
        # The last probability is the remainder, so that rounding cannot exceed 1.
        return rng.multinomial(n, counts / n, size=resamples).astype(np.float64) @ distinct
    parts = []
    for count in _chunks(resamples, n * rows.shape[1]):
        indices = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        times = np.bincount(indices.ravel(), minlength=count * n).reshape(count, n)  # of each row in each resample
        parts.append(times @ rows)
    return np.concatenate(parts)


def _chunks(resamples: int, width: int) -> list[int]:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed, 2000 is usual")
    size = max(1, _CHUNK // max(1, width))
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _ratio(numerator: _Floats, denominator: _Floats) -> _Floats:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)


def _percentiles(draws: _Floats, clusters: int, level: float) -> tuple[float | None, float | None]:
    draws = draws[np.isfinite(draws)]
    if clusters < 2 or len(draws) == 0:
        return None, None
    from scipy.special import ndtr, stdtrit

    tail = float(ndtr(-np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, 0.5 + level / 2)))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _codes(groups: Sequence[Hashable] | NDArray[Any]) -> NDArray[np.intp]:
    """Return the cluster of each value as a number from 0."""
    array = groups if isinstance(groups, np.ndarray) else None
    if array is not None and array.dtype.kind in "iu":
        if len(array) and array.min() >= 0 and array.max() < 4 * len(array) + 1000:
            return array.astype(np.intp)
        return np.unique(array, return_inverse=True)[1]
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(g, len(numbers)) for g in _as_list(groups)), np.intp, len(groups))


def _distinct(groups: Sequence[Hashable] | NDArray[Any]) -> int:
    """Return the number of clusters."""
    return int(np.count_nonzero(np.bincount(_codes(groups))))


def _members(groups: Sequence[Hashable] | NDArray[Any]) -> list[NDArray[np.intp]]:
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(_as_list(groups)):
        members.setdefault(group, []).append(position)
    return [np.asarray(positions) for positions in members.values()]


def _as_list(groups: Sequence[Hashable] | NDArray[Any]) -> list[Any]:
    return groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
