"""What passes is asked again, what does not stops the run: both SDKs against local servers."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from mpar2.llm import (
    CallFailed,
    ChatClient,
    Limiter,
    Reply,
    RetryPolicy,
    StopRun,
)
from mpar2.llm.retry import failure_of_status, retry_after_s
from testing.wire import Call, HttpReply, error, openai_reply, serve
from tests.clients import WIRES, complete, reply, run

# --- retries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "bad",
    [
        error(429, "slow down"),
        error(500),
        error(503),
        HttpReply(200, b"<html>proxy</html>", {"Content-Type": "text/html"}),
        HttpReply(200, b'{"choices": [', {"Content-Type": "application/json"}),
        HttpReply(drop=True),
    ],
    ids=["429", "500", "503", "html", "broken-json", "dropped"],
)
def test_a_passing_failure_is_asked_again(wire: str, bad: HttpReply) -> None:
    with serve([bad, bad, reply(wire, "done")]) as server:
        got = complete(wire, server)
    assert (got.text, got.tries, len(server.calls)) == ("done", 3, 3)


@pytest.mark.parametrize("wire", WIRES)
def test_retry_after_is_honoured(wire: str) -> None:
    with serve([error(429, retry_after="1"), reply(wire, "done")]) as server:
        complete(wire, server)
    assert server.calls[1].at_s - server.calls[0].at_s >= 1.0


def test_google_retry_info_is_honoured_and_holds_the_other_requests_too() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.6s"}

    async def two(c: ChatClient) -> None:
        async def later() -> Reply:
            await asyncio.sleep(0.2)
            return await c.complete("", ["second"])

        await asyncio.gather(c.complete("", ["first"]), later())

    with serve([error(429, details=[info]), reply("gemini", "done")]) as server:
        run("gemini", server, two)
    assert len(server.calls) == 3
    assert server.calls[1].at_s - server.calls[0].at_s >= 0.6


@pytest.mark.parametrize("wire", WIRES)
def test_timeouts_end_in_a_failed_call(wire: str) -> None:
    policy = RetryPolicy(max_tries=2, base_s=0.001, timeout_s=0.2)
    with serve([reply(wire, delay_s=30.0)]) as server, pytest.raises(CallFailed, match=r"timeout.*0\.2 s.*tries: 2"):
        complete(wire, server, policy=policy)
    assert len(server.calls) == 2


@pytest.mark.parametrize("wire", WIRES)
def test_a_server_that_drips_for_ever_times_out(wire: str) -> None:
    policy = RetryPolicy(max_tries=1, timeout_s=0.3)
    drip = HttpReply(body={"x": "y" * 500}, drip_s=0.05)
    started = time.monotonic()
    with serve([drip]) as server, pytest.raises(CallFailed, match="timeout"):
        complete(wire, server, policy=policy)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("wire", WIRES)
def test_a_server_that_stays_down_fails_the_call_after_max_tries(wire: str) -> None:
    with serve([error(500, "on fire")]) as server, pytest.raises(CallFailed, match="on fire") as caught:
        complete(wire, server)
    assert (caught.value.reason, caught.value.tries, len(server.calls)) == ("unavailable", 6, 6)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("status", "reason"), [(401, "auth"), (403, "auth"), (404, "not_found"), (302, "bad_request")])
def test_errors_that_will_not_pass_stop_the_run_at_once(wire: str, status: int, reason: str) -> None:
    elsewhere = "http://127.0.0.1:9/stolen"
    bad = error(status, "no such luck", location=elsewhere) if status == 302 else error(status, "no such luck")
    with serve([bad]) as server, pytest.raises(StopRun) as caught:
        complete(wire, server)
    assert caught.value.reason == reason
    assert len(server.calls) == 1
    if status != 302:
        assert "no such luck" in str(caught.value)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (error(400, "This model's maximum context length is 4096 tokens. You requested 9000 tokens."), "too_long"),
        (error(400, "The decoder prompt (length 9000) is longer than the maximum model length of 4096."), "too_long"),
        (error(400, "no", code="context_length_exceeded"), "too_long"),
        (HttpReply(400, {"error": {"type": "exceed_context_size_error", "message": "-"}}), "too_long"),
        (error(413, "no"), "too_long"),
        (error(400, "cannot decode this clip"), "bad_request"),
        (error(422, "cannot decode this clip"), "bad_request"),
        (error(400, "The user asked about an api key that opens a door"), "bad_request"),
        (HttpReply(400, b"<html>bad request</html>", {"Content-Type": "text/html"}), "bad_request"),
        (error(400, "no", code="content_filter"), "blocked"),
    ],
)
def test_a_refused_request_never_stops_the_others(wire: str, bad: HttpReply, reason: str) -> None:
    def plan(call: Call) -> HttpReply:
        return bad if "second" in call.text else reply(wire, "done")

    async def three(c: ChatClient) -> list[Any]:
        asked = (c.complete("", [word]) for word in ("first", "second", "third"))
        return await asyncio.gather(*asked, return_exceptions=True)

    with serve(plan) as server:
        first, second, third = run(wire, server, three, limiter=Limiter(1))
    assert (first.text, third.text, len(server.calls)) == ("done", "done", 3)
    assert isinstance(second, CallFailed) and (second.reason, second.scope) == (reason, "request")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("status", [403, 404])
def test_a_filter_before_the_server_costs_one_request(wire: str, status: int) -> None:
    page = HttpReply(status, b"<html>Attention required</html>", {"Content-Type": "text/html"})

    async def three(c: ChatClient) -> list[Any]:
        return [
            await asyncio.gather(c.complete("", [word]), return_exceptions=True)
            for word in ("first", "second", "third")
        ]

    with serve(lambda call: page if "second" in call.text else reply(wire, "done")) as server:
        (first,), (second,), (third,) = run(wire, server, three)
    assert (first.text, third.text, len(server.calls)) == ("done", "done", 3)
    assert isinstance(second, CallFailed) and str(status) in second.detail


def google_quota(quota: str, delay: str = "0.05s") -> HttpReply:
    """Gemini's 429: the sentence speaks of billing whichever quota it is."""
    violation = {"quotaMetric": "generativelanguage.googleapis.com/requests", "quotaId": quota}
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    return error(429, "You exceeded your current quota, please check your plan and billing details.", details=details)


