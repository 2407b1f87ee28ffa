"""Metrics over reasoning length: the curve of the paper's Figures 3 and 5, with what it takes to read it.

x of a bin is the mean length of its traces [paper]; the paper does not say how its bins are cut. Here ``count`` cuts
each arm's traces into bins of about equal number (equal lengths stay together), and ``width`` cuts the range of all
arms into equal intervals, so that bins of different arms are the same intervals. Beside each value stand its counts
and 95 % interval over items: Wilson's for shares with one answer an item, bootstrap otherwise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.choice import Choice
from analysis.estimate import correlation, interval, item_codes, ranks
from analysis.load import RunTable
from analysis.metrics import Metric, measured, metric_of
from analysis.slopes import Slope, held_difficulty, within_item

__all__ = ["bin_edges", "correlations", "curves", "slopes"]

_Floats = NDArray[np.float64]
_CURVE = ["arm", "metric", "bin", "from", "to", "length", "value", "low", "high", "traces", "items", "scored"]


def bin_edges(lengths: _Floats, binning: str, bins: int) -> _Floats:
    """Increasing edges; bin i holds ``edges[i] <= length < edges[i + 1]``, the last one its upper end too."""
    if not len(lengths):
        return np.empty(0)
    low, high = float(lengths.min()), float(lengths.max())
    if low == high:
        return np.array([low, high])
    if binning == "width":
        return np.linspace(low, high, bins + 1)
    return np.unique(np.quantile(lengths, np.linspace(0, 1, bins + 1), method="closest_observation"))


def curves(table: RunTable, choice: Choice, metrics: tuple[str, ...]) -> pd.DataFrame:
    """One row for each arm, metric and bin."""
    frame = table.frame[np.isfinite(table.frame[choice.length])]
    shared = bin_edges(frame[choice.length].to_numpy(), "width", choice.bins) if choice.binning == "width" else None
    rows = []
    for arm, part in frame.groupby("arm", observed=True, sort=False):
        edges = bin_edges(part[choice.length].to_numpy(), "count", choice.bins) if shared is None else shared
        for name in metrics:
            rows += [{"arm": str(arm), "metric": name, **row} for row in _curve(part, choice, metric_of(name), edges)]
    order = {label: place for place, label in enumerate(table.labels)}
    return pd.DataFrame(rows, columns=_CURVE).sort_values("arm", key=lambda arms: arms.map(order), kind="stable")


def _curve(part: pd.DataFrame, choice: Choice, metric: Metric, edges: _Floats) -> list[dict[str, object]]:
    lengths = part[choice.length].to_numpy()
    place = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, max(len(edges) - 2, 0))
    above, below, known = measured(part, metric)
    codes, rows = item_codes(part["item"]), []
    for number in range(max(len(edges) - 1, 1)):
        inside = place == number
        if not inside.any():
            continue
        scored = inside[known]
        found = interval(above[scored], below[scored], codes[known][scored], share=metric.share)
        rows.append(
            {
                "bin": number,
                "from": float(edges[number]),
                "to": float(edges[min(number + 1, len(edges) - 1)]),
                "length": float(lengths[inside].mean()),
                "value": found.estimate,
                "low": found.low,
                "high": found.high,
                "traces": int(inside.sum()),
                "items": found.n,
                "scored": int(scored.sum()),
            }
        )
    return rows


def correlations(table: RunTable, choice: Choice) -> pd.DataFrame:
    """Pearson and Spearman of length, outcome and Acc_per of traces, by arm."""
    rows = []
    for arm, part in table.frame.groupby("arm", observed=True, sort=False):
        with np.errstate(divide="ignore", invalid="ignore"):
            perceived = (part["matched"] / part["n_pred"]).to_numpy()
        length, right = part[choice.length].to_numpy(), part["right"].to_numpy()
        for name, x, y in (
            ("length and accuracy", length, right),
            ("length and Acc_per", length, perceived),
            ("Acc_per and accuracy", perceived, right),
        ):
            known = np.isfinite(x) & np.isfinite(y)
            codes = item_codes(part["item"][known])
            pearson = correlation(x[known], y[known], codes)
            spearman = correlation(ranks(x[known]), ranks(y[known]), codes)
            rows.append(
                {
                    "arm": str(arm),
                    "of": name,
                    "pearson": pearson.estimate,
                    "pearson_low": pearson.low,
                    "pearson_high": pearson.high,
                    "spearman": spearman.estimate,
                    "spearman_low": spearman.low,
                    "spearman_high": spearman.high,
                    "traces": int(known.sum()),
                    "items": pearson.n,
                }
            )
    return pd.DataFrame(rows)


def slopes(table: RunTable, choice: Choice) -> pd.DataFrame:
    """The logistic slopes of each arm: difficulty held, and within items."""
    rows = []
    for arm, part in table.frame.groupby("arm", observed=True, sort=False):
        known = np.isfinite(part["right"]) & np.isfinite(part[choice.length])
        part = part[known]
        right, tokens = part["right"].to_numpy(), part[choice.length].to_numpy()
        codes = item_codes(part["item"])
        difficulty = part["difficulty"].cat.remove_unused_categories()
        levels = difficulty.cat.codes.to_numpy().astype(np.intp) + 1 if len(difficulty.cat.categories) else None
        held = held_difficulty(right, tokens, codes, levels)
        rows.append(_slope_row(str(arm), "difficulty held" if levels is not None else "nothing held", held))
        rows.append(_slope_row(str(arm), "item held", within_item(right, tokens, codes)))
    return pd.DataFrame(rows)


def _slope_row(arm: str, held: str, slope: Slope) -> dict[str, object]:
    return {
        "arm": arm,
        "held": held,
        "odds_ratio": slope.odds_ratio.estimate,
        "low": slope.odds_ratio.low,
        "high": slope.odds_ratio.high,
        "p_value": slope.p_value,
        "traces": slope.traces,
        "items": slope.odds_ratio.n,
        "why_not": slope.why_not,
    }
