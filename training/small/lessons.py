"""Training turns of the small pair, one skill after another: ``LESSONS``, in their order.

``list``      the sounds with their times, and which sounds occur, over scenes without audio: their frames are simulated
              targets (``training.small.frames``)
``align``     the same over rendered scenes, through the trained tower
``question``  captions, order, counts, times, comparisons, in sentences and as ``<answer>``: all skills of the base
``chain``     MPAR² chains (the adapter's lesson): perception, steps, review, answer, over clips and over given events

Every turn follows from the exact events of the scene; the reply to a silent clip is that it is silent. No lesson before
``chain`` has reasoning over audio, so that the base's decay is not trained. Reasoning over written scenes, in
``question`` and ``chain``, needs no frames and is cheap.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mpar2.cafe.sound_classes import CLASSES
from mpar2.prompts import prompt_text
from training.scenes.chains import direct_answer, mpar2_chain, text_example
from training.scenes.kinds import KINDS, LOUDNESS_KINDS
from training.scenes.questions import ScenedQuestion, make_questions
from training.scenes.scene import Scene, SceneEvent
from training.scenes.written import (
    are,
    caption,
    event_list,
    interval,
    listing,
    sentence,
    singular,
    the,
)
from training.tiny.sequences import CAPTION_REQUESTS, LIST_REQUESTS, after_list, question_after_events, steps_of

__all__ = [
    "LESSONS",
    "NOTHING",
    "Lesson",
    "chain_turns",
    "listing_turns",
    "naming_turns",
    "question_turns",
    "reasoned_turns",
    "stepped_turns",
    "time_turns",
    "oracle_turns",
]

Turns = list[tuple[str, str]]

NOTHING = ("Nothing is heard.", "I hear no sound.", "The clip is silent.")
_OPEN_REQUESTS = (
    "What do you hear?",
    "What is in this clip?",
    "Which sounds are there?",
    "Name the sounds.",
    "What sounds can be heard, in order?",
    "Tell me what this recording holds.",
    "What is making the noise?",
    "Can you list what you hear?",
    "Which sound is it?",
)
_PRESENCE_REQUESTS = ("Do you hear {}?", "Is there {} in the clip?", "Can {} be heard?", "Does it contain {}?")
_CHOICE_REQUESTS = (
    "Which of these is it: {}?",
    "Which of these do you hear: {}?",
    "One of these is in the clip: {}. Which one?",
)
_LIST_REPLIES = ("{}.", "I hear {}.", "The clip has {}.")
_LISTING_REQUESTS = (*LIST_REQUESTS, "Which sounds are there, and when?", "Give me all sounds with start and end.")


def naming_turns(scene: Scene, rng: random.Random, n: int = 3) -> Turns:
    """Return ``n`` questions about which sounds a clip holds, and their true answers.

    Args:
        scene: The scene.
        rng: Draws questions and wordings.
        n: Number of questions.
    """
    labels = list(dict.fromkeys(event.label for event in scene.events))
    absent = [label for label in CLASSES if label not in labels and label not in scene.background]
    turns = []
    for _ in range(n):
        kind = rng.random()
        if kind < 0.4:
            reply = rng.choice(_LIST_REPLIES).format(listing([singular(label) for label in labels]))
            turns.append((rng.choice(_OPEN_REQUESTS), sentence(reply) if labels else rng.choice(NOTHING)))
        elif kind < 0.7 or not labels:
            present = bool(labels) and rng.random() < 0.5
            label = rng.choice(labels if present else absent)
            turns.append((rng.choice(_PRESENCE_REQUESTS).format(singular(label)), "Yes." if present else "No."))
        else:
            answer = rng.choice(labels)
            choices = [answer, *rng.sample(absent, 3)]
            rng.shuffle(choices)
            request = rng.choice(_CHOICE_REQUESTS).format(", ".join(singular(label) for label in choices))
            turns.append((request, sentence(singular(answer))))
    return turns


def listing_turns(scene: Scene, rng: random.Random) -> Turns:
    """Return a request for the list of events with their times, and the list."""
    if not scene.events:
        return [(rng.choice(_LISTING_REQUESTS), rng.choice(NOTHING))]
    return [(rng.choice(_LISTING_REQUESTS), event_list(scene))]


def time_turns(scene: Scene, rng: random.Random, n: int = 4) -> Turns:
    """Return questions about the times of sounds that occur once, and about the sounds at a given time.

    Args:
        scene: The scene.
        rng: Draws questions and wordings.
        n: Number of draws; a time near an event's edge yields no question.
    """
    labels = [event.label for event in scene.events]
    single = [event for event in scene.events if labels.count(event.label) == 1]
    turns = []
    for _ in range(n):
        if not single or rng.random() < 0.25:
            time_s = round(rng.uniform(0, scene.seconds), 1)
            sounding = [e for e in scene.events if e.onset_s + 0.1 <= time_s <= e.offset_s - 0.1]
            at_edge = any(abs(time_s - edge) < 0.1 for e in scene.events for edge in (e.onset_s, e.offset_s))
            if not at_edge:
                names = listing(list(dict.fromkeys(singular(e.label) for e in sounding)))
                turns.append((f"What sounds at {time_s:.1f} s?", sentence(names) if sounding else rng.choice(NOTHING)))
            continue
        event = rng.choice(single)
        name, verb = the(event.label), "do" if are(event.label) else "does"
        length = f"{float(f'{event.offset_s:.1f}') - float(f'{event.onset_s:.1f}'):.1f} s"
        turns.append(
            rng.choice(
                (
                    (f"When {verb} {name} begin?", f"At {event.onset_s:.1f} s."),
                    (f"When {verb} {name} end?", f"At {event.offset_s:.1f} s."),
                    (f"When {'are' if are(event.label) else 'is'} {name} heard?", f"From {interval(event)}."),
                    (f"How long {verb} {name} last?", f"{length}, from {interval(event)}."),
                )
            )
        )
    return turns


def question_turns(scene: Scene, rng: random.Random) -> Turns:
    """Return captions, free questions in sentences, and up to two of the benchmark's questions, answered directly."""
    if not scene.events:
        return [(rng.choice((*CAPTION_REQUESTS, *_OPEN_REQUESTS)), rng.choice(NOTHING)), *naming_turns(scene, rng, 1)]
    turns = [(prompt_text(q.question, "direct"), direct_answer(q)) for q in make_questions(scene, rng)[:2]]
    turns += _free_turns(scene, rng)
    if rng.random() < 0.5:
        turns.append((rng.choice(CAPTION_REQUESTS), caption(scene, rng)))
    rng.shuffle(turns)
    return turns


