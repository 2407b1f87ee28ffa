"""Run one coroutine over many items: a bound on how many at once, progress, resume, one clear end.

Three outcomes of an item: a record, which is journaled and never computed again; a :class:`CallFailed`, which is
counted and asked again on the next start; a :class:`StopRun`, after which no item starts, those whose requests are
out finish (they are paid), and the cause is raised. A service that fails ``give_up_after`` items in a row is taken to
be down, and stops the run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mpar2.llm.errors import CallFailed, LLMError, StopRun
from mpar2.llm.journal import Journal
from mpar2.llm.once import finish_in_thread

__all__ = ["BatchResult", "run_batch"]

T = TypeVar("T")
Record = dict[str, Any]


@dataclass
class BatchResult:
    """``records`` by key, in the order of the items; ``failed`` holds the items that got no answer, with the reason."""

    records: dict[str, Record] = field(default_factory=dict)
    failed: dict[str, LLMError] = field(default_factory=dict)
    resumed: int = 0  # records that were in the journal before


async def run_batch(
    items: Iterable[T],
    work: Callable[[T], Awaitable[Record]],
    *,
    key: Callable[[T], str],
    journal: Journal | None = None,
    in_flight: int = 4,
    give_up_after: int = 20,
    label: str | None = None,
) -> BatchResult:
    """Apply ``work`` to every item that the journal does not hold yet, ``in_flight`` at a time.

    Items with equal keys are one item. ``label`` shows a progress bar (stderr) under that name.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}, must be at least 1")
    todo: dict[str, T] = {}
    order: dict[str, None] = {}
    result = BatchResult()
    done: dict[str, Record] = {}
    for item in items:
        name = key(item)
        if name in order:
            continue
        order[name] = None
        old = journal.get(name) if journal is not None else None
        if old is not None:
            done[name] = old
        else:
            todo[name] = item
    result.resumed = len(done)
    queue = iter(todo.items())
    stop: list[BaseException] = []
    in_a_row = 0

    with _bar(label, len(order), len(done)) as bar:

        async def worker() -> None:
            nonlocal in_a_row
            for name, item in queue:
                if stop:
                    return
                try:
                    record = {"key": name, **await work(item)}
                    if journal is not None:
                        await finish_in_thread(journal.append, record)
                    done[name] = record
                    in_a_row = 0
                except CallFailed as error:
                    result.failed[name] = error
                    in_a_row += 1
                    if in_a_row >= give_up_after and not stop:
                        detail = f"{in_a_row} items in a row got no answer, the last one: {error}"
                        stop.append(StopRun("unavailable", f"{detail}; start again later, finished items are kept"))
                except Exception as error:
                    stop.append(error)
                bar(len(result.failed))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(in_flight, len(todo))):
                group.create_task(worker())
    if stop:
        raise stop[0]
    result.records = {name: done[name] for name in order if name in done}
    return result


@contextlib.contextmanager
def _bar(label: str | None, total: int, initial: int) -> Any:
    if label is None:
        yield lambda failed: None
        return
    from tqdm import tqdm

    with tqdm(desc=label, total=total, initial=initial, unit="item", mininterval=0.5) as bar:

        def advance(failed: int) -> None:
            if failed:
                bar.set_postfix(failed=failed, refresh=False)
            bar.update()

        yield advance
