"""A lock between processes: the kernel's own on an open file, so that it goes when its holder dies."""

from __future__ import annotations

__all__ = ["try_lock"]


def try_lock(file: int) -> bool:
    """Lock an open file (its descriptor) for this process until it is closed; False where another process holds it.

    Locking is advisory: it keeps out who asks. Windows has no such lock; there nobody is kept out.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
