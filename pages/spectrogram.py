"""The picture of a clip: a log-mel spectrogram small enough to travel inside the comparison document.

Conventions: 64 mel bands (Slaney) from 0 to 8 kHz over a Hann window of 25 ms; columns pooled to at most 600; one byte
a value, 0 at 70 dB below the loudest bin and 255 at the loudest. Band 0 is the lowest. It is for the eye only: what the
model hears is computed by its own feature extractor.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

import numpy as np

from mpar2.audio import SAMPLE_RATE, Clip

__all__ = ["mel_picture"]

_BANDS = 64
_WINDOW = 400  # 25 ms
_HOP = 160  # 10 ms
_RANGE_DB = 70.0
_MOST_COLUMNS = 600


def mel_picture(clip: Clip) -> dict[str, Any]:
    """``{"shape": [bands, columns], "data": base64}`` of a clip."""
    samples = clip.samples
    if len(samples) < _WINDOW:
        samples = np.pad(samples, (0, _WINDOW - len(samples)))
    starts = np.arange(0, len(samples) - _WINDOW + 1, _HOP)
    window = np.hanning(_WINDOW).astype(np.float32)
    power = np.empty((len(starts), _BANDS), dtype=np.float32)
    for first in range(0, len(starts), 4096):  # in blocks: a five-minute clip has 30,000 frames
        frames = samples[starts[first : first + 4096, None] + np.arange(_WINDOW)]
        magnitude = np.abs(np.fft.rfft(frames * window, n=512, axis=-1)).astype(np.float32)
        power[first : first + 4096] = magnitude**2 @ _filters()
    pooled = _pool(power)
    level = 10 * np.log10(np.maximum(pooled, 1e-10))
    level = np.clip((level - level.max() + _RANGE_DB) / _RANGE_DB, 0, 1)
    if float(pooled.max()) <= 1e-9:
        level[:] = 0
    data = np.rint(level.T * 255).astype(np.uint8)
    return {"shape": list(data.shape), "data": base64.b64encode(np.ascontiguousarray(data).tobytes()).decode("ascii")}


def _pool(power: np.ndarray) -> np.ndarray:
    if len(power) <= _MOST_COLUMNS:
        return power
    edges = np.linspace(0, len(power), _MOST_COLUMNS, endpoint=False).astype(int)
    return np.maximum.reduceat(power, edges, axis=0)


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """Triangular mel filters, ``(257, 64)``, each of unit area (Slaney's scale: linear to 1 kHz, then logarithmic)."""
    to_hz = np.vectorize(lambda mel: mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27))
    top = 15 + 27 * np.log(SAMPLE_RATE / 2 / 1000) / np.log(6.4)
    edges = to_hz(np.linspace(0, top, _BANDS + 2))
    hertz = np.fft.rfftfreq(512, 1 / SAMPLE_RATE)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    return triangles.astype(np.float32)
