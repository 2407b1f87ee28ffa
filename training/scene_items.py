"""Training scenes: audio, questions, exact events, and a reference completion for each mode.

No language model is needed: ``training.scenes.chains`` generates chains from the events, with varied wording and as
many steps as the question needs. Scenes of a split use recordings of that split only (the bank separates them). The
card lists every recording, so that an evaluation can be checked against it.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path

import soundfile

from mpar2.audio import SAMPLE_RATE
from mpar2.prompts import PROMPT_HASHES
from mpar2.question import Item, item_to_json
from mpar2.runs.lines import write_json, write_lines
from training.scenes.chains import direct_answer, free_reasoning, mpar2_chain
from training.scenes.kinds import KINDS
from training.scenes.questions import make_questions
from training.scenes.render import Bank, compose

_SEED_OFFSETS = {"train": 1_000_000, "validation": 2_000_000}  # other data of this package uses lower seeds


def write_scenes(
    bank: Path,
    out: Path,
    split: str,
    count: int,
    *,
    questions: int = 2,
    kinds: Collection[str] = KINDS,
    seed: int = 0,
) -> int:
    """Write scenes with their audio, items and a card; return the number of items.

    Each scene has at most ``questions`` questions, of balanced ``kinds``.

    Raises:
        ValueError: The split is another one.
    """
    if split not in _SEED_OFFSETS:
        raise ValueError(f"split is '{split}': training writes {' and '.join(_SEED_OFFSETS)}, never test")
    sounds = Bank(bank)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"training scenes {split} {seed}")
    counts: dict[str, int] = {}
    lines: list[bytes] = []
    recordings: set[str] = set()
    first = _SEED_OFFSETS[split] + seed * 100_000
    for number in range(first, first + count):
        scene, samples = compose(sounds, split, number)
        # Complete audio files are reused when a stopped run is started again.
        audio = f"audio/{split}-{number}.flac"
        if not (out / audio).exists():
            part = out / f"audio/.{split}-{number}.part"
            soundfile.write(part, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            part.replace(out / audio)
        sources = sorted({event.source for event in scene.events})
        recordings |= set(sources)
        # Kinds that were asked least so far come first.
        candidates = [q for q in make_questions(scene, rng) if q.kind in kinds]
        candidates = sorted(candidates, key=lambda q: counts.get(q.kind, 0))[:questions]
        for i, q in enumerate(candidates):
            counts[q.kind] = counts.get(q.kind, 0) + 1
            completions = {
                "mpar2": mpar2_chain(scene, q, rng),
                "cot": free_reasoning(scene, q, rng),
                "direct": direct_answer(q),
            }
            item = Item(
                id=f"{split}-{number}-{i}",
                audio=audio,
                question=q.question,
                events=tuple(event.as_event() for event in scene.events),
                truth_origin="scene",
                extra={"seed": number, "sources": sources, "completions": completions},
            )
            lines.append(item_to_json(item))
    write_lines(out / "items.jsonl", lines)
    card = {
        "format": "mpar2-data-card",
        "version": 1,
        "split": split,
        "items": len(lines),
        "scenes": count,
        "seeds": [first, first + count - 1],
        "questions": {kind: counts[kind] for kind in sorted(counts)},
        "recordings": sorted(recordings),
        "chains": "written by rule from the exact truth of each scene (training.scenes.chains)",
        "prompt_hashes": dict(PROMPT_HASHES),
    }
    write_json(out / "card.json", card)
    return len(lines)
