"""Fair queueing: visitors take turns in every queue, independent of the order of arrival.

Gradio has a queue ("line") for each kind of work (models, judges, analysis, decoding) and serves it first come, first
served, so that a visitor with ten requests gets ten times as much as a visitor with one. :func:`take_turns` replaces
this order. A visitor is an address if the app is public, and a session if it is local.

Work beside the models (analysis, decoding) takes processor time from them. A visitor who asks for much of it rests
while others use the models (:class:`pages.limits.Pace`).
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pages.limits import MOST_VISITORS, Pace, visitor_of

if TYPE_CHECKING:
    import gradio as gr

_MODELS = "engine"  # the queue of comparisons
_BESIDE = frozenset({"analysis", "decoding"})  # queues of work beside the models
_BESIDE_PER_S, _BESIDE_BURST_S, _BESIDE_REST_S = 0.2, 5.0, 120.0  # a visitor's seconds of it: per second, at once
_SHARE = 8  # waiting requests of one visitor; a page sends two or three at a time
_AT_ONCE = 8  # one visitor may use 1 / _AT_ONCE of a queue's concurrency, at least one slot
_NEWEST = 0.1  # weight of the newest request in a line's average
_LOOK_S = 0.01  # Gradio polls its queue a thousand times a second, which slows the models


def share_of_line(free: int) -> int:
    """Return the number of requests that one visitor may have in a queue with ``free`` places left."""
    return min(_SHARE, max(2, free // 3))


@dataclass
class _Line:
    """Virtual time of one queue, and the state of its visitors."""

    now: float = 0.0
    mean_s: float = 1.0  # of a request: a running average
    ends: OrderedDict[str, float] = field(default_factory=OrderedDict)  # virtual end of each visitor's work
    arrivals: dict[int, float] = field(default_factory=dict)  # waiting event -> virtual time of its arrival
    charged_s: dict[int, float] = field(default_factory=dict)  # running event -> estimated seconds


class Turns:
    """The order of each queue by virtual time, as in weighted fair queueing.

    Virtual time increases by the seconds of work divided by the number of active visitors. A request is placed at the
    virtual end of its visitor's earlier requests, but not before its own arrival, so idle visitors save up no credit.
    The duration of a request is unknown before its end; until then it is estimated by the queue's running average.

    Args:
        visitor: Returns the name of an event's visitor.
        clock: Monotonic clock, in seconds.
    """

    def __init__(self, visitor: Callable[[Any], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._visitor = visitor
        self._beside = Pace(_BESIDE_PER_S, _BESIDE_BURST_S, _BESIDE_REST_S, clock)
        self._lines: dict[str, _Line] = {}

    def order(self, line: str, waiting: Iterable[Any]) -> list[Any]:
        """Return all waiting events of a queue in the order of service."""
        state, keys = self._line(line), []
        events = sorted(waiting, key=lambda event: event.enqueue_time)
        arrivals, ends = {id(event): state.arrivals.get(id(event), state.now) for event in events}, dict[str, float]()
        for number, event in enumerate(events):
            visitor = self._visitor(event)
            place = max(arrivals[id(event)], ends.get(visitor, state.ends.get(visitor, 0.0)))
            ends[visitor] = place + state.mean_s
            keys.append((place, number, event))
        state.arrivals = arrivals
        return [event for _, _, event in sorted(keys, key=lambda key: key[:2])]

    def begin(
        self,
        line: str,
        waiting: Iterable[Any],
        running: Iterable[Any],
        limit: int | None,
        computing: Iterable[Any] = (),
    ) -> Any | None:
        """Choose the next event to run.

        Args:
            line: Name of the queue.
            waiting: Its waiting events.
            running: Its running events.
            limit: Concurrency limit of the queue; None has no limit.
            computing: The events that use the models or wait for them.

        Returns:
            The event; None if every waiting visitor already runs the most requests that one visitor may, or rests.
        """
        visitor_limit, at_work = max(1, (limit or 80) // _AT_ONCE), Counter(map(self._visitor, running))
        at_models = set(map(self._visitor, computing))
        for event in self.order(line, waiting):
            visitor, state = self._visitor(event), self._line(line)
            rests = line in _BESIDE and at_models - {visitor} and self._beside.wait_s(visitor, 0.0)
            if at_work[visitor] < visitor_limit and not rests:
                start = max(state.arrivals.pop(id(event)), state.ends.get(visitor, 0.0))
                state.now = max(state.now, start)
                state.charged_s[id(event)] = state.mean_s
                self._stand(state, visitor, start + state.mean_s)
                return event
        return None

    def end(self, line: str, event: Any, seconds: float, others: Iterable[Any]) -> None:
        """Charge the work of an event that has ended."""
        state, visitor = self._line(line), self._visitor(event)
        if line in _BESIDE:
            self._beside.wait_s(visitor, seconds)
        more = seconds - state.charged_s.pop(id(event), 0.0)
        self._stand(state, visitor, state.ends.get(visitor, state.now) + more)
        state.now += seconds / len({visitor, *map(self._visitor, others)})
        state.mean_s += _NEWEST * (seconds - state.mean_s)

    def _line(self, name: str) -> _Line:
        return self._lines.setdefault(name, _Line())

    @staticmethod
    def _stand(state: _Line, visitor: str, end: float) -> None:
        state.ends[visitor] = end
        state.ends.move_to_end(visitor)
        while len(state.ends) > MOST_VISITORS:
            state.ends.popitem(last=False)


def take_turns(demo: gr.Blocks) -> None:
    """Replace Gradio's order of the queues by turns of visitors."""
    queue = demo._queue

    def visitor(event: Any) -> str:
        address = "" if demo.services.local else visitor_of(event.request)
        return address or event.session_hash

    demo.turns = turns = Turns(visitor)

    def get_events() -> tuple[list[Any], bool, str] | None:
        names = list(queue.event_queue_per_concurrency_id)
        random.shuffle(names)
        for name in names:
            line = queue.event_queue_per_concurrency_id[name]
            if not line.queue or line.current_concurrency >= (line.concurrency_limit or math.inf):
                continue
            event = turns.begin(
                name, line.queue, _running(demo, name), line.concurrency_limit, events_of(demo, _MODELS)
            )
            if event is not None:
                line.queue.remove(event)
                line.queue[:] = turns.order(name, line.queue)  # Gradio reports ranks to clients by this order
                return [event], False, name
        return None

    async def process_events(events: list[Any], *rest: Any) -> None:
        start = time.monotonic()
        try:
            await process(events, *rest)
        finally:
            name = events[0].concurrency_id
            others = [*queue.event_queue_per_concurrency_id[name].queue, *_running(demo, name)]
            turns.end(name, events[0], time.monotonic() - start, others)

    process, queue.process_events = queue.process_events, process_events
    queue.get_events, queue.sleep_when_free = get_events, _LOOK_S


def events_of(demo: gr.Blocks, name: str | None = None) -> Iterator[Any]:
    """Yield the waiting and running events, of one queue or of all."""
    for line_name, line in list(demo._queue.event_queue_per_concurrency_id.items()):
        if name in (None, line_name):
            yield from list(line.queue)
            yield from _running(demo, line_name)


def ahead_of(demo: gr.Blocks, session: str) -> int:
    """Count the requests before the session's own in the current queue of the models.

    Returns:
        The number of requests before it; all of them if the session has no request there.
    """
    line = demo._queue.event_queue_per_concurrency_id.get(_MODELS)
    order = [*_running(demo, _MODELS), *demo.turns.order(_MODELS, list(line.queue) if line else ())]
    return next((place for place, event in enumerate(order) if event.session_hash == session), len(order))


def _running(demo: gr.Blocks, line: str) -> list[Any]:
    return [event for jobs in list(demo._queue.active_jobs) for event in jobs or () if event.concurrency_id == line]
