"""One line of ``items.jsonl``: the answer of one arm to one item in one sample, or the reason for its failure.

    key            "<id>|<arm>|<sample>"; once with status ok, any number of times before that with status error
    id, arm        of the item and of the arm; sample counts from 0
    status, error  "ok", or "error" with the reason
    item           the item in the format of :func:`mpar2.question.item_to_json`: question, choices, answer, truth
    text           the generated text; answer: the words of its answer; choice: the choice that they name
    prediction     input of the official rule: the choice, else the answer, else the reply (``mpar2.answers``)
    tokens         generated tokens; token_ends: end of each one in text (characters), None from servers
    seconds        wall time of this answer, from the start of its batch
    audio_seconds  audio that the model received; finish: "stop" or "length"
    attention      {"ratio": per token, "corrected": per token, "audio_positions": n, "frame_s": seconds of a position}
                   (``mpar2.attention``), or None
    served_model   the model that a server reports

A line may be untrusted, so ``check_record`` checks every field before use: types, lengths, finite numbers. Unknown
fields are dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from mpar2.question import (
    MAX_LABEL_CHARS,
    MAX_TEXT_CHARS,
    Item,
    QuestionError,
    item_from_json,
    item_to_json,
    short_repr,
)
from mpar2.runs.lines import RunError

__all__ = ["kind_of_message", "MAX_TEXT_CHARS", "check_record", "is_number", "item_of", "record_key"]

_MAX_NUMBERS = 2_000_000  # of one attention record


def record_key(id: str, arm: str, sample: int) -> str:
    """Return the key of a line. Arm names have no "|", so it can be parsed from its end.

    >>> record_key("a|b", "base", 0)
    'a|b|base|0'
    """
    return f"{id}|{arm}|{sample}"


def item_of(record: Mapping[str, Any]) -> Item:
    """Return the item of a line."""
    return item_from_json(record["item"], id=record["id"])


_PARTICULAR = re.compile(r"audio file .+? is not there|'[^']*'|\"[^\"]*\"|\d[\d.,]*")


def kind_of_message(message: str) -> str:
    """Return a message without details of one item: names, numbers, quoted words.

    >>> kind_of_message("the audio file a/1.wav is not there") == kind_of_message("the audio file b.wav is not there")
    True
    """
    return _PARTICULAR.sub("*", message)


def check_record(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the known fields of a line, each of the right type and within its limits.

    Raises:
        RunError: A field is missing or invalid, or fields contradict each other.
    """
    record: dict[str, Any] = {}
    for name, check in _FIELDS.items():
        value = raw.get(name)
        try:
            record[name] = None if value is None and name not in _REQUIRED else check(value)
        except ValueError as error:
            raise RunError(f"{where}: '{name}' {error}") from None
    if record["key"] != record_key(record["id"], record["arm"], record["sample"]):
        raise RunError(f"{where}: key {record['key']!r} does not belong to this id, arm and sample")
    if record["status"] == "error" and not record["error"]:
        raise RunError(f"{where}: status is error and no reason is given")
    if record["status"] == "ok" and record["text"] is None:
        raise RunError(f"{where}: status is ok and there is no text")
    return record


def _text(limit: int, *, empty: bool = True) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"is {short_repr(value)}; a text is needed")
        if len(value) > limit:
            raise ValueError(f"has {len(value):,} characters; the limit is {limit:,}")
        if not value and not empty:
            raise ValueError("is empty")
        return value

    return check


def _one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(f"is {short_repr(value)}; it must be one of {', '.join(words)}")
        return value

    return check


def _count(limit: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not 0 <= value <= limit:
            raise ValueError(f"is {short_repr(value)}; a whole number from 0 to {limit:,} is needed")
        return value

    return check


def _seconds(value: Any) -> float:
    if not is_number(value) or not 0 <= value <= 1e9:
        raise ValueError(f"is {short_repr(value)}; a number of seconds is needed")
    return float(value)


def _day(value: Any) -> float:
    """Check the duration of a recording in seconds, which becomes an axis of plots."""
    if _seconds(value) > 86_400:
        raise ValueError(f"is {short_repr(value)}; a recording has at most a day (86,400 s)")
    return _seconds(value)


def _item(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"is {short_repr(value)}; an object is needed")
    try:
        item = item_from_json(value, id="")
    except QuestionError as error:
        raise ValueError(f"is wrong: {error}") from None
    data = item_to_json(item)
    del data["id"]  # the line has it
    return data


def _ends(value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) > MAX_TEXT_CHARS or not all(type(end) is int for end in value):
        raise ValueError("must be a list of whole numbers")
    if any(a > b for a, b in pairwise((0, *value, MAX_TEXT_CHARS))):
        raise ValueError("must not fall, and must lie within the text")
    return value


def _numbers(value: Any) -> dict[str, Any]:
    """Check the attention of a record: names mapped to numbers, strings, and (nested) lists of numbers."""
    if not isinstance(value, dict) or len(value) > 64:
        raise ValueError(f"is {short_repr(value)}; an object of a few lists is needed")
    budget = _MAX_NUMBERS
    stack: list[tuple[Any, int]] = [(inner, 0) for inner in value.values()]
    while stack:
        inner, depth = stack.pop()
        if isinstance(inner, list) and depth < 4:
            budget -= len(inner)
            if budget < 0:
                raise ValueError(f"has more than {_MAX_NUMBERS:,} numbers")
            if not _are_numbers(inner):
                stack.extend((element, depth + 1) for element in inner)
        elif isinstance(inner, str):
            _text(MAX_LABEL_CHARS)(inner)
        elif not (inner is None or isinstance(inner, bool) or is_number(inner)):
            raise ValueError(f"holds {short_repr(inner)}; numbers, short texts and lists of numbers are allowed")
    return value


def _warnings(value: Any) -> list[str] | None:
    if not isinstance(value, list) or len(value) > 20 or not all(isinstance(line, str) for line in value):
        raise ValueError(f"is {short_repr(value)}; a list of at most 20 texts is needed")
    return [line[:500] for line in value] or None


def is_number(value: Any, limit: float = 1e300) -> bool:
    """Return whether a value is a number, not a bool, below a limit; NaN is none."""
    return type(value) in (int, float) and abs(value) < limit


def _are_numbers(values: list[Any]) -> bool:
    """Return whether a list holds numbers alone; several times faster than a check of each."""
    in_bounds = bool(values) and set(map(type, values)) <= {int, float} and -1e300 < min(values) <= max(values) < 1e300
    return in_bounds and not any(map(math.isnan, values))


_LABEL, _TEXT = _text(MAX_LABEL_CHARS), _text(MAX_TEXT_CHARS)
_REQUIRED = {"key", "id", "arm", "sample", "status", "item"}
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "key": _text(MAX_LABEL_CHARS, empty=False),
    "id": _text(MAX_LABEL_CHARS, empty=False),
    "arm": _text(200, empty=False),
    "sample": _count(1_000_000),
    "status": _one_of("ok", "error"),
    "error": _LABEL,
    "item": _item,
    "text": _TEXT,
    "answer": _TEXT,
    "choice": _LABEL,
    "prediction": _TEXT,
    "tokens": _count(10_000_000),
    "prompt_tokens": _count(10_000_000),
    "token_ends": _ends,
    "seconds": _seconds,
    "audio_seconds": _day,
    "finish": _one_of("stop", "length"),
    "attention": _numbers,
    "served_model": _LABEL,
    "warnings": _warnings,
}
