"""Runs as one typed table: a row for each generation, everything about it that a figure can use.

Columns of ``RunTable.frame``:

    key, id, sample
    item                       category: the benchmark's fingerprint and the id, equal where arms can be compared
    needs_audio                category: "yes" or "no", from arms with silent audio or published answers; else missing
    clip                       category: the benchmark's fingerprint and the audio: the unit of every interval
    run, arm                   categories; an arm's label is its name, with the run's name where two runs share it
    domain, category, sub_category, difficulty    categories, missing where unknown
    status, error, finish      categories; ``truncated`` where the token limit ended the trace
    right, strict, parsed      1 or 0; a failed answer is wrong; NaN where the item's answer is withheld
    chance                     expected score of guessing among the choices (0 for an open question)
    answered                   1 if an answer was found in the reply, else 0; NaN where it is withheld or missing
    prediction                 the parsed answer (votes of self-consistency)
    tokens                     all generated tokens; NaN where a server did not report them
    reasoning_tokens           of them those before the answer part; NaN where token borders are unknown
    form                       1 if the trace has the form of the arm's prompt, else 0; NaN if the prompt sets none
    prompt_tokens, seconds, audio_seconds, steps
    matched, hallucinated, misused, missed, neutral_mentions, n_pred, n_tgt    CAFE's counts, NaN where unscored
    matched_first, matched_any, mentions_right, mentions_asserted    the same by other rules (``analysis.scores``)
    unscored                   the reason for missing counts
    attention, corrected       mean attention ratio of the trace, raw and corrected for length

``RunTable.attention`` has the ratios along the trace in long form (see ``analysis.attention``). Texts are not kept in
memory; ``analysis.traces`` reads them on demand.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.scores import COUNTS, StoredScores, find_stored, probe_rows, read_stored
from mpar2.accuracy import answer_of, score
from mpar2.prompts import requested_form
from mpar2.runs import Run, RunLimits, read_run
from mpar2.trace import has_form, parse_trace

RELATIVE_BINS = 20
TOKEN_BLOCK = 16  # tokens of a block of absolute position
_CATEGORIES = ("run", "arm", "item", "clip", "needs_audio", "domain", "category", "sub_category", "difficulty")
_CATEGORIES += ("status", "finish")
_TEXTS = ("key", "id", "prediction", "error", "unscored")
_PREDICTION_CHARS = 200


@dataclass(frozen=True)
class ArmInfo:
    """An arm of a run: its label in figures, and its settings as the manifest has them ({} where there is none)."""

    label: str
    run: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a setting of the arm."""
        return self.settings.get(key, default)


@dataclass(frozen=True)
class RunInfo:
    """Source of rows: name, path and manifest of a run, its scores, and notes about missing data."""

    name: str
    source: Path
    manifest: Mapping[str, Any]
    scores: StoredScores
    notes: tuple[str, ...] = ()
    limits: RunLimits | None = None

    @property
    def benchmark(self) -> str:
        """Return the name and version of the benchmark."""
        benchmark = self.manifest.get("benchmark") or {}
        return " ".join(str(benchmark[key]) for key in ("name", "version") if benchmark.get(key)) or "unknown benchmark"


@dataclass(frozen=True, eq=False)
class RunTable:
    """Rows of one or more runs, with their attention, probes, arms and run infos."""

    frame: pd.DataFrame
    attention: pd.DataFrame
    probes: pd.DataFrame
    arms: tuple[ArmInfo, ...]
    runs: tuple[RunInfo, ...]

    def arm(self, label: str) -> ArmInfo:
        """Return the arm of that label, or raise :class:`AnalysisError`."""
        for arm in self.arms:
            if arm.label == label:
                return arm
        raise AnalysisError(f"no arm {label[:80]!r} here: choose from {', '.join(arm.label for arm in self.arms)}")

    def rows(self, label: str) -> pd.DataFrame:
        """Return the rows of one arm, without the columns of text."""
        return self._by_arm[label]

    @cached_property
    def _by_arm(self) -> dict[str, pd.DataFrame]:
        """Return the rows by arm, cached because figures use them many times."""
        frame = self.frame.drop(columns=["key", "id", "error", "unscored"])
        arms = frame["arm"].cat
        codes = arms.codes.to_numpy()
        return {label: frame[codes == arms.categories.get_loc(label)] for label in self.labels}

    @property
    def labels(self) -> list[str]:
        """Return the labels of all arms in order."""
        return [arm.label for arm in self.arms]


