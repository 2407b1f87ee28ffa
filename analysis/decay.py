"""Metrics over reasoning length: the curves of the paper's Figures 3 and 5, correlations and slopes.

The x of a bin is the mean length of its traces [paper]; the paper does not define its bins. ``count`` divides each
arm's traces into bins of about equal size, without splitting equal lengths. ``width`` divides the range of all arms
into equal intervals, which all arms share. Each value comes with its counts and a 95 % interval over clips: Wilson's
for shares with one answer per clip, bootstrap otherwise.
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

_Floats = NDArray[np.float64]
_SLOPES = ["arm", "metric", "held", "slope", "low", "high", "p_value", "traces", "items", "clips"]
_SLOPES += ["odds_ratio", "odds_low", "odds_high", "odds_reason"]
_CURVE = ["arm", "metric", "bin", "from", "to", "length", "value", "low", "high", "items", "clips"]
_CURVE += ["traces", "scored", "null"]


def bin_edges(lengths: _Floats, binning: str, bins: int) -> _Floats:
    """Compute the edges of length bins.

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

    Returns:
        A row for each arm, metric and bin that holds traces: ``from`` and ``to`` (edges in tokens), ``length`` (mean
        tokens), value with low and high (95 % over clips), counts, and ``null`` (:func:`null_model`, pooled).
    """
    lengths = table.frame[choice.length].to_numpy()
    lengths = lengths[np.isfinite(lengths)]
    shared_edges = bin_edges(lengths, "width", choice.bins) if choice.binning == "width" else None
    rows = []
    for arm in table.labels:
        answers = table.rows(arm)
        finite = np.isfinite(answers[choice.length].to_numpy())
        answers = answers if finite.all() else answers[finite]
        if answers.empty:
            continue
        edges = shared_edges
        if edges is None:
            edges = bin_edges(answers[choice.length].to_numpy(), "count", choice.bins)
        for name in metrics:
            rows += [{"arm": arm, "metric": name, **row} for row in _curve(answers, choice, metric_of(name), edges)]
    return pd.DataFrame(rows, columns=_CURVE)


def _curve(answers: pd.DataFrame, choice: Choice, metric: Metric, edges: _Floats) -> list[dict[str, object]]:
    lengths = answers[choice.length].to_numpy()
    bin_index = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, max(len(edges) - 2, 0))
    above, below, known = measured(answers, metric)
    rows, scored_rows = [], units(answers, known)
    null = null_model(answers[known], metric) if metric.name in _WITH_NULL else None
    for number in range(max(len(edges) - 1, 1)):
        in_bin = bin_index == number
        if not in_bin.any():
            continue
        scored = in_bin[known]
        result = rate_of(above[scored], below[scored], scored_rows[scored], share=metric.share)
        rows.append(
            {
                "bin": number,
                "from": float(edges[number]),
                "to": float(edges[min(number + 1, len(edges) - 1)]),
                "length": float(lengths[in_bin].mean()),
                **result.columns(),
                "traces": int(in_bin.sum()),
                "scored": int(scored.sum()),
                "null": None if null is None or not below[scored].sum() else _pooled(null[scored], below[scored]),
            }
        )
    return rows


def _pooled(values: _Floats, weights: _Floats) -> float:
    return float((values * weights).sum() / weights.sum())


_WITH_NULL = ("acc_per", "acc_per_any")  # rules by which length alone changes the rate


def null_model(rows: pd.DataFrame, metric: Metric) -> _Floats | None:
    """Return the expected rate of each trace under a null model: every mention is right at one rate at any length.

    Under a rule that requires all mentions of an event to be right (``acc_per``), the rate falls as mentions per event
    increase; under ``acc_per_any`` it rises. The mention rate is fitted to the rows' pooled value (ours).

    Returns:
        Expected rate of each row, (n,), in [0, 1]; None for other rules, or if the number of mentions is unknown.
    """
    if metric.name not in _WITH_NULL or rows.empty:
        return None
    events, mentions = rows["n_pred"].to_numpy(float), rows["mentions_asserted"].to_numpy(float)
    valid = np.isfinite(mentions) & (events > 0)
    if not valid.any() or not np.isfinite(mentions).all():
        return None
    mentions_per_event = np.maximum(1.0, mentions / np.maximum(events, 1))  # on average in the trace
    observed = measured(rows, metric)[0].sum() / max(events.sum(), 1)

    def expected(right: float) -> _Floats:
        return right**mentions_per_event if metric.name == "acc_per" else 1 - (1 - right) ** mentions_per_event

    from scipy.optimize import bisect

    return expected(bisect(lambda right: _pooled(expected(right), events) - observed, 0.0, 1.0, xtol=1e-15))


def correlations(table: RunTable, choice: Choice) -> pd.DataFrame:
    """Correlate length, outcome and Acc_per over the traces of each arm.

    Returns:
        A row for each arm and pair of quantities (``of``): Pearson's and Spearman's coefficients with 95 % intervals
        over clips, traces, items, clips.
    """
    rows = []
    for arm in table.labels:
        answers = table.rows(arm)
        if answers.empty:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            perceived = (answers["matched"] / answers["n_pred"]).to_numpy()
        length, right = answers[choice.length].to_numpy(), answers["right"].to_numpy()
        for name, x, y in (
            ("length and accuracy", length, right),
            ("length and Acc_per", length, perceived),
            ("Acc_per and accuracy", perceived, right),
        ):
            finite = np.isfinite(x) & np.isfinite(y)
            clips = codes_of(answers["clip"][finite])
            ranks = [pd.Series(values[finite]).rank().to_numpy() for values in (x, y)]
            row = {"arm": arm, "of": name}
            for kind, columns in (("pearson", (x[finite], y[finite])), ("spearman", ranks)):
                r = correlation(*columns, groups=clips)
                row |= {kind: r.estimate, f"{kind}_low": r.low, f"{kind}_high": r.high}
            counts = {"traces": int(finite.sum()), "items": answers["item"][finite].nunique(), "clips": r.n}
            rows.append(row | counts)
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
    lengths = part[length].to_numpy()[known]
    valid = np.isfinite(lengths) & (below > 0)
    lengths, above, below = lengths[valid], above[valid], below[valid]
    row_index = np.flatnonzero(known)[valid]
    # codes_of returns -1 for an unknown level
    strata = None if held == "nothing" else codes_of(part[held].iloc[row_index]) + 1
    clips = codes_of(part["clip"].iloc[row_index])
    return slope(np.log2(np.maximum(lengths, 1)), above / below, below, groups=clips, strata=strata)


def slopes(table: RunTable, choice: Choice, metrics: tuple[str, ...]) -> pd.DataFrame:
    """Estimate the change of metrics for each doubling of the length, with nothing, difficulty or item held fixed.

    Returns:
        A row for each arm, metric and held variable: slope with low and high (:func:`trend`), ``p_holm`` (corrected
        for all rows), and for accuracy the odds ratio (``analysis.slopes``) or the reason for its absence.
    """
    rows: list[dict[str, object]] = []
    for arm in table.labels:
        answers = table.rows(arm)
        if answers.empty:
            continue
        repeated = answers["item"].nunique() < len(answers)
        graded = answers["difficulty"].nunique() > 1
        for name in metrics:
            metric = metric_of(name)
            for held in ("nothing", "difficulty", "item"):
                if (held == "difficulty" and not graded) or (held == "item" and not repeated):
                    continue
                effect = trend(answers, metric, choice.length, held)
                scored = measured(answers, metric)[2] & np.isfinite(answers[choice.length].to_numpy())
                row: dict[str, object] = {"arm": arm, "metric": name, "held": f"{held} held", "slope": effect.estimate}
                row |= {"low": effect.low, "high": effect.high, "p_value": effect.p_value, "traces": int(scored.sum())}
                row |= {"items": answers["item"][scored].nunique(), "clips": effect.n}
                if metric.share and effect.estimate is not None:
                    row |= _odds(answers[scored], metric, choice, held)
                rows.append(row)
    sheet = pd.DataFrame(rows, columns=_SLOPES)
    return sheet.assign(p_holm=holm(sheet["p_value"].tolist()))


def _odds(answers: pd.DataFrame, metric: Metric, choice: Choice, held: str) -> dict[str, object]:
    above, tokens = measured(answers, metric)[0], answers[choice.length].to_numpy()
    if held == "item":
        fit = within_item(above, tokens, codes_of(answers["item"]))
    else:
        levels = codes_of(answers["difficulty"]) + 1 if held == "difficulty" else None
        fit = held_difficulty(above, tokens, codes_of(answers["clip"]), levels)
    return dict(zip(_SLOPES[-4:], (*fit.odds_ratio[:3], fit.reason), strict=True))
