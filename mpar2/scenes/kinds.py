"""The kinds of question that a scene admits: for each, its wordings, its answer and its distractors.

Conventions: a question is asked only where it has one answer that a careful listener could not dispute. Sounds are in
order when their onsets lie at least 0.3 s apart; two sounds of one class are two when 0.3 s of silence lies between
them; a sound is longest with a lead of 0.5 s, loudest with a lead of 6 dB. Order is order of onset, and the wording
("starts", "begins") says so.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpar2.scenes.classes import CLASSES
from mpar2.scenes.scene import Scene, SceneEvent
from mpar2.scenes.written import are, bare, singular, the

__all__ = ["FAMILY_WORDS", "FIRST_HALF", "KINDS", "LOUDNESS_KINDS", "SECOND_HALF", "Draft"]

ORDER_GAP_S = 0.3
LENGTH_LEAD_S = 0.5
LEVEL_LEAD_DB = 6.0
_TOLERANCE = 1e-6

# Families that a question may name, and the classes that make a family's border disputable in a scene.
FAMILY_WORDS = {"music": "musical instrument", "animal": "animal"}
_DISPUTED = {"music": {"bell"}, "animal": set()}

FIRST_HALF, SECOND_HALF = "in the first half", "in the second half"


@dataclass(frozen=True)
class Draft:
    """A question before its wording and choices are picked; ``value`` is the answer as a label, number or word."""

    texts: Sequence[str]
    value: str
    evidence: Sequence[int]
    subjects: tuple[str, ...] = ()
    target: int | None = None
    options: Sequence[str] | None = None  # fixed choices (all of them are offered)
    distractors: Sequence[str] = ()  # labels or numbers to draw from, best first
    closed: bool = False  # makes no sense without choices


def _onset_gap(a: SceneEvent, b: SceneEvent) -> bool:
    return b.onset_s - a.onset_s >= ORDER_GAP_S - _TOLERANCE


def _ordered(events: Sequence[SceneEvent], index: int) -> bool:
    """Whether the place of this event in the order of onsets is beyond dispute."""
    before = index == 0 or _onset_gap(events[index - 1], events[index])
    after = index == len(events) - 1 or _onset_gap(events[index], events[index + 1])
    return before and after


def _countable(events: Sequence[SceneEvent], labels: set[str]) -> bool:
    """Whether the events of each of these labels are separated well enough to be counted."""
    for label in labels:
        mine = [e for e in events if e.label == label]
        if any(b.onset_s - a.offset_s < ORDER_GAP_S - _TOLERANCE for a, b in zip(mine, mine[1:], strict=False)):
            return False
    return True


def _labels(scene: Scene) -> list[str]:
    return list(dict.fromkeys(e.label for e in scene.events))


def _absent(scene: Scene, rng: random.Random) -> list[str]:
    """Classes that the scene does not contain, shuffled; what the background is made of does not count as absent."""
    present = set(_labels(scene))
    names = [n for n in CLASSES if n not in present and n not in scene.background]
    rng.shuffle(names)
    return names


def _others(scene: Scene, label: str, rng: random.Random) -> list[str]:
    """Distractors for a question about sounds that are there: the present ones first, then absent ones."""
    present = [n for n in _labels(scene) if n != label]
    rng.shuffle(present)
    return present + _absent(scene, rng)


def _numbers(value: int) -> list[str]:
    near = sorted((n for n in range(0, 8) if n != value), key=lambda n: (abs(n - value), n))
    return [str(n) for n in near]


def _single(scene: Scene) -> list[int]:
    """Indices of events whose class occurs once."""
    counts = Counter(e.label for e in scene.events)
    return [i for i, e in enumerate(scene.events) if counts[e.label] == 1]


def _lead(values: Sequence[float], lead: float) -> int | None:
    """Index of the greatest value if it leads all others by ``lead``, else None."""
    if len(values) < 2:
        return None
    order = sorted(range(len(values)), key=lambda i: -values[i])
    return order[0] if values[order[0]] - values[order[1]] >= lead - _TOLERANCE else None


def _longest(scene: Scene) -> int | None:
    return _lead([e.duration_s for e in scene.events], LENGTH_LEAD_S)


def _loudest(scene: Scene) -> int | None:
    return _lead([e.level_db for e in scene.events], LEVEL_LEAD_DB)


def _label_draft(
    scene: Scene, rng: random.Random, target: int, evidence: Sequence[int], texts: Sequence[str], *subjects: str
) -> Draft | None:
    if len(_labels(scene)) < 2:
        return None  # every sound is the same: the answer would give nothing away
    label = scene.events[target].label
    # A sound that the question itself names is no plausible answer to it.
    distractors = [n for n in _others(scene, label, rng) if n not in subjects]
    return Draft(texts, label, evidence, subjects, target, distractors=distractors)


# One step -------------------------------------------------------------------------------------------------------------


def _what(scene: Scene, rng: random.Random) -> Draft | None:
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
    return Draft(texts, label, evidence, (), target, distractors=_absent(scene, rng), closed=True)


def _missing(scene: Scene, rng: random.Random) -> Draft | None:
    labels = _labels(scene)
    if len(labels) < 2:
        return None
    texts = (
        "Which of these sounds is not heard?",
        "Which of these sounds is missing from the clip?",
        "Which sound does not occur in the audio?",
    )
    rng.shuffle(labels)
    return Draft(texts, _absent(scene, rng)[0], range(len(scene.events)), (), None, distractors=labels, closed=True)


def _occurs(scene: Scene, rng: random.Random) -> Draft | None:
    yes = bool(scene.events) and rng.random() < 0.5
    label = rng.choice(_labels(scene)) if yes else _absent(scene, rng)[0]
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


def _first(scene: Scene, rng: random.Random) -> Draft | None:
    if len(scene.events) < 2 or not _ordered(scene.events, 0):
        return None
    texts = (
        "Which sound comes first?",
        "What is the first sound in the clip?",
        "Which sound starts first?",
        "What do you hear first?",
        "With which sound does the clip begin?",
    )
    return _label_draft(scene, rng, 0, (0,), texts)


def _last(scene: Scene, rng: random.Random) -> Draft | None:
    events = scene.events
    target = len(events) - 1
    if target < 1 or not _ordered(events, target) or events[target].offset_s < max(e.offset_s for e in events):
        return None  # a sound that starts last but does not end last is not "the last sound" to everybody
    texts = (
        "Which sound comes last?",
        "What is the last sound in the clip?",
        "Which sound starts last?",
        "What do you hear last?",
        "With which sound does the clip end?",
    )
    return _label_draft(scene, rng, target, (target,), texts)


# Two steps ------------------------------------------------------------------------------------------------------------


def _nth(scene: Scene, rng: random.Random) -> Draft | None:
    places = [i for i in (1, 2) if i < len(scene.events) - 1 and all(_ordered(scene.events, j) for j in range(i + 1))]
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
    return _label_draft(scene, rng, target, range(target + 1), texts, word)


def _count(scene: Scene, rng: random.Random) -> Draft | None:
    labels = _labels(scene)
    if not labels:
        return None
    repeated = [n for n in labels if sum(e.label == n for e in scene.events) > 1]
    label = rng.choice(repeated if repeated and rng.random() < 0.75 else labels)
    if not _countable(scene.events, {label}):
        return None
    mine = [i for i, e in enumerate(scene.events) if e.label == label]
    # "Separate": one event may be several barks in a row.
    x, do = singular(label), "do" if are(label) else "does"
    texts = (
        f"How many separate times do you hear {x}?",
        f"On how many separate occasions {do} {x} occur?",
        f"How many separate times can {x} be heard?",
        f"How many times {do} {x} set in?",
    )
    near = [n for n in _numbers(len(mine)) if n != "0"]
    return Draft(texts, str(len(mine)), mine, (label,), distractors=near)


def _total(scene: Scene, rng: random.Random) -> Draft | None:
    if not scene.events or not _countable(scene.events, set(_labels(scene))):
        return None
    texts = (
        "How many separate sounds are there, counting repeats?",
        "How many sounds are heard in all, repeats included?",
        "How many sound events does the clip have?",
        "How many sound events are there in total?",
    )
    value = len(scene.events)
    near = [n for n in _numbers(value) if n != "0"]
    return Draft(texts, str(value), range(value), (), distractors=near)


def _before(scene: Scene, rng: random.Random) -> Draft | None:
    events = scene.events
    places = [i for i in _single(scene) if i > 0 and _ordered(events, i) and _ordered(events, i - 1)]
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
    return _label_draft(scene, rng, index - 1, (index - 1, index), texts, events[index].label)


def _after(scene: Scene, rng: random.Random) -> Draft | None:
    events = scene.events
    places = [i for i in _single(scene) if i + 1 < len(events) and _ordered(events, i) and _ordered(events, i + 1)]
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
    return _label_draft(scene, rng, index + 1, (index, index + 1), texts, events[index].label)


def _longest_kind(scene: Scene, rng: random.Random) -> Draft | None:
    target = _longest(scene)
    if target is None:
        return None
    texts = (
        "Which sound is the longest?",
        "Which sound lasts longest?",
        "What is the longest sound in the clip?",
        "Which single sound goes on for the longest time?",
    )
    return _label_draft(scene, rng, target, range(len(scene.events)), texts)


def _loudest_kind(scene: Scene, rng: random.Random) -> Draft | None:
    target = _loudest(scene)
    if target is None:
        return None
    texts = (
        "Which sound is the loudest?",
        "What is the loudest sound in the clip?",
        "Which sound has the highest level?",
        "Which sound is clearly louder than the others?",
    )
    return _label_draft(scene, rng, target, range(len(scene.events)), texts)


def _repeats(scene: Scene, rng: random.Random) -> Draft | None:
    counts = Counter(e.label for e in scene.events)
    repeated = [n for n, c in counts.items() if c > 1]
    if len(repeated) != 1 or len(counts) < 2 or not _countable(scene.events, set(repeated)):
        return None
    mine = [i for i, e in enumerate(scene.events) if e.label == repeated[0]]
    texts = (
        "Which sound is heard more than once?",
        "Which sound repeats?",
        "Which sound comes back later in the clip?",
        "Which sound occurs several times?",
    )
    return _label_draft(scene, rng, mine[0], mine, texts)


def _when(scene: Scene, rng: random.Random) -> Draft | None:
    middle = scene.seconds / 2
    early = [i for i in _single(scene) if scene.events[i].offset_s <= middle - ORDER_GAP_S + _TOLERANCE]
    late = [i for i in _single(scene) if scene.events[i].onset_s >= middle + ORDER_GAP_S - _TOLERANCE]
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


def _order(scene: Scene, rng: random.Random) -> Draft | None:
    single = _single(scene)
    pairs = [(i, j) for i in single for j in single if i < j and _onset_gap(scene.events[i], scene.events[j])]
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


def _longer(scene: Scene, rng: random.Random) -> Draft | None:
    return _pair(
        scene,
        rng,
        lambda e: e.duration_s,
        LENGTH_LEAD_S,
        ("Which lasts longer", "Which sound is longer", "Which goes on longer"),
    )


def _louder(scene: Scene, rng: random.Random) -> Draft | None:
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
    single = _single(scene)
    events = scene.events
    pairs = [(i, j) for i in single for j in single if key(events[i]) - key(events[j]) >= lead - _TOLERANCE]
    if not pairs:
        return None
    target, other = rng.choice(pairs)
    named = [events[target].label, events[other].label]
    rng.shuffle(named)
    texts = [f"{stem}, {the(named[0])} or {the(named[1])}?" for stem in stems]
    answer = events[target].label
    return Draft(texts, answer, sorted((target, other)), (named[0], named[1]), target, options=named)


# Two-step combinations ------------------------------------------------------------------------------------------------


def _beside(scene: Scene, rng: random.Random, anchor: int | None, step: int, texts: Sequence[str]) -> Draft | None:
    if anchor is None or not 0 <= anchor + step < len(scene.events):
        return None
    target = anchor + step
    if not (_ordered(scene.events, anchor) and _ordered(scene.events, target)):
        return None
    return _label_draft(scene, rng, target, range(len(scene.events)), texts)


def _after_longest(scene: Scene, rng: random.Random) -> Draft | None:
    texts = (
        "Which sound starts right after the longest sound?",
        "What comes next after the longest sound has started?",
        "After the longest sound begins, which sound starts next?",
    )
    return _beside(scene, rng, _longest(scene), 1, texts)


def _before_longest(scene: Scene, rng: random.Random) -> Draft | None:
    texts = (
        "Which sound starts right before the longest sound?",
        "What begins just before the longest sound starts?",
        "Which sound comes immediately before the longest sound?",
    )
    return _beside(scene, rng, _longest(scene), -1, texts)


def _after_loudest(scene: Scene, rng: random.Random) -> Draft | None:
    texts = (
        "Which sound starts right after the loudest sound?",
        "What comes next after the loudest sound has started?",
        "After the loudest sound begins, which sound starts next?",
    )
    return _beside(scene, rng, _loudest(scene), 1, texts)


def _loudest_side(scene: Scene, rng: random.Random) -> Draft | None:
    top = _loudest(scene)
    if top is None:
        return None
    events = scene.events
    places = [
        i
        for i in _single(scene)
        if i != top and abs(events[i].onset_s - events[top].onset_s) >= ORDER_GAP_S - _TOLERANCE
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


def _count_after(scene: Scene, rng: random.Random) -> Draft | None:
    return _count_beside(scene, rng, "after")


def _count_before(scene: Scene, rng: random.Random) -> Draft | None:
    return _count_beside(scene, rng, "before")


def _count_beside(scene: Scene, rng: random.Random, side: str) -> Draft | None:
    events = scene.events
    if len(events) < 3 or not _countable(events, set(_labels(scene))):
        return None
    labels = _labels(scene)
    rng.shuffle(labels)
    for label in labels:
        mine = [i for i, e in enumerate(events) if e.label == label]
        index = mine[0]
        if not _ordered(events, index):
            continue
        counted = range(index + 1, len(events)) if side == "after" else range(index)
        x = the(label) if len(mine) == 1 else "the first " + bare(label)
        texts = (
            f"How many sounds start {side} {x}?",
            f"How many sounds come {side} {x}?",
            f"Counting repeats, how many sounds begin {side} {x}?",
        )
        return Draft(texts, str(len(counted)), sorted((index, *counted)), (label,), distractors=_numbers(len(counted)))
    return None


def _members(scene: Scene, rng: random.Random) -> tuple[str, list[int]] | None:
    """A family that may be asked about, and the events that belong to it."""
    present = set(_labels(scene))
    families = [f for f in FAMILY_WORDS if not (_DISPUTED[f] & present)]
    groups = [(f, [i for i, e in enumerate(scene.events) if CLASSES[e.label].family == f]) for f in families]
    groups = [(f, members) for f, members in groups if members]
    return rng.choice(groups) if groups else None


def _first_of_family(scene: Scene, rng: random.Random) -> Draft | None:
    return _end_of_family(scene, rng, "first")


def _last_of_family(scene: Scene, rng: random.Random) -> Draft | None:
    return _end_of_family(scene, rng, "last")


def _end_of_family(scene: Scene, rng: random.Random, end: str) -> Draft | None:
    found = _members(scene, rng)
    if found is None or len(scene.events) < 2:
        return None
    family, members = found
    mine = [scene.events[i] for i in members]
    place = 0 if end == "first" else len(mine) - 1
    if len({e.label for e in mine}) > 1 and not _ordered(mine, place):
        return None
    if end == "last" and mine[place].offset_s < max(e.offset_s for e in mine):
        return None
    word = FAMILY_WORDS[family]
    texts = (
        f"Which {word} is heard {end}?",
        f"Which is the {end} {word} in the clip?",
        f"Which {word} is the {end} to start?",
    )
    label = mine[place].label
    present = [n for n in _others(scene, label, rng) if n in _labels(scene)]
    relatives = [n for n in _absent(scene, rng) if CLASSES[n].family == family]
    return Draft(texts, label, members, (family,), members[place], distractors=present + relatives)


def _family_count(scene: Scene, rng: random.Random) -> Draft | None:
    found = _members(scene, rng)
    if found is None or not _countable(scene.events, set(_labels(scene))):
        return None
    family, members = found
    word = {"music": "instrument sounds", "animal": "animal sounds"}[family]
    texts = (
        f"How many {word} are there, counting repeats?",
        f"How many {word} are heard, repeats included?",
        f"Counting repeats, how many {word} does the clip have?",
    )
    near = [n for n in _numbers(len(members)) if n != "0"]
    return Draft(texts, str(len(members)), members, (family,), distractors=near)


def _between(scene: Scene, rng: random.Random) -> Draft | None:
    single = set(_single(scene))
    events = scene.events
    places = [
        i
        for i in range(1, len(events) - 1)
        if {i - 1, i + 1} <= single and all(_ordered(events, j) for j in (i - 1, i, i + 1))
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
    return _label_draft(scene, rng, target, (target - 1, target, target + 1), texts, x, y)


# Kind -> (steps that the answer takes, maker).
KINDS: dict[str, tuple[int, Callable[[Scene, random.Random], Draft | None]]] = {
    "what": (1, _what),
    "missing": (1, _missing),
    "occurs": (1, _occurs),
    "first": (1, _first),
    "last": (1, _last),
    "nth": (2, _nth),
    "count": (2, _count),
    "total": (2, _total),
    "before": (2, _before),
    "after": (2, _after),
    "longest": (2, _longest_kind),
    "loudest": (2, _loudest_kind),
    "repeats": (2, _repeats),
    "when": (2, _when),
    "order": (2, _order),
    "longer": (2, _longer),
    "louder": (2, _louder),
    "after_longest": (3, _after_longest),
    "before_longest": (3, _before_longest),
    "after_loudest": (3, _after_loudest),
    "loudest_side": (3, _loudest_side),
    "count_after": (3, _count_after),
    "count_before": (3, _count_before),
    "first_of_family": (3, _first_of_family),
    "last_of_family": (3, _last_of_family),
    "family_count": (3, _family_count),
    "between": (3, _between),
}

LOUDNESS_KINDS = frozenset({"loudest", "louder", "after_loudest", "loudest_side"})
