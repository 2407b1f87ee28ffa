"""Batches of clips: a table of questions, or one question about several sounds, as a run that Analysis opens.

Files arrive one by one, through Gradio's own upload, and are stored in a folder of the visitor's session. A batch runs
in turns of a few seconds, so that other visitors' comparisons run in between. Answers are kept between turns, as in
every run (``mpar2.evaluation``). At the end the traces are scored by rules: against the events of the table if it has
them, else against the tagger's events (``pages.opinion``).

A table is CSV (or tab-separated) with the columns ``audio`` and ``question`` and, where known, ``choices`` (separated
by ``|``), ``answer``, ``id``, ``domain``, ``difficulty``; or JSONL as ``mpar2 evaluate --benchmark jsonl`` reads it. An
``audio`` is the file name of one of the sounds. Folders are stripped, so no path can be addressed.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import re
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mpar2.arms import EvaluationArm, arm_from_json
from mpar2.audio import load_clip
from mpar2.cafe.caption import write_captions
from mpar2.errors import MPAR2Error
from mpar2.evaluation import Settings, evaluate
from mpar2.items import ItemSet, read_items
from mpar2.question import make_question
from mpar2.runs.lines import RunError, dump_json, load_json, write_json
from pages.document import MOST_ARMS, shown_model
from pages.opinion import tagging_of
from pages.running import Asked, decoding_of, split_choices
from pages.services import Services

MOST_CLIPS = 50
_MOST_TABLE_BYTES = 1_000_000
_TURN_S = 4.0
_KEPT_S = 2700.0  # as long as uploads
_MOST_BATCHES = 50  # of all sessions
_TABLES = (".csv", ".tsv", ".jsonl")


class BatchError(MPAR2Error, ValueError):
    """The files cannot be run as they are. The message names the change to make."""


class _Pause(Exception):
    """The turn is over; finished answers are kept."""


@dataclass
class _Batch:
    """A session's files, and the work on them."""

    folder: Path
    sounds: dict[str, Path] = field(default_factory=dict)  # by normalised name, see _plain
    table: Path | None = None
    items: ItemSet | None = None
    arms: tuple[EvaluationArm, ...] = ()
    seed: int = 0
    last_used_s: float = 0.0  # seconds of the monotonic clock
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def run(self) -> Path:
        return self.folder / "run"


