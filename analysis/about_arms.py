"""Exhibits about arms: accuracy and CAFE rates, paired differences on the same items, controls and seeds.

Each function takes the runs, narrowed to the chosen arms and items, and the choice, and returns its exhibit.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.choice import Choice
from analysis.contrasts import (
    arms_table,
    baseline_of,
    benchmark_of,
    chance_of,
    control_levels,
    control_rows,
    controls,
    corrected,
    difference_columns,
    mode_pairs,
    probe_rates,
    seeds,
    versus,
)
from analysis.exhibit import Exhibit, label, point
from analysis.figures import Axes, dots, forest
from analysis.load import RunTable
from analysis.metrics import CAFE, RULES, Metric, measured, metric_of, rate, rate_of, units, with_f1
from analysis.words import (
    caption,
    count,
    difference,
    estimate,
    finding,
    listed,
    number,
    paired_p,
    plural,
    size_of,
    value,
)

_ACCURACY = metric_of("accuracy")
_PERCEPTION = metric_of("acc_per")
_NO_CONTROL = (
    "No two arms here differ in one setting only: choose more arms. If the run has none, add arms with "
    "'audio: silent', 'audio: shuffled', 'perception: oracle', 'hide_audio_after: 50%', 'max_reasoning_tokens: 32' or "
    "several samples to the file of arms, and evaluate again."
)


def arms(table: RunTable, choice: Choice) -> Exhibit:
    """Return every arm's metric, and its paired difference from the first arm of its benchmark (Table 2)."""
    metric = metric_of(choice.metric)
    title = f"{metric.label} of the arms"
    rows = []
    for name in table.labels:
        answers = table.rows(name)
        result = rate(answers, metric)
        if result.estimate is not None:
            rows.append({"arm": name, **result.columns()})
    if not rows:
        return Exhibit("arms", title, "No answer here has a value of this metric.")
    # Arms of different benchmarks share no items, so each is compared within its benchmark only.
    bases = {row["arm"]: baseline_of(table, row["arm"]) for row in rows}
    comparisons = [versus(table, base, name, metric) for name, base in bases.items() if base != name]
    # Baselines get a row without a difference, so that the merge below is complete.
    base_rows = [{"arm": name, "minus": None, "difference": None} for name, base in bases.items() if base == name]
    facts = arms_table(table).drop(columns=["accuracy", "low", "high", "strict", "tokens", "items", "clips"])
    difference_rows = [{"arm": row["arm"], **difference_columns(row)} for row in comparisons]
    differences = corrected(pd.DataFrame([*base_rows, *difference_rows], columns=["arm", *difference_columns({})]))
    sheet = pd.DataFrame(rows).merge(differences, on="arm", how="left").merge(facts, on="arm", how="left")
    # Places follow the labels, so that an arm has the same colour in all figures.
    figure = dots(
        [(row["arm"], [row | {"point": point(table, row["arm"])}]) for row in rows],
        Axes("arm", "value", "", metric.label, percent=metric.percent),
        tip=lambda row: f"{label(row['arm'])}<br>{estimate(metric, row)}<br>{size_of(row)}",
        places=[table.labels.index(row["arm"]) for row in rows],
        spread=False,
        **_chance_line(table, metric),
    )
    # The caption prefers the paired difference to the arm's own value.
    by_name = {row["arm"]: row for row in comparisons}
    findings = [
        _finding(by_name[row["arm"]], metric) if row["arm"] in by_name else f"{row['arm']}: {estimate(metric, row)}."
        for row in rows
    ]
    findings = [*finding(table, metric), *findings]
    notes = (
        f"{metric.label}: {metric.meaning}. Intervals: 95 % over clips.",
        f"{plural(len(comparisons), 'comparison')} made: p_holm in the table is corrected for them (Holm).",
        "Differences are from the first arm of the same benchmark, item by item; p by paired bootstrap over "
        "clips, or by McNemar's exact test where each clip has one question with one answer.",
        *(f"{run.name} ({run.benchmark}): {note}." for run in table.runs for note in run.notes),
    )
    return Exhibit("arms", title, caption(findings), figure, sheet, notes, "Table 2")


