"""The network of the tagger. It maps log-mel frames to logits for the 521 AudioSet names, every 80 ms.

The network has depthwise separable convolutions as in MobileNet (arXiv 1704.04861). An output frame covers eight input
frames of 10 ms.

The input is a log-mel spectrogram by ``torch.stft`` and the mel bands of ``transformers.audio_utils``. Conventions:
16 kHz; a Hann window of 25 ms every 10 ms; frame ``t`` starts at ``t`` * 10 ms, and no frame exceeds the clip (a clip
below 32 ms is padded with silence to one frame); 64 bands on the HTK scale, 50 to 7,900 Hz. Values are log10 of power,
with a floor of -8 at the rounding error of 16-bit samples.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

__all__ = ["BANDS", "FLOOR", "STRIDE", "TaggerNet", "log_mel", "power_spectrum"]

BANDS = 64
FLOOR = 1e-8
_HOP, _WINDOW, _FFT = 160, 400, 512
STRIDE = 8  # input frames per output frame

# channels, stride in time, stride in frequency; the first convolution has strides 4 and 2
_BLOCKS = ((64, 1, 2), (128, 2, 2), (128, 1, 1), (256, 1, 2), (256, 1, 1), (256, 1, 1), (512, 1, 2), (512, 1, 1),
           (512, 1, 1))  # fmt: skip


def power_spectrum(samples: torch.Tensor) -> torch.Tensor:
    """Compute the power spectrogram of samples, (n,) at 16 kHz, as (frames, 257)."""
    if len(samples) < _FFT:
        samples = torch.nn.functional.pad(samples, (0, _FFT - len(samples)))
    window = torch.hann_window(_WINDOW, device=samples.device)
    spectrum = torch.stft(samples, _FFT, _HOP, _WINDOW, window, center=False, return_complex=True)
    return spectrum.abs().square().T


def log_mel(power: torch.Tensor) -> torch.Tensor:
    """Compute the log-mel spectrogram, (frames, 64) in log10 of power, of a power spectrogram, (frames, 257)."""
    return (power @ _bands().to(power.device) + FLOOR).log10()


@cache
def _bands() -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    bands = mel_filter_bank(_FFT // 2 + 1, BANDS, 50.0, 7900.0, 16000, norm=None, mel_scale="htk")
    return torch.from_numpy(bands).float()


class TaggerNet(nn.Module):
    """Maps log-mel frames (batch, frames, 64) to logits (batch, frames // 8, 521); frames are a multiple of eight.

    The input is log10 of power (:func:`log_mel`). The outputs are the 521 AudioSet names (``tagger.names``).
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(BANDS)
        layers: list[nn.Module] = [nn.Conv2d(1, 32, (5, 3), (4, 2), (2, 1), bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        width = 32
        for channels, time, frequency in _BLOCKS:
            layers.append(_Separable(width, channels, (time, frequency)))
            width = channels
        self.body = nn.Sequential(*layers)
        self.context = nn.Sequential(
            nn.Conv1d(2 * width, 512, 1, bias=False),
            nn.BatchNorm1d(512),
            nn.ReLU(),
            nn.Conv1d(512, 512, 5, padding=2, groups=512, bias=False),
            nn.BatchNorm1d(512),
            nn.ReLU(),
        )
        self.head = nn.Conv1d(512, 521, 1)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        x = self.norm(mel.transpose(1, 2)).transpose(1, 2).unsqueeze(1)  # (B, 1, T, F)
        x = self.body(x.contiguous(memory_format=torch.channels_last))  # (B, C, T/8, 2)
        x = x.permute(0, 1, 3, 2).flatten(1, 2)
        return self.head(self.context(x)).transpose(1, 2)


class _Separable(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution, with a residual connection where the shapes allow it."""

    def __init__(self, width: int, channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.residual = width == channels and stride == (1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        return torch.relu(x + y if self.residual else y)
