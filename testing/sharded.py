"""Train smoke recipes on two CPU processes, by DDP or by FSDP2, through the code of accelerate.

Run as ``torchrun --nproc-per-node 2 testing/sharded.py OUT [CASE ...]``. Each case of ``CASES`` is a GRPO or SFT
training of two steps, and writes its log to ``OUT/ddp/CASE`` and ``OUT/fsdp/CASE``. The sharded trainings of
``RESUMED`` are then copied to ``OUT/undisturbed/CASE``, and resumed from the checkpoint of their first step. Only
accelerate's distributed type is overridden, because it allows FSDP on accelerators only, while PyTorch shards on CPUs
too.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

CASES = {  # name -> (method, recipe, overrides)
    "lora": ("grpo", "qwen2.5-omni-7b", []),
    "qwen2-audio": ("grpo", "qwen2-audio-7b", []),
    "all-weights": ("grpo", "qwen2.5-omni-7b", ["lora=~", "grpo.beta=0"]),
    "tower": ("grpo", "qwen2.5-omni-7b", ["train_tower=true"]),
    "papo": ("grpo", "ablation-papo", []),
    "sft": ("sft", "qwen2.5-omni-7b", []),
}
RESUMED = ("lora", "all-weights", "sft")


def force_fsdp() -> None:
    """Let accelerate choose FSDP2 on CPUs."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
    os.environ["FSDP_AUTO_WRAP_POLICY"] = "TRANSFORMER_BASED_WRAP"
    import accelerate.state as state
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    initialise = state.AcceleratorState.__init__

    def sharded(self, *args, **kwargs) -> None:
        first = not state.AcceleratorState._shared_state
        initialise(self, *args, **kwargs)
        if first and state.AcceleratorState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = kwargs.get("fsdp_plugin") or FullyShardedDataParallelPlugin()
            state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    state.AcceleratorState.__init__ = sharded


def main(out: Path, names: list[str]) -> None:
    """Run the cases one after the other in this process group, first by DDP, then by FSDP2.

    Args:
        out: Output folder.
        names: Names of cases; empty runs all.
    """
    import torch
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    from training.recipe import load_recipe
    from training.run import train
    from training.smoke import smoke_test_recipe

    rank = os.environ["RANK"]
    smoke = "smoke" if rank == "0" else f"smoke-{rank}"
    smoke_folders: dict[str, Path] = {}  # family -> its small model and clips, made once
    for strategy in ("ddp", "fsdp"):  # models first: with a process group, only the main process writes them
        for name in names or CASES:
            _, recipe, overrides = CASES[name]
            resolved = load_recipe(recipe, ["smoke=true", *overrides])
            folder = out / strategy / name / smoke
            if resolved.family in smoke_folders:
                shutil.copytree(smoke_folders[resolved.family], folder)
            smoke_test_recipe(resolved, folder)
            smoke_folders.setdefault(resolved.family, folder)
    for strategy in ("ddp", "fsdp"):
        if strategy == "fsdp":
            force_fsdp()
        for name in names or CASES:
            os.environ.pop("FSDP_TRANSFORMER_CLS_TO_WRAP", None)  # of the model before
            method, recipe, overrides = CASES[name]
            train(method, load_recipe(recipe, ["smoke=true", *overrides]), out / strategy / name)
            AcceleratorState._reset_state()
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU  # reset for the next training
    for name in [name for name in RESUMED if name in (names or CASES)]:
        os.environ.pop("FSDP_TRANSFORMER_CLS_TO_WRAP", None)
        method, recipe, overrides = CASES[name]
        folder = out / "fsdp" / name
        if rank == "0":
            shutil.copytree(folder, out / "undisturbed" / name)
            for unwritten in ("checkpoint-2", "adapter", "model"):
                shutil.rmtree(folder / unwritten, ignore_errors=True)
        torch.distributed.barrier()  # every process looks for the last checkpoint
        train(method, load_recipe(recipe, ["smoke=true", *overrides]), folder, resume=True)
        AcceleratorState._reset_state()
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_CPU


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
