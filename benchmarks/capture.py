"""Cost of recording attention: time and peak memory of one long generation.

    python -m benchmarks.capture [--shape wide] [--seconds 30] [--tokens 512] [--repeat 3]

``none`` is the engine without a probe, ``ours`` the engine recording every layer and head, ``eager`` transformers'
``generate(output_attentions=True)`` on eager attention. Each run has a process of its own, so that peaks of memory are
separate; extra memory is the peak above that of ``none``. All three generate the same number of tokens with the same
random weights (see ``benchmarks.setting``). Medians of ``--repeat`` rounds; rounds interleave the three.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.setting import QUESTION, SHAPES, checkpoint, machine, noise

WAYS = ("none", "ours", "eager")
TIME_LIMIT, MEMORY_LIMIT = 1.08, 1 / 20


def run(way: str, model: str, seconds: float, tokens: int) -> dict[str, float]:
    """Generate once in this process, and return seconds, tokens and peak memory in MB."""
    clip = noise(seconds)
    if way == "eager":
        start, written = _eager(model, clip, tokens)
    else:
        from mpar2.engines.base import Arm, Decoding, Request
        from mpar2.engines.transformers import TransformersEngine

        engine = TransformersEngine()
        arm = Arm("a", model, mode="cot")
        engine.preload([arm])
        start = time.perf_counter()
        (generation,) = engine.generate_batch(
            [Request(clip, QUESTION, arm)],
            Decoding(max_new_tokens=tokens),
            attention="full" if way == "ours" else "none",
        )
        written = len(generation.tokens)
    elapsed = time.perf_counter() - start
    return {"s": elapsed, "tokens": written, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _eager(model: str, clip, tokens: int) -> tuple[float, int]:
    from mpar2.engines.checkpoint import load_checkpoint
    from mpar2.prompts import build_messages

    loaded = load_checkpoint(model)
    loaded.model.set_attn_implementation("eager")
    text = loaded.processor.apply_chat_template(
        build_messages(QUESTION, "cot"), tokenize=False, add_generation_prompt=True
    )
    start = time.perf_counter()
    inputs = loaded.processor(text=[text], audio=[clip.samples], sampling_rate=16_000, return_tensors="pt")
    out = loaded.model.generate(
        **inputs.to(loaded.device),
        max_new_tokens=tokens,
        do_sample=False,
        output_attentions=True,
        return_dict_in_generate=True,
    )
    return start, out.sequences.shape[1] - inputs.input_ids.shape[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="wide")
    parser.add_argument("--model", help="a checkpoint instead of random weights")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(run(args.way, args.model, args.seconds, args.tokens)))
        return
    results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or checkpoint(Path(folder), args.shape)
        for _ in range(args.repeat):
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.capture", "--way", way, "--model", model]
                command += ["--seconds", str(args.seconds), "--tokens", str(args.tokens)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                results[way].append(json.loads(out.splitlines()[-1]))
    print(machine())
    print(f"{args.model or args.shape}, clip of {args.seconds:g} s, up to {args.tokens} tokens\n")
    medians = {way: {key: statistics.median(r[key] for r in rows) for key in rows[0]} for way, rows in results.items()}
    print("| way | tokens | s | against none | peak MB | extra MB |\n| --- | --- | --- | --- | --- | --- |")
    for way, row in medians.items():
        ratio, extra = row["s"] / medians["none"]["s"], row["mb"] - medians["none"]["mb"]
        print(f"| {way} | {row['tokens']:.0f} | {row['s']:.2f} | {ratio:.3f} | {row['mb']:.0f} | {extra:.0f} |")
    extra = {way: medians[way]["mb"] - medians["none"]["mb"] for way in ("ours", "eager")}
    print(f"\ntime {medians['ours']['s'] / medians['none']['s']:.3f} of no capture, limit {TIME_LIMIT}")
    print(f"extra memory 1/{extra['eager'] / max(extra['ours'], 1):.0f} of eager's, limit 1/{1 / MEMORY_LIMIT:.0f}")


if __name__ == "__main__":
    main()
