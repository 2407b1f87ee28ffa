"""Items kept beside a run: recordings copied, heatmaps read again by the arm's own model, and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import make_clip

pytest.importorskip("gradio")

from analysis.load import load_runs
from mpar2.audio import wav_bytes
from mpar2.engines.base import Arm
from mpar2.engines.transformers import TransformersEngine
from mpar2.question import Question
from mpar2.runs import RunError, item_of, read_run
from pages.analysis_items import items_value
from pages.analysis_runs import RUNS, compared
from pages.examples import EXAMPLES
from pages.store_run import choose_items, store_run
from pages.stored_item import HEATMAPS, audio_of, linked_clips
from testing.synthetic import FakeArm, write_run


def test_kept_items_have_sound_and_heatmap_of_the_very_trace(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arms = (FakeArm("own", model=str(tiny_checkpoint)), FakeArm("deaf", model=str(tiny_checkpoint), audio="silent"))
    folder = write_run(tmp_path / "run", 4, arms, attention=False)
    sounds = tmp_path / "sounds" / "clips"
    sounds.mkdir(parents=True)
    clip = make_clip(2.0)
    for number in range(4):
        (sounds / f"{number}.flac").write_bytes(wav_bytes(clip))
    ids = choose_items(read_run(folder), 2)
    assert len(ids) == 2 and ids == choose_items(read_run(folder), 2)

    engine = TransformersEngine()
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    for line in lines:  # as an evaluation writes it: the tokens that this model's tokenizer makes of the text
        if line["id"] == ids[0] and line["arm"] == "own":
            question = read_question(folder, line["key"])
            made = engine.attend(clip, question, Arm("own", str(tiny_checkpoint), None, "mpar2"), line["text"])
            line |= {"tokens": len(made.tokens), "token_ends": [token.chars.stop for token in made.tokens]}
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    said = list(store_run(engine, folder, tmp_path / "sounds", ids))
    assert len(said) == 2 and sum("left out" in line for line in said) == 1
    table = load_runs([folder])
    stored = (folder / HEATMAPS).read_text("utf-8").splitlines()
    assert [json.loads(line)["key"] for line in stored] == [f"{ids[0]}|own|0"]
    row = table.frame.index[table.frame["key"] == f"{ids[0]}|own|0"][0]
    document = compared(table, int(row), None)
    assert document["clip"]["seconds"] == pytest.approx(2.0) and document["clip"]["audio"].startswith("data:audio/")
    assert document["arms"][0]["attention"]["tokens"] is not None
    assert sum(audio_of(table.runs[0], {"audio": f"clips/{n}.flac"}) is not None for n in range(4)) == 2


def read_question(folder: Path, key: str) -> Question:
    return next(item_of(record).question for record in read_run(folder).records() if record["key"] == key)


def test_sound_that_is_missing_or_would_lie_outside_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 1, (FakeArm("own"),))
    with pytest.raises(RunError, match="audio-root"):
        list(store_run(None, folder, tmp_path / "none", ["item 0"]))
    text = (folder / "items.jsonl").read_text("utf-8").replace("clips/0.flac", "../../0.flac")
    (folder / "items.jsonl").write_text(text, "utf-8")
    with pytest.raises(RunError, match="outside"):
        list(store_run(None, folder, tmp_path, ["item 0"]))


def test_shipped_items_of_the_examples_recordings_have_their_sound_and_heatmaps() -> None:
    table = load_runs([RUNS / "held-out-recordings"])
    items = items_value(table, table.labels)
    assert len(items["sound"]) == 5
    for id, _, _, _, cells in items["items"]:
        if id in items["sound"]:
            document = compared(table, cells[0][0], [cell[0] for cell in cells[1:]])
            assert document["clip"]["audio"].startswith("data:audio/") and not document["clip"]["warnings"]
            assert "GPL" in document["credits"] and len(document["arms"]) == 4
            for arm in document["arms"]:
                assert arm["attention"]["views"]
                # read again from the example's clip, the trace attends to it as it did in the run
                assert arm["attention"]["ratio"] == pytest.approx(arm["attention_ratio"], abs=1e-3)


def test_only_clips_of_examples_are_linked(tmp_path: Path) -> None:
    assert linked_clips(tmp_path) == {}
    (tmp_path / "clips.json").write_text('{"a": "recording-siren", "b": "../tests", "c": 1, "d": "none"}', "utf-8")
    assert linked_clips(tmp_path) == {"a": EXAMPLES / "recording-siren" / "clip.flac"}
    (tmp_path / "clips.json").write_text("[]", "utf-8")
    assert linked_clips(tmp_path) == {}
