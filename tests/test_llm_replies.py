"""Replies of any shape: the real SDKs against a local server that answers 200 with whatever hypothesis thinks of.

Whatever comes, the outcome is a reply or an error of that one request, in bounded time and memory, and the next request
is sent.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import time
import zlib
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpar2.llm import CallFailed, Limiter, LLMError, OpenAIClient, Reply, RetryPolicy, StopRun, check_base_url
from mpar2.llm.errors import SettingError
from mpar2.llm.replies import BadBodyError, ErrorInReply, gemini_parts, openai_delta, openai_parts
from mpar2.llm.transport import MAX_REPLY_BYTES
from testing.wire import Call, HttpReply, gemini_reply, openai_reply, serve
from tests.clients import WIRES, client, complete, reply

ONCE = RetryPolicy(max_tries=1, base_s=0.001, timeout_s=5.0)

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner)
)


def mostly(value: Any) -> st.SearchStrategy[Any]:
    """The value that belongs there, or anything else."""
    return st.just(value) | anything


def fields(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=strategies)


chunk = fields(type=st.sampled_from(["text", "thinking", "image_url", "refusal"]) | anything, text=mostly("a"))
content = mostly("text") | st.lists(chunk | anything, max_size=3)
message = fields(content=content, refusal=anything, reasoning_content=anything, role=anything, tool_calls=anything)
logprobs = fields(content=st.lists(fields(token=mostly("a"), logprob=mostly(-0.5)) | anything, max_size=3) | anything)
choice = fields(message=message | anything, delta=message | anything, finish_reason=mostly("stop"), logprobs=logprobs)
usage = fields(prompt_tokens=mostly(3), completion_tokens=mostly("x"), completion_tokens_details=anything)
openai_bodies = (
    fields(choices=st.lists(choice | anything, max_size=2) | anything, usage=usage | anything, model=anything)
    | fields(error=anything | fields(code=mostly(429), message=anything, metadata=anything), choices=anything)
    | anything
)
part = fields(text=mostly("a"), thought=mostly(True))
candidate = fields(
    content=fields(parts=st.lists(part | anything, max_size=3) | anything) | anything, finishReason=anything
)
gemini_bodies = (
    fields(
        candidates=st.lists(candidate | anything, max_size=2) | anything,
        promptFeedback=fields(blockReason=anything) | anything,
        usageMetadata=fields(promptTokenCount=anything, candidatesTokenCount=anything) | anything,
        modelVersion=anything,
    )
    | fields(error=anything)
    | anything
)
statuses = st.sampled_from([200, 200, 200, 400, 422, 404, 429, 500, 503, 418])


@given(openai_bodies)
@settings(max_examples=400, deadline=None)
def test_any_chat_completion_is_read_or_refused(body: Any) -> None:
    for read in (openai_parts, openai_delta):
        try:
            parts = read(body)
        except (BadBodyError, ErrorInReply):
            continue
        assert isinstance(parts.text, str) and isinstance(parts.detail, str)
        assert all(count is None or count >= 0 for count in (parts.usage.prompt, parts.usage.completion))
        json.dumps([parts.text, parts.reasoning, parts.model_version]).encode("utf-8")


@given(gemini_bodies)
@settings(max_examples=400, deadline=None)
def test_any_response_of_gemini_is_read_or_refused(body: Any) -> None:
    try:
        parts = gemini_parts(body)
    except (BadBodyError, ErrorInReply):
        return
    assert isinstance(parts.text, str) and isinstance(parts.detail, str)


@pytest.mark.parametrize("wire", WIRES)
def test_any_body_under_any_status_is_at_worst_the_error_of_its_request(wire: str) -> None:
    """The SDKs themselves read these: an exception of theirs must not get out as such."""
    current: list[HttpReply] = []

    with ExitStack() as stack, asyncio.Runner() as runner:
        server = stack.enter_context(serve(lambda call: current[0]))

        async def ask(answer: HttpReply) -> Reply | LLMError:
            current[:] = [answer]
            async with client(wire, server, policy=ONCE, limiter=Limiter(1)) as opened:
                try:
                    return await opened.complete("", ["hello"])
                except LLMError as error:
                    return error

        @given(openai_bodies if wire == "openai" else gemini_bodies, statuses)
        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def any_body(body: Any, status: int) -> None:
            outcome = runner.run(ask(HttpReply(status, json.dumps(body).encode())))
            assert isinstance(outcome, (Reply, LLMError))
            if status == 200 and isinstance(outcome, StopRun):
                assert isinstance(body, dict) and body.get("error"), "only an error that the body states stops a run"

        any_body()


ODD = {
    "no message": {"choices": [{}]},
    "null message": {"choices": [{"message": None}]},
    "content object": {"choices": [{"message": {"content": {"a": 1}}}]},
    "choice is text": {"choices": ["x"]},
    "no choices": {"choices": []},
    "a list": [1, 2],
    "a text": "hello",
    "null": None,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_completion_is_that_requests_error(name: str) -> None:
    def plan(call: Call) -> HttpReply:
        return HttpReply(200, json.dumps(ODD[name]).encode()) if "second" in call.text else openai_reply("done")

    async def three(c: OpenAIClient) -> list[Any]:
        async with c:
            return await asyncio.gather(*(c.complete("", [w]) for w in ("1", "second", "3")), return_exceptions=True)

    with serve(plan) as server:
        first, second, third = asyncio.run(three(client("openai", server, policy=ONCE, limiter=Limiter(1))))
    assert (first.text, third.text) == ("done", "done")
    assert isinstance(second, CallFailed) and (second.reason, second.scope) == ("bad_body", "request")


def test_odd_usage_and_chunks_of_content_are_read() -> None:
    body = openai_reply("x").body | {"usage": {"prompt_tokens": "x", "completion_tokens": -3}, "model": 7}
    body["choices"][0]["message"]["content"] = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a "},
        {"type": "text", "text": "dog \ud800"},
    ]
    with serve([HttpReply(200, json.dumps(body).encode())]) as server:
        got = complete("openai", server)
    assert (got.text, got.reasoning, got.model_version) == ("a dog ?", "hm", "7")
    assert (got.usage.prompt, got.usage.completion) == (None, None)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        (None, b" " * 40_000_000),
        ("gzip", gzip.compress(b" " * 200_000_000, 1)),
        ("deflate", zlib.compress(b" " * 200_000_000, 1)),
        ("br", b"whatever"),
        ("gzip", b"not gzip at all"),
    ],
    ids=["plain", "gzip", "deflate", "br", "damaged"],
)
@pytest.mark.parametrize("status", [200, 500])
def test_a_huge_or_packed_body_is_refused_within_bounds(
    wire: str, encoding: str | None, data: bytes, status: int
) -> None:
    headers = {} if encoding is None else {"Content-Encoding": encoding}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with serve([HttpReply(status, data, headers)]) as server, pytest.raises(CallFailed) as caught:
        complete(wire, server, policy=RetryPolicy(base_s=0.001))
    assert caught.value.reason == "bad_body" and len(server.calls) == 1, "another try would bring the same"
    assert time.monotonic() - started < 10
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 120, f"{grown_mb:.0f} MB"
    assert server.calls[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("wire", WIRES)
def test_a_small_packed_reply_is_read(wire: str) -> None:
    plain = reply(wire, "a dog")
    packed = HttpReply(200, gzip.compress(plain.data), {"Content-Encoding": "gzip"})
    with serve([packed]) as server:
        assert complete(wire, server).text == "a dog"


@pytest.mark.parametrize("wire", WIRES)
def test_a_reply_of_too_many_characters_is_refused(wire: str) -> None:
    with serve([reply(wire, "x" * 450_000)]) as server, pytest.raises(CallFailed, match="more than 400,000 characters"):
        complete(wire, server, policy=ONCE)
    assert MAX_REPLY_BYTES == 1_000_000


@pytest.mark.parametrize(
    ("wire", "body", "reason"),
    [
        ("openai", {"error": {"code": 429, "message": "busy"}}, "rate_limited"),
        ("openai", {"error": {"code": 400, "message": "no"}}, "bad_request"),
        ("openai", {"error": "broken"}, "unavailable"),
        ("openai", {"choices": [{"error": {"code": 502, "message": "upstream"}}]}, "unavailable"),
        ("gemini", {"error": {"code": 503, "message": "busy"}}, "unavailable"),
    ],
)
def test_an_error_under_status_200_is_read_as_such(wire: str, body: Any, reason: str) -> None:
    with serve([HttpReply(200, body)]) as server, pytest.raises(CallFailed) as caught:
        complete(wire, server, policy=ONCE)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "address",
    [
        "http://host/\x01/v1",
        "https://./v1",
        "http://" + "a" * 70 + ".com/v1",
        "http://a..b/v1",
        "http://\ud800/v1",
        "http://h ost/v1",
        "http://[::1/v1",
        "http://h:99999/v1",
    ],
)
def test_an_address_that_no_client_can_use_is_a_setting_error(address: str) -> None:
    for make in (check_base_url, lambda url: OpenAIClient("m", url, api_key="k")):
        with pytest.raises(SettingError, match="server address"):
            make(address)


@given(st.text(max_size=60) | st.builds("http://{}/v1".format, st.text(max_size=30)))
@settings(max_examples=300, deadline=None)
def test_any_address_is_taken_or_refused_in_words(address: str) -> None:
    try:
        check_base_url(address)
    except SettingError as error:
        assert "server address" in str(error)


def test_a_proxy_is_named_and_loopback_is_reached_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://user:secret@127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve([openai_reply("done")]) as server:
        assert complete("openai", server).text == "done"

    async def elsewhere() -> None:
        async with OpenAIClient("m", "http://198.51.100.1/v1", api_key="k", policy=ONCE) as c:
            await c.complete("", ["x"])

    with pytest.raises(CallFailed, match=r"198.51.100.1/v1 through the proxy http://127.0.0.1:9 ") as caught:
        asyncio.run(elsewhere())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("wire", "answer"), [("gemini", gemini_reply(None, finish="STOP")), ("openai", openai_reply(""))]
)
def test_an_empty_reply_says_that_it_is_empty(wire: str, answer: HttpReply) -> None:
    with serve([answer]) as server:
        got = complete(wire, server)
    assert (got.text, got.finish) == ("", "stop")
