"""A study: many trainings of one file, resumable, with small logs and an arm for each."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from mpar2.arms import load_arms
from mpar2.locks import try_lock
from training.__main__ import main
from training.export import export_run, write_log
from training.recipe import RecipeError, recipe_names
from training.study import load_study, run_study

STUDIES = sorted((Path(__file__).parent.parent / "training" / "studies").glob("*.yaml"))


def write(path: Path, *runs: dict, **more) -> Path:
    path.write_text(yaml.safe_dump({"about": "a test", "overrides": ["smoke=true"], "runs": list(runs)} | more))
    return path


THREE = (
    {"name": "prompt only", "recipe": "tiny", "method": "none"},
    {"name": "cold start", "recipe": "tiny-sari", "method": "sft", "evaluate": False},
    {"name": "SARI thinks", "recipe": "tiny-sari", "after": "cold start", "seed": 3},
)


def test_a_study_trains_in_order_and_leaves_logs_and_arms(tmp_path, capsys):
    file, out = write(tmp_path / "study.yaml", *THREE), tmp_path / "out"
    assert main(["study", str(file), f"out={out}"]) == 0
    arms = load_arms(out / "arms.yaml")
    assert [(arm.name, arm.arm.mode) for arm in arms] == [("prompt only", "mpar2"), ("SARI thinks", "cot")]
    assert arms[0].arm.adapter is None and Path(arms[1].arm.adapter, "adapter_config.json").exists()
    for name, kind, seed in (("cold-start", "sft", 0), ("SARI-thinks", "grpo", 3)):
        manifest = json.loads((out / "logs" / name / "manifest.json").read_text())
        rows = [json.loads(line) for line in (out / "logs" / name / "log.jsonl").read_text().splitlines()]
        assert (manifest["kind"], manifest["seed"], manifest["steps"]) == (kind, seed, 2)
        assert [row["step"] for row in rows] == [1, 2] and all("loss" in row for row in rows)
        assert str(tmp_path) not in json.dumps(manifest)
        assert manifest["base"] == "smoke" and "SARI at tiny scale" in manifest["note"]
    # The same command finds everything done, and trains nothing again.
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/adapter/adapter_model.safetensors")}
    assert len(before) == 2
    assert main(["study", str(file), f"out={out}"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_that_fails_is_told_and_does_not_stop_the_others(tmp_path, capsys):
    bad = {"name": "bad", "recipe": "tiny", "method": "sft", "overrides": ["smoke=false", "data.sources.0.data=gone"]}
    follows = {"name": "follows", "recipe": "tiny", "after": "bad"}
    file = write(tmp_path / "study.yaml", bad, follows, {"name": "good", "recipe": "tiny", "method": "sft"})
    assert main(["study", str(file), f"out={tmp_path / 'out'}"]) == 1
    said = capsys.readouterr().err
    assert "failed: bad: " in said and "gone" in said and "failed: follows: 'bad'" in said
    assert [arm.name for arm in load_arms(tmp_path / "out" / "arms.yaml")] == ["good"]


def test_a_run_that_another_process_is_at_comes_later(tmp_path, capsys):
    """Two processes of one study share its runs: neither waits while something else can be done."""
    runs = [{"name": name, "recipe": "tiny", "method": "sft"} for name in ("first", "second")]
    study = load_study(write(tmp_path / "study.yaml", *runs))
    (tmp_path / "first").mkdir()
    other = try_lock(tmp_path / "first" / "run")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_study, study, tmp_path)
        while not (tmp_path / "logs" / "second" / "manifest.json").exists():
            assert not done.done()
            time.sleep(0.1)
        assert not (tmp_path / "first" / "training.json").exists()
        other.release()
        assert done.result() == []
    assert {arm.name for arm in load_arms(tmp_path / "arms.yaml")} == {"first", "second"}
    said = capsys.readouterr().out
    assert said.index("[2/2] second") < said.index("[1/2] first")


def test_minutes_stop_a_training_and_it_is_saved(tmp_path):
    runs = {"name": "short", "recipe": "tiny", "method": "sft", "minutes": 1e-6}
    assert run_study(load_study(write(tmp_path / "study.yaml", runs)), tmp_path) == []
    assert (tmp_path / "short" / "adapter").is_dir()
    assert json.loads((tmp_path / "logs" / "short" / "manifest.json").read_text())["steps"] == 1


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"name": "a", "recipe": "huge"}, "run 'a': no recipe 'huge'"),
        ({"name": "a", "recipe": "tiny", "colour": 1}, "unknown key 'colour'"),
        ({"name": "a", "recipe": "tiny", "method": "ppo"}, "method is 'ppo'"),
        ({"name": "a", "recipe": "tiny", "after": "later"}, "'after' names 'later'"),
        ({"name": "a", "recipe": "tiny", "minutes": -1}, "minutes is -1"),
        ({"name": "../a", "recipe": "tiny"}, "a name is a folder's"),
        ({"name": "prompt-only", "recipe": "tiny"}, "the folder 'prompt-only'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(tmp_path, run, message):
    with pytest.raises(RecipeError, match=message):
        load_study(write(tmp_path / "study.yaml", THREE[0], run))


def test_the_studies_of_the_package_resolve():
    for path in STUDIES:
        study = load_study(path, ["model=BASE", "adapter=SFT", "data.sources.0.data=scenes"])
        runs = {run.name: run for run in study.runs}
        assert {run.recipe.model for run in study.runs} == {"BASE"}
        assert runs["SFT only"].recipe.adapter == "SFT" and runs["prompt only"].recipe.adapter is None
        assert runs["GRPO without SFT"].recipe.adapter is None and runs["MPAR2 seed 2"].recipe.seed == 2
        assert runs["arithmetic mean"].recipe.rewards["step"]["aggregate"] == "arithmetic"
        used = {run.recipe.name for run in study.runs}
        figure_1 = {name for name in recipe_names() if name.startswith("tiny-")}
        assert len(figure_1) == 6 and figure_1 <= used


def test_a_log_says_each_step_once_and_holds_no_path(tmp_path):
    rows = [
        {"step": 1, "reward": 0.1, "note": "/home/me", "inf": float("inf")},
        {"step": 2, "reward": 0.2},
        {"step": 2, "reward": 0.3, "train_runtime": 9.0},
        {"step": 2, "eval_loss": 1},
    ]
    write_log(tmp_path / "log", {"recipe": "tiny", "kind": "grpo", "seed": 0}, rows)
    made = [json.loads(line) for line in (tmp_path / "log" / "log.jsonl").read_text().splitlines()]
    assert made == [{"step": 1, "reward": 0.1}, {"step": 2, "reward": 0.3, "eval_loss": 1.0}]
    with pytest.raises(ValueError, match="no step yet"):
        write_log(tmp_path / "none", {}, [])


def test_a_plain_log_is_exported_by_the_command_and_read_by_the_analysis(tmp_path, capsys):
    from analysis.training_log import load_log

    lines = [{"step": 100, "loss": 2.0, "token_accuracy": 0.4}, {"step": 200, "loss": 1.0, "token_accuracy": 0.7}]
    (tmp_path / "sft.log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["export", str(tmp_path / "sft.log.jsonl"), str(tmp_path / "log")]
    assert main(command) == 2 and "--recipe and --kind" in capsys.readouterr().err
    assert main([*command, "--recipe", "tiny", "--kind", "sft", "--base", "tiny-base"]) == 0
    log = load_log(tmp_path / "log")
    assert (log.recipe, log.kind, log.seed, list(log.rows["loss"])) == ("tiny", "sft", 0, [2.0, 1.0])


def test_export_needs_a_training(tmp_path):
    with pytest.raises(FileNotFoundError):
        export_run(tmp_path, tmp_path / "out")
