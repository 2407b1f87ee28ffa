"""The Analysis tab: figures over finished runs, shipped or brought, their items, trainings, and the paper's numbers.

One view of our own (``view/analysis.js``) and the handlers behind it. Nothing is loaded or drawn before a visitor opens
the tab. All figures follow one choice of runs, arms, metric, bins and filters, except those that are about particular
arms (controls, forced lengths, seeds): where the chosen arms leave one empty, it takes all arms of the run. What the
page sends is checked here; what goes wrong is said in the place of the figures. Values that a channel hands over carry
the time (``at``): Gradio passes on only what differs from the value before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from analysis import AnalysisError
from analysis.choice import BINNINGS, LENGTHS, OUTCOMES, Choice, apply_choice, choice_from, levels
from analysis.exhibit import Exhibit
from analysis.exhibits import EXHIBITS, build_exhibits, rows_of
from analysis.load import RunTable
from analysis.metrics import METRICS
from analysis.paper import beside_ours, paper_exhibits
from analysis.report import plotly_js, view_css
from analysis.style import DARK
from mpar2.runs import RunError
from pages.analysis_items import first_arms, items_value, summary_value
from pages.analysis_runs import Brought, Shelf, compared, joined, load_upload
from pages.analysis_training import TrainingLogs, training_value
from pages.errors import guarded
from pages.limits import session_of, visitor_of
from pages.published import publish
from pages.safe_html import channel, view_component

__all__ = ["GROUPS", "build_analysis", "choice_of", "drawn", "warm_up"]

_FILTERS = ("domain", "difficulty", "category")
_MOST_ARMS = 6
_FIRST_METRIC = "acc_per"  # the tab opens on perception: what is true of what the traces say
_FIRST_DRAWN = ("decay",)  # sent before the others, so that there is something to read at once
GROUPS = (  # the contents of the tab
    ("Decay", ("decay", "curves")),
    ("Perception by arm", ("arms", "cafe", "rules", "probes")),
    ("Controls", ("controls", "levels", "modes")),
    ("Attention", ("attention", "attention-corrected", "attention-tokens")),
    ("Length and budget", ("slopes", "correlations", "forced", "frontier", "budget", "seeds")),
)
_NO_RUN = (
    "No run is shown. Choose one above, or bring your own: 'mpar2 evaluate … --out RUN' makes a folder; zip it and "
    "upload it here. 'mpar2 cafe score RUN' adds what its traces perceive."
)


def build_analysis(shelf: Shelf | None = None) -> None:
    """Put the tab's content into the open ``gr.Tab``."""
    shelf = shelf or Shelf()
    logs = TrainingLogs(shelf.root / "training")
    brought = Brought()
    view = view_component("analysis", "mountAnalysis", setup=setup_of(shelf))
    item, training, paper, note = (
        channel(f"analysis-{name}", "analysis", name) for name in ("item", "training", "paper", "note")
    )
    # Seen by nobody: the view's own button hands its file over.
    file = gr.UploadButton("Your own run", type="filepath", elem_id="run-file", elem_classes="mp-offscreen")

    def table_of(sent: Mapping[str, Any], request: gr.Request) -> RunTable | None:
        names = [name for name in sent.get("runs") or () if isinstance(name, str)]
        mine = [brought.table(session_of(request))] if sent.get("mine") is True else []
        return joined([*shelf.tables(names[:8]), *mine])

    def on_apply(event: gr.EventData, request: gr.Request) -> Iterator[dict[str, Any]]:
        sent = _data(event)
        number = sent.get("number")
        try:
            table = table_of(sent, request)
            values = drawn(table, sent) if sent.get("mine") is True else shelf.drawn(table, sent, drawn)
            yield from (value | {"number": number} for value in values)
        except (AnalysisError, RunError) as error:
            yield {"exhibits": [], "message": str(error)[:600], "dark": DARK, "number": number, "whole": True}

    def on_point(event: gr.EventData, request: gr.Request) -> dict[str, Any] | None:
        """Return the items behind a point of a figure, or one item as a comparison."""
        sent = _data(event)
        table = table_of(sent, request)
        if table is None:
            return None
        if (name := sent.get("name")) is not None:
            place = sent.get("point")
            if not isinstance(place, str) or name not in EXHIBITS:
                return None
            for choice in (choice_of(table, sent), _with_all_arms(table, choice_of(table, sent))):
                try:
                    rows = rows_of(table, choice, place)
                    title = _point_title(list(choice.arms) or table.labels, place)
                    return {"rows": rows, "title": title, "at": time.monotonic()}
                except (AnalysisError, RunError, IndexError):
                    continue
            return None
        return {"document": compared(table, sent.get("row"), sent.get("beside")), "at": time.monotonic()}

    def on_training(event: gr.EventData) -> dict[str, Any]:
        sent = _data(event)
        chosen = [str(name) for name in sent["recipes"]] if isinstance(sent.get("recipes"), list) else None
        window = sent.get("window") if isinstance(sent.get("window"), int) else 5
        return training_value(logs, chosen, min(25, max(1, window))) | {"dark": DARK}

    def on_paper(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        table = table_of(_data(event), request)
        chosen = Choice() if table is None else Choice(arms=tuple(first_arms(table)))
        beside = Exhibit(
            "paper-beside-ours",
            "The paper's claims beside these runs",
            "Other models, other audio, another judge: the two columns answer the same question, not the same test.",
            None,
            beside_ours(table, chosen),
        )
        return _value([*paper_exhibits(), beside])

    def on_file(path: str | None, request: gr.Request) -> dict[str, Any] | None:
        if not path:
            return None
        try:
            table = load_upload(path)
        except (AnalysisError, RunError) as error:
            return {"level": "error", "lines": [str(error)[:600]], "at": time.monotonic()}
        notes = [f"{len(table.frame):,} answers of {len(table.arms)} arms", *table.runs[0].notes]
        brought.keep(session_of(request), visitor_of(request), table)
        return {"level": "ok", "lines": notes, "name": table.runs[0].name, "at": time.monotonic()}

    quiet = {"api_visibility": "private", "concurrency_id": "analysis", "concurrency_limit": 2}
    quiet |= {"show_progress": "hidden"}
    last = quiet | {"trigger_mode": "always_last"}  # a choice made while figures are drawn is drawn next, not dropped
    view.apply(guarded(on_apply), None, view, **last)
    view.select(guarded(on_point), None, item, **last)
    view.expand(guarded(on_training), None, training, **last)
    view.collapse(guarded(on_paper), None, paper, **last)
    file.upload(guarded(on_file), file, note, **quiet)


def warm_up(shelf: Shelf) -> None:
    """Draw what the tab opens on, so that the first visitor does not wait for it."""
    if shelf.first is not None:
        for _ in shelf.drawn(shelf.table(shelf.first), {"runs": [shelf.first]}, drawn):
            pass


def setup_of(shelf: Shelf) -> dict[str, Any]:
    """Return what the page knows before anything is loaded."""
    from plotly import __version__

    return {
        "runs": shelf.names(),
        "first": shelf.first,
        "metrics": [[name, metric.label, metric.meaning] for name, metric in METRICS.items()],
        "metric": _FIRST_METRIC,
        "binnings": list(map(list, BINNINGS.items())),
        "lengths": list(map(list, LENGTHS.items())),
        "outcomes": list(map(list, OUTCOMES.items())),
        "filters": list(_FILTERS),
        "groups": [[name, list(exhibits)] for name, exhibits in GROUPS],
        "most_arms": _MOST_ARMS,
        "plotly": publish("plotly.js", __version__, plotly_js),
        "styles": view_css(),
        "no_run": _NO_RUN,
    }


def choice_of(table: RunTable, sent: Mapping[str, Any]) -> Choice:
    """Return the choice that a page sent, checked; arms that the runs do not have are left out."""
    arms = sent.get("arms")
    known = [name for name in arms if name in table.labels] if isinstance(arms, list) else []
    if arms is None or (arms and not known):
        known = first_arms(table)
    filters = sent.get("filters") if isinstance(sent.get("filters"), dict) else {}
    bins = sent.get("bins")
    return choice_from(
        {
            "arms": known[:_MOST_ARMS],
            "metric": str(sent.get("metric") or _FIRST_METRIC),
            "binning": str(sent.get("binning") or "count"),
            "bins": bins if type(bins) is int and 2 <= bins <= 20 else 8,
            "length": str(sent.get("length") or "tokens"),
            "outcome": str(sent.get("outcome") or "all"),
            "filters": {
                name: [value for value in values if isinstance(value, str)]
                for name, values in filters.items()
                if name in _FILTERS and isinstance(values, list)
            },
        }
    )


def drawn(table: RunTable | None, sent: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the page shows of a table: first the figure on top with summary and items, then the rest.

    Raises:
        AnalysisError: no answer is left by the arms and filters, or an arm or metric does not exist.
    """
    if table is None:
        yield _value([], _NO_RUN) | {"arms": [], "chosen": [], "whole": True}
        return
    if sent.get("arms") == []:
        message = "No arm is chosen: choose at least one above."
        yield _value([], message) | {"arms": table.labels, "chosen": [], "whole": True, "levels": _levels(table)}
        return
    choice = choice_of(table, sent)
    chosen = list(choice.arms)
    known = {
        "arms": table.labels,
        "chosen": chosen,
        "levels": _levels(table),
        "metric": choice.metric,
        "source": ", ".join(dict.fromkeys(run.name for run in table.runs)),
        "answers": len(table.frame),
    }
    first = _built(table, choice, _FIRST_DRAWN)
    shown = apply_choice(table, replace(choice, outcome="all"))
    known["summary"] = summary_value(shown, chosen)
    known["items"] = items_value(table, chosen)
    yield _value(first) | known | {"whole": False}
    rest = [name for name in EXHIBITS if name not in _FIRST_DRAWN]
    yield _value([*first, *_built(table, choice, rest)]) | known | {"whole": True}


def _built(table: RunTable, choice: Choice, names: Sequence[str]) -> list[Exhibit]:
    """Return the named exhibits; one that the chosen arms leave empty takes all arms of the runs."""
    made = {exhibit.name: exhibit for exhibit in build_exhibits(table, choice, names)}
    empty = [name for name, exhibit in made.items() if exhibit.drawing is None and exhibit.table.empty]
    if empty and choice.arms:
        for exhibit in build_exhibits(table, _with_all_arms(table, choice), empty):
            if exhibit.drawing is not None or not exhibit.table.empty:
                made[exhibit.name] = exhibit
    return [made[name] for name in names]


def _with_all_arms(table: RunTable, choice: Choice) -> Choice:
    """Return the choice with all arms, the chosen ones first: an arm has one colour in all figures."""
    return replace(choice, arms=tuple(dict.fromkeys((*choice.arms, *table.labels))))


def _levels(table: RunTable) -> dict[str, list[str]]:
    return {name: levels(table.frame, name) for name in _FILTERS}


def _data(event: gr.EventData) -> Mapping[str, Any]:
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}


def _value(exhibits: Sequence[Exhibit], message: str | None = None) -> dict[str, Any]:
    return {"exhibits": [exhibit.to_json() for exhibit in exhibits], "dark": DARK, "message": message}


def _point_title(labels: Sequence[str], place: str) -> str:
    given: Mapping[str, Any] = json.loads(place)
    title, column, low, high = labels[given["arm"]], given.get("column"), given.get("low"), given.get("high")
    if column in LENGTHS:
        return f"{title}: traces of {low:,.0f} to {high:,.0f} tokens"
    return f"{title}: {column.replace('_', '-')} {low}" if column else f"{title}: all traces"
