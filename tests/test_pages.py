"""The pages without a browser: documents, examples, running, scoring, export, and what visitors are told."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip

from mpar2.attention import heatmap
from mpar2.audio import AudioError, Clip, wav_bytes
from mpar2.engines.base import EngineError
from mpar2.engines.transformers import TransformersEngine
from mpar2.formats import Limits
from mpar2.question import QuestionError
from pages.arrays import pack, unpack
from pages.attention_pack import attention_document
from pages.document import DocumentError, check_document
from pages.errors import message_of
from pages.examples import EXAMPLES, first_example, load_examples, stored_comparison
from pages.export import SLOT, page_shell, to_html, view_js
from pages.running import Asked, Comparer, parse_events
from pages.scoring import Judging, JudgingError
from pages.services import Offer, Services, StopBoard
from pages.spectrogram import mel_picture
from pages.store import make_comparison, write_comparison
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


# ---- the document ------------------------------------------------------------------------------------------------


def test_a_finished_document_is_strict_json_and_passes_its_own_check() -> None:
    made = document(example="yard")
    again = json.loads(json.dumps(made, allow_nan=False))
    assert check_document(again) == again
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
        (lambda d: d["clip"].update(seconds=float("nan")), "nan"),
        (lambda d: d["arms"][0]["parts"][0].update(chars=[5, 2]), "5:2"),
        (lambda d: d["arms"][1]["parts"][2].update(parent=40), "before its parent"),
        (lambda d: d["arms"][0]["attention"]["tokens"].update(data="AAAA"), "holds 3 values"),
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
        assert arm["attention"]["tokens"] and 0 < arm["attention_ratio"] < 1 and arm["token_count"] <= 6
    assert last["truth"]["origin"] == "visitor"
    assert documents[0]["status"] == "running" and documents[0]["arms"][0]["text"] == ""
    shown = json.dumps(last)
    assert str(services.offers[0].model) not in shown and "small-base" in shown


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
    with pytest.raises(QuestionError, match="no name"):
        parse_events(" 1-2", 8.0)


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


def test_every_clip_is_credited_in_the_readme_of_the_examples() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for file in EXAMPLES.glob("*/example.json"):
        data = json.loads(file.read_text(encoding="utf-8"))
        row = next((line for line in readme.splitlines() if f"`{file.parent.name}`" in line), "")
        assert data["credits"] in row and data["licence"] in row, "run: python examples/credits.py"


def test_an_example_is_known_by_its_sound_and_brings_its_truth(services: Services, tmp_path: Path) -> None:
    from dataclasses import replace

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
    from dataclasses import replace

    write_example(tmp_path, "yard")
    mine = replace(services, examples=load_examples(tmp_path), max_new_tokens=8)
    made = make_comparison(mine, mine.examples[0])
    assert made["clip"]["audio"] is None
    path = write_comparison(mine.examples[0], made)
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
