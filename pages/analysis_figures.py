"""Data of the Analysis tab: figures, items, and the answers behind a point. Independent of Gradio.

All figures follow one choice of runs, arms, metric, bins and filters. A figure about particular arms (controls, forced
lengths, seeds) uses all arms of the run if the chosen arms leave it empty. Data from the page is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from analysis.about_training import build_training_exhibits
from analysis.choice import LENGTHS, Choice, apply_choice, choice_from, levels
from analysis.exhibit import Exhibit
from analysis.exhibits import EXHIBITS, build_exhibits, rows_of
from analysis.load import RunTable
from analysis.paper import beside_ours, paper_exhibits
from analysis.style import DARK
from analysis.training_log import TrainingLog, families, load_logs
from mpar2.runs import RunError
from pages.analysis_items import first_arms, items_value, summary_value
from pages.analysis_runs import compared

FILTERS = ("domain", "difficulty", "category")
MOST_ARMS = 6
FIRST_METRIC = "acc_per"  # the tab opens on perception, the share of correct events in the traces
_FIRST_RECIPES = 4  # recipes shown by default
_NO_LOG = (
    "No training log is here. Train a recipe ('python -m training grpo --recipe tiny out=FOLDER'), then keep its small "
    "log: 'python -m training export FOLDER examples/runs/training/NAME'."
)
_NO_RECIPE = "No recipe is chosen: choose one above."
_FIRST_DRAWN = ("decay",)  # sent first, so that one figure is visible at once
NO_RUN = (
    "No run is shown. Choose one above, or bring your own: 'mpar2 evaluate … --out RUN' makes a folder; zip it and "
    "upload it here. 'mpar2 cafe score RUN' adds what its traces perceive."
)


def choice_of(table: RunTable, sent: Mapping[str, Any]) -> Choice:
    """Return the checked choice that a page sent, without arms that the runs do not have.

    Raises:
        AnalysisError: A metric or another name is not known.
    """
    arms = sent.get("arms")
    labels = [name for name in arms if name in table.labels] if isinstance(arms, list) else []
    if arms is None or (arms and not labels):
        labels = first_arms(table)
    filters = sent.get("filters") if isinstance(sent.get("filters"), dict) else {}
    bins = sent.get("bins")
    return choice_from(
        {
            "arms": labels[:MOST_ARMS],
            "metric": str(sent.get("metric") or FIRST_METRIC),
            "binning": str(sent.get("binning") or "count"),
            "bins": bins if type(bins) is int and 2 <= bins <= 20 else 8,
            "length": str(sent.get("length") or "tokens"),
            "outcome": str(sent.get("outcome") or "all"),
            "filters": {
                name: [value for value in values if isinstance(value, str)]
                for name, values in filters.items()
                if name in FILTERS and isinstance(values, list)
            },
        }
    )


def drawn(table: RunTable | None, sent: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the data of the tab: first the top figure with summary and items, then all figures.

    Yields:
        Exhibits as JSON, arms, levels of the filters, summary and items; ``whole`` is true in the last one.

    Raises:
        AnalysisError: No answer is left by the arms and filters, or an arm or metric does not exist.
    """
    if table is None:
        yield _value([], NO_RUN) | {"arms": [], "chosen": [], "whole": True}
        return
    if sent.get("arms") == []:
        message = "No arm is chosen: choose at least one above."
        yield _value([], message) | {"arms": table.labels, "chosen": [], "whole": True, "levels": _levels(table)}
        return
    choice = choice_of(table, sent)
    labels = list(choice.arms)
    context = {
        "arms": table.labels,
        "chosen": labels,
        "levels": _levels(table),
        "metric": choice.metric,
        "source": ", ".join(dict.fromkeys(run.name for run in table.runs)),
        "answers": len(table.frame),
    }
    first = _build(table, choice, _FIRST_DRAWN)
    chosen_table = apply_choice(table, replace(choice, outcome="all"))
    context["summary"] = summary_value(chosen_table, labels)
    context["items"] = items_value(table, labels)
    yield _value(first) | context | {"whole": False}
    other_names = [name for name in EXHIBITS if name not in _FIRST_DRAWN]
    yield _value([*first, *_build(table, choice, other_names)]) | context | {"whole": True}


