"""What is true of a clip: the truth that an item carries, or that a person writes down."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mpar2.cafe.schema import Truth
from mpar2.errors import MPAR2Error
from mpar2.question import Event, Item

__all__ = ["TruthError", "truth_from_json", "truth_of"]


class TruthError(MPAR2Error, ValueError):
    """A truth that cannot be read; the message says what it should look like."""


def truth_of(item: Item) -> Truth | None:
    """The truth that an item carries: its events, else its caption, else None."""
    levels = item.extra.get("levels_db")
    known = isinstance(levels, list) and item.events is not None and len(levels) == len(item.events)
    if item.events is None and not (item.caption or "").strip():
        return None
    return Truth(item.events, item.caption, item.truth_origin or "human", tuple(levels) if known else None)


def truth_from_json(data: Any, origin: str = "human") -> Truth:
    """A person's truth: a list of labels or of ``{"label", "onset_s", "offset_s", "level_db"}``, or an object with
    ``events`` (or MMAR's ``cue``) or ``caption`` and, if it is known, ``truth_origin``.

    >>> truth_from_json(["dog", {"label": "siren", "onset_s": 1}]).events[1].onset_s
    1.0
    """
    caption = None
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
    known = tuple(levels) if levels and None not in levels else None
    return Truth(tuple(events), caption, origin, known)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number