def load_runs(
    sources: Iterable[str | Path],
    *,
    judge: str | None = None,
    limits: RunLimits | None = None,
    name: str | None = None,
    audio_need: Mapping[str, float] | None = None,
) -> RunTable:
    """Load run folders, zips of them, or lone ``items.jsonl`` files as one table.

    Args:
        sources: The runs.
        judge: Judge whose scores are used if a run has several; None takes ``reference``, else the first by name.
        limits: Bounds on the files of an upload, which also has no columnar copy; None has no bounds.
        name: Name of the run, for a single source.
        audio_need: Share of right answers without the audio, by item id (``analysis.audio_need``).

    Raises:
        AnalysisError: No source was given, or one has no finished answer.
        RunError: A source is no run, is damaged, or has no scores of ``judge``.
    """
    paths = [Path(source) for source in sources]
    if not paths:
        raise AnalysisError("no run was given: name at least one run folder")
    names = _unique_names([name or (path.resolve().name if path.is_dir() else path.stem) for path in paths])
    loaded = [_load_run(path, name, judge, limits) for path, name in zip(paths, names, strict=True)]
    return join_tables(loaded, audio_need)


def join_tables(tables: Sequence[RunTable], audio_need: Mapping[str, float] | None = None) -> RunTable:
    """Join tables. Arms of equal names in two runs get the run's name as a suffix."""
    arms = [arm for table in tables for arm in table.arms]
    names = [arm.name for arm in arms]
    labels = {(arm.run, arm.name): f"{arm.name} ({arm.run})" if names.count(arm.name) > 1 else arm.name for arm in arms}
    frames, attention, probes = [], [], []
    for table in tables:
        new_labels = {arm.label: labels[arm.run, arm.name] for arm in table.arms}
        frame = table.frame.copy(deep=False)
        frame["arm"] = frame["arm"].cat.rename_categories(new_labels)
        frames.append(frame)
        offset = sum(map(len, frames[:-1]))
        attention.append(table.attention.assign(row=table.attention["row"] + offset))
        probes.append(table.probes.assign(arm=table.probes["arm"].map(new_labels)))
    relabelled_arms = tuple(ArmInfo(labels[arm.run, arm.name], arm.run, arm.name, arm.settings) for arm in arms)
    frame = frames[0] if len(frames) == 1 else _concatenate(frames)
    frame["arm"] = frame["arm"].cat.set_categories([arm.label for arm in relabelled_arms])
    frame["needs_audio"] = _needs_audio(frame, relabelled_arms, audio_need or {})
    return RunTable(
        frame,
        pd.concat(attention, ignore_index=True),
        pd.concat(probes, ignore_index=True),
        relabelled_arms,
        tuple(run for table in tables for run in table.runs),
    )


def _needs_audio(frame: pd.DataFrame, arms: Sequence[ArmInfo], published: Mapping[str, float]) -> pd.Categorical:
    """Return "yes" for each row whose item needs the audio, "no" for the others, missing where it is unknown.

    An item needs the audio if at most half of the answers of arms with silent audio are right. Shares of published
    answers (``published``, by item id) take precedence. Right guesses count as answerable, so "yes" is the more
    reliable label.
    """
    levels = pd.Index(["no", "yes"], dtype="str")
    silent = [arm.label for arm in arms if arm.get("audio") == "silent"]
    answers = frame[frame["arm"].isin(silent) & np.isfinite(frame["right"])]
    if answers.empty and not published:
        return pd.Categorical([None] * len(frame), categories=levels)
    silent_accuracy = answers.groupby("item", observed=True)["right"].mean()
    measured = frame["item"].astype(str).map({str(item): value for item, value in silent_accuracy.items()})
    share = frame["id"].map(published).fillna(measured).to_numpy(dtype=float)
    return pd.Categorical.from_codes(np.where(np.isnan(share), -1, share <= 0.5).astype(int), categories=levels)


