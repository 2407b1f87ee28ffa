"""Load any recording as a :class:`Clip`; the only loader of the package.

Conventions: a clip is mono float32 at ``SAMPLE_RATE`` = 16 kHz in [-1, 1]; times are seconds from its start. Channels
are averaged; other rates are resampled (soxr, high quality) block by block, so that the length of the clip bounds the
memory, not the unpacked size of the file. Files are decoded in a child process. Arrays are (samples,) or (samples,
channels); integers are scaled by their full range, floats are used unchanged.

An unusable file raises :class:`AudioError`, whose message gives the cause and the remedy. Unusual but usable input
(silence, a truncated file, a level above full scale) is listed in ``Clip.warnings``.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import wave
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mpar2.decoder import decode_file
from mpar2.formats import BLOCK_FRAMES, AudioError, Block, Limits, check_stream, decode_pieces

__all__ = ["SAMPLE_RATE", "AudioError", "Clip", "Limits", "load_clip", "read_samples", "wav_bytes"]

SAMPLE_RATE = 16_000  # Hz

_SILENCE = 1e-4  # peak, -80 dB full scale
_OVERSHOOT = 1.1  # lossy decoders and resampling overshoot full scale a little; clipped without a warning
_MAX_LEVEL = 1e6  # above any value of a float recording, integer-scaled 16-bit ones included


@dataclass(frozen=True, eq=False)
class Clip:
    """A mono waveform at 16 kHz. ``samples`` is read-only; ``source`` is a name to show, not a path to open."""

    samples: np.ndarray  # (n,) float32
    source: str = "clip"
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        samples = np.ascontiguousarray(self.samples, dtype=np.float32)
        if samples.ndim != 1:
            raise AudioError(f"a clip has one dimension, these samples have shape {samples.shape}: use load_clip")
        samples = samples.view()
        samples.flags.writeable = False
        object.__setattr__(self, "samples", samples)

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the samples as little-endian float32: equal for equal sound, independent of the file."""
        return hashlib.sha256(self.samples.astype("<f4", copy=False).tobytes()).hexdigest()


def load_clip(source: Any, *, limits: Limits | None = None, name: str | None = None) -> Clip:
    """Load a recording. Files are decoded in a child process (:mod:`mpar2.decoder`).

    Args:
        source: A path, the bytes of a file, ``(rate, array)``, or a clip, which is only checked.
        limits: Bounds on the recording; by default :class:`Limits`.
        name: Label to use instead of the file's name.

    Returns:
        The clip, with its ``warnings``.

    Raises:
        AudioError: The source is no usable recording.
    """
    limits = limits or Limits()
    if isinstance(source, Clip):
        _check_seconds(source.seconds, limits)
        return source
    if source is None:
        raise AudioError("there is no audio: upload or record a clip first")
    is_array = isinstance(source, tuple) and len(source) == 2
    if isinstance(source, bytes | bytearray | memoryview):
        label, content = name or "recording", bytes(source)
    elif isinstance(source, str | os.PathLike):
        label, content = name or Path(os.fsdecode(source)).name, os.path.abspath(os.fsdecode(source))
    elif is_array:
        label, content = name or "recording", source
    else:
        raise AudioError(f"cannot load audio from {type(source).__name__}: give a path, bytes or (rate, array)")
    label = _printable(label)
    try:
        samples, warnings = read_samples(content, limits) if is_array else decode_file(content, limits)
    except AudioError as error:
        raise AudioError(f"{label}: {error}") from error
    return Clip(samples, label, warnings)


