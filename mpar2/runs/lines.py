"""JSON lines that survive ``kill -9``: appended and fsynced one by one; an incomplete last line is dropped.

A line counts when its newline is on the disk. Text after the last newline is the remainder of an interrupted write: the
writer cuts it off, the reader skips it (the writer may be active). Any other line that is not a JSON object is damage,
and an error with its number. The writer holds a lock (:mod:`mpar2.locks`) during its life; a dead writer holds none.

Lines may be untrusted input: their length and number are bounded, and non-JSON numbers (NaN) are refused.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from mpar2.errors import MPAR2Error
from mpar2.locks import try_lock

__all__ = [
    "LineWriter",
    "RunError",
    "dump_json",
    "load_json",
    "read_lines",
    "sync_folder",
    "write_bytes",
    "write_json",
    "write_lines",
]

MAX_LINE_BYTES = 16_000_000


class RunError(MPAR2Error, ValueError):
    """A run folder cannot be written or read; the message gives the place and the reason."""


def dump_json(value: Any, *, indent: int | None = None) -> bytes:
    """Encode a value as JSON in UTF-8. A lone surrogate, which UTF-8 cannot encode, becomes a JSON escape.

    Args:
        value: Plain JSON values.
        indent: Spaces per level; None writes one line.

    Raises:
        ValueError: A number is NaN or infinite, which is not JSON.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return text.encode("utf-8", "backslashreplace")


def load_json(data: bytes, where: str) -> dict[str, Any]:
    """Decode a JSON object whose strings are valid Unicode; anything else is a :class:`RunError`."""
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where}: not JSON ({str(error)[:200]})") from None
    if not isinstance(value, dict):
        raise RunError(f"{where}: {type(value).__name__} where an object is needed")
    if b"\\ud" in data.lower():  # maybe an unpaired surrogate, which cannot be printed or saved: becomes "?"
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def write_json(path: Path, value: Any, *, replace: bool = True) -> bool:
    """Write a value as indented JSON, atomically; the arguments and the result are those of :func:`write_bytes`."""
    return write_bytes(path, dump_json(value, indent=2) + b"\n", replace=replace)


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write values as lines of JSON, atomically (:func:`write_bytes`)."""
    write_bytes(path, b"".join(dump_json(value) + b"\n" for value in values))


def write_bytes(path: Path, data: bytes, *, replace: bool = True) -> bool:
    """Write a file atomically.

    Args:
        path: The file.
        data: Content of the file.
        replace: Whether an existing file is replaced.

    Returns:
        False if an existing file was kept.

    Raises:
        RunError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"{path} cannot be written ({error.strerror}): free some space, or choose another"
            ) from error
        if replace:
            os.replace(temporary, path)
        else:
            try:
                os.link(temporary, path)  # unlike rename, fails if another process was first
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                if path.exists():
                    return False
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, if the system supports it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open a folder
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LineWriter:
    """The single writer of a file of JSON lines; use it in ``with``."""

    def __init__(self, path: Path, error: type[RunError] = RunError) -> None:
        """Open ``path``, and cut off an incomplete last line.

        Args:
            path: The file; created if missing.
            error: Class of the raised errors.

        Raises:
            RunError: Another process writes the file.
            OSError: The file cannot be opened.
        """
        self.path = path
        self._error = error
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._written = self._synced = 0  # lines
        self._file = -1
        self._lock = try_lock(path)
        if self._lock is None:
            raise error(f"{path} is being written by another process: wait for it, or stop it")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._cut_torn_line()
            sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def append(self, record: dict[str, Any]) -> None:
        """Write one record. On return its line is on the disk; on an error no part of it is.

        Several threads may append concurrently: one ``fsync`` then covers all lines written before it.

        Raises:
            RunError: The file is closed, or cannot be written.
        """
        data = dump_json(record) + b"\n"
        try:
            with self._writing:
                if self._file < 0:
                    raise self._error(f"{self.path} is closed")
                start = os.fstat(self._file).st_size
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(self._file, view) :]
                except OSError:
                    os.ftruncate(self._file, start)  # or the next line would be appended to half of this one
                    raise
                self._written += 1
                ticket = self._written
            with self._syncing:
                if self._synced < ticket:
                    position = self._written
                    try:
                        os.fsync(self._file)
                    except OSError:
                        self._take_back(start, start + len(data))
                        raise
                    self._synced = position
        except OSError as error:
            raise self._error(
                f"{self.path} cannot be written ({error.strerror}): free some space and start again; "
                "what was written before is kept, and the run goes on from there"
            ) from error

    def _take_back(self, start: int, end: int) -> None:
        """Remove the last line, unless another one follows."""
        with self._writing:
            if os.fstat(self._file).st_size == end:
                os.ftruncate(self._file, start)

    def close(self) -> None:
        with self._syncing, self._writing:  # not while another thread writes
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._file).st_size
        keep, step = size, 65536
        while keep > 0:  # search backwards for the last newline
            start = max(0, keep - step)
            newline = os.pread(self._file, keep - start, start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < size:
            os.ftruncate(self._file, keep)
            os.fsync(self._file)


def read_lines(
    file: BinaryIO, where: str, *, max_lines: int | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the objects of a file of JSON lines, with their line numbers from 1.

    Text after the last newline counts if it is a complete object (some tools write no last newline); else it is the
    remainder of an interrupted write, and skipped.

    Args:
        file: File opened for reading bytes.
        where: Name of the file in messages.
        max_lines: Largest number of lines; None for any number.
        max_line_bytes: Largest size of a line, in bytes.

    Raises:
        RunError: A line is no JSON object or too long, or there are too many.
    """
    number = 0
    while line := file.readline(max_line_bytes + 1):
        if not line.endswith(b"\n"):
            if len(line) > max_line_bytes:
                raise RunError(f"{where}, line {number + 1}: longer than {max_line_bytes:,} bytes, no run writes that")
            try:
                value = load_json(line, where)
            except RunError:
                return
            yield number + 1, value
            return
        number += 1
        if max_lines is not None and number > max_lines:
            raise RunError(f"{where} has more than {max_lines:,} lines, which is the limit here")
        yield number, load_json(line, f"{where}, line {number}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
