"""Plans of reasoning: the steps from a scene's events to the answer of a question.

A step holds a question (``ask``), an observation (``hear``) and a conclusion (``infer``), all in words. Every statement
follows from the events. A step names a sound that is not in the scene only in ``ask``, where the question names it.

An observation copies events from the perception, keyed by what ``ask`` gives. A sound that ``ask`` names comes name
first, then its times; a sound found by its place, or in a full list, comes number first. Each look-up thus goes forward
through the perception, from the key to the text that follows it. The tiny text model learns that in minutes, and the
reverse not at all (``benchmarks/README.md``, what was tried).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.scenes.drafts import FAMILY_WORDS
from training.scenes.questions import ScenedQuestion
from training.scenes.scene import Scene
from training.scenes.written import are, bare, length_s, numbered, sentence, singular, the, timed

__all__ = ["Plan", "Step", "make_plan"]


@dataclass(frozen=True)
class Step:
    """One step: question, observation and its events, and conclusion (a sentence)."""

    ask: str
    hear: str
    infer: str
    events: tuple[int, ...]


def _numbered_events(scene: Scene, indices: Sequence[int]) -> str:
    return "; ".join(numbered(scene, i) for i in indices)


def _timed_events(scene: Scene, indices: Sequence[int]) -> str:
    """Return the events that ``ask`` names, name first."""
    return "; ".join(timed(scene.events[i]) for i in indices)


def _lengths(scene: Scene, indices: Sequence[int]) -> str:
    return "; ".join(f"{numbered(scene, i)}, {length_s(scene.events[i]):.1f} s" for i in indices)


def _all_indices(scene: Scene) -> tuple[int, ...]:
    return tuple(range(len(scene.events)))


def _step(ask: str, scene: Scene, indices: Sequence[int], infer: str, hear: str | None = None) -> Step:
    text = _numbered_events(scene, indices) if hear is None else hear
    return Step(ask, text or "no sound", sentence(infer), tuple(indices))


def _verb(label: str, singular_verb: str, plural_verb: str) -> str:
    return plural_verb if are(label) else singular_verb


def _sound_count(count: int) -> str:
    return f"{count} sound" if count == 1 else f"{count} sounds"


def _count_words(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


# Plans: one function per group of kinds -------------------------------------------------------------------------------

Plan = list[Step]


def _presence(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    if sq.kind == "what":
        label = sq.value
        if not sq.question.choices:
            infer = f"only {singular(label)} {_verb(label, 'is', 'are')} heard"
            return [_step("Which sound is heard?", scene, sq.evidence, infer)]
        ask = rng.choice(("Which of the choices is heard?", "Is one of the choices heard?"))
        infer = rng.choice(
            (f"of the choices, only {singular(label)} is heard", f"only {singular(label)} is among the choices")
        )
        if are(label):
            infer = f"of the choices, only {singular(label)} are heard"
        return [_step(ask, scene, sq.evidence, infer)]
    if sq.kind == "missing":
        ask = rng.choice(("Which of the choices is never heard?", "Which choice is missing?"))
        infer = rng.choice(("one choice is not among these sounds", "the remaining choice is never heard"))
        return [_step(ask, scene, _all_indices(scene), infer)]
    label = sq.subjects[0]
    ask = rng.choice(
        (
            f"{_verb(label, 'Is', 'Are')} {singular(label)} heard?",
            f"Where {_verb(label, 'is', 'are')} {singular(label)} heard?",
        )
    )
    if sq.value == "Yes":
        infer = rng.choice(("it is heard", "yes, it is there"))
        return [_step(ask, scene, sq.evidence, infer, _timed_events(scene, sq.evidence))]
    return [_step(ask, scene, _all_indices(scene), rng.choice(("none of these is it", "it is not among these sounds")))]


def _ends(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    index = sq.target
    assert index is not None
    event = scene.events[index]
    x = the(event.label)
    if sq.kind == "first":
        ask = rng.choice(("Which sound starts first?", "What starts the clip?"))
        infer = rng.choice(
            (f"{x} {_verb(event.label, 'starts', 'start')} before all others", f"nothing starts before {x}")
        )
        return [_step(ask, scene, (index,), infer)]
    if sq.kind == "last":
        ask = rng.choice(("Which sound starts last?", "What ends the clip?"))
        infer = rng.choice(
            (f"{x} {_verb(event.label, 'starts', 'start')} after all others", f"nothing starts after {x}")
        )
        return [_step(ask, scene, (index,), infer)]
    word = sq.subjects[0]
    ask = rng.choice(("In which order do the sounds start?", "What is the order of the sounds?"))
    infer = f"number {index + 1} is {singular(event.label)}"
    return [
        _step(ask, scene, range(index + 1), rng.choice((infer, f"counting from the start, {infer}"))),
        _step(f"Which sound is the {word}?", scene, (index,), f"the {word} sound is {singular(event.label)}"),
    ]


def _count(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    label, count = sq.subjects[0], len(sq.evidence)
    rest = [i for i in _all_indices(scene) if i not in sq.evidence]
    ask = rng.choice(
        (
            f"Where {_verb(label, 'is', 'are')} {singular(label)} heard?",
            f"When {_verb(label, 'is', 'are')} {singular(label)} heard?",
        )
    )
    infer = rng.choice((f"that makes {count}", f"it is heard {_count_words(count)}"))
    plan = [_step(ask, scene, sq.evidence, infer, _timed_events(scene, sq.evidence))]
    if rest:
        ask = rng.choice(("Is any other sound of this kind?", "Do the other sounds add one?"))
        plan.append(_step(ask, scene, rest, rng.choice((f"no, it stays {count}", f"none of these counts, so {count}"))))
    return plan


def _total(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    events = _all_indices(scene)
    ask = rng.choice(("Which sounds are heard, one by one?", "How many sounds are there, counted one by one?"))
    plan = [
        _step(ask, scene, events, rng.choice((f"that makes {len(events)}", f"there are {_sound_count(len(events))}")))
    ]
    if len(events) > 2:
        ask = rng.choice(("What is the last one?", "Does anything follow the last one?"))
        plan.append(_step(ask, scene, events[-1:], f"it is number {len(events)} and nothing follows"))
    return plan


def _neighbour(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    target = sq.target
    assert target is not None
    anchor = next(i for i in sq.evidence if i != target)
    return [_find(scene, anchor, rng), _beside(scene, anchor, target, rng)]


def _find(scene: Scene, index: int, rng: random.Random) -> Step:
    event = scene.events[index]
    x = the(event.label)
    ask = rng.choice(
        (f"When {_verb(event.label, 'does', 'do')} {x} start?", f"Where {_verb(event.label, 'is', 'are')} {x}?")
    )
    infer = f"{x} {_verb(event.label, 'starts', 'start')} at {event.onset_s:.1f} s"
    return _step(ask, scene, (index,), infer, _timed_events(scene, (index,)))


def _beside(scene: Scene, anchor: int, target: int, rng: random.Random) -> Step:
    side, word = ("after", "next") if target > anchor else ("before", "just before")
    onset = scene.events[anchor].onset_s
    label = scene.events[target].label
    ask = rng.choice((f"What starts right {side} {onset:.1f} s?", f"What comes right {side} it?"))
    infer = rng.choice(
        (
            f"{singular(label)} {_verb(label, 'comes', 'come')} {word}",
            f"right {side} it {_verb(label, 'is', 'are')} {singular(label)}",
        )
    )
    return _step(ask, scene, (target,), infer)


def _between(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    first, target, last = sq.evidence
    a, b = scene.events[first], scene.events[last]
    label = scene.events[target].label
    return [
        _find(scene, first, rng),
        _find(scene, last, rng),
        _step(
            f"What starts between {a.onset_s:.1f} s and {b.onset_s:.1f} s?",
            scene,
            (target,),
            rng.choice(
                (
                    f"only {singular(label)} {_verb(label, 'lies', 'lie')} between them",
                    f"between them {_verb(label, 'is', 'are')} {singular(label)}",
                )
            ),
        ),
    ]


def _longest_step(scene: Scene, rng: random.Random) -> tuple[int, Step]:
    index = max(_all_indices(scene), key=lambda i: scene.events[i].duration_s)
    event = scene.events[index]
    ask = rng.choice(("How long does each sound last?", "How long are the sounds?"))
    infer = rng.choice(
        (
            f"{the(event.label)} of {length_s(event):.1f} s {_verb(event.label, 'is', 'are')} the longest",
            f"the longest, with {length_s(event):.1f} s, {_verb(event.label, 'is', 'are')} {the(event.label)}",
        )
    )
    return index, _step(ask, scene, _all_indices(scene), infer, _lengths(scene, _all_indices(scene)))


def _duration(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    if sq.kind == "longer":
        plan = []
        for label in sq.subjects:
            index = next(i for i in sq.evidence if scene.events[i].label == label)
            event = scene.events[index]
            ask = f"How long {_verb(label, 'does', 'do')} {the(label)} last?"
            infer = f"{the(label)} {_verb(label, 'lasts', 'last')} {length_s(event):.1f} s"
            if plan:
                winner = scene.events[sq.target].label  # type: ignore[index]
                infer += f", so {the(winner)} {_verb(winner, 'is', 'are')} longer"
            plan.append(_step(ask, scene, (index,), infer, _timed_events(scene, (index,))))
        return plan
    longest, step = _longest_step(scene, rng)
    if sq.kind == "longest":
        others = [i for i in _all_indices(scene) if i != longest]
        second = max(others, key=lambda i: length_s(scene.events[i]))
        ask = rng.choice(("Which sound is the next longest?", "What comes closest?"))
        infer = rng.choice(("at {:.1f} s it is shorter", "it lasts only {:.1f} s")).format(
            length_s(scene.events[second])
        )
        return [step, _step(ask, scene, (second,), infer)]
    assert sq.target is not None
    return [step, _beside(scene, longest, sq.target, rng)]


def _loudest_step(scene: Scene, rng: random.Random) -> tuple[int, Step]:
    index = max(_all_indices(scene), key=lambda i: scene.events[i].level_db)
    label = scene.events[index].label
    ask = rng.choice(("Which sound stands out in level?", "How loud are the sounds?"))
    infer = rng.choice(
        (
            f"{the(label)} {_verb(label, 'is', 'are')} the loudest",
            f"the loudest {_verb(label, 'is', 'are')} {the(label)}",
        )
    )
    return index, _step(ask, scene, (index,), infer, f"{numbered(scene, index)}, the loudest")


def _loudness(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    if sq.kind == "louder":
        assert sq.target is not None
        (other,) = (i for i in sq.evidence if i != sq.target)
        winner, loser = scene.events[sq.target].label, scene.events[other].label
        infer = f"{the(winner)} {_verb(winner, 'is', 'are')} louder than {the(loser)}"
        loud = f"{numbered(scene, sq.target)}, the louder one"
        soft = f"{numbered(scene, other)}, softer"
        order = sorted((sq.target, other))
        levels = [loud if i == sq.target else soft for i in order]
        return [
            _find(scene, order[0], rng),
            _step(
                rng.choice(("How do their levels compare?", "Which of the two is louder?")),
                scene,
                order,
                infer,
                "; ".join(levels),
            ),
        ]
    loudest, step = _loudest_step(scene, rng)
    if sq.kind == "loudest":
        rest = [i for i in _all_indices(scene) if i != loudest]
        ask = rng.choice(("Is any other sound as loud?", "Are the others softer?"))
        return [
            step,
            _step(ask, scene, rest, rng.choice(("the others are clearly softer", "none of these is as loud"))),
        ]
    if sq.kind == "after_loudest":
        assert sq.target is not None
        return [step, _beside(scene, loudest, sq.target, rng)]
    label = sq.subjects[0]
    index = next(i for i in _all_indices(scene) if scene.events[i].label == label)
    a, b = scene.events[loudest].onset_s, scene.events[index].onset_s
    side = "before" if a < b else "after"
    infer = f"the loudest starts at {a:.1f} s, {side} {the(label)} at {b:.1f} s"
    ask = rng.choice(
        (f"When {_verb(label, 'does', 'do')} {the(label)} start?", f"Where {_verb(label, 'is', 'are')} {the(label)}?")
    )
    return [step, _step(ask, scene, (index,), infer, _timed_events(scene, (index,)))]


def _repeats(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    rest = [i for i in _all_indices(scene) if i not in sq.evidence]
    ask = rng.choice(("Which sound comes back?", "Which sound is heard again?"))
    second = rng.choice(("Does any other sound repeat?", "Are the others heard once?"))
    infer = f"{the(sq.value)} {_verb(sq.value, 'is', 'are')} heard {_count_words(len(sq.evidence))}"
    return [_step(ask, scene, sq.evidence, infer), _step(second, scene, rest, "each of the others is heard only once")]


def _when(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    (index,) = sq.evidence
    middle = scene.seconds / 2
    side = "before" if scene.events[index].onset_s < middle else "after"
    ask = rng.choice(("Where is the middle of the clip?", "On which side of the middle is it?"))
    infer = f"it lies {side} the middle, {sq.value}"
    return [
        _find(scene, index, rng),
        _step(ask, scene, (index,), infer, f"a clip of {scene.seconds:.1f} s, middle at {middle:.1f} s"),
    ]


def _order(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    x, y = sq.subjects
    i, j = (next(k for k in sq.evidence if scene.events[k].label == label) for label in (x, y))
    second = _find(scene, j, rng)
    side = "before" if i < j else "after"
    a, b = (f"{scene.events[k].onset_s:.1f} s" for k in (i, j))
    infer = f"{a} is {side} {b}, so {the(x)} {_verb(x, 'starts', 'start')} {side} {the(y)}"
    return [_find(scene, i, rng), Step(second.ask, second.hear, sentence(infer), second.events)]


def _count_beside(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    side = "after" if sq.kind == "count_after" else "before"
    label = sq.subjects[0]
    anchor = next(i for i in _all_indices(scene) if scene.events[i].label == label)
    counted = [i for i in sq.evidence if i != anchor]
    onset = scene.events[anchor].onset_s
    repeated = sum(e.label == label for e in scene.events) > 1
    x = f"the first {bare(label)}" if repeated else the(label)
    find = _step(
        f"When {_verb(label, 'does', 'do')} {x} start?",
        scene,
        (anchor,),
        f"{x} {_verb(label, 'starts', 'start')} at {onset:.1f} s",
        _timed_events(scene, (anchor,)),
    )
    ask = rng.choice((f"Which sounds start {side} {onset:.1f} s?", f"What starts {side} it?"))
    infer = f"that makes {_sound_count(len(counted))}" if counted else f"no sound starts {side} it, so 0"
    return [find, _step(ask, scene, counted, infer, None if counted else f"nothing {side} it")]


def _family(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    family = sq.subjects[0]
    word = FAMILY_WORDS[family]
    source = f"an {word}" if word[0] in "aeiou" else f"a {word}"
    ask = rng.choice((f"Which sounds come from {source}?", f"What is heard that is {source}?"))
    count = len(sq.evidence)
    if sq.kind == "family_count":
        plan = [
            _step(ask, scene, sq.evidence, rng.choice((f"that makes {count}", f"{_sound_count(count)} of this kind")))
        ]
        rest = [i for i in _all_indices(scene) if i not in sq.evidence]
        if rest:
            plan.append(
                _step(
                    "Do the other sounds add one?",
                    scene,
                    rest,
                    rng.choice((f"no, it stays {count}", f"none of these counts, so {count}")),
                )
            )
        return plan
    assert sq.target is not None
    end = "first" if sq.kind == "first_of_family" else "last"
    infer = "there is one" if count == 1 else f"there are {count}"
    label = scene.events[sq.target].label
    return [
        _step(ask, scene, sq.evidence, f"{infer} of this kind"),
        _step(f"Which of these starts {end}?", scene, (sq.target,), f"the {end} one is {singular(label)}"),
    ]


_PLANS: dict[str, Callable[[Scene, ScenedQuestion, random.Random], Plan]] = {
    **dict.fromkeys(("what", "missing", "occurs"), _presence),
    **dict.fromkeys(("first", "last", "nth"), _ends),
    **dict.fromkeys(("before", "after"), _neighbour),
    **dict.fromkeys(("longest", "longer", "after_longest", "before_longest"), _duration),
    **dict.fromkeys(("loudest", "louder", "after_loudest", "loudest_side"), _loudness),
    **dict.fromkeys(("count_after", "count_before"), _count_beside),
    **dict.fromkeys(("first_of_family", "last_of_family", "family_count"), _family),
    "count": _count,
    "total": _total,
    "repeats": _repeats,
    "when": _when,
    "order": _order,
    "between": _between,
}


def make_plan(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> Plan:
    """Return the steps that lead to the answer: one for easy kinds, two or three for the others.

    Args:
        scene: The scene.
        sq: A question about it.
        rng: Draws wordings.
    """
    return _PLANS[sq.kind](scene, sq, rng)
