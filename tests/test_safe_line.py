"""Visitors take turns: who sends much does not make others wait for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest

from pages.line import Turns, ahead_of, events_of, share_of_line, take_turns

LINE = 32  # requests that may wait in all


def _event(visitor: str, at: float = 0.0, line: str = "engine") -> Any:
    return SimpleNamespace(session_hash=visitor, visitor=visitor, enqueue_time=at, concurrency_id=line, request=None)


def _waits(honest: int, hostile: int, *, until: float = 2000.0) -> list[float]:
    """Let visitors ask an engine that takes a second a request, by the shares and turns of the app.

    An honest visitor asks again after each answer, and a second after each "the line is full"; a hostile one sends as
    much as is taken, before everybody else. Waits count from the first attempt, unanswered ones too.
    """
    now = 0.0
    turns = Turns(lambda event: event.visitor, lambda: now)
    waiting: list[Any] = []
    running: list[Any] = []
    asks = {f"honest {number}": number / 100 for number in range(honest)}  # when each one asks
    since: dict[str, float] = {}
    waits: list[float] = []

    def joins(visitor: str) -> bool:
        mine = sum(event.visitor == visitor for event in (*waiting, *running))
        if len(waiting) >= LINE or mine >= share_of_line(LINE - len(waiting)):
            return False
        waiting.append(_event(visitor, now))
        return True

    def served() -> Iterator[float]:
        """Yield the times at which the engine is free."""
        yield from range(int(until))

    for second in served():
        now = float(second)
        for event in running:
            if event.visitor.startswith("honest"):
                waits.append(now - since.pop(event.visitor))
                asks[event.visitor] = now
        running.clear()
        for visitor in [f"hostile {number}" for number in range(hostile)]:
            while joins(visitor):
                pass
        for visitor in [visitor for visitor, at in asks.items() if at <= now]:
            since.setdefault(visitor, now)
            if joins(visitor):
                del asks[visitor]
        if (event := turns.begin("engine", waiting, running, 1)) is not None:
            waiting.remove(event)
            running.append(event)
    return [*waits, *(until - at for at in since.values())]


@pytest.mark.parametrize("honest", [10, 20])
def test_beside_hostile_visitors_the_wait_grows_by_their_number_alone(honest: int) -> None:
    alone, beside = median(_waits(honest, 0)), median(_waits(honest, 5))
    assert beside <= alone * (honest + 5) / honest + 1, "as if each of the five asked once at a time"


def test_a_full_line_is_full_of_visitors() -> None:
    """45 honest visitors of whom 32 fit: five who take what they get leave most places, and most of the work."""
    alone, beside = _waits(45, 0), _waits(45, 5)
    assert median(beside) <= 1.5 * median(alone)
    assert len(beside) >= 0.7 * len(alone), "answers"


def test_turns_begin_with_who_came_first_and_starve_nobody() -> None:
    now = [0.0]
    turns = Turns(lambda event: event.visitor, lambda: now[0])
    waiting = [_event("many", number / 10) for number in range(5)] + [_event("one", 2.0), _event("two", 3.0)]
    begun = []
    while waiting:
        now[0] += 10.0
        if len(begun) < 4:
            waiting.append(_event(f"new {len(begun)}", now[0]))
        event = turns.begin("engine", waiting, [], 1)
        waiting.remove(event)
        begun.append(event.visitor)
    assert begun[:3] == ["many", "one", "two"] and begun[3:5] == ["many", "new 0"], begun
    assert begun.count("many") == 5


def test_one_visitor_has_a_part_of_the_places_at_work() -> None:
    """Silent judges: sixteen at once, of one visitor two."""
    turns = Turns(lambda event: event.visitor)
    waiting, running = [_event("silent", number) for number in range(8)] + [_event("other", 9.0)], []
    while (event := turns.begin("judge", waiting, running, 16)) is not None:
        waiting.remove(event)
        running.append(event)
    assert Counter(event.visitor for event in running) == {"silent": 2, "other": 1} and len(waiting) == 6


def test_every_line_of_the_app_takes_turns() -> None:
    """The queue of Gradio itself: a place that is told is the place that is served."""
    gr = pytest.importorskip("gradio")
    with gr.Blocks() as demo:
        button = gr.Button()
        for line in ("engine", "decoding"):
            button.click(lambda: None, concurrency_id=line, concurrency_limit=1)
    demo.queue(max_size=LINE)
    demo.services = SimpleNamespace(local=True)
    take_turns(demo)
    for function in demo.fns.values():
        demo._queue.create_event_queue_for_fn(function)
    lines = demo._queue.event_queue_per_concurrency_id
    for line in ("engine", "decoding"):
        lines[line].queue.extend([_event("many", 0.0, line), _event("many", 1.0, line), _event("one", 2.0, line)])
    assert (ahead_of(demo, "many"), ahead_of(demo, "one"), ahead_of(demo, "nobody")) == (0, 1, 3)
    assert len(list(events_of(demo))) == 6

    async def served() -> list[tuple[str, str]]:
        order = []
        while (found := demo._queue.get_events()) is not None:
            order.append((found[2], found[0][0].visitor))
        return order

    order = asyncio.run(served())
    for line in ("engine", "decoding"):
        assert [visitor for name, visitor in order if name == line] == ["many", "one", "many"]
