"""Sound is used whole, or its loss is told: joined recordings, what stands before them, promises, kinds."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from sounds import encode, encode_av, noise, pitch, refused, tone

from mpar2.audio import Clip, load_clip


def pair(kind: str, subtype: str | None = None, rate: int = 48_000) -> tuple[bytes, bytes]:
    return encode(tone(2.0, rate, 440), rate, kind, subtype), encode(tone(2.0, rate, 880), rate, kind, subtype)


def mp3_without_header(hz: float) -> bytes:
    """Two seconds by LAME's variable bitrate; the frame that declares the length is cut off."""
    whole = encode_av("mp3", "libmp3lame", hz=hz, id3v2_version="0", quality=2)
    second = whole.index(whole[:2], 4)
    return whole[second:]


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


@pytest.mark.parametrize("behind", ["WAV", "FLAC", "OGG", "MP3", "mp4"])
@pytest.mark.parametrize("before", ["WAV", "FLAC", "OGG", "MP3", "mp4", "webm", "adts"])
def test_recordings_of_two_kinds_are_used_whole(before: str, behind: str) -> None:
    def made(kind: str, hz: float) -> bytes:
        if kind.isupper():
            return encode(tone(2.0, 48_000, hz), 48_000, kind)
        return encode_av(kind, "libopus" if kind == "webm" else "aac", hz=hz)

    clip = load_clip(made(before, 440) + b"\0" * 7 + made(behind, 880))
    if (before, behind) == ("FLAC", "MP3"):  # FLAC has no length, and compressed sound holds what looks like mp3
        assert clip.warnings == ("what follows 2.0 s of sound in the file is no flac and was not used",)
        return
    assert clip.seconds == pytest.approx(4.0, abs=0.15) and clip.warnings == ()
    assert halves(clip) == (pytest.approx(440, abs=2), pytest.approx(880, abs=2))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "mp4", "webm"])
def test_what_follows_and_is_no_sound_is_told(kind: str) -> None:
    data = encode(tone(2.0), kind=kind) if kind.isupper() else encode_av(kind, "libopus" if kind == "webm" else "aac")
    junk = np.random.default_rng(0).integers(1, 200, 9000, np.uint8).tobytes()
    clip = load_clip(data + junk)
    assert clip.seconds == pytest.approx(2.0, abs=0.05)
    (warning,) = clip.warnings
    assert "not used" in warning and "damaged" not in warning


@pytest.mark.parametrize("behind", [b"TAG" + bytes(125), bytes(5000), b""])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_tags_and_padding_behind_the_sound_cost_nothing(kind: str, behind: bytes) -> None:
    clip = load_clip(encode(tone(2.0), kind=kind) + behind)
    assert clip.seconds == pytest.approx(2.0, abs=0.001) and clip.warnings == ()


def test_a_header_that_covers_half_of_the_sound_is_told() -> None:
    data = bytearray(encode(tone(2.0)))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 88_200)
    assert "88 kB behind the sound are no part of it by its header" in load_clip(bytes(data)).warnings[0]


@pytest.mark.parametrize(
    ("tag", "name"), [(0x28F, "G.722"), (0x161, "Windows Media"), (0x2000, "AC-3"), (0x7777, "0x7777")]
)
@pytest.mark.parametrize("extensible", [False, True])
def test_a_codec_of_wav_is_named(tag: int, name: str, extensible: bool) -> None:
    data = bytearray(encode(tone(1.0), kind="WAVEX" if extensible else "WAV"))
    at = data.index(b"fmt ") + (32 if extensible else 8)
    data[at : at + 2] = struct.pack("<H", tag)
    assert f"the audio is encoded as {name}" in refused(bytes(data)).replace("wav format ", "")


def test_a_clock_that_does_not_begin_at_zero_is_no_promise() -> None:
    data = encode_av("matroska", "libopus", start=1.5)
    clip = load_clip(data)
    assert clip.seconds == pytest.approx(2.0, abs=0.05) and clip.warnings == ()


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


