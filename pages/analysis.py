"""The Analysis tab: figures over finished runs, shipped or uploaded, their items, trainings, and the paper's numbers.

The tab is a custom view (``view/analysis.js``) with its handlers. Work is done in a child process
(``pages.analysis_process``), and only after a visitor opens the tab. Errors are shown in place of the figures. Values
sent through a channel carry the time (``at``), because Gradio passes on only values that differ from the last one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from analysis import AnalysisError
from analysis.choice import BINNINGS, LENGTHS, OUTCOMES
from analysis.metrics import METRICS
from analysis.report import plotly_js, view_css
from analysis.style import DARK
from mpar2.runs import RunError
from pages.analysis_figures import FILTERS, FIRST_METRIC, MOST_ARMS, NO_RUN
from pages.analysis_process import BUSY, read_upload, values_of
from pages.analysis_runs import Brought, Shelf
from pages.errors import guarded
from pages.limits import session_of, visitor_of
from pages.published import publish
from pages.safe_html import channel, sent_by, view_component

GROUPS = (  # the contents of the tab
    ("Decay", ("decay", "curves")),
    ("Perception by arm", ("arms", "cafe", "rules", "probes")),
    ("Controls", ("controls", "levels", "modes")),
    ("Attention", ("attention", "attention-corrected", "attention-tokens")),
    ("Length and budget", ("slopes", "correlations", "forced", "frontier", "budget", "seeds")),
)


_log = logging.getLogger(__name__)


def build_analysis(shelf: Shelf | None = None) -> None:
    """Put the tab's content into the open ``gr.Tab``."""
    shelf = shelf or Shelf()
    brought_runs = Brought()
    view = view_component("analysis", "mountAnalysis", setup=setup_of(shelf))
    item, training, paper, note = (
        channel(f"analysis-{name}", "analysis", name) for name in ("item", "training", "paper", "note")
    )
    # Hidden: the view's own button passes its file to this one.
    file = gr.UploadButton("Your own run", type="filepath", elem_id="run-file", elem_classes="mp-offscreen")

    def values(kind: str, event: gr.EventData, request: gr.Request) -> Iterator[Any]:
        data = sent_by(event)
        own_run = brought_runs.packed(session_of(request)) if data.get("mine") is True else None
        if kind == "figures" and own_run is None:
            return shelf.drawn(data, lambda data: values_of(kind, shelf.root, data))
        return values_of(kind, shelf.root, data, own_run)

    def on_apply(event: gr.EventData, request: gr.Request) -> Iterator[dict[str, Any]]:
        number = sent_by(event).get("number")
        try:
            yield from (value | {"number": number} for value in values("figures", event, request))
        except (AnalysisError, RunError) as error:
            yield {"exhibits": [], "message": str(error)[:600], "dark": DARK, "number": number, "whole": True}

    def on_point(event: gr.EventData, request: gr.Request) -> dict[str, Any] | None:
        (value,) = values("point", event, request)
        return None if value is None else value | {"at": time.monotonic()}

    def on_training(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        (value,) = values("training", event, request)
        return value | {"dark": DARK}

    def on_paper(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        (value,) = values("paper", event, request)
        return value

    def on_file(path: str | None, request: gr.Request) -> dict[str, Any] | None:
        if not path:
            return None
        try:
            summary, packed = read_upload(path)
        except AnalysisError as error:
            return {"level": "error", "lines": [str(error)[:600]], "at": time.monotonic()}
        brought_runs.keep(session_of(request), visitor_of(request), packed)
        return {"level": "ok", **summary, "at": time.monotonic()}

    # Handlers are private to the page, and share the concurrency limit of the child processes.
    options = {"api_visibility": "private", "concurrency_id": "analysis", "concurrency_limit": BUSY}
    options |= {"show_progress": "hidden"}
    # A choice made while figures are drawn is drawn next, not dropped.
    latest_options = options | {"trigger_mode": "always_last"}
    view.apply(guarded(on_apply), None, view, **latest_options)
    view.select(guarded(on_point), None, item, **latest_options)
    view.expand(guarded(on_training), None, training, **latest_options)
    view.collapse(guarded(on_paper), None, paper, **latest_options)
    file.upload(guarded(on_file), file, note, **options)


def warm_up(shelf: Shelf) -> None:
    """Draw the initial figures of the tab in advance, so that the first visitor does not wait."""
    if shelf.first is not None:
        data = {"runs": [shelf.first]}
        try:
            for _ in shelf.drawn(data, lambda data: values_of("figures", shelf.root, data)):
                pass
        except AnalysisError as error:  # the first visitor sees the error
            _log.warning("the first figures could not be drawn yet: %s", error)


def setup_of(shelf: Shelf) -> dict[str, Any]:
    """Return the initial data of the page: runs, metrics, options and groups of figures."""
    from plotly import __version__

    return {
        "runs": shelf.names(),
        "first": shelf.first,
        "metrics": [[name, metric.label, metric.meaning] for name, metric in METRICS.items()],
        "metric": FIRST_METRIC,
        "binnings": list(map(list, BINNINGS.items())),
        "lengths": list(map(list, LENGTHS.items())),
        "outcomes": list(map(list, OUTCOMES.items())),
        "filters": list(FILTERS),
        "groups": [[name, list(exhibits)] for name, exhibits in GROUPS],
        "most_arms": MOST_ARMS,
        "plotly": publish("plotly.js", __version__, plotly_js),
        "styles": view_css(),
        "no_run": NO_RUN,
    }
