"""What every engine shares: arms, decoding, and the result of one generation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import threading

    from mpar2.attention import AttentionRecord
    from mpar2.audio import Clip
    from mpar2.question import Question
    from mpar2.trace import Span, Trace

__all__ = ["Arm", "Decoding", "Engine", "EngineError", "Generation", "Mode", "Progress", "Token"]

Mode = Literal["direct", "cot", "mpar2"]


class EngineError(RuntimeError):
    """The engine cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class Arm:
    """What is compared: checkpoint + adapter + mode (design, section 2)."""

    name: str
    model: str
    adapter: str | None = None
    mode: Mode = "mpar2"


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen. ``temperature == 0`` is greedy; ``seed`` makes sampling repeatable."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, good, want in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0; 1 is off"),
            ("seed", 0 <= self.seed < 2**63, "a whole number from 0"),
        ):
            if not good:
                raise EngineError(f"{name} is {getattr(self, name)}: it must be {want}")


@dataclass(frozen=True)
class Token:
    """One generated token and the characters of ``Generation.text`` that it completes.

    A token that ends inside a character has an empty span; the token that completes the character has all of it.
    The end-of-text token is not among them.
    """

    id: int
    chars: Span


@dataclass(frozen=True, eq=False)
class Generation:
    """One finished (or stopped) generation of one arm."""

    arm: Arm
    text: str
    trace: Trace
    tokens: tuple[Token, ...]
    prompt_tokens: int
    seconds: float  # wall time of prefill and decoding, s
    first_token_s: float
    audio_seconds: float  # audio that the model received, s
    finish: Literal["stop", "length", "cancelled"]
    choice: str | None  # the choice that the answer names, in its own words; None when none or ambiguous
    attention: AttentionRecord | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """A streaming update: the arm's index and its text so far; ``generation`` is set on the last one of an arm.

    ``waiting`` means that another visitor has the model.
    """

    index: int
    stage: Literal["waiting", "loading", "listening", "reasoning", "done"]
    text: str = ""
    tokens: int = 0
    generation: Generation | None = None


class Engine(Protocol):
    """Runs arms on one clip and one question.

    ``stream`` yields :class:`Progress` until each arm is done. Closing the iterator stops generation; setting ``stop``
    ends it with what there is so far, marked ``cancelled``.
    """

    def stream(
        self,
        clip: Clip,
        question: Question,
        arms: Sequence[Arm],
        decoding: Decoding = ...,
        *,
        attention: bool = False,
        stop: threading.Event | None = None,
    ) -> Iterator[Progress]: ...
