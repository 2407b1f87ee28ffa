"""Find the audio in a file: its kind by structure, and the recordings concatenated in it.

A file may begin with tags, padding or junk. It may hold several recordings in sequence (joined mp3, chained Ogg), or
other streams between the audio pages. :func:`locate` finds the first recording, :func:`split` all of them, each as
byte ranges (:class:`View`) that a decoder can read as one file.

Formats: MPEG audio headers by ISO 11172-3 and 13818-3; ID3v2.4 section 3.1; Ogg by RFC 3533.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Piece", "View", "flac_frames", "locate", "split"]

_SEARCHED = 1 << 20  # bytes of junk before a recording
_MAX_PIECES = 1000
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MAX_HEADERS = 300_000  # of frames, pages, boxes and tags that are scanned: over two hours of sound
_UNUSED_BYTES = 4096  # fewer unused bytes behind the sound are not reported
# magic bytes that begin a recording and do not occur inside one by chance
_NEXT = re.compile(
    rb"fLaC[\x00\x80]\0\0\x22|OggS\0\x02|RIFF....WAVEfmt |\x1aE\xdf\xa3.{4,60}?(?:webm|matroska)"
    rb"|(?<=\0\0..)ftyp[A-Za-z0-9]{3}",
    re.DOTALL,
)
_NONZERO = re.compile(rb"[^\0]")
_FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)
_BEGINNING = re.compile(rb"\xff[\xe2-\xff]|fLaC\0|OggS\0|(?:RIFF|RF64|BW64)....WAVE", re.DOTALL)
_OGG_CODECS = ((b"OpusHead", "opus"), (b"\x01vorbis", "vorbis"), (b"\x7fFLAC", "flac"), (b"Speex   ", "speex"))


@dataclass
class Piece:
    """One recording: its byte ranges, the number of samples that its own header declares, and notes about it.

    ``cut`` if its container declares more bytes than there are.
    """

    kind: str
    ranges: list[tuple[int, int]]  # start, stop
    promised: int | None = None
    codec: str | None = None
    cut: bool = False
    notes: list[str] = field(default_factory=list)


class View(io.RawIOBase):
    """Byte ranges of a file, read as one file.

    Args:
        file: The whole file.
        ranges: Start and stop of each range, in bytes; empty ones are skipped.
        patch: An offset in the view, and the bytes that replace those there.
    """

    def __init__(self, file: BinaryIO, ranges: Sequence[tuple[int, int]], patch: tuple[int, bytes] = (0, b"")) -> None:
        self._file, self._ranges, self._at = file, [(a, b) for a, b in ranges if b > a], 0
        self._offset, self._new = patch
        self._size = sum(b - a for a, b in self._ranges)
        self._place, self._before = 0, 0  # the range of the last read, and the bytes before it

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position like a file's ``seek``; never before the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read from one or more ranges."""
        size, done = len(buffer), 0
        if self._at < self._before:
            self._place = self._before = 0
        while done < size and self._place < len(self._ranges):
            start, stop = self._ranges[self._place]
            offset = self._at - self._before
            if offset >= stop - start:
                self._before += stop - start
                self._place += 1
                continue
            self._file.seek(start + offset)
            data = self._file.read(min(size - done, stop - start - offset))
            if not data:
                break
            buffer[done : done + len(data)] = data
            done += len(data)
            self._at += len(data)
        begin = self._at - done
        first, last = max(begin, self._offset), min(self._at, self._offset + len(self._new))
        if first < last:
            buffer[first - begin : last - begin] = self._new[first - self._offset : last - self._offset]
        return done


class _Frame(NamedTuple):
    size: int  # bytes
    samples: int
    same: tuple[int, int, int]  # version, layer, rate: equal in all frames of a stream


def _mp3_frame(data: bytes, at: int) -> _Frame | None:
    """Return the MPEG layer 3 header at a position, or None."""
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
    """Return the end of the tag at a position; the position itself if there is none."""
    if data[at : at + 3] == b"ID3" and at + 10 <= len(data) and max(data[at + 6 : at + 10]) < 128:
        size = sum(byte << (21 - 7 * i) for i, byte in enumerate(data[at + 6 : at + 10]))
        return at + 10 + size + (10 if data[at + 5] & 0x10 else 0)
    if data[at : at + 8] == b"APETAGEX" and at + 32 <= len(data):
        size = int.from_bytes(data[at + 12 : at + 16], "little")
        return at + 32 + (size if data[at + 23] & 0x20 else 0)  # with a header; a footer follows the items
    if data[at : at + 3] == b"TAG" and at + 128 <= len(data):
        return at + 128
    return at


