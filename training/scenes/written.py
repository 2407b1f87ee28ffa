"""Scenes in words: captions, event lists and written scenes, and random scenes that have no audio.

Conventions: times are seconds with one decimal, intervals are written ``0.4-1.6 s``, and events are in order of onset.
``timed`` is the single spelling of a sound with times (``a dog bark 0.4-1.6 s``). Event lists, written scenes and the
perception part of a trace share it, so that a small model has to learn only one. Every function is pure: the same scene
and the same state of the generator give the same text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from mpar2.cafe.sound_classes import CLASSES
from training.scenes.scene import Scene, SceneEvent

__all__ = [
    "are",
    "bare",
    "caption",
    "event_list",
    "interval",
    "length_s",
    "listing",
    "loudness_words",
    "numbered",
    "random_scene",
    "sentence",
    "singular",
    "the",
    "timed",
    "written_scene",
]

_LOUD_WITHIN_DB = 6.0
_SOFT_FROM_DB = 14.0


def singular(label: str) -> str:
    """Return the singular of a label with its article: ``dog bark`` -> ``a dog bark``."""
    return CLASSES[label].singular


def bare(label: str) -> str:
    """Return the singular without its article: ``a crackling fire`` -> ``crackling fire``."""
    words = singular(label).split(" ", 1)
    return words[1] if words[0] in ("a", "an") else " ".join(words)


def the(label: str) -> str:
    """Return the singular with the definite article: ``dog bark`` -> ``the dog bark``."""
    return "the " + bare(label)


def are(label: str) -> bool:
    """Return whether the singular takes a plural verb (``footsteps``, ``drums``)."""
    text = singular(label)
    return text == bare(label) and text.endswith("s")


def sentence(text: str) -> str:
    """Return the text with a capital letter at its start and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def interval(event: SceneEvent) -> str:
    """Return the times of an event: ``0.4-1.6 s``."""
    return f"{event.onset_s:.1f}-{event.offset_s:.1f} s"


def timed(event: SceneEvent) -> str:
    """Return ``a dog bark 0.4-1.6 s``: the name first, so that the times can be looked up by it."""
    return f"{singular(event.label)} {interval(event)}"


def numbered(scene: Scene, index: int) -> str:
    """Return ``2: a dog bark 0.4-1.6 s``: an event with its number in the order of onsets.

    Args:
        scene: The scene.
        index: Place of the event, from 0.
    """
    return f"{index + 1}: {timed(scene.events[index])}"


def length_s(event: SceneEvent) -> float:
    """Return the length as the difference of the rounded times, as a reader of the printed times would compute it."""
    return round(float(f"{event.offset_s:.1f}") - float(f"{event.onset_s:.1f}"), 1)


