"""Training logs as data: small folders that outlive the training, one for each recipe and seed.

    manifest.json   recipe, kind ("sft" or "grpo"), seed, started, steps, package, base, note
    log.jsonl       {"step": 10, "<metric as TRL logs it>": 0.5, ...}, a line for each logged step

``python -m training export`` and hands may write them, and strangers may have: every field is looked at, sizes are
bounded, and errors name their line. A step that stands in several lines (an evaluation beside a training
step, or a step run again after a resume) is one row, and the later value counts.
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

__all__ = ["KINDS", "TrainingLog", "curve", "families", "load_log", "load_logs"]

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
    """Return the logs of the folders in ``root`` by name, and why any other folder is left out."""
    found, left_out = [], []
    for folder in sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else ():
        try:
            found.append(load_log(folder))
        except AnalysisError as error:
            left_out.append(str(error))
    return found, left_out


def load_log(folder: Path) -> TrainingLog:
    """Read one folder and check it.

    Raises:
        AnalysisError: A file is missing or damaged; the message names the place.
    """
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
    """Return logs of one recipe and kind, whatever their seed, by label: ``tiny, grpo (3 seeds)``."""
    groups: dict[tuple[str, str], list[TrainingLog]] = {}
    for log in logs:
        groups.setdefault((log.recipe, log.kind), []).append(log)
    return {f"{recipe}, {kind} ({_seeds(group)})": group for (recipe, kind), group in sorted(groups.items())}


def curve(logs: Sequence[TrainingLog], metric: str, spread: tuple[str, str] | str | None = None) -> pd.DataFrame:
    """Average a metric over logs, at the steps that all of them logged.

    Args:
        logs: Logs of one recipe, such as its seeds.
        metric: Column of the log.
        spread: For a single log, the column of a standard deviation, or those of a lowest and a highest value.

    Returns:
        Columns ``step, value, low, high, logs``; ``low`` and ``high`` span the logs where there are several.
    """
    having = [log for log in logs if metric in log.rows]
    columns = [log.rows[metric].dropna() for log in having]
    if not columns:
        return pd.DataFrame(columns=["step", "value", "low", "high", "logs"])
    together = pd.concat(columns, axis=1, join="inner").sort_index()
    found = pd.DataFrame({"value": together.mean(axis=1), "low": math.nan, "high": math.nan, "logs": len(columns)})
    if len(columns) > 1:
        found["low"], found["high"] = together.min(axis=1), together.max(axis=1)
    elif isinstance(spread, str) and spread in having[0].rows:
        deviation = having[0].rows[spread].reindex(found.index)
        found["low"], found["high"] = found["value"] - deviation, found["value"] + deviation
        if found["value"].between(0, 1).all():  # of a share, a band does not leave its range
            found[["low", "high"]] = found[["low", "high"]].clip(0, 1)
    elif isinstance(spread, tuple) and set(spread) <= set(having[0].rows):
        found["low"], found["high"] = (having[0].rows[name].reindex(found.index) for name in spread)
    return found.rename_axis("step").reset_index()


def _seeds(group: Sequence[TrainingLog]) -> str:
    seeds = {log.seed for log in group}
    if len(group) == 1:
        return "1 seed"
    return f"{len(seeds)} seeds" if len(seeds) == len(group) else f"{len(group)} runs"


def _bytes(path: Path) -> bytes:
    """Return the file's bytes, if they are not too many."""
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise RunError(f"{path.parent.name}/{path.name} has {size:,} bytes; the limit is {_MOST_BYTES:,}")
    return path.read_bytes()


def _manifest(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name in _TEXTS:
        value = raw.get(name)
        if value is not None and (not isinstance(value, str) or len(value) > 2000):
            raise RunError(f"{where}/manifest.json: '{name}' is {str(value)[:60]!r}; a short text is needed")
        known[name] = value
    if not known["recipe"] or len(known["recipe"]) > 120:
        raise RunError(f"{where}/manifest.json: 'recipe' must name the recipe, in at most 120 characters")
    if known["kind"] not in KINDS:
        raise RunError(f"{where}/manifest.json: 'kind' is {known['kind']!r}; it must be one of {', '.join(KINDS)}")
    for name in ("seed", "steps"):
        value = raw.get(name)
        if value is not None and (type(value) is not int or not 0 <= value < 2**63):
            raise RunError(f"{where}/manifest.json: '{name}' is {str(value)[:60]!r}; a whole number is needed")
        known[name] = value
    return known


def _rows(file: Any, where: str) -> pd.DataFrame:
    by_step: dict[int, dict[str, float]] = {}
    metrics: set[str] = set()
    for number, raw in read_lines(file, where, max_lines=_MOST_LINES, max_line_bytes=100_000):
        step = raw.pop("step", None)
        if type(step) is not int or not 0 <= step <= _MOST_STEPS:
            raise RunError(f"{where}, line {number}: 'step' is {str(step)[:60]!r}; a whole number is needed")
        for name, value in raw.items():
            if not _METRIC.fullmatch(name):
                raise RunError(f"{where}, line {number}: {name[:60]!r} is no name of a metric")
            if value is not None and (type(value) not in (int, float) or not abs(value) < 1e300):
                raise RunError(f"{where}, line {number}: '{name}' is {str(value)[:60]!r}; a finite number is needed")
        metrics |= raw.keys()
        if len(metrics) > _MOST_METRICS:
            raise RunError(f"{where}, line {number}: more than {_MOST_METRICS} metrics; no trainer logs that many")
        by_step.setdefault(step, {}).update({name: float(value) for name, value in raw.items() if value is not None})
    if not by_step:
        raise RunError(f"{where} has no complete line: nothing was logged")
    return pd.DataFrame.from_dict(by_step, orient="index").sort_index().rename_axis("step")
