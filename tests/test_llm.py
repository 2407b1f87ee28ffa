"""The chat clients: the real SDKs against local servers that speak their wire formats."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import traceback
import wave
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mpar2.llm import (
    CallFailed,
    ChatClient,
    Estimate,
    GeminiClient,
    Journal,
    JournalError,
    Limiter,
    OpenAIClient,
    Prices,
    RecordedClient,
    Reply,
    ReplyRejected,
    RetryPolicy,
    Sampling,
    StopRun,
    Usage,
    ask,
    check_base_url,
    connect,
    estimate_tokens,
    judge_model,
    run_batch,
)
from mpar2.llm.base import audio_mime
from mpar2.llm.retry import failure_of_status, retry_after_s
from tests.wire import Answer, Call, Server, error, gemini_reply, openai_reply, serve

KEY = "sk-marker-7f3a9c"
FAST = RetryPolicy(base_s=0.001, cap_s=0.002, timeout_s=5.0)
WIRES = ("openai", "gemini")


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    count: int = Field(ge=0)


def reply(wire: str, text: str | None = '{"name": "a", "count": 1}', **options: Any) -> Answer:
    if wire == "openai" and "finish" in options:
        options["finish"] = {"MAX_TOKENS": "length", "SAFETY": "content_filter"}[options["finish"]]
    return (openai_reply if wire == "openai" else gemini_reply)(text, **options)


def client(wire: str, server: Server, **options: Any) -> ChatClient:
    options = {"policy": FAST, "api_key": KEY, **options}
    if wire == "openai":
        return OpenAIClient("asked", server.url + "/v1", **options)
    return GeminiClient("asked", base_url=server.url, **options)


def run(wire: str, server: Server, do: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with client(wire, server, **options) as opened:
            return await do(opened)

    return asyncio.run(inside())


def complete(wire: str, server: Server, **options: Any) -> Reply:
    return run(wire, server, lambda c: c.complete("be terse", ["hello"]), **options)


def ask_thing(wire: str, server: Server, **options: Any) -> Any:
    return run(wire, server, lambda c: ask(c, "be terse", ["hello"], Thing, sampling=Sampling(100)), **options)


def wav(seconds: float = 0.5) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\0\0" * int(16000 * seconds))
    return data.getvalue()


# --- one request ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
def test_a_reply_carries_text_served_version_and_tokens(wire: str) -> None:
    with serve([reply(wire, "a dog", model="served-2")]) as server:
        got = complete(wire, server)
    assert (got.text, got.model, got.model_version, got.finish) == ("a dog", "asked", "served-2", "stop")
    assert (got.usage.prompt, got.usage.completion) == (10, 7)


def test_thoughts_are_counted_apart_and_not_twice() -> None:
    with serve([openai_reply("x", thoughts=5)]) as server:
        assert complete("openai", server).usage == Usage(10, 2, 5)
    with serve([gemini_reply("x", thought="let me see")]) as server:
        got = complete("gemini", server)
    assert (got.text, got.reasoning, got.usage.total) == ("x", "let me see", 20)


def test_openai_request_on_the_wire() -> None:
    sampling = Sampling(max_tokens=50, temperature=0.0, top_p=0.9, top_k=20, repetition_penalty=1.1, seed=3)
    with serve([reply("openai")]) as server:
        run("openai", server, lambda c: c.complete("rules", [wav(), "what?"], Thing, sampling))
    (call,) = server.calls
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.system == "rules"
    audio, text = call.json["messages"][1]["content"]
    assert audio["audio_url"]["url"].startswith("data:audio/wav;base64,UklGR")  # "RIFF"
    assert text == {"type": "text", "text": "what?"}
    assert call.json["response_format"]["json_schema"]["schema"]["additionalProperties"] is False
    sent = {name: call.json[name] for name in ("max_tokens", "temperature", "top_p", "top_k", "seed")}
    assert sent == {"max_tokens": 50, "temperature": 0.0, "top_p": 0.9, "top_k": 20, "seed": 3}
    assert call.json["repetition_penalty"] == 1.1


def test_openai_input_audio_form() -> None:
    with serve([reply("openai")]) as server:
        run("openai", server, lambda c: c.complete("", [wav()]), audio_as="input_audio")
    part = server.calls[0].json["messages"][0]["content"][0]
    assert part["type"] == "input_audio" and part["input_audio"]["format"] == "wav"


def test_gemini_request_on_the_wire() -> None:
    with serve([reply("gemini")]) as server:
        run("gemini", server, lambda c: c.complete("rules", [wav(), "what?"], Thing, Sampling(50, temperature=0.5)))
    (call,) = server.calls
    assert call.path == "/v1beta/models/asked:generateContent"
    assert call.headers["x-goog-api-key"] == KEY
    assert call.system == "rules"
    audio, text = call.json["contents"][0]["parts"]
    inline = audio["inlineData"]
    assert inline.get("mimeType", inline.get("mime_type")) == "audio/wav" and text == {"text": "what?"}
    config = call.json["generationConfig"]
    assert (config["maxOutputTokens"], config["temperature"]) == (50, 0.5)
    assert config["responseMimeType"] == "application/json" and "count" in config["responseJsonSchema"]["properties"]


def test_gemini_sends_large_audio_through_the_files_api_and_removes_it() -> None:
    def plan(call: Call) -> Answer:
        if call.headers.get("x-goog-upload-command") == "start":
            where = f"http://{call.headers['host']}/upload/session"
            return Answer(body={}, headers={"X-Goog-Upload-URL": where, "X-Goog-Upload-Status": "active"})
        file = {"name": "files/f1", "uri": "https://files/f1", "state": "ACTIVE", "mimeType": "audio/wav"}
        if call.path.startswith("/upload/session"):
            return Answer(body={"file": file}, headers={"X-Goog-Upload-Status": "final"})
        if call.path.endswith("files/f1"):
            return Answer(body={} if call.method == "DELETE" else file)
        return reply("gemini", "heard")

    clip = wav(1.0)
    with serve(plan) as server:
        got = run("gemini", server, lambda c: c.complete("", [clip, "what?"]), inline_limit_bytes=10_000)
    assert got.text == "heard"
    uploaded = next(call for call in server.calls if call.path.startswith("/upload/session"))
    assert uploaded.body == clip
    asked = next(call for call in server.calls if "generateContent" in call.path)
    part = asked.json["contents"][0]["parts"][0]
    assert "https://files/f1" in json.dumps(part) and "inline" not in json.dumps(part)
    assert [call.method for call in server.calls][-1] == "DELETE"


def test_audio_parts_must_be_audio_files() -> None:
    assert audio_mime(b"OggS....") == "audio/ogg"
    with pytest.raises(ValueError, match="no WAV, FLAC, Ogg or MP3"):
        audio_mime(b"\0\0\0\0")


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


# --- structured replies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"text": '{"name": "a", "cou', "finish": "MAX_TOKENS"}, "truncated"),
        ({"text": '{"name": "a", "cou'}, "invalid_json"),
        ({"text": '{"name": "a", "count": NaN}'}, "invalid_json"),
        ({"text": '{"name": "a", "count": -1}'}, "schema"),
        ({"text": '{"name": "a", "count": 1, "more": 2}'}, "schema"),
        ({"text": ""}, "empty"),
        ({"text": None}, "empty"),
    ],
    ids=["truncated", "broken", "nan", "constraint", "extra", "empty", "null"],
)
def test_a_useless_reply_is_asked_for_again_with_the_reason(wire: str, bad: dict[str, Any], reason: str) -> None:
    with serve([reply(wire, **bad), reply(wire)]) as server:
        asked = ask_thing(wire, server)
    assert asked.value == Thing(name="a", count=1)
    assert (asked.replies, asked.rejected) == (2, (reason,))
    assert asked.usage.prompt == 20  # both replies are paid
    assert f'"reason": "{reason}"' in server.calls[1].text and "hello" in server.calls[1].text
    limit = "max_tokens" if wire == "openai" else "maxOutputTokens"
    sent = [call.json if wire == "openai" else call.json["generationConfig"] for call in server.calls]
    assert sent[1][limit] == (200 if reason == "truncated" else 100)


@pytest.mark.parametrize("wire", WIRES)
def test_a_reply_that_stays_useless_is_rejected_after_three(wire: str) -> None:
    with serve([reply(wire, "[]")]) as server, pytest.raises(ReplyRejected) as caught:
        ask_thing(wire, server)
    assert (caught.value.reason, caught.value.replies, len(server.calls)) == ("schema", 3, 3)
    assert caught.value.usage.prompt == 30


@pytest.mark.parametrize(
    ("wire", "blocked"),
    [
        ("openai", openai_reply(None, refusal="I cannot help with that")),
        ("openai", openai_reply("", finish="content_filter")),
        ("gemini", gemini_reply(None, block="PROHIBITED_CONTENT")),
        ("gemini", gemini_reply(None, finish="SAFETY")),
    ],
    ids=["refusal", "filter", "prompt", "reply"],
)
def test_a_block_is_told_and_not_asked_again(wire: str, blocked: Answer) -> None:
    with serve([blocked]) as server, pytest.raises(ReplyRejected) as caught:
        ask_thing(wire, server)
    assert caught.value.reason == "blocked" and len(server.calls) == 1


def test_thoughts_aloud_and_fences_around_json_are_taken_off() -> None:
    with serve([openai_reply('<think>{"name": 1}</think>\n```json\n{"name": "a", "count": 2}\n```')]) as server:
        assert ask_thing("openai", server).value.count == 2


def test_a_server_without_json_schema_gets_it_in_the_instructions_and_the_reply_says_so() -> None:
    def plan(call: Call) -> Answer:
        return error(400, "response_format.type json_schema is unavailable") if "response_format" in call.json else ok

    ok = reply("openai")

    async def twice(c: ChatClient) -> list[Any]:
        return [await ask(c, "be terse", ["hello"], Thing) for _ in range(2)]

    with serve(plan) as server:
        first, second = run("openai", server, twice)
    assert first.reply.structured == second.reply.structured == "prompt"
    assert len(server.calls) == 3  # refused once, remembered
    assert "be terse" in server.calls[1].system and '"count"' in server.calls[1].system


def test_a_server_that_wants_max_completion_tokens_gets_it() -> None:
    def plan(call: Call) -> Answer:
        if "max_tokens" in call.json:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return reply("openai")

    with serve(plan) as server:
        assert ask_thing("openai", server).reply.structured == "json_schema"


# --- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
def test_a_key_that_the_server_echoes_is_in_no_output(
    wire: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = []
    for status in (401, 429, 500, 400):
        said = f"Incorrect API key provided: {KEY}"
        with serve([error(status, said)]) as server, pytest.raises((StopRun, CallFailed)) as caught:
            complete(wire, server, policy=RetryPolicy(max_tries=1, base_s=0.001))
        assert server.calls, "the server was asked"
        seen += [str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)]
        assert caught.value.__context__ is None  # the SDK's exception holds the request with its headers
    made = client(wire, Server("http://127.0.0.1:9"))
    seen += [repr(made), str(vars(made)), made.identity, caplog.text, *capfd.readouterr()]
    assert "[key]" in seen[0]
    assert not any(KEY in text for text in seen)


def test_the_openai_key_goes_to_openai_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-marker")
    monkeypatch.delenv("MPAR2_SERVER_KEY", raising=False)
    with serve([reply("openai")]) as server:
        complete("openai", server, api_key=None)
    assert server.calls[0].headers["authorization"] == "Bearer EMPTY"
    assert not any("marker" in value for value in server.calls[0].headers.values())


def test_without_a_key_the_message_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StopRun, match="GEMINI_API_KEY"):
        connect("gemini", "m")
    with pytest.raises(StopRun, match="OPENAI_API_KEY"):
        connect("server", "m", base_url="https://api.openai.com/v1")


def test_server_addresses_are_plain_and_carry_no_secret() -> None:
    for bad in ("file:///etc/passwd", "localhost:8000/v1", "http://user:pw@host/v1", "http://host/v1?key=1", ""):
        with pytest.raises(ValueError, match="server address"):
            check_base_url(bad)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://127.1/v1",
        "http://169.254.169.254/",
        "http://[::ffff:10.0.0.1]/",
        "http://0/",
    ],
)
def test_a_public_app_does_not_connect_into_its_own_network(url: str) -> None:
    with pytest.raises(ValueError, match="not on the public internet"):
        check_base_url(url, public_only=True)
    assert check_base_url("https://8.8.8.8/v1", public_only=True)


def test_the_judges_model_comes_from_flag_then_environment_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPAR2_JUDGE_MODEL", raising=False)
    assert judge_model("gemini") == "gemini-3.1-pro-preview"
    with pytest.raises(ValueError, match="--model"):
        judge_model("server")
    monkeypatch.setenv("MPAR2_JUDGE_MODEL", "from-env")
    assert (judge_model("server"), judge_model("gemini", "flag")) == ("from-env", "flag")


# --- bounds --------------------------------------------------------------------------------------------------------


def test_requests_in_flight_never_pass_the_bound() -> None:
    async def many(c: ChatClient) -> None:
        await asyncio.gather(*(c.complete("", [f"{n}"]) for n in range(20)))

    with serve([reply("openai", delay_s=0.03)]) as server:
        run("openai", server, many, limiter=Limiter(in_flight=3))
    assert (len(server.calls), server.open_most) == (20, 3)


def test_the_token_budget_stops_the_run_before_the_request_that_would_pass_it() -> None:
    limiter = Limiter(in_flight=1, max_tokens=60)

    async def many(c: ChatClient) -> None:
        for number in range(10):
            await c.complete("", [f"{number}"])

    with serve([reply("openai")]) as server, pytest.raises(StopRun, match="budget of 60"):
        run("openai", server, many, limiter=limiter)
    assert len(server.calls) == 3  # 17 tokens each
    assert limiter.totals.usage.total == 51


def test_replies_without_a_count_are_counted_as_uncounted() -> None:
    limiter = Limiter()
    with serve([openai_reply("x", usage=None)]) as server:
        assert not complete("openai", server, limiter=limiter).usage.known
    assert (limiter.totals.replies, limiter.totals.uncounted) == (1, 1)


def test_estimates_before_and_costs_after(tmp_path: Path) -> None:
    assert estimate_tokens("x" * 35, wav(10.0)) == 10 + 320
    assert "no cost" in str(Estimate(3, 100, 10))
    table = tmp_path / "prices.json"
    table.write_text('{"m": {"prompt": 2.0, "completion": 10.0}}')
    prices = Prices.load(table, "m")
    assert prices is not None and Prices.load(table, "other") is None
    assert prices.cost(Usage(1_000_000, 100_000, 100_000)) == pytest.approx(4.0)
    assert "0.30 USD" in str(Estimate(1, 100_000, 10_000, prices))
    with pytest.raises(ValueError, match="price table"):
        Prices.load('{"m": {"prompt": "free"}}', "m")
    with pytest.raises(ValueError, match="not negative"):
        Prices.load('{"m": {"prompt": -1, "completion": 1}}', "m")


# --- journal and batches -------------------------------------------------------------------------------------------


def test_the_journal_drops_a_torn_line_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    with Journal(path) as journal:
        journal.append({"key": "a", "text": "é\n\u2028\udc80"})
        with pytest.raises(JournalError, match="twice"):
            journal.append({"key": "a"})
    with path.open("ab") as file:
        file.write(b'{"key": "b", "te')
    with Journal(path) as journal:
        assert len(journal) == 1 and "b" not in journal
        journal.append({"key": "b"})
    assert [json.loads(line)["key"] for line in path.read_bytes().splitlines()] == ["a", "b"]
    path.write_bytes(path.read_bytes().replace(b'{"key": "b"}', b"{key: b}"))
    with pytest.raises(JournalError, match="line 2"):
        Journal(path)


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(JournalError, match="another process"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


def test_a_recorded_reply_is_not_paid_again(tmp_path: Path) -> None:
    async def go(path: Path, server: Server) -> list[Reply]:
        with Journal(path) as journal:
            async with RecordedClient(client("openai", server), journal) as c:
                same = [c.complete("s", ["one", wav()], Thing) for _ in range(5)]
                return await asyncio.gather(*same, c.complete("s", ["two", wav()], Thing))

    with serve([reply("openai", delay_s=0.05)]) as server:
        first = asyncio.run(go(tmp_path / "j", server))
        assert len(server.calls) == 2
        assert asyncio.run(go(tmp_path / "j", server)) == first
        assert len(server.calls) == 2


def test_a_reply_that_is_paid_is_written_though_its_caller_is_cancelled(tmp_path: Path, monkeypatch: Any) -> None:
    slow = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (time.sleep(0.3), slow(file)))

    async def go(server: Server, journal: Journal) -> None:
        async with RecordedClient(client("openai", server), journal) as c:
            task = asyncio.create_task(c.complete("", ["one"]))
            while not server.calls or server.open_now:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # the reply is in, the disk is slow
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with serve([reply("openai", "paid")]) as server:
        with Journal(tmp_path / "j") as journal:
            asyncio.run(go(server, journal))
        with Journal(tmp_path / "j") as journal:
            assert [record["text"] for record in journal] == ["paid"]


def test_a_batch_keeps_order_counts_failures_and_resumes(tmp_path: Path) -> None:
    worked: list[int] = []

    async def work(item: int) -> dict[str, Any]:
        worked.append(item)
        await asyncio.sleep(0.001 * (10 - item))
        if item == 3 and worked.count(3) == 1:
            raise CallFailed("timeout", "once", 1)
        return {"square": item * item}

    def go() -> Any:
        with Journal(tmp_path / "j") as journal:
            return asyncio.run(run_batch([*range(6), 0, 1], work, key=str, journal=journal, in_flight=3))

    first = go()
    assert list(first.records) == ["0", "1", "2", "4", "5"] and list(first.failed) == ["3"]
    second = go()
    assert list(second.records) == ["0", "1", "2", "3", "4", "5"] and second.resumed == 5
    assert sorted(worked) == [0, 1, 2, 3, 3, 4, 5]


def test_a_fatal_error_stops_the_batch_but_what_is_paid_is_kept(tmp_path: Path) -> None:
    def plan(call: Call) -> Answer:
        return error(401, "key revoked") if call.text == "2" else reply("openai", call.text, delay_s=0.2)

    async def go(server: Server, journal: Journal) -> None:
        async with client("openai", server) as c:

            async def work(item: str) -> dict[str, Any]:
                return {"text": (await c.complete("", [item])).text}

            await run_batch(map(str, range(100)), work, key=str, journal=journal, in_flight=4)

    with serve(plan) as server, Journal(tmp_path / "j") as journal:
        with pytest.raises(StopRun, match="key revoked"):
            asyncio.run(go(server, journal))
        assert {record["key"] for record in journal} == {"0", "1", "3"}
        assert len(server.calls) == 4


def test_a_service_that_is_down_stops_the_batch() -> None:
    async def work(item: int) -> dict[str, Any]:
        raise CallFailed("unavailable", "no connection", 6)

    with pytest.raises(StopRun, match="20 items in a row"):
        asyncio.run(run_batch(range(1000), work, key=str, in_flight=4))


def test_the_progress_bar_counts_the_resumed_items_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def work(item: int) -> dict[str, Any]:
        return {}

    with Journal(tmp_path / "j") as journal:
        asyncio.run(run_batch(range(3), work, key=str, journal=journal))
        asyncio.run(run_batch(range(5), work, key=str, journal=journal, label="judging"))
    assert "judging: 100%" in (err := capsys.readouterr().err) and "5/5" in err


@pytest.mark.parametrize("wire", WIRES)
def test_a_batch_keeps_its_slots_busy(wire: str) -> None:
    """64 items of 0.25 s, 16 at a time: 1 s when no slot idles. The full measurement is benchmarks/judging.py."""

    async def go(c: ChatClient) -> float:
        async def work(item: int) -> dict[str, Any]:
            return {"text": (await c.complete("", [str(item)])).text}

        await c.complete("", ["warm up"])
        started = time.monotonic()
        await run_batch(range(64), work, key=str, in_flight=16)
        return time.monotonic() - started

    with serve([reply(wire, delay_s=0.25)]) as server:
        seconds = run(wire, server, go, limiter=Limiter(in_flight=16))
    assert server.open_most == 16
    assert seconds < 4.0  # one at a time would take 16 s; the bound is loose because other work may share the machine


KILLED = """
    import asyncio, sys
    from mpar2.llm import Journal, Limiter, OpenAIClient, RecordedClient, run_batch

    async def main(url, folder):
        with Journal(folder + "/replies.jsonl") as replies, Journal(folder + "/records.jsonl") as records:
            client = OpenAIClient("m", url, limiter=Limiter(in_flight=8))
            async with RecordedClient(client, replies) as c:
                async def work(item):
                    first = await c.complete("", [f"first {item}"])
                    second = await c.complete("", [f"second {item} {first.text}"])
                    return {"text": second.text}
                await run_batch(map(str, range(120)), work, key=str, journal=records, in_flight=8)

    asyncio.run(main(*sys.argv[1:]))
