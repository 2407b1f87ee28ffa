"""What every engine shares: arms, decoding, and the result of one generation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from mpar2.errors import MPAR2Error

if TYPE_CHECKING:
    import threading

    from mpar2.attention import AttentionRecord
    from mpar2.audio import Clip
    from mpar2.question import Question
    from mpar2.trace import Span, Trace

__all__ = ["Arm", "Decoding", "Engine", "EngineError", "Generation", "ItemError", "Mode", "Progress", "Token"]

Mode = Literal["direct", "cot", "mpar2"]


class EngineError(MPAR2Error, RuntimeError):
    """The engine cannot do what was asked; the message says why and what to do."""


class ItemError(EngineError):
    """This clip with this question cannot be asked; others can."""


@dataclass(frozen=True)
class Arm:
    """What is compared: checkpoint + adapter + mode (design, section 2)."""

    name: str
    model: str
    adapter: str | None = None
    mode: Mode = "mpar2"


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen. ``temperature == 0`` is greedy; ``seed`` makes sampling repeatable.

    The last three are interventions, which engines of this process can make and services cannot (``engines.writer``
    has the rules). Tokens count from the start of the trace; the reasoning is all that precedes the answer part.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    min_reasoning_tokens: int = 0  # who would answer earlier is made to reason on
    max_reasoning_tokens: int | None = None  # who still reasons then is cut short and made to answer
    hide_audio_after: int | str | None = None  # generated tokens, or "50%" of the trace: then the audio is masked

    @property
    def intervenes(self) -> bool:
        """Whether anything but the model's own choice goes into the trace, or is kept from it."""
        return bool(self.min_reasoning_tokens) or self.max_reasoning_tokens is not None or bool(self.hide_audio_after)

    @property
    def hidden_share(self) -> float | None:
        """The share of the trace after which the audio is hidden; None where that is not given as a share."""
        text = self.hide_audio_after
        return float(text[:-1]) / 100 if isinstance(text, str) else None

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
        self._check_interventions()

    def _check_interventions(self) -> None:
        least, most, hide = self.min_reasoning_tokens, self.max_reasoning_tokens, self.hide_audio_after
        for name, tokens in (("min_reasoning_tokens", least), ("max_reasoning_tokens", most or 0)):
            if not 0 <= tokens < self.max_new_tokens:
                raise EngineError(
                    f"{name} is {tokens}: it must be 0 or more, and below max_new_tokens ({self.max_new_tokens}), "
                    "which counts the answer too"
                )
        if most is not None and least > most:
            raise EngineError(f"min_reasoning_tokens is {least} and max_reasoning_tokens {most}: no length is both")
        share = isinstance(hide, str) and re.fullmatch(r"\d{1,2}(\.\d{1,3})?%", hide) and float(hide[:-1]) > 0
        if hide is not None and not (share or (type(hide) is int and hide >= 1)):
            raise EngineError(
                f"hide_audio_after is {hide!r}: it must be a number of generated tokens from 1, or a share of the "
                "trace such as 50%"
            )
        if share and (least or most is not None):
            raise EngineError("hide_audio_after is a share, and the length is forced: give a number of tokens")


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
