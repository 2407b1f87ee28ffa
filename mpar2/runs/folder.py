"""Write and read run folders.

    manifest.json       first; the settings of the run (``manifest``)
    items.jsonl         one fsynced line for each item, arm and sample (``record``, ``lines``)
    items.1.jsonl, ..   the same for further processes: each file has one writer
    metrics.json        last, after all answers
    predictions/        the official file of each arm, for the official scripts

Each file of lines may be compressed (``items.jsonl.gz``, ``cafe/NAME/scores.jsonl.gz``), which readers accept.
``compress_run`` does so with a finished run. The lines of one item are adjacent and share most of their text, so that
the size falls to about a tenth.

The writer resumes a killed run: records with status ok are finished; failed ones are retried, and the new line follows
the old one. A reader yields one record per key: the ok one if present, else the last failure. Two ok lines of one key
are damage.

A reader takes a folder, a zip of one, or a lone ``items.jsonl``; and, for untrusted uploads,
``RunLimits``. A zip is read in place: nothing is unpacked, and no name inside it becomes a path.
"""

from __future__ import annotations

import gzip
import io
import mmap
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from mpar2.runs.lines import LineWriter, RunError, dump_json, load_json, read_lines, write_bytes, write_json
from mpar2.runs.manifest import check_manifest, differences
from mpar2.runs.record import check_record

__all__ = ["RunLimits", "Run", "RunWriter", "compress_run", "open_lines", "open_member", "read_run"]

_MANIFEST, _METRICS = "manifest.json", "metrics.json"
_ITEMS = re.compile(r"items(?:\.(\d{1,4}))?\.jsonl(?:\.gz)?")


@dataclass(frozen=True)
class RunLimits:
    """Limits of a reader. The defaults suit a visitor's upload; a user's own run needs none."""

    max_bytes: int = 300_000_000  # all files together, unpacked
    max_lines: int = 200_000
    max_line_bytes: int = 4_000_000
    max_manifest_bytes: int = 4_000_000
    max_zip_entries: int = 5000


OWN_LIMITS = RunLimits(1 << 50, 1 << 40, 16_000_000, 64_000_000, 1 << 40)


@dataclass
class RunWriter:
    """The writer of one process; use it in ``with``. ``rank`` numbers the processes of one run.

    ``done`` has the keys of finished answers, ``failed`` the reasons of those to retry.
    """

    folder: Path
    manifest: Mapping[str, Any]
    rank: int = 0
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> RunWriter:
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _MANIFEST
        if not path.exists() and any(_ITEMS.fullmatch(inner.name) for inner in self.folder.iterdir()):
            raise RunError(
                f"{self.folder} has items and no {_MANIFEST}: what they are of is unknown; choose a new folder"
            )
        if not write_json(path, self.manifest, replace=False):
            changed = differences(read_run(self.folder).manifest, self.manifest)
            if changed:
                raise RunError(
                    f"{self.folder} holds another run; it differs in\n  "
                    + "\n  ".join(changed)
                    + "\nGive the old settings to go on with it, or a new folder for these."
                )
        name = "items.jsonl" if self.rank == 0 else f"items.{self.rank}.jsonl"
        self._lines = LineWriter(self.folder / name)
        try:
            self.refresh()
        except BaseException:
            self._lines.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._lines.close()

    def refresh(self) -> None:
        """Update the finished keys, of this process and of the others."""
        self.done, self.failed = set(), {}
        for record in read_run(self.folder).records():
            if record["status"] == "ok":
                self.done.add(record["key"])
            else:
                self.failed[record["key"]] = record["error"]

    def append(self, record: Mapping[str, Any]) -> None:
        """Check and write one record. It is on the disk on return.

        Raises:
            RunError: The record violates the schema, or cannot be written.
        """
        line = check_record(record, f"a record of {self.folder}")
        if line["key"] in self.done:
            raise RunError(f"{self.folder}: {line['key']} is done already; a second line would count it twice")
        self._lines.append(line)
        if line["status"] == "ok":
            self.done.add(line["key"])
            self.failed.pop(line["key"], None)
        else:
            self.failed[line["key"]] = line["error"]

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``, atomically."""
        write_json(self.folder / _METRICS, metrics)


@dataclass(frozen=True)
class Run:
    """A run: ``manifest`` ({} for a lone JSONL file), ``metrics`` (None before the end), and its records."""

    name: str
    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    _files: Mapping[str, Callable[[], AbstractContextManager[BinaryIO]]]
    _limits: RunLimits

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one checked record for each key: the ok ones in the order of the files, then the remaining failures.

        Raises:
            RunError: A line is damaged, or there are too many.
        """
        done: set[str] = set()
        failed: dict[str, dict[str, Any]] = {}
        lines = 0
        for name, open_file in self._files.items():
            where = f"{self.name}/{name}"
            max_lines = self._limits.max_lines - lines
            with open_file() as file:
                for number, raw in read_lines(
                    file, where, max_lines=max_lines, max_line_bytes=self._limits.max_line_bytes
                ):
                    lines += 1
                    record = check_record(raw, f"{where}, line {number}")
                    key = record["key"]
                    if record["status"] == "error":
                        failed[key] = record
                    elif key in done:
                        raise RunError(f"{where}, line {number}: {key} for the second time; remove one of the two")
                    else:
                        done.add(key)
                        yield record
        yield from (record for key, record in failed.items() if key not in done)


