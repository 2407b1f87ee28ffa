"""What the shipped runs say under every counting rule, and that no figure of theirs is empty without being listed."""

from __future__ import annotations

import json
import re
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from analysis import AnalysisError
from analysis.audio_need import read_audio_need
from analysis.choice import Choice, apply_choice
from analysis.contrasts import chance_of, mode_pairs, roles, seeds, versus
from analysis.decay import null_model, trend
from analysis.exhibits import EXHIBITS, build_exhibits
from analysis.load import RunTable, load_runs
from analysis.metrics import metric_of, rate
from mpar2.cafe import annotate, count_events
from mpar2.cafe.score import read_scores, requests_of
from mpar2.cli import main
from mpar2.runs import read_run
from testing.synthetic import ARMS, write_run

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "examples" / "runs"
KNOWINGLY_EMPTY: dict[str, set[str]] = {
    "small-scenes": {"forced", "probes", "seeds"},
    "small-recordings": {"levels", "controls", "forced", "probes", "seeds"},
    "held-out-scenes": {"seeds"},
    "held-out-recordings": {"levels", "controls", "forced", "probes", "seeds"},
    "held-out-training": {"levels", "controls", "forced", "probes"},
    "held-out-training-recordings": {"levels", "controls", "forced", "probes"},
}


@cache
def shipped(run: str) -> RunTable:
    return load_runs([RUNS / run])


@pytest.fixture(scope="module")
def scenes() -> RunTable:
    return shipped("held-out-scenes")


@pytest.fixture(scope="module")
def training() -> RunTable:
    return shipped("held-out-training")


def test_all_shipped_runs_are_listed() -> None:
    assert set(KNOWINGLY_EMPTY) == {path.parent.name for path in RUNS.glob("*/items.jsonl.gz")}


@pytest.mark.parametrize("run", sorted(KNOWINGLY_EMPTY))
def test_every_exhibit_is_filled_or_knowingly_empty(run: str) -> None:
    table = shipped(run)
    if len(table.arms) > 20 and run.endswith("recordings"):  # the same arms as in the other training run: some of them
        arms = ("SFT only", "base direct", "base cot", "MPAR2 seed 0", "MPAR2 seed 1")
        table = apply_choice(table, Choice(arms=arms))
    empty = {exhibit.name for exhibit in build_exhibits(table) if exhibit.drawing is None}
    assert empty == KNOWINGLY_EMPTY[run]
    for exhibit in build_exhibits(table, only=empty):
        setting = re.search(r"--\w|audio: silent|seed 0|mpar2 cafe|max_reasoning_tokens", exhibit.reading)
        assert setting, "it names what stands in the way"


def test_the_conclusion_depends_on_the_counting_rule_and_the_tool_says_so(scenes: RunTable) -> None:
    """The audit's table, recomputed: the difference of MPAR² and base cot under each rule, in points."""
    wanted = {"acc_per": 10.9, "acc_per_first": -0.9, "acc_per_any": 2.0, "acc_per_mention": 11.6, "label_f1": 9.4}
    wanted |= {"label_recall": 17.9, "label_precision": -3.3}
    for name, points in wanted.items():
        row = versus(scenes, "base cot", "mpar2", metric_of(name))
        assert 100 * row["difference"] == pytest.approx(points, abs=0.06), name
        assert (row["items"], row["clips"], row["p_mcnemar"]) == (100, 50, None)
    clear = {n for n in wanted if versus(scenes, "base cot", "mpar2", metric_of(n))["low"] > 0}
    assert clear == {"acc_per", "acc_per_mention", "label_f1", "label_recall"}
    (shown,) = build_exhibits(scenes, only=["rules"])
    assert "+10.9 points" in shown.reading and "-0.9 points" in shown.reading
    assert any("one rule only" in note for note in shown.notes)


