"""Whose request is served next: visitors take turns in every line, whatever came first.

Gradio has a line for each kind of work (models, judges, analysis, decoding) and serves it first come, first served, so
that a visitor who sends ten requests gets ten times as much as one who sends one. :func:`take_turns` replaces that
order. A visitor is an address where the app is public, and a session where only one machine reaches it.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pages.limits import visitor_of

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["Turns", "ahead_of", "events_of", "share_of_line", "take_turns"]

_MODELS = "engine"  # the line of comparisons
_SHARE = 8  # waiting requests of one visitor; a page sends two or three at a time
_AT_ONCE = 8  # one visitor has at most one of so many places of a line at once, and at least one place
_MOST_VISITORS = 10_000
_NEWEST = 0.1  # weight of the newest request in a line's average
_LOOK_S = 0.01  # Gradio looks for work a thousand times a second, which the models pay for


def share_of_line(free: int) -> int:
    """Return how many requests one visitor may have in the line, where ``free`` more would fit: fewer as it fills."""
    return min(_SHARE, max(2, free // 3))


@dataclass
class _Line:
    """One line's virtual time, and where its visitors stand in it."""

    now: float = 0.0
    usual_s: float = 1.0  # of a request: a running average
    ends: OrderedDict[str, float] = field(default_factory=OrderedDict)  # of the work of each visitor
    came: dict[int, float] = field(default_factory=dict)  # waiting event -> time of the line when it came
    counted: dict[int, float] = field(default_factory=dict)  # event at work -> seconds that it counts as


class Turns:
    """The order of each line, by virtual time: the seconds of work that each visitor who waits has had.

    Virtual time grows by what is done, divided by the number of visitors who are there. A request stands where the work
    of its visitor's earlier ones ended, but not before the time at which it came: who was away saves nothing up. What
    a request will take is not known before its end; until then it counts as the line's average.

    Args:
        visitor: Gives the name of an event's visitor.
    """

    def __init__(self, visitor: Callable[[Any], str]) -> None:
        self._visitor = visitor
        self._lines: dict[str, _Line] = {}

    def order(self, line: str, waiting: Iterable[Any]) -> list[Any]:
        """Return all waiting events of a line in the order in which they are served.

        Args:
            line: Name of the line.
            waiting: Its waiting events.
        """
        state, keys = self._line(line), []
        events = sorted(waiting, key=lambda event: event.enqueue_time)
        came, ends = {id(event): state.came.get(id(event), state.now) for event in events}, dict[str, float]()
        for number, event in enumerate(events):
            visitor = self._visitor(event)
            place = max(came[id(event)], ends.get(visitor, state.ends.get(visitor, 0.0)))
            ends[visitor] = place + state.usual_s
            keys.append((place, number, event))
        state.came = came
        return [event for _, _, event in sorted(keys, key=lambda key: key[:2])]

    def begin(self, line: str, waiting: Iterable[Any], running: Iterable[Any], limit: int | None) -> Any | None:
        """Choose the event that is begun next.

        Args:
            line: Name of the line.
            waiting: Its waiting events.
            running: Its events at work.
            limit: How many of them may be at work at once; None: any number.

        Returns:
            The event; None where all who wait have as many requests at work as one visitor may.
        """
        most, at_work = max(1, (limit or 80) // _AT_ONCE), Counter(map(self._visitor, running))
        for event in self.order(line, waiting):
            visitor, state = self._visitor(event), self._line(line)
            if at_work[visitor] < most:
                begun = max(state.came.pop(id(event)), state.ends.get(visitor, 0.0))
                state.now = max(state.now, begun)
                state.counted[id(event)] = state.usual_s
                self._stand(state, visitor, begun + state.usual_s)
                return event
        return None

    def end(self, line: str, event: Any, seconds: float, others: Iterable[Any]) -> None:
        """Count the work of an event that was begun, now that it has ended.

        Args:
            line: Name of the line.
            event: The event.
            seconds: How long it was at work.
            others: The events that wait or are at work.
        """
        state, visitor = self._line(line), self._visitor(event)
        more = seconds - state.counted.pop(id(event), 0.0)
        self._stand(state, visitor, state.ends.get(visitor, state.now) + more)
        state.now += seconds / len({visitor, *map(self._visitor, others)})
        state.usual_s += _NEWEST * (seconds - state.usual_s)

    def _line(self, name: str) -> _Line:
        return self._lines.setdefault(name, _Line())

    @staticmethod
    def _stand(state: _Line, visitor: str, end: float) -> None:
        state.ends[visitor] = end
        state.ends.move_to_end(visitor)
        while len(state.ends) > _MOST_VISITORS:
            state.ends.popitem(last=False)


def take_turns(demo: gr.Blocks) -> None:
    """Serve the lines of an app by visitors' turns, in place of Gradio's order."""
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

    async def process_events(events: list[Any], *rest: Any) -> None:
        begun = time.monotonic()
        try:
            await whole(events, *rest)
        finally:
            name = events[0].concurrency_id
            others = [*queue.event_queue_per_concurrency_id[name].queue, *_running(demo, name)]
            turns.end(name, events[0], time.monotonic() - begun, others)

    whole, queue.process_events = queue.process_events, process_events
    queue.get_events, queue.sleep_when_free = get_events, _LOOK_S


def events_of(demo: gr.Blocks) -> Iterator[Any]:
    """Yield the events that wait or run."""
    for name, line in list(demo._queue.event_queue_per_concurrency_id.items()):
        yield from list(line.queue)
        yield from _running(demo, name)


def ahead_of(demo: gr.Blocks, session: str) -> int:
    """Count the requests before the session's own in the line of the models, as the queue stands.

    Args:
        demo: The app.
        session: Session of the request.

    Returns:
        How many are served before it; all of them where the session has no request there.
    """
    queued = demo._queue.event_queue_per_concurrency_id.get(_MODELS)
    order = [*_running(demo, _MODELS), *demo.turns.order(_MODELS, list(queued.queue) if queued else ())]
    return next((place for place, event in enumerate(order) if event.session_hash == session), len(order))


def _running(demo: gr.Blocks, line: str) -> list[Any]:
    return [event for jobs in list(demo._queue.active_jobs) for event in jobs or () if event.concurrency_id == line]
