"""Locks between processes, by filelock: one file beside what is locked, which the kernel releases when its holder dies.

The lock file stays: removing it would let a second process lock a new file while the first holds the old one. Locking
is advisory, it keeps out those who ask.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["FileLock", "try_lock"]


def try_lock(path: Path) -> FileLock | None:
    """Lock ``path`` for this process.

    Args:
        path: A file, which need not be there; the lock is ``.NAME.lock`` beside it.

    Returns:
        The lock, held until its ``release()``; None where another process (or another lock of this one) holds it.

    Raises:
        OSError: The folder cannot be written.
    """
    # thread_local=False: the thread that releases may be another than the one that locked
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
