"""The Training view of the Analysis tab: what the trainings of the shipped models logged, over their steps.

The logs are small folders under ``examples/runs/training`` (``analysis.training_log`` says what is in them). They are
read when somebody first looks; one that cannot be read is left out, and the page says why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from analysis.about_training import build_training_exhibits
from analysis.training_log import TrainingLog, families, load_logs
from pages.errors import guarded
from pages.safe_html import note

__all__ = ["TrainingLogs", "build_training"]

_FIRST = 4  # recipes shown at first; more is a thicket
_WINDOWS = (1, 25)
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
        """The logs, and why others are left out."""
        with self._lock:
            if self._read is None:
                self._read = load_logs(self.root)
            return self._read


def build_training(
    tab: gr.Tab,
    logs: TrainingLogs,
    view: Callable[[], gr.HTML],
    value: Callable[..., dict[str, Any]],
    settings: dict[str, Any],
) -> None:
    """Put the view into the open ``gr.Tab``. ``view`` makes the component that shows what ``value`` makes of exhibits;
    ``settings`` are those of the other handlers."""
    opened = gr.State(False)
    with gr.Row(elem_classes="mp-training-form", equal_height=False):
        recipes = gr.Dropdown([], multiselect=True, label="Recipes", elem_id="recipes", scale=3)
        window = gr.Slider(*_WINDOWS, value=5, step=1, label="Moving mean over logged steps", elem_id="window", scale=1)
    left_out = note("training-note")
    figures = view()

    def drawn(chosen: Sequence[str] | None, over: float) -> dict[str, Any]:
        found, _ = logs.read()
        if not found:
            return value([], _NO_LOG)
        if not chosen:
            return value([], _NO_RECIPE)
        return value(build_training_exhibits(found, list(chosen), int(over)))

    def on_open(done: bool, over: float) -> tuple[Any, ...]:
        if done:
            return (gr.skip(),) * 4
        found, problems = logs.read()
        names = list(families(found))
        said = {"level": "warning", "lines": [f"Left out: {problem[:300]}" for problem in problems]}
        box = gr.Dropdown(names, value=names[:_FIRST], visible=bool(names))
        return drawn(names[:_FIRST], over), box, said if problems else None, True

    tab.select(guarded(on_open), [opened, window], [figures, recipes, left_out, opened], **settings)
    quiet = settings | {"show_progress": "hidden"}
    recipes.input(guarded(drawn), [recipes, window], figures, **quiet)
    window.release(guarded(drawn), [recipes, window], figures, **quiet)
