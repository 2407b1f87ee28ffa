"""Exhibits about reasoning length: metrics over the length of the trace, with difficulty or item held fixed.

Each function takes the runs, narrowed to the chosen arms and items, and the choice, and returns its exhibit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis import decay as measures
from analysis.choice import BINNINGS, LENGTHS, Choice
from analysis.contrasts import chance_of, forced_rows
from analysis.exhibit import Exhibit, label, point
from analysis.figures import Axes, dots, forest, lines, panels
from analysis.load import RunTable
from analysis.metrics import RULES, Metric, metric_of, with_f1
from analysis.words import (
    against_base,
    caption,
    count,
    difference,
    estimate,
    finding,
    number,
    p_value,
    plural,
    size_of,
    span,
    value,
)
from mpar2.statistics import holm

PERCEIVING = tuple(name for name in RULES if metric_of(name).percent)
DECAYING = ("accuracy", *PERCEIVING)
_RULES = (
    "Acc_per counts an event as misused if any mention of it is wrong, so that traces that mention an event more often "
    "have more chances to be wrong: compare the other counting rules before a fall is called a decay of perception."
)


_MOST_LINES = 8  # of one plot


def decay(table: RunTable, choice: Choice) -> Exhibit:
    """Return the chosen metric over length, one line an arm (Figure 5); with many arms, a panel for each run."""
    metric = metric_of(choice.metric)
    rows = measures.curves(table, choice, (metric.name,))
    title = f"{metric.label} over reasoning length"
    if rows["value"].isna().all():
        return Exhibit("decay", title, _no_value_reason(table, choice, metric), paper="Figures 3 and 5")
    # Arms without any value would only add empty legend entries.
    series = []
    for arm in table.labels:
        points = _with_points(table, rows[(rows["arm"] == arm) & (rows["metric"] == metric.name)], choice)
        if any(pd.notna(row["value"]) for row in points):
            series.append((arm, points))
    groups, n_omitted = _by_run(table, series)
    x_title = f"Mean length of a bin: {LENGTHS[choice.length].lower()}"
    axes = Axes("length", "value", x_title, metric.label, metric.percent)
    # Chance is a level of accuracy only.
    chance = chance_of(table.frame) if metric.name in ("accuracy", "strict") else None
    # The null model is drawn only where all lines share one plot; panels would be crowded.
    if len(groups) == 1:
        line_series = [
            entry for name, points in groups[0][1] for entry in ((name, points), *_null_series(name, points))
        ]
        figure = lines(
            line_series,
            axes,
            tip=_tip,
            reference=1.0 if metric.name == "corrected" else chance,
            reference_label=f"chance {value(metric, chance)}" if chance is not None else "",
            places=[table.labels.index(name.removesuffix(_NULL)) for name, _ in line_series],
        )
    else:
        figure = panels(groups, axes, tip=_tip, own_places=True)
    names = [name for _, group in groups for name, _ in group]
    notes = [
        f"{BINNINGS[choice.binning]} bins, at most {choice.bins}; x is the mean length of the bin's traces.",
        f"{metric.label}: {metric.meaning}. Bands: 95 % over clips.",
        "Trends are tested over traces, for each doubling of the length; p values are corrected for "
        f"{plural(len(names), 'arm')} (Holm).",
    ]
    # The counting rule itself changes with length, which the reader must know.
    if metric.name in PERCEIVING:
        notes.append(_RULES)
    if rows["null"].notna().any():
        notes.append(
            "Dashed, without points: the null model, in which every mention is right at the arm's one rate whatever "
            "the length. A fall along it is the rule's own."
        )
    if n_omitted:
        notes.append(f"{plural(n_omitted, 'arm')} of these runs are in the table only: choose arms to draw them.")
    notes += _length_note(table, choice)
    if choice.outcome != "all" and metric.name in ("accuracy", "strict"):
        notes.append(f"Only {choice.outcome} answers are shown, so accuracy is fixed by the filter.")
    reading = caption([*finding(table, metric), *_trends(table, choice, metric, names)])
    return Exhibit("decay", title, reading, figure, rows, tuple(notes), "Figures 3 and 5")


_NULL = ", null model"


def _null_series(name: str, rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the null model of an arm as a series without band or point, where it has one."""
    null_rows = [
        row | {"value": row["null"], "low": None, "high": None, "null": True, "point": None}
        for row in rows
        if pd.notna(row["null"])
    ]
    return [(name + _NULL, null_rows)] if null_rows else []


