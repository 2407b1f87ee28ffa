"""Render scenes once: ``python -m training.tiny.features BANK OUT --split S --count N``. Later stages read ``OUT``.

``OUT/mel.npy``: (N, 80, 1000) float16 log-mel features of the processor's own feature extractor. ``OUT/frames.npy``:
(N,) valid mel frames. ``OUT/scenes.jsonl``: the true events, one scene a line. Frames are 10 ms; silence pads to 10 s.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import numpy as np

from training.scenes.render import Bank, compose_varied
from training.scenes.scene import Scene, SceneEvent

__all__ = ["MEL_FRAMES", "load_scenes", "mel_features", "render"]

MEL_FRAMES = 1000


def mel_features(samples: np.ndarray) -> np.ndarray:
    """Return log-mel features (80, 1000) of at most 10 s at 16 kHz, as ``WhisperFeatureExtractor`` computes them."""
    return _extractor()(samples, sampling_rate=16000, return_tensors="np").input_features[0]


@cache
def _extractor():
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=80, chunk_length=10)


_bank = cache(Bank)  # one bank for each process, with its decoded sounds


def _render_scene(seed: int, folder: Path, split: str) -> tuple[np.ndarray, int, str]:
    scene, samples = compose_varied(_bank(folder), split, seed, longest_s=MEL_FRAMES / 100)
    return mel_features(samples).astype(np.float16), len(samples) // 160, json.dumps(asdict(scene))


def load_scenes(folder: Path) -> list[Scene]:
    """Return the scenes of a rendered folder, in order."""
    rows = map(json.loads, (Path(folder) / "scenes.jsonl").read_text().splitlines())
    return [Scene(**{**row, "events": tuple(SceneEvent(**event) for event in row["events"])}) for row in rows]


def render(bank: Path, out: Path, split: str, count: int, first_seed: int = 0) -> None:
    """Render scenes of consecutive seeds; the module describes the files.

    Args:
        bank: Folder of the bank of sounds.
        out: Output folder.
        split: Split of the bank.
        count: Number of scenes.
        first_seed: Seed of the first scene.
    """
    out.mkdir(parents=True, exist_ok=True)
    mel = np.lib.format.open_memmap(out / "mel.npy", "w+", np.float16, (count, 80, MEL_FRAMES))
    frames = np.zeros(count, np.int32)
    with ProcessPoolExecutor(2) as pool, open(out / "scenes.jsonl", "w") as lines:
        seeds = range(first_seed, first_seed + count)
        for i, (features, valid_frames, line) in enumerate(
            pool.map(partial(_render_scene, folder=bank, split=split), seeds, chunksize=16)
        ):
            mel[i], frames[i] = features, valid_frames
            lines.write(line + "\n")
    mel.flush()
    np.save(out / "frames.npy", frames)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bank", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=("train", "validation", "test"), required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args(argv)
    render(args.bank, args.out, args.split, args.count, args.first_seed)


if __name__ == "__main__":
    main()
