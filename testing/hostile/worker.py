"""Feed files to a loader in a process of its own, and measure the cost of each.

    for report in examine("sounds", paths): ...

A file that kills the process, or takes more than ``GUARD_S`` of processor time or ``_WAIT_S`` of wall-clock time, ends
only that process; the next one continues after it. Peak memory is that of one file, since it is reset before each
(Linux).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

GUARD_S = 20
_WAIT_S = 300
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Report:
    """Result of one file. ``outcome``: used, refused (by a known error), failed (by another), killed.

    ``seconds`` is processor time, ``extra_mb`` the rise of peak memory.
    """

    name: str
    outcome: str
    message: str
    seconds: float
    extra_mb: float


def examine(kind: str, paths: Sequence[Path]) -> Iterator[Report]:
    """Yield a report for each path; ``kind`` is sounds, uploads (loaded), or figures (loaded and drawn)."""
    left = [str(path) for path in paths]
    while left:
        with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile("w+") as errors:
            json.dump(left, asked)
            asked.seek(0)
            command = [sys.executable, "-m", "testing.hostile.worker", kind]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            with subprocess.Popen(
                command, stdin=asked, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=_ROOT, env=environment
            ) as process:
                ready = process.stdout.readline()
                for line in process.stdout:
                    yield Report(**json.loads(line))
                    del left[0]
            errors.seek(0)
            if not ready:  # no fault of a file
                raise RuntimeError(f"the process that reads {kind} does not start: {errors.read()[-2000:]}")
            if left:
                hung = process.returncode in (-signal.SIGPROF, -signal.SIGALRM)
                why = "longer than the guard" if hung else f"exit status {process.returncode}"
                yield Report(Path(left.pop(0)).name, "killed", f"{why}: {errors.read()[-300:]}", GUARD_S, 0.0)


def _main(kind: str) -> None:
    load, known = _sounds() if kind == "sounds" else _uploads(draw=kind == "figures")
    print("ready", flush=True)
    for path in json.load(sys.stdin):
        signal.alarm(_WAIT_S)
        signal.setitimer(signal.ITIMER_PROF, GUARD_S)
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size
        before, start = _memory("VmRSS"), time.process_time()
        try:
            outcome, message = "used", load(path)
        except known as error:
            outcome, message = "refused", str(error)
        except Exception as error:
            outcome, message = "failed", f"{type(error).__name__}: {error}"
        seconds = time.process_time() - start
        signal.setitimer(signal.ITIMER_PROF, 0)
        extra = max(0.0, _memory("VmHWM") - before)
        print(json.dumps(asdict(Report(Path(path).name, outcome, message, seconds, extra))), flush=True)


def _sounds():
    import av  # noqa: F401 - these are loaded before anything is measured
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    from mpar2.audio import SAMPLE_RATE, AudioError, read_samples
    from pages.services import Services

    limits = Services.__dataclass_fields__["limits"].default_factory()

    def load(path: str) -> str:
        """Decode in this process, so that decoding is measured."""
        samples, warnings = read_samples(path, limits)
        return f"{len(samples) / SAMPLE_RATE:.1f} s; {'; '.join(warnings)}"

    return load, AudioError


def _uploads(*, draw: bool):
    from analysis import AnalysisError
    from analysis.choice import Choice
    from analysis.exhibits import build_exhibits, rows_of
    from mpar2.runs import RunError
    from pages.analysis_items import first_arms, items_value, summary_value
    from pages.analysis_runs import compared, load_upload
    from testing.hostile.uploads import good_upload

    def load(path: str) -> str:
        """Do what the Analysis tab does with an upload: figures, summary and items, and one opened item."""
        table = load_upload(path)
        summary = f"{len(table.frame)} answers; {'; '.join(table.runs[0].notes)}"
        if not draw:
            return summary
        exhibits = build_exhibits(table, Choice())
        shown = json.dumps([exhibit.to_json() for exhibit in exhibits], allow_nan=False)
        rows = rows_of(table, Choice(), json.dumps({"arm": 0}))
        arms = first_arms(table)
        opened = compared(table, rows[0], None) if rows else None
        (shown + json.dumps([items_value(table, arms), summary_value(table, arms), opened], allow_nan=False)).encode()
        return summary

    load(str(good_upload(Path(tempfile.mkdtemp()))))  # pandas and the figures are loaded before anything is measured
    return load, (AnalysisError, RunError)


def _memory(field: str) -> float:
    """Return a field of this process's memory, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


if __name__ == "__main__":
    _main(sys.argv[1])
