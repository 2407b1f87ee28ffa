"""The tasks of ``mpar2 cafe`` that pay a service: captions for a run, what it cost, and settings that cannot work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mpar2.audio import wav_bytes
from mpar2.cafe.caption import read_captions, write_captions
from mpar2.cafe.schema import Truth
from mpar2.cafe.score import read_scores
from mpar2.cli import main
from mpar2.question import Event, Item, Question
from testing.wire import Call, HttpReply, error, judge_plan, openai_reply, serve
from tests.conftest import make_clip
from tests.test_cafe_score import record, write_run


def listens(call: Call) -> HttpReply:
    """A server that hears (more audio, more tokens), captions what it hears, and judges."""
    if "DATA" in call.text:
        return judge_plan(openai_reply)(call)
    usage = {"prompt_tokens": len(call.body), "completion_tokens": 5, "total_tokens": 5}
    return openai_reply("A dog barks, then a siren wails.", model="captioner-7", usage=usage)


def bare_run(folder: Path) -> Path:
    """Two items without truth that share a clip, and a third with another one."""
    for number in range(2):
        (folder / f"{number}.wav").write_bytes(wav_bytes(make_clip(1.0, number)))
    items = [Item(f"i{n}", f"{n // 2}.wav", Question("What is heard?")) for n in range(3)]
    return write_run(folder / "run", 0, tuple(record(item, "true", "A dog barks.") for item in items))


def test_clips_without_events_are_captioned_once_and_then_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = bare_run(tmp_path)
    with serve(listens) as server:
        service = ["--model", "m", "--base-url", f"{server.url}/v1"]
        score = ["cafe", "score", str(run), "--judge", "server", "--yes", *service]
        arguments = ["cafe", "caption", str(run), "--by", "server", "--audio-root", str(tmp_path), *service]
        arguments += ["--cache", str(tmp_path / "cache")]
        assert main(score) == 2 and not server.calls, "nothing can be judged, so nothing is paid"
        assert "run 'mpar2 cafe caption' and score with" in capsys.readouterr().err
        assert main(arguments) == 1 and "pass --yes" in capsys.readouterr().err
        assert main([*arguments, "--yes"]) == 0
        assert "2 of 2 clips captioned, for 3 of 3 items" in capsys.readouterr().out
        sent = len(server.calls)
        assert main(arguments) == 0 and len(server.calls) == sent, "nothing to pay, so nothing to agree to"
        assert "2 clips to caption: 0 requests" in capsys.readouterr().err
        assert main(score) == 0
        out = capsys.readouterr().out
    assert "3 of 3 traces scored" in out and "truth: caption:captioner-7 (3)" in out
    assert {score.outcome.truth_origin for score in read_scores(run).scores} == {"caption:captioner-7"}


def test_what_all_replies_cost_is_said_those_of_earlier_starts_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", 1)
    table = tmp_path / "prices.json"
    table.write_text('{"m": {"prompt": 1000000, "completion": 0}}')
    with serve(judge_plan(openai_reply)) as server:
        arguments = ["cafe", "score", str(run), "--judge", "server", "--model", "m", "--prices", str(table), "--yes"]
        for _ in range(2):
            assert main([*arguments, "--base-url", f"{server.url}/v1"]) == 0
            n = len(server.calls)
            said = f"{n} replies in all: {17 * n} tokens ({10 * n} in, {7 * n} out), {10 * n:.2f} USD"
            assert said in capsys.readouterr().out


def test_captions_of_other_items_stay(tmp_path: Path) -> None:
    write_captions(tmp_path, {"a": Truth(None, "rain", "caption:m"), "b": Truth(None, "wind", "caption:m")})
    path = write_captions(tmp_path, {"b": Truth(None, "a storm", "caption:n")})
    found = read_captions(tmp_path)
    assert (found["a"].caption, found["b"].caption, found["b"].origin) == ("rain", "a storm", "caption:n")
    path.write_text('{"id": "a"}\n')
    with pytest.raises(ValueError, match="remove it and run 'mpar2 cafe caption' again"):
        read_captions(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--judge", "server"], "give --model or set MPAR2_JUDGE_MODEL"),
        (["--judge", "server", "--model", "m"], "give --base-url"),
        (["--judge", "server", "--model", "m", "--base-url", "host:8000"], "like http://host:8000/v1"),
        (["--judge", "gemini"], "set GEMINI_API_KEY"),
        (["--limit", "0"], "whole number from 1 on"),
        (["--limit", "-1"], "whole number from 1 on"),
        (["--in-flight", "many"], "whole number from 1 on"),
    ],
)
def test_settings_that_cannot_work_are_said_without_a_traceback(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:

    for name in ("MPAR2_JUDGE_MODEL", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    run = write_run(tmp_path / "run", 1)
    try:
        status = main(["cafe", "score", str(run), *arguments])
    except SystemExit as left:  # argparse
        status = left.code
    assert status == 2 and re.search(says, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            "The decoder prompt (length 9000) is longer than the maximum model length.",
            "3 of 4 traces scored (1 truncated",
        ),
        ("this trace cannot be tokenised", "3 of 3 traces scored"),  # asked again at the next start
    ],
)
def test_a_trace_that_the_judge_refuses_is_unscored_and_the_others_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, shown: str
) -> None:
    events = (Event("dog bark", 0.0, 1.0),)
    items = [Item(f"i{n}", f"{n}.wav", Question("What is heard?"), events) for n in range(4)]
    texts = ["A dog barks.", "A dog barks for too long a time.", "A siren.", "A dog again."]
    run = write_run(tmp_path / "run", 0, tuple(map(record, items, ["true"] * 4, texts)))

    def plan(call: Call) -> HttpReply:
        if "too long a time" in call.text:
            return error(400, words)
        return judge_plan(openai_reply)(call)

    with serve(plan) as server:
        service = ["--model", "m", "--base-url", f"{server.url}/v1"]
        main(["cafe", "score", str(run), "--judge", "server", "--yes", *service])
    assert shown in capsys.readouterr().out
