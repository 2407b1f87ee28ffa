"""Questions that need one look-up in the scene: which, when, how many, first, last, before, after, longest, loudest.

Each function takes a scene and a random generator, and returns a :class:`Draft`, or None where the scene does not admit
the question.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from training.scenes.drafts import (
    FIRST_HALF,
    LENGTH_LEAD_S,
    LEVEL_LEAD_DB,
    ORDER_GAP_S,
    SECOND_HALF,
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
    onset_gap,
    single_places,
)
from training.scenes.scene import Scene, SceneEvent
from training.scenes.written import are, singular, the


def what(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound is heard."""
    if not scene.events:
        return None
    target = rng.randrange(len(scene.events))
    label = scene.events[target].label
    texts = (
        "Which of these sounds is heard?",
        "Which of these sounds occurs in the clip?",
        "What can be heard in the audio?",
        "Which sound is present?",
        "What do you hear?",
    )
    evidence = [i for i, e in enumerate(scene.events) if e.label == label]
    return Draft(texts, label, evidence, (), target, distractors=absent_labels(scene, rng), closed=True)


def missing(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound is not heard."""
    labels = labels_of(scene)
    if len(labels) < 2:
        return None
    texts = (
        "Which of these sounds is not heard?",
        "Which of these sounds is missing from the clip?",
        "Which sound does not occur in the audio?",
    )
    rng.shuffle(labels)
    return Draft(
        texts, absent_labels(scene, rng)[0], range(len(scene.events)), (), None, distractors=labels, closed=True
    )


def occurs(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask whether a sound is heard; it is in half of the questions."""
    yes = bool(scene.events) and rng.random() < 0.5
    label = rng.choice(labels_of(scene)) if yes else absent_labels(scene, rng)[0]
    x = singular(label)
    texts = (
        f"Do you hear {x}?",
        f"{'Are' if are(label) else 'Is'} there {x} in the clip?",
        f"Can {x} be heard?",
        f"Does the audio contain {x}?",
        f"Does {x} occur?" if not are(label) else f"Do {x} occur?",
    )
    evidence = [i for i, e in enumerate(scene.events) if e.label == label] if yes else range(len(scene.events))
    return Draft(texts, "Yes" if yes else "No", evidence, (label,), options=("Yes", "No"))


def first(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound starts first."""
    if len(scene.events) < 2 or not in_order(scene.events, 0):
        return None
    texts = (
        "Which sound comes first?",
        "What is the first sound in the clip?",
        "Which sound starts first?",
        "What do you hear first?",
        "With which sound does the clip begin?",
    )
    return label_draft(scene, rng, 0, (0,), texts)


def last(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound starts last, where it ends last too."""
    events = scene.events
    target = len(events) - 1
    if target < 1 or not in_order(events, target) or events[target].offset_s < max(e.offset_s for e in events):
        return None  # a sound that starts last but does not end last is ambiguous as "the last sound"
    texts = (
        "Which sound comes last?",
        "What is the last sound in the clip?",
        "Which sound starts last?",
        "What do you hear last?",
        "With which sound does the clip end?",
    )
    return label_draft(scene, rng, target, (target,), texts)


# Two steps ------------------------------------------------------------------------------------------------------------


def nth(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound is the second or third to start."""
    places = [i for i in (1, 2) if i < len(scene.events) - 1 and all(in_order(scene.events, j) for j in range(i + 1))]
    if not places:
        return None
    target = rng.choice(places)
    word = ("first", "second", "third")[target]
    texts = (
        f"Which sound is the {word} to start?",
        f"What is the {word} sound in the clip?",
        f"Which sound comes {word}?",
        f"Which sound begins {word}?",
    )
    return label_draft(scene, rng, target, range(target + 1), texts, word)


def count(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask how often a class occurs."""
    labels = labels_of(scene)
    if not labels:
        return None
    repeated = [n for n in labels if sum(e.label == n for e in scene.events) > 1]
    label = rng.choice(repeated if repeated and rng.random() < 0.75 else labels)
    if not countable(scene.events, {label}):
        return None
    indices = [i for i, e in enumerate(scene.events) if e.label == label]
    # "Separate": one event may be several barks in a row.
    x, do = singular(label), "do" if are(label) else "does"
    texts = (
        f"How many separate times do you hear {x}?",
        f"On how many separate occasions {do} {x} occur?",
        f"How many separate times can {x} be heard?",
        f"How many times {do} {x} set in?",
    )
    distractors = [n for n in numbers_near(len(indices)) if n != "0"]
    return Draft(texts, str(len(indices)), indices, (label,), distractors=distractors)


def total(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask how many sounds there are, repeats included."""
    if not scene.events or not countable(scene.events, set(labels_of(scene))):
        return None
    texts = (
        "How many separate sounds are there, counting repeats?",
        "How many sounds are heard in all, repeats included?",
        "How many sound events does the clip have?",
        "How many sound events are there in total?",
    )
    value = len(scene.events)
    distractors = [n for n in numbers_near(value) if n != "0"]
    return Draft(texts, str(value), range(value), (), distractors=distractors)


def before(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound starts right before one that occurs once."""
    events = scene.events
    places = [i for i in single_places(scene) if i > 0 and in_order(events, i) and in_order(events, i - 1)]
    if not places:
        return None
    index = rng.choice(places)
    x = the(events[index].label)
    texts = (
        f"Which sound starts right before {x}?",
        f"What comes right before {x}?",
        f"Which sound begins just before {x}?",
        f"Which sound comes immediately before {x}?",
    )
    return label_draft(scene, rng, index - 1, (index - 1, index), texts, events[index].label)


def after(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound starts right after one that occurs once."""
    events = scene.events
    places = [
        i for i in single_places(scene) if i + 1 < len(events) and in_order(events, i) and in_order(events, i + 1)
    ]
    if not places:
        return None
    index = rng.choice(places)
    x = the(events[index].label)
    texts = (
        f"Which sound starts right after {x}?",
        f"What comes right after {x}?",
        f"Which sound begins next after {x}?",
        f"Which sound comes immediately after {x}?",
    )
    return label_draft(scene, rng, index + 1, (index, index + 1), texts, events[index].label)


def longest(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound lasts longest."""
    target = longest_place(scene)
    if target is None:
        return None
    texts = (
        "Which sound is the longest?",
        "Which sound lasts longest?",
        "What is the longest sound in the clip?",
        "Which single sound goes on for the longest time?",
    )
    return label_draft(scene, rng, target, range(len(scene.events)), texts)


def loudest(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which sound is loudest."""
    target = loudest_place(scene)
    if target is None:
        return None
    texts = (
        "Which sound is the loudest?",
        "What is the loudest sound in the clip?",
        "Which sound has the highest level?",
        "Which sound is clearly louder than the others?",
    )
    return label_draft(scene, rng, target, range(len(scene.events)), texts)


def repeats(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which class occurs several times, where only one does."""
    counts = Counter(e.label for e in scene.events)
    repeated = [n for n, c in counts.items() if c > 1]
    if len(repeated) != 1 or len(counts) < 2 or not countable(scene.events, set(repeated)):
        return None
    indices = [i for i, e in enumerate(scene.events) if e.label == repeated[0]]
    texts = (
        "Which sound is heard more than once?",
        "Which sound repeats?",
        "Which sound comes back later in the clip?",
        "Which sound occurs several times?",
    )
    return label_draft(scene, rng, indices[0], indices, texts)


def when(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask in which half of the clip a sound is heard that occurs once."""
    middle = scene.seconds / 2
    early = [i for i in single_places(scene) if scene.events[i].offset_s <= middle - ORDER_GAP_S + TOLERANCE]
    late = [i for i in single_places(scene) if scene.events[i].onset_s >= middle + ORDER_GAP_S - TOLERANCE]
    places = early + late
    if not places:
        return None
    index = rng.choice(places)
    label = scene.events[index].label
    x, do = the(label), "do" if are(label) else "does"
    texts = (
        f"{do.capitalize()} {x} occur in the first or in the second half of the clip?",
        f"In which half of the clip {'are' if are(label) else 'is'} {x} heard?",
        f"When {do} {x} occur: in the first half or in the second half?",
    )
    value = FIRST_HALF if index in early else SECOND_HALF
    return Draft(texts, value, (index,), (label,), None, options=(FIRST_HALF, SECOND_HALF))


def order(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask whether one sound starts before another."""
    single = single_places(scene)
    pairs = [(i, j) for i in single for j in single if i < j and onset_gap(scene.events[i], scene.events[j])]
    if not pairs:
        return None
    i, j = rng.choice(pairs)
    yes = rng.random() < 0.5
    x, y = (scene.events[k].label for k in ((i, j) if yes else (j, i)))
    do = "do" if are(x) else "does"
    texts = (
        f"{do.capitalize()} {the(x)} start before {the(y)}?",
        f"{do.capitalize()} {the(x)} begin earlier than {the(y)}?",
        f"{do.capitalize()} {the(x)} come before {the(y)}?",
    )
    return Draft(texts, "Yes" if yes else "No", (i, j), (x, y), options=("Yes", "No"))


def longer(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which of two sounds lasts longer."""
    return _pair(
        scene,
        rng,
        lambda e: e.duration_s,
        LENGTH_LEAD_S,
        ("Which lasts longer", "Which sound is longer", "Which goes on longer"),
    )


def louder(scene: Scene, rng: random.Random) -> Draft | None:
    """Ask which of two sounds is louder."""
    return _pair(
        scene,
        rng,
        lambda e: e.level_db,
        LEVEL_LEAD_DB,
        ("Which is louder", "Which sound is louder", "Which has the higher level"),
    )


def _pair(
    scene: Scene, rng: random.Random, key: Callable[[SceneEvent], float], lead: float, stems: Sequence[str]
) -> Draft | None:
    single = single_places(scene)
    events = scene.events
    pairs = [(i, j) for i in single for j in single if key(events[i]) - key(events[j]) >= lead - TOLERANCE]
    if not pairs:
        return None
    target, other = rng.choice(pairs)
    labels = [events[target].label, events[other].label]
    rng.shuffle(labels)
    texts = [f"{stem}, {the(labels[0])} or {the(labels[1])}?" for stem in stems]
    answer = events[target].label
    return Draft(texts, answer, sorted((target, other)), (labels[0], labels[1]), target, options=labels)
