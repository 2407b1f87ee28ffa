"""The log-mel spectrum that the tagger reads: ``torch.stft`` and the mel bands of ``transformers.audio_utils``.

Conventions: 16 kHz; a Hann window of 25 ms every 10 ms, frame ``t`` starts ``t`` * 10 ms after the clip does, and no
frame reaches beyond the clip (a clip below 32 ms is padded with silence to one frame). 64 bands on the HTK scale, 50 to
7,900 Hz. Values are decades of power; the floor of -8 is where the rounding of 16-bit samples lies.
"""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["BANDS", "FLOOR", "FRAME_S", "log_mel", "power_spectrum"]

FRAME_S = 0.01
BANDS = 64
FLOOR = 1e-8
_HOP, _WINDOW, _FFT = 160, 400, 512


def power_spectrum(samples: torch.Tensor) -> torch.Tensor:
    """Return the power (frames, 257) of samples (n,)."""
    if len(samples) < _FFT:
        samples = torch.nn.functional.pad(samples, (0, _FFT - len(samples)))
    window = torch.hann_window(_WINDOW, device=samples.device)
    spectrum = torch.stft(samples, _FFT, _HOP, _WINDOW, window, center=False, return_complex=True)
    return spectrum.abs().square().T


def log_mel(power: torch.Tensor) -> torch.Tensor:
    """Decades of power (frames, 64) in mel bands, of a power spectrum (frames, 257)."""
    return (power @ _bands().to(power.device) + FLOOR).log10()


@cache
def _bands() -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    bands = mel_filter_bank(_FFT // 2 + 1, BANDS, 50.0, 7900.0, 16000, norm=None, mel_scale="htk")
    return torch.from_numpy(bands).float()
