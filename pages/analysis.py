"""The Analysis tab: figures over finished runs, shipped or brought, the traces behind them, and the paper's numbers.

Nothing is loaded or drawn before a visitor opens the tab. All figures follow one choice of arms, metric, bins and
filters; what went wrong is said in the place of the figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import gradio as gr

from analysis import AnalysisError
from analysis.choice import BINNINGS, LENGTHS, OUTCOMES, Choice, apply_choice, choice_from, levels
from analysis.exhibit import Exhibit
from analysis.exhibits import EXHIBITS, build_exhibits, rows_of
from analysis.load import RunTable
from analysis.metrics import METRICS
from analysis.paper import beside_ours, paper_exhibits
from analysis.report import plotly_js, view_css, view_js
from analysis.style import DARK
from mpar2.runs import RunError
from pages.analysis_runs import Shelf, compared, joined, load_upload, traces_document
from pages.analysis_training import TrainingLogs, build_training
from pages.errors import guarded
from pages.export import script
from pages.safe_html import component, note, stored_view

__all__ = ["build_analysis"]

_FILTERS = ("domain", "difficulty", "category")
_FIRST_ARMS = 4  # shown at first; more is a thicket
_NO_RUN = (
    "No run is shown. Choose one on the left, or bring your own: 'mpar2 evaluate … --out RUN' makes a folder; "
    "zip it and upload it here. 'mpar2 cafe score RUN' adds what its traces perceive."
)


def build_analysis(tab: gr.Tab, shelf: Shelf | None = None) -> None:
    """Put the tab's content into the open ``gr.Tab``."""
    shelf = shelf or Shelf()
    names = shelf.names()
    first = (
        [shelf.first] if shelf.first else []
    )  # one at first: two benchmarks in one figure are for those who ask for them
    # always_last: a choice made while figures are drawn is drawn next, not dropped
    settings = {"api_visibility": "private", "concurrency_id": "analysis", "concurrency_limit": 2}
    settings |= {"trigger_mode": "always_last"}
    opened, upload = gr.State(False), gr.State(None, time_to_live=3600)
    with gr.Row(elem_classes="mp-layout", equal_height=False):
        with gr.Column(elem_classes="mp-form", min_width=300):
            runs = gr.Dropdown(names, value=first, multiselect=True, label="Runs", elem_id="runs", visible=bool(names))
            file = gr.File(
                label="Your own run: a zip of its folder, or its items.jsonl",
                file_types=[".zip", ".jsonl"],
                type="filepath",
                height=150,
                elem_id="run-file",
            )
            message = note("run-note")
            arms = gr.Dropdown([], multiselect=True, label="Arms, the first as the base", elem_id="arms")
            metric = gr.Dropdown(
                [(known.label, name) for name, known in METRICS.items()],
                value="accuracy",
                label="Metric",
                elem_id="metric",
            )
            with gr.Accordion("Bins and length", open=False):
                binning = gr.Radio(
                    [(text, name) for name, text in BINNINGS.items()], value="count", label="Bins", elem_id="binning"
                )
                bins = gr.Slider(2, 20, value=8, step=1, label="How many bins at most", elem_id="bins")
                length = gr.Radio(
                    [(text, name) for name, text in LENGTHS.items()], value="tokens", label="Length", elem_id="length"
                )
            with gr.Accordion("Only some items", open=False):
                filters = [
                    gr.Dropdown([], multiselect=True, label=name.capitalize(), elem_id=f"filter-{name}")
                    for name in _FILTERS
                ]
                outcome = gr.Radio(
                    [(text, name) for name, text in OUTCOMES.items()], value="all", label="Answers", elem_id="outcome"
                )
            gr.HTML(
                "<p class=mp-privacy>Uploads are read, never run; they stay on this server for at most an hour.</p>",
                padding=False,
                apply_default_css=False,
            )
        with gr.Column(elem_classes="mp-result-column", min_width=320):
            traces = _traces_view()
            stored = stored_view("stored")
            with gr.Tabs(elem_id="analysis-tabs"):
                with gr.Tab("Measured", id="measured"):
                    figures = _exhibits_view("figures", clicks=True)
                with gr.Tab("Training", id="training") as training_tab:
                    build_training(
                        training_tab,
                        TrainingLogs(shelf.root / "training"),
                        lambda: _exhibits_view("training", clicks=False),
                        _value,
                        settings,
                    )
                with gr.Tab("What the paper reports", id="paper") as paper_tab:
                    paper = _exhibits_view("paper", clicks=False)

    form = [arms, metric, binning, bins, length, outcome, *filters]
    source = [runs, upload]

    def table_of(chosen: Sequence[str] | None, brought: RunTable | None) -> RunTable | None:
        tables = shelf.tables(list(chosen or ()))
        return joined([*tables, brought] if brought is not None else tables)

    def controls(table: RunTable | None) -> list[Any]:
        """The form's lists for other runs; what no longer exists is not chosen any more."""
        if table is None:
            return [gr.Dropdown([], value=[]) for _ in (arms, *filters)]
        labels = table.labels
        found = [gr.Dropdown(labels, value=labels[:_FIRST_ARMS])]
        return found + [gr.Dropdown(levels(table.frame, name), value=[]) for name in _FILTERS]

    def on_runs(chosen: Any, brought: Any, *values: Any) -> tuple[Any, ...]:
        table = table_of(chosen, brought)
        shown, *rest = controls(table)
        fresh = [table.labels[:_FIRST_ARMS] if table else [], *values[1:6], *([] for _ in _FILTERS)]
        return _drawn(table, fresh), None, None, shown, *rest, True

    def on_open(done: bool, chosen: Any, brought: Any, *values: Any) -> tuple[Any, ...]:
        if done:
            return (gr.skip(),) * (5 + len(_FILTERS))
        return on_runs(chosen, brought, *values)

    def on_change(chosen: Any, brought: Any, *values: Any) -> tuple[Any, ...]:
        return _drawn(table_of(chosen, brought), values), None, None

    def on_file(path: str | None) -> tuple[Any, ...]:
        if not path:
            return None, None, first, None
        try:
            table = load_upload(path)
        except (AnalysisError, RunError) as error:
            return None, {"level": "error", "lines": [str(error)[:600]]}, first, None  # free for another try
        notes = [f"{len(table.frame):,} answers of {len(table.arms)} arms", *table.runs[0].notes]
        return table, {"level": "ok", "lines": notes}, [], path  # theirs alone, until they add others

    def on_point(event: gr.EventData, chosen: Any, brought: Any, *values: Any) -> tuple[Any, Any]:
        data = getattr(event, "_data", None)
        name, place = (data.get("name"), data.get("point")) if isinstance(data, dict) else (None, None)
        table = table_of(chosen, brought)
        if table is None or not isinstance(place, str) or name not in EXHIBITS:
            return None, None
        try:
            choice = _choice(values)
            rows = rows_of(table, choice, place)
            labels = apply_choice(table, choice).labels
        except (AnalysisError, RunError):
            return None, None
        shown = traces_document(table, rows, labels, _point_title(labels, place))
        first = shown["items"][0] if shown["items"] else None
        beside = first["beside"][0]["row"] if first and first["beside"] else None
        return shown, compared(table, first["row"], beside) if first else None

    def on_trace(event: gr.EventData, chosen: Any, brought: Any) -> Any:
        data = getattr(event, "_data", None)
        table = table_of(chosen, brought)
        if table is None or not isinstance(data, dict):
            return None
        return compared(table, data.get("row"), data.get("beside"))

    def on_paper(chosen: Any, brought: Any) -> dict[str, Any]:
        table = table_of(chosen, brought)
        if table is not None:
            table = apply_choice(table, Choice(arms=tuple(table.labels[:_FIRST_ARMS])))
        beside = Exhibit(
            "paper-beside-ours",
            "The paper's claims beside these runs",
            "Other models, other audio, another judge: the two columns answer the same question, not the same test.",
            None,
            beside_ours(table, Choice()),
        )
        return _value([*paper_exhibits(), beside])

    quiet = settings | {"show_progress": "hidden"}
    renewing = settings | {"show_progress_on": figures}  # on empty views it would lie over the tabs
    drawn = [figures, traces, stored]
    renewed = [*drawn, arms, *filters, opened]
    tab.select(guarded(on_open), [opened, *source, *form], renewed, **renewing)
    runs.input(guarded(on_runs), [*source, *form], renewed, **renewing)
    for brings in (file.upload, file.clear):
        loaded = brings(guarded(on_file), file, [upload, message, runs, file], **settings)
        loaded.success(guarded(on_runs), [*source, *form], renewed, **renewing)
    for field in (arms, metric, binning, length, outcome, *filters):
        field.input(guarded(on_change), [*source, *form], drawn, **quiet)
    bins.release(guarded(on_change), [*source, *form], drawn, **quiet)
    figures.select(guarded(on_point), [*source, *form], [traces, stored], **quiet)
    traces.select(guarded(on_trace), source, stored, **quiet)
    traces.clear(lambda: (None, None), None, [traces, stored], queue=False, api_visibility="private")
    paper_tab.select(guarded(on_paper), source, paper, **settings)


