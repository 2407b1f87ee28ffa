"""Compose scenes from a bank of sounds: audio and exact events from one seed.

A bank is a folder with ``bank.json`` (rows ``{label, split, source, file, seconds}``), as built by
``training.scenes.bank``. ``compose(bank, split, seed)`` is deterministic for a given bank. Sounds are varied in speed
and pitch, level, colour (equaliser) and reverberation, over coloured noise. Onset and offset are those of the dry
sound.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from mpar2.audio import SAMPLE_RATE
from mpar2.cafe.sound_classes import CLASSES
from training.scenes.scene import Scene, SceneEvent
from training.scenes.synth import colored_noise

__all__ = ["Bank", "Rendered", "compose", "compose_varied"]

MIN_GAP_S = 0.5  # between two events of one class, so that they can be counted
_ONE_SHOT_S = 0.7  # shorter sounds are repeated: a single bark is rare
_SPEED, _TRAIN_SPEED = 1.25, 1.5  # wider in training, to augment the few recordings of a class
_REPEATED = {"dog bark", "cat meow", "footsteps", "hammering", "drums", "beep"}


class Rendered(NamedTuple):
    """A scene and its waveform, float32 of shape (samples,) at 16 kHz, peak below 1."""

    scene: Scene
    samples: np.ndarray


@dataclass(frozen=True)
class Bank:
    """Labelled sounds by split.

    Attributes:
        folder: Folder of the bank.
        classes: Classes that are used.

    Raises:
        FileNotFoundError: The folder holds no ``bank.json``.
    """

    folder: Path
    classes: frozenset[str] = frozenset(CLASSES)

    @cached_property
    def rows(self) -> list[dict]:
        """Rows of ``bank.json`` of the bank's classes."""
        path = Path(self.folder) / "bank.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: build a bank with `python -m training.scenes.bank {self.folder}`"
            )
        return [row for row in json.loads(path.read_text()) if row["label"] in self.classes and row["seconds"] >= 0.05]

    @cached_property
    def _samples(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def _groups(self) -> dict[tuple[str, str], list[list[dict]]]:
        # Rows are grouped by package, so that forty synthetic sirens do not outweigh one recorded siren.
        table: dict[tuple[str, str], dict[str, list[dict]]] = {}
        for row in self.rows:
            package = row["source"].split("/")[0]
            table.setdefault((row["split"], row["label"]), {}).setdefault(package, []).append(row)
        return {key: list(groups.values()) for key, groups in table.items()}

    def labels(self, split: str) -> list[str]:
        """Return the classes of a split, sorted."""
        return sorted({row["label"] for row in self.rows if row["split"] == split})

    def draw(self, split: str, label: str, rng: np.random.Generator) -> tuple[str, np.ndarray]:
        """Draw a sound of a class; the weight of a package is its number of recordings, at most eight.

        Args:
            split: Split of the bank.
            label: The class.
            rng: Draws the sound.

        Returns:
            Its source, and its samples, float32 (samples,) at 16 kHz.
        """
        groups = self._groups[split, label]
        weights = np.array([min(len(group), 8) for group in groups], float)
        group = groups[rng.choice(len(groups), p=weights / weights.sum())]
        row = group[rng.integers(len(group))]
        if row["file"] not in self._samples:
            self._samples[row["file"]] = soundfile.read(Path(self.folder) / row["file"], dtype="float32")[0]
        return row["source"], self._samples[row["file"]]


def compose(
    bank: Bank,
    split: str,
    seed: int,
    *,
    count: tuple[int, int] = (2, 5),
    seconds: tuple[float, float] = (6.0, 10.0),
    crop: bool = False,
) -> Rendered:
    """Compose the scene of a seed; sounds of different classes may overlap.

    Args:
        bank: The sounds.
        split: Split of the bank.
        seed: Seed of the scene.
        count: Least and most events; an event without a free place is left out.
        seconds: Least and greatest length of the clip, in seconds.
        crop: Whether a sound longer than the clip is cut rather than left out.
    """
    rng = np.random.default_rng([seed, *split.encode()])
    length_s = round(float(rng.uniform(*seconds)), 1)
    mix = np.zeros(int(length_s * SAMPLE_RATE), np.float32)
    labels = bank.labels(split)
    classes = list(rng.choice(labels, int(rng.integers(count[0], count[1] + 1)), replace=False))
    if len(classes) > 2 and rng.random() < 0.45:  # repeat one class for questions of counting
        classes[-1] = classes[0]
        if len(classes) > 3 and rng.random() < 0.35:
            classes[-2] = classes[0]
    scene_events: list[SceneEvent] = []
    for label in classes:
        label = str(label)
        source, dry = bank.draw(split, label, rng)
        dry = _vary(dry, label, rng, _TRAIN_SPEED if split == "train" else _SPEED)
        if crop:
            dry = dry[: max(int((length_s - 0.2) * SAMPLE_RATE), 800)]
        onset_s = _place(label, len(dry) / SAMPLE_RATE, length_s, scene_events, rng)
        if onset_s is None:
            continue
        level_db = float(rng.uniform(-28, -14))
        wet = _colour(dry, rng)
        wet *= 10 ** (level_db / 20) / max(float(np.sqrt(np.mean(dry**2))), 1e-6) * _norm(dry, wet)
        start = int(onset_s * SAMPLE_RATE)
        mix[start : start + len(wet)] += wet[: len(mix) - start]
        scene_events.append(SceneEvent(label, onset_s, onset_s + len(dry) / SAMPLE_RATE, round(level_db, 1), source))
    slope, floor_db = float(rng.uniform(0, 2)), float(rng.uniform(-75, -45))
    noise = colored_noise(len(mix), slope, rng)
    mix += noise * np.float32(10 ** (floor_db / 20) / np.sqrt(np.mean(noise**2)))
    peak = float(np.abs(mix).max())
    if peak > 0.95:
        mix *= 0.95 / peak
    events = tuple(sorted(scene_events, key=lambda event: event.onset_s))
    return Rendered(Scene(seed, split, length_s, events, f"noise f^-{slope:.1f} at {floor_db:.0f} dB"), mix)


def compose_varied(bank: Bank, split: str, seed: int, longest_s: float = 30.0) -> Rendered:
    """Compose a clip of the variety that users bring, from 0.3 s on.

    It is silent (1 in 16), has a single sound (5 in 16), or is a scene of 2-5 events. One clip in eight is quiet, 20 to
    40 dB lower, as is ``level_db`` of its events. No event extends beyond the end.

    Args:
        bank: The sounds.
        split: Split of the bank.
        seed: Seed of the clip.
        longest_s: Greatest length, in seconds.
    """
    rng = np.random.default_rng([seed, 7, *split.encode()])
    kind = rng.random()
    if kind < 1 / 16:
        scene, samples = compose(bank, split, seed, count=(0, 0), seconds=(0.3, longest_s))
    elif kind < 6 / 16:
        longest = min(float(rng.choice((1.5, 4.0, 10.0))), longest_s)
        scene, samples = compose(bank, split, seed, count=(1, 1), seconds=(0.3, longest), crop=True)
    else:
        seconds = (12.0, longest_s) if longest_s > 12 and rng.random() < 1 / 8 else (4.0, min(12.0, longest_s))
        scene, samples = compose(bank, split, seed, seconds=seconds)
    if rng.random() < 1 / 8:
        lower_db = float(rng.uniform(20, 40))
        events = tuple(replace(e, level_db=round(e.level_db - lower_db, 1)) for e in scene.events)
        scene, samples = replace(scene, events=events), samples * np.float32(10 ** (-lower_db / 20))
    return Rendered(scene, samples)


def _place(
    label: str, duration_s: float, length_s: float, scene_events: list[SceneEvent], rng: np.random.Generator
) -> float | None:
    """Draw an onset that separates events of one class and covers at most half of any event; None if there is none."""
    for _ in range(40):
        onset = float(rng.uniform(0.1, max(0.11, length_s - duration_s - 0.1)))
        onset = round(onset, 2)
        fits = onset + duration_s <= length_s
        for other in scene_events:
            overlap = min(onset + duration_s, other.offset_s) - max(onset, other.onset_s)
            limit = -MIN_GAP_S if other.label == label else 0.5 * min(duration_s, other.duration_s)
            fits = fits and overlap <= limit
        if fits:
            return onset
    return None


def _vary(dry: np.ndarray, label: str, rng: np.random.Generator, max_factor: float) -> np.ndarray:
    """Return a crop of at most 3.2 s, resampled by a factor of up to ``max_factor``, which changes speed and pitch.

    Short sounds of some classes are repeated.
    """
    if len(dry) > 1.2 * SAMPLE_RATE:
        n = int(rng.uniform(1.0, 3.2) * SAMPLE_RATE)
        if len(dry) > n:
            energy = np.convolve(dry**2, np.ones(800) / 800, "same")
            starts = np.flatnonzero(energy[: len(dry) - n : 400] > 0.05 * energy.max()) * 400
            start = int(rng.choice(starts)) if len(starts) else int(rng.integers(len(dry) - n))
            dry = dry[start : start + n]
            audible = np.flatnonzero(np.abs(dry) > 0.02 * np.abs(dry).max())
            dry = dry[audible[0] : audible[-1] + 1]
    speed = float(np.exp(rng.uniform(-np.log(max_factor), np.log(max_factor))))
    dry = soxr.resample(dry, SAMPLE_RATE, SAMPLE_RATE / speed, quality="LQ")
    if len(dry) < _ONE_SHOT_S * SAMPLE_RATE and label in _REPEATED:
        gap = np.zeros(int(rng.uniform(0.08, 0.3) * SAMPLE_RATE), np.float32)
        times = int(np.clip(rng.uniform(0.6, 1.8) * SAMPLE_RATE / (len(dry) + len(gap)), 2, 6))
        parts = [part for _ in range(times) for part in (dry * rng.uniform(0.7, 1.0), gap)]
        dry = np.concatenate(parts[:-1])
    n = min(160, len(dry) // 4)
    dry = dry.astype(np.float32).copy()
    dry[:n] *= np.linspace(0, 1, n, dtype=np.float32)
    dry[-n:] *= np.linspace(1, 0, n, dtype=np.float32)
    return dry


def _colour(dry: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply a random equaliser curve and a short reverberation (0.05-0.5 s) as one multiplication of spectra."""
    tail = int(rng.uniform(0.05, 0.5) * SAMPLE_RATE)
    n = len(dry) + tail
    size = 1 << (n - 1).bit_length()
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 30) / 1000)
    curve_db = rng.uniform(-2.0, 2.0) * octave
    for _ in range(2):
        curve_db += rng.uniform(-9, 9) * np.exp(-(((octave - rng.uniform(-3, 3)) / rng.uniform(0.5, 1.5)) ** 2))
    echo = rng.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail)
    echo *= rng.uniform(0, 0.5) / np.sqrt(np.sum(echo**2))
    echo[0] += 1.0
    spectrum = np.fft.rfft(dry, size) * 10 ** (np.clip(curve_db, -18, 12) / 20) * np.fft.rfft(echo, size)
    return np.fft.irfft(spectrum, size)[:n].astype(np.float32)


def _norm(dry: np.ndarray, wet: np.ndarray) -> float:
    # Colouring must not change the level that the truth states.
    return float(np.sqrt(np.mean(dry**2)) / max(np.sqrt(np.mean(wet[: len(dry)] ** 2)), 1e-6))
