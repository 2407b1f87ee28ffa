"""All exhibits of a table of runs, in the order of a report, and the traces behind a point of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from analysis import AnalysisError, about_arms, about_effort, about_length
from analysis.choice import Choice, apply_choice, command_of, selected
from analysis.exhibit import Exhibit
from analysis.load import RunTable

EXHIBITS: dict[str, Callable[[RunTable, Choice], Exhibit]] = {
    "decay": about_length.decay,
    "curves": about_length.curves,
    "arms": about_arms.arms,
    "levels": about_arms.levels,
    "controls": about_arms.control,
    "modes": about_arms.modes,
    "slopes": about_length.slopes,
    "correlations": about_length.correlations,
    "forced": about_length.forced,
    "cafe": about_arms.cafe,
    "rules": about_arms.rules,
    "probes": about_arms.perception,
    "attention": partial(about_effort.attention, name="attention", position="relative", corrected=False),
    "attention-corrected": partial(
        about_effort.attention, name="attention-corrected", position="relative", corrected=True
    ),
    "attention-tokens": partial(about_effort.attention, name="attention-tokens", position="absolute", corrected=True),
    "frontier": about_effort.frontier,
    "budget": about_effort.budget,
    "seeds": about_arms.over_seeds,
}


def build_exhibits(
    table: RunTable, choice: Choice | None = None, only: Iterable[str] | None = None, runs: Iterable[str] = ()
) -> list[Exhibit]:
    """Build exhibits, all or those of ``only``: figures with their tables, captions and notes."""
    choice = choice or Choice()
    names = list(EXHIBITS) if only is None else list(only)
    if unknown := [name for name in names if name not in EXHIBITS]:
        raise AnalysisError(f"no exhibit {unknown[0][:40]!r}: choose from {', '.join(EXHIBITS)}")
    subset = apply_choice(table, choice)
    if subset.frame.empty:
        raise AnalysisError("no answer is left by these arms and filters: take one away")
    run_names = tuple(runs) or tuple(run.name for run in table.runs)
    return [
        replace(EXHIBITS[name](subset, choice), command=tuple(command_of(choice, run_names, name))) for name in names
    ]


def rows_of(table: RunTable, choice: Choice, point: str | Mapping[str, Any]) -> list[int]:
    """Return the rows behind a point of an exhibit.

    Args:
        point: The data of the point (``exhibit.point``), as the browser returns it. All fields are checked.

    Returns:
        Positions in ``table.frame``.

    Raises:
        AnalysisError: The point is damaged, or of another choice.
    """
    try:
        data = json.loads(point) if isinstance(point, str) else dict(point)
        if type(data["arm"]) is not int or data["arm"] < 0:
            raise ValueError
        label = (list(dict.fromkeys(choice.arms)) or table.labels)[data["arm"]]  # in the order of the figures
        column, low, high = data.get("column"), data.get("low"), data.get("high")
    except (ValueError, KeyError, TypeError, IndexError):
        raise AnalysisError("this point is of another selection: choose it again") from None
    mask = selected(table, choice, [label])
    if column in ("tokens", "reasoning_tokens"):
        if not all(isinstance(bound, (int, float)) for bound in (low, high)):
            raise AnalysisError("this point has no bounds: choose it again")
        lengths = table.frame[column].to_numpy()
        mask &= (lengths >= low) & ((lengths < high) | (lengths == low))
    elif column in ("domain", "category", "sub_category", "difficulty"):
        mask &= (table.frame[column] == str(low)).to_numpy()
    elif column is not None:
        raise AnalysisError("this point is of another selection: choose it again")
    return np.flatnonzero(mask).tolist()
