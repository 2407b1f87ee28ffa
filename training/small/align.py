"""A lesson of the small pair over a frozen tower whose pooled outputs are kept: ``teach``.

A LoRA and the tower's projection learn what ``training.small.lessons`` says of each clip. The projection begins as a
ridge regression from the tower's frames to the text model's own words for what sounds. Of a clip every n-th frame is
heard, which makes a step cheap. Products of matrices are in the precision that the processor is fast in.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mpar2.cafe.sound_classes import CLASSES
from training.scenes.scene import Scene
from training.scenes.written import bare
from training.small.lessons import Lesson
from training.small.precision import fast_dtype
from training.small.stage import run_stage
from training.tiny.codes import FRAME_S
from training.tiny.features import load_scenes
from training.tiny.language import LORA_TARGETS, _forward
from training.tiny.sequences import Chat, Encoder

__all__ = ["fit_projection", "load_pooled", "teach"]


def load_pooled(features: Path) -> tuple[list[Scene], np.ndarray, np.ndarray]:
    """Scenes, pooled tower outputs (scenes, frames, d) and valid frames of 40 ms (scenes,) of a rendered folder."""
    pooled = np.load(features / "pooled.npy", mmap_mode="r")
    return load_scenes(features), pooled, np.load(features / "frames.npy") // 4


def fit_projection(model: Any, tokenizer: Any, pooled: np.ndarray, counts: np.ndarray, scenes: list[Scene]) -> None:
    """Set the tower's projection to the ridge regression from its frames to the words of what sounds in them.

    ``pooled`` (scenes, frames, d), ``counts`` (scenes,) valid frames of 40 ms. The mean of the words of all classes is
    taken away; frames in which nothing sounds go to zero.
    """
    embeddings = model.get_input_embeddings().weight.detach().float()
    words = {c: embeddings[tokenizer(" " + bare(c)).input_ids].mean(0) for c in CLASSES}
    middle = torch.stack(list(words.values())).mean(0)
    rows, targets = [], []
    for scene, frames, n in zip(scenes, pooled, counts.tolist(), strict=True):
        target = torch.zeros(n, embeddings.shape[1])
        for event in scene.events:
            start = min(int(event.onset_s / FRAME_S), n - 1)
            target[start : max(int(event.offset_s / FRAME_S), start + 1)] = words[event.label] - middle
        rows.append(torch.from_numpy(frames[:n:4].astype(np.float32)))
        targets.append(target[::4])
    x = torch.cat(rows)
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    weights = torch.linalg.solve(x.T @ x + 30 * torch.eye(x.shape[1]), x.T @ torch.cat(targets))
    projection = model.model.audio_tower.proj
    projection.weight.data.copy_(weights[:-1].T)
    projection.bias.data.copy_(weights[-1])


def teach(
    model: Any, processor: Any, features: Path, out: Path, lesson: Lesson, *, before: Sequence[Lesson] = (),
    english: Sequence[tuple[str, str]] = (), projection: bool = True, seed: int = 0, window: int = 50,
) -> Any:  # fmt: skip
    """Teach a pair one lesson.

    Args:
        model: the pair, best in the precision that the processor is fast in; what is trained is float32.
        features: rendered scenes (``training.tiny.features``) with ``pooled.npy``.
        out: folder of the stage's log and state; what lies there is gone on with.
        before: lessons that are repeated among it.
        english: the language model's own chats (request, reply), of which a share is mixed in.
        projection: whether the tower's projection is trained as well; an adapter leaves it as it is.

    Returns:
        The model with its LoRA (peft).
    """
    from peft import LoraConfig, get_peft_model

    scenes, pooled, counts = load_pooled(features)
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

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(f"lesson {seed} {step}")
        stride = rng.choice(lesson.strides)
        encode = Encoder(processor, np.zeros((1, 1), np.float32), lambda row: len(range(0, int(counts[row]), stride)))
        chats = []
        while len(chats) < lesson.batch:
            if english and rng.random() < lesson.english:
                chats.append(Chat((rng.choice(english),)))
                continue
            row = rng.randrange(len(scenes))
            source = rng.choice(before) if before and rng.random() < lesson.earlier else lesson
            if turns := source.turns(scenes[row], rng):
                chats.append(Chat(tuple(turns), (scenes[row], row)))
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits, targets = _forward(model, [encode(chat) for chat in chats], pooled[:, ::stride], noise=0.1)
        return functional.cross_entropy(logits.float(), targets)

    run_stage(parameters, loss_of, out, steps=lesson.steps, lr=lesson.lr, seed=seed, window=window)
    return adapted
