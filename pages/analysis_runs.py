"""Runs of the Analysis tab: those shipped with the app, and one uploaded run per session.

An uploaded file is read in place, as data: a zip is never unpacked, no name inside it is used as a path, lines are
checked one by one, and every size is bounded (``mpar2.runs``). This happens in a child process
(``pages.analysis_process``). The run belongs to the visitor's session, and is kept within a bound of memory
(:class:`Brought`).
"""

from __future__ import annotations

import json
import logging
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from analysis.load import RunTable, load_runs
from mpar2.runs import RunError, RunLimits, read_run
from pages.document import MOST_ARMS
from pages.examples import EXAMPLES
from pages.limits import Kept
from pages.stored_item import stored_document

RUNS = EXAMPLES / "runs"
FIRST_RUN = "small-scenes"
UPLOAD = RunLimits(max_bytes=60_000_000, max_lines=20_000, max_line_bytes=1_000_000, max_manifest_bytes=1_000_000)
_BRING = "Bring what 'mpar2 evaluate … --out RUN' wrote: RUN/items.jsonl as it is, or a zip of RUN without its audio"
_MOST_CHARACTERS = 5_000_000
_MOST_NUMBERS = 3_000_000
_MOST_VALUES = {"arm": 64, "domain": 100, "category": 100, "sub_category": 400, "difficulty": 100}
_MOST_FIGURES = 8  # cached choices
_log = logging.getLogger(__name__)


class Shelf:
    """The shipped runs, each loaded on first use."""

    def __init__(self, root: Path = RUNS) -> None:
        self.root = root
        self._tables: dict[str, RunTable] = {}
        self._figures: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of finished runs."""
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob("*/manifest.json"))

    @property
    def first(self) -> str | None:
        """Return the default run: the small pair on scenes, else the first by name."""
        names = self.names()
        return FIRST_RUN if FIRST_RUN in names else next(iter(names), None)

    def table(self, name: str) -> RunTable:
        """Return the table of a shipped run.

        Raises:
            AnalysisError: No shipped run has that name.
        """
        if name not in self.names():
            raise AnalysisError(f"there is no run {name[:80]!r} here")
        with self._lock:
            if name not in self._tables:
                self._tables[name] = load_runs([self.root / name])
            return self._tables[name]

    def drawn(
        self, sent: Mapping[str, Any], draw: Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]
    ) -> Iterator[dict[str, Any]]:
        """Yield the values of ``draw`` for shipped runs; those of the last eight choices are cached."""
        defaults = {"runs": None, "arms": None, "metric": "acc_per", "binning": "count", "bins": 8}
        defaults |= {"length": "tokens", "outcome": "all", "filters": {}}
        key = json.dumps({name: sent.get(name, value) for name, value in defaults.items()}, sort_keys=True, default=str)
        if (cached := self._figures.get(key)) is not None:
            yield from cached
            return
        values = []
        for value in draw(sent):
            values.append(value)
            yield value
        with self._lock:
            self._figures[key] = values
            while len(self._figures) > _MOST_FIGURES:
                self._figures.pop(next(iter(self._figures)))

    def tables(self, names: Sequence[str]) -> list[RunTable]:
        """Return the tables of the named runs. A run that cannot be read is logged and left out."""
        tables = []
        for name in names:
            try:
                tables.append(self.table(name))
            except (AnalysisError, RunError) as error:
                _log.warning("the run '%s' is left out: %s", name, error)
        return tables


class Brought(Kept):
    """Uploaded runs, one per session, as ``pages.analysis_process`` packs them, within a bound of memory."""

    def __init__(self, most_bytes: int = 50_000_000, **bounds: Any) -> None:
        super().__init__(most_bytes, **bounds)

    def packed(self, session: str) -> bytes:
        """Return the session's run.

        Raises:
            RunError: The run has expired or was evicted.
        """
        if (packed := self.get(session)) is not None:
            return packed
        raise RunError(
            "your run is not kept any more (runs are kept for an hour at most, and while there is room for them): "
            "choose its file again"
        )


def load_upload(path: str | Path) -> RunTable:
    """Return a visitor's run.

    Raises:
        AnalysisError: It is no run, is damaged, or is too large; the message names what to upload.
    """
    path = Path(path)
    if not path.is_file():
        raise AnalysisError("the upload is not there any more: choose the file again")
    if path.suffix.lower() == ".zip" and not zipfile.is_zipfile(path):
        raise AnalysisError(f"{path.name} is no zip: zip the run's folder again, or bring its items.jsonl")
    try:
        _check_contents(path)
        return load_runs([path], limits=UPLOAD, name=f"yours: {path.stem[:40]}")
    except RunError as error:
        raise AnalysisError(f"{error}. {_BRING}") from None


def _check_contents(path: Path) -> None:
    """Check the amounts of text, attention and levels, which compress well but are slow to read or draw.

    Raises:
        AnalysisError: An amount is above its limit.
    """
    characters, numbers = 0, 0
    distinct: dict[str, set[str]] = {name: set() for name in _MOST_VALUES}
    for record in read_run(path, UPLOAD).records():
        characters += sum(len(value) for value in record.values() if isinstance(value, str))
        numbers += sum(map(_size, (record.get("attention"), record.get("trace"))))
        for name, values in distinct.items():
            value = record.get(name)
            if value is None and isinstance(record.get("item"), dict):
                value = record["item"].get(name)
            if isinstance(value, str):
                values.add(value)
            if len(values) > _MOST_VALUES[name]:
                raise AnalysisError(
                    f"the run has more than {_MOST_VALUES[name]} different values of '{name}', the limit of an upload: "
                    "bring a part of it"
                )
        if characters > _MOST_CHARACTERS:
            raise AnalysisError(
                f"the texts of the run have more than {_MOST_CHARACTERS / 1e6:.0f} million characters, the limit of an "
                "upload: bring a part of it, or use 'mpar2 report' on your own machine"
            )
        if numbers > _MOST_NUMBERS:
            raise AnalysisError(
                f"the run has more than {_MOST_NUMBERS / 1e6:.0f} million numbers of attention, the limit of an "
                "upload: bring a part of it, or use 'mpar2 report' on your own machine"
            )


def _size(value: Any, depth: int = 6) -> int:
    """Return the number of values in a nested list or dict."""
    if depth and isinstance(value, dict):
        return sum(_size(inner, depth - 1) for inner in value.values())
    if depth and isinstance(value, list):
        return len(value) + sum(_size(inner, depth - 1) for inner in value if isinstance(inner, list | dict))
    return 1


def compared(table: RunTable, row: Any, beside: Any) -> dict[str, Any] | None:
    """Return the comparison document of a row and of up to three other rows. The positions are unchecked input."""
    beside_rows = beside if isinstance(beside, list) else [beside]
    rows = [
        position
        for position in (row, *beside_rows[: MOST_ARMS - 1])
        if type(position) is int and 0 <= position < len(table.frame)
    ]
    if not rows or rows[0] is not row:
        return None
    if any(table.frame["item"].iat[position] != table.frame["item"].iat[row] for position in rows):
        return None
    return stored_document(table, list(dict.fromkeys(rows)))
