"""The Compare tab: a custom view (form and result, ``view/compare.js``) with its handlers.

The page sends its form as the data of one event. The data is untrusted, so every value is checked here or in
``pages.running``. A visitor's sound comes through Gradio's own upload only, so no path can be addressed. Errors are
returned with the field of the form that they belong to.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from mpar2 import prompts
from mpar2.audio import AudioError, load_clip
from mpar2.cafe.judges import judge_named
from mpar2.engines.base import EngineError
from mpar2.errors import MPAR2Error
from mpar2.question import QuestionError
from pages.batch import MOST_CLIPS, Batches
from pages.document import audio_uri, clip_document, truth_document
from pages.errors import guarded, message_of
from pages.examples import Example, stored_comparison
from pages.export import page_shell
from pages.gpu import lends_gpus
from pages.limits import LimitError, session_of, visitor_of
from pages.line import ahead_of
from pages.occluding import WINDOWS
from pages.opinion import opinion_document, tagging_of
from pages.published import publish
from pages.results import RESULT_BYTES
from pages.running import Asked, Comparer
from pages.safe_html import app_module, channel, sent_by, view_component
from pages.scoring import Judging, JudgingError, judge_choices
from pages.services import Services, first_arms

_LONGEST = 8000  # characters of any text of the form
_REAL_MODELS = (  # command to serve the model, its requirements, and command to start the app with it as an arm
    (
        "llama-server -hf ggml-org/Qwen2.5-Omni-3B-GGUF -c 8192 --port 8080",
        "on a laptop: 3.4 GB to download, about 4.7 GB of memory",
        'python app.py --arm "server:http://127.0.0.1:8080/v1#Qwen2.5-Omni-3B:cot"',
    ),
    (
        "vllm serve Qwen/Qwen2.5-Omni-7B",
        "on a GPU: about 18 GB for the weights",
        'python app.py --arm "server:http://127.0.0.1:8000/v1#Qwen/Qwen2.5-Omni-7B:cot"',
    ),
)
# of the kinds that the shipped pairs were trained on, with choices only where they do not depend on the clip
_SUGGESTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What can be heard in the audio?", ()),
    ("Which sound comes first?", ()),
    ("Which sound comes last?", ()),
    ("Is there a dog bark in the clip?", ("Yes", "No")),
    ("How many separate times do you hear a bell?", ("1", "2", "3", "4")),
    ("Which sound comes right after the siren?", ()),
    ("Which sound is the longest?", ()),
    ("Which sound is the loudest?", ()),
    ("Which sound is heard more than once?", ()),
    ("Which sound starts right after the longest sound?", ()),
)

_SUGGESTION_NOTE = (
    "The shipped small pair knows 64 kinds of everyday sound, music and speech in clips of up to about ten seconds, "
    "and questions of these kinds. It understands no speech, and names no song or person: ask it anything else and "
    "it will guess. Give it choices where you can."
)


def build_compare(services: Services, demo: gr.Blocks) -> None:
    """Put the tab into the open ``gr.Blocks``."""
    comparer, batches = Comparer(services), Batches(services)
    view = view_component("comparison", "mountCompare", setup=setup_of(services))
    clip = channel("clip", "comparison", "clip")
    place = channel("place", "comparison", "place")
    batch = channel("batch", "comparison", "batch")
    occlusion = channel("occlusion", "comparison", "occlusion")
    # Hidden: the view's own buttons and the drop zone of the page pass their file to its input.
    audio = gr.UploadButton("Upload a file", type="filepath", elem_id="audio", elem_classes="mp-offscreen")
    batch_upload = gr.UploadButton("One of several", type="filepath", elem_id="batch-file", elem_classes="mp-offscreen")

    def on_run(event: gr.EventData, request: gr.Request, path: str | None) -> Iterator[Any]:
        form = sent_by(event)
        session = session_of(request)
        try:
            yield from comparer.trace(asked_of(form, path, services), session, visitor=visitor_of(request))
        except MPAR2Error as error:
            yield {"refused": {"field": field_of(error), "message": message_of(error)}, "number": form.get("number")}

    def on_batch_file(path: str | None, request: gr.Request) -> dict[str, Any] | None:
        if not path:
            return None
        services.uploads.hold(session_of(request), path)
        try:
            return {"added": batches.add(session_of(request), path), "at": time.monotonic()}
        except MPAR2Error as error:
            return {"refused": message_of(error), "at": time.monotonic()}

    def on_batch(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        form, session = sent_by(event), session_of(request)
        try:
            if form.get("begin") is True:
                batches.begin(session, asked_of(form, None, services), visitor_of(request))
            return batches.turn(session) | {"at": time.monotonic()}
        except MPAR2Error as error:
            return {"state": "refused", "message": message_of(error), "at": time.monotonic()}

    def on_judge(request: gr.Request) -> Iterator[Any]:
        judged = False
        for document in comparer.judge(session_of(request)):
            judged = True
            yield document
        if not judged:
            yield gr.skip()

    def on_occlude(event: gr.EventData, request: gr.Request, path: str | None) -> Iterator[Any]:
        form, session = sent_by(event), session_of(request)
        target = {"id": form.get("id"), "arm": form.get("arm"), "at": time.monotonic()}
        text, digest = str(form.get("text") or ""), str(form.get("digest") or "")
        try:
            if len(text) > _LONGEST:
                raise EngineError(f"the trace has {len(text)} characters; occlusion reads {_LONGEST} at most")
            result = None
            asked = asked_of(form, path, services)
            for result in comparer.occlude(asked, text, digest, session, visitor=visitor_of(request)):
                yield target | {"occlusion": result}
            yield target | {"occlusion": result, "ended": True}
        except Exception as error:  # the page waits for an end
            yield target | {"refused": message_of(error)}

    def on_ask(request: gr.Request) -> dict[str, Any] | None:
        return {"ahead": ahead_of(demo, session_of(request)), "at": time.monotonic()}

    def on_stop(request: gr.Request) -> None:
        services.stops.stop(session_of(request))
        batches.stop(session_of(request))

    def on_forget(request: gr.Request) -> None:
        batches.forget(session_of(request))

    def on_leave(request: gr.Request) -> None:
        on_stop(request)
        comparer.forget(session_of(request))
        batches.forget(session_of(request))
        services.uploads.release(session_of(request))

    def on_clip(path: str | None, request: gr.Request) -> dict[str, Any] | None:
        if not path:
            return None
        services.uploads.hold(session_of(request), path)
        try:
            clip = load_clip(path, limits=services.limits)
            example = services.example_of(clip)
            truth = None if example is None else truth_document(example.events, example.truth_origin)
            opinion = opinion_document(tagging_of(clip)) if truth is None else None
            details = {"known": example and example.title, "truth": truth, "opinion": opinion}
            return clip_document(clip, shareable=False) | details | {"at": time.monotonic()}
        except AudioError as error:
            return {"refused": message_of(error), "at": time.monotonic()}

    # Handlers are private to the page: API clients use the endpoints of pages.api.
    private = {"api_visibility": "private", "show_progress": "hidden"}
    # one comparison at a time
    run_event = view.submit(guarded(on_run), audio, view, concurrency_id="engine", concurrency_limit=1, **private)
    # judging has a queue of its own, so that a slow judge does not block comparisons
    run_event.success(guarded(on_judge), None, view, concurrency_id="judge", concurrency_limit=16, **private)
    view.expand(on_occlude, audio, occlusion, concurrency_id="engine", **private)
    view.submit(on_ask, None, place, queue=False, **private)
    view.stop(on_stop, None, None, queue=False, **private)
    demo.unload(on_leave)
    # below the concurrency of mpar2.decoder, so that the clip of a comparison does not wait for uploads
    decoding = {"concurrency_id": "decoding", "concurrency_limit": 3} | private
    audio.upload(guarded(on_clip), audio, clip, **decoding)
    batch_upload.upload(guarded(on_batch_file), batch_upload, batch, **decoding)
    # in turns of some seconds, so that other visitors' comparisons run in between
    view.apply(guarded(on_batch), None, batch, concurrency_id="engine", **private)
    view.clear(on_forget, None, None, queue=False, **private)


def setup_of(services: Services) -> dict[str, Any]:
    """Return the initial data of the page: examples, arms, limits. It contains no secret and no path."""
    examples = []
    for example in services.examples:
        stored = example.outcome is not None or example.comparison_path.exists()
        examples.append(example.card() | (_publish_example(example) if stored else {"url": None}))
    return {
        "examples": examples,
        "first": services.first_example,
        "offers": [offer.name for offer in services.offers],
        "modes": {name: [mode.label, mode.summary] for name, mode in prompts.MODES.items()},
        "arms": [list(arm) for arm in services.arms or first_arms(services.offers)],
        "real_models": [list(entry) for entry in _REAL_MODELS] if services.local else [],
        "most_seconds": services.limits.max_seconds,
        "most_tokens": max(2, services.max_new_tokens),
        "most_question": services.visitors.question_chars,
        "judges": [_judge_entry(label, name) for label, name in judge_choices()],
        "suggested": {
            "questions": [{"text": text, "choices": list(choices)} for text, choices in _SUGGESTED],
            "note": _SUGGESTION_NOTE,
        },
        "occlusion": 0 if lends_gpus() else WINDOWS,
        "most_clips": 0 if lends_gpus() else MOST_CLIPS,
        "result_minutes": services.keep_results_min,
        "result_bytes": RESULT_BYTES,
        "shell": publish("page.txt", page_shell(), page_shell),
    }


def first_comparison(services: Services) -> str | None:
    """Return the address of the comparison on the first screen."""
    cards = setup_of(services)["examples"]
    return next((card["url"] for card in cards if card["name"] == services.first_example), None)


def _judge_entry(label: str, name: str) -> list[Any]:
    """Return a judge's entry in the form: name, label, whether it needs a key, whether it needs an address."""
    if name == "rules":
        return [name, "Fixed rules (no model)", False, False]
    service = judge_named(name).service
    return [name, label, service is not None, service is not None and service.needs_address]


