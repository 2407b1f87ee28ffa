"""Parse a reply into a value of a schema, or a reason for rejection.

The JSON of a reply is the whole reply, or else the only object in it, which is *lenient* and counted: models wrap it in
thoughts, fences, notes or a list of one, and leave commas before closing brackets. Ambiguous replies are rejected with
a reason: two different objects, a name with two different values, NaN. So are Python literals (single quotes) and
truncated replies.

``parse`` parses one reply. ``ask`` sends the reason back, at most ``repairs`` times, if the reply was truncated,
empty, no JSON, of the wrong shape, or fails the caller's ``check``. A blocked reply is not repeated: the same words
would be blocked, and billed, again. Every reply counts towards the usage, including rejected ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from mpar2.llm.base import ChatClient, Part, Reply, Sampling, Usage
from mpar2.llm.errors import ReplyRejected, clip_text

__all__ = ["StructuredReply", "ask", "parse"]

M = TypeVar("M", bound=BaseModel)
Check = Callable[[M], "tuple[str, str] | None"]

_MAX_TOKENS_CAP = 65536


@dataclass(frozen=True)
class StructuredReply(Generic[M]):
    """A valid value with its reply, and the rejected replies before it."""

    value: M
    reply: Reply
    replies: int
    usage: Usage
    rejected: tuple[str, ...] = ()  # reasons of the earlier replies
    lenient: bool = False  # the reply contains more than the JSON of the value


def parse(reply: Reply, schema: type[M]) -> M:
    """Parse the value in a reply.

    Raises:
        ReplyRejected: With the reason blocked, truncated, empty, invalid_json or schema.
    """
    return _parse(reply, schema)[0]


def _parse(reply: Reply, schema: type[M]) -> tuple[M, bool]:
    """Parse the value in ``reply``, and whether the reply contains more than its JSON."""
    if reply.finish == "blocked":
        raise ReplyRejected("blocked", f"the service refused: {reply.detail or 'no reason given'}", usage=reply.usage)
    if reply.finish == "length":
        raise ReplyRejected("truncated", f"reply ends in the middle ({reply.detail})", usage=reply.usage)
    text = reply.text.strip()
    if not text:
        raise ReplyRejected("empty", f"reply is empty (finish: {reply.detail or reply.finish})", usage=reply.usage)
    try:
        data, lenient = _read_json(text)
    except (ValueError, RecursionError) as error:
        raise ReplyRejected("invalid_json", f"reply is no JSON: {clip_text(str(error))}", usage=reply.usage) from None
    try:
        return schema.model_validate(data), lenient
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[:3]
        message = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'reply'}: {e['msg']}" for e in first)
        raise ReplyRejected("schema", clip_text(message), usage=reply.usage) from None


async def ask(
    client: ChatClient,
    system: str,
    parts: Sequence[Part],
    schema: type[M],
    *,
    sampling: Sampling | None = None,
    check: Check[M] | None = None,
    repairs: int = 2,
) -> StructuredReply[M]:
    """Request a completion until a reply is valid.

    Args:
        client: Client of the model.
        system: The system prompt.
        parts: The user's turn: texts and audio files.
        schema: Schema of the value.
        sampling: Sampling parameters; after a truncated reply the limit of tokens is doubled.
        check: Checks a value of the schema: None, or (reason, message), which the next request quotes.
        repairs: Largest number of repeated requests.

    Raises:
        ReplyRejected: No reply was valid, or one was blocked; with the reason of the last.
        LLMError: The service gave no answer.
    """
    usage = Usage()
    rejected: list[str] = []
    request = list(parts)
    while True:
        reply = await client.complete(system, request, schema, sampling)
        usage = usage + reply.usage
        try:
            value, lenient = _parse(reply, schema)
            problem = check(value) if check is not None else None
            if problem is None:
                return StructuredReply(value, reply, len(rejected) + 1, usage, tuple(rejected), lenient)
            raise ReplyRejected(*problem)
        except ReplyRejected as error:
            rejected.append(error.reason)
            if error.reason == "blocked" or len(rejected) > repairs:
                raise ReplyRejected(
                    error.reason, error.detail, len(rejected), usage, reply=reply, rejected=tuple(rejected)
                ) from None
            reason, detail = error.reason, error.detail
        if reason == "truncated" and sampling is not None:
            sampling = replace(sampling, max_tokens=min(2 * sampling.max_tokens, _MAX_TOKENS_CAP))
        # as JSON: the detail may quote the reply, which may quote the trace
        note = {"rejected_reply": len(rejected), "reason": reason, "detail": detail}
        request = [*parts, f"Your last reply was not accepted. Reply again, whole and valid.\n{json.dumps(note)}"]


_MAX_OBJECTS = 64  # object starts that are tried in one reply
_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\Z)'  # an unterminated string is scanned once
_BRACKETS = re.compile(rf"{_STRING}|[{{}}]", re.DOTALL)
_LAST_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_OBJECT = re.compile(r'\{\s*["}]')


class _AmbiguousError(ValueError):
    """JSON that parsers interpret differently."""


def _no_constant(name: str) -> float:
    raise _AmbiguousError(f"{name} is no JSON number")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    for name, value in pairs if len(values) < len(pairs) else ():
        if values[name] != value:
            raise _AmbiguousError(f"{clip_text(name, 80)!r} is given twice with different values")
    return values


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique_names)


def _read_json(text: str) -> tuple[Any, bool]:
    """Parse the JSON of a reply: strictly, else the only object after the thoughts, else in the whole reply.

    Returns:
        The value, and whether the reply contains more than its JSON.
    """
    try:
        value = _DECODER.decode(text)
    except _AmbiguousError:
        raise
    except ValueError as error:
        strict = error
    else:
        if not value or not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            return value, False
        if len(value) == 1:
            return value[0], True
        raise ValueError(f"it is a list of {len(value)} objects: write one, and nothing else")
    thoughts, mark, rest = text.rpartition("</think>")
    for part in (rest, thoughts) if mark else (text,):
        objects = _objects(part)
        if len(objects) == 1:
            return objects[0], True
        if objects:
            raise ValueError(f"it holds {len(objects)} different objects: write one, and nothing else")
    raise strict


def _objects(text: str) -> list[Any]:
    """Return the distinct outermost JSON objects in ``text``.

    Braces inside strings do not count.
    """
    objects: list[Any] = []
    place = text.find("{")
    for _ in range(_MAX_OBJECTS):
        if place < 0:
            break
        end = place + 1
        if _OBJECT.match(text, place):  # else a brace of prose
            if (end := _balanced(text, place)) < 0:
                break  # this object never ends, and any inner object is only a fragment
            try:
                value = _DECODER.decode(_LAST_COMMA.sub(r"\1", text[place:end]))
            except _AmbiguousError:
                raise
            except (ValueError, RecursionError):
                pass
            else:
                if value not in objects and value != {}:
                    objects.append(value)
        place = text.find("{", end)
    return objects


def _balanced(text: str, start: int) -> int:
    """Return the end of the object that begins at ``start``, -1 if it has none."""
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        if match.group() in "{}":
            depth += 1 if match.group() == "{" else -1
            if depth == 0:
                return match.end()
    return -1
