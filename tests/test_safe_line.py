"""Visitors take turns: who sends much does not make others wait for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest

from pages.line import Turns, ahead_of, events_of, share_of_line, take_turns

LINE = 32  # requests that may wait in all


def _event(visitor: str, at: float = 0.0, line: str = "engine") -> Any:
    return SimpleNamespace(session_hash=visitor, visitor=visitor, enqueue_time=at, concurrency_id=line, request=None)


def _waits(honest: int, hostile: int, *, takes: int = 1, until: int = 2000) -> list[float]:
    """Let visitors ask an engine that takes a second a request, by the shares and turns of the app.

    An honest visitor asks again after each answer, and a second after each "the line is full"; a hostile one sends as
    much as is taken, before everybody else, of requests that take ``takes`` seconds. Waits count from the first
    attempt, unanswered ones too.
    """
    now = 0.0
    turns = Turns(lambda event: event.visitor)
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

    for second in range(until):
        now = float(second)
        for event in [event for event in running if event.ends <= now]:
            running.remove(event)
            turns.end("engine", event, event.ends - event.begun, waiting)
            if event.visitor.startswith("honest"):
                waits.append(now - since.pop(event.visitor))
                asks[event.visitor] = now
        for visitor in [f"hostile {number}" for number in range(hostile)]:
            while joins(visitor):
                pass
        for visitor in [visitor for visitor, at in asks.items() if at <= now]:
            since.setdefault(visitor, now)
            if joins(visitor):
                del asks[visitor]
        if not running and (event := turns.begin("engine", waiting, running, 1)) is not None:
            waiting.remove(event)
            event.begun, event.ends = now, now + (1 if event.visitor.startswith("honest") else takes)
            running.append(event)
    return [*waits, *(until - at for at in since.values())]


@pytest.mark.parametrize("takes", [1, 6])
@pytest.mark.parametrize("honest", [10, 20])
def test_beside_hostile_visitors_the_wait_grows_by_their_number_alone(honest: int, takes: int) -> None:
    """Whether they send many requests or long ones: what counts is the seconds of work."""
    alone, beside = median(_waits(honest, 0)), median(_waits(honest, 5, takes=takes))
    assert beside <= alone * (honest + 5) / honest + takes, "as if each of the five asked once at a time"


def test_who_asks_for_long_work_gets_no_more_of_it_than_others() -> None:
    turns, done = Turns(lambda event: event.visitor), Counter[str]()
    waiting = [_event(name, number) for number in range(200) for name in ("long", "short", "middle")]
    takes = {"long": 8.0, "short": 0.5, "middle": 2.0}
    while done.total() < 300:
        event = turns.begin("engine", waiting, [], 1)
        waiting.remove(event)
        done[event.visitor] += takes[event.visitor]
        turns.end("engine", event, takes[event.visitor], waiting)
    assert max(done.values()) - min(done.values()) <= 10, done


def test_a_full_line_is_full_of_visitors() -> None:
    """45 honest visitors of whom 32 fit: five who take what they get leave most places, and most of the work."""
    alone, beside = _waits(45, 0), _waits(45, 5)
    assert median(beside) <= 1.5 * median(alone)
    assert len(beside) >= 0.7 * len(alone), "answers"


def test_turns_begin_with_who_came_first_and_starve_nobody() -> None:
    """Somebody new comes as often as anybody is served: those who wait for their second turn get it all the same."""
    turns = Turns(lambda event: event.visitor)
    waiting = [_event("many", number / 10) for number in range(5)] + [_event("one", 2.0), _event("two", 3.0)]
    begun: list[str] = []
    for number in range(60):
        event = turns.begin("engine", waiting, [], 1)
        waiting.remove(event)
        waiting.append(_event(f"new {number}", 10.0 + number))
        turns.end("engine", event, 1.0, waiting)
        begun.append(event.visitor)
    assert begun[:3] == ["many", "one", "two"] and begun[3].startswith("new"), begun
    assert begun.count("many") == 5, begun


def test_one_visitor_has_a_part_of_the_places_at_work() -> None:
    """Silent judges: sixteen at once, of one visitor two."""
    turns = Turns(lambda event: event.visitor)
    waiting, running = [_event("silent", number) for number in range(8)] + [_event("other", 9.0)], []
    while (event := turns.begin("judge", waiting, running, 16)) is not None:
        waiting.remove(event)
        running.append(event)
    assert Counter(event.visitor for event in running) == {"silent": 2, "other": 1} and len(waiting) == 6


@pytest.mark.parametrize("line", ["analysis", "decoding"])
def test_who_asks_for_much_work_beside_the_models_rests_while_others_use_them(line: str) -> None:
    now = [0.0]
    turns = Turns(lambda event: event.visitor, clock=lambda: now[0])
    hostile, others = _event("hostile", line=line), [_event("honest")]
    done = 0.0
    for second in range(600):
        now[0] = float(second)
        if turns.begin(line, [hostile], [], 2, others) is not None:
            turns.end(line, hostile, 1.0, [])
            done += 1.0
    assert 100 <= done <= 130, "a fifth of the time, and five seconds at once"
    honest = _event("honest", 600.0, line)
    assert turns.begin(line, [hostile, honest], [], 2, others) is honest, "served at once"
    for unused in ([], [_event("hostile")]):
        assert turns.begin(line, [hostile], [], 2, unused) is hostile, "nobody else needs the processor"
        turns.end(line, hostile, 1.0, [])
    assert turns.begin("judge", [hostile], [], 16, others) is hostile, "waits for somebody else's server"


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
    assert len(list(events_of(demo))) == 6 and len(list(events_of(demo, "decoding"))) == 3

    async def served() -> list[tuple[str, str]]:
        order = []
        while (found := demo._queue.get_events()) is not None:
            order.append((found[2], found[0][0].visitor))
        return order

    order = asyncio.run(served())
    for line in ("engine", "decoding"):
        assert [visitor for name, visitor in order if name == line] == ["many", "one", "many"]