def _choice(values: Sequence[Any]) -> Choice:
    """The form's values, in the order of its components."""
    arms, metric, binning, bins, length, outcome, *filters = values
    return choice_from(
        {
            "arms": arms or (),
            "metric": metric,
            "binning": binning,
            "bins": int(bins),
            "length": length,
            "outcome": outcome,
            "filters": dict(zip(_FILTERS, (chosen or () for chosen in filters), strict=True)),
        }
    )


def _drawn(table: RunTable | None, values: Sequence[Any]) -> dict[str, Any]:
    if table is None:
        return _value([], _NO_RUN)
    try:
        return _value(build_exhibits(table, _choice(values)))
    except (AnalysisError, RunError) as error:
        return _value([], str(error)[:600])


def _value(exhibits: Sequence[Exhibit], message: str | None = None) -> dict[str, Any]:
    return {"exhibits": [exhibit.to_json() for exhibit in exhibits], "dark": DARK, "message": message}


def _point_title(labels: Sequence[str], place: str) -> str:
    given: Mapping[str, Any] = json.loads(place)
    title, column, low, high = labels[given["arm"]], given.get("column"), given.get("low"), given.get("high")
    if column in LENGTHS:
        return f"{title}: traces of {low:,.0f} to {high:,.0f} tokens"
    return f"{title}: {column.replace('_', '-')} {low}" if column else f"{title}: all traces"


