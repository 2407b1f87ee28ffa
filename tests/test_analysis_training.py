"""Training logs: what is read of them, what is refused, and the figures that they give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import AnalysisError
from analysis.about_training import build_training_exhibits
from analysis.training_log import curve, families, load_log, load_logs
from analysis.words import number

HOSTILE = "<img src=x onerror=alert(1)>"


def write_log(folder: Path, *, seed: Any = 1, steps: int = 40, lines: list[Any] | None = None, **manifest: Any) -> Path:
    """A training log as an exporter writes it: rewards that rise, groups that die, a KL that grows."""
    folder.mkdir(parents=True)
    about = {"recipe": "tiny", "kind": "grpo", "seed": seed, "started": "2026-01-01T00:00:00+00:00", "steps": steps}
    about |= {"package": "0.1.0", "base": "tiny-base", "note": None} | manifest
    (folder / "manifest.json").write_text(json.dumps(about), "utf-8")
    rng = np.random.default_rng(seed if isinstance(seed, int) else 0)
    rows = lines
    if rows is None:
        rows = []
        for step in range(1, steps + 1):
            level = step / steps
            row = {"step": step, "loss": 0.01, "reward": 1 + level + 0.1 * rng.normal(), "reward_std": 0.3}
            row |= {"rewards/format/mean": level, "rewards/format/std": 0.2, "rewards/perception/mean": level / 2}
            row |= {"rewards/format/zero_variance_groups": 1 - level, "frac_reward_zero_std": level / 4}
            row |= {"completions/mean_length": 50 + 10 * level, "completions/min_length": 9.0}
            row |= {"completions/max_length": 90.0, "kl": level / 10, "entropy": 1.0}
            rows.append(row)
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def test_seeds_of_one_recipe_are_one_line_with_a_band_from_lowest_to_highest(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_log(tmp_path / f"tiny-{seed}", seed=seed)
    logs, problems = load_logs(tmp_path)
    assert problems == [] and list(families(logs)) == ["tiny, grpo (3 seeds)"]
    drawn = curve(logs, "reward")
    values = np.stack([log.rows["reward"].to_numpy() for log in logs])
    assert np.allclose(drawn["value"], values.mean(0))
    assert np.allclose(drawn["low"], values.min(0)) and np.allclose(drawn["high"], values.max(0))
    exhibits = {exhibit.name: exhibit for exhibit in build_training_exhibits(logs)}
    figure = exhibits["training-reward"].figure
    assert [trace.name for trace in figure.data if trace.showlegend] == ["tiny, grpo (3 seeds)"]
    first, last = figure.data[-1].y[0], figure.data[-1].y[-1]
    assert f"{number(first)} at step 1, {number(last)} at step 40" in exhibits["training-reward"].reading
    (smooth,) = [one for one in build_training_exhibits(logs, window=9) if one.name == "training-reward"]
    drawn_last = smooth.figure.data[-1].y[-1]
    assert f"{number(drawn_last)} at step 40" in smooth.reading and drawn_last != last  # words say what is drawn
    assert len(exhibits["training-reward"].table) == 40


def test_a_single_seed_has_the_spread_that_its_trainer_logged(tmp_path: Path) -> None:
    log = load_log(write_log(tmp_path / "one"))
    reward, length = (
        curve([log], "reward", "reward_std"),
        curve([log], "completions/mean_length", ("completions/min_length", "completions/max_length")),
    )
    assert np.allclose(reward["high"] - reward["value"], 0.3)
    assert set(length["low"]) == {9.0} and set(length["high"]) == {90.0}
    assert curve([log], "entropy")["low"].isna().all()


def test_every_reward_has_a_panel_and_every_recipe_a_place_in_the_legend(tmp_path: Path) -> None:
    write_log(tmp_path / "a")
    write_log(tmp_path / "b", recipe="ablation", lines=[{"step": 1, "rewards/perception/mean": 0.5, "reward": 1.0}])
    logs, _ = load_logs(tmp_path)
    exhibits = {exhibit.name: exhibit for exhibit in build_training_exhibits(logs)}
    drawing = exhibits["training-rewards"].drawing
    assert [note["text"] for note in drawing["layout"]["annotations"]] == ["format", "perception"]
    legend = [trace["name"] for trace in drawing["data"] if trace["showlegend"]]
    assert sorted(legend) == ["ablation, grpo (1 seed)", "tiny, grpo (1 seed)"]
    assert "logged once" in exhibits["training-reward"].reading
    (only,) = [e for e in build_training_exhibits(logs, ["ablation, grpo (1 seed)"]) if e.name == "training-kl"]
    assert only.drawing is None and "beta" in only.reading


def test_a_moving_mean_changes_the_line_and_not_the_table(tmp_path: Path) -> None:
    log = load_log(write_log(tmp_path / "one"))
    raw, smooth = (build_training_exhibits([log], window=window)[0] for window in (1, 9))
    rough = [np.diff(e.drawing["data"][-1]["y"]).std() for e in (raw, smooth)]
    assert rough[1] < rough[0] / 2
    assert raw.table.equals(smooth.table) and raw.reading != smooth.reading  # the words say what is drawn


def test_lines_of_one_step_are_joined_and_the_later_value_counts(tmp_path: Path) -> None:
    lines = [
        {"step": 2, "loss": 1.0},
        {"step": 2, "eval_loss": 3.0},
        {"step": 1, "loss": 4.0},
        {"step": 2, "loss": 2.0},
    ]
    log = load_log(write_log(tmp_path / "one", kind="sft", lines=lines))
    assert log.rows.index.tolist() == [1, 2] and log.rows.loc[2].to_dict() == {"loss": 2.0, "eval_loss": 3.0}


@pytest.mark.parametrize(
    ("manifest", "lines", "says"),
    [
        ({"kind": "ppo"}, None, "'kind' is 'ppo'"),
        ({"recipe": None}, None, "'recipe' must name the recipe"),
        ({"seed": "one"}, None, "'seed' is 'one'"),
        ({"note": 5}, None, "'note' is '5'"),
        ({}, [], "nothing was logged"),
        ({}, [{"loss": 1.0}], "line 1: 'step' is 'None'"),
        ({}, [{"step": 1, "loss": "low"}], "line 1: 'loss' is 'low'"),
        ({}, [{"step": 1, "loss": True}], "a finite number is needed"),
        ({}, [{"step": 1}, {"step": 2, HOSTILE: 1.0}], "line 2"),
        ({}, [[1]], "line 1: list where an object is needed"),
        ({}, [{"step": 1, **{f"m{i}": 1 for i in range(300)}}], "more than 200 metrics"),
    ],
)
def test_a_damaged_log_is_refused_with_its_place(tmp_path: Path, manifest: Any, lines: Any, says: str) -> None:
    folder = write_log(tmp_path / "bad", lines=lines, **manifest)
    with pytest.raises(AnalysisError) as error:
        load_log(folder)
    assert says in str(error.value) and str(tmp_path) not in str(error.value)


def test_numbers_that_are_no_json_and_missing_files_are_refused(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "nan")
    (folder / "log.jsonl").write_text('{"step": 1, "loss": NaN}\n', "utf-8")
    with pytest.raises(AnalysisError, match="NaN"):
        load_log(folder)
    (folder / "log.jsonl").unlink()
    logs, problems = load_logs(tmp_path)
    assert logs == [] and len(problems) == 1 and "log.jsonl cannot be read" in problems[0]
    assert load_logs(tmp_path / "none") == ([], [])


def test_a_hostile_recipe_stays_text_in_the_figures(tmp_path: Path) -> None:
    log = load_log(write_log(tmp_path / "one", recipe=HOSTILE))
    for exhibit in build_training_exhibits([log]):
        assert HOSTILE not in json.dumps(exhibit.drawing)
