"""An exhibit: a figure, a sentence that reads it, its table, and the command that reproduces it.

Arm names, categories and all other strings of a run are untrusted. Plotly parses tags in labels, so they enter a
figure only through :func:`label`. Tables and readings are plain text, which pages put into text nodes.
"""

from __future__ import annotations

import html
import io
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.load import RunTable

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LONGEST_LABEL = 60
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A figure, the sentence that reads it, and its table.

    ``drawing`` (``figures``) is None if the runs lack the data; ``reading`` then states the remedy.
    """

    name: str
    title: str
    reading: str
    drawing: dict[str, Any] | None = None
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()
    paper: str | None = None  # the corresponding figure or table of the paper
    command: tuple[str, ...] = ()

    @property
    def figure(self) -> go.Figure | None:
        """Return the drawing as Plotly's own object, for notebooks."""
        import plotly.graph_objects as go

        return None if self.drawing is None else go.Figure(self.drawing)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data for pages."""
        rows = [list(map(_json_value, row)) for row in self.table.itertuples(index=False, name=None)]
        return {
            "name": self.name,
            "title": self.title,
            "reading": self.reading,
            "figure": self.drawing,
            "table": {"columns": list(map(str, self.table.columns)), "rows": rows},
            "notes": list(self.notes),
            "paper": self.paper,
            "command": list(self.command),
        }


def label(text: Any, limit: int = _LONGEST_LABEL) -> str:
    """Return text as a label of a figure: shortened, without markup.

    >>> label("<b>base</b>")
    '&lt;b&gt;base&lt;/b&gt;'
    """
    words = " ".join(str(text).split())
    return html.escape(words if len(words) <= limit else words[: limit - 1] + "…", quote=False)


def point(table: RunTable, arm: str, column: str | None = None, low: Any = None, high: Any = None) -> str:
    """Encode a point of a figure, so that ``analysis.exhibits.rows_of`` finds its traces.

    Args:
        table: The runs that are drawn.
        arm: Label of the point's arm.
        column: Column that narrows the arm's rows: a length or a category; None takes all rows.
        low: Inclusive lower bound of a length, or the value of a category.
        high: Exclusive upper bound of a length.

    Returns:
        JSON text. The arm is its index in ``table.labels``, so that no name of a run enters a figure.
    """
    return json.dumps({"arm": table.labels.index(arm), "column": column, "low": low, "high": high})


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV. Texts that a spreadsheet would parse as formulas get a leading apostrophe."""
    safe = pd.DataFrame({_csv_cell(name): [_csv_cell(value) for value in table[name]] for name in table.columns})
    buffer = io.StringIO()
    safe.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def _csv_cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _json_value(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or value is pd.NA:
        return None
    return value if isinstance(value, (bool, int, float)) else str(value)
