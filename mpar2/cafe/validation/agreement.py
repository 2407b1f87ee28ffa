"""Agreement of two judges, or of a judge and a person, on the same traces.

Conventions
-----------
* Both sides must have judged the same lines of a run (same keys). A line that one side left unscored is counted and
  excluded.
* Mentions are paired by their characters, pairs with the largest overlap first. Each mention is in at most one pair.
  A mention of only one side is *unlisted* on the other.
* ``first`` is the reference side: precision and recall of a kind are those of ``second``.

Metrics
-------
``precision``, ``recall``   of each kind: mentions of that kind on both sides, over those of second (first); an unlisted
                            mention counts as an error
``kappa``                   Cohen's, of the kinds of paired mentions (chance: the product of the margins)
``kappa_missed``            Cohen's, of "missed or not" over truth events, where both have the same events
``listed``                  share of first's mentions that second lists, and the reverse

Intervals are bootstrap intervals, clustered by clip.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpar2.cafe.schema import Mention, MentionKind, Verdict
from mpar2.cafe.score import ScoreError, TraceScore
from mpar2.statistics import Interval, bootstrap_interval, bootstrap_statistic

__all__ = ["Agreement", "Disagreement", "agreement", "compare_scores", "pair_mentions"]

KINDS = tuple(MentionKind)


@dataclass(frozen=True)
class Disagreement:
    """A mention with different kinds on the two sides; ``unlisted`` stands for a side without it."""

    key: str
    quote: str
    first: str
    second: str
    first_reason: str
    second_reason: str


@dataclass(frozen=True)
class Agreement:
    """Agreement of two sides. ``confusion[i, j]``: paired mentions of kind i by first and kind j by second."""

    traces: int
    left_out: int  # lines missing or unscored on one side
    confusion: NDArray[np.int64]
    precision: dict[str, Interval]
    recall: dict[str, Interval]
    kappa: Interval
    kappa_missed: Interval
    listed_by_second: Interval
    listed_by_first: Interval
    disagreements: tuple[Disagreement, ...]

    def __str__(self) -> str:
        lines = [f"{self.traces} traces, {self.left_out} left out; {int(self.confusion.sum())} paired mentions"]
        lines.append(f"{'':14}{'precision':>28}{'recall':>28}")
        for kind in KINDS:
            lines.append(f"{kind:14}{str(self.precision[kind]):>28}{str(self.recall[kind]):>28}")
        lines.append(f"kappa of kinds           {self.kappa}")
        lines.append(f"kappa of missed          {self.kappa_missed}")
        lines.append(f"first's listed by second {self.listed_by_second}")
        lines.append(f"second's listed by first {self.listed_by_first}")
        width = max(map(len, KINDS))
        lines.append("first \\ second" + "".join(f"{kind:>{width + 2}}" for kind in KINDS))
        for kind, row in zip(KINDS, self.confusion, strict=True):
            lines.append(f"{kind:14}" + "".join(f"{int(n):>{width + 2}}" for n in row))
        return "\n".join(lines)


def pair_mentions(first: Sequence[Mention], second: Sequence[Mention]) -> list[tuple[int, int]]:
    """Pair mentions that share characters, largest intersection over union first; return pairs of indices."""
    shares = []
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            shared = min(a.chars.stop, b.chars.stop) - max(a.chars.start, b.chars.start)
            if shared > 0:
                union = max(a.chars.stop, b.chars.stop) - min(a.chars.start, b.chars.start)
                shares.append((-shared / union, i, j))
    pairs: list[tuple[int, int]] = []
    used_first: set[int] = set()
    used_second: set[int] = set()
    for _, i, j in sorted(shares):
        if i not in used_first and j not in used_second:
            pairs.append((i, j))
            used_first.add(i)
            used_second.add(j)
    return sorted(pairs)


def compare_scores(first: Sequence[TraceScore], second: Sequence[TraceScore], **options: Any) -> Agreement:
    """Compute the agreement of two score sets of one run, with intervals clustered by clip."""
    second_scores = {score.key: score for score in second}
    pairs, left_out = [], len({s.key for s in second} - {s.key for s in first})
    for score in first:
        other = second_scores.get(score.key)
        if other is None or not isinstance(score.outcome, Verdict) or not isinstance(other.outcome, Verdict):
            left_out += 1
        elif not _quotes_agree(score.outcome, other.outcome):
            raise ScoreError(
                f"{score.key} has one text in the first and another in the second: the two are scores of different "
                "runs; give two judges' scores of one run"
            )
        else:
            pairs.append((score.key, score.clip or score.id, score.outcome, other.outcome))
    if not pairs:
        raise ScoreError("the two have no scored trace in common: are they scores of the same run?")
    return agreement(
        [(a, b) for _, _, a, b in pairs],
        keys=[key for key, *_ in pairs],
        groups=[clip for _, clip, *_ in pairs],
        left_out=left_out,
        **options,
    )


def agreement(
    pairs: Sequence[tuple[Verdict, Verdict]],
    *,
    keys: Sequence[str],
    groups: Sequence[Hashable],
    left_out: int = 0,
    **options: Any,
) -> Agreement:
    """Compute the agreement over pairs of verdicts on the same traces.

    Args:
        pairs: Verdicts of the first and the second side, by trace.
        keys: Key of each trace.
        groups: Clip of each trace; intervals are clustered by it.
        left_out: Number of lines missing or unscored on one side, for the report.
        **options: Level, resamples and seed of the bootstrap.
    """
    options["groups"] = groups
    # Counts by trace, so that the bootstrap can resample clips.
    n, kinds = len(KINDS), list(enumerate(KINDS))
    confusion = np.zeros((len(pairs), n, n), dtype=np.int64)
    by_first = np.zeros((len(pairs), n), dtype=np.int64)
    by_second = np.zeros((len(pairs), n), dtype=np.int64)
    missed = np.zeros((len(pairs), 2, 2), dtype=np.int64)
    disagreements: list[Disagreement] = []
    for row, (a, b) in enumerate(pairs):
        matches = pair_mentions(a.mentions, b.mentions)
        first, second = ([KINDS.index(mention.kind) for mention in verdict.mentions] for verdict in (a, b))
        for i, j in matches:
            confusion[row, first[i], second[j]] += 1
        by_first[row] = np.bincount(first, minlength=n)
        by_second[row] = np.bincount(second, minlength=n)
        # Missed events are comparable only where both have the same targets.
        if a.targets == b.targets:
            for event in range(len(a.targets)):
                missed[row, int(event in a.missed), int(event in b.missed)] += 1
        disagreements += _disagreements(keys[row], a, b, matches)
    diagonal, paired = confusion[:, range(n), range(n)], confusion.sum(axis=(1, 2))
    return Agreement(
        traces=len(pairs),
        left_out=left_out,
        confusion=confusion.sum(axis=0),
        precision={kind: bootstrap_interval(diagonal[:, k], by_second[:, k], **options) for k, kind in kinds},
        recall={kind: bootstrap_interval(diagonal[:, k], by_first[:, k], **options) for k, kind in kinds},
        kappa=_kappa_interval(confusion, options),
        kappa_missed=_kappa_interval(missed, options),
        listed_by_second=bootstrap_interval(paired, by_first.sum(axis=1), **options),
        listed_by_first=bootstrap_interval(paired, by_second.sum(axis=1), **options),
        disagreements=tuple(disagreements),
    )


def kappa(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Compute Cohen's kappa of confusion matrices.

    Args:
        confusion: Counts, (..., n, n).

    Returns:
        Kappa, (...); NaN where chance agreement is 1 or the counts are 0.

    >>> round(float(kappa(np.array([[20, 5], [10, 15]]))), 3)
    0.4
    """
    total = confusion.sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.trace(confusion, axis1=-2, axis2=-1) / total
        chance = (confusion.sum(axis=-1) * confusion.sum(axis=-2)).sum(axis=-1) / total.astype(float) ** 2
        value = (observed - chance) / (1 - chance)
    return np.where(np.isclose(chance, 1.0), np.nan, value)


