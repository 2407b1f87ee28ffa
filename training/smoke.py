"""Small model and data of the smoke override: the recipe's model family at a tenth of a megabyte, and clips of noise.

``smoke=true`` runs two steps of any recipe with them on a CPU in seconds, with the same code and options except for
sizes, and random weights of the real classes. It tests that a recipe runs, not what it trains.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mpar2.audio import SAMPLE_RATE
from mpar2.question import Event, Item, Question, item_to_json
from mpar2.runs.lines import write_lines
from training.recipe import Recipe, RecipeError

_REPLIES = {
    "mpar2": "<perception>0.2-1.0 s a dog bark.</perception>\n<step><ask>What comes first?</ask><hear>a dog bark</hear>"
    "<infer>it is first</infer></step>\n<review>A dog bark: heard.</review>\n<answer>dog bark</answer>",
    "cot": "<think>A dog barks first.</think><answer>dog bark</answer>",
    "direct": "<answer>dog bark</answer>",
}


def smoke_test_recipe(recipe: Recipe, folder: Path) -> Recipe:
    """Reduce a recipe to two steps, and replace its model and data by small ones."""
    folder.mkdir(parents=True, exist_ok=True)
    model, part = folder / "model", folder / ".model.part"
    if not model.exists():  # renamed only when it is complete
        shutil.rmtree(part, ignore_errors=True)
        os.replace(build_small_model(recipe.family, part), model)
    data = {"sources": [{"kind": "scenes", "data": str(_clips(folder / "data"))}]}
    lora = recipe.lora
    if lora is not None:
        lora = dict(lora) | {"r": min(int(lora.get("r", 8)), 4)}
    return replace(
        recipe,
        model=str(model),
        adapter=None,
        dtype="float32",
        data=data,
        lora=lora,
        scorer={"name": "reference"},
        rollouts=None,
        early_stop=None,
        max_tokens=None,
        sft=_shorten(recipe.sft) | {"per_device_train_batch_size": 2},
        grpo=_shorten(recipe.grpo)
        | {"per_device_train_batch_size": 2, "num_generations": 2, "max_completion_length": 12}
        | {"steps_per_generation": None, "generation_batch_size": None},
        watch_attention_every=min(recipe.watch_attention_every, 1),
    )


def token_reward(completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
    """Reward completions by the share of their even token ids, which varies, so that the update is not zero."""
    return [sum(token % 2 == 0 for token in ids) / max(1, len(ids)) for ids in completion_ids]


def _shorten(options: dict[str, Any]) -> dict[str, Any]:
    return options | {
        "max_steps": 2,
        "warmup_steps": 0,  # so that the first of two steps changes the weights
        "learning_rate": 1e-3,
        "gradient_accumulation_steps": 1,
        "logging_steps": 1,
        "save_steps": 1,
        "eval_strategy": "no",
        "bf16": False,
        "tf32": None,
        "use_cpu": True,
        "report_to": [],
        "dataloader_num_workers": 0,
    }


def _clips(folder: Path) -> Path:
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    items = []
    for i in range(4):
        times = np.arange(int(SAMPLE_RATE * (1.0 + 0.3 * i))) / SAMPLE_RATE
        noise = np.random.default_rng(i).normal(scale=0.05, size=times.size)
        name = f"audio/{i}.wav"
        soundfile.write(folder / name, noise + 0.3 * np.sin(2 * np.pi * (200 + 150 * i) * times), SAMPLE_RATE)
        question = Question(f"What comes first in clip {i}?", ("dog bark", "bell"), "dog bark", difficulty="easy")
        events = (Event("dog bark", 0.2, 1.0),)
        extra = {"completions": _REPLIES}
        items.append(Item(str(i), name, question, events, "A dog barks.", "scene", extra))
    write_lines(folder / "items.jsonl", map(item_to_json, items))
    return folder


def build_small_model(family: str, folder: Path) -> Path:
    """Write random weights of a family's real classes, with a tokenizer of some hundred tokens.

    Raises:
        RecipeError: There is no small model of the family.
    """
    from training.tiny.build import build_checkpoint

    corpus = [*_REPLIES.values(), "Listen to the audio and answer the question. What comes first? bell dog bark"] * 5
    if family == "qwen2_5_omni":
        return build_checkpoint(folder, corpus, small=True)
    if family != "qwen2_audio":
        raise RecipeError(f"smoke runs have no small model of the family {family}: train on a real checkpoint")
    return build_small_qwen2_audio(
        folder, build_checkpoint(folder.with_name(folder.name + "-tokenizer"), corpus, small=True)
    )


def build_small_qwen2_audio(folder: Path, tokenizer_of: Path, seed: int = 0) -> Path:
    """Write a Qwen2-Audio with random weights that accepts 4 s of audio instead of 30."""
    import torch
    from transformers import (
        AutoTokenizer,
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    audio = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
    text = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2AudioConfig(
        audio_config=audio | {"model_type": "qwen2_audio_encoder", "num_mel_bins": 80, "max_source_positions": 200},
        text_config=text | {"model_type": "qwen2", "intermediate_size": 96, "vocab_size": len(tokenizer)},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2AudioForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=4, return_attention_mask=True)
    Qwen2AudioProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder
