"""Train the language model of the tiny pair, stage by stage, over a frozen audio tower whose outputs are kept on disk.

``python -m training.tiny.language text|align|sft …``: the order is ``text`` (reason over written scenes), ``align``
(captions and short answers over audio), then ``sft`` (MPAR² chains over audio, as a LoRA adapter). ``text`` starts
from random weights and a tokenizer trained on the corpus; ``align`` puts the trained tower in.

Every stage runs for a budget of minutes with a cosine schedule, so that "one command" also fits a slow machine; the
number of sequences seen is in its ``log.jsonl``. Weights are kept in bfloat16: what was rounded is what is trained on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from mpar2.engines.processor import AudioProcessor
from mpar2.scenes.chains import corpus
from mpar2.scenes.classes import CLASSES
from training.tiny.build import build_checkpoint
from training.tiny.features import load_scenes
from training.tiny.sequences import Encoder, Sequence, aligned, cold_start, written
from training.tiny.tower import frame_labels, make_tower

__all__ = ["load_tower", "train_stage"]

LORA = {"r": 32, "lora_alpha": 64, "lora_dropout": 0.0}
LORA_TARGETS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"


def load_tower(path: Path):
    """The trained tower, in float32 and evaluation mode."""
    tower = make_tower()
    tower.load_state_dict({k.removeprefix("tower."): v for k, v in load_file(path).items() if k.startswith("tower.")})
    return tower.eval()


@torch.no_grad()
def point_at_words(model, processor, features: Path, *, scenes: int = 1500, ridge: float = 1e-3, seed: int = 0) -> None:
    """Start the tower's projection at the words: a frame's output is what its event in front is called, in embeddings.

    The wanted output of a frame is ``sum R e`` over what :func:`frame_labels` says of it: ``e`` is the mean embedding
    of the class's name or of a digit, ``R`` the identity for the class and another random rotation for each other kind
    (ordinal, seconds and tenths of onset and offset), which keeps them apart. The projection is the ridge regression of
    that on the tower's pooled outputs; alignment goes on from there.
    """
    embeddings = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(seed)
    tables = []
    for words in ([*CLASSES, "none"], *([str(digit) for digit in range(10)],) * 5):
        table = torch.stack([embeddings[processor.tokenizer(word).input_ids].mean(0) for word in words])
        if tables:
            table = table @ torch.linalg.qr(torch.randn(table.shape[1], table.shape[1], generator=generator))[0]
        tables.append(table)
    pooled, frames = np.load(features / "pooled.npy", mmap_mode="r"), np.load(features / "frames.npy") // 4
    gram, cross = 0.0, 0.0
    for row, scene in enumerate(load_scenes(features)[:scenes]):
        n = int(frames[row])
        x = torch.cat([torch.from_numpy(pooled[row, :n].astype(np.float64)), torch.ones(n, 1, dtype=torch.float64)], 1)
        said = torch.from_numpy(frame_labels(scene, n)[:, len(CLASSES) :].astype(np.int64))
        wanted = sum(table[said[:, i].clamp(min=0)] * (said[:, i : i + 1] >= 0) for i, table in enumerate(tables))
        gram, cross = gram + x.T @ x, cross + x.T @ wanted.double()
    size = len(gram) - 1
    damping = ridge * gram.diagonal()[:size].mean() * torch.eye(size + 1, dtype=torch.float64)
    damping[size, size] = 0.0
    solved = torch.linalg.solve(gram + damping, cross).float()  # (d + 1, D)
    model.model.audio_tower.proj.weight.copy_(solved[:size].T)
    model.model.audio_tower.proj.bias.copy_(solved[size])


def _batches(sequences: Iterator[Sequence], tokens: int) -> Iterator[list[Sequence]]:
    """Batches of about ``tokens`` tokens, padding included, of sequences of similar length."""
    while pool := sorted(itertools.islice(sequences, 192), key=lambda s: len(s.ids)):
        groups: list[list[Sequence]] = [[]]
        for sequence in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(sequence.ids) > tokens:
                groups.append([])
            groups[-1].append(sequence)
        order = np.random.default_rng(len(pool[0].ids) * 7919 + len(pool[-1].ids)).permutation(len(groups))
        yield from (groups[i] for i in order)


def _forward(
    model, batch: list[Sequence], pooled: np.ndarray | None, noise: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, V) before learnt tokens, and those tokens (N,). Right-padded and causal: no mask needed.

    ``pooled`` (scenes, 250, d) is what the tower's projection sees; ``noise`` is added to it, in its own spread.
    """
    longest = max(len(s.ids) for s in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    learn = torch.zeros(len(batch), longest, dtype=torch.bool)
    for i, sequence in enumerate(batch):
        ids[i, : len(sequence.ids)] = torch.from_numpy(sequence.ids)
        learn[i, : len(sequence.ids)] = torch.from_numpy(sequence.learn)
    embeds = model.get_input_embeddings()(ids)
    clips = [s for s in batch if s.row is not None]
    if clips:
        places = ids == model.config.audio_token_id
        counts = places.sum(1).tolist()
        rows = [pooled[s.row, :n] for s, n in zip(batch, counts, strict=True) if n]
        audio = torch.from_numpy(np.concatenate(rows).astype(np.float32))
        if noise:
            audio = audio + noise * audio.std() * torch.randn_like(audio)
        audio = model.model.audio_tower.proj(audio)
        embeds = embeds.masked_scatter(places[..., None], audio.to(embeds.dtype))
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return model.lm_head(hidden[:, :-1][learn[:, 1:]]), ids[:, 1:][learn[:, 1:]]


def train_stage(
    model,
    sequences: Iterator[Sequence],
    pooled: np.ndarray | None,
    log: Path,
    *,
    minutes: float,
    lr: float,
    tokens: int = 2560,
    noise: float = 0.0,
    seed: int = 0,
) -> dict:
    """Minimise cross-entropy on the learnt tokens for ``minutes``; returns and logs the last row of the log."""
    torch.manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    log.parent.mkdir(parents=True, exist_ok=True)
    begin, row, losses, right = time.time(), {}, [], []
    seen = step = 0
    with open(log, "a") as file:
        for batch in _batches(sequences, tokens):
            share = (time.time() - begin) / (60 * minutes)
            optimizer.param_groups[0]["lr"] = (
                lr * min(1, (step + 1) / 60) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))
            )
            with torch.autocast("cpu", torch.bfloat16):
                logits, targets = _forward(model, batch, pooled, noise)
            loss = functional.cross_entropy(logits.float(), targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step, seen = step + 1, seen + len(batch)
            losses.append(loss.item())
            right.append((logits.argmax(-1) == targets).float().mean().item())
            if step % 50 == 0 or share >= 1:
                row = {"step": step, "sequences": seen, "seconds": round(time.time() - begin)}
                row |= {"loss": round(float(np.mean(losses[-50:])), 4)}
                row |= {"token_accuracy": round(float(np.mean(right[-50:])), 4)}
                print(row, flush=True)
                file.write(json.dumps(row) + "\n")
                file.flush()
            if share >= 1:
                return row
    return row


def _load(folder: Path):
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("language_model" in name or "lm_head" in name or "audio_tower.proj" in name)
    return model, AudioProcessor.from_pretrained(folder)


def _save(model, processor, out: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(out)
    processor.save_pretrained(out)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    for name in ("text", "align", "sft"):
        stage = stages.add_parser(name)
        stage.add_argument("out", type=Path, help="checkpoint (sft: adapter) to write")
        stage.add_argument("--minutes", type=float, default=15)
        stage.add_argument("--lr", type=float, default=1.5e-3)
        stage.add_argument("--seed", type=int, default=0)
        if name != "text":
            stage.add_argument("--start", type=Path, required=True, help="checkpoint of the stage before")
            stage.add_argument("--features", type=Path, required=True, help="rendered training scenes")
            stage.add_argument(
                "--noise", type=float, default=0.1, help="noise on the tower's output, in its own spread"
            )
        if name == "align":
            stage.add_argument("--tower", type=Path, required=True, help="tower.safetensors")
            stage.add_argument("--replay", type=float, default=0.25, help="share of text-only chats mixed in")
    args = parser.parse_args(argv)
    log = args.out.parent / f"{args.stage}.log.jsonl"
    if args.stage == "text":
        build_checkpoint(args.out, corpus(20_000, args.seed), seed=args.seed)
        model, processor = _load(args.out)
        encode = Encoder(processor, lambda row: 0)
        train_stage(model, map(encode, written(args.seed)), None, log, minutes=args.minutes, lr=args.lr, seed=args.seed)
        _save(model, processor, args.out)
        return
    model, processor = _load(args.start)
    scenes = load_scenes(args.features)
    frames = np.load(args.features / "frames.npy")
    encode = Encoder(processor, lambda row: int(frames[row]) // 4)
    if args.stage == "align":
        model.model.audio_tower.load_state_dict(load_tower(args.tower).state_dict())
        point_at_words(model, processor, args.features)
        rng = np.random.default_rng(args.seed)
        audio, text = aligned(scenes, args.seed), written(args.seed + 1)
        chats = (next(text) if rng.random() < args.replay else next(audio) for _ in itertools.count())
    else:
        from peft import LoraConfig, get_peft_model

        adapted = get_peft_model(model, LoraConfig(**LORA, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"))
        chats = cold_start(scenes, args.seed)
    pooled = np.load(args.features / "pooled.npy", mmap_mode="r")
    train_stage(
        model, map(encode, chats), pooled, log, minutes=args.minutes, lr=args.lr, noise=args.noise, seed=args.seed
    )
    if args.stage == "align":
        _save(model, processor, args.out)
    else:
        adapted.peft_config["default"].base_model_name_or_path = args.start.name  # found beside it, wherever that is
        adapted.to(torch.bfloat16).save_pretrained(args.out)


if __name__ == "__main__":
    main()