def _concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the frames stacked by row, with the union of their categories."""
    from pandas.api.types import union_categoricals

    categories = {
        name: union_categoricals([frame[name].astype("category") for frame in frames], ignore_order=True)
        for name in _CATEGORIES
    }
    other_columns = pd.concat([frame.drop(columns=list(_CATEGORIES)) for frame in frames], ignore_index=True)
    return pd.DataFrame({name: categories.get(name, other_columns.get(name)) for name in frames[0].columns})


def _load_run(path: Path, name: str, judge: str | None, limits: RunLimits | None) -> RunTable:
    from analysis import cache

    run = read_run(path, limits)
    scores = find_stored(path, judge, limits)
    cached = limits is None  # an upload has no copy beside it
    tables = cache.read(path, scores) if cached else None
    if tables is None:
        scores = read_stored(path, scores, limits)
        tables = _read(run, scores)
        if cached:
            cache.write(path, scores, *tables)
    frame, attention = (table.copy(deep=False) for table in tables)
    for column in _CATEGORIES[1:]:  # Parquet returns a column without any text as numeric
        if not isinstance(frame[column].dtype, pd.CategoricalDtype):
            frame[column] = pd.Categorical(frame[column], categories=_levels(frame[column]))
    frame["run"] = pd.Categorical.from_codes(np.zeros(len(frame), dtype=np.int8), [name])
    names = list(frame["arm"].cat.categories)
    settings = {arm["name"]: arm for arm in run.manifest.get("arms", [])}
    order = [arm for arm in settings if arm in names] + [arm for arm in names if arm not in settings]
    frame["arm"] = frame["arm"].cat.set_categories(order)
    arms = tuple(ArmInfo(arm, name, arm, settings.get(arm, {})) for arm in order)
    probes = pd.DataFrame(probe_rows(path, limits), columns=["arm", "item", "label", "present", "yes"])
    probes["present"] = probes["present"].astype(bool)  # also where there are none
    clips = frame.drop_duplicates("id").set_index("id")["clip"].astype(str)
    probes = probes[probes["arm"].isin(order)].assign(run=name)
    probes["clip"] = probes["item"].map(clips).fillna(probes["item"]).astype(str)
    # Questions about the same clip share its probes: each probe counts once.
    probes = probes.drop_duplicates(["arm", "clip", "label", "present"], ignore_index=True)
    info = RunInfo(name, path, run.manifest, scores, tuple(_notes(run, frame, scores)), limits)
    return RunTable(frame, attention, probes, arms, (info,))


def _read(run: Run, scores: StoredScores) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frame (without run) and the attention of one run, line by line."""
    fingerprint = str((run.manifest.get("benchmark") or {}).get("fingerprint", ""))[:12]
    forms = {arm["name"]: requested_form(arm.get("mode"), arm.get("prompt")) for arm in run.manifest.get("arms", [])}
    columns: dict[str, list[Any]] = {}
    attention: list[tuple[np.ndarray, ...]] = []
    for row, record in enumerate(run.records()):
        for name, value in _row(record, fingerprint, scores, forms.get(record["arm"])).items():
            columns.setdefault(name, []).append(value)
        profile = _profile(record["attention"], row)
        columns.setdefault("attention", []).append(profile[0])
        columns.setdefault("corrected", []).append(profile[1])
        attention += profile[2]
    if not columns:
        raise AnalysisError(f"{run.name} has no finished generation yet: let the evaluation write some")
    return _typed_frame(columns), _attention_frame(attention)


def _row(record: Mapping[str, Any], fingerprint: str, scores: StoredScores, form: str | None) -> dict[str, Any]:
    item, ok = record["item"], record["status"] == "ok"
    trace = parse_trace(record["text"] or "") if ok else None
    answer = answer_of(record, trace) if ok else None
    result = score(record, answer) if ok else None
    withheld = item["answer"] is None
    counts = scores.counts.get(record["key"])
    return {
        "key": record["key"],
        "item": f"{fingerprint}:{record['id']}",
        "clip": f"{fingerprint}:{item['audio'] or record['id']}",
        "needs_audio": None,
        "id": record["id"],
        "sample": record["sample"],
        "arm": record["arm"],
        **{name: item[name] for name in ("domain", "category", "sub_category", "difficulty")},
        "status": record["status"],
        "error": (record["error"] or "")[:300],
        "finish": record["finish"],
        "truncated": record["finish"] == "length",
        "right": np.nan if withheld else float(bool(result and result.official)),
        "strict": np.nan if withheld else float(bool(result and result.strict)),
        "parsed": np.nan if withheld else float(bool(result and result.parsed)),
        "chance": np.nan if withheld else 1 / len(item["choices"]) if item["choices"] else 0.0,
        "answered": np.nan if withheld or not ok else float(bool(result and result.answered)),
        "prediction": (answer.prediction if answer else "")[:_PREDICTION_CHARS],
        "tokens": record["tokens"],
        "reasoning_tokens": None if trace is None else _reasoning_tokens(trace, record),
        "prompt_tokens": record["prompt_tokens"],
        "seconds": record["seconds"],
        "audio_seconds": record["audio_seconds"],
        "steps": None if trace is None else len(trace.of_kind("step")),
        "form": None if trace is None or form is None else float(has_form(trace, form)),
        **dict(zip(COUNTS, counts or (None,) * len(COUNTS), strict=True)),
        "unscored": "" if counts else scores.unscored.get(record["key"], "not judged"),
    }


