"""What many tests share: clips, and small checkpoints of the real classes with random weights."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network fails at once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from mpar2.audio import Clip  # noqa: E402
from mpar2.question import Question  # noqa: E402

BENCHMARK_FILES = Path(
    os.environ.get("MPAR2_BENCHMARK_FILES") or Path(__file__).resolve().parents[2] / "shared" / "benchmarks"
)  # official question files, which are no part of the project

# The same examples in every run, so that a change is what fails; MPAR2_FUZZ_S searches new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("default" if "MPAR2_FUZZ_S" in os.environ else "repeatable")

CORPUS = [
    "<perception>a dog bark from 0.5 to 1.2 s, then a bell from 2 to 3 s</perception>",
    "<step><ask>what comes first?</ask><hear>the dog bark</hear><infer>the dog is first</infer></step>",
    "<review>the dog bark at 0.5 s: supported</review><answer>dog bark</answer>",
    "Listen to the audio and answer the question. user assistant system You are a helpful assistant.",
] * 5


def make_clip(seconds: float = 1.5, seed: int = 0) -> Clip:
    """Noise with a tone that moves: no two seconds and no two seeds alike."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    noise = np.random.default_rng(seed).normal(scale=0.05, size=times.size)
    return Clip(noise + 0.3 * np.sin(2 * np.pi * (300 + 200 * seed + 150 * times) * times), f"clip{seed}.wav")


@pytest.fixture
def clip() -> Clip:
    return make_clip()


@pytest.fixture
def question() -> Question:
    return Question("What comes first?", ("dog bark", "bell"), "dog bark")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5-Omni Thinker, small, with random weights that are far enough from zero to attend unevenly."""
    from training.tiny.build import build_checkpoint

    folder = build_checkpoint(tmp_path_factory.mktemp("checkpoints") / "small-base", CORPUS, small=True, seed=1)
    _roughen(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_adapter(tiny_checkpoint: Path) -> Path:
    """A LoRA adapter of the checkpoint's text stack that changes what it says."""
    return make_adapter(tiny_checkpoint, tiny_checkpoint.parent / "small-adapter", seed=2)


@pytest.fixture(scope="session")
def qwen2_audio_checkpoint(tiny_checkpoint: Path) -> Path:
    """A Qwen2-Audio, small, that hears 4 s where the real one hears 30."""
    from training.smoke import build_small_qwen2_audio

    folder = build_small_qwen2_audio(tiny_checkpoint.parent / "small-qwen2-audio", tiny_checkpoint, seed=3)
    _roughen(folder)
    return folder


def make_adapter(base: Path, folder: Path, *, seed: int = 0, targets: str = r".*language_model.*(q|v)_proj") -> Path:
    """A LoRA adapter with random weights on both sides, so that it does something."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(base)
        config = LoraConfig(r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False)
        adapted = get_peft_model(model, config)
        adapted.save_pretrained(folder)
    return folder


def _roughen(folder: Path) -> None:
    """Scale the layers up: fresh weights attend almost evenly and repeat one token, which hides mistakes."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    for name, weight in weights.items():
        if name.endswith("_proj.weight"):
            weights[name] = weight * 8.0
    save_file(weights, file, metadata={"format": "pt"})
