"""The numbers behind the figures: intervals, tests and slopes against counts by hand, and what counts as a control."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.contrasts import Side, controls, forced_rows, mode_pairs, paired
from analysis.decay import bin_edges
from analysis.effort import votes
from analysis.exhibits import build_exhibits
from analysis.load import load_runs
from analysis.metrics import metric_of, rate_of
from analysis.slopes import held_difficulty, within_item
from mpar2 import statistics
from testing.synthetic import ARMS, FakeArm, write_run


def rows_of(items, clips=None) -> pd.DataFrame:
    return pd.DataFrame({"item": list(items), "clip": list(items if clips is None else clips)})


def test_intervals_are_those_of_the_core() -> None:
    rng = np.random.default_rng(0)
    values, codes = rng.integers(0, 2, 90).astype(float), np.repeat(np.arange(30), 3)
    ours = rate_of(values, None, rows_of(np.arange(90), codes), share=True)
    core = statistics.bootstrap_interval(values, groups=codes)
    assert ours[:3] == core[:3] and (ours.items, ours.clips) == (90, 30)
    once = rate_of(values[:30], None, rows_of(range(30)), share=True)
    assert once[:3] == statistics.wilson(int(values[:30].sum()), 30)[:3]
    all_right = rate_of(np.ones(6), None, rows_of(range(6), "aabbcc"), share=True)
    assert all_right.low == pytest.approx(statistics.wilson(3, 3).low)


def test_paired_tests_match_a_by_hand_count() -> None:
    first, second = np.array([1, 1, 0, 0, 1, 0.0]), np.array([0, 1, 1, 1, 1, 1.0])
    ones = np.ones(6)
    found = paired(Side(first, ones, rows_of("abcdef")), Side(second[::-1], ones, rows_of("fedcba")))
    assert found.estimate == pytest.approx((5 - 3) / 6) and (found.items, found.clips) == (6, 6)
    assert (found.exact.only_first, found.exact.only_second) == (1, 3)
    assert paired(Side(first, ones, rows_of("abcdef")), Side(second, ones, rows_of("uvwxyz"))).items == 0
    shared = rows_of("abcdef", "xxyyzz")
    two_a_clip = paired(Side(first, ones, shared), Side(second, ones, shared))
    assert (two_a_clip.items, two_a_clip.clips, two_a_clip.exact) == (6, 3, None), "items of one clip are dependent"


def test_correlation_is_pearsons_and_its_interval_covers() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    y = -0.6 * x + rng.normal(size=400)
    found = statistics.correlation(x, y)
    assert found.estimate == pytest.approx(np.corrcoef(x, y)[0, 1])
    fisher = [math.tanh(math.atanh(found.estimate) + side * 1.96 / math.sqrt(397)) for side in (-1, 1)]
    assert [found.low, found.high] == pytest.approx(fisher, abs=0.02)
    large = statistics.correlation(np.tile(x, 20), np.tile(y, 20))  # the normal branch
    assert large.estimate == pytest.approx(found.estimate) and large.high - large.low < found.high - found.low
    copied = statistics.correlation(np.tile(x, 20), np.tile(y, 20), groups=np.tile(np.arange(400), 20))
    assert (copied.low, copied.high) == pytest.approx((found.low, found.high), abs=0.02), "copies add nothing"
    assert statistics.correlation(np.ones(5), np.arange(5.0)).estimate is None


@pytest.mark.parametrize("slope", [-0.9, 0.0])
def test_slopes_recover_what_was_put_in_while_difficulty_poses_as_length(slope: float) -> None:
    rng = np.random.default_rng(2)
    items, each = 400, 5
    difficulty = np.repeat(rng.integers(0, 3, items), each)
    codes = np.repeat(np.arange(items), each)
    tokens = np.maximum(2.0 ** (6 + difficulty + rng.normal(0, 0.8, items * each)), 2)  # hard ones are long
    odds = 1.0 - 1.2 * difficulty + slope * (np.log2(tokens) - 7)
    right = (rng.random(items * each) < 1 / (1 + np.exp(-odds))).astype(float)
    naive = held_difficulty(right, tokens, codes)
    held, within = held_difficulty(right, tokens, codes, difficulty), within_item(right, tokens, codes)
    for found in (held, within):
        assert math.log(found.odds_ratio.low) < slope < math.log(found.odds_ratio.high)
        assert (found.p_value < 0.001) == (slope != 0)
    assert naive.log_odds < held.log_odds - 0.2  # what difficulty does when nobody holds it
    assert within.odds_ratio.n < items  # items without mixed answers say nothing


def test_slopes_say_why_there_is_none() -> None:
    x = np.arange(2.0, 42.0)
    assert "same outcome" in held_difficulty(np.ones(40), x, np.arange(40)).reason
    assert "separates" in held_difficulty((x > 20).astype(float), x, np.arange(40)).reason
    assert "several times" in within_item((x % 2), x, np.arange(40)).reason


def test_bins_tile_the_lengths() -> None:
    lengths = np.array([1, 1, 1, 1, 2, 3, 4, 5, 6, 100.0])
    for binning in ("count", "width"):
        edges = bin_edges(lengths, binning, 4)
        assert edges[0] == 1 and edges[-1] == 100 and (np.diff(edges) > 0).all()
    assert len(bin_edges(np.array([3.0, 3.0]), "count", 4)) == 2


def test_a_setting_that_nobody_foresaw_is_a_control_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 6, (ARMS[0], FakeArm("masked", "cot")))
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["arms"][1]["mask_audio_after"] = 0.5
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    (pair,) = controls(load_runs([folder]))
    assert (pair.reference.label, pair.what) == ("base cot", "mask audio after 0.5")


def test_forced_reasoning_is_a_family_and_hidden_audio_a_control(tmp_path: Path) -> None:
    arms = (FakeArm("free", tokens=90), FakeArm("cut", tokens=30), FakeArm("made", tokens=200), FakeArm("masked"))
    folder = write_run(tmp_path / "run", 30, arms)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    settings = ({}, {"max_reasoning_tokens": 40}, {"min_reasoning_tokens": 150}, {"hide_audio_after": "50%"})
    for arm, more in zip(manifest["arms"], settings, strict=True):
        arm.update(min_reasoning_tokens=0, max_reasoning_tokens=None, hide_audio_after=None)
        arm.update(more)
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    table = load_runs([folder])
    assert {pair.control.label for pair in controls(table)} == {"cut", "made", "masked"}
    assert {pair.reference.label for pair in controls(table)} == {"free"}
    forced, levels = build_exhibits(table, only=["forced", "levels"])
    assert [trace["name"] for trace in forced.drawing["data"]] == ["free: Accuracy", "free: F1"]
    assert list(forced.table["arm"])[:3] == ["cut", "free", "made"]
    assert len(levels.table) == 8


def test_daggers_pair_recipes(tmp_path: Path) -> None:
    arms = (FakeArm("R1", model="a"), FakeArm("R1†", model="b"))
    table = load_runs([write_run(tmp_path / "run", 5, arms)])
    assert [(a.label, b.label) for a, b in mode_pairs(table)] == [("R1", "R1†")]


def test_forced_lengths_and_votes(tmp_path: Path) -> None:
    arms = (
        FakeArm("short", "cot", 1.0, 0.0, 90, max_new_tokens=40),
        FakeArm("long", "cot", 1.0, 0.0, 90, max_new_tokens=400),
        FakeArm("voting", "cot", 0.7, 0.0, 50, samples=5, temperature=0.7),
    )
    table = load_runs([write_run(tmp_path / "run", 40, arms)])
    rows = forced_rows(table, metric_of("accuracy"))
    assert list(rows["arm"]) == ["short", "long"] and rows["items"].eq(40).all()
    part = table.frame[table.frame["arm"] == "voting"]
    found = [row for row, _ in votes(part, 5)]
    assert [row["votes"] for row in found] == [1, 2, 4, 5] and found[0]["items"] == 40
    from collections import Counter

    right = 0
    for _, ballots in part.groupby("item"):
        said = ballots.sort_values("sample")
        winner = Counter(said["prediction"]).most_common(1)[0][0]  # ties: the first to appear
        right += said.loc[said["prediction"] == winner, "right"].iat[0]
    assert found[-1]["accuracy"] == pytest.approx(right / 40)
    assert found[-1]["tokens"] == pytest.approx(part.groupby("item")["tokens"].sum().mean())
