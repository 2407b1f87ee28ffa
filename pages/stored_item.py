"""Answers of a finished run as a comparison document, for the Compare view of the item behind a point of a figure.

A run may be an upload, so records and verdicts are checked before use, and long traces are truncated. The folder of a
run on this machine may have additional files, which uploads never have:

    audio/...          the recordings, under the paths of the items
    clips.json         {path of an item: name of an example}: recordings that are the clip of an example of this app
    attention.jsonl    {"key", "attention"} of some answers (``pages.attention_pack``), written by ``pages.store_run``

Without them no audio can be played, and attention is limited to each token's share on audio, which runs record.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.load import ArmInfo, RunInfo, RunTable
from analysis.scores import key_needles
from analysis.traces import fetch, fetch_verdicts
from mpar2.attention import OLD_FRAME_S, AttentionRecord
from mpar2.audio import AudioError, load_clip
from mpar2.cafe.schema import UNSCORED_REASONS, Unscored, Verdict, validate_verdict
from mpar2.engines.base import Decoding
from mpar2.formats import Limits
from mpar2.runs import RunError
from mpar2.runs.lines import load_json
from mpar2.trace import Span, parse_trace, trace_to_json
from pages.attention_pack import record_of
from pages.attention_view import attention_view
from pages.document import FORMAT, MOST_ARMS, VERSION, audio_uri, complete, with_claims
from pages.examples import EXAMPLES, read_example
from pages.scoring import cafe_document
from pages.spectrogram import mel_picture
from pages.units import passages, words

CLIPS = "clips.json"
HEATMAPS = "attention.jsonl"
_LONGEST_TRACE = 12_000  # characters
_MOST_EVENTS = 200
_MOST_BYTES = 64_000_000
_CLIP = Limits(max_seconds=300.0, max_bytes=40_000_000)


@dataclass(frozen=True)
class _Answer:
    """One row of the table with its arm, run, record and verdict."""

    frame_row: Any
    arm: ArmInfo
    run: RunInfo
    record: dict[str, Any]
    verdict: dict[str, Any] | None


def stored_document(table: RunTable, rows: Sequence[int]) -> dict[str, Any] | None:
    """Return answers of a finished run as a comparison document; None if the run does not exist any more."""
    answers = _answers(table, list(rows)[:MOST_ARMS])
    if not answers:
        return None
    first = answers[0]
    item, run = first.record["item"], first.run
    seconds = _seconds(first.record)
    text = "\n".join(answer.record["key"] for answer in answers)
    versions = _object(_object(run.manifest.get("environment")).get("versions"))
    events = [dict(event) for event in (item["events"] or ())][:_MOST_EVENTS]
    document = {
        "format": FORMAT,
        "version": VERSION,
        "id": hashlib.sha256(f"{run.name}\n{text}".encode("utf-8", "replace")).hexdigest()[:12],
        "created": str(run.manifest.get("created") or "at an unknown time")[:40],
        "package": str(versions.get("mpar2") or "of an unknown version")[:40],
        "status": "done",
        "stored": True,
        "clip": _clip(run, item, seconds),
        "question": {
            "text": item["question"] or first.record["id"],
            "choices": list(item["choices"] or ()),
            "answer": item["answer"],
            "domain": item["domain"],
            "difficulty": item["difficulty"],
        },
        "truth": {"origin": item["truth_origin"], "events": events} if item["events"] is not None else None,
        "decoding": _decoding(first.arm, run),
        "prompts": {
            str(answer.arm.get("mode")): str(answer.arm.get("prompt_hash"))
            for answer in answers
            if answer.arm.get("prompt_hash")
        },
        "credits": _credits(run, item),
        "example": None,
        "link": None,
        "arms": [_arm(answer, seconds) for answer in answers],
    }
    return complete(document)


def audio_of(run: RunInfo, item: Mapping[str, Any], clips: Mapping[str, Path] | None = None) -> Path | None:
    """Return the path of the item's recording inside the run's folder, or of the example's clip in ``clips.json``."""
    audio = item["audio"]
    if run.limits is not None or not run.source.is_dir() or not isinstance(audio, str) or not audio:
        return None
    root = run.source.resolve()
    try:
        path = (root / audio).resolve()
        if path.is_relative_to(root) and path.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have
        return None
    return (linked_clips(root) if clips is None else clips).get(audio)


