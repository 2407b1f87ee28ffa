"""The pairs that ship and what is stored of them: small, silent about where they were made, and as they say now."""

from __future__ import annotations

import json

import pytest

from mpar2.engines.base import Arm, Decoding, Generation, Request
from mpar2.engines.names import BASE, CHECKPOINTS, TRAINED
from mpar2.engines.transformers import TransformersEngine
from mpar2.trace import is_wellformed
from pages.examples import EXAMPLES, Example, first_example, load_examples, stored_comparison

MEGABYTES = {"small-base": 160, "small-mpar2": 25, "tiny-base": 30, "tiny-mpar2": 5}
ASKED = 8  # examples, the shortest: the pair runs on whatever processor there is


@pytest.fixture(scope="module")
def asked() -> list[Example]:
    return sorted(load_examples(), key=lambda example: example.clip.seconds)[:ASKED]


@pytest.fixture(scope="module")
def generations(asked: list[Example]) -> list[Generation]:
    """What MPAR² says to these examples, in one batch."""
    arm = Arm("mpar2", TRAINED, None, "mpar2")
    requests = [Request(example.clip, example.question, arm) for example in asked]
    return TransformersEngine(device="cpu").generate_batch(requests, Decoding(max_new_tokens=512), batch_size=ASKED)


@pytest.mark.parametrize("name", MEGABYTES)
def test_a_checkpoint_is_small_in_files_that_a_repository_takes_and_has_a_card(name: str) -> None:
    sizes = [path.stat().st_size for path in (CHECKPOINTS / name).rglob("*") if path.is_file()]
    assert sum(sizes) <= 1_000_000 * MEGABYTES[name] and max(sizes) < 95_000_000
    assert (CHECKPOINTS / name / "README.md").is_file()


def test_nothing_says_where_it_was_made() -> None:
    for path in (*CHECKPOINTS.rglob("*.json"), *(EXAMPLES / "runs").rglob("*.json")):
        text = path.read_text(encoding="utf-8")
        assert "/root/" not in text and "/home/" not in text and "/work/" not in text, path.name
    for base, adapter in ((BASE, TRAINED), ("tiny-base", "tiny-mpar2")):
        config = json.loads((CHECKPOINTS / adapter / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == base


def test_mpar2_writes_whole_traces(generations: list[Generation]) -> None:
    assert sum(is_wellformed(g.trace) for g in generations) >= len(generations) - 1


def test_mpar2_names_a_choice_in_most_stored_comparisons() -> None:
    examples = load_examples()
    choices = [stored_comparison(example)["arms"][-1]["choice"] for example in examples]
    assert sum(choice is not None for choice in choices) > len(choices) / 2


def test_there_are_examples_of_each_kind_and_each_has_a_stored_comparison_with_credits() -> None:
    examples = load_examples()
    assert len(examples) >= 8 and {e.kind for e in examples} == {"recording", "scene"}
    for example in examples:
        document = stored_comparison(example)
        assert document is not None and len(document["arms"]) == 3, example.name
        assert {arm["model"] for arm in document["arms"]} == {BASE, TRAINED}, example.name
        assert example.credits and example.events
    assert first_example(examples) in {e.name for e in examples}


def test_a_stored_comparison_is_what_the_pair_says_now(asked: list[Example], generations: list[Generation]) -> None:
    """Its first words, in all examples but one: bfloat16 rounds otherwise on another processor and in another batch."""
    alike = [
        now.text[:40] == stored_comparison(example)["arms"][-1]["text"][:40]
        for example, now in zip(asked, generations, strict=True)
    ]
    assert sum(alike) >= len(alike) - 1
