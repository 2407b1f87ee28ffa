"""The comparison document: one clip, one question, and what each arm made of them, as plain JSON data.

It is the only thing that passes between the handlers, the page, the downloads, the stored comparisons of ``examples/``
and the API, so what a visitor sees is what a visitor can keep.

    format, version      "mpar2.comparison", 2 (version 1 is read, see ``pages.document_v1``)
    id, created, package, status   status: running, done, stopped, error
    stored, opened   true (else absent) where it was kept with the app, or by a visitor (``pages.results``)
    clip       name, seconds, digest, warnings, mel (see ``spectrogram``), audio (data URI), shareable
    question   text, choices, answer, domain, difficulty (null where unknown)
    truth      {origin, events: [{label, onset_s, offset_s}]} or null
    opinion    what a tagger found in a clip of which nothing is known (see ``opinion``), or null
    decoding, prompts (hash of each prompt in use), credits, example, link (query string that reopens it)
    scales     top of the colours and of the lines, shared by the arms: {passages, words, line}, each by mode
    arms       name, model, adapter, mode, stage, text, parts, problems, token_count, words [chars, tokens],
               answer, choice, correct (true, false, null), unscored (why null), finish, seconds, first_token_s,
               prompt_tokens, audio_seconds, attention_ratio, attention_corrected, warnings, error,
               attention (see ``attention_view``) or null, confidence (probability along the tokens: course, summary)
               or null, cafe (see ``scoring``) with claims (see ``claims``) or null,
               occlusion (see ``occluding``; absent where nobody asked for it),
               against (differences from arm ``base``, see :func:`differences`) or null

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
from pages.arrays import unpack
from pages.attention_view import ATTENTION_BYTES, attention_view, row_maximum, smooth
from pages.claims import claims_of, reason_in_words
from pages.occluding import check_occlusion
from pages.schema import problem_of
from pages.spectrogram import mel_picture
from pages.units import passages, words

__all__ = [
    "FORMAT",
    "MOST_ARMS",
    "VERSION",
    "DocumentError",
    "ComparisonRun",
    "audio_uri",
    "check_document",
    "clip_document",
    "complete",
    "shown_model",
    "truth_document",
    "without_arrays",
]

FORMAT, VERSION = "mpar2.comparison", 2
MOST_ARMS = 4
_FLAC_LIMIT = 400_000  # bytes; more would make the page of a half-minute clip heavy
_AUDIO_LIMIT_S = 120.0  # longer clips are not carried inside the document; the page then has no player of its own


class DocumentError(MPAR2Error, ValueError):
    """A stored comparison cannot be shown; the message says why."""


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
        self._arms = [_waiting(arm) for arm in arms]

    def progress(self, progress: Progress) -> bool:
        """Take in one update of the engine; return whether more changed than the length of the text."""
        arm = self._arms[progress.index]
        changed = arm["stage"] != progress.stage
        arm["stage"] = progress.stage
        if progress.generation is not None:
            arm.update(generation_document(progress.generation, self.question, self.seconds, self.attention_bytes))
        elif progress.text:
            arm.update(text=progress.text, token_count=progress.tokens)
        return changed

    def finish(self, status: str, error: str | None = None) -> None:
        """Close the document.

        Args:
            status: "done", "stopped" or "error".
            error: What went wrong, for the arms that did not end; None where nothing did.
        """
        self._document["status"] = status
        open_arms = [arm for arm in self._arms if arm["stage"] != "done"]
        for arm in open_arms or (self._arms if error else []):
            self.snapshot()
            arm.update(stage="done", finish="cancelled", unscored="This arm did not come to its end.", error=error)
        complete(self._document | {"arms": self._arms}, into=self._document)

    def texts(self, *, ended: bool = False) -> list[str]:
        """Return the traces as they stand; with ``ended`` those that came to their end, "" for the others."""
        return [arm["text"] if not ended or arm["finish"] not in (None, "cancelled") else "" for arm in self._arms]

    def opine(self, opinion: dict[str, Any] | None) -> None:
        """Add what a tagger found."""
        self._document["opinion"] = opinion

    def stage(self, stage: str) -> None:
        """Say what is going on in every arm."""
        for arm in self._arms:
            arm["stage"] = stage

    def score(self, index: int, cafe: dict[str, Any]) -> None:
        """Add the sorted mentions of an arm.

        Args:
            index: Place of the arm.
            cafe: Of ``pages.scoring.cafe_document``.
        """
        self._arms[index].update(cafe=with_claims(cafe), stage="done")

    def snapshot(self) -> dict[str, Any]:
        """Return the document as it stands."""
        for arm in self._arms:
            if arm["stage"] != "done" and arm["text"]:
                arm["parts"] = trace_to_json(parse_trace(arm["text"]))["parts"]
        return self._document | {"arms": [dict(arm) for arm in self._arms]}


def with_claims(cafe: dict[str, Any]) -> dict[str, Any]:
    """Add the table of claims to sorted mentions, and to each mention a sentence that says why it is right or wrong."""
    if "mentions" not in cafe:
        return cafe
    opinion = cafe["truth_origin"] == ORIGIN
    mentions = [mention | {"why": reason_in_words(mention, opinion=opinion)} for mention in cafe["mentions"]]
    return cafe | {"mentions": mentions, "claims": claims_of(mentions, cafe["targets"], opinion=opinion)}


def complete(document: dict[str, Any], into: dict[str, Any] | None = None) -> dict[str, Any]:
    """Add what needs all arms: the shared scales, and each arm's differences from the first that claims anything.

    Args:
        document: A document whose arms have ended; their ``against`` is set in place.
        into: Document that gets the scales; None: ``document`` itself.

    Returns:
        The document that got the scales.
    """
    arms = document["arms"]
    claiming = [i for i, arm in enumerate(arms) if (((arm["cafe"] or {}).get("counts")) or {}).get("predicted")]
    base = claiming[0] if claiming else 0
    for index, arm in enumerate(arms):
        arm["against"] = differences(arms[base], arm) | {"base": base} if index > base else None
    target = document if into is None else into
    target["scales"] = _scales([arm["attention"] for arm in arms if arm["attention"]])
    return target


def differences(first: dict[str, Any], arm: dict[str, Any]) -> dict[str, Any]:
    """Subtract one arm from another.

    Args:
        first: Arm of a document that is subtracted.
        arm: Arm that it is subtracted from.

    Returns:
        ``right_claims``, ``acc_per``, ``last_third`` (share of attention on audio in the last third of the trace) and
        ``tokens``; None where one of the two is unknown.
    """

    def claims(one: dict[str, Any], key: str) -> Any:
        return ((one["cafe"] or {}).get("counts") or {}).get(key)

    def rate(one: dict[str, Any]) -> Any:
        return ((one["cafe"] or {}).get("metrics") or {}).get("acc_per")

    def last(one: dict[str, Any]) -> Any:
        thirds = (one["attention"] or {}).get("thirds")
        return thirds["raw"][1] if thirds else None

    def minus(now: Any, before: Any) -> Any:
        return None if now is None or before is None else now - before

    return {
        "right_claims": minus(claims(arm, "matched"), claims(first, "matched")),
        "acc_per": minus(rate(arm), rate(first)),
        "last_third": minus(last(arm), last(first)),
        "tokens": arm["token_count"] - first["token_count"],
    }


def _scales(views: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    def top(pictures: Sequence[dict[str, Any] | None], mode: str) -> float:
        rows = []
        for made in pictures:
            packed = made and (made.get(mode) or made.get(mode.removesuffix("_clean")))
            if made and packed:
                whole = packed | {"data": made[packed["as"]]["data"]} if packed["data"] is None else packed
                rows.append(unpack(whole))
        return row_maximum(rows)

    passages_ = [view["views"][0]["pictures"] if view["views"] else None for view in views]
    modes = ("raw", "length", "raw_clean", "length_clean")
    return {
        "passages": {mode: top(passages_, mode) for mode in modes},
        "words": {mode: top([view["words"] for view in views], mode) for mode in modes},
        "line": {
            mode: max((max(view["course"][mode], default=0.0) for view in views), default=0.0)
            for mode in ("raw", "length")
        },
    }


def without_arrays(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document for those who read and do not draw: without sound, spectrogram and attention of tokens."""
    clip = {key: value for key, value in document["clip"].items() if key not in ("mel", "audio")}
    left_out = ("words", "attention")
    arms = [{key: value for key, value in arm.items() if key not in left_out} for arm in document["arms"]]
    return document | {"clip": clip, "arms": arms}


