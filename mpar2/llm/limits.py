"""Limits shared by all requests of a run: requests in flight, token budget, pauses requested by servers, stop.

The number of requests in flight adapts to the server's capacity, like TCP congestion control: each overload (5xx, a
rate limit) halves it, each reply raises it by a fraction of one, up to ``in_flight``. So a server whose slots share one
context (llama.cpp) gets fewer concurrent requests, and answers all of them.

One ``Limiter`` may serve several clients (captioner and judge). The token budget is checked before each request against
the tokens spent plus those expected of the requests in flight, so a run exceeds it by at most the error of the
estimate.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from mpar2.llm.base import Usage
from mpar2.llm.errors import CallFailed, LLMError, StopRun
from mpar2.llm.retry import Failure, RetryPolicy

__all__ = ["Limiter", "Totals", "call_with_retries"]

T = TypeVar("T")
_JITTER = random.Random()
_MAX_STATED_WAIT_S = 3600.0  # per request, over all waits that the server requested


@dataclass(frozen=True)
class Totals:
    """Usage of a run so far: requests sent, replies received, tokens counted by the servers."""

    requests: int = 0
    replies: int = 0
    uncounted: int = 0  # replies without a token count
    usage: Usage = Usage()


class Limiter:
    """Limit the requests and tokens of a run, over all its clients.

    Args:
        in_flight: Concurrent requests.
        max_tokens: Tokens of the whole run; None: no limit.

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
            estimate: Expected tokens of the request, raised to the mean of the replies so far.

        Raises:
            StopRun: The run was stopped, or the request may exceed the token budget.
        """
        async with self._free:
            await self._free.wait_for(lambda: self._open < int(self._width))
            self._open += 1
        try:
            while (wait := self._not_before - time.monotonic()) > 0:
                await self.sleep(wait)
            self.raise_if_stopped()
            spent = self.totals.usage.total
            estimate = max(estimate, spent // max(1, self.totals.replies))  # at least the mean of the replies so far
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
            self._free.notify(2)  # one slot became free, and the width may have grown by one

    def narrow(self, started: float) -> None:
        """Halve the number of requests in flight, since the server is overloaded.

        Args:
            started: Time at which the failed request was sent (``time.monotonic``). Requests sent before the last
                halving are ignored, since they did not see its effect.
        """
        if started >= self._narrowed_at:
            self._width = max(1.0, self._width / 2)
            self._narrowed_at = time.monotonic()

    def widen(self) -> None:
        """Count one reply towards a larger number in flight."""
        self._width = min(float(self.in_flight), self._width + 1 / self._width)

    def spend(self, usage: Usage) -> None:
        """Count the tokens of one reply."""
        totals = self.totals
        self.totals = replace(
            totals,
            replies=totals.replies + 1,
            uncounted=totals.uncounted + (not usage.known),
            usage=totals.usage + usage,
        )

    def hold(self, seconds: float) -> None:
        """Start no request for ``seconds``: a server's limit applies to all requests, not only the refused one."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def stop(self, error: LLMError) -> None:
        """Start no further request and wake waiting ones; requests already sent are paid, so they finish."""
        if self._stopped is None:
            self._stopped = error
            self._stop.set()

    def raise_if_stopped(self) -> None:
        if self._stopped is not None:
            raise StopRun(self._stopped.reason, self._stopped.detail)

    async def sleep(self, seconds: float) -> None:
        """Sleep for some seconds, unless the run stops.

        Raises:
            StopRun: The run was stopped before or during the sleep.
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
) -> tuple[T, int]:
    """Send a request until it succeeds or fails permanently; return the result and the number of tries.

    Args:
        send: Sends the request once.
        classify: Maps an exception of ``send`` to a :class:`Failure`.
        policy: Number of tries and waits between them.
        limiter: The limiter, shared with other requests.
        estimate: Expected tokens of the request.

    Raises:
        StopRun: A failure of scope ``run``; the limiter starts no request after it.
        CallFailed: A failure of scope ``request`` or ``endpoint``; other requests go on.

    Errors are raised outside the ``except`` block on purpose: an SDK's exception holds the request with its key, and
    must not be attached to ours as ``__context__``.
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
        # A failure of the whole run (key, quota) stops all requests.
        if failure.by_status and limiter.totals.replies:
            failure = replace(failure, scope="endpoint")
        if failure.scope == "run":
            stop = StopRun(failure.reason, failure.detail)
            limiter.stop(stop)
            raise stop
        if not failure.retry:
            break
        # The server is overloaded: reduce the concurrency.
        limited = failure.reason == "rate_limited"
        if limited or (failure.reason == "unavailable" and attempt > 1):  # once may be chance
            limiter.narrow(started)
        # Wait as long as the server requests, else with exponential backoff and jitter.
        delay = policy.delay_s(attempt, failure.retry_after_s, _JITTER, rate_limited=limited)
        if limited and failure.retry_after_s is not None:
            # a requested wait is no failed try: wait for a limit per minute, up to an hour in all
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
