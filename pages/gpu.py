"""ZeroGPU: on a Space whose GPUs are lent by the minute, generation asks for one; anywhere else this does nothing.

The decorated function runs in another process: its arguments and what it yields must be plain values, and it can be
stopped only by closing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

__all__ = ["lends_gpus", "on_gpu"]

_SECONDS_TO_START = 15.0
_SECONDS_PER_TOKEN = 0.06  # a 7B model in bfloat16, both arms in one batch
_LONGEST_S = 110


def lends_gpus() -> bool:
    """Whether this is a ZeroGPU Space."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function(clip, question, arms, decoding)`` with a GPU lent to it for as long as the decoding may take."""
    if not lends_gpus():
        return function
    import spaces

    def duration(_clip: Any, _question: Any, arms: Any, decoding: Any) -> int:
        seconds = _SECONDS_TO_START + _SECONDS_PER_TOKEN * decoding.max_new_tokens * max(1, len(arms) // 2)
        return min(_LONGEST_S, round(seconds))

    return spaces.GPU(duration=duration)(function)
