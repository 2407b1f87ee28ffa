"""Generate in threads, so that a slow or absent reader does not block the model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

from mpar2.engines.base import Progress

__all__ = ["Put", "in_background"]

_MAX_UNREAD = 64  # each holds the text so far, and the last of an arm is complete, so a slow reader misses nothing

Put = Callable[[Progress | BaseException], None]


class _EitherEvent(threading.Event):
    """An event that is also set when another event is."""

    def __init__(self, other: threading.Event | None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or (self._other is not None and self._other.is_set())


def in_background(
    workers: Sequence[Callable[[Put, threading.Event], None]], stop: threading.Event | None = None
) -> Iterator[Progress]:
    """Run each worker in a thread, and yield all updates until every worker has ended.

    If a worker fails, or puts an error, the others finish. Closing the iterator stops the workers and returns when
    their threads have ended.

    Args:
        workers: Each takes the function to emit an update, and an event that requests it to stop.
        stop: Also stops the workers.

    Raises:
        BaseException: The error of a worker, after all have ended.
    """
    stop_event = _EitherEvent(stop)
    updates: queue.SimpleQueue[Progress | BaseException | None] = queue.SimpleQueue()

    def put(update: Progress | BaseException) -> None:
        if not isinstance(update, Progress) or update.stage != "reasoning" or updates.qsize() < _MAX_UNREAD:
            updates.put(update)

    def work(worker: Callable[[Put, threading.Event], None]) -> None:
        try:
            worker(put, stop_event)
        except BaseException as error:
            updates.put(error)
        finally:
            updates.put(None)

    threads = [threading.Thread(target=work, args=(worker,), name="generation", daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    failure: BaseException | None = None
    running = len(threads)
    try:
        while running:
            update = updates.get()
            if update is None:
                running -= 1
            elif isinstance(update, BaseException):
                failure = failure or update
            else:
                yield update
    finally:
        stop_event.set()
        for thread in threads:
            thread.join()
    if failure is not None:
        raise failure