def _by_run(table: RunTable, series: Any) -> tuple[list[tuple[str, Any]], int]:
    """Return (title, series) of each panel to draw, and the number of omitted series.

    Up to ``_MOST_LINES`` lines share one plot. Above that each run has a panel of its own with its first arms.
    """
    if len(series) <= _MOST_LINES or len(table.runs) == 1:
        return [("", series[:_MOST_LINES])], max(0, len(series) - _MOST_LINES)
    groups = []
    for run in table.runs:
        run_series = [(name, rows) for name, rows in series if table.arm(name).run == run.name]
        if run_series:
            groups.append((run.name, run_series[:_MOST_LINES]))
    return groups, len(series) - sum(len(run_series) for _, run_series in groups)


def curves(table: RunTable, choice: Choice) -> Exhibit:
    """Return accuracy and CAFE's rates over length, a panel for each arm (Figure 3)."""
    title = "Reasoning accuracy and perception over length"
    names = ("accuracy", "acc_per", "recall", "f1")
    rows = measures.curves(table, choice, names)
    if rows.loc[rows["metric"] == "acc_per", "value"].isna().all():
        return Exhibit("curves", title, _UNJUDGED, paper="Figure 3")
    groups, findings = [], []
    for arm in table.labels:
        series = []
        for name in names:
            points = _with_points(table, rows[(rows["arm"] == arm) & (rows["metric"] == name)], choice)
            # four bands over each other show nothing
            series.append((metric_of(name).label, [row | {"band": name in names[:2]} for row in points]))
        if any(row["value"] == row["value"] for row in series[1][1]):
            groups.append((arm, series))
            findings.append(_joint_trend(table, choice, arm))
    n_omitted, groups = max(0, len(groups) - _MOST_LINES), groups[:_MOST_LINES]
    figure = panels(
        groups,
        Axes("length", "value", "Mean length, tokens", "Rate", percent=True),
        tip=_tip,
        hues=[table.labels.index(arm) for arm, _ in groups],
    )
    notes = [f"{metric_of(name).label}: {metric_of(name).meaning}." for name in names]
    notes += ["Bands: 95 % over clips, of accuracy and Acc_per; the table has all."]
    notes += ["Acc_per alone is precision and rewards naming fewer events: read it beside recall."]
    notes.append(_RULES)
    if n_omitted:
        notes.append(f"{plural(n_omitted, 'arm')} are in the table only: choose arms to draw them.")
    findings = [*finding(table, metric_of("acc_per")), *findings]
    return Exhibit("curves", title, caption(findings), figure, rows, (*notes, *_length_note(table, choice)), "Figure 3")


def correlations(table: RunTable, choice: Choice) -> Exhibit:
    """Return Pearson's and Spearman's correlations of length, accuracy and Acc_per over traces (Figure 3)."""
    title = "Correlation of length, accuracy and perception"
    rows = measures.correlations(table, choice)
    if rows["pearson"].isna().all():
        reading = "Too few traces, or all of one length or one outcome."
        return Exhibit("correlations", title, reading, paper="Figure 3")
    bars = []
    for row in rows.to_dict("records"):
        for kind in ("pearson", "spearman"):
            bounds = {"low": row[f"{kind}_low"], "high": row[f"{kind}_high"]}
            bars.append(row | bounds | {"value": row[kind], "kind": kind.title()})
    figure = forest(
        bars,
        "value",
        names=lambda row: f"{row['arm']}: {row['of']} ({row['kind']})",
        x_title="Correlation over traces, with its 95 % interval over clips",
        percent=False,
        tip=lambda row: (
            f"{label(row['arm'])}<br>{row['of']}<br>{row['kind']} {number(row['value'])}"
            f"{span(None, row['low'], row['high'])}<br>{plural(row['traces'], 'trace')} of "
            f"{size_of(row)}"
        ),
        places=lambda row: table.labels.index(row["arm"]),
    )
    findings = []
    for row in rows.to_dict("records"):
        if row["of"] == "length and accuracy" and row["pearson"] == row["pearson"]:
            low, high = row["pearson_low"], row["pearson_high"]
            words = {-1: "less often right", 1: "more often right", 0: "neither clearly more nor less often right"}
            findings.append(
                f"{row['arm']}: longer traces are {words[_sign(low, high)]} "
                f"(r = {row['pearson']:.2f}{span(None, low, high)})."
            )
    notes = (
        "Of single traces, not of bins: a correlation over a handful of bin means is close to 1 by making.",
        "Hard questions get longer traces and more wrong answers, so this alone does not blame length: see the slopes.",
    )
    return Exhibit("correlations", title, caption(findings), figure, rows, notes, "Figure 3")


