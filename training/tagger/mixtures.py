"""Training mixtures of the tagger, generated on the fly from collected pieces.

A mixture is 2.56 s long: one to four pieces at levels of up to 12 dB apart, each with a random equaliser and shift in
frequency, over a noise floor, at a random overall level; or noise alone. Powers in mel bands add up as those of
uncorrelated sounds do, so no audio is rendered. The teacher does not score mixtures: the target of a window is its
highest score for any one piece alone, where it is more accurate.

Where the source of a piece determines its label, the label is a target in each frame (active: within 26 dB of the
piece's loudest frame), and the teacher's scores of other sounds are reduced.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpar2.tagger.model import BANDS, FLOOR, STRIDE
from mpar2.tagger.names import GENERAL, label_members
from training.tagger.labels import HELD_OUT, SourceLabel, find_label, tagger_label
from training.tagger.teacher import HOP_FRAMES, WINDOW_FRAMES

__all__ = ["FRAMES", "WINDOWS", "Mixtures", "Mixture", "Recording", "active_frames", "read_recordings"]

FRAMES = 256
WINDOWS = (FRAMES - WINDOW_FRAMES) // HOP_FRAMES + 1
_OUT = FRAMES // STRIDE
_ACTIVE_DECADES = 2.6
_DOUBT = 0.4  # of the teacher's scores of other sounds in a labelled piece


class Recording(NamedTuple):
    """A collected piece; ``label`` is the tagger's label or None."""

    source: str
    mel: np.ndarray  # (frames, 64) decades
    scores: np.ndarray  # (windows, 521)
    label: str | None


class Mixture(NamedTuple):
    """One example: the input and its targets."""

    mel: np.ndarray  # (256, 64)
    scores: np.ndarray  # (7, 521) targets of windows; not a number where there is none
    windows: np.ndarray  # (7,) bool, windows that have a target
    silent: np.ndarray  # (32,) bool, output frames in which no piece sounds
    frames: dict[str, tuple[np.ndarray, np.ndarray]]  # label -> (32,) target and mask of output frames


