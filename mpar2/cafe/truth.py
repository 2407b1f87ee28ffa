"""The truth of a clip: from an item, or from a file that a person wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mpar2.cafe.schema import Truth
from mpar2.errors import MPAR2Error
from mpar2.question import Event, Item

__all__ = ["TRUTHS", "TruthError", "choose_truth", "truth_from_json", "truth_of"]

#: choices of ``--truth``
TRUTHS = ("events", "exact", "caption", "cue")


class TruthError(MPAR2Error, ValueError):
    """A truth that cannot be read; the message describes the expected form."""


def truth_of(item: Item) -> Truth | None:
    """Return the truth of an item: its events, else its caption, else None."""
    levels = item.extra.get("levels_db")
    has_levels = isinstance(levels, list) and item.events is not None and len(levels) == len(item.events)
    if item.events is None and not (item.caption or "").strip():
        return None
    return Truth(item.events, item.caption, item.truth_origin or "human", tuple(levels) if has_levels else None)


def choose_truth(item: Item, caption: Truth | None = None, which: str | None = None) -> Truth | None:
    """Choose the truth for judging an item.

    Args:
        item: An item with its events or caption, if any.
        caption: Caption or tagged events of its clip beside the run, if any.
        which: ``exact`` (annotated events with times), ``events`` (any list of events but a cue), ``caption``, ``cue``
            (MMAR's notes for listening, which are no full list of events), or None: events, else the item's caption,
            else the one beside the run; never a cue.

    Returns:
        The truth, or None where the item has none of that kind.
    """
    item_truth = truth_of(item)
    is_cue = item_truth is not None and item_truth.events is not None and item_truth.origin == "cue"
    if which == "cue":
        return item_truth if is_cue else None
    if is_cue:
        item_truth = Truth(None, item.caption, item.truth_origin or "human") if (item.caption or "").strip() else None
    if which == "caption":
        if item_truth is not None and item_truth.caption:
            return Truth(None, item_truth.caption, item_truth.origin)
        return caption if caption is not None and caption.events is None else None
    if which == "exact":
        timed = (
            item_truth is not None
            and item_truth.events is not None
            and all(event.onset_s is not None for event in item_truth.events)
        )
        return item_truth if timed else None
    if which == "events":
        return next((truth for truth in (item_truth, caption) if truth is not None and truth.events is not None), None)
    return item_truth or caption


def truth_from_json(data: Any) -> Truth:
    """Read a truth that a person wrote.

    Args:
        data: A list of labels or of ``{"label", "onset_s", "offset_s", "level_db"}``, or an object with ``events`` (or
            MMAR's ``cue``) or ``caption`` and, if it is known, ``truth_origin``.

    Raises:
        TruthError: The data is none of these; the message names the event.

    >>> truth_from_json(["dog", {"label": "siren", "onset_s": 1}]).events[1].onset_s
    1.0
    """
    caption, origin = None, "human"
    if isinstance(data, Mapping):
        origin = str(data.get("truth_origin") or ("cue" if "events" not in data and "cue" in data else origin))
        caption = data.get("caption")
        data = data.get("events", data.get("cue"))
    if data is None:
        if not isinstance(caption, str) or not caption.strip():
            raise TruthError("the truth is neither a list of events nor an object with 'events', 'cue' or 'caption'")
        return Truth(None, caption, origin)
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise TruthError(f"the events are {json.dumps(data)[:60]}; a list of labels or of objects is needed")
    events, levels = [], []
    for number, entry in enumerate(data):
        entry = {"label": entry} if isinstance(entry, str) else entry
        label = entry.get("label") if isinstance(entry, Mapping) else None
        if not isinstance(label, str) or not label.strip():
            raise TruthError(f"event {number} of the truth has no 'label'")
        try:
            onset, offset, level = (_number(entry.get(name)) for name in ("onset_s", "offset_s", "level_db"))
        except (TypeError, ValueError):
            raise TruthError(f"event {number} ({label!r}): times are numbers of seconds, levels of dB") from None
        if (onset is not None and onset < 0) or (onset is not None and offset is not None and offset < onset):
            raise TruthError(f"event {number} ({label!r}): from {onset} to {offset} s is no interval")
        events.append(Event(label.strip(), onset, offset))
        levels.append(level)
    levels_db = tuple(levels) if levels and None not in levels else None
    return Truth(tuple(events), caption, origin, levels_db)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number