def linked_clips(folder: Path) -> dict[str, Path]:
    """Map recordings of a run to clips of the app's examples; empty without ``clips.json``."""
    try:
        raw = load_json((folder / CLIPS).read_bytes(), CLIPS)
    except (OSError, RunError):
        return {}
    clips = {clip.parent.name: clip for clip in EXAMPLES.glob("*/clip.flac")}
    return {audio: clips[name] for audio, name in raw.items() if isinstance(name, str) and name in clips}


def _answers(table: RunTable, rows: Sequence[int]) -> list[_Answer]:
    frame = table.frame.iloc[list(rows)]
    by_key = {record["key"]: record for record in fetch(table, rows)}
    verdicts = fetch_verdicts(table, rows)
    runs = {run.name: run for run in table.runs}
    answers = []
    for position, row in enumerate(rows):
        line = frame.iloc[position]
        if line["key"] in by_key:
            answer = (line, table.arm(str(line["arm"])), runs[str(line["run"])], by_key[line["key"]])
            answers.append(_Answer(*answer, verdicts.get(row)))
    return answers


def _seconds(record: Mapping[str, Any]) -> float:
    """Return the length of the clip as recorded in the run, else the end of its last event, in seconds."""
    if record["audio_seconds"]:
        return float(record["audio_seconds"])
    ends = [event["offset_s"] for event in record["item"]["events"] or () if event["offset_s"]]
    return max([1.0, *ends])


