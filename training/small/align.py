"""The small pair's first lesson, naming: ``python -m training.small name START FEATURES OUT``.

The tower is frozen and its pooled outputs are kept (``pooled.npy``); a projection, which begins as a ridge regression
from the tower's frames to the text model's own words for what sounds, and a LoRA learn to name what is heard, asked in
varied English and answered in few words. Of a clip every ``stride``-th frame is heard, which makes a step cheap.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mpar2.cafe.sound_classes import CLASSES
from training.scenes.scene import Scene
from training.scenes.written import bare, listing, sentence, singular
from training.small.stage import run_stage
from training.tiny.codes import FRAME_S
from training.tiny.features import load_scenes
from training.tiny.language import LORA_TARGETS, _forward
from training.tiny.sequences import Chat, Encoder

__all__ = ["NOTHING", "fit_projection", "name_stage", "naming_turns"]

NOTHING = ("Nothing is heard.", "I hear no sound.", "The clip is silent.")
_WHAT = (
    "What do you hear?",
    "What is in this clip?",
    "Which sounds are there?",
    "Name the sounds.",
    "What sounds can be heard, in order?",
    "Tell me what this recording holds.",
    "What is making the noise?",
    "Can you list what you hear?",
)
_IS_IT = ("Do you hear {}?", "Is there {} in the clip?", "Can {} be heard?", "Does it contain {}?")
_WHICH = ("Which of these is it: {}?", "Which of these do you hear: {}?", "One of these is in the clip: {}. Which one?")
_ORDER = ("{}.", "I hear {}.", "The clip has {}.")


def naming_turns(scene: Scene, rng: random.Random, n: int = 3) -> list[tuple[str, str]]:
    """``n`` questions about which sounds a clip holds, and their true answers."""
    labels = list(dict.fromkeys(event.label for event in scene.events))
    absent = [label for label in CLASSES if label not in labels and label not in scene.background]
    turns = []
    for _ in range(n):
        kind = rng.random()
        if kind < 0.4:
            reply = rng.choice(_ORDER).format(listing([singular(label) for label in labels]))
            turns.append((rng.choice(_WHAT), sentence(reply) if labels else rng.choice(NOTHING)))
        elif kind < 0.7 or not labels:
            there = bool(labels) and rng.random() < 0.5
            label = rng.choice(labels if there else absent)
            turns.append((rng.choice(_IS_IT).format(singular(label)), "Yes." if there else "No."))
        else:
            right = rng.choice(labels)
            choices = [right, *rng.sample(absent, 3)]
            rng.shuffle(choices)
            asked = rng.choice(_WHICH).format(", ".join(singular(label) for label in choices))
            turns.append((asked, sentence(singular(right))))
    return turns


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


def name_stage(
    model: Any, processor: Any, features: Path, out: Path, *, steps: int, batch: int = 8, stride: int = 4,
    lr: float = 5e-4, rank: int = 16, seed: int = 0, window: int = 50,
) -> Any:  # fmt: skip
    """Teach a pair to name; ``features`` as ``training.tiny.features`` writes them, with ``pooled.npy``.

    Returns the model with its LoRA (peft) and the projection trained; ``out`` holds log and state.
    """
    from peft import LoraConfig, get_peft_model

    scenes = load_scenes(features)
    counts = np.load(features / "frames.npy") // 4
    pooled = np.load(features / "pooled.npy", mmap_mode="r")
    fit_projection(model, processor.tokenizer, pooled, counts, scenes)
    model.requires_grad_(False)
    torch.manual_seed(seed)
    options = {"r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0, "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(model, LoraConfig(**options, target_modules=LORA_TARGETS))
    projection = {f"proj.{name}": p for name, p in model.model.audio_tower.proj.named_parameters()}
    parameters = {name: p for name, p in adapted.named_parameters() if "lora_" in name} | projection
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    encode = Encoder(processor, np.zeros((1, 1), np.float32), lambda row: len(range(0, int(counts[row]), stride)))
    thinned = pooled[:, ::stride]

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(f"name {seed} {step}")
        chats = []
        for row in rng.sample(range(len(scenes)), batch):
            chats.append(Chat(tuple(naming_turns(scenes[row], rng)), (scenes[row], row)))
        logits, targets = _forward(model, [encode(chat) for chat in chats], thinned, noise=0.1)
        return functional.cross_entropy(logits.float(), targets)

    run_stage(parameters, loss_of, out, steps=steps, lr=lr, seed=seed, window=window)
    return adapted
