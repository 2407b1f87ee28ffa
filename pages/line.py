"""Whose request is served next: visitors take turns in every line, whatever came first.

Gradio has a line for each kind of work (models, judges, analysis, decoding) and serves it first come, first served, so
that a visitor who sends ten requests gets ten times as much as one who sends one. :func:`take_turns` replaces that
order. A visitor is an address where the app is public, and a session where only one machine reaches it.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pages.limits import visitor_of

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["Turns", "ahead_of", "events_of", "share_of_line", "take_turns"]

_SHARE = 8  # waiting requests of one visitor; a page sends two or three at a time
_AT_ONCE = 8  # one visitor has at most one of so many places of a line at once, and at least one place
_MOST_VISITORS = 10_000


def share_of_line(free: int) -> int:
    """Return how many requests one visitor may have in the line, where ``free`` more would fit: fewer as it fills."""
    return min(_SHARE, max(2, free // 3))


class Turns:
    """The order of each line. Events have ``enqueue_time``, in seconds of the clock.

    Args:
        visitor: Gives the name of an event's visitor.
        clock: Gives the time in seconds.
    """

    def __init__(self, visitor: Callable[[Any], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._visitor, self._clock = visitor, clock
        self._begun: dict[str, OrderedDict[str, float]] = {}  # line -> visitor -> when their last request was begun

    def order(self, line: str, waiting: Iterable[Any]) -> list[Any]:
        """Return the waiting events of a line in the order in which they are served.

        The first request of a visitor counts from when it came, but not from before their last one was begun. So one
        who sends many at once is where one is who asks again after each answer, and everybody's turn comes.
        """
        begun, own = self._begun.get(line, {}), dict[str, deque[Any]]()
        for event in waiting:
            own.setdefault(self._visitor(event), deque()).append(event)
        turns = [
            (max(events[0].enqueue_time, begun.get(visitor, 0.0)), number, visitor)
            for number, (visitor, events) in enumerate(own.items())
        ]
        heapq.heapify(turns)
        served: list[Any] = []
        while turns:
            _, _, visitor = heapq.heappop(turns)
            served.append(own[visitor].popleft())
            if own[visitor]:  # behind all who wait now
                heapq.heappush(turns, (math.inf, len(served), visitor))
        return served

    def begin(self, line: str, waiting: Iterable[Any], running: Iterable[Any], limit: int | None) -> Any | None:
        """Choose the event that is begun next.

        Args:
            line: Name of the line.
            waiting: Its waiting events, in the order in which they came.
            running: Its events at work.
            limit: How many of them may be at work at once; None: any number.

        Returns:
            The event; None where all who wait have as many requests at work as one visitor may.
        """
        most, at_work = max(1, (limit or 80) // _AT_ONCE), Counter(map(self._visitor, running))
        for event in self.order(line, waiting):
            visitor = self._visitor(event)
            if at_work[visitor] < most:
                begun = self._begun.setdefault(line, OrderedDict())
                begun[visitor] = self._clock()
                begun.move_to_end(visitor)
                while len(begun) > _MOST_VISITORS:
                    begun.popitem(last=False)
                return event
        return None


def take_turns(demo: gr.Blocks) -> None:
    """Let visitors take turns in the lines of an app."""
    queue = demo._queue

    def visitor(event: Any) -> str:
        own = "" if demo.services.local else visitor_of(event.request)
        return own or event.session_hash

    demo.turns = turns = Turns(visitor)

    def get_events() -> tuple[list[Any], bool, str] | None:
        names = list(queue.event_queue_per_concurrency_id)
        random.shuffle(names)
        for name in names:
            line = queue.event_queue_per_concurrency_id[name]
            if not line.queue or line.current_concurrency >= (line.concurrency_limit or math.inf):
                continue
            event = turns.begin(name, line.queue, _running(demo, name), line.concurrency_limit)
            if event is not None:
                line.queue.remove(event)
                line.queue[:] = turns.order(name, line.queue)  # Gradio tells programs their rank by it
                return [event], False, name
        return None

    queue.get_events = get_events


def events_of(demo: gr.Blocks) -> Iterator[Any]:
    """Events that wait or run."""
    for name, line in list(demo._queue.event_queue_per_concurrency_id.items()):
        yield from list(line.queue)
        yield from _running(demo, name)


def ahead_of(demo: gr.Blocks, session: str, line: str = "engine") -> int:
    """Count the requests before the session's own in the queue itself: nothing else is a place."""
    queued = demo._queue.event_queue_per_concurrency_id.get(line)
    order = [*_running(demo, line), *demo.turns.order(line, list(queued.queue) if queued else ())]
    return next((place for place, event in enumerate(order) if event.session_hash == session), len(order))


def _running(demo: gr.Blocks, line: str) -> list[Any]:
    return [event for jobs in list(demo._queue.active_jobs) for event in jobs or () if event.concurrency_id == line]
