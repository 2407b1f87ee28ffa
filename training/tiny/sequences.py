"""Token sequences that the language model of the tiny pair is trained on: chats, with or without audio.

A sequence is a whole chat in the checkpoint's own template. ``learn`` marks the target tokens: those of the assistant's
turns and their ``<|im_end|>``. A clip is represented by as many ``<|AUDIO|>`` placeholders as it has frames. Their
embeddings are the tower's outputs for the scene's row, or simulated where the scene is not rendered.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from mpar2.arms import after_events
from mpar2.cafe.sound_classes import CLASSES
from mpar2.prompts import prompt_text
from mpar2.question import Question
from training.scenes.chains import briefly, direct_answer, mpar2_chain, mpar2_steps, text_examples
from training.scenes.kinds import LOUDNESS_KINDS
from training.scenes.questions import ScenedQuestion, make_questions
from training.scenes.scene import Scene, SceneEvent
from training.scenes.written import caption, event_list, interval, listing, numbered, random_scene, singular, the, timed
from training.tiny.codes import FRAME_S, simulated

__all__ = [
    "TAUGHT",
    "Chat",
    "Encoder",
    "SceneRow",
    "Sequence",
    "after_list",
    "aligned",
    "cold_start",
    "copied",
    "imagined",
    "listed",
    "rendered",
    "short_turns",
    "stepped",
    "steps_of",
    "question_after_events",
    "written",
]

SceneRow = tuple[Scene, int | None]  # a scene and its row among the rendered ones; None: frames are simulated

# The kinds of question that a model of this size is trained on; training.scenes.kinds has more.
TAUGHT = frozenset(
    ("what", "occurs", "count", "total", "first", "last", "before", "after", "longest", "loudest", "repeats", "when")
    + ("missing", "order", "after_longest", "between", "first_of_family")
)
CAPTION_REQUESTS = ("Describe the audio.", "What do you hear?", "Say in a sentence or two what the clip holds.")
# Kinds of short turn. The first _N_GENERAL kinds apply to any sound, the others to a sound that occurs once.
_TURNS = ("place", "place", "occurs", "occurs", "end", "most", "total", "count", "beside", "beside", "number", "when")
_N_GENERAL = _TURNS.index("beside")
LIST_REQUESTS = ("List the sounds with their times.", "List each sound you hear, with its times.")


@dataclass(frozen=True)
class Chat:
    """Turns of (user's message, assistant's reply).

    Attributes:
        turns: The turns in order.
        heard: The scene of the clip that opens the chat; None for a chat without audio.
        until: Text at whose first occurrence the last reply is truncated, without an ``<|im_end|>``; None keeps it
            whole.
    """

    turns: tuple[tuple[str, str], ...]
    heard: SceneRow | None = None
    until: str | None = None


@dataclass(frozen=True)
class Sequence:
    """Token ids, the mask of target tokens, and the frames of a clip.

    Attributes:
        ids: Token ids, int64 (T,).
        learn: True where the token is a target, bool (T,).
        pooled: Pooled outputs of the tower, (frames, d) float32.
        codes: In place of ``pooled``, embeddings like the projection's output, (frames, text model's width) float32.
    """

    ids: np.ndarray
    learn: np.ndarray
    pooled: np.ndarray | None = None
    codes: np.ndarray | None = None


class Encoder:
    """Encode chats as sequences with a processor's tokenizer and chat template."""

    def __init__(
        self,
        processor,
        basis: np.ndarray,
        pooled_of: Callable[[int], np.ndarray] | None = None,
        seed: int = 0,
        strides: tuple[int, ...] = (1,),
        simulate: Callable[[Scene, int, np.random.Generator], np.ndarray] = simulated,
    ):
        """Make an encoder.

        Args:
            processor: The checkpoint's processor.
            basis: Maps codes to embeddings, (columns, text model's width).
            pooled_of: Returns the pooled tower outputs of a row's scene.
            seed: Seed of the simulation and of the strides.
            strides: Strides to draw n from: every n-th frame of a simulated scene is kept. A clip of 50 frames trains
                as well as one of 200 at a third of the cost, and varied rates make the model read a frame's content
                rather than its position.
            simulate: Simulates the codes of a scene, (frames, columns).
        """
        self._basis = basis
        self._strides = strides
        self._simulate = simulate
        self._tokenizer = processor.tokenizer
        self._pooled_of = pooled_of
        self._rng = np.random.default_rng(seed)
        template = processor.apply_chat_template(
            [{"role": "user", "content": "@"}], add_generation_prompt=True, tokenize=False
        )
        self._head, self._tail = template.split("@")  # "…<|im_start|>user\n" and "<|im_end|>\n<|im_start|>assistant\n"
        self._between = "\n" + self._head[self._head.rindex("<|im_start|>") :]

    def __call__(self, chat: Chat) -> Sequence:
        ids: list[int] = []
        loss_mask: list[bool] = []
        pooled = codes = None
        opening = ""
        if chat.heard is not None:
            scene, row = chat.heard
            if row is None:
                codes = self._simulate(scene, int(scene.seconds / FRAME_S + 1e-6), self._rng)
                codes = codes[:: self._rng.choice(self._strides)] @ self._basis
            else:
                pooled = self._pooled_of(row)
            frames = len(codes if pooled is None else pooled)
            opening = "<|audio_bos|>" + "<|AUDIO|>" * frames + "<|audio_eos|>"
        for i, (request, reply) in enumerate(chat.turns):
            clip = "" if i else opening
            prompt_ids = self._tokenizer((self._between if i else self._head) + clip + request + self._tail).input_ids
            target, stop, _ = (
                reply.partition(chat.until) if chat.until and i == len(chat.turns) - 1 else (reply, "", "")
            )
            target_ids = self._tokenizer(target + (stop or "<|im_end|>")).input_ids
            ids += prompt_ids + target_ids
            loss_mask += [False] * len(prompt_ids) + [True] * len(target_ids)
        return Sequence(np.array(ids), np.array(loss_mask), pooled, codes)


