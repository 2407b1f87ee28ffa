"""What a judge and the probes left beside a run, read without the judge: counts of events by trace, answers by arm.

A folder has them under ``cafe/``; a zip of the folder too, and is read in place: no name inside it becomes a path, and
the bytes are counted as they are unpacked, whatever the directory of the zip says. A lone JSONL file has none.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from mpar2.cafe.metrics import tally_events
from mpar2.runs import RunError, RunLimits, open_lines, open_member
from mpar2.runs.lines import load_json, read_lines

__all__ = ["COUNTS", "StoredScores", "find_stored", "key_needles", "probe_rows", "read_stored", "score_lines"]

_STORED = ("matched", "hallucinated", "misused", "missed", "neutral_mentions")
_BY_RULE = ("matched_first", "matched_any", "mentions_right", "mentions_asserted")
COUNTS = (*_STORED, *_BY_RULE)
"""Counts of a trace: the stored ones (an event with any wrong mention is misused), and those of the other rules.

    matched_first       truth events whose first asserted mention is right
    matched_any         truth events with any right mention
    mentions_right      right mentions, of mentions_asserted (right, misused and hallucinated ones)
"""
_SCORES = re.compile(r"(?:[^/]+/)?cafe/([^/]{1,120})/scores\.jsonl(?:\.gz)?")
_PROBES = re.compile(r"(?:[^/]+/)?cafe/probes\.jsonl(?:\.gz)?")
_PATTERNS = (
    "cafe/*/scores.jsonl",
    "cafe/*/scores.jsonl.gz",
    "cafe/*/metrics.json",
    "cafe/probes.jsonl",
    "cafe/probes.jsonl.gz",
)
_Files = dict[str, Callable[[], BinaryIO]]
_MOST = 100_000  # events of a trace: above it, a count is damage
_MANY = RunLimits(max_bytes=1 << 50, max_lines=1 << 40, max_line_bytes=16_000_000, max_manifest_bytes=64_000_000)


@dataclass(frozen=True)
class StoredScores:
    """The counts of each key (in the order of :data:`COUNTS`), reasons of unscored ones, and who judged."""

    judge: str | None = None
    others: tuple[str, ...] = ()  # judges whose scores were not taken
    counts: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    unscored: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)  # the judge's model, prompt hash, origins of truth


def find_stored(source: Path, judge: str | None = None, limits: RunLimits | None = None) -> StoredScores:
    """Say whose scores a run has, without reading them.

    Args:
        source: Run folder, or a zip of one; a lone JSONL file has no scores.
        judge: Whose scores to take; None takes ``reference``, else the first by name.
        limits: Bounds on what is read, for uploads; None has wide ones.

    Returns:
        The judge, the judges beside it, and what ``metrics.json`` says of it; without a judge where there are no
        scores.

    Raises:
        RunError: The judge has no scores here, or ``metrics.json`` is damaged.
    """
    limits = limits or _MANY
    files = _files(source, limits)
    found = _judges(files)
    if judge is not None and judge not in found:
        known = f"it has {', '.join(sorted(found))}" if found else "it has none"
        raise RunError(f"{source.name} has no scores named {judge[:80]!r}; {known}")
    if not found:
        return StoredScores()
    chosen = judge or ("reference" if "reference" in found else min(found))
    about: dict[str, Any] = {}
    beside = found[chosen].removesuffix(".gz").removesuffix("scores.jsonl") + "metrics.json"
    if beside in files:
        with files[beside]() as file:
            where = f"{source.name}/cafe/{chosen}/metrics.json"
            about = load_json(file.read(limits.max_manifest_bytes), where)
        if not isinstance(about.get("truth_origins"), dict | None):
            raise RunError(f"{where}: 'truth_origins' must be an object of counts")
    kept = ("judge", "model", "model_version", "prompt_hash", "package_version", "truth_origins", "canaries", "limit")
    return StoredScores(chosen, tuple(sorted(set(found) - {chosen})), about={k: about[k] for k in kept if k in about})


def read_stored(source: Path, found: StoredScores, limits: RunLimits | None = None) -> StoredScores:
    """Read the scores that :func:`find_stored` found.

    Args:
        source: The run folder or zip.
        found: What was found there.
        limits: Bounds on what is read, for uploads; None has wide ones.

    Returns:
        ``found`` with the counts, or the reason why there are none, of each key.

    Raises:
        RunError: A line is damaged or too long, or there are too many.
    """
    if found.judge is None:
        return found
    limits = limits or _MANY
    counts: dict[str, tuple[int | None, ...]] = {}
    unscored: dict[str, str] = {}
    where = f"{source.name}/cafe/{found.judge}/scores.jsonl"
    files = _files(source, limits)
    with files[_judges(files)[found.judge]]() as file:
        lines = read_lines(file, where, max_lines=limits.max_lines, max_line_bytes=limits.max_line_bytes)
        for number, raw in lines:
            key = raw.get("key")
            if not isinstance(key, str):
                raise RunError(f"{where}, line {number}: a score without a key")
            if isinstance(raw.get("counts"), dict):
                stored = _counts(raw["counts"], f"{where}, line {number}")
                counts[key] = (*stored, *_by_rule(raw.get("verdict"), stored[0]))
            else:
                reason = raw.get("unscored")
                unscored[key] = str(reason.get("reason", ""))[:200] if isinstance(reason, dict) else "unscored"
    return replace(found, counts=counts, unscored=unscored)


def score_lines(
    source: Path, scores: StoredScores, keys: set[str], limits: RunLimits | None = None
) -> dict[str, dict[str, Any]]:
    """Read the judge's lines of some answers; only lines in which a key is found are parsed.

    Args:
        source: The run folder or zip.
        scores: Whose scores.
        keys: Keys of answers.
        limits: Bounds on what is read, for uploads; None has wide ones.

    Returns:
        Raw lines by key; a key without one is missing, and so are all behind a place that cannot be read.
    """
    if scores.judge is None:
        return {}
    limits, needles = limits or _MANY, key_needles(keys)
    found: dict[str, dict[str, Any]] = {}
    try:
        files = _files(source, limits)
        with files[_judges(files)[scores.judge]]() as file:
            while len(found) < len(keys) and (line := file.readline(limits.max_line_bytes + 1)):
                head = line[:12_000]  # the key stands first in what this project writes
                if any(needle in head for needle in needles):
                    raw = load_json(line, f"{source.name}/cafe/{scores.judge}/scores.jsonl")
                    if raw.get("key") in keys:
                        found[raw["key"]] = raw
    except (OSError, KeyError, RunError):
        return found  # moved, deleted or cut since it was loaded
    return found


def key_needles(keys: Iterable[str]) -> list[bytes]:
    """Return how keys stand in a line of JSON."""
    return [json.dumps(key, ensure_ascii=False).encode("utf-8", "backslashreplace") for key in keys]


def _judges(files: _Files) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in files:
        if match := _SCORES.fullmatch(name):
            found.setdefault(match[1], name)  # sorted: a new file stands before the compressed one that it replaces
    return found


def probe_rows(source: Path, limits: RunLimits | None = None) -> list[dict[str, Any]]:
    """Read the answers to a run's probes.

    Args:
        source: Run folder, or a zip of one.
        limits: Bounds on what is read, for uploads; None has wide ones.

    Returns:
        For each probe: arm, item (id), label, present, yes (None where the answer is neither yes nor no); empty where
        the run was not probed.

    Raises:
        RunError: A line is damaged or too long, or there are too many.
    """
    limits = limits or _MANY
    rows: list[dict[str, Any]] = []
    files = _files(source, limits)
    name = next(filter(_PROBES.fullmatch, files), None)
    if name is None:
        return rows
    with files[name]() as file:
        where = f"{source.name}/cafe/probes.jsonl"
        for number, raw in read_lines(file, where, max_lines=limits.max_lines, max_line_bytes=limits.max_line_bytes):
            answers = raw.get("answers")
            if not isinstance(answers, list) or not isinstance(raw.get("arm"), str):
                raise RunError(f"{where}, line {number}: no answers of an arm")
            for answer in answers:
                if not isinstance(answer, dict):
                    raise RunError(f"{where}, line {number}: an answer that is no object")
                rows.append(
                    {
                        "arm": raw["arm"],
                        "item": str(raw.get("item")),
                        "label": str(answer.get("label"))[:200],
                        "present": bool(answer.get("present")),
                        "yes": answer.get("yes") if isinstance(answer.get("yes"), bool) else None,
                    }
                )
    return rows


def _counts(raw: Mapping[str, Any], where: str) -> tuple[int, ...]:
    values = tuple(raw.get(name) for name in _STORED)
    if not all(type(value) is int and 0 <= value <= _MOST for value in values):
        raise RunError(f"{where}: counts are {str(values)[:100]}; whole numbers from 0 are needed")
    return values  # type: ignore[return-value]


def _by_rule(verdict: Any, matched: int) -> tuple[int | None, ...]:
    """Return the counts under the other rules, from the mentions of a verdict; unknown where it has none."""
    unknown = (None,) * len(_BY_RULE)
    mentions = verdict.get("mentions") if isinstance(verdict, dict) else None
    if not isinstance(mentions, list):
        return unknown
    pairs: list[tuple[str, list[Any]]] = []
    for mention in mentions:
        kind = mention.get("kind") if isinstance(mention, dict) else None
        events = mention.get("events") if kind else None
        if kind not in ("matched", "misused", "hallucinated") or not isinstance(events, list):
            continue
        if not all(isinstance(event, str | int) for event in events):
            return unknown
        pairs.append((kind, events if kind != "hallucinated" else []))
    tally = tally_events(pairs)
    if tally.all_right != matched:  # mentions and counts are not of one judgement
        return unknown
    return tally.first_right, tally.any_right, tally.mentions_right, tally.mentions


def _files(source: Path, limits: RunLimits) -> _Files:
    """Return what opens each file of a run, by name in order."""
    files: _Files = {}
    if source.is_dir():
        for path in (path for pattern in _PATTERNS for path in source.glob(pattern)):
            files[path.relative_to(source).as_posix()] = partial(open_lines, path)
    elif source.is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    files[info.filename] = partial(open_member, source, info, limits.max_bytes)
    return dict(sorted(files.items()))
