"""Write a benchmark of scenes: audio and ``items.jsonl``, which ``mpar2 evaluate --benchmark scenes`` reads.

``scenes``      composed scenes of a split, ``--questions`` questions each, kinds of question balanced
``recordings``  single recordings of a split, untouched but for 0.5 s of quiet around them: which sound is it?

Audio is FLAC, 16 kHz mono; every item carries its exact events. Run as
``python -m training.scenes.benchmark BANK OUT --split test --what scenes --count 100``.
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
from mpar2.question import Item, Question, item_to_json
from training.scenes.kinds import KINDS
from training.scenes.questions import make_questions
from training.scenes.render import Bank, compose
from training.scenes.scene import Scene, SceneEvent
from training.scenes.synth import colored_noise

__all__ = ["recording_items", "scene_items", "write_benchmark"]

_PAD_S = 0.5


def scene_items(
    bank: Bank, split: str, count: int, *, questions: int = 2, kinds: Collection[str] = KINDS, seed: int = 50_000
) -> Iterator[tuple[Item, np.ndarray]]:
    """``questions`` items for each of ``count`` scenes: seeds ``seed``, ``seed + 1``, …"""
    rng = random.Random(f"benchmark {split} {seed}")
    seen: dict[str, int] = {}
    for number in range(seed, seed + count):
        scene, samples = compose(bank, split, number)
        asked = [q for q in make_questions(scene, rng) if q.kind in kinds]
        asked = sorted(asked, key=lambda q: seen.get(q.kind, 0))[:questions]
        for i, q in enumerate(asked):
            seen[q.kind] = seen.get(q.kind, 0) + 1
            name = f"{split}-{number}"
            extra = {"seed": number, "sources": sorted({event.source for event in scene.events})}
            extra["levels_db"] = [event.level_db for event in scene.events]
            yield _item(f"{name}-{i}", f"audio/{name}.flac", q.question, scene, extra), samples


def recording_items(bank: Bank, split: str, *, most: int = 6, seed: int = 0) -> Iterator[tuple[Item, np.ndarray]]:
    """One item for each recording of a split (at most ``most`` of one source and class; synthetic sounds left out)."""
    rng = random.Random(f"recordings {split} {seed}")
    seen: dict[tuple[str, str], int] = {}
    for row in bank.rows:
        key = (row["label"], row["source"].split("/")[0])
        if (
            row["split"] != split
            or row["label"] not in CLASSES
            or row["source"].startswith("synth:")
            or seen.get(key, 0) >= most
        ):
            continue
        seen[key] = seen.get(key, 0) + 1
        dry = soundfile.read(Path(bank.folder) / row["file"], dtype="float32")[0][: 8 * SAMPLE_RATE] * 0.5
        pad = np.zeros(int(_PAD_S * SAMPLE_RATE), np.float32)
        samples = np.concatenate([pad, dry, pad])
        samples = samples + 1e-3 * colored_noise(len(samples), 1.0, np.random.default_rng(len(dry)))
        event = SceneEvent(row["label"], _PAD_S, _PAD_S + len(dry) / SAMPLE_RATE, 0.0, row["source"])
        scene = Scene(0, split, round(len(samples) / SAMPLE_RATE, 2), (event,), "pink noise at -60 dB")
        others = rng.sample([c.singular for c in CLASSES.values() if c.name != row["label"]], 3)
        choices = [*others, CLASSES[row["label"]].singular]
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


def _item(id: str, audio: str, question: Question, scene: Scene, extra: dict) -> Item:
    events = tuple(event.as_event() for event in scene.events)
    return Item(id, audio, question, events, truth_origin="scene", extra=extra)


def write_benchmark(out: Path, items: Iterator[tuple[Item, np.ndarray]]) -> int:
    """Write audio and ``items.jsonl``; returns the number of items."""
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
    args = parser.parse_args(argv)
    bank = Bank(args.bank)
    items = (
        scene_items(bank, args.split, args.count, questions=args.questions, kinds=args.kinds)
        if args.what == "scenes"
        else recording_items(bank, args.split)
    )
    print(f"{write_benchmark(args.out, items)} items in {args.out}")


if __name__ == "__main__":
    main()
