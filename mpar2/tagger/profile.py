"""What ``tagger.json`` beside this file has: how events are read from scores, and how often the tagger errs.

The errors were measured on recordings that it never learned from:

``recordings``  single sounds: the share whose label comes first, and among the first three
``scenes``      scenes of two to five events: precision, recall and F1 of events by name, and by name and times; errors
                of onset and offset; how often each confidence is right
``labels``      the same counts for each label
``damage``      what the tagger does to a true list of events, for ``mpar2.cafe.validation.perturbation``: how many it
                drops, gives another name, and adds, which names it swaps in, and how it shifts onsets and offsets

Rates are shares in [0, 1] with 95 % bootstrap intervals over labels (recordings) or scenes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from mpar2.tagger.names import label_of

__all__ = ["ErrorProfile", "EventSettings", "errors", "settings", "stored"]

_MIN_EVENTS = 10


@dataclass(frozen=True)
class EventSettings:
    """Thresholds of events, and the map from a score to a confidence; both chosen on validation recordings."""

    threshold: float  # score that an event must reach
    stay: float  # share of its highest score down to which an event lasts
    gap_s: float
    shortest_s: float
    sure: float  # least confidence of an event; below it is unsure
    least: float  # confidence that an unsure event needs to be reported at all
    slope: float  # confidence = 1 / (1 + exp(-(slope * logit(score) + offset)))
    offset: float
    label_offsets: Mapping[str, float] = field(default_factory=dict)  # of labels that are right more or less often

    def confidence(self, score: float, label: str) -> float:
        """Return the measured share of right events among those with such a score and label.

        Args:
            score: The highest score of the event, in [0, 1].
            label: Its label.
        """
        score = min(max(score, 1e-6), 1 - 1e-6)
        logit = self.slope * math.log(score / (1 - score)) + self.offset + self.label_offsets.get(label, 0.0)
        return 1 / (1 + math.exp(-logit))


@cache
def settings() -> EventSettings:
    """Return the settings of the shipped tagger."""
    return EventSettings(**stored()["settings"])


@cache
def stored() -> dict[str, Any]:
    """Return what ``tagger.json`` holds: ``settings`` and ``errors``."""
    return json.loads(files("mpar2.tagger").joinpath("tagger.json").read_text("utf-8"))


@dataclass(frozen=True)
class ErrorProfile:
    """The measured errors, as plain numbers (see the module)."""

    recordings: Mapping[str, Any]
    scenes: Mapping[str, Any]
    labels: Mapping[str, Mapping[str, int]]
    damage: Mapping[str, Any]

    def note(self) -> str:
        """Return one sentence on the errors, for wherever the tagger's events are shown."""
        scenes, recordings = self.scenes, self.recordings["first"]
        accuracy = round(recordings["estimate"], 2)  # as the card has it
        return (
            "The tagger's events are a machine's opinion, not the truth: in scenes of 2-5 sounds that it never heard, "
            f"{scenes['named_precision']['estimate']:.0%} of the events it is sure of are there and it names "
            f"{scenes['named_recall']['estimate']:.0%} of those that are; of single recordings it puts "
            f"{accuracy:.0%} ({recordings['low']:.0%} to {recordings['high']:.0%}) under the right one of its names."
        )

    def rates_of(self, name: str) -> tuple[float, float]:
        """Return the shares of events of one name that the tagger drops, and that it gives another name.

        They are measured on this very label where at least ten events were; else over all labels.
        """
        drop, swap = self.damage["drop"], self.damage["swap"]
        counts = self.labels.get(label_of(name) or "")
        if counts is None or counts["events"] < _MIN_EVENTS or not drop + swap:
            return drop, swap
        wrong = 1 - counts["right"] / counts["events"]
        return wrong * drop / (drop + swap), wrong * swap / (drop + swap)

    def note_of(self, label: str) -> str | None:
        """Return how good it is at one label, as a short text; None where that was not measured."""
        counts = self.labels.get(label)
        if counts is None or not counts["events"]:
            return None
        return (
            f"{label}: {counts['right']} of {counts['events']} in scenes named, "
            f"{counts['right']} of {counts['tagged']} such tags right"
        )


@cache
def errors() -> ErrorProfile:
    """Return the errors of the shipped tagger."""
    return ErrorProfile(**stored()["errors"])
