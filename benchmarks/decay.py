"""Time of the analysis of many traces: first load, later loads, every figure.

    python -m benchmarks.decay [--traces 100000 1000000] [--folder DIR]

For each number, a run of that many synthetic traces is written (kept with ``--folder``, so that a second start measures
later loads only), loaded from its lines, loaded again from its columnar copy, and drawn as the data of each exhibit.
The limit applies to the later load and all figures together, the wait of a reader after the first load. Each number
runs in a process of its own, so that peaks of memory are separate.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from analysis.choice import Choice
from analysis.exhibits import EXHIBITS, build_exhibits
from analysis.load import load_runs
from testing.synthetic import FakeArm, write_run

LIMITS_S = {100_000: 2.0, 1_000_000: 10.0}  # of processor time, after the first load
ARMS = (
    FakeArm("base cot", "cot", 2.0, -0.8, 90),
    FakeArm("base direct", "direct", 0.8, 0.0, 6),
    FakeArm("mpar2", "mpar2", 2.0, 0.0, 120, adapter="tiny-mpar2"),
    FakeArm("mpar2 deaf", "mpar2", -1.0, 0.0, 120, adapter="tiny-mpar2", audio="silent"),
)


@contextmanager
def measured(name: str, times: dict[str, float]) -> Iterator[None]:
    """Print wall-clock and processor time of the block, and store the latter, which other processes disturb less."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    times[name] = time.process_time() - processor
    print(f"{name:28}{time.perf_counter() - wall:9.2f} s wall{times[name]:9.2f} s processor", flush=True)


def measure(traces: int, folder: Path) -> bool:
    """Measure one run, and return whether it meets its limit, if any."""
    times: dict[str, float] = {}
    run = folder / f"run-{traces}"
    if not (run / "items.jsonl").exists():
        with measured("write", times):
            write_run(run, traces // len(ARMS), ARMS, attention=False)
        with measured("first load, from lines", times):
            load_runs([run])
    with measured("later load, columnar", times):
        table = load_runs([run])
    print(f"{len(table.frame):,} traces of {len(table.arms)} arms")
    for name in EXHIBITS:
        with measured(f"  {name}", times):
            build_exhibits(table, Choice(), [name])
    with measured("all figures", times):
        build_exhibits(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    wait_s = times["later load, columnar"] + times["all figures"]
    limit = LIMITS_S.get(traces)
    limit_note = "no limit" if limit is None else f"limit {limit:.1f} s"
    print(f"after the first load: {wait_s:.2f} s processor, {limit_note}; peak memory {peak:.2f} GB\n", flush=True)
    return limit is None or wait_s <= limit


def main() -> int:
    """Run and print the measurements; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=int, nargs="+", default=list(LIMITS_S))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = []
        for traces in options.traces:
            with ProcessPoolExecutor(1) as pool:
                results.append(pool.submit(measure, traces, options.folder or Path(scratch)).result())
    return int(not all(results))


if __name__ == "__main__":
    raise SystemExit(main())
