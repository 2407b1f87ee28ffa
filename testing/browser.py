"""Fixtures for tests of the pages: Debian's or Playwright's chromium, and comparisons from fixed data.

The generations here are plain data (text, spans, an attention record), for tests that need known numbers or text that
no model would generate. End-to-end tests run the real engine.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mpar2.answers import read_answer
from mpar2.attention import AttentionRecord
from mpar2.audio import SAMPLE_RATE, Clip, wav_bytes
from mpar2.cafe.schema import Truth
from mpar2.engines.base import Arm, Decoding, Generation, Progress, Token
from mpar2.engines.transformers import TransformersEngine
from mpar2.formats import Limits
from mpar2.question import Event, Question
from mpar2.trace import Span, parse_trace
from pages.document import ComparisonRun
from pages.scoring import Judging, score_traces
from pages.services import Offer, Services

QUESTION = Question(
    "How many times does the dog bark before the siren?", ("Once", "Twice", "Three times"), "Twice", "sound"
)
EVENTS = (Event("dog bark", 0.5, 1.2), Event("dog bark", 2.0, 2.8), Event("siren", 3.5, 5.0))
ARMS = (Arm("tiny-base", "tiny-base", None, "cot"), Arm("tiny-mpar2", "tiny-base", "tiny-mpar2", "mpar2"))
TRACES = (
    "A dog barks at 0.5 s and a helicopter passes. The siren comes at 1 s already. So there is one bark.\nAnswer: Once",
    "<perception>A dog bark at 0.5-1.2 s, a second dog bark at 2.0-2.8 s, a siren from 3.5 s.</perception>"
    "<step><ask>What precedes the siren?</ask><hear>Barking at 0.5 s and at 2.0 s.</hear>"
    "<infer>Two barks.</infer></step>"
    "<review>Two barks before the siren: supported.</review><answer>Twice</answer>",
)
_PIECES = re.compile(r"</?\w+>|\s?[\w.]+|\s|[^\w\s]")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
# Playwright's own pointer settings, and the font size: only the last flag of this name is effective.
_LETTERS = (
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4,"
    "defaultFontSize={}"
)


def make_clip(seconds: float = 6.0) -> Clip:
    """Return a clip with noise and a tone at each event."""
    times = np.arange(int(SAMPLE_RATE * seconds)) / SAMPLE_RATE
    samples = np.random.default_rng(0).normal(scale=0.003, size=times.size)
    for event, hertz in zip(EVENTS, (440, 440, 1500), strict=True):
        inside = (times >= event.onset_s) & (times < event.offset_s)
        samples[inside] += 0.3 * np.sin(2 * np.pi * hertz * times[inside])
    return Clip(samples, "yard.wav")


def generation(
    arm: Arm, text: str, question: Question = QUESTION, *, columns: int = 150, sink: bool = False
) -> Generation:
    """Return a generation of ``text`` with deterministic random attention."""
    spans = [Span(*match.span()) for match in _PIECES.finditer(text)]
    trace = parse_trace(text, spans)
    rng = np.random.default_rng(len(text))
    rows = rng.gamma(0.5, 1.0, (len(spans), 3, 2, columns)) * 0.002
    if sink:
        rows[..., 7] += 0.08
    rows /= np.maximum(1.0, 1.3 * rows.sum(-1, keepdims=True))
    rows = rows.astype(np.float16)
    record = AttentionRecord(
        rows, rows.astype(np.float32).sum(-1), (200 + np.arange(len(spans))).astype(np.int32), columns, 0.04
    )
    return Generation(
        arm=arm,
        text=text,
        trace=trace,
        tokens=tuple(Token(1, span) for span in spans),
        prompt_tokens=200,
        seconds=2.5,
        first_token_s=0.3,
        audio_seconds=6.0,
        finish="stop",
        choice=read_answer(trace, question.choices).choice,
        attention=record,
    )


def document(
    traces: tuple[str, str] = TRACES, question: Question = QUESTION, *, clip: Clip | None = None, **options: Any
) -> dict[str, Any]:
    """Return a finished comparison document with mentions classified by the reference judge."""
    clip = clip or make_clip()
    run = ComparisonRun(clip, question, ARMS, Decoding(), truth=EVENTS, truth_origin="scene", **options)
    for index, (arm, text) in enumerate(zip(ARMS, traces, strict=True)):
        result = generation(arm, text, question, columns=round(25 * clip.seconds), sink=index == 0)
        run.progress(Progress(index, "done", text, len(result.tokens), result))
    truth = Truth(EVENTS, origin="scene")
    for index, cafe in filter(None, score_traces(Judging(), clip, question, truth, list(traces))):
        run.score(index, cafe)
    run.finish("done")
    return run.snapshot()


def write_example(root: Path, name: str, *, stored: dict[str, Any] | None = None, **values: Any) -> Path:
    """Write the folder of an example as ``pages.examples`` reads it, and return it.

    ``values`` override fields of ``example.json``, and the ``seconds`` of the clip.
    """
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "clip.wav").write_bytes(wav_bytes(make_clip(values.pop("seconds", 6.0))))
    example = {
        "title": "Two barks, then a siren",
        "clip": "clip.wav",
        "kind": "scene",
        "question": QUESTION.text,
        "choices": list(QUESTION.choices),
        "answer": QUESTION.answer,
        "domain": "sound",
        "difficulty": "easy",
        "events": [{"label": e.label, "onset_s": e.onset_s, "offset_s": e.offset_s} for e in EVENTS],
        "truth_origin": "scene",
        "credits": "Made by the test",
        "licence": "CC0",
    }
    (folder / "example.json").write_text(json.dumps(example | values), encoding="utf-8")
    if stored is not None:
        (folder / "comparison.json").write_text(json.dumps(stored), encoding="utf-8")
    return folder


def tiny_services(checkpoint: Path, adapter: Path, **options: Any) -> Services:
    """Return services that offer a tiny pair on the real engine."""
    offers = (Offer("small-base", str(checkpoint), None), Offer("small-mpar2", str(checkpoint), str(adapter)))
    return Services(engine=TransformersEngine(), offers=offers, limits=Limits(max_seconds=8.0), **options)


def chromium() -> str | None:
    """Return the path of a chromium executable, or None."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is not None:
        return executable
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Exception:  # not installed, or without its driver
        return None
    return path if Path(path).exists() else None


@contextmanager
def browser_page(*, first_visit: bool = False, letters_px: int = 16, **options: Any) -> Iterator[Any]:
    """Yield a page of a fresh browser that collects its errors in ``page.problems``.

    ``first_visit`` shows the guide of the first visit; ``letters_px`` is the default font size (32 is text at 200 %).
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*_FLAGS, _LETTERS.format(letters_px)])
        try:
            page = browser.new_page(**options)
            page.problems = []
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            if not first_visit:
                page.add_init_script("try { localStorage.setItem('mpar2-guide-seen', 'yes') } catch {}")
            yield page
        finally:
            browser.close()