def _free_turns(scene: Scene, rng: random.Random, n: int = 2) -> Turns:
    """Return ``n`` questions in everyday wording, answered in a sentence."""
    events = scene.events
    labels = [event.label for event in events]
    label, count = rng.choice(labels), len(events)
    times = labels.count(label)
    music = sum(CLASSES[name].family == "music" for name in labels)
    people = listing([singular(name) for name in dict.fromkeys(labels) if CLASSES[name].family == "human"])
    turns: Turns = [
        (rng.choice(("What do you hear first?", "How does the clip begin?")), _subject(events[0], "first")),
        (rng.choice(("What comes last?", "How does it end?")), _subject(events[-1], "last")),
        ("How many sounds are there?", "There is one sound." if count == 1 else f"There are {count} sounds."),
        (f"How many times is there {singular(label)}?", sentence({1: "once", 2: "twice"}.get(times, f"{times} times"))),
        ("Is there music?", "Yes, only music." if music == count else "Yes, and other sounds." if music else "No."),
        ("Are there people?", f"Yes: {people}." if people else "I hear none."),
    ]
    for i, name in enumerate(labels):
        if labels.count(name) == 1:
            after = f"{singular(labels[i + 1])} comes next" if i + 1 < count else "nothing follows"
            turns.append((f"What follows {the(name)}?", sentence(after)))
            before = singular(labels[i - 1]) if i else "nothing"
            turns.append((f"What is there before {the(name)}?", sentence(before)))
    return rng.sample(turns, n)


def _subject(event: SceneEvent, place: str) -> str:
    return sentence(f"{singular(event.label)} {'come' if are(event.label) else 'comes'} {place}")


def reasoned_turns(scene: Scene, rng: random.Random) -> Turns:
    """Return a written scene with a question, answered with free reasoning or directly; no audio."""
    sq = rng.choice(make_questions(scene, rng))
    example = text_example(scene, sq, "cot" if rng.random() < 0.6 else "direct", rng)
    return [(f"{example.written}\n{prompt_text(sq.question, example.mode)}", example.reply)]


def stepped_turns(scene: Scene, rng: random.Random) -> Turns:
    """Return a list of events with up to four questions, each answered by MPAR² steps; no audio."""
    turns = steps_of(scene, _list_questions(scene, rng)[:4], rng)
    return after_list(scene, turns) if turns else []


