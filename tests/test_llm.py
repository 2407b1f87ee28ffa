"""The chat clients: the real SDKs against local servers that speak their wire formats."""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any

import pytest

from mpar2.llm import (
    CallFailed,
    ChatClient,
    ReplyRejected,
    RetryPolicy,
    Sampling,
    StopRun,
    Usage,
    ask,
    check_base_url,
    connect,
    judge_model,
)
from mpar2.llm.base import audio_mime
from testing.wire import Call, HttpReply, Server, error, gemini_reply, openai_reply, serve
from tests.clients import KEY, WIRES, Thing, ask_thing, client, complete, reply, run, wav

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
    def plan(call: Call) -> HttpReply:
        if call.headers.get("x-goog-upload-command") == "start":
            where = f"http://{call.headers['host']}/upload/session"
            return HttpReply(body={}, headers={"X-Goog-Upload-URL": where, "X-Goog-Upload-Status": "active"})
        file = {"name": "files/f1", "uri": "https://files/f1", "state": "ACTIVE", "mimeType": "audio/wav"}
        if call.path.startswith("/upload/session"):
            return HttpReply(body={"file": file}, headers={"X-Goog-Upload-Status": "final"})
        if call.path.endswith("files/f1"):
            return HttpReply(body={} if call.method == "DELETE" else file)
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
def test_a_block_is_told_and_not_asked_again(wire: str, blocked: HttpReply) -> None:
    with serve([blocked]) as server, pytest.raises(ReplyRejected) as caught:
        ask_thing(wire, server)
    assert caught.value.reason == "blocked" and len(server.calls) == 1


def test_thoughts_aloud_and_fences_around_json_are_taken_off() -> None:
    with serve([openai_reply('<think>{"name": 1}</think>\n```json\n{"name": "a", "count": 2}\n```')]) as server:
        assert ask_thing("openai", server).value.count == 2


GOOD = '{"name": "a {not} \\"json\\"", "count": 2}'


@pytest.mark.parametrize(
    "text",
    [
        f"Here is the JSON:\n```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```\nI hope this helps.",
        f"~~~JSON\r\n{GOOD}\r\n~~~",
        f"```\n```json\n{GOOD}\n```\n```",
        f"Sure! {GOOD}",
        f"\ufeff{GOOD}",
        f"[{GOOD}]",
        GOOD.replace("2}", "2,\n}"),
        f"{GOOD}\n\nThe count is {{2}} because two were heard.",
        f"The set {{1, 2}} has two elements.</think>{GOOD}",
        f'<think>{{"name": "draft", "count": 1}}</think>{GOOD}',
        f'The form is {{"name": ..., "count": ...}}. {GOOD}',
        f"{GOOD}\n{GOOD}",
    ],
)
def test_the_one_object_of_a_wrapped_reply_is_read_and_counted_as_lenient(text: str) -> None:
    with serve([openai_reply(text)]) as server:
        asked = ask_thing("openai", server)
    assert (asked.value.count, asked.value.name, asked.replies) == (2, 'a {not} "json"', 1)
    assert asked.lenient
    with serve([openai_reply(f"\n{GOOD} ")]) as server:
        assert not ask_thing("openai", server).lenient


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "a", "count": 1} or {"name": "b", "count": 2}', "2 different objects"),
        ('[{"name": "a", "count": 1}, {"name": "b", "count": 2}]', "list of 2 objects"),
        ("no object", "no JSON"),
        ("{" * 5000, "no JSON"),
        ('{"name": "a", "count": NaN}!', "NaN is no JSON number"),
        ('{"name": "a", "count": 1, "count": 2}', "'count' is given twice"),
        ('```json\n{"name": "a", "name": "b", "count": 2}\n```', "'name' is given twice"),
        ("{'name': 'a', 'count': 2}", "double quotes"),
        ('Here: {"name": {"name": "a", "count": 2}, "cou', "no JSON"),
    ],
)
def test_an_ambiguous_or_broken_reply_is_rejected_in_words(text: str, says: str) -> None:
    with serve([openai_reply(text)]) as server, pytest.raises(ReplyRejected, match=says) as caught:
        ask_thing("openai", server)
    assert caught.value.reason == "invalid_json"


def test_a_server_without_json_schema_gets_it_in_the_instructions_and_the_reply_says_so() -> None:
    def plan(call: Call) -> HttpReply:
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
    def plan(call: Call) -> HttpReply:
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
