"""Official files are read unchanged, versions are told by content, and a wrong file is named as such."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import BENCHMARK_FILES

from mpar2.cli import main
from mpar2.items import ItemsError, read_items
from mpar2.question import Event, Item, Question, item_to_json, match_choice, string_match

DATA = Path(__file__).parent / "data" / "items"


def official(name: str) -> Path:
    """An official question file: from MPAR2_BENCHMARK_FILES, or ``shared/benchmarks`` beside this checkout."""
    if not (BENCHMARK_FILES / name).is_file():
        pytest.skip(f"{name} is not here: put the official files into a folder and name it in MPAR2_BENCHMARK_FILES")
    return BENCHMARK_FILES / name


def test_mmau_fields():
    found = read_items("mmau", DATA / "mmau.json")
    first, second = found.items[:2]
    assert first == Item(
        "0001",
        "./test-mini-audios/0001.wav",
        Question(
            "Who is speaking?", ("Man", "Woman", "A child", "Robot"), "Man", "speech", "Reasoning", "Speakers", "easy"
        ),
    )
    assert second.question.category == "Reasoning" and second.question.difficulty == "medium"
    assert found.official[1]["category"] == ["Reasoning"], "the entry itself stays as it was"
    assert found.version.startswith("unknown")
    assert found.problems[0] == "1 items give the same choice twice (first: 0003)"
    assert found.problems[1].startswith("4 of 4 audio files are not there")


def test_mmar_fields():
    church, people = read_items("mmar", DATA / "mmar.jsonl").items
    assert church.events == (Event("Reverberation"), Event("Organ")) and church.truth_origin == "cue"
    assert church.question.domain == "mix-sound-speech" and church.extra == {"language": "en"}
    assert people.events is None and people.truth_origin is None and people.question.answer == "三个人"


def test_mmar_as_the_older_array(tmp_path):
    lines = [json.loads(line) for line in (DATA / "mmar.jsonl").read_text(encoding="utf-8").splitlines()]
    (tmp_path / "MMAR-meta.json").write_text(json.dumps(lines))
    array, lines = read_items("mmar", tmp_path / "MMAR-meta.json"), read_items("mmar", DATA / "mmar.jsonl")
    assert (array.form, lines.form) == ("json", "jsonl")
    assert array.items == lines.items and array.fingerprint == lines.fingerprint


def test_avqa_fields():
    (item,) = read_items("avqa", DATA / "avqa.jsonl").items
    assert item.id == "183" and item.question.text == "What happened in the audio?"
    assert item.question.answer == "Yacht consignment"


def test_items_of_our_own_and_scenes(tmp_path):
    item = Item(
        "s1",
        "audio/s1.flac",
        Question("Which is first?", ("dog", "cat"), "dog"),
        (Event("dog", 0.5, 1.25),),
        None,
        "scene",
    )
    (tmp_path / "items.jsonl").write_text(json.dumps(item_to_json(item)) + "\n\n")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "s1.flac").write_bytes(b"")
    found = read_items("scenes", tmp_path)
    assert found.items == (item,) and found.problems == ()
    assert found.audio_path(item) == tmp_path / "audio" / "s1.flac"
    assert read_items("jsonl", tmp_path / "items.jsonl").items == (item,)


def test_scenes_without_truth_are_refused(tmp_path):
    (tmp_path / "items.jsonl").write_text('{"audio": "a.wav", "question": "What?"}\n')
    assert read_items("jsonl", tmp_path).items[0].id == "1"
    with pytest.raises(ItemsError, match="choose --benchmark jsonl"):
        read_items("scenes", tmp_path)


def test_audio_in_one_flat_folder_is_found(tmp_path):
    (tmp_path / "0001.wav").write_bytes(b"")
    found = read_items("mmau", DATA / "mmau.json", tmp_path)
    assert found.audio_path(found.items[0]) == tmp_path / "0001.wav"


def test_fingerprint_is_of_the_content(tmp_path):
    records = json.loads((DATA / "mmau.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps([dict(reversed(r.items())) for r in records], indent=8))
    records[2]["answer"] = "Guitar"
    (tmp_path / "b.json").write_text(json.dumps(records))
    found, same, other = (read_items("mmau", p) for p in (DATA / "mmau.json", tmp_path / "a.json", tmp_path / "b.json"))
    assert found.fingerprint == same.fingerprint != other.fingerprint
    assert found.first(2).fingerprint == other.first(2).fingerprint != found.fingerprint
    assert len(found.first(2).items) == len(found.first(2).official) == 2
    with pytest.raises(ItemsError, match="at least one item"):
        found.first(0)


@pytest.mark.parametrize(
    ("benchmark", "content", "message"),
    [
        ("mmau", "{}", "JSON array"),
        ("mmau", "[1]", "entry 1: int where an object"),
        ("mmau", "[" * 100_000, "not the JSON array"),
        ("mmau", '[{"id": "1", "audio_id": "a", "question": "q", "choices": "ab"}]', "at least two texts"),
        ("mmau", '[{"id": "1", "question": "q", "choices": ["a", "b"]}]', "'audio_id' is missing"),
        ("mmar", '{"id": 3}\n', "line 1|entry 1"),
        ("mmar", '{"id": "a"\n', "line 1: not JSON"),
        (
            "avqa",
            '{"id": 1, "question_text": "q", "multi_choice": ["a", "b"], "answer": 2, "audio_path": "a"}',
            "index of",
        ),
        (
            "avqa",
            '{"id": 1, "question_text": "q", "multi_choice": ["a", "b"], "answer": true, "audio_path": "a"}',
            "index",
        ),
        ("jsonl", "", "holds no item"),
        ("jsonl", '{"audio": "a", "question": "q", "events": [{"label": 3}]}', "text as 'label'"),
        (
            "jsonl",
            '{"id": "x", "audio": "a", "question": "q"}\n{"id": "x", "audio": "b", "question": "q"}',
            "must differ",
        ),
    ],
)
def test_a_wrong_file_is_named(tmp_path, benchmark, content, message):
    (tmp_path / "f").write_text(content)
    with pytest.raises(ItemsError, match=message):
        read_items(benchmark, tmp_path / "f")


def test_unknown_benchmark_and_missing_file(tmp_path):
    with pytest.raises(ItemsError, match="choose one of mmau, mmar"):
        read_items("mmlu", tmp_path)
    with pytest.raises(ItemsError, match="does not exist"):
        read_items("mmau", tmp_path / "none.json")


def test_versions_of_the_official_mmau(tmp_path):
    revised = read_items("mmau", official("mmau-test-mini.json"))
    original = read_items("mmau", official("mmau-test-mini.original.json"))
    assert revised.version.startswith("v05.15.25 (commit f0a4a97")
    assert original.version.startswith("original (commit 1f675a9")
    counts = {d: sum(i.question.difficulty == d for i in revised.items) for d in ("easy", "medium", "hard")}
    assert counts == {"easy": 224, "medium": 540, "hard": 236}
    assert {i.question.category for i in revised.items} == {"Reasoning", "Information Extraction"}
    for name, version in (
        ("mmau-test-mini.json", "v05.15.25"),
        ("mmau-test-mini.original.json", "original"),
    ):
        (tmp_path / name).write_text(json.dumps(json.loads(official(name).read_text())[100:900]))
        assert read_items("mmau", tmp_path / name).version.startswith(f"{version}, part or other")


def test_the_official_mmar():
    found = read_items("mmar", official("MMAR-meta.jsonl"))
    assert found.version.startswith("2026-02") and len(found.items) == 1000
    assert sum(item.question.domain == "speech" for item in found.items) == 294
    assert sum(item.truth_origin == "cue" for item in found.items) == 977, "23 items list no cue"


@pytest.mark.parametrize(
    ("benchmark", "name", "counts"),
    [
        ("mmau", "mmau-test-mini.json", (1000, 967, 907, 2, 9)),
        ("mmar", "MMAR-meta.jsonl", (1000, 985, 910, 0, 20)),
    ],
)
def test_counts_of_the_official_rule_on_the_official_files(benchmark, name, counts):
    """What the rule makes of: the choice, "(letter) choice", a sentence, a letter; and wrong choices it takes."""
    found = dict.fromkeys(("text", "lettered", "sentence", "letter", "wrong"), 0)
    mapped = 0
    for item in read_items(benchmark, official(name)).items:
        answer, choices = item.question.answer, item.question.choices
        letter = chr(ord("A") + choices.index(answer))
        found["text"] += string_match(answer, answer, choices)
        found["lettered"] += string_match(answer, f"({letter}) {answer}", choices)
        found["sentence"] += string_match(answer, f"The answer is {answer}.", choices)
        found["letter"] += string_match(answer, letter, choices)
        found["wrong"] += any(string_match(answer, c, choices) for c in choices if c != answer)
        mapped += string_match(answer, match_choice(f"({letter}) {answer}", choices) or "", choices)
    assert tuple(found.values()) == counts
    assert mapped == 1000, "with the choice mapped first, nothing is lost"


def test_the_form_of_the_readme_and_of_the_help_is_the_one_that_is_read(tmp_path, capsys):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    written = re.search(r"```json\n(.*?)```", readme, re.DOTALL)[1]
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    helped = re.search(r'\{"audio".*\}', capsys.readouterr().out)[0]
    lines = [" ".join(written.split()), helped]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    first, second = read_items("jsonl", tmp_path).items
    assert first.events[1] == Event("a dog bark", 2.0, 2.4) and first.question.answer in first.question.choices
    assert second.question.answer == "a bell" and second.id == "2"
