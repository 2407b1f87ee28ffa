"""The comparison document: one clip, one question, and what each arm made of them, as plain JSON data.

It is the only thing that passes between the handlers, the page, the downloads, the stored comparisons of ``examples/``
and the API, so what a visitor sees is what a visitor can keep.

    format, version      "mpar2.comparison", 1
    id, created, package, status   status: running, done, stopped, error
    clip       name, seconds, digest, warnings, mel {shape [bands, columns], data}, audio (data URI), shareable
    question   text, choices, answer, domain, difficulty (null where unknown)
    truth      {origin, events: [{label, onset_s, offset_s}]} or null
    decoding, prompts (hash of each prompt in use), credits, example, link (query string that reopens it)
    arms       name, model, adapter, mode, stage, text, parts, problems, tokens (char span of each), token_count,
               answer, choice, correct (true, false, null), unscored (why null), finish, seconds, first_token_s,
               prompt_tokens, audio_seconds, attention_ratio, attention_corrected, warnings, error,
               attention (see ``attention_pack``) or null, cafe (see ``scoring``) or null

Conventions: spans are half-open and count characters (code points) or generated tokens; times are seconds. Every
string may come from a model or a stranger: renderers put it into text nodes only.
"""

from __future__ import annotations

import base64
import io
import math
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mpar2 import __version__
from mpar2.answers import read_answer
from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.engines.base import Arm, Decoding, Generation, Progress
from mpar2.errors import MPAR2Error
from mpar2.prompts import PROMPT_HASHES
from mpar2.question import Event, Question, strict_match
from mpar2.trace import parse_trace, trace_to_json
from pages.arrays import unpack
from pages.attention_pack import ATTENTION_BYTES, attention_document
from pages.spectrogram import mel_picture

__all__ = ["FORMAT", "VERSION", "DocumentError", "Run", "audio_uri", "check_document", "without_arrays"]

FORMAT, VERSION = "mpar2.comparison", 1
_FLAC_LIMIT = 400_000  # bytes; more would make the page of a half-minute clip heavy
_AUDIO_LIMIT_S = 120.0  # longer clips are not carried inside the document; the page then has no player of its own


class DocumentError(MPAR2Error, ValueError):
    """A stored comparison cannot be shown; the message says why."""


class Run:
    """Builds the document of one comparison while it runs. A :meth:`snapshot` is never changed afterwards."""

    def __init__(
        self,
        clip: Clip,
        question: Question,
        arms: Sequence[Arm],
        decoding: Decoding,
        *,
        truth: Sequence[Event] | None = None,
        truth_origin: str | None = None,
        example: str | None = None,
        credits: str | None = None,
        attention_bytes: int = ATTENTION_BYTES,
    ) -> None:
        self.question, self.attention_bytes = question, attention_bytes
        self.truth = None if truth is None else tuple(truth)
        self.truth_origin = truth_origin
        self._document: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "id": secrets.token_hex(6),
            "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "package": __version__,
            "status": "running",
            "clip": _clip_document(clip, shareable=example is not None),
            "question": {
                "text": question.text,
                "choices": list(question.choices),
                "answer": question.answer,
                "domain": question.domain,
                "difficulty": question.difficulty,
            },
            "truth": None if truth is None else {"origin": truth_origin, "events": [_event(event) for event in truth]},
            "decoding": {
                "max_new_tokens": decoding.max_new_tokens,
                "temperature": decoding.temperature,
                "top_p": decoding.top_p,
                "seed": decoding.seed,
            },
            "prompts": {arm.mode: PROMPT_HASHES[arm.mode] for arm in arms},
            "credits": credits,
            "example": example,
            "link": share_query(question, arms, example),
        }
        self._arms = [_waiting(arm) for arm in arms]

    def progress(self, progress: Progress) -> bool:
        """Take in one update of the engine. True where more changed than the length of the text."""
        arm = self._arms[progress.index]
        changed = arm["stage"] != progress.stage
        arm["stage"] = progress.stage
        if progress.generation is not None:
            arm.update(generation_document(progress.generation, self.question, self.attention_bytes))
        elif progress.text:
            arm.update(text=progress.text, token_count=progress.tokens)
        return changed

    def finish(self, status: str, error: str | None = None) -> None:
        """Close the document: ``done``, ``stopped`` or ``error``. Arms that did not end say so."""
        self._document["status"] = status
        for arm in self._arms:
            if arm["stage"] != "done" or error:
                self.snapshot()
                arm.update(stage="done", finish="cancelled", unscored="This arm did not come to its end.", error=error)

    def texts(self) -> list[str]:
        """The traces as they stand."""
        return [arm["text"] for arm in self._arms]

    def stage(self, stage: str) -> None:
        """Say what is going on in every arm."""
        for arm in self._arms:
            arm["stage"] = stage

    def score(self, index: int, cafe: dict[str, Any]) -> None:
        """Add the sorted mentions of an arm (see ``scoring``)."""
        self._arms[index].update(cafe=cafe, stage="done")

    def snapshot(self) -> dict[str, Any]:
        """The document as it stands."""
        for arm in self._arms:
            if arm["stage"] != "done" and arm["text"]:
                arm["parts"] = trace_to_json(parse_trace(arm["text"]))["parts"]
        return self._document | {"arms": [dict(arm) for arm in self._arms]}


