"""The engine interface: arms, requests, and the result of one generation.

An engine is a subclass of :class:`Engine` with one method, :meth:`Engine.generate_batch`, registered under a name in
:mod:`mpar2.engines`. Everything else (streaming, preloading, manifests) has a default built on that method. Capability
attributes declare what an engine supports beyond text; callers check these, never the class.
"""

from __future__ import annotations

import asyncio
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from mpar2.errors import MPAR2Error

if TYPE_CHECKING:
    import threading

    from mpar2.attention import AttentionRecord
    from mpar2.audio import Clip
    from mpar2.question import Question
    from mpar2.trace import Span, Trace

__all__ = [
    "Arm",
    "AttentionDetail",
    "Decoding",
    "Engine",
    "EngineError",
    "EngineOptions",
    "Generation",
    "ItemError",
    "Mode",
    "Progress",
    "Request",
    "Token",
]

Mode = str  # a name of ``mpar2.prompts.MODES``: direct, cot, mpar2, or one that was registered
AttentionDetail = Literal["none", "ratio", "full"]


class EngineError(MPAR2Error, RuntimeError):
    """The engine lacks a requested capability or failed; the message gives the cause and the remedy."""


class ItemError(EngineError):
    """This clip with this question cannot be processed; others can."""


@dataclass(frozen=True)
class Arm:
    """The unit of comparison: a checkpoint, an adapter and a mode.

    Attributes:
        name: Name of the arm in results.
        model: Short name, folder or hub id, or the engine and its model (:func:`mpar2.arms.split_engine`).
        adapter: A LoRA adapter for it; None: the bare model.
        mode: Prompting mode, one of :func:`mpar2.prompts.mode_names`.
        dtype: Precision of the weights in this process: float32, bfloat16, float16; None: the engine's.
        quantize: Bits of the text stack's weights; None: the engine's.
        prompt: A prompt set or a text file (:mod:`mpar2.prompts`); None: ours.
    """

    name: str
    model: str
    adapter: str | None = None
    mode: Mode = "mpar2"
    dtype: str | None = None
    quantize: Literal["4bit", "8bit"] | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Decoding:
    """Decoding parameters. ``temperature == 0`` is greedy; ``seed`` makes sampling repeatable.

    The last three are interventions, which engines of this process support and services do not
    (``engines.forced_decoding`` has the rules). Tokens count from the start of the trace; the reasoning is everything
    before the answer part.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    min_reasoning_tokens: int = 0  # suppress the end of the reasoning before
    max_reasoning_tokens: int | None = None  # then close the reasoning and force the answer tag
    hide_audio_after: int | str | None = None  # generated tokens, or "50%" of the trace: then the audio is masked

    @property
    def has_interventions(self) -> bool:
        """Whether the decoding overrides the model's own choice or masks its input."""
        return bool(self.min_reasoning_tokens) or self.max_reasoning_tokens is not None or bool(self.hide_audio_after)

    @property
    def hidden_share(self) -> float | None:
        """The share of the trace after which the audio is hidden; None if not given as a share."""
        text = self.hide_audio_after
        return float(text[:-1]) / 100 if isinstance(text, str) else None

    def __post_init__(self) -> None:
        for name, good, requirement in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0; 1 is off"),
            ("seed", 0 <= self.seed < 2**63, "a whole number from 0"),
        ):
            if not good:
                raise EngineError(f"{name} is {getattr(self, name)}: it must be {requirement}")
        self._check_interventions()

    def _check_interventions(self) -> None:
        shortest, longest, hide = self.min_reasoning_tokens, self.max_reasoning_tokens, self.hide_audio_after
        for name, tokens in (("min_reasoning_tokens", shortest), ("max_reasoning_tokens", longest or 0)):
            if not 0 <= tokens < self.max_new_tokens:
                raise EngineError(
                    f"{name} is {tokens}: it must be 0 or more, and below max_new_tokens ({self.max_new_tokens}), "
                    "which counts the answer too"
                )
        if longest is not None and shortest > longest:
            raise EngineError(
                f"min_reasoning_tokens is {shortest} and max_reasoning_tokens {longest}: no length is both"
            )
        share = isinstance(hide, str) and re.fullmatch(r"\d{1,2}(\.\d{1,3})?%", hide) and float(hide[:-1]) > 0
        if hide is not None and not (share or (type(hide) is int and hide >= 1)):
            raise EngineError(
                f"hide_audio_after is {hide!r}: it must be a number of generated tokens from 1, or a share of the "
                "trace such as 50%"
            )
        if share and (shortest or longest is not None):
            raise EngineError("hide_audio_after is a share, and the length is forced: give a number of tokens")