def behind_point(table: RunTable | None, sent: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the items behind a point of a figure, or one item as a comparison.

    Args:
        table: The runs; None where none is chosen.
        sent: ``name`` of the exhibit, ``point``, and the choice that it was drawn with; or ``row`` and ``beside``
            alone.

    Returns:
        ``{"rows": positions, "title": words}``, or ``{"document": comparison or None}``; None where nothing is found.
    """
    if table is None:
        return None
    if (name := sent.get("name")) is None:
        return {"document": compared(table, sent.get("row"), sent.get("beside"))}
    point = sent.get("point")
    if not isinstance(point, str) or name not in EXHIBITS:
        return None
    for choice in (choice_of(table, sent), _with_all_arms(table, choice_of(table, sent))):
        try:
            rows = rows_of(table, choice, point)
            return {"rows": rows, "title": _point_title(list(choice.arms) or table.labels, point)}
        except (AnalysisError, RunError, IndexError):
            continue
    return None


def paper_value(table: RunTable | None) -> dict[str, Any]:
    """Return the numbers of the paper, and its claims beside the readings of the runs."""
    choice = Choice() if table is None else Choice(arms=tuple(first_arms(table)))
    comparison = Exhibit(
        "paper-beside-ours",
        "The paper's claims beside these runs",
        "Other models, other audio, another judge: the two columns answer the same question, not the same test.",
        None,
        beside_ours(table, choice),
    )
    return _value([*paper_exhibits(), comparison])


@lru_cache(maxsize=2)
def _logs(root: Path) -> tuple[list[TrainingLog], list[str]]:
    """Return the logs under a folder, read once, and an error message for each invalid one."""
    return load_logs(root)


def first_recipes(logs: Sequence[TrainingLog]) -> list[str]:
    """Return the default recipes: MPAR²'s, else the one with most seeds, else up to four with one seed.

    A single recipe with several seeds is drawn as one line with its spread.
    """
    recipes = families(logs)
    mpar2 = [name for name in recipes if name.lower().startswith(("mpar2", "mpar²", "tiny, grpo"))]
    if mpar2:
        return mpar2[:1]
    by_seeds = sorted(recipes, key=lambda name: -len(recipes[name]))
    return [name for name in by_seeds if len(recipes[name]) > 1][:1] or list(recipes)[:_FIRST_RECIPES]


def training_value(root: Path, chosen: Sequence[str] | None, window: int) -> dict[str, Any]:
    """Return the training figures of the page.

    Lines are moving means over ``window`` logged steps.

    Returns:
        Exhibits as JSON, the labels of all recipes and of the shown ones, and the logs that were left out, with
        reasons.
    """
    all_logs, problems = _logs(root)
    names = list(families(all_logs))
    labels = first_recipes(all_logs) if chosen is None else [name for name in chosen if name in names]
    message = _NO_LOG if not all_logs else None if labels else _NO_RECIPE
    exhibits = [] if message else build_training_exhibits(all_logs, labels, window)
    return {
        "exhibits": [exhibit.to_json() for exhibit in exhibits],
        "message": message,
        "recipes": names,
        "chosen": labels,
        "window": window,
        "left_out": [f"Left out: {problem[:300]}" for problem in problems],
    }


def _build(table: RunTable, choice: Choice, names: Sequence[str]) -> list[Exhibit]:
    """Return the named exhibits. An exhibit that the chosen arms leave empty uses all arms of the runs."""
    by_name = {exhibit.name: exhibit for exhibit in build_exhibits(table, choice, names)}
    empty = [name for name, exhibit in by_name.items() if exhibit.drawing is None and exhibit.table.empty]
    if empty and choice.arms:
        for exhibit in build_exhibits(table, _with_all_arms(table, choice), empty):
            if exhibit.drawing is not None or not exhibit.table.empty:
                by_name[exhibit.name] = exhibit
    return [by_name[name] for name in names]


def _with_all_arms(table: RunTable, choice: Choice) -> Choice:
    """Return the choice with all arms, the chosen ones first: an arm has one colour in all figures."""
    return replace(choice, arms=tuple(dict.fromkeys((*choice.arms, *table.labels))))


def _levels(table: RunTable) -> dict[str, list[str]]:
    return {name: levels(table.frame, name) for name in FILTERS}


def _value(exhibits: Sequence[Exhibit], message: str | None = None) -> dict[str, Any]:
    return {"exhibits": [exhibit.to_json() for exhibit in exhibits], "dark": DARK, "message": message}


def _point_title(labels: Sequence[str], point: str) -> str:
    data: Mapping[str, Any] = json.loads(point)
    title, column, low, high = labels[data["arm"]], data.get("column"), data.get("low"), data.get("high")
    if column in LENGTHS:
        return f"{title}: traces of {low:,.0f} to {high:,.0f} tokens"
    return f"{title}: {column.replace('_', '-')} {low}" if column else f"{title}: all traces"
