"""The picture of a clip: librosa's log-mel spectrogram, small enough to be embedded in the comparison document.

Conventions: 64 mel bands (Slaney) from 0 to 8 kHz over a Hann window of 25 ms, a column every 10 ms whose window is
centred on it. In long clips the maximum of neighbouring columns is taken, so that there are at most 1,200. One byte per
value, 0 at 70 dB below the loudest bin and 255 at the loudest; band 0 is the lowest. Column j covers
``start_s + j column_s`` to ``start_s + (j + 1) column_s``; the page places the picture by these without stretching it.
It is for display only: the input of a model is computed by its own feature extractor.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

import numpy as np

from mpar2.audio import SAMPLE_RATE, Clip

_BANDS = 64
_WINDOW, _FFT = 400, 512  # 25 ms
_HOP = 160  # 10 ms
_RANGE_DB = 70.0
_MOST_COLUMNS = 1200


def mel_picture(clip: Clip) -> dict[str, Any]:
    """Return ``{"shape": [bands, columns], "start_s", "column_s", "data": base64}`` of a clip."""
    import librosa

    spectrum = np.abs(
        librosa.stft(clip.samples, n_fft=_FFT, hop_length=_HOP, win_length=_WINDOW, center=True, pad_mode="constant")
    )
    power = _filters() @ spectrum**2
    factor = -(-power.shape[1] // _MOST_COLUMNS)
    if factor > 1:
        power = np.maximum.reduceat(power, np.arange(0, power.shape[1], factor), axis=1)
    if float(power.max(initial=0.0)) <= 1e-9:
        level = np.zeros_like(power)
    else:
        level = librosa.power_to_db(power, ref=np.max, amin=1e-10, top_db=_RANGE_DB) / _RANGE_DB + 1
    data = np.rint(level.clip(0, 1) * 255).astype(np.uint8)
    return {
        "shape": list(data.shape),
        "start_s": -_HOP / SAMPLE_RATE / 2,  # the first window is centred on 0
        "column_s": factor * _HOP / SAMPLE_RATE,
        "data": base64.b64encode(np.ascontiguousarray(data).tobytes()).decode("ascii"),
    }


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """Return the mel filters, ``(64, 257)``."""
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=_FFT, n_mels=_BANDS, fmax=SAMPLE_RATE / 2)


def warm_up() -> None:
    """Load librosa in advance, because its first use takes seconds."""
    mel_picture(Clip(np.zeros(SAMPLE_RATE, dtype=np.float32)))
