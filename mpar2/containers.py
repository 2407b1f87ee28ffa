"""Where the sound of a file lies: its kind by its structure, and the recordings that are joined in it.

A file may begin with tags, padding or junk; it may hold several recordings one after the other (joined mp3, chained
Ogg), or other streams between the pages of the sound. :func:`locate` finds the first recording, :func:`split` all of
them, each as byte ranges (:class:`View`) that a decoder can read as a file of its own.

Formats: MPEG audio headers by ISO 11172-3 and 13818-3; ID3v2.4 section 3.1; Ogg by RFC 3533.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Piece", "View", "locate", "split"]

_SEARCHED = 1 << 20  # bytes of junk before a recording
_MOST_PIECES = 1000
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)
_BEGINNING = re.compile(rb"\xff[\xe2-\xff]|fLaC\0|OggS\0|(?:RIFF|RF64|BW64)....WAVE", re.DOTALL)
_OGG_CODECS = (
    (b"OpusHead", "opus"),
    (b"\x01vorbis", "vorbis"),
    (b"\x7fFLAC", "flac"),
    (b"Speex   ", "speex"),
)


@dataclass
class Piece:
    """One recording: byte ranges of the file, the samples that a header of its own promises, and notes about it."""

    kind: str
    ranges: list[tuple[int, int]]  # start, stop
    promised: int | None = None
    codec: str | None = None
    notes: list[str] = field(default_factory=list)


class View(io.RawIOBase):
    """Byte ranges of a file, read as one."""

    def __init__(self, file: BinaryIO, ranges: Sequence[tuple[int, int]]) -> None:
        self._file, self._ranges, self._at = file, [(a, b) for a, b in ranges if b > a], 0
        self._size = sum(b - a for a, b in self._ranges)
        self._place, self._before = 0, 0  # the range of the last read, and the bytes before it

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position, in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read from one or more ranges."""
        wanted, done = len(buffer), 0
        if self._at < self._before:
            self._place = self._before = 0
        while done < wanted and self._place < len(self._ranges):
            start, stop = self._ranges[self._place]
            inside = self._at - self._before
            if inside >= stop - start:
                self._before += stop - start
                self._place += 1
                continue
            self._file.seek(start + inside)
            data = self._file.read(min(wanted - done, stop - start - inside))
            if not data:
                break
            buffer[done : done + len(data)] = data
            done += len(data)
            self._at += len(data)
        return done


class _Frame(NamedTuple):
    size: int  # bytes
    samples: int
    same: tuple[int, int, int]  # version, layer, rate: equal in all frames of a stream


