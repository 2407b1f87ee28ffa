"""Pay once, and keep what was paid for: one caller at a time per key, and writes that outlive a cancelled caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

__all__ = ["KeyedLocks", "finish_in_thread"]

T = TypeVar("T")


class KeyedLocks:
    """A lock for each key that is in use."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}  # lock, callers that hold it or wait for it

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)


async def finish_in_thread(function: Callable[..., T], *args: object) -> T:
    """Call ``function(*args)`` in a thread; a caller that is cancelled meanwhile waits for its end first."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