def cafe(table: RunTable, choice: Choice) -> Exhibit:
    """Return CAFE's rates of every arm (Table 1)."""
    title = "Events that the traces name, against the truth (CAFE)"
    rows: list[dict[str, Any]] = []
    bases: dict[str, str] = {}  # by benchmark: the first arm that names events
    # The baseline must name events: a difference from an arm without any would be meaningless.
    for name in table.labels:
        answers = table.rows(name)
        benchmark = benchmark_of(table, table.arm(name))
        if rate(answers, _PERCEPTION).estimate is not None:
            bases.setdefault(benchmark, name)
        for metric in map(metric_of, CAFE):
            base = bases.get(benchmark, name)
            comparison = versus(table, base, name, metric) if base != name else {}
            above, below, known = measured(answers, metric)
            result = rate_of(above, below, units(answers, known), share=metric.share)
            rows.append(
                {
                    "arm": name,
                    "metric": metric.label,
                    **result.columns(),
                    "numerator": int(above.sum()),
                    "denominator": int(below.sum()),
                    "traces": int(known.sum()),
                    "without": int((below == 0).sum()),
                    "unscored": int((~known).sum()),
                    **difference_columns(comparison),
                }
            )
    sheet = pd.DataFrame(rows)
    if sheet.empty or not sheet["traces"].any():
        reason = "The traces are not judged yet: run 'mpar2 cafe score RUN --judge reference', or another judge."
        return Exhibit("cafe", title, reason, paper="Table 1")
    # The number of events per trace is no rate, so it does not fit the axis.
    events_label = metric_of("events").label
    rate_rows = [row | {"point": point(table, row["arm"])} for row in rows if row["metric"] != events_label]
    figure = dots(
        [(name, [row for row in rate_rows if row["arm"] == name]) for name in table.labels],
        Axes("metric", "value", "", "Rate, pooled over traces", percent=True),
        tip=lambda row: (
            f"{label(row['arm'])}<br>{row['metric']} {estimate(_PERCEPTION, row)}<br>{count(row['numerator'])} of "
            f"{count(row['denominator'])} events, {plural(row['traces'], 'trace')}"
        ),
    )
    # The caption gives perception together with recall, because Acc_per alone rewards naming fewer events.
    findings = []
    for name in table.labels:
        rates = {row["metric"]: row for row in rows if row["arm"] == name and row["value"] is not None}
        if "Acc_per" in rates and "Recall" in rates:
            kinds = ("Acc_per", "matched"), ("Err_use", "misused"), ("Err_per", "hallucinated")
            shares = [f"{value(_PERCEPTION, rates[rate]['value'])} {kind}" for rate, kind in kinds]
            findings.append(
                f"{name} names {number(rates['Events per trace']['value'])} events a trace ({', '.join(shares)}) and "
                f"matches {value(metric_of('recall'), rates['Recall']['value'])} of the truth"
                f"{_difference_clause(_PERCEPTION, rates['Acc_per'])}."
            )
    notes = [
        "Matched: an event of the truth, rightly described. Misused: an event of the truth with a wrong time, order, "
        "count or use. Hallucinated: not in the truth."
    ]
    notes += ["Differences are from the first arm that names events, item by item, by paired bootstrap: see the table."]
    notes += [metric_of(name).label + ": " + metric_of(name).meaning + "." for name in CAFE]
    # Rates depend on the judge and the origin of the truth, so both are stated.
    for run in table.runs:
        if run.scores.judge:
            metadata = run.scores.about
            origins = listed([f"{key} ({n})" for key, n in (metadata.get("truth_origins") or {}).items()])
            model = f", model {metadata['model']}" if metadata.get("model") else ""
            notes.append(f"{run.name}: judged by {run.scores.judge}{model}; truth: {origins or 'unknown'}.")
    return Exhibit("cafe", title, caption(findings), figure, sheet, tuple(notes), "Table 1")


