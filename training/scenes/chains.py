"""Reasoning about a scene, generated from its exact events: free reasoning, MPAR² traces, bare answers.

Every statement follows from the events; no errors are planted. One plan of reasoning (``steps.make_plan``) serves both
forms. ``free_reasoning`` is for text only, over written scenes. ``mpar2_chain`` is the cold start in the trace format
(perception, steps of ask/hear/infer, review, answer). A trace names a sound that is not in the scene only where the
question or a choice names it: in ``ask``, and as the answer. ``written.timed`` spells all sounds with times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpar2.cafe.sound_classes import CLASSES
from mpar2.question import Question, choice_letter
from training.scenes.kinds import LOUDNESS_KINDS
from training.scenes.questions import ScenedQuestion, make_questions
from training.scenes.scene import Scene
from training.scenes.steps import Plan, make_plan
from training.scenes.written import (
    are,
    caption,
    event_list,
    listing,
    random_scene,
    sentence,
    singular,
    written_scene,
)

__all__ = [
    "TextExample",
    "briefly",
    "corpus",
    "direct_answer",
    "free_reasoning",
    "mpar2_chain",
    "mpar2_steps",
    "text_example",
    "text_examples",
]


def _answer(sq: ScenedQuestion) -> str:
    answer = sq.question.answer
    if answer is None:
        raise ValueError(
            f"the {sq.kind} question {sq.question.text!r} has no answer, so no reasoning can end in it; "
            "pass a question from make_questions"
        )
    return answer


def briefly(question: Question) -> str:
    """Return a question and its lettered choices, one a line, without the instructions of a prompt."""
    return "\n".join((question.text, *(f"({choice_letter(i)}) {choice}" for i, choice in enumerate(question.choices))))


# The three forms ------------------------------------------------------------------------------------------------------


def direct_answer(sq: ScenedQuestion) -> str:
    """Return ``<answer>…</answer>`` with the question's answer."""
    return f"<answer>{_answer(sq)}</answer>"


