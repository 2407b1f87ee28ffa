"""Classify failed requests: scope of the failure, whether to retry, and how long to wait.

A failure has a **scope**:

| scope | what failed | consequence |
| --- | --- | --- |
| request | this body or its reply: HTTP 400, 413, 422, a malformed 200 | this item fails, the others go on |
| endpoint | the server for now: 408, 409, 425, 429, 5xx, no connection, time out | retried, then the item fails |
| run | all further requests: key, model, exhausted quota, budget, a redirecting address | the run stops, resumable |

A 403 or 404 without a code concerns the run until the first answer, and later its request (a filter before the
server, one of several servers).

Structured fields decide first: OpenAI's ``error.code`` and ``error.type``, Google's ``QuotaFailure``, ``ErrorInfo`` and
``RetryInfo``, the header ``Retry-After``. The text of a message is used only without any of these.

The SDKs' own retries are off: google-genai ignores ``Retry-After`` and ``RetryInfo``, and two layers of retries
multiply. The wait before try n + 1 is what the server requests, plus up to a second of jitter so that waiting requests
do not return together; else full jitter, ``uniform(0, min(cap, base * 2 ** (n - 1)))``. A rate limit without a stated
wait is mostly one per minute: then the waits add up to a minute at least.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from mpar2.llm.errors import clip_text

__all__ = ["Failure", "RetryPolicy", "Scope", "error_message", "failure_of_status", "retry_after_s"]

Scope = Literal["request", "endpoint", "run"]

_RETRY_STATUS = {408, 409, 425, 429}
_MAX_DETAIL_CHARS = 20_000  # searched part of a message

_USED_UP = {"insufficient_quota", "billing_hard_limit_reached", "quota_exceeded_daily", "insufficient_credits"}
_TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
_TOO_LONG_CODES |= {"request_too_large", "max_tokens_exceeded"}
_BLOCKED_CODES = {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"}
_KEY_CODES = {"invalid_api_key", "api_key_invalid", "api_key_expired", "api_key_service_blocked"}
_MODEL_CODES = {"model_not_found", "deploymentnotfound", "model_not_supported"}

_TOO_LONG = re.compile(
    r"longer than the (model'?s )?(maximum|max)|context.{0,12}(length|size|window)|maximum context"
    r"|max(imum)?[ _](model|input|sequence|seq|prompt)[ _]?len|exceeds? .{0,60}(context|length|limit of|tokens)"
    r"|token count.{0,80}exceed|too many (input |prompt )?tokens|too (long|large)\b|reduce the (length|size)"
    r"|(request|payload|body|audio) (entity )?(is )?too (large|long|big)",
    re.I,
)
_DAILY = re.compile(r"per.?(day|month)|daily|monthly", re.I)
_KEY_WORDS = re.compile(
    r"\b(invalid|incorrect|missing|expired|no|unknown) api.?key|api.?key .{0,20}(invalid|not valid|not found|missing|"
    r"expired|required|incorrect)",
    re.I,
)


@dataclass(frozen=True)
class RetryPolicy:
    """Number of tries and waits. ``timeout_s`` limits one try from the first byte sent to the last byte read."""

    max_tries: int = 6
    base_s: float = 1.0
    cap_s: float = 60.0
    max_wait_s: float = 300.0
    timeout_s: float = 120.0

    def delay_s(
        self, attempt: int, requested_s: float | None, rng: random.Random, *, rate_limited: bool = False
    ) -> float:
        """Sample the wait after a failed try.

        Args:
            attempt: Number of the failed try, from 1.
            requested_s: The wait that the server requests, in seconds, or None.
            rng: Random generator for the jitter.
            rate_limited: The failure was a rate limit without a stated wait.
        """
        if requested_s is not None:
            return requested_s + rng.uniform(0, min(1.0, self.base_s))
        if rate_limited:
            top = min(self.cap_s, 4 * self.base_s * 2.0 ** (attempt - 1))
            return rng.uniform(top / 2, top)
        return rng.uniform(0, min(self.cap_s, self.base_s * 2.0 ** (attempt - 1)))


@dataclass(frozen=True)
class Failure:
    """One failed try: reason, message, scope, and whether to retry the same request."""

    reason: str
    detail: str
    scope: Scope
    retry: bool = False
    retry_after_s: float | None = None
    by_status: bool = False  # inferred from the status alone: limited to this request once others were answered


def failure_of_status(
    status: int, message: str, headers: Mapping[str, str], body: Any, *, max_wait_s: float
) -> Failure:
    """Classify an HTTP error status.

    Args:
        status: The status, or the code of an error inside a reply of status 200.
        message: The server's message, without secrets.
        headers: Headers of the response.
        body: The decoded JSON body, or any other value.
        max_wait_s: The longest wait that a run accepts.
    """
    words = clip_text(message[:_MAX_DETAIL_CHARS]) or "no message"
    detail = f"HTTP {status}: {words}"
    prose = message[:_MAX_DETAIL_CHARS]
    # Structured fields first: quota, rate limit, key, moderation, length, model.
    codes = _codes(body)
    if codes & _USED_UP or status == 402:
        return Failure("quota", f"{detail}. The quota is used up; start again when it is renewed", "run")
    if status == 429:
        return _rate_limit(detail, prose, headers, body, max_wait_s)
    if codes & _KEY_CODES and status < 500:
        return Failure("auth", f"{detail}. Check the key and what it may use", "run")
    if codes & _BLOCKED_CODES or (status == 403 and _is_moderation(body)):
        return Failure("blocked", detail, "request")
    if codes & _TOO_LONG_CODES and status != 404:
        return Failure("too_long", detail, "request")
    if codes & _MODEL_CODES:
        return Failure("not_found", f"{detail}. Check the model's name and the server's address", "run")
    # Then the status.
    if status in _RETRY_STATUS or status >= 500:
        wait = retry_after_s(headers, body)
        return Failure("unavailable", detail, "endpoint", True, None if wait is None else min(wait, max_wait_s))
    if status in (401, 403):
        detail = f"{detail}. Check the key and what it may use"
        return Failure("auth", detail, "run", by_status=status == 403)
    if status == 404:
        detail = f"{detail}. Check the model's name and the server's address"
        return Failure("not_found", detail, "run", by_status=True)
    if 300 <= status < 400:
        return Failure("bad_request", f"{detail}. The address redirects: give the one that it leads to", "run")
    if status == 405:
        return Failure("bad_request", f"{detail}. The address takes no chat requests: check that it ends in /v1", "run")
    # then the text of the message, the only other distinction between kinds of 400
    if status == 413 or _TOO_LONG.search(prose):
        return Failure("too_long", detail, "request")
    if status == 400 and _KEY_WORDS.search(prose):
        return Failure("auth", f"{detail}. Check the key and what it may use", "run")
    return Failure("bad_request", detail, "request")


def _rate_limit(detail: str, prose: str, headers: Mapping[str, str], body: Any, max_wait_s: float) -> Failure:
    """Distinguish a limit that passes in a minute from a daily quota."""
    wait = retry_after_s(headers, body)
    used_up = f"{detail}. The quota is used up; start again when it is renewed"
    quotas = _quota_ids(body)
    if any(_DAILY.search(quota) for quota in quotas):
        return Failure("quota", used_up, "run", False, wait)
    if wait is not None and wait > max_wait_s:
        limit = f"more than the {max_wait_s:g} s that a run waits; start again later, finished items are kept"
        return Failure("quota", f"{detail}. The server asks to wait {wait:g} s, {limit}", "run", False, wait)
    if wait is None and not quotas and _DAILY.search(prose):
        return Failure("quota", used_up, "run")
    return Failure("rate_limited", detail, "endpoint", True, wait)


def error_message(body: Any) -> str:
    """Return the message of an error in OpenAI's format (``error.message``), FastAPI's (``detail``) or similar.

    >>> error_message({"detail": "Unexpected fields"})
    'Unexpected fields'
    """
    body = _only(body)
    if not isinstance(body, dict):
        return body[:_MAX_DETAIL_CHARS] if isinstance(body, str) else ""
    names = ("error", "message", "detail", "msg", "error_message")
    inner = next((body[name] for name in names if body.get(name)), "")
    if isinstance(inner, dict) and (words := error_message(inner)):
        return words
    text = json.dumps(inner, default=str) if isinstance(inner, (dict, list)) else str(inner)  # a list: FastAPI's
    return text[:_MAX_DETAIL_CHARS]


def _only(body: Any) -> Any:
    """Return the entry of a list of one, and any other value unchanged."""
    return body[0] if isinstance(body, list) and len(body) == 1 else body


def _error_of(body: Any) -> dict[str, Any]:
    body = _only(body)
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _codes(body: Any) -> set[str]:
    """Return the codes of an error: ``code``, ``type``, ``status``, ``reason`` of Google's ErrorInfo."""
    error = _error_of(body)
    inner = error.get("innererror") if isinstance(error.get("innererror"), dict) else {}
    values = [error.get("code"), error.get("type"), error.get("status"), error.get("reason"), inner.get("code")]
    values += [detail.get("reason") for detail in _details(error)]
    return {value.lower() for value in values if isinstance(value, str)}


