"""The trainings of the Analysis tab: logged metrics of the shipped models, over training steps.

The logs are small folders under ``examples/runs/training`` (see ``analysis.training_log``). They are read on first use.
A log that cannot be read is left out, and the page shows the reason.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.about_training import build_training_exhibits
from analysis.training_log import TrainingLog, families, load_logs

_FIRST = 4  # recipes shown by default
_NO_LOG = (
    "No training log is here. Train a recipe ('python -m training grpo --recipe tiny out=FOLDER'), then keep its small "
    "log: 'python -m training export FOLDER examples/runs/training/NAME'."
)
_NO_RECIPE = "No recipe is chosen: choose one above."


class TrainingLogs:
    """The logs under one folder, read once, on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._logs: tuple[list[TrainingLog], list[str]] | None = None
        self._lock = threading.Lock()

    def read(self) -> tuple[list[TrainingLog], list[str]]:
        """Return the logs, and an error message for each invalid one."""
        with self._lock:
            if self._logs is None:
                self._logs = load_logs(self.root)
            return self._logs


def first_recipes(logs: Sequence[TrainingLog]) -> list[str]:
    """Return the default recipes: MPAR²'s, else the one with most seeds, else up to four with one seed.

    A single recipe with several seeds is drawn as one line with its spread.
    """
    recipes = families(logs)
    mpar2 = [name for name in recipes if name.lower().startswith(("mpar2", "mpar²", "tiny, grpo"))]
    if mpar2:
        return mpar2[:1]
    by_seeds = sorted(recipes, key=lambda name: -len(recipes[name]))
    return [name for name in by_seeds if len(recipes[name]) > 1][:1] or list(recipes)[:_FIRST]


def training_value(logs: TrainingLogs, chosen: Sequence[str] | None, window: int) -> dict[str, Any]:
    """Return the training figures of the page.

    Lines are moving means over ``window`` logged steps.

    Returns:
        Exhibits as JSON, the labels of all recipes and of the shown ones, and the logs that were left out, with
        reasons.
    """
    all_logs, problems = logs.read()
    names = list(families(all_logs))
    labels = first_recipes(all_logs) if chosen is None else [name for name in chosen if name in names]
    message = _NO_LOG if not all_logs else None if labels else _NO_RECIPE
    exhibits = [] if message else build_training_exhibits(all_logs, labels, window)
    return {
        "exhibits": [exhibit.to_json() for exhibit in exhibits],
        "message": message,
        "recipes": names,
        "chosen": labels,
        "window": window,
        "left_out": [f"Left out: {problem[:300]}" for problem in problems],
    }
