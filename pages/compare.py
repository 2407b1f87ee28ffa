"""The Compare tab: a form on the left, the comparison on the right, and the handlers between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from mpar2.audio import AudioError, load_clip
from mpar2.llm.services import service_named
from pages.errors import guarded, message_of
from pages.examples import Example, stored_comparison
from pages.limits import visitor_of
from pages.running import Asked, Comparer, split_choices
from pages.safe_html import comparison_view, gallery, note, suggestions
from pages.scoring import Judging, judge_choices
from pages.services import MODES, Services
from pages.suggested import QUESTIONS, suggestion_value

__all__ = ["build_compare"]

_MODE_NAMES = {"direct": "Direct answer", "cot": "Free reasoning", "mpar2": "MPAR²"}
_MODE_HELP = (
    "<p class=mp-privacy>Mode is how a model is asked: <b>direct answer</b>, no reasoning; <b>free reasoning</b>, "
    "think aloud, then answer; <b>MPAR²</b>, say what is heard, reason in steps, check each claim, then answer.</p>"
)
_LONGEST_QUERY = 2000  # characters of a link's question or choice


def build_compare(services: Services, demo: gr.Blocks) -> None:
    """Put the tab into the open ``gr.Blocks``."""
    comparer = Comparer(services)
    left, right = services.offers[0], services.offers[min(1, len(services.offers) - 1)]
    names = [offer.name for offer in services.offers]
    modes = [(_MODE_NAMES[mode], mode) for mode in MODES]

    with gr.Row(elem_classes="mp-layout", equal_height=False):
        with gr.Column(elem_classes="mp-form", min_width=300):
            if services.examples:
                gr.HTML("<h2 class=mp-form-title>Start from an example</h2>", padding=False, apply_default_css=False)
            cards = gallery("gallery")
            gr.HTML("<h2 class=mp-form-title>Or ask about your own sound</h2>", padding=False, apply_default_css=False)
            audio = gr.Audio(
                label=f"Audio, up to {services.limits.max_seconds:.0f} s",
                type="filepath",
                sources=["upload", "microphone"],
                editable=False,
                buttons=[],
                elem_id="audio",
            )
            clip_note = note("clip-note")
            question = gr.Textbox(
                label="Question",
                lines=2,
                max_lines=4,
                max_length=services.visitors.question_chars,
                elem_id="question",
            )
            choices = gr.Textbox(
                label="Choices, one a line (or none)",
                lines=4,
                max_lines=8,
                max_length=6000,
                elem_id="choices",
            )
            suggested = suggestions("suggestions")
            with gr.Row(elem_classes="mp-arm-form"):
                left_name = gr.Dropdown(names, value=left.name, label="Model A", elem_id="left-model")
                left_mode = gr.Dropdown(modes, value="cot", label="Mode", elem_id="left-mode")
            with gr.Row(elem_classes="mp-arm-form"):
                right_name = gr.Dropdown(names, value=right.name, label="Model B", elem_id="right-model")
                right_mode = gr.Dropdown(modes, value="mpar2", label="Mode", elem_id="right-mode")
            gr.HTML(_MODE_HELP, padding=False, apply_default_css=False)
            with gr.Accordion("Truth and judge", open=False):
                answer = gr.Textbox(
                    label="True answer, if you know it",
                    info="One of the choices, word for word, where there are choices.",
                    max_length=300,
                    elem_id="answer",
                )
                events = gr.Textbox(
                    label="What is audible, one event a line",
                    info="For example: dog bark 0.5-1.5. Mentions in the traces are checked against this list.",
                    lines=3,
                    max_length=6000,
                    elem_id="events",
                )
                judge = gr.Radio(
                    judge_choices(),
                    value="rules",
                    label="Mentions are checked by",
                    info="Rules need known events: an example's, or those listed above.",
                    elem_id="judge",
                )
                secret = gr.Textbox(
                    label="Key",
                    info="Used for this run only, kept nowhere.",
                    type="password",
                    visible=False,
                    max_length=400,
                    elem_id="judge-key",
                )
                address = gr.Textbox(
                    label="Server address", placeholder="https://host/v1", visible=False, max_length=400
                )
                judge_model = gr.Textbox(label="Judge model", visible=False, max_length=200)
            with gr.Accordion("Decoding", open=False):
                tokens = gr.Slider(
                    1,
                    max(2, services.max_new_tokens),
                    value=services.max_new_tokens,
                    step=1,
                    label="Longest trace, tokens",
                    info="A token is about a short word. A trace that needs more is cut and says so.",
                )
                temperature = gr.Slider(
                    0, 1.5, value=0, step=0.1, label="Temperature", info="0 always takes the likeliest word (greedy)."
                )
                seed = gr.Number(
                    value=0, precision=0, label="Seed", info="Above temperature 0, the same seed gives the same trace."
                )
            with gr.Row(elem_classes="mp-run"):
                run = gr.Button("Compare", variant="primary", elem_id="run")
                stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False)
            gr.HTML(
                "<p class=mp-privacy>Uploads are deleted when you leave, after an hour at the latest, and are never "
                "part of a link.</p>",
                padding=False,
                apply_default_css=False,
            )
        with gr.Column(elem_classes="mp-result-column", min_width=320):
            view = comparison_view()

    form = [audio, question, choices, left_name, left_mode, right_name, right_mode]
    details = [answer, events, judge, secret, address, judge_model, tokens, temperature, seed]

    def session_of(request: gr.Request | None) -> str:
        return str(getattr(request, "session_hash", None) or "")

    def at_rest(request: gr.Request) -> tuple[Any, ...]:
        services.line.leave(session_of(request))
        return gr.Button(interactive=True), gr.Button(interactive=False)

    def on_run(request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        session, asked = session_of(request), _asked(values, services.max_new_tokens)
        services.line.join(session)
        try:
            for document in comparer.run(asked, session, visitor=visitor_of(request)):
                yield document, gr.Button(interactive=False), gr.Button(interactive=True)
        finally:
            services.line.leave(session)

    def on_ask(request: gr.Request) -> None:
        if ahead := services.line.join(session_of(request)):
            gr.Info(f"The app is busy: you are number {ahead + 1} in the line. Your comparison starts by itself.")

    def on_judge(kind: str) -> tuple[Any, ...]:
        brought, server = kind != "rules", kind != "rules" and service_named(kind).needs_address
        return gr.Textbox(visible=brought), gr.Textbox(visible=server), gr.Textbox(visible=brought)

    def on_stop(request: gr.Request) -> None:
        services.stops.stop(session_of(request))

    def on_leave(request: gr.Request) -> None:
        on_stop(request)
        services.line.leave(session_of(request))
        services.uploads.release(session_of(request))

    def on_clip(path: str | None, request: gr.Request) -> dict[str, Any] | None:
        if not path:
            return None
        services.uploads.hold(session_of(request), path)
        try:
            clip = load_clip(path, limits=services.limits)
        except AudioError as error:
            return {"level": "error", "lines": [message_of(error)]}
        return {"level": "warning", "lines": list(clip.warnings)} if clip.warnings else None

    def fill(example: Example) -> tuple[Any, ...]:
        known = example.question
        return (str(example.clip_path), known.text, "\n".join(known.choices), "", "", stored_comparison(example))

    def on_example(event: gr.EventData) -> tuple[Any, ...]:
        example = services.example(_payload(event, "name"))
        if example is None:
            raise AudioError("That example is not here any more: reload the page.")
        filled = fill(example)
        known = filled[-1] is not None
        return (*filled[:-1], filled[-1] if known else gr.skip(), not known)

    def on_new(request: gr.Request, wanted: bool, *values: Any) -> Iterator[tuple[Any, ...]]:
        if wanted:  # nothing is stored for this example: one click runs it
            yield from on_run(request, *values)
        else:
            yield gr.skip(), gr.skip(), gr.skip()

    def on_suggestion(event: gr.EventData) -> tuple[str, str]:
        index = _payload(event, "index")
        if not isinstance(index, int) or not 0 <= index < len(QUESTIONS):
            return gr.skip(), gr.skip()
        text, options = QUESTIONS[index]
        return text, "\n".join(options)

    def on_load(request: gr.Request) -> tuple[Any, ...]:
        wanted = _from_link(request)
        example = services.example(wanted.get("example") or (None if wanted else services.first_example))
        filled = list(fill(example)) if example else [None, "", "", "", "", None]
        arms = [left.name, "cot", right.name, "mpar2"]
        if "q" in wanted:
            asked = (wanted["q"], tuple(split_choices(wanted["choices"])))
            if example is None or asked != (example.question.text, example.question.choices):
                filled[5] = None  # the stored comparison answers another question
            filled[1:3] = wanted["q"], wanted["choices"]
        for place, key in ((0, "arm1"), (2, "arm2")):
            name, _, mode = wanted.get(key, "").rpartition(":")
            if name in names and mode in MODES:
                arms[place : place + 2] = name, mode
        if filled[5] is not None and arms != _stored_arms(filled[5]):
            filled[5] = filled[5] if not wanted.get("arm1") else None
        cards_value = [item.card() for item in services.examples]
        return (*filled, *arms, cards_value, suggestion_value())

    private = {"api_visibility": "private", "show_progress": "hidden"}
    alone = {"concurrency_id": "engine", "concurrency_limit": 1}  # one comparison at a time, the others queue
    targets = [audio, question, choices, answer, events, view]
    not_stored = gr.State(False)
    picked = cards.select(guarded(on_example), None, [*targets, not_stored], **private)
    for runs in (
        run.click(guarded(on_run), [*form, *details], [view, run, stop], **alone, **private),
        picked.success(guarded(on_new), [not_stored, *form, *details], [view, run, stop], **alone, **private),
    ):
        for ending in (runs.success, runs.failure):
            ending(at_rest, None, [run, stop], queue=False, **private)
    run.click(on_ask, None, None, concurrency_limit=None, **private)
    stop.click(on_stop, None, None, queue=False, **private)
    demo.unload(on_leave)
    judge.change(on_judge, judge, [secret, address, judge_model], queue=False, **private)
    audio.change(guarded(on_clip), audio, clip_note, **private)
    suggested.select(guarded(on_suggestion), None, [question, choices], **private)
    demo.load(
        guarded(on_load), None, [*targets, left_name, left_mode, right_name, right_mode, cards, suggested], **private
    )


def _asked(values: Sequence[Any], most_tokens: int) -> Asked:
    """The form's values, in the order of its components."""
    audio, question, choices, *rest = values
    left, left_mode, right, right_mode, answer, events, *rest = rest
    judge, secret, address, judge_model, tokens, temperature, seed = rest
    return Asked(
        audio=audio,
        question=question or "",
        choices=choices or "",
        arms=((left, left_mode), (right, right_mode)),
        answer=answer or "",
        events=events or "",
        max_new_tokens=most_tokens if tokens is None else tokens,
        temperature=0.0 if temperature is None else temperature,
        seed=0 if seed is None else seed,
        judging=Judging(judge, secret or "", address or "", judge_model or ""),
    )


def _payload(event: gr.EventData, key: str) -> Any:
    """A value of an event of our own scripts; anybody can send anything in its place."""
    data = getattr(event, "_data", None)
    return data.get(key) if isinstance(data, dict) else None


def _from_link(request: gr.Request) -> dict[str, str]:
    """What a link asks for: example, q, choices (one a line), arm1, arm2."""
    query = request.query_params
    found = {key: str(query[key])[:_LONGEST_QUERY] for key in ("example", "q", "arm1", "arm2") if key in query}
    if "q" in found:
        listed = query.getlist("choice") if hasattr(query, "getlist") else []
        found["choices"] = "\n".join(" ".join(str(choice).split())[:_LONGEST_QUERY] for choice in listed[:26])
    return found


def _stored_arms(document: dict[str, Any]) -> list[str]:
    return [value for arm in document["arms"] for value in (arm["name"], arm["mode"])]
