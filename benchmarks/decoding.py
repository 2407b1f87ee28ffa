"""Cost of decoding in a child process: the same files in this process and in the warm child, alternating.

    python -m benchmarks.decoding [--turns 20]

Exit status 1 if the median price of a normal clip is above ``LIMIT_MS``.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from statistics import median

import numpy as np
import soundfile

from mpar2.audio import load_clip, read_samples
from mpar2.formats import Limits

LIMIT_MS = 30.0


def main(arguments: list[str] | None = None) -> int:
    """Print the overhead for each kind of clip."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args(arguments)
    worst = 0.0
    start = time.perf_counter()
    load_clip(_file(0.2, 16_000, "WAV"))
    print(f"start of the child: {1000 * (time.perf_counter() - start):.0f} ms, once")
    print(f"{'clip':28}{'here ms':>9}{'child ms':>10}{'price ms':>10}")
    for seconds, rate, kind in ((10, 44_100, "WAV"), (10, 44_100, "FLAC"), (10, 44_100, "MP3"), (60, 48_000, "FLAC")):
        data = _file(seconds, rate, kind)
        parent_ms, child_ms = [], []
        for _ in range(options.turns):
            parent_ms.append(_ms(lambda: read_samples(data, Limits())))  # noqa: B023 - called at once
            child_ms.append(_ms(lambda: load_clip(data)))  # noqa: B023
        price = median(child_ms) - median(parent_ms)
        worst = max(worst, price)
        name = f"{seconds} s, {rate} Hz, {kind.lower()}"
        print(f"{name:28}{median(parent_ms):9.1f}{median(child_ms):10.1f}{price:10.1f}")
    return 1 if worst > LIMIT_MS else 0


def _file(seconds: float, rate: int, kind: str) -> bytes:
    noise = (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, rate, format=kind)
    return buffer.getvalue()


def _ms(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