"""


def test_killed_three_times_equals_undisturbed(tmp_path: Path) -> None:
    def plan(call: Call) -> Answer:
        return openai_reply(call.text.upper(), delay_s=0.05)

    def start(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", textwrap.dedent(KILLED), server.url + "/v1", str(folder)]
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})

    def lines(folder: Path) -> int:
        path = folder / "records.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def records(folder: Path) -> dict[str, Any]:
        found = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        assert len(found) == len({record["key"] for record in found})  # nothing is counted twice
        return {record["key"]: record for record in found}

    with serve(plan) as server:
        assert start(tmp_path / "calm").wait(60) == 0
        calm_calls = len(server.calls)
        for kill_at in (10, 30, 50):
            process = start(tmp_path / "killed")
            deadline = time.monotonic() + 60
            while lines(tmp_path / "killed") < kill_at and time.monotonic() < deadline:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            assert process.wait(10) == -signal.SIGKILL
        before_last = lines(tmp_path / "killed")
        assert 50 <= before_last < 120
        assert start(tmp_path / "killed").wait(60) == 0
        extra = len(server.calls) - 2 * calm_calls
    assert records(tmp_path / "killed") == records(tmp_path / "calm")
    assert calm_calls == 240
    assert extra <= 3 * 8  # at most the requests in flight at each kill were sent again
