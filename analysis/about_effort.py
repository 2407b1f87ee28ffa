"""Exhibits about the token cost of answers and the attention to audio along the trace.

Each function takes the runs, narrowed to the chosen arms and items, and the choice, and returns its exhibit.
"""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from analysis import attention as measures
from analysis import effort
from analysis.choice import Choice
from analysis.contrasts import Difference, attending_roles, versus
from analysis.exhibit import Exhibit, label, point
from analysis.figures import Axes, dots, lines
from analysis.load import RunTable
from analysis.metrics import Metric, metric_of
from analysis.words import (
    against_base,
    caption,
    difference,
    estimate,
    number,
    p_value,
    paired_p,
    plural,
    size_of,
    span,
    value,
)

_ACCURACY, _TOKENS = metric_of("accuracy"), metric_of("tokens")


def frontier(table: RunTable, choice: Choice) -> Exhibit:
    """Return accuracy over the tokens spent on an item, majority votes included."""
    title = "Accuracy over tokens spent"
    rows = effort.frontier(table)
    if rows.empty or rows["tokens"].isna().all():
        return Exhibit("frontier", title, "The tokens or the truth of these answers are unknown.", None, rows)
    # Places follow the labels, so that an arm without points does not shift the colours of the others.
    series, places = [], []
    for place, arm in enumerate(table.labels):
        arm_rows = rows[(rows["arm"] == arm) & rows["tokens"].notna()].to_dict("records")
        if arm_rows:
            series.append((arm, [row | {"point": point(table, arm)} for row in arm_rows]))
            places.append(place)
    figure = dots(
        series,
        Axes("tokens", "accuracy", "Mean tokens an item (of all votes)", "Accuracy", percent=True),
        joined=True,
        places=places,
        tip=lambda row: (
            f"{label(row['arm'])}<br>{value(_ACCURACY, row['accuracy'])}"
            f"{span(_ACCURACY, row['low'], row['high'])}<br>{number(row['tokens'])} tokens, "
            f"{plural(row['votes'], 'vote')}{label(against_base(_ACCURACY, row))}"
        ),
    )
    # The caption names only the points that no cheaper point beats.
    frontier_points = "; ".join(
        f"{row['arm']}{'' if row['votes'] == 1 else ' with ' + plural(row['votes'], 'vote')} "
        f"({value(_ACCURACY, row['accuracy'])} for {number(row['tokens'])} tokens{against_base(_ACCURACY, row)})"
        for row in _pareto_front(rows)
    )
    notes = (
        "Differences are from the first arm of the same benchmark, item by item; the table has that of every point.",
        "Of equally frequent answers the one given first wins; only items with all samples count.",
        "The estimates alone decide which arms are on the frontier; neighbours' intervals may overlap.",
    )
    reading = f"Nothing here is both cheaper and more often right than {frontier_points}."
    return Exhibit("frontier", title, reading, figure, rows, notes)


def _pareto_front(rows: pd.DataFrame) -> list[dict[str, Any]]:
    front: list[dict[str, Any]] = []
    for row in rows.dropna(subset=["tokens", "accuracy"]).sort_values(["tokens", "accuracy"]).to_dict("records"):
        if not front or row["accuracy"] > front[-1]["accuracy"]:
            front.append(row)
    return front[:6]


def budget(table: RunTable, choice: Choice) -> Exhibit:
    """Return generated tokens by difficulty and category (Figure 7)."""
    title = "Tokens by kind of question"
    fields = [f for f in ("difficulty", "category", "domain", "sub_category") if table.frame[f].nunique() > 1]
    if not fields or table.frame["tokens"].isna().all():
        reason = "the token counts are unknown" if fields else "the items have neither difficulty nor category"
        return Exhibit("budget", title, f"Nothing to compare: {reason}.", paper="Figure 7")
    # The table has every field; the figure shows two at most to stay readable.
    names = [field.replace("_", "-") for field in fields]
    sheets = [effort.budget(table, field).assign(field=name) for field, name in zip(fields, names, strict=True)]
    rows = pd.concat(sheets, ignore_index=True)
    series = []
    for arm in table.labels:
        arm_rows = rows[(rows["arm"] == arm) & rows["field"].isin(names[:2])].to_dict("records")
        points = [
            row | {"place": f"{row['level']}", "point": point(table, arm, row["field"].replace("-", "_"), row["level"])}
            for row in arm_rows
        ]
        series.append((arm, points))
    figure = dots(
        series,
        Axes("place", "tokens", " and ".join(names[:2]).capitalize(), "Mean generated tokens", percent=False),
        tip=lambda row: (
            f"{label(row['arm'])}<br>{row['field']}: {label(row['level'])}<br>{number(row['tokens'])} tokens"
            f"{span(None, row['low'], row['high'])}<br>{size_of(row)}; "
            f"accuracy {value(_ACCURACY, row['accuracy'])}"
        ),
    )
    # The caption compares the extremes of the first field.
    findings = []
    for arm in table.labels:
        of_arm = rows[(rows["field"] == names[0]) & (rows["arm"] == arm) & rows["tokens"].notna()]
        arm_rows = of_arm.to_dict("records")
        if len(arm_rows) > 1:
            least, most = min(arm_rows, key=lambda row: row["tokens"]), max(arm_rows, key=lambda row: row["tokens"])
            findings.append(
                f"{arm} writes {number(least['tokens'])} tokens for {least['level']} and {number(most['tokens'])} for "
                f"{most['level']}."
            )
    notes = (
        "The paper shows MPAR²'s own lengths only; here every arm stands beside it.",
        f"By {names[0]} in the sentence above; the table has {', '.join(names)}.",
    )
    return Exhibit("budget", title, caption(findings), figure, rows, notes, "Figure 7")