def slopes(table: RunTable, choice: Choice) -> Exhibit:
    """Return the change of accuracy and perception per doubling of the length, with difficulty or item held fixed."""
    title = "Change with length, with difficulty or item held fixed"
    # The chosen metric comes first, so that it is drawn if it has slopes.
    names = tuple(dict.fromkeys((choice.metric, *DECAYING)))
    names = tuple(name for name in names if metric_of(name).percent)
    rows = measures.slopes(table, choice, names)
    rows = rows[rows["slope"].notna()]
    if rows.empty:
        return Exhibit("slopes", title, "No slope can be estimated: the scored traces of no arm differ in length.")
    figure_metric = names[0] if (rows["metric"] == names[0]).any() else rows["metric"].iat[0]
    figure = forest(
        rows[rows["metric"] == figure_metric].to_dict("records"),
        "slope",
        names=lambda row: f"{row['arm']} ({row['held']})",
        x_title=f"Change of {metric_of(figure_metric).label} for each doubling of the length (below 0: decay)",
        percent=True,
        tip=lambda row: (
            f"{label(row['arm'])}, {metric_of(row['metric']).label}, {row['held']}<br>"
            f"{difference(metric_of(row['metric']), row['slope'], row['low'], row['high'])} for each doubling<br>"
            f"{p_value(row['p_value'])} ({p_value(row['p_holm'])} corrected); "
            f"{plural(row['traces'], 'trace')} of {size_of(row)}"
        ),
        places=lambda row: table.labels.index(row["arm"]),
    )
    # The caption uses the slope with the strictest control of difficulty for each arm.
    strictness = {"item held": 0, "difficulty held": 1, "nothing held": 2}
    findings = []
    for arm in table.labels:
        arm_rows = rows[(rows["arm"] == arm) & (rows["metric"] == figure_metric)].to_dict("records")
        if arm_rows:
            findings.append(
                _trend_sentence(arm, min(arm_rows, key=lambda row: strictness[row["held"]]), metric_of(figure_metric))
            )
    n_tests = int(rows["p_value"].notna().sum())
    notes = (
        "Least squares over traces, pooled rates weighted by what they divide by; intervals over clips.",
        "Difficulty held: a level for each difficulty of the benchmark. Item held: answers of one item against each "
        "other only; it needs several samples an item.",
        f"The figure shows {metric_of(figure_metric).label}; the table has accuracy and perception under every "
        "counting rule.",
        f"{plural(n_tests, 'slope')} tested: corrected p values are Holm's. The table has the odds ratios of accuracy "
        "(logistic regression with errors by clip; conditional logistic regression within items).",
        _RULES,
    )
    return Exhibit("slopes", title, caption(findings), figure, rows, notes)


def _trend_sentence(arm: str, row: Mapping[str, Any], metric: Metric) -> str:
    change = difference(metric, row["slope"], row["low"], row["high"])
    holm_clause = f", {p_value(row['p_holm'])} after Holm's correction" if row.get("p_holm") is not None else ""
    held_clause = f" with {row['held'].removesuffix(' held')} held" if row["held"] != "nothing held" else ""
    verdicts = {-1: "falls with length", 1: "rises with length", 0: "does not clearly change with length"}
    verdict = verdicts[_sign(row["low"], row["high"])]
    p_values = f"{p_value(row['p_value'])}{holm_clause}"
    return f"{arm}: {metric.label}{held_clause} {verdict} ({change} for each doubling, {p_values})."


