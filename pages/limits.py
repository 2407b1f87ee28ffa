"""Limits of one visitor: size of questions, number of runs, memory; those of a recording are in ``mpar2.formats``.

All are set by options of ``app.py`` or by its environment. They can only be tighter than the library's own limits, and
each error names the limit and the remedy.
"""

from __future__ import annotations

import ipaddress
import math
import os
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mpar2.errors import MPAR2Error
from mpar2.question import MAX_CHOICE_CHARS, MAX_CHOICES, MAX_QUESTION_CHARS

_WINDOW_S = 3600.0
MOST_VISITORS = 10_000  # remembered at once; the least recent one is dropped first


class LimitError(MPAR2Error, ValueError):
    """A request exceeds a limit of the app. The message names the limit and the remedy."""


@dataclass(frozen=True)
class VisitorLimits:
    """Limits of questions, of the line of waiting visitors, and of one visitor's runs (0: no limit)."""

    question_chars: int = MAX_QUESTION_CHARS
    choices: int = MAX_CHOICES
    choice_chars: int = MAX_CHOICE_CHARS
    queue: int = 32
    runs_per_hour: int = 0

    def check(self, question: str, choices: list[str]) -> None:
        """Refuse a question or choices that are too long or too many.

        Raises:
            LimitError: One of them exceeds its limit.
        """
        if len(question.strip()) > self.question_chars:
            raise LimitError(
                f"the question has {len(question.strip())} characters; the limit here is {self.question_chars}: "
                "shorten it"
            )
        if len(choices) > self.choices:
            raise LimitError(f"there are {len(choices)} choices; the limit here is {self.choices}: remove some")
        for choice in choices:
            if len(choice) > self.choice_chars:
                raise LimitError(
                    f"the choice '{choice[:40]}…' has {len(choice)} characters; the limit here is "
                    f"{self.choice_chars}: shorten it, and write one choice on each line"
                )


class RunCounter:
    """Counter of each visitor's runs in the last hour. Addresses are kept in memory only, for one hour."""

    def __init__(self, runs_per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = runs_per_hour, clock
        self._starts: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, visitor: str) -> None:
        """Count a run, or raise :class:`LimitError` if the visitor has none left."""
        if not self._limit or not visitor:
            return
        with self._lock:
            now = self._clock()
            while self._starts and next(iter(self._starts.values()))[-1] <= now - _WINDOW_S:
                self._starts.popitem(last=False)
            starts = self._starts.setdefault(visitor, deque())
            while starts and starts[0] <= now - _WINDOW_S:
                starts.popleft()
            if len(starts) >= self._limit:
                minutes = max(1, round((starts[0] + _WINDOW_S - now) / 60))
                raise LimitError(
                    f"you have started {self._limit} runs within an hour, which is the limit of this app: go on in "
                    f"{minutes} min, or run the app on your own machine, where there is none"
                )
            starts.append(now)
            self._starts.move_to_end(visitor)
            while len(self._starts) > MOST_VISITORS:
                self._starts.popitem(last=False)


class Kept:
    """Contents by key, within a bound of their total size.

    Above the bound, the oldest content of the visitor with the most bytes is evicted first.
    """

    def __init__(self, most_bytes: int, kept_s: float = 3600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes, self._lifetime_s, self._clock = most_bytes, kept_s, clock
        self._entries: dict[str, tuple[float, str, bytes]] = {}  # key -> since when, visitor, content
        self._lock = threading.Lock()

    def keep(self, key: str, visitor: str, content: bytes) -> None:
        """Keep a content, replacing the key's last one.

        ``visitor`` is charged for the memory.
        """
        with self._lock:
            self._forget_old()
            self._entries.pop(key, None)
            self._entries[key] = (self._clock(), visitor, content)
            while other_keys := [name for name in self._entries if name != key]:
                bytes_by_visitor: Counter[str] = Counter()
                for _, owner, entry_content in self._entries.values():
                    bytes_by_visitor[owner] += len(entry_content)
                if bytes_by_visitor.total() <= self._most_bytes:
                    break
                # max returns the first of equals, which is the oldest
                del self._entries[max(other_keys, key=lambda name: bytes_by_visitor[self._entries[name][1]])]

    def get(self, key: str) -> bytes | None:
        """Return the key's content; None if it is not stored any more."""
        with self._lock:
            self._forget_old()
            return self._entries[key][2] if key in self._entries else None

    def __len__(self) -> int:
        return len(self._entries)

    def _forget_old(self) -> None:
        cutoff = self._clock() - self._lifetime_s
        for name in [name for name, entry in self._entries.items() if entry[0] <= cutoff]:
            del self._entries[name]


class Pace:
    """Rate limiter that delays the requests of frequent visitors.

    A visitor may send ``per_s`` units per second, and ``burst`` units at once. Further requests are delayed, by
    ``longest_s`` at most. Not thread-safe.

    Args:
        per_s: Units per second.
        burst: Units at once.
        longest_s: Longest delay, in seconds.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self, per_s: float, burst: float, longest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst_s, self._longest_s, self._clock = per_s, burst / per_s, longest_s, clock
        self._due: OrderedDict[str, float] = OrderedDict()  # time at which all units of a visitor are paid for

    def wait_s(self, visitor: str, units: float) -> float:
        """Count a request.

        Args:
            visitor: Address of the sender.
            units: Cost of the request; 0 asks for the present delay.

        Returns:
            Delay in seconds.
        """
        now = self._clock()
        due = max(self._due.pop(visitor, -math.inf), now - self._burst_s)
        self._due[visitor] = due = min(due + units / self._per_s, now + self._longest_s)
        while len(self._due) > MOST_VISITORS:
            self._due.popitem(last=False)
        return max(0.0, due - now)


def session_of(request: Any) -> str:
    """Return the session of a request: a browser tab or an API client."""
    return str(getattr(request, "session_hash", None) or "")


def visitor_of(request: Any, environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of a request's sender; "" for a request of this process.

    IPv6 addresses are reduced to their /64 network, because one visitor usually has all of its addresses.

    Behind a proxy (a Space, or ``MPAR2_BEHIND_PROXY=1``) it is the last public address of ``X-Forwarded-For``, which
    the proxy wrote. Earlier addresses may be forged.
    """
    client = getattr(request, "client", None)
    host = str(getattr(client, "host", None) or "")
    if environment.get("SPACE_ID") or environment.get("MPAR2_BEHIND_PROXY") == "1":
        for hop in reversed(str(request.headers.get("x-forwarded-for", "")).split(",")):
            network = _network(hop.strip())
            if network is not None and network.is_global:
                return _address_of(network)
    network = _network(host)
    return host if network is None else _address_of(network)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    return ipaddress.ip_network((address.packed, 32 if address.version == 4 else 64), strict=False)


def _address_of(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return str(network.network_address if network.version == 4 else network)
