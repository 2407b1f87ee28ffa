"""Training logs as data: a small folder for each recipe and seed.

    manifest.json   recipe, kind ("sft" or "grpo"), seed, started, steps, package, base, note
    log.jsonl       {"step": 10, "<metric as TRL logs it>": 0.5, ...}, a line for each logged step

``python -m training export`` writes them. A folder may also come from an untrusted source, so every field is checked,
sizes are bounded, and errors name the line. Several lines of one step (an evaluation beside a training step, or a step
repeated after a resume) are merged into one row, in which the later value counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import AnalysisError
from mpar2.runs import RunError
from mpar2.runs.lines import load_json, read_lines

KINDS = ("sft", "grpo")
_TEXTS = ("recipe", "kind", "started", "package", "base", "note")
_MOST_BYTES, _MOST_LINES, _MOST_METRICS, _MOST_STEPS = 20_000_000, 50_000, 200, 10_000_000
_METRIC = re.compile(r"[\w./%-]{1,120}")


@dataclass(frozen=True, eq=False)
class TrainingLog:
    """One training. ``rows`` has a column for each metric over the index ``step`` (ascending, each step once)."""

    name: str
    recipe: str
    kind: str
    seed: int | None
    manifest: Mapping[str, Any]
    rows: pd.DataFrame


def load_logs(root: Path) -> tuple[list[TrainingLog], list[str]]:
    """Return the logs of the folders in ``root`` by name, and an error message for each invalid folder."""
    logs, problems = [], []
    for folder in sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else ():
        try:
            logs.append(load_log(folder))
        except AnalysisError as error:
            problems.append(str(error))
    return logs, problems


def load_log(folder: Path) -> TrainingLog:
    """Read one folder and check it; :class:`AnalysisError` names what is missing or damaged."""
    try:
        manifest = _manifest(load_json(_bytes(folder / "manifest.json"), f"{folder.name}/manifest.json"), folder.name)
        _bytes(folder / "log.jsonl")
        with (folder / "log.jsonl").open("rb") as file:
            rows = _rows(file, f"{folder.name}/log.jsonl")
    except OSError as error:
        raise AnalysisError(
            f"{folder.name}: {Path(error.filename or '').name or 'a file'} cannot be read "
            f"({error.strerror}): a training log is a folder with manifest.json and log.jsonl"
        ) from None
    except RunError as error:
        raise AnalysisError(str(error)) from None
    return TrainingLog(folder.name, manifest["recipe"], manifest["kind"], manifest["seed"], manifest, rows)


def families(logs: Sequence[TrainingLog]) -> dict[str, list[TrainingLog]]:
    """Group logs by recipe and kind over seeds, and return them by label, such as ``tiny, grpo (3 seeds)``."""
    groups: dict[tuple[str, str], list[TrainingLog]] = {}
    for log in logs:
        groups.setdefault((log.recipe, log.kind), []).append(log)
    return {f"{recipe}, {kind} ({_seeds(group)})": group for (recipe, kind), group in sorted(groups.items())}


def curve(logs: Sequence[TrainingLog], metric: str, spread: tuple[str, str] | str | None = None) -> pd.DataFrame:
    """Average a metric over logs, at the steps that all of them logged.

    Args:
        logs: Logs of one recipe, such as its seeds.
        metric: Column of the log.
        spread: Spread of a single log: the column of a standard deviation, or those of the lowest and highest value.

    Returns:
        Columns ``step, value, low, high, logs``; ``low`` and ``high`` span the logs where there are several.
    """
    metric_logs = [log for log in logs if metric in log.rows]
    columns = [log.rows[metric].dropna() for log in metric_logs]
    if not columns:
        return pd.DataFrame(columns=["step", "value", "low", "high", "logs"])
    values = pd.concat(columns, axis=1, join="inner").sort_index()
    points = pd.DataFrame({"value": values.mean(axis=1), "low": math.nan, "high": math.nan, "logs": len(columns)})
    if len(columns) > 1:
        points["low"], points["high"] = values.min(axis=1), values.max(axis=1)
    elif isinstance(spread, str) and spread in metric_logs[0].rows:
        deviation = metric_logs[0].rows[spread].reindex(points.index)
        points["low"], points["high"] = points["value"] - deviation, points["value"] + deviation
        if points["value"].between(0, 1).all():  # of a share, a band does not leave its range
            points[["low", "high"]] = points[["low", "high"]].clip(0, 1)
    elif isinstance(spread, tuple) and set(spread) <= set(metric_logs[0].rows):
        points["low"], points["high"] = (metric_logs[0].rows[name].reindex(points.index) for name in spread)
    return points.rename_axis("step").reset_index()


def _seeds(group: Sequence[TrainingLog]) -> str:
    seeds = {log.seed for log in group}
    if len(group) == 1:
        return "1 seed"
    return f"{len(seeds)} seeds" if len(seeds) == len(group) else f"{len(group)} runs"


def _bytes(path: Path) -> bytes:
    """Return the file's bytes, or raise ``RunError`` above the limit of size."""
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise RunError(f"{path.parent.name}/{path.name} has {size:,} bytes; the limit is {_MOST_BYTES:,}")
    return path.read_bytes()


def _manifest(raw: Mapping[str, Any], location: str) -> dict[str, Any]:
    manifest: dict[str, Any] = {}
    for name in _TEXTS:
        value = raw.get(name)
        if value is not None and (not isinstance(value, str) or len(value) > 2000):
            raise RunError(f"{location}/manifest.json: '{name}' is {str(value)[:60]!r}; a short text is needed")
        manifest[name] = value
    if not manifest["recipe"] or len(manifest["recipe"]) > 120:
        raise RunError(f"{location}/manifest.json: 'recipe' must name the recipe, in at most 120 characters")
    if manifest["kind"] not in KINDS:
        raise RunError(
            f"{location}/manifest.json: 'kind' is {manifest['kind']!r}; it must be one of {', '.join(KINDS)}"
        )
    for name in ("seed", "steps"):
        value = raw.get(name)
        if value is not None and (type(value) is not int or not 0 <= value < 2**63):
            raise RunError(f"{location}/manifest.json: '{name}' is {str(value)[:60]!r}; a whole number is needed")
        manifest[name] = value
    return manifest


def _rows(file: Any, location: str) -> pd.DataFrame:
    by_step: dict[int, dict[str, float]] = {}
    metrics: set[str] = set()
    for number, raw in read_lines(file, location, max_lines=_MOST_LINES, max_line_bytes=100_000):
        step = raw.pop("step", None)
        if type(step) is not int or not 0 <= step <= _MOST_STEPS:
            raise RunError(f"{location}, line {number}: 'step' is {str(step)[:60]!r}; a whole number is needed")
        for name, value in raw.items():
            if not _METRIC.fullmatch(name):
                raise RunError(f"{location}, line {number}: {name[:60]!r} is no name of a metric")
            if value is not None and (type(value) not in (int, float) or not abs(value) < 1e300):
                raise RunError(f"{location}, line {number}: '{name}' is {str(value)[:60]!r}; a finite number is needed")
        metrics |= raw.keys()
        if len(metrics) > _MOST_METRICS:
            raise RunError(f"{location}, line {number}: more than {_MOST_METRICS} metrics; no trainer logs that many")
        by_step.setdefault(step, {}).update({name: float(value) for name, value in raw.items() if value is not None})
    if not by_step:
        raise RunError(f"{location} has no complete line: nothing was logged")
    return pd.DataFrame.from_dict(by_step, orient="index").sort_index().rename_axis("step")
