"""The Analysis tab: figures over finished runs, shipped or brought, their items, trainings, and the paper's numbers.

One view of our own (``view/analysis.js``) and the handlers behind it. The work is done in a child process
(``pages.analysis_process``), and none before a visitor opens the tab; what goes wrong is said in the place of the
figures. Values that a channel hands over carry the time (``at``): Gradio passes on only what differs from the value
before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
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
from pages.safe_html import channel, view_component

__all__ = ["GROUPS", "build_analysis", "setup_of", "warm_up"]

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
    brought = Brought()
    view = view_component("analysis", "mountAnalysis", setup=setup_of(shelf))
    item, training, paper, note = (
        channel(f"analysis-{name}", "analysis", name) for name in ("item", "training", "paper", "note")
    )
    # Seen by nobody: the view's own button hands its file over.
    file = gr.UploadButton("Your own run", type="filepath", elem_id="run-file", elem_classes="mp-offscreen")

    def values(what: str, event: gr.EventData, request: gr.Request) -> Iterator[Any]:
        sent = _data(event)
        mine = brought.packed(session_of(request)) if sent.get("mine") is True else None
        if what == "figures" and mine is None:
            return shelf.drawn(sent, lambda sent: values_of(what, shelf.root, sent))
        return values_of(what, shelf.root, sent, mine)

    def on_apply(event: gr.EventData, request: gr.Request) -> Iterator[dict[str, Any]]:
        number = _data(event).get("number")
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
            said, packed = read_upload(path)
        except AnalysisError as error:
            return {"level": "error", "lines": [str(error)[:600]], "at": time.monotonic()}
        brought.keep(session_of(request), visitor_of(request), packed)
        return {"level": "ok", **said, "at": time.monotonic()}

    quiet = {"api_visibility": "private", "concurrency_id": "analysis", "concurrency_limit": BUSY}
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
        sent = {"runs": [shelf.first]}
        try:
            for _ in shelf.drawn(sent, lambda sent: values_of("figures", shelf.root, sent)):
                pass
        except AnalysisError as error:  # the first visitor will be told
            _log.warning("the first figures could not be drawn yet: %s", error)


def setup_of(shelf: Shelf) -> dict[str, Any]:
    """Return what the page knows before anything is loaded."""
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


def _data(event: gr.EventData) -> Mapping[str, Any]:
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}
