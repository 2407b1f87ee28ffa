"""How fast the tagger is: ``python -m benchmarks.tagger [SECONDS]``, one thread, clips of noise."""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.tagger import tag

__all__ = ["speed"]


def speed(seconds: float, repeats: int = 5) -> tuple[float, float]:
    """Processor and wall-clock seconds of the fastest of ``repeats`` taggings of a clip."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(int(seconds * SAMPLE_RATE))
    clip = Clip(noise.astype(np.float32))
    tag(clip)
    best = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        tag(clip)
        best.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(best)


def main(argv: list[str]) -> None:
    torch.set_num_threads(1)
    for seconds in [float(argument) for argument in argv] or [10.0, 30.0, 120.0]:
        cpu, _ = speed(seconds)
        print(f"{seconds:g} s of sound: {1000 * cpu:.0f} ms of a core ({seconds / cpu:.0f} x real time)")


if __name__ == "__main__":
    main(sys.argv[1:])
