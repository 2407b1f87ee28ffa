"""Checks of claims about one event or a pair of events, with the tolerances of ``mpar2.cafe.rules.claims``."""

from __future__ import annotations

from collections.abc import Sequence

from mpar2.cafe.rules.claims import (
    BORDER_SHARE,
    BORDER_TOLERANCE_S,
    COARSE_TOLERANCE_S,
    LENGTH_SHARE,
    LEVEL_TOLERANCE_DB,
    OFFSET_SHARE,
    ORDER_TOLERANCE_S,
    TO_END_SHARE,
    Claim,
    PairClaim,
)
from mpar2.cafe.schema import Truth
from mpar2.question import Event

__all__ = ["holds", "nearest", "pair_holds"]


def _length(event: Event) -> float | None:
    return None if event.onset_s is None or event.offset_s is None else event.offset_s - event.onset_s


def holds(claim: Claim, index: int, truth: Truth) -> bool:
    """Return whether the claim is true of event ``index``, or cannot be decided by this truth.

    Returns:
        True also where the truth carries no times, lengths or levels.

    Raises:
        ValueError: The relation is unknown.
    """
    events = truth.events or ()
    event = events[index]
    onset, offset = event.onset_s, event.offset_s
    # Superlatives compare the event with all events of the truth.
    if claim.relation in ("longest", "shortest"):
        lengths = [_length(e) for e in events]
        if None in lengths:
            return True
        sign = 1 if claim.relation == "longest" else -1
        return sign * lengths[index] >= max(sign * length for length in lengths) - ORDER_TOLERANCE_S  # type: ignore[operator]
    if claim.relation in ("loudest", "quietest"):
        if truth.levels_db is None or None in truth.levels_db:
            return True
        sign = 1 if claim.relation == "loudest" else -1
        levels = [sign * level for level in truth.levels_db]  # type: ignore[operator]
        return levels[index] >= max(levels) - LEVEL_TOLERANCE_DB
    if onset is None:
        return True
    # Borders of the clip: the truth does not carry its length, so the last known offset stands in for it.
    if claim.relation in ("at_start", "at_end", "from_start", "to_end", "throughout"):
        ends = [e.offset_s if e.offset_s is not None else e.onset_s for e in events]
        if None in ends or any(e.onset_s is None for e in events):
            return True
        end = max(ends)  # type: ignore[type-var]
        reach = max(BORDER_TOLERANCE_S, BORDER_SHARE * end)  # type: ignore[operator]
        if claim.relation in ("from_start", "to_end"):
            reach = max(BORDER_TOLERANCE_S, TO_END_SHARE * end)  # type: ignore[operator]
        if claim.relation == "throughout":  # all events of the name together
            same = [e for e in events if e.label == event.label]
            same_ends = [e.offset_s if e.offset_s is not None else e.onset_s for e in same]
            return min(e.onset_s for e in same) <= reach and max(same_ends) >= end - reach  # type: ignore[type-var,operator]
        if claim.relation in ("at_start", "from_start"):
            return onset <= max(min(e.onset_s for e in events) + ORDER_TOLERANCE_S, reach)  # type: ignore[type-var]
        last_s = offset if offset is not None else onset
        return last_s >= end - reach  # type: ignore[operator]
    # Place in the order. Events within the tolerance of each other may take either place.
    if claim.relation in ("first", "last", "nth"):
        pool = [e for i, e in enumerate(events) if not claim.among or i in claim.among]
        onsets = [e.onset_s for e in pool]
        if None in onsets:
            return True
        if claim.relation == "first":
            return onset <= min(onsets) + ORDER_TOLERANCE_S  # type: ignore[type-var,operator]
        if claim.relation == "last":
            ends = [e.offset_s for e in pool]
            ends_last = None not in ends and offset >= max(ends) - ORDER_TOLERANCE_S  # type: ignore[type-var,operator]
            return ends_last or onset >= max(onsets) - ORDER_TOLERANCE_S  # type: ignore[type-var,operator]
        surely_before = sum(o < onset - ORDER_TOLERANCE_S for o in onsets)  # type: ignore[operator]
        maybe_before = sum(o <= onset + ORDER_TOLERANCE_S for o in onsets)  # type: ignore[operator]
        return surely_before < claim.a <= maybe_before
    # Times. An unknown offset contradicts no claim.
    end = onset if offset is None else offset
    collar = max(claim.tolerance_s, OFFSET_SHARE * (end - onset))
    match claim.relation:
        case "at":
            return onset - claim.tolerance_s <= claim.a <= end + claim.tolerance_s
        case "start":
            return abs(claim.a - onset) <= claim.tolerance_s
        case "end":
            return offset is None or abs(claim.a - offset) <= collar
        case "end_after":  # counted from the start of the clip, or from the onset of the event
            return offset is None or min(abs(claim.a - offset), abs(claim.a - (end - onset))) <= collar
        case "interval":
            return abs(claim.a - onset) <= claim.tolerance_s and (offset is None or abs(claim.b - offset) <= collar)
        case "from_on":
            return end >= claim.a - claim.tolerance_s
        case "not_before":
            return onset >= claim.a - claim.tolerance_s
        case "up_to":
            return onset <= claim.a + claim.tolerance_s
        case "over_by":
            return end <= claim.a + collar
        case "length":
            length = end - onset
            return offset is None or abs(claim.a - length) <= max(claim.tolerance_s, LENGTH_SHARE * length)
    raise ValueError(f"unknown relation {claim.relation!r}")


