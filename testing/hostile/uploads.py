"""Hostile runs, made from a seed: zip bombs, zips with false sizes, and lines and manifests with odd values."""

from __future__ import annotations

import copy
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from testing.hostile import HostileFile
from testing.synthetic import ARMS, write_run

Files = dict[str, bytes]
_ODD = (None, True, -1, 10**400, 1e308, 0.5, "", "x" * 5000, "\ud800", [], [[]], [1, "a"], {}, {"a": {"b": 1}})


def hostile_uploads(seed: int = 0, odd_values: int = 60) -> list[HostileFile]:
    """Return archives and lines made by hand, then ``odd_values`` runs with an odd value at a random place."""
    return [*_archives(), *_lines(), *_odd_values(seed, odd_values)]


def good_upload(folder: Path) -> Path:
    """Return a zip of a valid run."""
    path = folder / "good.zip"
    path.write_bytes(_with({}))
    return path


@cache
def _run() -> Files:
    """Return the files of a small finished run with scores and probes."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_run(Path(folder) / "run", 6, ARMS[:2])
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _zip(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _with(changes: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    return _zip(_run() | changes, method)


# ---- archives ----------------------------------------------------------------------------------------------------


def _archives() -> Iterator[HostileFile]:
    zeros = bytes(120_000_000)
    yield HostileFile("120 MB of zeros in one line.zip", lambda: _with({"items.jsonl": zeros}))
    yield HostileFile("120 MB of empty lines.zip", lambda: _with({"items.jsonl": b"{}\n" * 100_000_000}))
    yield HostileFile("120 MB of zeros in the manifest.zip", lambda: _with({"manifest.json": zeros}))
    yield HostileFile("120 MB of zeros in the scores.zip", lambda: _with({"cafe/reference/scores.jsonl": zeros}))
    yield HostileFile("120 MB of zeros beside.zip", lambda: _with({"notes.txt": zeros}))
    yield HostileFile("false sizes.zip", lambda: _false_sizes(_with({"items.jsonl": zeros}), len(zeros)))
    yield HostileFile("zips in zips.zip", lambda: _with({"items.jsonl": _with({"items.jsonl": zeros})}))
    yield HostileFile("dictionary of 4 GB.zip", _lzma_bomb)
    yield HostileFile("bzip2.zip", lambda: _with({}, zipfile.ZIP_BZIP2))
    yield HostileFile("100,000 names.zip", lambda: _with({f"n/{number}": b"" for number in range(100_000)}))
    yield HostileFile(
        "directory with false sizes.zip", lambda: _with({})[:-12] + struct.pack("<IIHxx", 0xFFFFFFF0, 0xFFFFFFF0, 0)
    )
    yield HostileFile("entries that overlap.zip", _overlapping)
    yield HostileFile("encrypted.zip", lambda: _flagged(_with({})))
    yield HostileFile("cut off.zip", lambda: _with({})[:2000])
    yield HostileFile("damaged.zip", lambda: _damaged(_with({}, zipfile.ZIP_STORED)))
    yield HostileFile("damaged deflate.zip", lambda: _damaged(_with({})))
    yield HostileFile("no zip.zip", lambda: b"PK\x03\x04" + bytes(1000))
    yield HostileFile("text.zip", lambda: b"this is no zip at all\n" * 50)
    yield HostileFile("two runs.zip", lambda: _zip({f"{run}/{n}": d for run in "ab" for n, d in _run().items()}))
    yield HostileFile("members twice.zip", _twice)
    yield HostileFile("links.zip", _links)
    for prefix in ("/etc/", "../", "../../../../tmp/", "C:\\", "\\\\host\\share\\", "a/../", "./", "\u202e/", "<b>/"):
        name = prefix.replace("/", "!").replace("\\", "!")
        yield HostileFile(f"names in {name}.zip", partial(_zip, {prefix + name: data for name, data in _run().items()}))


def _false_sizes(data: bytes, size: int) -> bytes:
    return data.replace(struct.pack("<I", size), struct.pack("<I", 900))


def _lzma_bomb() -> bytes:
    """Return a zip whose LZMA members announce a dictionary of 4 GB."""
    data = bytearray(_with({}, zipfile.ZIP_LZMA))
    place = 0
    while (place := data.find(b"\x5d\0\0", place)) >= 0:
        data[place + 1 : place + 5] = b"\xff\xff\xff\xff"
        place += 5
    return bytes(data)


def _overlapping() -> bytes:
    """Return a zip with many names for the same bytes."""
    data = _with({"items.1.jsonl": _run()["items.jsonl"]})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[data.rindex(b"PK\x01\x02") : end]
    directory = data[start:end] + entry * 500
    return data[:start] + directory + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 505, 505, len(directory), start, 0)


def _flagged(data: bytes) -> bytes:
    changed = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := changed.find(magic, place + 1)) >= 0:
            changed[place + offset] |= 1
    return bytes(changed)


def _damaged(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[200:1400] = np.random.default_rng(3).bytes(1200)
    return bytes(changed)


def _twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in [*_run().items(), *_run().items()]:
            archive.writestr(name, data)
    return buffer.getvalue()


def _links() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in _run():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


# ---- lines -------------------------------------------------------------------------------------------------------


def _lines() -> Iterator[HostileFile]:
    lines = {
        "empty": b"",
        "a line of 2 MB": b'{"key":"' + b"x" * 2_000_000 + b'"}\n',
        "a line of 50 MB": b'{"key":"' + b"x" * 50_000_000 + b'"}\n',
        "no newline": b'{"key":"a"}',
        "deep lists": b"[" * 900_000 + b"\n",
        "deep objects": b'{"a":' * 150_000 + b"\n",
        "300,000 lists": b'{"attention":[' + b"[]," * 300_000 + b"[]]}\n",
        "30,000 lines": b"{}\n" * 30_000,
        "a number of 5,000 digits": b'{"tokens":' + b"9" * 5000 + b"}\n",
        "not a number": b'{"seconds":NaN}\n',
        "no utf-8": b'{"key":"\xff\xfe"}\n',
        "utf-16": '{"key":"a"}\n'.encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + b'{"key":"a"}\n',
        "zero bytes": bytes(100_000) + b"\n",
        "a page": b"<!doctype html><script>alert(1)</script>\n",
        "a pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.\n",
    }
    for name, data in lines.items():
        yield HostileFile(f"{name}.jsonl", partial(bytes, data))
        yield HostileFile(f"{name}.zip", partial(_with, {"items.jsonl": data}))
    long = b"".join(_attentive(number) for number in range(45))
    yield HostileFile("45 traces of 100,000 numbers.jsonl", partial(bytes, long))


def _attentive(number: int) -> bytes:
    record = json.loads(_run()["items.jsonl"].splitlines()[0])
    record["id"] = f"item {number}"
    record["key"] = f"item {number}|{record['arm']}|0"
    record["attention"] = {"ratio": [0.1] * 100_000, "corrected": [0.3] * 100_000}
    return json.dumps(record).encode() + b"\n"


# ---- values ------------------------------------------------------------------------------------------------------


def _odd_values(seed: int, number: int) -> Iterator[HostileFile]:
    files = ("manifest.json", "items.jsonl", "cafe/reference/scores.jsonl", "cafe/reference/metrics.json")
    files += ("cafe/probes.jsonl", "manifest.json")
    rng = np.random.default_rng(seed)
    for index in range(number):
        name = files[index % len(files)]
        yield HostileFile(f"odd {index} in {name}.zip", partial(_odd_value, name, int(rng.integers(1 << 31))))


def _odd_value(name: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    lines = _run()[name].splitlines() if name.endswith(".jsonl") else [_run()[name]]
    chosen = int(rng.integers(len(lines)))
    value = json.loads(lines[chosen])
    places = list(_places(value))
    path = places[int(rng.integers(len(places)))]
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = copy.deepcopy(_ODD[int(rng.integers(len(_ODD)))])
    lines[chosen] = json.dumps(value).encode()
    return _with({name: b"\n".join(lines) + b"\n"})


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:2]):
        if path + (key,) not in (("format",), ("version",)):
            yield (*path, key)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*path, key))
