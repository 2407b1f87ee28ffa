"""Read runs and draw figures in a child process (``mpar2.child``), apart from the process that runs the models.

Uploaded runs and choices of a page may need seconds of processor time and much memory. The child process limits both,
and a request beyond a limit fails for its visitor only. The child runs at lower priority than the models (``nice``).

An uploaded run is returned as packed bytes, which only the child unpacks.
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
from analysis.load import RunTable, join_tables
from mpar2.child import Bounds, ChildError, Pool, Reply, serve
from mpar2.runs.lines import dump_json
from pages.analysis_runs import Shelf, load_upload

BUSY = 2  # concurrent requests
_BOUNDS = Bounds(cpu_s=30, wall_s=600, memory_bytes=700_000_000)
_NICE = 10
_MOST_RUNS = 8  # of one page
_pool = Pool("-P", "-m", "pages.analysis_process", busy=BUSY, quiet=False)


def read_upload(path: str | Path) -> tuple[dict[str, Any], bytes]:
    """Read a visitor's run: ``name`` and ``lines`` of its description, and its table, packed.

    Raises:
        AnalysisError: It is no run, or exceeds a limit.
    """
    ((header, packed),) = _ask({"what": "read", "path": str(path)}, b"")
    return {"name": header["name"], "lines": header["lines"]}, packed


def values_of(kind: str, root: Path, sent: Mapping[str, Any], own_run: bytes | None = None) -> Iterator[Any]:
    """Yield the data that the page shows.

    Raises:
        AnalysisError: The request cannot be shown, or exceeds a limit.
    """
    for _, value in _ask({"what": kind, "root": str(root), "sent": dict(sent)}, own_run or b""):
        yield json.loads(value)


def _ask(header: Mapping[str, Any], body: bytes) -> Iterator[Reply]:
    try:
        yield from _pool.ask(header, body, _BOUNDS)
    except ChildError as error:
        if error.kind == "failed":
            raise RuntimeError(error.trace) from None  # the log has it, the visitor its number
        raise AnalysisError(_message_of(error)) from None


def _message_of(error: ChildError) -> str:
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
        lines = [f"{len(table.frame):,} answers of {len(table.arms)} arms", *table.runs[0].notes]
        yield {"name": table.runs[0].name, "lines": lines}, zlib.compress(pickle.dumps(table, protocol=5), 1)
        return
    for value in _values(header["what"], Path(header["root"]), header["sent"], body):
        yield {}, dump_json(value)


def _values(kind: str, root: Path, data: Mapping[str, Any], own_run: bytes) -> Iterator[Any]:
    from pages.analysis_figures import behind_point, drawn, paper_value, training_value

    if kind == "training":
        names, window = data.get("recipes"), data.get("window")
        chosen = [str(name) for name in names] if isinstance(names, list) else None
        yield training_value(root / "training", chosen, min(25, max(1, window if type(window) is int else 5)))
        return
    table = _table(root, data, own_run)
    if kind == "figures":
        yield from drawn(table, data)
    else:
        yield (behind_point if kind == "point" else lambda table, _: paper_value(table))(table, data)


def _table(root: Path, data: Mapping[str, Any], own_run: bytes) -> RunTable | None:
    """Return the shipped runs that the page named and the visitor's own as one table."""
    run_names = data.get("runs")
    names = [name for name in run_names if isinstance(name, str)] if isinstance(run_names, list) else []
    own_tables = [pickle.loads(zlib.decompress(own_run))] if own_run else []
    tables = [*_shelf(root).tables(names[:_MOST_RUNS]), *own_tables]
    return join_tables(tables) if tables else None


@functools.lru_cache(maxsize=2)
def _shelf(root: Path) -> Shelf:
    return Shelf(root)


if __name__ == "__main__":
    serve(_answer, _prepare)
