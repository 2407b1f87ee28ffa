"""How events are read from scores, as ``tagger.json`` beside this file has it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["Settings", "settings", "stored"]


@dataclass(frozen=True)
class Settings:
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
        """Return the measured share of right events of ``label`` among those whose highest score is ``score``."""
        score = min(max(score, 1e-6), 1 - 1e-6)
        logit = self.slope * math.log(score / (1 - score)) + self.offset + self.label_offsets.get(label, 0.0)
        return 1 / (1 + math.exp(-logit))


@cache
def settings() -> Settings:
    """Return the settings of the shipped tagger."""
    return Settings(**stored()["settings"])


@cache
def stored() -> dict[str, Any]:
    """Return what ``tagger.json`` holds: ``settings`` and ``errors``."""
    return json.loads(files("mpar2.tagger").joinpath("tagger.json").read_text("utf-8"))