def _kind_at(data: bytes, at: int) -> str | None:
    """Return the kind of the recording that begins at a position, or None."""
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
    """Find the first recording: its kind and the byte at which it begins, or None."""
    at = 0
    for _ in range(_MAX_HEADERS):
        end = _tag_end(data, at)
        if end == at or end > len(data):
            break
        at = end
    tagged = at
    at = _zeros_end(data, at)
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
    """Return all recordings of a file, in order; at least one. They may be of several kinds."""
    pieces: list[Piece] = []
    following: tuple[str, int] | None = (kind, start)
    while following is not None and len(pieces) <= _MAX_PIECES:
        kind, start = following
        parts, end = _SPLITTERS.get(kind, _split_whole)(data, kind, start)
        pieces += parts or [Piece(kind, [(start, end)])]
        following, rest = _following(data, end)
        if following is None and rest > _UNUSED_BYTES:
            reason = "are no part of it by its header" if kind == "wav" else f"are no {kind}"
            pieces[-1].notes.append(f"{rest / 1000:.0f} kB behind the sound {reason} and were not used")
    if len(pieces) > _MAX_PIECES:
        pieces[_MAX_PIECES - 1].notes.append(f"more than {_MAX_PIECES} recordings are joined in it; these are used")
    return pieces[:_MAX_PIECES]


def _following(data: bytes, end: int) -> tuple[tuple[str, int] | None, int]:
    """Return the next recording after a position, past tags and zero bytes; and the number of remaining bytes."""
    at = end
    for _ in range(100):
        if kind := _kind_at(data, at):
            return (kind, at), 0
        next_position = _tag_end(data, at)
        if next_position == at:
            next_position = _zeros_end(data, at)
        if next_position == at:
            break
        at = min(next_position, len(data))
    return None, len(data) - at


def _zeros_end(data: bytes, at: int) -> int:
    """Return the end of the zero bytes at ``at``, without those that begin the size of an mp4's first box."""
    match = _NONZERO.search(data, at)
    end = match.start() if match else len(data)
    return next((place for place in (end - 3, end - 2) if place > at and data[place + 4 : place + 8] == b"ftyp"), end)


def _split_whole(data: bytes, kind: str, start: int) -> tuple[list[Piece], int]:
    """Return the end of one recording, as far as its structure shows it without decoding."""
    declared = _ENDS[kind](data, start)
    end = max(start + 1, min(len(data), declared))
    return [Piece(kind, [(start, end)], cut=kind == "matroska" and declared > len(data))], end


def _next_start(data: bytes, at: int) -> int:
    """Return the start of the next apparent recording; else the end of the data."""
    match = _NEXT.search(data, at)
    return len(data) if match is None else match.start() - 4 * (match[0][:4] == b"ftyp")


def _flac_end(data: bytes, start: int) -> int:
    """Find the end of a FLAC, which declares no length: the next apparent recording, or a tag at the end."""
    stop = _next_start(data, start + 8)
    if data[stop - 128 : stop - 125] == b"TAG":
        stop -= 128
    end = stop
    while end > start + 1024 and not data[end - 1024 : end].strip(b"\0"):
        end -= 1024
    while data[end - 1] == 0 and end > start + 1:
        end -= 1
    return min(end + 2, stop)  # two zeros may be the last frame's check sum


