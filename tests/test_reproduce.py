"""The paper by one plan: what runs, what is done already, what goes on, and what it would take."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import pytest
import soundfile
import yaml

import training.reproduce
from mpar2.audio import SAMPLE_RATE
from mpar2.cli import command_modules
from mpar2.cli import main as mpar2
from mpar2.locks import try_lock
from tests.conftest import make_clip
from training.__main__ import main, parser_of_commands
from training.recipe import packaged_names
from training.reproduce import ReproduceError, Stage, load_plan, run_plan


def write(path: Path, *stages: dict, **more) -> str:
    path.write_text(yaml.safe_dump({"about": "a test", "stages": list(stages)} | more))
    return str(path)


class Hand:
    """Runs stages by writing what they make, and remembers which; ``broken`` ones fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, stage: Stage) -> int:
        self.ran.append(stage.name)
        if stage.name in self.broken:
            return 3
        for path in stage.makes:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(" ".join(stage.run))
        return 0

    def take(self) -> list[str]:
        ran, self.ran = self.ran, []
        return ran


@pytest.fixture
def three(tmp_path) -> str:
    (tmp_path / "questions.json").write_text("[]")
    return write(
        tmp_path / "plan.yaml",
        {"name": "data", "run": "python -c ${size}", "makes": ["${out}/data"]},
        {"name": "train", "run": "training sft ${rate}", "makes": ["${out}/model"]},
        {"name": "ask", "run": "mpar2 evaluate", "reads": [str(tmp_path / "questions.json")], "makes": ["${out}/run"]},
        values={"size": 3, "rate": 0.1},
    )


def test_only_what_changed_and_what_rests_on_it_runs_again(three, tmp_path, capsys):
    hand, out = Hand(), tmp_path / "out"

    def run(*overrides: str, **options) -> list[str]:
        run_plan(load_plan(three, out, overrides), execute=hand, **options)
        return hand.take()

    assert run() == ["data", "train", "ask"] and run() == []
    assert run("rate=0.2") == ["train", "ask"]
    assert run() == ["train", "ask"]  # another plan: what stands there was made at another rate
    (tmp_path / "questions.json").write_text("[1]")
    assert run() == ["ask"]
    (out / "model").unlink()
    assert run() == ["train"]  # the same model again: what was asked of it stays
    assert run(start="train") == ["train", "ask"] and run(start="data", until="data") == ["data"]
    state = json.loads((out / "state.json").read_text())
    assert state["train"]["command"] == "training sft 0.1" and state["train"]["seconds"] >= 0
    moved = tmp_path / "moved"
    out.rename(moved)
    run_plan(load_plan(three, moved), execute=hand)
    assert hand.take() == []  # a moved folder is the same
    assert "done before" in capsys.readouterr().out


def test_a_stage_that_failed_or_was_stopped_goes_on(three, tmp_path):
    hand, plan = Hand(), load_plan(three, tmp_path / "out")
    hand.broken = {"train"}
    with pytest.raises(ReproduceError, match=r"stage 'train' failed with status 3; the same command goes on"):
        run_plan(plan, execute=hand)
    assert hand.take() == ["data", "train"]
    hand.broken = set()
    run_plan(plan, execute=hand)
    assert hand.take() == ["train", "ask"]
    with pytest.raises(ReproduceError, match="ended without"):
        run_plan(plan, start="data", execute=lambda stage: 0 if (plan.out / "data").unlink(True) is None else 0)
    other = try_lock(plan.out / "state")
    with pytest.raises(ReproduceError, match="another process works in"):
        run_plan(plan, execute=hand)
    other.release()


def test_what_is_skipped_is_taken_as_it_is(three, tmp_path):
    hand, plan = Hand(), load_plan(three, tmp_path / "out")
    with pytest.raises(ReproduceError, match="cannot be skipped: .*model is not there"):
        run_plan(plan, skip=["train"], execute=hand)
    (tmp_path / "out" / "model").write_text("made elsewhere")
    run_plan(plan, skip=["train"], execute=hand)
    assert hand.take() == ["data", "ask"] and (tmp_path / "out" / "model").read_text() == "made elsewhere"
    (tmp_path / "out" / "model").write_text("another one")
    run_plan(plan, skip=["train"], execute=hand)
    assert hand.take() == ["ask"]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"name": "a"}, "needs a name and a command"),
        ({"name": "a", "run": "rm -rf /"}, "a stage runs training, mpar2, accelerate, python, not 'rm'"),
        ({"name": "a", "run": "mpar2 ${gone}"}, "needs a value 'gone'"),
        ({"name": "a", "run": "mpar2", "need": []}, "unknown key 'need'"),
        ({"name": "a", "run": "mpar2", "estimate": {"days": 1}}, "unknown key 'days'"),
    ],
)
def test_a_plan_that_cannot_run_says_why(stage, message, tmp_path):
    with pytest.raises(ReproduceError, match=message):
        load_plan(write(tmp_path / "p.yaml", stage), tmp_path)


