"""Columnar cache of a large run: Parquet files in ``RUN/.analysis``, so that later loads are fast.

The cache is valid only while the size and time of the run's files, and the layout version of this module, are those it
was written with. Otherwise it is written again. Small runs and uploads have no cache. Without pyarrow, or in a
read-only folder, no cache is written and results are the same.
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

VERSION = 4
WORTH_BYTES = 4_000_000  # of lines; below it reading them is fast enough
_FOLDER, _FILES = ".analysis", ("frame.parquet", "attention.parquet")
_KEY = b"mpar2-analysis"


def read(run: Path, scores: StoredScores) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Read frame and attention of a run (``RunTable``); None if there is no copy or the run has changed since."""
    if not _is_worth_caching(run):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    fingerprint, tables = _fingerprint(run, scores), []
    for name in _FILES:
        try:
            table = pq.read_table(run / _FOLDER / name)
        except (OSError, pa.ArrowException):  # not there, or damaged
            return None
        if (table.schema.metadata or {}).get(_KEY) != fingerprint:
            return None
        tables.append(table.to_pandas())
    return tables[0], tables[1]


def write(run: Path, scores: StoredScores, frame: pd.DataFrame, attention: pd.DataFrame) -> None:
    """Write the copy of a large run. Each file is written atomically; a read-only folder gets none."""
    if not _is_worth_caching(run):
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    fingerprint = _fingerprint(run, scores)
    with contextlib.suppress(OSError):  # a folder that cannot be written costs time, not correctness
        (run / _FOLDER).mkdir(exist_ok=True)
        for name, data in zip(_FILES, (frame, attention), strict=True):
            table = pa.Table.from_pandas(data, preserve_index=False)
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: fingerprint})
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="zstd")
            write_bytes(run / _FOLDER / name, buffer.getvalue())


def _is_worth_caching(run: Path) -> bool:
    if not run.is_dir() or find_spec("pyarrow") is None:
        return False
    return sum(path.stat().st_size for path in run.glob("items*.jsonl*")) >= WORTH_BYTES


def _fingerprint(run: Path, scores: StoredScores) -> bytes:
    files = [run / "manifest.json", *run.glob("items*.jsonl*")]
    if scores.judge is not None:
        files += (run / "cafe" / scores.judge).glob("scores.jsonl*")
    states = {path.relative_to(run).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    return json.dumps([VERSION, scores.judge, states], sort_keys=True).encode()
