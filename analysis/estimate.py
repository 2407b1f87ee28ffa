"""Intervals and paired tests by item, and correlations: what figures draw beside every number.

Values of one item (samples of it, or arms) are summed first and items are then resampled whole, which is the cluster
bootstrap of :mod:`mpar2.statistics` at the cost of one value an item. ``codes`` are whole numbers from 0 that name the
item of each value.

Correlations are of traces, not of bins (bins hide the spread and make any slope look certain). Their intervals are
bootstrap intervals over items; Spearman's keeps the ranks of the whole sample, so that it is a correlation of fixed
ranks.

Above 1,000 items no resamples are drawn: sums of so many are normal, and the linearised interval is what the bootstrap
tends to (for correlations, the sums are drawn from that normal distribution).
"""

from __future__ import annotations

from math import erfc, sqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mpar2 import statistics
from mpar2.statistics import Interval, PairedDifference

__all__ = ["correlation", "interval", "item_codes", "paired", "ranks", "test"]

_Floats = NDArray[np.float64]
_RESAMPLES = 1000
_NORMAL_ABOVE = 1000


def item_codes(items: pd.Series) -> NDArray[np.intp]:
    """The item of each row as a number from 0."""
    return pd.factorize(_keys(items))[0]


def _keys(items: pd.Series) -> NDArray[Any]:
    """Items as values that are quick to compare: those of a category as its numbers (two series share their levels)."""
    return items.cat.codes.to_numpy() if isinstance(items.dtype, pd.CategoricalDtype) else items.to_numpy()


def interval(
    values: _Floats, below: _Floats, codes: NDArray[np.intp], *, share: bool = False, resamples: int = _RESAMPLES
) -> Interval:
    """``sum(values) / sum(below)`` with its interval over items.

    ``share`` says that each value is 0 or 1: Wilson's interval, where every item has one value.
    """
    sums, counts = _by_item(codes, values), _by_item(codes, below)
    items = np.bincount(codes, minlength=len(sums)) > 0
    if not items.any() or counts.sum() == 0:
        return Interval(None, None, None, int(items.sum()))
    if share and (counts[items] == 1).all():
        return statistics.wilson(int(sums.sum()), int(counts.sum()))
    if items.sum() > _NORMAL_ABOVE:
        found = _linearised(sums[items], counts[items])
    else:
        found = statistics.bootstrap_interval(sums[items], counts[items], resamples=resamples)
    if share and found.estimate in (0.0, 1.0):  # nothing to resample from: as sure as that many items allow
        return statistics.wilson(int(found.estimate) * found.n, found.n)
    return found


def paired(
    first: tuple[_Floats, _Floats, pd.Series], second: tuple[_Floats, _Floats, pd.Series], resamples: int = _RESAMPLES
) -> PairedDifference:
    """Second minus first over the items that both have; each is (values, denominators, items)."""
    columns = _common(first, second)
    if columns is None:
        return PairedDifference(None, None, None, None, 0)
    if len(columns[0]) > _NORMAL_ABOVE:
        return _linearised_difference(*columns)
    return statistics.paired_bootstrap(
        columns[0], columns[2], denominators=(columns[1], columns[3]), resamples=resamples
    )


def test(
    first: tuple[_Floats, _Floats, pd.Series], second: tuple[_Floats, _Floats, pd.Series]
) -> statistics.McNemar | None:
    """McNemar's test over common items; None where an item has several answers, or values other than 0 and 1."""
    columns = _common(first, second)
    if columns is None or not all((column == 1).all() for column in columns[1::2]):
        return None
    if not all(np.isin(column, (0.0, 1.0)).all() for column in columns[::2]):
        return None
    return statistics.mcnemar(columns[0], columns[2])


def _common(first: Any, second: Any) -> list[_Floats] | None:
    """(values, denominators) of the first and of the second, summed by item, over the items that both have."""
    codes = item_codes(pd.concat([first[2], second[2]], ignore_index=True))
    parts = codes[: len(first[2])], codes[len(first[2]) :]
    if not all(map(len, parts)):
        return None
    most = codes.max() + 1
    both = np.logical_and(*(np.bincount(part, minlength=most) > 0 for part in parts))
    if not both.any():
        return None
    sides = zip(parts, (first, second), strict=True)
    return [np.bincount(part, column, most)[both] for part, (*columns, _) in sides for column in columns]


def ranks(values: _Floats) -> _Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    return pd.Series(values).rank().to_numpy()


def correlation(
    x: _Floats, y: _Floats, codes: NDArray[np.intp], *, resamples: int = _RESAMPLES, seed: int = 0
) -> Interval:
    """Pearson's r of x and y with its interval over items; give ranks for Spearman's.

    >>> correlation(np.arange(4.0), np.arange(4.0), np.arange(4)).estimate
    1.0
    """
    items = len(np.unique(codes))
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Interval(None, None, None, items)
    a, b = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    rows = np.stack([_by_item(codes, column) for column in (np.ones_like(a), a, b, a * a, b * b, a * b)], axis=1)
    rows = rows[rows[:, 0] > 0]
    estimate = float(np.clip(_pearson(rows.sum(axis=0)[None])[0], -1, 1))
    if abs(estimate) > 1 - 1e-12:
        estimate = float(np.sign(estimate))
    if items < 3:
        return Interval(estimate, None, None, items)
    rng = np.random.default_rng(seed)
    if items > _NORMAL_ABOVE:
        spread = items * np.cov(rows, rowvar=False, bias=True)
        draws = _pearson(rng.multivariate_normal(rows.sum(axis=0), spread, size=resamples, method="svd"))
    else:
        weights = rng.multinomial(items, np.full(items, 1 / items), size=resamples).astype(np.float64)
        draws = _pearson(weights @ rows)
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Interval(estimate, None, None, items)
    low, high = np.quantile(np.clip(draws, -1, 1), (0.025, 0.975))
    return Interval(estimate, float(low), float(high), items)


def _pearson(sums: _Floats) -> _Floats:
    """r from rows of (n, sum x, sum y, sum xx, sum yy, sum xy)."""
    n, x, y, xx, yy, xy = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
    return np.where(np.isfinite(r), r, np.nan)


def _linearised(sums: _Floats, counts: _Floats) -> Interval:
    """Interval of the ratio of sums from the spread of what each item adds to it."""
    total, n = counts.sum(), len(sums)
    estimate = float(sums.sum() / total)
    half = 1.959964 * float(np.sqrt(((sums - estimate * counts) ** 2).sum())) / total
    return Interval(estimate, estimate - half, estimate + half, n)


def _linearised_difference(above: _Floats, below: _Floats, above_2: _Floats, below_2: _Floats) -> PairedDifference:
    """Second ratio of sums minus the first, from the spread of what each item adds to it."""
    n, total, total_2 = len(above), below.sum(), below_2.sum()
    if total == 0 or total_2 == 0:
        return PairedDifference(None, None, None, None, n)
    first, second = above.sum() / total, above_2.sum() / total_2
    added = (above_2 - second * below_2) / total_2 - (above - first * below) / total
    away, spread = float(second - first), float(np.sqrt((added**2).sum()))
    p = erfc(abs(away) / spread / sqrt(2)) if spread else float(away == 0)
    return PairedDifference(away, away - 1.959964 * spread, away + 1.959964 * spread, p, n)


def _by_item(codes: NDArray[np.intp], values: _Floats) -> _Floats:
    return np.bincount(codes, np.asarray(values, dtype=np.float64)) if len(codes) else np.empty(0)
