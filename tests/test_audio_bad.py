"""Lying headers, bad files and limits: each is refused in its own words, within bounded memory."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import soundfile
from sounds import encode, encode_av, refused, tone

from mpar2.audio import AudioError, Limits, load_clip

av = pytest.importorskip("av", reason="m4a, aac and webm need PyAV")

# --- lying headers ---


def wav_with(offset: int, layout: str, value: int) -> bytes:
    data = bytearray(encode(tone(2.0), kind="WAV", subtype="PCM_16"))
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


def flac_with(samples: np.ndarray | None = None, *, total: int | None = None, rate: int | None = None) -> bytes:
    data = bytearray(encode(tone(2.0) if samples is None else samples, kind="FLAC"))
    word = int.from_bytes(data[18:26], "big")
    if total is not None:
        word = (word >> 36 << 36) | total
    if rate is not None:
        word = (word & (1 << 44) - 1) | rate << 44
    data[18:26] = word.to_bytes(8, "big")
    return bytes(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_wav_of_unknown_size_is_read_whole(size):
    assert load_clip(wav_with(40, "<I", size)).seconds == pytest.approx(2.0)


def test_wav_that_promises_too_much():
    clip = load_clip(wav_with(40, "<I", 10**9))
    assert clip.seconds == pytest.approx(2.0) and "promises" in clip.warnings[0]


def test_flac_of_unknown_length_is_read_whole():
    clip = load_clip(flac_with(total=0))
    assert clip.seconds == pytest.approx(2.0) and clip.warnings == ()


@pytest.mark.parametrize(("total", "words"), [(1000, "header is wrong"), (10**9, "promises")])
def test_flac_that_lies_about_its_length(total, words):
    clip = load_clip(flac_with(total=total))
    assert clip.seconds == pytest.approx(2.0) and words in clip.warnings[0]


def test_hidden_length_does_not_get_past_the_limit():
    assert "longer than 1 s" in refused(flac_with(total=1000), limits=Limits(max_seconds=1))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (wav_with(24, "<I", 0), "rate is 0 Hz"),
        (wav_with(24, "<I", 1_000_000), "192000 Hz"),
        (wav_with(24, "<I", 100), "4000 to"),
        (wav_with(22, "<H", 65535), "65535 channels"),
        (wav_with(22, "<H", 0), "no channel"),
        (wav_with(22, "<H", 64), "64 channels"),
        (flac_with(rate=0), "rate is 0 Hz"),
        (flac_with(rate=655350), "655350 Hz"),
    ],
)
def test_impossible_headers_are_named(data, words):
    assert words in refused(data)


def forged_mp4(table: bytes, **options: str) -> bytes:
    data = bytearray(encode_av("mp4", "aac", 0.5, **options))
    spot = data.index(table)
    count = spot + (12 if table == b"stsz" else 8)
    struct.pack_into(">I", data, count, 170_000_000)
    return bytes(data)


def test_mp4_that_declares_millions_of_packets_is_refused_before_ffmpeg_believes_it():
    assert "declares" in refused(forged_mp4(b"stsz"))
    assert "declares" in refused(forged_mp4(b"trun", movflags="frag_keyframe+empty_moov"))


def test_mp4_with_a_compressed_header_is_refused():
    data = encode_av("mp4", "aac", 0.5)
    assert "compressed header" in refused(data + b"\0\0\0\x40cmov\0\0\0\x0cdcomzlib")


# --- each kind of bad file has its own words ---


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, this is not audio\n" * 40, "is text"),
        ("ünïcödé ".encode() * 100, "is text"),
        (b"<!DOCTYPE html><html>404</html>", "is text"),
        (bytes(5000), "zero bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "picture"),
        (b"FORM\0\0\0\0AIFF" + bytes(100), "AIFF"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (bytes(range(1, 256)) * 10, "not an audio file that we know"),
        (encode(np.zeros(0, np.float32)), "no audio"),
        (encode(tone(0.05)), "the least is 0.1 s"),
        (encode(np.array([0.0, np.nan] * 5000), kind="WAV", subtype="FLOAT"), "not numbers"),
        (encode(np.array([0.0, np.inf] * 5000), kind="WAV", subtype="FLOAT"), "not numbers"),
        (encode(np.array([0.0, 1e30] * 5000), kind="WAV", subtype="FLOAT"), "1e+30"),
        (b"\x1aE\xdf\xa3" + bytes(400), "cannot be decoded"),
        (b"\0\0\0\x18ftypM4A " + bytes(400), "cannot be decoded"),
        (b"RIFF\xff\xff\xff\xffWAVE", "cannot be decoded"),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(400), "cannot be decoded"),
    ],
)
def test_bad_files_are_told_apart(data, words):
    assert words in refused(data)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "upload or record"),
        (12, "cannot load audio from int"),
        ((16000, np.zeros(0)), "empty"),
        ((0, np.zeros(16000)), "0 Hz"),
        ((16000.5, np.zeros(16000)), "whole number"),
        ((16000, np.zeros((2, 16000))), "(samples, channels)"),
        ((16000, np.zeros((1, 2, 3))), "shape"),
        ((16000, np.array(["a"])), "floats"),
        ((16000, np.zeros(16000, complex)), "floats"),
        ((16000, np.full(16000, 1e300)), "not numbers"),
    ],
)
def test_bad_arguments_are_told_apart(source, words):
    assert words in refused(source)


def test_bad_paths(tmp_path):
    assert "no such file" in refused(tmp_path / "missing.wav")
    assert "no such file" in refused("https://example.org/a.wav")
    assert "not a file" in refused(tmp_path)
    assert "path is not valid" in refused("a\0b.wav")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX thing")
def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert "not a file" in refused(tmp_path / "pipe.wav")


def test_messages_survive_hostile_names():
    message = refused(b"", name="<img onerror=x>\n" + "a" * 500 + ".wav")
    assert "\n" not in message and len(message) < 250


# --- limits ---


def test_limits_on_seconds_bytes_and_decoded_samples():
    data = encode(tone(3.0), kind="FLAC")
    assert "longer than 2 s" in refused(data, limits=Limits(max_seconds=2))
    assert "MB; the limit" in refused(data, limits=Limits(max_bytes=1000))
    assert "unpacks into" in refused(data, limits=Limits(max_decoded_samples=1000))
    assert "longer than 1 s" in refused(encode_av("webm", "libopus"), limits=Limits(max_seconds=1))
    assert "limit is 0.5 s" in refused(load_clip(data), limits=Limits(max_seconds=0.5))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads peak memory in the units of Linux")
def test_memory_stays_bounded_on_files_that_unpack_a_thousandfold(tmp_path):
    """Ten minutes of stereo silence: 110 kB of FLAC, 230 MB of float32. And an mp4 that asks for gigabytes."""
    bomb = tmp_path / "bomb.flac"
    with soundfile.SoundFile(bomb, "w", 48000, 2, format="FLAC") as out:
        for _ in range(600):
            out.write(np.zeros((48000, 2), np.float32))
    assert bomb.stat().st_size < 400_000
    (tmp_path / "bomb.mp4").write_bytes(forged_mp4(b"stsz"))
    script = f"""
        import resource
        from mpar2.audio import AudioError, Limits, load_clip
        import soundfile, soxr, av
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        before = peak()
        for name in ("bomb.flac", "bomb.mp4"):
            try:
                load_clip({str(tmp_path)!r} + "/" + name)
            except AudioError:
                print(peak() - before)
        print(load_clip({str(bomb)!r}, limits=Limits(max_seconds=700)).seconds)
        print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    flac, mp4, seconds, whole = (float(line) for line in done.stdout.split())
    assert flac < 60 and mp4 < 60, "a refused file must not cost more than the clip that the limits allow (MiB)"
    assert seconds == pytest.approx(600) and whole < 140  # the clip itself has 37 MiB


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_never_escapes_as_another_error(seed):
    rng = np.random.default_rng(seed)
    encoded = _DAMAGED[seed % len(_DAMAGED)]
    data = bytearray(encoded[: rng.integers(20, len(encoded))])
    for _ in range(rng.integers(1, 12)):
        data[rng.integers(0, min(len(data), 400 if seed % 2 else len(data)))] = rng.integers(0, 256)
    try:
        clip = load_clip(bytes(data))
    except AudioError as error:
        assert len(str(error)) > 20
    else:
        assert np.abs(clip.samples).max() <= 1 and clip.seconds >= 0.1


_DAMAGED = [
    encode(tone(0.5), kind="WAV"),
    encode(tone(0.5), kind="FLAC"),
    encode(tone(0.5), kind="OGG", subtype="VORBIS"),
    encode(tone(0.5), kind="MP3"),
    encode_av("mp4", "aac", 0.5),
    encode_av("webm", "libopus", 0.5),
    encode_av("adts", "aac", 0.5),
]
