"""Runs: folders of finished generations that survive kills, resume, and can be shared.

``folder``    the writer and the reader          ``record``   one line: the answer of an arm to an item
``manifest``  the settings of a run              ``lines``    JSON lines, appended and fsynced

    with RunWriter("out", manifest) as run:
        run.append(record)                       # on the disk when it returns
        run.finish(metrics)
    for record in read_run("out").records(): ...
"""

from __future__ import annotations

from mpar2.runs.folder import Run, RunLimits, RunWriter, compress_run, open_lines, open_member, read_run
from mpar2.runs.lines import RunError
from mpar2.runs.manifest import build_manifest, differences, weights_hash
from mpar2.runs.record import check_record, item_of, record_key

__all__ = [
    "RunLimits",
    "Run",
    "RunError",
    "RunWriter",
    "build_manifest",
    "check_record",
    "compress_run",
    "differences",
    "item_of",
    "open_lines",
    "open_member",
    "read_run",
    "record_key",
    "weights_hash",
]
