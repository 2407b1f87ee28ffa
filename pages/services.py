"""Services of the pages: an engine, the offered checkpoints, limits, examples.

A visitor chooses among the offered checkpoints by name. Other names are refused, so no visitor can make the server open
a folder or fetch a repository.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from mpar2.audio import Clip
from mpar2.engines.base import Arm, Engine, EngineError
from mpar2.formats import Limits
from mpar2.prompts import mode_names
from pages.examples import Example
from pages.limits import Kept, RunCounter, VisitorLimits

_RESULTS_BYTES = 100_000_000  # some hundred results


@dataclass(frozen=True)
class Offer:
    """A checkpoint that visitors may choose: display name, model and adapter."""

    name: str
    model: str
    adapter: str | None


def first_arms(offers: Sequence[Offer]) -> tuple[tuple[str, str], ...]:
    """Return (checkpoint, mode) of each arm: the first offer in "direct" and "cot", the second or only one in "mpar2".

    There is at least one offer.
    """
    base, trained = offers[0].name, offers[min(1, len(offers) - 1)].name
    return (base, "direct"), (base, "cot"), (trained, "mpar2")


class StopBoard:
    """Stop events of the running sessions."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def begin(self, session: str) -> threading.Event:
        """Return the event of a new run; an older run of the same session is stopped."""
        with self._lock:
            if (previous := self._events.get(session)) is not None:
                previous.set()
            self._events[session] = event = threading.Event()
            return event

    def stop(self, session: str) -> None:
        """Stop the session's run, if there is one."""
        with self._lock:
            if (event := self._events.get(session)) is not None:
                event.set()

    def end(self, session: str, event: threading.Event) -> None:
        """Remove the event of a run that has ended.

        A newer run of the session is kept.
        """
        with self._lock:
            if self._events.get(session) is event:
                del self._events[session]


class Uploads:
    """Uploaded files by session, so that a file is deleted when its last session ends.

    Equal files of two visitors are one file on the disk. A recently written file is left to the hourly sweep, because
    another upload of it may not be registered yet.
    """

    _JUST_S = 60.0
    _KEPT_S = 3600.0  # Gradio's sweep has deleted the file by then
    _MOST = 100_000  # holds remembered

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._held: dict[str, dict[str, float]] = {}  # session -> path -> when
        self._lock, self._clock = threading.Lock(), clock

    def hold(self, session: str, path: str) -> None:
        """Register for an hour that a session uses a file."""
        with self._lock:
            paths = self._held.pop(session, {})
            paths[path] = self._clock()
            self._held[session] = paths  # the last to hold is the last in order
            cutoff = self._clock() - self._KEPT_S
            while self._held:
                first = next(iter(self._held))
                if len(self._held) <= self._MOST and max(self._held[first].values()) > cutoff:
                    break
                del self._held[first]

    def release(self, session: str) -> None:
        """Delete the files of a session that has ended, unless another session holds them."""
        with self._lock:
            released = set(self._held.pop(session, ()))
            for path in released.difference(*self._held.values()):
                with contextlib.suppress(OSError):
                    if time.time() - os.stat(path).st_mtime > self._JUST_S:
                        os.unlink(path)


@dataclass(frozen=True)
class Services:
    """Engine, offers, limits and state of the app. ``offers`` is not empty; its first two give the default arms."""

    engine: Engine
    offers: tuple[Offer, ...]
    arms: tuple[tuple[str, str], ...] = ()  # (offer, mode) that a comparison begins with; (): :func:`first_arms`
    examples: tuple[Example, ...] = ()
    first_example: str | None = None
    limits: Limits = field(default_factory=lambda: Limits(max_seconds=60.0, max_bytes=20_000_000))
    max_new_tokens: int = 512
    prompt: str | None = None  # set or file of the prompt's words (``mpar2.prompts``)
    local: bool = True  # only this machine can reach the app, so its visitor may name any server
    visitors: VisitorLimits = field(default_factory=VisitorLimits)
    keep_results_min: int = 60  # lifetime of a stored result; 0 stores none
    stops: StopBoard = field(default_factory=StopBoard)
    uploads: Uploads = field(default_factory=Uploads)

    @cached_property
    def runs(self) -> RunCounter:
        """Return the counter of each visitor's runs."""
        return RunCounter(self.visitors.runs_per_hour)

    @cached_property
    def results(self) -> Kept:
        """Return the results that visitors stored, as compressed JSON."""
        return Kept(_RESULTS_BYTES, 60.0 * self.keep_results_min)

    def arm(self, name: str, mode: str) -> Arm:
        """Return the arm of an offered checkpoint.

        Raises:
            EngineError: The offer or the mode is unknown.
        """
        for offer in self.offers:
            if offer.name == name:
                if mode not in mode_names():
                    raise EngineError(f"unknown mode '{str(mode)[:40]}': choose one of {', '.join(mode_names())}")
                return Arm(offer.name, offer.model, offer.adapter, mode, prompt=self.prompt)  # type: ignore[arg-type]
        raise EngineError(
            f"no checkpoint '{str(name)[:80]}' here: choose one of {', '.join(entry.name for entry in self.offers)}"
        )

    def example(self, name: str | None) -> Example | None:
        """Return the example of that name, or None."""
        return next((example for example in self.examples if example.name == name), None)

    def example_of(self, clip: Clip) -> Example | None:
        """Return the example with the same recording, independent of the file name, or None."""
        return next((example for example in self.examples if example.digest == clip.digest), None)