def written(seed: int) -> Iterator[Chat]:
    """Yield text-only chats, the model's first training data: a written scene, a question, a reply in every mode.

    A quarter of the scenes are given as event lists, as in an evaluation with an oracle's perception.

    Args:
        seed: Seed of the scenes and wordings.
    """
    rng = random.Random(f"written {seed}")
    for block in range(10_000):
        for example in text_examples(512, seed * 100_003 + block, modes=("cot", "cot", "direct", "mpar2")):
            if example.asked.kind not in TAUGHT:
                continue
            question, text = example.asked.question, f"{example.written}\n"
            if example.asked.kind not in LOUDNESS_KINDS and rng.random() < 0.25:
                question, text = question_after_events(question, example.scene), ""
            yield Chat(((text + prompt_text(question, example.mode), example.reply),))


def question_after_events(question: Question, scene: Scene) -> Question:
    """Return the question as an arm with an oracle's perception is asked it.

    Args:
        question: The question.
        scene: The scene whose events precede it.
    """
    return after_events(question, [event.as_event() for event in scene.events])


def copied(seed: int) -> Iterator[Chat]:
    """Yield a written event list and many turns that each look something up in it, which trains a text model to copy.

    Each reasoning step repeats a sound, and the repetition must equal the list's entry.

    Args:
        seed: Seed of the scenes and wordings.
    """
    rng = random.Random(f"copied {seed}")
    while True:
        scene = random_scene(rng)
        turns = [
            _repeat_turn(scene, rng) if rng.random() < 0.6 else _short_turn(scene, rng, loudness=False)
            for _ in range(8)
        ]
        (request, reply), *rest = turns
        yield Chat(((f"{event_list(scene)}.\n{request}", reply), *rest))


