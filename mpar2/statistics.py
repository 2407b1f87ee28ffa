"""Intervals and paired tests: how sure a number of a run is, and whether two arms differ.

Conventions:

* A value belongs to one item (or to one sample of one item). It is a finite number; what could not be scored is left
  out by the caller, who reports how many. Rates are in [0, 1].
* ``groups`` names the cluster of each value (the item of a sample, the clip of a question). Clusters are resampled
  whole: eight samples of one item are not eight items.
* ``denominators`` turn a mean into a pooled ratio ``sum(values) / sum(denominators)`` (CAFE's micro figures: an item
  gives its matched events and its asserted events).
* Intervals are two-sided at ``level``. Bootstrap intervals are percentile intervals of ``resamples`` draws from a
  generator seeded with ``seed``: the same call gives the same numbers. A resample whose denominator is 0 says nothing
  and is left out.
* With no value (or a denominator of 0) there is no estimate; with fewer than two clusters there is no interval: the
  fields are None, never NaN, so that every result is JSON.

Metrics:

``wilson``               interval of a proportion (E. B. Wilson 1927); holds at 0 and 1, where a bootstrap has no width
``bootstrap_interval``   mean or pooled ratio
``bootstrap_statistic``  any vectorised statistic of paired columns (a correlation, a slope)
``accuracy_interval``    Wilson for one value an item, cluster bootstrap for several samples of an item
``paired_bootstrap``     difference of two arms on the same items
``mcnemar``              exact test on the items that only one arm got right (Q. McNemar 1947)
``evaluate``             all that two arms on the same items can say, as a dict
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import lgamma, log
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Interval",
    "McNemar",
    "PairedDifference",
    "accuracy_interval",
    "bootstrap_interval",
    "bootstrap_statistic",
    "evaluate",
    "mcnemar",
    "paired_bootstrap",
    "validate",
    "wilson",
]

_Floats = NDArray[np.float64]
_CHUNK = 4_000_000  # numbers gathered at once: 32 MB
_NORMAL_ABOVE = 20_000  # clusters


class Interval(NamedTuple):
    """An estimate with its interval; ``n`` counts the clusters (items) it rests on."""

    estimate: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        """``0.412 (0.371-0.455)``, ``-`` where there is no estimate."""
        if self.estimate is None:
            return "-"
        if self.low is None:
            return f"{self.estimate:.3f} (n={self.n})"
        return f"{self.estimate:.3f} ({self.low:.3f}-{self.high:.3f})"


class PairedDifference(NamedTuple):
    """``estimate`` = second minus first; ``p_value`` two-sided, of no difference."""

    estimate: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int


class McNemar(NamedTuple):
    """How many items each arm got right, and the exact two-sided p value of "both err alike"."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


