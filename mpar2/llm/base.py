"""Shared types of the chat clients: parts of a message, sampling, reply, protocol.

Conventions: a part is text (``str``) or one whole audio file (``bytes``: WAV, FLAC, Ogg or MP3, distinguished by its
first bytes). Token counts are the server's; ``None`` if it gives none, never an estimate. ``Usage.completion`` counts
the visible reply without the thoughts, on every service, so that ``total`` is their sum.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "ChatClient",
    "Finish",
    "OnText",
    "Part",
    "Reply",
    "Sampling",
    "Structured",
    "TokenLogprob",
    "Usage",
    "audio_mime",
    "wav_seconds",
]

Part = str | bytes
Finish = Literal["stop", "length", "blocked", "other"]
Structured = Literal["none", "json_schema", "prompt"]

_MAGIC = ((b"RIFF", "audio/wav"), (b"fLaC", "audio/flac"), (b"OggS", "audio/ogg"), (b"ID3", "audio/mp3"))


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more replies, as the server counted them."""

    prompt: int | None = None
    completion: int | None = None
    thoughts: int | None = None

    @property
    def total(self) -> int:
        return (self.prompt or 0) + (self.completion or 0) + (self.thoughts or 0)

    @property
    def known(self) -> bool:
        return self.prompt is not None or self.completion is not None

    def __add__(self, other: Usage) -> Usage:
        def add(a: int | None, b: int | None) -> int | None:
            return None if a is None and b is None else (a or 0) + (b or 0)

        return Usage(
            add(self.prompt, other.prompt), add(self.completion, other.completion), add(self.thoughts, other.thoughts)
        )


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters. ``None`` is not sent, so the server's default applies.

    ``max_tokens`` includes the thoughts of a thinking model: if too low, it ends, billed, before its first word.
    """

    max_tokens: int = 16384
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """One token of a reply as text, and its log-probability (natural logarithm)."""

    token: str
    logprob: float


@dataclass(frozen=True)
class Reply:
    """One reply. ``text`` is its text, also if truncated or blocked: ``finish`` has the reason, ``detail`` the cause.

    ``finish`` is ``other`` if the service gives an unknown reason: the text, if any, then counts as a complete answer,
    since it was not reported as blocked.
    """

    text: str
    model: str  # the requested model
    model_version: str  # the model that the server reports; "" if none
    usage: Usage
    finish: Finish
    detail: str = ""  # the service's own term: MAX_TOKENS, SAFETY, a refusal
    reasoning: str = ""  # thoughts, if the server returns them separately
    structured: Structured = "none"  # how the schema was sent (some servers ignore one); "prompt" after a refusal
    tries: int = 1
    seconds: float = 0.0
    first_s: float | None = None  # from the request to the first text, if the reply was streamed
    logprobs: tuple[TokenLogprob, ...] = ()  # one per token of the text, if requested and returned


# Called with the text and the reasoning so far while a reply is streamed. A retry starts again from nothing.
OnText = Callable[[str, str], None]


class ChatClient(Protocol):
    """A client that completes one request. Used inside ``async with``; belongs to the event loop that entered it."""

    model: str

    @property
    def identity(self) -> str:
        """Service, model and sampling in one line without secrets, part of the key of a cached reply."""
        ...

    async def complete(
        self,
        system: str,
        parts: Sequence[Part],
        schema: type[BaseModel] | None = None,
        sampling: Sampling | None = None,
        on_text: OnText | None = None,
    ) -> Reply:
        """Return one reply.

        Args:
            system: The system message; may be empty.
            parts: Text and audio of the user's turn, in order.
            schema: Schema of the reply; None for free text.
            sampling: Sampling parameters; by default the client's own.
            on_text: Called with the text and reasoning so far; if given, the reply is streamed.

        Raises:
            LLMError: There is no reply; ``reason`` is one of a fixed list.
        """
        ...

    async def __aenter__(self) -> ChatClient: ...

    async def __aexit__(self, *exc: object) -> None: ...


def audio_mime(data: bytes) -> str:
    """Return the media type of an audio file by its first bytes.

    Raises:
        ValueError: It is not a WAV, FLAC, Ogg or MP3 file.

    >>> audio_mime(b"RIFF....WAVE")
    'audio/wav'
    """
    for magic, mime in _MAGIC:
        if data.startswith(magic):
            return mime
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        return "audio/mp3"
    raise ValueError(
        f"audio part of {len(data)} bytes starts with {data[:4]!r}, which is no WAV, FLAC, Ogg or MP3 file; "
        "send a whole file, for example mpar2.audio.wav_bytes(clip)"
    )


def wav_seconds(data: bytes) -> float | None:
    """Return the duration of a PCM WAV file in seconds; None for other formats, whose header does not have it."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            return file.getnframes() / file.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError):
        return None
