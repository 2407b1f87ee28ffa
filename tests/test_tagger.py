"""The shipped tagger: what it names, what it leaves open, and how CAFE uses its opinion."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from mpar2.audio import Clip, load_clip
from mpar2.cafe import annotate
from mpar2.cafe.caption import read_captions, write_captions
from mpar2.cafe.schema import MentionKind, Truth
from mpar2.cafe.validation.perturbation import tagged_truth
from mpar2.cli import main
from mpar2.question import Event
from mpar2.tagger import ORIGIN, TaggedEvent, Tagging, errors, frame_scores, tag, tagging
from mpar2.tagger.names import audioset_names, label_members, label_of
from mpar2.tagger.profile import EventSettings
from mpar2.tagger.tagging import events_of
from mpar2.threads import in_own_thread
from tests.test_cafe_paid import bare_run

RATE = 16_000
HOW = EventSettings(threshold=0.1, stay=0.5, gap_s=0.3, shortest_s=0.16, sure=0.5, least=0.1, slope=1.0, offset=0.0)


def _clip(samples: np.ndarray) -> Clip:
    return Clip(samples.astype(np.float32))


def _noise(seconds: float) -> np.ndarray:
    return 0.2 * np.random.default_rng(0).standard_normal(int(seconds * RATE))


@pytest.mark.parametrize("seconds", [0.3, 1.0, 10.0, 30.0])
def test_silence_has_no_event(seconds: float) -> None:
    tagging = tag(_clip(np.zeros(int(seconds * RATE))))
    assert tagging.events == tagging.unsure == ()
    assert tagging.truth().events == () and tagging.truth().origin == ORIGIN == "tagger"


@pytest.mark.parametrize("seconds", [0.3, 0.9, 7.77, 30.0])
def test_times_lie_within_the_clip(seconds: float) -> None:
    clip = _clip(_noise(seconds))
    scores = frame_scores(clip)
    assert scores.shape[1] == len(audioset_names()) == 521
    assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1
    tagging = tag(clip)
    for event in (*tagging.events, *tagging.unsure):
        assert 0 <= event.onset_s < event.offset_s <= seconds
        assert 0 <= event.confidence <= 1


def test_an_event_is_where_its_score_is_high_and_ends_below_the_lower_threshold() -> None:
    scores = np.zeros((50, 521), np.float32)
    bark = label_members()["dog bark"][0]
    scores[10:20, bark], scores[22:30, bark] = 0.8, 0.6  # a gap of 0.16 s is filled
    scores[40, label_members()["siren"][0]] = 0.9  # one frame of 0.08 s is too short
    (event,) = events_of(scores, 4.0, HOW)
    assert (event.label, event.onset_s, event.offset_s, event.confidence) == ("dog bark", 0.8, 2.4, 0.8)
    assert events_of(scores, 2.0, HOW)[0].offset_s == 2.0


def test_a_familys_word_gives_way_to_a_name_of_the_family() -> None:
    scores = np.zeros((50, 521), np.float32)
    scores[5:40, label_members()["music"][0]] = 0.9
    assert [event.label for event in events_of(scores, 4.0, HOW)] == ["music"]
    scores[10:30, label_members()["piano"][0]] = 0.7
    assert [event.label for event in events_of(scores, 4.0, HOW)] == ["piano"]


def test_a_mention_of_an_unsure_event_is_neutral_and_it_is_never_missed() -> None:
    sure = TaggedEvent("siren", 0.0, 2.0, confidence=0.8)
    tagging = Tagging((sure,), (TaggedEvent("dog bark", 1.0, 2.0, confidence=0.2),), 4.0)
    verdict = annotate("A siren wails. A dog barks. A piano plays.", tagging.truth())
    kinds = {mention.label: mention.kind for mention in verdict.mentions}
    assert kinds["siren"] is MentionKind.MATCHED
    assert kinds["dog bark"] is MentionKind.NEUTRAL
    assert kinds["piano"] is MentionKind.HALLUCINATED
    assert verdict.targets == ("siren",) and verdict.missed == () and verdict.truth_origin == "tagger"
    (neutral,) = [mention for mention in verdict.mentions if mention.kind is MentionKind.NEUTRAL]
    assert "not sure" in neutral.reason
    (animal,) = annotate("An animal is heard.", tagging.truth()).mentions
    assert animal.kind is MentionKind.NEUTRAL


def test_everyday_words_have_a_label() -> None:
    assert {label_of(word) for word in ("a dog barking", "church bell", "ambulance siren")} == {
        "dog bark", "bell", "siren"
    }  # fmt: skip
    assert label_of("justice") is None


def test_tagged_events_beside_a_run_keep_their_confidence_and_origin(tmp_path: Path) -> None:
    tagging = Tagging((TaggedEvent("siren", 0.0, 2.0, 0.8),), (TaggedEvent("rain", 1.0, 2.0, 0.2),), 4.0)
    path = write_captions(tmp_path, {"a": tagging.truth(), "b": Truth(None, "wind", "caption:m")})
    truths = read_captions(tmp_path)
    assert truths["a"] == Truth((Event("siren", 0.0, 2.0),), origin="tagger", unsure=(Event("rain", 1.0, 2.0),))
    assert truths["b"].caption == "wind"
    assert json.loads(path.read_text().splitlines()[0])["events"][0]["confidence"] == 0.8


def test_caption_by_tagger_then_score_in_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = bare_run(tmp_path)
    assert main(["cafe", "score", str(run), "--judge", "reference"]) == 2
    assert "cafe caption RUN --by tagger" in capsys.readouterr().err
    assert main(["cafe", "caption", str(run), "--audio-root", str(tmp_path), "--by", "tagger"]) == 0
    assert "2 of 2 clips tagged" in capsys.readouterr().out
    assert {truth.origin for truth in read_captions(run).values()} == {"tagger"}
    assert main(["cafe", "score", str(run), "--judge", "reference"]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 traces scored" in said and "truth: tagger (3)" in said and "not the truth" in said
    metrics = json.loads((run / "cafe" / "reference" / "metrics.json").read_text())
    assert metrics["truth_origins"] == {"tagger": 3} and "not the truth" in metrics["tagger"]


def test_the_measured_errors_say_what_they_cost() -> None:
    profile = errors()
    assert profile.recordings["count"] >= 100 and profile.scenes["count"] >= 100
    assert sum(bin["events"] for bin in profile.scenes["calibration"]) > 0
    assert "not the truth" in profile.note()
    drop, swap = profile.rates_of("dog bark")
    assert 0 <= drop <= 1 and 0 <= swap <= 1 and drop + swap <= 1 + 1e-9


def test_the_taggers_damage_is_drawn_from_its_errors() -> None:
    events = tuple(Event("dog bark", float(i), i + 0.5) for i in range(40))
    truth = tagged_truth(Truth(events), errors(), "a")
    assert truth == tagged_truth(Truth(events), errors(), "a")
    assert truth.origin.endswith("tagger") and truth.levels_db is None
    drop, swap = errors().rates_of("dog bark")
    kept = sum(event.label == "dog bark" for event in truth.events or ())
    assert abs(kept / 40 - (1 - drop - swap)) < 0.3


@pytest.mark.parametrize("label", ["crickets", "explosion", "telephone", "beep"])
def test_a_synthesised_sound_is_named_first(label: str) -> None:
    from training.scenes.synth import SYNTHS

    clip = _clip(SYNTHS[label](np.random.default_rng(3)))
    scores = frame_scores(clip).max(axis=0)
    tops = {name: scores[list(members)].max() for name, members in label_members().items()}
    assert sorted(tops, key=tops.__getitem__, reverse=True)[0] == label


def test_noise_is_heard_as_static_and_no_speech() -> None:
    labels = {event.label for event in tag(_clip(_noise(3.0))).events}
    assert "static" in labels and "speech" not in labels


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_a_spoken_sentence_is_speech(tmp_path: Path) -> None:
    sentence = "The quick brown fox jumps over the lazy dog and runs away."
    subprocess.run(["espeak-ng", "-w", tmp_path / "a.wav", sentence], check=True)
    assert [event.label for event in tag(load_clip(tmp_path / "a.wav")).events] == ["speech"]


def test_a_plucked_string_is_an_instrument() -> None:
    notes = []
    for pitch in (196, 247, 294, 392):  # Karplus and Strong
        ring = list(np.random.default_rng(1).uniform(-1, 1, int(RATE / pitch)))
        for i in range(RATE):
            notes.append(ring[i % len(ring)])
            ring[i % len(ring)] = 0.498 * (ring[i % len(ring)] + ring[(i + 1) % len(ring)])
    found = tag(_clip(0.5 * np.array(notes)))
    instruments = {"harp", "guitar", "piano", "zither", "music"}
    assert instruments & {event.label for event in (*found.events, *found.unsure)}
    assert {event.label for event in found.events} <= instruments


def test_the_tagger_computes_in_a_thread_that_ends(monkeypatch) -> None:
    """A thread that has computed keeps OpenMP threads, which slow a model down that decodes beside them."""
    threads = []
    compute = tagging._frame_scores

    def recorded(*args):
        threads.append(threading.current_thread())
        return compute(*args)

    monkeypatch.setattr(tagging, "_frame_scores", recorded)
    clip = load_clip((16_000, np.sin(np.arange(16_000) * 0.3).astype(np.float32) * 0.3))
    assert frame_scores(clip).shape == (13, 521)
    threads[0].join(5)
    assert threads[0] is not threading.current_thread() and not threads[0].is_alive()


def test_an_error_in_an_own_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_own_thread(divmod, 1, 0)
