"""The manifest: the settings of a run, written before its first line.

    format, version   "mpar2-run", 1
    created           UTC
    benchmark         name, version, fingerprint, items, file name
    arms              each with model, adapter, their hashes, mode, prompt hash, decoding, samples, controls
    seed              seed of all randomness
    engine            name, and other options that change its answers
    environment       versions, git state, hardware, command: recorded, not compared

Two manifests belong to one run if they agree in all but ``created`` and ``environment``. Keys are never part of it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mpar2 import __version__
from mpar2.question import short_repr
from mpar2.runs.lines import RunError
from mpar2.runs.record import is_number

__all__ = ["FORMAT", "VERSION", "build_manifest", "check_manifest", "differences", "environment", "weights_hash"]

FORMAT = "mpar2-run"
VERSION = 1
_NOT_COMPARED = ("created", "environment")
_PACKAGES = ("torch", "transformers", "peft", "numpy", "openai", "google-genai")
_WHOLE_FILE_BYTES = 64_000_000
_LARGEST = 1e15  # no count or setting is larger
_MAX_ARMS, _MAX_NAME = 1000, 200  # of an arm's name: as in a line of the run
_ARM_NUMBERS = ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "samples", "items")
_ARM_TEXTS = ("model", "adapter", "mode", "audio", "perception", "prompt_hash", "model_hash", "adapter_hash")


def build_manifest(
    *,
    benchmark: Mapping[str, Any],
    arms: Sequence[Mapping[str, Any]],
    seed: int,
    engine: Mapping[str, Any],
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Build the manifest of a run that starts now on this machine.

    Args:
        benchmark: Name, version, fingerprint and number of items.
        arms: Arms with prompt and weight hashes.
        seed: Seed of the run.
        engine: Name and options of the engine.
        command: The command line.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "benchmark": dict(benchmark),
        "arms": [dict(arm) for arm in arms],
        "seed": seed,
        "engine": dict(engine),
        "environment": environment() | {"command": list(command)},
    }


def check_manifest(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check a manifest before it is used.

    Raises:
        RunError: It has another version, or a value of a wrong type.
    """

    def need(right: bool, name: str, value: Any, kind: str) -> None:
        if not right:
            raise RunError(f"{where}/manifest.json: '{name}' is {short_repr(value)}; {kind} is needed")

    if raw.get("format") != FORMAT:
        raise RunError(f"{where}/manifest.json is of another program: its format is {str(raw.get('format'))[:60]!r}")
    if raw.get("version") != VERSION:
        raise RunError(f"{where} is a run of version {str(raw.get('version'))[:20]}; this program reads {VERSION}")
    arms, benchmark = raw.get("arms"), raw.get("benchmark")
    valid_arms = isinstance(arms, list) and all(isinstance(a, dict) and isinstance(a.get("name"), str) for a in arms)
    if not valid_arms or not isinstance(benchmark, dict):
        raise RunError(f"{where}/manifest.json lacks its arms or its benchmark")
    need(len(arms) <= _MAX_ARMS, "arms", len(arms), f"a list of at most {_MAX_ARMS}")
    names = [arm["name"] for arm in arms]
    need(len(set(names)) == len(names), "arms", names, "a name of its own for each")
    for arm in arms:
        need(0 < len(arm["name"]) <= _MAX_NAME, "name", arm["name"], f"a text of at most {_MAX_NAME} characters")
        for name in _ARM_NUMBERS:
            need(arm.get(name) is None or is_number(arm[name], _LARGEST), name, arm.get(name), "a number")
        for name in _ARM_TEXTS:
            need(isinstance(arm.get(name), str | None), name, arm.get(name), "a text")
    for name in ("name", "version", "fingerprint", "file"):
        need(isinstance(benchmark.get(name), str | int | None), name, benchmark.get(name), "a text")
    need(raw.get("seed") is None or is_number(raw["seed"], _LARGEST), "seed", raw.get("seed"), "a number")
    need(isinstance(raw.get("environment"), dict | None), "environment", raw.get("environment"), "an object")
    return dict(raw)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Compare two manifests, without ``created`` and ``environment``.

    Returns:
        One line for each difference; empty for manifests of one run.

    >>> differences({"seed": 1, "created": "a"}, {"seed": 2, "created": "b"})
    ['seed: 1, now 2']
    """
    values = []
    for manifest in (old, new):
        compared = {name: value for name, value in manifest.items() if name not in _NOT_COMPARED}
        values.append(dict(_leaves(compared)))
    pairs = {name: [leaves.get(name, "nothing") for leaves in values] for name in values[0] | values[1]}
    return [f"{name}: {before!s}, now {after!s}" for name, (before, after) in pairs.items() if before != after]


def environment() -> dict[str, Any]:
    """Return versions, git state, and hardware, without paths and host names."""
    return {
        "versions": {"mpar2": __version__, "python": platform.python_version()} | _versions(),
        "git": _git(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpus": _gpus(),
    }


def weights_hash(folder: str | Path) -> str:
    """Compute the sha256 of a checkpoint's files: names, sizes and content.

    For files above 64 MB only the first and last megabyte count, so that 15 GB of weights are hashed quickly. Two
    trainings differ in every megabyte; this does not protect against forgery.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.suffix == ".md":
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_FILE_BYTES:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                digest.update(file.read(1_000_000))
                file.seek(-1_000_000, os.SEEK_END)
                digest.update(file.read())
    return digest.hexdigest()


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            # arms are compared by name, which the message includes
            label = inner.get("name", index) if isinstance(inner, Mapping) else index
            yield from _leaves(inner, f"{name}[{label}]")
    else:
        yield name, value


def _versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git() -> str | None:
    """Return the commit of this source, with "+changes" if files differ from it; None outside of its repository."""
    folder = Path(__file__).resolve().parent

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if not ask("ls-files", Path(__file__).name):
            return None  # installed inside another repository
        return ask("rev-parse", "HEAD") + ("+changes" if ask("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")  # only if an engine has loaded it
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
