"""No figure sets two arms side by side without their paired difference; each control is a row of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.contrasts import Side, controls, paired, probe_rates, versus
from analysis.effort import frontier, votes
from analysis.exhibits import build_exhibits
from analysis.load import RunTable, load_runs
from analysis.metrics import metric_of
from analysis.words import difference, paired_p
from mpar2 import statistics
from mpar2.arms import arm_to_json, load_arms
from testing.synthetic import ARMS, FakeArm, write_run

SHIPPED_ARMS = Path(__file__).resolve().parent.parent / "examples" / "runs" / "arms.yaml"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> RunTable:
    """A run of every arm of the shipped file, with the settings that it gives."""
    arms = load_arms(SHIPPED_ARMS)
    fakes = [
        FakeArm(
            arm.name,
            arm.arm.mode,
            level=2.0 - 0.2 * number,
            tokens=20 + 12 * number,
            samples=arm.samples,
            temperature=arm.decoding.temperature,
        )
        for number, arm in enumerate(arms)
    ]
    folder = write_run(tmp_path_factory.mktemp("all") / "run", 60, fakes)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    for entry, arm in zip(manifest["arms"], arms, strict=True):
        entry.update(arm_to_json(arm))
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return load_runs([folder])


def test_every_control_of_the_shipped_file_is_a_row_with_its_test(table: RunTable) -> None:
    written = yaml.safe_load(SHIPPED_ARMS.read_text("utf-8"))["arms"]
    asked = {"audio", "perception", "max_reasoning_tokens", "min_reasoning_tokens", "hide_audio_after", "samples"}
    wanted = {arm["name"] for arm in written if asked & set(arm)}
    found = {pair.control.label: pair for pair in controls(table)}
    assert wanted <= set(found) and len(wanted) >= 11
    assert found["mpar2, at least 240 reasoning tokens"].what == "at least 240 tokens of reasoning", (
        "room for it is no second setting"
    )
    assert {found[name].reference.label for name in wanted} == {"mpar2", "base direct", "base cot"}
    (shown,) = build_exhibits(table, only=["controls"])
    rows = shown.table.set_index("arm")
    assert rows.loc[sorted(wanted), ["difference", "p_bootstrap"]].notna().all().all()


def test_more_room_alone_is_a_setting(tmp_path: Path) -> None:
    arms = (FakeArm("short", max_new_tokens=40), FakeArm("long", max_new_tokens=400))
    (pair,) = controls(load_runs([write_run(tmp_path / "run", 6, arms)]))
    assert (pair.reference.label, pair.what) == ("long", "at most 40 tokens")


def test_forced_lengths_are_compared_with_the_free_arm(table: RunTable) -> None:
    (forced,) = build_exhibits(table, only=["forced"])
    rows = forced.table[(forced.table["family"] == "mpar2") & (forced.table["metric"] == "Accuracy")].set_index("arm")
    assert set(rows.drop("mpar2")["minus"]) == {"mpar2"} and rows.loc["mpar2", ["difference"]].isna().all()
    for name in rows.index.drop("mpar2"):
        compared = versus(table, "mpar2", name, metric_of("accuracy"))
        assert rows.loc[name, "difference"] == compared["difference"]
        assert rows.loc[name, "p_mcnemar"] == compared["p_mcnemar"]
    assert "against mpar2, McNemar p" in forced.reading


def test_cafe_rates_are_compared_with_the_first_arm_that_names_events(table: RunTable, tmp_path: Path) -> None:
    (cafe,) = build_exhibits(table, only=["cafe"])
    rows = cafe.table[cafe.table["metric"] == "Acc_per"].set_index("arm")
    first = rows["value"].first_valid_index()
    assert rows.loc[[first], "difference"].isna().all() and set(rows["minus"].dropna()) == {first}
    for name in rows.index.drop(first)[:3]:
        assert rows.loc[name, "difference"] == versus(table, first, name, metric_of("acc_per"))["difference"]
        assert rows.loc[name, "difference_low"] <= rows.loc[name, "difference"] <= rows.loc[name, "difference_high"]
    assert f"Acc_per minus that of {first}" in cafe.reading


def test_probes_are_compared_item_by_item(tmp_path: Path) -> None:
    table = load_runs([write_run(tmp_path / "run", 40, ARMS[:3])])
    rows = probe_rates(table)
    first, *others = table.probes["arm"].unique()
    assert set(rows["minus"].dropna()) == {first} and rows[rows["arm"] == first]["difference"].isna().all()
    for name in others:
        for kind, present in (("present, answered yes", True), ("absent, answered no", False)):
            part = table.probes[table.probes["present"] == present]
            right = (part["yes"] == present).groupby([part["arm"], part["item"]], observed=True).mean()
            away = (right[name] - right[first]).mean()  # the synthetic items have one probe of each kind
            (row,) = rows[(rows["arm"] == name) & (rows["probe"] == kind)].to_dict("records")
            assert row["difference"] == pytest.approx(away) and 0 < row["p_bootstrap"] <= 1


def test_votes_are_compared_item_by_item(tmp_path: Path) -> None:
    arms = (ARMS[0], FakeArm("voting", "cot", 1.5, 0.0, 50, samples=4, temperature=0.7))
    table = load_runs([write_run(tmp_path / "run", 50, arms)])
    rows = frontier(table)
    assert rows["minus"].fillna("").tolist() == ["", *["base cot"] * 3]
    own = table.frame[table.frame["arm"] == "base cot"].set_index("item")["right"]
    part = table.frame[table.frame["arm"] == "voting"]
    for (_, right), row in zip(votes(part, 4), rows.to_dict("records")[1:], strict=True):
        majority = right.set_index("item")["right"]
        assert row["difference"] == pytest.approx((majority - own.loc[majority.index]).mean())
        assert row["p_mcnemar"] is not None and 0 <= row["p_bootstrap"] <= 1


def test_many_items_need_no_resamples_and_say_the_same() -> None:
    rng = np.random.default_rng(0)
    items = pd.DataFrame({"item": np.arange(1500), "clip": np.arange(1500)})
    below = [rng.integers(0, 4, 1500).astype(float) for _ in range(2)]
    for shift in (0.0, 0.04):
        above = [rng.binomial(below[0].astype(int), 0.5), rng.binomial(below[1].astype(int), 0.5 + shift)]
        quick = paired(Side(above[0], below[0], items), Side(above[1], below[1], items))
        slow = statistics.paired_bootstrap(*above, denominators=(below[0], below[1]), resamples=4000)
        assert quick.estimate == pytest.approx(slow.estimate) and quick.items == slow.n == 1500
        assert (quick.low, quick.high) == pytest.approx((slow.low, slow.high), abs=0.003)
        assert quick.p_value == pytest.approx(slow.p_value, abs=0.03)
    same = paired(Side(above[0], below[0], items), Side(above[0], below[0], items))
    assert same[:4] == pytest.approx((0.0, 0.0, 0.0, 1.0), abs=1e-8)
    assert paired(Side(above[0], 0 * below[0], items), Side(above[1], below[1], items)).estimate is None


def test_seeds_of_greedy_arms_say_that_they_cannot_differ(tmp_path: Path) -> None:
    def note(temperature: float) -> str:
        arm = replace(ARMS[0], temperature=temperature)
        runs = [write_run(tmp_path / f"{temperature}-{seed}", 12, (arm,), seed=seed) for seed in (1, 2)]
        (shown,) = build_exhibits(load_runs(runs), only=["seeds"])
        assert shown.drawing is not None
        return " ".join(shown.notes)

    assert "At temperature 0" in note(0.0) and "At temperature 0" not in note(0.7)


def test_an_empty_figure_of_controls_says_what_to_do(tmp_path: Path) -> None:
    table = load_runs([write_run(tmp_path / "run", 6, ARMS[:2])])
    for exhibit in build_exhibits(table, only=["levels", "controls"]):
        assert exhibit.drawing is None and "choose more arms" in exhibit.reading and "audio: silent" in exhibit.reading


def test_intervals_have_the_digits_of_their_estimate() -> None:
    events = metric_of("events")
    assert difference(events, 0.05, 0.012, 0.091) == "+0.05 (95 %: +0.01 to +0.09)"
    assert paired_p({"p_mcnemar": float("nan"), "p_bootstrap": 0.5}) == "paired bootstrap p = 0.500"
