"""Synthetic sounds for classes that no recording covers: a generator in, float32 samples at 16 kHz out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal

__all__ = ["SYNTHS", "beep", "colored_noise", "crickets", "explosion", "siren", "static", "telephone"]

_RATE = 16000


def _time(seconds: float) -> np.ndarray:
    return np.arange(int(seconds * _RATE)) / _RATE


def _fade(samples: np.ndarray, seconds: float = 0.01) -> np.ndarray:
    n = min(int(seconds * _RATE), len(samples) // 2)
    ramp = np.ones(len(samples))
    ramp[:n] = np.linspace(0, 1, n)
    ramp[len(samples) - n :] = np.linspace(1, 0, n)
    return (samples * ramp).astype(np.float32)


def colored_noise(n: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """``n`` samples of noise whose power falls as f^-slope (0 white, 1 pink, 2 brown), peak 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-slope / 2)
    noise = np.fft.irfft(spectrum, n)
    return (noise / np.abs(noise).max()).astype(np.float32)


def beep(rng: np.random.Generator) -> np.ndarray:
    """One to four tones of one pitch (500-3000 Hz), sine or square."""
    pitch, on, off = rng.uniform(500, 3000), rng.uniform(0.12, 0.5), rng.uniform(0.06, 0.25)
    t = _time(on)
    tone = np.sin(2 * np.pi * pitch * t)
    if rng.random() < 0.4:
        tone = 0.5 * np.sign(tone) * (1 + 0 * t)
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        parts += [_fade(0.7 * tone, 0.005), np.zeros(int(off * _RATE), np.float32)]
    return np.concatenate(parts[:-1])


def siren(rng: np.random.Generator) -> np.ndarray:
    """A wail (slow sweep), a yelp (fast sweep) or two tones in turn, with harmonics."""
    t = _time(rng.uniform(1.5, 3.5))
    low, high = rng.uniform(350, 700), rng.uniform(900, 1700)
    kind = rng.integers(3)
    phase = t * (rng.uniform(0.25, 0.6) if kind == 0 else rng.uniform(2, 4.5))
    if kind == 2:
        frequency = np.where((t * rng.uniform(0.8, 2.0)) % 1 < 0.5, low * 1.3, low * 1.7)
    else:
        frequency = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * phase))
    angle = 2 * np.pi * np.cumsum(frequency) / _RATE
    tone = np.sin(angle) + rng.uniform(0.1, 0.6) * np.sin(2 * angle) + rng.uniform(0.05, 0.4) * np.sin(3 * angle)
    return _fade(0.5 * tone, 0.05)


def static(rng: np.random.Generator) -> np.ndarray:
    """A burst of white to pink noise, sometimes interrupted as a badly tuned radio is."""
    n = int(rng.uniform(0.8, 3.0) * _RATE)
    noise = colored_noise(n, rng.uniform(0.0, 0.6), rng)
    if rng.random() < 0.4:
        noise = noise * (
            signal.square(2 * np.pi * rng.uniform(3, 12) * np.arange(n) / _RATE, rng.uniform(0.6, 0.9)) * 0.4 + 0.6
        )
    return _fade(0.6 * noise, 0.02)


def telephone(rng: np.random.Generator) -> np.ndarray:
    """One to three rings: a bell struck 18-25 times a second, or two tones that alternate as fast."""
    rate, on, off = rng.uniform(18, 25), rng.uniform(0.6, 1.1), rng.uniform(0.2, 0.5)
    t = _time(on)
    if rng.random() < 0.6:
        pitches = rng.uniform(900, 1500) * np.array([1.0, rng.uniform(1.2, 1.35), rng.uniform(2.4, 3.1)])
        strokes = np.exp(-((t * rate) % 1) * rng.uniform(1, 4))
        ring = strokes * (np.sin(2 * np.pi * np.outer(pitches, t)) * np.array([[0.5], [0.4], [0.2]])).sum(0)
    else:
        low = rng.uniform(500, 1000)
        pitch = np.where((t * rate) % 1 < 0.5, low, low * rng.uniform(1.15, 1.4))
        angle = 2 * np.pi * np.cumsum(pitch) / _RATE
        ring = np.sin(angle) + rng.uniform(0.1, 0.5) * np.sin(3 * angle)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        parts += [_fade(0.5 * ring, 0.01), np.zeros(int(off * _RATE), np.float32)]
    return np.concatenate(parts[:-1])


def crickets(rng: np.random.Generator) -> np.ndarray:
    """Chirps of three to five pulses on 3.5-5.5 kHz, two to four chirps a second, of one or two insects."""
    t = _time(rng.uniform(1.2, 3.2))
    sound = np.zeros(len(t))
    for _ in range(int(rng.integers(1, 3))):
        pulses, rate, chirps = int(rng.integers(3, 6)), rng.uniform(28, 55), rng.uniform(2, 4)
        within = (t * chirps + rng.random()) % 1 / chirps  # seconds since the chirp began
        shape = np.clip(np.sin(np.pi * ((within * rate) % 1)), 0, 1) * (within * rate < pulses)
        pitch = rng.uniform(3500, 5500)
        sound += rng.uniform(0.4, 1) * shape * np.sin(2 * np.pi * pitch * t + 0.3 * np.sin(2 * np.pi * 6 * t))
    return _fade(0.4 * sound, 0.02)


def explosion(rng: np.random.Generator) -> np.ndarray:
    """A crack that falls to a rumble: noise whose bandwidth and level decay, over a thump of 35-80 Hz."""
    t = _time(rng.uniform(1.0, 2.6))
    decay = rng.uniform(2.0, 4.5)
    noise = rng.standard_normal(len(t))
    rumble = signal.lfilter(*signal.butter(2, rng.uniform(120, 400), fs=_RATE), noise)
    middle = signal.lfilter(*signal.butter(2, rng.uniform(800, 2500), fs=_RATE), noise)
    thump = np.sin(2 * np.pi * rng.uniform(35, 80) * t) * np.exp(-3 * t)
    mix = 4 * rumble * np.exp(-decay * t) + middle * np.exp(-3 * decay * t) + noise * np.exp(-12 * decay * t) + thump
    return _fade(0.8 * mix / np.abs(mix).max(), 0.003)


SYNTHS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "beep": beep,
    "crickets": crickets,
    "explosion": explosion,
    "siren": siren,
    "static": static,
    "telephone": telephone,
}
