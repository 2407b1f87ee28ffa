"""Hostile audio files, made from a seed: damaged and oversized ones and false headers, of every accepted format.

Only the named header fields are changed; everything else of a file is as an encoder wrote it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from functools import cache, partial

import av
import numpy as np
import soundfile

from testing.hostile import HostileFile

_RATE = 16_000
NAMES = (
    "../../../etc/passwd.wav",
    "..\\..\\windows\\system32.wav",
    "line\nbreak\r\nSet-Cookie: a=b.wav",
    "\u202egnp.exe\u202c.wav",
    "<img src=x onerror=alert(1)>.wav",
    "'\"><script>alert(1)</script>.wav",
    "${alert(1)}{{7*7}}.wav",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd.wav",
    "a" * 240 + ".wav",
    "-rf .wav",
    "CON.wav",
    "\u0000null.wav",
    "🦊" * 60 + ".wav",
    "=cmd|'/C calc'!A0.wav",
    ".",
    "..",
    " ",
    "\x1b[31mred\x07.wav",
    "file:///etc/passwd",
    "http://169.254.169.254/latest.wav",
)


def hostile_sounds(seed: int = 0) -> list[HostileFile]:
    """Return more than 200 files in a fixed order; equal seeds give equal files."""
    return [*_damaged(seed), *_false_headers(), *_bombs(), *_no_audio()]


def good_wav(seconds: float = 1.0, hz: float = 440.0) -> bytes:
    """Return a valid wav."""
    return _encode(_tone(seconds, hz=hz), "WAV", "PCM_16")


# ---- what encoders write -----------------------------------------------------------------------------------------


def _tone(seconds: float, rate: int = _RATE, hz: float = 440.0) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hz * times) + 0.02 * np.sin(17 * np.pi * hz * times)).astype(np.float32)


def _encode(samples: np.ndarray, kind: str, subtype: str | None = None, rate: int = _RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def _mux(container: str, codec: str, rate: int = 48_000, **options: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = "mono"
        wide = codec == "flac"
        samples = _tone(1.0, rate)
        for start in range(0, len(samples), 960):
            block = samples[None, start : start + 960]
            block = (block * 32767).astype(np.int16) if wide else block
            frame = av.AudioFrame.from_ndarray(block, "s16" if wide else "fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return buffer.getvalue()


_ENCODERS: dict[str, Callable[[], bytes]] = {
    "u8.wav": partial(_encode, _tone(1.0), "WAV", "PCM_U8"),
    "s16.wav": partial(_encode, _tone(1.0), "WAV", "PCM_16"),
    "s24.wav": partial(_encode, _tone(1.0), "WAV", "PCM_24"),
    "float.wav": partial(_encode, _tone(1.0), "WAV", "FLOAT"),
    "ulaw.wav": partial(_encode, _tone(1.0), "WAV", "ULAW"),
    "ima.wav": partial(_encode, _tone(1.0), "WAV", "IMA_ADPCM"),
    "gsm.wav": partial(_encode, _tone(1.0, 8000), "WAV", "GSM610", 8000),
    "x.wav": partial(_encode, _tone(1.0), "WAVEX", "PCM_16"),
    "rf64.wav": partial(_encode, _tone(1.0), "RF64", "PCM_16"),
    "s16.flac": partial(_encode, _tone(1.0), "FLAC", "PCM_16"),
    "s24.flac": partial(_encode, _tone(1.0), "FLAC", "PCM_24"),
    "layer3.mp3": partial(_encode, _tone(1.0), "MP3"),
    "vorbis.ogg": partial(_encode, _tone(1.0), "OGG", "VORBIS"),
    "opus.ogg": partial(_encode, _tone(1.0, 48_000), "OGG", "OPUS", 48_000),
    "aac.m4a": partial(_mux, "mp4", "aac"),
    "pieces.m4a": partial(_mux, "mp4", "aac", movflags="frag_keyframe+empty_moov"),
    "adts.aac": partial(_mux, "adts", "aac"),
    "opus.webm": partial(_mux, "webm", "libopus"),
    "aac.mkv": partial(_mux, "matroska", "aac"),
    "flac.mkv": partial(_mux, "matroska", "flac"),
}


@cache
def _encoded(name: str) -> bytes:
    return _ENCODERS[name]()


# ---- damage ------------------------------------------------------------------------------------------------------


def _damaged(seed: int) -> Iterator[HostileFile]:
    for index, name in enumerate(_ENCODERS):
        for share in (30, 200, 0.5, 0.97):
            yield HostileFile(f"cut at {share} {name}", partial(_cut, name, share))
        for where, number in (("head", 3), ("head", 24), ("all", 1), ("all", 200)):
            yield HostileFile(f"{number} bits of {where} {name}", partial(_flipped, name, where, number, seed + index))
        yield HostileFile(f"zeroed middle {name}", partial(_zeroed, name))
        yield HostileFile(f"shuffled {name}", partial(_shuffled, name, seed + index))


def _cut(name: str, share: float) -> bytes:
    data = _encoded(name)
    return data[: int(share if share > 1 else share * len(data))]


def _flipped(name: str, where: str, number: int, seed: int) -> bytes:
    data = bytearray(_encoded(name))
    rng = np.random.default_rng([seed, number, len(where)])
    for place in rng.integers(4, min(len(data), 300) if where == "head" else len(data), number):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _zeroed(name: str) -> bytes:
    data = bytearray(_encoded(name))
    third = len(data) // 3
    data[third : 2 * third] = bytes(third)
    return bytes(data)


def _shuffled(name: str, seed: int) -> bytes:
    """Return the first 64 bytes in their place, the rest in pieces of another order, one of them twice."""
    data = _encoded(name)
    pieces = [data[start : start + 512] for start in range(64, len(data), 512)]
    order = np.random.default_rng(seed).permutation(len(pieces)).tolist()
    return data[:64] + b"".join(pieces[place] for place in [*order, order[0]])


# ---- false headers -----------------------------------------------------------------------------------------------


def _patched(name: str, offset: int | bytes, layout: str, *values: int | float) -> bytes:
    """Return the file with ``values`` packed at an offset, or after the first occurrence of some bytes."""
    data = bytearray(_encoded(name))
    place = offset if isinstance(offset, int) else data.index(offset) + len(offset)
    struct.pack_into(layout, data, place, *values)
    return bytes(data)


def _false_headers() -> Iterator[HostileFile]:
    wav, flac, ogg, m4a, webm = "s16.wav", "s16.flac", "opus.ogg", "aac.m4a", "opus.webm"
    fields: list[tuple[str, str, int | bytes, str, tuple[int | float, ...]]] = [
        *((f"rate {rate}", wav, 24, "<I", (rate,)) for rate in (0, 1, 3999, 192_001, 0xFFFFFFFF)),
        *((f"channels {number}", wav, 22, "<H", (number,)) for number in (0, 9, 1024, 65535)),
        *((f"bits {number}", wav, 34, "<H", (number,)) for number in (0, 7, 65535)),
        *((f"align {number}", wav, 32, "<H", (number,)) for number in (0, 65535)),
        *((f"data size {size}", wav, 40, "<I", (size,)) for size in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)),
        *((f"fmt size {size}", wav, 16, "<I", (size,)) for size in (0, 4, 0xFFFFFFF0)),
        *((f"format tag {tag}", wav, 20, "<H", (tag,)) for tag in (0, 3, 17, 0x50, 0xFFFE)),
        ("riff size 0", wav, 4, "<I", (0,)),
        ("rf64 size", "rf64.wav", 28, "<Q", (1 << 62,)),
        ("huge samples", "float.wav", 100, "<f", (1e38,)),
        ("not a number", "float.wav", 100, "<f", (float("nan"),)),
        ("infinite", "float.wav", 100, "<f", (float("-inf"),)),
        *((f"stream info {value:016x}", flac, 18, ">Q", (value,)) for value in _FLAC_WORDS),
        ("block sizes 0", flac, 8, ">HH", (0, 0)),
        ("block sizes 65535", flac, 8, ">HH", (65535, 65535)),
        ("metadata of 16 MB", flac, 5, ">BH", (0xFF, 0xFFFF)),
        ("255 channels", ogg, b"OpusHead\x01", "B", (255,)),
        ("no channel", ogg, b"OpusHead\x01", "B", (0,)),
        ("version 255", ogg, b"OpusHead", "B", (255,)),
        ("comment of 4 GB", ogg, b"OpusTags", "<I", (0xFFFFFFFF,)),
        ("comment of 4 GB", "vorbis.ogg", b"\x03vorbis", "<I", (0xFFFFFFFF,)),
        ("255 channels", "vorbis.ogg", b"\x01vorbis\0\0\0\0", "B", (255,)),
        ("rate 4 GHz", "vorbis.ogg", b"\x01vorbis\0\0\0\0\x01", "<I", (0xFFFFFFFF,)),
        ("packets", m4a, b"stsz\0\0\0\0", ">II", (1, 170_000_000)),
        ("packets by time", m4a, b"stts\0\0\0\0", ">III", (1, 0xFFFFFFFF, 1)),
        ("chunks", m4a, b"stco\0\0\0\0", ">I", (0x3FFFFFFF,)),
        ("chunk map", m4a, b"stsc\0\0\0\0", ">I", (0x0FFFFFFF,)),
        ("time scale 0", m4a, b"mdhd\0\0\0\0" + bytes(8), ">I", (0,)),
        ("channels 65535", m4a, b"mp4a" + bytes(6) + b"\0\1" + bytes(8), ">H", (65535,)),
        ("run of packets", "pieces.m4a", b"trun", ">III", (0x00000301, 170_000_000, 0)),
        ("rate 0", webm, b"\xb5\x88", ">d", (0.0,)),
        ("rate not a number", webm, b"\xb5\x88", ">d", (float("nan"),)),
        ("rate 1e300", webm, b"\xb5\x88", ">d", (1e300,)),
        ("rate index 15", "adts.aac", 2, "B", (0x7C,)),
        ("frame of 0 bytes", "adts.aac", 3, ">HH", (0x4000, 0x1FFC)),
    ]
    for what, name, offset, layout, values in fields:
        yield HostileFile(f"{what} {name}", partial(_patched, name, offset, layout, *values))
    yield HostileFile("tag of 256 MB.mp3", lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + _encoded("layer3.mp3"))
    yield HostileFile("tags without end.mp3", lambda: b"ID3\x04\0\0\0\0\0\0" * 50_000 + _encoded("layer3.mp3"))
    yield HostileFile("boxes in boxes.m4a", lambda: _encoded("aac.m4a")[:32] + _boxes(4000))
    yield HostileFile(
        "elements in elements.webm", lambda: b"\x1aE\xdf\xa3\x80" + b"\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff" * 9000
    )
    yield HostileFile("other file inside.m4a", lambda: _encoded("aac.m4a").replace(b"url \0\0\0\1", b"url \0\0\0\0"))
    yield HostileFile(
        "many chunks.wav", lambda: _encoded("s16.wav")[:36] + b"LIST\0\0\0\0" * 300_000 + b"data\4\0\0\0abcd"
    )


_FLAC_WORDS = tuple(
    rate << 44 | (channels - 1) << 41 | (bits - 1) << 36 | total
    for rate, channels, bits, total in (
        (0, 1, 16, 16_000),
        (655_350, 1, 16, 16_000),
        (16_000, 8, 16, 16_000),
        (16_000, 1, 32, 16_000),
        (16_000, 1, 4, 16_000),
        (16_000, 1, 16, 0),
        (16_000, 1, 16, 1),
        (16_000, 1, 16, (1 << 36) - 1),
    )
)


def _boxes(depth: int) -> bytes:
    return b"".join(struct.pack(">I", 8 * (depth - level)) + b"moov" for level in range(depth))


# ---- bombs -------------------------------------------------------------------------------------------------------


def _bombs() -> Iterator[HostileFile]:
    day = 24 * 3600
    yield HostileFile("24 h of silence.flac", partial(_silent_flac, day, 4000, 1))
    yield HostileFile("24 h of silence.aac", partial(_repeated_adts, day, bytes.fromhex("01182007")))
    yield HostileFile("24 h of broken frames.aac", partial(_repeated_adts, day, bytes.fromhex("00c8402380")))
    yield HostileFile("24 h of silence.ogg", partial(_silent_opus, day))
    yield HostileFile("24 h of silence.wav", lambda: _wav_head(day * 8000), 44 + day * 8000)
    yield HostileFile("2 h in 8 channels.flac", partial(_silent_flac, 7200, 8000, 8))
    yield HostileFile("2 h at 192 kHz.flac", partial(_silent_flac, 7200, 192_000, 2))
    yield HostileFile("4 GB of zeros.wav", lambda: b"", 1 << 32)
    yield HostileFile("4 GB of nothing.mp3", lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f", 1 << 32)


def _silent_flac(seconds: int, rate: int, channels: int) -> bytes:
    """Write frames of 65,535 samples with subframes "constant 0", 8 + 3 * channels bytes each (RFC 9639)."""
    size = 65_535
    word = rate << 44 | (channels - 1) << 41 | 15 << 36
    info = struct.pack(">HH6xQ16x", size, size, word)
    frames = [b"fLaC\x80\0\0\x22" + info]
    for number in range(seconds * rate // size):
        head = bytes((0xFF, 0xF8, 0x70, (channels - 1) << 4 | 0x08)) + _utf8(number) + (size - 1).to_bytes(2)
        frame = head + bytes((_crc(head, 0x07, 8),)) + bytes(3 * channels)
        frames.append(frame + _crc(frame, 0x8005, 16).to_bytes(2))
    return b"".join(frames)


def _utf8(number: int) -> bytes:
    """Return a frame number below 2**16 as FLAC codes it, like a character in UTF-8."""
    return chr(number).encode("utf-8", "surrogatepass")


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    value, top = 0, 1 << bits - 1
    for byte in data:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & (1 << bits) - 1
    return value


def _repeated_adts(seconds: int, payload: bytes) -> bytes:
    """Repeat one AAC frame of 1024 samples at 8 kHz; frames have neither numbers nor checksums."""
    length = 7 + len(payload)
    head = bytes((0xFF, 0xF1, 0x40 | 11 << 2, 0x40 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC))
    return (head + payload) * (seconds * 8000 // 1024)


def _silent_opus(seconds: int) -> bytes:
    """Write pages of 255 packets of 120 ms, each of six empty frames."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, 48_000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 0) + struct.pack("<I", 0)
    pages = [_page(2, 0, 0, [head]), _page(0, 0, 1, [tags])]
    packet = bytes((0x0B, 0x06))  # SILK, 20 ms, code 3, six frames of equal length 0
    for number in range(int(seconds / 0.12) // 255):
        pages.append(_page(0, (number + 1) * 255 * 5760, number + 2, [packet] * 255))
    return b"".join(pages)


def _page(flags: int, granule: int, number: int, packets: list[bytes]) -> bytes:
    """Write an Ogg page of packets below 255 bytes (RFC 3533, section 6)."""
    lacing = bytes(len(packet) for packet in packets)
    start, end = struct.pack("<4sBBqII", b"OggS", 0, flags, granule, 7, number), bytes((len(packets),)) + lacing
    body = b"".join(packets)
    crc = 0
    for byte in start + bytes(4) + end + body:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
    return start + struct.pack("<I", crc) + end + body


_CRC = [_crc(bytes([byte]), 0x04C11DB7, 32) for byte in range(256)]


def _wav_head(data_bytes: int) -> bytes:
    sizes = (min(36 + data_bytes, 0xFFFFFFFF), 16, 1, 1, 8000, 8000, 1, 8, data_bytes)
    size, fmt, tag, channels, rate, per_second, align, bits, data = sizes
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", size, b"WAVE", b"fmt ", fmt, tag, channels, rate, per_second, align, bits, b"data", data),
    )


