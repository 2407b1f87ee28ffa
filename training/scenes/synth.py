"""Synthetic sounds for classes without recordings. Each function returns float32 samples at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import signal

__all__ = ["SYNTHS", "colored_noise"]

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
    """Return noise whose power falls as f^-slope.

    Args:
        n: Number of samples.
        slope: 0 is white, 1 pink, 2 brown noise.
        rng: Draws the noise.

    Returns:
        float32 (n,), peak 1.
    """
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-slope / 2)
    noise = np.fft.irfft(spectrum, n)
    return (noise / np.abs(noise).max()).astype(np.float32)


def beep(rng: np.random.Generator) -> np.ndarray:
    """Return one to four tones of one pitch (500-3000 Hz), sine or square."""
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
    """Return a wail (slow sweep), a yelp (fast sweep) or two tones in turn, with harmonics."""
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
    """Return a burst of white to pink noise, sometimes interrupted like a badly tuned radio."""
    n = int(rng.uniform(0.8, 3.0) * _RATE)
    noise = colored_noise(n, rng.uniform(0.0, 0.6), rng)
    if rng.random() < 0.4:
        noise = noise * (
            signal.square(2 * np.pi * rng.uniform(3, 12) * np.arange(n) / _RATE, rng.uniform(0.6, 0.9)) * 0.4 + 0.6
        )
    return _fade(0.6 * noise, 0.02)


def telephone(rng: np.random.Generator) -> np.ndarray:
    """Return one to three rings: a bell struck 18-25 times a second, or two tones that alternate as fast."""
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
    """Return chirps of three to five pulses on 3.5-5.5 kHz, two to four chirps a second, of one or two insects."""
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
    """Return a crack that falls to a rumble: noise whose bandwidth and level decay, over a thump of 35-80 Hz."""
    t = _time(rng.uniform(1.0, 2.6))
    decay = rng.uniform(2.0, 4.5)
    noise = rng.standard_normal(len(t))
    rumble = signal.lfilter(*signal.butter(2, rng.uniform(120, 400), fs=_RATE), noise)
    middle = signal.lfilter(*signal.butter(2, rng.uniform(800, 2500), fs=_RATE), noise)
    thump = np.sin(2 * np.pi * rng.uniform(35, 80) * t) * np.exp(-3 * t)
    mix = 4 * rumble * np.exp(-decay * t) + middle * np.exp(-3 * decay * t) + noise * np.exp(-12 * decay * t) + thump
    return _fade(0.8 * mix / np.abs(mix).max(), 0.003)


def knock(rng: np.random.Generator) -> np.ndarray:
    """Return two to five raps on wood: a damped body resonance (120-400 Hz) with a short click."""
    body, damping, gap = rng.uniform(120, 400), rng.uniform(25, 60), rng.uniform(0.12, 0.3)
    t = _time(0.25)
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        ring = np.sin(2 * np.pi * body * t) + 0.5 * np.sin(2 * np.pi * body * rng.uniform(2.1, 2.9) * t)
        rap = ring * np.exp(-damping * t) + 0.5 * rng.standard_normal(len(t)) * np.exp(-300 * t)
        parts.append(rng.uniform(0.6, 1.0) * rap[: int(gap * _RATE)])
    return _fade(0.5 * np.concatenate(parts), 0.002)


def typing(rng: np.random.Generator) -> np.ndarray:
    """Return key strokes, 4 to 10 a second: clicks of filtered noise, each press with a quieter release."""
    n = int(rng.uniform(1.0, 3.0) * _RATE)
    out = np.zeros(n + _RATE)
    low, high = rng.uniform(700, 1500), rng.uniform(3000, 6500)
    band = signal.butter(2, (low, high), "band", fs=_RATE)
    position = 0.0
    while position < n:
        for delay, level in ((0.0, rng.uniform(0.5, 1.0)), (rng.uniform(0.05, 0.09), rng.uniform(0.15, 0.4))):
            t = _time(0.03)
            click = signal.lfilter(*band, rng.standard_normal(len(t)) * np.exp(-rng.uniform(120, 300) * t))
            start = int(position + delay * _RATE)
            out[start : start + len(click)] += level * click
        position += rng.uniform(0.08, 0.3) * _RATE
    return _fade(0.6 * out[:n] / np.abs(out).max(), 0.002)


def clock(rng: np.random.Generator) -> np.ndarray:
    """Return ticks one to four times a second, tick and tock a little apart in pitch."""
    period_s = 1 / rng.choice((1, 2, 2, 4))
    pitches = rng.uniform(1500, 4500) * np.array([1.0, rng.uniform(0.75, 0.95)])
    t = _time(0.04)
    out = np.zeros(int(rng.uniform(2.0, 4.0) * _RATE))
    for i, start in enumerate(range(0, len(out) - len(t), int(period_s * _RATE))):
        tick = np.sin(2 * np.pi * pitches[i % 2] * t) + 0.6 * rng.standard_normal(len(t))
        out[start : start + len(t)] += tick * np.exp(-rng.uniform(120, 180) * t)
    return _fade(0.5 * out, 0.001)


def doorbell(rng: np.random.Generator) -> np.ndarray:
    """Return two chimes, the second lower by a third to a fifth, sometimes rung twice; or an electric buzz."""
    if rng.random() < 0.2:
        t = _time(rng.uniform(0.5, 1.2))
        return _fade(0.4 * signal.square(2 * np.pi * rng.uniform(80, 140) * t) * signal.square(50 * np.pi * t), 0.01)
    high = rng.uniform(500, 900)
    t = _time(rng.uniform(0.6, 1.0))
    parts = []
    for pitch in (high, high / rng.choice((1.26, 1.335, 1.5))) * int(rng.integers(1, 3)):
        partials = sum(a * np.sin(2 * np.pi * pitch * m * t) for m, a in ((1, 1.0), (2.01, 0.4), (3.02, 0.2)))
        parts.append(partials * np.exp(-rng.uniform(2, 4) * t))
    return _fade(0.4 * np.concatenate(parts), 0.004)


def alarm(rng: np.random.Generator) -> np.ndarray:
    """Return groups of two to four short high beeps (an alarm clock), or one shrill tone on and off (a smoke alarm)."""
    pitch = rng.uniform(1800, 3400)
    group, on, off = int(rng.integers(2, 5)), rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.1)
    if rng.random() < 0.4:
        group, on, off = 1, rng.uniform(0.3, 0.5), rng.uniform(0.1, 0.3)
    t = _time(on)
    angle = 2 * np.pi * pitch * t
    tone = _fade(0.5 * signal.square(angle) if rng.random() < 0.6 else np.sin(angle), 0.003)
    rest = np.zeros(int(off * _RATE), np.float32)
    pause = np.zeros(int(rng.uniform(0.2, 0.5) * _RATE), np.float32)
    group_samples = np.concatenate(
        [part for _ in range(group) for part in (tone, rest)] + ([pause] if group > 1 else [])
    )
    return np.concatenate([group_samples] * int(rng.integers(3, 6)))


def rain(rng: np.random.Generator) -> np.ndarray:
    """Return a bed of noise above 400-1500 Hz with hundreds of drops a second on it."""
    n = int(rng.uniform(2.0, 5.0) * _RATE)
    bed = signal.lfilter(*signal.butter(1, rng.uniform(400, 1500), "high", fs=_RATE), rng.standard_normal(n))
    drops = np.where(rng.random(n) < rng.uniform(0.002, 0.02), rng.exponential(1.0, n), 0.0)
    t = _time(0.012)
    drop = np.sin(2 * np.pi * rng.uniform(1500, 4000) * t) * np.exp(-300 * t)
    mix = bed / np.abs(bed).max() + rng.uniform(0.3, 1.2) * signal.fftconvolve(drops, drop)[:n]
    return _fade(0.5 * mix / np.abs(mix).max(), 0.1)


def wind(rng: np.random.Generator) -> np.ndarray:
    """Return noise through a band that wanders between 150 and 900 Hz and swells slowly."""
    n = int(rng.uniform(2.5, 5.0) * _RATE)
    noise = colored_noise(n, 1.0, rng)
    knots = int(n / _RATE * 1.5) + 3
    swell = np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.uniform(0.2, 1.0, knots))
    out = np.zeros(n)
    for _ in range(2):
        middle = rng.uniform(150, 900)
        band = signal.lfilter(*signal.butter(2, (middle * 0.7, middle * 1.4), "band", fs=_RATE), noise)
        out += np.roll(swell, int(rng.integers(n))) * band / np.abs(band).max()
    return _fade(0.6 * out / np.abs(out).max(), 0.2)


def ship_horn(rng: np.random.Generator) -> np.ndarray:
    """Return a steady low tone (70-190 Hz) rich in harmonics, one to two blasts."""
    pitch, parts = rng.uniform(70, 190), []
    for _ in range(int(rng.integers(1, 3))):
        t = _time(rng.uniform(1.0, 2.2))
        tone = sum(rng.uniform(0.3, 1.0) / m * np.sin(2 * np.pi * pitch * m * t) for m in range(1, 12))
        parts += [_fade(tone, 0.08), np.zeros(int(0.3 * _RATE), np.float32)]
    out = np.concatenate(parts[:-1])
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


SYNTHS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "alarm": alarm,
    "beep": beep,
    "clock": clock,
    "crickets": crickets,
    "doorbell": doorbell,
    "explosion": explosion,
    "knock": knock,
    "rain": rain,
    "ship_horn": ship_horn,
    "siren": siren,
    "static": static,
    "telephone": telephone,
    "typing": typing,
    "wind": wind,
}
