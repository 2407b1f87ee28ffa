"""Answers per hour of an evaluation, against a plain loop and against plain batches of ``generate``.

    python -m benchmarks.throughput [--shape tiny] [--clips 4] [--samples 2] [--tokens 96] [--batch-size 24]

Each clip is run in three modes, ``--samples`` times each. ``loop`` calls transformers' ``generate`` for one prompt at a
time; ``batches`` for eight at a time in the order of the file, padded, as common evaluation scripts do (such as
R1-AQA's); ``ours`` is ``generate_batch``, as ``mpar2 evaluate`` calls it: sorted by length, each clip encoded once.
Decoding is greedy with random weights, so the traces of all three are the same; tokens are counted. Times are medians
of ``--repeat`` rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.setting import QUESTION, SHAPES, checkpoint, machine, noise
from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.engines.base import Arm, Decoding, Mode, Request
from mpar2.engines.checkpoint import Checkpoint, load_checkpoint
from mpar2.engines.transformers import TransformersEngine
from mpar2.prompts import build_messages

MODES: tuple[Mode, ...] = ("direct", "cot", "mpar2")
LIMITS = {"loop": 4.0, "batches": 1.5}


def plain(loaded: Checkpoint, prompts: list[tuple[Clip, Mode]], tokens: int, batch_size: int) -> int:
    """Run ``generate`` over batches in the given order, and return the number of generated tokens."""
    processor, written = loaded.processor, 0
    processor.tokenizer.padding_side = "left"
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        texts = [
            processor.apply_chat_template(build_messages(QUESTION, mode), tokenize=False, add_generation_prompt=True)
            for _, mode in batch
        ]
        inputs = processor(
            text=texts,
            audio=[clip.samples for clip, _ in batch],
            sampling_rate=SAMPLE_RATE,
            padding=True,
            return_tensors="pt",
        ).to(loaded.device)
        out = loaded.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        written += int((out[:, inputs.input_ids.shape[1] :] != processor.tokenizer.pad_token_id).sum())
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="tiny")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint(Path(folder), args.shape)
        loaded, engine = load_checkpoint(model), TransformersEngine()
        engine.preload([Arm("a", model)])

        # New clips in each round, so that no encoding is cached.
        def prompts(seed: int) -> list[tuple[Clip, Mode]]:
            clips = [noise(6.0 + n % 5, seed * 100 + n) for n in range(args.clips)]
            return [(clip, mode) for clip in clips for mode in MODES for _ in range(args.samples)]

        def ours(rows: list[tuple[Clip, Mode]]) -> int:
            requests = [Request(clip, QUESTION, Arm("a", model, mode=mode)) for clip, mode in rows]
            generations = engine.generate_batch(
                requests, Decoding(max_new_tokens=args.tokens), batch_size=args.batch_size
            )
            return sum(len(generation.tokens) for generation in generations)

        ways: dict[str, Callable[[list[tuple[Clip, Mode]]], int]] = {
            "loop": lambda rows: plain(loaded, rows, args.tokens, 1),
            "batches": lambda rows: plain(loaded, rows, args.tokens, 8),
            "ours": ours,
        }
        timings: dict[str, list[float]] = {way: [] for way in ways}
        tokens: dict[str, int] = {}
        # The warm-up excludes compilation and allocation from the timing.
        for work in ways.values():  # warm up
            work(prompts(0)[:8])
        for n in range(1, args.repeat + 1):
            for way, work in ways.items():
                start = time.perf_counter()
                tokens[way] = work(prompts(n))
                timings[way].append(time.perf_counter() - start)
    print(machine())
    answers = args.clips * len(MODES) * args.samples
    print(f"{args.shape}, {args.clips} clips, {answers} answers of up to {args.tokens} tokens\n")
    medians = {way: statistics.median(times) for way, times in timings.items()}
    print("| way | tokens | s | answers an hour | ours against it |\n| --- | --- | --- | --- | --- |")
    for way, seconds in medians.items():
        ratio = f"{seconds / medians['ours']:.2f} x"
        print(f"| {way} | {tokens[way]} | {seconds:.1f} | {3600 * answers / seconds:,.0f} | {ratio} |")
    print("\nlimits: " + ", ".join(f"{limit:g} x against {way}" for way, limit in LIMITS.items()))


if __name__ == "__main__":
    main()
