"""Generate in a thread of its own, so that who reads slowly, or not at all, does not hold the model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from mpar2.engines.base import Progress

__all__ = ["in_background"]

_MOST_UNREAD = 64  # each holds the text so far; the last one of an arm has everything, so a slow reader misses nothing


def in_background(generate: Callable[[threading.Event], Iterator[Progress]]) -> Iterator[Progress]:
    """Yield the updates of ``generate``, which runs in a thread until it ends or its event is set.

    Closing the iterator sets the event and returns when the thread has ended. An error is raised here.

    Args:
        generate: Makes the updates; takes the event that ends it.
    """
    ended = threading.Event()
    updates: queue.SimpleQueue[Progress | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for update in generate(ended):
                if update.stage != "reasoning" or updates.qsize() < _MOST_UNREAD:
                    updates.put(update)
        except BaseException as error:
            updates.put(error)
        finally:
            updates.put(None)

    worker = threading.Thread(target=work, name="generation", daemon=True)
    worker.start()
    try:
        while (update := updates.get()) is not None:
            if isinstance(update, BaseException):
                raise update
            yield update
    finally:
        ended.set()
        worker.join()
