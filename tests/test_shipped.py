"""The pair that ships and what is stored of it: small, silent about where it was made, and as its stored runs say."""

from __future__ import annotations

import json

import pytest

from mpar2.engines.base import Arm, Decoding
from mpar2.engines.names import CHECKPOINTS
from mpar2.engines.transformers import TransformersEngine
from mpar2.trace import is_wellformed
from pages.examples import first_example, load_examples, stored_comparison

PAIR = ("tiny-base", "tiny-mpar2")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(device="cpu")


def ask(engine: TransformersEngine, example, arm: Arm):
    decoding = Decoding(max_new_tokens=400)
    *_, last = engine.stream(example.clip, example.question, [arm], decoding)
    return last.generation


def test_the_pair_is_at_most_60_mb_and_has_cards():
    files = [path for name in PAIR for path in (CHECKPOINTS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 60_000_000
    assert all((CHECKPOINTS / name / "README.md").is_file() for name in PAIR)


def test_nothing_says_where_it_was_made():
    for path in CHECKPOINTS.rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "/root/" not in text and "/home/" not in text and "/work/" not in text, path.name
    config = json.loads((CHECKPOINTS / "tiny-mpar2" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-base"


def test_mpar2_writes_whole_traces_and_mostly_names_a_choice(engine):
    generations = [ask(engine, example, Arm("mpar2", "tiny-mpar2", None, "mpar2")) for example in load_examples()]
    assert sum(is_wellformed(g.trace) for g in generations) >= len(generations) - 1
    assert sum(g.choice is not None for g in generations) > len(generations) / 2


def test_there_are_examples_of_each_kind_and_each_has_a_stored_comparison_with_credits():
    examples = load_examples()
    assert len(examples) >= 8 and {e.kind for e in examples} == {"recording", "scene"}
    for example in examples:
        document = stored_comparison(example)
        assert document is not None and len(document["arms"]) == 3, example.name
        assert example.credits and example.events
    assert first_example(examples) in {e.name for e in examples}


def test_a_stored_comparison_is_what_the_pair_says_now(engine):
    example = next(e for e in load_examples() if e.kind == "recording")
    stored = stored_comparison(example)["arms"][-1]
    now = ask(engine, example, Arm("mpar2", "tiny-mpar2", None, "mpar2"))
    assert now.text[:40] == stored["text"][:40]
