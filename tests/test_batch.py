"""Several clips at once: tables of questions, the work in turns, and the run that Analysis opens."""

from __future__ import annotations

import base64
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import make_clip

from analysis.load import load_runs
from mpar2.audio import wav_bytes
from mpar2.engines.transformers import TransformersEngine
from mpar2.errors import MPAR2Error
from mpar2.formats import Limits
from pages import batch as module
from pages.batch import BatchError, Batches, read_table
from pages.running import Asked
from pages.services import Offer, Services

ARMS = (("small-base", "cot"), ("small-mpar2", "mpar2"))


@pytest.fixture
def batches(tiny_checkpoint: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch) -> Batches:
    monkeypatch.setattr(module, "_TURN_S", 0.0)  # a turn is one answer
    offers = (
        Offer("small-base", str(tiny_checkpoint), None),
        Offer("small-mpar2", str(tiny_checkpoint), str(tiny_adapter)),
    )
    return Batches(Services(TransformersEngine(), offers, limits=Limits(max_seconds=4.0), max_new_tokens=24))


def sound(folder: Path, name: str, seconds: float = 1.0) -> str:
    (folder / name).write_bytes(wav_bytes(make_clip(seconds)))
    return str(folder / name)


def test_tables_are_read_as_spreadsheets_write_them(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rows = ("\ufeffAudio;Question;Choices;Answer", 'C:\\x\\a.wav;"Which; first?";a dog | a bell;a bell', ";;;")
    table.write_text("\n".join(rows), "utf-8")
    (row,) = read_table(table)
    assert row == {
        "id": "1", "audio": "C:\\x\\a.wav", "question": "Which; first?", "choices": ["a dog", "a bell"],
        "answer": "a bell",
    }  # fmt: skip
    for text, says in (("sound,text\n1,2\n", "columns audio and question"), ("audio,question\n", "no question")):
        table.write_text(text, "utf-8")
        with pytest.raises(BatchError, match=says):
            read_table(table)
    lines = tmp_path / "t.jsonl"
    lines.write_text('{"audio": "a.wav", "question": "q"}\n[1]\n', "utf-8")
    with pytest.raises(BatchError, match="line 2"):
        read_table(lines)


def test_a_table_becomes_a_run_in_turns_which_analysis_opens(batches: Batches, tmp_path: Path) -> None:
    for name in ("my dog.wav", "bell.wav"):
        batches.add("me", sound(tmp_path, name))
    table = tmp_path / "questions.csv"
    rows = ("audio,question,choices,answer", "x/my dog.wav,What is it?,a dog|a bell,a dog", "bell.wav,How many?,,")
    table.write_text("\n".join(rows), "utf-8")
    assert batches.add("me", str(table)) == {"sounds": 2, "table": True}
    batches.begin("me", Asked(None, "", arms=ARMS, max_new_tokens=6), "")
    states = []
    while not states or states[-1]["state"] == "more":
        states.append(batches.turn("me"))
    assert [state["done"] for state in states] == [1, 2, 3, 4] and states[-1]["state"] == "done"
    packed = tmp_path / "run.zip"
    packed.write_bytes(base64.b64decode(states[-1]["zip"]))
    table_ = load_runs([packed])
    assert sorted(table_.labels) == ["small-base cot", "small-mpar2 mpar2"] and len(table_.frame) == 4
    assert table_.frame["n_pred"].notna().any()  # scored, against the tagger's opinion
    with zipfile.ZipFile(packed) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist() if "manifest" in name).decode()
        assert not [name for name in archive.namelist() if name.endswith(".wav")]
        origins = [json.loads(line) for line in archive.read("run/cafe/captions.jsonl").splitlines()]
    assert {line["truth_origin"] for line in origins} == {"tagger"}
    assert str(tmp_path) not in text and batches.services.offers[0].model not in text
    with pytest.raises(BatchError, match="choose them again"):
        batches.turn("me")  # nothing of the visitor is kept