def attention(
    table: RunTable, choice: Choice, *, name: str, position: Literal["relative", "absolute"], corrected: bool
) -> Exhibit:
    """Return the attention ratio, raw or length-corrected, along the trace or by the tokens written (Figure 6)."""
    kind = "length-corrected" if corrected else "raw"
    x_label = "position in the trace" if position == "relative" else "tokens written"
    title = f"Attention to audio along the trace, {kind}, by {x_label}"
    rows = measures.along(table, position, corrected)
    if rows.empty:
        reason = "Attention was not recorded: evaluate with --attention-share above 0 (transformers engine)."
        return Exhibit(name, title, reason, None, rows, (), "Figure 6")
    series = [(arm, rows[rows["arm"] == arm].to_dict("records")) for arm in table.labels]
    metric = metric_of("corrected" if corrected else "attention")
    x_title = "Share of the trace" if position == "relative" else "Tokens written"
    y_title = "Length-corrected ratio" if corrected else "Share of attention on audio"
    figure = lines(
        series,
        Axes("position", "value", x_title, y_title, percent=not corrected, share_x=position == "relative"),
        tip=lambda row: (
            f"{label(row['arm'])}<br>{estimate(metric, row)}<br>{plural(row['traces'], 'trace')} of {size_of(row)}"
        ),
        reference=1.0 if corrected else None,
    )
    differences = measures.changes(table, corrected)
    findings = [_change(arm, differences[arm], corrected) for arm, arm_rows in series if arm_rows]
    findings = [*_attention_sentences(table, metric), *findings]
    notes = (
        "Mean over layers and heads of the attention mass on audio positions; the paper defines neither.",
        "1 means: as much as if attention were spread evenly over all that is visible."
        if corrected
        else "The raw ratio falls as text grows even where nothing changes: see the corrected one.",
    )
    return Exhibit(name, title, caption(findings), figure, rows, notes, "Figure 6")


def _attention_sentences(table: RunTable, metric: Metric) -> list[str]:
    """Return, for each benchmark, whether MPAR² attends more to the audio than the base, over whole traces."""
    sentences = []
    for base, trained in attending_roles(table, metric):
        row = versus(table, base, trained, metric)
        significant = row["low"] is not None and not row["low"] <= 0 <= row["high"]
        direction = ("less" if row["difference"] < 0 else "more") if significant else "about as much"
        sentences.append(
            f"{trained} attends {direction} to the audio {'than' if significant else 'as'} {base} "
            f"({difference(metric, row['difference'], row['low'], row['high'])}, {paired_p(row)}, on {size_of(row)})."
        )
    return sentences


def _change(arm: str, change: Difference, corrected: bool) -> str:
    significant = change.low is not None and not change.low <= 0 <= change.high
    direction = ("less" if change.high < 0 else "more") if significant else "about as much"
    bounds = (
        "" if change.low is None else f", 95 %: {_signed(change.low, corrected)} to {_signed(change.high, corrected)}"
    )
    return (
        f"{arm} attends {direction} to audio at the end of its traces {'than' if significant else 'as'} at the start "
        f"(last quarter minus first: {_signed(change.estimate, corrected)}{bounds}, {p_value(change.p_value)})."
    )


def _signed(x: float | None, corrected: bool) -> str:
    if x is None:
        return "unknown"
    return f"{x:+.2f}" if corrected else f"{100 * x:+.1f} points"
