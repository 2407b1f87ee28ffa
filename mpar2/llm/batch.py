"""Run one coroutine over many items with bounded concurrency, progress, resume, and a defined end.

Three outcomes of an item: a record, which is journaled and never recomputed; a :class:`CallFailed`, which is
counted and retried on the next start; a :class:`StopRun`, after which no item starts, pending requests finish (they
are paid), and the cause is raised. If a service fails many consecutive items, it is considered down, and the run
stops (:class:`FailuresInARow` has the criteria).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mpar2.llm.errors import CallFailed, LLMError, StopRun
from mpar2.llm.journal import Journal, finish_in_thread

__all__ = ["BatchResult", "FailuresInARow", "for_each", "run_batch"]

T = TypeVar("T")
Record = dict[str, Any]


@dataclass
class BatchResult:
    """``records`` by key, in the order of the items; ``failed`` maps items without an answer to the reason."""

    records: dict[str, Record] = field(default_factory=dict)
    failed: dict[str, LLMError] = field(default_factory=dict)
    resumed: int = 0  # records already in the journal


@dataclass
class FailuresInARow:
    """Count consecutive failures, to detect that a service is down.

    A failure of the endpoint counts. A refused request counts only until the first answer of the run, since all
    requests may then be malformed. Failures that are clearly the item's own (too long, an unreadable file, blocked) do
    not count.
    """

    give_up_after: int = 20
    any_answer: bool = False
    in_a_row: int = 0

    ITEMS_OWN = ("too_long", "bad_audio", "blocked")

    def answered(self) -> None:
        self.any_answer = True
        self.in_a_row = 0

    def failed(self, error: Exception) -> bool:
        """Count one failure; return True if the run should stop."""
        counts = isinstance(error, CallFailed) and error.reason not in self.ITEMS_OWN
        if counts and isinstance(error, CallFailed) and error.scope == "request":
            counts = not self.any_answer
        self.in_a_row += counts
        return counts and self.in_a_row >= self.give_up_after


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, in_flight: int) -> None:
    """Apply ``work`` to every item, several concurrently.

    Raises:
        Exception: The first one of ``work``. No item starts after it; pending ones finish.
        ValueError: ``in_flight`` is below 1.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}, must be at least 1")
    queue = iter(items)
    errors: list[Exception] = []

    async def worker() -> None:
        for item in queue:
            if errors:
                return
            try:
                await work(item)
            except Exception as error:
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(worker())
    if errors:
        raise errors[0]


async def run_batch(
    items: Iterable[T],
    work: Callable[[T], Awaitable[Record]],
    *,
    key: Callable[[T], str],
    journal: Journal | None = None,
    in_flight: int = 4,
    label: str | None = None,
) -> BatchResult:
    """Apply ``work`` to every item that is not in the journal yet.

    Args:
        items: The items; items with equal keys count once.
        work: Computes the record of an item.
        key: Returns the key of an item.
        journal: Stores the records; None keeps them in memory only.
        in_flight: Concurrent items.
        label: Label of a progress bar on stderr; None shows none.

    Raises:
        StopRun: No further item can succeed, or many consecutive items failed.
        ValueError: ``in_flight`` is below 1.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}, must be at least 1")
    # Records of the journal are finished; of equal keys the first item counts.
    todo: dict[str, T] = {}
    order: dict[str, None] = {}
    result = BatchResult()
    done: dict[str, Record] = {}
    for item in items:
        name = key(item)
        if name in order:
            continue
        order[name] = None
        stored = journal.get(name) if journal is not None else None
        if stored is not None:
            done[name] = stored
        else:
            todo[name] = item
    result.resumed = len(done)
    # Collect failures of items, and stop after so many consecutive ones that the service must be down.
    failures = FailuresInARow(any_answer=bool(done))

    with _bar(label, len(order), len(done)) as bar:

        async def run_item(entry: tuple[str, T]) -> None:
            name, item = entry
            try:
                record = {"key": name, **await work(item)}
                if journal is not None:
                    await finish_in_thread(journal.append, record)
                done[name] = record
                failures.answered()
            except CallFailed as error:
                result.failed[name] = error
                if failures.failed(error):
                    detail = f"{failures.in_a_row} items in a row got no answer, the last one: {error}"
                    raise StopRun("unavailable", f"{detail}; start again later, finished items are kept") from None
            finally:
                bar(len(result.failed))

        await for_each(todo.items(), run_item, in_flight=max(1, min(in_flight, len(todo))))
    # Return the records in the order of the items, not of the answers.
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
