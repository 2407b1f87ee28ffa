"""Sounds and files of sound for the tests of loading."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from mpar2.audio import SAMPLE_RATE, AudioError, Clip, load_clip

av = pytest.importorskip("av", reason="m4a, aac and webm need PyAV")


def tone(seconds: float = 1.0, rate: int = 44100, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float = 3.0, rate: int = 44100) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype(np.float32)


def encode(samples: np.ndarray, rate: int = 44100, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def encode_av(
    container: str,
    codec: str,
    seconds: float = 2.0,
    *,
    rate: int = 48000,
    hz: float = 440.0,
    start: float = 0.0,
    video: bool = False,
    quality: float | None = None,
    **options,
):
    """A phone's or a browser's recording: stereo, 440 Hz; its clock begins at ``start`` seconds.

    ``quality`` makes the bitrate vary.
    """
    first = round(start * rate)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        if quality is not None:
            stream.codec_context.qscale, stream.codec_context.global_quality = (
                True,
                round(118 * quality),
            )  # FF_QP2LAMBDA
        if video:
            picture = out.add_stream("mpeg4", rate=10)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
            for i in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * i, np.uint8), format="rgb24")
                frame.pts = i
                out.mux(picture.encode(frame))
            out.mux(picture.encode())
        samples = tone(seconds, rate, hz)
        for at in range(0, len(samples), 960):
            block = np.stack([samples[at : at + 960]] * 2)
            if codec == "alac":
                block = (block * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, "s16p" if codec == "alac" else "fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, first + at
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
