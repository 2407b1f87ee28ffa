"""Judges that are language models: Gemini, or any model behind an OpenAI-compatible server.

A trace is judged in up to three requests, each with the data that it needs and no more:

1. *targets* (only where the truth is a caption): the caption -> its events. The request does not contain the trace, so
   two traces of one clip have the same targets, and with a journal the request is sent once per caption.
2. *extract*: question, choices, trace -> every mention, as an exact quote with a label. The request does not contain
   the truth, so the number of events in a trace (N_pred) does not depend on the truth.
3. *sort*: truth events with ids, trace, mentions with ids -> for each id one kind of the closed list and the events.

This departs from the paper, whose extractor uses one request with an unpublished prompt.

Replies are validated: quotes that do not occur in the text are rejected, character spans are computed here, each id
must occur exactly once, and missed events follow from the verdicts by rule. An invalid reply is requested again with
the reason, at most twice; then the trace is *unscored*, with the reason. The wrapping of a reply (``llm.structured``)
and typographic forms in its quotes (``quotes``) are accepted, and such replies are counted in ``Verdict.lenient``.

Question, choices, caption and trace are untrusted. They are sent as one JSON object between delimiters that contain a
hash of the object, so that no text inside can close them. The instructions are sent separately, as the system prompt.

The decision table in the prompt is :data:`mpar2.cafe.schema.DECISION_TABLE`, as in the reference judge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mpar2.cafe.prompts import load_prompt
from mpar2.cafe.quotes import is_exact, locate_quotes
from mpar2.cafe.rules.unsure import spare_unsure
from mpar2.cafe.schema import (
    JudgeRequest,
    Mention,
    MentionKind,
    Truth,
    Unscored,
    Verdict,
    decision_text,
    missed_events,
    validate_verdict,
)
from mpar2.llm.base import ChatClient, Sampling, Usage
from mpar2.llm.cost import Estimate, Prices, estimate_tokens
from mpar2.llm.errors import CallFailed, ReplyRejected, clip_text
from mpar2.llm.journal import Journal, RecordedClient, content_key
from mpar2.llm.services import connect, judge_model, service_named
from mpar2.llm.structured import StructuredReply, ask
from mpar2.question import Event
from mpar2.trace import Span

__all__ = ["LLMJudge", "data_block", "llm_judge", "locate_quotes"]

PROMPT_VERSION = 1
_MAX_QUOTES = 1000  # in one reply
_REASON_CHARS = 300
_CONTEXT_CHARS = 60
_EXPECTED_REPLY_TOKENS = 900  # of one request, for the estimate before a run, without the thoughts of thinking models


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Target(_Strict):
    quote: str
    label: str
    onset_s: float | None
    offset_s: float | None


class Targets(_Strict):
    """Reply to *targets*."""

    events: list[_Target]


class _Found(_Strict):
    quote: str
    label: str


class Extracted(_Strict):
    """Reply to *extract*."""

    mentions: list[_Found]


class MentionLabel(_Strict):  # evidence before verdict: the order of the fields is the order in which they are written
    """What the reply to *sort* says of one mention."""

    id: str
    reason: str
    events: list[str]
    kind: Literal["matched", "hallucinated", "misused", "neutral"]


class Classification(_Strict):
    """Reply to *sort*."""

    verdicts: list[MentionLabel]


class LLMJudge:
    """Judges traces with a chat model. ``id`` is the name of its service.

    Inside ``async with`` all traces share one connection pool; outside, each call opens and closes its own. ``judge``
    returns a verdict or the reason why there is none. It raises :class:`~mpar2.llm.errors.StopRun` where no further
    trace can be judged either (key, model, quota, budget).
    """

    def __init__(self, client: ChatClient, judge_id: str, *, sampling: Sampling | None = None) -> None:
        self.id = judge_id
        self.model = client.model
        self._client = client
        self._sampling = sampling or service_named(judge_id).sampling
        self._users = 0
        self._targets_text = load_prompt("targets", PROMPT_VERSION)
        self._extract_text = load_prompt("extract", PROMPT_VERSION)
        self._sort_text = load_prompt("sort", PROMPT_VERSION).replace("{decision_table}", decision_text())
        schemas = [schema.model_json_schema() for schema in (Targets, Extracted, Classification)]
        self.prompt_hash = content_key(self._targets_text, self._extract_text, self._sort_text, schemas)

    async def __aenter__(self) -> LLMJudge:
        self._users += 1
        if self._users == 1:
            await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._users -= 1
        if self._users == 0:
            await self._client.__aexit__(*exc)

    async def judge(self, request: JudgeRequest) -> Verdict | Unscored:
        """Judge one trace."""
        totals = _Totals()
        try:
            async with self:
                return await self._judge(request, totals)
        except ReplyRejected as error:
            reason, attempts = error.reason, error.replies
            detail = f"{error.detail} (replies: {error.replies}; {error.usage.total} tokens)"
        except CallFailed as error:
            reason, detail, attempts = error.reason, error.detail, error.tries
        return Unscored(_REASONS.get(reason, reason), clip_text(detail), totals.replies + attempts)

    def estimate(self, requests: Iterable[JudgeRequest], prices: Prices | None = None) -> Estimate:
        """Estimate the cost of judging ``requests``, without retries and thoughts."""
        total = Estimate(0, 0, 0, prices)
        captions: set[str] = set()
        table = estimate_tokens(self._sort_text) + estimate_tokens(self._extract_text)
        for request in requests:
            trace = estimate_tokens(request.trace, request.question, *request.choices)
            truth = estimate_tokens(request.truth.caption or "")
            truth = max(truth, 20 * len(request.truth.events or ()))
            # The full trace twice, and about once more as mentions with their context.
            total += Estimate(2, table + 3 * trace + truth, 2 * _EXPECTED_REPLY_TOKENS)
            caption = request.truth.caption
            if request.truth.events is None and caption is not None and caption not in captions:
                captions.add(caption)
                total += Estimate(1, estimate_tokens(self._targets_text) + truth, _EXPECTED_REPLY_TOKENS // 2)
        return total

    async def _judge(self, request: JudgeRequest, totals: _Totals) -> Verdict:
        events = await self._events(request.truth, totals)
        places = await self._extract(request, totals)
        mentions = await self._classify(request, events, places, totals) if places else ()
        mentions = spare_unsure(mentions, request.truth)
        verdict = Verdict(
            mentions=mentions,
            missed=missed_events(mentions, len(events)),
            targets=tuple(event.label for event in events),
            judge=self.id,
            truth_origin=request.truth.origin,
            model=self.model,
            # A trace with two served versions keeps both, so that it is merged with verdicts of neither.
            model_version=" + ".join(sorted(totals.versions)) or None,
            prompt_hash=self.prompt_hash,
            attempts=totals.replies,
            lenient=totals.lenient,
            input_tokens=totals.usage.prompt or 0,
            output_tokens=(totals.usage.completion or 0) + (totals.usage.thoughts or 0),
        )
        validate_verdict(verdict, request.trace)
        return verdict

    async def _ask(
        self, prompt: str, data: dict[str, Any], schema: type[BaseModel], check: Any
    ) -> StructuredReply[Any]:
        return await ask(self._client, prompt, [data_block(data)], schema, sampling=self._sampling, check=check)

    async def _events(self, truth: Truth, totals: _Totals) -> tuple[Event, ...]:
        if truth.events is not None:
            return truth.events
        caption = truth.caption or ""

        # Times must be ordered, beyond what the schema can express.
        def check(value: Targets) -> tuple[str, str] | None:
            if problem := _quote_problem(caption, value.events, overlap=True):
                return problem
            for event in value.events:
                times = [time for time in (event.onset_s, event.offset_s) if time is not None]
                if not event.label.strip() or times != sorted(times) or any(time < 0 for time in times):
                    return "schema", f"event {event.quote[:60]!r}: needs a label, and times with 0 <= onset <= offset"
            return None

        reply = await self._ask(self._targets_text, {"caption": caption}, Targets, check)
        quotes = [event.quote for event in reply.value.events]
        spans, _ = locate_quotes(caption, quotes, overlap=True)
        totals.add(reply, all(is_exact(caption, *pair) for pair in zip(spans, quotes, strict=True)))
        return tuple(Event(event.label.strip(), event.onset_s, event.offset_s) for event in reply.value.events)

    async def _extract(self, request: JudgeRequest, totals: _Totals) -> list[tuple[Span, str]]:
        if not request.trace.strip():
            return []
        data = {"question": request.question, "choices": list(request.choices), "trace": request.trace}

        def check(value: Extracted) -> tuple[str, str] | None:
            for mention in value.mentions:
                if not mention.label.strip():
                    return "schema", f"mention {mention.quote[:60]!r} has no label"
            return _quote_problem(request.trace, value.mentions)

        reply = await self._ask(self._extract_text, data, Extracted, check)
        mentions = reply.value.mentions
        quotes = [mention.quote for mention in mentions]
        spans, _ = locate_quotes(request.trace, quotes)
        totals.add(reply, all(is_exact(request.trace, *pair) for pair in zip(spans, quotes, strict=True)))
        places = [(span, clip_text(mention.label.lower(), 80)) for span, mention in zip(spans, mentions, strict=True)]
        return sorted(places, key=lambda place: place[0].start)

    async def _classify(
        self, request: JudgeRequest, events: Sequence[Event], places: Sequence[tuple[Span, str]], totals: _Totals
    ) -> tuple[Mention, ...]:
        """Classify the mentions against the events."""
        trace = request.trace
        # Short ids, so that a reply can be checked for missing and invented ones.
        ids = [f"m{number}" for number in range(len(places))]
        event_ids = {f"e{number}": number for number in range(len(events))}
        levels = request.truth.levels_db or (None,) * len(events)
        data = {
            "question": request.question,
            "choices": list(request.choices),
            "answer": request.answer,
            "events": [
                {"id": id_} | asdict(Event(event.label, event.onset_s, event.offset_s)) | {"level_db": level}
                for id_, event, level in zip(event_ids, events, levels, strict=True)
            ],
            "trace": trace,
            "mentions": [
                {
                    "id": id_,
                    # The context identifies a quote that occurs several times.
                    "before": trace[max(0, span.start - _CONTEXT_CHARS) : span.start],
                    "quote": trace[span.start : span.stop],
                    "after": trace[span.stop : span.stop + _CONTEXT_CHARS],
                }
                for id_, (span, _) in zip(ids, places, strict=True)
            ],
        }

        check = partial(_check_classification, ids=ids, event_ids=event_ids)
        reply = await self._ask(self._sort_text, data, Classification, check)
        totals.add(reply)
        by_id = {verdict.id: verdict for verdict in reply.value.verdicts}
        return tuple(
            Mention(
                id=id_,
                quote=trace[span.start : span.stop],
                chars=span,
                label=label,
                kind=MentionKind(by_id[id_].kind),
                events=tuple(sorted({event_ids[event] for event in by_id[id_].events})),
                reason=clip_text(by_id[id_].reason, _REASON_CHARS),
            )
            for id_, (span, label) in zip(ids, places, strict=True)
        )


def llm_judge(
    service: str,
    *,
    model: str | None = None,
    journal: Journal | None = None,
    sampling: Sampling | None = None,
    **options: Any,
) -> LLMJudge:
    """Make a judge with a model of a service.

    Args:
        service: One of :func:`mpar2.llm.services.service_names`.
        model: Name of the model; None takes ``MPAR2_JUDGE_MODEL``, else the service's default where it has one.
        journal: Journal of all replies, so that no reply is paid twice after a kill.
        sampling: Sampling options; None takes those of the service.
        **options: Address, key, limits and retries, as of :func:`mpar2.llm.services.connect`.

    Raises:
        SettingError: The service is unknown, no model is named, or the address is invalid.
        StopRun: There is no key.
    """
    client = connect(service, judge_model(service, model), **options)
    return LLMJudge(client if journal is None else RecordedClient(client, journal), service, sampling=sampling)


def data_block(data: dict[str, Any]) -> str:
    """Return ``data`` as JSON between delimiters that no text inside it can close.

    The hash in the delimiters depends on all of the data, so an author of the data cannot know it. In addition the
    characters of the delimiters are escaped inside the JSON strings, which a JSON parser undoes.

    >>> "DATA>>>" in data_block({"trace": "DATA>>>"}).removesuffix("DATA>>>")
    False
    """
    text = json.dumps(data, ensure_ascii=False)
    text = text.replace("<<<", "\\u003c\\u003c\\u003c").replace(">>>", "\\u003e\\u003e\\u003e")
    encoded = text.encode("utf-8", "backslashreplace")  # a lone surrogate becomes its JSON escape
    mark = hashlib.sha256(encoded).hexdigest()[:12]
    return f"<<<DATA {mark}\n{encoded.decode('utf-8')}\n{mark} DATA>>>"


def _quote_problem(
    text: str, items: Sequence[_Target] | Sequence[_Found], *, overlap: bool = False
) -> tuple[str, str] | None:
    if len(items) > _MAX_QUOTES:
        return "schema", f"{len(items)} quotes; list each mention once, at most {_MAX_QUOTES}"
    _, problem = locate_quotes(text, [item.quote for item in items], overlap=overlap)
    return ("bad_quote", problem) if problem else None


def _check_classification(
    value: Classification, ids: Sequence[str], event_ids: dict[str, int]
) -> tuple[str, str] | None:
    reply_ids = [verdict.id for verdict in value.verdicts]
    missing = [id_ for id_ in ids if id_ not in reply_ids]
    unknown = [id_ for id_ in reply_ids if id_ not in ids]
    duplicates = sorted({id_ for id_ in reply_ids if reply_ids.count(id_) > 1})
    if missing or unknown or duplicates:
        detail = f"missing: {missing[:10]}, unknown: {unknown[:10]}, more than once: {duplicates[:10]}"
        return "id_mismatch", f"each mention id exactly once; {detail}"
    for verdict in value.verdicts:
        unknown_events = [event for event in verdict.events if event not in event_ids]
        if unknown_events:
            there = f"there are {list(event_ids)[:50]}"
            return "id_mismatch", f"{verdict.id}: no event has id {unknown_events[:5]}; {there}"
        if verdict.kind in ("matched", "misused") and not verdict.events:
            return "id_mismatch", f"{verdict.id} is {verdict.kind}, so it needs the ids of the events that it refers to"
        if verdict.kind == "hallucinated" and verdict.events:
            return "id_mismatch", f"{verdict.id} is hallucinated, so it refers to no event"
    return None


class _Totals:
    """Running totals of one trace: replies, tokens and served versions."""

    def __init__(self) -> None:
        self.replies = 0
        self.lenient = 0
        self.usage = Usage()
        self.versions: set[str] = set()

    def add(self, reply: StructuredReply[Any], exact: bool = True) -> None:
        self.replies += reply.replies
        self.lenient += reply.lenient or not exact
        self.usage = self.usage + reply.usage
        self.versions |= {reply.reply.model_version} - {""}


# Reasons of the clients -> reasons of an unscored trace, where they differ.
_REASONS = {
    "empty": "invalid_json",
    "timeout": "unavailable",
    "bad_body": "unavailable",
    "too_long": "truncated",
    "bad_audio": "unavailable",
    "refused_audio": "bad_request",
}