def test_within_items_the_right_sounds_do_not_decay_but_what_is_said_of_them_does(scenes: RunTable) -> None:
    part = scenes.frame[scenes.frame["arm"] == "base cot, 4 samples"]
    falls = {
        name: trend(part, metric_of(name), "tokens", "item") for name in ("acc_per", "acc_per_any", "label_recall")
    }
    assert falls["acc_per"].high < 0 and falls["label_recall"].low > 0
    assert falls["acc_per_any"].low < 0 < falls["acc_per_any"].high


def test_the_null_model_falls_by_the_rule_alone(scenes: RunTable) -> None:
    part = scenes.frame[(scenes.frame["arm"] == "base cot") & scenes.frame["n_pred"].gt(0)]
    null = null_model(part, metric_of("acc_per"))
    weights = part["n_pred"].to_numpy()
    assert (null * weights).sum() / weights.sum() == pytest.approx(rate(part, metric_of("acc_per")).estimate)
    long = part["tokens"].to_numpy() > np.median(part["tokens"])
    assert np.average(null[long], weights=weights[long]) < np.average(null[~long], weights=weights[~long])
    assert null_model(part, metric_of("recall")) is None
    (drawn,) = build_exhibits(scenes, Choice(metric="acc_per", arms=("base cot", "mpar2")), ["decay"])
    assert [t["name"] for t in drawn.drawing["data"] if "null model" in (t.get("name") or "")]


def test_direct_and_reasoning_are_paired_by_role_and_seeds_of_training_count(
    scenes: RunTable, training: RunTable
) -> None:
    assert ("base direct", "base cot") in [(a.label, b.label) for a, b in mode_pairs(scenes)]
    pairs = [(a.label, b.label) for a, b in mode_pairs(training)]
    assert {("R1-AQA", "R1-AQA thinks"), ("Audio-Thinker", "Audio-Thinker thinks"), ("SARI", "SARI thinks")} < set(
        pairs
    )
    rows = seeds(training, metric_of("accuracy"))
    assert rows[["arm", "of", "seeds"]].values.tolist() == [["MPAR2", "training", 3]]
    assert [(a.label, b.label) for a, b in roles(scenes)] == [("base cot", "mpar2")]


def test_the_sentence_of_figure_6_says_who_attends_more(scenes: RunTable) -> None:
    (shown,) = build_exhibits(scenes, only=["attention"])
    assert shown.reading.startswith("mpar2 attends less to the audio than base cot (-6.6 points")


def test_accuracy_is_drawn_beside_chance(scenes: RunTable) -> None:
    assert chance_of(scenes.frame) == pytest.approx(0.272, abs=0.001)
    for exhibit in build_exhibits(
        scenes, Choice(arms=("base cot", "mpar2", "base direct")), ["decay", "arms", "modes"]
    ):
        assert exhibit.drawing["layout"]["annotations"][0]["text"] == "chance 27.2 %", exhibit.name


def test_slopes_of_perception_are_those_of_the_chosen_metric(scenes: RunTable) -> None:
    choice = Choice(metric="acc_per", arms=("base cot", "mpar2"))
    (shown,) = build_exhibits(scenes, choice, ["slopes"])
    assert shown.drawing["layout"]["xaxis"]["title"]["text"].startswith("Change of Acc_per")
    held = shown.table.set_index(["arm", "metric", "held"])
    assert held.loc[("base cot", "acc_per", "difficulty held"), "high"] < 0
    assert (shown.table["p_holm"] >= shown.table["p_value"]).all()
    assert any("slopes tested" in note for note in shown.notes)


