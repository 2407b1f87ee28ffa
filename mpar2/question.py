"""Questions, items and events, and the matching of answers: plain data shared by all modules.

Conventions: times are seconds from the start of the clip, intervals are half-open ``[onset_s, offset_s)``;
an unknown value is ``None``, never a placeholder.

Two rules decide whether a prediction is right:

``string_match``  the rule of the official MMAU and MMAR scripts (sets of words), used for published results. It
                  rejects right answers in wrapper sentences ("(A) Man" when another choice is "A child"), so map the
                  prediction with ``match_choice`` first; and it accepts the words of the answer in another order.
``strict_match``  normalised equality with the choice that the prediction names. Word order counts, so training
                  rewards use it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpar2.errors import MPAR2Error

__all__ = [
    "MAX_CHOICES",
    "MAX_CHOICE_CHARS",
    "MAX_LABEL_CHARS",
    "MAX_QUESTION_CHARS",
    "MAX_TEXT_CHARS",
    "Event",
    "Item",
    "Question",
    "QuestionError",
    "choice_letter",
    "item_from_json",
    "item_to_json",
    "make_question",
    "match_choice",
    "resolve_answer",
    "short_repr",
    "strict_match",
    "string_match",
]

MAX_QUESTION_CHARS = 1000
MAX_CHOICE_CHARS = 300
MAX_CHOICES = 26  # letters
# limits of an item, equal in a file of items and in a line of a run, for readers and writers
MAX_TEXT_CHARS = 400_000
MAX_LABEL_CHARS = 4000
_MAX_ID_CHARS = 3700  # with the names of arm and sample at most a label
_MAX_LISTED = 100  # choices
_MAX_EVENTS = 10_000
_FOREVER_S = 1e9


class QuestionError(MPAR2Error, ValueError):
    """The question is invalid; the message gives the remedy."""


@dataclass(frozen=True)
class Event:
    """An audible event: a label and, if known, its times in seconds."""

    label: str
    onset_s: float | None = None
    offset_s: float | None = None


@dataclass(frozen=True)
class Question:
    """A question about a clip. ``choices`` is empty for an open question; ``answer`` is the text of the true choice."""

    text: str
    choices: tuple[str, ...] = ()
    answer: str | None = None
    domain: str | None = None  # sound, music, speech, mix
    category: str | None = None
    sub_category: str | None = None
    difficulty: str | None = None  # easy, medium, hard


@dataclass(frozen=True)
class Item:
    """One clip (by path) and one question of a benchmark, with its truth if available.

    ``truth_origin`` is the source of ``events``: ``scene`` (exact annotation), ``human``, ``cue``, or
    ``caption:<model>``; ``None`` without truth.
    """

    id: str
    audio: str
    question: Question
    events: tuple[Event, ...] | None = None
    caption: str | None = None
    truth_origin: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def choice_letter(index: int) -> str:
    """Return the letter of a choice; beyond Z is a :class:`QuestionError`."""
    if not 0 <= index < MAX_CHOICES:
        raise QuestionError(f"choice {index + 1} has no letter: at most {MAX_CHOICES} choices can be shown")
    return chr(ord("A") + index)


def make_question(text: str, choices: Iterable[str] = (), **known: Any) -> Question:
    """Build a question from a user's input and check it.

    These rules do not apply to benchmark items (MMAU repeats choices): build :class:`Question` directly.

    Args:
        text: The question, 1 to ``MAX_QUESTION_CHARS`` characters without surrounding blanks.
        choices: None, or 2 to ``MAX_CHOICES`` distinct ones. Blank ones (empty lines of a text box) are dropped.
        **known: Further fields of :class:`Question`. An ``answer`` may name a choice by its letter.

    Returns:
        The question; its answer is the text of its choice.

    Raises:
        QuestionError: Text, choices or answer are invalid; the message gives the problem and the remedy.
    """
    if isinstance(choices, str):
        raise QuestionError("the choices came as one text; give a list, one entry for each choice")
    text = text.strip()
    cleaned = tuple(stripped for choice in choices if (stripped := choice.strip()))
    if not text:
        raise QuestionError("the question is empty: write what you want to know about the audio")
    if len(text) > MAX_QUESTION_CHARS:
        raise QuestionError(f"the question has {len(text)} characters; the limit is {MAX_QUESTION_CHARS}: shorten it")
    if len(cleaned) == 1:
        raise QuestionError("there is only one choice: give at least two, or none for an open question")
    if len(cleaned) > MAX_CHOICES:
        raise QuestionError(f"there are {len(cleaned)} choices; the limit is {MAX_CHOICES}: remove some")
    originals: dict[str, str] = {}
    for choice in cleaned:
        if len(choice) > MAX_CHOICE_CHARS:
            raise QuestionError(
                f"the choice '{choice[:40]}…' has {len(choice)} characters; the limit is {MAX_CHOICE_CHARS}: "
                "shorten it, and write one choice on each line"
            )
        key = _normalise(choice)
        if key in originals:
            raise QuestionError(f"the choices '{originals[key]}' and '{choice}' are the same: change or remove one")
        originals[key] = choice
    answer = known.pop("answer", None)
    if answer is not None and cleaned:
        match = match_choice(answer, cleaned)
        if match is None:
            raise QuestionError(f"the right answer '{answer[:80]}' is not one of the choices: copy one of them")
        answer = match
    return Question(text=text, choices=cleaned, answer=answer, **known)


def resolve_answer(answer: str | None, choices: Sequence[str]) -> str | None:
    """Map a true answer to the text of its choice; data sets also use letters, or other case or punctuation.

    Args:
        answer: The answer in the data; None if withheld.
        choices: The choices of the question; empty for an open question.

    Returns:
        The choice that ``answer`` names; ``answer`` itself if it names none.

    >>> resolve_answer("B", ["Man", "Woman"]), resolve_answer("Nobody", ["Man", "Woman"])
    ('Woman', 'Nobody')
    """
    if answer is None or not choices or answer in choices:
        return answer
    return match_choice(answer, choices) or answer


_LETTER = re.compile(r"(?:(?:option|choice|answer)\s*:?\s*)?(?:\(([a-z])\)|\[([a-z])\]|([a-z]))[.:)]?", re.IGNORECASE)
_LETTER_AND_TEXT = re.compile(
    r"(?:(?:option|choice|answer)\s*:?\s*)?(?:\(([a-z])\)[.:]?|\[([a-z])\][.:]?|([a-z])[.:)])\s*(\S.*)",
    re.IGNORECASE | re.DOTALL,
)


def match_choice(text: str | None, choices: Sequence[str]) -> str | None:
    """Find the choice that a text names by its letter, by "(A) its text", or by its text.

    Texts are compared without case, surrounding quotes and final punctuation. The text precedes the letter: with
    choices ("B", "A"), "A" is the second, "(A)" the first. A letter with another choice's text is ambiguous.

    Args:
        text: The text; None or a blank one names nothing.
        choices: The choices, in the order of their letters.

    Returns:
        The choice; None if none is named, or several.

    >>> match_choice("(b) a woman.", ["Man", "A woman"]), match_choice("B", ["Man", "A woman"])
    ('A woman', 'A woman')
    >>> match_choice("(A) a woman", ["Man", "A woman"]) is None
    True
    """
    if not text or not text.strip():
        return None
    matches = _by_text(text, choices)
    if matches or len(choices) > MAX_CHOICES:
        return matches[0] if len(matches) == 1 else None
    label = text.strip().strip(_QUOTES).strip()
    if match := _LETTER.fullmatch(label):
        return _by_letter(match, choices)
    if match := _LETTER_AND_TEXT.fullmatch(label):
        lettered = _by_letter(match, choices)
        return lettered if lettered is not None and lettered in _by_text(match[4], choices) else None
    return None


def _by_letter(match: re.Match[str], choices: Sequence[str]) -> str | None:
    index = ord((match[1] or match[2] or match[3]).upper()) - ord("A")
    return choices[index] if index < len(choices) else None


def _by_text(text: str, choices: Sequence[str]) -> list[str]:
    """Return the distinct choices with this text.

    More than one only if they differ in case or punctuation alone.
    """
    exact = [choice for choice in choices if choice.strip() == text.strip()]
    if exact:
        return exact[:1]
    target = _normalise(text)
    matches = [
        choice for i, choice in enumerate(choices) if target in (_normalise(choice), _without_own_letter(i, choice))
    ]
    return list(dict.fromkeys(matches))


def _without_own_letter(index: int, choice: str) -> str:
    """Return a choice without its own letter: some MMAU choices begin with "A.", which a model may omit."""
    match = _LETTER_AND_TEXT.fullmatch(choice.strip())
    is_own = match and ord((match[1] or match[2] or match[3]).upper()) - ord("A") == index
    return _normalise(match[4]) if match and is_own else _normalise(choice)


_QUOTES = "\"'`*“”‘’«»"


def _normalise(text: str) -> str:
    """Fold case, compatibility forms, blanks, surrounding quotes and final punctuation."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    stripped = folded.strip(_QUOTES).rstrip(".!?,;:").strip(_QUOTES).strip()
    return stripped or folded  # "?" as a choice stays "?"


