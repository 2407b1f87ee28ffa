"""Which precision this processor multiplies matrices fastest in: ``fast_dtype``."""

from __future__ import annotations

import time
from functools import cache

import torch

__all__ = ["fast_dtype"]


@cache  # one answer for a process: what goes on after a stop must not change its precision on the way
def fast_dtype(rows: int = 64, width: int = 576, seconds: float = 0.02) -> torch.dtype:
    """Return ``bfloat16`` where products in it are at least as fast as in float32 on this CPU, else ``float32``.

    Measured, since a flag of the processor does not say what the library does with it: the best of repeated products
    of (rows, width) and (width, 4 width), as a layer of a small model has them. The thread's own time counts, so that
    other work on the processor does not decide.

    Args:
        rows: Of the first matrix.
        width: Columns of the first matrix.
        seconds: How long each precision is measured.
    """
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(rows, width, dtype=dtype), torch.ones(width, 4 * width, dtype=dtype)
        left @ right  # what is compiled at first use is not measured
        times, begin = [], time.thread_time()
        while not times or time.thread_time() - begin < seconds:
            start = time.thread_time()
            left @ right
            times.append(time.thread_time() - start)
        best[dtype] = min(times)
    return torch.bfloat16 if best[torch.bfloat16] <= best[torch.float32] else torch.float32
