"""Judging, captions and trainings, killed with signal 9 at random moments, end in the files of an undisturbed run.

``MPAR2_KILLS=50`` kills each so often, and the evaluation of ``test_evaluate`` too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import EarlyStoppingCallback

from mpar2.cli import main
from mpar2.question import Event, Item, Question
from testing.hostile.sounds import good_wav
from testing.wire import Call, HttpReply, judge_plan, openai_reply, serve
from tests.test_cafe_score import record, write_run
from training.run import _complete_checkpoint, _last_checkpoint

CLIPS = 12
KILLS = int(os.environ.get("MPAR2_KILLS", "4"))


def _plan(call: Call) -> HttpReply:
    """A server that listens (more audio, more tokens), captions, and judges."""
    if "DATA" in call.text:
        return judge_plan(openai_reply, delay_s=0.01)(call)
    usage = {"prompt_tokens": len(call.body), "completion_tokens": 5, "total_tokens": 5}
    return openai_reply("A dog barks, then a siren.", model="captioner-7", usage=usage, delay_s=0.03)


def _run(folder: Path, *, events: bool) -> Path:
    """A run of one trace a clip, beside its clips."""
    folder.mkdir()
    known = (Event("dog bark", 0.1, 0.3), Event("siren", 0.3, 0.4)) if events else None
    lines = []
    for number in range(CLIPS):
        (folder / f"{number}.wav").write_bytes(good_wav(0.5 + number / 100))
        item = Item(f"q{number}", f"{number}.wav", Question("What is heard?"), known, None, "scene" if events else None)
        lines.append(record(item, "true", f"A dog barks {number} times, then a piano."))
    return write_run(folder / "run", 0, tuple(lines))


@pytest.mark.parametrize("command", ["score", "caption"])
def test_kill_9_changes_nothing(command: str, tmp_path: Path) -> None:
    with serve(_plan) as server:

        def options(run: Path) -> list[str]:
            service = ["--base-url", server.url + "/v1", "--model", "m", "--yes"]
            if command == "score":
                return ["cafe", "score", str(run), "--judge", "server", *service]
            audio = ["--audio-root", str(run.parent), "--cache", str(run.parent / "cache")]
            return ["cafe", "caption", str(run), "--by", "server", *audio, *service]

        calm = _run(tmp_path / "calm", events=command == "score")
        disturbed = _run(tmp_path / "disturbed", events=command == "score")
        begun = time.monotonic()
        assert main(options(calm)) == 0
        seconds, asked = time.monotonic() - begun, len(server.calls)
        program = [sys.executable, "-m", "testing.kill", str(KILLS), "1", f"{seconds * 0.7:.3f}", *options(disturbed)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        kills = int(done.stdout.rsplit("killed ", 1)[1].split()[0])
        assert kills >= 1 and len(server.calls) <= 2 * asked + 4 * kills, "what was paid is not paid again"

    # Lines stand in the order of the replies, and say how long each took; the two runs were made one after the other.
    def files(run: Path) -> dict[str, list[bytes]]:
        kept = [path for path in sorted(run.rglob("*")) if path.is_file() and path.suffix != ".lock"]
        lines = {path.relative_to(run).as_posix(): path.read_bytes().splitlines() for path in kept}
        return {
            name: sorted(re.sub(rb'"seconds":[^,}]*|"created":[^,}]*', b"", line) for line in own)
            for name, own in lines.items()
        }

    assert len(files(calm)) >= 3 and files(calm) == files(disturbed)


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_kill_9_changes_no_training(method: str, tmp_path: Path) -> None:
    def train(name: str, kills: int, seconds: float) -> tuple[int, float]:
        options = ["training", method, "--recipe", "tiny", "--resume", f"out={tmp_path / name}", "smoke=true"]
        program = [sys.executable, "-m", "testing.kill", str(kills), "1", f"{seconds:.3f}", *options]
        done = subprocess.run(program, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, done.stderr[-2000:]
        killed, _, took = done.stdout.rsplit("killed ", 1)[1].split()[:3]
        return int(killed), float(took)

    def result(name: str) -> dict[str, bytes]:
        (folder,) = (path for path in (tmp_path / name).iterdir() if path.name in ("adapter", "model"))
        here = name.encode()  # the base model's place is written down
        files = [path for path in folder.iterdir() if path.suffix != ".md"]
        return {path.name: path.read_bytes().replace(here, b"") for path in files}

    def losses(name: str) -> dict[int, float]:
        rows = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        return {row["step"]: row["loss"] for row in rows if "loss" in row}  # of a step that was done again, the last

    seconds = train("calm", 0, 0.0)[1]
    shutil.copytree(tmp_path / "calm", tmp_path / "unsaved")  # killed between the last step and its saving
    shutil.rmtree(next(path for path in (tmp_path / "unsaved").iterdir() if path.name in ("adapter", "model")))
    document = tmp_path / "unsaved" / "training.json"
    document.write_text(document.read_text().replace(str(tmp_path / "calm"), str(tmp_path / "unsaved")))
    train("unsaved", 0, 0.0)
    assert losses("calm") == losses("unsaved") and result("calm") == result("unsaved")
    assert train("disturbed", KILLS, seconds)[0] >= 1
    assert losses("calm") == losses("disturbed") and len(losses("calm")) == 2
    assert result("calm") == result("disturbed")


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(tmp_path: Path) -> None:
    assert _last_checkpoint(tmp_path) is None
    for step, state in ((3, "{}"), (10, "{}"), (20, '{"epoch": 1.'), (30, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert _last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize(
    ("max_steps", "epochs", "complete"), [(2, 1.0, True), (3, 1.0, False), (-1, 1.0, True), (-1, 2.0, False)]
)
def test_only_a_training_without_steps_left_is_saved_as_it_is(
    max_steps: int, epochs: float, complete: bool, tmp_path: Path
) -> None:
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 2, "max_steps": 2, "epoch": 1.0}))
    args = SimpleNamespace(max_steps=max_steps, num_train_epochs=epochs, load_best_model_at_end=False)
    trainer = SimpleNamespace(args=args, is_fsdp_enabled=False, is_deepspeed_enabled=False)
    assert _complete_checkpoint(str(tmp_path), trainer) == (str(tmp_path) if complete else None)
    trainer.is_fsdp_enabled = True
    assert _complete_checkpoint(str(tmp_path), trainer) is None


def test_a_training_that_its_clock_or_an_early_stop_had_ended_is_saved_as_it_is(tmp_path: Path) -> None:
    args = SimpleNamespace(max_steps=9, num_train_epochs=1.0, load_best_model_at_end=True)
    trainer = SimpleNamespace(args=args, is_fsdp_enabled=False, is_deepspeed_enabled=False)
    state: dict[str, Any] = {"global_step": 4, "epoch": 0.4, "best_model_checkpoint": "the best"}

    def complete(failures: int | None, *, time_over: bool = False) -> str | None:
        if failures is not None:
            stop = EarlyStoppingCallback(2)
            stop.early_stopping_patience_counter = failures
            state["stateful_callbacks"] = {"EarlyStoppingCallback": stop.state()}
        (tmp_path / "trainer_state.json").write_text(json.dumps(state))
        return _complete_checkpoint(str(tmp_path), trainer, time_over)

    assert complete(None) is None and complete(1) is None, "it goes on"
    assert complete(2) == "the best", "an evaluation more would have stopped it"
    assert complete(0, time_over=True) == "the best"
