"""Reads runs and draws figures in a child process (``mpar2.child``), away from the process in which the models run.

A run that a visitor brings, and the choices that a page sends, cost what they cost: seconds of processor time, and
memory. Here they have limits of both, and what passes one is told that visitor alone. The models go first: the child
asks the system for less of the processor (``nice``).

A brought run comes back as packed bytes, which only the child unpacks again.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from analysis.load import RunTable
from mpar2.child import Bounds, ChildError, Pool, Reply, serve
from mpar2.runs.lines import dump_json
from pages.analysis_runs import Shelf, joined, load_upload
from pages.analysis_training import TrainingLogs, training_value

__all__ = ["BUSY", "read_upload", "values_of"]

BUSY = 2  # requests at work at once
_BOUNDS = Bounds(cpu_s=30, wall_s=600, memory_bytes=700_000_000)
_NICE = 5
_MOST_RUNS = 8  # of one page
_pool = Pool("-P", "-m", "pages.analysis_process", busy=BUSY, quiet=False)


def read_upload(path: str | Path) -> tuple[dict[str, Any], bytes]:
    """Read a visitor's run.

    Returns:
        ``name`` and ``lines`` that say what it holds; and its table, packed.

    Raises:
        AnalysisError: It is no run, or it is too much.
    """
    ((said, packed),) = _asked({"what": "read", "path": str(path)}, b"")
    return {"name": said["name"], "lines": said["lines"]}, packed


def values_of(what: str, root: Path, sent: Mapping[str, Any], mine: bytes | None = None) -> Iterator[Any]:
    """Yield what the page is shown.

    Args:
        what: ``figures``, ``point``, ``paper`` or ``training``.
        root: Folder of the shipped runs.
        sent: What the page sent.
        mine: The visitor's own run, packed.

    Raises:
        AnalysisError: What was asked cannot be shown, or it is too much.
    """
    for _, value in _asked({"what": what, "root": str(root), "sent": dict(sent)}, mine or b""):
        yield json.loads(value)


def _asked(header: Mapping[str, Any], body: bytes) -> Iterator[Reply]:
    try:
        yield from _pool.ask(header, body, _BOUNDS)
    except ChildError as error:
        if error.kind == "failed":
            raise RuntimeError(error.trace) from None  # the log has it, the visitor its number
        raise AnalysisError(_words_of(error)) from None


def _words_of(error: ChildError) -> str:
    advice = "bring a part of the run, or use 'mpar2 report' on your own machine"
    match error.kind:
        case "refused":
            return error.words
        case "late":
            return (
                f"this takes more than {_BOUNDS.cpu_s} s of processor time, or {_BOUNDS.wall_s // 60} min in all, the "
                f"limits of one request: {advice}"
            )
        case "memory":
            return f"this takes more memory than one request may have: {advice}"
        case "absent":
            return (
                f"the process that reads runs does not start (exit status {error.words}): run "
                "'python -m pages.analysis_process' to see why"
            )
    return f"the process that reads runs ended at this request (exit status {error.words}): {advice}"


# ---- the child -----------------------------------------------------------------------------------------------------


def _prepare() -> None:
    if hasattr(os, "nice"):
        os.nice(_NICE)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # Arrow's own reserves a gigabyte of address space
    import plotly.graph_objects  # noqa: F401
    import pyarrow  # noqa: F401

    import pages.analysis_figures  # noqa: F401


def _answer(header: dict[str, Any], body: bytes) -> Iterator[Reply]:
    if header["what"] == "read":
        table = load_upload(header["path"])
        said = [f"{len(table.frame):,} answers of {len(table.arms)} arms", *table.runs[0].notes]
        yield {"name": table.runs[0].name, "lines": said}, zlib.compress(pickle.dumps(table, protocol=5), 1)
        return
    for value in _values(header["what"], Path(header["root"]), header["sent"], body):
        yield {}, dump_json(value)


def _values(what: str, root: Path, sent: Mapping[str, Any], mine: bytes) -> Iterator[Any]:
    from pages.analysis_figures import behind_point, drawn, paper_value

    if what == "training":
        names, window = sent.get("recipes"), sent.get("window")
        chosen = [str(name) for name in names] if isinstance(names, list) else None
        yield training_value(_logs(root), chosen, min(25, max(1, window if type(window) is int else 5)))
        return
    table = _table(root, sent, mine)
    if what == "figures":
        yield from drawn(table, sent)
    else:
        yield (behind_point if what == "point" else lambda table, _: paper_value(table))(table, sent)


def _table(root: Path, sent: Mapping[str, Any], mine: bytes) -> RunTable | None:
    """Return the shipped runs that the page named and the visitor's own as one table."""
    named = sent.get("runs")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    own = [pickle.loads(zlib.decompress(mine))] if mine else []
    return joined([*_shelf(root).tables(names[:_MOST_RUNS]), *own])


@functools.lru_cache(maxsize=2)
def _shelf(root: Path) -> Shelf:
    return Shelf(root)


@functools.lru_cache(maxsize=2)
def _logs(root: Path) -> TrainingLogs:
    return TrainingLogs(root / "training")


if __name__ == "__main__":
    serve(_answer, _prepare)
