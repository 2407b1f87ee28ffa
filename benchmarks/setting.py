"""Shared setting of the benchmarks of engines: checkpoints with random weights, clips, and a line about the machine."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Literal

import numpy as np

from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.question import Question

QUESTION = Question("Which sound comes first?", ("a bell", "a piano", "a siren"))

# Random weights take the same time as trained ones. "tiny" is the tiny pair's shape. "small" is the small pair's shape
# with the vocabulary of the corpus. "wide" has the layers and heads of Qwen2.5-Omni-7B's text model (28 of 28, 4
# key/value heads) at an eighth of its head size, so that a CPU can run it.
SHAPES: dict[str, dict] = {
    "tiny": {},
    "small": {
        "text": {
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0, "mrope_section": [8, 12, 12]},
        }
    },
    "wide": {
        "text": {
            "hidden_size": 448,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "intermediate_size": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        }
    },
}


def machine() -> str:
    """Return processor, cores, memory and versions, for the head of a table."""
    import torch
    import transformers

    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB{gpu}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def checkpoint(folder: Path, shape: str = "tiny", stored: Literal["float32", "int8"] = "float32") -> str:
    """Write a checkpoint with random weights.

    Args:
        folder: Parent folder.
        shape: Name of a shape of :data:`SHAPES`.
        stored: Precision of the stored weights; ``int8`` as the small pair ships, for bfloat16 where that is fast.

    Returns:
        The folder of the checkpoint.
    """
    from training.scenes.chains import corpus
    from training.tiny.build import build_checkpoint

    built = build_checkpoint(folder / f"{shape}-size", corpus(400, 0), **SHAPES[shape])
    if stored == "float32":
        return str(built)
    from mpar2.engines.rows import pack

    rows = folder / f"{shape}-size-int8"
    pack(built, rows)
    config = json.loads((rows / "config.json").read_text(encoding="utf-8"))
    (rows / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}), encoding="utf-8")
    return str(rows)


def lora(base: str, folder: Path) -> str:
    """Write a LoRA adapter of rank 32 on all projections of the text model, and return its folder."""
    from peft import LoraConfig, get_peft_model

    from mpar2.engines.checkpoint import load_checkpoint

    targets = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
    get_peft_model(load_checkpoint(base, device="cpu").model, LoraConfig(r=32, target_modules=targets)).save_pretrained(
        folder
    )
    return str(folder)


def noise(seconds: float, seed: int = 0) -> Clip:
    samples = np.random.default_rng(seed).normal(scale=0.1, size=int(seconds * SAMPLE_RATE)).astype(np.float32)
    return Clip(samples, f"noise-{seed}.wav")
