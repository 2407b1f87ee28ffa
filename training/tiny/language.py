"""Train the language model of the tiny pair in stages, over a frozen audio tower whose outputs are stored on disk.

``python -m training.tiny.language text|align|sft …``, in this order. ``text``: reason over written scenes, copy from
event lists, and list the sounds of scenes given as codes. ``align``: captions, lists and short answers over audio.
``sft``: MPAR² chains over audio, as a LoRA adapter. ``text`` starts from random weights and a tokenizer trained on the
corpus; ``align`` inserts the trained tower.

Every stage runs for a budget of minutes with a cosine schedule, so that one command also fits a slow machine; its
``log.jsonl`` holds the number of sequences. Weights are stored in bfloat16, and the next stage trains on the rounded
weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from mpar2.engines.processor import AudioProcessor
from training.scenes.chains import corpus
from training.scenes.written import bare
from training.tiny import codes
from training.tiny.build import build_checkpoint, look_back
from training.tiny.features import load_scenes
from training.tiny.sequences import (
    Encoder,
    Sequence,
    aligned,
    cold_start,
    copied,
    imagined,
    listed,
    rendered,
    stepped,
    written,
)
from training.tiny.tower import make_tower

__all__ = ["by_length", "forward", "load_tower", "train_stage"]

LORA = {"r": 32, "lora_alpha": 64, "lora_dropout": 0.0}
LORA_TARGETS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"


def load_tower(path: Path, basis: np.ndarray):
    """Return the trained tower, in float32 and evaluation mode.

    Args:
        path: Its ``tower.safetensors``.
        basis: Basis of its output codes, (columns, WIDTH), in place of ``codes.BASIS``.
    """
    tower = make_tower()
    tower.load_state_dict({k.removeprefix("tower."): v for k, v in load_file(path).items() if k.startswith("tower.")})
    basis_change = torch.from_numpy((np.linalg.pinv(codes.BASIS) @ basis).T.astype(np.float32))
    tower.proj.weight.data = basis_change @ tower.proj.weight.data
    tower.proj.bias.data = basis_change @ tower.proj.bias.data
    return tower.eval()


def _basis_of(model, tokenizer) -> np.ndarray:
    """Return ``codes.basis_in_words`` of the model's embeddings: digits, and the first token of each class's word."""
    embeddings = model.get_input_embeddings().weight.detach().numpy()
    class_tokens = [tokenizer(" " + bare(label)).input_ids[0] for label in codes.LABELS]
    digit_tokens = [tokenizer(str(place + 1)).input_ids[0] for place in range(codes.MOST_EVENTS)]
    return codes.basis_in_words(embeddings[class_tokens], embeddings[digit_tokens])


def by_length(sequences: Iterable[Sequence], tokens: int) -> list[list[Sequence]]:
    """Group sequences of similar length, so that little computation goes into padding.

    Args:
        sequences: Sequences in order of length.
        tokens: Most tokens of a group, padding included; a longer sequence forms a group of its own.
    """
    groups: list[list[Sequence]] = []
    for sequence in sequences:
        if not groups or (len(groups[-1]) + 1) * len(sequence.ids) > tokens:
            groups.append([])
        groups[-1].append(sequence)
    return groups


def _batches(sequences: Iterator[Sequence], tokens: int) -> Iterator[list[Sequence]]:
    """Yield batches of about ``tokens`` tokens, padding included, of sequences of similar length."""
    while pool := sorted(itertools.islice(sequences, 192), key=lambda s: len(s.ids)):
        groups = by_length(pool, tokens)
        order = np.random.default_rng(len(pool[0].ids) * 7919 + len(pool[-1].ids)).permutation(len(groups))
        yield from (groups[i] for i in order)


def forward(model, batch: list[Sequence], noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model on a batch. It is padded on the right, and the model is causal, so it needs no mask.

    Args:
        model: The model.
        batch: Sequences; their frames replace the audio placeholders.
        noise: Standard deviation of noise added to the tower's pooled outputs, relative to theirs.

    Returns:
        Logits (N, V) of the target tokens of all sequences, and those tokens, (N,).
    """
    longest = max(len(s.ids) for s in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    loss_mask = torch.zeros(len(batch), longest, dtype=torch.bool)
    for i, sequence in enumerate(batch):
        ids[i, : len(sequence.ids)] = torch.from_numpy(sequence.ids)
        loss_mask[i, : len(sequence.ids)] = torch.from_numpy(sequence.learn)
    # Replace the placeholders by frames: pooled outputs pass through the projection, codes have its output width.
    embeds = model.get_input_embeddings()(ids)
    audio_mask = ids == model.config.audio_token_id
    for kind in ("pooled", "codes"):
        frames = [getattr(s, kind) for s in batch]
        has_audio = torch.tensor([clip is not None for clip in frames])
        if not has_audio.any():
            continue
        audio = torch.from_numpy(np.concatenate([clip for clip in frames if clip is not None]).astype(np.float32))
        if kind == "pooled":
            if noise:
                audio = audio + noise * audio.std() * torch.randn_like(audio)
            audio = model.model.audio_tower.proj(audio)
        embeds = embeds.masked_scatter((audio_mask & has_audio[:, None])[..., None], audio.to(embeds.dtype))
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return model.lm_head(hidden[:, :-1][loss_mask[:, 1:]]), ids[:, 1:][loss_mask[:, 1:]]


def train_stage(
    model,
    sequences: Iterator[Sequence],
    log: Path,
    *,
    minutes: float,
    lr: float,
    tokens: int = 2560,
    noise: float = 0.0,
    seed: int = 0,
) -> dict:
    """Minimise cross-entropy on the target tokens.

    Args:
        model: The model; parameters that require gradients are trained.
        sequences: An endless iterator of sequences.
        log: Log file; a line is appended every 50 steps.
        minutes: Wall time.
        lr: Peak learning rate; it follows a cosine.
        tokens: Tokens of a batch, padding included.
        noise: See :func:`forward`.
        seed: Seed of the noise.

    Returns:
        The last row of the log.
    """
    torch.manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    log.parent.mkdir(parents=True, exist_ok=True)
    begin, row, losses, accuracies = time.time(), {}, [], []
    n_sequences = step = 0
    share = 0.0
    with open(log, "a") as file:
        for batch in _batches(sequences, tokens):
            # The schedule follows the share of the minutes that is used: 60 steps of warm-up, then a cosine.
            scale = min(1, (step + 1) / 60) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))
            optimizer.param_groups[0]["lr"] = lr * scale
            logits, targets = forward(model, batch, noise)
            loss = functional.cross_entropy(logits.float(), targets)
            model.zero_grad()
            loss.backward()
            share = (time.time() - begin) / (60 * minutes)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step, n_sequences = step + 1, n_sequences + len(batch)
            losses.append(loss.item())
            accuracies.append((logits.argmax(-1) == targets).float().mean().item())
            if step % 50 == 0 or share >= 1:
                row = {"step": step, "sequences": n_sequences, "seconds": round(time.time() - begin)}
                row |= {"loss": round(float(np.mean(losses[-50:])), 4)}
                row |= {"token_accuracy": round(float(np.mean(accuracies[-50:])), 4)}
                print(row, flush=True)
                file.write(json.dumps(row) + "\n")
                file.flush()
            if share >= 1:
                return row
    return row


