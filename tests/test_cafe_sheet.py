"""The rating sheet in a real browser, probes on a real small model, and attention grounding on known attention."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpar2.answers import read_answer
from mpar2.attention import AttentionRecord
from mpar2.audio import wav_bytes
from mpar2.cafe.grounding import event_columns, ground, grounding_report
from mpar2.cafe.probes import Probe, ProbeAnswer, ask_probes, make_probes, probe_record, probe_report, read_answers
from mpar2.cafe.rules.judge import annotate
from mpar2.cafe.schema import MentionKind, Truth
from mpar2.cafe.score import ScoreError, TraceScore
from mpar2.cafe.validation.rating_sheet import Ratings, choose_units, rate_judge, rate_person, read_ratings, sheet_html
from mpar2.engines.base import Arm, Decoding, Engine, Generation
from mpar2.question import Event, Question
from mpar2.trace import Span, parse_trace
from tests.conftest import make_clip

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> {data} {style_hash}"
)
TRUTH = Truth((Event("dog bark", 0.0, 2.0), Event("siren", 4.0, 6.0)))


def scores_and_records(n: int = 4) -> tuple[list[TraceScore], dict[str, dict]]:
    scores, records = [], {}
    for number in range(n):
        text = f"😀 A dog barks, then a siren wails at 9.0 s. Is it a cat? A cow moos. {HOSTILE} {number}"
        key = f"i{number}|a|0"
        scores.append(TraceScore(key, f"i{number}", "a", 0, annotate(text, TRUTH)))
        item = {"audio": f"{number}.wav", "question": f"What? {HOSTILE}", "choices": [HOSTILE, "dog"]}
        records[key] = {"text": text, "item": item}
    return scores, records


@pytest.fixture
def page() -> str:
    scores, records = scores_and_records()
    units = choose_units(scores, records, 8, seed=1)
    return sheet_html(units, lambda name: wav_bytes(make_clip(0.2, int(name[0]))))


def test_the_sheet_is_blind_balanced_and_self_contained(page: str) -> None:
    scores, records = scores_and_records()
    units = choose_units(scores, records, 8, seed=1)
    kinds = {(s.key, m.chars): m.kind for s in scores for m in s.outcome.mentions}
    drawn = [kinds[unit.key, Span(unit.start, unit.stop)] for unit in units]
    assert {kind: drawn.count(kind) for kind in MentionKind} == dict.fromkeys(MentionKind, 2)
    assert units == choose_units(scores, records, 8, seed=1) != choose_units(scores, records, 8, seed=2)
    data = json.loads(page.split('id="data">', 1)[1].split("</script>", 1)[0])
    assert set(data["units"][0]) == {"id", "audio", "question", "choices", "before", "quote", "after"}
    assert "http:" not in page and "https:" not in page and 'onerror="' not in page.split('id="data">')[0]
    assert page.count("</script>") == 2


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser here")
def test_a_person_rates_and_saves_and_hostile_text_stays_text(page: str, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    file = tmp_path / "sheet.html"
    file.write_text(page, encoding="utf-8")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        tab = browser.new_page()
        problems: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(file.as_uri())
        assert tab.title() == "CAFE rating sheet" and not problems
        assert tab.locator("li").count() == 8 and tab.locator("main img").count() == 0
        first = tab.locator("li").first
        assert HOSTILE in first.locator(".trace").inner_text()
        quote = first.locator("mark").inner_text()
        first.get_by_role("radio", name="matched", exact=True).check()
        tab.locator("li").nth(1).get_by_role("radio", name="cannot tell", exact=True).check()
        tab.get_by_label("Your name or initials").fill("A. B.")
        assert "2 of 8 rated" in tab.locator("output").inner_text()
        assert tab.evaluate("document.querySelector('audio').duration || 0") >= 0
        tab.reload()
        assert tab.locator("input:checked").count() == 2  # kept in the browser
        with tab.expect_download() as download:
            tab.get_by_role("button", name="Save the ratings as a file", exact=True).click()
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        browser.close()
    assert not problems and all(url.startswith(("file:", "data:")) for url in asked)
    ratings = read_ratings(saved)
    assert ratings.rater == "A. B." and sorted(ratings.kinds.values()) == ["cannot tell", "matched"]
    assert quote
    scores, _ = scores_and_records()
    report = rate_judge(ratings, scores)
    assert (report.units, report.cannot_tell, report.unrated) == (1, 1, 6) and "6 of the sheet not rated" in str(report)


def test_people_are_measured_against_the_judge() -> None:
    scores, records = scores_and_records(6)
    units = choose_units(scores, records, 24)
    kinds = {(s.key, m.chars): str(m.kind) for s in scores for m in s.outcome.mentions}
    told = {unit.id: kinds[unit.key, Span(unit.start, unit.stop)] for unit in units}
    perfect = rate_judge(Ratings("p", "s", told), scores)
    assert perfect.agreement.estimate == perfect.kappa.estimate == 1.0 and perfect.units == 24
    lenient = {unit: "matched" if kind == "misused" else kind for unit, kind in told.items()}
    report = rate_judge(Ratings("l", "s", lenient), scores)
    assert report.precision[MentionKind.MISUSED].estimate == 0.0
    assert report.recall[MentionKind.MATCHED].estimate == 0.5
    assert report.agreement.estimate == 0.75 and "kappa" in str(report)
    both = rate_person(Ratings("p", "s", told), Ratings("l", "s", lenient))
    assert both.agreement.estimate == 0.75 and both.units == 24 and both.rater == "p"
    assert both.precision[MentionKind.MATCHED].estimate == 0.5 and both.recall[MentionKind.MISUSED].estimate == 0.0
    unsure = Ratings("u", "s", dict.fromkeys(told, "cannot tell"))
    for nobody in (
        lambda: rate_judge(Ratings("x", "s", {"unknown": "matched"}), scores),
        lambda: rate_person(Ratings("p", "s", told), unsure),
    ):
        with pytest.raises(ScoreError, match="none of the (1|24) ratings.*same sheet"):
            nobody()


@pytest.mark.parametrize("text", ["{", "{}", '{"format": "mpar2-cafe-ratings", "ratings": {"a": "great"}}', "[]"])
def test_files_that_are_no_ratings_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ScoreError, match="no file of ratings"):
        read_ratings(path)


# Probes


def test_probes_ask_for_each_label_and_as_many_absent_ones() -> None:
    truth = Truth((Event("dog bark", 0, 1), Event("Zither"), Event("dog bark", 3, 4)))
    probes = make_probes("i", truth, seed=1)
    assert sorted(p.label for p in probes if p.present) == ["Zither", "dog bark"]
    absent = [p for p in probes if not p.present]
    assert len(absent) == 2 and not {p.label for p in absent} & {"dog bark"}
    asked = {p.label: p.question for p in probes}
    assert asked["dog bark"].text == "Do you hear a dog bark?" and asked["dog bark"].answer == "Yes"
    assert asked["Zither"].text == "Do you hear this sound: Zither?"
    assert asked[absent[0].label].answer == "No"
    assert probes == make_probes("i", truth, seed=1) != make_probes("i", truth, seed=2)
    with pytest.raises(ValueError, match="only a caption"):
        make_probes("i", Truth(None, "A dog."))


def test_kinds_of_a_true_sound_are_never_called_absent() -> None:
    for seed in range(60):
        probes = make_probes("i", Truth((Event("male speech"), Event("Bark"))), seed=seed)
        assert not {p.label for p in probes if not p.present} & {"speech", "dog bark"}


def answers(rights: list[tuple[str, bool, bool | None]]) -> list[ProbeAnswer]:
    return [
        ProbeAnswer(Probe(item, f"sound {number}", present, Question("?")), yes)
        for number, (item, present, yes) in enumerate(rights)
    ]


def test_always_yes_is_worth_a_half_and_silence_is_counted_apart() -> None:
    report = probe_report(
        answers([("a", True, True), ("a", False, True), ("b", True, True), ("b", False, True), ("b", True, None)])
    )
    assert report.accuracy.estimate == 0.5 and report.hits.estimate == 1.0 and report.correct_rejections.estimate == 0.0
    assert (report.items, report.probes, report.unanswered) == (2, 5, 1)
    assert "1 unanswered" in str(report)
    assert probe_report([]).accuracy.estimate is None
    assert probe_report(answers([("a", True, None)])).accuracy.estimate is None


def test_two_items_of_one_clip_are_one_cluster_and_share_their_probes() -> None:
    given = [ProbeAnswer(Probe(item, "bell", True, Question("?")), True) for item in ("a", "b", "c")]
    given += [ProbeAnswer(Probe(item, "drum", False, Question("?")), item == "c") for item in ("a", "b", "c")]
    report = probe_report(given, {"a": "1.wav", "b": "1.wav", "c": "2.wav"})
    assert (report.items, report.clips, report.probes) == (3, 2, 4)
    assert report.correct_rejections.estimate == 0.5 and report.accuracy.n == 2


def test_certified_absences_are_asked_first() -> None:
    probes = make_probes("i", Truth((Event("dog bark", 0, 1), Event("bell", 3, 4))), absent=["Zither", "bell"])
    absent = [probe.label for probe in probes if not probe.present]
    assert len(absent) == 2 and "Zither" in absent and "bell" not in absent


def test_a_trace_is_scored_by_its_answer() -> None:
    class Reasons(Engine):
        def generate_batch(self, requests, decoding=None, *, batch_size=8, attention="none"):
            text = "<perception>A dog barks. No, nothing else.</perception><answer>Yes</answer>"
            trace = parse_trace(text)
            choices = (request.question.choices for request in requests)
            return [
                Generation(r.arm, text, trace, (), 0, 0.0, 0.0, 1.0, "stop", read_answer(trace, c).choice)
                for r, c in zip(requests, choices, strict=True)
            ]

    probes = make_probes("i", TRUTH)
    found = ask_probes(Reasons(), Arm("any", "any"), {"i": make_clip()}, probes)
    assert all(answer.yes for answer in found) and probe_report(found).unanswered == 0


def test_a_real_model_is_asked(tiny_checkpoint: Path) -> None:
    from mpar2.engines.transformers import TransformersEngine

    probes = make_probes("i", TRUTH)
    arm = Arm("small", str(tiny_checkpoint), None, "direct")
    said = ask_probes(TransformersEngine(device="cpu"), arm, {"i": make_clip()}, probes, Decoding(max_new_tokens=4))
    assert [answer.probe for answer in said] == probes
    assert probe_report(said).probes == 4
    record = json.loads(json.dumps({"answers": probe_record(said)}))
    assert read_answers(record, probes) == said


# Grounding


def attention(weights: np.ndarray, frame_s: float = 0.04) -> AttentionRecord:
    tokens, columns = weights.shape
    rows = np.repeat(weights[:, None, None, :], 2, axis=1).astype(np.float16)
    mass = rows.sum(axis=-1).astype(np.float32)
    return AttentionRecord(rows, mass, np.full(tokens, 100, np.int32), columns, frame_s)


def test_attention_inside_the_event_is_told_from_chance() -> None:
    text = "A dog barks, a siren wails, a cat meows"
    spans = [Span(i, i + 1) for i in range(len(text))]
    verdict = annotate(text, TRUTH)
    weights = np.full((len(text), 200), 0.001)  # 8 s
    dog, siren, _ = verdict.mentions
    weights[dog.chars.start : dog.chars.stop, 0:50] = 0.005  # on the dog, five times as much
    found = ground(verdict, TRUTH.events, attention(weights), spans)
    assert [g.mention for g in found] == ["m1", "m2"]
    assert found[0].chance == pytest.approx(0.25) and found[0].inside == pytest.approx(0.625, abs=1e-3)
    assert found[0].lift == pytest.approx(2.5, abs=0.01) and found[1].lift == pytest.approx(1.0, abs=0.01)
    assert found[1].tokens == Span(siren.chars.start, siren.chars.stop)
    report = grounding_report([found, found], ["a", "b"])
    assert report["lift"].estimate == pytest.approx(1.75, abs=0.01) and report["inside"].n == 2


def test_a_sink_is_no_grounding() -> None:
    text = "A dog barks"
    spans = [Span(i, i + 1) for i in range(len(text))]
    weights = np.full((len(text), 200), 0.001)
    weights[:, 3] = 0.5  # inside the dog's interval at every token
    verdict = annotate(text, TRUTH)
    assert ground(verdict, TRUTH.events, attention(weights), spans)[0].lift == pytest.approx(1.0, abs=0.02)
    assert ground(verdict, TRUTH.events, attention(weights), spans, keep_sinks=True)[0].lift > 2


def test_columns_count_in_part_and_once() -> None:
    record = attention(np.ones((1, 4)), frame_s=1.0)
    events = (Event("a", 0.5, 2.0), Event("b", 1.0, 2.25), Event("c"))
    assert event_columns(events, (0, 1), record) == pytest.approx([0.5, 1.0, 0.25, 0.0])
    assert event_columns(events, (2,), record).sum() == 0.0


def test_what_has_no_time_or_no_rows_is_left_out_or_refused() -> None:
    verdict = annotate("A dog barks", Truth((Event("dog"),)))
    record = attention(np.ones((3, 10)))
    assert ground(verdict, (Event("dog"),), record, [Span(0, 4), Span(4, 8), Span(8, 11)]) == []
    with pytest.raises(ValueError, match="not the same generation"):
        ground(verdict, (Event("dog"),), record, [Span(0, 4)])
    bare = replace(record, rows=record.rows[..., :0], heads="none")
    with pytest.raises(ValueError, match="attention='full'"):
        ground(verdict, (Event("dog"),), bare, [])