def shown_model(model: str | None) -> str | None:
    """Return a hub id or a short name as it is; of a folder, its name: paths of this machine are nobody's business."""
    if model is None:
        return None
    engine, served = split_engine(model)
    if engine == "server":  # its address is the operator's own
        return f"server: {served.partition('#')[2]}"
    return Path(model).name if Path(model).is_absolute() or Path(model).exists() else model


def share_query(question: Question, arms: Sequence[Arm], example: str | None) -> str:
    """Return the query string that reopens a question.

    Args:
        question: Its text and choices are in it.
        arms: Names and modes.
        example: Name of the example that the clip is of; None: the query names no clip.
    """
    pairs = [("example", example)] if example else []
    pairs += [("q", question.text)] + [("choice", choice) for choice in question.choices]
    pairs += [(f"arm{i}", f"{arm.name}:{arm.mode}") for i, arm in enumerate(arms, start=1)]
    return urlencode(pairs)


def generation_document(
    generation: Generation, question: Question, seconds: float, attention_bytes: int
) -> dict[str, Any]:
    """Return the finished fields of an arm.

    Args:
        generation: What the engine returned.
        question: Its answer decides what is correct.
        seconds: Length of the clip.
        attention_bytes: Bytes that the attention view may take, about.
    """
    trace = trace_to_json(generation.trace)
    correct, unscored = _correctness(generation, question)
    tokens = [(token.chars.start, token.chars.stop) for token in generation.tokens]
    spoken = words(generation.text, tokens)
    rows = passages(generation.text, trace["parts"], tokens)
    attention = attention_view(generation.attention, rows, spoken, seconds, attention_bytes)
    return {
        "stage": "done",
        "text": generation.text,
        "parts": trace["parts"],
        "problems": trace["problems"],
        "words": [[*word.chars, *word.tokens] for word in spoken],
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
    """Return what the model heard, as a data URI that every browser plays; None for clips too long to carry along.

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


def clip_document(clip: Clip, *, shareable: bool) -> dict[str, Any]:
    """Return the ``clip`` of a document.

    Args:
        clip: The clip.
        shareable: It is one of the examples, so that a link may name it.
    """
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
    """Return the probabilities of the tokens, smoothed, of an arm without attention whose engine gives them."""
    logprobs = [token.logprob for token in generation.tokens if token.logprob is not None]
    if generation.attention is not None or len(logprobs) < 2:
        return None
    chances = np.exp(np.asarray(logprobs))
    return {
        "course": [round(float(value), 4) for value in smooth(chances)],
        "summary": f"no attention from a server; its tokens had a probability of {chances.mean():.0%} on average",
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


def truth_document(events: Sequence[Event] | None, origin: str | None) -> dict[str, Any] | None:
    """Return the ``truth`` of a document; None where the events are not known.

    Args:
        events: True events of the clip; None where they are not known.
        origin: Who says so: "scene", "human", "visitor", ..
    """
    if events is None:
        return None
    listed = [{"label": event.label, "onset_s": event.onset_s, "offset_s": event.offset_s} for event in events]
    return {"origin": origin, "events": listed}


def check_document(data: Any) -> dict[str, Any]:
    """Check a document read from a file, so far that the page can draw it.

    The file may be a stranger's: nothing in it is trusted.

    Returns:
        The document; one of version 1 in the present form.

    Raises:
        DocumentError: It is no comparison, or is damaged.
    """
    try:
        if data["format"] == FORMAT and data["version"] == 1:
            from pages.document_v1 import upgraded

            data = upgraded(data)
        if data["format"] != FORMAT or data["version"] != VERSION:
            found = f"{str(data['format'])[:60]!r} version {str(data['version'])[:20]}"
            raise DocumentError(f"this is {found}; expected {FORMAT!r} {VERSION}")
        if not 1 <= len(data["arms"]) <= MOST_ARMS:
            raise DocumentError(f"there are {len(data['arms'])} arms; one to {MOST_ARMS} can be shown")
        if (problem := problem_of(data)) is not None:
            raise DocumentError(f"not a comparison document: {problem}")
        if (mel := data["clip"]["mel"]) is not None:
            size = len(base64.b64decode(mel["data"], validate=True))
            if size != math.prod(mel["shape"]):
                raise DocumentError(f"the spectrogram of shape {mel['shape']} holds {size} values")
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
    """Raise what a damaged arm raises; its types are right already."""
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
    for made in view["views"]:
        _check_pictures(arm, made["pictures"], (rows, columns))
        if any(len(shares) != rows for shares in made["shares"].values()):
            raise DocumentError(
                f"'{made['label'][:40]}' of '{arm['name']}' has not one share for each of {rows} passages"
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