def _clip(run: RunInfo, item: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    name = str(item["audio"] or "unknown recording").replace("\\", "/").rsplit("/", 1)[-1][:120]
    base = {"name": name, "seconds": seconds, "digest": "unknown", "mel": None, "audio": None, "shareable": False}
    path = audio_of(run, item)
    if path is None:
        reason = "an uploaded run brings none" if run.limits is not None else "they are not kept beside this run"
        warning = f"No sound and no heatmaps: {reason}. The examples of the Compare tab have both."
        return base | {"warnings": [warning]}
    try:
        clip = load_clip(path, limits=_CLIP)
    except AudioError as error:
        return base | {"warnings": [f"This clip cannot be read: {error}"[:300]]}
    return base | {
        "seconds": round(clip.seconds, 3),
        "digest": clip.digest,
        "warnings": list(clip.warnings),
        "mel": mel_picture(clip),
        "audio": audio_uri(clip),
    }


def _credits(run: RunInfo, item: Mapping[str, Any]) -> str | None:
    """Return the credits of the example if the clip is an example's, else the sources of the item, else None."""
    path = audio_of(run, item)
    if path is not None and path.is_relative_to(EXAMPLES) and not path.is_relative_to(run.source.resolve()):
        try:
            return read_example(path.parent).credits
        except ValueError:
            return None
    sources = _object(item.get("extra")).get("sources")
    return "Sounds: " + ", ".join(map(str, sources))[:400] if isinstance(sources, list) and sources else None


def _decoding(arm: ArmInfo, run: RunInfo) -> dict[str, Any]:
    defaults = Decoding()
    return {
        "max_new_tokens": arm.get("max_new_tokens", "an unknown number of"),
        "temperature": arm.get("temperature", defaults.temperature),
        "top_p": arm.get("top_p", defaults.top_p),
        "seed": run.manifest.get("seed"),
    }


def _arm(answer: _Answer, seconds: float) -> dict[str, Any]:
    record, row = answer.record, answer.frame_row
    text = record["text"] or ""
    truncated = len(text) > _LONGEST_TRACE
    text = text[:_LONGEST_TRACE]
    tokens = _tokens(record["token_ends"], len(text))
    trace = trace_to_json(parse_trace(text, [Span(*span) for span in tokens]))
    attention = _heatmap(answer, len(tokens)) or _shares(record, len(tokens))
    word_tokens, rows = words(text, tokens), passages(text, trace["parts"], tokens)
    warnings = ["The rest of this trace is too long to show here."] if truncated else []
    correct = row["right"]
    return {
        "name": str(row["arm"]),
        "model": _model_name(answer.arm.get("model")) or "an unknown model",
        "adapter": _model_name(answer.arm.get("adapter")),
        "mode": str(answer.arm.get("mode") or "in an unknown way"),
        "stage": "done",
        "text": text,
        "parts": trace["parts"],
        "problems": trace["problems"],
        "words": [[*word.chars, *word.tokens] for word in word_tokens],
        "token_count": record["tokens"] or 0,
        "answer": record["choice"] or record["answer"],
        "choice": record["choice"],
        "correct": None if correct != correct else bool(correct),
        "unscored": "The true answer is withheld." if correct != correct else None,
        "finish": record["finish"],
        "seconds": record["seconds"],
        "first_token_s": None,
        "prompt_tokens": record["prompt_tokens"],
        "audio_seconds": record["audio_seconds"],
        "attention_ratio": _finite_or_none(row["attention"]),
        "attention_corrected": _finite_or_none(row["corrected"]),
        "warnings": warnings,
        "error": record["error"],
        "attention": attention_view(attention, rows, word_tokens, seconds),
        "cafe": _cafe(answer, text, truncated),
        "against": None,
    }


def _tokens(ends: Sequence[int] | None, length: int) -> list[tuple[int, int]]:
    """Return the character spans of the tokens that end within ``length`` characters."""
    inside = [end for end in ends or () if end <= length]
    return list(zip([0, *inside], inside, strict=False))


def _shares(record: Mapping[str, Any], tokens: int) -> AttentionRecord | None:
    """Return the record's share of attention on audio for each token, as a record without heatmap."""
    raw = record["attention"] or {}
    ratio, corrected, positions = raw.get("ratio"), raw.get("corrected"), raw.get("audio_positions")
    valid = isinstance(ratio, list) and isinstance(corrected, list)
    if not valid or not tokens or type(positions) is not int or positions < 1:
        return None
    numbers = [value for value in (*ratio, *corrected) if type(value) in (int, float)]
    if len(ratio) != len(corrected) or len(numbers) != 2 * len(ratio) or len(ratio) < tokens:
        return None
    shares, multiples = (np.asarray(values[:tokens], dtype=np.float64) for values in (ratio, corrected))
    visible = np.where(shares > 0, multiples / np.where(shares > 0, shares, 1.0), 1.0) * positions
    rows = np.zeros((tokens, 1, 1, 0), dtype=np.float16)
    mass = shares.astype(np.float32)[:, None, None]
    frame_s = raw.get("frame_s")
    frame_s = float(frame_s) if type(frame_s) in (int, float) and frame_s > 0 else OLD_FRAME_S
    return AttentionRecord(rows, mass, np.rint(visible).astype(np.int32), positions, frame_s, "none")


def _heatmap(answer: _Answer, tokens: int) -> AttentionRecord | None:
    """Return the stored attention of an answer, if its number of tokens matches the trace."""
    for line in _heatmap_lines(answer.run, {answer.record["key"]}):
        attention = line.get("attention")
        if line["key"] == answer.record["key"] and isinstance(attention, dict):
            try:
                record = record_of(attention)
            except (KeyError, TypeError, ValueError, IndexError):
                return None
            return record if len(record.visible) == tokens == record.mass.shape[0] else None
    return None


def _heatmap_lines(run: RunInfo, keys: set[str] | None = None) -> list[dict[str, Any]]:
    path = run.source / HEATMAPS
    if run.limits is not None or not run.source.is_dir() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return []
    needles = None if keys is None else key_needles(keys)
    lines = []
    for line in path.read_bytes().splitlines():
        if needles is None or any(needle in line[:12_000] for needle in needles):
            try:
                raw = load_json(line, HEATMAPS)
            except RunError:
                continue
            if isinstance(raw.get("key"), str):
                lines.append(raw)
    return lines


def _cafe(answer: _Answer, text: str, truncated: bool) -> dict[str, Any] | None:
    line = answer.verdict
    if line is None:
        return None
    if not isinstance(line.get("verdict"), dict):
        reason = _object(line.get("unscored"))
        valid = reason.get("reason") in UNSCORED_REASONS
        return cafe_document(Unscored(reason["reason"] if valid else "error", str(reason.get("detail", ""))[:300]))
    try:
        verdict = Verdict.from_dict(line["verdict"])
        validate_verdict(verdict, answer.record["text"] or "")
        document = cafe_document(verdict)
    except (KeyError, TypeError, ValueError):
        return {"unscored": "The judge's line does not belong to this trace."}
    if truncated:
        document["mentions"] = [mention for mention in document["mentions"] if mention["stop"] <= len(text)]
    return with_claims(document)


def _object(value: Any) -> Mapping[str, Any]:
    """Return ``value`` if it is a dict, else an empty dict; manifests and verdicts are untrusted."""
    return value if isinstance(value, dict) else {}


def _model_name(model: Any) -> str | None:
    """Return a checkpoint's name, or the last part of its path."""
    return None if model is None else str(model).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1][:120]


def _finite_or_none(value: Any) -> float | None:
    return float(value) if isinstance(value, float) and math.isfinite(value) else None