def flac_frames(data: bytes, block: int) -> Iterator[tuple[int, int]]:
    """Find the frames of a FLAC by headers with a valid check sum (RFC 9639, section 9.1).

    Yields:
        The start of a frame, and the number of its first sample.
    """
    for match, _ in zip(_FLAC_SYNC.finditer(data, 42), range(_MAX_HEADERS), strict=False):
        at, head = match.start(), data[match.start() : match.start() + 16]
        ones = 8 - (head[4] ^ 0xFF).bit_length() if len(head) == 16 else 8
        if ones in (1, 8):
            continue
        length = max(1, ones)  # of the number, coded like UTF-8
        number = head[4] & (0x7F >> ones)
        for byte in head[5 : 4 + length]:
            number = number << 6 | byte & 0x3F
        size, rate = head[2] >> 4, head[2] & 15
        end = 4 + length + {6: 1, 7: 2}.get(size, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
        if end < 16 and _crc8(head[:end]) == head[end]:
            yield at, number if head[1] & 1 else number * block


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc


def _aac_end(data: bytes, start: int) -> int:
    at = start
    for _ in range(_MAX_HEADERS):
        if (frame := _adts_frame(data, at)) is None:
            break
        at += frame.size
    # the decoder tolerates damage: another recording ends this one, or what holds no frame
    if (following := _following(data, at)[0]) is not None and following[0] != "aac":
        return at
    syncs = zip(_SYNC.finditer(data, at), range(_MAX_HEADERS), strict=False)
    return len(data) if any(_kind_at(data, match.start()) == "aac" for match, _ in syncs) else at


def _matroska_end(data: bytes, start: int) -> int:
    """Skip the EBML header, then one segment (RFC 8794, section 6); recorders leave the segment's size open."""
    at = start
    for _ in range(2):
        at += 4  # both ids have four bytes
        width = 9 - data[at].bit_length() if at < len(data) and data[at] else 9
        size = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
        if width > 8 or size == (1 << 7 * width) - 1:
            return _next_start(data, at)
        at += width + size
    return at


def _mp4_end(data: bytes, start: int) -> int:
    at = start
    for _ in range(_MAX_HEADERS):
        if at + 8 > len(data) or not data[at + 4 : at + 8].isalnum():
            return at
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"ftyp" and at > start:
            return at
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:
            break  # 0: up to the end
        at += size
    return len(data)


class _Chunk(NamedTuple):
    name: bytes
    at: int  # of its header
    stop: int  # of its content
    next: int


def _wav_chunks(data: bytes, start: int) -> Iterator[_Chunk]:
    """Yield the chunks of a wav; of a list of waves (``wavl``) first its header alone, then its contents."""
    order: Any = "big" if data[start : start + 4] == b"RIFX" else "little"
    at = start + 12
    for _ in range(_MAX_HEADERS):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], order)
        if not re.fullmatch(rb"[A-Za-z][A-Za-z0-9_ ]{3}", name) or at + 8 > len(data):
            return
        if name in (b"RIFF", b"RIFX", b"OggS", b"fLaC"):
            return
        stop = at + 8 + size
        if name == b"data" and (size >= 0x7FFF0000 or (size == 0 and data[stop : stop + 4] != b"data")):
            stop = len(data)  # written as a stream
        if name == b"LIST" and data[at + 8 : at + 12] == b"wavl":
            name, stop = b"wavl", at + 12
        following = stop + ((stop - at) % 2 and data[stop : stop + 1] == b"\0")
        yield _Chunk(name, at, stop, following)
        at = following


def _split_wav(data: bytes, _kind: str, start: int) -> tuple[list[Piece], int]:
    """Split off one recording. If its data lies in several chunks, or before its format, reorder them."""
    if data[start : start + 4] not in (b"RIFF", b"RIFX"):
        return [], len(data)  # 64-bit sizes
    chunks = list(_wav_chunks(data, start))
    end = max(start + 1, min(len(data), chunks[-1].next if chunks else start + 12))
    by_name = {name: [chunk for chunk in chunks if chunk.name == name] for name in (b"fmt ", b"data", b"slnt", b"wavl")}
    formats, sounds = by_name[b"fmt "], by_name[b"data"]
    usual = len(formats) == len(sounds) == 1 and formats[0].at < sounds[0].at and not by_name[b"wavl"]
    if usual or not formats or not sounds or data[start : start + 4] == b"RIFX":
        return [], end
    first, nonempty = formats[0], [chunk for chunk in sounds if chunk.stop > chunk.at + 8]
    ranges = [(start, start + 12), (first.at, min(first.next, len(data))), (sounds[0].at, sounds[0].at + 8)]
    piece = Piece("wav", ranges + [(chunk.at + 8, min(chunk.stop, len(data))) for chunk in nonempty])
    tag, align = (int.from_bytes(data[first.at + at : first.at + at + 2], "little") for at in (8, 20))
    if tag in (1, 3, 0xFFFE) and align:  # constant number of bytes per sample
        piece.promised = sum(chunk.stop - chunk.at - 8 for chunk in nonempty) // align
    if len(nonempty) > 1:
        piece.notes.append(f"the sound lies in {len(nonempty)} chunks of the file, which were joined")
    if by_name[b"slnt"]:
        piece.notes.append("stretches of silence that the file declares between its sounds were left out")
    return [piece], end