def validate(
    *columns: ArrayLike, groups: Sequence[Hashable] | NDArray[Any] | None = None, level: float = 0.95
) -> tuple[_Floats, ...]:
    """The columns as float64 vectors of one length; raises ``ValueError`` for what no statistic can be made of."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1 (did you mean {level / 100:g}?)")
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    for number, array in enumerate(arrays, 1):
        if array.ndim != 1:
            raise ValueError(f"column {number} has shape {array.shape}; one value for each item is needed")
        if len(array) != len(arrays[0]):
            raise ValueError(f"column {number} has {len(array)} values and column 1 has {len(arrays[0])}: not paired")
        if not np.isfinite(array).all():
            bad = int(np.flatnonzero(~np.isfinite(array))[0])
            raise ValueError(
                f"column {number} has {array[bad]} at position {bad}: leave unscored items out, and count them"
            )
    if groups is not None and arrays and len(groups) != len(arrays[0]):
        raise ValueError(f"there are {len(groups)} groups for {len(arrays[0])} values: give one group for each value")
    return arrays


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Interval of the proportion ``successes / n``.

    >>> [round(value, 4) for value in wilson(8, 10)[:3]]
    [0.8, 0.4902, 0.9433]
    """
    validate(level=level)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: successes must lie between 0 and n")
    if n == 0:
        return Interval(None, None, None, 0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = successes / n
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    # At p = 0 and p = 1 the bound is exactly p; rounding would leave a trace.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(p, low, high, n)


def bootstrap_interval(
    values: ArrayLike,
    denominators: ArrayLike | None = None,
    *,
    groups: Sequence[Hashable] | NDArray[Any] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of ``values``, or ``sum(values) / sum(denominators)``, with its bootstrap interval.

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
    groups: Sequence[Hashable] | NDArray[Any] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Any statistic of paired columns with its bootstrap interval.

    ``statistic`` maps columns of shape (resamples, n) to (resamples,); NaN where it is not defined. With ``groups``
    whole clusters are drawn, so n differs between resamples and the statistic is called once for each.
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
    right: ArrayLike,
    groups: Sequence[Hashable] | NDArray[Any] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The share of right answers: Wilson where each cluster has one, cluster bootstrap where it has several."""
    (values,) = validate(right, groups=groups, level=level)
    if not np.isin(values, (0.0, 1.0)).all():
        raise ValueError("right must be 0 or 1 for each answer")
    if groups is None or len(set(_as_list(groups))) == len(values):
        return wilson(int(values.sum()), len(values), level=level)
    found = bootstrap_interval(values, groups=groups, level=level, resamples=resamples, seed=seed)
    if found.estimate in (0.0, 1.0):  # nothing to resample from: as sure as that many items allow
        return wilson(int(found.estimate) * found.n, found.n, level=level)
    return found


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    denominators: tuple[ArrayLike, ArrayLike] | None = None,
    groups: Sequence[Hashable] | NDArray[Any] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Second minus first (means, or pooled ratios with ``denominators``) over the same items, drawn together.

    The p value is the share of resamples whose difference lies at least as far from the estimate as 0 does
    (the difference under "no difference" is the resampled one, shifted), counted with the estimate itself.
    """
    below = denominators or (None, None)
    rows = _cluster_rows((first, below[0], second, below[1]), groups, level)
    n = len(rows)
    total = rows.sum(axis=0)
    if n == 0 or total[1] == 0 or total[3] == 0:
        return PairedDifference(None, None, None, None, n)
    estimate = float(total[2] / total[3] - total[0] / total[1])
    sums = _resampled_sums(rows, resamples, np.random.default_rng(seed))
    draws = _ratio(sums[:, 2], sums[:, 3]) - _ratio(sums[:, 0], sums[:, 1])
    low, high = _percentiles(draws, n, level)
    if low is None:
        return PairedDifference(estimate, None, None, None, n)
    draws = draws[np.isfinite(draws)]
    # 1e-12: sums of the same numbers in another order must still count as equal.
    extreme = int((np.abs(draws - estimate) >= abs(estimate) - 1e-12).sum())
    return PairedDifference(estimate, low, high, (extreme + 1) / (len(draws) + 1), n)


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> McNemar:
    """Exact McNemar test: is the split of the items that only one arm got right a fair coin?

    >>> mcnemar([1, 1, 1, 0], [1, 0, 0, 0])
    McNemar(both=1, only_first=2, only_second=0, neither=1, p_value=0.5)
    """
    a, b = validate(first_right, second_right)
    if not (np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all()):
        raise ValueError("both arms must be 0 or 1 for each item: take one answer of an item, not a mean of samples")
    x, y = a.astype(bool), b.astype(bool)
    only_first, only_second = int((x & ~y).sum()), int((~x & y).sum())
    return McNemar(
        int((x & y).sum()),
        only_first,
        only_second,
        int((~x & ~y).sum()),
        _sign_test(only_first, only_second),
    )


def evaluate(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """All that two arms on the same items can say: each mean, their difference, and McNemar's test.

    One value for each item, in the same order: 0 or 1, or the mean of several samples; McNemar's test needs 0 and 1,
    and is None otherwise.
    """
    a, b = validate(first, second, level=level)
    options: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    binary = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    alone = accuracy_interval if binary else bootstrap_interval
    return {
        "first": alone(a, **options)._asdict(),
        "second": alone(b, **options)._asdict(),
        "difference": paired_bootstrap(a, b, **options)._asdict(),
        "mcnemar": mcnemar(a, b)._asdict() if binary else None,
    }


def _cluster_rows(
    columns: tuple[ArrayLike | None, ...], groups: Sequence[Hashable] | NDArray[Any] | None, level: float
) -> _Floats:
    """(clusters, columns): the sums of each cluster; a missing denominator counts the values."""
    length = len(np.asarray(columns[0]))
    full = [np.ones(length) if column is None else column for column in columns]
    rows = np.stack(validate(*full, groups=groups, level=level), axis=1)
    if groups is None:
        return rows
    _, index = np.unique(np.asarray(_as_list(groups), dtype=str), return_inverse=True)
    sums = np.zeros((int(index.max()) + 1 if length else 0, rows.shape[1]))
    np.add.at(sums, index, rows)
    return sums


def _resampled_sums(rows: _Floats, resamples: int, rng: np.random.Generator) -> _Floats:
    """(resamples, columns): column sums of ``len(rows)`` rows drawn with replacement, many times.

    Equal rows are interchangeable, so drawing how often each distinct row occurs (a multinomial) has the same
    distribution as drawing row by row, and costs nothing where values are 0 or 1.
    """
    n = len(rows)
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    if len(distinct) <= n // 4:
        # The last probability is what remains, so that rounding cannot exceed 1.
        return rng.multinomial(n, counts / n, size=resamples).astype(np.float64) @ distinct
    if n > _NORMAL_ABOVE:
        # Sums of that many rows are normal (central limit), and drawing 2000 times 1e6 rows would take minutes.
        spread = n * np.atleast_2d(np.cov(rows, rowvar=False, bias=True))
        return rng.multivariate_normal(rows.sum(axis=0), spread, size=resamples, method="svd")
    parts = [rows[rng.integers(n, size=(c, n))].sum(axis=1) for c in _chunks(resamples, n * rows.shape[1])]
    return np.concatenate(parts)


def _chunks(resamples: int, width: int) -> list[int]:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed, 2000 is usual")
    size = max(1, _CHUNK // max(1, width))
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _ratio(above: _Floats, below: _Floats) -> _Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def _percentiles(draws: _Floats, clusters: int, level: float) -> tuple[float | None, float | None]:
    draws = draws[np.isfinite(draws)]
    if clusters < 2 or len(draws) == 0:
        return None, None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _members(groups: Sequence[Hashable] | NDArray[Any]) -> list[NDArray[np.intp]]:
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(_as_list(groups)):
        members.setdefault(group, []).append(position)
    return [np.asarray(positions) for positions in members.values()]


def _as_list(groups: Sequence[Hashable] | NDArray[Any]) -> list[Any]:
    return groups.tolist() if isinstance(groups, np.ndarray) else list(groups)


def _sign_test(a: int, b: int) -> float:
    """Two-sided probability of a split at least as uneven as a : b under a fair coin, in logarithms (n may be 1e6)."""
    n, small = a + b, min(a, b)
    if n == 0:
        return 1.0
    k = np.arange(small + 1)
    terms = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2) for i in k])
    top = terms.max()
    return float(min(1.0, 2 * np.exp(top) * np.exp(terms - top).sum()))
