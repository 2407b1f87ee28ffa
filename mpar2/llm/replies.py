"""Parse the body of a successful response into text, reasoning, finish and counts: pure functions over decoded JSON.

Servers return bodies of any shape under status 200. Missing or malformed optional fields (usage, model,
log-probabilities) are skipped; a malformed message is a :class:`BadBodyError`, which fails only its request. Text is
bounded in characters, and an unpaired surrogate, which UTF-8 cannot encode, becomes U+FFFD.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mpar2.llm.base import Finish, Reply, Structured, TokenLogprob, Usage
from mpar2.llm.errors import clip_text
from mpar2.llm.retry import error_message

__all__ = [
    "MAX_REPLY_CHARS",
    "BadBodyError",
    "ErrorInReply",
    "Parts",
    "decode_json",
    "gemini_parts",
    "openai_delta",
    "openai_parts",
]

MAX_REPLY_CHARS = 400_000  # 65,536 tokens of English are about 300,000 characters
_MAX_COUNT = 10**9  # upper bound on tokens of a reply

# Values for "the model finished": OpenAI's, and those that other servers send instead.
_OPENAI_FINISH: dict[str, Finish] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_str", "complete", "done"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_length", "model_length"), "length"),
    **dict.fromkeys(("content_filter", "content_filtered", "safety", "refusal"), "blocked"),
}
_GEMINI_BLOCKED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"}
_GEMINI_BLOCKED |= {"IMAGE_SAFETY"}


class BadBodyError(Exception):
    """A body without a reply under status 200."""


class ErrorInReply(Exception):
    """An error that a gateway reports under status 200."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(error_message(body))
        self.status = status
        self.body = body


@dataclass
class Parts:
    """The parsed content of one body, or of the chunks of a stream."""

    text: str = ""
    reasoning: str = ""
    finish: Finish = "other"
    detail: str = ""  # the service's own term for the end
    model_version: str = ""
    usage: Usage = field(default_factory=Usage)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    pieces: int = 0  # chunks of a streamed reply: about one per token

    def add(self, other: Parts) -> None:
        """Append the next chunk of a streamed reply."""
        self.text += other.text
        self.reasoning += other.reasoning
        _check_length(self)
        if other.finish != "other" or other.detail:
            self.finish, self.detail = other.finish, other.detail
        self.model_version = other.model_version or self.model_version
        if other.usage.known:
            self.usage = other.usage
        self.logprobs += other.logprobs
        self.pieces += bool(other.text or other.reasoning)

    def reply(self, model: str, structured: Structured, tries: int, seconds: float, first_s: float | None) -> Reply:
        """Return the complete reply."""
        return Reply(
            text=self.text,
            model=model,
            model_version=self.model_version,
            usage=self.usage,
            finish=self.finish,
            detail=self.detail,
            reasoning=self.reasoning,
            structured=structured,
            tries=tries,
            seconds=seconds,
            first_s=first_s,
            logprobs=tuple(self.logprobs),
        )


def decode_json(data: bytes | str) -> Any:
    """Decode a body. NaN and Infinity, which are not JSON, and unbounded nesting are errors.

    Raises:
        BadBodyError: The body is not JSON.
    """
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        start = data[:200].decode("utf-8", "replace") if isinstance(data, bytes) else data[:200]
        raise BadBodyError(f"body is no JSON ({clip_text(str(error), 100)}): {clip_text(start, 120)}") from None


def openai_parts(body: Any) -> Parts:
    """Parse a chat completion.

    Raises:
        BadBodyError: The body has another shape.
    """
    choice = _first_choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadBodyError(f"the reply's message is {_kind(message)}: {_start(body)}")
    parts = _openai_content(body, choice, message)
    _finish_openai(parts, choice.get("finish_reason"), message.get("refusal"))
    _check_length(parts)
    return parts


def openai_delta(body: Any) -> Parts:
    """Parse one chunk of a streamed chat completion; the last one may hold only the usage."""
    if isinstance(body, dict) and not body.get("choices") and not body.get("error") and "choices" in body:
        return _openai_content(body, {}, {})
    choice = _first_choice(body)
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    parts = _openai_content(body, choice, delta)
    if choice.get("finish_reason") is not None or delta.get("refusal"):
        _finish_openai(parts, choice.get("finish_reason"), delta.get("refusal"))
    return parts


def _openai_content(body: dict[str, Any], choice: dict[str, Any], message: dict[str, Any]) -> Parts:
    parts = Parts(model_version=_text_of(body.get("model"))[:200], usage=_openai_usage(body.get("usage")))
    parts.text, thoughts = _content(message.get("content"))
    parts.reasoning = thoughts or _reasoning(message)
    parts.logprobs = _logprobs(choice.get("logprobs"))
    return parts


