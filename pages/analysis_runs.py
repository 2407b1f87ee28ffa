"""The runs that the Analysis tab can show: those shipped with the app, and the one that a visitor brings.

A visitor's file is read where Gradio put it, as data: a zip is never unpacked, no name inside it becomes a path, lines
are checked one by one, and every size is bounded (``mpar2.runs``). Its table belongs to the visitor's session.
"""

from __future__ import annotations

import logging
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from analysis.load import RunTable, join_tables, load_runs
from mpar2.runs import Limits, RunError
from pages.document import MOST_ARMS
from pages.examples import EXAMPLES
from pages.stored_item import stored_document

__all__ = ["RUNS", "UPLOAD", "Shelf", "compared", "joined", "load_upload"]

RUNS = EXAMPLES / "runs"
FIRST_RUN = "held-out-scenes"
UPLOAD = Limits(max_bytes=60_000_000, max_lines=20_000, max_line_bytes=1_000_000, max_manifest_bytes=1_000_000)
_BRING = "Bring what 'mpar2 evaluate … --out RUN' wrote: RUN/items.jsonl as it is, or a zip of RUN without its audio"
_log = logging.getLogger(__name__)


class Shelf:
    """The shipped runs, each loaded when somebody first asks for it."""

    def __init__(self, root: Path = RUNS) -> None:
        self.root = root
        self._tables: dict[str, RunTable] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Finished runs by name."""
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob("*/manifest.json"))

    @property
    def first(self) -> str | None:
        """The run that the tab opens on: the held-out scenes, whose truth is exact, else the first by name."""
        names = self.names()
        return FIRST_RUN if FIRST_RUN in names else next(iter(names), None)

    def table(self, name: str) -> RunTable:
        """The table of a shipped run; any other name is refused."""
        if name not in self.names():
            raise AnalysisError(f"there is no run {name[:80]!r} here")
        with self._lock:
            if name not in self._tables:
                self._tables[name] = load_runs([self.root / name])
            return self._tables[name]

    def tables(self, names: Sequence[str]) -> list[RunTable]:
        """The tables of several; one that cannot be read is left out, and the log says why."""
        found = []
        for name in names:
            try:
                found.append(self.table(name))
            except (AnalysisError, RunError) as error:
                _log.warning("the run '%s' is left out: %s", name, error)
        return found


def load_upload(path: str | Path) -> RunTable:
    """A visitor's run."""
    path = Path(path)
    if not path.is_file():
        raise AnalysisError("the upload is not there any more: choose the file again")
    if path.suffix.lower() == ".zip" and not zipfile.is_zipfile(path):
        raise AnalysisError(f"{path.name} is no zip: zip the run's folder again, or bring its items.jsonl")
    try:
        return load_runs([path], limits=UPLOAD, name=f"yours: {path.stem[:40]}")
    except RunError as error:
        raise AnalysisError(f"{error}. {_BRING}") from None


def joined(tables: Sequence[RunTable]) -> RunTable | None:
    """One table of all, or None of none."""
    return join_tables(tables) if tables else None


def compared(table: RunTable, row: Any, beside: Any) -> dict[str, Any] | None:
    """The comparison document of a row and of up to three beside it, as a browser sent them: anything can be sent."""
    others = beside if isinstance(beside, list) else [beside]
    rows = [place for place in (row, *others[: MOST_ARMS - 1]) if type(place) is int and 0 <= place < len(table.frame)]
    if not rows or rows[0] is not row:
        return None
    if any(table.frame["item"].iat[place] != table.frame["item"].iat[row] for place in rows):
        return None
    return stored_document(table, list(dict.fromkeys(rows)))