def perception(table: RunTable, choice: Choice) -> Exhibit:
    """Return the right answers of every arm to direct questions about single events (probes)."""
    title = "Direct yes/no questions about each event (probes)"
    if table.probes.empty:
        return Exhibit(
            "probes",
            title,
            "No probes were run: 'mpar2 cafe probe RUN --audio-root DIR' gives the run's models a yes/no question on "
            "each event, and about absent ones. An event that a trace omits may still be perceived.",
        )
    sheet = probe_rates(table)
    rows = sheet.to_dict("records")
    figure = dots(
        [(name, [row for row in rows if row["arm"] == name]) for name in table.labels],
        Axes("probe", "value", "", "Right answers", percent=True),
        tip=lambda row: (
            f"{label(row['arm'])}<br>{row['probe']}: {estimate(_ACCURACY, row)}<br>{plural(row['probes'], 'probe')}"
        ),
    )
    findings = []
    for name in table.labels:
        arm_rows = [row for row in rows if row["arm"] == name]
        incomplete = [row for row in arm_rows if row["probes"] < row["asked"]]
        if incomplete:
            totals = sum(row["probes"] for row in arm_rows), sum(row["asked"] for row in arm_rows)
            findings.append(
                f"{name} rests on {totals[0]} of {totals[1]} probes: its other answers are neither yes nor no."
            )
        if len(arm_rows) == 2:
            mean = value(_ACCURACY, (arm_rows[0]["value"] + arm_rows[1]["value"]) / 2)
            clauses = [
                f"{row['probe']}{_difference_clause(_ACCURACY, row)}" for row in arm_rows if pd.notna(row["difference"])
            ]
            suffix = f"; {listed(clauses)}" if clauses else ""
            findings.append(f"{name}: probe accuracy {mean}, the mean of present and absent{suffix}.")
    return Exhibit("probes", title, caption(findings), figure, sheet, ("Answering yes to everything gives 50 %.",))


def modes(table: RunTable, choice: Choice) -> Exhibit:
    """Return the accuracy of direct answers and of reasoning, for each model that gave both (Figure 1)."""
    metric = metric_of("accuracy")
    title = "Direct answers against reasoning"
    pairs = mode_pairs(table)
    if not pairs:
        return Exhibit(
            "modes",
            title,
            "No model here answered both directly and with reasoning: evaluate it with --mode direct as well, or name "
            "the arm that was trained to reason like the other arm, with a dagger (†) behind it.",
            paper="Figure 1",
        )
    # Both rows of a pair carry the difference, so that either row of the table is complete.
    rows = []
    for direct, reasoning in pairs:
        comparison = versus(table, direct.label, reasoning.label, metric)
        for kind, arm in (("direct answer", direct), ("reasoning", reasoning)):
            result = rate(table.rows(arm.label), metric)
            rows.append(
                {
                    "pair": f"{direct.label} / {reasoning.label}",
                    "kind": kind,
                    "arm": arm.label,
                    **result.columns(),
                    **{key: comparison[key] for key in ("difference", "p_bootstrap", "p_mcnemar")},
                    "point": point(table, arm.label),
                }
            )
    # One series per mode, since the pairs are the categories of the axis.
    figure = dots(
        [(kind, [row for row in rows if row["kind"] == kind]) for kind in ("direct answer", "reasoning")],
        Axes("pair", "value", "", metric.label, percent=True),
        tip=lambda row: f"{label(row['arm'])} ({row['kind']})<br>{estimate(metric, row)}",
        places=(6, 7),  # the colours of no arm
        **_chance_line(table, metric),
    )
    findings = [_finding(versus(table, a.label, b.label, metric), metric) for a, b in pairs]
    notes = (
        "Pairs share a checkpoint and differ in the mode (budgets and sampling may differ too), or differ by a dagger "
        "or 'thinks' in their names.",
        f"{plural(len(pairs), 'comparison')} made: p_holm in the table is corrected for them (Holm).",
    )
    return Exhibit(
        "modes", title, caption(findings), figure, pd.DataFrame(rows).drop(columns="point"), notes, "Figure 1"
    )


