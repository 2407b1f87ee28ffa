"""An exhibit: a figure, one sentence that reads it, the table behind it, and how it was made.

Arm names, categories and everything else that a run holds are untrusted: Plotly reads tags in labels, so they enter a
figure through :func:`label` only; tables and readings are plain text, which pages put into text nodes.
"""

from __future__ import annotations

import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.load import RunTable

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Exhibit", "label", "point", "to_csv"]

_LONGEST_LABEL = 60
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, eq=False)
class Exhibit:
    """Hold a figure, the sentence that reads it, and the table behind it.

    ``drawing`` (``figures``) is None where the runs lack what it needs; ``reading`` then says what to do.
    """

    name: str
    title: str
    reading: str
    drawing: dict[str, Any] | None = None
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()
    paper: str | None = None  # the figure or table of the paper that it answers to
    command: tuple[str, ...] = ()

    @property
    def figure(self) -> go.Figure | None:
        """Return the drawing as Plotly's own object, for notebooks."""
        import plotly.graph_objects as go

        return None if self.drawing is None else go.Figure(self.drawing)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data for pages."""
        return {
            "name": self.name,
            "title": self.title,
            "reading": self.reading,
            "figure": self.drawing,
            "table": {"columns": list(map(str, self.table.columns)), "rows": _plain(self.table)},
            "notes": list(self.notes),
            "paper": self.paper,
            "command": list(self.command),
        }


def label(text: Any) -> str:
    """Return text as a label of a figure: shortened, without markup.

    >>> label("<b>base</b>")
    '&lt;b&gt;base&lt;/b&gt;'
    """
    words = " ".join(str(text).split())
    return html.escape(words if len(words) <= _LONGEST_LABEL else words[: _LONGEST_LABEL - 1] + "…", quote=False)


def point(table: RunTable, arm: str, column: str | None = None, low: Any = None, high: Any = None) -> str:
    """Say what a point of a figure stands for, so that ``analysis.exhibits.rows_of`` finds its traces.

    Args:
        table: The runs that are drawn.
        arm: Label of the point's arm.
        column: Column that narrows the arm's rows: a length or a category; None takes all rows.
        low: Lower bound of a length, in it; or the value of a category.
        high: Upper bound of a length, not in it.

    Returns:
        JSON text; the arm is its place among ``table.labels``, so that no name of a run enters a figure.
    """
    return json.dumps({"arm": table.labels.index(arm), "column": column, "low": low, "high": high})


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    safe = pd.DataFrame({_cell(name): [_cell(value) for value in table[name]] for name in table.columns})
    buffer = io.StringIO()
    safe.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _plain(table: pd.DataFrame) -> list[list[Any]]:
    rows: Sequence[Mapping[Any, Any]] = table.to_dict("records")
    return [[_value(row[name]) for name in table.columns] for row in rows]


def _value(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or value is pd.NA:
        return None
    return value if isinstance(value, (bool, int, float)) else str(value)
