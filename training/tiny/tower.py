"""Train the audio tower on frame-level events: ``python -m training.tiny.tower FEATURES OUT [--whisper MODEL_BIN]``.

The tower is Qwen2.5-Omni's audio encoder (25 output frames a second). Its output is trained towards the frame's code
(``training.tiny.codes``) in the text model's width by squared error. A linear head beside the projection predicts which
classes sound, which event is in front, and that event's ordinal in the clip (cross-entropy). The head is not part of
the checkpoint. With ``--whisper`` the lower four layers start from Whisper tiny.en's encoder and the layer above as the
identity; otherwise all weights are random.

The attention window is 10 s (``n_window`` 500; Qwen2.5-Omni's is 2 s), so that Whisper's own position table encodes the
time within a clip of that length.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from mpar2.engines.precision import fast_dtype
from training.scenes.scene import Scene, SceneEvent
from training.tiny.codes import (
    BASIS,
    LABELS,
    MOST_EVENTS,
    PARTS,
    WIDTH,
    frame_codes,
    read_codes,
    spans,
)
from training.tiny.features import load_scenes
from training.tiny.whisper import whisper_encoder_state

__all__ = [
    "HEAD",
    "SceneData",
    "TowerOptimizers",
    "augment",
    "count_hits",
    "f1_of",
    "fast_autocast",
    "frame_labels",
    "keep_pooled",
    "lower_layers",
    "make_tower",
    "pooled_outputs",
    "tower_forward",
    "upper_layers",
]

WHISPER_LAYERS, LAYERS = 4, 5
HEAD = {  # logits a frame; the last event: none
    "sounds": len(LABELS), "event": len(LABELS) + 1, "ordinal": MOST_EVENTS,
}  # fmt: skip
_NONE = -100  # no target: no event sounds here
_BASIS = torch.from_numpy(BASIS)
_READOUT = (_BASIS / (_BASIS**2).sum(1, keepdim=True)).T  # (WIDTH, columns): codes @ _BASIS @ _READ = codes
_COLUMN_WEIGHTS = torch.cat(
    [torch.full((n,), {"event": 3.0, "ordinal": 2.0}.get(part, 1.0)) for part, n in PARTS.items()]
)


def make_tower(output_dim: int = WIDTH, layers: int = LAYERS):
    """Return a randomly initialised audio tower of Whisper tiny's width.

    Args:
        output_dim: Width of its outputs.
        layers: Number of layers; Whisper has four.
    """
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

    return Qwen2_5OmniAudioEncoder(
        Qwen2_5OmniAudioEncoderConfig(
            num_mel_bins=80, d_model=384, encoder_layers=layers, encoder_attention_heads=6, encoder_ffn_dim=1536,
            n_window=500, max_source_positions=1500, output_dim=output_dim,
        )
    )  # fmt: skip


def tower_forward(tower, mel: torch.Tensor, frames: torch.Tensor) -> list[torch.Tensor]:
    """Run the tower.

    The outputs equal those of ``tower.forward``. All windows go through each layer as one batch, while the stock code
    calls attention once for each window (three times slower to train on a CPU).

    Args:
        tower: The tower.
        mel: Features, (B, 80, T).
        frames: Valid mel frames of each clip, multiples of four, (B,).

    Returns:
        B outputs, (frames // 4, D).
    """
    hidden, valid = lower_layers(tower, mel, frames, len(tower.layers))
    return list(tower.proj(upper_layers(tower, hidden, valid, len(tower.layers))).split((frames // 4).tolist()))


def lower_layers(tower, mel: torch.Tensor, frames: torch.Tensor, layers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the convolutions and ``layers`` layers.

    Returns:
        Hidden states (windows, window / 2, d), and valid mel frames (windows,).
    """
    window = 2 * tower.n_window
    counts = [math.ceil(n / window) for n in frames.tolist()]
    longest = min(window, 4 * math.ceil(int(frames.max()) / 4))  # no computation beyond the longest clip
    chunks = mel.new_zeros(sum(counts), mel.shape[1], longest)
    valid = torch.zeros(sum(counts), dtype=torch.long)
    row = 0
    for features, n in zip(mel, frames.tolist(), strict=True):
        for start in range(0, n, window):
            size = min(window, n - start)
            chunks[row, :, :size] = features[:, start : start + size]
            valid[row] = size
            row += 1
    mask = (torch.arange(longest) < valid[:, None])[:, None]  # (windows, 1, frames)
    hidden = functional.gelu(tower.conv1(chunks)) * mask
    hidden = functional.gelu(tower.conv2(hidden)).transpose(1, 2)
    hidden = hidden + tower.positional_embedding.positional_embedding[: hidden.shape[1]]
    bias = _bias(valid, hidden.shape[1])
    for layer in tower.layers[:layers]:
        hidden = _layer(layer, hidden, bias)
    return hidden, valid


def upper_layers(tower, hidden: torch.Tensor, valid: torch.Tensor, layers: int) -> torch.Tensor:
    """Run the layers from ``layers`` on and pool, without the projection: (valid output frames of all windows, d)."""
    bias = _bias(valid, hidden.shape[1])
    for layer in tower.layers[layers:]:
        hidden = _layer(layer, hidden, bias)
    hidden = tower.ln_post(hidden.unflatten(1, (-1, 2)).mean(2))
    return hidden[torch.arange(hidden.shape[1]) < (valid[:, None] // 4)]


def _bias(valid: torch.Tensor, length: int) -> torch.Tensor:
    keys = (torch.arange(length) < (valid[:, None] + 1) // 2)[:, None, None]  # (windows, 1, 1, keys)
    return torch.zeros(keys.shape).masked_fill(~keys, float("-inf"))


def _layer(layer, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    attention = layer.self_attn
    normed = layer.self_attn_layer_norm(hidden)
    q, k, v = (
        project(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    # Attention is written out: on a CPU this is twice as fast in bfloat16 as the fused operator.
    context = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + bias.to(q.dtype)).softmax(-1).to(v.dtype) @ v
    hidden = hidden + attention.out_proj(context.transpose(1, 2).flatten(2))
    normed = layer.final_layer_norm(hidden)
    return hidden + layer.fc2(functional.gelu(layer.fc1(normed)))


def frame_labels(scene: Scene, n: int) -> np.ndarray:
    """Return the head's labels of frames of 40 ms.

    Args:
        scene: The scene.
        n: Number of frames.

    Returns:
        int16 (n, classes + 2): for each class 1 where it sounds, else 0; the class of the event in front (or "none");
        its place in order of onset from 0 (``-100`` where no event sounds).
    """
    labels = np.zeros((n, len(LABELS) + 2), np.int16)
    labels[:, -2:] = len(LABELS), _NONE
    # In order of onset: a later event is in front.
    for place, (event, (start, stop)) in enumerate(zip(scene.events, spans(scene, n), strict=True)):
        column = LABELS.index(event.label)
        labels[start:stop, column] = 1
        labels[start:stop, -2:] = column, min(place, MOST_EVENTS - 1)
    return labels


def loss_of(outputs: torch.Tensor, logits: torch.Tensor, codes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the loss of F frames.

    Args:
        outputs: Outputs of the tower, (F, D).
        logits: Logits of the head, (F, sum of ``HEAD``).
        codes: Target codes of the tower, (F, columns).
        labels: Labels of the head (:func:`frame_labels`), (F, classes + 2).
    """
    sounds, event, ordinal = logits.split(list(HEAD.values()), 1)
    active, (classes, ordinals) = labels[:, : len(LABELS)].float(), labels[:, len(LABELS) :].unbind(1)
    binary_loss = functional.binary_cross_entropy_with_logits(sounds, active, pos_weight=torch.tensor(2.0))
    predictions = outputs @ _READOUT
    errors = predictions - codes
    residual = ((outputs - predictions @ _BASIS) ** 2).sum(1).mean()  # the part of the output outside of the basis
    squared_error = (_COLUMN_WEIGHTS * errors**2).sum(1).mean() + 2 * residual
    cross_entropy = functional.cross_entropy(event, classes) + functional.cross_entropy(
        ordinal, ordinals, ignore_index=_NONE
    )
    return 4 * binary_loss + cross_entropy + squared_error


class SceneData:
    """Rendered scenes with the labels and codes of their frames."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.mel = np.load(folder / "mel.npy", mmap_mode="r")
        self.frames = np.load(folder / "frames.npy").astype(np.int64) // 4 * 4
        self.scenes = load_scenes(folder)
        self.labels = [frame_labels(scene, n // 4) for scene, n in zip(self.scenes, self.frames, strict=True)]
        self.codes = [frame_codes(scene, n // 4) for scene, n in zip(self.scenes, self.frames, strict=True)]

    @torch.no_grad()
    def pooled(self, tower, most: int | None = None, batch: int = 16) -> Iterator[np.ndarray]:
        """Yield the projection's input for each of the first ``most`` scenes, (frames, d) float32."""
        count = min(most or len(self.frames), len(self.frames))
        for start in range(0, count, batch):
            rows = np.arange(start, min(start + batch, count))
            with fast_autocast():
                pooled = upper_layers(tower, *lower_layers(tower, *self.features(rows), 0), 0).float()
            yield from (clip.numpy() for clip in pooled.split((self.frames[rows] // 4).tolist()))

    def features(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mel features (N, 80, T) and valid mel frames (N,) of the scenes ``rows``."""
        return torch.from_numpy(self.mel[rows].astype(np.float32)), torch.from_numpy(self.frames[rows])

    def predict(
        self, tower, head, rows: np.ndarray, *, frozen: int = 0, augmented: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return outputs (frames, D) and head logits (frames, sum of ``HEAD``) of the scenes ``rows``, concatenated."""
        mel, frames = self.features(rows)
        mel = augment(mel) if augmented else mel
        with fast_autocast():
            with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
                hidden, valid = lower_layers(tower, mel, frames, frozen)
            pooled = upper_layers(tower, hidden, valid, frozen)
            return tower.proj(pooled).float(), head(pooled).float()

    def order(self, batch: int, rng: np.random.Generator) -> list[int]:
        """Return all rows, shuffled, in batches of ``batch`` of similar length, which keeps padding small."""
        rows = rng.permutation(len(self.frames))
        pools = np.array_split(rows, math.ceil(len(rows) / (16 * batch)))
        rows = np.concatenate([pool[np.argsort(self.frames[pool], kind="stable")] for pool in pools])
        batches = [rows[i : i + batch] for i in range(0, len(rows) - batch + 1, batch)]
        return [int(row) for i in rng.permutation(len(batches)) for row in batches[i]]

    def truth(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes and labels of the frames of the scenes ``rows``, concatenated."""
        codes, labels = (np.concatenate([values[row] for row in rows]) for values in (self.codes, self.labels))
        return torch.from_numpy(codes), torch.from_numpy(labels).long()


def fast_autocast():
    """Return a context that multiplies matrices in the processor's fast precision; weights and losses are float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() == torch.bfloat16)


def pooled_outputs(tower, folder: Path, most: int | None = None) -> list[np.ndarray]:
    """Return the input of a tower's projection for rendered scenes.

    Args:
        tower: The tower.
        folder: Rendered scenes (``training.tiny.features``).
        most: Number of scenes, from the first; None uses all.

    Returns:
        float32 (frames, d) for each scene.
    """
    return list(SceneData(folder).pooled(tower.eval(), most))


def keep_pooled(tower, folder: Path) -> None:
    """Write the projection's input to ``pooled.npy``, (N, 250, d) float16; the language model trains on it.

    Args:
        tower: The tower.
        folder: Rendered scenes, beside which the file is written.
    """
    data = SceneData(folder)
    shape = (len(data.frames), data.mel.shape[2] // 4, tower.config.d_model)
    out = np.lib.format.open_memmap(folder / "pooled.part.npy", "w+", np.float16, shape)
    for row, clip in enumerate(data.pooled(tower.eval())):
        out[row, : len(clip)] = clip
    out.flush()
    (folder / "pooled.part.npy").replace(folder / "pooled.npy")  # never a partial file


def augment(mel: torch.Tensor) -> torch.Tensor:
    """Augment clips in place to simulate other microphones, rooms and voices: (B, 80, T), in units of 40 dB.

    A random gain, a smooth spectral tilt, a shift of all bins by up to two (a semitone is about one), and a noise
    floor. Then SpecAugment: two bands of bins and two spans of time of each clip are set to the clip's mean.
    """
    count, bins, _ = mel.shape
    knots = 0.1 * torch.randn(count, 1, 8)
    mel += functional.interpolate(knots, bins, mode="linear", align_corners=True)[:, 0, :, None]
    mel += 0.2 * torch.randn(count, 1, 1)
    for clip in mel:
        shift = int(torch.randint(-2, 3, ()))
        clip[:] = clip[(torch.arange(bins) + shift).clamp(0, bins - 1)]
        floor = clip.amax() - 2 + 0.7 * float(torch.rand(()))  # Whisper's features span 2 below the loudest
        clip.clamp_(min=floor).add_(0.03 * torch.randn_like(clip))
        mean = clip.mean()
        for _ in range(2):
            width, start = int(torch.randint(0, 8, ())), int(torch.randint(0, 72, ()))
            clip[start : start + width] = mean
            width, start = int(torch.randint(0, 16, ())), int(torch.randint(0, 950, ()))
            clip[:, start : start + width] = mean
    return mel


@torch.no_grad()
def evaluate(tower, head, data: SceneData) -> dict:
    """Compute micro F1 of frames, of clips (a class occurs if 4 frames exceed 0.5), of each class, and of events.

    An event of ``codes.read_codes`` is correct as for CAFE's reference judge: its class, its onset within 0.5 s and its
    offset within the larger of 0.5 s and 20 % of its length. ``named_f1`` requires the class alone.

    Args:
        tower: The tower.
        head: Its head.
        data: Rendered scenes.

    Returns:
        ``frame_f1``, ``clip_f1``, ``named_f1``, ``event_f1`` and ``by_class``.
    """
    width, frame_counts, clip_counts, named_counts, event_counts = (
        len(LABELS),
        np.zeros(3),
        np.zeros((len(LABELS), 3)),
        np.zeros(3),
        np.zeros(3),
    )
    for rows in np.array_split(np.arange(len(data.frames)), math.ceil(len(data.frames) / 16)):
        outputs, logits = data.predict(tower, head, rows)
        codes, truth = (outputs @ _READOUT).numpy(), data.truth(rows)[1].numpy()
        ends = np.cumsum(data.frames[rows] // 4)[:-1]
        arrays = (np.split(array, ends) for array in (logits.numpy(), codes, truth))
        for row, clip_logits, clip_codes, clip_labels in zip(rows, *arrays, strict=True):
            predicted, true = clip_logits[:, :width] > 0, clip_labels[:, :width] > 0
            frame_counts += (predicted & true).sum(), (predicted & ~true).sum(), (~predicted & true).sum()
            predicted, true = predicted.sum(0) >= 4, true.any(0)
            clip_counts += np.stack([predicted & true, predicted & ~true, ~predicted & true], 1)
            events, predictions = data.scenes[row].events, read_codes(clip_codes)
            for counts, timed in ((named_counts, False), (event_counts, True)):
                hits = count_hits(events, predictions, timed)
                counts += hits, len(predictions) - hits, len(events) - hits
    return {
        "frame_f1": f1_of(frame_counts),
        "clip_f1": f1_of(clip_counts.sum(0)),
        "named_f1": f1_of(named_counts),
        "event_f1": f1_of(event_counts),
        "by_class": dict(zip(LABELS, map(f1_of, clip_counts), strict=True)),
    }


def count_hits(events: Sequence[SceneEvent], predictions: list[tuple[str, float, float]], timed: bool) -> int:
    unmatched, hits = list(events), 0
    for label, onset_s, offset_s in predictions:
        for event in unmatched:
            collar = max(0.5, 0.2 * event.duration_s)
            in_time = abs(event.onset_s - onset_s) <= 0.5 and abs(event.offset_s - offset_s) <= collar
            if event.label == label and (in_time or not timed):
                unmatched.remove(event)
                hits += 1
                break
    return hits


def f1_of(counts: np.ndarray) -> float:
    tp, fp, fn = counts
    return round(float(2 * tp / max(2 * tp + fp + fn, 1)), 4)


class TowerOptimizers:
    """Muon for the matrices of a tower's trained layers, AdamW for all other parameters; warm-up and a cosine.

    Args:
        tower: The audio tower.
        frozen: Number of lower layers that are not trained; at 0 the convolutions are trained as well.
        head_parameters: Parameters behind the layers (projection, readout, head); their learning rate is three times
            ``lr``.
        lr: Peak learning rate of vectors.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(self, tower, frozen: int, head_parameters: Sequence[nn.Parameter], lr: float, weight_decay: float):
        layer_parameters = [p for layer in tower.layers[frozen:] for p in layer.parameters()]
        matrices = [p for p in layer_parameters if p.ndim == 2]
        vectors = [p for p in layer_parameters if p.ndim == 1] + list(tower.ln_post.parameters())
        vectors += [] if frozen else [*tower.conv1.parameters(), *tower.conv2.parameters()]
        self._parameters = [*matrices, *vectors, *head_parameters]
        self._optimizers = [
            torch.optim.Muon(matrices, lr=3 * lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [{"params": vectors, "lr": lr}, {"params": list(head_parameters), "lr": 3 * lr}],
                weight_decay=weight_decay,
                betas=(0.9, 0.98),
            ),
        ]
        self._rates = [(group, group["lr"]) for group in self.param_groups]

    @property
    def param_groups(self) -> list[dict]:
        """All parameter groups."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Take a step with the gradients of the parameters."""
        for optimizer in self._optimizers:
            optimizer.step()

    def minimize(self, loss: torch.Tensor, step: int, share: float) -> None:
        """Take a step on a loss, with gradients clipped to a norm of 1.

        Args:
            loss: The loss.
            step: Number of the step, from 0: the first 50 warm up.
            share: Share of the training's time that is spent; the rate follows a cosine over it.
        """
        rate = min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for group, peak in self._rates:
            group["lr"] = peak * rate
        self.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.step()

    def state_dict(self) -> list[dict]:
        """Return the states of both optimizers."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: Sequence[dict]) -> None:
        """Load the states of both optimizers."""
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def train(
    features: Path,
    out: Path,
    *,
    whisper: Path | None,
    start: Path | None = None,
    frozen: int,
    minutes: float,
    lr: float,
    batch: int = 16,
    seed: int = 0,
    save_every_s: float = 120,
) -> dict:
    """Train a tower; write ``tower.safetensors`` and ``log.jsonl``.

    Args:
        features: Rendered scenes, in ``train`` and ``validation``.
        out: Output folder.
        whisper: CTranslate2 file of the Whisper whose encoder is the start; None starts from random weights.
        start: A ``tower.safetensors`` to continue from.
        frozen: Number of lower layers that are not trained.
        minutes: Total wall time.
        lr: Peak learning rate of vectors.
        batch: Scenes of a step.
        seed: Seed of weights and order.
        save_every_s: Seconds between two writes of ``OUT/state.pt``, from which a stopped training resumes.

    Returns:
        The validation scores (:func:`evaluate`).
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    data, validation = SceneData(features / "train"), SceneData(features / "validation")
    tower, head = make_tower(), nn.Linear(384, sum(HEAD.values()))
    if whisper:
        tower.load_state_dict(whisper_encoder_state(whisper), strict=False)
        # The layers above Whisper's start as the identity, so that its features pass through.
        for layer in tower.layers[WHISPER_LAYERS:]:
            nn.init.zeros_(layer.self_attn.out_proj.weight)
            nn.init.zeros_(layer.fc2.weight)
    if start:  # continue another training
        _fill(tower, head, load_file(start))
    else:
        head.bias.data[: len(LABELS)] = -3.0  # most classes are silent in most frames
    optimizers = TowerOptimizers(tower, frozen, [*tower.proj.parameters(), *head.parameters()], lr, weight_decay=0.05)
    step, next_report, spent_s, saved_s = 0, 0.2, 0.0, 0.0
    order: list[int] = []
    state = out / "state.pt"
    if state.exists():  # resume: weights, optimizer moments, random states, time spent
        checkpoint = torch.load(state, weights_only=False)
        tower.load_state_dict(checkpoint["tower"]), head.load_state_dict(checkpoint["head"])
        optimizers.load_state_dict(checkpoint["optimizers"])
        step, next_report, spent_s, order = (checkpoint[name] for name in ("step", "next_report", "spent_s", "order"))
        saved_s = spent_s
        rng.bit_generator.state = checkpoint["numpy"]
        torch.set_rng_state(checkpoint["torch"])
    begin = time.time() - spent_s
    with open(out / "log.jsonl", "a") as log:
        while (share := (time.time() - begin) / (60 * minutes)) < 1:
            if time.time() - begin - saved_s > save_every_s:
                saved_s = time.time() - begin
                checkpoint = {"tower": tower.state_dict(), "head": head.state_dict(), "step": step, "order": order}
                checkpoint |= {"optimizers": optimizers.state_dict()}
                checkpoint |= {"next_report": next_report, "spent_s": saved_s}
                checkpoint |= {"numpy": rng.bit_generator.state, "torch": torch.get_rng_state()}
                torch.save(checkpoint, state.with_suffix(".part"))
                state.with_suffix(".part").replace(state)  # never a partial file
            # The order is consumed from its end and is part of the state, so a resumed epoch continues.
            if len(order) < batch:
                order = data.order(batch, rng)
            rows = np.array([order.pop() for _ in range(batch)])
            loss = loss_of(*data.predict(tower, head, rows, frozen=frozen, augmented=True), *data.truth(rows))
            optimizers.minimize(loss, step, share)
            step += 1
            if share >= next_report:
                next_report += 0.2
                score = evaluate(tower, head, validation)
                row = {
                    "step": step,
                    "scenes": step * batch,
                    "seconds": round(time.time() - begin),
                    "loss": round(loss.item(), 4),
                }
                row |= {name: value for name, value in score.items() if name != "by_class"}
                print(row, flush=True)
                log.write(json.dumps(row) + "\n")
                log.flush()
    save_file(
        {f"tower.{k}": v for k, v in tower.state_dict().items()}
        | {f"head.{k}": v for k, v in head.state_dict().items()},
        out / "tower.safetensors",
    )
    state.unlink(missing_ok=True)
    return evaluate(tower, head, validation)


def from_checkpoint(folder: Path, out: Path, features: Path) -> Path:
    """Write the tower of a checkpoint, with a new projection and head, as a start for :func:`train`.

    The layers keep their weights; the set of classes may have changed since. The projection is initialised by ridge
    regression from the tower's pooled outputs for rendered scenes to their codes.

    Args:
        folder: The checkpoint.
        out: The ``tower.safetensors`` to write.
        features: Rendered scenes, in ``train``.

    Returns:
        ``out``.
    """
    from training.small.ears import fit_readout, load_tower_of

    torch.manual_seed(0)
    tower, head = load_tower_of(folder), nn.Linear(384, sum(HEAD.values()))
    readout = fit_readout(pooled_outputs(tower, features / "train", 600), load_scenes(features / "train")[:600])
    tower.proj.weight.data = (readout[:-1] @ _BASIS).T.contiguous()
    tower.proj.bias.data = readout[-1] @ _BASIS
    head.bias.data[: len(LABELS)] = -3.0  # most classes are silent in most frames
    weights = {f"tower.{k}": v for k, v in tower.state_dict().items()}
    weights |= {f"head.{k}": v for k, v in head.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, out)
    return out


def _fill(tower, head, state: dict[str, torch.Tensor]) -> None:
    """Load the weights of a ``tower.safetensors`` into a tower and its head."""
    for name, module in (("tower.", tower), ("head.", head)):
        module.load_state_dict({k.removeprefix(name): v for k, v in state.items() if k.startswith(name)})


def average(features: Path, towers: Sequence[Path], out: Path) -> dict:
    """Average trainings that started from the same tower; write ``OUT/tower.safetensors`` and ``OUT/scores.json``.

    Averaging gained some three points of F1 of held-out events over the best of three (compare "model soups", arXiv
    2203.05482). The scores are those of weights rounded to bfloat16, as they are stored. ``pooled.npy`` is written
    beside the training scenes.

    Args:
        features: Rendered scenes, in ``train`` and ``validation``.
        towers: The ``tower.safetensors`` to average.
        out: Output folder.

    Returns:
        The scores.
    """
    states = [load_file(path) for path in towers]
    mean = {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    tower, head = make_tower(), nn.Linear(384, sum(HEAD.values()))
    _fill(tower, head, {name: value.bfloat16().float() for name, value in mean.items()})
    scores = {"validation": evaluate(tower, head, SceneData(features / "validation")), "averaged": len(states)}
    keep_pooled(tower, features / "train")
    out.mkdir(parents=True, exist_ok=True)
    save_file(mean, out / "tower.safetensors")
    (out / "scores.json").write_text(json.dumps(scores, indent=1))
    return scores


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--whisper", type=Path, help="CTranslate2 model.bin of Whisper tiny.en; without it: from scratch"
    )
    parser.add_argument("--start", type=Path, help="a tower.safetensors or a checkpoint's folder to continue from")
    parser.add_argument("--average", type=Path, nargs="+", help="tower.safetensors to average; nothing is trained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frozen", type=int, default=2, help="lower layers that are not trained (0 without --whisper)")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--lr", type=float, default=3e-4)
    args = parser.parse_args(argv)
    if args.start and args.start.is_dir():
        start = args.out / "start.safetensors"
        args.start = start if start.exists() else from_checkpoint(args.start, start, args.features)
    if args.average:
        scores = average(args.features, args.average, args.out)
    else:
        options = {"whisper": args.whisper, "start": args.start, "minutes": args.minutes, "lr": args.lr}
        options |= {"seed": args.seed, "frozen": args.frozen if args.whisper or args.start else 0}
        scores = train(args.features, args.out, **options)
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
