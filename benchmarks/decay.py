"""How long the analysis of many traces takes: first load, later loads, every figure.

    python -m benchmarks.decay [--traces 100000] [--folder DIR]

A run of that many synthetic traces is written (kept with ``--folder``, so that a second start measures later loads
only), loaded from its lines, loaded again from its columnar copy, and drawn: each exhibit, as the data that pages draw.
The limit is on what a reader waits for after the first load: the later load and all figures together.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis.choice import Choice
from analysis.exhibits import EXHIBITS, build_exhibits
from analysis.load import load_runs
from tests.synthetic import FakeArm, write_run

LIMIT_S = 2.0  # for 100,000 traces
ARMS = (
    FakeArm("base cot", "cot", 2.0, -0.8, 90),
    FakeArm("base direct", "direct", 0.8, 0.0, 6),
    FakeArm("mpar2", "mpar2", 2.0, 0.0, 120, adapter="tiny-mpar2"),
    FakeArm("mpar2 deaf", "mpar2", -1.0, 0.0, 120, adapter="tiny-mpar2", audio="silent"),
)


@contextmanager
def measured(name: str, times: dict[str, float]) -> Iterator[None]:
    """Wall and processor time of what is inside; on a busy machine only the second says something."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    times[name] = time.process_time() - processor
    print(f"{name:28}{time.perf_counter() - wall:9.2f} s wall{times[name]:9.2f} s processor")


def main() -> int:
    """Run and print; status 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)) / f"run-{options.traces}"
        if not folder.exists():
            with measured("write", times):
                write_run(folder, options.traces // len(ARMS), ARMS, attention=False)
            with measured("first load, from lines", times):
                load_runs([folder])
        with measured("later load, columnar", times):
            table = load_runs([folder])
        print(f"{len(table.frame):,} traces of {len(table.arms)} arms")
        for name in EXHIBITS:
            with measured(f"  {name}", times):
                build_exhibits(table, Choice(), [name])
        with measured("all figures", times):
            build_exhibits(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    waited = times["later load, columnar"] + times["all figures"]
    limit = LIMIT_S * max(1.0, options.traces / 100_000)
    print(f"after the first load: {waited:.2f} s processor, limit {limit:.1f} s; peak memory {peak:.2f} GB")
    return int(waited > limit)


if __name__ == "__main__":
    raise SystemExit(main())
