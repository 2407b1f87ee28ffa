"""Steps per hour of the GRPO trainer as it is, against the same trainer with the tower run for every completion.

    python -m benchmarks.grpo_step [--seconds 30] [--generations 8] [--tokens 64] [--steps 4] [--shape tiny|wide]

Whole steps of ``training.audio_grpo.AudioGRPOTrainer`` on one prompt: generation, reward, policy pass, backward and
optimizer, with LoRA on the text model (tower frozen) and on both (tower trained). Three ways, in one process:
``every completion`` runs the tower for each row of each pass; ``clip once`` shares the clip's encoding; ``prompt once``
shares the reading of the prompt as well, which is what the trainer does in one process. The learning rate is 0, so that
all ways hold the same weights; they must give one completion the same log-probabilities to 1e-5 (float32) before any
time is printed. Completions have ``--tokens`` tokens each. Wall-clock time, so the machine should be otherwise idle;
median of ``--steps`` steps after the first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import soundfile
import torch
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback

from benchmarks.setting import QUESTION, SHAPES, checkpoint, machine, noise
from mpar2.audio import SAMPLE_RATE
from mpar2.engines.checkpoint import load_checkpoint
from mpar2.question import Event, Item
from training import audio_grpo
from training.audio_grpo import AudioGRPOTrainer, grpo_config
from training.audio_inputs import AudioInjector
from training.data import to_dataset

LIMIT = 1.5  # times the steps per hour of the first way
WAYS = ("every completion", "clip once", "prompt once")


class EveryRow(AudioInjector):
    """AudioInjector that run the tower for each row, equal clips or not."""

    def frames(self, model, numbers: Sequence[int]) -> list[torch.Tensor]:
        return self._encode(model, numbers)


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.taken: list[float] = []

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_step_begin(self, args, state, control, **more) -> None:
        self._began = self._now()

    def on_step_end(self, args, state, control, **more) -> None:
        self.taken.append(self._now() - self._began)


def _reward(completion_ids, **columns) -> list[float]:
    return [float(sum(ids) % 7) for ids in completion_ids]


def _trainer(model: str, clip: Path, tower: bool, args: argparse.Namespace, out: Path) -> AudioGRPOTrainer:
    loaded = load_checkpoint(model)
    torch.manual_seed(0)
    parts = "(language_model|audio_tower)" if tower else "language_model"
    items = [Item(str(i), str(clip), QUESTION, (Event("bell", 0.2, 1.0),), truth_origin="scene") for i in range(4)]
    config = grpo_config(
        output_dir=str(out),
        per_device_train_batch_size=args.generations,
        num_generations=args.generations,
        max_completion_length=args.tokens,
        generation_kwargs={"min_new_tokens": args.tokens},
        max_steps=args.steps + 1,
        learning_rate=0.0,
        beta=0.0,
        temperature=1.0,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=False,
        bf16=loaded.dtype == torch.bfloat16,
    )
    lora = LoraConfig(r=32, target_modules=rf".*{parts}.*(q|k|v)_proj", init_lora_weights=False)
    return AudioGRPOTrainer(
        loaded.model,
        processor=loaded.processor,
        reward_funcs=[_reward],
        args=config,
        train_dataset=to_dataset(items, "mpar2"),
        peft_config=lora,
    )


def _logps(trainer: AudioGRPOTrainer, prompt: list[int], said: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (G, tokens) of completions ``said``, by the trainer's own pass."""
    device = trainer.accelerator.device
    ids = torch.cat([torch.tensor([prompt] * len(said)), said], dim=1).to(device)
    trainer._clip_numbers = [0] * len(said)
    with torch.no_grad():
        return trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), said.shape[1])[0]


def _run(way: str, tower: bool, model: str, clip: Path, args: argparse.Namespace, out: Path):
    trainer = _trainer(model, clip, tower, args, out)
    if way == "every completion":
        trainer.injector = EveryRow(trainer.clips, trainer.injector.audio_token_id, frozen=trainer.injector.frozen)
    shares = audio_grpo.can_share if way == "prompt once" else lambda *_: False
    said = torch.randint(300, 900, (args.generations, args.tokens), generator=torch.Generator().manual_seed(0))
    with patch.object(audio_grpo, "can_share", shares):
        prompts, _, _ = trainer._tokenize_prompts([trainer.train_dataset[0]["prompt"]])
        logps = _logps(trainer, prompts[0], said)
        clock = Clock()
        trainer.remove_callback(PrinterCallback)  # the summary of a run would stand among the figures
        trainer.add_callback(clock)
        trainer.train()
    return logps, statistics.median(clock.taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="of each completion")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="tiny")
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, clip = checkpoint(folder, args.shape), folder / "clip.wav"
        soundfile.write(clip, noise(args.seconds).samples, SAMPLE_RATE)
        for tower in (False, True):
            runs = {way: _run(way, tower, model, clip, args, folder / way) for way in WAYS}
            slow_logps, slow = runs[WAYS[0]]
            gap = max(float((logps - slow_logps).abs().max()) for logps, _ in runs.values())
            if gap > (1e-5 if slow_logps.dtype == torch.float32 else 0.1):
                raise SystemExit(f"log-probabilities differ by {gap:.1e}: the ways do not do the same")
            print(f"tower {'trained' if tower else 'frozen'}; log-probabilities agree to {gap:.0e}")
            for way, (_, taken) in runs.items():
                print(f"  {way:17} {taken:6.2f} s a step, {3600 / taken:6.0f} steps an hour, {slow / taken:.2f} x")
    print(f"\nlimit {LIMIT} x")


if __name__ == "__main__":
    main()
