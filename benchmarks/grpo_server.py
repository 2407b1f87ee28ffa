"""Utilisation of the GRPO trainer with a rollout server of equal speed, with and without prefetching the next batch.

    python -m benchmarks.grpo_server [--prompts 32] [--generations 2] [--tokens 64] [--steps 4]
                                     [--shape tiny|small] [--gpu 0] [--judge 0.2]

The trainer is the real one on a checkpoint with random weights. The server has vLLM's wire format and takes a fixed
time for a batch of concurrent requests (``--prompts`` in flight), without using a core. This time equals the trainer's
own part of a step, which is measured first. A judge takes ``--judge`` seconds for each trace, 32 in flight. ``--gpu``
makes the trainer sleep in each step as if it waited for a GPU, so that a loaded machine disturbs less: a fifth in each
of the two passes without gradients, the rest in the pass with them.
Busy is the share of a step in which the trainer does not wait for completions or the judge. Weights are synchronised at
every step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile
import torch
from peft import LoraConfig
from transformers import PrinterCallback

from benchmarks.setting import QUESTION, checkpoint, machine, noise
from mpar2.audio import SAMPLE_RATE
from mpar2.engines.checkpoint import load_checkpoint
from mpar2.engines.families import get_family
from mpar2.llm.limits import Limiter
from mpar2.llm.openai_server import OpenAIClient
from mpar2.question import Event, Item
from testing.rollout_server import RolloutServer, serve_rollouts
from testing.wire import Call, HttpReply, openai_reply, serve
from training.audio_grpo import AudioGRPOTrainer, grpo_config
from training.data import to_dataset
from training.rewards import make_rewards
from training.rewards.judge import JudgeScorer
from training.rollouts import ServerRollouts
from training.smoke import build_small_model

LIMIT = 0.85


class TimedServer(RolloutServer):
    """A server that replies after ``seconds`` with random tokens and ignores adapters."""

    seconds = 0.0

    def __post_init__(self) -> None:
        self._rng = random.Random(0)

    def load(self, name: str, path: str) -> None:
        self.adapters.append(name)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.seconds)
        choices = []
        for index in range(body["n"]):
            ids = [self._rng.randrange(30, 250) for _ in range(body["max_tokens"])]
            content = [{"token": str(i), "logprob": -6.5, "bytes": None, "top_logprobs": []} for i in ids]
            message = {"role": "assistant", "content": ""}
            choices.append(
                {"index": index, "finish_reason": "length", "message": message, "token_ids": ids}
                | {"logprobs": {"content": content, "refusal": None}}
            )
        return {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": choices}


def _steps(
    server: TimedServer, judge_url: str, ahead: bool, model: str, items: list[Item], args: Any, out: Path
) -> list[dict[str, float]]:
    """Train and return the logged steps."""
    loaded = load_checkpoint(model)
    client = OpenAIClient("judge", judge_url, api_key="none", limiter=Limiter(in_flight=32))
    # Perception and step rewards need the judge, whose latency is part of the step.
    functions, _ = make_rewards({"perception": {}, "step": {}}, JudgeScorer(client, in_flight=32))
    # A learning rate of 0 keeps the weights constant, so that all steps cost the same.
    config = grpo_config(
        output_dir=str(out),
        per_device_train_batch_size=args.prompts * args.generations,
        num_generations=args.generations,
        max_completion_length=args.tokens,
        max_steps=args.steps,
        learning_rate=0.0,
        beta=0.02,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=False,
        bf16=False,
    )
    rollouts = ServerRollouts(
        base_url=server.url, checkpoint=model, folder=out / "adapters", in_flight=32, tolerance=1e9, ahead=ahead
    )
    trainer = AudioGRPOTrainer(
        loaded.model,
        processor=loaded.processor,
        rollouts=rollouts,
        reward_funcs=functions,
        args=config,
        train_dataset=to_dataset(items, "mpar2"),
        peft_config=LoraConfig(r=16, target_modules=get_family("qwen2_5_omni").lora_targets()),
    )
    trainer.remove_callback(PrinterCallback)
    # Sleeping in place of GPU work keeps the ratio of the passes on a CPU.
    score, loss = trainer._get_per_token_logps_and_entropies, trainer._compute_loss

    def slow_score(*inputs: Any, **options: Any) -> Any:
        time.sleep(0.0 if torch.is_grad_enabled() else args.gpu / 5)
        return score(*inputs, **options)

    trainer._get_per_token_logps_and_entropies = slow_score
    trainer._compute_loss = lambda *inputs: (time.sleep(args.gpu * 3 / 5), loss(*inputs))[1]
    trainer.train()
    return [line for line in trainer.state.log_history if "time/passes_s" in line]


def _mean(steps: list[dict[str, float]], stage: str) -> float:
    return sum(step[f"time/{stage}_s"] for step in steps) / len(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32, help="requests in flight")
    parser.add_argument("--generations", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--shape", choices=("tiny", "small"), default="tiny", help="small: of smoke runs")
    parser.add_argument("--gpu", type=float, default=0.0, help="seconds that a step waits, as for a GPU")
    parser.add_argument("--judge", type=float, default=0.2, help="seconds of the judge for each trace")
    args = parser.parse_args()

    def plan(call: Call) -> HttpReply:
        match = re.search(r'"steps_in_reasoning": (\d+)', call.text)
        marks = {"perception": 0.5, "steps": [0.5] * int(match[1] if match else 0)}
        marks |= {"review": 0.0, "thinking": 0.0, "consistent": 0.0}
        return replace(openai_reply(json.dumps(marks)), delay_s=args.judge)

    print(machine(), f"load {os.getloadavg()[0]:.1f}", sep="; ")
    with tempfile.TemporaryDirectory() as temporary, serve(plan) as judge:
        folder, url = Path(temporary), judge.url + "/v1"
        small = args.shape == "small"
        model = str(build_small_model("qwen2_5_omni", folder / "small")) if small else checkpoint(folder, "tiny")
        # One clip per prompt and step, so that no encoding is reused between steps.
        items = []
        for i in range((args.steps + 1) * args.prompts):
            clip = folder / f"{i}.wav"
            soundfile.write(clip, noise(2.0, i).samples, SAMPLE_RATE)
            items.append(Item(str(i), str(clip), QUESTION, (Event("bell", 0.2, 1.0),), truth_origin="scene"))
        with serve_rollouts(TimedServer(folder)) as server:
            # The trainer's own time sets the speed of the server.
            first = _steps(server, url, False, model, items, args, folder / "first")[1:]
            server.seconds = sum(_mean(first, stage) for stage in ("passes", "tower", "sync"))
            print(f"the trainer's own part of a step, and a batch of the server: {server.seconds:.2f} s")
            for ahead in (False, True):
                steps = _steps(server, url, ahead, model, items, args, folder / str(ahead))[
                    2:
                ]  # the first batch is not prefetched
                waits = {stage: _mean(steps, stage) for stage in ("rollout", "judge")}
                step_s = sum(_mean(steps, stage) for stage in ("rollout", "tower", "judge", "sync", "passes"))
                busy = 1 - sum(waits.values()) / step_s
                print(
                    f"  ahead {str(ahead):5}  step {step_s:5.2f} s, waiting for completions {waits['rollout']:5.2f} s, "
                    f"for the judge {waits['judge']:5.2f} s: busy {busy:.0%}"
                )
    print(f"\nlimit {LIMIT:.0%} with the next batch asked ahead")


if __name__ == "__main__":
    main()
