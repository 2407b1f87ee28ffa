"""Records and verdicts of some rows, read from the run on demand.

Lines of a folder are found by their key in the raw bytes, and only these lines are parsed and checked. Fetching twenty
of 100,000 lines takes a fraction of a second. Files with another encoding of JSON are parsed completely.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis.load import RunInfo, RunTable
from analysis.scores import lines_of_keys, score_lines
from mpar2.runs import RunError, check_record, open_lines, read_run
from mpar2.runs.folder import OWN_LIMITS
from mpar2.runs.lines import load_json


def fetch(table: RunTable, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Read the records of rows (positions in ``table.frame``), in their order; one whose file is gone is left out."""
    selection = table.frame.iloc[list(rows)]
    records: dict[tuple[str, str], dict[str, Any]] = {}
    for run in table.runs:
        keys = set(selection.loc[selection["run"] == run.name, "key"])
        if keys:
            records |= {(run.name, key): record for key, record in _records(run, keys).items()}
    pairs = zip(selection["run"].astype(str), selection["key"], strict=True)
    return [records[pair] for pair in pairs if pair in records]


def fetch_verdicts(table: RunTable, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Read the judge's raw, unchecked line (``verdict`` or ``unscored``) of each row that has one, by position."""
    selection = table.frame.iloc[list(rows)]
    verdicts: dict[int, dict[str, Any]] = {}
    for run in table.runs:
        keys = {
            key: row for key, row in zip(selection["key"], rows, strict=True) if table.frame["run"].iat[row] == run.name
        }
        if keys:
            lines = score_lines(run.source, run.scores, set(keys), run.limits)
            verdicts |= {keys[key]: line for key, line in lines.items()}
    return verdicts


def _records(run: RunInfo, keys: set[str]) -> dict[str, dict[str, Any]]:
    records = _scan(run.source, keys) if run.source.is_dir() else {}
    if set(records) != keys:
        try:
            for record in read_run(run.source, run.limits).records():
                if record["key"] in keys:
                    records[record["key"]] = record
                    if len(records) == len(keys):
                        break
        except RunError:
            return records  # moved or deleted since it was loaded: an upload lives for an hour
    return records


def _scan(folder: Path, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}
    for path in sorted((*folder.glob("items*.jsonl"), *folder.glob("items*.jsonl.gz"))):
        with open_lines(path) as file:
            for number, line in lines_of_keys(file, keys, OWN_LIMITS.max_line_bytes):
                location = f"{path.name}, line {number}"
                try:
                    record = check_record(load_json(line, location), location)
                except RunError:  # a torn last line
                    continue
                if record["key"] in keys and (record["status"] == "ok" or record["key"] not in records):
                    records[record["key"]] = record
    return records