def test_values_that_nobody_gave_are_asked_for(tmp_path, capsys):
    assert main(["reproduce", "paper", f"out={tmp_path}"]) == 2
    assert "give avqa=…, avqa_audio=…" in capsys.readouterr().err
    assert main(["reproduce", "nothing", f"out={tmp_path}"]) == 2
    assert main(["reproduce", "small", "size=3", f"out={tmp_path}"]) == 2
    assert "'size=3' replaces no value; it has model, scenes" in capsys.readouterr().err


@pytest.mark.parametrize("name", packaged_names("plans"))
def test_the_commands_of_a_shipped_plan_are_ones_that_exist(name, tmp_path):
    for stage in load_plan(name, tmp_path, complete=False).stages:
        words = list(stage.run)
        if words[0] == "accelerate":
            words = words[words.index("-m") + 1 :]
        if words[0] == "mpar2":
            parser = argparse.ArgumentParser(exit_on_error=False)
            importlib.import_module(command_modules()[words[1]]).configure(parser)
            parser.parse_args(words[2:])
        elif words[0] == "training":
            parser_of_commands().parse_args(words[1:])
        assert stage.makes


def test_the_plan_of_the_paper_is_priced_before_it_runs(tmp_path, capsys):
    tree = yaml.safe_load((Path(training.reproduce.__file__).parent / "plans" / "paper.yaml").read_text())
    tree["device"]["price"] = 2.0
    tree["prices"]["gemini-2.5-pro"] = {"prompt": 1.0, "completion": 10.0}
    (tmp_path / "priced.yaml").write_text(yaml.safe_dump(tree))
    assert main(["reproduce", str(tmp_path / "priced.yaml"), "--plan", f"out={tmp_path / 'out'}"]) == 0
    rows = {line[:14].strip(): line[14:].split(maxsplit=3) for line in capsys.readouterr().out.splitlines()}
    assert float(rows["grpo"][2]) == pytest.approx(8 * float(rows["grpo"][0]), abs=0.05)
    assert float(rows["captions"][2]) == pytest.approx(46544 * (620 * 1 + 400 * 10) / 1e6, abs=0.01)
    assert float(rows["all"][0]) > float(rows["grpo"][0]) and "without a time" not in rows["grpo"]
    assert not (tmp_path / "out").exists()


def test_a_tiny_plan_goes_from_labels_to_the_report(tmp_path, capsys):
    """Each stage is the real command, run in this process to save the imports."""
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", make_clip(2.0, seed=ord(name)).samples, SAMPLE_RATE)
    rows = ("filename onset offset event_label", "a.wav 0.2 0.9 Dog", "a.wav 1.2 1.8 Siren", "b.wav 0.5 1.5 Dog")
    (tmp_path / "strong.tsv").write_text("\n".join(rows).replace(" ", "\t"))
    train = "training {0} --recipe tiny --resume out=${{out}}/{0} smoke=true"
    file = write(
        tmp_path / "plan.yaml",
        {
            "name": "items",
            "run": f"mpar2 items from-events {tmp_path}/strong.tsv --kind desed --out {tmp_path}/items.jsonl",
            "reads": [f"{tmp_path}/strong.tsv"],
            "makes": [f"{tmp_path}/items.jsonl"],
        },
        {
            "name": "chains",
            "run": f"training chains jsonl {tmp_path}/items.jsonl ${{out}}/chains --service rules",
            "makes": ["${out}/chains/items.jsonl"],
        },
        {"name": "sft", "run": train.format("sft"), "makes": ["${out}/sft/adapter"]},
        {"name": "grpo", "run": train.format("grpo"), "makes": ["${out}/grpo/adapter"]},
        {
            "name": "evaluation",
            "run": f"mpar2 evaluate --benchmark jsonl --data {tmp_path}/items.jsonl --limit 2 --out ${{out}}/run "
            "--arm base=tiny-base --max-new-tokens 24",
            "makes": ["${out}/run/metrics.json"],
        },
        {"name": "cafe", "run": "mpar2 cafe score ${out}/run", "makes": ["${out}/run/cafe"]},
        {"name": "report", "run": "mpar2 report ${out}/run --out ${out}/r.html", "makes": ["${out}/r.html"]},
    )
    programs = {"training": main, "mpar2": mpar2}
    plan = load_plan(file, tmp_path / "out")
    run_plan(plan, execute=lambda stage: programs[stage.run[0]](list(stage.run[1:])))
    assert "<html" in (tmp_path / "out" / "r.html").read_text()
    scores = json.loads((tmp_path / "out" / "run" / "metrics.json").read_text())
    assert list(scores["arms"]) == ["base"]
    capsys.readouterr()
    run_plan(plan, execute=lambda stage: 1)
    assert capsys.readouterr().out.count("done before") == 7