def test_an_mp3_whose_bitrate_varies_and_that_declares_no_length_is_used_whole() -> None:
    """Its length, estimated from its first frames, is a fifth."""
    parts = [mp3_without_header(hz) for hz in (440, 880)]
    clip = load_clip(parts[0] + parts[1])
    assert clip.seconds == pytest.approx(4.0, abs=0.2) and clip.warnings == ()
    assert halves(clip) == (pytest.approx(440, abs=4), pytest.approx(880, abs=4))


def test_a_video_that_is_cut_off_is_told() -> None:
    """The duration of its header may be that of the picture; the size of the segment is that of the file."""
    data = encode_av("matroska", "aac", 4.0, video=True)
    clip = load_clip(data[: len(data) * 6 // 10])
    assert clip.seconds < 3.5 and "cut off" in clip.warnings[0]
    assert load_clip(data).warnings == ()


def test_a_form_around_an_aac_is_no_damage() -> None:
    data = encode_av("adts", "aac")
    clip = load_clip(b"--X\r\nContent-Type: audio/aac\r\n\r\n" + data + b"\r\n--X--\r\n")
    assert clip.seconds == pytest.approx(2.0, abs=0.1) and clip.warnings == ()
    damaged = data[:6000] + bytes(range(1, 200)) + data[6500:]
    assert "damaged" in load_clip(damaged).warnings[0]


def test_an_ogg_of_headers_alone_is_cut_off() -> None:
    data = encode(tone(2.0), kind="OGG")
    assert "cut off" in refused(data[:4400])


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


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


_PCM = (noise(2.0, 16_000) * 32767).astype("<i2").tobytes()
_FORMAT = _chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
_TWO = _chunk(b"data", _PCM[:20_000]) + _chunk(b"LIST", b"INFOabc") + _chunk(b"data", _PCM[20_000:])


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        (_FORMAT + _TWO, "2 chunks of the file, which were joined"),
        (_FORMAT + _chunk(b"LIST", b"wavl" + _TWO), "2 chunks of the file, which were joined"),
        (_FORMAT + _chunk(b"data", b"") + _chunk(b"data", _PCM), ""),
        (_FORMAT + _FORMAT + _chunk(b"data", _PCM), ""),
        (_chunk(b"data", _PCM) + _FORMAT, ""),
    ],
    ids=["two", "list of waves", "an empty one first", "format twice", "format behind"],
)
def test_sound_in_unusual_chunks_is_used_whole(chunks: bytes, words: str) -> None:
    usual = load_clip(b"RIFF" + struct.pack("<I", 40 + len(_PCM)) + b"WAVE" + _FORMAT + _chunk(b"data", _PCM))
    clip = load_clip(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    assert clip.digest == usual.digest and words in " ".join(clip.warnings) and bool(words) == bool(clip.warnings)
    cut = load_clip(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + (_FORMAT + _TWO)[:-30_000])
    assert cut.seconds == pytest.approx(2.0 - 15_000 / 16_000, abs=0.001) and "promises 2.0 s" in cut.warnings[-1]


@pytest.mark.parametrize("places", [[0.5], [0.3, 0.6], [0.9]])
def test_a_flac_that_is_damaged_in_its_middle_is_used_to_its_end(places: list[float]) -> None:
    """Silence stands for what is lost, so that everything else stays at its time."""
    sound = noise(4.0, 16_000)
    data = bytearray(encode(sound, 16_000, "FLAC"))
    for place in places:
        at = int(len(data) * place)
        data[at : at + 50] = bytes(50)
    clip, whole = load_clip(bytes(data)), load_clip(encode(sound, 16_000, "FLAC"))
    kept = clip.samples == whole.samples
    assert clip.seconds == 4.0 and kept.mean() > 0.75 and not clip.samples[~kept].any()
    assert clip.warnings == (
        f"the file is damaged: {(~kept).sum() / 16_000:.2f} s of it are lost, silence stands in their place",
    )
