"""Probes: yes/no questions about each event of the truth, and about as many absent events.

A model may perceive an event that its trace omits. So each clip is probed with "Do you hear a dog bark?" for every
label of the truth and for the same number of absent labels, and the accuracy is reported beside Err_omit. Probes also
score models that answer without reasoning. Where a reply contains a trace, the answer of the trace counts.

Conventions: a probe is about a label, not about a single event (two barks are one probe), and two items of one clip
with the same label are one probe. Absent labels are the certified absences of the annotation, where it has them. The
others are drawn from the project's classes, without those that a label of the truth names or is a kind of. A reply that
is neither yes nor no is *unanswered*: it is counted, and enters no rate. Accuracy is the mean of the hit rate (present,
yes) and of the correct rejection rate (absent, no), so that always yes gives 0.5. Intervals are clustered by clip.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpar2.audio import Clip
from mpar2.cafe.rules.vocabulary import absent_classes
from mpar2.cafe.schema import Truth
from mpar2.cafe.sound_classes import CLASSES
from mpar2.engines.base import Arm, Decoding, Engine, Request
from mpar2.question import Question
from mpar2.statistics import Interval, bootstrap_interval, bootstrap_statistic

__all__ = [
    "Probe",
    "ProbeAnswer",
    "ProbeReport",
    "ask_probes",
    "make_probes",
    "probe_record",
    "probe_report",
    "read_answers",
]

YES, NO = "Yes", "No"


@dataclass(frozen=True)
class Probe:
    """A question about one label. ``present`` is the target: whether the clip has it."""

    item: str
    label: str
    present: bool
    question: Question


@dataclass(frozen=True)
class ProbeAnswer:
    """The answer of a model to a probe. ``yes`` is True for yes, False for no, None for neither."""

    probe: Probe
    yes: bool | None
    text: str = ""

    @property
    def right(self) -> bool | None:
        """Whether the answer is right; None where there is none."""
        return None if self.yes is None else self.yes == self.probe.present


@dataclass(frozen=True)
class ProbeReport:
    """Probe accuracy, its two rates, and the counts."""

    items: int
    clips: int
    probes: int
    unanswered: int
    accuracy: Interval  # mean of hits and correct rejections
    hits: Interval
    correct_rejections: Interval

    def __str__(self) -> str:
        return (
            f"probe accuracy {self.accuracy}; hit rate {self.hits}, correct rejections "
            f"{self.correct_rejections}; {self.probes} probes on {self.items} items of {self.clips} clips, "
            f"{self.unanswered} unanswered"
        )


def make_probes(item: str, truth: Truth, *, seed: int = 0, absent: Sequence[str] = ()) -> list[Probe]:
    """Make the probes of one item, present and absent ones, in random order.

    Args:
        item: Id of the item.
        truth: Truth of the item, with events.
        seed: Seed of the absent labels and of the order.
        absent: Certified absences (AudioSet's NOT_PRESENT), which are used first.

    Raises:
        ValueError: The truth is a caption.
    """
    if truth.events is None:
        raise ValueError(f"item {item}: probes need the events of the truth, and there is only a caption")
    labels = list(dict.fromkeys(event.label for event in truth.events))
    rng = random.Random(f"probes {seed}|{item}")
    certified = [label for label in dict.fromkeys(absent) if label not in labels]
    absent_labels = rng.sample(certified, min(len(labels), len(certified)))
    candidates = [label for label in absent_classes(labels) if label not in absent_labels]
    absent_labels += rng.sample(candidates, min(len(labels) - len(absent_labels), len(candidates)))
    probes = [Probe(item, label, True, _question(label, True)) for label in labels]
    probes += [Probe(item, label, False, _question(label, False)) for label in absent_labels]
    rng.shuffle(probes)
    return probes


def ask_probes(
    engine: Engine,
    arm: Arm,
    clips: Mapping[str, Clip],
    probes: Sequence[Probe],
    decoding: Decoding | None = None,
    *,
    batch_size: int = 8,
) -> list[ProbeAnswer]:
    """Run all probes on an arm, each with its item's clip (by item); return one answer for each, in order."""
    requests = [Request(clips[probe.item], probe.question, arm) for probe in probes]
    generations = engine.generate_batch(requests, decoding, batch_size=batch_size)
    return [
        ProbeAnswer(probe, None if generation.choice is None else generation.choice == YES, generation.text)
        for probe, generation in zip(probes, generations, strict=True)
    ]


def probe_report(answers: Sequence[ProbeAnswer], clips: Mapping[str, str] | None = None, **options: Any) -> ProbeReport:
    """Compute probe accuracy.

    Args:
        answers: All answers of one model.
        clips: Clip of each item; None: one clip for each item.
        **options: Options of the bootstrap (``mpar2.statistics``).
    """
    clip_of = {answer.probe.item: (clips or {}).get(answer.probe.item, answer.probe.item) for answer in answers}
    items = len(clip_of)
    # Two items of one clip may share labels: the first answer counts.
    distinct = {(clip_of[a.probe.item], a.probe.label, a.probe.present): a for a in reversed(answers)}
    answers = list(distinct.values())[::-1]
    answered = [answer for answer in answers if answer.right is not None]
    groups = [clip_of[answer.probe.item] for answer in answered]
    right = np.array([bool(answer.right) for answer in answered], dtype=float)
    present = np.array([answer.probe.present for answer in answered], dtype=float)

    # The bootstrap resamples clips, so the balanced accuracy is computed from sums.
    def balanced(right: np.ndarray, present: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            hits = (right * present).sum(axis=1) / present.sum(axis=1)
            rejections = (right * (1 - present)).sum(axis=1) / (1 - present).sum(axis=1)
        return (hits + rejections) / 2

    return ProbeReport(
        items=items,
        clips=len(set(clip_of.values())),
        probes=len(answers),
        unanswered=len(answers) - len(answered),
        accuracy=bootstrap_statistic(balanced, right, present, groups=groups, **options),
        hits=bootstrap_interval(right * present, present, groups=groups, **options),
        correct_rejections=bootstrap_interval(right * (1 - present), 1 - present, groups=groups, **options),
    )


def _question(label: str, present: bool) -> Question:
    sound = CLASSES[label].singular if label in CLASSES else f"this sound: {label}"
    return Question(f"Do you hear {sound}?", (YES, NO), YES if present else NO)


def probe_record(answers: Sequence[ProbeAnswer]) -> list[dict[str, Any]]:
    """Return answers as plain JSON values; :func:`read_answers` reads them."""
    return [{"label": a.probe.label, "present": a.probe.present, "yes": a.yes, "text": a.text} for a in answers]


def read_answers(record: Mapping[str, Any] | None, probes: Sequence[Probe]) -> list[ProbeAnswer]:
    """Read the answers that :func:`probe_record` wrote, in the order of ``probes``; missing ones are left out."""
    by_label = {entry["label"]: entry for entry in (record or {}).get("answers", [])}
    return [
        ProbeAnswer(probe, by_label[probe.label]["yes"], by_label[probe.label]["text"])
        for probe in probes
        if probe.label in by_label
    ]