class Batches:
    """The batches of all sessions."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._batches: dict[str, _Batch] = {}
        self._lock = threading.Lock()

    def add(self, session: str, path: str) -> dict[str, Any]:
        """Add one uploaded file, a sound or a table. A file added after the start begins the next batch.

        Returns:
            The number of ``sounds``, and whether there is a ``table``.

        Raises:
            BatchError: There are too many files, visitors or bytes.
            AudioError: The sound cannot be read.
        """
        source = Path(path)
        with self._lock:
            now = time.monotonic()
            for old in [name for name, entry in self._batches.items() if now - entry.last_used_s > _KEPT_S]:
                self._drop(old)
            if session not in self._batches and len(self._batches) >= _MOST_BATCHES:
                raise BatchError(f"{_MOST_BATCHES} visitors have brought files: try again in some minutes")
            batch = self._batches.get(session)
            if batch is None or batch.items is not None:  # files after the start belong to the next batch
                self._drop(session)
                batch = self._batches[session] = _Batch(Path(tempfile.mkdtemp(prefix="mpar2-batch-")))
            batch.last_used_s = now
        if source.suffix.lower() in _TABLES:
            if source.stat().st_size > _MOST_TABLE_BYTES:
                raise BatchError(f"{source.name} has {source.stat().st_size:,} bytes; a table may have 1 MB: cut it")
            batch.table = Path(shutil.copyfile(source, batch.folder / f"table{source.suffix.lower()}"))
        else:
            if len(batch.sounds) >= MOST_CLIPS:
                raise BatchError(f"{MOST_CLIPS} sounds are the most at once: run 'mpar2 evaluate' for more")
            load_clip(path, limits=self.services.limits)  # raises for an unreadable file
            copy = batch.folder / f"{len(batch.sounds):02d}{source.suffix.lower()[:8]}"
            copy.unlink(missing_ok=True)
            try:  # a hard link to the upload takes no space
                copy.hardlink_to(source)
            except OSError:  # another disk
                shutil.copyfile(source, copy)
            batch.sounds[_plain(source.name)] = copy
        return {"sounds": len(batch.sounds), "table": batch.table is not None}

    def begin(self, session: str, asked: Asked, visitor: str) -> None:
        """Build the items and arms of a batch from the session's files and the form.

        Without a table, the question of the form is used for every sound. ``visitor`` is charged by question.

        Raises:
            BatchError: Files, table or arms cannot be run.
            LimitError: A question is too long, or the visitor has no runs left.
        """
        batch = self._batch_of(session)
        if not batch.sounds:
            raise BatchError("there is no sound yet: choose the recordings that the table names")
        if batch.table is not None:
            entries = _with_file_names(read_table(batch.table), batch.sounds)
        else:
            question = make_question(asked.question, split_choices(asked.choices), answer=asked.answer.strip() or None)
            fields = {"question": question.text, "choices": list(question.choices), "answer": question.answer}
            entries = [fields | {"id": name, "audio": path.name} for name, path in batch.sounds.items()]
        if len(entries) > MOST_CLIPS:
            raise BatchError(f"the table has {len(entries)} questions; {MOST_CLIPS} are the most at once: cut it")
        (batch.folder / "items.jsonl").write_bytes(b"".join(dump_json(entry) + b"\n" for entry in entries))
        decoding = decoding_of(asked, self.services.max_new_tokens)
        if not 1 <= len(asked.arms) <= MOST_ARMS or len(set(asked.arms)) < len(asked.arms):
            raise BatchError(f"{len(asked.arms)} arms: choose one to {MOST_ARMS}, no two of them alike")
        arms = [self.services.arm(name, mode) for name, mode in asked.arms]
        settings = {"max_new_tokens": decoding.max_new_tokens, "temperature": decoding.temperature}
        batch.arms = tuple(
            arm_from_json(
                {"name": f"{arm.name} {arm.mode}", "model": arm.model, "adapter": arm.adapter, "mode": arm.mode}
                | settings
            )
            for arm in arms
        )
        batch.seed = decoding.seed
        try:
            items = read_items("jsonl", batch.folder, batch.folder)
        except MPAR2Error as error:  # without the path of the folder
            raise BatchError(str(error).replace(str(batch.folder / "items.jsonl"), "the table")) from None
        for item in items.items:
            self.services.visitors.check(item.question.text, list(item.question.choices))
        for _ in items.items:
            self.services.runs.begin(visitor)
        batch.items = items

    def turn(self, session: str) -> dict[str, Any]:
        """Run the batch for a few seconds.

        Returns:
            ``state`` ("more", "done" or "stopped"), ``done``, ``total`` and ``failed`` (answers); at the end ``zip``,
            the run in base64.

        Raises:
            BatchError: The batch was not begun, or its files are gone.
        """
        batch = self._batch_of(session)
        if batch.items is None:
            raise BatchError("the batch was not begun: choose the files and begin it")
        batch.last_used_s = time.monotonic()
        counts = {"done": 0, "total": len(batch.items.items) * len(batch.arms), "failed": 0}
        deadline, first = time.monotonic() + _TURN_S, True

        def report(done: int, total: int, failed: int) -> None:
            nonlocal first
            counts.update(done=done, total=total, failed=failed)
            expired = time.monotonic() > deadline or batch.stop.is_set()
            if not first and expired and done + failed < total:
                raise _Pause
            first = False

        engine = self.services.engine
        attends = all(engine.engine_for(arm.arm).attention for arm in batch.arms)
        settings = Settings(seed=batch.seed, attention_share=1.0 if attends else 0.0, batch_size=1)
        try:
            evaluate(batch.items, batch.arms, engine, batch.run, settings, report)
        except _Pause:
            if not batch.stop.is_set():
                return {"state": "more", **counts}
        stopped = batch.stop.is_set() and counts["done"] + counts["failed"] < counts["total"]
        packed = self._pack_run(batch)
        self.forget(session)
        return {"state": "stopped" if stopped else "done", **counts, "zip": packed}

    def stop(self, session: str) -> None:
        """Stop the session's batch after the current answer."""
        if (batch := self._batches.get(session)) is not None:
            batch.stop.set()

    def forget(self, session: str) -> None:
        """Delete the session's files."""
        with self._lock:
            self._drop(session)

    def _drop(self, session: str) -> None:
        if (batch := self._batches.pop(session, None)) is not None:
            batch.stop.set()
            shutil.rmtree(batch.folder, ignore_errors=True)

    def _batch_of(self, session: str) -> _Batch:
        batch = self._batches.get(session)
        if batch is None:
            raise BatchError("the files are not here any more: choose them again")
        return batch

    def _pack_run(self, batch: _Batch) -> str:
        """Return the run's folder with its scores, as a zip in base64."""
        from mpar2.cafe.rules.judge import ReferenceJudge
        from mpar2.cafe.score import score_run

        assert batch.items is not None
        unlabelled = {item.id: batch.items.audio_path(item) for item in batch.items.items if item.events is None}
        write_captions(batch.run, {id: tagging_of(load_clip(path)).truth() for id, path in unlabelled.items()})
        asyncio.run(score_run(batch.run, ReferenceJudge(), batch.run / "cafe" / "reference"))
        manifest = load_json((batch.run / "manifest.json").read_bytes(), "manifest.json")
        for arm in manifest["arms"]:  # without paths of this machine
            arm |= {key: shown_model(arm.get(key)) for key in ("model", "adapter")}
        write_json(batch.run / "manifest.json", manifest)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(batch.run.rglob("*")):
                if path.is_file() and path.suffix in (".json", ".jsonl"):
                    archive.write(path, f"run/{path.relative_to(batch.run).as_posix()}")
        return base64.b64encode(buffer.getvalue()).decode("ascii")


