"""Metrics over reasoning length: the curve of the paper's Figures 3 and 5, with what it takes to read it.

x of a bin is the mean length of its traces [paper]; the paper does not say how its bins are cut. Here ``count`` cuts
each arm's traces into bins of about equal number (equal lengths stay together), and ``width`` cuts the range of all
arms into equal intervals, so that bins of different arms are the same intervals. Beside each value stand its counts
and 95 % interval over clips: Wilson's for shares with one answer a clip, bootstrap otherwise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.choice import Choice
from analysis.load import RunTable
from analysis.metrics import Metric, codes_of, measured, metric_of, rate_of, units
from analysis.slopes import held_difficulty, within_item
from mpar2.statistics import Effect, correlation, holm, slope

__all__ = ["bin_edges", "correlations", "curves", "null_model", "slopes", "trend"]

_Floats = NDArray[np.float64]
_CURVE = [
    "arm",
    "metric",
    "bin",
    "from",
    "to",
    "length",
    "value",
    "low",
    "high",
    "items",
    "clips",
    "traces",
    "scored",
    "null",
]


def bin_edges(lengths: _Floats, binning: str, bins: int) -> _Floats:
    """Compute the edges of length bins.

    Args:
        lengths: Lengths of traces in tokens, (n,).
        binning: Name of the binning.
        bins: Number of bins.

    Returns:
        Increasing edges; bin i holds ``edges[i] <= length < edges[i + 1]``, the last one its upper end too.
    """
    if not len(lengths):
        return np.empty(0)
    low, high = float(lengths.min()), float(lengths.max())
    if low == high:
        return np.array([low, high])
    if binning == "width":
        return np.linspace(low, high, bins + 1)
    return np.unique(np.quantile(lengths, np.linspace(0, 1, bins + 1), method="closest_observation"))


def curves(table: RunTable, choice: Choice, metrics: tuple[str, ...]) -> pd.DataFrame:
    """Measure metrics in bins of length.

    Args:
        table: The runs.
        choice: Measure of length, binning and number of bins.
        metrics: Names of metrics.

    Returns:
        A row for each arm, metric and bin that holds traces: ``from`` and ``to`` (edges in tokens), ``length`` (mean
        tokens), value with low and high (95 % over clips), counts, and ``null`` (:func:`null_model`, pooled).
    """
    lengths = table.frame[choice.length].to_numpy()
    lengths = lengths[np.isfinite(lengths)]
    shared = bin_edges(lengths, "width", choice.bins) if choice.binning == "width" else None
    rows = []
    for arm in table.labels:
        part = table.rows(arm)
        finite = np.isfinite(part[choice.length].to_numpy())
        part = part if finite.all() else part[finite]
        if part.empty:
            continue
        edges = bin_edges(part[choice.length].to_numpy(), "count", choice.bins) if shared is None else shared
        for name in metrics:
            rows += [{"arm": arm, "metric": name, **row} for row in _curve(part, choice, metric_of(name), edges)]
    return pd.DataFrame(rows, columns=_CURVE)


def _curve(part: pd.DataFrame, choice: Choice, metric: Metric, edges: _Floats) -> list[dict[str, object]]:
    lengths = part[choice.length].to_numpy()
    place = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, max(len(edges) - 2, 0))
    above, below, known = measured(part, metric)
    rows, scored_rows = [], units(part, known)
    null = null_model(part[known], metric) if metric.name in _WITH_NULL else None
    for number in range(max(len(edges) - 1, 1)):
        inside = place == number
        if not inside.any():
            continue
        scored = inside[known]
        found = rate_of(above[scored], below[scored], scored_rows[scored], share=metric.share)
        rows.append(
            {
                "bin": number,
                "from": float(edges[number]),
                "to": float(edges[min(number + 1, len(edges) - 1)]),
                "length": float(lengths[inside].mean()),
                **found.columns(),
                "traces": int(inside.sum()),
                "scored": int(scored.sum()),
                "null": None if null is None or not below[scored].sum() else _pooled(null[scored], below[scored]),
            }
        )
    return rows


def _pooled(values: _Floats, weights: _Floats) -> float:
    return float((values * weights).sum() / weights.sum())


_WITH_NULL = ("acc_per", "acc_per_any")  # rules by which length alone changes the rate


def null_model(rows: pd.DataFrame, metric: Metric) -> _Floats | None:
    """Return what each trace's rate would be if nothing decayed: every mention right at one rate, whatever the length.

    A rule that asks all mentions of an event to be right (``acc_per``) gives traces that mention an event more often
    more chances to be wrong, so it falls with length by itself; ``acc_per_any`` rises. The one rate is that which
    gives the rows' own pooled value (ours).

    Args:
        rows: Rows of one arm.
        metric: The counting rule.

    Returns:
        Expected rate of each row, (n,), in [0, 1]; None for other rules, and where the number of mentions is unknown.
    """
    if metric.name not in _WITH_NULL or rows.empty:
        return None
    events, mentions = rows["n_pred"].to_numpy(float), rows["mentions_asserted"].to_numpy(float)
    used = np.isfinite(mentions) & (events > 0)
    if not used.any() or not np.isfinite(mentions).all():
        return None
    each = np.maximum(1.0, mentions / np.maximum(events, 1))  # mentions of an event, on average in the trace
    above = measured(rows, metric)[0].sum() / max(events.sum(), 1)

    def expected(right: float) -> _Floats:
        return right**each if metric.name == "acc_per" else 1 - (1 - right) ** each

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _pooled(expected(middle), events) < above else (low, middle)
    return expected((low + high) / 2)


def correlations(table: RunTable, choice: Choice) -> pd.DataFrame:
    """Correlate length, outcome and Acc_per over the traces of each arm.

    Args:
        table: The runs.
        choice: Gives the measure of length.

    Returns:
        A row for each arm and pair of quantities (``of``): Pearson's and Spearman's coefficients with 95 % intervals
        over clips, traces, items, clips.
    """
    rows = []
    for arm in table.labels:
        part = table.rows(arm)
        if part.empty:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            perceived = (part["matched"] / part["n_pred"]).to_numpy()
        length, right = part[choice.length].to_numpy(), part["right"].to_numpy()
        for name, x, y in (
            ("length and accuracy", length, right),
            ("length and Acc_per", length, perceived),
            ("Acc_per and accuracy", perceived, right),
        ):
            known = np.isfinite(x) & np.isfinite(y)
            clips = codes_of(part["clip"][known])
            ranks = [pd.Series(values[known]).rank().to_numpy() for values in (x, y)]
            pearson = correlation(x[known], y[known], groups=clips)
            spearman = correlation(*ranks, groups=clips)
            rows.append(
                {
                    "arm": arm,
                    "of": name,
                    "pearson": pearson.estimate,
                    "pearson_low": pearson.low,
                    "pearson_high": pearson.high,
                    "spearman": spearman.estimate,
                    "spearman_low": spearman.low,
                    "spearman_high": spearman.high,
                    "traces": int(known.sum()),
                    "items": part["item"][known].nunique(),
                    "clips": pearson.n,
                }
            )
    return pd.DataFrame(rows)


def trend(part: pd.DataFrame, metric: Metric, length: str, held: str = "nothing") -> Effect:
    """Return the change of a metric for each doubling of the length, over the traces of one arm.

    Args:
        part: The rows of the arm.
        metric: The metric; pooled rates weigh a trace by what they divide by.
        length: The column of the length.
        held: "nothing", "difficulty" (a level for each of the benchmark's difficulties), or "item" (a level for each
            item: only several answers of one item are compared).

    Returns:
        The slope in units of the metric, with its interval over clips.
    """
    above, below, known = measured(part, metric)
    size = part[length].to_numpy()[known]
    used = np.isfinite(size) & (below > 0)
    size, above, below = size[used], above[used], below[used]
    kept = np.flatnonzero(known)[used]
    # codes_of gives -1 where a level is unknown
    strata = None if held == "nothing" else codes_of(part[held].iloc[kept]) + 1
    clips = codes_of(part["clip"].iloc[kept])
    return slope(np.log2(np.maximum(size, 1)), above / below, below, groups=clips, strata=strata)


_HELD = {"nothing": "nothing held", "difficulty": "difficulty held", "item": "item held"}


def slopes(table: RunTable, choice: Choice, metrics: tuple[str, ...]) -> pd.DataFrame:
    """Estimate the change of metrics for each doubling of the length, with nothing, difficulty or item held fixed.

    Args:
        table: The runs.
        choice: Gives the measure of length.
        metrics: Names of metrics.

    Returns:
        A row for each arm, metric and what is held: slope with low and high (:func:`trend`), ``p_holm`` (corrected for
        all rows), and for accuracy the odds ratio (``analysis.slopes``), or the reason why there is none.
    """
    rows: list[dict[str, object]] = []
    for arm in table.labels:
        part = table.rows(arm)
        if part.empty:
            continue
        several = part["item"].nunique() < len(part)
        graded = part["difficulty"].nunique() > 1
        for name in metrics:
            metric = metric_of(name)
            for held, words in _HELD.items():
                if (held == "difficulty" and not graded) or (held == "item" and not several):
                    continue
                found = trend(part, metric, choice.length, held)
                known = measured(part, metric)[2] & np.isfinite(part[choice.length].to_numpy())
                row: dict[str, object] = {
                    "arm": arm,
                    "metric": name,
                    "held": words,
                    "slope": found.estimate,
                    "low": found.low,
                    "high": found.high,
                    "p_value": found.p_value,
                    "traces": int(known.sum()),
                    "items": part["item"][known].nunique(),
                    "clips": found.n,
                }
                if metric.share and found.estimate is not None:
                    row |= _odds(part[known], metric, choice, held)
                rows.append(row)
    sheet = pd.DataFrame(rows, columns=_SLOPES)
    return sheet.assign(p_holm=holm(sheet["p_value"].tolist()))


_SLOPES = ["arm", "metric", "held", "slope", "low", "high", "p_value", "traces", "items", "clips"]
_SLOPES += ["odds_ratio", "odds_low", "odds_high", "odds_reason"]


def _odds(part: pd.DataFrame, metric: Metric, choice: Choice, held: str) -> dict[str, object]:
    above, tokens = measured(part, metric)[0], part[choice.length].to_numpy()
    if held == "item":
        found = within_item(above, tokens, codes_of(part["item"]))
    else:
        levels = codes_of(part["difficulty"]) + 1 if held == "difficulty" else None
        found = held_difficulty(above, tokens, codes_of(part["clip"]), levels)
    odds = found.odds_ratio
    return {
        "odds_ratio": odds.estimate, "odds_low": odds.low, "odds_high": odds.high, "odds_reason": found.reason
    }  # fmt: skip
