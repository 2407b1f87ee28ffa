"""The judge by rules on the English of large models: traces that people labelled, all of them seen by now."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.scoring import TEMPLATE, TRUTH, rate
from mpar2.cafe.rules.judge import annotate
from mpar2.cafe.schema import Truth, validate_verdict
from mpar2.question import Event
from testing.labelled_traces import agreement_with, read_labelled

DATA = Path(__file__).parent / "data"


def test_agrees_with_people_on_the_constructions_it_was_written_for() -> None:
    found = agreement_with(annotate, read_labelled(DATA / "cafe_traces.txt"))
    assert found.mentions >= 120
    assert found.agreed / found.mentions >= 0.97 and found.invented <= 1, found.differences


@pytest.mark.parametrize("name", ["held_out", "fresh", *(f"unseen_{part}" for part in "abcdefghijklm")])
def test_agrees_with_people_on_traces_that_were_unseen_once(name: str) -> None:
    """The head of each file says how far it agreed before the differences were looked at."""
    found = agreement_with(annotate, read_labelled(DATA / f"cafe_traces_{name}.txt"))
    assert found.mentions >= 140
    least = {"unseen_k": 0.89, "unseen_m": 0.88}.get(name, 0.93)
    assert found.agreed / found.mentions >= least, found.differences
    assert found.invented <= found.mentions / (30 if name == "unseen_m" else 50), found.differences


def test_scores_at_least_1400_traces_a_core_second_on_average() -> None:
    best = rate([(TEMPLATE, TRUTH)] * 100, counted=True, repeat=5)
    print(f"{best:.0f} traces of {len(TEMPLATE)} characters a core-second")
    assert best > 350  # a loaded machine; "python -m benchmarks scoring" says how fast it is alone


def test_360000_characters_of_opened_steps_take_bounded_time() -> None:
    text = "<step>" * 60_000 + "a dog barks"
    start = time.process_time()
    validate_verdict(annotate(text, Truth((Event("dog bark", 0.0, 2.0),))), text)
    assert time.process_time() - start < 20


def test_what_the_rules_do_not_know_is_counted_and_never_a_hallucination() -> None:
    verdict = annotate(
        "I hear a waterphone and the projector beeps. There is a loud gizmo.", Truth((Event("siren", 0, 1),))
    )  # noqa: E501
    assert [str(m.kind) for m in verdict.mentions if str(m.kind) != "neutral"] == []
    assert set(verdict.uncovered) == {"waterphone", "projector", "gizmo"}
    assert annotate("I hear a siren. There is a pause.", Truth((Event("siren", 0, 1),))).uncovered == ()
