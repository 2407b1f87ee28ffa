"""The comparison document: one clip, one question, and the result of each arm, as plain JSON data.

It is the one format of the handlers, the page, the downloads, the stored comparisons of ``examples/`` and the API.

    format, version      "mpar2.comparison", 2 (version 1 is read, see :func:`_upgraded`)
    id, created, package, status   status: running, done, stopped, error
    stored, opened   true (else absent) if it was stored with the app, or by a visitor (``pages.results``)
    clip       name, seconds, digest, warnings, mel (see ``spectrogram``), audio (data URI), shareable
    question   text, choices, answer, domain, difficulty (null where unknown)
    truth      {origin, events: [{label, onset_s, offset_s}]} or null
    opinion    a tagger's events of a clip without known events (see ``opinion``), or null
    decoding, prompts (hash of each prompt in use), credits, example, link (query string that reopens it)
    scales     top of the colours and of the lines, shared by the arms: {passages, words, line}, each by mode
    arms       name, model, adapter, mode, stage, text, parts, problems, token_count, words [chars, tokens],
               answer, choice, correct (true, false, null), unscored (reason for null), finish, seconds, first_token_s,
               prompt_tokens, audio_seconds, attention_ratio, attention_corrected, warnings, error,
               attention (see ``attention_view``) or null, confidence (probability along the tokens: course, summary)
               or null, cafe (see ``scoring``) with claims (see ``claims``) or null,
               occlusion (see ``occluding``; absent if it was not computed),
               against (differences from arm ``base``, see :func:`differences`) or null

Conventions: spans are half-open and count characters (code points) or generated tokens; times are seconds. Every
string is untrusted: renderers put it into text nodes only.
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

import numpy as np

from mpar2 import __version__
from mpar2.answers import read_answer
from mpar2.arms import split_engine
from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.engines.base import Arm, Decoding, Generation, Progress
from mpar2.errors import MPAR2Error
from mpar2.prompts import prompt_identity
from mpar2.question import Event, Question, strict_match
from mpar2.tagger import ORIGIN
from mpar2.trace import parse_trace, trace_to_json
from pages.attention_pack import record_of, unpack
from pages.attention_view import ATTENTION_BYTES, attention_view, row_maximum, smooth
from pages.claims import claims_of, reason_in_words
from pages.occluding import check_occlusion
from pages.schema import problem_of
from pages.spectrogram import mel_picture
from pages.units import passages, words

FORMAT, VERSION = "mpar2.comparison", 2
MOST_ARMS = 4
_FLAC_LIMIT = 400_000  # bytes; more would make the page of a half-minute clip heavy
_AUDIO_LIMIT_S = 120.0  # longer clips are not embedded in the document, and the page then has no player


class DocumentError(MPAR2Error, ValueError):
    """A stored comparison cannot be shown. The message states the reason."""


class ComparisonRun:
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
        opinion: dict[str, Any] | None = None,
        example: str | None = None,
        credits: str | None = None,
        attention_bytes: int = ATTENTION_BYTES,
    ) -> None:
        self.question, self.attention_bytes = question, attention_bytes
        self.seconds = clip.seconds
        self.truth = None if truth is None else tuple(truth)
        self.truth_origin = truth_origin
        self._document: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "id": secrets.token_hex(6),
            "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "package": __version__,
            "status": "running",
            "clip": clip_document(clip, shareable=example is not None),
            "question": {
                "text": question.text,
                "choices": list(question.choices),
                "answer": question.answer,
                "domain": question.domain,
                "difficulty": question.difficulty,
            },
            "truth": truth_document(truth, truth_origin),
            "opinion": opinion,
            "decoding": {
                "max_new_tokens": decoding.max_new_tokens,
                "temperature": decoding.temperature,
                "top_p": decoding.top_p,
                "seed": decoding.seed,
            },
            "prompts": {arm.mode: prompt_identity(arm.mode, arm.prompt)[1] for arm in arms},
            "credits": credits,
            "example": example,
            "link": share_query(question, arms, example),
            "scales": None,
        }
        self._arms = [_queued_arm(arm) for arm in arms]

    def progress(self, progress: Progress) -> bool:
        """Apply one update of the engine, and return whether the stage of its arm changed."""
        arm = self._arms[progress.index]
        changed = arm["stage"] != progress.stage
        arm["stage"] = progress.stage
        if progress.generation is not None:
            arm.update(generation_document(progress.generation, self.question, self.seconds, self.attention_bytes))
        elif progress.text:
            arm.update(text=progress.text, token_count=progress.tokens)
        return changed

    def finish(self, status: str, error: str | None = None) -> None:
        """Close the document."""
        self._document["status"] = status
        open_arms = [arm for arm in self._arms if arm["stage"] != "done"]
        for arm in open_arms or (self._arms if error else []):
            self.snapshot()
            arm.update(stage="done", finish="cancelled", unscored="This arm did not come to its end.", error=error)
        complete(self._document | {"arms": self._arms}, into=self._document)

    def texts(self, *, ended: bool = False) -> list[str]:
        """Return the current traces; with ``ended``, "" in place of each unfinished trace."""
        return [arm["text"] if not ended or arm["finish"] not in (None, "cancelled") else "" for arm in self._arms]

    def opine(self, opinion: dict[str, Any] | None) -> None:
        """Set the tagger's events."""
        self._document["opinion"] = opinion

    def stage(self, stage: str) -> None:
        """Set the stage of every arm."""
        for arm in self._arms:
            arm["stage"] = stage

    def score(self, index: int, cafe: dict[str, Any]) -> None:
        """Add the classified mentions of an arm."""
        self._arms[index].update(cafe=with_claims(cafe), stage="done")

    def snapshot(self) -> dict[str, Any]:
        """Return the current document."""
        for arm in self._arms:
            if arm["stage"] != "done" and arm["text"]:
                arm["parts"] = trace_to_json(parse_trace(arm["text"]))["parts"]
        return self._document | {"arms": [dict(arm) for arm in self._arms]}