def strict_match(answer: str, prediction: str | None, choices: Sequence[str] = ()) -> bool:
    """Compare a prediction with the answer by normalised equality.

    Args:
        answer: The true answer, as written in its choice.
        prediction: The predicted answer; None is wrong.
        choices: The choices of the question; empty for an open question.

    Returns:
        True if the prediction names the choice that is the answer; without choices, if it equals the answer.
    """
    if not prediction:
        return False
    choice = match_choice(prediction, choices) if choices else prediction
    return choice is not None and _normalise(choice) == _normalise(answer)


def string_match(answer: str, prediction: str | None, choices: Sequence[str]) -> bool:
    """Compare a prediction with the answer by the official rule of MMAU and MMAR.

    Let A be the set of lower-case words of the answer, P that of the prediction, and B that of all other choices
    without A. The prediction is right iff P is not empty, A is a subset of P, and P and B are disjoint.

    Source:
        ``evaluation.py`` of MMAU (arXiv 2410.19168) and of MMAR (arXiv 2505.13032).
    """
    prediction_words, answer_words = _words(prediction or ""), _words(answer)
    if not prediction_words:
        return False
    other_words = set().union(*(_words(choice) - answer_words for choice in choices))
    return answer_words <= prediction_words and prediction_words.isdisjoint(other_words)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\b\w+\b", text.lower()))


