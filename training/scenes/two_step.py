"""Questions that need the answer to another one first: after the longest, how many before, first of a family, between.

Each function takes a scene and a random generator, and returns a :class:`Draft`, or None where the scene does not admit
the question.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from mpar2.cafe.sound_classes import CLASSES
from training.scenes.drafts import (
    DISPUTED,
    FAMILY_WORDS,
    ORDER_GAP_S,
    TOLERANCE,
    Draft,
    absent_labels,
    countable,
    in_order,
    label_draft,
    labels_of,
    longest_place,
    loudest_place,
    numbers_near,
    other_labels,
    single_places,
)
from training.scenes.scene import Scene
from training.scenes.written import bare, the


def _beside(scene: Scene, rng: random.Random, anchor: int | None, step: int, texts: Sequence[str]) -> Draft | None:
    if anchor is None or not 0 <= anchor + step < len(scene.events):
        return None
    target = anchor + step
    if not (in_order(scene.events, anchor) and in_order(scene.events, target)):
        return None
    return label_draft(scene, rng, target, range(len(scene.events)), texts)


def after_longest(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound starts right after the longest one."""
    texts = (
        "Which sound starts right after the longest sound?",
        "What comes next after the longest sound has started?",
        "After the longest sound begins, which sound starts next?",
    )
    return _beside(scene, rng, longest_place(scene), 1, texts)


def before_longest(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound starts right before the longest one."""
    texts = (
        "Which sound starts right before the longest sound?",
        "What begins just before the longest sound starts?",
        "Which sound comes immediately before the longest sound?",
    )
    return _beside(scene, rng, longest_place(scene), -1, texts)


def after_loudest(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound starts right after the loudest one."""
    texts = (
        "Which sound starts right after the loudest sound?",
        "What comes next after the loudest sound has started?",
        "After the loudest sound begins, which sound starts next?",
    )
    return _beside(scene, rng, loudest_place(scene), 1, texts)


def loudest_side(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask whether the loudest sound starts before one that occurs once."""
    top = loudest_place(scene)
    if top is None:
        return None
    events = scene.events
    places = [
        i
        for i in single_places(scene)
        if i != top and abs(events[i].onset_s - events[top].onset_s) >= ORDER_GAP_S - TOLERANCE
    ]
    if not places:
        return None
    index = rng.choice(places)
    label = events[index].label
    texts = (
        f"Does the loudest sound start before {the(label)}?",
        f"Is the loudest sound before {the(label)}?",
        f"Does the loudest sound come before {the(label)}?",
    )
    return Draft(texts, "Yes" if top < index else "No", range(len(events)), (label,), options=("Yes", "No"))


def count_after(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask how many sounds start after the first one of a class."""
    return _count_beside(scene, rng, "after")


def count_before(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask how many sounds start before the first one of a class."""
    return _count_beside(scene, rng, "before")


def _count_beside(scene: Scene, rng: random.Random, side: str) -> Draft | None:
    events = scene.events
    if len(events) < 3 or not countable(events, set(labels_of(scene))):
        return None
    labels = labels_of(scene)
    rng.shuffle(labels)
    for label in labels:
        indices = [i for i, e in enumerate(events) if e.label == label]
        index = indices[0]
        if not in_order(events, index):
            continue
        counted = range(index + 1, len(events)) if side == "after" else range(index)
        x = the(label) if len(indices) == 1 else "the first " + bare(label)
        texts = (
            f"How many sounds start {side} {x}?",
            f"How many sounds come {side} {x}?",
            f"Counting repeats, how many sounds begin {side} {x}?",
        )
        return Draft(
            texts, str(len(counted)), sorted((index, *counted)), (label,), distractors=numbers_near(len(counted))
        )
    return None


def _draw_family(scene: Scene, rng: random.Random) -> tuple[str, list[int]] | None:
    """Draw a family that is unambiguous in the scene, and return the places of its events; None where there is none."""
    present = set(labels_of(scene))
    families = [f for f in FAMILY_WORDS if not (DISPUTED[f] & present)]
    groups = [(f, [i for i, e in enumerate(scene.events) if CLASSES[e.label].family == f]) for f in families]
    groups = [(f, members) for f, members in groups if members]
    return rng.choice(groups) if groups else None


def first_of_family(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound of a family, such as animals, starts first."""
    return _end_of_family(scene, rng, "first")


def last_of_family(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound of a family, such as animals, starts last, where it ends last too."""
    return _end_of_family(scene, rng, "last")


def _end_of_family(scene: Scene, rng: random.Random, end: str) -> Draft | None:
    family_members = _draw_family(scene, rng)
    if family_members is None or len(scene.events) < 2:
        return None
    family, members = family_members
    family_events = [scene.events[i] for i in members]
    place = 0 if end == "first" else len(family_events) - 1
    if len({e.label for e in family_events}) > 1 and not in_order(family_events, place):
        return None
    if end == "last" and family_events[place].offset_s < max(e.offset_s for e in family_events):
        return None
    word = FAMILY_WORDS[family]
    texts = (
        f"Which {word} is heard {end}?",
        f"Which is the {end} {word} in the clip?",
        f"Which {word} is the {end} to start?",
    )
    label = family_events[place].label
    present = [n for n in other_labels(scene, label, rng) if n in labels_of(scene)]
    relatives = [n for n in absent_labels(scene, rng) if CLASSES[n].family == family]
    return Draft(texts, label, members, (family,), members[place], distractors=present + relatives)


def family_count(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask how many sounds of a family there are, repeats included."""
    family_members = _draw_family(scene, rng)
    if family_members is None or not countable(scene.events, set(labels_of(scene))):
        return None
    family, members = family_members
    word = {"music": "instrument sounds", "animal": "animal sounds"}[family]
    texts = (
        f"How many {word} are there, counting repeats?",
        f"How many {word} are heard, repeats included?",
        f"Counting repeats, how many {word} does the clip have?",
    )
    distractors = [n for n in numbers_near(len(members)) if n != "0"]
    return Draft(texts, str(len(members)), members, (family,), distractors=distractors)


def between(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound starts between two others that occur once."""
    single = set(single_places(scene))
    events = scene.events
    places = [
        i
        for i in range(1, len(events) - 1)
        if {i - 1, i + 1} <= single and all(in_order(events, j) for j in (i - 1, i, i + 1))
    ]
    if not places:
        return None
    target = rng.choice(places)
    x, y = events[target - 1].label, events[target + 1].label
    texts = (
        f"Which sound starts between {the(x)} and {the(y)}?",
        f"What comes between {the(x)} and {the(y)}?",
        f"Which sound begins after {the(x)} and before {the(y)}?",
    )
    return label_draft(scene, rng, target, (target - 1, target, target + 1), texts, x, y)