def with_claims(cafe: dict[str, Any]) -> dict[str, Any]:
    """Add the table of claims to classified mentions, and a sentence with the reason to each mention."""
    if "mentions" not in cafe:
        return cafe
    opinion = cafe["truth_origin"] == ORIGIN
    mentions = [mention | {"why": reason_in_words(mention, opinion=opinion)} for mention in cafe["mentions"]]
    return cafe | {"mentions": mentions, "claims": claims_of(mentions, cafe["targets"], opinion=opinion)}


def complete(document: dict[str, Any], into: dict[str, Any] | None = None) -> dict[str, Any]:
    """Add the fields that depend on all arms: scales, and differences from the first arm with claims."""
    arms = document["arms"]
    claiming_arms = [i for i, arm in enumerate(arms) if (((arm["cafe"] or {}).get("counts")) or {}).get("predicted")]
    base = claiming_arms[0] if claiming_arms else 0
    for index, arm in enumerate(arms):
        arm["against"] = differences(arms[base], arm) | {"base": base} if index > base else None
    target = document if into is None else into
    target["scales"] = _scales([arm["attention"] for arm in arms if arm["attention"]])
    return target


def differences(first: dict[str, Any], arm: dict[str, Any]) -> dict[str, Any]:
    """Subtract one arm from another.

    Returns:
        ``right_claims``, ``acc_per``, ``last_third`` (share of attention on audio in the last third of the trace) and
        ``tokens``; None if one of the two is unknown.
    """

    def values(entry: dict[str, Any]) -> dict[str, Any]:
        cafe, thirds = entry["cafe"] or {}, (entry["attention"] or {}).get("thirds")
        return {
            "right_claims": (cafe.get("counts") or {}).get("matched"),
            "acc_per": (cafe.get("metrics") or {}).get("acc_per"),
            "last_third": thirds["raw"][1] if thirds else None,
            "tokens": entry["token_count"],
        }

    base = values(first)
    return {
        name: None if value is None or base[name] is None else value - base[name] for name, value in values(arm).items()
    }


