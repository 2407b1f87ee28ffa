"""Scenes: exact truth, repeatable from a seed, splits that share no recording."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mpar2.arms import EvaluationArm
from mpar2.cafe.sound_classes import CLASSES
from mpar2.engines.base import Arm
from mpar2.items import read_items
from mpar2.tasks import Task, record_of_failure
from training.scenes import synth
from training.scenes.benchmark import SceneError, main, recording_items, scene_items, write_benchmark
from training.scenes.render import MIN_GAP_S, Bank, compose

SOURCES = Path(__file__).parent.parent / "training" / "scenes" / "sources.json"


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Bank:
    """Synthetic sounds under six class names, two splits, apart in pitch so that they can be told from the audio."""
    folder = tmp_path_factory.mktemp("bank")
    rows = []
    for split in ("train", "test"):
        for i, label in enumerate(("dog bark", "bell", "beep", "siren", "static", "piano")):
            for k in range(2):
                rng = np.random.default_rng([i, k, split == "test"])
                samples = synth.SYNTHS[("beep", "siren", "static")[i % 3]](rng)
                path = folder / f"{split}-{i}-{k}.flac"
                soundfile.write(path, samples, 16000)
                row = {"label": label, "split": split, "source": f"made/{path.stem}", "file": path.name}
                rows.append(row | {"seconds": len(samples) / 16000})
    (folder / "bank.json").write_text(json.dumps(rows))
    return Bank(folder)


def test_a_seed_gives_the_same_scene_and_another_seed_another(bank):
    first, again, other = compose(bank, "train", 3), compose(bank, "train", 3), compose(bank, "train", 4)
    assert first.scene == again.scene and np.array_equal(first.samples, again.samples)
    assert first.scene != other.scene


def test_the_truth_is_consistent(bank):
    for seed in range(60):
        scene, samples = compose(bank, "train", seed)
        assert 6.0 <= scene.seconds <= 10.0 and len(samples) == int(scene.seconds * 16000)
        assert samples.dtype == np.float32 and np.abs(samples).max() <= 0.951
        assert 1 <= len(scene.events) <= 5
        assert [e.onset_s for e in scene.events] == sorted(e.onset_s for e in scene.events)
        for event in scene.events:
            assert event.label in CLASSES and 0 <= event.onset_s < event.offset_s <= scene.seconds + 1e-6
        for label in {e.label for e in scene.events}:
            same = [e for e in scene.events if e.label == label]
            for a, b in zip(same, same[1:], strict=False):
                assert b.onset_s - a.offset_s >= MIN_GAP_S - 1e-6


def test_the_audio_is_where_the_truth_says(bank):
    for seed in range(20):
        scene, samples = compose(bank, "test", seed, count=(1, 1))
        (event,) = scene.events
        inside = samples[int(event.onset_s * 16000) : int(event.offset_s * 16000)]
        before = samples[: int(event.onset_s * 16000)]
        level_db = 20 * np.log10(np.sqrt(np.mean(inside**2)))
        assert level_db == pytest.approx(event.level_db, abs=1.5)
        if len(before) > 1600:
            assert 20 * np.log10(np.sqrt(np.mean(before**2))) < level_db - 8


def test_splits_draw_from_their_own_recordings(bank):
    for split in ("train", "test"):
        for seed in range(20):
            names = {event.source for event in compose(bank, split, seed).scene.events}
            allowed = {row["source"] for row in bank.rows if row["split"] == split}
            assert names <= allowed


def test_a_missing_bank_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="training.scenes.bank"):
        compose(Bank(tmp_path), "train", 0)


def test_every_class_has_sources_in_every_split_and_none_is_used_twice():
    sources = json.loads(SOURCES.read_text())
    sources.pop("comment")
    assert set(sources) == set(CLASSES) and len(CLASSES) >= 24
    for label, splits in sources.items():
        assert set(splits) == {"train", "validation", "test"}, label
        specs = [spec for specs in splits.values() for spec in specs if not spec.startswith("synth:")]
        assert len(specs) == len(set(specs)), f"{label}: a source stands in two splits"


def test_benchmarks_are_read_back_with_their_truth(bank, tmp_path):
    count = write_benchmark(tmp_path / "scenes", scene_items(bank, "test", 6, questions=2))
    found = read_items("scenes", tmp_path / "scenes")
    assert count == len(found.items) and not found.problems
    for item in found.items:
        assert item.truth_origin == "scene" and item.events
        assert len(item.extra["levels_db"]) == len(item.events)
        assert found.audio_path(item).is_file()
        if item.question.choices:
            assert item.question.answer in item.question.choices
    count = write_benchmark(tmp_path / "single", recording_items(bank, "test"))
    singles = read_items("scenes", tmp_path / "single").items
    assert count == len(singles) == 12 and all(len(item.events) == 1 for item in singles)


@pytest.mark.parametrize("name", sorted(synth.SYNTHS))
def test_synthetic_sounds_are_finite_and_audible(name):
    samples = synth.SYNTHS[name](np.random.default_rng(0))
    assert samples.dtype == np.float32 and np.isfinite(samples).all()
    assert 0.1 < np.abs(samples).max() <= 1.5 and len(samples) > 1600


@pytest.mark.parametrize(
    "make", [lambda bank: scene_items(bank, "test", 12), lambda bank: recording_items(bank, "test")]
)
def test_the_audio_of_a_run_is_composed_again_from_its_seeds(make, bank, tmp_path):
    """Runs are shipped without audio; a bank that has more classes does not matter, one of other sounds is refused."""
    write_benchmark(tmp_path / "first", make(bank))
    items = read_items("scenes", tmp_path / "first").items
    arm = EvaluationArm(Arm("base", "tiny-base"))
    lines = [record_of_failure(Task(item, arm, 0), "not evaluated") for item in reversed(items)]
    run = tmp_path / "run.jsonl"
    run.write_text("\n".join(map(json.dumps, lines)))
    wide = tmp_path / "wide"
    shutil.copytree(bank.folder, wide)
    rows = json.loads((wide / "bank.json").read_text())
    more = [row | {"label": "violin"} for row in rows if row["label"] == "piano"]
    (wide / "bank.json").write_text(json.dumps(rows + more))
    main([str(wide), str(tmp_path / "again"), "--run", str(run)])
    for name in ("items.jsonl", *{item.audio for item in items}):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    shorter = [row for row in rows if "-0-0" not in row["file"]]
    (wide / "bank.json").write_text(json.dumps(shorter))
    with pytest.raises(SceneError, match="Name an empty folder|has no sound of"):
        main([str(wide), str(tmp_path / "other"), "--run", str(run)])
