"""When to ask again, and how long to wait first: pure functions over what the server said.

The SDKs' own retries are off: google-genai 3.4 ignores ``Retry-After`` and ``RetryInfo``, and two layers of retries
multiply. The wait before try n + 1 is what the server asked for, plus up to a second of jitter so that waiting
requests do not return in one wave; else full jitter, ``uniform(0, min(cap, base * 2 ** (n - 1)))``.

| answer | consequence |
| --- | --- |
| 408, 409, 425, 429, 5xx, no connection, time out, body that is no JSON | again, ``max_tries`` in all |
| 429 for the day's quota, or a wait longer than ``max_wait_s`` | the run stops; it can be resumed |
| 400 or 413 because the input is too long | this item fails as ``too_long`` |
| other 4xx and redirects | the run stops with the cause |
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mpar2.llm.errors import clip_text

__all__ = ["Failure", "RetryPolicy", "failure_of_status", "retry_after_s"]

_RETRY_STATUS = {408, 409, 425, 429}
_TOO_LONG = re.compile(r"context.{0,3}length|maximum context|token count.{0,80}exceed|too many tokens|too long", re.I)
_DAILY = re.compile(r"per.?day|insufficient_quota|billing", re.I)


@dataclass(frozen=True)
class RetryPolicy:
    """``timeout_s`` bounds one try from first byte sent to last byte read, whatever trickles in between."""

    max_tries: int = 6
    base_s: float = 1.0
    cap_s: float = 60.0
    max_wait_s: float = 300.0
    timeout_s: float = 120.0

    def delay_s(self, attempt: int, asked_s: float | None, rng: random.Random) -> float:
        """Seconds to wait after failed try number ``attempt`` (1-based)."""
        if asked_s is not None:
            return asked_s + rng.uniform(0, min(1.0, self.base_s))
        return rng.uniform(0, min(self.cap_s, self.base_s * 2.0 ** (attempt - 1)))


@dataclass(frozen=True)
class Failure:
    """One failed try. ``action``: ``retry``, ``item`` (this item fails), ``stop`` (the run stops)."""

    reason: str
    detail: str
    action: str
    retry_after_s: float | None = None


def failure_of_status(
    status: int, message: str, headers: Mapping[str, str], body: Any, *, max_wait_s: float, now: datetime | None = None
) -> Failure:
    """Sort an HTTP status that is not success. ``body`` is the decoded JSON body, or whatever came."""
    said = clip_text(message) or "no message"
    detail = f"HTTP {status}: {said}"
    text = message + " " + (json.dumps(body, default=str) if body is not None else "")
    if status == 429:
        wait = retry_after_s(headers, body, now)
        if _DAILY.search(text):
            return Failure("quota", f"{detail}. The quota is used up; start again when it is renewed", "stop", wait)
        if wait is not None and wait > max_wait_s:
            limit = f"more than the {max_wait_s:g} s that a run waits; start again later, finished items are kept"
            return Failure("quota", f"{detail}. The server asks to wait {wait:g} s, {limit}", "stop", wait)
        return Failure("rate_limited", detail, "retry", wait)
    if status in _RETRY_STATUS or status >= 500:
        wait = retry_after_s(headers, body, now)
        return Failure("unavailable", detail, "retry", None if wait is None else min(wait, max_wait_s))
    if status == 413 or (status == 400 and _TOO_LONG.search(message)):
        return Failure("too_long", detail, "item")
    if status in (401, 403) or (status == 400 and re.search(r"api.?key", message, re.I)):
        return Failure("auth", f"{detail}. Check the key and what it may use", "stop")
    if status == 404:
        return Failure("not_found", f"{detail}. Check the model's name and the server's address", "stop")
    return Failure("bad_request", detail, "stop")


def retry_after_s(headers: Mapping[str, str], body: Any, now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait: ``Retry-After`` (seconds or date), ``retry-after-ms``, Google's RetryInfo.

    >>> retry_after_s({"retry-after": "3"}, None)
    3.0
    >>> info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}
    >>> retry_after_s({}, {"error": {"details": [info]}})
    2.5
    """
    lower = {name.lower(): value for name, value in headers.items()}
    waits = [_header_s(lower, now), _retry_info_s(body)]
    known = [wait for wait in waits if wait is not None]
    return max(known) if known else None


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
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _retry_info_s(body: Any) -> float | None:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            return _number(str(detail.get("retryDelay", "")).removesuffix("s"))
    return None


def _number(text: str) -> float | None:
    # no float(): it takes "nan" and "inf", and a wait of NaN seconds is no wait
    return float(text) if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else None
