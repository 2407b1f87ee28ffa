"""Stored scores of a judge and answers to probes, read from ``cafe/`` of a run without the judge.

A zip of the run's folder is read in place. No name inside it is used as a path, and unpacked bytes are counted
independently of the zip's directory. A lone JSONL file has no scores. ``limits`` bound the files of an upload; None has
the wide limits of a user's own run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from mpar2.cafe.metrics import tally_events
from mpar2.runs import RunError, RunLimits, open_lines, open_member
from mpar2.runs.folder import OWN_LIMITS
from mpar2.runs.lines import load_json, read_lines

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
_PATTERNS = ("cafe/*/scores.jsonl", "cafe/*/scores.jsonl.gz", "cafe/*/metrics.json")
_PATTERNS += ("cafe/probes.jsonl", "cafe/probes.jsonl.gz")
_Files = dict[str, Callable[[], BinaryIO]]
_MAX_COUNT = 100_000  # events of a trace: a larger count is damaged


@dataclass(frozen=True)
class StoredScores:
    """The counts of each key (in the order of :data:`COUNTS`), reasons of unscored keys, and the judge."""

    judge: str | None = None
    others: tuple[str, ...] = ()  # other judges with scores
    counts: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    unscored: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)  # the judge's model, prompt hash, origins of truth


def find_stored(source: Path, judge: str | None = None, limits: RunLimits | None = None) -> StoredScores:
    """Find the judges that scored a run, without reading their scores.

    Args:
        source: Run folder, or a zip of one; a lone JSONL file has no scores.
        judge: Judge whose scores to take; None takes ``reference``, else the first by name.
        limits: Bounds on the files, for uploads; None has wide ones.

    Returns:
        The chosen judge, the other judges, and the metadata of ``metrics.json``; ``judge`` is None without scores.

    Raises:
        RunError: The judge has no scores here, or ``metrics.json`` is damaged.
    """
    limits = limits or OWN_LIMITS
    files = _files(source, limits)
    judges = _judges(files)
    if judge is not None and judge not in judges:
        available = f"it has {', '.join(sorted(judges))}" if judges else "it has none"
        raise RunError(f"{source.name} has no scores named {judge[:80]!r}; {available}")
    if not judges:
        return StoredScores()
    judge_name = judge or ("reference" if "reference" in judges else min(judges))
    metadata: dict[str, Any] = {}
    metrics_name = judges[judge_name].removesuffix(".gz").removesuffix("scores.jsonl") + "metrics.json"
    if metrics_name in files:
        with files[metrics_name]() as file:
            location = f"{source.name}/cafe/{judge_name}/metrics.json"
            metadata = load_json(file.read(limits.max_manifest_bytes), location)
        if not isinstance(metadata.get("truth_origins"), dict | None):
            raise RunError(f"{location}: 'truth_origins' must be an object of counts")
    fields = ("judge", "model", "model_version", "prompt_hash", "package_version", "truth_origins", "canaries", "limit")
    return StoredScores(
        judge_name, tuple(sorted(set(judges) - {judge_name})), about={k: metadata[k] for k in fields if k in metadata}
    )


def read_stored(source: Path, scores: StoredScores, limits: RunLimits | None = None) -> StoredScores:
    """Read the scores that :func:`find_stored` found: counts of each key, or the reason for their absence."""
    if scores.judge is None:
        return scores
    limits = limits or OWN_LIMITS
    counts: dict[str, tuple[int | None, ...]] = {}
    unscored: dict[str, str] = {}
    location = f"{source.name}/cafe/{scores.judge}/scores.jsonl"
    files = _files(source, limits)
    with files[_judges(files)[scores.judge]]() as file:
        lines = read_lines(file, location, max_lines=limits.max_lines, max_line_bytes=limits.max_line_bytes)
        for number, raw in lines:
            key = raw.get("key")
            if not isinstance(key, str):
                raise RunError(f"{location}, line {number}: a score without a key")
            if isinstance(raw.get("counts"), dict):
                stored = _counts(raw["counts"], f"{location}, line {number}")
                counts[key] = (*stored, *_by_rule(raw.get("verdict"), stored[0]))
            else:
                reason = raw.get("unscored")
                unscored[key] = str(reason.get("reason", ""))[:200] if isinstance(reason, dict) else "unscored"
    return replace(scores, counts=counts, unscored=unscored)


def score_lines(
    source: Path, scores: StoredScores, keys: set[str], limits: RunLimits | None = None
) -> dict[str, dict[str, Any]]:
    """Read the judge's raw lines of some answers, by key. Keys without a line, or behind a read error, are missing."""
    if scores.judge is None:
        return {}
    limits = limits or OWN_LIMITS
    lines: dict[str, dict[str, Any]] = {}
    # the file may be moved, deleted or cut since it was loaded
    with suppress(OSError, KeyError, RunError):
        files = _files(source, limits)
        with files[_judges(files)[scores.judge]]() as file:
            for _, line in lines_of_keys(file, keys, limits.max_line_bytes):
                raw = load_json(line, f"{source.name}/cafe/{scores.judge}/scores.jsonl")
                if raw.get("key") in keys:
                    lines[raw["key"]] = raw
                if len(lines) == len(keys):
                    break
    return lines


