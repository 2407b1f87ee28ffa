"""What a tower hears, read without a language model: ``python -m training.small ears WORK``.

A ridge regression from the tower's pooled outputs to the codes of ``training.tiny.codes``, fitted on the training
scenes, is read as events (``read_codes``). Any two towers are compared by it on the same scenes of recordings that
neither of them was trained on, whatever codes and classes they were trained with.

An event is right as for CAFE: its class, its onset within 0.5 s, its offset within the larger of 0.5 s and 20 % of its
length; it is *named* right by its class alone. ``clip`` asks only which classes there are in the clip.
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
from training.tiny.tower import _hits, make_tower, pooled_outputs

__all__ = [
    "compare_towers",
    "fit_readout",
    "heard_events",
    "load_tower_of",
    "measure_ears",
    "scores_table",
    "weights_of",
]

TINY_CLASSES = 24  # of the tiny pair: the first of all classes

Heard = tuple[str, float, float]  # label, onset and offset in seconds


def fit_readout(pooled: Sequence[np.ndarray], scenes: Sequence[Scene], ridge: float = 30.0) -> torch.Tensor:
    """Weights (d + 1, columns) from pooled outputs, (frames, d) for each scene, to the codes of their frames."""
    rows = torch.cat([torch.from_numpy(clip.astype(np.float32)) for clip in pooled])
    codes = [frame_codes(scene, len(clip)) for scene, clip in zip(scenes, pooled, strict=True)]
    targets = torch.from_numpy(np.concatenate(codes))
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    return torch.linalg.solve(rows.T @ rows + ridge * torch.eye(rows.shape[1]), rows.T @ targets)


def heard_events(pooled: np.ndarray, readout: torch.Tensor) -> list[Heard]:
    """Return the events of one clip, (frames, d)."""
    rows = torch.from_numpy(pooled.astype(np.float32))
    return read_codes((torch.cat([rows, torch.ones(len(rows), 1)], 1) @ readout).numpy())


def measure_ears(heard: Sequence[Sequence[Heard]], scenes: Sequence[Scene], labels: Collection[str] = LABELS) -> dict:
    """Counts of right, false and missed by class and scene, over the classes ``labels``.

    Returns:
        ``event``, ``named``, ``clip``: each {f1, precision, recall} as ``Interval`` (95 %, over scenes), and
        ``by_class`` {label: (recall, precision, events)} of ``named``.
    """
    kinds = {kind: np.zeros((len(scenes), 3)) for kind in ("event", "named", "clip")}
    by_class = {label: np.zeros(3) for label in labels}
    for i, (guesses, scene) in enumerate(zip(heard, scenes, strict=True)):
        said = [guess for guess in guesses if guess[0] in labels]
        true = [event for event in scene.events if event.label in labels]
        for kind, timed in (("event", True), ("named", False)):
            hits = _hits(true, said, timed)
            kinds[kind][i] = hits, len(said) - hits, len(true) - hits
        a, b = {guess[0] for guess in said}, {event.label for event in true}
        kinds["clip"][i] = len(a & b), len(a - b), len(b - a)
        for label in a | b:
            mine = [event for event in true if event.label == label]
            ours = [guess for guess in said if guess[0] == label]
            hits = _hits(mine, ours, False)
            by_class[label] += hits, len(ours) - hits, len(mine) - hits
    found: dict = {}
    for kind, counts in kinds.items():
        hit, false, missed = counts.T
        groups = list(range(len(scenes)))
        found[kind] = {
            "f1": bootstrap_interval(2 * hit, 2 * hit + false + missed, groups=groups),
            "precision": bootstrap_interval(hit, hit + false, groups=groups),
            "recall": bootstrap_interval(hit, hit + missed, groups=groups),
        }
    found["by_class"] = {
        label: (hit / max(hit + missed, 1), hit / max(hit + false, 1), int(hit + missed))
        for label, (hit, false, missed) in by_class.items()
    }
    return found


def load_tower_of(folder: Path, width: int = WIDTH):
    """Return the tower of a checkpoint, of a training (``tower.safetensors``) or of packed rows, with a new projection.

    Raises ``FileNotFoundError`` where the folder holds none, ``ValueError`` where a weight is missing.
    """
    state = weights_of(folder)
    kept = {re.sub(r"^.*?(audio_)?tower\.", "", k): v.float() for k, v in state.items() if "tower." in k}
    layers = 1 + max(int(match[1]) for match in map(re.compile(r"layers\.(\d+)\.").match, kept) if match)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = make_tower(width, layers)
    new = ("proj.", "audio_bos_eos_token")  # of the language model's width
    kept = {name: value for name, value in kept.items() if not name.startswith(new)}
    missing = tower.load_state_dict(kept, strict=False).missing_keys
    if left := [name for name in missing if not name.startswith(new)]:
        raise ValueError(f"{folder} lacks {', '.join(left)}: its tower has another shape")
    return tower.eval()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint, of a tower's training or of packed rows, by name.

    Raises ``FileNotFoundError`` where the folder holds none.
    """
    for name in ("tower.safetensors", "model.safetensors"):
        if (folder / name).exists():
            return load_file(folder / name)
    return read_rows(folder)


def compare_towers(features: Path, towers: Mapping[str, Path], out: Path, most: int = 1200) -> str:
    """Read each tower on the validation scenes; a table, and ``out`` with the counts by class.

    The readout is fitted on the first ``most`` training scenes. Classes that the tiny pair's tower was trained on and
    those that are new stand in tables of their own.
    """
    held, scenes = load_scenes(features / "validation"), load_scenes(features / "train")[:most]
    parts: dict[str, dict] = {name: {} for name in ("all classes", "the first 24", "the others")}
    for name, folder in towers.items():
        tower = load_tower_of(folder)
        readout = fit_readout(pooled_outputs(tower, features / "train", most), scenes)
        heard = [heard_events(clip, readout) for clip in pooled_outputs(tower, features / "validation")]
        for part, labels in zip(parts, (LABELS, LABELS[:TINY_CLASSES], LABELS[TINY_CLASSES:]), strict=True):
            parts[part][name] = measure_ears(heard, held, labels)
    out.write_text(json.dumps(parts, indent=1))
    return "\n\n".join(f"{part}, {len(held)} scenes\n\n{scores_table(found)}" for part, found in parts.items())


def scores_table(found: dict[str, dict]) -> str:
    """Return a table of ``measure_ears`` by name, in Markdown."""
    lines = ["| tower | event F1 | named F1 | clip F1 | named precision | named recall |", "| --- " * 6 + "|"]
    for name, scores in found.items():
        cells = [scores["event"]["f1"], scores["named"]["f1"], scores["clip"]["f1"]]
        cells += [scores["named"]["precision"], scores["named"]["recall"]]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
