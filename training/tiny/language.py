"""Train the language model of the tiny pair, stage by stage, over a frozen audio tower whose outputs are kept on disk.

``python -m training.tiny.language text|align|sft …``: the order is ``text`` (reason over written scenes, copy from
event lists, and list the sounds of scenes heard as codes), ``align`` (captions, lists and short answers over audio),
then ``sft`` (MPAR² chains over audio, as a LoRA adapter). ``text`` starts from random weights and a tokenizer trained
on the corpus; ``align`` puts the trained tower in.

Every stage runs for a budget of minutes with a cosine schedule, so that "one command" also fits a slow machine; the
number of sequences seen is in its ``log.jsonl``. Weights are kept in bfloat16: what was rounded is what is trained on.
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
        basis: Rows that its codes are to be in, (columns, WIDTH), in place of ``codes.BASIS``.
    """
    tower = make_tower()
    tower.load_state_dict({k.removeprefix("tower."): v for k, v in load_file(path).items() if k.startswith("tower.")})
    basis_change = torch.from_numpy((np.linalg.pinv(codes.BASIS) @ basis).T.astype(np.float32))
    tower.proj.weight.data = basis_change @ tower.proj.weight.data
    tower.proj.bias.data = basis_change @ tower.proj.bias.data
    return tower.eval()


def _basis_of(model, tokenizer) -> np.ndarray:
    """Return ``codes.basis_in_words`` of the model's embeddings: the first token of each class's word, and digits."""
    embeddings = model.get_input_embeddings().weight.detach().numpy()
    class_tokens = [tokenizer(" " + bare(label)).input_ids[0] for label in codes.LABELS]
    digit_tokens = [tokenizer(str(place + 1)).input_ids[0] for place in range(codes.MOST_EVENTS)]
    return codes.basis_in_words(embeddings[class_tokens], embeddings[digit_tokens])


def by_length(sequences: Iterable[Sequence], tokens: int) -> list[list[Sequence]]:
    """Group sequences of similar length: padding is computed too.

    Args:
        sequences: In order of length.
        tokens: Of a group, at most, padding included; a longer sequence is alone.
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
    """Run the model on a batch, padded on the right: it is causal and needs no mask.

    Args:
        model: The model.
        batch: Sequences; their frames stand at the audio placeholders.
        noise: Standard deviation of what is added to the tower's pooled outputs, in units of theirs.

    Returns:
        Logits (N, V) before the learnt tokens of all sequences, and those tokens, (N,).
    """
    longest = max(len(s.ids) for s in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    loss_mask = torch.zeros(len(batch), longest, dtype=torch.bool)
    for i, sequence in enumerate(batch):
        ids[i, : len(sequence.ids)] = torch.from_numpy(sequence.ids)
        loss_mask[i, : len(sequence.ids)] = torch.from_numpy(sequence.learn)
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
    """Minimise cross-entropy on the learnt tokens.

    Args:
        model: The model; what takes gradients is trained.
        sequences: Sequences without end.
        log: Log file, to which a line is added every 50 steps.
        minutes: Wall time.
        lr: Learning rate at its highest; it falls by a cosine.
        tokens: Tokens of a batch, padding included.
        noise: See :func:`forward`.
        seed: Of the noise.

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
    """Yield ``share`` of ``other``, the rest of ``one``."""
    rng = np.random.default_rng(seed)
    while True:
        yield next(second) if rng.random() < share else next(first)


def main(argv: list[str] | None = None) -> None:
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
            "--codes", type=Path, required=True, help="rows of the codes, .npy; text makes the file if there is none"
        )
        if name != "text":
            stage.add_argument("--features", type=Path, required=True, help="rendered training scenes")
            share = 0.3 if name == "align" else 0.6
            stage.add_argument("--imagined", type=float, default=share, help="share of scenes heard as codes only")
            stage.add_argument(
                "--noise", type=float, default=0.1, help="noise on the tower's output, in its own spread"
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
        peft_model.peft_config["default"].base_model_name_or_path = args.start.name  # found beside it, wherever that is
        peft_model.to(torch.bfloat16).save_pretrained(args.out)


if __name__ == "__main__":
    main()