def read_samples(source: bytes | str | tuple[Any, Any], limits: Limits) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a recording in this process; the child of :mod:`mpar2.decoder` calls it.

    Args:
        source: The bytes of a file, its path, or ``(rate, array)``.
        limits: Bounds on the recording.

    Returns:
        Mono samples at 16 kHz, (n,) float32 in [-1, 1]; and warnings about them.

    Raises:
        AudioError: The source is no usable recording.
    """
    warnings: list[str] = []
    try:
        if isinstance(source, bytes):
            blocks = _open_file(io.BytesIO(source), limits, warnings.append)
        elif isinstance(source, str):
            blocks = _open_path(source, limits, warnings.append)
        else:
            blocks = _array_blocks(*source, limits)
        samples = _collect(blocks, limits, warnings)
    except AudioError as error:
        # A truncated file may fail for being too short: the warning then names the cause.
        cause = f" ({'; '.join(warnings)})" if warnings else ""
        raise AudioError(f"{error}{cause}") from error
    return samples, tuple(warnings)


def wav_bytes(clip: Clip) -> bytes:
    """Encode a clip as a 16-bit PCM wav file; lossless for samples that came from 16 bits."""
    pcm = np.clip(np.rint(clip.samples * 32768.0), -32768, 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.tobytes())
    return buffer.getvalue()


def _printable(label: str) -> str:
    """Return an untrusted file name as one line, without control characters, short enough for a message."""
    text = "".join(ch if ch.isprintable() else "?" for ch in str(label)) or "recording"
    return text if len(text) <= 80 else f"{text[:60]}…{text[-16:]}"


def _open_path(path: str, limits: Limits, warn: Callable[[str], None]) -> Iterator[Block]:
    try:
        # Non-blocking: opening a named pipe would otherwise wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise AudioError("there is no such file: check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the path is not valid"
        raise AudioError(f"the file cannot be opened ({reason})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AudioError("this is not a file (a folder or a device?): give an audio file")
    with os.fdopen(descriptor, "rb") as file:
        yield from _open_file(file, limits, warn)


def _open_file(file: BinaryIO, limits: Limits, warn: Callable[[str], None]) -> Iterator[Block]:
    size = file.seek(0, io.SEEK_END)
    if size == 0:
        raise AudioError("the file is empty (0 bytes): the upload or the recording failed; try again")
    if size > limits.max_bytes:
        raise AudioError(
            f"the file has {size / 1e6:.1f} MB; the limit is {limits.max_bytes / 1e6:.1f} MB: "
            "cut it, or export it as flac, mp3 or m4a"
        )
    file.seek(0)
    return decode_pieces(file, limits, warn)


def _array_blocks(rate: Any, array: Any, limits: Limits) -> Iterator[Block]:
    """Yield blocks of ``(rate, array)``, to bound the memory of the conversion."""
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.integer | np.floating) or rate != rate // 1:
        raise AudioError(f"the sampling rate must be a whole number of Hz, not {rate!r}: give (rate, array)")
    array = np.asarray(array)
    if array.ndim not in (1, 2):
        raise AudioError(f"the array has shape {array.shape}: give (samples,) or (samples, channels)")
    if array.dtype.kind not in "fiu":
        raise AudioError(f"the array holds {array.dtype}: give floats in [-1, 1] or integers")
    if array.size == 0:
        raise AudioError("the recording is empty (0 samples): record or upload it again")
    if array.ndim == 1:
        array = array[:, None]
    check_stream(rate, array.shape[1], limits)
    for start in range(0, len(array), BLOCK_FRAMES):
        block = array[start : start + BLOCK_FRAMES]
        if block.dtype.kind == "f":
            with np.errstate(over="ignore"):  # to infinity, which is refused below
                samples = block.astype(np.float32)
        else:
            full = float(1 << 8 * block.dtype.itemsize - 1)
            samples = (block / full - (1.0 if block.dtype.kind == "u" else 0.0)).astype(np.float32)
        yield Block(int(rate), samples)


def _collect(blocks: Iterable[Block], limits: Limits, warnings: list[str]) -> np.ndarray:
    """Check, downmix and resample block by block. Limits are enforced on the decoded samples."""
    resampled: list[np.ndarray] = []
    resampler: _Resampler | None = None
    seconds, decoded, peak = 0.0, 0, 0.0
    for rate, samples in blocks:
        seconds += len(samples) / rate
        decoded += samples.size
        if seconds > limits.max_seconds:
            raise AudioError(f"the recording is longer than {limits.max_seconds:g} s, the limit: cut it")
        if decoded > limits.max_decoded_samples:
            raise AudioError(
                f"the file unpacks into more than {limits.max_decoded_samples} samples, the limit: "
                "cut it, or export it with fewer channels or a lower rate"
            )
        block_peak = float(np.abs(samples).max(initial=0.0))  # NaN stays NaN
        if not np.isfinite(block_peak):
            raise AudioError("some samples are not numbers (NaN or infinite): the file may be damaged; export it again")
        if block_peak > _MAX_LEVEL:
            raise AudioError(
                f"samples reach {block_peak:.3g}; full scale is 1: the file may be damaged or no audio; export it again"
            )
        peak = max(peak, block_peak)
        if resampler is None or resampler.rate != rate:  # some codecs change their rate in the stream
            if resampler is not None:
                resampled.append(resampler.flush())
            resampler = _Resampler(rate)
        resampled.append(resampler.push(samples.mean(axis=1, dtype=np.float32)))
    if resampler is not None:
        resampled.append(resampler.flush())
    _check_seconds(seconds, limits)
    mono = np.concatenate(resampled)
    del resampled
    return _normalise_level(mono, peak, warnings)


def _normalise_level(mono: np.ndarray, peak: float, warnings: list[str]) -> np.ndarray:
    """Scale ``mono`` into [-1, 1]; warn if that changes it, and if it is silent."""
    mono_peak = float(np.abs(mono).max(initial=0.0))
    if peak < _SILENCE:
        warnings.append("the recording is silent (or nearly so): there is nothing to hear in it")
    elif mono_peak < _SILENCE:
        warnings.append("the channels cancel each other: mixed to one they are silent; record in mono")
    if peak > _OVERSHOOT:
        warnings.append(f"the level exceeds full scale (peak {peak:.3g}, full scale 1): it was turned down")
        mono = mono / max(mono_peak, 1.0)
    return np.clip(mono, -1.0, 1.0, out=mono)


def _check_seconds(seconds: float, limits: Limits) -> None:
    if seconds == 0:
        raise AudioError("the file holds no audio (0 samples): record or export it again")
    if seconds < limits.min_seconds:
        raise AudioError(f"the recording has {seconds:.3f} s; the least is {limits.min_seconds:g} s: record again")
    if seconds > limits.max_seconds:
        raise AudioError(f"the recording has {seconds:.1f} s; the limit is {limits.max_seconds:g} s: cut it")


class _Resampler:
    """Resample blocks of one rate to 16 kHz; equal to resampling all at once."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._stream = None
        if rate != SAMPLE_RATE:
            import soxr

            self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def push(self, mono: np.ndarray) -> np.ndarray:
        return mono if self._stream is None else self._stream.resample_chunk(mono)

    def flush(self) -> np.ndarray:
        empty = np.zeros(0, np.float32)
        return empty if self._stream is None else self._stream.resample_chunk(empty, last=True)
