"""What visitors may leave with the app for a while, packed, within a bound of memory and of time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

__all__ = ["Kept"]


class Kept:
    """Contents by key, within a bound of memory for all of them.

    Where that is passed, the visitor who holds most gives back first, the oldest content of theirs.

    Args:
        most_bytes: bound of all contents together.
        kept_s: how long a content is kept, in seconds.
        clock: seconds, never going back.
    """

    def __init__(self, most_bytes: int, kept_s: float = 3600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes, self._kept_s, self._clock = most_bytes, kept_s, clock
        self._kept: dict[str, tuple[float, str, bytes]] = {}  # key -> since when, visitor, content
        self._lock = threading.Lock()

    def keep(self, key: str, visitor: str, content: bytes) -> None:
        """Keep a content in place of the key's last one.

        Args:
            key: What it is asked for by.
            visitor: Who the memory is counted for.
            content: The bytes.
        """
        with self._lock:
            self._forget_old()
            self._kept.pop(key, None)
            self._kept[key] = (self._clock(), visitor, content)
            while others := [name for name in self._kept if name != key]:
                held_by: Counter[str] = Counter()
                for _, owner, own in self._kept.values():
                    held_by[owner] += len(own)
                if held_by.total() <= self._most_bytes:
                    break
                del self._kept[max(others, key=lambda name: held_by[self._kept[name][1]])]  # the first of equals

    def get(self, key: str) -> bytes | None:
        """Return the key's content; None where it is not kept any more."""
        with self._lock:
            self._forget_old()
            return self._kept[key][2] if key in self._kept else None

    def __len__(self) -> int:
        return len(self._kept)

    def _forget_old(self) -> None:
        old = self._clock() - self._kept_s
        for name in [name for name, one in self._kept.items() if one[0] <= old]:
            del self._kept[name]
