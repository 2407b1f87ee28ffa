"""Store of visitors' data, bounded in memory and time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable


class Kept:
    """Contents by key, within a bound of their total size.

    Above the bound, the oldest content of the visitor with the most bytes is evicted first.
    """

    def __init__(self, most_bytes: int, kept_s: float = 3600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes, self._lifetime_s, self._clock = most_bytes, kept_s, clock
        self._entries: dict[str, tuple[float, str, bytes]] = {}  # key -> since when, visitor, content
        self._lock = threading.Lock()

    def keep(self, key: str, visitor: str, content: bytes) -> None:
        """Keep a content, replacing the key's last one.

        ``visitor`` is charged for the memory.
        """
        with self._lock:
            self._forget_old()
            self._entries.pop(key, None)
            self._entries[key] = (self._clock(), visitor, content)
            while other_keys := [name for name in self._entries if name != key]:
                bytes_by_visitor: Counter[str] = Counter()
                for _, owner, entry_content in self._entries.values():
                    bytes_by_visitor[owner] += len(entry_content)
                if bytes_by_visitor.total() <= self._most_bytes:
                    break
                # max returns the first of equals, which is the oldest
                del self._entries[max(other_keys, key=lambda name: bytes_by_visitor[self._entries[name][1]])]

    def get(self, key: str) -> bytes | None:
        """Return the key's content; None if it is not stored any more."""
        with self._lock:
            self._forget_old()
            return self._entries[key][2] if key in self._entries else None

    def __len__(self) -> int:
        return len(self._entries)

    def _forget_old(self) -> None:
        cutoff = self._clock() - self._lifetime_s
        for name in [name for name, entry in self._entries.items() if entry[0] <= cutoff]:
            del self._entries[name]