def _publish_example(example: Example) -> dict[str, str]:
    """Publish the stored comparison of an example and, separately, its sound, so that the page loads without it."""
    stat = example.comparison_path.stat()
    key = f"{example.digest} {stat.st_size} {stat.st_mtime_ns} {app_module()}"

    def silent() -> str:
        document = stored_comparison(example)
        if document is not None:
            document["clip"] |= {"audio": None}
        return json.dumps(document, ensure_ascii=False)

    return {
        "url": publish(f"{example.name}.json", key, silent),
        "audio": publish(f"{example.name}.txt", example.digest, lambda: audio_uri(example.clip) or ""),
    }


def asked_of(form: Mapping[str, Any], path: str | None, services: Services) -> Asked:
    """Return the form of a browser as plain texts and numbers.

    Raises:
        AudioError: The form names an unknown example.
    """

    def text(key: str) -> str:
        value = form.get(key)
        return value[:_LONGEST] if isinstance(value, str) else ""

    def number(key: str, default: float) -> Any:
        return default if form.get(key) is None else form[key]

    example = services.example(text("example")) if form.get("source") == "example" else None
    if form.get("source") == "example" and example is None:
        raise AudioError("That example is not here any more: reload the page.")
    raw = form.get("arms") if isinstance(form.get("arms"), list) else []
    arms = tuple((str(arm[0])[:200], str(arm[1])[:40]) for arm in raw if isinstance(arm, list) and len(arm) == 2)
    return Asked(
        audio=str(example.clip_path) if example is not None else path,
        question=text("question"),
        choices=text("choices"),
        arms=arms,
        answer=text("answer"),
        events=text("events"),
        max_new_tokens=number("max_new_tokens", services.max_new_tokens),
        temperature=number("temperature", 0.0),
        seed=number("seed", 0),
        judging=Judging(text("judge") or "rules", text("key"), text("address"), text("model")),
    )


def field_of(error: MPAR2Error) -> str:
    """Return the field of the form that an error belongs to."""
    words = str(error).lower()
    if isinstance(error, AudioError):
        return "audio"
    if isinstance(error, JudgingError):
        return "key" if "key" in words else "model" if "name of a model" in words else "address"
    if isinstance(error, QuestionError | LimitError):
        for field, start in _STARTS.items():
            if start.match(words):
                return field
        return "question" if isinstance(error, QuestionError) else "run"
    for field in ("temperature", "token"):
        if field in words and "checkpoint" not in words:
            return "temperature" if field == "temperature" else "max_new_tokens"
    return "arms" if "arm" in words or "checkpoint" in words or "mode" in words else "run"


_STARTS = {
    "events": re.compile(r"the event '|\d+ events are listed"),
    "answer": re.compile(r"the right answer"),
    "choices": re.compile(r"the choices? |choice \d|there (is|are) (only )?\w+ choices?"),
    "question": re.compile(r"the question"),
}
