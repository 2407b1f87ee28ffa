"""A scene: an audio clip with exactly known events, because it is composed of them.

Times are seconds from the start of the clip, intervals half-open. ``level_db`` is the RMS level of the event in the
mix, in dB relative to full scale, so that "loudest" is well defined.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpar2.question import Event

__all__ = ["Scene", "SceneEvent"]


@dataclass(frozen=True)
class SceneEvent:
    """One event. ``label`` is a key of ``CLASSES``; ``source`` names the recording or synthesiser."""

    label: str
    onset_s: float
    offset_s: float
    level_db: float
    source: str

    @property
    def duration_s(self) -> float:
        """Return the length in seconds."""
        return self.offset_s - self.onset_s

    def as_event(self) -> Event:
        """Return the event in the package's common type, with times rounded to 0.01 s."""
        return Event(self.label, round(self.onset_s, 2), round(self.offset_s, 2))


@dataclass(frozen=True)
class Scene:
    """Events in order of onset, the length of the clip (s), and the seed that reproduces it."""

    seed: int
    split: str  # train, validation, test
    seconds: float
    events: tuple[SceneEvent, ...]
    background: str
