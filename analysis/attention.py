"""Attention to audio along the trace: the paper's Figure 6, with a written definition and a length correction.

The ratio of a token is its attention mass on audio positions, averaged over layers and heads. The corrected ratio
divides it by the audio share of the visible positions (``mpar2.attention``). The paper defines neither its layers nor
its denominator. ``relative`` position divides each trace into twentieths. ``absolute`` position counts blocks of 16
tokens and ends where fewer than one trace in twenty remains, because later blocks would cover long traces only.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.contrasts import Difference, Side, paired
from analysis.load import RELATIVE_BINS, TOKEN_BLOCK, RunTable
from analysis.metrics import rate_of

_COLUMNS = ["arm", "position", "value", "low", "high", "items", "clips", "traces"]
_MIN_SHARE = 0.05


def along(table: RunTable, position: Literal["relative", "absolute"], corrected: bool) -> pd.DataFrame:
    """Average the attention ratio of traces at each position.

    Returns:
        A row for each arm and position: position (middle of the bin, as a share or in tokens), value with low and high
        (95 % over clips), items, clips, traces.
    """
    rows: list[dict[str, Any]] = []
    data = _attention_rows(table, 0 if position == "relative" else 1)
    column = "corrected" if corrected else "ratio"
    scale = 1 / RELATIVE_BINS if position == "relative" else TOKEN_BLOCK
    for label in table.labels:
        arm_rows = data[data["arm"] == label]
        traces = arm_rows["row"].nunique()
        for number, bin_rows in arm_rows.groupby("bin"):
            if len(bin_rows) < max(2, _MIN_SHARE * traces):
                continue
            values = bin_rows[column].to_numpy()
            result = rate_of(values, None, bin_rows, share=False, resamples=300)
            position_column = {"arm": label, "position": (float(number) + 0.5) * scale}
            rows.append(position_column | result.columns() | {"traces": len(bin_rows)})
    return pd.DataFrame(rows, columns=_COLUMNS)


def changes(table: RunTable, corrected: bool) -> dict[str, Difference]:
    """Compare the last quarter of each arm's traces with their first quarter, item by item (last minus first)."""
    data = _attention_rows(table, 0)
    column, differences = "corrected" if corrected else "ratio", {}
    for label in table.labels:
        arm_rows, sides = data[data["arm"] == label], []
        for mask in (arm_rows["bin"] < RELATIVE_BINS // 4, arm_rows["bin"] >= RELATIVE_BINS - RELATIVE_BINS // 4):
            mean = arm_rows[mask].groupby("row")[column].mean()
            sides.append(Side(mean.to_numpy(), np.ones(len(mean)), table.frame.iloc[mean.index]))
        differences[label] = paired(*sides)
    return differences


def _attention_rows(table: RunTable, kind: int) -> pd.DataFrame:
    data = table.attention[table.attention["kind"] == kind]
    rows = data["row"].to_numpy()
    return data.assign(
        arm=table.frame["arm"].array.take(rows),
        item=table.frame["item"].array.take(rows),
        clip=table.frame["clip"].array.take(rows),
    )
