"""Metrics of the figures, each a numerator and a denominator over rows of ``RunTable.frame``.

A metric of a set of rows is ``sum(above) / sum(below)``. Accuracy divides right answers by scored ones. CAFE's rates
are pooled (micro) and divide events by events. Rows without a value (unscored, unknown) are excluded and counted.
Definitions of CAFE's rates: ``mpar2.cafe.metrics``; of the attention ratios: ``mpar2.attention``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import AnalysisError
from mpar2 import statistics

_Column = Callable[[pd.DataFrame], "pd.Series | float"]


@dataclass(frozen=True)
class Metric:
    """A metric: name, label, numerator and denominator, and the format of its values."""

    name: str
    label: str
    meaning: str
    above: _Column
    below: _Column = lambda frame: 1.0
    share: bool = False  # every value is 0 or 1
    percent: bool = True


_CAFE = (
    Metric("acc_per", "Acc_per", "matched events / events that the trace asserts [paper]",
           lambda f: f["matched"], lambda f: f["n_pred"]),
    Metric("recall", "Recall", "matched events / events of the truth (ours)",
           lambda f: f["matched"], lambda f: f["n_tgt"]),
    Metric("f1", "F1", "2 matched / (asserted + true events) (ours)",
           lambda f: 2 * f["matched"], lambda f: f["n_pred"] + f["n_tgt"]),
    Metric("err_per", "Err_per", "hallucinated / asserted events (denominator ours)",
           lambda f: f["hallucinated"], lambda f: f["n_pred"]),
    Metric("err_use", "Err_use", "misused / asserted events (denominator ours)",
           lambda f: f["misused"], lambda f: f["n_pred"]),
    Metric("err_omit", "Err_omit", "missed events / events of the truth [paper]",
           lambda f: f["missed"], lambda f: f["n_tgt"]),
    Metric("events", "Events per trace", "asserted events / traces (ours)",
           lambda f: f["n_pred"], percent=False),
)  # fmt: skip
_RULES = (
    Metric("acc_per_first", "Acc_per, first mention", "events whose first mention is right / asserted events (ours)",
           lambda f: f["matched_first"], lambda f: f["n_pred"]),
    Metric("acc_per_any", "Acc_per, any right mention", "events with any right mention / asserted events (ours)",
           lambda f: f["matched_any"], lambda f: f["n_pred"]),
    Metric("acc_per_mention", "Acc_per, by mention", "right mentions / asserting mentions (ours)",
           lambda f: f["mentions_right"], lambda f: f["mentions_asserted"]),
    Metric("label_precision", "Right sound, precision", "asserted events that are there, whatever is claimed of them / "
           "asserted events (ours)", lambda f: f["matched"] + f["misused"], lambda f: f["n_pred"]),
    Metric("label_recall", "Right sound, recall", "true events that are named, whatever is claimed of them / events of "
           "the truth (ours)", lambda f: f["matched"] + f["misused"], lambda f: f["n_tgt"]),
    Metric("label_f1", "Right sound, F1", "2 named true events / (asserted + true events) (ours)",
           lambda f: 2 * (f["matched"] + f["misused"]), lambda f: f["n_pred"] + f["n_tgt"]),
    Metric("mentions_per_event", "Mentions per event", "asserting mentions / asserted events (ours)",
           lambda f: f["mentions_asserted"], lambda f: f["n_pred"], percent=False),
)  # fmt: skip
_OTHERS = (
    Metric("accuracy", "Accuracy", "right answers by the official rule / scored answers; a failed one is wrong",
           lambda f: f["right"], share=True),
    Metric("strict", "Accuracy, strict", "answers that name the right choice without doubt / scored answers",
           lambda f: f["strict"], share=True),
    Metric("parsed", "Parsed answers", "answers that name one choice / scored answers",
           lambda f: f["parsed"], share=True),
    Metric("tokens", "Tokens", "generated tokens / answers", lambda f: f["tokens"], percent=False),
    Metric("attention", "Attention to audio", "share of attention on audio, mean of the trace",
           lambda f: f["attention"]),
    Metric("corrected", "Attention, length-corrected", "1 = uniform attention over all positions",
           lambda f: f["corrected"], percent=False),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_OTHERS[:2], *_CAFE, *_RULES, *_OTHERS[2:])}
CAFE = tuple(metric.name for metric in _CAFE)
RULES = ("acc_per", *(metric.name for metric in _RULES))
"""Perception under every counting rule; ``acc_per`` counts an event as misused if any mention of it is wrong."""


def metric_of(name: str) -> Metric:
    """Return the metric of that name, or raise :class:`AnalysisError`."""
    if name not in METRICS:
        raise AnalysisError(f"no metric {name[:40]!r}: choose from {', '.join(METRICS)}")
    return METRICS[name]


def measured(frame: pd.DataFrame, metric: Metric) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return numerators and denominators of a metric in the rows that have both, and the mask of these rows, (n,)."""
    above = np.broadcast_to(np.asarray(metric.above(frame), dtype=np.float64), len(frame))
    below = np.broadcast_to(np.asarray(metric.below(frame), dtype=np.float64), len(frame))
    known = np.isfinite(above) & np.isfinite(below)
    return above[known], below[known], known


class MetricRate(NamedTuple):
    """A metric of some answers with its interval over clips, and the numbers of items and clips."""

    estimate: float | None
    low: float | None
    high: float | None
    items: int
    clips: int

    def columns(self, value: str = "value") -> dict[str, Any]:
        """Return the columns of a table: ``value``, low, high, items, clips."""
        return {value: self.estimate, "low": self.low, "high": self.high, "items": self.items, "clips": self.clips}


def codes_of(column: pd.Series) -> NDArray[np.intp]:
    """Return the level of each row (its item, its clip) as a code from 0."""
    values = column.cat.codes.to_numpy() if isinstance(column.dtype, pd.CategoricalDtype) else column.to_numpy()
    return pd.factorize(values)[0]


def rate(frame: pd.DataFrame, metric: Metric) -> MetricRate:
    """Return the metric of the rows, pooled, with its interval over clips."""
    above, below, known = measured(frame, metric)
    return rate_of(above, below, units(frame, known), share=metric.share)


def units(frame: pd.DataFrame, known: NDArray[np.bool_]) -> pd.DataFrame:
    """Return item and clip of the known rows, the columns that an interval needs."""
    columns = frame[["item", "clip"]]
    return columns if known.all() else columns[known]


def rate_of(
    above: NDArray[np.float64], below: NDArray[np.float64] | None, rows: pd.DataFrame, *, share: bool, **options: Any
) -> MetricRate:
    """Return ``sum(above) / sum(below)`` with its 95 % interval over clips.

    Args:
        above: Numerators, (n,).
        below: Denominators, (n,); None divides by n.
        rows: Item and clip of each value, n rows.
        share: Every value is 0 or 1, so that Wilson's interval is possible; ``below`` is then not used.
        options: Options of the interval of ``mpar2.statistics``, such as ``resamples``.
    """
    clips = codes_of(rows["clip"])
    if share:
        interval = statistics.accuracy_interval(above, clips, **options)
    else:
        interval = statistics.bootstrap_interval(above, below, groups=clips, **options)
    return MetricRate(*interval[:3], int(codes_of(rows["item"]).max(initial=-1)) + 1, interval.n)


def with_f1(frame: pd.DataFrame, metric: Metric) -> list[Metric]:
    """Return the metric, followed by F1 if the metric is a share and traces are judged."""
    f1 = METRICS["f1"]
    return [metric, f1] if metric.percent and metric != f1 and frame["matched"].notna().any() else [metric]