def forced(table: RunTable, choice: Choice) -> Exhibit:
    """Return the metric and F1 on the same items at several forced lengths, so that difficulty is not confounded."""
    metric = metric_of(choice.metric)
    title = f"{metric.label} of the same items at several forced lengths"
    tables = [forced_rows(table, measure).assign(metric=measure.label) for measure in with_f1(table.frame, metric)]
    rows = pd.concat(tables, ignore_index=True)
    if rows.empty:
        return Exhibit(
            "forced",
            title,
            "No arms here differ only in how long they may or must reason. Add arms with max_reasoning_tokens or "
            "min_reasoning_tokens to the file of arms, evaluate again and load that run.",
        )
    several = rows["metric"].nunique() > 1
    # A line per family and metric: its points share their items.
    series = []
    for (family, name), group in rows.groupby(["family", "metric"], sort=False):
        points = group.to_dict("records")
        legend = f"{family}: {name}" if several else str(family)
        series.append((legend, [row | {"point": point(table, row["arm"])} for row in points]))
    figure = dots(
        series,
        Axes("length", "value", "Mean generated tokens", "Rate" if several else metric.label, percent=metric.percent),
        joined=True,
        tip=lambda row: (
            f"{label(row['arm'])}<br>{label(row['metric'])} {estimate(metric, row)}<br>{number(row['length'])} tokens; "
            f"{size_of(row)}{against_base(metric, row, '<br>', label)}"
        ),
    )
    # The caption compares the shortest and the longest point of each line.
    findings = [
        f"{legend}, on the same {size_of(points[0])}: {value(metric, points[0]['value'])} at "
        f"{number(points[0]['length'])} tokens{against_base(metric, points[0])}, "
        f"{value(metric, points[-1]['value'])} at {number(points[-1]['length'])}{against_base(metric, points[-1])}."
        for legend, points in series
    ]
    notes = (
        "All points of a line are of the same items, so a difference between them is not one of difficulty.",
        "Differences are from the arm of free length, paired by item: every one of them is in the table.",
        "Where the length is a mere limit, an answer that does not come within it counts as wrong.",
    )
    return Exhibit("forced", title, caption(findings), figure, rows, notes)


_UNJUDGED = (
    "The traces are not judged yet: run 'mpar2 cafe score RUN --judge reference' (rules, exact truth, free) "
    "or another judge, and load the run again."
)


def _no_value_reason(table: RunTable, choice: Choice, metric: Metric) -> str:
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


def _with_points(table: RunTable, rows: pd.DataFrame, choice: Choice) -> list[dict[str, Any]]:
    points = rows.to_dict("records")
    for row in points:
        # the last bin has its upper end
        end = row["to"] if row["bin"] < rows["bin"].max() else float(np.nextafter(row["to"], np.inf))
        row["point"] = point(table, row["arm"], choice.length, row["from"], end)
    return points


def _tip(row: Any) -> str:
    metric = metric_of(row["metric"])
    return (
        f"{label(row['arm'])}<br>{metric.label} {estimate(metric, row)}<br>{number(row['length'])} tokens "
        f"({count(row['from'])} to {count(row['to'])})<br>{plural(row['scored'], 'scored trace')} of "
        f"{count(row['traces'])}, {size_of(row)}"
    )


def _trends(table: RunTable, choice: Choice, metric: Metric, arms: list[str]) -> list[str]:
    """Return a sentence for each arm: its change for each doubling of the length, tested over traces, not over bins."""
    slopes = {arm: measures.trend(table.rows(arm), metric, choice.length) for arm in arms}
    corrected = holm([slope.p_value for slope in slopes.values()])
    return [
        f"{arm} has no trend to test."
        if slope.low is None
        else _trend_sentence(
            arm, {**slope._asdict(), "slope": slope.estimate, "p_holm": p, "held": "nothing held"}, metric
        )
        for (arm, slope), p in zip(slopes.items(), corrected, strict=True)
    ]


def _joint_trend(table: RunTable, choice: Choice, arm: str) -> str:
    """Return whether accuracy and Acc_per of an arm change alike with length."""
    answers = table.rows(arm)
    trends = {name: measures.trend(answers, metric_of(name), choice.length) for name in ("accuracy", "acc_per")}
    if any(slope.low is None for slope in trends.values()):
        return f"{arm}: too few traces to test a trend."
    changes = [
        f"{metric_of(name).label} by {difference(metric_of(name), slope.estimate, slope.low, slope.high)}"
        for name, slope in trends.items()
    ]
    sides = {_sign(slope.low, slope.high) for slope in trends.values()}
    verdict = {
        frozenset({-1}): "both fall", frozenset({1}): "both rise", frozenset({0}): "neither clearly changes",
        frozenset({-1, 1}): "they move apart",
    }.get(frozenset(sides), "only one of them clearly changes")  # fmt: skip
    return f"{arm}, for each doubling of the length: {' and '.join(changes)}: {verdict}."


def _length_note(table: RunTable, choice: Choice) -> tuple[str, ...]:
    missing = int(table.frame[choice.length].isna().sum())
    return (f"{plural(missing, 'answer')} without a known length are left out.",) if missing else ()


def _sign(low: Any, high: Any) -> int:
    if pd.isna(low) or pd.isna(high):
        return 0
    return -1 if high < 0 else 1 if low > 0 else 0
