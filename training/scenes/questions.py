"""Questions about a scene whose answers follow from its events.

Conventions: a question is asked only where it has one answer that a careful listener could not dispute (see ``kinds``).
``difficulty`` follows from the number of steps to the answer and the number of events.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mpar2.cafe.sound_classes import CLASSES
from mpar2.question import Question
from training.scenes.drafts import FAMILY_WORDS, Draft
from training.scenes.kinds import KINDS, LOUDNESS_KINDS
from training.scenes.scene import Scene
from training.scenes.written import singular

__all__ = ["FAMILY_WORDS", "KINDS", "LOUDNESS_KINDS", "ScenedQuestion", "make_questions"]

OPEN_SHARE = 0.2


@dataclass(frozen=True)
class ScenedQuestion:
    """A question and the evidence for its answer.

    Attributes:
        question: The question.
        kind: Its kind, a key of ``KINDS``.
        evidence: Indices of the events that the answer rests on.
        subjects: The labels (or the family) that the question names.
        target: Index of the event that is the answer, where the answer is an event.
        value: The answer before wording: a label, a number, ``Yes``, ``No``, or a half.
    """

    question: Question
    kind: str
    evidence: tuple[int, ...]
    subjects: tuple[str, ...] = ()
    target: int | None = None
    value: str = ""


def _difficulty(n_steps: int, events: int) -> str:
    points = n_steps + (events >= 5) - (events <= 2)
    return "easy" if points <= 1 else "medium" if points == 2 else "hard"


def _domain(scene: Scene) -> str:
    music = {CLASSES[e.label].family == "music" for e in scene.events}
    return "mix" if len(music) == 2 else "music" if music == {True} else "sound"


def _wording(value: str, style: str) -> str:
    if value not in CLASSES:
        return value
    return {"singular": singular(value), "name": value, "title": value[:1].upper() + value[1:]}[style]


def make_questions(scene: Scene, rng: random.Random) -> list[ScenedQuestion]:
    """Make at most one question of each kind in ``KINDS``; kinds that are ambiguous in the scene are left out.

    About one question in five is open (no choices). Choices are in random order and distinct.

    Args:
        scene: The scene.
        rng: Draws wordings, choices and order.

    Returns:
        The questions in random order.

    Raises:
        ValueError: The scene's events are not in order of onset.
    """
    if any(a.onset_s > b.onset_s for a, b in zip(scene.events, scene.events[1:], strict=False)):
        raise ValueError(
            f"scene {scene.seed}: events are not in order of onset ({[e.onset_s for e in scene.events]}); "
            "questions of order would be wrong. Sort the events by onset_s."
        )
    questions = []
    for kind, (n_steps, maker) in KINDS.items():
        draft = maker(scene, rng)
        if draft is not None:
            questions.append(_finish(scene, rng, kind, n_steps, draft))
    rng.shuffle(questions)
    return questions


def _finish(scene: Scene, rng: random.Random, kind: str, n_steps: int, draft: Draft) -> ScenedQuestion:
    style = rng.choices(("singular", "name", "title"), (75, 15, 10))[0]
    is_open = not draft.closed and rng.random() < OPEN_SHARE
    values: list[str] = []
    if not is_open and draft.options is not None:
        values = list(draft.options)
    elif not is_open:
        size = rng.choices((2, 3, 4, 5), (1, 3, 6, 2))[0]
        values = [draft.value, *draft.distractors[: size - 1]]
    rng.shuffle(values)
    if is_open:
        style = "singular"
    question = Question(
        text=rng.choice(draft.texts),
        choices=tuple(_wording(v, style) for v in values),
        answer=_wording(draft.value, style),
        domain=_domain(scene),
        category=kind,
        sub_category=_sub_category(kind),
        difficulty=_difficulty(n_steps, len(scene.events)),
    )
    return ScenedQuestion(question, kind, tuple(draft.evidence), draft.subjects, draft.target, draft.value)


_SUB_CATEGORIES = {
    "presence": {"what", "missing", "occurs"},
    "counting": {"count", "total", "repeats", "count_after", "count_before", "family_count"},
    "duration": {"longest", "longer", "after_longest", "before_longest"},
    "loudness": LOUDNESS_KINDS,
}


def _sub_category(kind: str) -> str:
    return next((name for name, kinds in _SUB_CATEGORIES.items() if kind in kinds), "order")