def _scales(views: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    def top(pictures: Sequence[dict[str, Any] | None], mode: str) -> float:
        rows = []
        for by_mode in pictures:
            packed = by_mode and (by_mode.get(mode) or by_mode.get(mode.removesuffix("_clean")))
            if by_mode and packed:
                picture = packed | {"data": by_mode[packed["as"]]["data"]} if packed["data"] is None else packed
                rows.append(unpack(picture))
        return row_maximum(rows)

    passage_pictures = [view["views"][0]["pictures"] if view["views"] else None for view in views]
    modes = ("raw", "length", "raw_clean", "length_clean")
    return {
        "passages": {mode: top(passage_pictures, mode) for mode in modes},
        "words": {mode: top([view["words"] for view in views], mode) for mode in modes},
        "line": {
            mode: max((max(view["course"][mode], default=0.0) for view in views), default=0.0)
            for mode in ("raw", "length")
        },
    }


def without_arrays(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without sound, spectrogram and attention of tokens, for clients that do not draw."""
    clip = {key: value for key, value in document["clip"].items() if key not in ("mel", "audio")}
    omitted = ("words", "attention")
    arms = [{key: value for key, value in arm.items() if key not in omitted} for arm in document["arms"]]
    return document | {"clip": clip, "arms": arms}


def shown_model(model: str | None) -> str | None:
    """Return a hub id or a short name unchanged, and of a folder only its name, so that no path is shown."""
    if model is None:
        return None
    engine, served = split_engine(model)
    if engine == "server":  # its address is the operator's own
        return f"server: {served.partition('#')[2]}"
    return Path(model).name if Path(model).is_absolute() or Path(model).exists() else model


def share_query(question: Question, arms: Sequence[Arm], example: str | None) -> str:
    """Return the query string that reopens a question."""
    pairs = [("example", example)] if example else []
    pairs += [("q", question.text)] + [("choice", choice) for choice in question.choices]
    pairs += [(f"arm{i}", f"{arm.name}:{arm.mode}") for i, arm in enumerate(arms, start=1)]
    return urlencode(pairs)


def generation_document(
    generation: Generation, question: Question, seconds: float, attention_bytes: int
) -> dict[str, Any]:
    """Return the finished fields of an arm."""
    trace = trace_to_json(generation.trace)
    correct, unscored = _correctness(generation, question)
    tokens = [(token.chars.start, token.chars.stop) for token in generation.tokens]
    word_tokens = words(generation.text, tokens)
    rows = passages(generation.text, trace["parts"], tokens)
    attention = attention_view(generation.attention, rows, word_tokens, seconds, attention_bytes)
    return {
        "stage": "done",
        "text": generation.text,
        "parts": trace["parts"],
        "problems": trace["problems"],
        "words": [[*word.chars, *word.tokens] for word in word_tokens],
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
        "confidence": _confidence(generation),
        "attention": attention,
    }


def audio_uri(clip: Clip) -> str | None:
    """Return the model's input audio as a data URI that every browser plays; None for clips above the length limit.

    The format is FLAC (lossless) if that is small enough, else MP3 without added delay, so that times stay exact.
    """
    if clip.seconds > _AUDIO_LIMIT_S:
        return None
    import soundfile

    def encode(**options: Any) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, clip.samples, SAMPLE_RATE, **options)
        return buffer.getvalue()

    kind, data = "flac", encode(format="FLAC", subtype="PCM_16")
    if len(data) > _FLAC_LIMIT:
        kind, data = "mpeg", encode(format="MP3", subtype="MPEG_LAYER_III", compression_level=0.0)
    return f"data:audio/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def clip_document(clip: Clip, *, shareable: bool) -> dict[str, Any]:
    """Return the ``clip`` of a document."""
    return {
        "name": clip.source,
        "seconds": round(clip.seconds, 3),
        "digest": clip.digest,
        "warnings": list(clip.warnings),
        "mel": mel_picture(clip),
        "audio": audio_uri(clip),
        "shareable": shareable,
    }


def _queued_arm(arm: Arm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "model": shown_model(arm.model),
        "adapter": shown_model(arm.adapter),
        "mode": arm.mode,
        "stage": "queued",
        "text": "",
        "parts": [],
        "problems": [],
        "words": [],
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
        "confidence": None,
        "cafe": None,
        "against": None,
    }


def _confidence(generation: Generation) -> dict[str, Any] | None:
    """Return the smoothed token probabilities of an arm with log-probabilities and without attention, else None."""
    logprobs = [token.logprob for token in generation.tokens if token.logprob is not None]
    if generation.attention is not None or len(logprobs) < 2:
        return None
    probabilities = np.exp(np.asarray(logprobs))
    return {
        "course": [round(float(value), 4) for value in smooth(probabilities)],
        "summary": f"no attention from a server; its tokens had a probability of {probabilities.mean():.0%} on average",
    }


def _correctness(generation: Generation, question: Question) -> tuple[bool | None, str | None]:
    if question.answer is None:
        return None, "The true answer is not known."
    if generation.finish == "cancelled":
        return None, "This arm was stopped before its end."
    answer = generation.choice or read_answer(generation.trace, question.choices).words
    correct = strict_match(question.answer, answer, question.choices)
    if answer and not correct and not question.choices:
        return None, f"An open answer in other words than the true one ({question.answer}): judge for yourself."
    return correct, None


def truth_document(events: Sequence[Event] | None, origin: str | None) -> dict[str, Any] | None:
    """Return the ``truth`` of a document; None if the events are unknown."""
    if events is None:
        return None
    entries = [{"label": event.label, "onset_s": event.onset_s, "offset_s": event.offset_s} for event in events]
    return {"origin": origin, "events": entries}


def check_document(data: Any) -> dict[str, Any]:
    """Check a document read from an untrusted file; one of version 1 is converted.

    Raises:
        DocumentError: It is no comparison, or is damaged.
    """
    try:
        if data["format"] == FORMAT and data["version"] == 1:
            data = _upgraded(data)
        if data["format"] != FORMAT or data["version"] != VERSION:
            description = f"{str(data['format'])[:60]!r} version {str(data['version'])[:20]}"
            raise DocumentError(f"this is {description}; expected {FORMAT!r} {VERSION}")
        if not 1 <= len(data["arms"]) <= MOST_ARMS:
            raise DocumentError(f"there are {len(data['arms'])} arms; one to {MOST_ARMS} can be shown")
        if (problem := problem_of(data)) is not None:
            raise DocumentError(f"not a comparison document: {problem}")
        if (mel := data["clip"]["mel"]) is not None:
            n_values = len(base64.b64decode(mel["data"], validate=True))
            if n_values != math.prod(mel["shape"]):
                raise DocumentError(f"the spectrogram of shape {mel['shape']} holds {n_values} values")
        for index, arm in enumerate(data["arms"]):
            _check_arm(arm)
            if arm["against"] is not None and arm["against"]["base"] >= index:
                raise DocumentError(f"'{arm['name']}' is compared with an arm that does not come before it")
    except DocumentError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise DocumentError(f"not a comparison document: {type(error).__name__} {error}") from error
    return data


def _check_arm(arm: dict[str, Any]) -> None:
    """Raise an error for a damaged arm; the types of its values are already checked."""
    length = len(arm["text"])
    for index, part in enumerate(arm["parts"]):
        for start, stop in (part["chars"], part["outer"], part["tokens"] or (0, 0)):
            if not 0 <= start <= stop:
                raise DocumentError(f"part {index} of '{arm['name']}' has the span {start}:{stop}")
        if part["outer"][1] > length or (part["parent"] is not None and not 0 <= part["parent"] < index):
            raise DocumentError(f"part {index} of '{arm['name']}' lies outside of its text or before its parent")
    for start, stop, first, last in arm["words"]:
        if not 0 <= start < stop <= length or not 0 <= first < last:
            raise DocumentError(f"a word of '{arm['name']}' has the span {start}:{stop}")
    if (occlusion := arm.get("occlusion")) is not None:
        check_occlusion(occlusion)
    if "mentions" in (arm["cafe"] or {}):
        _check_claims(arm, arm["cafe"])
    if (view := arm["attention"]) is None:
        return
    columns, rows = view["columns"], len(view["passages"])
    for passage in view["passages"]:
        (start, stop), (first, last) = passage["chars"], passage["tokens"]
        if not (start <= stop <= length and first < last <= view["tokens"]):
            raise DocumentError(f"the passage '{passage['name'][:40]}' of '{arm['name']}' lies outside of its trace")
    for entry in view["views"]:
        _check_pictures(arm, entry["pictures"], (rows, columns))
        if any(len(shares) != rows for shares in entry["shares"].values()):
            raise DocumentError(
                f"'{entry['label'][:40]}' of '{arm['name']}' has not one share for each of {rows} passages"
            )
    if view["whole"] is not None:
        _check_pictures(arm, view["whole"], (1, columns))
    if view["words"] is not None:
        _check_pictures(arm, view["words"], (len(view["peaks"]["words"]), columns))
    if len(view["peaks"]["words"]) > len(arm["words"]) or len(view["peaks"]["passages"]) > rows:
        raise DocumentError(f"'{arm['name']}' has more rows of attention than words or passages")
    if any(not (0 <= word < len(arm["words"]) and word == int(word)) for word, _, _ in view["lights"]):
        raise DocumentError(f"a word of '{arm['name']}' that lights up is none of its words")
    if any(len(course) != view["tokens"] for course in view["course"].values()):
        raise DocumentError(f"the course of '{arm['name']}' has not one value for each of {view['tokens']} tokens")


def _check_claims(arm: dict[str, Any], cafe: dict[str, Any]) -> None:
    mentions, targets = cafe["mentions"], len(cafe["targets"])
    for mention in mentions:
        if not mention["start"] < mention["stop"] <= len(arm["text"]):
            raise DocumentError(f"a mention of '{arm['name']}' has the span {mention['start']}:{mention['stop']}")
    if any(number >= len(mentions) for claim in cafe["claims"] for number in claim["mentions"]):
        raise DocumentError(f"a claim of '{arm['name']}' counts mentions that are not there")
    events = [event for mention in mentions for event in mention["events"]]
    events += [claim["event"] for claim in cafe["claims"] if claim["event"] is not None]
    if any(event >= targets for event in (*events, *cafe["missed"])):
        raise DocumentError(f"'{arm['name']}' is checked against a sound that is not among its {targets}")


def _check_pictures(arm: dict[str, Any], pictures: dict[str, Any], shape: tuple[int, int]) -> None:
    for packed in pictures.values():
        values = unpack(packed | {"data": pictures[packed["as"]]["data"]} if packed["data"] is None else packed)
        if values.shape != shape:
            raise DocumentError(f"a picture of '{arm['name']}' has the shape {values.shape}; expected {shape}")


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Return a document of version 1 in the current form. ``check_document`` catches the errors of a damaged one."""
    seconds = float(data["clip"]["seconds"])
    arms = []
    for arm in data["arms"]:
        tokens = [(int(start), int(stop)) for start, stop in arm["tokens"]]
        word_tokens = words(arm["text"], tokens)
        rows = passages(arm["text"], arm["parts"], tokens)
        record = None if arm["attention"] is None else record_of(arm["attention"])
        fields = {key: value for key, value in arm.items() if key != "tokens"}
        fields |= {
            "words": [[*word.chars, *word.tokens] for word in word_tokens],
            "attention": attention_view(record, rows, word_tokens, seconds),
            "cafe": None if arm["cafe"] is None else with_claims(arm["cafe"]),
            "against": None,
        }
        arms.append(fields)
    mel = data["clip"]["mel"]
    if mel and "start_s" not in mel:
        # Its columns were windows of 25 ms every 10 ms, pooled to at most 600, drawn over the whole clip.
        base64.b64decode(mel["data"], validate=True)
        columns = int(mel["shape"][1])
        frames = max(1, (round(seconds * SAMPLE_RATE) - 400) // 160 + 1)
        mel = mel | {"start_s": 0.0075, "column_s": 0.01 * max(1.0, frames / columns)}
    return complete(data | {"version": VERSION, "clip": data["clip"] | {"mel": mel}, "arms": arms})
