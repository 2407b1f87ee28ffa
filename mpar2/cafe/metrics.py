"""Metrics of CAFE: counts of verdicts, and rates with intervals.

Conventions
-----------
The paper leaves open how several mentions of one event become one outcome, and conclusions about decay depend on it:
under "any mention wrong" Acc_per decreases with length by itself, since long traces name each event more often.
:data:`RULES` lists the counting rules, all computed in one pass. ``analysis.decay.null_model`` gives the decrease that
a rule alone causes. By default, in each trace:

* every truth event has one outcome: **misused** if any mention of it is misused, else **matched** if any mention of it
  is matched, else **missed**. A claim that the review corrects still counts as a claim.
* hallucinated mentions with the same label (up to case and blanks) are one **hallucinated** event.
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

*micro* pools counts over traces; *macro* is the mean over traces of the trace's own rate. A trace with denominator 0
has no rate, neither 0 nor 1: macro excludes it and reports the number of such traces (f1 needs both denominators).
Intervals are 95 % bootstrap intervals over clips: all questions about a clip, and all their samples, are drawn
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from mpar2.cafe.schema import Mention, MentionKind, Verdict
from mpar2.statistics import Interval, bootstrap_interval

__all__ = [
    "CLAIM_METRICS",
    "DEFAULT_RULE",
    "ERRORS",
    "METRICS",
    "RULES",
    "EventCounts",
    "EventTally",
    "Rate",
    "count_events",
    "errors_by_part",
    "evaluate",
    "profile",
    "profile_table",
    "rates_of_trace",
    "rules_table",
    "table",
    "tally_events",
    "check_counts",
]


@dataclass(frozen=True)
class EventCounts:
    """The events of one trace by outcome, and its mentions."""

    matched: int = 0
    hallucinated: int = 0
    misused: int = 0
    missed: int = 0
    neutral_mentions: int = 0
    mentions: int = 0
    time_claims: int = 0
    order_claims: int = 0
    count_claims: int = 0
    targets: int | None = None  # N_tgt where the outcomes do not add up to it
    recalled: int | None = None  # truth events with a right mention, where ``matched`` counts mentions

    @property
    def n_pred(self) -> int:
        """Events that the trace asserts."""
        return self.matched + self.hallucinated + self.misused

    @property
    def n_tgt(self) -> int:
        """Events of the truth."""
        return self.matched + self.misused + self.missed if self.targets is None else self.targets

    def as_dict(self) -> dict[str, int]:
        """Return the counts and the two denominators, for JSON."""
        counts = {name: value for name, value in vars(self).items() if value is not None}
        return counts | {"n_pred": self.n_pred, "n_tgt": self.n_tgt}


class Rate(NamedTuple):
    """One metric, pooled and per trace, with the number of traces where it is undefined."""

    micro: Interval
    macro: Interval
    numerator: int
    denominator: int
    undefined: int  # number of traces with denominator 0


#: name -> (numerator, denominator) of one trace
METRICS = {
    "acc_per": (lambda c: c.matched, lambda c: c.n_pred),
    "err_per": (lambda c: c.hallucinated, lambda c: c.n_pred),
    "err_use": (lambda c: c.misused, lambda c: c.n_pred),
    "err_omit": (lambda c: c.missed, lambda c: c.n_tgt),
    "recall": (lambda c: c.matched if c.recalled is None else c.recalled, lambda c: c.n_tgt),
    "f1": (lambda c: 2 * c.matched, lambda c: c.n_pred + c.n_tgt),
    "events": (lambda c: c.n_pred, lambda c: 1),
}
#: how much a trace claims; the same under every rule
CLAIM_METRICS = {
    "mentions_per_event": (lambda c: c.mentions - c.neutral_mentions, lambda c: c.n_pred),
    "time_claims": (lambda c: c.time_claims, lambda c: 1),
    "order_claims": (lambda c: c.order_claims, lambda c: 1),
    "count_claims": (lambda c: c.count_claims, lambda c: 1),
}
ERRORS = ("existence", "semantic", "temporal", "attribute", "reasoning")


#: counting rule -> its definition; the first is the default
RULES: dict[str, str] = {
    "any_wrong": "an event is misused if any mention of it is wrong",
    "first": "the first mention of an event decides",
    "any_right": "an event is matched if any mention of it is right",
    "mention": "each asserted mention counts by itself",
    "sound": "the right sound, whatever its time: distinct labels",
    "sound_at_time": "the right sound at the right time: mentions that claim a time or an order",
}
DEFAULT_RULE = "any_wrong"


def count_events(verdict: Verdict, rule: str = DEFAULT_RULE) -> EventCounts:
    """Count the events of a verdict by outcome.

    Args:
        verdict: Verdict of any judge on one trace.
        rule: How several mentions of one event become one outcome, a key of :data:`RULES`.

    Returns:
        The counts. Under ``mention`` and ``sound_at_time`` the predictions are mentions and the targets are events, of
        which ``recalled`` have a right mention. Under ``sound`` both are distinct labels.

    Raises:
        ValueError: The rule is unknown.
    """
    if rule not in RULES:
        raise ValueError(f"unknown counting rule {rule!r}: choose one of {', '.join(RULES)}")
    asserted = [m for m in verdict.mentions if m.kind is not MentionKind.NEUTRAL]
    shared_counts = {
        "neutral_mentions": len(verdict.mentions) - len(asserted),
        "mentions": len(verdict.mentions),
        **{f"{claim}_claims": sum(claim in m.claims for m in asserted) for claim in ("time", "order", "count")},
    }
    # Under these rules predictions are labels or mentions, not events.
    if rule == "sound":
        return _count_labels(verdict, asserted, shared_counts)
    if rule in ("mention", "sound_at_time"):
        if rule == "sound_at_time":
            asserted = [m for m in asserted if {"time", "order"} & set(m.claims)]
        kinds = Counter(str(m.kind) for m in asserted)
        recalled = {event for m in asserted if m.kind is MentionKind.MATCHED for event in m.events}
        targets = {"missed": len(verdict.missed), "targets": len(verdict.targets), "recalled": len(recalled)}
        return EventCounts(**kinds, **targets, **shared_counts)
    # The other rules decide once for each truth event.
    tally = tally_events((mention.kind, mention.events) for mention in asserted)
    matched = {"any_wrong": tally.all_right, "first": tally.first_right, "any_right": tally.any_right}[rule]
    return EventCounts(
        matched=matched,
        hallucinated=len({_normalize_label(m.label) for m in asserted if m.kind is MentionKind.HALLUCINATED}),
        misused=tally.named - matched,
        missed=len(verdict.targets) - tally.named,
        **shared_counts,
    )


class EventTally(NamedTuple):
    """Counts of truth events by their mentions, and of mentions."""

    named: int  # events with an asserted mention
    all_right: int  # events of these whose mentions are all right
    first_right: int  # events of these whose first mention is right
    any_right: int  # events of these with a right mention
    mentions: int  # asserted mentions
    mentions_right: int


def tally_events(mentions: Iterable[tuple[str, Sequence[Hashable]]]) -> EventTally:
    """Count truth events by their mentions (kind and events, in reading order; not the neutral ones) in one pass."""
    first: dict[Hashable, bool] = {}
    right: set[Hashable] = set()
    wrong: set[Hashable] = set()
    n_asserted = n_right = 0
    for kind, events in mentions:
        if kind == MentionKind.NEUTRAL:
            continue
        is_right = kind == MentionKind.MATCHED
        n_asserted += 1
        n_right += is_right
        for event in events:
            first.setdefault(event, is_right)
            (right if is_right else wrong).add(event)
    return EventTally(len(first), len(right - wrong), sum(first.values()), len(right), n_asserted, n_right)


def _count_labels(verdict: Verdict, asserted: Sequence[Mention], shared_counts: dict[str, int]) -> EventCounts:
    """Count distinct labels as matched, hallucinated or missed."""
    labels = {_normalize_label(label) for label in verdict.targets}
    right, wrong = set(), set()
    for mention in asserted:
        if mention.error in ("existence", "semantic"):
            wrong.add(_normalize_label(mention.label))
        else:
            right |= {_normalize_label(verdict.targets[event]) for event in mention.events}
    return EventCounts(
        matched=len(right),
        hallucinated=len(wrong - right),
        missed=len(labels - right),
        targets=len(labels),
        **shared_counts,
    )


def _normalize_label(label: str) -> str:
    return " ".join(label.lower().split())


def profile(verdicts: Iterable[tuple[Verdict, int]], bins: int = 5) -> list[dict[str, Any]]:
    """Count asserted, matched and wrong mentions (by error) in ``bins`` equal parts of traces of these lengths."""
    rows: list[dict[str, Any]] = [{"asserted": 0, "matched": 0, **dict.fromkeys(ERRORS, 0)} for _ in range(bins)]
    for verdict, length in verdicts:
        for mention in verdict.mentions:
            if mention.kind is MentionKind.NEUTRAL:
                continue
            row = rows[min(bins - 1, bins * mention.chars.start // max(1, length))]
            row["asserted"] += 1
            row["matched"] += mention.kind is MentionKind.MATCHED
            if mention.error:
                row[mention.error] += 1
    return rows


def profile_table(rows: Mapping[str, Mapping[str, int]]) -> str:
    """Format the rows of :func:`profile` or :func:`errors_by_part` as a text table."""
    names = ("asserted", *ERRORS)
    lines = [f"{'':14}" + "".join(f"{name:>11}" for name in names)]
    lines += [f"{part:14}" + "".join(f"{row[name]:>11}" for name in names) for part, row in rows.items()]
    return "\n".join(lines)


def errors_by_part(verdicts: Iterable[Verdict]) -> dict[str, dict[str, int]]:
    """Count asserted mentions and errors by part of the trace (perception, step 1, ...), in the order of the trace."""
    table: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        for mention in verdict.mentions:
            if mention.kind is MentionKind.NEUTRAL:
                continue
            row = table.setdefault(mention.part or "text", {"asserted": 0, **dict.fromkeys(ERRORS, 0)})
            row["asserted"] += 1
            if mention.error:
                row[mention.error] += 1
    return table


def check_counts(counts: Sequence[EventCounts], groups: Sequence[Hashable] | None = None) -> None:
    """Raise ``ValueError`` for a count that is no whole number from 0, or groups of another number than the traces."""
    for position, count in enumerate(counts):
        for name, value in vars(count).items():
            if value is None and name in ("targets", "recalled"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"trace {position}: {name} is {value!r}; counts are whole numbers from 0 (not rates)")
    if groups is not None and len(groups) != len(counts):
        raise ValueError(f"{len(groups)} groups for {len(counts)} traces: give the clip of each trace")


def rates_of_trace(counts: EventCounts) -> dict[str, float | None]:
    """Return each metric of :data:`METRICS` for one trace by name; None where its denominator is 0."""
    check_counts([counts])
    return {
        name: None if not _is_defined(name, counts) else numerator(counts) / denominator(counts)
        for name, (numerator, denominator) in METRICS.items()
    }


def evaluate(
    counts: Sequence[EventCounts],
    groups: Sequence[Hashable] | None = None,
    *,
    table: Mapping[str, Any] = METRICS,
    **options: Any,
) -> dict[str, Rate]:
    """Compute every metric of a table over traces.

    Args:
        counts: Counts of each trace.
        groups: Clip of each trace; None: one clip for each trace.
        table: Numerator and denominator of each metric, by name.
        **options: Level, resamples and seed of :func:`mpar2.statistics.bootstrap_interval`.
    """
    check_counts(counts, groups)
    rates: dict[str, Rate] = {}
    for name, (numerator, denominator) in table.items():
        defined = np.array([_is_defined(name, count) for count in counts], dtype=bool)
        if name == "f1" and any(count.recalled is not None for count in counts):
            rates[name] = Rate(*(Interval(None, None, None, 0),) * 2, 0, 0, len(counts))
            continue
        numerators = np.array([numerator(count) for count in counts], dtype=float)
        denominators = np.array([denominator(count) for count in counts], dtype=float)
        defined_groups = None if groups is None else list(compress(groups, defined))
        rates[name] = Rate(
            micro=bootstrap_interval(numerators, denominators, groups=groups, **options),
            macro=bootstrap_interval(numerators[defined] / denominators[defined], groups=defined_groups, **options),
            numerator=int(numerators.sum()),
            denominator=int(denominators.sum()),
            undefined=int((~defined).sum()),
        )
    return rates


def table(rates: dict[str, Rate], counts: Iterable[EventCounts] = ()) -> str:
    """Format rates of one arm as a text table, with a last line of the totals of its traces' ``counts``."""
    lines = [f"{'':10}{'micro':>7}  {'95 % interval':15}  {'counts':>13}  {'macro':>7}  {'95 % interval':15}  without"]
    for name, rate in rates.items():
        fraction = f"{rate.numerator}/{rate.denominator}"
        lines.append(
            f"{name:10}{_number(rate.micro.estimate):>7}  {_range(rate.micro):15}  {fraction:>13}"
            f"  {_number(rate.macro.estimate):>7}  {_range(rate.macro):15}  {rate.undefined}"
        )
    counts = list(counts)
    if counts:
        sums = {name: sum(getattr(count, name) or 0 for count in counts) for name in _COUNT_COLUMNS}
        totals = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in sums.items())
        lines.append(f"{len(counts)} traces: {totals}")
    return "\n".join(lines)


def _is_defined(name: str, count: EventCounts) -> bool:
    if name == "f1":  # mentions against events have no common F1
        return count.recalled is None and count.n_pred > 0 and count.n_tgt > 0
    return (METRICS | CLAIM_METRICS)[name][1](count) > 0


_COUNT_COLUMNS = (
    "matched", "hallucinated", "misused", "missed",
    "neutral_mentions", "mentions", "time_claims", "order_claims", "count_claims",
)  # fmt: skip


def rules_table(by_rule: Mapping[str, Mapping[str, Rate]]) -> str:
    """Format the rates of one arm under every counting rule as a text table."""
    lines = [f"{'rule':14}{'acc_per':>24}{'recall':>24}{'f1':>24}"]
    for rule, rates in by_rule.items():
        cells = [str(rates[name].micro) for name in ("acc_per", "recall", "f1")]
        lines.append(f"{rule:14}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(interval: Interval) -> str:
    return "-" if interval.low is None else f"{_number(interval.low)}-{_number(interval.high)}"