def control(table: RunTable, choice: Choice) -> Exhibit:
    """Return the paired change of the metric under each control."""
    metric = metric_of(choice.metric)
    metric_name = metric.label if "_" in metric.label else metric.label.lower()
    title = f"Controls: what one change does to {metric_name}"
    rows = control_rows(table, metric)
    if rows.empty or rows["difference"].isna().all():
        return Exhibit("controls", title, _NO_CONTROL)
    figure = forest(
        [row | {"point": point(table, row["arm"])} for row in rows.to_dict("records")],
        "difference",
        names=lambda row: f"{row['minus']}: {row['control']}",
        x_title=f"Difference in {metric_name}, on the same items",
        percent=metric.percent,
        tip=lambda row: (
            f"{label(row['arm'])} minus {label(row['minus'])}<br>"
            f"{difference(metric, row['difference'], row['low'], row['high'])}<br>{paired_p(row)}; "
            f"{size_of(row)}"
        ),
        places=lambda row: table.labels.index(row["minus"]),
    )
    findings = [
        f"{row['minus']} with {row['control']}: {difference(metric, row['difference'], row['low'], row['high'])}, "
        f"{paired_p(row)}."
        for row in rows.to_dict("records")
        if pd.notna(row["difference"])
    ]
    kinds = {pair.what for pair in controls(table)}
    notes = [f"{metric.label}: {metric.meaning}. Differences are paired by item."]
    notes.append(f"{plural(len(rows), 'comparison')} made: p_holm in the table is corrected for them (Holm).")
    if "silent audio" in kinds or "shuffled audio" in kinds:
        notes += ["Silent or shuffled audio is the floor: what is right there does not rest on the item's own audio."]
    if "true events given" in kinds:
        notes += ["With the true events given, perception has no errors: what is still wrong is an error of reasoning."]
    if any(pair.setting == "hide_audio_after" for pair in controls(table)):
        notes.append("With the audio masked, what falls is what the later trace still takes from the audio.")
    return Exhibit("controls", title, caption(findings), figure, rows, tuple(notes))


def levels(table: RunTable, choice: Choice) -> Exhibit:
    """Return the metric and F1 under each control, with their intervals."""
    metric = metric_of(choice.metric)
    title = f"{metric.label} under each control"
    rows = control_levels(table, with_f1(table.frame, metric))
    if rows.empty:
        return Exhibit("levels", title, _NO_CONTROL, None, rows)
    several = rows["metric"].nunique() > 1
    series, hues, symbols = [], [], []
    metric_names = list(rows["metric"].unique())
    for (reference, name), group in rows.groupby(["reference", "metric"], sort=False):
        hues.append(table.labels.index(reference))
        symbols.append(metric_names.index(name) if several else hues[-1])
        points = [row | {"point": point(table, row["arm"])} for row in group.to_dict("records")]
        series.append((f"{reference}: {name}" if several else str(reference), points))
    figure = dots(
        series,
        Axes("control", "value", "", "Rate" if several else metric.label, percent=metric.percent),
        tip=lambda row: f"{label(row['arm'])}<br>{label(row['metric'])} {estimate(metric, row)}<br>{size_of(row)}",
        places=symbols,
        hues=hues,
    )
    findings = []
    for legend, points in series:
        baseline, *variants = points
        if baseline["control"] != "unchanged":
            continue
        clauses = [f"{value(metric, row['value'])} with {row['control']}" for row in variants]
        findings.append(f"{legend}: {value(metric, baseline['value'])} unchanged, {listed(clauses)}.")
    notes = ("Intervals: 95 % over clips. Whether two of these differ is for the paired differences to say, below.",)
    return Exhibit("levels", title, caption(findings), figure, rows, notes)