def pair_holds(claim: PairClaim, left: int, right: int, truth: Truth) -> bool:
    """Return whether the claim is true of the events ``left`` and ``right``, or cannot be decided by this truth.

    Returns:
        True also where the truth carries no times, lengths or levels.
    """
    events = truth.events or ()
    a, b = events[left], events[right]
    if claim.relation in ("louder", "quieter", "as_loud"):
        levels = truth.levels_db
        if levels is None or levels[left] is None or levels[right] is None:
            return True
        difference = levels[left] - levels[right]  # type: ignore[operator]
        return _comparison_holds(
            claim.relation.removeprefix("as_"), difference, LEVEL_TOLERANCE_DB, ("louder", "quieter")
        )
    if claim.relation in ("longer", "shorter", "as_long"):
        left_length, right_length = _length(a), _length(b)
        if left_length is None or right_length is None:
            return True
        return _comparison_holds(
            claim.relation.removeprefix("as_"), left_length - right_length, ORDER_TOLERANCE_S, ("longer", "shorter")
        )
    # Order and overlap need onsets; those that need an unknown offset too cannot be decided.
    if a.onset_s is None or b.onset_s is None:
        return True
    if claim.relation == "before":
        return a.onset_s <= b.onset_s + ORDER_TOLERANCE_S
    if claim.relation == "after":
        return a.onset_s >= b.onset_s - ORDER_TOLERANCE_S
    if claim.relation == "before_end":
        return b.offset_s is None or a.onset_s <= b.offset_s + ORDER_TOLERANCE_S
    if claim.relation == "start_together":
        return abs(a.onset_s - b.onset_s) <= COARSE_TOLERANCE_S
    if claim.relation == "after_end":
        return b.offset_s is None or a.onset_s >= b.offset_s - ORDER_TOLERANCE_S
    if claim.relation == "ends_first":
        return a.offset_s is None or b.offset_s is None or a.offset_s <= b.offset_s + ORDER_TOLERANCE_S
    if claim.relation == "end_before":
        return a.offset_s is None or a.offset_s <= b.onset_s + ORDER_TOLERANCE_S
    if a.offset_s is None or b.offset_s is None:
        return True
    return min(a.offset_s, b.offset_s) > max(a.onset_s, b.onset_s)


def _comparison_holds(relation: str, difference: float, tolerance: float, directions: tuple[str, str]) -> bool:
    """Return whether a difference agrees with a relation, which is one of ``directions`` (more, less) or equality."""
    if relation == directions[0]:
        return difference >= -tolerance
    return difference <= tolerance if relation == directions[1] else abs(difference) <= tolerance


def nearest(claims: Sequence[Claim], candidates: Sequence[int], truth: Truth) -> int:
    """Return the candidate event closest to the claimed time, or the first one where no time is claimed."""
    times = [c.a for c in claims if c.relation in ("at", "start", "end", "interval", "from_on", "not_before", "up_to")]
    events = truth.events or ()

    def distance(index: int) -> float:
        event = events[index]
        if not times or event.onset_s is None:
            return 0.0
        end = event.onset_s if event.offset_s is None else event.offset_s
        return max(event.onset_s - times[0], times[0] - end, 0.0)

    return min(candidates, key=distance)