def _mp3_frame(data: bytes, at: int) -> _Frame | None:
    """The MPEG layer 3 header at a position, or None."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
    kbps, rate, padding = data[at + 2] >> 4, data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if version == 1 or layer != 1 or not 0 < kbps < 15 or rate == 3:
        return None
    hz = _RATES[version][rate]
    size = (144 if version == 3 else 72) * 1000 * (_KBPS_1 if version == 3 else _KBPS_2)[kbps] // hz + padding
    return _Frame(size, 1152 if version == 3 else 576, (version, layer, hz))


def _adts_frame(data: bytes, at: int) -> _Frame | None:
    if at + 7 > len(data) or data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return None
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    rate = data[at + 2] >> 2 & 15
    return _Frame(size, 1024, (4, 0, rate)) if size > 7 and rate < 13 else None


def _tag_end(data: bytes, at: int) -> int:
    """Behind the tag at a position; the position itself where there is none."""
    if data[at : at + 3] == b"ID3" and at + 10 <= len(data) and max(data[at + 6 : at + 10]) < 128:
        size = sum(byte << (21 - 7 * i) for i, byte in enumerate(data[at + 6 : at + 10]))
        return at + 10 + size + (10 if data[at + 5] & 0x10 else 0)
    if data[at : at + 8] == b"APETAGEX" and at + 32 <= len(data):
        size = int.from_bytes(data[at + 12 : at + 16], "little")
        return at + 32 + (size if data[at + 23] & 0x20 else 0)  # a header; a footer stands behind its items
    if data[at : at + 3] == b"TAG" and at + 128 <= len(data):
        return at + 128
    return at


def _kind_at(data: bytes, at: int) -> str | None:
    """The kind of a recording that begins here."""
    head = data[at : at + 16]
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX") and head[8:12] == b"WAVE":
        return "wav"
    if head[4:8] == b"ftyp":
        return "mp4"
    for magic, kind in ((b"fLaC", "flac"), (b"OggS\0", "ogg"), (b"\x1aE\xdf\xa3", "matroska")):
        if head.startswith(magic):
            return kind
    for parse, kind in ((_mp3_frame, "mp3"), (_adts_frame, "aac")):
        if (frame := parse(data, at)) is not None:
            after = parse(data, at + frame.size)
            if (after and after.same == frame.same) or at + frame.size >= len(data):
                return kind
    return None


def locate(data: bytes) -> tuple[str, int] | None:
    """Find the first recording.

    Args:
        data: A file.

    Returns:
        Its kind and the byte at which it begins, or None.
    """
    at = 0
    while at < len(data):
        end = _tag_end(data, at)
        if end == at or end > len(data):
            break
        at = end
    tagged = at
    while at < len(data) and data[at] == 0:
        at += 1
    for place in (tagged, at):
        if kind := _kind_at(data, place):
            return kind, place
    # old QuickTime and some recorders have other boxes first
    if tagged == 0 and data[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip") and b"moov" in data:
        return "mp4", 0
    for match in _BEGINNING.finditer(data, at, at + _SEARCHED):
        place = match.start()
        if kind := _kind_at(data, place):
            frame = (_mp3_frame if kind == "mp3" else _adts_frame)(data, place)
            if kind not in ("mp3", "aac") or (frame and _kind_at(data, place + frame.size) == kind):
                return kind, place
    return None


def split(data: bytes, kind: str, start: int) -> list[Piece]:
    """All recordings of a file, in order; at least one.

    Args:
        data: A file.
        kind: Of its first recording, as :func:`locate` gives it.
        start: Where that begins.
    """
    if kind == "mp3":
        pieces = _split_mp3(data, start)
    elif kind == "ogg":
        pieces = _split_ogg(data, start)
    else:
        starts = [start, *_further_starts(data, kind, start)]
        pieces = [Piece(kind, [(a, b)]) for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    if len(pieces) > _MOST_PIECES:
        pieces[_MOST_PIECES - 1].notes.append(f"{len(pieces)} recordings are joined in it; the first are used")
    return pieces[:_MOST_PIECES] or [Piece(kind, [(start, len(data))])]


def _further_starts(data: bytes, kind: str, start: int) -> list[int]:
    """Where further recordings of a kind whose own decoder stops at the end of the first begin."""
    if kind == "flac":
        return [match.start() for match in re.finditer(rb"fLaC[\x00\x80]\0\0\x22", data) if match.start() > start]
    if kind == "matroska":
        found = re.finditer(rb"\x1aE\xdf\xa3.{4,60}?(?:webm|matroska)", data, re.DOTALL)
        return [match.start() for match in found if match.start() > start]
    starts: list[int] = []
    if kind == "mp4":
        at = start
        while at + 8 <= len(data):
            size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
            if size == 1:
                size = int.from_bytes(data[at + 8 : at + 16], "big")
            if name == b"ftyp" and at > start:
                starts.append(at)
            if size < 8:
                break
            at += size
    elif kind == "wav":
        at = start
        while data[at : at + 4] == b"RIFF":
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            at += 8 + size + size % 2
            if data[at : at + 4] == b"RIFF" and data[at + 8 : at + 12] == b"WAVE":
                starts.append(at)
    return starts


def _xing(data: bytes, at: int, frame: _Frame) -> tuple[bool, int | None]:
    """Whether a frame is the information frame of a stream, and the number of frames that it promises."""
    for place in (at + 4 + 32, at + 4 + 17, at + 4 + 9, at + 6 + 32, at + 6 + 17, at + 6 + 9):
        if data[place : place + 4] in (b"Xing", b"Info") and place + 12 <= at + frame.size:
            flags = int.from_bytes(data[place + 4 : place + 8], "big")
            return True, int.from_bytes(data[place + 8 : place + 12], "big") if flags & 1 else None
    if data[at + 36 : at + 40] == b"VBRI":
        return True, int.from_bytes(data[at + 50 : at + 54], "big")
    return False, None


def _split_mp3(data: bytes, start: int) -> list[Piece]:
    pieces: list[Piece] = []
    at, frames, total = start, 0, None
    begin = start  # of the range that is being walked
    lost = 0

    def close(stop: int) -> None:
        nonlocal begin
        if pieces and stop > begin:
            pieces[-1].ranges.append((begin, stop))
        begin = stop

    # Walk frame by frame. A Xing header, or the frames that it promises, begins a new recording.
    while at < len(data):
        frame = _mp3_frame(data, at)
        # No frame: skip a tag, or search for the next frame and count what is lost.
        if frame is None or frame.size < 24:
            close(at)
            end = _tag_end(data, at)
            if end == at:
                found = None
                for match in _SYNC.finditer(data, at + 1):
                    if _kind_at(data, match.start()) == "mp3":
                        found = match.start()
                        break
                skipped = data[at : found or len(data)]
                if b"APETAGEX" not in skipped[:64] and b"LYRICSBEGIN" not in skipped[:64] and skipped.strip(b"\0"):
                    lost += len(skipped)
                end = found or len(data)
            at = begin = min(end, len(data))
            continue
        is_information, count = _xing(data, at, frame)
        if is_information or not pieces or (total and frames >= total):
            close(at)
            begin = at
            frames, total = 0, count
            pieces.append(Piece("mp3", [], count * frame.samples if count else None))
        if not is_information:
            frames += 1
        at += frame.size
    close(len(data))
    if lost > 4096 and pieces:
        pieces[-1].notes.append(f"{lost / 1000:.0f} kB between or behind the sound are no mp3 and were not used")
    return [piece for piece in pieces if piece.ranges]


def _split_ogg(data: bytes, start: int) -> list[Piece]:
    links: list[dict[int, dict[str, Any]]] = []
    at, beginning, lost = start, False, 0
    while (page := data.find(b"OggS\0", at)) >= 0 and page + 27 <= len(data):
        lost += page - at
        count = data[page + 26]
        body = page + 27 + count
        end = body + sum(data[page + 27 : body])
        flags, serial = data[page + 5], int.from_bytes(data[page + 14 : page + 18], "little")
        number = int.from_bytes(data[page + 18 : page + 22], "little")
        if flags & 2:
            if not beginning:
                links.append({})
            beginning = True
            codec = next((name for magic, name in _OGG_CODECS if data[body : body + 10].startswith(magic)), None)
            links[-1][serial] = {"codec": codec, "ranges": [], "next": number, "gaps": 0}
        else:
            beginning = False
        stream = links[-1].get(serial) if links else None
        if stream is not None:
            stream["ranges"].append((page, min(end, len(data))))
            stream["gaps"] += number != stream["next"]
            stream["next"] = number + 1
        at = end
    pieces = []
    for link in links:
        sounds = [stream for stream in link.values() if stream["codec"]]
        if not sounds:
            continue
        piece = Piece("ogg", sounds[0]["ranges"], codec=sounds[0]["codec"])
        if len(sounds) > 1:
            piece.notes.append(f"the file holds {len(sounds)} audio tracks; the first is used")
        if sounds[0]["gaps"]:
            piece.notes.append(f"the file is damaged: pages of sound are missing at {sounds[0]['gaps']} places")
        pieces.append(piece)
    return pieces