def read_run(source: str | Path, limits: RunLimits | None = None) -> Run:
    """Open a run.

    Args:
        source: A run folder, a zip of one, or a JSONL file of its lines.
        limits: Limits for uploads; none by default.

    Returns:
        The run; its lines are read lazily.

    Raises:
        RunError: The source is no run, or exceeds a limit.
    """
    path, limits = Path(source), limits or OWN_LIMITS
    if path.is_dir():
        return _from_folder(path, limits)
    if not path.is_file():
        raise RunError(f"{path} is not there: give a run folder, a zip of one, or its items.jsonl")
    if zipfile.is_zipfile(path):
        return _from_zip(path, limits)
    _check_size(path.stat().st_size, path.name, limits)
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    return Run(name, {}, None, {path.name: lambda: open_lines(path, limits.max_bytes)}, limits)


def open_lines(path: Path, max_bytes: int = OWN_LIMITS.max_bytes) -> BinaryIO:
    """Open a file of lines, compressed (``.gz``) or not, whose unpacked size is at most ``max_bytes``."""
    if path.suffix != ".gz":
        return path.open("rb")
    return _LimitedLines(gzip.GzipFile(path, "rb"), path.name, max_bytes, "compress the run again")  # type: ignore[return-value]


def compress_run(folder: str | Path) -> tuple[int, int]:
    """Compress the lines of a finished run in place.

    The journals of judges and probes are removed if their results exist: they only serve to resume.

    Returns:
        Bytes of the run before and after.

    Raises:
        RunError: The folder is no run, or the run is not finished.
    """
    folder = Path(folder)
    if not (folder / _MANIFEST).is_file() or not (folder / _METRICS).is_file():
        raise RunError(f"{folder} is no finished run (it needs {_MANIFEST} and {_METRICS}): finish it first")
    files = [path for path in folder.rglob("*") if path.is_file()]
    before = sum(path.stat().st_size for path in files)
    for pattern in ("items*.jsonl", "cafe/*/scores.jsonl", "cafe/probes.jsonl"):
        for path in sorted(folder.glob(pattern)):
            # No time and no name in the header, so that equal lines give equal bytes.
            write_bytes(path.with_name(f"{path.name}.gz"), gzip.compress(path.read_bytes(), compresslevel=9, mtime=0))
            path.unlink()
    for path in folder.rglob(_METRICS):
        write_bytes(path, dump_json(load_json(path.read_bytes(), path.name)) + b"\n")  # without indentation
    for journal, result in (
        ("cafe/*/verdicts.jsonl", "scores.jsonl.gz"),
        ("cafe/probe-answers.jsonl", "probes.jsonl.gz"),
    ):
        for path in folder.glob(journal):
            if (path.parent / result).exists():
                path.unlink()
    return before, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _from_folder(folder: Path, limits: RunLimits) -> Run:
    if not (folder / _MANIFEST).is_file():
        raise RunError(f"{folder} is no run: it has no {_MANIFEST}")
    names = sorted((name for name in (p.name for p in folder.iterdir()) if _ITEMS.fullmatch(name)), key=_rank)
    _check_size(sum((folder / name).stat().st_size for name in names), folder.name, limits)

    def small(name: str) -> dict[str, Any]:
        with (folder / name).open("rb") as file:
            return _read_small(file, f"{folder.name}/{name}", limits)

    metrics = small(_METRICS) if (folder / _METRICS).is_file() else None
    files = {name: lambda name=name: open_lines(folder / name, limits.max_bytes) for name in names}
    return Run(folder.resolve().name, check_manifest(small(_MANIFEST), folder.name), metrics, files, limits)