def _details(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict):
            yield detail


def _quota_ids(body: Any) -> list[str]:
    """Return the exceeded quotas by Google: ``quotaId`` of QuotaFailure, ``quota_limit`` of ErrorInfo."""
    values: list[Any] = []
    for detail in _details(_error_of(body)):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict):
                values.append(violation.get("quotaId"))
        metadata = detail.get("metadata")
        if isinstance(metadata, dict):
            values += [metadata.get("quota_limit"), metadata.get("quota_unit"), metadata.get("quotaId")]
    return [value for value in values if isinstance(value, str)]


def _is_moderation(body: Any) -> bool:
    """Return whether a moderator refused the input, for which OpenRouter answers 403."""
    metadata = _error_of(body).get("metadata")
    return isinstance(metadata, dict) and bool(metadata.get("reasons") or metadata.get("flagged_input"))


def retry_after_s(headers: Mapping[str, str], body: Any, now: datetime | None = None) -> float | None:
    """Return the wait that the server requests: ``Retry-After`` (seconds or date), ``retry-after-ms``, RetryInfo.

    Args:
        headers: Headers of the response.
        body: The decoded JSON body, or any other value.
        now: The current time, for waits given as a date; None: this moment.

    Returns:
        The longest of the waits in seconds; None if the server requests none.

    >>> retry_after_s({"retry-after": "3"}, None)
    3.0
    >>> info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}
    >>> retry_after_s({}, {"error": {"details": [info]}})
    2.5
    """
    lower = {str(name).lower(): str(value) for name, value in headers.items()}
    waits = [wait for wait in (_header_s(lower, now), _retry_info_s(body)) if wait is not None]
    return max(waits) if waits else None


def _header_s(headers: Mapping[str, str], now: datetime | None) -> float | None:
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is not None or not value:
        return seconds
    try:
        date = parsedate_to_datetime(value)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _retry_info_s(body: Any) -> float | None:
    for detail in _details(_error_of(body)):
        if str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            delay = detail.get("retryDelay", "")
            if isinstance(delay, dict):  # a protobuf Duration
                delay = delay.get("seconds", "")
            return _number(str(delay).removesuffix("s"))
    return None


def _number(text: str) -> float | None:
    # float() alone also accepts "nan" and "inf", and a wait of NaN seconds is no wait
    number = float(text) if re.fullmatch(r"\s*\d{1,12}(\.\d+)?\s*", text) else None
    return number if number is not None and math.isfinite(number) else None
