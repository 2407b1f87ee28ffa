"""The bound that all requests of a run share: in flight, tokens spent, a pause that the server asked for, a stop.

How many requests are in flight adapts to what the server bears, as TCP does to a network: each overload (5xx, a rate
limit) halves the number, each reply raises it again by a part of one, up to ``in_flight``. A server whose slots share
one context (llama.cpp) so gets fewer requests at once, and answers all of them.

One ``Limiter`` may serve several clients (captioner and judge). The token budget is checked before each request
against what was spent plus what is expected of the requests in flight, so a run oversteps it by the error of the
estimate at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from mpar2.llm.base import Usage
from mpar2.llm.errors import CallFailed, LLMError, StopRun
from mpar2.llm.retry import Failure, RetryPolicy

__all__ = ["Limiter", "Totals", "call_with_retries"]

T = TypeVar("T")
_MAX_STATED_WAIT_S = 3600.0  # of one request, over all waits that the server stated


@dataclass(frozen=True)
class Totals:
    """What a run used so far: requests sent, replies got, tokens counted by the servers."""

    requests: int = 0
    replies: int = 0
    uncounted: int = 0  # replies whose tokens the server did not say
    usage: Usage = Usage()


class Limiter:
    """Bounds the requests and tokens of a run, over all its clients.

    Args:
        in_flight: Requests at once.
        max_tokens: Tokens of the whole run; None: no bound.

    Raises:
        ValueError: ``in_flight`` is below 1.
    """

    def __init__(self, in_flight: int = 4, max_tokens: int | None = None) -> None:
        if in_flight < 1:
            raise ValueError(f"in_flight is {in_flight}, must be at least 1")
        self.in_flight = in_flight
        self.max_tokens = max_tokens
        self.totals = Totals()
        self._width = float(in_flight)
        self._narrowed_at = 0.0
        self._open = 0
        self._free = asyncio.Condition()
        self._reserved = 0
        self._not_before = 0.0
        self._stopped: LLMError | None = None
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def slot(self, estimate: int) -> AsyncIterator[None]:
        """Hold one slot for one request.

        Args:
            estimate: Tokens that the request is expected to take, or more where replies so far were longer.

        Raises:
            StopRun: The run was stopped, or the request may pass the budget of tokens.
        """
        async with self._free:
            await self._free.wait_for(lambda: self._open < int(self._width))
            self._open += 1
        try:
            while (wait := self._not_before - time.monotonic()) > 0:
                await self.sleep(wait)
            self.raise_if_stopped()
            spent = self.totals.usage.total
            estimate = max(estimate, spent // max(1, self.totals.replies))  # the replies' length shows with time
            if self.max_tokens is not None and spent + self._reserved + estimate > self.max_tokens:
                detail = (
                    f"{spent} tokens spent and {self._reserved + estimate} expected by open requests pass the budget "
                    f"of {self.max_tokens}; raise the budget and start again, finished items are kept"
                )
                self.stop(StopRun("budget", detail))
                self.raise_if_stopped()
            self._reserved += estimate
            self.totals = replace(self.totals, requests=self.totals.requests + 1)
            try:
                yield
            finally:
                self._reserved -= estimate
        finally:
            self._open -= 1
            await asyncio.shield(self._wake())

    async def _wake(self) -> None:
        async with self._free:
            self._free.notify(2)  # one place became free, and the width may have grown by one

    def narrow(self, started: float) -> None:
        """Halve the number of requests in flight: the server is overloaded.

        Args:
            started: When the failed request was sent (``time.monotonic``). Requests that were already out at the last
                halving say nothing about the number that holds since.
        """
        if started >= self._narrowed_at:
            self._width = max(1.0, self._width / 2)
            self._narrowed_at = time.monotonic()

    def widen(self) -> None:
        """Count one reply towards a wider flight again."""
        self._width = min(float(self.in_flight), self._width + 1 / self._width)

    def spend(self, usage: Usage) -> None:
        """Count the tokens of one reply."""
        old = self.totals
        self.totals = replace(
            old, replies=old.replies + 1, uncounted=old.uncounted + (not usage.known), usage=old.usage + usage
        )

    def hold(self, seconds: float) -> None:
        """Start no request for ``seconds``: a server's limit holds for all requests, not only for the refused one."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def stop(self, error: LLMError) -> None:
        """Start no request any more and wake waiting ones; requests already sent are paid, so they finish."""
        if self._stopped is None:
            self._stopped = error
            self._stop.set()

    def raise_if_stopped(self) -> None:
        if self._stopped is not None:
            raise StopRun(self._stopped.reason, self._stopped.detail)

    async def sleep(self, seconds: float) -> None:
        """Sleep for some seconds.

        Raises:
            StopRun: The run was stopped before or meanwhile.
        """
        self.raise_if_stopped()
        if seconds > 0:
            try:
                await asyncio.wait_for(self._stop.wait(), seconds)
            except TimeoutError:
                return
            self.raise_if_stopped()


async def call_with_retries(
    send: Callable[[], Awaitable[T]],
    *,
    classify: Callable[[Exception], Failure],
    policy: RetryPolicy,
    limiter: Limiter,
    estimate: int,
    rng: Random,
) -> tuple[T, int]:
    """Send until there is a result, or a failure that another try does not mend.

    Args:
        send: Makes one try.
        classify: Maps an exception of ``send`` to its meaning.
        policy: How often, and how long to wait.
        limiter: The bound that is shared with other requests.
        estimate: Tokens that the request is expected to take.
        rng: The source of the jitter.

    Returns:
        The result, and how many tries it took.

    Raises:
        StopRun: A failure of scope ``run``; the limiter starts no request after it.
        CallFailed: A failure of scope ``request`` or ``endpoint``; other requests go on.

    Errors are raised outside the ``except`` block on purpose: an SDK's exception holds the request with its key, and
    must not hang on ours as ``__context__``.
    """
    attempt, unstated, stated_wait_s = 0, 0, 0.0
    while True:
        attempt += 1
        # One try, inside a slot and under the time limit.
        async with limiter.slot(estimate):
            started = time.monotonic()
            try:
                async with asyncio.timeout(policy.timeout_s):
                    result = await send()
                limiter.widen()
                return result, attempt
            except Exception as error:
                failure = classify(error)
        # What concerns the whole run (key, quota) stops all requests.
        if failure.by_status and limiter.totals.replies:
            failure = replace(failure, scope="endpoint")
        if failure.scope == "run":
            stop = StopRun(failure.reason, failure.detail)
            limiter.stop(stop)
            raise stop
        if not failure.retry:
            break
        # The server is overloaded: fewer requests at a time.
        limited = failure.reason == "rate_limited"
        if limited or (failure.reason == "unavailable" and attempt > 1):  # once may be chance
            limiter.narrow(started)
        # Wait as long as the server asks, else with exponential backoff and jitter.
        delay = policy.delay_s(attempt, failure.retry_after_s, rng, rate_limited=limited)
        if limited and failure.retry_after_s is not None:
            # a stated wait is no failed try: a limit per minute is waited for, up to an hour in all
            limiter.hold(failure.retry_after_s)
            stated_wait_s += max(failure.retry_after_s, 1.0)
            tries_left = policy.max_tries > 1 and stated_wait_s < _MAX_STATED_WAIT_S
        else:
            unstated += 1
            tries_left = unstated < policy.max_tries
        if not tries_left:
            break
        await limiter.sleep(delay)
    raise CallFailed(failure.reason, failure.detail, attempt, scope=failure.scope)