_QUESTION_KEYS = ("answer", "domain", "category", "sub_category", "difficulty")


def item_to_json(item: Item) -> dict[str, Any]:
    """Return the item as flat JSON values, the ``item`` of a run's lines. An empty ``extra`` is omitted."""
    question = item.question
    data: dict[str, Any] = {"id": item.id, "audio": item.audio}
    data |= {"question": question.text, "choices": list(question.choices)}
    data |= {key: getattr(question, key) for key in _QUESTION_KEYS}
    events = [{"label": e.label, "onset_s": e.onset_s, "offset_s": e.offset_s} for e in item.events or ()]
    data |= {"events": None if item.events is None else events}
    data |= {"caption": item.caption, "truth_origin": item.truth_origin}
    return data | ({"extra": item.extra} if item.extra else {})


def item_from_json(data: Mapping[str, Any], id: str | None = None) -> Item:
    """Build an item from JSON values, the inverse of :func:`item_to_json`.

    Args:
        data: The fields of the item. Unknown fields are ignored; null and missing are the same.
        id: Default id.

    Returns:
        The item; an answer letter is replaced by its choice.

    Raises:
        QuestionError: A field has a wrong type (NaN is neither text nor a time); the message names item and field.
    """
    # The id: the item's own, else the caller's.
    own_id = data.get("id")
    if own_id is not None and (isinstance(own_id, bool) or not isinstance(own_id, str | int) or own_id == ""):
        raise QuestionError(f"'id' is {short_repr(own_id)}; a text or a whole number is needed")
    id = id if own_id is None else own_id
    if id is None:
        raise QuestionError("an item has no id: give one as 'id'")
    where = f"item {str(id)[:80]}: " if id != "" else ""
    # Texts, with their limits.
    _check_length("id", str(id), _MAX_ID_CHARS, where)
    for key in ("audio", "question", *_QUESTION_KEYS, "caption", "truth_origin"):
        value = data.get(key)
        if not isinstance(value, str) and (value is not None or key in ("audio", "question")):
            raise QuestionError(f"{where}'{key}' is {short_repr(value)}; a text is needed")
        _check_length(key, value or "", MAX_TEXT_CHARS if key in ("question", "caption") else MAX_LABEL_CHARS, where)
    # Choices before the answer, which may be the letter of one.
    choices = () if data.get("choices") is None else data["choices"]
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) for choice in choices):
        got = short_repr(choices)
        raise QuestionError(f"{where}'choices' is {got}; a list of texts is needed, one for each choice")
    choices = tuple(choices)
    if len(choices) > _MAX_LISTED:
        raise QuestionError(f"{where}'choices' has {len(choices)} entries; the limit is {_MAX_LISTED}")
    for choice in choices:
        _check_length("choices", choice, MAX_LABEL_CHARS, where)
    question = Question(
        text=data["question"],
        choices=choices,
        answer=resolve_answer(data.get("answer"), choices),
        **{key: data.get(key) for key in _QUESTION_KEYS if key != "answer"},
    )
    return Item(
        id=str(id),
        audio=data["audio"],
        question=question,
        events=_events_from_json(data.get("events"), where),
        caption=data.get("caption"),
        truth_origin=data.get("truth_origin"),
        extra=_extra_from_json(data.get("extra"), where),
    )


