"""Decode untrusted audio files into bounded blocks of samples; :mod:`mpar2.audio` is the public interface.

The kind of a file follows from its structure (:mod:`mpar2.containers`), never its name. Only these are opened:

=====================================  ==========================================================
wav, flac, mp3, ogg (Vorbis, Opus)     libsndfile
mp4/m4a, aac (ADTS), webm/Matroska,    FFmpeg through PyAV >= 17.1, with a given demuxer, with a closed list of
mp3 that declares no length            codecs and no protocol: FFmpeg never probes, opens or fetches anything else
=====================================  ==========================================================

Headers may be false: 110 kB of FLAC unpack into 230 MB, a FLAC that declares 1000 samples may hold a minute, a
1 kB mp4 may declare 178 million packets. So declared sizes only lead to an early refusal or a warning; limits apply
to the decoded samples, in blocks of ``BLOCK_FRAMES``.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mpar2.containers import Piece, View, flac_frames, locate, split
from mpar2.errors import MPAR2Error

__all__ = ["BLOCK_FRAMES", "AudioError", "Block", "Limits", "check_stream", "decode_pieces"]

BLOCK_FRAMES = 8192
_MAX_ATTEMPTS = 200  # to resume behind damage
_MAX_LOST = 1 << 20  # samples at one place, in a file without a declared length


class AudioError(MPAR2Error, ValueError):
    """The audio cannot be used; the message gives the cause and the remedy."""


@dataclass(frozen=True)
class Limits:
    """Limits of a recording. The defaults suit a public app; all are enforced while decoding."""

    min_seconds: float = 0.1
    max_seconds: float = 300.0
    max_bytes: int = 100_000_000
    min_rate: int = 4_000  # Hz
    max_rate: int = 192_000  # Hz
    max_channels: int = 8
    max_decoded_samples: int = 120_000_000  # frames times channels: bounds time as well as memory


class Block(NamedTuple):
    """Consecutive samples at their original rate."""

    rate: int  # Hz
    samples: np.ndarray  # (frames, channels) float32


def check_stream(rate: float, channels: int, limits: Limits) -> None:
    """Refuse impossible sample rates and channel counts before anything is allocated for them.

    Raises:
        AudioError: A value is out of bounds.
    """
    if rate <= 0:
        raise AudioError(f"the sampling rate is {rate:g} Hz: the header is damaged; export the recording again")
    if not limits.min_rate <= rate <= limits.max_rate:
        raise AudioError(
            f"the sampling rate is {rate:g} Hz; accepted are {limits.min_rate} to {limits.max_rate} Hz: "
            "the header may be damaged; export the recording at 16000 or 48000 Hz"
        )
    if channels < 1:
        raise AudioError("the file declares no channel: the header is damaged; export the recording again")
    if channels > limits.max_channels:
        raise AudioError(
            f"there are {channels} channels; the limit is {limits.max_channels}: "
            "the header may be damaged, or the array is (channels, samples) and must be (samples, channels)"
        )


_FOREIGN = (
    (b"FORM", "an AIFF file"), (b".snd", "an AU file"), (b"riff\x2e\x91\xcf\x11", "a Wave64 file"),
    (b"NIST_1A", "a SPHERE file"), (b"Creative Voice", "a VOC file"), (b"\x0bw", "an AC-3 file"),
    (b"FLV\x01", "a Flash video"), (b"TTA1", "a TTA file"), (b"wvpk", "a WavPack file"),
    (b"MAC ", "a Monkey's Audio file"), (b"DSD ", "a DSD file"), (b"#!AMR", "an AMR file"), (b"caff", "a CAF file"),
    (b"MThd", "a MIDI file (notes, not sound)"), (b"0&\xb2u", "a WMA or ASF file"),
    (b"RIFF", "a RIFF file but not a wav (AVI perhaps)"), (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"), (b"%PDF", "a PDF"), (b"\x89PNG", "a picture"), (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
)  # fmt: skip


def _describe(head: bytes) -> str:
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            return f"this is {name}"
    if head[:1] == b"G" and head[188:189] == b"G":
        return "this is an MPEG transport stream"
    if head[:1] == b"\xff" and head[1:2] in (b"\xfc", b"\xfd", b"\xf4", b"\xf5"):
        return "this is an MPEG layer 2 file (mp2)"
    if not head.strip(b"\0"):
        return "the file holds only zero bytes: the copy may have failed"
    try:
        # The cut may split a character, which leaves at most three bytes.
        text = head[:512].decode("utf-8", errors="strict" if len(head) <= 512 else "ignore")
    except UnicodeDecodeError:
        return "this is not an audio file that we know"
    if text and sum(ch.isprintable() or ch in "\r\n\t" for ch in text) > 0.95 * len(text):
        return "this is text, not audio (a web page or an error message saved under an audio name?)"
    return "this is not an audio file that we know"


def decode_pieces(file: BinaryIO, limits: Limits, warn: Callable[[str], None]) -> Iterator[Block]:
    """Yield the blocks of all recordings of a file.

    Args:
        file: The file, readable and seekable.
        limits: Limits of duration, size, rate and channels.
        warn: Callback for messages about tolerable damage.

    Yields:
        Blocks of samples. A truncated file yields its intact part and warns.

    Raises:
        AudioError: Nothing can be decoded, or a limit is exceeded.
    """
    with contextlib.closing(_mapped(file)) as data:
        head = bytes(data[:512])
        foreign = any(head.startswith(magic) for magic, _ in _FOREIGN if magic != b"RIFF")
        location = None if foreign else locate(data)
        if location is None and head[:3] == b"ID3":
            location = "mp3", 0
        if location is None:
            raise AudioError(f"{_describe(head)}; accepted are wav, flac, mp3, ogg, opus, m4a, aac and webm")
        pieces = split(data, *location)
    blocks = 0
    for number, piece in enumerate(pieces):
        for note in piece.notes:
            warn(note)
        view = io.BufferedReader(View(file, piece.ranges), 1 << 16)
        try:
            for block in _decode_piece(view, piece, limits, warn, last=number == len(pieces) - 1):
                blocks += 1
                yield block
        except AudioError as error:
            if not blocks:
                raise
            if "limit" in str(error):
                raise
            warn(f"part {number + 1} of the {len(pieces)} recordings that are joined in it is lost: {error}")


def _mapped(file: BinaryIO) -> Any:
    """Return the whole file as searchable bytes, memory-mapped if possible."""
    import mmap

    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        file.seek(0)
        return _Bytes(file.read())


class _Bytes(bytes):
    def close(self) -> None:
        pass


def _decode_piece(
    file: BinaryIO, piece: Piece, limits: Limits, warn: Callable[[str], None], *, last: bool
) -> Iterator[Block]:
    if piece.codec == "speex":
        raise AudioError("the audio is encoded as 'speex', which is not accepted: export it as wav, flac or opus")
    estimated = piece.kind == "mp3" and piece.promised is None  # libsndfile stops at the length it estimates
    if piece.kind in ("wav", "flac", "mp3", "ogg") and piece.codec != "flac" and not estimated:
        return _with_libsndfile(file, piece, limits, warn, last=last)
    return _with_ffmpeg(file, piece, limits, warn)


def _truncation_warning(held_s: float, declared_s: float | None = None) -> str:
    promise = f"; its header promises {declared_s:.1f} s" if declared_s is not None else ""
    return f"the file is damaged or cut off: {held_s:.1f} s could be decoded{promise}"


# --- libsndfile -------------------------------------------------------------------------------------------------


def _with_libsndfile(
    file: BinaryIO, piece: Piece, limits: Limits, warn: Callable[[str], None], *, last: bool
) -> Iterator[Block]:
    import soundfile

    kind = piece.kind
    # Read the headers here first: some must be patched before libsndfile accepts them.
    header = _read_header(file, piece, limits)
    source = file if header.patch is None else View(file, [(0, file.seek(0, io.SEEK_END))], header.patch)
    file.seek(0)
    try:
        sound = _open_sound(source)
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError, ValueError) as error:
        if header.codec is not None:
            raise AudioError(
                f"the audio is encoded as {header.codec}, which is not accepted: export it as wav"
            ) from error
        raise AudioError(
            f"the file begins like {kind} but cannot be decoded: it may be damaged, cut off, or of a form that is not "
            "known here; export it again"
        ) from error
    with sound:
        if sound.format not in ("WAV", "WAVEX", "RF64", "FLAC", "MP3", "OGG"):
            raise AudioError(f"the file is of kind {sound.format}; accepted are wav, flac, mp3, ogg")
        # Check format, rate and channels.
        rate, channels = sound.samplerate, sound.channels
        check_stream(rate, channels, limits)
        # For mp3 and ogg libsndfile only estimates the length; only a header declares it.
        declared = piece.promised or header.frames
        if declared is None and kind in ("wav", "flac") and sound.subtype != "MPEG_LAYER_III":
            declared = sound.frames if 0 < sound.frames < 1 << 48 else None
        # Decode block by block.
        frames, broken = 0, False
        while not broken:
            # libFLAC fails at bytes behind the last frame, and loses the block of that frame
            within_declared = kind == "flac" and declared is not None and frames < declared
            try:
                samples = sound.read(
                    min(BLOCK_FRAMES, declared - frames) if within_declared else BLOCK_FRAMES,
                    dtype="float32",
                    always_2d=True,
                )
            except soundfile.LibsndfileError:
                if kind == "flac" and declared is not None and frames >= declared:
                    file.seek(-2, io.SEEK_END)
                    if file.read() == b"\0\0":  # padding
                        break
                    warn(f"what follows {frames / rate:.1f} s of sound in the file is no flac and was not used")
                    break
                broken = True
                break
            if not len(samples):
                break
            frames += len(samples)
            yield Block(rate, samples)
    if broken and kind == "flac":
        lost = 0
        for silence, samples in _resume_after_damage(file, frames, declared):
            lost, frames = lost + silence, frames + silence + len(samples)
            for start in range(0, silence, BLOCK_FRAMES):
                yield Block(rate, np.zeros((min(BLOCK_FRAMES, silence - start), channels), np.float32))
            yield Block(rate, samples)
        if lost:
            warn(f"the file is damaged: {lost / rate:.2f} s of it are lost, silence stands in their place")
        broken = not lost
    cut = kind == "ogg" and last and not _ogg_is_complete(file)
    if frames == 0 and (broken or header.frames or header.holds_more or cut):
        raise AudioError("the file is damaged or cut off: nothing could be decoded; record or export it again")
    # Compare the decoded length with the declared one.
    slack = 2304 if kind == "mp3" else 0  # encoder delay and padding, not declared by every encoder
    if broken or (declared is not None and frames + slack < declared):
        warn(_truncation_warning(frames / rate, declared / rate if declared else None))
    elif declared is not None and header.frames is not None and frames > declared:
        actual = f"the file holds {frames / rate:.1f} s"
        warn(f"the header is wrong: it promises {declared / rate:.1f} s, {actual}; all is used")
    elif cut and frames:
        warn(_truncation_warning(frames / rate))


def _open_sound(source: Any) -> Any:
    import soundfile

    class ForwardOnly(soundfile.SoundFile):
        """Without seeking, ``read`` neither trusts the declared length nor seeks after each block."""

        def seekable(self) -> bool:
            return False

    return ForwardOnly(source)


def _resume_after_damage(file: BinaryIO, done: int, declared: int | None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the decodable frames of a FLAC behind the position where its decoder fails.

    Yields:
        The number of samples lost before a block, and the block, (samples, channels) float32.
    """
    import soundfile

    file.seek(0)
    data = file.read()
    # Each attempt is a file of its own: STREAMINFO as the last metadata block, of unknown length, then the frames.
    patch = b"\x80" + data[5:21] + bytes([data[21] & 0xF0]) + bytes(4)
    block = int.from_bytes(data[8:10], "big")
    attempts = 0
    for position, first in flac_frames(data, block):
        if first < done or attempts == _MAX_ATTEMPTS or first >= (declared or done + _MAX_LOST):
            continue
        attempts += 1
        source = View(file, [(0, 42), (position, len(data))], (4, patch))
        with contextlib.suppress(soundfile.LibsndfileError), _open_sound(source) as stream:
            while len(samples := stream.read(max(16, min(block, BLOCK_FRAMES)), dtype="float32", always_2d=True)):
                yield first - done, samples
                first = done = first + len(samples)


