"""Train the upper layers of a tower to predict events and their times in every frame: ``train_times``.

A layer is added on top of a trained tower. It and the layer below are trained on the targets of
``training.small.frames.frame_targets``, by the squared error of a linear readout and the cross-entropy of a linear head
beside it. The lower layers are frozen; their outputs are computed once. The readout times the basis becomes the tower's
projection. A stopped training starts again from the beginning.

The previous tower encodes the times of an event as sines, which a language model decodes to about a second. Digits can
be copied.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from training.scenes.scene import Scene
from training.small.ears import load_tower_of, weights_of
from training.small.frames import COLUMNS, DIGITS, TIMES, columns_of, event_digits, frame_targets
from training.tiny.codes import LABELS, MOST_EVENTS, spans
from training.tiny.tower import (
    _NONE,
    SceneData,
    TowerOptimizers,
    count_hits,
    f1_of,
    fast_autocast,
    frame_labels,
    keep_pooled,
    lower_layers,
    upper_layers,
)

__all__ = ["HEAD", "events_of", "evaluate_times", "frame_digits", "loss_of", "set_projection", "train_times"]

HEAD = {"sounds": len(LABELS), "event": len(LABELS) + 1, "ordinal": MOST_EVENTS, "times": TIMES * DIGITS}
_WEIGHTS = {"event": 6.0, "others": 2.0, "ordinal": 4.0, "most": 1.0}  # of the squared error
_TIME_WEIGHTS = (4.0, 2.0, 4.0, 2.0)  # seconds and tenths, of the onset and of the offset


class _CachedScenes:
    """Rendered scenes, the outputs of the frozen layers for them, and the targets of their frames."""

    def __init__(self, folder: Path, tower: Any, frozen: int):
        self.data = SceneData(folder)
        self.scenes, self.counts = self.data.scenes, self.data.frames // 4
        self._tower, self._frozen = tower, frozen
        self._hidden = torch.zeros(len(self.counts), tower.n_window, tower.config.d_model, dtype=torch.bfloat16)
        with torch.no_grad(), fast_autocast():
            for rows in np.array_split(np.arange(len(self.counts)), math.ceil(len(self.counts) / 16)):
                hidden, _ = lower_layers(tower, *self.data.features(rows), frozen)
                self._hidden[rows, : hidden.shape[1]] = hidden.to(torch.bfloat16)

    def pooled(self, rows: np.ndarray, noise: float = 0.0) -> torch.Tensor:
        """Return the input of readout and head for the frames of the scenes ``rows``, concatenated: (frames, d)."""
        frames = torch.from_numpy(self.data.frames[rows])
        hidden = self._hidden[rows, : 2 * int(frames.max() // 4)].float()
        with fast_autocast():
            return upper_layers(
                self._tower, hidden + noise * hidden.std() * torch.randn_like(hidden), frames, self._frozen
            )

    def truth(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return targets (frames, columns) and labels (frames, classes + 2 + TIMES) of the same frames."""
        clips = [(self.scenes[row], int(self.counts[row])) for row in rows]
        targets = np.concatenate([frame_targets(scene, n) for scene, n in clips])
        labels = np.concatenate([frame_digits(scene, n) for scene, n in clips])
        return torch.from_numpy(targets), torch.from_numpy(labels).long()


def frame_digits(scene: Scene, n: int) -> np.ndarray:
    """Return ``frame_labels`` and the four digits of the event in front (``-100`` where no event sounds)."""
    digits = np.full((n, TIMES), _NONE, np.int16)
    for event, (start, stop) in zip(scene.events, spans(scene, n), strict=True):
        digits[start:stop] = event_digits(event)
    return np.concatenate([frame_labels(scene, n), digits], 1)


