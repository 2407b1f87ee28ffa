"""What a figure finds, in one sentence: MPAR² minus the base, with its interval, on the same items."""

from __future__ import annotations

from analysis.contrasts import roles, versus
from analysis.load import RunTable
from analysis.metrics import Metric
from analysis.words import difference, paired_p, size_of

__all__ = ["finding"]


def finding(table: RunTable, metric: Metric) -> list[str]:
    """Return a sentence for each benchmark that has both a base and an MPAR² arm; none where there is no such pair."""
    sentences = []
    pairs = roles(table)
    for base, trained in pairs:
        row = versus(table, base.label, trained.label, metric)
        if row["difference"] is None:
            continue
        where = f" ({trained.run})" if len(pairs) > 1 and base.run not in base.label else ""
        sentences.append(
            f"{metric.label}, {trained.label} minus {base.label}{where}: "
            f"{difference(metric, row['difference'], row['low'], row['high'])}, {paired_p(row)}, on {size_of(row)}."
        )
    return sentences
