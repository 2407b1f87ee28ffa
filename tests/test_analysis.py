"""The analysis finds the decay that was put in, says no more than the numbers do, and believes no upload."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.attention import along, changes
from analysis.choice import Choice, apply_choice, choice_from, command_of, levels
from analysis.contrasts import controls, mode_pairs, seeds, versus
from analysis.decay import curves
from analysis.exhibit import label, to_csv
from analysis.exhibits import EXHIBITS, build_exhibits, rows_of
from analysis.load import RunTable, load_runs
from analysis.metrics import metric_of, rate
from analysis.paper import paper_claims, paper_exhibits, paper_values
from analysis.traces import fetch
from mpar2.cafe.metrics import EventCounts, evaluate
from mpar2.runs import RunError, RunLimits, read_run
from testing.synthetic import ARMS, FakeArm, write_run

SMALL = RunLimits(max_bytes=3_000_000, max_lines=5000, max_line_bytes=200_000, max_manifest_bytes=100_000)
HOSTILE = "<img src=x onerror=alert(1)>${1}{{1}}=cmd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "scenes", 60)


@pytest.fixture(scope="module")
def table(folder: Path) -> RunTable:
    return load_runs([folder])


@pytest.fixture(scope="module")
def exhibits(table: RunTable) -> dict[str, Any]:
    return {exhibit.name: exhibit for exhibit in build_exhibits(table)}


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{folder.name}/{path.relative_to(folder)}")
    return target


# ---- loading -----------------------------------------------------------------------------------------------------


def test_rows_are_the_answers_with_their_scores(folder: Path, table: RunTable) -> None:
    records = list(read_run(folder).records())
    frame = table.frame
    assert len(frame) == len(records) == 60 * len(ARMS)
    assert table.labels == [arm.name for arm in ARMS]
    first = frame.iloc[0]
    assert first["tokens"] == records[0]["tokens"] and 0 < first["reasoning_tokens"] < first["tokens"]
    assert first["right"] == float(records[0]["prediction"] == records[0]["item"]["answer"])
    assert first["steps"] == 1
    assert frame.groupby("arm", observed=True)["form"].first().to_dict() == {
        arm.name: float(arm.mode == "mpar2") for arm in ARMS
    }  # all write the form of MPAR², whatever they are asked for
    assert table.runs[0].scores.judge == "reference" and frame["unscored"].eq("").all()


def test_failed_answers_are_wrong_and_have_no_length(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 8, ARMS[:1])
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    lines[0] |= {"status": "error", "error": "out of memory", "text": None, "tokens": None, "token_ends": None}
    lines[1]["item"]["answer"] = None
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    table = load_runs([folder])
    failed = table.frame[table.frame["status"] == "error"].iloc[0]
    assert failed["right"] == 0 and math.isnan(failed["tokens"])
    assert table.frame["right"].isna().sum() == 1  # withheld: neither right nor wrong
    assert any("1 answers failed" in note for note in table.runs[0].notes)
    found = rate(table.frame, metric_of("accuracy"))
    assert found.items == 7


def test_lone_lines_have_no_manifest_and_still_show(folder: Path, tmp_path: Path) -> None:
    lone = tmp_path / "items.jsonl"
    lone.write_bytes((folder / "items.jsonl").read_bytes())
    table = load_runs([lone])
    assert set(table.labels) == {arm.name for arm in ARMS} and not controls(table)
    exhibit = build_exhibits(table, only=["cafe"])[0]
    assert exhibit.drawing is None and "mpar2 cafe score" in exhibit.reading


def test_a_zip_says_what_its_folder_says(folder: Path, table: RunTable, tmp_path: Path) -> None:
    found = load_runs([zipped(folder, tmp_path / "run.zip")], limits=SMALL)
    pd.testing.assert_frame_equal(
        found.frame.drop(columns="run"), table.frame.drop(columns="run"), check_categorical=False
    )
    assert found.runs[0].scores.judge == "reference" and len(found.probes) == len(table.probes) > 0
    assert len(fetch(found, [0, 5])) == 2


def test_arms_of_one_name_in_two_runs_stay_apart(folder: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "again", 60, ARMS[:1], seed=5)
    table = load_runs([folder, other])
    assert "base cot (scenes)" in table.labels and "base cot (again)" in table.labels and "mpar2" in table.labels
    rows = seeds(table, metric_of("accuracy"))
    assert list(rows["arm"]) == ["base cot"] and rows["seeds"].iat[0] == 2
    alone = [rate(load_runs([path]).frame.query("arm == 'base cot'"), metric_of("accuracy")).estimate
             for path in (folder, other)]  # fmt: skip
    assert rows["mean"].iat[0] == pytest.approx(np.mean(alone))
    (arms,) = build_exhibits(table, only=["arms"])
    assert set(arms.table["minus"].dropna()) == {"base cot (scenes)"}  # one benchmark: one base
    compared = versus(table, "base cot (scenes)", "base cot (again)", metric_of("accuracy"))
    assert compared["items"] == 60 and compared["difference"] == pytest.approx(alone[1] - alone[0])


def test_runs_that_lack_what_others_have_can_stand_together(folder: Path, tmp_path: Path) -> None:
    bare = write_run(tmp_path / "bare", 6, (FakeArm("other"),), attention=False, judged=False)
    for sources in ([folder, bare], [bare, folder], [bare]):
        table = load_runs(sources)
        for exhibit in build_exhibits(table):
            json.dumps(exhibit.to_json(), allow_nan=False)
        apply_choice(table, Choice(outcome="wrong"))


def test_arms_of_two_benchmarks_are_not_compared(folder: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "music", 9, ARMS)
    manifest = json.loads((other / "manifest.json").read_text("utf-8"))
    manifest["benchmark"]["fingerprint"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    table = load_runs([folder, other])
    assert all(a.run == b.run for a, b in mode_pairs(table)) and len(mode_pairs(table)) == 2
    assert all(pair.reference.run == pair.control.run for pair in controls(table)) and len(controls(table)) == 4
    arms, seeded = build_exhibits(table, only=["arms", "seeds"])
    assert set(arms.table["minus"].dropna()) == {"base cot (scenes)", "base cot (music)"}
    assert seeded.drawing is None


def test_the_columnar_copy_is_used_and_never_trusted_when_old(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("pyarrow")
    from analysis import cache, load

    monkeypatch.setattr(cache, "WORTH_BYTES", 1)
    folder = write_run(tmp_path / "run", 10, ARMS[:2])
    first = load_runs([folder])
    assert (folder / ".analysis" / "frame.parquet").is_file()
    monkeypatch.setattr(load, "_read", lambda *_: pytest.fail("the copy was not used"))
    second = load_runs([folder])
    pd.testing.assert_frame_equal(second.frame, first.frame, check_categorical=False)
    pd.testing.assert_frame_equal(second.attention, first.attention)
    monkeypatch.undo()
    monkeypatch.setattr(cache, "WORTH_BYTES", 1)
    lines = (folder / "items.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "items.jsonl").write_bytes(b"".join(lines[:-2]))
    assert len(load_runs([folder]).frame) == len(lines) - 2
    (folder / ".analysis" / "frame.parquet").write_bytes(b"PAR1 damaged")
    assert len(load_runs([folder]).frame) == len(lines) - 2


def test_uploads_are_read_in_place_and_bounded(folder: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.parent.iterdir())
    items = (folder / "items.jsonl").read_bytes()

    def archive(name: str, *entries: tuple[Any, bytes]) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as made:
            for entry, data in entries:
                made.writestr(entry, data)
        return tmp_path / name

    link = zipfile.ZipInfo("items.jsonl")
    link.external_attr = 0o120777 << 16
    counts = dict.fromkeys(("matched", "hallucinated", "misused", "missed", "neutral_mentions"), 0)
    bomb_scores = (json.dumps({"key": "a", "counts": counts, "pad": " " * 150_000}).encode() + b"\n") * 400
    for path, words in (
        (archive("bomb.zip", ("items.jsonl", b"x" * 60_000_000)), "bytes"),
        (archive("scores.zip", ("items.jsonl", items), ("cafe/reference/scores.jsonl", bomb_scores)), "unpack"),
        (archive("link.zip", (link, b"/etc/passwd")), "not JSON|newline|no finished"),
        (archive("climb.zip", ("../../items.jsonl", items)), "no items.jsonl"),
        (archive("empty.zip", ("readme.txt", b"hello")), "no items.jsonl"),
        (archive("bad.zip", ("items.jsonl", items), ("cafe/a/scores.jsonl", b'{"key":"a","counts":{"matched":-1}}\n')),
         "counts"),
    ):  # fmt: skip
        with pytest.raises((RunError, AnalysisError), match=words):
            load_runs([path], limits=SMALL)
    assert sorted(path.name for path in tmp_path.parent.iterdir()) == before
    assert not any(path.is_dir() for path in tmp_path.iterdir())


# ---- numbers -----------------------------------------------------------------------------------------------------


def test_cafe_rates_are_those_of_the_scorer(table: RunTable) -> None:
    part = table.frame[table.frame["arm"] == "mpar2"]
    counts = [
        EventCounts(*(int(row[name]) for name in ("matched", "hallucinated", "misused", "missed")))
        for _, row in part.iterrows()
    ]
    core = evaluate(counts, list(part["id"]), resamples=10)
    for name in ("acc_per", "err_per", "err_use", "err_omit", "recall", "events"):
        assert rate(part, metric_of(name)).estimate == pytest.approx(core[name].micro.estimate), name


# ---- figures' numbers --------------------------------------------------------------------------------------------


def test_curves_count_everything_once_and_show_the_decay(table: RunTable) -> None:
    rows = curves(table, Choice(bins=5), ("accuracy", "acc_per"))
    for arm in table.labels:
        part = rows[(rows["arm"] == arm) & (rows["metric"] == "accuracy")]
        assert part["traces"].sum() == 60
        weighted = (part["value"] * part["scored"]).sum() / part["scored"].sum()
        assert weighted == pytest.approx(rate(table.frame[table.frame["arm"] == arm], metric_of("accuracy")).estimate)
        assert part["length"].is_monotonic_increasing
    shared = curves(table, Choice(bins=5, binning="width"), ("accuracy",))
    assert shared.groupby("bin")["from"].nunique().eq(1).all()


def test_modes_controls_and_their_directions(table: RunTable) -> None:
    assert {(a.label, b.label) for a, b in mode_pairs(table)} == {("base direct", "base cot")}
    found = {(pair.reference.label, pair.control.label): pair.what for pair in controls(table)}
    assert found == {("mpar2", "mpar2 deaf"): "silent audio", ("mpar2", "mpar2 oracle"): "true events given"}
    deaf = versus(table, "mpar2", "mpar2 deaf", metric_of("accuracy"))
    assert deaf["difference"] < -0.2 and deaf["high"] < 0 and deaf["p_mcnemar"] < 0.01


def test_levels_show_every_control_beside_its_reference(table: RunTable) -> None:
    (levels,) = build_exhibits(table, only=["levels"])
    names = [trace["name"] for trace in levels.drawing["data"]]
    assert names == ["mpar2: Accuracy", "mpar2: F1"]
    first = levels.drawing["layout"]["xaxis"]["ticktext"]
    assert first == ["unchanged", "silent audio", "true events given"]
    assert levels.table["low"].le(levels.table["value"]).all() and levels.table["high"].ge(levels.table["value"]).all()
    assert "unchanged" in levels.reading and "silent audio" in levels.reading


def test_attention_falls_where_it_was_made_to_fall(table: RunTable) -> None:
    rows = along(table, "relative", corrected=False)
    base = rows[rows["arm"] == "base cot"]["value"]
    assert base.iat[0] > base.iat[-1] and len(base) == 20
    assert changes(table, False)["base cot"].high < 0
    absolute = along(table, "absolute", corrected=True)
    assert absolute["position"].min() == 8 and absolute["traces"].ge(2).all()
    first = table.attention[(table.attention["row"] == 0) & (table.attention["kind"] == 1)]
    assert first["tokens"].sum() == table.frame["tokens"].iat[0]


# ---- exhibits ----------------------------------------------------------------------------------------------------


def test_every_exhibit_reads_itself_and_has_its_table(exhibits: dict[str, Any]) -> None:
    assert list(exhibits) == list(EXHIBITS)
    for name, exhibit in exhibits.items():
        assert exhibit.reading.endswith(".") and "nan" not in exhibit.reading.lower(), name
        assert "None" not in exhibit.reading, name
        assert (exhibit.drawing is None) == exhibit.table.empty, name
        json.dumps(exhibit.to_json(), allow_nan=False)
        assert exhibit.command[:2] == ("mpar2", "report") and name in exhibit.command
    assert exhibits["decay"].drawing is not None and "base cot" in exhibits["decay"].reading
    assert "evaluate again with another --seed" in exhibits["seeds"].reading


def test_every_point_leads_to_its_traces(table: RunTable, exhibits: dict[str, Any]) -> None:
    rows = exhibits["decay"].table
    points = [p for trace in exhibits["decay"].drawing["data"] for p in trace.get("customdata", ()) if p]
    counts = [len(rows_of(table, Choice(), point)) for point in points]
    assert counts == rows["traces"].tolist()
    records = fetch(table, rows_of(table, Choice(), points[0])[:3])
    assert len(records) == 3 and all(record["arm"] == table.labels[0] for record in records)
    for name in ("arms", "budget", "controls", "frontier"):
        place = next(p for trace in exhibits[name].drawing["data"] for p in trace.get("customdata", ()) if p)
        assert rows_of(table, Choice(), place)
    for bad in ("{}", "nonsense", '{"arm": -1}', '{"arm": 99}', '{"arm": 0, "column": "text"}', "[1]",
                '{"arm": 0, "column": "tokens", "low": "x", "high": 1}'):  # fmt: skip
        with pytest.raises(AnalysisError):
            rows_of(table, Choice(), bad)


def test_choices_filter_and_refuse(table: RunTable) -> None:
    choice = choice_from({"arms": ["mpar2", "base cot"], "filters": {"difficulty": ["hard"], "domain": []}})
    chosen = apply_choice(table, choice)
    assert chosen.labels == ["mpar2", "base cot"] and set(chosen.frame["difficulty"]) == {"hard"}
    assert set(chosen.attention["row"]) <= set(range(len(chosen.frame)))
    assert chosen.frame["attention"].iloc[chosen.attention["row"].unique()].notna().all()
    assert levels(table.frame, "difficulty") == ["easy", "medium", "hard"]
    words = command_of(choice, ("runs/a",), "decay")
    assert words == ["mpar2", "report", "runs/a", "--arm", "mpar2", "--arm", "base cot", "--difficulty", "hard",
                     "--only", "decay", "--out", "report.html"]  # fmt: skip
    right = apply_choice(table, Choice(outcome="right"))
    assert set(right.frame["right"]) == {1.0}
    for values in ({"metric": "magic"}, {"bins": 1}, {"binning": "x"}, {"filters": {"text": ["a"]}}):
        with pytest.raises(AnalysisError):
            choice_from(values)
    with pytest.raises(AnalysisError, match="no arm"):
        apply_choice(table, Choice(arms=("nobody",)))
    with pytest.raises(AnalysisError, match="no answer is left"):
        build_exhibits(table, Choice(filters={"domain": ("speech",)}))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    arm = FakeArm("base<b>&'`", "cot", 1.0, 0.0, 30)
    table = load_runs([write_run(tmp_path / "run", 12, (arm, FakeArm("=SUM(A1)", "direct")), hostile=HOSTILE)])
    for exhibit in build_exhibits(table):
        if exhibit.drawing is not None:
            shown = [{k: v for k, v in trace.items() if k != "customdata"} for trace in exhibit.drawing["data"]]
            text = json.dumps([shown, exhibit.drawing["layout"]])
            assert "<img" not in text and "\\u003cimg" not in text and "<b>&" not in text, exhibit.name
        for line in to_csv(exhibit.table).splitlines()[1:]:
            assert not line.startswith(("=", "@", "+")), exhibit.name
    assert label("<a href='x'>" * 20).count("<") == 0
    assert to_csv(pd.DataFrame({"=a": ["=1+1", "-x", 3.0]})).splitlines() == ["'=a", "'=1+1", "'-x", "3.0"]


def test_drawings_are_figures_that_plotly_accepts(exhibits: dict[str, Any]) -> None:
    for exhibit in [*exhibits.values(), *paper_exhibits()]:
        assert (exhibit.figure is None) == (exhibit.drawing is None)  # Plotly checks every name and value


def test_the_papers_numbers_stay_apart(table: RunTable) -> None:
    values = paper_values()
    assert set(values["tag"]) <= {"S", "Q", "I"} and values["certainty"].notna().all()
    best = values[(values["row"] == "MPAR²-7B, all rewards") & (values["quantity"] == "MMAU")]
    assert best["value"].item() == 74.59
    assert set(paper_claims()["ours"]) <= set(EXHIBITS) and paper_claims()["unknown"].str.len().gt(0).all()
    measured = " ".join(json.dumps(exhibit.drawing) for exhibit in build_exhibits(table) if exhibit.drawing is not None)
    assert "MPAR²-7B" not in measured and "Step-Audio" not in measured
    drawn = {exhibit.name for exhibit in paper_exhibits()}
    assert not drawn & set(EXHIBITS)


def test_nothing_heavy_is_loaded() -> None:
    modules = "[m for m in ('torch', 'plotly', 'pandas') if m in sys.modules]"
    code = f"import sys, analysis, mpar2.cli; print({modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