def loss_of(outputs: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    sounds, event, ordinal, times = logits.split(list(HEAD.values()), 1)
    active, classes, ordinals, digits = labels.split([len(LABELS), 1, 1, TIMES], 1)
    weights = torch.cat(
        [torch.full((COLUMNS[part],), weight) for part, weight in _WEIGHTS.items()]
        + [torch.full((DIGITS,), weight) for weight in _TIME_WEIGHTS]
    )
    loss = 4 * functional.binary_cross_entropy_with_logits(sounds, active.float(), pos_weight=torch.tensor(2.0))
    loss = loss + functional.cross_entropy(event, classes[:, 0])
    loss = loss + functional.cross_entropy(ordinal, ordinals[:, 0], ignore_index=_NONE)
    for position, weight in enumerate(_TIME_WEIGHTS):
        part = times[:, position * DIGITS : (position + 1) * DIGITS]
        loss = loss + weight / 4 * functional.cross_entropy(part, digits[:, position], ignore_index=_NONE)
    return loss + (weights * (outputs - targets) ** 2).sum(1).mean()


def events_of(rows: np.ndarray) -> list[tuple[str, float, float]]:
    """Decode the predictions of one clip's frames into events: label, onset and offset in seconds.

    Frames with an event in front are grouped by its place. Their sum gives class and digits.

    Args:
        rows: Predictions, (frames, columns).
    """
    columns = columns_of(rows)
    active, ordinals = columns["event"].max(1) > 0.35, columns["ordinal"].argmax(1)
    events = []
    for k in range(MOST_EVENTS):
        frames = active & (ordinals == k)
        if frames.sum() >= 3:
            a, b, c, d = columns["times"][frames].sum(0).argmax(1)
            events.append((LABELS[int(columns["event"][frames].sum(0).argmax())], a + b / 10, c + d / 10))
    return events


@torch.no_grad()
def evaluate_times(data: _CachedScenes, readout: nn.Linear) -> dict:
    """Compute the event F1 and the F1 by class alone of ``events_of``, and the accuracy of each of the four digits.

    Args:
        data: The scenes.
        readout: The readout.

    Returns:
        ``event_f1``, ``named_f1``, and ``digits_right``, the share of frames for each digit.
    """
    event_counts, named_counts, digit_counts = np.zeros(3), np.zeros(3), np.zeros((TIMES, 2))
    for rows in np.array_split(np.arange(len(data.counts)), math.ceil(len(data.counts) / 16)):
        with fast_autocast():
            outputs = readout(data.pooled(rows)).float().numpy()
        labels = data.truth(rows)[1].numpy()[:, -TIMES:]
        sounding = labels[:, 0] != _NONE
        digits = columns_of(outputs)["times"].argmax(2)
        digit_counts += np.stack([(digits == labels)[sounding].sum(0), np.full(TIMES, sounding.sum())], 1)
        for row, clip in zip(rows, np.split(outputs, np.cumsum(data.counts[rows])[:-1]), strict=True):
            events, predictions = data.scenes[row].events, events_of(clip)
            for counts, timed in ((event_counts, True), (named_counts, False)):
                hits = count_hits(events, predictions, timed)
                counts += hits, len(predictions) - hits, len(events) - hits
    shares = (digit_counts[:, 0] / np.maximum(digit_counts[:, 1], 1)).round(3).tolist()
    return {"event_f1": f1_of(event_counts), "named_f1": f1_of(named_counts), "digits_right": shares}


def train_times(
    features: Path, start: Path, out: Path, *, minutes: float, lr: float = 4e-4, batch: int = 16, seed: int = 0
) -> dict:
    """Train the upper layers for a budget of minutes.

    Args:
        features: Folder of ``train`` and ``validation`` (``training.tiny.features``).
        start: The trained tower (``training.small.ears.load_tower_of``).
        out: Folder of ``tower.safetensors`` (tower and readout), ``log.jsonl`` and ``scores.json``. ``pooled.npy`` is
            written beside the training scenes.
        minutes: Minutes of processor time; the log gets a row after each tenth.
        lr: Peak learning rate.
        batch: Scenes of a step.
        seed: Seed of weights and order.

    Returns:
        The validation scores (:func:`evaluate_times`).
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    tower = load_tower_of(start)
    frozen = len(tower.layers) - 1
    data, validation = (_CachedScenes(features / split, tower, frozen) for split in ("train", "validation"))
    # The new layer starts as the identity, readout and head at zero.
    layer = copy.deepcopy(tower.layers[-1])
    for module in (layer.self_attn.out_proj, layer.fc2):
        nn.init.zeros_(module.weight), nn.init.zeros_(module.bias)
    tower.layers.append(layer)
    tower.config.encoder_layers = len(tower.layers)
    width = tower.config.d_model
    readout, head = nn.Linear(width, sum(COLUMNS.values())), nn.Linear(width, sum(HEAD.values()))
    for module in (readout, head):
        nn.init.zeros_(module.weight), nn.init.zeros_(module.bias)
    head.bias.data[: len(LABELS)] = -3.0  # most classes are silent in most frames
    optimizers = TowerOptimizers(tower, frozen, [*readout.parameters(), *head.parameters()], lr, weight_decay=0.02)
    # Noise on the frozen outputs regularises the few trained layers.
    step, next_row, order, begin = 0, 0.1, [], time.process_time()
    with open(out / "log.jsonl", "w") as log:
        while (share := (time.process_time() - begin) / (60 * minutes)) < 1:
            if len(order) < batch:
                order = data.data.order(batch, rng)
            rows = np.array([order.pop() for _ in range(batch)])
            pooled = data.pooled(rows, noise=0.1)
            with fast_autocast():
                outputs, logits = readout(pooled).float(), head(pooled).float()
            loss = loss_of(outputs, logits, *data.truth(rows))
            optimizers.minimize(loss, step, share)
            step += 1
            if share >= next_row:
                next_row += 0.1
                row = {"step": step, "seconds": round(time.process_time() - begin), "loss": round(loss.item(), 3)}
                log.write(json.dumps(row | evaluate_times(validation, readout)) + "\n")
                log.flush()
    state = {f"tower.{name}": value.contiguous() for name, value in tower.state_dict().items()}
    state |= {f"readout.{name}": value.contiguous() for name, value in readout.state_dict().items()}
    scores = {"steps": step, **evaluate_times(validation, readout)}
    keep_pooled(tower, features / "train")
    save_file(state, out / "tower.safetensors")
    (out / "scores.json").write_text(json.dumps(scores, indent=1))
    return scores


def set_projection(projection: nn.Linear, tower: Path, basis: np.ndarray) -> None:
    """Set a tower's projection to its readout (of ``train_times``) times ``basis``, in place.

    Args:
        projection: The projection of the tower in the pair.
        tower: The folder of :func:`train_times`, or its packed rows.
        basis: The basis of ``training.small.frames.frame_basis``, (columns, text model's width).
    """
    state = weights_of(tower)
    basis_rows = torch.from_numpy(basis)
    projection.weight.data.copy_((state["readout.weight"].float().T @ basis_rows).T)
    projection.bias.data.copy_(state["readout.bias"].float() @ basis_rows)