class _Header(NamedTuple):
    """The declarations of a header, and a patch for those that would mislead libsndfile."""

    frames: int | None = None
    patch: tuple[int, bytes] | None = None
    holds_more: bool = False  # bytes follow although the header declares none
    codec: str | None = None  # a codec without a decoder in libsndfile


def _read_header(file: BinaryIO, piece: Piece, limits: Limits) -> _Header:
    kind = piece.kind
    if kind == "wav":
        header = _read_wav_header(file, limits, joined=len(piece.ranges) > 1)
        file.seek(0)
        if file.read(4) == b"BW64" and header.patch is None:  # EBU Tech 3306 v2: RF64 under another name
            return header._replace(patch=(0, b"RF64"))
        return header
    if kind == "flac":
        return _read_flac_header(file, limits)
    return _Header()


def _read_flac_header(file: BinaryIO, limits: Limits) -> _Header:
    """Read STREAMINFO (RFC 9639, 8.2): 20 bits of rate, 3 of channels, 5 of width, 36 of samples, from byte 18."""
    file.seek(0)
    head = file.read(26)
    if head[:4] != b"fLaC" or len(head) < 26 or head[4] & 0x7F != 0:
        return _Header()
    word = int.from_bytes(head[18:26], "big")
    check_stream(word >> 44, (word >> 41 & 7) + 1, limits)
    # "Total samples: unknown" makes libsndfile read the actual samples, not the declared number.
    patch = (word >> 36 << 36).to_bytes(8, "big")
    return _Header(frames=word & (1 << 36) - 1 or None, patch=(18, patch))


