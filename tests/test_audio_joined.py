"""Sound is used whole, or its loss is told: joined recordings, what stands before them, promises, kinds."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from sounds import encode, encode_av, pitch, refused, tone

from mpar2.audio import Clip, load_clip


def pair(kind: str, subtype: str | None = None, rate: int = 48_000) -> tuple[bytes, bytes]:
    return encode(tone(2.0, rate, 440), rate, kind, subtype), encode(tone(2.0, rate, 880), rate, kind, subtype)


def halves(clip: Clip) -> tuple[float, float]:
    middle = len(clip.samples) // 2
    return pitch(Clip(clip.samples[: middle - 2000])), pitch(Clip(clip.samples[middle + 2000 :]))


@pytest.mark.parametrize(
    ("kind", "subtype"), [("MP3", None), ("OGG", "OPUS"), ("OGG", "VORBIS"), ("FLAC", None), ("WAV", "PCM_16")]
)
def test_joined_recordings_are_used_whole(kind: str, subtype: str | None) -> None:
    first, second = pair(kind, subtype)
    clip = load_clip(first + second)
    assert clip.seconds == pytest.approx(4.0, abs=0.1) and clip.warnings == ()
    assert halves(clip) == (pytest.approx(440, abs=2), pytest.approx(880, abs=2))


@pytest.mark.parametrize(("container", "codec"), [("adts", "aac"), ("webm", "libopus"), ("mp4", "aac")])
def test_joined_recordings_of_phones_are_used_whole(container: str, codec: str) -> None:
    data = encode_av(container, codec)
    assert load_clip(data + data).seconds == pytest.approx(4.0, abs=0.15)


TAG = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)


@pytest.mark.parametrize("before", [TAG, TAG + TAG, TAG + bytes(512), b"junk" * 500, bytes(1000)])
@pytest.mark.parametrize("kind", ["MP3", "FLAC", "WAV", "OGG", "AAC"])
def test_what_stands_before_the_sound_does_not_hide_it(kind: str, before: bytes) -> None:
    data = encode_av("adts", "aac") if kind == "AAC" else encode(tone(2.0, 48_000), 48_000, kind)
    clip = load_clip(before + data)
    assert clip.seconds == pytest.approx(2.0, abs=0.1) and pitch(clip) == pytest.approx(440, abs=1)
    assert clip.warnings == ()


def test_an_mp3_from_its_middle() -> None:
    data = encode(tone(3.0), kind="MP3")
    clip = load_clip(data[len(data) // 3 + 5 :])
    assert clip.seconds == pytest.approx(2.0, abs=0.25) and clip.warnings == ()  # of variable bit rate


def test_an_estimate_is_no_promise() -> None:
    data = encode(tone(2.0), kind="MP3")
    at = data.index(b"\xff\xfb", 500)  # behind the information frame
    cover = b"ID3\x04\0\0" + bytes((0, 3, 0x54, 0)) + bytes(60_000)
    cover = cover[: 10 + (3 << 14) + (0x54 << 7)].ljust(10 + (3 << 14) + (0x54 << 7), b"\0")
    clip = load_clip(cover + data[at:])
    assert clip.seconds == pytest.approx(2.0, abs=0.1) and clip.warnings == ()


def test_an_empty_recording_is_not_its_comment() -> None:
    head = encode(tone(0.1), kind="WAV", subtype="PCM_16")[:36]
    comment = b"data\0\0\0\0LIST" + struct.pack("<I", 40_000) + b"INFO" + b"text" * 9_999
    assert "no audio" in refused(head + comment)


def test_bw64_is_rf64() -> None:
    data = encode(tone(2.0), kind="RF64", subtype="PCM_16")
    assert load_clip(b"BW64" + data[4:]).seconds == pytest.approx(2.0)


def test_a_codec_is_named_before_a_file_is_called_damaged() -> None:
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, 2, 0, 1, 0, 0, 1) + bytes((80,)) + b"Speex   ".ljust(80, b"\0")
    message = refused(page)
    assert "'speex'" in message and "damaged" not in message


def test_flac_in_ogg_is_decoded() -> None:
    clip = load_clip(encode_av("ogg", "flac"))
    assert clip.seconds == pytest.approx(2.0, abs=0.05) and pitch(clip) == pytest.approx(440, abs=1)


def test_lost_pages_are_told() -> None:
    data = encode(0.1 * np.random.default_rng(0).standard_normal(48_000 * 4).astype(np.float32), 48_000, "OGG", "OPUS")
    pages = [index for index in range(len(data)) if data[index : index + 4] == b"OggS"]
    middle = pages[len(pages) // 2], pages[len(pages) // 2 + 1]
    assert "pages of sound are missing" in " ".join(load_clip(data[: middle[0]] + data[middle[1] :]).warnings)