# ---- no audio ----------------------------------------------------------------------------------------------------


def _no_audio() -> Iterator[HostileFile]:
    others = {
        "empty.wav": b"",
        "one byte.wav": b"R",
        "zeros.flac": bytes(100_000),
        "page.mp3": b"<!doctype html><script>alert(1)</script>",
        "playlist.m4a": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
        "concat.mkv": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "program.wav": b"\x7fELF" + bytes(500),
        "archive.ogg": b"PK\x03\x04" + bytes(500),
        "pickle.wav": b"\x80\x04\x95" + bytes(200),
        "picture.aac": b"\xff\xd8\xff\xe0" + bytes(500),
        "sync bytes.mp3": b"\xff\xfb\x90\x00" * 20_000,
        "sync bytes.aac": b"\xff\xf1\x50\x80" * 20_000,
        "ogg page heads.ogg": b"OggS" * 20_000,
        "riff in riff.wav": b"RIFF\xff\xff\xff\xffWAVE" * 5000,
        "random.wav": b"RIFF\x00\x10\x00\x00WAVEfmt " + np.random.default_rng(5).bytes(5000),
        "video.webm": _encoded("opus.webm").replace(b"A_OPUS", b"V_VP80"),
        "unknown codec.mkv": _encoded("aac.mkv").replace(b"A_AAC", b"A_XYZ"),
        "no samples.wav": _encode(np.zeros(0, np.float32), "WAV", "PCM_16"),
        "short.wav": _encode(_tone(0.05), "WAV", "PCM_16"),
    }
    for name, data in others.items():
        yield HostileFile(name, partial(bytes, data))