def plotly_script(_arguments: Any = None) -> str:
    """Plotly's script; the page asks for it once, when it first draws."""
    return plotly_js()


@cache
def _prelude() -> str:
    """The script that both views start with: styles once, then the functions."""
    return (
        "if (!document.getElementById('an-style')) { const style = document.createElement('style'); "
        f"style.id = 'an-style'; style.textContent = {json.dumps(view_css())}; document.head.append(style); }}\n"
        f"{view_js()}\nconst root = element.querySelector('.an-view');\n"
    )


def _exhibits_view(elem_id: str, *, clicks: bool) -> gr.HTML:
    """Shows exhibits; event ``select`` carries the exhibit's ``name`` and the ``point``."""
    chosen = "(name, point) => trigger('select', { name, point })" if clicks else "null"
    js = (
        f"{_prelude()}"
        "const plotly = () => (window.mpPlotly ||= server.plotly_script().then((text) => {"
        " const script = document.createElement('script'); script.textContent = text; document.head.append(script);"
        " return window.Plotly; }));\n"
        f"const view = mountExhibits(root, {{ plotly, onPoint: {chosen} }});\n"
        "const draw = () => view.show(props.value);\nwatch('value', draw);\ndraw();"
    )
    return component(js, elem_id, [plotly_script], view="an-view")


def _traces_view() -> gr.HTML:
    js = (
        f"{_prelude()}{script('analysis.js')}\n"
        "const choose = (row, beside) => trigger('select', { row, beside });\n"
        "const draw = () => showTraces(root, props.value, choose, () => trigger('clear'));\n"
        "watch('value', draw);\ndraw();"
    )
    return component(js, "traces", view="an-view")
