"""Settings and measured errors of the tagger, read from ``tagger.json`` beside this file.

The errors were measured on held-out recordings:

``recordings``  single sounds: top-1 and top-3 accuracy of the label
``scenes``      scenes of two to five events: precision, recall and F1 of events by name, and by name and times; errors
                of onset and offset; calibration of the confidence
``labels``      the same counts for each label
``damage``      error rates on a true list of events, for ``mpar2.cafe.validation.perturbation``: shares of dropped,
                renamed and added events, the names that replace others, and the shifts of onsets and offsets

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
    """Thresholds of events, and the map from a score to a confidence, both fitted on validation recordings."""

    threshold: float  # minimum peak score of an event
    stay: float  # an event lasts while its score exceeds this share of its peak
    gap_s: float  # shorter gaps are closed
    shortest_s: float  # minimum length of an event
    sure: float  # minimum confidence of an event; below it is unsure
    least: float  # minimum confidence of an unsure event; below it is dropped
    slope: float  # confidence = 1 / (1 + exp(-(slope * logit(score) + offset)))
    offset: float
    label_offsets: Mapping[str, float] = field(default_factory=dict)  # added for labels with another accuracy

    def confidence(self, score: float, label: str) -> float:
        """Return the calibrated confidence of an event: the share of right events with such a score and label."""
        score = min(max(score, 1e-6), 1 - 1e-6)
        logit = self.slope * math.log(score / (1 - score)) + self.offset + self.label_offsets.get(label, 0.0)
        return 1 / (1 + math.exp(-logit))


@cache
def settings() -> EventSettings:
    """Return the settings of the shipped tagger."""
    return EventSettings(**stored()["settings"])


@cache
def stored() -> dict[str, Any]:
    """Return the content of ``tagger.json``: ``settings`` and ``errors``."""
    return json.loads(files("mpar2.tagger").joinpath("tagger.json").read_text("utf-8"))


@dataclass(frozen=True)
class ErrorProfile:
    """The measured errors, as plain numbers (see the module)."""

    recordings: Mapping[str, Any]
    scenes: Mapping[str, Any]
    labels: Mapping[str, Mapping[str, int]]
    damage: Mapping[str, Any]

    def note(self) -> str:
        """Return one sentence on the errors, to show beside the tagger's events."""
        scenes, recordings = self.scenes, self.recordings["first"]
        accuracy = round(recordings["estimate"], 2)  # as in the card
        return (
            "The tagger's events are a machine's opinion, not the truth: in scenes of 2-5 sounds that it never heard, "
            f"{scenes['named_precision']['estimate']:.0%} of the events it is sure of are there and it names "
            f"{scenes['named_recall']['estimate']:.0%} of those that are; of single recordings it puts "
            f"{accuracy:.0%} ({recordings['low']:.0%} to {recordings['high']:.0%}) under the right one of its names."
        )

    def rates_of(self, name: str) -> tuple[float, float]:
        """Return the shares of events of one name that the tagger drops, and that it renames.

        They are those of the label where it had at least ten events, else those of all labels.
        """
        drop, swap = self.damage["drop"], self.damage["swap"]
        counts = self.labels.get(label_of(name) or "")
        if counts is None or counts["events"] < _MIN_EVENTS or not drop + swap:
            return drop, swap
        wrong = 1 - counts["right"] / counts["events"]
        return wrong * drop / (drop + swap), wrong * swap / (drop + swap)

    def note_of(self, label: str) -> str | None:
        """Return the accuracy on one label as a short text, or None where it was not measured."""
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
