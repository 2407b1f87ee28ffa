"""One loader for every recording: what it accepts, what it refuses and in which words, and bounded memory."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import soundfile
import soxr

from mpar2.audio import SAMPLE_RATE, AudioError, Clip, Limits, load_clip, wav_bytes

av = pytest.importorskip("av", reason="m4a, aac and webm need PyAV")


def tone(seconds: float = 1.0, rate: int = 44100, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float = 3.0, rate: int = 44100) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype(np.float32)


def encode(samples: np.ndarray, rate: int = 44100, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def encode_av(container: str, codec: str, seconds: float = 2.0, *, rate: int = 48000, video: bool = False, **options):
    """A phone's or a browser's recording: stereo, 440 Hz."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        if video:
            picture = out.add_stream("mpeg4", rate=10)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
            for i in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * i, np.uint8), format="rgb24")
                frame.pts = i
                out.mux(picture.encode(frame))
            out.mux(picture.encode())
        samples = tone(seconds, rate)
        for start in range(0, len(samples), 960):
            block = np.stack([samples[start : start + 960]] * 2)
            if codec == "alac":
                block = (block * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, "s16p" if codec == "alac" else "fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return buffer.getvalue()


def pitch(clip: Clip) -> float:
    """The strongest frequency, Hz."""
    spectrum = np.abs(np.fft.rfft(clip.samples * np.hanning(len(clip.samples))))
    return float(np.fft.rfftfreq(len(clip.samples), 1 / SAMPLE_RATE)[spectrum.argmax()])


def refused(source, **keywords) -> str:
    with pytest.raises(AudioError) as caught:
        load_clip(source, **keywords)
    return str(caught.value)


# --- what is accepted ---


@pytest.mark.parametrize(
    ("kind", "subtype", "rate"),
    [
        ("WAV", "PCM_U8", 8000),
        ("WAV", "PCM_16", 16000),
        ("WAV", "PCM_24", 48000),
        ("WAV", "PCM_32", 96000),
        ("WAV", "FLOAT", 44100),
        ("WAV", "DOUBLE", 22050),
        ("WAV", "ULAW", 8000),
        ("WAVEX", "PCM_16", 192000),
        ("FLAC", "PCM_24", 44100),
        ("MP3", None, 44100),
        ("OGG", "VORBIS", 32000),
        ("OGG", "OPUS", 48000),
    ],
)
def test_libsndfile_kinds_keep_pitch_and_length(kind, subtype, rate):
    clip = load_clip(encode(tone(2.0, rate), rate, kind, subtype))
    assert clip.samples.dtype == np.float32 and clip.samples.ndim == 1
    assert clip.seconds == pytest.approx(2.0, abs=0.01)
    assert pitch(clip) == pytest.approx(440, abs=1)
    assert np.abs(clip.samples).max() == pytest.approx(0.3, abs=0.03)
    assert clip.warnings == ()


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "aac", {}),
        ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),  # what MediaRecorder writes
        ("adts", "aac", {}),
        ("webm", "libopus", {}),
        ("matroska", "aac", {}),
    ],
)
def test_phone_and_browser_kinds(container, codec, options):
    clip = load_clip(encode_av(container, codec, **options))
    assert clip.seconds == pytest.approx(2.0, abs=0.06)
    assert pitch(clip) == pytest.approx(440, abs=1)
    assert clip.warnings == ()


def test_the_sound_of_a_video_is_taken_without_decoding_pictures():
    clip = load_clip(encode_av("mp4", "aac", video=True))
    assert clip.seconds == pytest.approx(2.0, abs=0.06) and pitch(clip) == pytest.approx(440, abs=1)


def test_path_bytes_and_array_agree(tmp_path):
    data = encode(noise(), 44100, "WAV", "PCM_16")
    path = tmp_path / "a recording.wav"
    path.write_bytes(data)
    pcm, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    clips = [load_clip(path), load_clip(str(path)), load_clip(data), load_clip((rate, pcm))]
    assert len({clip.digest for clip in clips}) == 1
    assert clips[0].source == "a recording.wav"
    assert load_clip(clips[0]) is clips[0]
    assert load_clip(data, name="mine").source == "mine"


