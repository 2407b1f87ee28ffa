"""Speed of the tagger on one thread, over clips of noise."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.tagger import tag


def speed(seconds: float, repeats: int = 5) -> tuple[float, float]:
    """Return processor and wall-clock seconds of the fastest of ``repeats`` taggings of a clip."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(int(seconds * SAMPLE_RATE))
    clip = Clip(noise.astype(np.float32))
    tag(clip)
    best = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        tag(clip)
        best.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(best)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tagger", description=__doc__)
    parser.add_argument("seconds", nargs="*", type=float, default=[10.0, 30.0, 120.0], help="lengths of clips")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    for seconds in options.seconds:
        cpu, _ = speed(seconds)
        print(f"{seconds:g} s of sound: {1000 * cpu:.0f} ms of a core ({seconds / cpu:.0f} x real time)")


if __name__ == "__main__":
    main()
