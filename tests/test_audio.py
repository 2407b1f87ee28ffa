"""One loader for every recording: what it accepts, what it refuses and in which words, and bounded memory."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import soundfile
import soxr
from sounds import encode, encode_av, noise, pitch, refused, tone

from mpar2.audio import SAMPLE_RATE, AudioError, Clip, load_clip, wav_bytes

av = pytest.importorskip("av", reason="m4a, aac and webm need PyAV")

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
