"""A tagger's opinion of a clip, as the page shows it: the events of ``mpar2.tagger``, kept apart from the truth.

The ``opinion`` of a comparison document (and of a visitor's clip) is null or

    origin     "tagger"
    events     [{label, onset_s, offset_s, confidence, errors}]; ``errors`` is the tagger's measured precision for the
               label, as a text, null where it was not measured
    unsure     the same for uncertain events, which are neither claims nor missed
    note       quality of the tagger, one sentence

It is computed offline for recordings without known events, if the visitor lists no sounds.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.tagger import TaggedEvent, Tagging, errors, tag

_KEPT = 64  # clips; a tagging is small
_taggings: dict[str, Tagging] = {}
_lock = threading.Lock()


def tagging_of(clip: Clip) -> Tagging:
    """Return the tagging of a clip; those of the last clips are cached."""
    tagging = known_tagging(clip)
    if tagging is None:
        tagging = tag(clip)
        with _lock:
            _taggings[clip.digest] = tagging
            while len(_taggings) > _KEPT:
                _taggings.pop(next(iter(_taggings)))
    return tagging


def known_tagging(clip: Clip) -> Tagging | None:
    """Return the cached tagging of a clip, or None, without waiting for the tagger."""
    with _lock:
        return _taggings.get(clip.digest)


def opinion_document(tagging: Tagging | None) -> dict[str, Any] | None:
    """Return the ``opinion`` of a document (see the module)."""
    if tagging is None:
        return None
    events, unsure = (_events(group) for group in (tagging.events, tagging.unsure))
    return {"origin": "tagger", "events": events, "unsure": unsure, "note": errors().note()}


def warm_up() -> None:
    """Load the tagger, so that the first visitor's upload does not wait for it."""
    tag(Clip(np.random.default_rng(0).normal(scale=0.1, size=SAMPLE_RATE)))


def _events(tagged_events: Sequence[TaggedEvent]) -> list[dict[str, Any]]:
    profile = errors()
    return [
        {
            "label": event.label,
            "onset_s": event.onset_s,
            "offset_s": event.offset_s,
            "confidence": round(event.confidence, 3),
            "errors": profile.note_of(event.label),
        }
        for event in tagged_events
    ]
