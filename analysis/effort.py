"""Token cost of answers: tokens by kind of item, and accuracy over tokens.

``budget``    mean generated tokens by domain, category and difficulty: the paper's Figure 7, for every arm
``frontier``  accuracy over mean tokens per item. An arm with samples has a point for each number of votes, over the
              items with all samples; the first of equally frequent answers wins. Each point is compared, item by
              item, with the first arm of its benchmark (with one vote)
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


def budget(table: RunTable, field: str) -> pd.DataFrame:
    """Return tokens (with low and high, 95 % over clips) and accuracy for each arm and level of a field."""
    assert field in FILTERS
    rows = []
    for label in table.labels:
        answers = table.rows(label)
        for level in levels(table.frame, field):
            level_answers = answers[(answers[field] == level).to_numpy()]
            if level_answers.empty:
                continue
            tokens, accuracy = rate(level_answers, metric_of("tokens")), rate(level_answers, metric_of("accuracy"))
            names = {"arm": label, "level": level}
            rows.append(names | tokens.columns("tokens") | {"accuracy": accuracy.estimate})
    return pd.DataFrame(rows, columns=["arm", "level", "tokens", "low", "high", "items", "clips", "accuracy"])


def frontier(table: RunTable) -> pd.DataFrame:
    """Return accuracy over mean tokens: a row for each arm, or for each number of votes of an arm that samples."""
    rows: list[dict[str, Any]] = []
    bases: dict[str, tuple[str, Side]] = {}
    for label in table.labels:
        answers = table.rows(label)
        answers = answers[np.isfinite(answers["right"])]
        if answers.empty:
            continue
        samples = int(answers["sample"].max()) + 1
        if samples > 1:
            points = votes(answers, samples)
        else:
            accuracy, tokens = rate(answers, metric_of("accuracy")), rate(answers, metric_of("tokens"))
            row = {"votes": 1, "tokens": tokens.estimate, **accuracy.columns("accuracy")}
            points = [(row, answers[["item", "clip", "right"]])]
        for row, winners in points:
            side = Side(winners["right"].to_numpy(float), np.ones(len(winners)), winners)
            minus, base = bases.setdefault(benchmark_of(table, table.arm(label)), (label, side))
            rows.append({"arm": label} | row | (difference_columns({}) if base is side else against(minus, base, side)))
    names = ["arm", "votes", "tokens", "accuracy", "low", "high", "items", "clips", *difference_columns({})]
    return pd.DataFrame(rows, columns=names)


def votes(part: pd.DataFrame, samples: int) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Compute the majority vote of the first k = 1, 2, 4, ..

    answers: rows of :func:`frontier`, and each item's winner.
    """
    answered = part[part["status"] == "ok"]
    complete = answered.groupby("item")["sample"].transform("size") == samples
    answered = answered[complete].sort_values(["item", "sample"])
    rows = []
    for size in vote_sizes(samples):
        ballots = answered[answered["sample"] < size]
        if ballots.empty:
            continue
        predictions = ballots["prediction"].astype(str).tolist()  # each item has ``size`` of them in a row
        places = range(0, len(ballots), size)
        winners = ballots.iloc[[place + majority_vote(predictions[place : place + size]) for place in places]]
        right = winners["right"].to_numpy()
        result = rate_of(right, None, winners, share=True)
        cost = ballots.groupby("item")["tokens"].sum(min_count=size)
        row = {"votes": size, "tokens": float(cost.mean()), **result.columns("accuracy")}
        rows.append((row, winners[["item", "clip", "right"]]))
    return rows
