"""What answers cost: tokens by kind of item, and accuracy over tokens.

``budget``    mean generated tokens by domain, category and difficulty: the paper's Figure 7, with every arm beside
``frontier``  accuracy over mean tokens an item. An arm that samples gives a point for each number of votes: of equally
              frequent answers the one given first wins, over items that have all samples. Each point is
              compared, item by item, with the first arm of its benchmark (with one vote)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.choice import FILTERS, levels
from analysis.contrasts import Side, against, benchmark_of, difference_columns
from analysis.load import RunTable
from analysis.metrics import metric_of, rate, rate_of
from mpar2.accuracy import majority_vote, vote_sizes

__all__ = ["budget", "frontier", "votes"]


def budget(table: RunTable, field: str) -> pd.DataFrame:
    """Return mean tokens and accuracy by the levels of a field.

    Args:
        table: The runs.
        field: One of ``analysis.choice.FILTERS``.

    Returns:
        A row for each arm and level: tokens with low and high (95 % over clips), items, clips, accuracy.
    """
    assert field in FILTERS
    rows = []
    for label in table.labels:
        part = table.rows(label)
        for level in levels(table.frame, field):
            own = part[(part[field] == level).to_numpy()]
            if own.empty:
                continue
            tokens, accuracy = rate(own, metric_of("tokens")), rate(own, metric_of("accuracy"))
            rows.append(
                {
                    "arm": label,
                    "level": level,
                    "tokens": tokens.estimate,
                    "low": tokens.low,
                    "high": tokens.high,
                    "items": tokens.items,
                    "clips": tokens.clips,
                    "accuracy": accuracy.estimate,
                }
            )
    return pd.DataFrame(rows, columns=["arm", "level", "tokens", "low", "high", "items", "clips", "accuracy"])


def frontier(table: RunTable) -> pd.DataFrame:
    """Return accuracy over mean tokens: a row for each arm, or for each number of votes of an arm that samples.

    Returns:
        arm, votes, tokens of an item (all votes together), accuracy with low and high, items, clips, and the difference
        from the first row of the same benchmark.
    """
    rows: list[dict[str, Any]] = []
    bases: dict[str, tuple[str, Side]] = {}
    for label in table.labels:
        part = table.rows(label)
        part = part[np.isfinite(part["right"])]
        if part.empty:
            continue
        samples = int(part["sample"].max()) + 1
        if samples > 1:
            found = votes(part, samples)
        else:
            accuracy, tokens = rate(part, metric_of("accuracy")), rate(part, metric_of("tokens"))
            found = [({"votes": 1, "tokens": tokens.estimate, **_accuracy(accuracy)}, part[["item", "clip", "right"]])]
        for row, right in found:
            own = Side(right["right"].to_numpy(float), np.ones(len(right)), right)
            minus, base = bases.setdefault(benchmark_of(table, table.arm(label)), (label, own))
            rows.append({"arm": label, **row, **(difference_columns({}) if base is own else against(minus, base, own))})
    names = ["arm", "votes", "tokens", "accuracy", "low", "high", "items", "clips", *difference_columns({})]
    return pd.DataFrame(rows, columns=names)


def votes(part: pd.DataFrame, samples: int) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Take the majority of the first k answers, for k = 1, 2, 4, .. and all.

    Args:
        part: Rows of one arm; items without all samples are left out.
        samples: Answers of an item.

    Returns:
        For each k its row of :func:`frontier`, and item, clip and ``right`` of each item's winner.
    """
    answered = part[part["status"] == "ok"]
    whole = answered.groupby("item")["sample"].transform("size") == samples
    answered = answered[whole].sort_values(["item", "sample"])
    rows = []
    for size in vote_sizes(samples):
        ballots = answered[answered["sample"] < size]
        if ballots.empty:
            continue
        predictions = ballots["prediction"].astype(str).tolist()  # each item has ``size`` of them in a row
        places = range(0, len(ballots), size)
        winners = ballots.iloc[[place + majority_vote(predictions[place : place + size]) for place in places]]
        right = winners["right"].to_numpy()
        found = rate_of(right, None, winners, share=True)
        cost = ballots.groupby("item")["tokens"].sum(min_count=size)
        row = {"votes": size, "tokens": float(cost.mean()), **_accuracy(found)}
        rows.append((row, winners[["item", "clip", "right"]]))
    return rows


def _accuracy(found: Any) -> dict[str, Any]:
    columns = found.columns()
    return {"accuracy": columns.pop("value"), **columns}
