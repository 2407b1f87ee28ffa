"""The benchmarks can be found and started; what they measure is for ``python -m benchmarks``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_every_benchmark_is_listed_with_a_line() -> None:
    listed = run()
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__", "__main__", "setting"}
    lines = dict(line.split(maxsplit=1) for line in listed.stdout.splitlines())
    assert listed.returncode == 0 and set(lines) == names and all(text.endswith((".", "?")) for text in lines.values())


def test_a_name_that_is_none_is_told() -> None:
    said = run("speed")
    assert said.returncode == 1 and "'speed'" in said.stderr and "capture" in said.stdout


def test_a_benchmark_prints_its_table_and_its_limit() -> None:
    said = run("side_by_side", "--tokens", "4", "--seconds", "1", "--repeat", "1")
    assert said.returncode == 0, said.stderr
    assert "| together | 12 |" in said.stdout and "limit 0.5" in said.stdout
