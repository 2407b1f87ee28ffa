"""Exhibits about reasoning length: does a metric fall as traces grow, and is it length that does it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis import decay as measures
from analysis.choice import BINNINGS, LENGTHS, Choice
from analysis.contrasts import forced_rows
from analysis.exhibit import Exhibit, label, point
from analysis.figures import dots, forest, lines, panels
from analysis.load import RunTable
from analysis.metrics import Metric, metric_of, with_f1
from analysis.words import count, difference, listed, number, p_value, paired_p, plural, span, told, value

__all__ = ["correlations", "curves", "decay", "forced", "slopes"]

_DOUBLING = "Odds of a right answer for each doubling of the length (below 1: decay)"


def decay(table: RunTable, choice: Choice) -> Exhibit:
    """The chosen metric over length, one line an arm (Figure 5)."""
    metric = metric_of(choice.metric)
    rows = measures.curves(table, choice, (metric.name,))
    title = f"{metric.label} over reasoning length"
    if rows["value"].isna().all():
        return _without("decay", title, _why_no_value(table, choice, metric), "Figures 3 and 5")
    series = _series(table, rows, choice, metric)
    figure = lines(
        series,
        "length",
        "value",
        x_title=f"Mean length of a bin: {LENGTHS[choice.length].lower()}",
        y_title=metric.label,
        percent=metric.percent,
        tip=_tip(metric),
        reference=1.0 if metric.name == "corrected" else None,
    )
    return Exhibit(
        "decay",
        title,
        told([_first_to_last(name, arm_rows, metric) for name, arm_rows in series]),
        figure,
        rows,
        (
            f"{BINNINGS[choice.binning]} bins, at most {choice.bins}; x is the mean length of the bin's traces.",
            f"{metric.label}: {metric.meaning}. Bands: 95 % over items.",
            *_lengthless(table, choice),
            *_conditioned(choice, metric),
        ),
        "Figures 3 and 5",
    )


def curves(table: RunTable, choice: Choice) -> Exhibit:
    """Reasoning accuracy and CAFE's rates over length, a panel for each arm (Figure 3)."""
    title = "Reasoning accuracy and perception over length"
    names = ("accuracy", "acc_per", "recall", "f1")
    rows = measures.curves(table, choice, names)
    if rows.loc[rows["metric"] == "acc_per", "value"].isna().all():
        return _without("curves", title, _UNJUDGED, "Figure 3")
    groups, said = [], []
    for arm in table.labels:
        series = []
        for name in names:
            part = rows[(rows["arm"] == arm) & (rows["metric"] == name)]
            banded = name in names[:2]  # four bands over each other show nothing
            points = [row | {"band": banded} for row in _with_points(table, part, choice)]
            series.append((metric_of(name).label, points))
        if any(row["value"] == row["value"] for row in series[1][1]):
            groups.append((arm, series))
            said.append(_together(arm, series[0][1], series[1][1]))
    figure = panels(
        groups,
        "length",
        "value",
        x_title="Mean length, tokens",
        y_title="Rate",
        percent=True,
        tip=lambda row: _tip(metric_of(row["metric"]))(row),
    )
    notes = [f"{metric_of(name).label}: {metric_of(name).meaning}." for name in names]
    notes += ["Bands: 95 % over items, of accuracy and Acc_per; the table has all."]
    notes += ["Acc_per alone is precision and rewards naming fewer events: read it beside recall."]
    return Exhibit("curves", title, told(said), figure, rows, (*notes, *_lengthless(table, choice)), "Figure 3")


def correlations(table: RunTable, choice: Choice) -> Exhibit:
    """Pearson and Spearman of traces."""
    title = "Correlation of length, accuracy and perception"
    rows = measures.correlations(table, choice)
    if rows["pearson"].isna().all():
        return _without("correlations", title, "Too few traces, or all of one length or one outcome.", "Figure 3")
    long = []
    for row in rows.to_dict("records"):
        for kind in ("pearson", "spearman"):
            bounds = {"low": row[f"{kind}_low"], "high": row[f"{kind}_high"]}
            long.append(row | bounds | {"value": row[kind], "kind": kind.title()})
    figure = forest(
        long,
        "value",
        names=lambda row: f"{row['arm']}: {row['of']} ({row['kind']})",
        x_title="Correlation over traces, with its 95 % interval over items",
        percent=False,
        tip=lambda row: (
            f"{label(row['arm'])}<br>{row['of']}<br>{row['kind']} {number(row['value'])}"
            f"{span(None, row['low'], row['high'])}<br>{plural(row['traces'], 'trace')} of "
            f"{plural(row['items'], 'item')}"
        ),
        places=lambda row: table.labels.index(row["arm"]),
    )
    said = []
    for row in rows.to_dict("records"):
        if row["of"] == "length and accuracy" and row["pearson"] == row["pearson"]:
            said.append(
                f"{row['arm']}: longer traces are {_direction(row['pearson_low'], row['pearson_high'])} "
                f"(r = {row['pearson']:.2f}{span(None, row['pearson_low'], row['pearson_high'])})."
            )
    notes = (
        "Of single traces, not of bins: a correlation over a handful of bin means is close to 1 by making.",
        "Hard questions get longer traces and more wrong answers, so this alone does not blame length: see the slopes.",
    )
    return Exhibit("correlations", title, told(said), figure, rows, notes, "Figure 3")