def _read_wav_header(file: BinaryIO, limits: Limits, *, joined: bool) -> _Header:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(4) == b"RIFX":  # big-endian; libsndfile reads it
        return _Header()
    position, align, codec = 12, 0, None
    for _ in range(64):  # chunks
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        name, length = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"fmt " and length >= 14:
            tag, channels, rate, _, align = struct.unpack("<HHIIH", file.read(14).ljust(14, b"\0"))
            check_stream(rate, channels, limits)
            if tag == 0xFFFE and length >= 26:  # extensible: the tag begins the sub-format
                tag = int.from_bytes(file.read(12)[10:], "little")
            codec = None if tag in _WAV_DECODED else _WAV_CODECS.get(tag, f"wav format {tag:#06x}")
        elif name == b"data":
            present = size - position - 8
            if joined:  # the length is that of the first of several chunks
                return _Header(patch=(position + 4, struct.pack("<I", present)), codec=codec)
            if length == 0 and present > 0 and _only_chunks(file, position + 8, size):
                raise AudioError("the file holds no audio (0 samples): record or export it again")
            if length == 0 and present > 0:
                return _Header(patch=(position + 4, b"\xff\xff\xff\xff"), holds_more=True)
            # Streaming recorders write the largest value, which declares nothing.
            if length < 0x7FFF0000 and length > present and align:
                return _Header(frames=length // align, codec=codec)
            return _Header(codec=codec)
        position += 8 + length + length % 2
    return _Header(codec=codec)


# Tags of RFC 2361: those that libsndfile decodes, and the names of others.
_WAV_DECODED = (1, 2, 3, 6, 7, 0x11, 0x31, 0x55)
_WAV_CODECS = {
    0x22: "TrueSpeech", 0x40: "G.721", 0x42: "G.723.1", 0x45: "G.726", 0x50: "MPEG layer 2", 0x64: "G.726",
    0x65: "G.722", 0x83: "G.729", 0xFF: "AAC", **dict.fromkeys((0x160, 0x161, 0x162), "Windows Media Audio"),
    0x270: "ATRAC3", 0x28F: "G.722", 0x1610: "AAC", 0x2000: "AC-3", 0x2001: "DTS", 0x674F: "Vorbis", 0xF1AC: "FLAC",
}  # fmt: skip


def _only_chunks(file: BinaryIO, position: int, size: int) -> bool:
    """Return whether the rest of the file consists of well-formed chunks, which hold no sound."""
    for _ in range(64):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or not re.fullmatch(rb"[A-Za-z][A-Za-z0-9_ ]{3}", head[:4]):
            return False
        position += 8 + (length := struct.unpack("<I", head[4:])[0]) + length % 2
        if position >= size:
            return position - size <= 1
    return False


def _ogg_is_complete(file: BinaryIO) -> bool:
    """Return True if the last page of the file is complete and marked as the last of its stream (RFC 3533, 6)."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 65536 - 512))
    tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0 or start + 27 > len(tail):
        return False
    segments = tail[start + 27 : start + 27 + tail[start + 26]]
    complete = start + 27 + tail[start + 26] + sum(segments) <= len(tail)
    return bool(tail[start + 5] & 4) and complete


# --- FFmpeg -----------------------------------------------------------------------------------------------------

_DEMUXERS = {"mp3": "mp3", "ogg": "ogg", "mp4": "mp4", "aac": "aac", "matroska": "matroska"}
_CODECS = ("aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac")  # no ALAC: a frame may declare 512 MB
_MAX_MP4_PACKETS = 2_000_000  # FFmpeg allocates an index entry for each before reading any
_MAX_BAD_PACKETS = 100


def _with_ffmpeg(file: BinaryIO, piece: Piece, limits: Limits, warn: Callable[[str], None]) -> Iterator[Block]:
    av, kind = _import_av(), piece.kind
    if kind == "mp4":
        _check_mp4_tables(file)
    file.seek(0)
    broken = (
        f"the file begins like {'m4a or mp4' if kind == 'mp4' else kind} but cannot be decoded: it may be damaged or "
        "cut off (an unfinished recording?); record or export it again, as wav if you can"
    )
    # Only audio codecs, no network, no references to other files.
    options = {"codec_whitelist": ",".join(_CODECS), "protocol_whitelist": "none", "enable_drefs": "0"}
    # FFmpeg buffers packets ahead: of its own 5 MB, frames of 12 bytes make 170 MB of lists.
    options["probesize"] = "500000"
    try:
        container = av.open(file, mode="r", format=_DEMUXERS[kind], options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise AudioError(broken) from error
    with container:
        if not container.streams.audio:
            raise AudioError("the file holds no audio track: choose a recording with sound")
        stream = container.streams.audio[0]
        if len(container.streams.audio) > 1:
            warn(f"the file holds {len(container.streams.audio)} audio tracks; the first is used")
        codec = stream.codec_context
        if codec is None or codec.name not in _CODECS:
            name = "an unknown codec" if codec is None else repr(codec.name)
            raise AudioError(f"the audio is encoded as {name}, which is not accepted: export it as wav, flac or aac")
        if codec.channels:
            check_stream(codec.sample_rate, codec.channels, limits)
        # Decode packet by packet; damaged ones are skipped up to a limit.
        declared_s = _declared_s(file, container, stream, kind)
        frames = errors = rate = 0
        seconds = 0.0
        packets = container.demux(stream)
        while errors < _MAX_BAD_PACKETS:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError, ValueError):
                errors += 1
                break
            if packet is None:
                break
            try:
                decoded = packet.decode()
            except (av.FFmpegError, ValueError):
                errors += 1
                continue
            for frame in decoded:
                rate = frame.sample_rate
                check_stream(rate, len(frame.layout.channels), limits)
                samples = _frame_samples(frame)
                frames += len(samples)
                seconds += len(samples) / rate
                yield Block(rate, samples)
    if frames == 0:
        raise AudioError(broken)
    if errors or piece.cut or (declared_s is not None and seconds < 0.95 * declared_s - 0.2):
        warn(_truncation_warning(seconds, declared_s if declared_s and declared_s > seconds + 0.05 else None))


def _declared_s(file: BinaryIO, container: Any, stream: Any, kind: str) -> float | None:
    """Return the duration of the audio that a header declares, in seconds.

    FFmpeg's estimates, and other tracks, do not count.
    """
    if kind == "mp4" and stream.duration:
        return float(stream.duration * stream.time_base)
    if kind == "matroska" and container.duration and len(container.streams) == 1:
        position = file.tell()
        file.seek(0)
        has_duration = re.search(rb"\x44\x89[\x84\x88]", file.read(65536)) is not None
        file.seek(position)
        # end of the last packet on the clock of the file, which need not begin at 0
        return (container.duration - (container.start_time or 0)) / 1_000_000 if has_duration else None
    return None


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise AudioError("m4a, aac and webm need PyAV: pip install 'av>=17.1', or use wav, flac, mp3, ogg") from error
    if tuple(int(part) for part in re.findall(r"\d+", av.__version__)[:2]) < (17, 1):
        # Before 17.1 the bundled FFmpeg corrupts memory on crafted files.
        raise AudioError(f"PyAV {av.__version__} is not safe for uploads: pip install 'av>=17.1'")
    av.logging.set_level(None)
    return av


_DTYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}


def _frame_samples(frame: Any) -> np.ndarray:
    """Return a decoded frame as (frames, channels) float32.

    ``frame.to_ndarray()`` is not used: with 8 planar channels it reads a ninth plane behind the last one and crashes
    (PyAV 17.1 to 18.1).
    """
    channels, planar = len(frame.layout.channels), frame.format.is_planar
    dtype = np.dtype(_DTYPES[frame.format.name.removesuffix("p")])
    planes = [frame.planes[index] for index in range(channels if planar else 1)]
    count = frame.samples * (1 if planar else channels)
    rows = [np.frombuffer(plane, dtype, count=count) for plane in planes]
    raw = np.stack(rows, axis=1) if planar else rows[0].reshape(-1, channels)
    if dtype.kind == "f":
        return raw.astype(np.float32)
    if dtype == np.uint8:
        return (raw.astype(np.float32) - 128) / 128
    return (raw / float(1 << 8 * dtype.itemsize - 1)).astype(np.float32)


def _check_mp4_tables(file: BinaryIO) -> None:
    """Refuse tables that declare more packets than a recording has.

    FFmpeg expands ``stsz`` (constant size, count) and ``trun`` (count) into an index entry for each packet while it
    opens the file: measured, 33 kB allocate 2 GB. The tables are found by name anywhere in the file, with the zero
    bytes of their version and flags, which do not occur in compressed audio by chance. A compressed header (``cmov``,
    last seen in old QuickTime) would hide them, so it is refused.
    """
    file.seek(0)
    carry, total = b"", 0
    while chunk := file.read(1 << 20):
        window = carry + chunk
        if re.search(rb"cmov.{4}dcom", window, re.DOTALL):
            raise AudioError("the mp4 has a compressed header, which is not accepted: export it as m4a or wav")
        for match in _MP4_TABLE.finditer(window):
            total += int.from_bytes(match[1] or match[2], "big")
        carry = window[-15:]  # one byte less than the longest match, so that no table counts twice
    if total > _MAX_MP4_PACKETS:
        raise AudioError(f"the mp4 declares {total} packets, more than a recording has: export it again")


_MP4_TABLE = re.compile(rb"stsz\0{4}.{4}(.{4})|trun[\0\1]\0..(.{4})", re.DOTALL)
