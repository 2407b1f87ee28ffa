"""Train the tagger: ``python -m training.tagger.train AUDIO OUT --minutes 45``; a stopped run resumes.

``AUDIO`` is the output of ``training.tagger.collect``. Time is processor time, so that a busy machine does not shorten
the training; the learning rate falls to zero over it. ``OUT/state.pt`` is written every two minutes, ``OUT/log.jsonl``
gets a line every two hundred steps, ``OUT/tagger.pt`` holds the averaged weights.

Losses. Windows: binary cross entropy between the teacher's score and the frames' scores pooled by linear softmax (arXiv
1810.09050: sum p^2 / sum p), in which loud frames dominate a window, and the distance of their logits. Frames: binary
cross entropy with exactly known labels. Silent frames: zero scores.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from mpar2.tagger.model import STRIDE, TaggerNet
from mpar2.tagger.names import label_members
from training.tagger.labels import SourceLabel, read_labels
from training.tagger.mixtures import Mixture, Mixtures, read_recordings
from training.tagger.teacher import HOP_FRAMES, WINDOW_FRAMES

__all__ = ["loss_of", "train"]

_BATCH = 24
_RATE = 2.5e-3
_KEEP = 0.998  # decay of the weight average, per step


def loss_of(logits: torch.Tensor, batch: list[Mixture]) -> tuple[torch.Tensor, dict[str, float]]:
    """Compute the loss of a batch of mixtures.

    Args:
        logits: Logits of the tagger, (batch, 32, 521).
        batch: Mixture of each row.

    Returns:
        The loss, and its unweighted terms by name.
    """
    scores = torch.sigmoid(logits)
    frames = scores.unfold(1, WINDOW_FRAMES // STRIDE, HOP_FRAMES // STRIDE)  # (B, 7, 521, 12)
    pooled = frames.square().sum(-1) / (frames.sum(-1) + 1e-6)
    target = torch.from_numpy(np.stack([mixture.scores for mixture in batch]))
    has_target = torch.from_numpy(np.stack([mixture.windows for mixture in batch]))
    pooled = pooled.clamp(1e-6, 1 - 1e-6)
    valid, target = ~target.isnan(), target.nan_to_num()
    window_loss = functional.binary_cross_entropy(pooled, target, reduction="none")
    # Low scores carry similarity between sounds, which the cross entropy hardly weights.
    logit_loss = functional.smooth_l1_loss(_logit(pooled), _logit(target.clamp(1e-4, 1 - 1e-4)), reduction="none")
    window_loss, logit_loss = ((values * valid).sum(-1) for values in (window_loss, logit_loss))
    logit_loss = logit_loss[has_target].mean() if has_target.any() else logit_loss.sum() * 0
    window_loss = window_loss[has_target].mean() if has_target.any() else window_loss.sum() * 0
    silent = torch.from_numpy(np.stack([mixture.silent for mixture in batch]))
    silent_loss = functional.softplus(logits).sum(-1)[silent]
    silent_loss = silent_loss.mean() if len(silent_loss) else logits.sum() * 0
    label_losses = []
    for row, mixture in zip(logits, batch, strict=True):
        for label, (target_frames, mask) in mixture.frames.items():
            highest = row[:, list(label_members()[label])].amax(-1)
            loss = functional.binary_cross_entropy_with_logits(
                highest, torch.from_numpy(target_frames), reduction="none"
            )
            label_losses.append(loss[torch.from_numpy(mask)].mean())
    label_loss = torch.stack(label_losses).mean() if label_losses else logits.sum() * 0
    losses = {"windows": window_loss, "alike": logit_loss, "labels": label_loss, "silent": silent_loss}
    loss = 0.25 * window_loss + 0.01 * logit_loss + 3.0 * label_loss + 0.1 * silent_loss
    return loss, {name: float(value.detach()) for name, value in losses.items()}


def _logit(scores: torch.Tensor) -> torch.Tensor:
    return torch.log(scores / (1 - scores))


def train(
    audio: Path, out: Path, minutes: float, labels: dict[str, SourceLabel], start: Path | None, seed: int = 0
) -> None:
    """Train the tagger; a stopped training resumes from ``OUT/state.pt``.

    Args:
        audio: Groups that ``training.tagger.collect`` wrote.
        out: Folder of ``tagger.pt``, ``state.pt`` and ``log.jsonl``.
        minutes: Total processor time.
        labels: Split and label of recordings.
        start: Weights to start from; None starts from random ones.
        seed: Seed of weights and mixtures.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    net, average = TaggerNet().to(memory_format=torch.channels_last), TaggerNet()
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True))
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-3)
    step, used_s = 0, 0.0
    if (out / "state.pt").exists():
        state = torch.load(out / "state.pt", weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, used_s = state["step"], state["used"]
    recordings = list(read_recordings(audio, labels, ("train",)))
    corpus = Mixtures(recordings, np.random.default_rng([seed, step]))
    label_names = {recording.label for recording in recordings} - {None}
    hours = sum(len(recording.mel) for recording in recordings) / 360_000
    print(f"{len(recordings)} pieces, {hours:.1f} h, {len(label_names)} labels", flush=True)
    begin_s, saved_s, sums = time.process_time() - used_s, time.process_time(), {}
    while used_s < 60 * minutes:
        # The rate follows processor time: 100 steps of warm-up, then a cosine.
        rate = _RATE * min(1.0, (step + 1) / 100) * max(0.01, 0.5 * (1 + math.cos(math.pi * used_s / (60 * minutes))))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [corpus.draw() for _ in range(_BATCH)]
        logits = net(torch.from_numpy(np.stack([mixture.mel for mixture in batch])))
        loss, losses = loss_of(logits, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        # Average the weights; the first steps use a faster decay.
        step, used_s = step + 1, time.process_time() - begin_s
        decay = min(_KEEP, step / (step + 20))
        with torch.no_grad():
            for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value / 200
        if step % 200 == 0:
            row = {"step": step, "minutes": round(used_s / 60, 2), "rate": rate}
            row |= {name: round(value, 4) for name, value in sums.items()}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
            sums = {}
        if time.process_time() - saved_s > 120:
            saved_s = time.process_time()
            _save(out, net, average, optimizer, step, used_s)
    _save(out, net, average, optimizer, step, used_s)


def _save(out: Path, net: TaggerNet, average: TaggerNet, optimizer, step: int, used_s: float) -> None:
    state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    for name, value in (("state.pt", state | {"step": step, "used": used_s}), ("tagger.pt", average.state_dict())):
        torch.save(value, out / f"{name}.part")
        (out / f"{name}.part").rename(out / name)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=45, help="of processor time")
    parser.add_argument("--sources", type=Path, required=True, help="labels and splits (training.tagger.labels)")
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="where packages are unpacked")
    parser.add_argument("--start", type=Path, help="weights to start from")
    args = parser.parse_args(argv)
    train(args.audio, args.out, args.minutes, read_labels(args.sources, args.packages), args.start)


if __name__ == "__main__":
    main()
