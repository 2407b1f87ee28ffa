"""The tasks of ``mpar2 cafe`` that run the models of a run once more: probes and grounding, on a small real model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mpar2.audio import wav_bytes
from mpar2.cli import main
from mpar2.question import Event, Item, Question
from mpar2.runs import RunWriter, build_manifest, weights_hash
from tests.conftest import make_clip
from tests.test_cafe_score import record


def listened(tmp_path: Path, checkpoint: Path, event: Event, *more: dict[str, Any]) -> list[str]:
    """A run of one item and one trace, and the arguments that name it. ``more``: what is other in further arms."""
    arm = {"name": "small", "model": str(checkpoint), "adapter": None, "mode": "mpar2"}
    arm |= {"model_hash": weights_hash(checkpoint), "adapter_hash": None}
    arms = [arm, *(arm | own for own in more)]
    manifest = build_manifest(benchmark={"name": "scenes"}, arms=arms, seed=0, engine={"name": "none"})
    item = Item("i", "i.wav", Question("What?"), (event,), None, "scene")
    with RunWriter(tmp_path / "run", manifest) as run:
        run.append(record(item, "small", "A dog barks."))
    (tmp_path / "i.wav").write_bytes(wav_bytes(make_clip(2.0)))
    return [str(tmp_path / "run"), "--audio-root", str(tmp_path), "--device", "cpu"]


def test_the_attention_of_a_run_is_grounded(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Untrained attention is spread evenly: the event's half of the clip draws about half of it."""
    arguments = ["cafe", "ground", *listened(tmp_path, tiny_checkpoint, Event("dog bark", 0.0, 1.0)), "--keep-sinks"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "small: 1 matched mentions in 1 traces" in out and "by chance 0.500" in out
    assert 0.7 < float(out.split("ratio ")[1].split()[0]) < 1.3


def probe_lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "run/cafe/probes.jsonl").read_text().splitlines()]


def test_the_models_of_a_run_are_probed_once(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    arguments = ["cafe", "probe", *listened(tmp_path, checkpoint, Event("dog bark", 0.0, 1.0), {"name": "twin"})]
    assert main(arguments) == 0
    first = capsys.readouterr()
    assert "small, twin: probe accuracy" in first.out, "one line for the arms of the same weights"
    assert "2 probes on 1 items of 1 clips" in first.out
    assert "Err_omit of the traces of small by rules 0.000" in first.out
    assert "Err_omit of the traces of twin by rules -" in first.out
    assert "weights have changed" not in first.err
    assert "small: 1 of 1 items" in first.err and "twin: 1 of" not in first.err, "weights that are known already"
    assert [(line["arm"], len(line["answers"])) for line in probe_lines(tmp_path)] == [("small", 2), ("twin", 2)]
    (tmp_path / "i.wav").rename(tmp_path / "away.wav")  # nothing is asked a second time
    assert main(arguments) == 0
    assert capsys.readouterr().out == first.out
    (tmp_path / "away.wav").rename(tmp_path / "i.wav")
    (checkpoint / "trained.txt").write_text("again")  # other weights under the same name
    assert main([*arguments, "--arm", "small"]) == 0
    said = capsys.readouterr().err
    assert (
        "small: 1 of 1 items" in said
        and "weights have changed since the run; they are probed as they are now: small" in said
    )
    assert sorted(line["arm"] for line in probe_lines(tmp_path)) == ["small", "twin"], "no arm counts twice"


@pytest.mark.parametrize("task", ["probe", "ground"])
def test_arms_with_another_input_are_left_out(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    controls = [{"audio": "silent"}, {"audio": "shuffled"}, {"perception": "oracle"}, {"hide_audio_after": "50%"}]
    own = [{"name": f"control {number}"} | control for number, control in enumerate(controls)]
    run = listened(tmp_path, tiny_checkpoint, Event("dog bark", 0.0, 1.0), *own)
    assert main(["cafe", task, *run]) == 0
    said = capsys.readouterr()
    assert "control" not in said.out and said.out.startswith("small: ")
    assert "left out, as their input is not the recording alone: control 0, control 1, control 2, control 3" in said.err
    assert main(["cafe", task, *run, "--arm", "control 0"]) == 2
    assert "nothing to ask" in capsys.readouterr().err
