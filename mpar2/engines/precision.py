"""Choose the precision in which this processor multiplies matrices fastest."""

from __future__ import annotations

import time
from functools import cache

import torch

__all__ = ["fast_dtype"]


@cache  # constant within a process: a resumed run must not change its precision midway
def fast_dtype(rows: int = 64, width: int = 576, seconds: float = 0.02) -> torch.dtype:
    """Return ``bfloat16`` if matrix products in it are at least as fast as in float32 on this CPU, else ``float32``.

    Measured, since a processor flag does not show how the library uses it: the best of repeated products of
    (rows, width) and (width, 4 width), as in a layer of a small model. Only the thread's own time counts, so that
    other load on the processor does not matter.

    Args:
        rows: Rows of the first matrix.
        width: Columns of the first matrix.
        seconds: Duration of the measurement for each precision.
    """
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(rows, width, dtype=dtype), torch.ones(width, 4 * width, dtype=dtype)
        a @ b  # exclude compilation at first use
        times, begin = [], time.thread_time()
        while not times or time.thread_time() - begin < seconds:
            start = time.thread_time()
            a @ b
            times.append(time.thread_time() - start)
        best[dtype] = min(times)
    return torch.bfloat16 if best[torch.bfloat16] <= best[torch.float32] else torch.float32
