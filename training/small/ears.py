"""Events decoded from a tower without a language model: ``python -m training.small ears WORK``.

A ridge regression from the tower's pooled outputs to the codes of ``training.tiny.codes``, fitted on the training
scenes, is decoded into events (``read_codes``). It compares any two towers on the same scenes, whose recordings neither
was trained on, independently of the codes and classes of their training.

An event is correct as for CAFE: its class, its onset within 0.5 s, its offset within the larger of 0.5 s and 20 % of
its length. It is *named* correctly by its class alone. ``clip`` scores the set of classes in the clip.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from mpar2.engines.rows import read_rows
from mpar2.statistics import bootstrap_interval
from training.scenes.scene import Scene
from training.tiny.codes import LABELS, WIDTH, frame_codes, read_codes
from training.tiny.features import load_scenes
from training.tiny.tower import count_hits, make_tower, pooled_outputs

__all__ = [
    "compare_towers",
    "fit_readout",
    "heard_events",
    "load_tower_of",
    "measure_ears",
    "scores_table",
    "weights_of",
]

TINY_CLASSES = 24  # the tiny pair's classes are the first of all classes

Prediction = tuple[str, float, float]  # label, onset and offset in seconds


def fit_readout(pooled: Sequence[np.ndarray], scenes: Sequence[Scene], ridge: float = 30.0) -> torch.Tensor:
    """Fit a ridge regression from pooled outputs to the codes of their frames.

    Args:
        pooled: Pooled outputs of each scene, (frames, d).
        scenes: The scenes.
        ridge: Weight of the penalty.

    Returns:
        Weights (d + 1, columns); the last row is the bias.
    """
    rows = torch.cat([torch.from_numpy(clip.astype(np.float32)) for clip in pooled])
    codes = [frame_codes(scene, len(clip)) for scene, clip in zip(scenes, pooled, strict=True)]
    targets = torch.from_numpy(np.concatenate(codes))
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    return torch.linalg.solve(rows.T @ rows + ridge * torch.eye(rows.shape[1]), rows.T @ targets)


def heard_events(pooled: np.ndarray, readout: torch.Tensor) -> list[Prediction]:
    """Return the events predicted for one clip.

    Args:
        pooled: Pooled outputs of the clip, (frames, d).
        readout: Weights of :func:`fit_readout`.
    """
    rows = torch.from_numpy(pooled.astype(np.float32))
    return read_codes((torch.cat([rows, torch.ones(len(rows), 1)], 1) @ readout).numpy())


def measure_ears(
    predictions: Sequence[Sequence[Prediction]], scenes: Sequence[Scene], labels: Collection[str] = LABELS
) -> dict:
    """Score predicted events against scenes.

    Args:
        predictions: Predicted events of each scene.
        scenes: The scenes.
        labels: Classes that are counted.

    Returns:
        ``event``, ``named``, ``clip``: each {f1, precision, recall} as ``Interval`` (95 %, over scenes), and
        ``by_class`` {label: (recall, precision, events)} of ``named``.
    """
    kinds = {kind: np.zeros((len(scenes), 3)) for kind in ("event", "named", "clip")}
    by_class = {label: np.zeros(3) for label in labels}
    for i, (clip_predictions, scene) in enumerate(zip(predictions, scenes, strict=True)):
        predicted = [prediction for prediction in clip_predictions if prediction[0] in labels]
        events = [event for event in scene.events if event.label in labels]
        for kind, timed in (("event", True), ("named", False)):
            hits = count_hits(events, predicted, timed)
            kinds[kind][i] = hits, len(predicted) - hits, len(events) - hits
        predicted_labels, true_labels = {prediction[0] for prediction in predicted}, {event.label for event in events}
        kinds["clip"][i] = (
            len(predicted_labels & true_labels),
            len(predicted_labels - true_labels),
            len(true_labels - predicted_labels),
        )
        for label in predicted_labels | true_labels:
            class_events = [event for event in events if event.label == label]
            class_predictions = [prediction for prediction in predicted if prediction[0] == label]
            hits = count_hits(class_events, class_predictions, False)
            by_class[label] += hits, len(class_predictions) - hits, len(class_events) - hits
    scores: dict = {}
    for kind, counts in kinds.items():
        tp, fp, fn = counts.T
        groups = list(range(len(scenes)))
        scores[kind] = {
            "f1": bootstrap_interval(2 * tp, 2 * tp + fp + fn, groups=groups),
            "precision": bootstrap_interval(tp, tp + fp, groups=groups),
            "recall": bootstrap_interval(tp, tp + fn, groups=groups),
        }
    scores["by_class"] = {
        label: (tp / max(tp + fn, 1), tp / max(tp + fp, 1), int(tp + fn)) for label, (tp, fp, fn) in by_class.items()
    }
    return scores


def load_tower_of(folder: Path, width: int = WIDTH):
    """Return the tower of a checkpoint, of a training (``tower.safetensors``) or of packed rows, with a new projection.

    Args:
        folder: The folder.
        width: Width of the projection's output.

    Raises:
        FileNotFoundError: The folder holds no tower.
        ValueError: A weight is missing.
    """
    state = weights_of(folder)
    weights = {re.sub(r"^.*?(audio_)?tower\.", "", k): v.float() for k, v in state.items() if "tower." in k}
    layers = 1 + max(int(match[1]) for match in map(re.compile(r"layers\.(\d+)\.").match, weights) if match)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = make_tower(width, layers)
    reset_prefixes = ("proj.", "audio_bos_eos_token")  # of the language model's width
    weights = {name: value for name, value in weights.items() if not name.startswith(reset_prefixes)}
    missing = tower.load_state_dict(weights, strict=False).missing_keys
    if absent := [name for name in missing if not name.startswith(reset_prefixes)]:
        raise ValueError(f"{folder} lacks {', '.join(absent)}: its tower has another shape")
    return tower.eval()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint, of a tower's training or of packed rows, by name.

    Raises:
        FileNotFoundError: The folder holds none.
    """
    for name in ("tower.safetensors", "model.safetensors"):
        if (folder / name).exists():
            return load_file(folder / name)
    return read_rows(folder)


