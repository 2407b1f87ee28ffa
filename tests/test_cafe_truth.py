"""The truth fits its judge: a cue is no list of events, and nothing is paid where nothing can be judged."""

from __future__ import annotations

import pytest

from mpar2.cafe.schema import Truth
from mpar2.cafe.truth import choose_truth
from mpar2.question import Event, Item, Question

ASKED = Question("What is heard?")
CAPTION = Truth(None, "a dog barks", "caption:m")


def item(events: tuple[Event, ...] | None, origin: str | None, caption: str | None = None) -> Item:
    return Item("1", "1.wav", ASKED, events, caption, origin)


@pytest.mark.parametrize(
    ("which", "expected"), [(None, CAPTION), ("events", None), ("exact", None), ("caption", CAPTION)]
)
def test_a_cue_is_taken_only_where_it_is_asked_for(which: str | None, expected: Truth | None) -> None:
    cue = item((Event("Timbre"),), "cue")
    assert choose_truth(cue, CAPTION, which) == expected
    assert choose_truth(cue, None, "cue").origin == "cue"
    assert choose_truth(cue) is None


def test_exact_truth_has_times_and_events_may_lack_them() -> None:
    bare, timed = item((Event("dog"),), "human"), item((Event("dog", 0.0, 1.0),), "scene")
    assert choose_truth(bare, None, "exact") is None and choose_truth(bare, None, "events") is not None
    assert choose_truth(timed, None, "exact").origin == "scene"
    assert choose_truth(timed, None, "cue") is None