_ENDS: dict[str, Callable[[bytes, int], int]] = {
    "flac": _flac_end,
    "aac": _aac_end,
    "matroska": _matroska_end,
    "mp4": _mp4_end,
}


def _xing(data: bytes, at: int, frame: _Frame) -> tuple[bool, int | None]:
    """Return whether a frame is the information frame of a stream, and the number of frames that it declares."""
    for place in (at + 4 + 32, at + 4 + 17, at + 4 + 9, at + 6 + 32, at + 6 + 17, at + 6 + 9):
        if data[place : place + 4] in (b"Xing", b"Info") and place + 12 <= at + frame.size:
            flags = int.from_bytes(data[place + 4 : place + 8], "big")
            return True, int.from_bytes(data[place + 8 : place + 12], "big") if flags & 1 else None
    if data[at + 36 : at + 40] == b"VBRI":
        return True, int.from_bytes(data[at + 50 : at + 54], "big")
    return False, None


def _split_mp3(data: bytes, _kind: str, start: int) -> tuple[list[Piece], int]:
    pieces: list[Piece] = []
    at, frames, total = start, 0, None
    begin = start  # start of the current range
    lost = 0

    def close(stop: int) -> None:
        nonlocal begin
        if pieces and stop > begin:
            pieces[-1].ranges.append((begin, stop))
        begin = stop

    # Walk frame by frame. A Xing header, or the end of the frames that it declares, begins a new recording.
    headers = iter(range(_MAX_HEADERS))
    while at < len(data):
        if next(headers, None) is None:
            at = len(data)  # the rest belongs to the last recording
            break
        frame = _mp3_frame(data, at)
        # No frame: skip a tag, or search for the next frame and count the skipped bytes.
        if frame is None or frame.size < 24:
            close(at)
            end = _tag_end(data, at)
            if end == at:
                following = _following(data, at)[0]
                if pieces and following and following[0] not in ("mp3", "aac"):
                    break
                next_frame = None
                for match, _ in zip(_SYNC.finditer(data, at + 1), headers, strict=False):
                    if _kind_at(data, match.start()) == "mp3":
                        next_frame = match.start()
                        break
                skipped = data[at : next_frame or len(data)]
                if b"APETAGEX" not in skipped[:64] and b"LYRICSBEGIN" not in skipped[:64] and skipped.strip(b"\0"):
                    lost += len(skipped)
                end = next_frame or len(data)
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
    at = min(at, len(data))
    close(at)
    if lost > _UNUSED_BYTES and pieces:
        pieces[-1].notes.append(f"{lost / 1000:.0f} kB between or behind the sound are no mp3 and were not used")
    return [piece for piece in pieces if piece.ranges], at


def _split_ogg(data: bytes, _kind: str, start: int) -> tuple[list[Piece], int]:
    links: list[dict[int, dict[str, Any]]] = []
    at, beginning, headers = start, False, 0
    # Collect the pages of each stream: adjacent first pages begin a link of the chain.
    while (
        headers < _MAX_HEADERS
        and len(links) <= _MAX_PIECES
        and (page := data.find(b"OggS\0", at)) >= 0
        and page + 27 <= len(data)
    ):
        if page > at and links and _following(data, at)[0] not in (None, ("ogg", page)):
            break
        headers += 1
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
    if headers == _MAX_HEADERS or len(links) > _MAX_PIECES:
        at = len(data)
    # Keep the first audio stream of each link.
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
    return pieces, min(at, len(data))


_SPLITTERS = {"mp3": _split_mp3, "ogg": _split_ogg, "wav": _split_wav}