def _check_length(key: str, value: str, limit: int, where: str) -> None:
    if len(value) > limit:
        raise QuestionError(f"{where}'{key}' has {len(value):,} characters; the limit is {limit:,}")


def _extra_from_json(extra: Any, where: str) -> dict[str, Any]:
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise QuestionError(f"{where}'extra' is {short_repr(extra)}; an object is needed")
    try:
        length = len(json.dumps(extra, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise QuestionError(f"{where}'extra' cannot be written as JSON ({str(error)[:80]})") from None
    if length > MAX_TEXT_CHARS:
        raise QuestionError(f"{where}'extra' has {length:,} characters; the limit is {MAX_TEXT_CHARS:,}")
    return dict(extra)


def _events_from_json(events: Any, where: str) -> tuple[Event, ...] | None:
    if events is None:
        return None
    if not isinstance(events, list | tuple):
        raise QuestionError(f"{where}'events' is {short_repr(events)}; a list of objects with a 'label' is needed")
    if len(events) > _MAX_EVENTS:
        raise QuestionError(f"{where}'events' has {len(events):,} entries; the limit is {_MAX_EVENTS:,}")
    parsed = []
    for number, event in enumerate(events, 1):
        if not isinstance(event, Mapping) or not isinstance(event.get("label"), str) or not event["label"].strip():
            raise QuestionError(
                f"{where}entry {number} of 'events' is {short_repr(event)}; an object with a text as 'label' is needed"
            )
        _check_length(f"label' of entry {number} in 'events", event["label"], MAX_LABEL_CHARS, where)
        times = event.get("onset_s"), event.get("offset_s")
        for key, time in zip(("onset_s", "offset_s"), times, strict=True):
            if time is not None and not (type(time) in (int, float) and abs(time) < _FOREVER_S):
                raise QuestionError(
                    f"{where}'{key}' of entry {number} in 'events' is {short_repr(time)}; seconds or null are needed"
                )
        parsed.append(Event(event["label"], *times))
    return tuple(parsed)


def short_repr(value: Any) -> str:
    """Return a value as in Python, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
