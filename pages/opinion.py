"""A second listener's opinion of a clip, as the page shows it: what ``mpar2.tagger`` found, never called truth.

The ``opinion`` of a comparison document (and of a visitor's clip) is null or

    origin     "tagger"
    events     [{label, onset_s, offset_s, confidence, errors}]; ``errors`` is how often the tagger was right with that
               label, as a text, null where that was not measured
    unsure     the same, of what it is not sure of: such sounds are neither claims nor missed
    note       how good the tagger is, one sentence

It is made of recordings of which nothing is known, offline, and stands in where a visitor lists no sounds.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.tagger import TaggedEvent, Tagging, errors, tag

__all__ = ["known_tagging", "opinion_document", "tagging_of", "warm_up"]

_KEPT = 64  # clips; a tagging is small
_taggings: dict[str, Tagging] = {}
_lock = threading.Lock()


def tagging_of(clip: Clip) -> Tagging:
    """Return what the tagger finds in a clip; the last clips are remembered."""
    found = known_tagging(clip)
    if found is None:
        found = tag(clip)
        with _lock:
            _taggings[clip.digest] = found
            while len(_taggings) > _KEPT:
                _taggings.pop(next(iter(_taggings)))
    return found


def known_tagging(clip: Clip) -> Tagging | None:
    """Return the tagging of a clip that was tagged before, else None: for callers who must not wait."""
    with _lock:
        return _taggings.get(clip.digest)


def opinion_document(tagging: Tagging | None) -> dict[str, Any] | None:
    """Return the ``opinion`` of a document (see the module)."""
    if tagging is None:
        return None
    events, unsure = (_events(found) for found in (tagging.events, tagging.unsure))
    return {"origin": "tagger", "events": events, "unsure": unsure, "note": errors().note()}


def warm_up() -> None:
    """Load the tagger, so that the first visitor's upload does not wait for it."""
    tag(Clip(np.random.default_rng(0).normal(scale=0.1, size=SAMPLE_RATE)))


def _events(events: Sequence[TaggedEvent]) -> list[dict[str, Any]]:
    profile = errors()
    return [
        {
            "label": event.label,
            "onset_s": event.onset_s,
            "offset_s": event.offset_s,
            "confidence": round(event.confidence, 3),
            "errors": profile.note_of(event.label),
        }
        for event in events
    ]
