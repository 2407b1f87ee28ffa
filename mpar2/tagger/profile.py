"""How often the tagger errs, measured on recordings that it never learned from (``tagger.json``, part ``errors``).

``recordings``  single sounds: the share whose label comes first, and among the first three
``scenes``      scenes of two to five events: precision, recall and F1 of events by name, and by name and times; errors
                of onset and offset; how often each confidence is right
``labels``      the same counts for each label
``damage``      what the tagger does to a true list of events, for ``mpar2.cafe.validation.perturbation``: how many it
                drops, gives another name, and adds, which names it swaps in, and how it shifts onsets and offsets

Rates are shares in [0, 1] with 95 % bootstrap intervals over labels (recordings) or scenes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from mpar2.tagger.names import label_of
from mpar2.tagger.settings import stored

__all__ = ["ErrorProfile", "errors"]

_ENOUGH = 10


@dataclass(frozen=True)
class ErrorProfile:
    """The measured errors, as plain numbers (see the module)."""

    recordings: Mapping[str, Any]
    scenes: Mapping[str, Any]
    labels: Mapping[str, Mapping[str, int]]
    damage: Mapping[str, Any]

    def note(self) -> str:
        """One sentence for wherever the tagger's events are shown."""
        scenes, alone = self.scenes, self.recordings["first"]
        right = round(alone["estimate"], 2)  # as the card has it
        return (
            "The tagger's events are a machine's opinion, not the truth: in scenes of 2-5 sounds that it never heard, "
            f"{scenes['named_precision']['estimate']:.0%} of the events it is sure of are there and it names "
            f"{scenes['named_recall']['estimate']:.0%} of those that are; of single recordings it puts "
            f"{right:.0%} ({alone['low']:.0%} to {alone['high']:.0%}) under the right one of its names."
        )

    def rates_of(self, name: str) -> tuple[float, float]:
        """Shares of events of that name that it drops, and that it gives another name.

        Measured on this very label where at least ten events were; else over all labels.
        """
        drop, swap = self.damage["drop"], self.damage["swap"]
        counts = self.labels.get(label_of(name) or "")
        if counts is None or counts["events"] < _ENOUGH or not drop + swap:
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