@pytest.mark.parametrize("metric", ["accuracy", "acc_per"])
def test_sentences_are_of_the_drawn_numbers(scenes: RunTable, metric: str) -> None:
    for exhibit in build_exhibits(scenes, Choice(metric=metric, arms=("base cot", "mpar2")), list(EXHIBITS)):
        if exhibit.drawing is None or exhibit.name not in ("arms", "controls", "levels", "forced"):
            continue
        table = exhibit.table
        numbers = {
            f"{100 * value:.1f}"
            for column in ("value", "low", "high")
            if column in table
            for value in table[column].dropna()
        }
        numbers |= {
            f"{100 * v:+.1f}" for c in table if c.startswith(("difference", "low", "high")) for v in table[c].dropna()
        }
        for said in re.findall(r"(?<![\w.])[+-]?\d+\.\d(?= (?:%|points|to))", exhibit.reading):
            assert said in numbers or f"+{said}" in numbers, (exhibit.name, said)


def test_every_curve_can_be_split_by_whether_an_item_needs_the_audio(scenes: RunTable) -> None:
    """By the arm that got silence: what it answers rightly can be answered without listening."""
    silent = scenes.frame[scenes.frame["arm"] == "mpar2, silent audio"].set_index("item")
    part = scenes.frame[scenes.frame["arm"] == "mpar2"]
    for needed, right in (("yes", 0.0), ("no", 1.0)):
        items = part[part["needs_audio"] == needed]["item"]
        assert len(items) > 10 and (silent.loc[items, "right"] == right).all()
        (drawn,) = build_exhibits(scenes, Choice(arms=("mpar2",), filters={"needs_audio": (needed,)}), ["decay"])
        assert drawn.table["traces"].sum() == len(items) and "--needs-audio" in drawn.command
    assert part["needs_audio"].notna().all()


def test_without_a_silent_arm_nothing_is_known_of_the_need(training: RunTable) -> None:
    assert training.frame["needs_audio"].isna().all()


def test_the_tables_of_the_readme_and_the_cards_are_those_of_the_runs() -> None:
    maker = runpy.run_path(str(ROOT / "examples" / "tables.py"))
    made = maker["tables"]({name: shipped(name) for name in maker["RUNS"]})
    shown = {file: (ROOT / file).read_text("utf-8") for file in maker["FILES"]}
    assert set(re.findall(r"<!-- table: (\w+) -->", shown["README.md"])) == set(made)
    for file, text in shown.items():
        tables = ("small_scenes", "small_recordings") if "small-" in file else ("scenes",)
        for name in tables:
            assert f"<!-- table: {name} -->" in text, f"{file} lacks the table {name}"
        assert maker["fill"](text, made) == text, f"{file} is old: run python examples/tables.py"


SMALL_SENTENCES = [
    ("small-recordings", "base direct", "base cot", "accuracy"),
    ("small-scenes", "base direct", "base cot", "accuracy"),
    ("small-recordings", "base direct", "mpar2", "accuracy"),
    ("small-scenes", "base direct", "mpar2", "accuracy"),
    ("small-scenes", "base cot", "mpar2", "accuracy"),
    ("small-scenes", "base cot", "mpar2", "label_recall"),
    ("small-scenes", "base cot", "mpar2", "label_precision"),
    ("small-scenes", "base cot", "mpar2", "acc_per"),
    ("small-scenes", "mpar2", "mpar2, true events given", "accuracy"),
    *(
        ("small-recordings", "base cot", "mpar2", name)
        for name in ("accuracy", "acc_per", "label_recall", "label_precision")
    ),
]
TINY_SENTENCES = [
    *(
        ("held-out-scenes", "base cot", "mpar2", name)
        for name in ("label_recall", "acc_per", "acc_per_mention", "acc_per_first", "acc_per_any", "accuracy")
    ),
    ("held-out-scenes", "base direct", "mpar2", "accuracy"),
    ("held-out-scenes", "base direct", "base cot", "accuracy"),
    ("held-out-scenes", "mpar2", "mpar2, shuffled audio", "accuracy"),
    ("held-out-scenes", "mpar2", "mpar2, silent audio", "accuracy"),
    ("held-out-scenes", "mpar2", "mpar2, audio masked after 50 %", "accuracy"),
    ("held-out-scenes", "mpar2", "mpar2, true events given", "accuracy"),
]


