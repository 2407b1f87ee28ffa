"""What one visitor may ask for, and how often: the app's own limits, beside those of the recording (``mpar2.formats``).

All are set by options of ``app.py`` or by its environment. They can only be tighter than what the library itself
accepts, and each says in words what was too much and what to do.
"""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mpar2.errors import MPAR2Error
from mpar2.question import MAX_CHOICE_CHARS, MAX_CHOICES, MAX_QUESTION_CHARS

__all__ = ["LimitError", "RunCounter", "VisitorLimits", "session_of", "visitor_of"]

_WINDOW_S = 3600.0
_MOST_VISITORS = 10_000  # remembered at once; the one who came longest ago is forgotten first


class LimitError(MPAR2Error, ValueError):
    """A visitor asked for more than this app gives; the message says how much that is and what to do."""


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

        Args:
            question: Text of the question.
            choices: Its choices.

        Raises:
            LimitError: One of them is beyond the limit; the message says which.
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
    """How many runs each visitor began in the last hour. Addresses are kept in memory only, and no longer than that."""

    def __init__(self, runs_per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = runs_per_hour, clock
        self._begun: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, visitor: str) -> None:
        """Count a run, or raise :class:`LimitError` where the visitor has had theirs."""
        if not self._most or not visitor:
            return
        with self._lock:
            now = self._clock()
            while self._begun and next(iter(self._begun.values()))[-1] <= now - _WINDOW_S:
                self._begun.popitem(last=False)
            begun = self._begun.setdefault(visitor, deque())
            while begun and begun[0] <= now - _WINDOW_S:
                begun.popleft()
            if len(begun) >= self._most:
                minutes = max(1, round((begun[0] + _WINDOW_S - now) / 60))
                raise LimitError(
                    f"you have started {self._most} runs within an hour, which is the limit of this app: go on in "
                    f"{minutes} min, or run the app on your own machine, where there is none"
                )
            begun.append(now)
            self._begun.move_to_end(visitor)
            while len(self._begun) > _MOST_VISITORS:
                self._begun.popitem(last=False)


def session_of(request: Any) -> str:
    """Return the session of a request: a tab of a browser, or a client of a program."""
    return str(getattr(request, "session_hash", None) or "")


def visitor_of(request: Any, environment: Mapping[str, str] = os.environ) -> str:
    """Return the address that a request came from, of IPv6 its network (/64); "" where it came from this process.

    Whoever has an IPv6 address has all those of its network.

    Behind a proxy (a Space, or ``MPAR2_BEHIND_PROXY=1``) that is the last public address of ``X-Forwarded-For``: the
    proxy itself wrote it, while anything before it may be the visitor's invention.

    Args:
        request: Gradio's or Starlette's request.
        environment: Says whether there is a proxy.
    """
    client = getattr(request, "client", None)
    host = str(getattr(client, "host", None) or "")
    if environment.get("SPACE_ID") or environment.get("MPAR2_BEHIND_PROXY") == "1":
        for hop in reversed(str(request.headers.get("x-forwarded-for", "")).split(",")):
            network = _network(hop.strip())
            if network is not None and network.is_global:
                return _named(network)
    network = _network(host)
    return host if network is None else _named(network)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    return ipaddress.ip_network((address.packed, 32 if address.version == 4 else 64), strict=False)


def _named(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return str(network.network_address if network.version == 4 else network)
