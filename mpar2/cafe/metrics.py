"""CAFE's numbers: from verdicts to counts to rates with intervals.

Conventions
-----------
*What is counted are events, not mentions.* A trace that names one event five times has named one event, so that neither
repeating the true nor repeating the false moves a rate; the paper leaves this open. In each trace:

* every truth event has one fate: **misused** if any mention of it is misused, else **matched** if any mention of it is
  matched, else **missed**. A claim that the review corrects was still claimed.
* hallucinated mentions with the same label (case and blanks aside) are one **hallucinated** event.
* neutral mentions are counted apart and enter no rate.

So ``N_tgt = matched + misused + missed`` and ``N_pred = matched + misused + hallucinated``, always.

Metrics
-------
============  ======================================  ==========================================
acc_per       matched / N_pred                        [paper]
err_per       hallucinated / N_pred                   denominator ours
err_use       misused / N_pred                        denominator ours; the three sum to 1
err_omit      missed / N_tgt                          [paper]
recall        matched / N_tgt                         ours
f1            2 matched / (N_pred + N_tgt)            ours: acc_per alone rewards naming fewer events
events        N_pred per trace                        ours
============  ======================================  ==========================================

*micro* pools counts over traces; *macro* is the mean over traces of the trace's own rate. A trace whose denominator is
0 has no rate: macro leaves it out and counts it, it is never 0 or 1 (f1 needs both denominators). Intervals are 95 %
bootstrap intervals over clips: all questions about a clip, and all their samples, are drawn together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from mpar2.cafe.schema import MentionKind, Verdict
from mpar2.statistics import Interval, bootstrap_interval

__all__ = ["METRICS", "EventCounts", "Rate", "count_events", "evaluate", "rates_of_trace", "table", "validate"]


@dataclass(frozen=True)
class EventCounts:
    """The events of one trace by fate, and its mentions."""

    matched: int = 0
    hallucinated: int = 0
    misused: int = 0
    missed: int = 0
    neutral_mentions: int = 0
    mentions: int = 0

    @property
    def n_pred(self) -> int:
        """Events that the trace asserts."""
        return self.matched + self.hallucinated + self.misused

    @property
    def n_tgt(self) -> int:
        """Events of the truth."""
        return self.matched + self.misused + self.missed

    def as_dict(self) -> dict[str, int]:
        """The counts and the two denominators, for JSON."""
        return asdict(self) | {"n_pred": self.n_pred, "n_tgt": self.n_tgt}


class Rate(NamedTuple):
    """One metric: pooled and per trace, and the traces that have none."""

    micro: Interval
    macro: Interval
    numerator: int
    denominator: int
    undefined: int  # traces whose own denominator is 0


# name -> (numerator, denominator) of one trace
METRICS = {
    "acc_per": (lambda c: c.matched, lambda c: c.n_pred),
    "err_per": (lambda c: c.hallucinated, lambda c: c.n_pred),
    "err_use": (lambda c: c.misused, lambda c: c.n_pred),
    "err_omit": (lambda c: c.missed, lambda c: c.n_tgt),
    "recall": (lambda c: c.matched, lambda c: c.n_tgt),
    "f1": (lambda c: 2 * c.matched, lambda c: c.n_pred + c.n_tgt),
    "events": (lambda c: c.n_pred, lambda c: 1),
}


def count_events(verdict: Verdict) -> EventCounts:
    """The events of a verdict by fate (see the conventions)."""
    kinds: dict[MentionKind, set[Any]] = {kind: set() for kind in MentionKind}
    for mention in verdict.mentions:
        if mention.kind is MentionKind.HALLUCINATED:
            kinds[mention.kind].add(" ".join(mention.label.lower().split()))
        else:
            kinds[mention.kind].update(mention.events)
    misused = kinds[MentionKind.MISUSED]
    matched = kinds[MentionKind.MATCHED] - misused
    return EventCounts(
        matched=len(matched),
        hallucinated=len(kinds[MentionKind.HALLUCINATED]),
        misused=len(misused),
        missed=len(verdict.targets) - len(matched) - len(misused),
        neutral_mentions=sum(mention.kind is MentionKind.NEUTRAL for mention in verdict.mentions),
        mentions=len(verdict.mentions),
    )


def validate(counts: Sequence[EventCounts], groups: Sequence[Hashable] | None = None) -> None:
    """Raise ``ValueError`` for counts that no verdict can have given."""
    for position, count in enumerate(counts):
        for name, value in asdict(count).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"trace {position}: {name} is {value!r}; counts are whole numbers from 0 (not rates)")
    if groups is not None and len(groups) != len(counts):
        raise ValueError(f"{len(groups)} groups for {len(counts)} traces: give the clip of each trace")


def rates_of_trace(counts: EventCounts) -> dict[str, float | None]:
    """The metrics of one trace; None where its denominator is 0."""
    validate([counts])
    return {
        name: None if not _defined(name, counts) else up(counts) / down(counts) for name, (up, down) in METRICS.items()
    }


def evaluate(
    counts: Sequence[EventCounts],
    groups: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Rate]:
    """Every metric of ``METRICS`` over traces. ``groups`` names the clip of each trace (default: one trace a clip)."""
    validate(counts, groups)
    options: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    rates: dict[str, Rate] = {}
    for name, (up, down) in METRICS.items():
        above = np.array([up(count) for count in counts], dtype=float)
        below = np.array([down(count) for count in counts], dtype=float)
        defined = np.array([_defined(name, count) for count in counts], dtype=bool)
        kept = None if groups is None else [group for group, keep in zip(groups, defined, strict=True) if keep]
        rates[name] = Rate(
            micro=bootstrap_interval(above, below, groups=groups, **options),
            macro=bootstrap_interval(above[defined] / below[defined], groups=kept, **options),
            numerator=int(above.sum()),
            denominator=int(below.sum()),
            undefined=int((~defined).sum()),
        )
    return rates


def table(rates: dict[str, Rate], counts: Iterable[EventCounts] = ()) -> str:
    """The rates as text: each with its counts, interval, and how many traces have none."""
    lines = [f"{'':10}{'micro':>7}  {'95 % interval':15}  {'counts':>13}  {'macro':>7}  {'95 % interval':15}  without"]
    for name, rate in rates.items():
        fraction = f"{rate.numerator}/{rate.denominator}"
        lines.append(
            f"{name:10}{_number(rate.micro.estimate):>7}  {_range(rate.micro):15}  {fraction:>13}"
            f"  {_number(rate.macro.estimate):>7}  {_range(rate.macro):15}  {rate.undefined}"
        )
    counts = list(counts)
    if counts:
        sums = {name: sum(getattr(count, name) for count in counts) for name in EventCounts.__dataclass_fields__}
        said = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in sums.items())
        lines.append(f"{len(counts)} traces: {said}")
    return "\n".join(lines)


def _defined(name: str, count: EventCounts) -> bool:
    if name == "f1":
        return count.n_pred > 0 and count.n_tgt > 0
    return METRICS[name][1](count) > 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(interval: Interval) -> str:
    return "-" if interval.low is None else f"{_number(interval.low)}-{_number(interval.high)}"
