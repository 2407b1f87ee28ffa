"""A completion with its truth, from the arguments that TRL passes to a reward function, and the scores of a scorer.

TRL calls ``f(prompts=, completions=, completion_ids=, **columns)``: a completion is a text or a list of chat messages,
and every column of the dataset is a list of the same length. The columns that rewards read are those of
``training.data``: ``question``, ``choices``, ``answer``, ``caption``, ``events`` (objects with ``label``, ``onset_s``,
``offset_s``). A missing column is unknown for every completion, never empty truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

from mpar2.answers import Answer, read_answer
from mpar2.question import Event, resolve_answer, strict_match
from mpar2.trace import Trace, parse_trace


@dataclass(frozen=True)
class Sample:
    """A completion with its question and truth. ``events`` and ``caption`` are None where unknown."""

    text: str
    question: str = ""
    choices: tuple[str, ...] = ()
    answer: str | None = None
    events: tuple[Event, ...] | None = None
    caption: str | None = None
    tokens: int | None = None

    @cached_property
    def trace(self) -> Trace:
        return parse_trace(self.text)

    @property
    def right(self) -> bool | None:
        """Whether the answer names the right choice; None without an answer to compare with."""
        if self.answer is None:
            return None
        return strict_match(self.answer, self.prediction.choice or self.prediction.words, self.choices)

    @cached_property
    def prediction(self) -> Answer:
        """The answer of the completion."""
        return read_answer(self.trace, self.choices)


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1]: of the perception part, of each step in order, of the review.

    ``thinking`` and ``consistent`` are for traces of one ``<think>``: its score against the truth, and whether the
    answer is its conclusion.
    """

    perception: float = 0.0
    steps: tuple[float, ...] = ()
    review: float = 0.0
    thinking: float = 0.0
    consistent: float = 0.0


class Scorer(Protocol):
    """Scores traces against their truth. ``None`` means not scored: no truth, or no reply of the judge.

    ``is_async`` is True if scoring calls a service: ``score`` is then a coroutine function.
    """

    id: str
    is_async: bool

    def score(self, sample: Sample) -> Scores | None: ...


def completion_text(completion: Any) -> str:
    """Return the text of a completion, chat or plain.

    >>> completion_text([{"role": "assistant", "content": "a dog"}]), completion_text("a dog")
    ('a dog', 'a dog')
    """
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


def samples_of_call(completions: Sequence[Any], columns: Mapping[str, Any]) -> list[Sample]:
    """Return the samples of one call of a reward function.

    Raises:
        ValueError: A column has another length than ``completions``.
    """
    count = len(completions)

    def column(name: str) -> Sequence[Any]:
        values = columns.get(name)
        if values is None:
            return [None] * count
        if len(values) != count:
            raise ValueError(f"column '{name}' has {len(values)} values for {count} completions")
        return values

    names = ("question", "choices", "answer", "events", "caption", "completion_ids")
    rows = zip(completions, *map(column, names), strict=True)
    return [
        _sample(
            text=completion_text(completion),
            question=question or "",
            choices=tuple(choices or ()),
            answer=resolve_answer(answer, tuple(choices or ())),
            events=None if events is None else tuple(_event(event) for event in events),
            caption=caption or None,
            tokens=None if ids is None else len(ids),
        )
        for completion, question, choices, answer, events, caption, ids in rows
    ]


@lru_cache(maxsize=2048)
def _sample(**fields: Any) -> Sample:
    """Return the same object for equal fields, so that the rewards of a step share its parsed trace."""
    return Sample(**fields)


def _event(event: Any) -> Event:
    if isinstance(event, Event):
        return event
    return Event(event["label"], event.get("onset_s"), event.get("offset_s"))
