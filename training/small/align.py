"""A lesson of the small pair over a frozen tower whose pooled outputs are kept: ``teach``.

A LoRA and the tower's projection learn what ``training.small.lessons`` says of each clip. Scenes that nobody has
rendered enter as the targets of their frames with errors like a tower's. Of a clip every n-th frame is kept, which
makes a step cheap: a frame says its event's times itself. Products of matrices are in the precision that the processor
is fast in.
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

__all__ = ["adapt", "imagined_scene", "load_pooled", "seconds_of", "teach"]

SECONDS_WEIGHT = 4.0  # of the seconds of a time in the loss: names are copied at once, times are the hard part


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
        single = replace(event, onset_s=onset, offset_s=round(onset + length, 2))
        return replace(scene, events=(single,), seconds=round(onset + length + rng.uniform(0, 2), 1))
    return scene


def teach(
    model: Any, processor: Any, features: Sequence[Path], out: Path, lesson: Lesson, *,
    start: Mapping[str, torch.Tensor] | None = None, english: Sequence[tuple[str, str]] = (), projection: bool = True,
    seed: int = 0, window: int = 20, tokens: int = 600,
) -> Any:  # fmt: skip
    """Teach a pair one lesson.

    Args:
        model: the pair, best in the precision that the processor is fast in; what is trained is float32.
        features: rendered scenes (``training.tiny.features``) with ``pooled.npy``: those of the recordings that the
            tower was trained on, and where the lesson has ``unheard`` scenes those of others; empty where all scenes
            are imagined.
        out: folder of the stage's log and state; what lies there is gone on with. ``parameters.safetensors`` is what
            was trained, by name.
        start: such parameters of the lesson before, to go on from.
        english: the language model's own chats (request, reply), of which a share is mixed in.
        projection: whether the tower's projection is trained as well; an adapter leaves it as it is.
        tokens: of a micro-batch, padding included; a longer chat is one alone.

    Where several processes of one ``torchrun`` teach, each takes its part of every step's chats.

    Returns:
        The model with its LoRA (peft).
    """
    datasets = [load_pooled(folder) for folder in features]
    scenes = [scene for folder_scenes, _, _ in datasets for scene in folder_scenes]
    n_train = len(datasets[0][0]) if datasets else 0  # scenes of recordings that the tower knows; the others come after
    basis = frame_basis(model, processor.tokenizer)
    peft_model, parameters = adapt(model, lesson.rank, start=start, projection=projection, seed=seed)
    dtype = fast_dtype()
    point, *digits = (processor.tokenizer(piece).input_ids[-1] for piece in ".0123456789")
    digits = torch.tensor(digits)
    parallel = distributed.is_initialized()
    rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)

    def gradients(step: int) -> float:
        rng = random.Random(f"lesson {seed} {step}")
        stride = rng.choice(lesson.strides)
        first = rng.randrange(stride)

        def pooled_of(row: int) -> np.ndarray:
            _, pooled, counts = datasets[row >= n_train]
            row -= n_train * (row >= n_train)
            return pooled[row][first : int(counts[row]) : stride]

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
            _sum_over_processes([total, *(_gradient(parameter) for parameter in parameters.values())])
        return total.item()

    options = {"steps": lesson.steps, "lr": lesson.lr, "seed": seed, "window": window, "writes": rank == 0}
    run_stage(parameters, gradients, out, **options)
    if rank == 0:
        state = {name: value.detach().clone().contiguous() for name, value in parameters.items()}
        save_file(state, out / "parameters.safetensors")
    if parallel:
        distributed.barrier()  # what comes next reads the file
    return peft_model


def _shares(sequences: Sequence[Any], ranks: int) -> list[list[Any]]:
    """Return the sequences of each process, in their order: about as many tokens for each."""
    shares: list[list[Any]] = [[] for _ in range(ranks)]
    counts = [0] * ranks
    for sequence in reversed(sequences):  # the longest first, each to whoever has least
        rank = counts.index(min(counts))
        shares[rank].insert(0, sequence)
        counts[rank] += len(sequence.ids)
    return shares


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:  # no chat of this process has audio, and so the projection has none
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _sum_over_processes(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its sum over the processes."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def seconds_of(tokens: torch.Tensor, digits: torch.Tensor, point: int) -> torch.Tensor:
    """Return which of ``tokens`` (N,) are one of the ``digits`` before the ``point``, bool (N,): the seconds of times.

    Tenths have no such weight: a tower is right about them in two of five frames.
    """
    return torch.isin(tokens, digits) & torch.cat([tokens[1:] == point, torch.tensor([False])])


def adapt(
    model: Any, rank: int, *, start: Mapping[str, torch.Tensor] | None = None, projection: bool = True, seed: int = 0
) -> tuple[Any, dict[str, torch.nn.Parameter]]:
    """Return the model with a LoRA on the text model, and what is trained, by name, in float32.

    Args:
        start: values of parameters by name; those that it lacks begin as peft and the tower have them.
        projection: whether the tower's projection is among them.
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
