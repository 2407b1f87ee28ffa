"""``python -m benchmarks`` lists the benchmarks; ``python -m benchmarks NAME [options]`` runs one."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
NO_BENCHMARKS = {"__init__", "__main__", "setting"}


def names() -> list[str]:
    return sorted({path.stem for path in FOLDER.glob("*.py")} - NO_BENCHMARKS)


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in names():
        name = sys.argv.pop(1)
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
        return
    for name in names():
        about = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
        print(f"{name:14}{about.splitlines()[0]}")
    if len(sys.argv) > 1 and sys.argv[1] not in ("-h", "--help"):
        raise SystemExit(f"no benchmark is named {sys.argv[1]!r}: choose one of the above")


if __name__ == "__main__":
    main()
