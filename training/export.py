"""The small log of a training, suitable for version control: metrics of each step, without details of the machine.

    OUT/manifest.json   recipe, kind (sft or grpo), seed, started (UTC), steps, package, base, note
    OUT/log.jsonl       a line for each logged step: "step", and TRL's metrics by their own names, finite numbers

Paths, hosts and commands are left out; a base or an adapter is named by its folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mpar2 import __version__
from mpar2.runs.lines import load_json, read_lines, write_json, write_lines

_SUMMARY = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss")
_DIGITS = 6


def export_run(run: Path, out: Path) -> Path:
    """Write the small log of a training.

    Raises:
        ValueError: The training has not logged a step yet.
    """
    manifest = load_json((run / "training.json").read_bytes(), str(run / "training.json"))
    recipe = manifest["recipe"]
    start = "its bare weights" if recipe["adapter"] is None else f"the adapter {_model_name(recipe['adapter'])}"
    note = f"{recipe['about']}. From {start}; {manifest['data']['items']} items"
    if manifest["training_scorer"]:
        note += f"; scored by {manifest['training_scorer']}"
    header = {
        "recipe": recipe["name"],
        "kind": manifest["method"],
        "seed": recipe["seed"],
        "started": manifest["created"],
        "base": _model_name(recipe["model"]),
        "note": note,
    }
    return write_log(out, header, log_rows(run / "log.jsonl"))


def _model_name(path: str) -> str:
    """Return the name of a model or an adapter: its folder's, or that of the training that made it."""
    folder = Path(path)
    return folder.parent.name if folder.name in ("adapter", "model") else folder.name


def log_rows(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a log; its training may still be running."""
    with path.open("rb") as file:
        return [row for _, row in read_lines(file, str(path))]


def write_log(out: Path, manifest: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a log and its manifest into a folder, and return it.

    Later values of a step override earlier ones.

    Raises:
        ValueError: No row has a step.
    """
    steps: dict[int, dict[str, Any]] = {}
    for row in rows:
        values = {
            key: round(float(value), _DIGITS)
            for key, value in row.items()
            if key not in ("step", *_SUMMARY) and isinstance(value, int | float) and math.isfinite(value)
        }
        if values:
            steps.setdefault(int(row["step"]), {}).update(values)
    if not steps:
        raise ValueError(f"the log for {out.name} has no step yet")
    out.mkdir(parents=True, exist_ok=True)
    write_lines(out / "log.jsonl", ({"step": step} | steps[step] for step in sorted(steps)))
    write_json(out / "manifest.json", dict(manifest) | {"steps": max(steps), "package": __version__})
    return out
