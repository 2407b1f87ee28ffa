"""Target embeddings of the small pair's audio frames.

The target of a frame is a vector of columns times a basis. The columns are those of the tiny pair
(``training.tiny.codes``), and two parts more: one digit of the event's times, and which of its four digits that is.
The digits alternate over the frames: seconds and tenths of the onset, seconds and tenths of the offset. The basis of a
class is the language model's own embedding of the class's words, that of a digit its token's embedding, so that a
pretrained model copies both as it copies text. All other columns have random directions orthogonal to these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from training.scenes.scene import Scene
from training.scenes.written import bare
from training.tiny import codes
from training.tiny.codes import DIGITS, LABELS, SLOTS

__all__ = ["fit_projection", "frame_basis", "frame_targets", "simulated_targets"]

_EXTRA = {"digit": DIGITS, "slot": SLOTS}
_AMPLITUDES = {"event": 0.9, "others": 0.4, "ordinal": 0.5, "onset": 0.2, "offset": 0.2, "most": 0.4, "digit": 0.9}
_AMPLITUDES["slot"] = 0.6


def frame_basis(model: Any, tokenizer: Any) -> np.ndarray:
    """Return the basis: the embedding of each column of :func:`frame_targets`, float32 (columns, text model's width).

    Args:
        model: with ``get_input_embeddings``; lengths are shares of the mean length of an embedding.
        tokenizer: of the model; it writes the digits 0 to 9 as one token each.

    Raises:
        ValueError: where the model is narrower than there are columns.
    """
    embeddings = model.get_input_embeddings().weight.detach().float().numpy()
    classes = np.stack([embeddings[tokenizer(" " + bare(label)).input_ids].mean(0) for label in LABELS])
    digits = embeddings[[tokenizer(str(digit)).input_ids[-1] for digit in range(10)]]
    words = np.concatenate([classes - classes.mean(0), digits - digits.mean(0)])
    sizes = {**codes.PARTS, **_EXTRA}
    if embeddings.shape[1] < sum(sizes.values()):
        raise ValueError(
            f"a target has {sum(sizes.values())} columns, the model is {embeddings.shape[1]} wide: take a wider model"
        )
    square = np.random.default_rng(0).standard_normal((embeddings.shape[1], sum(sizes.values())))
    basis = np.linalg.qr(square)[0].T
    basis -= basis @ np.linalg.pinv(words) @ words  # all other columns are orthogonal to the words
    ends = np.cumsum(list(sizes.values()))
    starts = dict(zip(sizes, ends - list(sizes.values()), strict=True))
    basis[starts["event"] : starts["event"] + len(LABELS)] = words[: len(LABELS)]
    basis[starts["digit"] : starts["digit"] + 10] = words[len(LABELS) :]
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    length = np.linalg.norm(embeddings, axis=1).mean()
    amplitudes = np.repeat([_AMPLITUDES[part] for part in sizes], list(sizes.values()))[:, None]
    return (length * amplitudes * basis).astype(np.float32)


def frame_targets(scene: Scene, n: int) -> np.ndarray:
    """Return the exact targets of ``n`` frames of a scene, float32 (n, columns)."""
    return np.concatenate([codes.frame_codes(scene, n), _digits(scene, scene, n, np.ones(len(scene.events)))], 1)


def simulated_targets(scene: Scene, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return targets of a scene that has no audio, with errors like a tower's, float32 (n, columns)."""
    shift = rng.normal(0, 0.06, (len(scene.events), 2))
    moved = tuple(
        replace(e, onset_s=float(np.clip(e.onset_s + a, 0, 9.9)), offset_s=float(np.clip(e.offset_s + b, 0, 10)))
        for e, (a, b) in zip(scene.events, shift, strict=True)
    )
    said = codes.simulated(scene, n, rng, shift)
    digits = _digits(scene, replace(scene, events=moved), n, rng.uniform(0.4, 1, len(moved)))
    digits += rng.uniform(0.02, 0.12) * rng.standard_normal(digits.shape, np.float32)
    return np.concatenate([said, digits], 1).astype(np.float32)


def _digits(scene: Scene, said: Scene, n: int, certain: np.ndarray) -> np.ndarray:
    """Digit and slot columns: the digits of ``said`` in the frames of ``scene``; doubt goes to the neighbours."""
    rows = np.zeros((n, DIGITS + SLOTS), np.float32)
    turns = codes.slots(n)
    events = zip(said.events, codes.spans(scene, n), certain, strict=True)
    for event, (start, stop), sure in events:
        rows[start:stop] = 0  # a later event comes in front
        digits = codes.event_digits(event)
        for frame in range(start, stop):
            slot = turns[frame]
            rows[frame, digits[slot]] = sure
            for near in (digits[slot] - 1, digits[slot] + 1):
                near = near % 10 if slot % 2 else min(max(near, 0), DIGITS - 1)  # tenths go round
                rows[frame, near] += (1 - sure) / 2
            rows[frame, DIGITS + slot] = 1
    return rows


def fit_projection(
    projection: torch.nn.Linear, basis: np.ndarray, pooled: np.ndarray, counts: np.ndarray, scenes: list[Scene]
) -> float:
    """Set the tower's projection to the ridge regression from its pooled outputs to the targets of their frames.

    Args:
        projection: of the tower; set in place.
        basis: of :func:`frame_basis`.
        pooled: (scenes, frames, d).
        counts: (scenes,) valid frames of 40 ms.
        scenes: the events of each.

    Returns:
        The share of the targets' variance that the regression explains.
    """
    rows, targets = [], []
    for scene, frames, n in zip(scenes, pooled, counts.tolist(), strict=True):
        kept = slice(None, n, 3)  # every slot is among them
        rows.append(frames[kept].astype(np.float32))
        targets.append(frame_targets(scene, n)[kept])
    x = torch.from_numpy(np.concatenate(rows))
    y = torch.from_numpy(np.concatenate(targets))
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    weights = torch.linalg.solve(x.T @ x + 30 * torch.eye(x.shape[1]), x.T @ y)
    explained = 1 - float(((x @ weights - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())
    weights = weights @ torch.from_numpy(basis)
    projection.weight.data.copy_(weights[:-1].T)
    projection.bias.data.copy_(weights[-1])
    return explained
