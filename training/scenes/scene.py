"""A scene: an audio clip whose events are known exactly, because it was put together from them.

Times are seconds from the start of the clip, intervals half-open; ``level_db`` is the RMS level of the event in the
mix, in dB relative to full scale, so that "loudest" has an exact truth.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpar2.question import Event

__all__ = ["Scene", "SceneEvent"]


@dataclass(frozen=True)
class SceneEvent:
    """One placed sound. ``label`` is a key of ``CLASSES``; ``source`` names the recording or synthesiser."""

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
        """Return the event as the rest of the package knows it."""
        return Event(self.label, round(self.onset_s, 2), round(self.offset_s, 2))


@dataclass(frozen=True)
class Scene:
    """Events in order of onset, the length of the clip (s), and the seed that rebuilds it."""

    seed: int
    split: str  # train, validation, test
    seconds: float
    events: tuple[SceneEvent, ...]
    background: str
