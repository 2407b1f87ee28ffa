"""Data types of CAFE: truth, mentions, verdicts, and the decision table that all judges follow.

Conventions
-----------
* Character spans are half-open and count characters of the raw trace text, tags included, so that
  ``trace[mention.chars.start:mention.chars.stop] == mention.quote``.
* Truth events are numbered from 0 in the order of ``Truth.events``. Where the truth is only a caption, the judge
  extracts the events from the caption and lists them in ``Verdict.targets``; the numbers index that list.
* A mention is one span of the trace that names something audible. Every mention has exactly one kind.
* ``missed`` is not a kind of mention: it holds the events that no matched or misused mention refers to
  (:func:`missed_events`).

Source: arXiv 2603.02266 names five kinds (matched, hallucinated, misused, missed, neutral) and gives the extractor the
question, the answer, the caption and the reasoning. It does not define which phrase gets which kind. The rules of
:data:`DECISION_TABLE` are this project's own. The reference judge, the prompts of the model judges, the rating sheet
and the end of this text (``help(mpar2.cafe.schema)``) all use that one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol

from mpar2 import __version__
from mpar2.question import Event
from mpar2.trace import Span

__all__ = [
    "DECISION_TABLE",
    "UNSCORED_REASONS",
    "Decision",
    "Judge",
    "JudgeRequest",
    "Mention",
    "MentionKind",
    "Truth",
    "Unscored",
    "Verdict",
    "decision_text",
    "missed_events",
    "validate_verdict",
]


class MentionKind(StrEnum):
    """Kind of a mention, by comparison with the truth."""

    MATCHED = "matched"
    HALLUCINATED = "hallucinated"
    MISUSED = "misused"
    NEUTRAL = "neutral"


_ERROR_WORDS = (
    ("temporal", ("time", "order", "before", "after", "onset", "first", "last")),
    ("attribute", ("count", "number", "loud", "quiet", "long", "short")),
    ("semantic", ("source", "attribute", "speaker", "man", "woman", "another kind")),
)


@dataclass(frozen=True)
class Truth:
    """The audible events of a clip, with the origin of the annotation.

    Attributes:
        events: None where only a caption is known; an empty tuple where nothing is audible.
        caption: A caption of the clip.
        origin: ``scene`` (exact annotation), ``human``, ``cue``, ``caption:<model>``, or ``tagger``
            (``mpar2.tagger``).
        levels_db: Level of each event in dB, to decide "loudest"; None where levels are unknown.
        unsure: Events that may or may not be audible. They are no targets, and a mention of one is neutral instead of
            hallucinated.
    """

    events: tuple[Event, ...] | None
    caption: str | None = None
    origin: str = "human"
    levels_db: tuple[float | None, ...] | None = None
    unsure: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        if self.events is None and not (self.caption or "").strip():
            raise ValueError("a truth needs events or a caption; got neither (is the item unannotated?)")
        if self.levels_db is not None and len(self.levels_db) != len(self.events or ()):
            raise ValueError(f"{len(self.levels_db)} levels for {len(self.events or ())} events: give one per event")


@dataclass(frozen=True)
class Mention:
    """One span of a trace that names an event.

    ``label`` is the name of the event in few words, the same for every mention of it ("dog bark"). Hallucinated
    mentions with the same label are one hallucinated event. ``events`` are the truth events that the mention refers to:
    at least one when matched or misused, several for "two barks" or "the barks", none when hallucinated.
    """

    id: str
    quote: str
    chars: Span
    label: str
    kind: MentionKind
    events: tuple[int, ...] = ()
    reason: str = ""
    claims: tuple[str, ...] = ()  # kinds of its claims beyond presence: time, order, count, attribute
    part: str = ""  # part of the trace: perception, step 2, review, ...; empty outside of parts

    @property
    def error(self) -> str | None:
        """Type of the error, or None where the mention is right.

        ``existence`` (the sound is absent), ``semantic`` (another source or kind), ``temporal`` (time or order),
        ``attribute`` (count, length, loudness), ``reasoning`` (a conclusion that the event does not support).
        """
        if self.kind is MentionKind.HALLUCINATED:
            return "existence"
        if self.kind is not MentionKind.MISUSED:
            return None
        reason = self.reason.lower()
        if reason.startswith(("wrong time", "wrong order")):
            return "temporal"
        if reason.startswith(("wrong source", "wrong attribute: the truth has")):
            return "semantic"
        if reason.startswith(("wrong count", "wrong attribute")):
            return "attribute"
        # The reason of a model judge is free text.
        for error, words in _ERROR_WORDS:
            if any(word in reason for word in words):
                return error
        return "reasoning"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data; :meth:`from_dict` reads it back."""
        return {
            "id": self.id,
            "quote": self.quote,
            "start": self.chars.start,
            "stop": self.chars.stop,
            "label": self.label,
            "kind": str(self.kind),
            "events": list(self.events),
            "reason": self.reason,
            "error": self.error,
            "claims": list(self.claims),
            "part": self.part,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Mention:
        """Build a mention from the data of :meth:`as_dict`; KeyError, TypeError or ValueError for another form."""
        return cls(
            id=str(data["id"]),
            quote=str(data["quote"]),
            chars=Span(int(data["start"]), int(data["stop"])),
            label=str(data["label"]),
            kind=MentionKind(data["kind"]),
            events=tuple(int(index) for index in _list(data["events"])),
            reason=str(data.get("reason", "")),
            claims=tuple(str(claim) for claim in _list(data.get("claims", ()))),
            part=str(data.get("part", "")),
        )


@dataclass(frozen=True)
class Verdict:
    """The verdict of a judge on one trace, with its provenance."""

    mentions: tuple[Mention, ...]
    missed: tuple[int, ...]
    targets: tuple[str, ...]  # labels of the truth events, or of the events extracted from the caption
    judge: str  # reference, gemini, server
    truth_origin: str
    model: str | None = None  # id in the request
    model_version: str | None = None  # served version, as reported by the service
    prompt_hash: str | None = None
    package_version: str = __version__
    attempts: int = 1
    input_tokens: int = 0  # over all attempts; 0 for judges that use no model
    output_tokens: int = 0
    uncovered: tuple[str, ...] = ()  # nouns in the context of hearing outside of the judge's vocabulary
    lenient: int = 0  # number of replies of a model judge that were read leniently

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data; :meth:`from_dict` reads it back."""
        lists = {name: list(getattr(self, name)) for name in ("missed", "targets", "uncovered")}
        return vars(self) | lists | {"mentions": [mention.as_dict() for mention in self.mentions]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Verdict:
        """Build a verdict from the data of :meth:`as_dict`; KeyError, TypeError or ValueError for another form."""
        return cls(
            mentions=tuple(Mention.from_dict(mention) for mention in _list(data["mentions"])),
            missed=tuple(int(index) for index in _list(data["missed"])),
            targets=tuple(str(label) for label in _list(data["targets"])),
            judge=str(data["judge"]),
            truth_origin=str(data["truth_origin"]),
            package_version=str(data["package_version"]),
            uncovered=tuple(str(word) for word in _list(data.get("uncovered", ()))),
            **{name: _text_or_none(data.get(name)) for name in ("model", "model_version", "prompt_hash")},
            **{
                name: int(data[name])
                for name in ("attempts", "input_tokens", "output_tokens", "lenient")
                if name in data
            },
        )


_NUMBERS = ("attempts", "input_tokens", "output_tokens", "lenient")


def _list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{str(value)[:40]!r} where a list is needed")
    return value


def _text_or_none(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} where a text is needed")
    return value


UNSCORED_REASONS = (
    "no_truth",  # neither events nor a caption, or only a caption for a judge that needs events
    "blocked",  # the service refused
    "truncated",  # the reply is incomplete
    "invalid_json",
    "schema",  # JSON, but not of the requested form
    "id_mismatch",  # mention ids or event numbers missing, repeated or unknown
    "bad_quote",  # a quote that is not in the trace
    "rate_limited",
    "unavailable",
    "bad_request",  # the service refused this request
    "auth",
    "error",  # the run's own line is an error: there is no trace to score
)


@dataclass(frozen=True)
class Unscored:
    """The reason why a trace has no verdict. It never counts as a zero."""

    reason: str
    detail: str = ""
    attempts: int = 1

    def __post_init__(self) -> None:
        if self.reason not in UNSCORED_REASONS:
            raise ValueError(f"unknown reason {self.reason!r}; use one of {', '.join(UNSCORED_REASONS)}")
        if not isinstance(self.detail, str) or type(self.attempts) is not int:
            raise TypeError("detail is a text, attempts a whole number")


@dataclass(frozen=True)
class JudgeRequest:
    """The input of a judge. ``trace`` is the raw text; ``answer`` is the true choice, None where unknown."""

    question: str
    choices: tuple[str, ...]
    answer: str | None
    truth: Truth
    trace: str


class Judge(Protocol):
    """Classifies the event mentions of a trace. ``id`` is ``reference``, ``gemini`` or ``server``."""

    id: str
    model: str | None
    prompt_hash: str | None

    async def judge(self, request: JudgeRequest) -> Verdict | Unscored:
        """Judge one trace.

        Args:
            request: The trace with its truth.

        Returns:
            The verdict, or the reason why there is none.
        """
        ...


def missed_events(mentions: Iterable[Mention], n_targets: int) -> tuple[int, ...]:
    """Return the truth events that no matched or misused mention refers to.

    >>> missed_events([], 2)
    (0, 1)
    """
    kinds = (MentionKind.MATCHED, MentionKind.MISUSED)
    events = {index for mention in mentions if mention.kind in kinds for index in mention.events}
    return tuple(index for index in range(n_targets) if index not in events)


def validate_verdict(verdict: Verdict, trace: str) -> None:
    """Raise ``ValueError``, which names the mention, for a verdict that contradicts itself or its trace."""
    ids: set[str] = set()
    for mention in verdict.mentions:
        prefix = f"mention {mention.id!r} ({mention.quote[:40]!r})"
        if mention.id in ids:
            raise ValueError(f"{prefix}: its id occurs twice; each mention needs one verdict")
        ids.add(mention.id)
        if not mention.quote.strip() or trace[mention.chars.start : mention.chars.stop] != mention.quote:
            raise ValueError(f"{prefix}: the trace does not read so at {mention.chars.start}:{mention.chars.stop}")
        unknown = [index for index in mention.events if not 0 <= index < len(verdict.targets)]
        if unknown:
            raise ValueError(f"{prefix}: event {unknown[0]} of {len(verdict.targets)}; events count from 0")
        if mention.kind in (MentionKind.MATCHED, MentionKind.MISUSED) and not mention.events:
            raise ValueError(f"{prefix}: {mention.kind} without the truth event that it refers to")
        if mention.kind is MentionKind.HALLUCINATED and mention.events:
            raise ValueError(f"{prefix}: hallucinated, yet refers to truth event {mention.events[0]}")
    expected = missed_events(verdict.mentions, len(verdict.targets))
    if tuple(sorted(verdict.missed)) != expected:
        raise ValueError(f"missed is {list(verdict.missed)}, but the mentions leave {list(expected)}")


Outcome = Literal["matched", "hallucinated", "misused", "neutral"]


@dataclass(frozen=True)
class Decision:
    """One row of the decision table: under ``condition`` the mention ``quote`` in ``text`` is of ``kind``."""

    condition: str
    kind: MentionKind
    truth: str
    text: str
    quote: str
    why: str


def _rows(*rows: tuple[str, Outcome, str, str, str, str]) -> tuple[Decision, ...]:
    return tuple(Decision(row[0], MentionKind(row[1]), *row[2:]) for row in rows)


#: The first row that applies decides. Truths are written as "label onset-offset" in seconds.
DECISION_TABLE: tuple[Decision, ...] = _rows(
    ("asked, not claimed: in a question, in <ask>, or as an option, quoted or listed from the question",
     "neutral", "dog bark 0-2", "<ask>Is there a siren?</ask>", "siren",
     "asking about an event does not say that it is heard"),
    ("in <answer>, or named as the answer ('the answer is ...')",
     "neutral", "dog bark 0-2", "<answer>siren</answer>", "siren",
     "the answer is scored by accuracy; its words are those of a choice"),
    ("denied: the trace says that the event is not there, true or not",
     "neutral", "dog bark 0-2", "No dog is heard.", "dog",
     "nothing is asserted; a real event that is only denied stays missed"),
    ("left open: maybe, perhaps, possibly, might, could, not sure, either ... or, if",
     "neutral", "dog bark 0-2", "It may be a wolf.", "wolf",
     "the trace does not commit itself; probably, likely and sounds like do commit"),
    ("general: names a family of sounds of which the truth has a member",
     "neutral", "dog bark 0-2", "An animal is heard.", "animal",
     "supported, but names no event"),
    ("nothing like it in the truth, nor a member of the family that it names",
     "hallucinated", "dog bark 0-2", "A siren wails.", "siren",
     "the clip does not hold it"),
    ("wrong time: the claimed time lies off the event, beyond the tolerance",
     "misused", "dog bark 0-2", "A dog barks at 7 s.", "dog barks",
     "real event, wrong time"),
    ("wrong order: before, after, first, last, then, followed by, at the same time",
     "misused", "dog bark 0-2, siren 4-6", "The siren sounds before the dog barks.", "siren",
     "both are real, their order is claimed wrongly; each side of the claim is misused"),
    ("wrong count: a number (or once, twice, 'the only') that is not the truth's",
     "misused", "dog bark 0-2", "Three dog barks are heard.", "Three dog barks",
     "real event, wrong count; a bare 'a dog barks' claims no number"),
    ("wrong source or attribute: another maker of the sound, or longest, shortest, loudest, quietest when it is not",
     "misused", "male speech 0-2", "A woman is speaking.", "woman is speaking",
     "somebody speaks, but not a woman"),
    ("wrong use: the event is real, but a conclusion is drawn that it does not bear",
     "misused", "dog bark 0-2", "The dog barks, so this is underwater.", "dog barks",
     "the event is there and does not say so; only judges with language understanding decide this row"),
    ("otherwise: the truth has the event, by its label, a synonym or a more or less precise name",
     "matched", "dog bark 0-2", "Barking is heard at the start.", "Barking",
     "real event and nothing claimed wrongly"),
)  # fmt: skip


def decision_text() -> str:
    """Return the decision table as numbered plain text, one paragraph per row, for prompts and the rating sheet."""
    return "\n".join(
        f"{number}. {row.kind.value.upper()} if {row.condition}.\n"
        f"   Truth: {row.truth}. Trace: {row.text} Mention: {row.quote!r}. Why: {row.why}."
        for number, row in enumerate(DECISION_TABLE, start=1)
    )


__doc__ = f"{__doc__}\nDecision table\n--------------\nThe first row that applies decides.\n\n{decision_text()}\n"