@dataclass(frozen=True)
class Token:
    """One generated token and the characters of ``Generation.text`` that it completes.

    A token that ends inside a character has an empty span; the token that completes the character has its full span.
    The end-of-text token is excluded. ``logprob`` is the natural logarithm of the model's probability, before
    temperature and penalties; None if unknown.
    """

    id: int
    chars: Span
    logprob: float | None = None


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
    choice: str | None  # the choice that the answer names, as written in the question; None when none or ambiguous
    attention: AttentionRecord | None = None
    warnings: tuple[str, ...] = ()
    token_count: int | None = None  # of the text; None: the number of ``tokens``, or unknown if there are none
    served_model: str = ""  # the version that a service reports; "" if none

    def __post_init__(self) -> None:
        if self.token_count is None and self.tokens:
            object.__setattr__(self, "token_count", len(self.tokens))


@dataclass(frozen=True, eq=False)
class Request:
    """One generation to make. ``seed`` overrides the decoding's, for several samples of one question."""

    clip: Clip
    question: Question
    arm: Arm
    seed: int | None = None


@dataclass(frozen=True)
class EngineOptions:
    """Options for running models. Each engine ignores those that do not apply to it.

    The shell, the app and arms files set them; the factories of :mod:`mpar2.engines` read them.
    """

    device: str | None = None  # cpu, cuda, cuda:1, mps; None: the best available
    dtype: str | None = None  # float32, bfloat16, float16; None: by the device
    quantize: Literal["4bit", "8bit"] | None = None  # weights of the text stack, by bitsandbytes
    max_models: int = 2  # base models in memory at a time
    base_urls: tuple[str, ...] = ()  # of services
    in_flight: int | None = None  # requests at once, at each address; None: the engine's default
    audio_as: Literal["audio_url", "input_audio"] = "audio_url"
    fields: Literal["all", "openai"] = "all"
    check_audio: bool = True  # detect servers that drop the audio


@dataclass(frozen=True)
class Progress:
    """A streaming update: the arm's index and its text so far; ``generation`` is set on the last one of an arm.

    ``waiting`` means that another request is using the model.
    """

    index: int
    stage: Literal["waiting", "loading", "listening", "reasoning", "done"]
    text: str = ""
    tokens: int = 0
    generation: Generation | None = None


