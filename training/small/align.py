"""A lesson of the small pair over a frozen tower whose pooled outputs are kept: ``teach``.

A LoRA and the tower's projection learn what ``training.small.lessons`` says of each clip; the projection begins as
``training.small.frames.fit_projection``. Scenes that nobody has rendered enter as the targets of their
frames with errors like a tower's, so that the language model is trained while the tower is. Of a clip every n-th block
of frames is kept, which makes a step cheap. Products of matrices are in the precision that the processor is fast in.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from training.scenes.scene import Scene
from training.scenes.written import random_scene
from training.small.frames import frame_basis, simulated_targets
from training.small.lessons import Lesson
from training.small.precision import fast_dtype
from training.small.stage import run_stage
from training.tiny.codes import BLOCK
from training.tiny.features import load_scenes
from training.tiny.language import LORA_TARGETS, forward
from training.tiny.sequences import Chat, Encoder, thinned

__all__ = ["imagined_scene", "load_pooled", "teach"]


def load_pooled(features: Path) -> tuple[list[Scene], np.ndarray, np.ndarray]:
    """Scenes, pooled tower outputs (scenes, frames, d) and valid frames of 40 ms (scenes,) of a rendered folder."""
    pooled = np.load(features / "pooled.npy", mmap_mode="r")
    return load_scenes(features), pooled, np.load(features / "frames.npy") // 4


def imagined_scene(rng: random.Random) -> Scene:
    """Return a scene that nobody has rendered: of one to five sounds, now and then short, or silent."""
    scene = random_scene(rng)
    kind = rng.random()
    if kind < 0.05:
        return replace(scene, events=(), seconds=round(rng.uniform(1, 8), 1))
    if kind < 0.25:
        event = rng.choice(scene.events)
        onset = round(rng.choice((0.0, rng.uniform(0, 1.5))), 2)
        length = min(event.duration_s, 8.0)
        only = replace(event, onset_s=onset, offset_s=round(onset + length, 2))
        return replace(scene, events=(only,), seconds=round(onset + length + rng.uniform(0, 2), 1))
    return scene


def teach(
    model: Any, processor: Any, features: Path | None, out: Path, lesson: Lesson, *, before: Sequence[Lesson] = (),
    english: Sequence[tuple[str, str]] = (), projection: bool = True, seed: int = 0, window: int = 20,
    micro_batch: int = 4,
) -> Any:  # fmt: skip
    """Teach a pair one lesson.

    Args:
        model: the pair, best in the precision that the processor is fast in; what is trained is float32.
        features: rendered scenes (``training.tiny.features``) with ``pooled.npy``; none where all scenes are imagined.
        out: folder of the stage's log and state; what lies there is gone on with.
        before: lessons that are repeated among it.
        english: the language model's own chats (request, reply), of which a share is mixed in.
        projection: whether the tower's projection is trained as well; an adapter leaves it as it is.

    Returns:
        The model with its LoRA (peft).
    """
    from peft import LoraConfig, get_peft_model

    scenes, pooled, counts = load_pooled(features) if features else ([], None, None)
    basis = frame_basis(model, processor.tokenizer)
    model.requires_grad_(False)
    torch.manual_seed(seed)
    options = {"r": lesson.rank, "lora_alpha": 2 * lesson.rank, "lora_dropout": 0.0, "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(model, LoraConfig(**options, target_modules=LORA_TARGETS))
    parameters = {name: p for name, p in adapted.named_parameters() if "lora_" in name}
    model.model.audio_tower.proj.float()
    if projection:
        parameters |= {f"proj.{name}": p for name, p in model.model.audio_tower.proj.named_parameters()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    dtype = fast_dtype()

    def gradients(step: int) -> float:
        rng = random.Random(f"lesson {seed} {step}")
        stride = rng.choice(lesson.strides)

        def pooled_of(row: int) -> np.ndarray:
            return pooled[row][thinned(int(counts[row]), stride, BLOCK)]

        encode = Encoder(processor, basis, pooled_of, step, (stride,), BLOCK, simulated_targets)
        chats = []
        while len(chats) < lesson.batch:
            if english and rng.random() < lesson.english:
                chats.append(Chat((rng.choice(english),)))
                continue
            row = None if rng.random() < lesson.imagined else rng.randrange(len(scenes))
            scene = imagined_scene(rng) if row is None else scenes[row]
            source = rng.choice(before) if before and rng.random() < lesson.earlier else lesson
            if turns := source.turns(scene, rng):
                chats.append(Chat(tuple(turns), (scene, row)))
        sequences = sorted(map(encode, chats), key=lambda sequence: len(sequence.ids))
        learnt = sum(int(sequence.learn.sum()) for sequence in sequences)
        total = 0.0
        # Chats of similar length together: padding is computed too.
        for start in range(0, len(sequences), micro_batch):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                logits, targets = forward(model, sequences[start : start + micro_batch], noise=0.1)
            loss = functional.cross_entropy(logits.float(), targets, reduction="sum") / learnt
            loss.backward()
            total += loss.item()
        return total

    run_stage(parameters, gradients, out, steps=lesson.steps, lr=lesson.lr, seed=seed, window=window)
    return adapted