def test_a_limit_per_minute_is_waited_for_and_the_days_quota_stops_the_run() -> None:
    minute = google_quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")
    with serve([*[minute] * 8, reply("gemini", "done")]) as server:
        assert complete("gemini", server).text == "done"
    assert len(server.calls) == 9, "a stated wait is no failed try"
    day = google_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
    with serve([day]) as server, pytest.raises(StopRun, match="quota is used up"):
        complete("gemini", server)
    with serve([error(429, "slow down", code="insufficient_quota")]) as server, pytest.raises(StopRun, match="used up"):
        complete("openai", server)
    with serve([error(429, "5 requests per day left in plan", retry_after="0"), reply("openai", "done")]) as server:
        assert complete("openai", server).text == "done", "the header decides, not the prose"


def test_a_rate_limit_that_states_no_wait_is_waited_for_a_minute() -> None:
    policy, rng = RetryPolicy(), random.Random(0)
    for _ in range(50):
        waits = [policy.delay_s(n, None, rng, rate_limited=True) for n in range(1, policy.max_tries)]
        assert sum(waits) >= 60


def test_an_overloaded_server_gets_fewer_requests_at_once_and_answers_all() -> None:
    """Slots that share one context, as llama.cpp's: more than two at once fail."""
    open_now: list[int] = []

    def plan(call: Call) -> HttpReply:
        if len(open_now) and server.open_now > 2:
            return HttpReply(500, {"error": {"message": "failed to process mtmd chunk"}}, delay_s=0.01)
        open_now.append(1)
        return openai_reply("done", delay_s=0.02)

    async def many(c: ChatClient) -> list[Any]:
        return await asyncio.gather(*(c.complete("", [str(n)]) for n in range(40)), return_exceptions=True)

    with serve(plan) as server:
        # the waits outlast the queue, however slow the machine is
        got = run("openai", server, many, limiter=Limiter(16), policy=RetryPolicy(max_tries=30, base_s=0.02, cap_s=0.2))
    assert [getattr(one, "text", one) for one in got] == ["done"] * 40


def test_the_days_quota_stops_the_run() -> None:
    said = "Quota exceeded for quota metric GenerateRequestsPerDayPerProject"
    with serve([error(429, said)]) as server, pytest.raises(StopRun, match="quota is used up"):
        complete("gemini", server)
    with serve([error(429, "wait", retry_after="9999")]) as server, pytest.raises(StopRun, match="wait 9999 s"):
        complete("openai", server)


def test_waits_that_servers_ask_for() -> None:
    now = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s({"Retry-After": "Sun, 01 Nov 2026 12:00:30 GMT"}, None, now) == 30
    assert retry_after_s({"retry-after-ms": "250"}, None) == 0.25
    assert retry_after_s({"retry-after": "nan"}, None) is None
    assert retry_after_s({"retry-after": "-5"}, None) is None
    assert retry_after_s({}, [{"error": {"details": "none"}}]) is None


def test_backoff_grows_with_jitter_up_to_the_cap() -> None:
    policy, rng = RetryPolicy(base_s=1, cap_s=8), random.Random(0)
    for attempt, top in ((1, 1), (2, 2), (3, 4), (4, 8), (9, 8)):
        delays = [policy.delay_s(attempt, None, rng) for _ in range(300)]
        assert 0 <= min(delays) < 0.1 * top and 0.9 * top < max(delays) <= top
    assert 3 <= policy.delay_s(1, 3.0, rng) <= 4


def test_gemini_says_400_for_a_bad_key() -> None:
    failure = failure_of_status(400, "API key not valid. Please pass a valid API key.", {}, None, max_wait_s=1)
    assert (failure.reason, failure.scope) == ("auth", "run")
