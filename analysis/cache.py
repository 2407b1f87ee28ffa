"""The columnar copy of a large run: Parquet files in ``RUN/.analysis``, so that the second look takes no minute.

It is a copy and never a source: it counts only while the run's files have the size and time that it was made from and
its layout is this module's, and is otherwise made anew. Small runs need none. Only folders have one: an upload is read
as what it is. Without pyarrow, or where the folder cannot be written, there is no copy and nothing else changes.
"""

from __future__ import annotations

import contextlib
import io
import json
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from analysis.scores import StoredScores
from mpar2.runs.lines import write_bytes

__all__ = ["read", "write"]

VERSION = 4
WORTH_BYTES = 4_000_000  # of lines; below it reading them is fast enough
_FOLDER, _PARTS = ".analysis", ("frame.parquet", "attention.parquet")
_KEY = b"mpar2-analysis"


def read(run: Path, scores: StoredScores) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Read the copy of a run.

    Args:
        run: The run's folder.
        scores: Whose scores the copy must hold, as ``find_stored`` gives them.

    Returns:
        Frame and attention (``RunTable``), or None where there is no copy or the run has changed since.
    """
    if not _worth(run):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted, found = _fingerprint(run, scores), []
    for part in _PARTS:
        try:
            stored = pq.read_table(run / _FOLDER / part)
        except (OSError, pa.ArrowException):  # not there, or damaged
            return None
        if (stored.schema.metadata or {}).get(_KEY) != wanted:
            return None
        found.append(stored.to_pandas())
    return found[0], found[1]


def write(run: Path, scores: StoredScores, frame: pd.DataFrame, attention: pd.DataFrame) -> None:
    """Write the copy of a large run, each file complete or not at all; a folder that cannot be written gets none.

    Args:
        run: The run's folder.
        scores: Whose scores ``frame`` holds.
        frame: The run's rows, as in ``RunTable``.
        attention: Its attention, as in ``RunTable``.
    """
    if not _worth(run):
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    fingerprint = _fingerprint(run, scores)
    with contextlib.suppress(OSError):  # a folder that cannot be written costs time, not correctness
        (run / _FOLDER).mkdir(exist_ok=True)
        for part, data in zip(_PARTS, (frame, attention), strict=True):
            made = pa.Table.from_pandas(data, preserve_index=False)
            made = made.replace_schema_metadata({**(made.schema.metadata or {}), _KEY: fingerprint})
            buffer = io.BytesIO()
            pq.write_table(made, buffer, compression="zstd")
            write_bytes(run / _FOLDER / part, buffer.getvalue())


def _worth(run: Path) -> bool:
    if not run.is_dir() or find_spec("pyarrow") is None:
        return False
    return sum(path.stat().st_size for path in run.glob("items*.jsonl*")) >= WORTH_BYTES


def _fingerprint(run: Path, scores: StoredScores) -> bytes:
    files = [run / "manifest.json", *run.glob("items*.jsonl*")]
    if scores.judge is not None:
        files += (run / "cafe" / scores.judge).glob("scores.jsonl*")
    states = {path.relative_to(run).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    return json.dumps([VERSION, scores.judge, states], sort_keys=True).encode()