def slopes(table: RunTable, choice: Choice) -> Exhibit:
    """Logistic slopes with difficulty, and with the item, held fixed."""
    title = "Does length still count when difficulty is held fixed?"
    rows = measures.slopes(table, choice)
    if rows.empty or rows["odds_ratio"].isna().all():
        why = listed(sorted(set(rows["why_not"]) - {""})) if len(rows) else "there are no scored answers"
        return _without("slopes", title, f"No slope can be estimated: {why}.", None, rows)
    figure = forest(
        rows.to_dict("records"),
        "odds_ratio",
        names=lambda row: f"{row['arm']} ({row['held']})",
        x_title=_DOUBLING,
        percent=False,
        tip=lambda row: (
            f"{label(row['arm'])}, {row['held']}<br>odds x {number(row['odds_ratio'])}"
            f"{span(None, row['low'], row['high'])}<br>{p_value(row['p_value'])}; {plural(row['traces'], 'trace')} of "
            f"{plural(row['items'], 'item')}"
        ),
        zero=1.0,
        places=lambda row: table.labels.index(row["arm"]),
        logarithmic=True,
    )
    said = []
    for row in rows.to_dict("records"):
        if row["odds_ratio"] == row["odds_ratio"]:
            factor, sure = number(row["odds_ratio"]), _side(row["low"], row["high"], 1.0)
            verdict = {-1: "fall", 1: "rise", 0: "do not clearly change"}[sure]
            said.append(
                f"{row['arm']}, {row['held']}: the odds of a right answer {verdict} with length (x {factor} for each "
                f"doubling{span(None, row['low'], row['high'])}, {p_value(row['p_value'])})."
            )
    notes = (
        "Difficulty held: a level for each difficulty of the benchmark; errors allow for answers of one item.",
        "Item held: answers of one item against each other only; it needs several samples an item.",
        *(f"{row['arm']} ({row['held']}): {row['why_not']}." for row in rows.to_dict("records") if row["why_not"]),
    )
    return Exhibit("slopes", title, told(said), figure, rows, notes)


def forced(table: RunTable, choice: Choice) -> Exhibit:
    """The same items at several forced lengths: difficulty cannot pose as length."""
    metric = metric_of(choice.metric)
    title = f"{metric.label} of the same items at several forced lengths"
    parts = [forced_rows(table, shown).assign(metric=shown.label) for shown in with_f1(table.frame, metric)]
    rows = pd.concat(parts, ignore_index=True)
    if rows.empty:
        return _without(
            "forced",
            title,
            "No arms here differ only in how long they may or must reason. Add arms with max_reasoning_tokens or "
            "min_reasoning_tokens to the file of arms, evaluate again and load that run.",
            None,
        )
    several = rows["metric"].nunique() > 1
    series = []
    for (family, name), part in rows.groupby(["family", "metric"], sort=False):
        found = part.to_dict("records")
        legend = f"{family}: {name}" if several else str(family)
        series.append((legend, [row | {"point": point(table, row["arm"])} for row in found]))
    figure = dots(
        series,
        "length",
        "value",
        x_title="Mean generated tokens",
        y_title="Rate" if several else metric.label,
        percent=metric.percent,
        joined=True,
        tip=lambda row: (
            f"{label(row['arm'])}<br>{label(row['metric'])} {value(metric, row['value'])}"
            f"{span(metric, row['low'], row['high'])}<br>{number(row['length'])} tokens; {plural(row['items'], 'item')}"
            f"{_from_free(row, metric, '<br>', label)}"
        ),
    )
    said = [
        f"{legend}, on the same {plural(found[0]['items'], 'item')}: {value(metric, found[0]['value'])} at "
        f"{number(found[0]['length'])} tokens{_from_free(found[0], metric)}, {value(metric, found[-1]['value'])} at "
        f"{number(found[-1]['length'])}{_from_free(found[-1], metric)}."
        for legend, found in series
    ]
    notes = (
        "All points of a line are of the same items, so a difference between them is not one of difficulty.",
        "Differences are from the arm of free length, paired by item: every one of them is in the table.",
        "Where the length is a mere limit, an answer that does not come within it counts as wrong.",
    )
    return Exhibit("forced", title, told(said), figure, rows, notes)


def _from_free(row: Mapping[str, Any], metric: Metric, before: str = ", ", shown: Callable[[str], str] = str) -> str:
    """The paired difference from the arm that may write as it likes; nothing where the row is that arm's."""
    if row["difference"] is None or row["difference"] != row["difference"]:
        return ""
    away = difference(metric, row["difference"], row["difference_low"], row["difference_high"])
    return f"{before}{away} against {shown(row['minus'])}, {paired_p(row)}"