def read_table(path: Path) -> list[dict[str, Any]]:
    """Return the unchecked rows of a table of questions (see the module).

    Raises:
        BatchError: The table cannot be read or is empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BatchError("the table is not UTF-8: save it as CSV in UTF-8") from None
    rows = _json_lines(text) if path.suffix == ".jsonl" else _csv_rows(text)
    if not rows:
        raise BatchError("the table holds no question")
    return rows


def _json_lines(text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = load_json(line.encode(), "the table")
            except RunError:
                raise BatchError(f"line {number} of the table is no JSON object") from None
            rows.append({"id": str(number)} | row)
    return rows


def _csv_rows(text: str) -> list[dict[str, Any]]:
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = {name.strip().lower() for name in reader.fieldnames or () if name}
    except csv.Error as error:
        raise BatchError(f"the table cannot be read ({error}): save it as CSV again") from None
    if not {"audio", "question"} <= names:
        raise BatchError(f"the table needs the columns audio and question; it has {', '.join(sorted(names)) or 'none'}")
    try:
        lines = list(reader)
    except csv.Error as error:
        raise BatchError(
            f"line {reader.line_num} of the table cannot be read ({error}): save it as CSV again"
        ) from None
    rows = []
    for number, raw in enumerate(lines, 1):
        row = {name.strip().lower(): value.strip() for name, value in raw.items() if name and isinstance(value, str)}
        if not any(row.values()):
            continue
        entry: dict[str, Any] = {"id": row.get("id") or str(number), "audio": row.get("audio", "")}
        entry["question"] = row.get("question", "")
        if choices := [text.strip() for text in row.get("choices", "").split("|") if text.strip()]:
            entry["choices"] = choices
        entry |= {name: row[name] for name in ("answer", "domain", "category", "difficulty") if row.get(name)}
        rows.append(entry)
    return rows


def _with_file_names(rows: Iterable[Mapping[str, Any]], sounds: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return the rows with the file names of the sounds in the batch's folder."""
    entries, missing = [], []
    for row in rows:
        name = PurePosixPath(PureWindowsPath(row["audio"] if isinstance(row.get("audio"), str) else "").as_posix()).name
        sound = sounds.get(_plain(name))
        if sound is None:
            missing.append(name or "(none)")
        else:
            entries.append(dict(row) | {"audio": sound.name})
    if missing:
        raise BatchError(
            f"{len(missing)} sounds of the table are not among the files (first: {missing[0][:60]}): choose them too"
        )
    return entries


def _plain(name: str) -> str:
    """Return the normalised name of a file, as uploads have it: letters, digits and dots, in lower case."""
    return re.sub(r"[^\w.]+", "", name, flags=re.UNICODE).lower()