class Engine(ABC):
    """Run arms on clips and questions.

    Subclasses implement :meth:`generate_batch`. Errors: :class:`EngineError` (and other ``MPAR2Error``) is for problems
    that a user can solve; :class:`ItemError` concerns only this clip with this question. Any other exception is a
    programming error, and callers propagate it.

    Attributes:
        scoring: Computes the log-probability of a given text (:meth:`score`).
        attention: Records attention to audio (``attention=`` of the methods, and :meth:`attend`).
        interventions: Supports the interventions of :class:`Decoding` (forced lengths, hidden audio).
        logprobs: Returns each token's log-probability (``Token.logprob``).
        remote: Uses services. Then :meth:`answer` is called, with up to ``concurrency`` concurrent requests.
        concurrency: Largest number of concurrent requests, if ``remote``.
    """

    attention: bool = False
    interventions: bool = False
    logprobs: bool = False
    scoring: bool = False
    remote: bool = False
    concurrency: int = 1

    @abstractmethod
    def generate_batch(
        self,
        requests: Sequence[Request],
        decoding: Decoding | None = None,
        *,
        batch_size: int = 8,
        attention: AttentionDetail = "none",
    ) -> list[Generation]:
        """Generate for each request.

        Args:
            requests: The generations to make; arms may differ within a call.
            decoding: Decoding parameters; by default greedy, at most 512 tokens.
            batch_size: Largest number of requests in one batch.
            attention: Detail of the recorded attention; ignored by engines that record none.

        Returns:
            One generation for each request, in their order.

        Raises:
            EngineError: The engine lacks a requested capability.
            ItemError: A clip with its question cannot be processed; others can.
        """

    def preload(self, arms: Sequence[Arm]) -> None:  # noqa: B027 - nothing to load is a valid default
        """Load what the arms need, so that the first request does not wait.

        Raises:
            EngineError: A model or an adapter cannot be loaded.
        """

    def stream(
        self,
        clip: Clip,
        question: Question,
        arms: Sequence[Arm],
        decoding: Decoding | None = None,
        *,
        attention: bool = False,
        stop: threading.Event | None = None,
    ) -> Iterator[Progress]:
        """Generate every arm, yielding updates; the last one of an arm carries its generation.

        Closing the iterator stops generation. This default generates one arm after the other, without partial updates.

        Args:
            clip: The clip.
            question: The question.
            arms: The arms; :attr:`Progress.index` counts them.
            decoding: Decoding parameters; greedy by default.
            attention: Record attention, if the engine supports it.
            stop: When set, generation ends with the partial text, marked ``cancelled``; arms that have not begun then
                yield nothing.
        """
        detail: AttentionDetail = "full" if attention and self.attention else "none"
        for index, arm in enumerate(arms):
            if stop is not None and stop.is_set():
                return
            yield Progress(index, "reasoning")
            (generation,) = self.generate_batch(
                [Request(clip, question, arm)], decoding, batch_size=1, attention=detail
            )
            yield Progress(index, "done", generation.text, generation.token_count or 0, generation)

    async def answer(self, clip: Clip, question: Question, arm: Arm, decoding: Decoding) -> Generation:
        """Generate once, inside ``async with engine``; for ``remote`` engines, with many concurrent requests.

        Args:
            clip: The clip.
            question: The question.
            arm: The arm.
            decoding: Decoding parameters.
        """
        batch = await asyncio.to_thread(self.generate_batch, [Request(clip, question, arm)], decoding, batch_size=1)
        return batch[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        return None

    def attend(self, clip: Clip, question: Question, arm: Arm, text: str) -> Generation:
        """Score a finished text by teacher forcing and record its attention.

        Args:
            clip: The clip.
            question: The question.
            arm: The arm.
            text: The text, as the model would have generated it.

        Returns:
            A generation with the text's tokens and their attention.

        Raises:
            EngineError: The engine records no attention.
        """
        raise EngineError(f"{type(self).__name__} does not tell where a model attends: use the engine 'transformers'")

    def engine_for(self, arm: Arm) -> Engine:
        """Return the engine that runs ``arm``: this one, unless arms are routed (``engines.routing``)."""
        return self

    def score(self, requests: Sequence[Request], text: str, *, batch_size: int = 8) -> list[tuple[Token, ...]]:
        """Compute the log-probabilities of a finished text by teacher forcing, for each request's clip and question.

        Args:
            requests: Clips, questions and arms.
            text: The text, as the model would have generated it.
            batch_size: Rows at a time.

        Returns:
            For each request the text's tokens, with their log-probabilities.

        Raises:
            EngineError: The engine cannot (services do not score a caller's text).
        """
        raise EngineError(f"{type(self).__name__} does not score a given text: use the engine 'transformers'")

    def base_of(self, arm: Arm) -> str:
        """Return a name for the base that the arm loads; arms of one base run one after the other."""
        return arm.model

    def weights(self, arm: Arm) -> dict[str, str | None]:
        """Return ``model_hash`` and ``adapter_hash`` of the arm's weights, for manifests; empty if unknown."""
        return {}
