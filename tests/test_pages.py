"""The pages without a browser: documents, examples, running, scoring, export, and what visitors are told."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip

from mpar2.attention import attention_ratio, corrected_ratio, heatmap
from mpar2.audio import AudioError, Clip, load_clip, wav_bytes
from mpar2.cafe.rules.judge import annotate
from mpar2.engines.base import EngineError
from mpar2.engines.transformers import TransformersEngine
from mpar2.formats import Limits
from mpar2.question import QuestionError
from mpar2.runs.lines import dump_json, write_bytes
from mpar2.trace import Span, trace_to_json
from pages.attention_pack import attention_document, pack, record_of, unpack
from pages.attention_view import attention_view, peaks, smooth
from pages.claims import claims_of
from pages.document import DocumentError, check_document, complete, with_claims
from pages.errors import message_of
from pages.examples import EXAMPLES, first_example, load_examples, stored_comparison
from pages.export import SLOT, page_shell, to_html, view_js
from pages.opinion import tagging_of
from pages.running import Asked, Comparer, parse_events
from pages.scoring import Judging, JudgingError, cafe_document
from pages.services import Offer, Services, StopBoard, first_arms
from pages.spectrogram import mel_picture
from pages.store import make_comparison
from pages.units import passages, words
from testing.browser import ARMS, QUESTION, TRACES, document, generation, write_example


@pytest.fixture(scope="module")
def services(tiny_checkpoint: Path, tiny_adapter: Path) -> Services:
    offers = (
        Offer("small-base", str(tiny_checkpoint), None),
        Offer("small-mpar2", str(tiny_checkpoint), str(tiny_adapter)),
    )
    return Services(
        engine=TransformersEngine(), offers=offers, limits=Limits(max_seconds=8.0), max_new_tokens=24, local=False
    )


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "sound.wav"
    path.write_bytes(wav_bytes(make_clip(1.5)))
    return str(path)


def asked(recording: str, **options: Any) -> Asked:
    arms = (("small-base", "cot"), ("small-mpar2", "mpar2"))
    return Asked(recording, "What comes first?", "dog bark\nbell", **({"arms": arms, "max_new_tokens": 6} | options))


# ---- arrays, pictures --------------------------------------------------------------------------------------------


def test_packed_values_stay_within_a_fraction_of_their_rows_maximum() -> None:
    values = np.random.default_rng(0).gamma(0.3, 1.0, (2, 3, 50)).astype(np.float32)
    values[0, 0] = 0
    back = unpack(json.loads(json.dumps(pack(values))))
    assert back.shape == values.shape
    assert (np.abs(back - values) <= values.max(axis=-1, keepdims=True) / 500 + 1e-9).all()


def test_unpack_refuses_sizes_that_contradict_each_other() -> None:
    packed = pack(np.ones((2, 4)))
    with pytest.raises(ValueError, match="holds 8 values"):
        unpack(packed | {"shape": [2, 5]})


def test_the_page_of_a_long_comparison_stays_light() -> None:
    """30 s of noise, the hardest sound to pack, and 512 tokens: at most 1.5 MB with scripts, sound and pictures."""
    text = f"<perception>{' a dog bark at 2 s' * 80}</perception>{'<review>a dog bark at 2 s</review>' * 20}"
    assert len(generation(ARMS[1], text).tokens) >= 512
    clip = Clip(np.random.default_rng(0).normal(scale=0.1, size=30 * 16_000), "noise.wav")
    page = to_html(document((text, text), clip=clip))
    assert len(page.encode()) <= 1_500_000


def test_the_spectrogram_shows_a_tone_in_its_band_and_silence_as_nothing() -> None:
    times = np.arange(16_000) / 16_000
    picture = mel_picture(Clip(np.sin(2 * np.pi * 1000 * times)))
    image = np.frombuffer(base64.b64decode(picture["data"]), np.uint8).reshape(picture["shape"])
    band = int(image.mean(axis=1).argmax())
    assert 20 <= band <= 26  # 1 kHz is mel 15 of 45.2: band 15 / 45.2 * 65 - 1
    columns = picture["shape"][1]
    assert abs(picture["start_s"] + columns * picture["column_s"] - 1.0) <= 0.02  # placed, not stretched
    assert mel_picture(Clip(np.zeros(16_000)))["shape"][0] == 64
    silent = mel_picture(Clip(np.zeros(16_000)))
    assert set(base64.b64decode(silent["data"])) == {0}


@pytest.mark.parametrize("budget", [10**7, 40_000, 30_000, 6_000, 500])
def test_attention_fits_its_budget_and_keeps_the_whole_trace(budget: int) -> None:
    made = generation(ARMS[1], TRACES[1])
    packed = attention_document(made.attention, made.trace, budget)
    tokens = unpack(packed["tokens"])
    assert tokens.shape[2] == len(made.tokens) and packed["columns"] == tokens.shape[3]
    assert packed["columns"] * packed["column_s"] >= 6.0 - 1e-6
    assert abs(packed["ratio"] - made.attention.mass.mean()) < 1e-6
    assert packed["layers"], packed["heads"] == (3, 2)
    if budget == 10**7:
        assert packed["parts"] is None and tokens.shape[:2] == (3, 2)
        mean = tokens.mean(axis=(0, 1))
        assert np.allclose(mean, heatmap(made.attention).values, atol=mean.max() / 200)
    if budget in (40_000, 30_000):  # parts keep layers and heads, and the columns their width, after single tokens do
        parts = unpack(packed["parts"])
        assert parts.shape[:2] == (3, 2) and parts.shape[2] == len(packed["parts_of"]) and packed["columns"] == 150
        assert tokens.shape[:2] == ((3, 1) if budget == 40_000 else (1, 1))


def test_attention_at_rest_is_read_back_as_the_record_that_it_was() -> None:
    made = generation(ARMS[1], TRACES[1])
    record = record_of(json.loads(json.dumps(attention_document(made.attention, made.trace, 10**7))))
    assert record.rows.shape == made.attention.rows.shape and record.heads == "all"
    assert np.allclose(attention_ratio(record), attention_ratio(made.attention), atol=0.003)
    whole = heatmap(made.attention).values
    assert np.abs(heatmap(record).values - whole).max() <= whole.max() / 100


# ---- what the page draws -----------------------------------------------------------------------------------------


def rows_of(made: Any) -> tuple[Any, Any]:
    tokens = [(token.chars.start, token.chars.stop) for token in made.tokens]
    parts = json.loads(json.dumps(trace_to_json(made.trace)))["parts"]
    return passages(made.text, parts, tokens), words(made.text, tokens)


def opened(pictures: dict[str, Any], mode: str) -> np.ndarray:
    packed = pictures[mode]
    return unpack(packed | {"data": pictures[packed["as"]]["data"]} if packed["data"] is None else packed)


@pytest.mark.parametrize(("arm", "sink"), [(0, True), (1, False)])
def test_the_page_draws_what_the_library_computes(arm: int, sink: bool) -> None:
    made = generation(ARMS[arm], TRACES[arm], sink=sink)
    rows, spoken = rows_of(made)
    view = attention_view(made.attention, rows, spoken, 6.0)
    groups = [Span(*row.tokens) for row in rows]
    assert bool(view["sinks"]) is sink and ("raw_clean" in view["views"][0]["pictures"]) is sink
    for mode, correction, clean in (("raw", "none", False), ("length", "length", False), ("raw_clean", "none", True)):
        if clean and not sink:
            continue
        for pictures, some in (
            (view["views"][0]["pictures"], groups),
            (view["words"], [Span(*w.tokens) for w in spoken]),
        ):
            expected = heatmap(made.attention, some, correction=correction, remove_sink=clean).values
            assert np.abs(opened(pictures, mode) - expected).max() <= expected.max() / 400
    ratio, corrected = attention_ratio(made.attention), corrected_ratio(made.attention)
    assert np.allclose(view["course"]["raw"], smooth(ratio), rtol=1e-3)
    assert np.isclose(view["ratio"], ratio.mean()) and np.isclose(view["corrected"], corrected.mean())
    third = len(ratio) // 3
    assert np.allclose(view["thirds"]["length"], [corrected[:third].mean(), corrected[-third:].mean()])
    for row, share in zip(rows, view["views"][0]["shares"]["raw"], strict=True):
        assert np.isclose(share, ratio[slice(*row.tokens)].mean(), atol=1e-4)
    single = next(one for one in view["views"] if one["label"] == "Layer 2")
    expected = heatmap(made.attention, groups, [1]).values
    assert np.abs(opened(single["pictures"], "raw") - expected).max() <= expected.max() / 400


def test_a_caption_never_says_another_number_than_its_drawing() -> None:
    """The sentence names the rows with the highest and the lowest share, with the numbers that the rows show."""
    for arm, text in zip(ARMS, TRACES, strict=True):
        made = generation(arm, text)
        view = attention_view(made.attention, *rows_of(made), 6.0)
        shares = view["views"][0]["shares"]["raw"]
        best, least = int(np.argmax(shares)), int(np.argmin(shares))
        names = [passage["name"][0].lower() + passage["name"][1:] for passage in view["passages"]]
        said = view["summary"]["raw"]
        assert f"most in {names[best]} ({100 * shares[best]:.0f} %" in said
        assert f"least in {names[least]} ({100 * shares[least]:.0f} %)" in said
        where = view["peaks"]["passages"][best][0]
        assert f"around {where[0]:.1f}–{where[1]:.1f} s" in said


def test_few_tokens_have_no_thirds_and_no_line_leaves_its_axis() -> None:
    short = generation(ARMS[0], "a siren")
    assert attention_view(short.attention, *rows_of(short), 6.0)["thirds"] is None
    made = document()
    top = made["scales"]["line"]["raw"]
    assert top == max(max(arm["attention"]["course"]["raw"]) for arm in made["arms"])


def test_words_light_up_where_they_attend_and_few_at_a_time() -> None:
    text = "a dog bark then a siren"
    made = generation(ARMS[0], text)
    record = made.attention
    rows = np.full_like(record.rows, 1e-4)
    rows[5, ..., 80:100] = 0.02  # "dog" ... is token 1 or 2; the sixth token attends to 3.2-4.0 s
    some, spoken = rows_of(made)
    view = attention_view(replace(record, rows=rows), some, spoken, 6.0)
    index = next(i for i, word in enumerate(spoken) if word.tokens[0] <= 5 < word.tokens[1])
    lit = [light for light in view["lights"] if light[0] == index]
    assert len(lit) == 1 and abs(lit[0][1] - 3.2) <= 0.12 and abs(lit[0][2] - 4.0) <= 0.16
    noisy = attention_view(record, some, spoken, 6.0)["lights"]
    for time in np.arange(0, 6, 0.05):
        assert sum(start <= time < stop for _, start, stop in noisy) <= 5


def test_peaks_are_the_runs_that_hold_most_and_nothing_of_nothing() -> None:
    row = np.full(150, 0.001)
    row[25:40], row[100:110] = 0.05, 0.04
    first, second = peaks(row, 0.04, 6.0)
    assert abs(first[0] - 1.0) <= 0.1 and abs(first[1] - 1.6) <= 0.1 and first[2] > second[2]
    assert peaks(np.zeros(150), 0.04, 6.0) == []


def test_passages_cover_the_trace_and_sentences_stand_for_free_text() -> None:
    free, formed = (rows_of(generation(arm, text))[0] for arm, text in zip(ARMS, TRACES, strict=True))
    assert [row.short for row in free][:2] == ["S1", "S2"]
    assert [row.name for row in formed] == [
        "Perception",
        "Step 1 asks",
        "Step 1 hears",
        "Step 1 concludes",
        "Review",
        "Answer",
    ]
    for rows in (free, formed):
        assert all(a.tokens[1] <= b.tokens[0] for a, b in zip(rows, rows[1:], strict=False))
    spoken = words("<answer>a dog's bark at 0.5 s</answer>", [(0, 8), (8, 9), (9, 13), (13, 15), (15, 38)])
    assert [word.chars for word in spoken][:2] == [(8, 9), (10, 15)]


def test_claims_agree_with_the_counts_and_say_why() -> None:
    for arm in document()["arms"]:
        cafe = arm["cafe"]
        fates = [claim["fate"] for claim in cafe["claims"]]
        for fate in ("matched", "misused", "hallucinated", "missed"):
            assert fates.count(fate) == cafe["counts"][fate], fate
        assert all(claim["why"].endswith(".") for claim in cafe["claims"])
    right, wrong = (
        {"kind": "matched", "label": "dog", "events": [0]},
        {"kind": "misused", "label": "dog", "events": [0]},
    )
    wrong |= {"reason": "wrong time: '1 s' (dog 3-4 s)"}
    (claim, missed) = claims_of([right, right, wrong], ["dog", "cat"])
    assert (claim["fate"], claim["said"], claim["right"]) == ("misused", 3, 2) and missed["fate"] == "missed"
    assert claim["why"] == "Named 3 times: 2 right, 1 at a wrong time. One wrong use makes the claim wrong."


def test_differences_are_told_against_the_first_arm_that_claims_anything() -> None:
    made = document()
    first, second = made["arms"]
    assert first["against"] is None and second["against"]["base"] == 0
    assert second["against"]["right_claims"] == second["cafe"]["counts"]["matched"] - first["cafe"]["counts"]["matched"]
    silent = json.loads(json.dumps(first)) | {
        "cafe": first["cafe"] | {"counts": dict.fromkeys(first["cafe"]["counts"], 0)}
    }
    three = complete(made | {"arms": [silent, first, second]})
    assert [arm["against"] and arm["against"]["base"] for arm in three["arms"]] == [None, None, 1]


def test_a_stored_comparison_of_version_1_is_read_as_if_it_were_made_now() -> None:
    made = [generation(arm, text, sink=arm is ARMS[0]) for arm, text in zip(ARMS, TRACES, strict=True)]
    now = document()
    old = json.loads(json.dumps(now)) | {"version": 1}
    del old["scales"]
    old["clip"]["mel"] = {"shape": [64, 598], "data": base64.b64encode(bytes(64 * 598)).decode()}
    for arm, one in zip(old["arms"], made, strict=True):
        del arm["words"], arm["against"]
        arm["tokens"] = [[token.chars.start, token.chars.stop] for token in one.tokens]
        arm["attention"] = attention_document(one.attention, one.trace, 300_000)
    read = check_document(old)
    assert check_document(read) is read and read["version"] == 2
    for arm, expected in zip(read["arms"], now["arms"], strict=True):
        assert arm["words"] == expected["words"] and "tokens" not in arm
        assert np.allclose(arm["attention"]["course"]["raw"], expected["attention"]["course"]["raw"], rtol=0.02)
        assert arm["cafe"]["claims"] == expected["cafe"]["claims"]


# ---- the document ------------------------------------------------------------------------------------------------


def test_a_finished_document_is_strict_json_and_passes_its_own_check() -> None:
    made = document(example="yard")
    again = json.loads(json.dumps(made, allow_nan=False))
    assert check_document(again) == again

    def plain(value: Any) -> bool:  # Gradio would send a number of NumPy as a text
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return type(value) in (dict, list, str, int, float, bool, type(None)) and all(map(plain, inner))

    assert plain(made)
    left, right = made["arms"]
    assert (left["correct"], right["correct"]) == (False, True)
    assert right["cafe"]["metrics"]["err_omit"] == 0 and left["cafe"]["counts"]["hallucinated"] >= 1
    assert made["clip"]["audio"].startswith("data:audio/flac;base64,")


def test_an_answer_outside_the_choices_is_wrong_as_in_an_evaluation() -> None:
    left, right = document(("<answer>a flute</answer>", "<think>a dog bark, then</think>"))["arms"]
    assert (left["answer"], left["choice"], left["correct"], left["unscored"]) == ("a flute", None, False, None)
    assert (right["answer"], right["correct"], right["unscored"]) == (None, False, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format="other"), "other"),
        (lambda d: d["arms"].clear(), "0 arms"),
        (lambda d: d["clip"].update(seconds=float("nan")), "clip.seconds: .* finite"),
        (lambda d: d["clip"].update(audio="https://example.com/spy.wav"), "clip.audio"),
        (lambda d: d["clip"]["mel"].update(shape=[64, 9]), "spectrogram"),
        (lambda d: d["arms"][0].update(token_count="12"), "arms.0.token_count"),
        (lambda d: d["arms"][0].update(surprise=1), "arms.0.surprise"),
        (lambda d: d["arms"][1]["cafe"]["claims"][0].update(mentions=[99]), "counts mentions"),
        (lambda d: d["arms"][1]["cafe"]["mentions"][0].update(events=[9]), "not among its 3"),
        (lambda d: d["arms"][1]["attention"]["lights"].append([9999, 0, 1]), "lights up"),
        (lambda d: d["arms"][0]["against"] or d["arms"][1]["against"].update(base=3), "does not come before"),
        (lambda d: d["arms"][0]["parts"][0].update(chars=[5, 2]), "5:2"),
        (lambda d: d["arms"][1]["parts"][2].update(parent=40), "before its parent"),
        (lambda d: d["arms"][0]["attention"]["views"][0]["pictures"]["raw"].update(data="AAAA"), "holds 3 values"),
        (lambda d: d["arms"][0]["words"].append([5, 5, 0, 1]), "a word of"),
        (lambda d: d.update(arms=d["arms"] * 3), "6 arms"),
        (lambda d: d.pop("question"), "question"),
    ],
)
def test_a_damaged_document_is_refused_with_the_reason(change: Any, says: str) -> None:
    made = json.loads(json.dumps(document()))
    change(made)
    with pytest.raises(DocumentError, match=says):
        check_document(made)


def test_a_link_holds_the_question_and_the_clip_only_where_it_is_an_example() -> None:
    from urllib.parse import parse_qs

    link = parse_qs(document(example="yard")["link"])
    assert link["q"] == [QUESTION.text] and link["choice"] == list(QUESTION.choices)
    assert link["example"] == ["yard"] and link["arm2"] == ["tiny-mpar2:mpar2"]
    assert "example" not in parse_qs(document()["link"])


# ---- export ------------------------------------------------------------------------------------------------------

HOSTILE = "</script><img src=x onerror=alert(1)>${alert(1)}{{x}}<!--\u2028'\"`"


def test_the_exported_page_holds_no_text_that_could_end_its_data_and_reaches_nobody() -> None:
    page = to_html(document((HOSTILE, f"<answer>{HOSTILE}</answer>")))
    data = re.search(r'<script type="application/json" id="document">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(data)["arms"][0]["text"] == HOSTILE
    assert "<img" not in page and SLOT not in page
    script = re.search(r"<script>(.*?)</script></body>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"sha256-{digest}" in page.replace("&#x27;", "'")
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_the_slot_of_the_shell_occurs_once() -> None:
    assert page_shell().count(SLOT) == 1


def test_the_view_never_parses_strings_as_markup() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", view_js())


# ---- running -----------------------------------------------------------------------------------------------------


def test_a_run_streams_stages_and_ends_with_both_arms(services: Services, recording: str) -> None:
    documents = list(Comparer(services).run(asked(recording, events="dog bark 0.1-0.9"), "me"))
    stages = {arm["stage"] for each in documents for arm in each["arms"]}
    last = documents[-1]
    assert {"queued", "listening", "done"} <= stages and last["status"] == "done"
    for arm in last["arms"]:
        assert arm["attention"]["views"] and 0 < arm["attention_ratio"] < 1 and arm["token_count"] <= 6
    assert last["truth"]["origin"] == "visitor"
    assert documents[0]["status"] == "running" and documents[0]["arms"][0]["text"] == ""
    shown = json.dumps(last)
    assert str(services.offers[0].model) not in shown and "small-base" in shown


def test_an_own_recording_is_checked_against_a_taggers_opinion_which_is_never_called_truth(
    services: Services, tmp_path: Path
) -> None:
    bark = str(EXAMPLES / "recording-dog-bark" / "clip.flac")
    comparer = Comparer(services)
    first, *_, last = comparer.run(asked(bark), "me")
    assert first["status"] == "running" and first["truth"] is None and last["truth"] is None
    found = last["opinion"]["events"]
    assert "dog bark" in [event["label"] for event in found] and "opinion" in last["opinion"]["note"]
    assert all(0 < event["confidence"] <= 1 for event in [*found, *last["opinion"]["unsure"]])
    assert all(arm["cafe"]["truth_origin"] == "tagger" for arm in last["arms"] if arm["text"].strip())
    again, *_ = comparer.run(asked(bark), "me")
    assert again["opinion"] == last["opinion"]  # tagged before: there from the start

    tagging = tagging_of(load_clip(bark))
    unsure = tagging.unsure[0].label
    text = f"<perception>A dog bark, a piano and a {unsure}.</perception><answer>neither</answer>"
    cafe = with_claims(cafe_document(annotate(text, tagging.truth())))
    kinds = {mention["label"]: mention["kind"] for mention in cafe["mentions"]}
    assert kinds["dog bark"] == "matched" and kinds["piano"] == "hallucinated" and kinds[unsure] == "neutral"
    said = " ".join([*(claim["why"] for claim in cafe["claims"]), *(mention["why"] for mention in cafe["mentions"])])
    assert "tagger" in said and "clip" not in said and "ight" not in said and "tagger" in cafe["source"]

    corrected = list(comparer.run(asked(bark, events="dog bark 0.4-1.4"), "me"))[-1]
    assert corrected["truth"]["origin"] == "visitor" and corrected["opinion"] == last["opinion"]
    assert {arm["cafe"]["truth_origin"] for arm in corrected["arms"] if arm["cafe"]} <= {"visitor"}


def test_stopping_keeps_what_was_written(services: Services, recording: str) -> None:
    comparer = Comparer(services)
    documents = []
    for each in comparer.run(asked(recording, max_new_tokens=24), "me"):
        documents.append(each)
        if any(arm["stage"] == "reasoning" for arm in each["arms"]):
            services.stops.stop("me")
    last = documents[-1]
    assert last["status"] == "stopped"
    assert all(arm["finish"] == "cancelled" and arm["token_count"] < 24 for arm in last["arms"])
    assert list(comparer.run(asked(recording), "me"))[-1]["status"] == "done"  # and the model is free again


def test_leaving_the_page_frees_the_model(services: Services, recording: str) -> None:
    run = Comparer(services).run(asked(recording, max_new_tokens=24), "gone")
    for each in run:
        if any(arm["stage"] == "reasoning" for arm in each["arms"]):
            break
    run.close()
    done = list(Comparer(services).run(asked(recording), "next"))
    assert done[-1]["status"] == "done"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"arms": (("/etc", "cot"),)}, EngineError, "no checkpoint '/etc' here"),
        ({"arms": (("small-base", "loud"),)}, EngineError, "unknown mode 'loud'"),
        ({"max_new_tokens": 10_000}, EngineError, "choose 1 to 24"),
        ({"temperature": 9}, EngineError, "temperature 9"),
        ({"answer": "cat"}, QuestionError, "cat"),
        ({"events": "dog bark 7-9"}, QuestionError, "not within the clip"),
        ({"judging": Judging("gemini")}, JudgingError, "needs a key"),
        ({"judging": Judging("server", "k", "http://localhost:1/v1", "m")}, JudgingError, "https"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_runs(
    services: Services, recording: str, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        next(Comparer(services).run(asked(recording, **options), "me"))


def test_audio_is_held_to_the_limits_of_the_app(services: Services, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio yet"):
        next(Comparer(services).run(asked(None), "me"))
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(make_clip(9.0)))
    with pytest.raises(AudioError, match="8"):
        next(Comparer(services).run(asked(str(path)), "me"))


def test_events_are_read_as_people_write_them() -> None:
    events = parse_events("dog bark 0.5-1.5 \n\n siren 2s–3.5s\nrain\n", 8.0)
    assert [(e.label, e.onset_s, e.offset_s) for e in events] == [
        ("dog bark", 0.5, 1.5),
        ("siren", 2.0, 3.5),
        ("rain", None, None),
    ]
    assert parse_events("  \n", 8.0) is None
    assert parse_events("dog bark 1,0 - 1,5", 8.0)[0].offset_s == 1.5
    assert parse_events("MP3 player\nR2-D2", 8.0)[1].label == "R2-D2"
    with pytest.raises(QuestionError, match="no name"):
        parse_events(" 1-2", 8.0)
    for line in ("bad line here - x", "dog 1.5-", "dog 0,5", "dog 1:20-1:30"):  # never a sound of that name
        with pytest.raises(QuestionError, match="cannot be read"):
            parse_events(line, 8.0)


def test_a_second_run_of_a_session_ends_the_first() -> None:
    board = StopBoard()
    first = board.begin("a")
    second = board.begin("a")
    board.end("a", first)
    board.stop("a")
    assert first.is_set() and second.is_set()
    board.stop("unknown")


# ---- examples ----------------------------------------------------------------------------------------------------


def test_examples_come_in_order_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    write_example(tmp_path, "b", stored=document() | {"clip": document()["clip"] | {"audio": None}})
    write_example(tmp_path, "a", seconds=5.0)
    (write_example(tmp_path, "broken") / "example.json").write_text("{", encoding="utf-8")
    write_example(tmp_path, "unlicensed", credits="", licence="")
    (tmp_path / "index.json").write_text('{"order": ["b", "a"], "first": "a"}', encoding="utf-8")
    examples = load_examples(tmp_path)
    assert [example.name for example in examples] == ["b", "a"]
    assert first_example(examples, tmp_path) == "a"
    shown = stored_comparison(examples[0])
    assert shown["stored"] and shown["clip"]["audio"].startswith("data:audio/flac")
    assert stored_comparison(examples[1]) is None
    examples[0].comparison_path.write_text('{"format": "mpar2.comparison", "version": 99}', encoding="utf-8")
    assert stored_comparison(examples[0]) is None


def test_the_first_example_is_the_one_in_which_the_difference_is_plainest(tmp_path: Path) -> None:
    def stored(free: bool, trained: bool, gain: float) -> dict[str, Any]:
        made = document()
        for arm, mode, right, rate in zip(
            made["arms"], ("cot", "mpar2"), (free, trained), (0.2, 0.2 + gain), strict=True
        ):
            arm |= {"mode": mode, "correct": right, "cafe": arm["cafe"] | {"metrics": {"acc_per": rate}}}
        return made | {"clip": made["clip"] | {"audio": None}}

    for name, outcome in {
        "a": (True, True, 0.7),
        "b": (False, True, 0.1),
        "c": (False, True, 0.3),
        "d": (True, False, 0.5),
    }.items():
        write_example(tmp_path, name, stored=stored(*outcome))
    examples = load_examples(tmp_path)
    assert first_example(examples, tmp_path) == "c"
    assert [card["group"] for card in (example.card() for example in examples)] == [
        "Both right",
        "MPAR² helps",
        "MPAR² helps",
        "MPAR² harms",
    ]
    assert examples[2].card()["shows"] == "free reasoning wrong, MPAR² right"


def test_every_clip_is_credited_in_the_readme_of_the_examples() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for file in EXAMPLES.glob("*/example.json"):
        data = json.loads(file.read_text(encoding="utf-8"))
        row = next((line for line in readme.splitlines() if f"`{file.parent.name}`" in line), "")
        assert data["credits"] in row and data["licence"] in row, "run: python examples/credits.py"


def test_an_example_is_known_by_its_sound_and_brings_its_truth(services: Services, tmp_path: Path) -> None:
    folder = write_example(tmp_path / "examples", "yard")
    mine = replace(services, examples=load_examples(tmp_path / "examples"))
    copy = tmp_path / "my upload.wav"
    copy.write_bytes((folder / "clip.wav").read_bytes())
    run = list(Comparer(mine).run(asked(str(copy)), "me"))[-1]
    assert run["example"] == "yard" and run["truth"]["origin"] == "scene" and run["question"]["answer"] is None
    same = Asked(str(copy), QUESTION.text, "\n".join(QUESTION.choices), (("small-base", "direct"),), max_new_tokens=4)
    assert list(Comparer(mine).run(same, "me"))[-1]["question"]["answer"] == "Twice"
    assert mine.example_of(make_clip()) is None


def test_a_stored_comparison_is_made_and_read_back(services: Services, tmp_path: Path) -> None:
    write_example(tmp_path, "yard")
    mine = replace(services, examples=load_examples(tmp_path), max_new_tokens=8)
    made = make_comparison(mine, mine.examples[0])
    assert made["clip"]["audio"] is None
    assert [(arm["name"], arm["mode"]) for arm in made["arms"]] == list(first_arms(mine.offers))
    assert [arm["mode"] for arm in made["arms"]] == ["direct", "cot", "mpar2"]
    path = mine.examples[0].comparison_path
    write_bytes(path, dump_json(made))
    assert path.stat().st_size < 1_500_000 and not list(path.parent.glob(".*"))
    assert stored_comparison(mine.examples[0])["arms"] == made["arms"]


# ---- judging -----------------------------------------------------------------------------------------------------


# ---- errors, settings --------------------------------------------------------------------------------------------


def test_unknown_errors_tell_a_number_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    shown = message_of(RuntimeError("/home/secret/path"))
    number = re.search(r"error ([0-9a-f]{6})", shown)[1]
    assert "/home" not in shown and number in caplog.text
    assert message_of(EngineError("too long")) == "too long"


def test_launch_settings_suit_an_app_for_strangers() -> None:
    pytest.importorskip("gradio")
    from pages import launch_settings

    settings = launch_settings()
    assert settings["allowed_paths"] == [] and settings["show_error"] is False and settings["run_history"] is False
    assert settings["max_file_size"] == "20mb"
    assert not re.search(r"https?://(?!www\.w3\.org/)", settings["theme"]._get_theme_css())


def test_occlusion_tells_which_windows_an_answer_needs(services: Services, recording: str) -> None:
    *_, made = Comparer(services).run(asked(recording), "session")
    text, digest = made["arms"][1]["text"], made["clip"]["digest"]
    one = asked(recording, arms=(("small-mpar2", "mpar2"),))
    *steps, last = Comparer(services).occlude(one, text, digest, "session")
    assert "of 20 windows are done" in steps[0]["summary"] and None in steps[0]["drops"]
    assert len(last["drops"]) == 20 == len(last["edges_s"]) - 1 and None not in last["drops"]
    assert "log-probability of the answer falls" in last["summary"] and "Rank correlation" in last["summary"]
    made["arms"][1]["occlusion"] = last
    assert check_document(json.loads(json.dumps(made)))["arms"][1]["occlusion"] == last
    made["arms"][1]["occlusion"] = last | {"drops": last["drops"][:-1]}
    with pytest.raises(DocumentError, match="windows of an occlusion"):
        check_document(made)
    with pytest.raises(AudioError, match="another sound"):
        next(Comparer(services).occlude(one, text, "0" * 16, "session"))


def test_a_page_that_is_not_gradios_stays_as_it_is() -> None:
    from pages.first_screen import FirstScreen

    screen = FirstScreen(None, module="view/0/app.js", brand="<h1>MPAR²</h1>", first="view/0/first.json")
    assert (
        screen.page("<html><head></head><body>no app</body></html>") == "<html><head></head><body>no app</body></html>"
    )


def test_programs_can_call_both_endpoints(services: Services, recording: str) -> None:
    pytest.importorskip("gradio")
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    from pages import build_app, launch_settings

    demo = build_app(services)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=None, **launch_settings())
    try:
        client = Client(url, verbose=False)
        named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        assert set(named) == {"/compare", "/reason"}
        one = client.predict(handle_file(recording), "What comes first?", "a\nb", max_new_tokens=4, api_name="/reason")
        assert {"answer", "choice", "mode", "model", "text", "trace", "tokens", "seconds"} <= set(one)
        assert one["model"] == "small-mpar2" and one["tokens"] <= 4 and 0 < one["attention_ratio"] < 1
        both = client.predict(handle_file(recording), "First?", "a\nb", max_new_tokens=4, api_name="/compare")
        assert both["status"] == "done" and len(both["arms"]) == 2 and "attention" not in both["arms"][0]
        options = {"max_new_tokens": 4, "full": True, "api_name": "/compare"}
        assert check_document(client.predict(handle_file(recording), "First?", "a\nb", **options))["clip"]["audio"]
        with pytest.raises(AppError, match="question is empty"):
            client.predict(handle_file(recording), " ", "", max_new_tokens=4, api_name="/reason")
    finally:
        demo.close()