def without_arrays(document: dict[str, Any]) -> dict[str, Any]:
    """The document for those who read and do not draw: no sound, no spectrogram, no attention of single tokens."""
    clip = {key: value for key, value in document["clip"].items() if key not in ("mel", "audio")}
    left_out = ("tokens", "attention")
    arms = [{key: value for key, value in arm.items() if key not in left_out} for arm in document["arms"]]
    return document | {"clip": clip, "arms": arms}


def _shown(model: str | None) -> str | None:
    """A hub id or a short name as it is; of a folder, its name: paths of this machine are nobody's business."""
    if model is None:
        return None
    return Path(model).name if Path(model).is_absolute() or Path(model).exists() else model


def share_query(question: Question, arms: Sequence[Arm], example: str | None) -> str:
    """Query string that reopens this question: the clip only where it is one of the examples."""
    pairs = [("example", example)] if example else []
    pairs += [("q", question.text)] + [("choice", choice) for choice in question.choices]
    pairs += [(f"arm{i}", f"{arm.name}:{arm.mode}") for i, arm in enumerate(arms, start=1)]
    return urlencode(pairs)


def generation_document(generation: Generation, question: Question, attention_bytes: int) -> dict[str, Any]:
    """The finished fields of an arm."""
    trace = trace_to_json(generation.trace)
    correct, unscored = _correctness(generation, question)
    attention = attention_document(generation.attention, generation.trace, attention_bytes)
    return {
        "stage": "done",
        "text": generation.text,
        "parts": trace["parts"],
        "problems": trace["problems"],
        "tokens": [[token.chars.start, token.chars.stop] for token in generation.tokens],
        "token_count": generation.token_count or 0,
        "answer": generation.choice or read_answer(generation.trace, question.choices).words,
        "choice": generation.choice,
        "correct": correct,
        "unscored": unscored,
        "finish": generation.finish,
        "seconds": round(generation.seconds, 3),
        "first_token_s": round(generation.first_token_s, 3),
        "prompt_tokens": generation.prompt_tokens,
        "audio_seconds": round(generation.audio_seconds, 3),
        "attention_ratio": attention["ratio"] if attention else None,
        "attention_corrected": attention["corrected"] if attention else None,
        "warnings": list(generation.warnings),
        "attention": attention,
    }


