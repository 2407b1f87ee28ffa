"""The trainings of the Analysis tab: what the trainings of the shipped models logged, over their steps.

The logs are small folders under ``examples/runs/training`` (``analysis.training_log`` says what is in them). They are
read when somebody first looks; one that cannot be read is left out, and the page says why.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.about_training import build_training_exhibits
from analysis.training_log import TrainingLog, families, load_logs

__all__ = ["TrainingLogs", "first_recipes", "training_value"]

_FIRST = 4  # recipes shown at first; more is a thicket
_NO_LOG = (
    "No training log is here. Train a recipe ('python -m training grpo --recipe tiny out=FOLDER'), then keep its small "
    "log: 'python -m training export FOLDER examples/runs/training/NAME'."
)
_NO_RECIPE = "No recipe is chosen: choose one above."


class TrainingLogs:
    """The logs under one folder, read once, when somebody first asks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: tuple[list[TrainingLog], list[str]] | None = None
        self._lock = threading.Lock()

    def read(self) -> tuple[list[TrainingLog], list[str]]:
        """Return the logs, and why others are left out."""
        with self._lock:
            if self._read is None:
                self._read = load_logs(self.root)
            return self._read


def first_recipes(logs: Sequence[TrainingLog]) -> list[str]:
    """Return the recipes that are shown first: MPAR²'s, else the one with most seeds; else up to four of one seed.

    One family of several seeds is enough: the first look is then one line with its spread.
    """
    known = families(logs)
    mpar2 = [name for name in known if name.lower().startswith(("mpar2", "mpar²", "tiny, grpo"))]
    if mpar2:
        return mpar2[:1]
    many = sorted(known, key=lambda name: -len(known[name]))
    return [name for name in many if len(known[name]) > 1][:1] or list(known)[:_FIRST]


def training_value(logs: TrainingLogs, chosen: Sequence[str] | None, window: int) -> dict[str, Any]:
    """Return what the page shows of trainings.

    Args:
        logs: The shipped logs.
        chosen: Labels of recipes, unknown ones are ignored; None chooses :func:`first_recipes`.
        window: Logged steps that the moving mean of the lines spans; 1 draws them as logged.

    Returns:
        Exhibits as JSON, the labels of all recipes and of the shown ones, and the logs that were left out, with
        reasons.
    """
    found, problems = logs.read()
    names = list(families(found))
    shown = first_recipes(found) if chosen is None else [name for name in chosen if name in names]
    message = _NO_LOG if not found else None if shown else _NO_RECIPE
    exhibits = [] if message else build_training_exhibits(found, shown, window)
    return {
        "exhibits": [exhibit.to_json() for exhibit in exhibits],
        "message": message,
        "recipes": names,
        "chosen": shown,
        "window": window,
        "left_out": [f"Left out: {problem[:300]}" for problem in problems],
    }
