"""Hostile files, made from seeds: ``sounds`` (audio), ``uploads`` (runs), ``texts`` (markup, scripts).

``worker`` feeds the files to the loaders in a process of its own and measures it. ``python -m benchmarks.hostile``
prints the figures; ``tests/test_safe_*.py`` hold them to their limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HostileFile:
    """A file whose bytes are made on demand: its name in reports, with its suffix, and its bytes."""

    name: str
    make: Callable[[], bytes]
    size: int | None = None  # of a sparse file: zeros follow the bytes up to this size


def write_files(files: Sequence[HostileFile], folder: Path) -> list[Path]:
    """Write the files into a folder, numbered."""
    paths = []
    for number, hostile in enumerate(files):
        path = folder / f"{number:03}-{hostile.name.replace('/', '-').replace(' ', '-')}"
        with path.open("wb") as file:
            file.write(hostile.make())
            if hostile.size is not None:
                file.truncate(hostile.size)
        paths.append(path)
    return paths
