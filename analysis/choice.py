"""Choice of arms, items, metric and bins, and the rows that it selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import AnalysisError
from analysis.load import RunTable
from analysis.metrics import metric_of

BINNINGS = {"count": "Equal count", "width": "Equal width"}
LENGTHS = {"tokens": "All generated tokens", "reasoning_tokens": "Tokens before the answer"}
OUTCOMES = {"all": "All answers", "right": "Right answers", "wrong": "Wrong answers"}
FILTERS = ("domain", "category", "sub_category", "difficulty", "needs_audio")
_MOST_BINS = 40


@dataclass(frozen=True)
class Choice:
    """Selection to show: arms (empty: all), metric, bins and filters. Arms are compared with the first.

    Raises:
        AnalysisError: A value is not allowed.
    """

    arms: tuple[str, ...] = ()
    metric: str = "accuracy"
    length: str = "tokens"
    binning: str = "count"
    bins: int = 8
    outcome: str = "all"
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        metric_of(self.metric)
        for name, value, allowed in (
            ("binning", self.binning, BINNINGS),
            ("length", self.length, LENGTHS),
            ("outcome", self.outcome, OUTCOMES),
        ):
            if value not in allowed:
                raise AnalysisError(f"{name} is {str(value)[:40]!r}; choose one of {', '.join(allowed)}")
        if not 2 <= self.bins <= _MOST_BINS:
            raise AnalysisError(f"{self.bins} bins; 2 to {_MOST_BINS} are possible")
        if unknown := set(self.filters) - set(FILTERS):
            raise AnalysisError(f"no filter {min(unknown)[:40]!r}: choose from {', '.join(FILTERS)}")


def apply_choice(table: RunTable, choice: Choice) -> RunTable:
    """Return the table with only the chosen arms (in the order chosen) and items."""
    labels = list(choice.arms) or table.labels
    arms = tuple(table.arm(label) for label in dict.fromkeys(labels))
    labels = [arm.label for arm in arms]
    mask = selected(table, choice, labels)
    new_index = np.cumsum(mask) - 1
    attention = table.attention[mask[table.attention["row"].to_numpy()]]
    attention = attention.assign(row=new_index[attention["row"].to_numpy()])
    rows = table.frame.copy(deep=False) if mask.all() else table.frame[mask].reset_index(drop=True)
    rows["arm"] = rows["arm"].cat.set_categories(labels)
    probes = table.probes[table.probes["arm"].isin(labels)]
    return RunTable(rows, attention.reset_index(drop=True), probes, arms, table.runs)


def selected(table: RunTable, choice: Choice, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Return the mask of the rows of some arms that the filters and the outcome of a choice leave, (n,)."""
    mask = table.frame["arm"].isin(labels).to_numpy(copy=True)
    for name, values in choice.filters.items():
        if values:
            mask &= table.frame[name].isin(values).to_numpy()
    if choice.outcome != "all":
        mask &= (table.frame["right"] == (choice.outcome == "right")).to_numpy()
    return mask


def levels(frame: pd.DataFrame, name: str) -> list[str]:
    """Return the values of a filter that occur: easy before hard, the rest by name."""
    values = [str(value) for value in frame[name].cat.remove_unused_categories().cat.categories]
    order = {"easy": 0, "medium": 1, "hard": 2}
    return sorted(values, key=lambda value: (order.get(value.lower(), 9), value.lower()))


def choice_from(values: Mapping[str, Any]) -> Choice:
    """Build a choice from values by field, such as those of a form; unknown names and None are ignored."""
    names = {f.name for f in fields(Choice)}
    options = {name: value for name, value in values.items() if name in names and value is not None}
    if "arms" in options:
        options["arms"] = tuple(map(str, options["arms"]))
    if "filters" in options:
        options["filters"] = {str(k): tuple(map(str, v)) for k, v in dict(options["filters"]).items() if v}
    return Choice(**options)


def command_of(choice: Choice, runs: tuple[str, ...], only: str | None = None) -> list[str]:
    """Return the arguments of the command that draws a choice, all exhibits or ``only`` one; defaults are left out."""
    words = ["mpar2", "report", *runs]
    default = Choice()
    for name in ("metric", "length", "binning", "bins", "outcome"):
        if (value := getattr(choice, name)) != getattr(default, name):
            words += [f"--{name}", str(value)]
    for arm in choice.arms:
        words += ["--arm", arm]
    for name, values in choice.filters.items():
        for value in values:
            words += [f"--{name.replace('_', '-')}", value]
    return [*words, *(["--only", only] if only else []), "--out", "report.html"]
