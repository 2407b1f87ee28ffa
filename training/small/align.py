"""Train one lesson of the small pair over the stored pooled outputs of a frozen tower: ``teach``.

A LoRA and the tower's projection are trained on the turns of ``training.small.lessons``. Scenes that are not rendered
enter as the targets of their frames with simulated errors of a tower. Only every n-th frame of a clip is used, which
makes a step cheap; each frame encodes its event's times itself. Matrix products run in the processor's fast precision.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import distributed
from torch.nn import functional

from mpar2.engines.precision import fast_dtype
from training.scenes.scene import Scene
from training.scenes.written import random_scene
from training.small.frames import frame_basis, simulated_targets
from training.small.lessons import Lesson
from training.small.stage import run_stage
from training.tiny.features import load_scenes
from training.tiny.language import LORA_TARGETS, by_length, forward
from training.tiny.sequences import Chat, Encoder

__all__ = ["adapt", "imagined_scene", "load_pooled", "seconds_of", "sum_over_processes", "teach"]

SECONDS_WEIGHT = 4.0  # loss weight of the seconds of a time: names are copied early, times are hard


def load_pooled(features: Path) -> tuple[list[Scene], np.ndarray, np.ndarray]:
    """Load a rendered folder.

    Args:
        features: The folder, with ``pooled.npy``.

    Returns:
        Scenes, pooled tower outputs (scenes, frames, d), and valid frames of 40 ms (scenes,).
    """
    pooled = np.load(features / "pooled.npy", mmap_mode="r")
    return load_scenes(features), pooled, np.load(features / "frames.npy") // 4


def imagined_scene(rng: random.Random) -> Scene:
    """Return a random scene without audio, of one to five sounds; some are short, some silent.

    Args:
        rng: Draws the scene.
    """
    scene = random_scene(rng)
    kind = rng.random()
    if kind < 0.05:
        return replace(scene, events=(), seconds=round(rng.uniform(1, 8), 1))
    if kind < 0.25:
        event = rng.choice(scene.events)
        onset = round(rng.choice((0.0, rng.uniform(0, 1.5))), 2)
        length = min(event.duration_s, 8.0)
        single = replace(event, onset_s=onset, offset_s=round(onset + length, 2))
        return replace(scene, events=(single,), seconds=round(onset + length + rng.uniform(0, 2), 1))
    return scene


def teach(
    model: Any, processor: Any, features: Sequence[Path], out: Path, lesson: Lesson, *,
    start: Mapping[str, torch.Tensor] | None = None, english: Sequence[tuple[str, str]] = (), projection: bool = True,
    seed: int = 0, window: int = 20, tokens: int = 600,
) -> Any:  # fmt: skip
    """Train a pair on one lesson.

    Where several processes of one ``torchrun`` train, each takes its share of every step's chats.

    Args:
        model: The pair, best in the processor's fast precision; trained parameters are float32.
        processor: Its processor.
        features: Rendered scenes (``training.tiny.features``) with ``pooled.npy``: first those of the tower's training
            recordings, then, where the lesson has ``unheard`` scenes, those of other recordings. Empty where no scene
            is rendered.
        out: Folder of the stage's log and state, from which it resumes. ``parameters.safetensors`` holds the trained
            parameters by name.
        lesson: The lesson.
        start: Such parameters of the previous lesson, to start from.
        english: The language model's own chats (request, reply), of which a share is mixed in.
        projection: Whether the tower's projection is trained as well; an adapter does not change it.
        seed: Seed of the draws.
        window: Steps between two rows of the log.
        tokens: Most tokens of a micro-batch, padding included; a longer chat forms one of its own.

    Returns:
        The model with its LoRA (peft).
    """
    datasets = [load_pooled(folder) for folder in features]
    scenes = [scene for folder_scenes, _, _ in datasets for scene in folder_scenes]
    clips = [outputs[:count] for _, pooled, counts in datasets for outputs, count in zip(pooled, counts, strict=True)]
    n_train = len(datasets[0][0]) if datasets else 0  # scenes of the tower's training recordings come first
    basis = frame_basis(model, processor.tokenizer)
    peft_model, parameters = adapt(model, lesson.rank, start=start, projection=projection, seed=seed)
    dtype = fast_dtype()
    point, *digits = (processor.tokenizer(piece).input_ids[-1] for piece in ".0123456789")
    digits = torch.tensor(digits)
    parallel = distributed.is_initialized()
    rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)

    def gradients(step: int) -> float:
        # All draws follow from the step's number, so that a resumed training sees the same chats.
        rng = random.Random(f"lesson {seed} {step}")
        stride = rng.choice(lesson.strides)
        first = rng.randrange(stride)

        def pooled_of(row: int) -> np.ndarray:
            return clips[row][first::stride]

        encode = Encoder(processor, basis, pooled_of, step, (stride,), simulated_targets)
        chats = []
        while len(chats) < lesson.batch:
            if english and rng.random() < lesson.english:
                chats.append(Chat((rng.choice(english),)))
                continue
            if rng.random() < lesson.written:
                kind = rng.choices(list(lesson.texts), list(lesson.texts.values()))[0]
                if turns := kind(random_scene(rng), rng):
                    chats.append(Chat(tuple(turns)))
                continue
            row = None
            if rng.random() >= lesson.imagined:
                row = rng.randrange(n_train, len(scenes)) if rng.random() < lesson.unheard else rng.randrange(n_train)
            scene = imagined_scene(rng) if row is None else scenes[row]
            kind = rng.choices(list(lesson.turns), list(lesson.turns.values()))[0]
            until = "</perception>" if rng.random() < lesson.perceived else None
            if turns := kind(scene, rng):
                chats.append(Chat(tuple(turns[:1] if until else turns), (scene, row), until))
        # Each process computes its share; the loss is a mean over the target tokens of all shares.
        sequences = sorted(map(encode, chats), key=lambda sequence: len(sequence.ids))
        n_targets = sum(int(sequence.learn.sum()) for sequence in sequences)
        total = torch.zeros(())
        for group in by_length(_shares(sequences, ranks)[rank], tokens):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                logits, targets = forward(model, group, noise=0.1)
            losses = functional.cross_entropy(logits.float(), targets, reduction="none")
            weights = 1 + (SECONDS_WEIGHT - 1) * seconds_of(targets, digits, point).float()
            ((losses * weights).sum() / n_targets).backward()
            total += losses.detach().sum() / n_targets
        if parallel:
            sum_over_processes([total, *(_gradient(parameter) for parameter in parameters.values())])
        return total.item()

    optimizer = torch.optim.AdamW(parameters.values(), lr=lesson.lr, betas=(0.9, 0.98), weight_decay=0.01)
    options = {"steps": lesson.steps, "optimizer": optimizer, "seed": seed, "window": window, "writes": rank == 0}
    run_stage(parameters, gradients, out, **options)
    if rank == 0:
        state = {name: value.detach().clone().contiguous() for name, value in parameters.items()}
        save_file(state, out / "parameters.safetensors")
    if parallel:
        distributed.barrier()  # the next stage reads the file
    return peft_model


def _shares(sequences: Sequence[Any], ranks: int) -> list[list[Any]]:
    """Split sequences into one list for each process, in their order, with about as many tokens in each."""
    shares: list[list[Any]] = [[] for _ in range(ranks)]
    counts = [0] * ranks
    for sequence in reversed(sequences):  # the longest first, each to the process with the fewest tokens
        rank = counts.index(min(counts))
        shares[rank].insert(0, sequence)
        counts[rank] += len(sequence.ids)
    return shares


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:  # the projection has none where no chat of this process has audio
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def sum_over_processes(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its sum over the processes."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def seconds_of(tokens: torch.Tensor, digits: torch.Tensor, point: int) -> torch.Tensor:
    """Return a mask of the tokens that are the seconds of a time: one of the ``digits`` before the ``point``.

    Tenths get no extra weight: a tower's tenths are right in only two of five frames.

    Args:
        tokens: Token ids, (N,).
        digits: Ids of the digits.
        point: Id of the decimal point.

    Returns:
        bool (N,).
    """
    return torch.isin(tokens, digits) & torch.cat([tokens[1:] == point, torch.tensor([False])])


def adapt(
    model: Any, rank: int, *, start: Mapping[str, torch.Tensor] | None = None, projection: bool = True, seed: int = 0
) -> tuple[Any, dict[str, torch.nn.Parameter]]:
    """Add a LoRA to the text model.

    Args:
        model: The pair.
        rank: Rank of the LoRA.
        start: Values of parameters by name; the others keep the initial values of peft and the tower.
        projection: Whether the tower's projection is trained too.
        seed: Seed of the LoRA's weights.

    Returns:
        The model with the LoRA, and the trained parameters by name, in float32.
    """
    from peft import LoraConfig, get_peft_model

    model.requires_grad_(False)
    torch.manual_seed(seed)
    options = {"r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0, "task_type": "CAUSAL_LM"}
    peft_model = get_peft_model(model, LoraConfig(**options, target_modules=LORA_TARGETS))
    parameters = {name: p for name, p in peft_model.named_parameters() if "lora_" in name}
    model.model.audio_tower.proj.float()
    if projection:
        parameters |= {f"proj.{name}": p for name, p in model.model.audio_tower.proj.named_parameters()}
    for name, parameter in parameters.items():
        parameter.requires_grad_(True)
        if start and name in start:
            parameter.data.copy_(start[name])
    return peft_model, parameters
