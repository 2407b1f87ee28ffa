"""Frame codes of the tiny pair: the vector target that the tower predicts and the text model reads.

The code of a 40 ms frame describes mainly the event in front, which is the latest to begin among those that sound:

| columns | meaning |
| --- | --- |
| classes | 1 at its class |
| classes | 1 at every other class that sounds in the frame |
| 5 | 1 at its place in the order of onsets |
| 10, 10 | its onset and its offset: sine and cosine of the time at periods of 20 to 1.25 s |
| 2 | 1 where it is the loudest, the longest event of the clip |

``BASIS`` maps a code to a vector of the text model's width by fixed orthonormal rows. The tower can therefore be
trained towards codes while the text model is trained on codes of the true events, in two parallel processes.
:func:`basis_in_words` returns the rows for a text model. A class has the direction of the model's own word for it, and
a place that of its digit, so that what the model learnt about words applies to sounds. :func:`simulated` simulates a
tower's output, with errors, for a scene that is not rendered.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

from mpar2.cafe.sound_classes import CLASSES
from training.scenes.scene import Scene

__all__ = [
    "BASIS",
    "FRAME_S",
    "LABELS",
    "MOST_EVENTS",
    "PARTS",
    "WIDTH",
    "basis_in_words",
    "columns_of",
    "event_codes",
    "frame_codes",
    "read_codes",
    "simulated",
    "spans",
]

FRAME_S = 0.04
WIDTH = 256
MOST_EVENTS = 5
LABELS = list(CLASSES)
_PERIODS_S = np.array([20.0, 10.0, 5.0, 2.5, 1.25])
PARTS = {  # name -> columns
    "event": len(LABELS),
    "others": len(LABELS),
    "ordinal": MOST_EVENTS,
    "onset": 2 * len(_PERIODS_S),
    "offset": 2 * len(_PERIODS_S),
    "most": 2,
}
_AMPLITUDES = {"event": 0.9, "others": 0.45, "ordinal": 0.45, "onset": 0.3, "offset": 0.3, "most": 0.45}
# A class is one column and a time ten: at equal amplitudes the text model learnt times long before classes.


_COLUMN_AMPLITUDES = np.repeat([_AMPLITUDES[part] for part in PARTS], list(PARTS.values()))[:, None]


def _basis() -> np.ndarray:
    matrix = np.random.default_rng(0).standard_normal((WIDTH, sum(PARTS.values())))
    return (_COLUMN_AMPLITUDES * np.linalg.qr(matrix)[0].T).astype(np.float32)


BASIS = _basis()  # (columns, WIDTH)


def basis_in_words(classes: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """Return ``BASIS`` with other rows for classes and places.

    Each word contributes its embedding minus the mean over its kind.

    Args:
        classes: A text model's embeddings of the words for ``LABELS``, (classes, WIDTH).
        digits: Its embeddings of 1, 2, …, (places, WIDTH).

    Returns:
        float32 (columns, WIDTH).
    """
    basis = BASIS / _COLUMN_AMPLITUDES
    columns = columns_of(np.arange(len(basis)))
    words = np.concatenate([classes - classes.mean(0), digits - digits.mean(0)])
    basis -= basis @ np.linalg.pinv(words) @ words  # all other rows are orthogonal to the words
    basis[np.concatenate([columns["event"], columns["ordinal"]])] = words
    return (_COLUMN_AMPLITUDES * basis / np.linalg.norm(basis, axis=1, keepdims=True)).astype(np.float32)


def _waves(seconds: float) -> np.ndarray:
    angle = 2 * np.pi * seconds / _PERIODS_S
    return np.concatenate([np.sin(angle), np.cos(angle)])


def event_codes(scene: Scene, shift_s: np.ndarray | None = None) -> np.ndarray:
    """Return the code of each event as the event in front, without other events: (events, columns).

    Args:
        scene: The scene.
        shift_s: Seconds by which onset and offset are moved, (events, 2); None moves none.
    """
    codes = np.zeros((len(scene.events), sum(PARTS.values())), np.float32)
    if not scene.events:
        return codes
    loudest = max(event.level_db for event in scene.events)
    longest = max(event.duration_s for event in scene.events)
    shift = np.zeros((len(scene.events), 2)) if shift_s is None else shift_s
    for place, event in enumerate(scene.events):
        row = columns_of(codes[place])
        row["event"][LABELS.index(event.label)] = 1
        row["ordinal"][min(place, MOST_EVENTS - 1)] = 1
        row["onset"][:] = _waves(event.onset_s + shift[place, 0])
        row["offset"][:] = _waves(event.offset_s + shift[place, 1])
        row["most"][:] = event.level_db == loudest, event.duration_s == longest
    return codes


def columns_of(code: np.ndarray) -> dict[str, np.ndarray]:
    """Return views of the named column groups of codes (…, columns)."""
    parts = np.split(code, np.cumsum(list(PARTS.values()))[:-1], axis=-1)
    return dict(zip(PARTS, parts, strict=True))


def spans(scene: Scene, n: int) -> list[tuple[int, int]]:
    """Return the first frame of each event and the frame after its last.

    Args:
        scene: The scene.
        n: Number of frames of the clip.
    """
    frame_spans = []
    for event in scene.events:
        start = min(round(event.onset_s / FRAME_S), n - 1)
        frame_spans.append((start, min(max(round(event.offset_s / FRAME_S), start + 1), n)))
    return frame_spans


def frame_codes(scene: Scene, n: int, codes: np.ndarray | None = None) -> np.ndarray:
    """Return the code of each frame: float32 (n, columns), zeros where nothing sounds.

    Args:
        scene: The scene.
        n: Number of frames.
        codes: Codes of the events, (events, columns); None uses :func:`event_codes`.
    """
    codes = event_codes(scene) if codes is None else codes
    frames = np.zeros((n, codes.shape[1]), np.float32)
    sounding = np.zeros((n, len(LABELS)), np.float32)
    for code, (start, stop) in zip(codes, spans(scene, n), strict=True):  # in order of onset: a later event is in front
        frames[start:stop] = code
        classes = columns_of(code)["event"]
        sounding[start:stop] = np.maximum(sounding[start:stop], classes)
    row = columns_of(frames)
    row["others"][:] = np.clip(sounding - row["event"], 0, 1)
    return frames


def read_codes(codes: np.ndarray) -> list[tuple[str, float, float]]:
    """Decode the codes (frames, columns) of one clip into events: label, onset and offset in seconds.

    Frames with an event in front are grouped by its ordinal. The sum of a group's codes gives class and times.
    """
    row = columns_of(codes)
    ordinals = row["ordinal"].argmax(1)
    active = row["event"].max(1) > 0.4
    grid = np.arange(0, 10.01, 0.05)
    waves = np.stack([_waves(t) for t in grid], 1)  # (columns, times)
    events = []
    for k in range(MOST_EVENTS):
        rows = active & (ordinals == k)
        if rows.sum() >= 3 and row["event"][rows].mean(0).max() > 0.4:  # noise has another class in each frame
            times = (float(grid[(row[part][rows].sum(0) @ waves).argmax()]) for part in ("onset", "offset"))
            events.append((LABELS[int(row["event"][rows].sum(0).argmax())], *times))
    return events


def simulated(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    """Simulate a tower's output for a scene, (n, columns): times off by tenths of a second, uncertain classes, noise.

    Args:
        scene: The scene.
        n: Number of frames.
        rng: Draws the errors.
    """
    codes = event_codes(scene, rng.normal(0, 0.08, (len(scene.events), 2)))
    classes = columns_of(codes)["event"]
    for row in classes:  # a view: less than half of the score moves to another class
        doubt = rng.uniform(0, 0.45) if rng.random() < 0.35 else rng.uniform(0, 0.1)
        row *= 1 - doubt
        row[rng.integers(len(LABELS))] += doubt * rng.uniform(0.3, 1)
    frames = frame_codes(scene, n, codes)
    row = columns_of(frames)
    row["others"] *= rng.uniform(0.2, 1)
    row["most"] *= rng.uniform(0.5, 1)
    frames = rng.uniform(0.8, 1.1) * uniform_filter1d(frames, 3, axis=0)
    return frames + rng.uniform(0.03, 0.15) * rng.standard_normal(frames.shape, np.float32)