def _reasoning_tokens(trace: Any, record: Mapping[str, Any]) -> int | None:
    ends = record["token_ends"]
    if ends is None:
        return None
    answers = [part for part in trace.of_kind("answer") if part.parent is None]
    return bisect_right(ends, answers[-1].outer.start) if answers else len(ends)


def _typed_frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    arrays: dict[str, Any] = {}
    for name, values in columns.items():
        if name in _CATEGORIES:
            arrays[name] = pd.Categorical(values, categories=_levels(values))
        elif name in _TEXTS:
            arrays[name] = pd.array(values, dtype="str")
        elif name == "truncated":
            arrays[name] = np.asarray(values, dtype=bool)
        elif name == "sample":
            arrays[name] = np.asarray(values, dtype=np.int32)
        else:
            arrays[name] = np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
    frame = pd.DataFrame(arrays)
    frame["n_pred"] = frame["matched"] + frame["hallucinated"] + frame["misused"]
    frame["n_tgt"] = frame["matched"] + frame["misused"] + frame["missed"]
    return frame


def _levels(values: Iterable[Any]) -> pd.Index:
    """Return the distinct texts as the levels of a category, of dtype str even if there are none."""
    return pd.Index(sorted({value for value in values if isinstance(value, str)}), dtype="str")


def _profile(raw: Mapping[str, Any] | None, row: int) -> tuple[float, float, list[tuple[np.ndarray, ...]]]:
    """Return the means of both ratios, and the ratios in bins of relative and of absolute position."""
    empty = (np.nan, np.nan, [])
    if not raw or not isinstance(raw.get("ratio"), list) or not isinstance(raw.get("corrected"), list):
        return empty
    try:
        values = np.asarray([raw["ratio"], raw["corrected"]], dtype=np.float64)
    except (TypeError, ValueError):
        return empty
    tokens = values.shape[-1]
    if values.ndim != 2 or tokens == 0 or not np.isfinite(values).all():
        return empty
    profiles = []
    positions = np.arange(tokens)
    for kind, bins in enumerate(((positions * RELATIVE_BINS) // tokens, positions // TOKEN_BLOCK)):
        counts = np.bincount(bins)
        occupied = np.flatnonzero(counts)
        sums = [np.bincount(bins, column)[occupied] / counts[occupied] for column in values]
        profiles.append((np.full(len(occupied), row), np.full(len(occupied), kind), occupied, *sums, counts[occupied]))
    return float(values[0].mean()), float(values[1].mean()), profiles


def _attention_frame(profiles: list[tuple[np.ndarray, ...]]) -> pd.DataFrame:
    names = ("row", "kind", "bin", "ratio", "corrected", "tokens")
    types = (np.int64, np.int8, np.int32, np.float64, np.float64, np.int32)
    columns = [
        np.concatenate([profile[i] for profile in profiles]) if profiles else np.empty(0) for i in range(len(names))
    ]
    return pd.DataFrame({name: column.astype(kind) for name, column, kind in zip(names, columns, types, strict=True)})


def _notes(run: Run, frame: pd.DataFrame, scores: StoredScores) -> Iterable[str]:
    failed = int((frame["status"] == "error").sum())
    if failed:
        yield f"{failed} answers failed; they count as wrong and have no length"
    expected = sum(int(arm.get("items") or 0) * int(arm.get("samples") or 1) for arm in run.manifest.get("arms", []))
    if expected > len(frame):
        yield f"{expected - len(frame)} of {expected} answers are not there yet: the run is not finished"
    if not run.manifest:
        yield "there is no manifest: models, prompts and benchmark are unknown"
    if scores.others:
        yield f"judged by {scores.judge}; the scores of {', '.join(scores.others)} are not shown"


def _unique_names(names: Sequence[str]) -> list[str]:
    unique: list[str] = []
    for name in names:
        new, number = name[:80] or "run", 2
        while new in unique:
            new, number = f"{name[:80]} {number}", number + 1
        unique.append(new)
    return unique
