"""The records and verdicts behind some rows: read again from the run when somebody asks for them.

Lines of a folder are found by their key in the raw bytes, and only those found are parsed and checked: a run of 100,000
lines gives up twenty of them in a fraction of a second. Files that write JSON in another way are read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis.load import RunInfo, RunTable
from analysis.scores import key_needles, score_lines
from mpar2.runs import RunError, check_record, open_lines, read_run
from mpar2.runs.lines import load_json

__all__ = ["fetch", "fetch_verdicts"]


def fetch(table: RunTable, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Read the records of some rows.

    Args:
        table: The runs.
        rows: Positions in ``table.frame``.

    Returns:
        The records in the order of the rows; one whose file is gone is left out.
    """
    wanted = table.frame.iloc[list(rows)]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in table.runs:
        keys = set(wanted.loc[wanted["run"] == run.name, "key"])
        if keys:
            found |= {(run.name, key): record for key, record in _records(run, keys).items()}
    pairs = zip(wanted["run"].astype(str), wanted["key"], strict=True)
    return [found[pair] for pair in pairs if pair in found]


def fetch_verdicts(table: RunTable, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Read the judge's lines of some rows.

    Args:
        table: The runs.
        rows: Positions in ``table.frame``.

    Returns:
        By position, the line of each row that has one, as it stands (``verdict`` or ``unscored``), unchecked.
    """
    wanted = table.frame.iloc[list(rows)]
    found: dict[int, dict[str, Any]] = {}
    for run in table.runs:
        keys = {
            key: row for key, row in zip(wanted["key"], rows, strict=True) if table.frame["run"].iat[row] == run.name
        }
        if keys:
            lines = score_lines(run.source, run.scores, set(keys), run.limits)
            found |= {keys[key]: line for key, line in lines.items()}
    return found


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
    needles = key_needles(keys)
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((*folder.glob("items*.jsonl"), *folder.glob("items*.jsonl.gz"))):
        with open_lines(path) as file:
            for number, line in enumerate(iter(file.readline, b""), 1):
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