def _from_zip(path: Path, limits: RunLimits) -> Run:
    _check_entries(path, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            entries: dict[str, zipfile.ZipInfo] = {}
            for info in archive.infolist():
                inner = PurePosixPath(info.filename)
                relevant = inner.name in (_MANIFEST, _METRICS) or _ITEMS.fullmatch(inner.name)
                if relevant and len(inner.parts) <= 2 and not info.is_dir():  # in the root or in one folder
                    if inner.name in entries:
                        raise RunError(f"{path.name} holds {inner.name} twice: zip one run at a time")
                    if info.flag_bits & 1:
                        raise RunError(f"{path.name} is encrypted: zip the run without a password")
                    entries[inner.name] = info
            items = sorted((name for name in entries if _ITEMS.fullmatch(name)), key=_rank)
            if not items:
                raise RunError(f"{path.name} holds no items.jsonl in its root or in one folder: zip a run folder")
            _check_size(sum(entries[name].file_size for name in items), path.name, limits)

            def small(name: str) -> dict[str, Any]:
                with archive.open(entries[name]) as file:
                    return _read_small(file, f"{path.name}/{name}", limits)

            manifest = check_manifest(small(_MANIFEST), path.name) if _MANIFEST in entries else {}
            metrics = small(_METRICS) if _METRICS in entries else None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise RunError(f"{path.name} cannot be read as a zip ({error}): zip the run again") from None

    # The sizes in the directory of the zip are untrusted: the stream is counted while reading.
    files = {name: lambda info=entries[name]: open_member(path, info, limits.max_bytes) for name in items}
    return Run(path.stem, manifest, metrics, files, limits)


def open_member(path: Path, info: zipfile.ZipInfo, max_bytes: int) -> BinaryIO:
    """Open a file of lines in a zip, compressed (``.gz``) or not, for reading.

    Raises:
        RunError: The zip is damaged.
    """
    where, advice = f"{path.name}/{info.filename}", "zip the run again"
    try:
        archive = zipfile.ZipFile(path)
        file = archive.open(info)
        unpacked = gzip.GzipFile(fileobj=file) if info.filename.endswith(".gz") else file
        return _LimitedLines(unpacked, where, max_bytes, advice, archive)  # type: ignore[return-value]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise RunError(f"{where}: damaged ({error}); {advice}") from None


class _LimitedLines(io.RawIOBase):
    """A compressed file of lines with a limit on its size; damage raises a RunError."""

    def __init__(self, file: Any, where: str, limit: int, advice: str, archive: zipfile.ZipFile | None = None) -> None:
        super().__init__()
        self._file, self._archive = file, archive
        self._where, self._left, self._advice = where, limit, advice

    def readline(self, size: int | None = -1) -> bytes:  # what read_lines calls
        return self._read_counted(self._file.readline, size)

    def read(self, size: int | None = -1) -> bytes:
        return self._read_counted(self._file.read, size)

    def _read_counted(self, reader: Callable[[int], bytes], size: int | None) -> bytes:
        try:
            data = reader(-1 if size is None else size)
        except Exception as error:  # zlib, lzma and zipfile raise many types
            raise RunError(f"{self._where}: damaged ({error}); {self._advice}") from None
        self._left -= len(data)
        if self._left < 0:
            raise RunError(f"{self._where} unpacks to more than the limit: give a part of the run")
        return data

    def close(self) -> None:
        (self._archive or self._file).close()
        super().close()


def _read_small(file: Any, where: str, limits: RunLimits) -> dict[str, Any]:
    try:
        data = file.read(limits.max_manifest_bytes + 1)
    except Exception as error:
        raise RunError(f"{where}: damaged ({error}); zip the run again") from None
    if len(data) > limits.max_manifest_bytes:
        raise RunError(f"{where} is larger than {limits.max_manifest_bytes:,} bytes, which is the limit here")
    return load_json(data, where)


def _check_size(size: int, where: str, limits: RunLimits) -> None:
    if size > limits.max_bytes:
        raise RunError(f"{where} has {size:,} bytes; the limit here is {limits.max_bytes:,}: upload a part of the run")


def _check_entries(path: Path, limits: RunLimits) -> None:
    """Refuse a zip with very many files before ``zipfile`` allocates half a kilobyte of objects for each.

    The declared number of files is untrusted, so the signatures of directory entries are counted.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        entries, place = 0, -1
        while entries <= limits.max_zip_entries and (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
            entries += 1
    if entries > limits.max_zip_entries:
        raise RunError(f"{path.name} holds more than {limits.max_zip_entries:,} files: zip the run's folder alone")


def _rank(name: str) -> int:
    match = _ITEMS.fullmatch(name)
    return int(match[1] or 0) if match else 0