def oracle_turns(scene: Scene, rng: random.Random) -> Turns:
    """Return a question with the events given, as an evaluation with an oracle asks it, and its chain; no audio."""
    questions = _list_questions(scene, rng)[:1]
    return [
        (prompt_text(question_after_events(q.question, scene), "mpar2"), mpar2_chain(scene, q, rng)) for q in questions
    ]


def _list_questions(scene: Scene, rng: random.Random) -> list[ScenedQuestion]:
    """Return the questions that a list of events answers (none of loudness), mostly those of several steps first."""
    questions = [q for q in make_questions(scene, rng) if q.kind not in LOUDNESS_KINDS]
    # Sorting by u^(1/weight), u uniform in (0, 1), draws without replacement with these weights (Efraimidis and
    # Spirakis 2006).
    return sorted(questions, key=lambda q: rng.random() ** (1 / KINDS[q.kind][0]), reverse=True)


def chain_turns(scene: Scene, rng: random.Random) -> Turns:
    """Return a question and its MPAR² chain, sometimes with one more question.

    A silent clip gets a question about its sounds, and no chain. Half of the questions which sound a clip of one class
    holds have no choices.

    Args:
        scene: The scene.
        rng: Draws questions and wordings.
    """
    questions: Sequence[ScenedQuestion] = make_questions(scene, rng) if scene.events else ()
    if not questions:
        return naming_turns(scene, rng, 1)
    if len(scene.events) == 1 and rng.random() < 0.5:  # the usual question about a single recording
        questions = sorted(questions, key=lambda q: q.kind != "what")
    sq, *rest = questions
    if sq.kind == "what" and len({event.label for event in scene.events}) == 1 and rng.random() < 0.5:
        open_question = replace(sq.question, text=rng.choice(_OPEN_REQUESTS), choices=(), answer=singular(sq.value))
        sq = replace(sq, question=open_question)
    question = sq.question
    if sq.kind not in LOUDNESS_KINDS and rng.random() < 0.25:
        question = question_after_events(question, scene)  # given events take precedence over the audio
    follow_ups = steps_of(scene, rest[: rng.randint(0, 1)], rng)
    return [(prompt_text(question, "mpar2"), mpar2_chain(scene, sq, rng)), *follow_ups]


@dataclass(frozen=True)
class Lesson:
    """A stage of training.

    Attributes:
        turns: The kinds of turns, with the share of chats of each.
        steps: Most steps, of ``batch`` chats; ``run_stage`` may end sooner.
        strides: Strides to draw n from at each step: every n-th frame of a clip is used.
        imagined: Share of scenes without audio.
        unheard: Share of the rendered scenes whose recordings the tower was not trained on. Its outputs are less
            certain there, as they are for any other recording.
        perceived: Share of MPAR² chains that end with their perception.
        english: Share of the language model's own chats, without audio.
        texts: The kinds of turns without audio, over written scenes, with the share of such chats of each.
        written: Share of chats without audio.
        batch: Chats of a step.
        lr: The peak learning rate.
        rank: Rank of the LoRA.
    """

    turns: Mapping[Callable[[Scene, random.Random], Turns], float]
    steps: int
    strides: tuple[int, ...] = (3, 5)
    imagined: float = 0.0
    unheard: float = 0.0
    perceived: float = 0.0
    english: float = 0.0
    texts: Mapping[Callable[[Scene, random.Random], Turns], float] = field(default_factory=dict)
    written: float = 0.0
    batch: int = 8
    lr: float = 8e-4
    rank: int = 32


LESSONS: dict[str, Lesson] = {
    "list": Lesson({listing_turns: 0.75, naming_turns: 0.25}, 240, imagined=1.0),
    "align": Lesson({listing_turns: 0.65, naming_turns: 0.25, time_turns: 0.1}, 900),
    "question": Lesson(
        {question_turns: 0.4, listing_turns: 0.3, naming_turns: 0.2, time_turns: 0.1},
        600,
        strides=(1, 3, 3, 3, 5),
        english=0.08,
        texts={reasoned_turns: 1.0},
        written=0.25,
    ),
    "chain": Lesson(
        {chain_turns: 0.85, naming_turns: 0.15},
        500,
        strides=(1, 3, 3, 3, 5),
        imagined=0.05,
        unheard=0.75,
        perceived=0.5,
        texts={stepped_turns: 0.7, oracle_turns: 0.3},
        written=0.2,
        lr=6e-4,
    ),
}
