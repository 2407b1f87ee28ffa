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
from analysis.traces import fetch
from mpar2.runs import Limits, RunError
from mpar2.trace import parse_trace
from pages.examples import EXAMPLES

__all__ = ["RUNS", "UPLOAD", "Shelf", "load_upload", "traces_document"]

RUNS = EXAMPLES / "runs"
FIRST_RUN = "held-out-scenes"
UPLOAD = Limits(max_bytes=60_000_000, max_lines=20_000, max_line_bytes=1_000_000, max_manifest_bytes=1_000_000)
_SHOWN = 12
_ARMS_BESIDE = 4
_LONGEST_TRACE = 12_000  # characters
_NAMES = {"ask": "Ask", "hear": "Hear", "infer": "Infer", "text": "Text", "think": "Thinking"}
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
    return load_runs([path], limits=UPLOAD, name=f"yours: {path.stem[:40]}")


def joined(tables: Sequence[RunTable]) -> RunTable | None:
    """One table of all, or None of none."""
    return join_tables(tables) if tables else None


def traces_document(table: RunTable, rows: Sequence[int], arms: Sequence[str], title: str) -> dict[str, Any]:
    """What the page shows of the traces in ``rows``: some of them, right and wrong ones in turn, other arms beside."""
    frame = table.frame
    wrong_first = sorted(rows, key=lambda row: (frame["right"].iat[row] != 0, row))
    split = next((i for i, row in enumerate(wrong_first) if frame["right"].iat[row] != 0), len(wrong_first))
    wrong, rest = wrong_first[:split], wrong_first[split:]
    turns = [row for pair in zip(wrong, rest, strict=False) for row in pair]
    chosen = (turns + wrong[len(rest) :] + rest[len(wrong) :])[:_SHOWN]
    beside = [_beside(table, row, arms) for row in chosen]
    wanted = sorted({row for row, others in zip(chosen, beside, strict=True) for row in (row, *others)})
    records = {
        (record["arm"], record["key"]): record for record in fetch(table, wanted)
    }  # an arm's own name and key: labels of figures may differ
    names = {(arm.run, arm.label): arm.name for arm in table.arms}

    def record_of(row: int) -> dict[str, Any] | None:
        name = names[str(frame["run"].iat[row]), str(frame["arm"].iat[row])]
        return records.get((name, frame["key"].iat[row]))

    items = []
    for row, others in zip(chosen, beside, strict=True):
        first = record_of(row)
        if first is None:
            continue
        item = first["item"]
        sides = [_side(frame, other, record) for other in (row, *others) if (record := record_of(other)) is not None]
        items.append(
            {
                "id": first["id"],
                "question": item["question"] or "",
                "choices": list(item["choices"] or ()),
                "answer": item["answer"],
                "truth": [_event(event) for event in item["events"] or ()][:40],
                "sides": sides,
            }
        )
    return {"title": title, "total": len(rows), "items": items}


def _beside(table: RunTable, row: int, arms: Sequence[str]) -> list[int]:
    """First samples of other arms on the same item."""
    frame = table.frame
    same = (frame["item"] == frame["item"].iat[row]) & (frame["sample"] == 0) & (frame["arm"] != frame["arm"].iat[row])
    found = [int(other) for other in same.to_numpy().nonzero()[0] if str(frame["arm"].iat[other]) in arms]
    return found[: _ARMS_BESIDE - 1]


def _side(frame: Any, row: int, record: dict[str, Any]) -> dict[str, Any]:
    text = record["text"] or record["error"] or ""
    right, tokens, matched = frame["right"].iat[row], frame["tokens"].iat[row], frame["matched"].iat[row]
    names = ("matched", "hallucinated", "misused", "missed")
    return {
        "arm": str(frame["arm"].iat[row]),
        "right": None if right != right else bool(right),
        "prediction": frame["prediction"].iat[row],
        "tokens": None if tokens != tokens else int(tokens),
        "counts": None if matched != matched else {name: int(frame[name].iat[row]) for name in names},
        "parts": _parts(text[:_LONGEST_TRACE]),
        "cut": len(text) > _LONGEST_TRACE,
    }


def _parts(text: str) -> list[dict[str, str]]:
    trace = parse_trace(text)
    found = []
    for part in trace.parts:
        holds = any(inner.parent is not None and trace.parts[inner.parent] is part for inner in trace.parts)
        if holds or not part.text.strip():
            continue
        owner = trace.parts[part.parent] if part.parent is not None else None
        step = f"Step {owner.number}: " if owner is not None and owner.kind == "step" else ""
        name = f"Step {part.number}" if part.kind == "step" else _NAMES.get(part.kind, part.kind.capitalize())
        found.append({"kind": part.kind, "name": step + name, "text": part.text.strip()})
    return found[:200]


def _event(event: dict[str, Any]) -> str:
    onset, offset = event["onset_s"], event["offset_s"]
    return event["label"] if onset is None or offset is None else f"{event['label']} {onset:.1f}–{offset:.1f} s"