def _kappa_interval(confusion: NDArray[np.int64], options: dict[str, Any]) -> Interval:
    size = confusion.shape[-1]
    # The bootstrap draws clips, not traces, so the traces of one clip are summed first.
    names = {group: place for place, group in enumerate(dict.fromkeys(options["groups"]))}
    sums = np.zeros((len(names), size * size))
    np.add.at(sums, [names[group] for group in options["groups"]], confusion.reshape(len(confusion), -1))

    def statistic(*columns: NDArray[np.float64]) -> NDArray[np.float64]:
        totals = np.stack([column.sum(axis=1) for column in columns], axis=-1)
        return kappa(totals.reshape(-1, size, size))

    return bootstrap_statistic(statistic, *sums.T, **options | {"groups": None})


def _disagreements(key: str, a: Verdict, b: Verdict, matches: Sequence[tuple[int, int]]) -> list[Disagreement]:
    first_matched, second_matched = {i for i, _ in matches}, {j for _, j in matches}
    pairs: list[tuple[Mention | None, Mention | None]] = [(a.mentions[i], b.mentions[j]) for i, j in matches]
    pairs += [(mention, None) for i, mention in enumerate(a.mentions) if i not in first_matched]
    pairs += [(None, mention) for j, mention in enumerate(b.mentions) if j not in second_matched]
    disagreements = []
    for pair in pairs:
        kinds = [str(mention.kind) if mention else "unlisted" for mention in pair]
        if kinds[0] != kinds[1]:
            quote = next(mention.quote for mention in pair if mention)
            disagreements.append(Disagreement(key, quote, *kinds, *(m.reason if m else "" for m in pair)))
    return disagreements


def _quotes_agree(a: Verdict, b: Verdict) -> bool:
    """Return whether mentions of the same characters quote the same text; scores do not contain the trace."""
    for i, j in pair_mentions(a.mentions, b.mentions):
        x, y = a.mentions[i], b.mentions[j]
        start, stop = max(x.chars.start, y.chars.start), min(x.chars.stop, y.chars.stop)
        shared = [m.quote[start - m.chars.start : stop - m.chars.start] for m in (x, y)]
        if shared[0] != shared[1]:
            return False
    return True
