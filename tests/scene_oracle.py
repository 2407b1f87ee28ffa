"""An oracle for questions about scenes: answers from the wording and the events alone, the slow and obvious way."""

from __future__ import annotations

import re

from mpar2.cafe.sound_classes import CLASSES
from training.scenes.scene import Scene


def names_of(label: str) -> set[str]:
    """Every way in which a choice may name the class."""
    sound = CLASSES[label]
    return {sound.name, sound.singular, sound.name.capitalize()}


def label_of(choice: str) -> str | None:
    """The class that a choice names."""
    return next((label for label in CLASSES if choice in names_of(label)), None)


def named(text: str) -> list[str]:
    """Labels that a text names by their singular, in order of mention; the longest name at a place wins."""
    bare = {re.sub(r"^an? ", "", sound.singular): label for label, sound in CLASSES.items()}
    pattern = "|".join(re.escape(name) for name in sorted(bare, key=len, reverse=True))
    return [bare[match] for match in re.findall(rf"\b(?:{pattern})\b", text)]


def oracle(scene: Scene, text: str, choices: tuple[str, ...]) -> set[str]:
    """All answers that a listener could give to the question; each as a label, a number, Yes, No or a half."""
    events = sorted(scene.events, key=lambda e: e.onset_s)
    words = text.lower()
    mentioned = named(text)
    labels = {e.label for e in events}

    def firsts(pool):
        low = min(e.onset_s for e in pool)
        return {e.label for e in pool if e.onset_s < low + 0.29}

    def lasts(pool):
        high = max(e.onset_s for e in pool)
        return {e.label for e in pool if e.onset_s > high - 0.29}

    def right_after(anchor):
        return firsts([e for e in events if e.onset_s > anchor.onset_s])

    def right_before(anchor):
        return lasts([e for e in events if e.onset_s < anchor.onset_s])

    def top(value, lead):
        best = max(value(e) for e in events)
        return [e for e in events if value(e) > best - lead + 0.01]

    longest, loudest = top(lambda e: e.offset_s - e.onset_s, 0.5), top(lambda e: e.level_db, 6.0)
    of = {label: [e for e in events if e.label == label] for label in CLASSES}
    family = next((f for f, w in (("music", "instrument"), ("animal", "animal")) if w in words), None)
    if (
        "of these" in words
        or text in ("What can be heard in the audio?", "Which sound is present?", "What do you hear?")
        or ("does not occur" in words)
    ):
        offered = {label_of(choice) for choice in choices}
        return offered - labels if re.search(r"\b(not|missing)\b", words) else offered & labels
    if "half" in words:
        (x,) = mentioned
        middle = scene.seconds / 2
        return {
            "in the first half" if e.offset_s < middle else "in the second half"
            for e in of[x]
            if not e.onset_s < middle < e.offset_s
        }
    if words.startswith(("how many", "on how many", "counting repeats")):
        if family:
            return {str(sum(CLASSES[e.label].family == family for e in events))}
        side = re.search(r"(after|before) the", words)
        if side:
            anchor = min(e.onset_s for e in of[mentioned[0]])
            after = side[1] == "after"
            return {str(sum(e.onset_s > anchor if after else e.onset_s < anchor for e in events))}
        return {str(len(of[mentioned[0]]) if mentioned else len(events))}
    if family:
        pool = [e for e in events if CLASSES[e.label].family == family]
        return firsts(pool) if "first" in words else lasts(pool)
    if words.startswith(("is the loudest", "does the loudest")):
        return {"Yes" if a.onset_s < b.onset_s else "No" for a in loudest for b in of[mentioned[0]]}
    if words.startswith(("does the", "do the")) and len(mentioned) == 2 and re.search("before|earlier", words):
        return {"Yes" if a.onset_s < b.onset_s else "No" for a in of[mentioned[0]] for b in of[mentioned[1]]}
    if words.startswith(("do ", "does ", "is ", "are ", "can ")):
        return {"Yes" if of[mentioned[0]] else "No"}
    if " or the " in words:
        x, y = mentioned
        loud = "loud" in words or "level" in words
        keys = {e.label: e.level_db if loud else e.offset_s - e.onset_s for e in events if e.label in (x, y)}
        return {n for n in keys if keys[n] > max(keys.values()) - (5.99 if loud else 0.49)}
    if (
        " longest " in words
        and re.search("after|before", words)
        or " loudest " in words
        and re.search("after|before", words)
    ):
        anchors = longest if "longest" in words else loudest
        return set().union(*((right_after if "after" in words else right_before)(a) for a in anchors))
    if "longest" in words:
        return {e.label for e in longest}
    if "loud" in words or "level" in words:
        return {e.label for e in loudest}
    if len(mentioned) == 2:
        x, y = of[mentioned[0]], of[mentioned[1]]
        return {e.label for e in events if x[0].onset_s < e.onset_s < y[0].onset_s}
    if mentioned:
        (anchor,) = of[mentioned[0]]
        return right_after(anchor) if "after" in words else right_before(anchor)
    if re.search("more than once|repeats|comes back|several times", words):
        return {label for label in labels if len(of[label]) > 1}
    for place, word in enumerate(("second", "third"), 1):
        if word in words:
            return {events[place].label}
    if re.search("first|begin", words):
        return firsts(events)
    assert re.search("last|end", words), f"the oracle cannot read {text!r}"
    return lasts(events) | {e.label for e in events if e.offset_s == max(o.offset_s for o in events)}
