"""Scoring runs, comparing judges, damaging truths, and the commands that do so."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpar2.audio import wav_bytes
from mpar2.cafe.metrics import evaluate
from mpar2.cafe.rules.judge import ReferenceJudge, annotate
from mpar2.cafe.schema import JudgeRequest, Mention, MentionKind, Truth, Unscored, Verdict, missed_events
from mpar2.cafe.score import ScoreError, ScoreSet, TraceScore, read_scores, requests_of, score_run
from mpar2.cafe.truth import TruthError, truth_from_json, truth_of
from mpar2.cafe.validation.agreement import compare_scores, kappa, pair_mentions
from mpar2.cafe.validation.perturbation import damage_report, damage_truth
from mpar2.cli import main
from mpar2.question import Event, Item, Question, item_to_json
from mpar2.runs import RunWriter, build_manifest, read_run, record_key
from testing.wire import judge_plan, openai_reply, serve
from tests.conftest import make_clip
from training.scenes.chains import text_examples


def record(item: Item, arm: str, text: str | None, error: str | None = None) -> dict[str, Any]:
    data = item_to_json(item)
    del data["id"]
    return {
        "key": record_key(item.id, arm, 0),
        "id": item.id,
        "arm": arm,
        "sample": 0,
        "status": "ok" if error is None else "error",
        "error": error,
        "item": data,
        "text": text,
    }


def write_run(folder: Path, n: int = 12, more: tuple[dict[str, Any], ...] = ()) -> Path:
    """Two arms over ``n`` scenes: one writes true traces, one leaves the last events out and invents a cat."""
    arms = [{"name": name, "model": "tiny-base", "mode": "mpar2"} for name in ("true", "poor")]
    manifest = build_manifest(benchmark={"name": "scenes"}, arms=arms, seed=0, engine={"name": "none"})
    with RunWriter(folder, manifest) as run:
        for number, example in enumerate(text_examples(n, 3, modes=("mpar2",))):
            events = tuple(event.as_event() for event in example.scene.events)
            item = Item(f"scene{number}", f"audio/{number}.wav", example.asked.question, events, None, "scene")
            run.append(record(item, "true", example.reply))
            run.append(record(item, "poor", f"<think>A donkey brays, and I hear {events[0].label}.</think>"))
        for line in more:
            run.append(line)
        run.finish({})
    return folder


class Opinion:
    """A judge that says what the reference says, except where it errs, and in a version of its own."""

    id = "server"
    model = "opinion"
    prompt_hash = "0"

    def __init__(self, version: str | list[str] = "v1", err: bool = False) -> None:
        self.versions = [version] if isinstance(version, str) else version
        self.err = err
        self.asked = 0

    async def judge(self, request: JudgeRequest) -> Verdict | Unscored:
        version = self.versions[self.asked % len(self.versions)]
        self.asked += 1
        verdict = annotate(request.trace, request.truth, choices=request.choices)
        mentions = verdict.mentions
        if self.err:
            mentions = tuple(
                replace(m, kind=MentionKind.NEUTRAL, events=()) if m.kind is MentionKind.HALLUCINATED else m
                for m in mentions
            )
        missed = missed_events(mentions, len(verdict.targets))
        return replace(
            verdict, mentions=mentions, missed=missed, judge=self.id, model=self.model, model_version=version
        )


def scored(run: Path, judge: Any = None, name: str = "reference", **options: Any) -> ScoreSet:
    return asyncio.run(score_run(run, judge or ReferenceJudge(), run / "cafe" / name, **options))


def test_scores_stand_beside_the_run_with_all_that_they_depend_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    found = scored(run)
    rates = found.rates()
    assert rates["true"]["acc_per"].micro.estimate == 1.0
    assert rates["true"]["err_omit"].micro.estimate == 0.0
    assert rates["poor"]["err_per"].numerator == 12 and rates["poor"]["acc_per"].micro.estimate < 0.7
    assert rates["poor"]["err_omit"].micro.estimate > 0.2
    assert read_scores(run).scores == found.scores
    summary = json.loads((run / "cafe/reference/metrics.json").read_text())
    assert (summary["judge"], summary["scored"], summary["truth_origins"]) == ("reference", 24, {"scene": 24})
    assert summary["arms"]["poor"]["err_per"]["numerator"] == 12
    line = json.loads((run / "cafe/reference/scores.jsonl").read_text().splitlines()[0])
    assert {"judge", "model", "model_version", "prompt_hash", "truth_origin", "package_version"} <= set(line["verdict"])
    assert line["counts"]["n_pred"] == line["counts"]["matched"]


def test_wrong_mentions_have_a_profile_along_the_trace(tmp_path: Path) -> None:
    events = (Event("dog bark", 0.0, 2.0), Event("siren", 4.0, 6.0), Event("male speech", 7.0, 9.0))
    text = (
        "<perception>A dog barks. A siren wails at 12 s.</perception><step><ask>Who?</ask><hear>A cow moos, and a "
        "woman is speaking.</hear></step><review>The dog barks three times, so it is so.</review><answer>a</answer>"
    )
    item = Item("i", "i.wav", Question("Who?"), events, None, "scene")
    found = scored(write_run(tmp_path / "run", 0, (record(item, "true", text),)))
    rows = found.profile_of("true", bins=4)
    wrong = [{name: row[name] for name in row if row[name]} for row in rows]
    assert wrong == [
        {"asserted": 2, "matched": 1, "temporal": 1},
        {"asserted": 2, "existence": 1, "semantic": 1},
        {"asserted": 1, "attribute": 1},
        {},
    ]
    assert read_scores(tmp_path / "run").profile_of("true", bins=4) == rows
    report = found.report()
    (step,) = (line.split() for line in report.splitlines() if line.startswith("step 1 "))
    assert step[2:] == ["2", "1", "1", "0", "0", "0"] and "80-100 %" in report
    summary = json.loads((tmp_path / "run/cafe/reference/metrics.json").read_text())
    assert summary["profile"]["true"] == found.profile_of("true") and summary["errors_by_part"]["true"]["step 1"]


def test_what_cannot_be_scored_is_counted_apart_and_never_zero(tmp_path: Path) -> None:
    bare = Item("bare", "x.wav", Question("What?"))
    known = Item("known", "x.wav", Question("What?"), (Event("dog bark"),))
    captioned = Item("captioned", "x.wav", Question("What?"), None, "A dog barks.", "caption:m")
    more = (
        record(bare, "true", "A dog."),
        record(known, "true", None, "out of memory"),
        record(captioned, "true", "A dog."),
    )
    found = scored(write_run(tmp_path / "run", 3, more))
    assert found.unscored == {"no_truth": 2, "error": 1}
    assert found.rates()["true"]["acc_per"].micro.estimate == 1.0
    assert "3 of 6 traces scored (2 no_truth, 1 error)" in found.report()


def test_a_second_start_judges_only_what_is_missing(tmp_path: Path) -> None:
    run, judge = write_run(tmp_path / "run", 4), Opinion()
    first = scored(run, judge, "x", limit=5)
    assert judge.asked == len(first.scores) == 5
    journal = run / "cafe/x/verdicts.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"key": "torn')
    both = scored(run, judge, "x")
    assert judge.asked == len(both.scores) == 8
    assert scored(run, judge, "x") == both and judge.asked == 8


def test_two_served_versions_never_share_a_table(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2)
    with pytest.raises(ScoreError, match=r"2 versions of the model: v1 \(2\), v2 \(2\)"):
        scored(run, Opinion(["v1", "v2"]), "mixed")
    assert not (run / "cafe/mixed/scores.jsonl").exists()
    with pytest.raises(ScoreError, match="2 versions of the model"):  # a service that changed within every trace
        scored(run, Opinion(["v1 + v2"]), "within")


def test_scores_of_one_judge_are_found_and_of_several_must_be_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2)
    with pytest.raises(ScoreError, match="no finished scores"):
        read_scores(run)
    scored(run)
    scored(run, Opinion(), "other")
    with pytest.raises(ScoreError, match=r"several judges \(cafe/other, cafe/reference\)"):
        read_scores(run)
    assert len(read_scores(run / "cafe/other").scores) == 4


def test_truths_of_people() -> None:
    truth = truth_from_json(
        [{"label": "dog", "onset_s": 1, "offset_s": 2, "level_db": -9}, {"label": "cat", "level_db": -3}]
    )
    assert truth.events[0] == Event("dog", 1.0, 2.0) and truth.levels_db == (-9.0, -3.0)
    assert truth_from_json({"cue": ["Throat Singing"]}).origin == "cue"
    assert truth_from_json({"caption": "A dog.", "truth_origin": "caption:m"}) == Truth(None, "A dog.", "caption:m")
    item = Item("i", "x", Question("q"), (Event("dog"),), None, "scene", {"levels_db": [-4.0]})
    assert truth_of(item) == Truth((Event("dog"),), None, "scene", (-4.0,))
    assert truth_of(Item("i", "x", Question("q"))) is None


@pytest.mark.parametrize(
    "bad",
    [{}, "dog", [3], [{"label": " "}], [{"label": "a", "onset_s": "x"}], [{"label": "a", "onset_s": float("nan")}],
     [{"label": "a", "onset_s": 3, "offset_s": 1}], {"caption": 5}, {"events": "dog"}],
)  # fmt: skip
def test_truths_that_say_nothing_are_refused(bad: Any) -> None:
    with pytest.raises(TruthError):
        truth_from_json(bad)


# Agreement


def test_a_judge_agrees_with_itself(tmp_path: Path) -> None:
    found = scored(write_run(tmp_path / "run"))
    same = compare_scores(found.scores, found.scores)
    assert same.kappa.estimate == 1.0 and same.kappa_missed.estimate == 1.0
    assert not same.disagreements and same.left_out == 0
    assert same.precision[MentionKind.MATCHED].estimate == same.recall[MentionKind.HALLUCINATED].estimate == 1.0


def test_disagreements_are_measured_by_kind_and_listed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    first, second = scored(run), scored(run, Opinion(err=True), "other")
    found = compare_scores(first.scores, second.scores)
    assert found.recall[MentionKind.HALLUCINATED].estimate == 0.0
    assert found.precision[MentionKind.HALLUCINATED].estimate is None
    assert found.recall[MentionKind.MATCHED].estimate == 1.0
    assert found.precision[MentionKind.NEUTRAL].estimate < 1.0
    assert 0.0 < found.kappa.estimate < 1.0 and found.kappa.low <= found.kappa.estimate <= found.kappa.high
    assert {(d.first, d.second) for d in found.disagreements} == {("hallucinated", "neutral")}
    assert found.confusion[1, 3] == len(found.disagreements) == 12


def test_two_items_of_one_clip_are_one_cluster_of_agreement(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    first, second = scored(run).scores, scored(run, Opinion(err=True), "other").scores
    one_clip = compare_scores([replace(score, clip="one.wav") for score in first], second).kappa
    assert one_clip.n == 1 and one_clip.low is None, "one clip has no interval"
    assert compare_scores(first, second).kappa.n > 1


def test_unlisted_mentions_count_against_both_rates(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    first = scored(run).scores
    second = []
    for score in first:
        mentions = score.outcome.mentions[1:]
        missed = missed_events(mentions, len(score.outcome.targets))
        second.append(replace(score, outcome=replace(score.outcome, mentions=mentions, missed=missed)))
    found = compare_scores(first, second)
    assert found.listed_by_second.estimate < 1.0 and found.listed_by_first.estimate == 1.0
    assert any(d.second == "unlisted" for d in found.disagreements)
    assert found.recall[MentionKind.HALLUCINATED].estimate == 0.0


def test_kappa_equals_the_textbook() -> None:
    # Cohen (1960), table 1: observed 0.70, expected 0.41, kappa 0.49
    assert float(kappa(np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]]))) == pytest.approx(0.4915, abs=1e-4)
    assert np.isnan(kappa(np.array([[5, 0], [0, 0]])))
    assert np.isnan(kappa(np.zeros((2, 2))))


def test_pairs_share_most_and_are_one_to_one() -> None:
    first = annotate("A dog barks and a cat meows", Truth((Event("dog bark"),))).mentions
    moved = tuple(replace(m, chars=type(m.chars)(m.chars.start + 1, m.chars.stop)) for m in reversed(first))
    assert pair_mentions(first, moved) == [(0, 1), (1, 0)]
    assert pair_mentions(first, ()) == []


def test_scores_of_different_runs_are_refused(tmp_path: Path) -> None:
    found = scored(write_run(tmp_path / "run", 2)).scores
    with pytest.raises(ScoreError, match="no scored trace in common"):
        compare_scores(found, [replace(score, key="other") for score in found])
    mention = found[0].outcome.mentions[0]
    said = replace(mention, quote="x" * len(mention.quote))
    other = replace(found[0], outcome=replace(found[0].outcome, mentions=(said, *found[0].outcome.mentions[1:])))
    with pytest.raises(ScoreError, match="scores of different runs"):
        compare_scores(found, [other, *found[1:]])


# Damage

CLIP = Truth(
    (Event("dog bark", 0.0, 2.0), Event("siren", 4.0, 6.0), Event("piano", 6.0, 7.0)), levels_db=(-1.0, -2.0, -3.0)
)


def test_no_damage_is_the_truth_itself() -> None:
    for damage in ("drop", "swap", "add"):
        assert damage_truth(CLIP, damage, 0.0, "k") == CLIP


def test_damage_does_what_its_name_says_and_only_grows() -> None:
    labels = {event.label for event in CLIP.events}
    for key in map(str, range(30)):
        assert damage_truth(CLIP, "drop", 1.0, key).events == ()
        swapped = damage_truth(CLIP, "swap", 1.0, key)
        assert not {event.label for event in swapped.events} & labels
        assert [e.onset_s for e in swapped.events] == [e.onset_s for e in CLIP.events]
        added = damage_truth(CLIP, "add", 1.0, key)
        assert len(added.events) == 6 and set(CLIP.events) <= set(added.events) and len(added.levels_db) == 6
        few, many = (set(damage_truth(CLIP, "drop", rate, key).events) for rate in (0.2, 0.6))
        assert many <= few
        assert damage_truth(CLIP, "add", 0.4, key) == damage_truth(CLIP, "add", 0.4, key)


def test_damage_invents_no_other_name_of_a_true_sound_and_keeps_open_what_is_open() -> None:
    voice = Truth((Event("male speech", 1.0), Event("dog bark")))
    for key in map(str, range(200)):
        swapped, added = (damage_truth(voice, damage, 1.0, key) for damage in ("swap", "add"))
        labels = {event.label for event in (*swapped.events, *added.events)} - {"male speech", "dog bark"}
        assert not labels & {"speech", "female speech", "child speech"}
        assert all(event.offset_s is None for event in added.events), "no length is known, so none is made up"


def test_damage_moves_the_metrics_it_must(tmp_path: Path) -> None:
    requests, _ = requests_of(read_run(write_run(tmp_path / "run", 20)).records())
    requests = {key: request for key, request in requests.items() if "|true|" in key}
    rows = damage_report(requests, [key.split("|")[0] for key in requests], rates=(0.0, 0.5), resamples=20)
    at = {(row.damage, row.rate): {name: rate.micro.estimate for name, rate in row.rates.items()} for row in rows}
    assert at["drop", 0.0] == at["add", 0.0] == at["swap", 0.0]
    assert at["drop", 0.5]["acc_per"] < 0.8 and at["drop", 0.5]["err_omit"] == 0.0
    assert at["add", 0.5]["err_omit"] > 0.15
    assert at["swap", 0.5]["acc_per"] < 0.8 and at["swap", 0.5]["err_omit"] > 0.2


def test_only_events_can_be_damaged() -> None:
    with pytest.raises(ValueError, match="caption"):
        damage_truth(Truth(None, "A dog."), "drop", 0.1, "k")
    with pytest.raises(ValueError, match="rate from 0 to 1"):
        damage_truth(CLIP, "drop", 10, "k")


# Commands


def test_the_commands_work_on_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", 4)
    assert main(["cafe", "score", str(run)]) == 0
    out = capsys.readouterr().out
    assert "true: 4 of 4 traces scored" in out and "acc_per" in out
    assert "mentions of the clean traces judged rightly" in out and "replies of the judge" not in out
    assert main(["cafe", "score", str(run), "--limit", "3", "--name", "again"]) == 0
    folders = [str(run / "cafe" / name) for name in ("reference", "again")]
    assert main(["cafe", "agree", *folders, "--out", str(tmp_path / "d.jsonl")]) == 0
    assert "kappa" in capsys.readouterr().out and (tmp_path / "d.jsonl").exists()
    assert main(["cafe", "damage", str(run), "--arm", "true", "--out", str(tmp_path / "damage.json")]) == 0
    assert len(json.loads((tmp_path / "damage.json").read_text())["rows"]) == 19
    audio = tmp_path / "audio"
    audio.mkdir()
    for number in range(4):
        (audio / f"{number}.wav").write_bytes(wav_bytes(make_clip(0.5, number)))
    page = tmp_path / "sheet.html"
    arguments = ["--scores", folders[0], "--audio-root", str(tmp_path), "--mentions", "6", "--out", str(page)]
    assert main(["cafe", "sheet", str(run), *arguments]) == 0
    assert "6 mentions of" in capsys.readouterr().out and page.stat().st_size > 16_000
    units = json.loads(re.search(r"application/json[^>]*>(.*?)</script>", page.read_text(), re.DOTALL)[1])["units"]
    saved = [tmp_path / f"{name}.json" for name in ("ann", "bob")]
    for path, kinds in zip(saved, (("matched", "neutral"), ("matched", "misused")), strict=True):
        told = {unit["id"]: kinds[number % 2] for number, unit in enumerate(units)}
        path.write_text(json.dumps({"format": "mpar2-cafe-ratings", "ratings": told}))
    assert main(["cafe", "rate", folders[0], *map(str, saved)]) == 0
    out = capsys.readouterr().out
    assert out.count("6 mentions rated") == 3 and "bob against ann: 6 mentions rated" in out
    assert "agreement 0.500" in out.split("bob against ann")[1]


def test_one_trace_from_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, truth = tmp_path / "trace.txt", tmp_path / "truth.json"
    trace.write_text("A dog barks, then a cat meows.\x1b[2J")
    truth.write_text('["Dog", "Siren"]')
    arguments = ["cafe", "trace", "--trace", str(trace), "--truth", str(truth), "--question", "What?"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "matched" in out and "hallucinated" in out and "missed" in out and "\x1b" not in out
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"]["n_pred"] == 2 and said["rates"]["err_omit"] == 0.5
    truth.write_text('{"caption": "A dog."}')
    assert main(arguments) == 1
    truth.write_text("{")
    assert main(arguments) == 2


def test_a_model_judge_is_not_paid_without_consent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", 2)
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    arguments = ["cafe", "score", str(run), "--judge", "server", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "requests, about" in err and "--yes" in err


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b"])
def test_names_of_scores_stay_inside_the_run(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run", 1)
    assert main(["cafe", "score", str(run), f"--name={name or '/'}"]) == 2


def test_audio_outside_of_its_folder_is_not_embedded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret.wav").write_bytes(wav_bytes(make_clip(0.5)))
    (tmp_path / "audio").mkdir()
    item = Item("i", "../secret.wav", Question("What?"), (Event("dog bark"),), None, "human")
    run = write_run(tmp_path / "run", 0, (record(item, "true", "A dog barks."),))
    assert main(["cafe", "score", str(run)]) == 0
    assert main(["cafe", "sheet", str(run), "--audio-root", str(tmp_path / "audio")]) == 2
    assert "not under" in capsys.readouterr().err


def test_evaluate_groups_are_items(tmp_path: Path) -> None:
    found = scored(write_run(tmp_path / "run", 6))
    counts, items = found.of_arm("poor")
    assert found.rates()["poor"] == evaluate(counts, items)
    assert isinstance(found.scores[0], TraceScore) and isinstance(found.scores[0].outcome.mentions[0], Mention)


def test_a_served_judge_scores_a_run_from_the_shell_and_is_paid_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", 3)
    with serve(judge_plan(openai_reply, version="served-3")) as server:
        service = ["--judge", "server", "--model", "qwen", "--base-url", server.url + "/v1"]
        arguments = ["cafe", "score", str(run), *service]
        assert main([*arguments, "--yes", "--limit", "2"]) == 0
        assert "poor: 1 of 1 traces scored" in capsys.readouterr().out
        paid = len(server.calls)
        assert paid <= 8, "two requests a trace: two traces, and one canary with its clean trace"
        assert main([*arguments, "--yes"]) == 0
        captured = capsys.readouterr()
        assert "traces to judge" in captured.err
        assert paid < len(server.calls)
        paid = len(server.calls)
        assert main([*arguments, "--yes"]) == 0
        assert len(server.calls) == paid
    assert "canaries: " in captured.out and " replies of the judge were read leniently" in captured.out
    summary = json.loads((run / "cafe/server-qwen/metrics.json").read_text())
    assert (summary["model"], summary["model_version"], summary["scored"]) == ("qwen", "served-3", 6)
    assert summary["input_tokens"] > 0 and summary["prompt_hash"]
    assert summary["lenient_replies"] == 0 < summary["replies"] <= 12
    assert summary["canary_counts"]["canaries"] == 1 and summary["canary_counts"]["clean_right"] > 0


def test_intervals_of_the_shell_are_those_of_the_report(tmp_path):
    """metrics.json of a judged run and the analysis of the same run give one number, clustered by clip."""
    from analysis.load import load_runs
    from analysis.metrics import metric_of, rate
    from mpar2.accuracy import summarise
    from mpar2.cafe.metrics import EventCounts
    from mpar2.runs.record import item_of
    from testing.synthetic import ARMS, write_run

    folder = write_run(tmp_path / "run", 30, ARMS[:2])
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    for line in lines:  # two questions about each clip
        line["item"]["audio"] = f"clip {int(line['id'].split()[-1]) // 2}.wav"
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    table = load_runs([folder])
    items = list({line["id"]: item_of(line) for line in lines}.values())
    metrics = summarise(read_run(folder).records(), items, {name: 1 for name in table.labels})
    for name in table.labels:
        part = table.frame[table.frame["arm"] == name]
        found, official = rate(part, metric_of("accuracy")), metrics["arms"][name]["official"]
        assert (found.estimate, found.low, found.high, found.clips) == tuple(official.values())
        assert found.clips == 15 and found.items == 30 == metrics["arms"][name]["items"]
        counts = part[["matched", "misused", "hallucinated", "missed"]].astype(int)
        events = [EventCounts(**row) for row in counts.to_dict("records")]
        core = evaluate(events, list(part["clip"]))["acc_per"].micro
        assert rate(part, metric_of("acc_per"))[:3] == core[:3]