def test_kind_is_read_from_content_not_from_the_name(tmp_path):
    path = tmp_path / "liar.mp3"
    path.write_bytes(encode(tone(), kind="FLAC"))
    assert load_clip(path).seconds == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_block_resampling_equals_resampling_at_once(rate):
    samples = noise(2.3, rate)
    whole = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    np.testing.assert_allclose(load_clip((rate, samples)).samples, whole, atol=1e-5)


def test_channels_are_averaged():
    left, right = tone(), 0.5 * tone()
    clip = load_clip((16000, np.stack([left, right], axis=1)))
    np.testing.assert_allclose(clip.samples, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float16", "float32", "float64"])
def test_arrays_of_any_width(dtype):
    samples = tone(rate=16000)
    kind = np.dtype(dtype)
    if kind.kind == "i":
        array = np.round(samples * np.iinfo(kind).max).astype(kind)
    elif kind.kind == "u":
        array = np.round(samples * 127 + 128).astype(kind)
    else:
        array = samples.astype(kind)
    np.testing.assert_allclose(load_clip((16000, array)).samples, samples, atol=0.01)


def test_wav_round_trip_is_exact_for_16_bit():
    pcm = np.random.default_rng(1).integers(-32768, 32768, 16000).astype(np.int16)
    clip = load_clip((16000, pcm))
    again = load_clip(wav_bytes(clip))
    assert again.digest == clip.digest and len(clip.digest) == 64
    assert wav_bytes(Clip(np.full(1600, 1.0, np.float32)))[44:46] == b"\xff\x7f"  # full scale does not wrap


def test_clip_is_read_only_and_does_not_freeze_the_callers_array():
    mine = np.zeros(16000, np.float32)
    clip = Clip(mine, "x")
    with pytest.raises(ValueError):
        clip.samples[0] = 1
    mine[0] = 0.5
    with pytest.raises(AudioError, match="one dimension"):
        Clip(np.zeros((2, 100)))


# --- usable but odd: warnings ---


@pytest.mark.parametrize("level", [0.0, 2e-5])
def test_silence_is_a_warning(level):
    clip = load_clip((16000, tone(rate=16000, level=level)))
    assert "silent" in clip.warnings[0]


def test_channels_that_cancel_are_named():
    clip = load_clip((16000, np.stack([tone(), -tone()], axis=1)))
    assert "cancel" in clip.warnings[0]


def test_level_above_full_scale_is_turned_down_not_clipped():
    clip = load_clip((16000, tone(rate=16000, level=12000.0)))
    assert "full scale" in clip.warnings[0]
    assert np.abs(clip.samples).max() == pytest.approx(1.0)
    assert np.mean(np.abs(clip.samples) > 0.99) < 0.2  # still a sine, not a square


@pytest.mark.parametrize(
    "data",
    [
        encode(noise(), kind="WAV"),
        encode(noise(), kind="FLAC"),
        encode(noise(), kind="OGG", subtype="VORBIS"),
        encode(noise(), 48000, kind="OGG", subtype="OPUS"),
        encode(noise(), kind="MP3"),
        encode_av("adts", "aac"),
        encode_av("webm", "libopus"),
        encode_av("mp4", "aac", movflags="frag_keyframe+empty_moov"),
    ],
    ids=["wav", "flac", "vorbis", "opus", "mp3", "aac", "webm", "fragmented mp4"],
)
def test_truncated_file_gives_its_beginning_and_a_warning(data):
    clip = load_clip(data[: len(data) * 6 // 10])
    assert 0.5 < clip.seconds < 2.2
    assert any("cut off" in warning for warning in clip.warnings)


def test_codecs_outside_of_the_list_are_named():
    assert "'alac'" in refused(encode_av("mp4", "alac"))


def test_mp4_without_its_index_is_refused_with_advice():
    data = encode_av("mp4", "aac")
    assert "cut off" in refused(data[: len(data) * 6 // 10])


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_nothing_but_a_header_is_refused(kind):
    assert "cannot be decoded" in refused(encode(tone(), kind=kind)[:60])


def test_a_damaged_middle_does_not_lose_the_rest():
    data = bytearray(encode_av("webm", "libopus", 3.0))
    middle = len(data) // 2
    data[middle : middle + 40] = os.urandom(40)
    assert load_clip(bytes(data)).seconds > 1.0


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
