"""Target embeddings of the small pair's audio frames.

The target of a frame is a vector of columns times a basis. The columns: the class of the event in front, the other
classes that sound, the event's place in order of onset, whether it is the loudest or the longest, and its onset and
offset as four digits (seconds and tenths of each). The basis of a class is the language model's own embedding of the
class's words, that of a place its digit's embedding, so that a pretrained model copies both as it copies text. Seconds
have the digit's embedding plus a direction that distinguishes onset from offset. All other columns have random
directions orthogonal to these. Every frame of an event has all four digits. Frames cannot alternate between them,
because after the lower layers of a tower a frame's own place in the clip is known to a second at best.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from training.scenes.scene import Scene, SceneEvent
from training.scenes.written import bare
from training.tiny import codes
from training.tiny.codes import LABELS, MOST_EVENTS

__all__ = [
    "COLUMNS",
    "DIGITS",
    "TIMES",
    "columns_of",
    "event_digits",
    "frame_basis",
    "frame_targets",
    "simulated_targets",
]

TIMES = 4  # seconds and tenths of the onset, seconds and tenths of the offset
DIGITS = 11  # a tenth is 0 to 9; the seconds of a clip of 10 s reach 10
COLUMNS = {"event": len(LABELS), "others": len(LABELS), "ordinal": MOST_EVENTS, "most": 2, "times": TIMES * DIGITS}
_AMPLITUDES = {"event": 0.9, "others": 0.4, "ordinal": 0.5, "most": 0.4, "times": 0.5}
_SECONDS = 0, 2  # which of the times
_OWN, _ROLE = 1.2, 0.6  # lengths of a second's two directions, in the amplitude of times


def columns_of(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return views of the named column groups of ``rows`` (frames, columns); ``times`` as (frames, TIMES, DIGITS)."""
    parts = dict(zip(COLUMNS, np.split(rows, np.cumsum(list(COLUMNS.values()))[:-1], axis=-1), strict=True))
    return parts | {"times": parts["times"].reshape(len(rows), TIMES, DIGITS)}


def event_digits(event: SceneEvent) -> tuple[int, ...]:
    """Return the digits of an event's times as they are written: seconds and tenths of its onset and of its offset."""
    times = (f"{seconds:.1f}".split(".") for seconds in (event.onset_s, event.offset_s))
    return tuple(part for seconds, tenths in times for part in (min(int(seconds), DIGITS - 1), int(tenths)))


def frame_basis(model: Any, tokenizer: Any) -> np.ndarray:
    """Return the basis: the embedding of each column of :func:`frame_targets`, float32 (columns, text model's width).

    Args:
        model: Model with ``get_input_embeddings``; lengths are relative to the mean length of an embedding.
        tokenizer: Its tokenizer, which encodes the digits 0 to 9 as one token each.

    Raises:
        ValueError: The model is narrower than the number of columns.
    """
    embeddings = model.get_input_embeddings().weight.detach().float().numpy()
    count = sum(COLUMNS.values())
    if embeddings.shape[1] < count:
        raise ValueError(f"a target has {count} columns, the model is {embeddings.shape[1]} wide: take a wider model")
    classes = np.stack([embeddings[tokenizer(" " + bare(label)).input_ids].mean(0) for label in LABELS])
    digits = embeddings[[tokenizer(str(digit)).input_ids[-1] for digit in range(10)]]
    places = digits[1 : MOST_EVENTS + 1]
    words = np.concatenate([classes - classes.mean(0), places - places.mean(0)])
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((embeddings.shape[1], count)))[0].T
    basis -= basis @ np.linalg.pinv(words) @ words  # all other columns are orthogonal to the words
    basis[: len(LABELS)] = words[: len(LABELS)]
    basis[2 * len(LABELS) : 2 * len(LABELS) + MOST_EVENTS] = words[len(LABELS) :]
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    digit_directions = (digits - digits.mean(0))[[*range(10), 1]]  # 10 uses its first digit
    digit_directions /= np.linalg.norm(digit_directions, axis=1, keepdims=True)
    for position in _SECONDS:
        rows = slice(count - (TIMES - position) * DIGITS, count - (TIMES - position - 1) * DIGITS)
        basis[rows] = _OWN * digit_directions + _ROLE * basis[rows]
    length = np.linalg.norm(embeddings, axis=1).mean()
    amplitudes = np.repeat([_AMPLITUDES[part] for part in COLUMNS], list(COLUMNS.values()))[:, None]
    return (length * amplitudes * basis).astype(np.float32)


def frame_targets(scene: Scene, n: int) -> np.ndarray:
    """Return the exact targets of ``n`` frames of a scene, float32 (n, columns)."""
    rows = np.zeros((n, sum(COLUMNS.values())), np.float32)
    parts, event_columns = columns_of(rows), codes.columns_of(codes.frame_codes(scene, n))
    for name in ("event", "others", "ordinal", "most"):
        parts[name][:] = event_columns[name]
    for event, (start, stop) in zip(scene.events, codes.spans(scene, n), strict=True):
        parts["times"][start:stop] = np.eye(DIGITS)[list(event_digits(event))]  # a later event is in front
    return rows


def simulated_targets(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    """Simulate a tower's output for a scene that has no audio, float32 (n, columns).

    A part of an event's score moves to another class, and a part of each digit's score to its neighbours. The shares
    are chosen so that frames are about as accurate as those of the shipped tower: nine of ten seconds right, two of
    five tenths.

    Args:
        scene: The scene.
        n: Number of frames.
        rng: Draws the errors.
    """
    rows = frame_targets(scene, n)
    parts = columns_of(rows)
    parts["others"][:] *= rng.uniform(0.2, 1)
    parts["most"][:] *= rng.uniform(0.4, 1)
    for event, (start, stop) in zip(scene.events, codes.spans(scene, n), strict=True):
        confidence = rng.uniform(0.55, 1) if rng.random() < 0.4 else 1.0
        parts["event"][start:stop, LABELS.index(event.label)] *= confidence
        parts["event"][start:stop, rng.integers(len(LABELS))] += (1 - confidence) * rng.uniform(0.3, 1)
        for position, digit in enumerate(event_digits(event)):
            parts["times"][start:stop, position] = _blurred_digit(digit, position % 2 == 1, rng)
    return (rng.uniform(0.8, 1.1) * rows + rng.uniform(0.03, 0.12) * rng.standard_normal(rows.shape)).astype(np.float32)


def _blurred_digit(digit: int, tenth: bool, rng: np.random.Generator) -> np.ndarray:
    """Return the score of each digit, (DIGITS,), where ``digit`` is the true value."""
    scores = np.zeros(DIGITS)
    confidence = rng.uniform(0.15, 0.6) if tenth else rng.uniform(0.4, 0.95)
    scores[digit] = confidence
    for neighbour in (digit - 1, digit + 1):
        neighbour = neighbour % 10 if tenth else min(max(neighbour, 0), DIGITS - 1)  # tenths wrap around
        scores[neighbour] += (1 - confidence) / 2 * rng.uniform(0.5, 1)
    if tenth:
        scores[:10] += (1 - confidence) / 12
    return scores
