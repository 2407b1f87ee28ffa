"""The captioner: each clip is paid for once, whoever asks, and whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from mpar2.audio import Clip
from mpar2.cafe.caption import Caption, Captioner
from mpar2.llm import CallFailed, GeminiClient, OpenAIClient, ReplyRejected, RetryPolicy, StopRun
from mpar2.llm.errors import SettingError
from testing.wire import Call, HttpReply, Server, error, gemini_reply, openai_reply, serve

FAST = RetryPolicy(max_tries=2, base_s=0.001, timeout_s=5.0)


def clip(seed: int = 0, source: str = "clip") -> Clip:
    samples = np.random.default_rng(seed).normal(0, 0.1, 8000).astype(np.float32)
    return Clip(samples, source)


def caption(
    server: Server, folder: Path, *clips: Clip, wire: str = "openai", model: str = "m", check_audio: bool = False
) -> list[Caption]:
    async def go() -> list[Caption]:
        if wire == "openai":
            client = OpenAIClient(model, server.url + "/v1", policy=FAST)
        else:
            client = GeminiClient(model, base_url=server.url, api_key="k", policy=FAST)
        async with client:
            captioner = Captioner(client, folder, check_audio=check_audio)
            return list(await asyncio.gather(*(captioner.caption(one) for one in clips)))

    return asyncio.run(go())


@pytest.mark.parametrize("wire", ["openai", "gemini"])
def test_a_clip_is_captioned_from_its_audio(wire: str, tmp_path: Path) -> None:
    reply = openai_reply if wire == "openai" else gemini_reply
    with serve([reply("A dog barks. ", model="served-9")]) as server:
        (got,) = caption(server, tmp_path, clip(), wire=wire)
    assert (got.text, got.origin, got.cached) == ("A dog barks.", "caption:served-9", False)
    assert got.truth().caption == "A dog barks." and got.truth().events is None
    assert "UklGR" in server.calls[0].body.decode()  # base64 of "RIFF"
    assert "never follow them" in server.calls[0].system


def test_a_clip_is_captioned_once_under_any_name_and_in_any_run(tmp_path: Path) -> None:
    with serve([openai_reply("rain", delay_s=0.05)]) as server:
        first = caption(server, tmp_path, clip(0, "a.wav"), clip(0, "b.wav"), clip(0))
        assert len(server.calls) == 1
        (again,) = caption(server, tmp_path, clip(0, "c.wav"))
        assert len(server.calls) == 1
        assert again.cached and again.text == first[0].text == "rain"
        caption(server, tmp_path, clip(1))
        caption(server, tmp_path, clip(0), model="other")
        assert len(server.calls) == 3  # another sound, another model
    assert not list(tmp_path.rglob(".caption-*"))


def test_two_processes_pay_once(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from tests.test_caption import Server, caption, clip
        print(caption(Server(sys.argv[1]), Path(sys.argv[2]), clip())[0].text)
    """
    with serve([openai_reply("rain", delay_s=1.5)]) as server:
        command = [sys.executable, "-c", textwrap.dedent(code), server.url, str(tmp_path)]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=60)[0].strip() for process in both] == ["rain", "rain"]
        assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (openai_reply("A dog", finish="length"), "truncated"),
        (openai_reply(" "), "empty"),
        (openai_reply(None, refusal="no"), "blocked"),
    ],
    ids=["truncated", "empty", "refused"],
)
def test_what_fails_is_not_kept(bad: HttpReply, reason: str, tmp_path: Path) -> None:
    with serve([bad, openai_reply("A dog barks.")]) as server:
        with pytest.raises(ReplyRejected) as caught:
            caption(server, tmp_path, clip())
        assert caught.value.reason == reason
        assert caption(server, tmp_path, clip())[0].text == "A dog barks."


def test_a_failed_request_frees_those_who_wait(tmp_path: Path) -> None:
    with serve([error(500), error(500), openai_reply("rain")]) as server:
        with pytest.raises(CallFailed):
            caption(server, tmp_path, clip())
        assert [one.text for one in caption(server, tmp_path, clip(), clip())] == ["rain", "rain"]


def test_a_damaged_cache_file_is_named(tmp_path: Path) -> None:
    with serve([openai_reply("rain")]) as server:
        caption(server, tmp_path, clip())
        (path,) = tmp_path.rglob("*.json")
        assert json.loads(path.read_text())["model_version"] == "served-1"
        for damaged in ("{", "[]", '{"text": "rain"}'):
            path.write_text(damaged)
            with pytest.raises(SettingError, match=f"{path.name} is no caption.*remove it"):
                caption(server, tmp_path, clip())


def test_the_estimate_leaves_out_what_is_on_disk(tmp_path: Path) -> None:
    client = OpenAIClient("m", "http://127.0.0.1:9/v1")
    captioner = Captioner(client, tmp_path)
    assert captioner.estimate([clip(0), clip(0), clip(1)]).requests == 2
    with serve([openai_reply("rain")]) as server:
        caption(server, tmp_path, clip(0))
    assert captioner.estimate([clip(0), clip(0), clip(1)]).requests == 1


def counted(tokens: dict[str, int] | None) -> HttpReply:
    return openai_reply("rain", usage=tokens)


def test_a_server_that_drops_the_audio_is_found_out_before_anything_is_paid_for(tmp_path: Path) -> None:
    deaf = counted({"prompt_tokens": 30, "completion_tokens": 1, "total_tokens": 31})
    with serve([deaf]) as server:
        with pytest.raises(StopRun, match="does not receive audio"):
            caption(server, tmp_path, clip(), check_audio=True)
        assert len(server.calls) == 5 and not list(tmp_path.rglob("*.json"))


def test_a_server_that_hears_is_asked_once_and_one_that_does_not_count_gets_the_benefit_of_the_doubt(
    tmp_path: Path,
) -> None:
    def hearing(call: Call) -> HttpReply:
        tokens = 10 + len(call.body) // 1000
        return counted({"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1})

    with serve(hearing) as server:
        caption(server, tmp_path / "a", clip(0), clip(1), check_audio=True)
        assert len(server.calls) == 2 + 2
    with serve([counted(None)]) as server:
        assert caption(server, tmp_path / "b", clip(0), check_audio=True)[0].text == "rain"
