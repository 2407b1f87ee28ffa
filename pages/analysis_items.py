"""The item table and the summary of the Analysis tab."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from analysis.contrasts import versus
from analysis.load import RunTable
from analysis.metrics import metric_of, rate
from analysis.traces import fetch
from pages.stored_item import audio_of, linked_clips

_MOST_ITEMS = 2000
_MOST_QUESTIONS = 400  # texts that are read from the run for the table; the others show their id
_SHORTEST = 16  # tokens: an arm with shorter mean traces is no reasoning arm
_FIRST = 3
_MOST_RUNS = 6  # of which each has an arm among the first
_USUAL = {
    "audio": "normal",
    "perception": "own",
    "min_reasoning_tokens": 0,
    "max_reasoning_tokens": None,
    "hide_audio_after": None,
    "samples": 1,
}


def first_arms(table: RunTable) -> list[str]:
    """Return the default arms of the figures: up to three reasoning arms without interventions, else the first three.

    Controls, forced lengths and votes have figures of their own. Arms with direct answers have no reasoning length.
    Arms of several runs are taken in turn.
    """
    lengths = table.frame.groupby("arm", observed=True)["tokens"].mean()
    candidates = [
        arm
        for arm in table.arms
        if all(arm.get(key, usual) in (usual, None) for key, usual in _USUAL.items())
        and not lengths.get(arm.label, np.nan) < _SHORTEST
    ]
    by_run = [[arm.label for arm in candidates or table.arms if arm.run == run.name] for run in table.runs]
    limit = max(_FIRST, len(by_run)) if len(by_run) <= _MOST_RUNS else _FIRST
    return [name for round_labels in zip_longest(*by_run) for name in round_labels if name is not None][:limit]


def items_value(table: RunTable, arms: Sequence[str]) -> dict[str, Any]:
    """Return every item with the result of each arm.

    Returns:
        ``arms``, ``total`` (number of items), ``items``, the first 2,000 as [id, question, domain, difficulty,
        cells], and ``sound``, the ids of those whose recording can be played; a cell for each arm is [row, right,
        tokens, right claims, claims] or None.
    """
    frame = table.frame
    first = frame[frame["sample"] == 0]
    rows: dict[str, dict[str, int]] = {}
    labels = list(arms)
    for row, item, arm in zip(first.index, first["item"].astype(str), first["arm"].astype(str), strict=True):
        if arm in labels:
            rows.setdefault(item, {}).setdefault(arm, int(row))
    shown_items = list(rows.items())[:_MOST_ITEMS]
    question_rows = [next(iter(by_arm.values())) for _, by_arm in shown_items[:_MOST_QUESTIONS]]
    runs = {run.name: run for run in table.runs}
    run_of = dict(zip(frame["key"].iloc[question_rows], frame["run"].iloc[question_rows].astype(str), strict=True))
    clips = {run.name: linked_clips(run.source) if run.limits is None else {} for run in table.runs}
    questions, playable = {}, set()
    for record in fetch(table, question_rows):
        questions[record["id"]] = record["item"]["question"] or ""
        run = runs[run_of[record["key"]]]
        if audio_of(run, record["item"], clips[run.name]):
            playable.add(record["id"])
    columns = {name: frame[name].to_numpy() for name in ("right", "tokens", "matched", "n_pred")}
    ids, domains, levels = (frame[name].astype(object).to_numpy() for name in ("id", "domain", "difficulty"))

    def number(name: str, row: int) -> float | None:
        value = float(columns[name][row])
        return value if np.isfinite(value) else None

    items = []
    for _, by_arm in shown_items:
        first_row = next(iter(by_arm.values()))
        cells = [
            None
            if (row := by_arm.get(arm)) is None
            else [row, *(number(name, row) for name in ("right", "tokens", "matched", "n_pred"))]
            for arm in labels
        ]
        metadata = [None if value != value else str(value) for value in (domains[first_row], levels[first_row])]
        items.append([str(ids[first_row]), questions.get(ids[first_row], ""), *metadata, cells])
    return {"arms": labels, "items": items, "total": len(rows), "sound": sorted(playable)}


def summary_value(table: RunTable, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Compare Acc_per and accuracy of each arm with those of the first.

    Returns:
        For each metric that the first arm has: its value, and of each other arm the value and the paired difference
        with its 95 % interval.
    """
    if not arms:
        return []
    summaries = []
    for metric in (metric_of("acc_per"), metric_of("accuracy")):
        base = rate(table.frame[table.frame["arm"] == arms[0]], metric)
        if base.estimate is None or not np.isfinite(base.estimate):
            continue
        lines = []
        for arm in arms[1:]:
            result = rate(table.frame[table.frame["arm"] == arm], metric)
            difference = versus(table, arms[0], arm, metric)
            if result.estimate is None or not np.isfinite(result.estimate):
                continue
            lines.append({"arm": arm, "value": result.estimate, **_interval(difference)})
        summaries.append(
            {"metric": metric.label, "name": metric.name, "base": arms[0], "value": base.estimate, "arms": lines}
        )
    return summaries


def _interval(difference: Any) -> dict[str, Any]:
    values = {
        key: float(value) if isinstance(value := difference.get(key), (int, float)) and np.isfinite(value) else None
        for key in ("difference", "low", "high")
    }
    low, high = values["low"], values["high"]
    return values | {"clear": low is not None and high is not None and (low > 0 or high < 0)}