_UNJUDGED = (
    "The traces are not judged yet: run 'mpar2 cafe score RUN --judge reference' (rules, exact truth, free) "
    "or another judge, and load the run again."
)


def _without(name: str, title: str, reading: str, paper: str | None, rows: pd.DataFrame | None = None) -> Exhibit:
    return Exhibit(name, title, reading, None, pd.DataFrame() if rows is None else rows, (), paper)


def _why_no_value(table: RunTable, choice: Choice, metric: Metric) -> str:
    if table.frame.empty:
        return "No answer is left by these filters: take one away."
    if table.frame[choice.length].isna().all():
        return (
            "The lengths of these traces are unknown (the server did not count tokens): choose another measure of "
            "length, or evaluate with the transformers engine."
        )
    if metric.name in ("attention", "corrected"):
        return "Attention was not recorded: evaluate with --attention-share above 0."
    return _UNJUDGED if metric.name not in ("accuracy", "strict", "parsed") else "No answer here has a known truth."


def _series(
    table: RunTable, rows: pd.DataFrame, choice: Choice, metric: Metric
) -> list[tuple[str, list[dict[str, Any]]]]:
    return [
        (arm, _with_points(table, rows[(rows["arm"] == arm) & (rows["metric"] == metric.name)], choice))
        for arm in table.labels
    ]


def _with_points(table: RunTable, rows: pd.DataFrame, choice: Choice) -> list[dict[str, Any]]:
    last = int(rows["bin"].max()) if len(rows) else 0
    return [
        row
        | {
            "point": point(
                table,
                row["arm"],
                choice.length,
                row["from"],
                # the last bin has its upper end
                row["to"] if row["bin"] < last else float(np.nextafter(row["to"], np.inf)),
            )
        }
        for row in rows.to_dict("records")
    ]


def _tip(metric: Metric) -> Any:
    def tip(row: Any) -> str:
        return (
            f"{label(row['arm'])}<br>{metric.label} {value(metric, row['value'])}"
            f"{span(metric, row['low'], row['high'])}<br>{number(row['length'])} tokens "
            f"({count(row['from'])} to {count(row['to'])})<br>{plural(row['scored'], 'scored trace')} of "
            f"{count(row['traces'])}, {plural(row['items'], 'item')}"
        )

    return tip


def _first_to_last(name: str, rows: list[dict[str, Any]], metric: Metric) -> str:
    rows = [row for row in rows if row["value"] == row["value"] and row["value"] is not None]
    if not rows:
        return f"{name} has no value here."
    first, last = rows[0], rows[-1]
    if len(rows) == 1:
        return f"{name}: {value(metric, first['value'])} at {number(first['length'])} tokens; one bin shows no trend."
    apart = first["low"] is not None and (first["low"] > last["high"] or last["low"] > first["high"])
    verb = ("falls" if last["value"] < first["value"] else "rises") if apart else "goes"
    return (
        f"{name} {verb} from {value(metric, first['value'])} at {number(first['length'])} tokens to "
        f"{value(metric, last['value'])} at {number(last['length'])}"
        f"{'' if apart else ' (their intervals overlap)'}."
    )


def _together(arm: str, accuracy: list[dict[str, Any]], perception: list[dict[str, Any]]) -> str:
    changes = []
    for rows in (accuracy, perception):
        known = [row["value"] for row in rows if row["value"] == row["value"] and row["value"] is not None]
        changes.append(known[-1] - known[0] if len(known) > 1 else None)
    if None in changes:
        return f"{arm} has too few bins to show a trend."
    metric = metric_of("accuracy")
    same = "move together" if changes[0] * changes[1] > 0 else "do not move together"
    return (
        f"{arm}: from the shortest to the longest bin accuracy changes by {difference(metric, changes[0])} and "
        f"Acc_per by {difference(metric, changes[1])}: they {same}."
    )


def _lengthless(table: RunTable, choice: Choice) -> tuple[str, ...]:
    missing = int(table.frame[choice.length].isna().sum())
    return (f"{plural(missing, 'answer')} without a known length are left out.",) if missing else ()


def _conditioned(choice: Choice, metric: Metric) -> tuple[str, ...]:
    if choice.outcome == "all" or metric.name not in ("accuracy", "strict"):
        return ()
    return (f"Only {choice.outcome} answers are shown, so accuracy is fixed by the filter.",)


def _side(low: Any, high: Any, zero: float) -> int:
    if low is None or high is None or low != low:
        return 0
    return -1 if high < zero else 1 if low > zero else 0


def _direction(low: Any, high: Any) -> str:
    return {-1: "less often right", 1: "more often right", 0: "neither clearly more nor less often right"}[
        _side(low, high, 0.0)
    ]
