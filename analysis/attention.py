"""Attention to audio along the trace: the paper's Figure 6, with a written definition and a length correction.

The ratio of a token is the mass of its attention on audio positions, mean over layers and heads; the corrected ratio
divides it by the audio share of what the token can see (``mpar2.attention``). The paper defines neither its layers nor
its denominator. ``relative`` position cuts each trace into twentieths; ``absolute`` counts blocks of 16 tokens, and
ends where fewer than one trace in twenty is still being written: later blocks would show other, longer traces.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.contrasts import Difference, Side, paired
from analysis.load import RELATIVE_BINS, TOKEN_BLOCK, RunTable
from analysis.metrics import rate_of

__all__ = ["along", "changes"]

_COLUMNS = ["arm", "position", "value", "low", "high", "items", "clips", "traces"]
_FEWEST = 0.05


def along(table: RunTable, position: Literal["relative", "absolute"], corrected: bool) -> pd.DataFrame:
    """Average the attention ratio of traces at each position.

    Args:
        table: The runs.
        position: "relative" (twentieths of a trace) or "absolute" (blocks of 16 tokens).
        corrected: Take the length-corrected ratio instead of the raw one.

    Returns:
        A row for each arm and position: position (middle of the bin, as a share or in tokens), value with low and high
        (95 % over clips), items, clips, traces.
    """
    rows: list[dict[str, Any]] = []
    data = _placed(table, 0 if position == "relative" else 1)
    column = "corrected" if corrected else "ratio"
    scale = 1 / RELATIVE_BINS if position == "relative" else TOKEN_BLOCK
    for label in table.labels:
        part = data[data["arm"] == label]
        traces = part["row"].nunique()
        for number, inside in part.groupby("bin"):
            if len(inside) < max(2, _FEWEST * traces):
                continue
            values = inside[column].to_numpy()
            found = rate_of(values, None, inside, share=False, resamples=300)
            rows.append(
                {
                    "arm": label,
                    "position": (float(number) + 0.5) * scale,
                    **found.columns(),
                    "traces": len(inside),
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


def changes(table: RunTable, corrected: bool) -> dict[str, Difference]:
    """Compare the last quarter of traces with their first quarter, item by item.

    Args:
        table: The runs.
        corrected: Take the length-corrected ratio instead of the raw one.

    Returns:
        Label of an arm to the mean ratio of the last quarter minus that of the first.
    """
    data = _placed(table, 0)
    column, found = "corrected" if corrected else "ratio", {}
    for label in table.labels:
        part, ends = data[data["arm"] == label], []
        for inside in (part["bin"] < RELATIVE_BINS // 4, part["bin"] >= RELATIVE_BINS - RELATIVE_BINS // 4):
            mean = part[inside].groupby("row")[column].mean()
            ends.append(Side(mean.to_numpy(), np.ones(len(mean)), table.frame.iloc[mean.index]))
        found[label] = paired(*ends)
    return found


def _placed(table: RunTable, kind: int) -> pd.DataFrame:
    data = table.attention[table.attention["kind"] == kind]
    rows = data["row"].to_numpy()
    return data.assign(
        arm=table.frame["arm"].array.take(rows),
        item=table.frame["item"].array.take(rows),
        clip=table.frame["clip"].array.take(rows),
    )
