"""The records behind some rows: read again from the run when somebody asks for them.

Lines of a folder are found by their key in the raw bytes, and only those found are parsed and checked: a run of 100,000
lines gives up twenty of them in a fraction of a second. Files that write JSON in another way are read whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis.load import RunInfo, RunTable
from mpar2.runs import RunError, check_record, read_run
from mpar2.runs.lines import load_json

__all__ = ["fetch"]


def fetch(table: RunTable, rows: Sequence[int]) -> list[dict[str, Any]]:
    """The records of rows of the table (by position), in their order; one whose file is gone is left out."""
    wanted = table.frame.iloc[list(rows)]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in table.runs:
        keys = set(wanted.loc[wanted["run"] == run.name, "key"])
        if keys:
            found |= {(run.name, key): record for key, record in _records(run, keys).items()}
    pairs = zip(wanted["run"].astype(str), wanted["key"], strict=True)
    return [found[pair] for pair in pairs if pair in found]


def _records(run: RunInfo, keys: set[str]) -> dict[str, dict[str, Any]]:
    found = _scan(run.source, keys) if run.source.is_dir() else {}
    if set(found) != keys:
        try:
            for record in read_run(run.source, run.limits).records():
                if record["key"] in keys:
                    found[record["key"]] = record
                    if len(found) == len(keys):
                        break
        except RunError:
            return found  # moved or deleted since it was loaded: an upload lives for an hour
    return found


def _scan(folder: Path, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    needles = [json.dumps(key, ensure_ascii=False).encode("utf-8", "backslashreplace") for key in keys]
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("items*.jsonl")):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                head = line[:12_000]  # the key stands first in what this project writes
                if not any(needle in head for needle in needles):
                    continue
                where = f"{path.name}, line {number}"
                try:
                    record = check_record(load_json(line, where), where)
                except RunError:  # a torn last line
                    continue
                if record["key"] in keys and (record["status"] == "ok" or record["key"] not in found):
                    found[record["key"]] = record
    return found
