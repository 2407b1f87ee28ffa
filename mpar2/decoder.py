"""Decode audio files in a child process (``mpar2.child``), since a crafted file may crash the C libraries."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from mpar2.child import Bounds, ChildError, Pool, Reply, serve
from mpar2.formats import AudioError, Limits

__all__ = ["decode_file"]

_BUSY = 4  # files decoded at once; more wait
_SPARE_BYTES = 700_000_000  # beside the imported libraries and the clip
_pool = Pool("-P", "-m", "mpar2.decoder", busy=_BUSY)


def decode_file(source: bytes | str, limits: Limits) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a file in a child process, as ``read_samples`` does here; a crash and a timeout are AudioErrors too."""
    is_path = isinstance(source, str)
    header = {"path": source if is_path else None, "limits": asdict(limits)}
    clip = int(limits.max_seconds * 16_000 * 4)
    bounds = Bounds(_cpu_s(limits), 6 * _cpu_s(limits), _SPARE_BYTES + 4 * clip + limits.max_bytes)
    try:
        ((reply, samples),) = _pool.ask(header, b"" if is_path else source, bounds)
    except ChildError as error:
        raise AudioError(_error_message(error, limits)) from None
    return np.frombuffer(samples, np.float32), tuple(reply["warnings"])


def _error_message(error: ChildError, limits: Limits) -> str:
    match error.kind:
        case "refused":
            return error.words
        case "failed":
            return f"the file cannot be decoded ({error.words}): it may be damaged; export it again as wav"
        case "memory":
            return "decoding takes more memory than a recording needs: the file may be damaged; export it again as wav"
        case "late":
            return (
                f"decoding took longer than {_cpu_s(limits)} s, the limit: the file may be damaged, or made to hold up "
                "programs; export it again as wav or flac"
            )
        case "absent":
            return (
                f"the process that decodes audio does not start (exit status {error.words}): run "
                "'python -m mpar2.decoder' to see why"
            )
    return (
        f"the decoder crashed at this file (exit status {error.words}): the file may be damaged or made to crash "
        "programs; export it again as wav or flac"
    )


def _cpu_s(limits: Limits) -> int:
    """Return the processor time allowed for one file in seconds; a minute of sound takes a fraction of a second."""
    return 8 + int(limits.max_seconds) // 60


# ---- the child -----------------------------------------------------------------------------------------------------


def _prepare() -> None:
    import mpar2.audio  # noqa: F401

    for library in ("soundfile", "soxr", "av"):
        with contextlib.suppress(Exception):
            __import__(library)


def _answer(header: dict[str, Any], content: bytes) -> Iterator[Reply]:
    from mpar2.audio import read_samples

    source = content if header["path"] is None else header["path"]
    samples, warnings = read_samples(source, Limits(**header["limits"]))
    yield {"warnings": warnings}, memoryview(samples).cast("B")


if __name__ == "__main__":
    serve(_answer, _prepare)
