"""ZeroGPU: generation requests a GPU on a Space that lends them by the minute. Elsewhere this module has no effect.

The decorated function runs in another process. Its arguments and yielded values must be plain values, and it can be
stopped only by closing it. Errors are returned as values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from mpar2.engines.base import EngineError
from pages.errors import message_of

_SECONDS_TO_START = 15.0
_SECONDS_PER_TOKEN = 0.06  # a 7B model in bfloat16, both arms in one batch
_LONGEST_S = 110


def lends_gpus() -> bool:
    """Return whether this is a ZeroGPU Space."""
    return bool(os.environ.get("SPACES_ZERO_GPU"))


@dataclass(frozen=True)
class _Failure:
    """Message of an error in the GPU process; of an exception only the name of its class would be passed."""

    message: str


def on_gpu(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Wrap ``function(clip, question, arms, decoding)`` to run with a GPU for the expected time of decoding."""
    import gradio as gr
    import spaces

    def duration(_clip: Any, _question: Any, arms: Any, decoding: Any) -> int:
        seconds = _SECONDS_TO_START + _SECONDS_PER_TOKEN * decoding.max_new_tokens * max(1, len(arms) // 2)
        return min(_LONGEST_S, round(seconds))

    @spaces.GPU(duration=duration)
    def run_on_gpu(*arguments: Any) -> Iterator[Any]:
        try:
            yield from function(*arguments)
        except Exception as error:
            yield _Failure(message_of(error))

    def generate(*arguments: Any) -> Iterator[Any]:
        try:
            with closing(run_on_gpu(*arguments)) as updates:
                for update in updates:
                    if isinstance(update, _Failure):
                        raise EngineError(update.message)
                    yield update
        except gr.Error as error:  # no GPU was lent, or it was taken back
            raise EngineError(str(error.message)) from None

    return generate