@dataclass
class Mixtures:
    """Recordings to mix, sampled evenly over labels, and over the teacher's top label for those without."""

    recordings: list[Recording]
    rng: np.random.Generator
    labelled_share: float = 0.6

    def __post_init__(self) -> None:
        self._members = label_members()
        self._group = np.full(521, -1)
        for number, (label, positions) in enumerate(self._members.items()):
            if label not in GENERAL:
                self._group[list(positions)] = number
        self._numbers = {label: number for number, label in enumerate(self._members)}
        by_label: dict[str, dict[str, list[int]]] = {}
        unlabelled: dict[int, list[int]] = {}
        for index, recording in enumerate(self.recordings):
            if recording.label is not None:
                package = recording.source.split("/")[0]
                by_label.setdefault(recording.label, {}).setdefault(package, []).append(index)
            top = recording.scores.max(axis=0) * (self._group >= 0)
            unlabelled.setdefault(int(top.argmax()), []).append(index)
        self._labelled = [list(packages.values()) for packages in by_label.values()]
        self._unlabelled = list(unlabelled.values())
        weights = np.sqrt([len(group) for group in self._unlabelled])
        self._unlabelled_weights = weights / weights.sum()

    def draw(self) -> Mixture:
        """Draw a mixture."""
        rng = self.rng
        power = np.zeros((FRAMES, BANDS), np.float32)
        scores, has_target = np.zeros((WINDOWS, 521), np.float32), np.ones(WINDOWS, bool)
        edges = np.arange(WINDOWS) * HOP_FRAMES
        spans: list[tuple[int, int]] = []
        placed: list[tuple[Recording, np.ndarray, int, np.ndarray]] = []
        for _ in range(int(rng.choice([0, 1, 2, 3, 4], p=[0.03, 0.47, 0.28, 0.15, 0.07]))):
            recording = self._pick()
            mel, targets, start = self._cut(recording)
            level = rng.uniform(-0.6, 0.6) - mel.max()
            piece_power = 10.0 ** (self._colour(mel) + level)
            power[start : start + len(mel)] += piece_power
            # Windows that overlap the piece in part, without a score of the teacher, have no target.
            first = start // HOP_FRAMES
            count = min(len(targets), WINDOWS - first)
            scored = np.zeros(WINDOWS, bool)
            scored[first : first + count] = True
            has_target &= scored | (edges + WINDOW_FRAMES <= start) | (edges >= start + len(mel))
            targets = self._discount_scores(recording, targets[:count])
            scores[first : first + count] = np.maximum(scores[first : first + count], targets)
            spans.append((start, start + len(mel)))
            placed.append((recording, mel, start, targets))
        for recording, mel, start, _ in placed:
            if recording.label is not None:  # the frame targets replace the window targets
                touched = (edges + WINDOW_FRAMES > start) & (edges < start + len(mel))
                scores[np.ix_(touched, self._members[recording.label])] = np.nan
        silent = np.ones(_OUT, bool)
        for start, stop in spans:
            silent[max(0, start // STRIDE - 2) : -(-stop // STRIDE) + 2] = False
        if not placed:
            scores[:] = 0
        return Mixture(self._finish(power), scores, has_target, silent, self._frames(placed))

    def _pick(self) -> Recording:
        rng = self.rng
        if self._labelled and rng.random() < self.labelled_share:
            packages = self._labelled[rng.integers(len(self._labelled))]
            weights = np.sqrt([min(len(group), 25) for group in packages])
            group = packages[rng.choice(len(packages), p=weights / weights.sum())]
        else:
            group = self._unlabelled[rng.choice(len(self._unlabelled), p=self._unlabelled_weights)]
        return self.recordings[group[rng.integers(len(group))]]

    def _cut(self, recording: Recording) -> tuple[np.ndarray, np.ndarray, int]:
        """Return mel frames, targets of the windows within them, and the first frame in the mixture."""
        length = len(recording.mel)
        if length > FRAMES:
            skip = int(self.rng.integers((length - FRAMES) // HOP_FRAMES + 1))
            mel = recording.mel[skip * HOP_FRAMES : skip * HOP_FRAMES + FRAMES]
            return mel.astype(np.float32), recording.scores[skip : skip + WINDOWS], 0
        start = int(self.rng.integers((FRAMES - length) // HOP_FRAMES + 1)) * HOP_FRAMES
        return recording.mel.astype(np.float32), recording.scores, start

    def _discount_scores(self, recording: Recording, targets: np.ndarray) -> np.ndarray:
        targets = targets.astype(np.float32)
        if recording.label is not None and recording.label not in GENERAL:
            other = (self._group >= 0) & (self._group != self._numbers[recording.label])
            targets[:, other] *= _DOUBT
        return targets

    def _colour(self, mel: np.ndarray) -> np.ndarray:
        """Apply a smooth equaliser curve of up to 8 dB and a shift by up to three bands."""
        rng = self.rng
        curve = np.interp(np.arange(BANDS), np.linspace(0, BANDS - 1, 6), rng.uniform(-0.8, 0.8, 6))
        shift = int(rng.integers(-3, 4)) if rng.random() < 0.4 else 0
        if shift > 0:
            mel = np.concatenate([np.repeat(mel[:, :1], shift, 1), mel[:, :-shift]], axis=1)
        elif shift < 0:
            mel = np.concatenate([mel[:, -shift:], np.repeat(mel[:, -1:], -shift, 1)], axis=1)
        return mel + curve.astype(np.float32)

    def _finish(self, power: np.ndarray) -> np.ndarray:
        """Add the noise floor and set the overall level; returns log-mel."""
        rng = self.rng
        slope = np.linspace(0.0, rng.uniform(-2.5, 0.5), BANDS) + rng.uniform(-6.5, -2.2)
        jitter = rng.standard_normal((FRAMES, BANDS)).astype(np.float32) * 0.2
        if rng.random() < 0.8:
            power = power + 10.0 ** (slope.astype(np.float32) + jitter)
        level = rng.uniform(-2.5, 3.2)  # a full scale tone has 4 decades
        return np.log10(power * 10.0**level + FLOOR).astype(np.float32)

    def _frames(
        self, placed: Iterable[tuple[Recording, np.ndarray, int, np.ndarray]]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        placed = list(placed)
        targets: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for label in {recording.label for recording, *_ in placed if recording.label is not None}:
            members = list(self._members[label])
            target, mask = np.zeros(_OUT, np.float32), np.ones(_OUT, bool)
            for recording, mel, start, scores in placed:
                span = slice(start // STRIDE, -(-(start + len(mel)) // STRIDE))
                if recording.label != label:
                    if len(scores) and scores[:, members].max() > 0.1:
                        mask[span] = False  # the other piece may contain it too
                    continue
                active = active_frames(mel)
                edge = np.convolve(active, np.ones(5))[2:-2]
                mask[span] &= active | (edge == 0)
                target[span] = np.maximum(target[span], active)
            mask |= target > 0
            targets[label] = target, mask
        return targets


def active_frames(mel: np.ndarray) -> np.ndarray:
    """Return a mask of the output frames in which a piece sounds, (n,) bool; gaps of at most 0.24 s are filled."""
    level = np.log10((10.0 ** mel.astype(np.float32)).sum(axis=1))
    level = np.pad(level, (0, -len(level) % STRIDE), constant_values=-10).reshape(-1, STRIDE).max(axis=1)
    active = level > level.max() - _ACTIVE_DECADES
    on = np.flatnonzero(active)
    for left, right in zip(on, on[1:], strict=False):
        if right - left <= 4:
            active[left:right] = True
    return active


def read_recordings(folder: Path, labels: Mapping[str, SourceLabel], splits: Collection[str]) -> Iterator[Recording]:
    """Yield collected pieces.

    Args:
        folder: Groups that ``training.tagger.collect`` wrote.
        labels: Split and label of recordings. Other recordings are test in the groups of ``HELD_OUT``, else train.
        splits: The splits to read.
    """
    for path in sorted(Path(folder).glob("*.npz")):
        default_split = "test" if path.stem in HELD_OUT else "train"
        with np.load(path) as group:
            mel, scores, rows = group["mel"], group["scores"], json.loads(str(group["rows"]))
        for row in rows:
            entry = find_label(labels, row["source"])
            if (entry.split if entry and default_split == "train" else default_split) in splits:
                frames = mel[row["frame"] : row["frame"] + row["frames"]]
                windows = scores[row["window"] : row["window"] + row["windows"]]
                label = entry.label if entry else row["label"] and tagger_label(row["label"])
                yield Recording(row["source"], frames, windows, label)
