"""Time of occluding 20 windows of one trace, against twenty separate teacher-forced passes.

``python -m benchmarks.occlusion [--model tiny-mpar2] [--windows 20] [--repeats 5]``
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from mpar2.audio import Clip
from mpar2.engines.base import Arm, Decoding, Request
from mpar2.engines.transformers import TransformersEngine
from mpar2.occlusion import occlude, occluded_clips
from mpar2.question import Question


def main() -> None:
    """Print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-mpar2")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=21)
    options = parser.parse_args()
    times = np.arange(16_000 * 8) / 16_000
    clip = Clip(0.2 * np.sin(2 * np.pi * (300 + 100 * times) * times), "tone")
    question, arm = Question("Which sound comes first?", ("dog bark", "siren")), Arm("a", options.model)
    engine = TransformersEngine()
    (generation,) = engine.generate_batch([Request(clip, question, arm)], Decoding(max_new_tokens=200))

    def separate() -> None:
        for occluded in (clip, *occluded_clips(clip, options.windows)[1]):
            engine.score([Request(occluded, question, arm)], generation.text, batch_size=1)

    def together() -> None:
        occlude(engine, clip, question, arm, generation.text, windows=options.windows, batch_size=options.batch_size)

    results: dict[str, list[float]] = {"separate": [], "together": []}
    for _ in range(options.repeats):
        for name, work in (("separate", separate), ("together", together)):
            start = time.perf_counter()
            work()
            results[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in results.items()}
    print(f"{generation.token_count} tokens, {options.windows} windows of {clip.seconds:g} s")
    print(f"separate {medians['separate']:.2f} s, together {medians['together']:.2f} s")
    print(f"ratio {medians['together'] / medians['separate']:.2f}")


if __name__ == "__main__":
    main()