def audio_uri(clip: Clip) -> str | None:
    """What the model heard, as a data URI that every browser plays; None for clips too long to carry along.

    FLAC, so sample for sample, where that is small; else MP3 without added delay, so that times stay true.
    """
    if clip.seconds > _AUDIO_LIMIT_S:
        return None
    import soundfile

    def encoded(**how: Any) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, clip.samples, SAMPLE_RATE, **how)
        return buffer.getvalue()

    kind, data = "flac", encoded(format="FLAC", subtype="PCM_16")
    if len(data) > _FLAC_LIMIT:
        kind, data = "mpeg", encoded(format="MP3", subtype="MPEG_LAYER_III", compression_level=0.0)
    return f"data:audio/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _clip_document(clip: Clip, *, shareable: bool) -> dict[str, Any]:
    return {
        "name": clip.source,
        "seconds": round(clip.seconds, 3),
        "digest": clip.digest,
        "warnings": list(clip.warnings),
        "mel": mel_picture(clip),
        "audio": audio_uri(clip),
        "shareable": shareable,
    }


def _waiting(arm: Arm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "model": _shown(arm.model),
        "adapter": _shown(arm.adapter),
        "mode": arm.mode,
        "stage": "queued",
        "text": "",
        "parts": [],
        "problems": [],
        "tokens": [],
        "token_count": 0,
        "answer": None,
        "choice": None,
        "correct": None,
        "unscored": None,
        "finish": None,
        "seconds": None,
        "attention_ratio": None,
        "attention_corrected": None,
        "warnings": [],
        "error": None,
        "attention": None,
        "cafe": None,
    }


def _correctness(generation: Generation, question: Question) -> tuple[bool | None, str | None]:
    if question.answer is None:
        return None, "The true answer is not known."
    if generation.finish == "cancelled":
        return None, "This arm was stopped before its end."
    said = generation.choice or read_answer(generation.trace, question.choices).words
    right = strict_match(question.answer, said, question.choices)
    if said and not right and not question.choices:
        return None, f"An open answer in other words than the true one ({question.answer}): judge for yourself."
    return right, None


def _event(event: Event) -> dict[str, Any]:
    return {"label": event.label, "onset_s": event.onset_s, "offset_s": event.offset_s}


_ARM_LISTS = ("parts", "problems", "tokens", "warnings")


def check_document(data: Any) -> dict[str, Any]:
    """A document read from a file, checked so far that the page can draw it. Raises :class:`DocumentError`."""
    try:
        if data["format"] != FORMAT or data["version"] != VERSION:
            raise DocumentError(f"this is {data['format']!r} version {data['version']}; expected {FORMAT!r} {VERSION}")
        seconds = float(data["clip"]["seconds"])
        if not (math.isfinite(seconds) and seconds > 0):
            raise DocumentError(f"the clip lasts {seconds} s")
        for name in ("text", "choices", "answer"):
            data["question"][name]
        if not 1 <= len(data["arms"]) <= 2:
            raise DocumentError(f"there are {len(data['arms'])} arms; one or two can be shown")
        for arm in data["arms"]:
            _check_arm(arm)
    except DocumentError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DocumentError(f"not a comparison document: {type(error).__name__} {error}") from error
    return data


def _check_arm(arm: dict[str, Any]) -> None:
    length = len(arm["text"])
    for name in _ARM_LISTS:
        if not isinstance(arm[name], list):
            raise DocumentError(f"'{name}' of an arm is not a list")
    for index, part in enumerate(arm["parts"]):
        for start, stop in (part["chars"], part["outer"], part["tokens"] or (0, 0)):
            if not 0 <= start <= stop:
                raise DocumentError(f"part {index} of '{arm['name']}' has the span {start}:{stop}")
        if part["outer"][1] > length or (part["parent"] is not None and not 0 <= part["parent"] < index):
            raise DocumentError(f"part {index} of '{arm['name']}' lies outside of its text or before its parent")
    if (record := arm["attention"]) is None:
        return
    tokens, mass = unpack(record["tokens"]), unpack(record["mass"])
    if tokens.ndim != 4 or mass.ndim != 3 or mass.shape[-1] != tokens.shape[2] != len(record["visible"]):
        raise DocumentError(f"the attention of '{arm['name']}' has shapes {tokens.shape} and {mass.shape}")