def test_sounds_without_a_table_share_a_question_and_a_stop_keeps_the_done(batches: Batches, tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        batches.add("me", sound(tmp_path, name))
    batches.begin("me", Asked(None, "What is it?", "a dog\na bell", arms=ARMS, max_new_tokens=4), "")
    assert batches.turn("me")["state"] == "more"
    batches.stop("me")
    last = batches.turn("me")
    assert last["state"] == "stopped" and 1 <= last["done"] < last["total"] == 6
    packed = tmp_path / "run.zip"
    packed.write_bytes(base64.b64decode(last["zip"]))
    assert len(load_runs([packed]).frame) == last["done"]


def test_what_cannot_be_run_is_said_and_no_file_outside_is_read(batches: Batches, tmp_path: Path) -> None:
    with pytest.raises(MPAR2Error, match="limit"):
        batches.add("me", sound(tmp_path, "long.wav", 5.0))
    with pytest.raises(BatchError, match="choose"):
        batches.begin("you", Asked(None, "q", arms=ARMS), "")
    batches.add("me", sound(tmp_path, "a.wav"))
    secret = tmp_path / "secret.wav"
    sound(tmp_path, "secret.wav")
    lines = tmp_path / "t.jsonl"
    lines.write_text(json.dumps({"audio": str(secret), "question": "q"}) + "\n", "utf-8")
    batches.add("me", str(lines))
    with pytest.raises(BatchError, match="not among the files .first: secret.wav"):
        batches.begin("me", Asked(None, "", arms=ARMS), "")
    lines.write_text(json.dumps({"audio": "a.wav", "question": " "}) + "\n", "utf-8")
    batches.add("me", str(lines))
    with pytest.raises(BatchError, match="^the table, line 1: ") as refused:
        batches.begin("me", Asked(None, "", arms=ARMS, max_new_tokens=4), "")
    folder = next(iter(batches._batches.values())).folder
    assert str(folder) not in str(refused.value)
    batches.forget("me")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"[" * 100_000),
        ("a.jsonl", b'{"audio": "a.wav", "question": 5}'),
        ("a.jsonl", b'{"audio": "a.wav", "question": "?", "choices": 5}'),
        ("a.jsonl", b'{"audio": "a.wav", "question": "?", "choices": {"A": "x"}}'),
        ("a.jsonl", b'{"audio": "a.wav", "question": "?", "events": "dog"}'),
        ("a.jsonl", b'{"audio": "a.wav", "question": "?", "difficulty": NaN}'),
        ("a.jsonl", b'{"audio": ["a.wav"], "question": "?"}'),
        ("a.jsonl", b'{"id": ' + b"9" * 5000 + b"}"),
        ("a.csv", b"audio,question\na.wav," + b"x" * 200_000),
        ("a.csv", b"question,audio\nonly a question\n"),
        ("a.csv", b"audio,question\na.wav\n"),
        ("a.csv", b'"' * 300_001),
        ("a.csv", b"\xff\xfe\0"),
    ],
)
def test_any_table_is_run_or_refused_in_words(batches: Batches, tmp_path: Path, name: str, content: bytes) -> None:
    clip, table = tmp_path / "a.wav", tmp_path / name
    clip.write_bytes(wav_bytes(make_clip(0.5)))
    table.write_bytes(content)
    batches.add("odd", str(clip))
    batches.add("odd", str(table))
    asked = Asked(None, "What is heard?", arms=(("small-base", "direct"),), max_new_tokens=4)
    with pytest.raises(MPAR2Error) as caught:
        batches.begin("odd", asked, "")
    assert str(tmp_path) not in str(caught.value) and "mpar2-batch" not in str(caught.value)


def test_files_that_nobody_runs_are_bounded_and_go(batches: Batches, tmp_path: Path, monkeypatch: Any) -> None:
    clip = Path(sound(tmp_path, "a.wav", 0.5))
    for number in range(50):
        batches.add(f"visitor {number}", str(clip))
    with pytest.raises(BatchError, match="50 visitors have brought files"):
        batches.add("one more", str(clip))
    folders = [batch.folder for batch in batches._batches.values()]
    assert clip.stat().st_nlink == 51, "no copy of it"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
    batches.add("one more", str(clip))
    assert not any(folder.exists() for folder in folders)
