"""Scenes in words: every question has one right answer, every chain says only what the events say."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from mpar2.cafe.sound_classes import CLASSES
from mpar2.question import match_choice, string_match
from mpar2.trace import is_wellformed, parse_trace
from tests.scene_oracle import label_of, named, names_of, oracle
from training.scenes.chains import corpus, direct_answer, free_reasoning, mpar2_chain, text_examples
from training.scenes.kinds import KINDS, LOUDNESS_KINDS
from training.scenes.questions import make_questions
from training.scenes.scene import Scene, SceneEvent
from training.scenes.written import caption, event_list, random_scene, timed, written_scene

SCENES = 1500


def _cases(count: int, seed: int):
    rng = random.Random(seed)
    for _ in range(count):
        scene = random_scene(rng)
        for asked in make_questions(scene, rng):
            yield scene, asked, rng


def _scene(*events: tuple[str, float, float, float], seconds: float = 8.0) -> Scene:
    return Scene(0, "test", seconds, tuple(SceneEvent(*event, "text") for event in events), "none")


# The oracle: reads the question's words ------------------------------------------------------------------------------


def test_answers_agree_with_the_oracle() -> None:
    kinds = set()
    for scene, asked, _ in _cases(SCENES, 1):
        question = asked.question
        kinds.add(asked.kind)
        expected = oracle(scene, question.text, question.choices)
        assert expected == {asked.value}, (question, event_list(scene))
        assert question.answer in names_of(asked.value) if asked.value in CLASSES else question.answer == asked.value
    assert kinds == set(KINDS)


def test_choices_are_distinct_and_hold_the_answer_once() -> None:
    places, opened, total = [0] * 5, 0, 0
    for _, asked, _ in _cases(600, 2):
        question = asked.question
        total += 1
        if not question.choices:
            opened += 1
            assert asked.kind not in ("what", "missing")
            continue
        assert 2 <= len(question.choices) <= 5
        labels = [label_of(choice) or choice for choice in question.choices]
        assert len(set(labels)) == len(labels)
        assert question.choices.count(question.answer) == 1
        assert match_choice(question.answer, question.choices) == question.answer
        assert string_match(question.answer, question.answer, question.choices)
        places[question.choices.index(question.answer)] += 1
    assert 0.1 < opened / total < 0.25
    assert 0.8 < places[0] / places[1] < 1.25  # the place of the answer gives nothing away


def test_metadata_and_evidence() -> None:
    for scene, asked, _ in _cases(300, 3):
        question = asked.question
        assert question.category == asked.kind
        assert question.domain in ("sound", "music", "mix")
        assert question.difficulty in ("easy", "medium", "hard")
        assert set(asked.evidence) <= set(range(len(scene.events)))
        assert len(set(asked.evidence)) == len(asked.evidence)
        if asked.target is not None:
            assert scene.events[asked.target].label == asked.value


def test_ambiguous_scenes_admit_no_question_of_order() -> None:
    close = _scene(("dog bark", 1.0, 2.0, -20.0), ("piano", 1.2, 2.2, -21.0))
    kinds = {asked.kind for seed in range(30) for asked in make_questions(close, random.Random(seed))}
    order = {
        "first",
        "last",
        "nth",
        "before",
        "after",
        "order",
        "longest",
        "loudest",
        "longer",
        "louder",
        "count_after",
    }
    assert not kinds & order
    touching = _scene(("dog bark", 1.0, 2.0, -20.0), ("dog bark", 2.1, 3.0, -20.0), ("piano", 4.0, 5.0, -20.0))
    for seed in range(30):
        for asked in make_questions(touching, random.Random(seed)):
            assert asked.kind not in ("total", "repeats", "family_count")
            assert asked.kind != "count" or asked.subjects == ("piano",)


def test_small_scenes_and_disorder() -> None:
    for scene in (_scene(), _scene(("dog bark", 1.0, 2.0, -20.0))):
        for seed in range(20):
            rng = random.Random(seed)
            assert caption(scene, rng) and written_scene(scene, rng)
            for asked in make_questions(scene, rng):
                assert is_wellformed(parse_trace(mpar2_chain(scene, asked, rng)))
                assert free_reasoning(scene, asked, rng).endswith(direct_answer(asked))
    unsorted = _scene(("piano", 4.0, 5.0, -20.0), ("dog bark", 1.0, 2.0, -20.0))
    with pytest.raises(ValueError, match="Sort the events"):
        make_questions(unsorted, random.Random(0))


def test_background_is_not_offered_as_absent() -> None:
    scene = Scene(0, "test", 8.0, (SceneEvent("piano", 1.0, 2.0, -20.0, "text"),), "static and water")
    for seed in range(100):
        for asked in make_questions(scene, random.Random(seed)):
            text = f"{asked.question.text} {asked.question.choices}".lower()
            assert "static" not in text and "water" not in text


# Chains ---------------------------------------------------------------------------------------------------------------


def test_traces_are_wellformed_and_true() -> None:
    lengths = []
    for scene, asked, rng in _cases(500, 4):
        text = mpar2_chain(scene, asked, rng)
        trace = parse_trace(text)
        assert is_wellformed(trace), (trace.problems, text)
        assert trace.answer == asked.question.answer
        present = {e.label for e in scene.events}
        for part in trace.parts:
            if part.kind in ("perception", "hear", "infer", "review"):
                assert set(named(part.text.lower())) <= present, text
            # A time and the sound after it: "0.4-1.6 s a dog bark", as the scene has it.
            for heard in re.findall(r"\d\.\d-\d+\.\d s [a-z ]+", part.text):
                assert heard.strip() in {timed(e) for e in scene.events}, text
        (perception,) = trace.of_kind("perception")
        assert event_list(scene) in perception.text
        claims = re.findall(r"([a-z ]+) at (\d+\.\d) s: ", trace.of_kind("review")[0].text.lower())
        assert claims
        assert {(name.strip(), at) for name, at in claims} <= {
            (CLASSES[e.label].singular, f"{e.onset_s:.1f}") for e in scene.events
        }
        steps = len(trace.of_kind("step"))
        assert steps <= 3 and (KINDS[asked.kind][0] > 1 or steps == 1)
        lengths.append(len(re.sub(r"<[^>]*>", " ", text).split()))
    lengths.sort()
    assert lengths[len(lengths) // 2] <= 100 and lengths[-1] <= 180


def test_free_reasoning_is_true_and_varies_in_length() -> None:
    lengths = []
    for scene, asked, rng in _cases(500, 5):
        text = free_reasoning(scene, asked, rng)
        trace = parse_trace(text)
        assert [part.kind for part in trace.top()] == ["think", "answer"]
        assert trace.answer == asked.question.answer
        thought = trace.of_kind("think")[0].text
        asked_about = set(named(asked.question.text)) | {label_of(choice) for choice in asked.question.choices}
        assert set(named(thought.lower())) <= {e.label for e in scene.events} | asked_about
        for heard in re.findall(r"\d\.\d-\d+\.\d s [a-z ]+", thought):
            assert heard.strip() in {timed(e) for e in scene.events}, text
        lengths.append(len(thought.split()))
    lengths.sort()
    assert 35 <= lengths[len(lengths) // 2] <= 90
    assert lengths[int(0.98 * len(lengths))] > 130 and lengths[-1] <= 190


def test_numbers_in_chains_are_right() -> None:
    for scene, asked, rng in _cases(300, 6):
        for text in (mpar2_chain(scene, asked, rng), free_reasoning(scene, asked, rng)):
            for start, stop, length in re.findall(r"(\d+\.\d)-(\d+\.\d) s [a-z ]+, (\d+\.\d) s", text):
                assert round(float(stop) - float(start), 1) == float(length)
            spoken = re.findall(r"[Tt]hat makes (\d)|it stays (\d)|, so (\d)\b(?!\.\d)", text)
            for number in itertools.chain.from_iterable(spoken):
                assert number in ("", asked.value), text


def _claims_hold(scene: Scene, said: str) -> int:
    """Checks every statement of a known form in a text against the events; returns how many there were."""
    events = scene.events
    (low, high) = (min(e.level_db for e in events), max(e.level_db for e in events))
    checked = 0
    for phrase, at in re.findall(r"((?:the|first) [a-z ]+?) starts? at (\d+\.\d) s", said):
        if "loudest" in phrase:
            assert any(f"{e.onset_s:.1f}" == at and e.level_db == high for e in events), said
        else:
            assert any(f"{e.onset_s:.1f}" == at and [e.label] == named(phrase)[-1:] for e in events), said
        checked += 1
    for a, side, b in re.findall(r"(\d+\.\d) s(?: is|,) (before|after) (?:the [a-z ]+ at )?(\d+\.\d) s", said):
        assert (float(a) < float(b)) == (side == "before"), said
        checked += 1
    for x, side, y in re.findall(r"so (the [a-z ]+?) starts? (before|after) (the [a-z ]+)\.", said):
        first, second = (next(e.onset_s for e in events if [e.label] == named(name)) for name in (x, y))
        assert (first < second) == (side == "before"), said
        checked += 1
    for name, length in re.findall(r"(the [a-z ]+?) lasts? (\d+\.\d) s", said):
        assert any(
            [e.label] == named(name) and f"{round(e.offset_s, 1) - round(e.onset_s, 1):.1f}" == length for e in events
        ), said
        checked += 1
    longest = max(events, key=lambda e: e.offset_s - e.onset_s).label
    loudest = max(events, key=lambda e: e.level_db).label
    for name in re.findall(r"(the [a-z ]+) of \d+\.\d s (?:is|are) the longest", said):
        assert named(name) == [longest], said
        checked += 1
    for name in re.findall(r"(the [a-z ]+) (?:is|are) the loudest", said):
        assert named(name) == [loudest] and high - low >= 5.9, said
        checked += 1
    for winner, loser in re.findall(r"(the [a-z ]+) (?:is|are) louder than (the [a-z ]+)", said):
        a, b = (next(e.level_db for e in events if [e.label] == named(name)) for name in (winner, loser))
        assert a - b >= 5.9, said
        checked += 1
    for name, count in re.findall(r"(the [a-z ]+) (?:is|are) heard (\d) times", said):
        assert sum([e.label] == named(name) for e in events) == int(count), said
        checked += 1
    return checked


def test_what_the_steps_infer_holds() -> None:
    checked = {kind: 0 for kind in KINDS}
    for scene, asked, rng in _cases(500, 14):
        for text in (mpar2_chain(scene, asked, rng), free_reasoning(scene, asked, rng)):
            checked[asked.kind] += _claims_hold(scene, text.lower())
        for part in parse_trace(mpar2_chain(scene, asked, rng)).of_kind("infer"):
            if asked.target is not None and re.search(
                r"next|right (after|before)|between them|number \d|\bone is", part.text
            ):
                assert named(part.text.lower()) == [asked.value], part.text
    told = "order longer louder longest loudest loudest_side repeats before after between count_after count_before when"
    assert all(checked[kind] > 50 for kind in told.split()), checked


# Written scenes -------------------------------------------------------------------------------------------------------


def test_written_scenes_tell_every_event_with_its_times() -> None:
    rng = random.Random(7)
    for _ in range(600):
        scene = random_scene(rng)
        text = written_scene(scene, rng)
        assert f"{scene.seconds:.1f} s" in text
        assert named(text.lower()) == [e.label for e in scene.events]
        assert all(f"{t:.1f}" in text for e in scene.events for t in (e.onset_s, e.offset_s))
        assert named(caption(scene, rng).lower()) == [e.label for e in scene.events]
        assert named(event_list(scene, rng)) == [e.label for e in scene.events]
    assert event_list(_scene(("dog bark", 0.42, 1.58, -20.0), ("piano", 2.0, 3.1, -20.0))) == (
        "1: a dog bark 0.4-1.6 s; 2: a piano 2.0-3.1 s"
    )


def test_questions_of_loudness_can_be_answered_from_the_text() -> None:
    for example in text_examples(2000, 8):
        if example.asked.kind not in LOUDNESS_KINDS:
            continue
        loud = [i for i, mark in enumerate(re.findall(r"loud|medium|soft|-?\d+ dB", example.written)) if mark == "loud"]
        if "dB" in example.written:
            continue
        assert example.asked.kind != "louder"
        levels = [e.level_db for e in example.scene.events]
        assert loud == [levels.index(max(levels))]


def test_random_scenes_are_valid() -> None:
    rng = random.Random(9)
    for _ in range(1000):
        scene = random_scene(rng)
        assert 2 <= len(scene.events) <= 5 and 6.0 <= scene.seconds <= 10.0
        assert [e.onset_s for e in scene.events] == sorted(e.onset_s for e in scene.events)
        assert all(0.0 <= e.onset_s < e.offset_s <= scene.seconds for e in scene.events)


def test_everything_follows_from_the_seed() -> None:
    modes = ("direct", "cot", "mpar2")
    assert list(text_examples(60, 10, modes=modes)) == list(text_examples(60, 10, modes=modes))
    assert list(corpus(80, 11)) == list(corpus(80, 11)) != list(corpus(80, 12))
    with pytest.raises(ValueError, match="unknown mode"):
        list(text_examples(1, 0, modes=("prose",)))


def test_corpus_names_every_class() -> None:
    text = "\n".join(corpus(1500, 13))
    assert all(sound.singular in text for sound in CLASSES.values())
    assert "<perception>" in text and "<think>" in text