def mpar2_chain(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> str:
    """Return a trace of one step for easy kinds of question, two or three for others.

    Args:
        scene: The scene.
        sq: A question about it.
        rng: Draws wordings.
    """
    return f"<perception>{_perception(scene, rng)}</perception>\n{mpar2_steps(scene, sq, rng)}"


def mpar2_steps(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> str:
    """Return a chain after its perception: steps, review and answer, as a reply to a follow-up question.

    Args:
        scene: The scene.
        sq: A question about it.
        rng: Draws wordings.
    """
    plan = make_plan(scene, sq, rng)
    steps = "".join(f"<step><ask>{s.ask}</ask><hear>{s.hear}</hear><infer>{s.infer}</infer></step>\n" for s in plan)
    return f"{steps}<review>{_review(scene, sq, plan, rng)}</review>\n{direct_answer(sq)}"


def _perception(scene: Scene, rng: random.Random) -> str:
    opening = rng.choices(("", "I hear ", "Heard: "), (2, 1, 1))[0]
    return f"{opening}{event_list(scene)}." if scene.events else f"{opening}no sound."


def _review(scene: Scene, sq: ScenedQuestion, plan: Plan, rng: random.Random) -> str:
    """Return a review that checks each claim of the steps; all are confirmed, since they come from the true events."""
    used = sorted({i for step in plan for i in step.events})
    claims = list(dict.fromkeys(f"{singular(scene.events[i].label)} at {scene.events[i].onset_s:.1f} s" for i in used))
    verdict = rng.choice(("heard", "supported"))
    if not claims:
        return f"The audio has no sound: {verdict}. The answer stands."
    verdicts = ", ".join(f"{claim}: {verdict}" for claim in claims)
    return sentence(f"{verdicts}. {rng.choice(('The answer stands.', 'Nothing to correct.'))}")


_OPENINGS = (
    "Let me look at the sounds.",
    "Okay, let me think about what is heard.",
    "I need to go through the sounds.",
    "Let me work it out.",
    "First, what is there?",
    "",
)
_LEADS = ("", "", "Next question: ", "Now, ", "I ask myself: ")
_FINDINGS = ("I find {}.", "There I have {}.", "The relevant part is {}.", "That is {}.", "Here: {}.")
_CHECKS = (
    "Let me check that again.",
    "Wait, let me go over it once more.",
    "Let me make sure.",
    "Let me double-check.",
    "Hmm, let me verify that against the scene.",
)
_CONFIRMS = ("That agrees.", "Yes, that fits.", "So it holds.", "It comes out the same.", "Good, the same result.")
_CONCLUSIONS = (
    "So the answer is {}.",
    "Therefore the answer is {}.",
    "That gives {}.",
    "My answer is {}.",
    "So I choose {}.",
)
LONG_WORDS = 180


def _recount(scene: Scene, rng: random.Random) -> str:
    """Return the events again, in one of several wordings, with or without times."""
    if not scene.events:
        return "Nothing is heard."
    form = rng.randrange(5)
    names = [singular(e.label) for e in scene.events]
    if form == 0:
        return f"The sounds are {listing(names)}."
    if form == 1:
        return sentence(
            "; ".join(
                f"{n} from {e.onset_s:.1f} to {e.offset_s:.1f} s" for n, e in zip(names, scene.events, strict=True)
            )
        )
    if form == 2:
        return sentence(", then ".join(f"{n} at {e.onset_s:.1f} s" for n, e in zip(names, scene.events, strict=True)))
    if form == 3:
        return f"In order I have {event_list(scene)}."
    return sentence(f"there {'are' if are(scene.events[0].label) else 'is'} {', then '.join(names)}")


def _argue(plan: Plan, rng: random.Random) -> list[str]:
    """Return the steps of the plan as prose."""
    sentences = []
    for step in plan:
        clauses = []
        if rng.random() < 0.5:
            lead = rng.choice(_LEADS)
            clauses.append(lead + (step.ask[0].lower() + step.ask[1:] if lead else step.ask))
        if rng.random() < 0.6 or not clauses:
            clauses.append(rng.choice(_FINDINGS).format(step.hear))
        clauses.append(rng.choice(("", "", "So ", "This means: ")) + step.infer)
        if clauses[-1].startswith("So "):
            clauses[-1] = "So " + step.infer[0].lower() + step.infer[1:]
        sentences.append(" ".join(clauses))
    return sentences


def free_reasoning(scene: Scene, sq: ScenedQuestion, rng: random.Random) -> str:
    """Return ``<think>…</think><answer>…</answer>``: prose about a written scene, of varied length, always correct.

    Harder questions are rechecked more often, and about one chain in six goes over the scene several times.

    Args:
        scene: The scene.
        sq: A question about it.
        rng: Draws wordings and length.
    """
    hardness = {"easy": 0, "medium": 1, "hard": 2}.get(sq.question.difficulty or "easy", 0)
    goal = rng.randint(100, LONG_WORDS) if rng.random() < 0.1 + 0.05 * hardness else rng.randint(20, 50 + 20 * hardness)
    sentences = [rng.choice(_OPENINGS)]
    if rng.random() < 0.4 + 0.15 * hardness:
        sentences.append(_recount(scene, rng))
    sentences += _argue(make_plan(scene, sq, rng), rng)
    conclusion = rng.choice(_CONCLUSIONS).format(_answer(sq))
    room = goal - len(conclusion.split())
    while _words(sentences) < room:
        extra = [rng.choice(_CHECKS)]
        extra += [_recount(scene, rng)] if rng.random() < 0.6 else []
        extra += _argue(make_plan(scene, sq, rng), rng) if rng.random() < 0.6 or len(extra) == 1 else []
        extra.append(rng.choice(_CONFIRMS))
        if _words(sentences) + _words(extra) > max(room, 90):
            break
        sentences += extra
    sentences.append(conclusion)
    return f"<think>{' '.join(part for part in sentences if part)}</think>{direct_answer(sq)}"


def _words(parts: Sequence[str]) -> int:
    return sum(len(part.split()) for part in parts)


# Texts for the tokenizer and the text model ---------------------------------------------------------------------------


@dataclass(frozen=True)
class TextExample:
    """A written scene, a question about it, and a reply in the form of ``mode``."""

    scene: Scene
    written: str
    asked: ScenedQuestion
    mode: str  # direct, cot, mpar2
    reply: str


def text_example(scene: Scene, sq: ScenedQuestion, mode: str, rng: random.Random) -> TextExample:
    """Return a written scene with a reply to a question about it.

    Args:
        scene: The scene.
        sq: One of its questions.
        mode: Form of the reply: "direct", "cot" or "mpar2".
        rng: Draws wordings.

    Raises:
        ValueError: The mode is none of these.
    """
    if mode == "direct":
        reply = direct_answer(sq)
    elif mode == "cot":
        reply = free_reasoning(scene, sq, rng)
    elif mode == "mpar2":
        reply = mpar2_chain(scene, sq, rng)
    else:
        raise ValueError(f"unknown mode {mode!r}; the modes are direct, cot and mpar2")
    # Two sounds can differ by 6 dB and still have the same loudness word, so a comparison needs decibels.
    levels = "decibels" if sq.kind == "louder" else "any" if sq.kind in LOUDNESS_KINDS else None
    return TextExample(scene, written_scene(scene, rng, levels=levels), sq, mode, reply)


def text_examples(n: int, seed: int, *, modes: Sequence[str] = ("direct", "cot")) -> Iterator[TextExample]:
    """Yield examples over random scenes, one question each; kinds of question are equally frequent where possible.

    Args:
        n: Number of examples.
        seed: Seed of the examples.
        modes: Forms of the reply to draw from: "direct", "cot", "mpar2".

    Raises:
        ValueError: A mode is none of these.
    """
    rng = random.Random(f"text examples {seed}")
    counts: dict[str, int] = {}
    for _ in range(n):
        scene = random_scene(rng)
        # Choose the rarest kind so far, or common kinds would outnumber rare ones (loudest, repeats).
        sq = min(make_questions(scene, rng), key=lambda q: counts.get(q.kind, 0))
        counts[sq.kind] = counts.get(sq.kind, 0) + 1
        yield text_example(scene, sq, rng.choice(list(modes)), rng)


def corpus(n: int, seed: int) -> Iterator[str]:
    """Yield texts of every kind that the models read or write, from random scenes without audio.

    Args:
        n: Number of texts.
        seed: Seed of the texts.
    """
    rng = random.Random(f"corpus {seed}")
    for index, example in enumerate(text_examples(n, seed, modes=("direct", "cot", "mpar2"))):
        form = index % 8
        if form == 0:
            yield caption(example.scene, rng)
        elif form == 1:
            yield event_list(example.scene, rng)
        elif form == 2:
            words = CLASSES[rng.choice(tuple(CLASSES))]
            yield ", ".join((words.name, words.singular, words.plural, *words.synonyms))
        else:
            yield "\n".join((example.written, briefly(example.asked.question), example.reply))