def listing(words: Sequence[str]) -> str:
    """Join words: ``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]


def loudness_words(scene: Scene) -> tuple[str, ...]:
    """Return ``loud``, ``medium`` or ``soft`` for each event, relative to the loudest one.

    Where the loudest event leads by 6 dB, only it is ``loud``.
    """
    top = max((event.level_db for event in scene.events), default=0.0)
    below = [round(top - event.level_db, 6) for event in scene.events]  # so that a lead of 6.0 dB is exactly 6.0
    return tuple("loud" if d < _LOUD_WITHIN_DB else "medium" if d < _SOFT_FROM_DB else "soft" for d in below)


def event_list(scene: Scene, rng: random.Random | None = None) -> str:
    """Return all events with their times.

    Args:
        scene: The scene.
        rng: Draws one of four forms; None uses the canonical one, ``1: a dog bark 0.4-1.6 s; 2: a piano 2.0-3.1 s``,
            whose numbers help a small model find the next sound.
    """
    form = 0 if rng is None else rng.randrange(4)
    if form == 1:
        return "; ".join(f"{interval(e)}: {singular(e.label)}" for e in scene.events)
    if form == 2:
        return "\n".join(f"{timed(e)}" for e in scene.events)
    if form == 3:
        return "; ".join(f"{singular(e.label)} ({interval(e)})" for e in scene.events)
    return "; ".join(numbered(scene, i) for i in range(len(scene.events)))


def caption(scene: Scene, rng: random.Random) -> str:
    """Return one or two sentences that name the events in order of onset, sometimes with times.

    Args:
        scene: The scene.
        rng: Draws the wording.
    """
    events = scene.events
    if not events:
        return rng.choice(("Nothing is heard.", "There is no sound event."))
    times = rng.random() < 0.4
    if times:
        names = [f"{singular(e.label)} at {e.onset_s:.1f} s" for e in events]
    else:
        names = [singular(e.label) for e in events]
    if len(names) == 1:
        return rng.choice((f"There {'are' if are(events[0].label) else 'is'} {names[0]}.", f"The clip has {names[0]}."))
    form = rng.randrange(5)
    if form == 0:
        return sentence(f"{names[0]}, then {_then(names[1:])}")
    if form == 1:
        return f"The clip has {listing(names)}, in this order."
    if form == 2:
        return (
            f"First there {'are' if are(events[0].label) else 'is'} {names[0]}. After that come {listing(names[1:])}."
        )
    if form == 3:
        return sentence(f"{names[0]} followed by {_then(names[1:])}")
    return f"We hear {', then '.join(names)}."


def _then(words: Sequence[str]) -> str:
    """Join words: ``a, then b, then c``."""
    return ", then ".join(words)


def written_scene(
    scene: Scene, rng: random.Random, *, levels: Literal["any", "words", "decibels", "none"] | None = None
) -> str:
    """Return the scene as text in one of several formats, with all times and the clip's length.

    Args:
        scene: The scene.
        rng: Draws the format.
        levels: How loudness is given, which questions about it need: in words, in decibels, in either ("any"), or not
            at all ("none"); None draws "any" or "none".
    """
    if levels is None:
        levels = "any" if rng.random() < 0.3 else "none"
    if levels == "any":
        levels = "words" if rng.random() < 0.75 else "decibels"
    notes = [""] * len(scene.events)
    if levels == "words":
        notes = list(loudness_words(scene))
    elif levels == "decibels":
        notes = [f"{event.level_db:.0f} dB" for event in scene.events]
    length = f"{scene.seconds:.1f} s"
    form = rng.randrange(6)
    if not scene.events:
        return f"A clip of {length} in which nothing is heard."
    # Six formats, so that a model learns the content rather than one layout.
    pairs = list(zip(scene.events, notes, strict=True))
    if form == 0:
        return f"Clip of {length}: " + "; ".join(timed(e) + (f" ({n})" if n else "") for e, n in pairs) + "."
    if form == 1:
        return f"Length: {length}\n" + "\n".join(f"- {timed(e)}" + (f", {n}" if n else "") for e, n in pairs)
    if form == 2:
        parts = [
            f"{singular(e.label)} from {e.onset_s:.1f} to {e.offset_s:.1f} s" + (f", {n}" if n else "")
            for e, n in pairs
        ]
        return sentence(f"the clip lasts {length}. It has {'; '.join(parts)}")
    if form == 3:
        rows = [
            f"{e.onset_s:.1f} | {e.offset_s:.1f} | {singular(e.label)}" + (f" | {n}" if n else "") for e, n in pairs
        ]
        return f"start | end | sound ({length} in all)\n" + "\n".join(rows)
    if form == 4:
        openers = ("At", "Then at", "Next, at")
        parts = [
            f"{rng.choice(openers)} {e.onset_s:.1f} s {'come' if are(e.label) else 'comes'} "
            f"{singular(e.label)}{f' ({n})' if n else ''}, "
            f"which {'end' if are(e.label) else 'ends'} at {e.offset_s:.1f} s."
            if i
            else f"At {e.onset_s:.1f} s {'there are' if are(e.label) else 'there is'} {singular(e.label)}"
            f"{f' ({n})' if n else ''}, until {e.offset_s:.1f} s."
            for i, (e, n) in enumerate(pairs)
        ]
        return f"A clip of {length}. " + " ".join(parts)
    return (
        f"Audio, {length}. Heard: "
        + ", ".join(f"{singular(e.label)} ({interval(e)}{'; ' + n if n else ''})" for e, n in pairs)
        + "."
    )


def random_scene(rng: random.Random) -> Scene:
    """Return a random scene without audio: 2-5 events of any classes in 6-10 s, some repeated, some overlapping.

    Args:
        rng: Draws the scene.
    """
    seed = rng.randrange(2**31)
    seconds = round(rng.uniform(6.0, 10.0), 1)
    count = rng.choices((2, 3, 4, 5), (2, 4, 4, 3))[0]
    labels: list[str] = []
    for _ in range(count):
        labels.append(rng.choice(labels) if labels and rng.random() < 0.22 else rng.choice(tuple(CLASSES)))
    rng.shuffle(labels)
    # Slots of unequal width separate most onsets; an event may extend into the next slot.
    widths = [rng.uniform(0.6, 1.6) for _ in labels]
    scale = (seconds - 0.6) / sum(widths)
    events = []
    start = 0.0
    for label, width in zip(labels, widths, strict=True):
        onset = start + rng.uniform(0.0, 0.45) * width * scale
        longest = min(seconds - onset, rng.choice((0.8, 0.9, 1.6)) * (start + width * scale - onset))
        length = max(0.25, rng.uniform(0.25, 1.0) * longest)
        start += width * scale
        events.append(
            SceneEvent(
                label,
                round(onset, 2),
                round(min(onset + length, seconds), 2),
                round(rng.choice((rng.uniform(-34.0, -12.0), rng.uniform(-26.0, -20.0))), 1),
                "text",
            )
        )
    events.sort(key=lambda event: (event.onset_s, event.label))
    return Scene(seed, "train", seconds, tuple(events), "none")
