"""Tagged events of a clip: scores every 80 ms, thresholds with hysteresis, calibrated confidences.

An event of a label starts where the label's score exceeds a threshold, and extends to both sides while the score
exceeds a lower threshold. Gaps of less than ``gap_s`` are closed, and events shorter than ``shortest_s`` are dropped.
The confidence is the share of right events with such a score and label on recordings of the validation split
(``tagger.json``). Events with a confidence of at least ``sure`` are sure, others of at least ``least`` are unsure. The
label of a family ("music") is dropped where a more specific event of the family overlaps.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np

from mpar2.audio import Clip
from mpar2.cafe.schema import Truth
from mpar2.question import Event
from mpar2.tagger.names import GENERAL, label_families, label_members
from mpar2.tagger.profile import EventSettings, settings
from mpar2.threads import in_own_thread

if TYPE_CHECKING:
    from mpar2.tagger.model import TaggerNet

__all__ = ["FRAME_S", "ORIGIN", "TaggedEvent", "Tagging", "events_of", "frame_scores", "tag"]

#: origin of truths by the tagger
ORIGIN = "tagger"
FRAME_S = 0.08  # hop of the scores
_MIN_FRAMES = 256  # mel frames; shorter clips are padded with silence, as in training
_LEVEL_RANGE = 3.2  # log10 of power below the loudest frame
_SILENCE_PEAK = 2e-4  # peak, -74 dB full scale: nothing is tagged below


@dataclass(frozen=True)
class TaggedEvent(Event):
    """A predicted event. Times are seconds within the clip; ``confidence`` is in [0, 1]."""

    confidence: float = 0.0


@dataclass(frozen=True)
class Tagging:
    """The predicted events of a clip of ``seconds``, in order of onset, with the unsure ones apart."""

    events: tuple[TaggedEvent, ...]
    unsure: tuple[TaggedEvent, ...]
    seconds: float

    def truth(self) -> Truth:
        """Return the events as a truth for CAFE, with their origin and the unsure events."""
        return Truth(events=self.events, origin=ORIGIN, unsure=self.unsure)


def tag(clip: Clip) -> Tagging:
    """Return the events and unsure events of a clip, with times within it. Silence has none."""
    events = events_of(frame_scores(clip), clip.seconds, settings())
    sure = settings().sure
    sure_events = tuple(event for event in events if event.confidence >= sure)
    return Tagging(sure_events, tuple(event for event in events if event.confidence < sure), clip.seconds)


def frame_scores(clip: Clip, net: TaggerNet | None = None) -> np.ndarray:
    """Score every AudioSet name along a clip.

    Args:
        clip: Clip, mono at 16 kHz.
        net: Network; None takes the shipped weights.

    Returns:
        (frames, 521) in [0, 1], one frame every 80 ms; zeros for silence.
    """
    frames = max(1, math.ceil(clip.seconds / FRAME_S))
    if float(np.abs(clip.samples).max(initial=0.0)) < _SILENCE_PEAK:
        return np.zeros((frames, 521), np.float32)
    return in_own_thread(_frame_scores, clip, frames, net or _net())


def _frame_scores(clip: Clip, frames: int, net: TaggerNet) -> np.ndarray:
    import torch

    from mpar2.tagger.model import FLOOR, STRIDE, log_mel, power_spectrum

    with torch.inference_mode():
        mel = log_mel(power_spectrum(torch.from_numpy(clip.samples.copy())))
        length = max(_MIN_FRAMES, STRIDE * frames, STRIDE * math.ceil(len(mel) / STRIDE))
        mel = torch.nn.functional.pad(mel, (0, 0, 0, length - len(mel)), value=math.log10(FLOOR))
        scores = torch.sigmoid(net(mel[None])[0, :frames])
        # The noise floor of a recording resembles static or rain, so frames far below the loudest one are not tagged.
        level = (10.0**mel).sum(1).reshape(-1, STRIDE).amax(1)[:frames].log10()
        return (scores * (level > level.max() - _LEVEL_RANGE)[:, None]).numpy()


def events_of(scores: np.ndarray, seconds: float, event_settings: EventSettings) -> list[TaggedEvent]:
    """Decode events from scores.

    Args:
        scores: (frames, 521), from :func:`frame_scores`.
        seconds: Duration of the clip.
        event_settings: Thresholds, and the map from a score to a confidence.

    Returns:
        Events in order of onset, including unsure ones.
    """
    events: list[TaggedEvent] = []
    for label, members in label_members().items():
        track = scores[:, list(members)].max(axis=1)
        if track.max(initial=0.0) < event_settings.threshold:
            continue
        for start, stop in _runs(track, event_settings):
            onset, offset = round(start * FRAME_S, 2), round(min(stop * FRAME_S, seconds), 2)
            if offset > onset and (stop - start) * FRAME_S >= min(event_settings.shortest_s, seconds) - 1e-9:
                confidence = round(event_settings.confidence(float(track[start:stop].max()), label), 3)
                if confidence >= event_settings.least:
                    events.append(TaggedEvent(label, onset, min(offset, seconds), confidence))
    return sorted(_drop_families(events), key=lambda event: (event.onset_s, -event.confidence))


def _runs(track: np.ndarray, event_settings: EventSettings) -> Iterator[tuple[int, int]]:
    """Yield half-open runs of frames above the lower threshold with a peak above the higher one.

    Runs with a short gap are joined. The lower threshold is relative to the peak of the run, so that a loud event does
    not include its echo.
    """
    above = np.flatnonzero(track >= event_settings.threshold * event_settings.stay)
    if not len(above):
        return
    breaks = np.flatnonzero(np.diff(above) > 1 + event_settings.gap_s / FRAME_S)
    for run in np.split(above, breaks + 1):
        start, stop = int(run[0]), int(run[-1]) + 1
        peak = track[start:stop].max()
        if peak < event_settings.threshold:
            continue
        inside = np.flatnonzero(track[start:stop] >= max(event_settings.threshold, peak) * event_settings.stay)
        for part in np.split(inside, np.flatnonzero(np.diff(inside) > 1 + event_settings.gap_s / FRAME_S) + 1):
            first, last = start + int(part[0]), start + int(part[-1]) + 1
            if track[first:last].max() >= event_settings.threshold:
                yield first, last


def _drop_families(events: list[TaggedEvent]) -> list[TaggedEvent]:
    """Drop events of a family label that overlap with a more specific event of the family."""
    families = label_families()
    named = [event for event in events if event.label not in GENERAL]
    return named + [
        event
        for event in events
        if event.label in GENERAL
        and not any(
            families.get(other.label) == GENERAL[event.label]
            and other.confidence >= 0.5 * event.confidence
            and min(event.offset_s, other.offset_s) > max(event.onset_s, other.onset_s)
            for other in named
        )
    ]


_load_lock = threading.Lock()


def _net() -> TaggerNet:
    with _load_lock:  # the app calls from several threads
        return _load()


@cache
def _load() -> TaggerNet:
    from safetensors.torch import load_file

    from mpar2.tagger.model import TaggerNet

    net = TaggerNet()
    with as_file(files("mpar2.tagger").joinpath("tagger.safetensors")) as path:
        weights = load_file(path)
    net.load_state_dict({name: w.float() if w.is_floating_point() else w for name, w in weights.items()})
    return net.eval()