def over_seeds(table: RunTable, choice: Choice) -> Exhibit:
    """Return the spread over seeds, for arms with several seeds."""
    metric = metric_of(choice.metric)
    title = f"{metric.label} over seeds"
    rows = seeds(table, metric)
    if rows.empty:
        return Exhibit(
            "seeds",
            title,
            "No arm here ran or was trained under two seeds: evaluate again with another --seed into another folder "
            "and load both, or name trainings 'NAME seed 0', 'NAME seed 1'.",
        )
    bars = [row | {"low": row["lowest"], "high": row["highest"]} for row in rows.to_dict("records")]
    figure = forest(
        bars,
        "mean",
        names=lambda row: f"{row['arm']} ({row['seeds']} seeds)",
        x_title=f"Mean {metric.label.lower()}, from the lowest to the highest seed",
        percent=metric.percent,
        tip=lambda row: f"{label(row['arm'])}<br>mean {value(metric, row['mean'])}",
        zero=None,
    )
    findings = [
        f"{row['arm']}: {value(metric, row['mean'])} over {row['seeds']} seeds of {row['of']}, "
        f"from {value(metric, row['lowest'])} to {value(metric, row['highest'])}."
        for row in rows.to_dict("records")
    ]
    notes = ["Whiskers span the seeds; they are no interval."]
    if any(not table.arm(name).get("temperature", 0) for name in table.labels):
        notes.append("At temperature 0 an arm answers alike under every seed, unless its audio is shuffled.")
    return Exhibit("seeds", title, caption(findings), figure, rows, tuple(notes))


def _chance_line(table: RunTable, metric: Metric) -> dict[str, Any]:
    """Return the chance line of a figure of accuracy, as options of a drawing."""
    chance = chance_of(table.frame) if metric.name in ("accuracy", "strict") else None
    if chance is None:
        return {}
    return {"reference": chance, "reference_label": f"chance {value(metric, chance)}"}


def rules(table: RunTable, choice: Choice) -> Exhibit:
    """Return every arm's perception under every counting rule, to show how far a number depends on the rule."""
    title = "Perception under each counting rule"
    # Only arms with verdicts by mention can be counted under every rule.
    rows = []
    bases: dict[str, str] = {}
    for name in table.labels:
        answers = table.rows(name)
        if not rate(answers, metric_of("acc_per_mention")).estimate:
            continue
        base = bases.setdefault(benchmark_of(table, table.arm(name)), name)
        for rule in RULES:
            metric = metric_of(rule)
            result = rate(answers, metric)
            comparison = versus(table, base, name, metric) if base != name else {}
            rows.append({"arm": name, "metric": metric.label, **result.columns(), **difference_columns(comparison)})
    if not rows:
        reason = "No trace here is judged mention by mention: run 'mpar2 cafe score RUN --judge reference'."
        return Exhibit("rules", title, reason)
    # The number of mentions per event is no rate, so it is in the table only.
    sheet = corrected(pd.DataFrame(rows))
    count_label = metric_of("mentions_per_event").label
    arms_shown = list(dict.fromkeys(row["arm"] for row in rows))
    rate_rows = [row | {"point": point(table, row["arm"])} for row in rows if row["metric"] != count_label]
    figure = dots(
        [(name, [row for row in rate_rows if row["arm"] == name]) for name in arms_shown],
        Axes("metric", "value", "", "Rate, pooled over traces", percent=True),
        places=[table.labels.index(name) for name in arms_shown],
        tip=lambda row: f"{label(row['arm'])}<br>{row['metric']} {estimate(_PERCEPTION, row)}<br>{size_of(row)}",
    )
    findings = [sentence for rule in RULES[:4] for sentence in finding(table, metric_of(rule))[:1]]
    findings = findings or ["No pair of base and MPAR² is here: see the table."]
    notes = [metric_of(rule).label + ": " + metric_of(rule).meaning + "." for rule in RULES]
    notes.append(
        "Acc_per counts an event as misused if any mention of it is wrong. A conclusion that holds under one rule only "
        "is one about that rule."
    )
    return Exhibit("rules", title, caption(findings), figure, sheet, tuple(notes))


def _difference_clause(metric: Metric, row: dict[str, Any]) -> str:
    if pd.isna(row["difference"]):
        return ""
    delta = difference(metric, row["difference"], row["difference_low"], row["difference_high"])
    return f" ({metric.label} minus that of {row['minus']}: {delta}, {paired_p(row)})"


def _finding(row: dict[str, Any], metric: Metric) -> str:
    if row["difference"] is None:
        return f"{row['arm']} and {row['minus']} share no item."
    return (
        f"{row['arm']} minus {row['minus']}: {difference(metric, row['difference'], row['low'], row['high'])}, "
        f"{paired_p(row)}, on {size_of(row)} in common."
    )
