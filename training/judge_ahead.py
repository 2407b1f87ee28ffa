"""Judge completions as soon as they exist: during generation of the others, and during the reference and old passes.

TRL computes rewards after all of that. This project's scorers cache scores by the content of a request, so that a trace
that was requested ahead is answered at once, or awaited, when its reward is computed. A request that fails ahead is
repeated by the usual rules. No trace costs a second request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from training.rewards.sample import Scorer, samples_of_call

_COLUMNS = ("question", "choices", "answer", "events", "caption")


class JudgeAhead:
    """Call the scorers behind reward functions on TRL's event loop."""

    def __init__(self, functions: Iterable[Any], processor: Any, loop: asyncio.AbstractEventLoop) -> None:
        scorers = {id(f.scorer): f.scorer for f in functions if getattr(f, "scorer", None) is not None}
        self._scorers: list[Scorer] = list(scorers.values())
        self._processor, self._loop = processor, loop
        self._tasks: set[asyncio.Task] = set()  # on the loop's thread
        self._open = True

    def __bool__(self) -> bool:
        return bool(self._scorers)

    def ask(self, rows: Sequence[Mapping[str, Any]], completions: Sequence[Sequence[int]]) -> None:
        """Request the scores of completions; callable from any thread."""
        texts = self._processor.batch_decode(completions, skip_special_tokens=True)
        columns = {name: [row.get(name) for row in rows] for name in _COLUMNS if name in rows[0]}
        for sample in samples_of_call(texts, columns):
            for scorer in self._scorers:
                asyncio.run_coroutine_threadsafe(self._score(scorer, sample), self._loop)

    async def _score(self, scorer: Scorer, sample: Any) -> None:
        if not self._open:
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await scorer.score(sample)  # type: ignore[misc]
        finally:
            self._tasks.discard(task)

    def open(self) -> None:
        """Accept requests again after :meth:`close`."""
        self._open = True

    def close(self) -> None:
        """Cancel all pending requests and refuse further ones, at the end of training."""
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result()

    async def _cancel(self) -> None:
        self._open = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
