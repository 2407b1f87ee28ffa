"""Steps per hour of the GRPO trainer, against the same trainer without its sharing and merging.

    python -m benchmarks.grpo_step [--seconds 10] [--prompts 8] [--generations 8] [--tokens 192] [--rounds 3]
                                   [--shape tiny|wide] [--tower]

Whole steps of ``training.audio_grpo.AudioGRPOTrainer`` with LoRA r16 on all linear layers of the text model:
generation, reward, reference and policy passes, and backward. Ways, interleaved round by round in one process:

``every completion``  the audio tower runs for each row of each pass
``clip once``         the rows of a prompt share the clip's encoding
``prompt once``       they share the prefill of the prompt too; adapters are not merged, and each row decodes with a
                      copy of its prompt's keys and values: the former recipe
``as it is``          adapters are merged for the rollout, and rows attend to one copy of their prompt

The learning rate is 0 and seeds are equal, so that all ways have the same weights and sample the same tokens. Before
any time is printed, log-probabilities of a completion must agree to 1e-5 (float32), and mean rewards of a step to 1e-3.
Completions have ``--tokens`` tokens each. Median of the rounds after the first; wall-clock time, and processor time
beside it, which another program on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import soundfile
import torch
from peft import LoraConfig
from transformers import PrinterCallback, set_seed

from benchmarks.setting import QUESTION, SHAPES, checkpoint, machine, noise
from mpar2.audio import SAMPLE_RATE
from mpar2.engines.checkpoint import load_checkpoint
from mpar2.engines.families import get_family
from mpar2.question import Event, Item
from training import audio_grpo
from training.audio_grpo import AudioGRPOTrainer, grpo_config
from training.audio_inputs import AudioInjector
from training.data import to_dataset

LIMIT = 1.8  # times the steps per hour of "prompt once"
WAYS = ("every completion", "clip once", "prompt once", "as it is")


class EveryRow(AudioInjector):
    """AudioInjector that runs the tower for each row, equal clips or not."""

    def frames(self, model, numbers: Sequence[int]) -> list[torch.Tensor]:
        return self._encode(model, numbers)


@contextmanager
def _plain_cache(network, cache, group, room) -> Iterator[Any]:
    """Yield each row with a copy of its prompt, in transformers' own cache."""
    cache.batch_select_indices(torch.tensor(group, device=cache.layers[0].keys.device))
    yield cache


@contextmanager
def _way(way: str) -> Iterator[None]:
    """Disable the optimisations of the trainer that ``way`` excludes."""
    with ExitStack() as stack:
        if way != "as it is":
            stack.enter_context(patch.object(audio_grpo, "merged_adapter", lambda network: nullcontext()))
            stack.enter_context(patch.object(audio_grpo, "shared_cache", _plain_cache))
        if way in WAYS[:2]:
            stack.enter_context(patch.object(audio_grpo, "can_share", lambda *_: False))
        yield


def _reward(completion_ids, **columns) -> list[float]:
    return [float(sum(ids) % 7) for ids in completion_ids]


def _trainer(way: str, model: str, clips: Sequence[Path], args: argparse.Namespace, out: Path) -> AudioGRPOTrainer:
    loaded = load_checkpoint(model)
    torch.manual_seed(0)
    items = [
        Item(str(i), str(clip), QUESTION, (Event("bell", 0.2, 1.0),), truth_origin="scene")
        for i, clip in enumerate(clips)
    ]
    config = grpo_config(
        output_dir=str(out),
        per_device_train_batch_size=args.prompts * args.generations,
        num_generations=args.generations,
        max_completion_length=args.tokens,
        generation_kwargs={"min_new_tokens": args.tokens},
        max_steps=1,
        learning_rate=0.0,
        beta=0.02,
        temperature=1.0,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=False,
        bf16=loaded.dtype == torch.bfloat16,
    )
    targets = get_family("qwen2_5_omni").lora_targets(audio=args.tower)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=targets, init_lora_weights=False)
    trainer = AudioGRPOTrainer(
        loaded.model,
        processor=loaded.processor,
        reward_funcs=[_reward],
        args=config,
        train_dataset=to_dataset(items, "mpar2"),
        peft_config=lora,
    )
    if way == WAYS[0]:
        trainer.injector = EveryRow(trainer.clips, trainer.injector.audio_token_id, frozen=trainer.injector.frozen)
    trainer.remove_callback(PrinterCallback)  # its summary of a run would be printed among the results
    return trainer


