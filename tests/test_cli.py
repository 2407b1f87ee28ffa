"""The command line as a user meets it: output, JSON, files, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import make_clip

from mpar2.attention import load_record
from mpar2.cli import main

KEYS = {"answer", "choice", "mode", "model", "text", "trace", "tokens", "seconds", "audio_seconds", "attention_ratio"}


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a clip.wav", make_clip().samples, 16_000)
    return tmp_path / "a clip.wav"


def reason(wav: Path, model: Path, *more: str) -> list[str]:
    return [
        "reason",
        str(wav),
        "--question",
        "What comes first?",
        "--model",
        str(model),
        "--max-new-tokens",
        "8",
        *more,
    ]


def test_json_is_one_object(wav: Path, tiny_checkpoint: Path, tmp_path: Path, capsys) -> None:
    npz = tmp_path / "a.npz"
    options = ["--choice", "dog bark", "--choice", "bell", "--json", "--attention", str(npz), "--mode", "cot"]
    assert main(reason(wav, tiny_checkpoint, *options)) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert out.count("\n") == 1 and err == "" and set(result) >= KEYS
    assert (result["mode"], result["model"], result["tokens"]) == ("cot", str(tiny_checkpoint), 8)
    assert result["audio_seconds"] == 1.5 and 0 < result["attention_ratio"] < 1 and result["seconds"] > 0
    part = result["trace"]["parts"][0]
    assert {"kind", "text", "chars", "tokens"} <= set(part)
    assert part["text"] == result["text"][slice(*part["chars"])]
    record = load_record(npz)
    assert len(record.visible) == 8
    assert np.isclose(record.mass.mean(), result["attention_ratio"], atol=1e-5)


def test_text_output_streams_the_trace_and_sums_up(wav: Path, tiny_checkpoint: Path, capsys) -> None:
    assert main(reason(wav, tiny_checkpoint)) == 0
    out, _ = capsys.readouterr()
    assert "answer:" in out and "tokens:     8 (cut at the limit of tokens)" in out and "1.50 s of audio" in out
    assert all(ch.isprintable() or ch in "\n\t" for ch in out)


def test_compare_prints_both_arms(wav: Path, tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path, capsys) -> None:
    base = ["compare", str(wav), "--question", "What?", "--model", str(tiny_checkpoint), "--max-new-tokens", "6"]
    base += ["--other-model", str(tiny_adapter), "--attention", str(tmp_path / "a.npz")]
    assert main([*base, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [set(arm) >= KEYS for arm in result["arms"]] == [True, True]
    assert [arm["mode"] for arm in result["arms"]] == ["cot", "mpar2"]
    assert result["arms"][0]["text"] != result["arms"][1]["text"]
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["a-1.npz", "a-2.npz"]
    assert main(base) == 0
    out = capsys.readouterr().out
    assert out.count("tokens:") == 2 and " | " in out


def test_what_was_not_heard_goes_to_stderr(tmp_path: Path, qwen2_audio_checkpoint: Path, capsys) -> None:
    soundfile.write(tmp_path / "long.wav", make_clip(5.0).samples, 16_000)
    assert main(reason(tmp_path / "long.wav", qwen2_audio_checkpoint, "--json")) == 0
    out, err = capsys.readouterr()
    assert "takes the first 4 s only" in err and json.loads(out)["audio_seconds"] == 4.0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model", "no-such-model"], "no checkpoint 'no-such-model'"),
        (["--adapter", "/nowhere/adapter"], "no checkpoint"),
        (["--temperature", "-1"], "temperature"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
        (["--choice", "only one"], "choice"),
        (["--question", "  "], "question is empty"),
        (["--attention", "a.txt"], "must end in .npz"),
        (["--attention", "/no/such/folder/a.npz"], "no folder"),
        (["--device", "abacus"], "unknown device"),
    ],
)
def test_bad_input_is_status_2_and_a_sentence(wav: Path, tiny_checkpoint: Path, more, words: str, capsys) -> None:
    assert main(reason(wav, tiny_checkpoint, *more)) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and "Traceback" not in err and out == ""


def test_bad_audio_and_bad_options_are_status_2(tmp_path: Path, tiny_checkpoint: Path, capsys) -> None:
    (tmp_path / "text.wav").write_text("this is no audio")
    for path in (tmp_path / "text.wav", tmp_path / "missing.wav"):
        assert main(reason(path, tiny_checkpoint)) == 2
    for arguments in (
        [],
        ["dance"],
        ["reason"],
        ["reason", "x.wav"],
        ["reason", "x", "--question", "q", "--mode", "x"],
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
    capsys.readouterr()


def test_help_and_version_are_quick_and_need_no_torch() -> None:
    code = "import sys; from mpar2.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    for arguments, words in ((["--help"], "reason"), (["reason", "--help"], "--attention"), (["--version"], "mpar2 ")):
        ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
        assert words in ran.stdout and ran.stdout.strip().endswith("False"), ran.stderr


def test_json_holds_what_the_loader_warns_of(capsys, tmp_path):
    from testing.hostile.sounds import good_wav

    path = tmp_path / "cut.wav"
    path.write_bytes(good_wav()[:20_000])
    assert main(["reason", str(path), "--question", "What?", "--max-new-tokens", "2", "--json"]) == 0
    assert "cut off" in json.loads(capsys.readouterr().out)["warnings"][0]


def test_the_help_of_a_task_opens_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (["cafe", "score"], "judge every trace of a run"),
        (["cafe", "probe"], "ask the models of a run directly about each event"),
        (["items", "from-captions"], "captions that people wrote"),
        (["convert", "to-inspect"], "a run to logs for `inspect view"),
    ):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        usage, described = capsys.readouterr().out.split("\n\n")[:2]
        assert usage.startswith("usage: mpar2") and " ".join(described.split()).startswith(sentence)
