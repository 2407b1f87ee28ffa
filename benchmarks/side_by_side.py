"""Cost of a comparison of arms in one batch, against the arms one after the other.

    python -m benchmarks.side_by_side [--arms 3] [--shape tiny] [--stored int8] [--seconds 10] [--tokens 256]

Arms are a base (reasoning freely, with three arms also in the MPAR² form) and a LoRA adapter of it, streamed as the app
streams them, with attention recorded. ``together`` is one call (one batch, each row with its own adapter or none, the
clip encoded once), ``apart`` a call for each arm. With random weights all arms generate all tokens. The clips differ
from call to call, so that no encoding is cached. The ratio is the median of the rounds' ratios, of
wall-clock time and of processor time, which another program on the machine disturbs less (with OMP_NUM_THREADS=1:
threads that wait for each other count as busy).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.setting import QUESTION, SHAPES, checkpoint, lora, machine, noise
from mpar2.engines.base import Arm, Decoding
from mpar2.engines.transformers import TransformersEngine

LIMITS = {2: 0.65, 3: 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, choices=(2, 3), default=3)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="tiny")
    parser.add_argument("--stored", choices=("float32", "int8"), default="float32", help="precision of the checkpoint")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    timings: dict[str, list[tuple[float, float]]] = {"together": [], "apart": []}  # wall-clock and processor seconds
    tokens: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = checkpoint(Path(folder), args.shape, args.stored)
        arms = [Arm("base", base, mode="cot"), Arm("adapted", base, lora(base, Path(folder) / "adapter"), "mpar2")]
        if args.arms == 3:
            arms.insert(1, Arm("prompted", base, mode="mpar2"))
        engine, decoding = TransformersEngine(), Decoding(max_new_tokens=args.tokens)
        engine.preload(arms)

        def stream(seed: int, *chosen: Arm) -> int:
            updates = engine.stream(noise(args.seconds, seed), QUESTION, chosen, decoding, attention=True)
            return sum(len(update.generation.tokens) for update in updates if update.generation)

        stream(0, *arms)  # warms up
        for n in range(1, args.repeat + 1):
            start = time.perf_counter(), time.process_time()
            tokens["together"] = stream(1000 * n, *arms)
            middle = time.perf_counter(), time.process_time()
            tokens["apart"] = sum(stream(1000 * n + place, arm) for place, arm in enumerate(arms, 1))
            end = time.perf_counter(), time.process_time()
            timings["together"].append((middle[0] - start[0], middle[1] - start[1]))
            timings["apart"].append((end[0] - middle[0], end[1] - middle[1]))
    print(machine(), f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}", sep="; ")
    print(f"{args.shape}, {args.stored}, clip of {args.seconds:g} s")
    print("\n| way | tokens | s | processor s |\n| --- | --- | --- | --- |")
    for way, rounds in timings.items():
        wall, busy = (statistics.median(times) for times in zip(*rounds, strict=True))
        print(f"| {way} | {tokens[way]} | {wall:.2f} | {busy:.2f} |")
    rounds = list(zip(timings["together"], timings["apart"], strict=True))
    wall, busy = (statistics.median(a[i] / b[i] for a, b in rounds) for i in (0, 1))
    print(f"\nratio {wall:.2f}, of processor time {busy:.2f}, limit {LIMITS[args.arms]}")


if __name__ == "__main__":
    main()