def _logps(trainer: AudioGRPOTrainer, completions: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities (G, tokens) of ``completions`` of the first item, from the trainer's own pass."""
    prompts, _, _ = trainer._tokenize_prompts([trainer.train_dataset[0]["prompt"]])
    ids = torch.cat([torch.tensor(prompts * len(completions)), completions], dim=1).to(trainer.accelerator.device)
    trainer._clip_numbers *= len(completions)
    with torch.no_grad():
        return trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, torch.ones_like(ids), completions.shape[1]
        )[0]


def _step(trainer: AudioGRPOTrainer, seed: int) -> tuple[float, float, float]:
    """Return (wall-clock seconds, processor seconds, mean reward) of one step."""
    set_seed(seed)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    size = trainer.num_generations
    rows = [row for row in trainer.train_dataset for _ in range(size)]
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, busy = time.perf_counter(), time.process_time()
    batch = trainer._generate_and_score_completions(rows)
    trainer._compute_loss(trainer.model, batch).backward()
    trainer.model.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    reward = trainer._metrics["train"]["reward"][-1]
    return time.perf_counter() - wall, time.process_time() - busy, reward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=192, help="of each completion")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="tiny")
    parser.add_argument("--tower", action="store_true", help="train the audio tower too")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    args = parser.parse_args()
    print(machine(), f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}", sep="; ")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = checkpoint(folder, args.shape)
        clips = [folder / f"{i}.wav" for i in range(args.prompts)]
        for seed, clip in enumerate(clips):
            soundfile.write(clip, noise(args.seconds, seed).samples, SAMPLE_RATE)
        trainers = {way: _trainer(way, model, clips, args, folder / way) for way in args.ways}
        # The same completions for all trainers, so that their log-probabilities are comparable.
        completions = torch.randint(
            300, 900, (args.generations, args.tokens), generator=torch.Generator().manual_seed(0)
        )
        logps, times = {}, {way: [] for way in args.ways}
        # Rounds interleave the ways, so that a change of the machine's load affects all of them.
        for number in range(args.rounds + 1):
            for way, trainer in trainers.items():
                with _way(way):
                    if not number:
                        logps[way] = _logps(trainer, completions)
                    times[way].append(_step(trainer, number))
        first = args.ways[0]
        # The ways must compute the same before their times are compared.
        gap = max(float((values - logps[first]).abs().max()) for values in logps.values())
        rewards = [max(abs(a[2] - b[2]) for a, b in zip(times[first], times[way], strict=True)) for way in args.ways]
        print(f"log-probabilities agree to {gap:.0e}, mean rewards of a step to {max(rewards):.0e}")
        if gap > (1e-5 if logps[first].dtype == torch.float32 else 0.1) or max(rewards) > 1e-3:
            raise SystemExit("the ways do not do the same")
        reference = WAYS[2] if WAYS[2] in args.ways else first
        base = [statistics.median(row[i] for row in times[reference][1:]) for i in (0, 1)]
        for way in args.ways:
            wall, busy = (statistics.median(row[i] for row in times[way][1:]) for i in (0, 1))
            print(
                f"  {way:17} {wall:6.2f} s a step, {3600 / wall:6.0f} steps an hour, {base[0] / wall:.2f} x; "
                f"processor {busy:6.2f} s, {base[1] / busy:.2f} x"
            )
    print(f"\nlimit {LIMIT} x of '{reference}'")


if __name__ == "__main__":
    main()
