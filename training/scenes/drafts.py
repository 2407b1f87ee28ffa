"""Drafts of questions about a scene, and the conditions under which a question is unambiguous.

Conventions: a question needs one answer that a careful listener could not dispute. Sounds are in order when their
onsets lie at least 0.3 s apart. Two sounds of one class count as two when 0.3 s of silence lies between them. A sound
is longest with a lead of 0.5 s, loudest with a lead of 6 dB. Order is order of onset, and the wording ("starts",
"begins") states so.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mpar2.cafe.sound_classes import CLASSES
from training.scenes.scene import Scene, SceneEvent

ORDER_GAP_S = 0.3
LENGTH_LEAD_S = 0.5
LEVEL_LEAD_DB = 6.0
TOLERANCE = 1e-6

# Families that a question may name, and the classes whose membership in a family is disputable.
FAMILY_WORDS = {"music": "musical instrument", "animal": "animal"}
DISPUTED = {"music": {"bell"}, "animal": set()}

FIRST_HALF, SECOND_HALF = "in the first half", "in the second half"


@dataclass(frozen=True)
class Draft:
    """A question before its wording and choices are drawn; ``value`` is the answer as a label, number or word."""

    texts: Sequence[str]
    value: str
    evidence: Sequence[int]
    subjects: tuple[str, ...] = ()
    target: int | None = None
    options: Sequence[str] | None = None  # fixed choices (all of them are offered)
    distractors: Sequence[str] = ()  # labels or numbers to draw from, best first
    closed: bool = False  # makes no sense without choices


def onset_gap(a: SceneEvent, b: SceneEvent) -> bool:
    """Return whether ``b`` starts so long after ``a`` that their order is unambiguous.

    Args:
        a: The earlier event.
        b: The later event.
    """
    return b.onset_s - a.onset_s >= ORDER_GAP_S - TOLERANCE


def in_order(events: Sequence[SceneEvent], index: int) -> bool:
    """Return whether an event's place in the order of onsets is unambiguous.

    Args:
        events: Events in order of onset.
        index: Place of the event.
    """
    before = index == 0 or onset_gap(events[index - 1], events[index])
    after = index == len(events) - 1 or onset_gap(events[index], events[index + 1])
    return before and after


def countable(events: Sequence[SceneEvent], labels: set[str]) -> bool:
    """Return whether the events of each class are separated well enough to be counted.

    Args:
        events: Events in order of onset.
        labels: The classes to count.
    """
    for label in labels:
        class_events = [e for e in events if e.label == label]
        if any(
            b.onset_s - a.offset_s < ORDER_GAP_S - TOLERANCE
            for a, b in zip(class_events, class_events[1:], strict=False)
        ):
            return False
    return True


def labels_of(scene: Scene) -> list[str]:
    """Return the classes of a scene in order of their first onset."""
    return list(dict.fromkeys(e.label for e in scene.events))


def absent_labels(scene: Scene, rng: random.Random) -> list[str]:
    """Return the classes that a scene does not contain, shuffled.

    Sounds of the background do not count as absent.

    Args:
        scene: The scene.
        rng: Shuffles.
    """
    present = set(labels_of(scene))
    names = [n for n in CLASSES if n not in present and n not in scene.background]
    rng.shuffle(names)
    return names


def other_labels(scene: Scene, label: str, rng: random.Random) -> list[str]:
    """Return distractors for a question about present sounds: other present ones first, then absent ones.

    Args:
        scene: The scene.
        label: The right answer.
        rng: Shuffles both parts.
    """
    present = [n for n in labels_of(scene) if n != label]
    rng.shuffle(present)
    return present + absent_labels(scene, rng)


def numbers_near(value: int) -> list[str]:
    """Return the other numbers from 0 to 7 as texts, the nearest first."""
    numbers = sorted((n for n in range(0, 8) if n != value), key=lambda n: (abs(n - value), n))
    return [str(n) for n in numbers]


def single_places(scene: Scene) -> list[int]:
    """Return the places of events whose class occurs once."""
    counts = Counter(e.label for e in scene.events)
    return [i for i, e in enumerate(scene.events) if counts[e.label] == 1]


def leader(values: Sequence[float], lead: float) -> int | None:
    """Return the place of the greatest value; None where its lead over the others is too small.

    Args:
        values: The values.
        lead: The least lead, in their unit.
    """
    if len(values) < 2:
        return None
    order = sorted(range(len(values)), key=lambda i: -values[i])
    return order[0] if values[order[0]] - values[order[1]] >= lead - TOLERANCE else None


def longest_place(scene: Scene) -> int | None:
    """Return the place of the longest event; None where it leads by less than 0.5 s."""
    return leader([e.duration_s for e in scene.events], LENGTH_LEAD_S)


def loudest_place(scene: Scene) -> int | None:
    """Return the place of the loudest event; None where it leads by less than 6 dB."""
    return leader([e.level_db for e in scene.events], LEVEL_LEAD_DB)


def label_draft(
    scene: Scene, rng: random.Random, target: int, evidence: Sequence[int], texts: Sequence[str], *subjects: str
) -> Draft | None:
    """Draft a question whose answer is a class; None where the scene has one class only.

    Args:
        scene: The scene.
        rng: Shuffles the distractors.
        target: Place of the event that is the answer.
        evidence: Places of the events that the answer rests on.
        texts: Wordings of the question.
        subjects: Classes that the question names, which are no plausible answers.
    """
    if len(labels_of(scene)) < 2:
        return None  # all sounds are of one class: the answer would be trivial
    label = scene.events[target].label
    distractors = [n for n in other_labels(scene, label, rng) if n not in subjects]
    return Draft(texts, label, evidence, subjects, target, distractors=distractors)


# One step -------------------------------------------------------------------------------------------------------------