def key_needles(keys: Iterable[str]) -> list[bytes]:
    """Return the JSON encoding of keys, as it occurs in a line."""
    return [json.dumps(key, ensure_ascii=False).encode("utf-8", "backslashreplace") for key in keys]


def lines_of_keys(file: BinaryIO, keys: Iterable[str], max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of the lines with one of the keys near their start, where this project writes it."""
    needles = key_needles(keys)
    for number, line in enumerate(iter(partial(file.readline, max_bytes + 1), b""), 1):
        head = line[:12_000]
        if any(needle in head for needle in needles):
            yield number, line


def _judges(files: _Files) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in files:
        if match := _SCORES.fullmatch(name):
            names.setdefault(match[1], name)  # sorted: a new file comes before the compressed file that it replaces
    return names


def probe_rows(source: Path, limits: RunLimits | None = None) -> list[dict[str, Any]]:
    """Read the answers to a run's probes.

    Returns:
        A row for each probe: arm, item (id), label, present, yes (None if the answer is neither yes nor no); empty
        if the run was not probed.

    Raises:
        RunError: A line is damaged or too long, or there are too many.
    """
    limits = limits or OWN_LIMITS
    rows: list[dict[str, Any]] = []
    files = _files(source, limits)
    name = next(filter(_PROBES.fullmatch, files), None)
    if name is None:
        return rows
    with files[name]() as file:
        location = f"{source.name}/cafe/probes.jsonl"
        for number, raw in read_lines(file, location, max_lines=limits.max_lines, max_line_bytes=limits.max_line_bytes):
            answers = raw.get("answers")
            if not isinstance(answers, list) or not isinstance(raw.get("arm"), str):
                raise RunError(f"{location}, line {number}: no answers of an arm")
            for answer in answers:
                if not isinstance(answer, dict):
                    raise RunError(f"{location}, line {number}: an answer that is no object")
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


def _counts(raw: Mapping[str, Any], location: str) -> tuple[int, ...]:
    values = tuple(raw.get(name) for name in _STORED)
    if not all(type(value) is int and 0 <= value <= _MAX_COUNT for value in values):
        raise RunError(f"{location}: counts are {str(values)[:100]}; whole numbers from 0 are needed")
    return values  # type: ignore[return-value]


def _by_rule(verdict: Any, matched: int) -> tuple[int | None, ...]:
    """Return the counts under the other rules, from the mentions of a verdict; None for each if it has none."""
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
    """Return a function that opens each file of a run, by sorted name."""
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
