"""Errors of requests: three classes with three consequences; and one for invalid settings before any request.

The scopes of failures are in ``llm.retry``: ``StopRun`` is one of the run, ``CallFailed`` one of a request or endpoint.

``StopRun``        no further request can succeed (key, model, request shape, quota, budget): the run stops at once
``CallFailed``     this request got no usable answer from the service: the item can be retried on the next start
``ReplyRejected``  the service answered, but the answer is invalid: the item is *unscored*, with the reason, never zero

Messages of services may echo their input, so every message passes ``redact`` before it enters an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from mpar2.errors import MPAR2Error
from mpar2.llm.base import Usage

__all__ = ["CallFailed", "LLMError", "ReplyRejected", "SettingError", "StopRun", "clip_text", "redact"]


class SettingError(MPAR2Error, ValueError):
    """An address, a model, a price list or a file of captions is invalid; the message gives the remedy."""


class LLMError(MPAR2Error, RuntimeError):
    """Base class: ``reason`` is a word from a closed list, ``detail`` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class StopRun(LLMError):
    """No further request can succeed: the run stops (see the module).

    Reasons: no_key, auth, not_found, bad_request, quota, budget, unavailable, no_audio.
    """


class CallFailed(LLMError):
    """This request got no usable answer from the service (see the module).

    Reasons: rate_limited, unavailable, timeout, bad_body, too_long, bad_audio, bad_request, blocked, refused_audio.

    Args:
        reason: One of these.
        detail: A sentence.
        tries: Number of times that the request was sent.
        scope: ``request`` if the cause lies in this request or its reply, so that others may succeed; ``endpoint``
            if the server as a whole did not answer.
    """

    def __init__(
        self, reason: str, detail: str, tries: int, *, scope: Literal["request", "endpoint"] = "endpoint"
    ) -> None:
        super().__init__(reason, f"{detail} (tries: {tries})")
        self.tries = tries
        self.scope = scope


class ReplyRejected(LLMError):
    """The service answered, but the answer is invalid (see the module).

    Reasons: blocked, truncated, empty, invalid_json, schema, and those of a caller's own check.

    Args:
        reason: One of these.
        detail: A sentence.
        replies: Number of rejected replies.
        usage: Tokens of all of them.
        **context: Further details for the caller, stored as ``context``.
    """

    def __init__(self, reason: str, detail: str, replies: int = 1, usage: Usage | None = None, **context: Any) -> None:
        super().__init__(reason, detail)
        self.replies = replies
        self.usage = usage or Usage()
        self.context = context


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace secrets in a text.

    >>> redact("Incorrect API key: sk-123", ["sk-123"])
    'Incorrect API key: [key]'
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    return text


def clip_text(text: str, limit: int = 400) -> str:
    """Return a text as one line, for messages."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
