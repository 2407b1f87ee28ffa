"""What passes is asked again, what does not stops the run: both SDKs against local servers."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime

import pytest

from mpar2.llm import (
    CallFailed,
    ChatClient,
    Reply,
    RetryPolicy,
    StopRun,
)
from mpar2.llm.retry import failure_of_status, retry_after_s
from testing.wire import Answer, error, serve
from tests.clients import WIRES, complete, reply, run

# --- retries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "bad",
    [
        error(429, "slow down"),
        error(500),
        error(503),
        Answer(200, b"<html>proxy</html>", {"Content-Type": "text/html"}),
        Answer(200, b'{"choices": [', {"Content-Type": "application/json"}),
        Answer(drop=True),
    ],
    ids=["429", "500", "503", "html", "broken-json", "dropped"],
)
def test_a_passing_failure_is_asked_again(wire: str, bad: Answer) -> None:
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
    drip = Answer(body={"x": "y" * 500}, drip_s=0.05)
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
@pytest.mark.parametrize(
    ("status", "reason"), [(400, "bad_request"), (401, "auth"), (403, "auth"), (404, "not_found"), (302, "bad_request")]
)
def test_errors_that_will_not_pass_stop_the_run_at_once(wire: str, status: int, reason: str) -> None:
    elsewhere = "http://127.0.0.1:9/stolen"
    bad = error(status, "no such luck", location=elsewhere) if status == 302 else error(status, "no such luck")
    with serve([bad]) as server, pytest.raises(StopRun) as caught:
        complete(wire, server)
    assert caught.value.reason == reason
    assert len(server.calls) == 1
    if status != 302:
        assert "no such luck" in str(caught.value)


def test_an_input_that_is_too_long_fails_its_item_only() -> None:
    said = "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens."
    with serve([error(400, said)]) as server, pytest.raises(CallFailed) as caught:
        complete("openai", server)
    assert caught.value.reason == "too_long" and len(server.calls) == 1


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
    assert (failure.reason, failure.action) == ("auth", "stop")
