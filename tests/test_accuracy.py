"""Scores of runs: as the official scripts give them; right, wrong, unparsable, missing and withheld told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from asking import arm, ask
from conftest import make_clip

from mpar2.accuracy import summarise
from mpar2.items import read_items
from mpar2.question import Item, Question, string_match
from testing.wire import openai_reply, serve

# Scores


def official_script(entries, key, kinds):
    """What the official scripts count, written from their description: right and asked, by kind."""
    counts = {}
    for entry in entries:
        if key not in entry:
            continue
        right = string_match(entry["answer"], entry[key], entry["choices"])
        for kind in kinds:
            both = counts.setdefault((kind, entry[kind] if isinstance(entry[kind], str) else None), [0, 0])
            both[0] += right
            both[1] += 1
    return counts


@pytest.mark.parametrize(
    ("benchmark", "file", "key", "kinds"),
    [
        (
            "mmau",
            "mmau.json",
            "model_output",
            {"task": "domain", "difficulty": "difficulty", "sub-category": "sub_category"},
        ),
        ("mmar", "mmar.jsonl", "answer_prediction", {"modality": "domain", "category": "category"}),
    ],
)
def test_official_files_come_back_with_predictions(tmp_path, benchmark, file, key, kinds):
    source = Path(__file__).parent / "data" / "items" / file
    root = tmp_path / "audio"
    root.mkdir()
    items = read_items(benchmark, source, root)
    for item in items.items[:-1]:  # the last one has no audio, so no answer
        soundfile.write(root / Path(item.audio).name, make_clip(0.3).samples, 16_000)

    def plan(call):
        item = next(item for item in items.items if item.question.text in call.text)
        wrong = item.id == "0003"
        choices = item.question.choices
        letter = "ABCDEF"[choices.index(item.question.answer) + (2 if wrong else 0)]
        return openai_reply(f"<think>Because.</think><answer>({letter})</answer>")

    with serve(plan) as server:
        metrics = ask(server.url, items, [arm("our arm")], tmp_path / "run")["arms"]["our arm"]
    (path,) = (tmp_path / "run" / "predictions").iterdir()
    text = path.read_text(encoding="utf-8")
    written = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    original = list(items.official)
    new = {"model_output", "model_prediction", "answer_prediction", "thinking_prediction"}
    assert [{k: v for k, v in entry.items() if k not in new} for entry in written] == original
    assert not set(written[-1]) & new, "an item without answer has no key"
    assert written[0]["thinking_prediction"] == "<think>Because.</think>"
    counts = official_script(written, key, kinds)
    totals = [both for (kind, _), both in counts.items() if kind == next(iter(kinds))]
    right, asked = sum(both[0] for both in totals), sum(both[1] for both in totals)
    assert metrics["official_denominator"]["estimate"] == right / asked
    assert metrics["official_denominator"]["n"] == asked and metrics["official"]["n"] == asked + 1
    for (kind, value), (good, all_) in counts.items():
        found = metrics["by"][kinds[kind]][value.lower() if kind == "difficulty" else value]
        assert found["official_denominator"]["estimate"] == good / all_


def line(id, choice, prediction, sample=0, tokens=10, status="ok", arm="a"):
    return {
        "key": f"{id}|{arm}|{sample}", "id": id, "arm": arm, "sample": sample, "status": status, "error": "no sound",
        "item": {"choices": ["dog", "cat"], "answer": None if id == "w" else "dog"}, "choice": choice,
        "prediction": prediction, "tokens": tokens, "finish": "stop",
    }  # fmt: skip


def item(id):
    return Item(id, f"{id}.wav", Question("?", ("dog", "cat"), None if id == "w" else "dog", "sound"))


def test_right_wrong_unparsable_missing_and_withheld_are_told_apart():
    records = [
        line("r", "dog", "dog"),
        line("x", "cat", "cat"),
        line("u", None, "a dog barks"),
        line("w", "dog", "dog"),
    ]
    records.append(line("m", None, None, status="error"))
    found = summarise(records, [item(id) for id in "rxuwm"], {"a": 1})["arms"]["a"]
    assert (found["asked"], found["answered"], found["failed"]) == (5, 4, 1)
    assert (found["scored"], found["missing"], found["answer_withheld"], found["unparsable"]) == (4, 1, 1, 1)
    assert found["official"]["estimate"] == 0.5, "the official rule takes the words of an unparsable answer"
    assert found["official_denominator"]["estimate"] == pytest.approx(2 / 3)
    assert found["strict"]["estimate"] == 0.25


def test_the_form_that_was_asked_for_is_a_rate_beside_accuracy():
    texts = ["<think>a bark</think><answer>dog</answer>", "dog", "<answer>dog</answer>", "<think>x</think>dog"]
    records = [line(str(n), "dog", "dog") | {"text": text} for n, text in enumerate(texts)]
    items = [item(str(n)) for n in range(4)]
    rate = {
        form: summarise(records, items, {"a": 1}, forms={"a": form})["arms"]["a"]["form"] for form in ("cot", "direct")
    }
    assert (rate["cot"]["estimate"], rate["direct"]["estimate"], rate["cot"]["n"]) == (0.25, 0.25, 4)
    assert summarise(records, items, {"a": 1}, forms={"a": None})["arms"]["a"]["form"] is None, "no form was asked for"


def test_a_majority_of_samples():
    votes = {"p": ["dog", "cat", "cat", "cat"], "q": ["cat", "dog", "dog", "dog"]}
    records = [line(id, c, c, n) for id, choices in votes.items() for n, c in enumerate(choices)]
    found = summarise(records, [item("p"), item("q")], {"a": 4})["arms"]["a"]
    assert found["official"] == pytest.approx({"estimate": 0.5, "low": 0.25, "high": 0.75, "n": 2})
    by_size = {row["samples"]: (row["official"]["estimate"], row["tokens"]) for row in found["self_consistency"]}
    assert by_size == {1: (0.5, 10), 2: (0.5, 20), 4: (0.5, 40)}


def test_arms_are_compared_on_the_items_that_both_answered():
    records = [line(str(n), "dog", "dog", arm="a") for n in range(8)]
    records += [line(str(n), "cat", "cat", arm="b") for n in range(6)]
    (pair,) = summarise(records, [item(str(n)) for n in range(8)], {"a": 1, "b": 1})["pairs"]
    assert (pair["arms"], pair["items"], pair["mcnemar"]["only_first"]) == (["a", "b"], 6, 6)
    assert pair["difference"]["estimate"] == -1.0 and pair["mcnemar"]["p_value"] == pytest.approx(0.03125)


def test_a_run_without_answers_has_no_rates():
    found = summarise([], [item("w")], {"a": 1})
    assert found["arms"]["a"]["official"] == {"estimate": None, "low": None, "high": None, "n": 0}
    json.dumps(found, allow_nan=False)