def compare_towers(features: Path, towers: Mapping[str, Path], out: Path, most: int = 1200) -> str:
    """Score the events of each tower on the validation scenes.

    Classes of the tiny pair's tower and new classes have separate tables.

    Args:
        features: Rendered scenes, in ``train`` and ``validation``.
        towers: Folder of each tower by name.
        out: JSON file of the scores, with those by class.
        most: Number of training scenes that the readout is fitted on.

    Returns:
        The tables, in Markdown.
    """
    validation, scenes = load_scenes(features / "validation"), load_scenes(features / "train")[:most]
    results: dict[str, dict] = {name: {} for name in ("all classes", "the first 24", "the others")}
    for name, folder in towers.items():
        tower = load_tower_of(folder)
        readout = fit_readout(pooled_outputs(tower, features / "train", most), scenes)
        predictions = [heard_events(clip, readout) for clip in pooled_outputs(tower, features / "validation")]
        for group, labels in zip(results, (LABELS, LABELS[:TINY_CLASSES], LABELS[TINY_CLASSES:]), strict=True):
            results[group][name] = measure_ears(predictions, validation, labels)
    out.write_text(json.dumps(results, indent=1))
    return "\n\n".join(
        f"{group}, {len(validation)} scenes\n\n{scores_table(scores)}" for group, scores in results.items()
    )


def scores_table(scores_by_tower: dict[str, dict]) -> str:
    """Return the scores of each tower (``measure_ears``) as a Markdown table."""
    lines = ["| tower | event F1 | named F1 | clip F1 | named precision | named recall |", "| --- " * 6 + "|"]
    for name, scores in scores_by_tower.items():
        cells = [scores["event"]["f1"], scores["named"]["f1"], scores["clip"]["f1"]]
        cells += [scores["named"]["precision"], scores["named"]["recall"]]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