def _repeat_turn(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Return a request for some of the scene's sounds, and a reply that repeats them as the event list spells them."""
    events = scene.events
    label = rng.choice(events).label
    indices = sorted(rng.sample(range(len(events)), rng.randint(1, len(events))))
    if rng.random() < 0.5:  # name first, as in a step whose question names the sound (training.scenes.steps)
        return f"Where is {singular(label)}?", "; ".join(timed(event) for event in events if event.label == label)
    requests = {
        f"Sounds {listing([str(i + 1) for i in indices])}?": indices,
        rng.choice(LIST_REQUESTS): list(range(len(events))),
    }
    request = rng.choice(list(requests))
    return request, "; ".join(numbered(scene, i) for i in requests[request])


def stepped(seed: int) -> Iterator[Chat]:
    """Yield a written event list and up to four questions on it, each answered by MPAR² steps.

    Args:
        seed: Seed of the scenes and wordings.
    """
    rng = random.Random(f"stepped {seed}")
    counts: dict[str, int] = {}
    while True:
        scene = random_scene(rng)
        turns = _follow_up_turns(scene, rng, counts, 4, loudness=False)
        if turns:
            yield Chat(tuple(after_list(scene, turns)))


def after_list(scene: Scene, turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return turns about a scene, with its list of events before the first one.

    Args:
        scene: The scene.
        turns: The turns; the first one gets the list.
    """
    (request, reply), *rest = turns
    return [(f"{event_list(scene)}.\n{request}", reply), *rest]


def steps_of(scene: Scene, questions: Iterable[ScenedQuestion], rng: random.Random) -> list[tuple[str, str]]:
    """Return turns of a short question and its MPAR² chain after the perception.

    Args:
        scene: The scene.
        questions: Its questions.
        rng: Draws wordings.
    """
    return [(briefly(q.question), mpar2_steps(scene, q, rng)) for q in questions]


def _follow_up_turns(
    scene: Scene, rng: random.Random, counts: dict[str, int], n: int, *, loudness: bool = True
) -> list[tuple[str, str]]:
    """Return turns of up to ``n`` short questions of the rarest kinds so far, with chains after the perception."""
    questions = [q for q in _taught_questions(scene, rng) if loudness or q.kind not in LOUDNESS_KINDS]
    return steps_of(scene, _pick_rarest(questions, counts, n), rng)


def _pick_rarest(questions: list[ScenedQuestion], counts: dict[str, int], n: int) -> list[ScenedQuestion]:
    """Choose up to ``n`` questions of the kinds that occurred least so far, and count them."""
    chosen = sorted(questions, key=lambda q: counts.get(q.kind, 0))[:n]
    for q in chosen:
        counts[q.kind] = counts.get(q.kind, 0) + 1
    return chosen


def _taught_questions(scene: Scene, rng: random.Random) -> list[ScenedQuestion]:
    return [question for question in make_questions(scene, rng) if question.kind in TAUGHT]


def rendered(scenes: list[Scene], seed: int) -> Iterator[SceneRow]:
    """Yield rendered scenes with their rows endlessly, each once an epoch; scenes without events are left out.

    Args:
        scenes: The scenes, in the order of the rows.
        seed: Seed of the order.
    """
    rng = random.Random(f"rendered {seed}")
    while True:
        for row in rng.sample(range(len(scenes)), len(scenes)):
            if scenes[row].events:
                yield scenes[row], row


def imagined(seed: int) -> Iterator[SceneRow]:
    """Yield random scenes without audio endlessly; one in eight has a single sound, as many recordings have.

    Args:
        seed: Seed of the scenes.
    """
    rng = random.Random(f"imagined {seed}")
    while True:
        scene = random_scene(rng)
        if rng.random() < 1 / 8:
            scene = replace(scene, events=(rng.choice(scene.events),))
        yield scene, None


def short_turns(scene: Scene, rng: random.Random, n: int) -> list[tuple[str, str]]:
    """Return short questions about a scene that has events, and their answers; each answer is one look-up.

    Args:
        scene: The scene.
        rng: Draws the questions.
        n: Number of questions.
    """
    return [_short_turn(scene, rng) for _ in range(n)]


def _short_turn(scene: Scene, rng: random.Random, *, loudness: bool = True) -> tuple[str, str]:
    events = scene.events
    labels = [event.label for event in events]
    i = rng.randrange(len(events))

    def sound(i: int) -> str:
        return singular(labels[i]) if 0 <= i < len(events) else "nothing"

    def most(measure: Callable[[SceneEvent], float]) -> str:
        return sound(max(range(len(events)), key=lambda i: measure(events[i])))

    single = [i for i, label in enumerate(labels) if labels.count(label) == 1]
    x = rng.choice(single) if single else None
    kind = rng.choice(_TURNS if x is not None else _TURNS[:_N_GENERAL])
    if kind == "place":
        return f"Sound {i + 1}?", sound(i)
    if kind == "occurs":
        present = rng.random() < 0.5
        absent = [label for label in CLASSES if label not in labels]
        return f"Is there {singular(labels[i] if present else rng.choice(absent))}?", "Yes" if present else "No"
    if kind == "end":
        return rng.choice((("What is first?", sound(0)), ("What is last?", sound(len(events) - 1))))
    if kind == "most":
        if loudness and rng.random() < 0.5:
            return "What is loudest?", most(lambda event: event.level_db)
        return "What is longest?", most(lambda event: event.duration_s)
    if kind == "total":
        return "How many sounds?", str(len(events))
    if kind == "count":
        return f"How often {singular(labels[i])}?", str(labels.count(labels[i]))
    if kind == "beside":
        side, step = rng.choice((("before", -1), ("after", 1)))
        return f"What is {side} {the(labels[x])}?", sound(x + step)
    if kind == "number":
        return f"Which place has {the(labels[x])}?", str(x + 1)
    return f"When is {the(labels[x])}?", interval(events[x])


def listed(scenes: Iterator[SceneRow], seed: int) -> Iterator[Chat]:
    """Yield chats of the event list alone, which train a model to find a clip's next sound faster than questions do.

    Args:
        scenes: Scenes with their rows.
        seed: Seed of the wordings.
    """
    rng = random.Random(f"listed {seed}")
    for scene, row in scenes:
        yield Chat(((rng.choice(LIST_REQUESTS), event_list(scene)),), (scene, row))


def aligned(scenes: Iterator[SceneRow], seed: int) -> Iterator[Chat]:
    """Yield captions, event lists and short answers over audio: many turns share one clip. No reasoning over audio.

    A quarter of the chats also have a turn about another, written scene. It keeps up reasoning with a clip in the
    context, although no trace is about the clip.

    Args:
        scenes: Scenes with their rows.
        seed: Seed of the wordings.
    """
    rng = random.Random(f"aligned {seed}")
    texts = written(seed + 2)
    for scene, row in scenes:
        questions = _taught_questions(scene, rng)[: rng.randint(2, 4)]
        turns = short_turns(scene, rng, 2)
        turns += [(prompt_text(q.question, "direct"), direct_answer(q)) for q in questions]
        rng.shuffle(turns)
        if rng.random() < 0.6:
            description = (
                (rng.choice(LIST_REQUESTS), event_list(scene))
                if rng.random() < 0.85
                else (rng.choice(CAPTION_REQUESTS), caption(scene, rng))
            )
            # Mostly last: later turns could read the description instead of the audio.
            turns.insert(len(turns) if rng.random() < 0.7 else rng.randint(0, len(turns)), description)
        if rng.random() < 0.25:
            turns.insert(rng.randint(1, len(turns)), next(texts).turns[0])
        yield Chat(tuple(turns), (scene, row))


def cold_start(scenes: Iterator[SceneRow], seed: int) -> Iterator[Chat]:
    """Yield MPAR² chains over audio, from the exact events: a question and up to two follow-up questions.

    Kinds of question are equally frequent. One question in ten follows a list of the events, as in an evaluation with
    an oracle's perception.

    Args:
        scenes: Scenes with their rows.
        seed: Seed of the wordings.
    """
    rng = random.Random(f"cold start {seed}")
    counts: dict[str, int] = {}
    for scene, row in scenes:
        (sq,) = _pick_rarest(_taught_questions(scene, rng), counts, 1)
        question = question_after_events(sq.question, scene) if rng.random() < 0.1 else sq.question
        chain_turn = prompt_text(question, "mpar2"), mpar2_chain(scene, sq, rng)
        yield Chat((chain_turn, *_follow_up_turns(scene, rng, counts, rng.randint(0, 2))), (scene, row))