@pytest.mark.parametrize("section", [0, 1], ids=["small pair", "tiny pair"])
def test_the_sentences_of_the_readme_have_the_numbers_of_the_runs(section: int) -> None:
    """Each section on its own: before and after the heading of the study with the tiny pair."""
    text = (ROOT / "README.md").read_text("utf-8").split("### A study with the tiny pair")[section]
    text = " ".join(text.split())
    for run, first, second, name in (SMALL_SENTENCES, TINY_SENTENCES)[section]:
        row = versus(shipped(run), first, second, metric_of(name))
        low, high = (f"{100 * row[end]:+.0f}".replace("+0", "0").replace("-0", "0") for end in ("low", "high"))
        difference = f"{100 * row['difference']:+.0f}".replace("+0", "0").replace("-0", "0")
        phrases = [f"{difference}{unit} [{low}, {high}]" for unit in ("", " points")]
        assert any(phrase in text for phrase in phrases), (run, second, name, phrases[0])
    run = ("small-scenes", "held-out-scenes")[section]
    attention = versus(shipped(run), "base cot", "mpar2", metric_of("attention"))
    points = [f"{100 * attention[key]:.1f}" for key in ("difference", "low", "high")]
    assert f"({points[0]} points [{points[1]}, " in text, points


def test_published_answers_without_the_audio_are_joined_by_id(tmp_path: Path, capsys) -> None:
    """Two of three models answer item 0 without the audio; item 1 nobody; the rest is for our own silent arm to say."""
    right = {"a": (True, False), "b": (True, False), "c": (False, False)}
    for model, (first, second) in right.items():
        file = tmp_path / "results" / "mmar" / model / "none_llm_judge.jsonl"
        file.parent.mkdir(parents=True)
        lines = [{"id": "item 0", "llm_correct": first}, {"id": "item 1", "llm_correct": second}]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = write_run(tmp_path / "run", 12, ARMS)
    need = read_audio_need(tmp_path / "results")
    assert need == {"item 0": pytest.approx(2 / 3), "item 1": 0.0}
    plain, joined = load_runs([run]).frame, load_runs([run], audio_need=need).frame
    by_id = joined.drop_duplicates("id").set_index("id")["needs_audio"]
    assert by_id["item 0"] == "no" and by_id["item 1"] == "yes"
    rest = ~joined["id"].isin(need)
    assert (plain.loc[rest, "needs_audio"] == joined.loc[rest, "needs_audio"]).all()
    (tmp_path / "own.jsonl").write_text('{"id": "item 0", "needs_audio": true}\n')
    out = ["--only", "arms", "--needs-audio", "yes", "--out", str(tmp_path / "x.html")]
    assert main(["report", str(run), "--audio-need", str(tmp_path / "own.jsonl"), *out]) == 0
    (tmp_path / "own.jsonl").write_text('{"id": "item 0"}\n')
    assert main(["report", str(run), "--audio-need", str(tmp_path / "own.jsonl"), *out]) == 2
    assert "line 1: 'id' and 'llm_correct'" in capsys.readouterr().err
    with pytest.raises(AnalysisError, match="has no none_llm_judge.jsonl"):
        read_audio_need(tmp_path / "run")


def test_the_shipped_scores_are_those_of_today_s_rule_judge() -> None:
    """When this fails: score the runs again ('mpar2 cafe score', 'mpar2 compress'), then run examples/tables.py."""
    run = RUNS / "held-out-recordings"
    stored = {score.key: score.counts for score in read_scores(run).scores}
    requests, _ = requests_of(read_run(run).records())
    judged = {key: count_events(annotate(one.trace, one.truth, choices=one.choices)) for key, one in requests.items()}
    assert judged.keys() == stored.keys() and len(judged) == 276
    assert sum(judged[key] == stored[key] for key in judged) >= 0.99 * len(judged)
