"""Time per token of base and MPAR² decoded side by side: products with int8 rows, against products of floats.

    python -m benchmarks.int8_rows [--base small-base] [--adapter small-mpar2] [--tokens 64] [--rounds 3]

One batch of two rows on the CPU, 6 s of noise, attention recorded. ``rows`` is an engine without a named precision:
it multiplies with the stored rows. ``floats`` is an engine with the processor's fast precision named. The time per
token is the difference between a long and a short trace of the same requests, in wall time and in processor time. Both
engines take turns; the result is the median over the rounds, with the number of first tokens that are equal. To
measure without AVX-512: ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2``.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.setting import QUESTION, machine, noise
from mpar2.engines.base import Arm, Decoding, Generation, Request
from mpar2.engines.names import BASE, TRAINED
from mpar2.engines.precision import fast_dtype
from mpar2.engines.transformers import TransformersEngine

_SHORT = 4  # tokens of the short trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=BASE, help="a checkpoint of int8 rows")
    parser.add_argument("--adapter", default=TRAINED)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-attention", action="store_true")
    args = parser.parse_args()
    print(machine())
    arms = [Arm("base", args.base, None, "cot"), Arm("mpar2", args.base, args.adapter, "mpar2")]
    requests = [Request(noise(6.0), QUESTION, arm) for arm in arms]
    dtype = str(fast_dtype()).removeprefix("torch.")
    engines = {
        "rows": TransformersEngine(device="cpu"),
        f"floats ({dtype})": TransformersEngine(device="cpu", dtype=dtype),
    }

    def generate(engine: TransformersEngine, tokens: int) -> tuple[float, float, list[Generation]]:
        """Return wall time and processor time in seconds, and the traces."""
        decoding = Decoding(max_new_tokens=tokens, temperature=1.0, seed=0)
        clock, processor = time.perf_counter(), time.process_time()
        traces = engine.generate_batch(
            requests, decoding, batch_size=2, attention="none" if args.no_attention else "full"
        )
        return time.perf_counter() - clock, time.process_time() - processor, traces

    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in engines}
    first: dict[str, list[int]] = {}
    for number in range(args.rounds + 1):
        for name, engine in engines.items():
            short = generate(engine, _SHORT)
            long = generate(engine, args.tokens)
            steps = max(trace.token_count for trace in long[2]) - _SHORT
            first[name] = [token.id for token in long[2][1].tokens]
            if number:  # the first round warms up
                times[name].append((short[0], (long[0] - short[0]) / steps, (long[1] - short[1]) / steps))
    for name, rounds in times.items():
        short, clock, processor = map(statistics.median, zip(*rounds, strict=True))
        print(f"{name:18} prompt and {_SHORT} tokens {short:.2f} s; a token of two rows {1000 * clock:.1f} ms", end="")
        print(f" of the clock, {1000 * processor:.1f} ms of the processor")
    same = next(
        (i for i, (a, b) in enumerate(zip(*first.values(), strict=False)) if a != b), min(map(len, first.values()))
    )
    rows, floats = (statistics.median(each[1] for each in rounds) for rounds in times.values())
    print(f"ratio {rows / floats:.2f} x; the sampled tokens of MPAR2 are the same for the first {same}")


if __name__ == "__main__":
    main()
