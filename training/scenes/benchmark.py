"""Write a benchmark of scenes: audio and ``items.jsonl``, which ``mpar2 evaluate --benchmark scenes`` reads.

``scenes``      composed scenes of a split, ``--questions`` questions each, kinds of question balanced
``recordings``  single recordings of a split, unchanged between 0.5 s of quiet: which sound is it?

Audio is FLAC, 16 kHz mono; every item has its exact events. Run as
``python -m training.scenes.benchmark BANK OUT --split test --what scenes --count 100``. With ``--run RUN`` the items
are those of a finished run, and their audio is composed again from its seeds, since runs are shipped without audio.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import soundfile

from mpar2.audio import SAMPLE_RATE
from mpar2.cafe.sound_classes import CLASSES
from mpar2.errors import MPAR2Error
from mpar2.question import Item, Question, item_to_json
from mpar2.runs import item_of, read_run
from training.scenes.bank import build
from training.scenes.kinds import KINDS
from training.scenes.questions import make_questions
from training.scenes.render import Bank, compose
from training.scenes.scene import Scene, SceneEvent
from training.scenes.synth import colored_noise

__all__ = ["SceneError", "items_of_run", "recording_items", "scene_items", "write_benchmark"]

_PAD_S = 0.5


class SceneError(MPAR2Error, ValueError):
    """The audio of a run cannot be composed again; the message gives the reason."""


def scene_items(
    bank: Bank, split: str, count: int, *, questions: int = 2, kinds: Collection[str] = KINDS, seed: int = 50_000
) -> Iterator[tuple[Item, np.ndarray]]:
    """Yield items of composed scenes, with their audio.

    Args:
        bank: The sounds.
        split: Split of the bank.
        count: Number of scenes.
        questions: Most questions of a scene.
        kinds: Kinds of question, which are balanced.
        seed: Seed of the first scene; the others follow it.

    Yields:
        An item and its waveform, float32 (samples,) at 16 kHz.
    """
    rng = random.Random(f"benchmark {split} {seed}")
    counts: dict[str, int] = {}
    for number in range(seed, seed + count):
        scene, samples = compose(bank, split, number)
        candidates = [q for q in make_questions(scene, rng) if q.kind in kinds]
        candidates = sorted(candidates, key=lambda q: counts.get(q.kind, 0))[:questions]
        for i, q in enumerate(candidates):
            counts[q.kind] = counts.get(q.kind, 0) + 1
            name = f"{split}-{number}"
            extra = {"seed": number, "sources": sorted({event.source for event in scene.events})}
            extra["levels_db"] = [event.level_db for event in scene.events]
            yield _item(f"{name}-{i}", f"audio/{name}.flac", q.question, scene, extra), samples


def recording_items(bank: Bank, split: str, *, most: int = 6) -> Iterator[tuple[Item, np.ndarray]]:
    """Yield one item for each recording of a split, with its audio; synthetic sounds are left out.

    Args:
        bank: The sounds.
        split: Split of the bank.
        most: Most recordings of one source and class.

    Yields:
        An item and its waveform, float32 (samples,) at 16 kHz.
    """
    rng = random.Random(f"recordings {split} 0")
    counts: dict[tuple[str, str], int] = {}
    for row in bank.rows:
        key = (row["label"], row["source"].split("/")[0])
        if (
            row["split"] != split
            or row["label"] not in CLASSES
            or row["source"].startswith("synth:")
            or counts.get(key, 0) >= most
        ):
            continue
        counts[key] = counts.get(key, 0) + 1
        scene, samples = _recording(bank, row)
        distractors = rng.sample([c.singular for c in CLASSES.values() if c.name != row["label"]], 3)
        choices = [*distractors, CLASSES[row["label"]].singular]
        rng.shuffle(choices)
        sound = CLASSES[row["label"]]
        question = Question(
            "Which of these sounds is in the clip?",
            tuple(choices),
            sound.singular,
            domain="music" if sound.family == "music" else "sound",
            category="what",
            difficulty="easy",
        )
        name = Path(row["file"]).stem
        yield _item(f"recording-{name}", f"audio/{name}.flac", question, scene, {"sources": [row["source"]]}), samples


def _recording(bank: Bank, row: dict) -> tuple[Scene, np.ndarray]:
    """Return a row of the bank with quiet around it: its truth and its audio."""
    dry = soundfile.read(Path(bank.folder) / row["file"], dtype="float32")[0][: 8 * SAMPLE_RATE] * 0.5
    pad = np.zeros(int(_PAD_S * SAMPLE_RATE), np.float32)
    samples = np.concatenate([pad, dry, pad])
    samples = samples + 1e-3 * colored_noise(len(samples), 1.0, np.random.default_rng(len(dry)))
    event = SceneEvent(row["label"], _PAD_S, _PAD_S + len(dry) / SAMPLE_RATE, 0.0, row["source"])
    return Scene(0, row["split"], round(len(samples) / SAMPLE_RATE, 2), (event,), "pink noise at -60 dB"), samples


def items_of_run(folder: Path, run: Path, packages: Path, split: str = "test") -> Iterator[tuple[Item, np.ndarray]]:
    """Yield the items of a run of such a benchmark, with their audio composed again.

    Args:
        folder: The bank; only classes that occur in the run are used. A missing bank is built of these classes.
        run: The run; its items hold seeds and sources.
        packages: Folder that packages are unpacked in.
        split: Split of the run's sounds.

    Yields:
        An item and its waveform, float32 (samples,) at 16 kHz.

    Raises:
        SceneError: A composed scene differs from the events in the run.
    """
    items = {record["id"]: item_of(record) for record in read_run(run).records()}
    classes = frozenset(event.label for item in items.values() for event in item.events or ())
    if not (folder / "bank.json").is_file():
        build(folder, packages, only={(label, split) for label in classes})
    bank = Bank(folder, classes)
    recordings = {Path(row["file"]).stem: row for row in bank.rows}
    order = {stem: place for place, stem in enumerate(recordings)}
    for item in sorted(items.values(), key=lambda item: (item.extra.get("seed", order.get(_stem(item), 0)), item.id)):
        if "seed" in item.extra:
            scene, samples = compose(bank, split, item.extra["seed"])
        elif _stem(item) in recordings:
            scene, samples = _recording(bank, recordings[_stem(item)])
        else:
            raise SceneError(f"item {item.id}: {folder} has no sound of {_stem(item)}: build it of the same sources")
        if tuple(event.as_event() for event in scene.events) != item.events:
            raise SceneError(
                f"item {item.id}: the scene that {folder} gives is not the run's: another split, another version of a "
                "package, or a class of its bank that occurs in no item of the run. Name an empty folder, which is "
                "built of the run's classes, or the bank that the run was made of"
            )
        yield item, samples


def _stem(item: Item) -> str:
    return Path(item.audio or "").stem


def _item(id: str, audio: str, question: Question, scene: Scene, extra: dict) -> Item:
    events = tuple(event.as_event() for event in scene.events)
    return Item(id, audio, question, events, truth_origin="scene", extra=extra)


def write_benchmark(out: Path, items: Iterator[tuple[Item, np.ndarray]]) -> int:
    """Write audio and ``items.jsonl``; existing audio is not written again.

    Args:
        out: Folder of the benchmark.
        items: Items with their waveforms, float32 (samples,) at 16 kHz.

    Returns:
        Number of items.
    """
    (out / "audio").mkdir(parents=True, exist_ok=True)
    lines = []
    for item, samples in items:
        if not (path := out / item.audio).exists():
            soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
        lines.append(json.dumps(item_to_json(item)))
    (out / "items.jsonl").write_text("\n".join(lines) + "\n")
    return len(lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--what", choices=("scenes", "recordings"), default="scenes")
    parser.add_argument("--count", type=int, default=100, help="scenes")
    parser.add_argument("--questions", type=int, default=2, help="questions a scene")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=sorted(KINDS), help="kinds of question")
    parser.add_argument("--run", type=Path, help="the items of this run, their audio made again; builds BANK if needed")
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="where packages are unpacked")
    args = parser.parse_args(argv)
    if args.run is not None:
        items = items_of_run(args.bank, args.run, args.packages, args.split)
    elif args.what == "scenes":
        items = scene_items(Bank(args.bank), args.split, args.count, questions=args.questions, kinds=args.kinds)
    else:
        items = recording_items(Bank(args.bank), args.split)
    print(f"{write_benchmark(args.out, items)} items in {args.out}")


if __name__ == "__main__":
    main()
