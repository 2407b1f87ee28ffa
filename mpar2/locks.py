"""Locks between processes, by filelock: one file beside the locked one, released by the kernel when its holder dies.

The lock file is never removed: otherwise a second process could lock a new file while the first holds the old one.
Locking is advisory: it only affects processes that use it.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["FileLock", "try_lock"]


def try_lock(path: Path) -> FileLock | None:
    """Lock ``path`` for this process.

    Args:
        path: A file, which need not exist; the lock is ``.NAME.lock`` beside it.

    Returns:
        The lock, held until its ``release()``; None if another process (or another lock of this one) holds it.

    Raises:
        OSError: The folder cannot be written.
    """
    # thread_local=False: another thread than the locking one may release it
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
