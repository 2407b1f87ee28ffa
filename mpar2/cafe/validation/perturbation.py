"""Sensitivity of the scores to errors of the truth: events are dropped, swapped or added, and all traces rescored.

A caption by a model omits events, names others wrongly and invents some. Here an exact truth is damaged at a known
rate, which shows the direction and size of the effect on each metric.

``drop``    each event is dropped with the probability of the rate
``swap``    each event keeps its time and gets the label of an absent sound, with the same probability
``add``     for each event, with the same probability, an absent sound is added at a random time
``tagger``  drops, swaps, additions and shifts of times at the rates of ``mpar2.tagger``, by label where measured, in
            scenes of held-out recordings; this row shows the effect of its errors on each metric

Draws are seeded by (seed, clip, event). An event that is damaged at one rate is damaged at every higher one, so curves
over rates have no sampling noise between rates. The judge is the reference judge, which is free.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal, NamedTuple

from mpar2.cafe.metrics import Rate, count_events, evaluate
from mpar2.cafe.rules.judge import annotate
from mpar2.cafe.rules.vocabulary import absent_classes
from mpar2.cafe.schema import JudgeRequest, Truth
from mpar2.question import Event
from mpar2.statistics import Interval
from mpar2.tagger.names import label_of
from mpar2.tagger.profile import ErrorProfile, errors

__all__ = ["DAMAGES", "RATES", "Damage", "DamageRow", "damage_report", "damage_table", "damage_truth", "tagged_truth"]

Damage = Literal["drop", "swap", "add", "tagger"]
DAMAGES: tuple[Damage, ...] = ("drop", "swap", "add")  # those with a free rate
RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


class DamageRow(NamedTuple):
    """The metrics under one damage at one rate; the rate is None for the tagger, whose rates are measured."""

    damage: Damage
    rate: float | None
    rates: dict[str, Rate]


def damage_truth(truth: Truth, damage: Damage, rate: float, key: str, seed: int = 0) -> Truth:
    """Damage the events of a truth at a rate. The result is deterministic in the arguments.

    Args:
        truth: A truth with events.
        damage: ``drop``, ``swap`` or ``add`` (see the module).
        rate: Probability that an event is damaged, in [0, 1].
        key: Key of the draws beside the seed: the clip.
        seed: Seed of the draws.

    Raises:
        ValueError: The truth is a caption, or the damage or rate is unknown.
    """
    if truth.events is None:
        raise ValueError("only a list of events can be damaged; this truth is a caption")
    if damage not in DAMAGES or not 0 <= rate <= 1:
        raise ValueError(f"damage {damage!r} at {rate}: choose one of {', '.join(DAMAGES)} and a rate from 0 to 1")
    absent = absent_classes([event.label for event in truth.events])
    levels = truth.levels_db or (None,) * len(truth.events)
    end = max((e.offset_s or e.onset_s or 0.0 for e in truth.events), default=0.0)
    pairs: list[tuple[Event, float | None]] = []
    for number, (event, level) in enumerate(zip(truth.events, levels, strict=True)):
        rng = random.Random(f"{seed}|{key}|{damage}|{number}")
        is_damaged = rng.random() < rate
        label = rng.choice(absent) if absent else event.label
        if damage == "swap" and is_damaged:
            event = Event(label, event.onset_s, event.offset_s)
        if damage != "drop" or not is_damaged:
            pairs.append((event, level))
        if damage == "add" and is_damaged:
            pairs.append((_event_at(event, label, rng.uniform(0.0, end)), level))
    if truth.events and truth.events[0].onset_s is not None:
        pairs.sort(key=lambda pair: pair[0].onset_s or 0.0)
    return Truth(
        events=tuple(event for event, _ in pairs),
        caption=truth.caption,
        origin=f"{truth.origin}, {damage} {rate:g}" if rate else truth.origin,
        levels_db=tuple(level for _, level in pairs) if truth.levels_db else None,
        unsure=truth.unsure,
    )


def tagged_truth(truth: Truth, profile: ErrorProfile, key: str, seed: int = 0) -> Truth:
    """Simulate the tagger's output for a truth, by its measured errors. The result is deterministic in the arguments.

    Args:
        truth: A truth with events.
        profile: Error profile of the tagger (``mpar2.tagger.errors()``).
        key: Key of the draws beside the seed: the clip.
        seed: Seed of the draws.

    Returns:
        A truth without levels, since the tagger predicts none.

    Raises:
        ValueError: The truth is a caption.
    """
    if truth.events is None:
        raise ValueError("only a list of events can be damaged; this truth is a caption")
    damage = profile.damage
    end = max((e.offset_s or e.onset_s or 0.0 for e in truth.events), default=0.0)
    events: list[Event] = []
    for number, event in enumerate(truth.events):
        rng = random.Random(f"{seed}|{key}|tagger|{number}")
        drop, swap = profile.rates_of(event.label)
        draw, add = rng.random(), rng.random()
        swap_counts = damage["swapped"].get(label_of(event.label) or "", {}) or damage["added"]
        swap_label, added_label = _draw_label(swap_counts, rng), _draw_label(damage["added"], rng)
        shift = rng.choice(damage["shifts_s"]) if damage["shifts_s"] else (0.0, 0.0)
        if draw >= drop + swap:
            events.append(_shift_event(event, *shift))
        elif draw >= drop and swap_label is not None:
            events.append(Event(swap_label, event.onset_s, event.offset_s))
        if add < damage["add"] and added_label is not None:
            events.append(_event_at(event, added_label, rng.uniform(0.0, end)))
    if truth.events and truth.events[0].onset_s is not None:
        events.sort(key=lambda event: event.onset_s or 0.0)
    return Truth(events=tuple(events), caption=truth.caption, origin=f"{truth.origin}, tagger", unsure=truth.unsure)


def damage_report(
    requests: Mapping[str, JudgeRequest],
    groups: Sequence[str],
    *,
    rates: Sequence[float] = RATES,
    seed: int = 0,
    resamples: int = 1000,
) -> list[DamageRow]:
    """Score every trace against every damaged truth.

    Args:
        requests: Traces with their truths.
        groups: Clip of each request, in order; all traces of a clip get the same damage.
        rates: Rates for each damage in :data:`DAMAGES`.
        seed: Seed of the damage and of the bootstrap.
        resamples: Number of bootstrap resamples over clips.

    Returns:
        One row for each damage and rate; the last row is that of the tagger.
    """
    rows = []
    for damage, rate in [*product(DAMAGES, rates), ("tagger", None)]:
        counts = []
        for request, group in zip(requests.values(), groups, strict=True):
            # Keyed by clip: all its arms, samples and questions get the same damaged truth.
            if rate is None:
                truth = tagged_truth(request.truth, errors(), group, seed)
            else:
                truth = damage_truth(request.truth, damage, rate, group, seed)
            counts.append(count_events(annotate(request.trace, truth, choices=request.choices)))
        rows.append(DamageRow(damage, rate, evaluate(counts, groups, resamples=resamples, seed=seed)))
    return rows


def damage_table(rows: Sequence[DamageRow]) -> str:
    """Format the pooled rates as a text table, one line for each damage and rate."""
    names = ("acc_per", "err_per", "err_use", "err_omit", "recall", "f1")
    lines = [f"{'damage':8}{'rate':>6}" + "".join(f"{name:>24}" for name in names)]
    for damage, rate, rates in rows:
        share = "-" if rate is None else f"{rate:.0%}"
        lines.append(f"{damage:8}{share:>6}" + "".join(f"{_cell(rates[name].micro):>24}" for name in names))
    return "\n".join(lines)


def _cell(micro: Interval) -> str:
    estimate = "-" if micro.estimate is None else f"{micro.estimate:.3f}"
    return estimate + ("" if micro.low is None else f" ({micro.low:.3f}-{micro.high:.3f})")


def _event_at(event: Event, label: str, onset_s: float) -> Event:
    """Return an event of another label and onset with the length of ``event``.

    Unknown times of ``event`` stay unknown.
    """
    if event.onset_s is None:
        return Event(label)
    end = None if event.offset_s is None else round(onset_s + event.offset_s - event.onset_s, 2)
    return Event(label, round(onset_s, 2), end)


def _shift_event(event: Event, onset_s: float, offset_s: float) -> Event:
    """Shift onset and offset of an event, to at least 0 and a length of at least 0.1 s. Unknown times stay unknown."""
    if event.onset_s is None:
        return event
    start = max(0.0, event.onset_s + onset_s)
    end = None if event.offset_s is None else max(start + 0.1, event.offset_s + offset_s)
    return Event(event.label, round(start, 2), None if end is None else round(end, 2))


def _draw_label(counts: Mapping[str, int], rng: random.Random) -> str | None:
    """Draw a label in proportion to its count, or return None where there are no counts."""
    return rng.choices(list(counts), weights=list(counts.values()))[0] if counts else None
