"""Run a comparison as a stream of comparison documents. Independent of Gradio.

The clip is loaded within the app's limits, the question is checked, the truth is looked up if the clip is an example's,
and the engine's updates are thinned to a rate that a browser can follow.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from mpar2.audio import AudioError, load_clip
from mpar2.cafe.schema import Truth
from mpar2.engines.base import Decoding, EngineError, Generation
from mpar2.occlusion import attention_agreement, occlusion_steps
from mpar2.question import Event, Question, QuestionError, make_question
from pages.attention_view import ATTENTION_BYTES
from pages.document import MOST_ARMS, ComparisonRun
from pages.errors import message_of
from pages.gpu import lends_gpus, on_gpu
from pages.occluding import WINDOWS, occlusion_document
from pages.opinion import known_tagging, opinion_document, tagging_of
from pages.scoring import Judging, score_traces
from pages.services import Services

_EVERY_S = 0.12  # between two updates of the page
_WAITING_S = 1.0  # between updates while a judge works; a closed connection is noticed at an update
_MOST_EVENTS = 40
_MOST_PENDING = 200  # comparisons whose judging has not started


@dataclass(frozen=True)
class Asked:
    """Unchecked request of a visitor from the page or the API."""

    audio: str | None
    question: str
    choices: str = ""
    arms: tuple[tuple[str, str], ...] = ()
    answer: str = ""
    events: str = ""
    max_new_tokens: float = 512
    temperature: float = 0.0
    seed: float = 0
    judging: Judging = Judging()


@dataclass(frozen=True)
class _PendingJudgement:
    """Finished traces with the options of their judging."""

    run: ComparisonRun
    clip: Any
    question: Question
    judging: Judging
    stop: threading.Event


class Comparer:
    """Run the requests of visitors on the services' engine.

    A stop of the ``session`` ends a run. The address ``visitor`` is charged with it; "" charges nobody.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self._generate = on_gpu(self._stream) if lends_gpus() else None
        self._pending: dict[str, _PendingJudgement] = {}  # by session
        self._lock = threading.Lock()

    def run(self, asked: Asked, session: str, *, visitor: str = "") -> Iterator[dict[str, Any]]:
        """Run a comparison: :meth:`trace`, then :meth:`judge`.

        Yields:
            Documents as the comparison progresses; the last one is finished, with classified mentions where possible.

        Raises:
            MPAR2Error: The request is refused.
        """
        with closing(self.trace(asked, session, visitor=visitor)) as documents:
            yield from documents
        with closing(self.judge(session)) as documents:
            yield from documents

    def trace(self, asked: Asked, session: str, *, visitor: str = "") -> Iterator[dict[str, Any]]:
        """Generate the traces of the arms.

        Judging by a model is left to :meth:`judge`, so that a slow judge does not block the engine.

        Yields:
            Documents as the traces grow; the last one is finished, unless judging follows.

        Raises:
            MPAR2Error: The request is refused.
        """
        asked.judging.check(local=self.services.local)
        run, clip, question, arms, decoding = self._prepare(asked, ATTENTION_BYTES)
        self.services.runs.begin(visitor)
        stop = self.services.stops.begin(session)
        error: str | None = None
        handed_over = False
        try:
            yield run.snapshot()
            last_shown = time.monotonic()
            with closing(self._updates(clip, question, arms, decoding, stop)) as updates:
                for update in updates:
                    changed = run.progress(update)
                    if changed or time.monotonic() - last_shown >= _EVERY_S:
                        yield run.snapshot()
                        last_shown = time.monotonic()
                    if stop.is_set() and self._generate is not None:
                        break  # the GPU process does not share the event; closing ends it
            if run.truth_origin in (None, "visitor"):  # after the traces, so that the first tokens do not wait
                run.opine(opinion_document(tagging_of(clip)))
            pending = _PendingJudgement(run, clip, question, asked.judging, stop)
            if asked.judging.judge == "rules":  # of a stopped run, only finished arms are scored
                for score in self._scores(pending, ended=stop.is_set()):
                    if score is not None:
                        run.score(*score)
            elif not stop.is_set():
                run.stage("scoring")
                with self._lock:
                    self._pending[session] = pending
                    while len(self._pending) > _MOST_PENDING:
                        self._pending.pop(next(iter(self._pending)))
                handed_over = True
                yield run.snapshot()
                return
        except EngineError as problem:
            error = self._visitor_message(problem)
        finally:
            if not handed_over:
                self.services.stops.end(session, stop)
        run.finish("error" if error else "stopped" if stop.is_set() else "done", error)
        yield run.snapshot()

    def judge(self, session: str) -> Iterator[dict[str, Any]]:
        """Yield documents as a judge classifies the mentions of the session's traces; none if no judging is pending."""
        with self._lock:
            pending = self._pending.pop(session, None)
        if pending is None:
            return
        run, stop, last_shown = pending.run, pending.stop, time.monotonic()
        try:
            with closing(self._scores(pending, ended=False)) as scores:
                for score in scores:
                    if stop.is_set():
                        break
                    if score is not None:
                        run.score(*score)
                    elif time.monotonic() - last_shown >= _WAITING_S:
                        yield run.snapshot()
                        last_shown = time.monotonic()
        finally:
            self.services.stops.end(session, stop)
        run.finish("stopped" if stop.is_set() else "done", None)
        yield run.snapshot()

    def forget(self, session: str) -> None:
        """Drop the pending judgement of a session that has ended."""
        with self._lock:
            self._pending.pop(session, None)

    def _scores(self, pending: _PendingJudgement, *, ended: bool) -> Iterator[tuple[int, dict[str, Any]] | None]:
        run, truth = pending.run, None
        if run.truth is not None:
            truth = Truth(run.truth, None, run.truth_origin or "human")
        elif pending.judging.needs_sounds:
            truth = tagging_of(pending.clip).truth()
        texts = run.texts(ended=ended)
        return score_traces(pending.judging, pending.clip, pending.question, truth, texts, local=self.services.local)

    def reason(self, asked: Asked, session: str, *, visitor: str = "") -> Iterator[Generation | None]:
        """Run a single arm.

        Yields:
            None from time to time, so that a closed connection is noticed; finally the generation.

        Raises:
            MPAR2Error: The request is refused, or the model ended without a result.
        """
        _, clip, question, arms, decoding = self._prepare(asked, 0)
        self.services.runs.begin(visitor)
        stop = self.services.stops.begin(session)
        last_shown = time.monotonic()
        try:
            with closing(self._updates(clip, question, arms[:1], decoding, stop)) as updates:
                for update in updates:
                    if update.generation is not None:
                        warnings = tuple(dict.fromkeys((*clip.warnings, *update.generation.warnings)))
                        yield replace(update.generation, warnings=warnings)
                        return
                    if time.monotonic() - last_shown >= _EVERY_S:
                        yield None
                        last_shown = time.monotonic()
        finally:
            self.services.stops.end(session, stop)
        raise EngineError("the model ended without a result: try again")

    def occlude(
        self, asked: Asked, text: str, digest: str, session: str, *, visitor: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Compute the windows of the clip on which the answer of a finished trace depends.

        ``digest`` is that of the clip of the comparison.

        Yields:
            Occlusion as the page draws it (``pages.occluding``), after each batch of windows.

        Raises:
            MPAR2Error: The request is refused, or the model does not support occlusion.
        """
        _check_text(text)
        _, clip, question, (arm, *_), decoding = self._prepare(asked, 0)
        if clip.digest != digest:
            raise AudioError("This comparison is of another sound than the form holds: choose that sound again.")
        if not text.strip():
            raise EngineError("the arm wrote nothing: there is no answer that could need a part of the clip")
        self.services.runs.begin(visitor)
        stop = self.services.stops.begin(session)
        engine = self.services.engine
        try:
            steps = occlusion_steps(engine, clip, question, arm, text, windows=WINDOWS, decoding=decoding)
            for result in steps:
                if stop.is_set():
                    return
                yield occlusion_document(result)
            if engine.engine_for(arm).attention:
                generation = engine.attend(clip, question, arm, text)
                spans = [token.chars for token in generation.tokens]
                rho = generation.attention and attention_agreement(result, generation.attention, spans)
                yield occlusion_document(result, rho)
        except EngineError as problem:
            raise EngineError(self._visitor_message(problem)) from None
        finally:
            self.services.stops.end(session, stop)

    def _visitor_message(self, problem: EngineError) -> str:
        """Return the message of an error; on a public app without the address of a server."""
        message = message_of(problem)
        return message if self.services.local else re.sub(r"https?://[^\s;,)]+", "the server", message)

    def _updates(
        self, clip: Any, question: Question, arms: Sequence[Any], decoding: Decoding, stop: threading.Event
    ) -> Iterator[Any]:
        if self._generate is not None:
            return self._generate(clip, question, arms, decoding)
        return self.services.engine.stream(clip, question, arms, decoding, attention=True, stop=stop)

    def _prepare(self, asked: Asked, attention_bytes: int) -> tuple[ComparisonRun, Any, Question, list[Any], Decoding]:
        if not asked.audio:
            raise AudioError("There is no audio yet: upload or record a clip, or choose an example.")
        if not os.path.isfile(asked.audio):
            raise AudioError(
                "The recording is not here any more: uploads are kept for an hour at most; choose it again."
            )
        # Check all inputs before decoding, which is the expensive part.
        for text in (asked.question, asked.choices, asked.answer, asked.events, *sum(asked.arms, ())):
            _check_text(text)
        arms = [self.services.arm(name, mode) for name, mode in asked.arms]
        if not 1 <= len(arms) <= MOST_ARMS:
            raise EngineError(f"{len(arms)} arms cannot be compared: choose one to {MOST_ARMS}")
        self.services.visitors.check(asked.question, split_choices(asked.choices))
        clip = load_clip(asked.audio, limits=self.services.limits)
        question = make_question(asked.question, split_choices(asked.choices), answer=asked.answer.strip() or None)
        # A known recording brings its truth and, for its own question, the answer.
        example = self.services.example_of(clip)
        events: Sequence[Event] | None = parse_events(asked.events, clip.seconds)
        origin = "visitor" if events is not None else None
        if example is not None:
            clip = example.clip
            if events is None and example.events is not None:
                events, origin = example.events, example.truth_origin
            stored_question = example.question
            if question.answer is None and (question.text, question.choices) == (
                stored_question.text,
                stored_question.choices,
            ):
                question = stored_question
        decoding = decoding_of(asked, self.services.max_new_tokens)
        run = ComparisonRun(
            clip,
            question,
            arms,
            decoding,
            truth=events,
            truth_origin=origin,
            opinion=opinion_document(known_tagging(clip)) if origin in (None, "visitor") else None,
            example=example.name if example else None,
            credits=example.credits if example else None,
            attention_bytes=attention_bytes,
        )
        return run, clip, question, arms, decoding

    def _stream(self, clip: Any, question: Question, arms: Sequence[Any], decoding: Decoding) -> Iterator[Any]:
        yield from self.services.engine.stream(clip, question, arms, decoding, attention=True, stop=None)


def _check_text(text: Any) -> None:
    """Raise ``QuestionError`` for a value that is no valid text: another type, or a lone surrogate."""
    if not isinstance(text, str):
        raise QuestionError(f"question, choices, models and modes are texts; {str(text)[:40]!r} is none: send a text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise QuestionError("the text holds half of a character (a lone surrogate): write it again") from None


def split_choices(text: str) -> list[str]:
    """Return the choices of a text, one per line."""
    return [line.strip() for line in (text or "").splitlines() if line.strip()]


def parse_events(text: str, clip_seconds: float) -> tuple[Event, ...] | None:
    """Return the events of a text, one per line: ``label`` or ``label 1.2-3.4``; None for an empty text.

    >>> parse_events("dog bark 0.5-1.5\\nsiren", 8.0)
    (Event(label='dog bark', onset_s=0.5, offset_s=1.5), Event(label='siren', onset_s=None, offset_s=None))

    Raises:
        QuestionError: A line cannot be read, or there are too many.
    """
    lines = split_choices(text)
    if not lines:
        return None
    if len(lines) > _MOST_EVENTS:
        raise QuestionError(f"{len(lines)} events are listed; the limit is {_MOST_EVENTS}: list the main ones")
    return tuple(_event(line, clip_seconds) for line in lines)


def _event(line: str, clip_seconds: float) -> Event:
    """Return the event of one line. Unreadable times raise an error instead of becoming part of the label."""
    match = _TIMES.search(line)
    if match is None:
        if _ALMOST_TIMES.search(line):
            raise QuestionError(
                f"the event '{line[:60]}' cannot be read: write a name and its times in seconds, 'dog bark 0.5-1.5', "
                "or the name alone"
            )
        return Event(line[:120])
    label, onset, offset = line[: match.start()].strip(), *(float(n.replace(",", ".")) for n in match.groups())
    if not label:
        raise QuestionError(f"the event '{line[:40]}' has times but no name: write, for example, 'dog bark 0.5-1.5'")
    if not 0 <= onset < offset <= clip_seconds + 0.5:
        raise QuestionError(
            f"the event '{line[:60]}' is not within the clip ({clip_seconds:.1f} s): write onset-offset, in seconds"
        )
    return Event(label[:120], onset, min(offset, clip_seconds))


_NUMBER = r"(\d+(?:[.,]\d+)?)\s*s?"
_TIMES = re.compile(rf"(?:^|\s){_NUMBER}\s*[-–—]\s*{_NUMBER}\s*$", re.IGNORECASE)
_ALMOST_TIMES = re.compile(r"(?:^|\s)(?:[\d.,:]*\d[\d.,:]*\s*s?\s*[-–—].*|[-–—]\s*\S*)$|\d[.,:]\d")


def decoding_of(asked: Asked, most: int) -> Decoding:
    """Return the decoding options of a request.

    Raises:
        EngineError: A value is out of its range, or is no number.
    """
    tokens, temperature, seed = (_number(value) for value in (asked.max_new_tokens, asked.temperature, asked.seed))
    if not 1 <= tokens <= most:
        raise EngineError(f"{tokens:g} new tokens: choose 1 to {most}")
    if not 0 <= temperature <= 2 or 0 < temperature < 0.001:
        raise EngineError(f"temperature {temperature:g}: choose 0 (greedy) to 2")
    return Decoding(max_new_tokens=int(tokens), temperature=temperature, seed=int(seed) % 2**31)


def _number(value: float | None) -> float:
    """Return an unchecked value as a finite float, or raise ``EngineError``."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise EngineError(f"'{str(value)[:40]}' is no number: give tokens, temperature and seed as finite numbers")
    return number
