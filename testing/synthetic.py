"""Runs written by a generator, for tests and benchmarks only: a decay of known strength, judged counts, attention.

Nothing here was said by a model. No page and no example is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpar2.runs import build_manifest
from mpar2.runs.lines import write_json, write_lines

__all__ = ["ARMS", "FakeArm", "write_run"]

_CHOICES = ["dog bark", "siren", "bell", "rain"]
_VERDICT = {"mentions": [], "missed": [0], "targets": ["dog bark"], "judge": "reference", "truth_origin": "scene"}
_VERDICT |= {"package_version": "0.1.0"}


@dataclass(frozen=True)
class FakeArm:
    """An arm: how often it is right at its shortest, and how many log odds each doubling of length costs."""

    name: str
    mode: str = "mpar2"
    level: float = 1.0
    slope: float = 0.0
    tokens: float = 60.0
    model: str = "tiny-base"
    adapter: str | None = None
    audio: str = "normal"
    perception: str = "own"
    samples: int = 1
    temperature: float = 0.0
    max_new_tokens: int = 512

    def settings(self, items: int) -> dict[str, Any]:
        """Return the arm's entry in the manifest."""
        return {
            "name": self.name,
            "model": self.model,
            "adapter": self.adapter,
            "mode": self.mode,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "repetition_penalty": 1.0,
            "samples": self.samples,
            "audio": self.audio,
            "perception": self.perception,
            "prompt_version": "1",
            "prompt_hash": f"hash of {self.mode}",
            "items": items,
        }


ARMS = (
    FakeArm("base cot", "cot", 2.0, -0.8, 90),
    FakeArm("base direct", "direct", 0.8, 0.0, 6),
    FakeArm("mpar2", "mpar2", 2.0, 0.0, 120, adapter="tiny-mpar2"),
    FakeArm("mpar2 deaf", "mpar2", -1.0, 0.0, 120, adapter="tiny-mpar2", audio="silent"),
    FakeArm("mpar2 oracle", "mpar2", 3.5, 0.0, 120, adapter="tiny-mpar2", perception="oracle"),
)


def write_run(
    folder: Path,
    items: int = 120,
    arms: Sequence[FakeArm] = ARMS,
    *,
    seed: int = 0,
    attention: bool = True,
    judged: bool = True,
    padding: int = 0,
    hostile: str = "",
) -> Path:
    """Return a finished run folder. ``hostile`` stands in every text that a stranger could write."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    manifest = build_manifest(
        benchmark={"name": "scenes", "version": "1", "fingerprint": "f" * 64, "items": items, "file": "items.jsonl"},
        arms=[arm.settings(items) for arm in arms],
        seed=seed,
        engine={"name": "TransformersEngine", "attention_share": 1.0},
        command=["mpar2", "evaluate", "--data", "/somewhere/secret/items.jsonl"],
    )
    write_json(folder / "manifest.json", manifest)
    difficulty = np.random.default_rng(1).integers(3, size=items)
    lines, scores = [], []
    for number in range(items):
        for arm in arms:
            for sample in range(arm.samples):
                record, counts = _answer(rng, arm, number, sample, int(difficulty[number]), attention, padding, hostile)
                lines.append(record)
                key = {name: record[name] for name in ("key", "id", "arm", "sample")}
                scores.append(key | {"verdict": _VERDICT, "counts": counts})
    write_lines(folder / "items.jsonl", lines)
    if judged:
        (folder / "cafe" / "reference").mkdir(parents=True)
        write_lines(folder / "cafe" / "reference" / "scores.jsonl", scores)
        about = {"judge": "reference 1", "model": None, "truth_origins": {"scene": len(lines)}}
        write_json(folder / "cafe" / "reference" / "metrics.json", about)
        probes = [
            {
                "key": f"{arm.name} {number}",
                "arm": arm.name,
                "item": f"item {number}",
                "answers": [
                    {"label": "dog bark", "present": True, "yes": bool(rng.random() < 0.8), "text": "Yes"},
                    {"label": "siren", "present": False, "yes": bool(rng.random() < 0.3), "text": "No"},
                ],
            }
            for arm in arms
            for number in range(min(items, 20))
        ]
        write_lines(folder / "cafe" / "probes.jsonl", probes)
    return folder


def _answer(
    rng: np.random.Generator,
    arm: FakeArm,
    number: int,
    sample: int,
    difficulty: int,
    attention: bool,
    padding: int,
    hostile: str,
) -> tuple[dict[str, Any], dict[str, int]]:
    tokens = int(min(arm.max_new_tokens, max(4, arm.tokens * 2 ** rng.normal(0.4 * difficulty, 0.6))))
    odds = arm.level - 0.7 * difficulty + arm.slope * np.log2(tokens / arm.tokens)
    right = bool(rng.random() < 1 / (1 + np.exp(-odds)))
    answer = _CHOICES[number % 4]
    said = answer if right else _CHOICES[(number + 1) % 4]
    head = f"<perception>a {said} {hostile}</perception><step><ask>?</ask><hear>{said}</hear><infer>so</infer></step>"
    text = head + "x" * padding + f"<review>supported</review><answer>{said}</answer>"
    ends = np.linspace(1, len(text), tokens).astype(int).tolist()
    quality = 1 / (1 + np.exp(-odds))
    asserted, true = int(rng.integers(1, 6)), 4
    matched = int(rng.binomial(min(asserted, true), quality))
    misused = int(rng.binomial(min(asserted, true) - matched, 0.3))
    counts = {
        "matched": matched,
        "hallucinated": asserted - matched - misused,
        "misused": misused,
        "missed": true - matched - misused,
        "neutral_mentions": 0,
        "mentions": asserted,
    }
    identity = f"item {number}{hostile}"
    ratio = (0.3 * np.exp(-np.arange(tokens) / (200 if arm.slope == 0 else 60))).round(4).tolist()
    return (
        {
            "key": f"{identity}|{arm.name}|{sample}",
            "id": identity,
            "arm": arm.name,
            "sample": sample,
            "status": "ok",
            "item": {
                "audio": f"clips/{number}.flac",
                "question": f"What is heard first? {hostile}",
                "choices": _CHOICES,
                "answer": answer,
                "domain": ("sound", "music")[number % 2],
                "category": f"order{hostile}" if number % 3 else "count",
                "difficulty": ("easy", "medium", "hard")[difficulty],
                "events": [{"label": f"{answer}{hostile}", "onset_s": 0.5, "offset_s": 1.5}],
                "truth_origin": "scene",
            },
            "text": text,
            "answer": said,
            "choice": said,
            "prediction": said,
            "tokens": tokens,
            "token_ends": ends,
            "seconds": 1.0,
            "audio_seconds": 10.0,
            "finish": "length" if tokens == arm.max_new_tokens else "stop",
            "attention": {"ratio": ratio, "corrected": [v * 3 for v in ratio], "audio_positions": 250}
            if attention
            else None,
        },
        counts,
    )