def _load(folder: Path):
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    _freeze(model)
    return model, AudioProcessor.from_pretrained(folder)


def _freeze(model) -> None:
    """Freeze all but the text model and the projection."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("language_model" in name or "lm_head" in name or "audio_tower.proj" in name)


def _save(model, processor, out: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(out)
    processor.save_pretrained(out)


def _mix(first: Iterator, second: Iterator, share: float, seed: int) -> Iterator:
    """Yield items of ``other`` with probability ``share``, else of ``first``."""
    rng = np.random.default_rng(seed)
    while True:
        yield next(second) if rng.random() < share else next(first)


def main(argv: list[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    for name in ("text", "align", "sft"):
        stage = stages.add_parser(name)
        stage.add_argument("out", type=Path, help="checkpoint (sft: adapter) to write")
        stage.add_argument("--minutes", type=float, default=15)
        stage.add_argument("--lr", type=float, default=1e-3)
        stage.add_argument("--seed", type=int, default=0)
        stage.add_argument("--from", dest="start", type=Path, required=name != "text", help="checkpoint to go on from")
        stage.add_argument(
            "--codes", type=Path, required=True, help="basis of the codes, .npy; text writes it if missing"
        )
        if name != "text":
            stage.add_argument("--features", type=Path, required=True, help="rendered training scenes")
            share = 0.3 if name == "align" else 0.6
            stage.add_argument("--imagined", type=float, default=share, help="share of scenes given as simulated codes")
            stage.add_argument(
                "--noise", type=float, default=0.1, help="noise on the tower's output, relative to its spread"
            )
        if name != "sft":
            share = 0.6 if name == "text" else 0.4
            stage.add_argument("--replay", type=float, default=share, help="share of text-only chats mixed in")
        if name == "sft":
            stage.add_argument("--adapter", type=Path, help="an adapter of the checkpoint to go on from")
        if name == "align":
            stage.add_argument("--tower", type=Path, help="tower.safetensors to put in (to go on with alignment: none)")
    args = parser.parse_args(argv)
    log = args.out.parent / f"{args.stage}.log.jsonl"
    options = {"minutes": args.minutes, "lr": args.lr, "seed": args.seed}
    drills = _mix(copied(args.seed + 1), stepped(args.seed + 1), 0.5, args.seed + 1)
    text_only = _mix(written(args.seed + 1), drills, 0.5, args.seed + 1)
    # Text: no audio; scenes enter as codes.
    if args.stage == "text":
        if args.start is None:
            build_checkpoint(args.out, corpus(20_000, args.seed), seed=args.seed)
        model, processor = _load(args.start or args.out)
        if args.start is None:
            look_back(model.model.language_model)
        if not args.codes.exists():
            np.save(args.codes, _basis_of(model, processor.tokenizer))
        chats = _mix(listed(imagined(args.seed), args.seed), text_only, args.replay, args.seed)
        encode = Encoder(processor, np.load(args.codes), seed=args.seed, strides=(1, 2, 4, 8))
        train_stage(model, map(encode, chats), log, **options)
        _save(model, processor, args.out)
        return
    # Align and SFT: rendered scenes with the tower's pooled outputs, mixed with scenes as simulated codes.
    model, processor = _load(args.start)
    basis = np.load(args.codes)
    scenes = load_scenes(args.features)
    frames = np.load(args.features / "frames.npy")
    pooled = np.load(args.features / "pooled.npy", mmap_mode="r")
    strides = (1,) if args.stage == "align" else (1, 2, 4, 8)
    encode = Encoder(processor, basis, lambda row: pooled[row, : frames[row] // 4], args.seed, strides)
    scene_rows = _mix(rendered(scenes, args.seed), imagined(args.seed + 1), args.imagined, args.seed)
    if args.stage == "align":
        if args.tower:
            model.model.audio_tower = load_tower(args.tower, basis)
            model.config.audio_config = model.model.audio_tower.config
            _freeze(model)
        chats = _mix(aligned(scene_rows, args.seed), text_only, args.replay, args.seed)
    else:
        from peft import LoraConfig, PeftModel, get_peft_model

        torch.manual_seed(0)
        if args.adapter:
            peft_model = PeftModel.from_pretrained(model, args.adapter, is_trainable=True)
        else:
            peft_model = get_peft_model(model, LoraConfig(**LORA, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"))
        chats = cold_start(scene_rows, args.seed)
    train_stage(model, map(encode, chats), log, noise=args.noise, **options)
    if args.stage == "align":
        _save(model, processor, args.out)
    else:
        peft_model.peft_config["default"].base_model_name_or_path = args.start.name  # the base lies beside the adapter
        peft_model.to(torch.bfloat16).save_pretrained(args.out)


if __name__ == "__main__":
    main()