def gemini_parts(body: Any) -> Parts:
    """Parse a generateContent response, or one chunk of a streamed one.

    Raises:
        BadBodyError: The body has another shape.
    """
    if not isinstance(body, dict):
        raise BadBodyError(f"body is {_kind(body)}, no response of Gemini: {_start(body)}")
    _raise_inner_error(body)
    parts = Parts(model_version=_text_of(body.get("modelVersion"))[:200])
    # Tokens.
    usage = body.get("usageMetadata")
    if isinstance(usage, dict):
        parts.usage = Usage(
            _count(usage.get("promptTokenCount")),
            _count(usage.get("candidatesTokenCount")),
            _count(usage.get("thoughtsTokenCount")),
        )
    # No candidate: the prompt was blocked, or the body is no response.
    candidates = body.get("candidates")
    feedback = body.get("promptFeedback")
    if not candidates:
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            parts.finish, parts.detail = "blocked", _text_of(feedback["blockReason"])
        elif not parts.usage.known and feedback is None:
            raise BadBodyError(f"the response has no candidate: {_start(body)}")
        return parts
    if not isinstance(candidates, list) or not isinstance(candidates[0], dict):
        raise BadBodyError(f"the response's candidates are {_kind(candidates)}: {_start(body)}")
    # Text, with thoughts separated.
    content = candidates[0].get("content")
    pieces = content.get("parts") if isinstance(content, dict) else None
    for piece in pieces if isinstance(pieces, list) else []:
        if isinstance(piece, dict) and isinstance(piece.get("text"), str):
            if piece.get("thought") is True:
                parts.reasoning += _clean(piece["text"])
            else:
                parts.text += _clean(piece["text"])
    # Finish reason; an unknown one counts neither as blocked nor as truncated.
    reason = candidates[0].get("finishReason")
    parts.detail = _text_of(reason)
    if parts.detail == "MAX_TOKENS":
        parts.finish = "length"
    elif parts.detail in _GEMINI_BLOCKED:
        parts.finish = "blocked"
    elif parts.detail == "STOP":
        parts.finish = "stop"
    _check_length(parts)
    return parts


def _first_choice(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadBodyError(f"body is {_kind(body)}, no chat completion: {_start(body)}")
    _raise_inner_error(body)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadBodyError(f"body is no chat completion: {_start(body)}")
    _raise_inner_error(choices[0])
    return choices[0]


def _raise_inner_error(body: dict[str, Any]) -> None:
    """Raise an error in place of the reply, which gateways send under status 200."""
    error = body.get("error")
    if not error or body.get("choices") or body.get("candidates") or body.get("message"):
        return
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and not isinstance(code, bool) and 300 <= code < 600 else 502
    raise ErrorInReply(status, body)


def _content(content: Any) -> tuple[str, str]:
    """Return text and thoughts of a message's content: a string, nothing, or a list of typed chunks."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return _clean(content), ""
    if not isinstance(content, list):
        raise BadBodyError(f"the message's content is {_kind(content)}: {_start(content)}")
    text, thoughts = "", ""
    for chunk in content:
        if isinstance(chunk, str):
            text += chunk
            continue
        kind = chunk.get("type") if isinstance(chunk, dict) else None
        if kind in ("text", "output_text") and isinstance(chunk.get("text"), str):
            text += chunk["text"]
        elif kind in ("thinking", "reasoning"):
            thoughts += _thinking(chunk.get("thinking", chunk.get("reasoning", chunk.get("text"))))
        elif kind == "refusal" or kind is None:
            raise BadBodyError(f"the message's content holds {_kind(chunk)}: {_start(chunk)}")
    return _clean(text), _clean(thoughts)


def _thinking(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_thinking(part.get("text") if isinstance(part, dict) else part) for part in value)
    return ""


def _reasoning(message: dict[str, Any]) -> str:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str) and message[name]:
            return _clean(message[name])
    return ""


def _finish_openai(parts: Parts, reason: Any, refusal: Any) -> None:
    parts.detail = _text_of(reason)
    parts.finish = _OPENAI_FINISH.get(parts.detail.lower(), "other")
    if isinstance(refusal, str) and refusal:
        parts.finish, parts.detail = "blocked", clip_text(refusal)


def _openai_usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("completion_tokens_details")
    thoughts = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    completion = _count(usage.get("completion_tokens"))
    if completion is not None and thoughts:
        completion = max(0, completion - thoughts)
    return Usage(_count(usage.get("prompt_tokens")), completion, thoughts)


def _logprobs(value: Any) -> list[TokenLogprob]:
    content = value.get("content") if isinstance(value, dict) else None
    logprobs = []
    for entry in content if isinstance(content, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
            return []
        number = entry.get("logprob")
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            return []
        logprobs.append(TokenLogprob(_clean(entry["token"]), float(number)))
    return logprobs


def _count(value: Any) -> int | None:
    """Return a number of tokens; None for any other value."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None


def _check_length(parts: Parts) -> None:
    if len(parts.text) + len(parts.reasoning) > MAX_REPLY_CHARS:
        raise BadBodyError(f"the reply has more than {MAX_REPLY_CHARS:,} characters")


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _text_of(value: Any) -> str:
    return _clean(clip_text(value, 400)) if isinstance(value, str) else "" if value is None else clip_text(str(value))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number", type(None): "null"}
    return "true or false" if isinstance(value, bool) else names.get(type(value), type(value).__name__)


def _start(value: Any) -> str:
    try:
        return clip_text(_clean(str(value)[:400]), 160)
    except RecursionError:
        return "nested too deeply to show"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
