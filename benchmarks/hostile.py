"""What hostile files cost: hundreds of damaged, lying and exploding recordings and runs through the app's loaders.

    python -m benchmarks.hostile [--seed 0] [--odd-values 200]

Every file goes to the loader in a process of its own, with the limits of the public app; processor time and the rise
of peak memory are measured for each. Exit status 1 if one was neither used nor refused in words, or cost too much.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from testing.hostile.sounds import hostile_sounds, write_sounds
from testing.hostile.uploads import hostile_uploads, write_uploads
from testing.hostile.worker import Report, examine

LIMIT_MB, LIMIT_S = 300, 10.0


def main(arguments: list[str] | None = None) -> int:
    """Print one line for each kind of file, and every file that broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--odd-values", type=int, default=200, help="runs with one odd value (default: %(default)s)")
    options = parser.parse_args(arguments)
    runs = hostile_uploads(options.seed, options.odd_values)
    by_hand = len(runs) - options.odd_values
    bad: list[Report] = []
    print(f"{'files':34}{'n':>6}{'used':>6}{'refused':>9}{'other':>7}{'most MB':>9}{'most s':>8}")
    for title, kind, files, write in (
        ("recordings, loaded", "sounds", hostile_sounds(options.seed), write_sounds),
        ("runs, loaded", "uploads", runs[:by_hand], write_uploads),
        ("runs with an odd value, drawn", "figures", runs[by_hand:], write_uploads),
    ):
        with tempfile.TemporaryDirectory(prefix="mpar2-hostile-") as folder:
            reports = list(examine(kind, write(files, Path(folder))))  # type: ignore[operator]
        counts = Counter(report.outcome for report in reports)
        other = len(reports) - counts["used"] - counts["refused"]
        memory, seconds = max(r.extra_mb for r in reports), max(r.seconds for r in reports)
        print(f"{title:34}{len(reports):6}{counts['used']:6}{counts['refused']:9}{other:7}{memory:9.0f}{seconds:8.1f}")
        bad += [
            report
            for report in reports
            if report.outcome not in ("used", "refused") or report.extra_mb > LIMIT_MB or report.seconds > LIMIT_S
        ]
    for report in bad:
        print(f"{report.name}: {report.outcome}, {report.seconds:.1f} s, {report.extra_mb:.0f} MB: {report.message}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
