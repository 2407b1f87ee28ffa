"""The language model's own chats, which preserve its English, and a measure of how well it still models English.

``own_chats`` samples replies of the unchanged text model to plain requests. Lessons mix them in, so that training a
LoRA on sounds costs little of the model's other abilities. ``perplexity`` is computed on a held-out text, which no
lesson contains.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

__all__ = ["HELD_OUT", "QUESTIONS", "own_chats", "perplexity", "replies"]

_REQUESTS = (
    "Explain {} in two sentences.",
    "What is {}?",
    "Write a short story about {}.",
    "Give me three facts about {}.",
    "Why do people like {}?",
    "Tell a child what {} is.",
    "Describe {} without naming it.",
    "What should I know before I learn about {}?",
)
_TOPICS = (
    "bread", "the moon", "bicycles", "rain", "a library", "chess", "salt", "the sea", "trains", "gardening", "bees",
    "winter", "maps", "paper", "volcanoes", "painting", "a river", "clocks", "sleep", "tea", "bridges", "dreams",
    "wool", "the heart", "friendship", "markets", "glass", "robots", "poetry", "football", "spices", "the desert",
    "cameras", "forests", "money", "letters", "music", "cats", "a birthday", "mountains",
)  # fmt: skip

#: ten plain questions that sample its English
QUESTIONS = (
    "Hello! Who are you?", "What is the capital of France?", "Write two sentences about autumn.",
    "How do I boil an egg?", "What is the difference between a lake and a river?", "Give me a name for a small dog.",
    "Why is the sky blue?", "Say thank you in a polite way.", "What do bees make?", "Tell me a very short story.",
)  # fmt: skip

#: English text that no lesson contains
HELD_OUT = (
    "The baker opened his shop before the sun was up. Flour lay on every shelf, and the oven had been warm since "
    "three. A woman in a grey coat asked for two loaves and paid with coins that she counted twice. Outside, the first "
    "bus of the day stopped, and nobody got on. He thought of his brother, who had gone to sea at sixteen and written "
    "one letter in nine years. It said that the water was never the same colour on two days, and that he did not miss "
    "the hills. When the clock struck seven the street was full of people, and the last of the rolls had been sold. He "
    "swept the floor, turned the sign around, and slept until noon.",
    "To plant a young tree, dig a hole twice as wide as its roots and no deeper than they are tall. Loosen the earth "
    "at the sides, so that new roots can find their way. Set the tree upright, fill the hole with the soil that came "
    "out of it, and press it down gently with your foot. Water it well on the first day and once a week during the "
    "first summer. A ring of straw around the stem keeps the ground moist, but it should not touch the bark.",
)


def own_chats(llama: Any, tokenizer: Any, path: Path, *, count: int = 320, batch: int = 16, seed: int = 0) -> Path:
    """Write ``count`` chats of a text model to ``path``, one a line; an existing file is continued.

    Args:
        llama: The language model before any lesson.
        tokenizer: Its own tokenizer, with the chat template that it was tuned with.
        path: The file.
        count: Number of chats.
        batch: Chats generated at a time.
        seed: Seed of the order and of sampling.

    Returns:
        ``path``.
    """
    all_requests = [request.format(topic) for request, topic in itertools.product(_REQUESTS, _TOPICS)]
    random.Random(f"english {seed}").shuffle(all_requests)
    all_requests = all_requests[:count]
    n_done = len(path.read_text().splitlines()) if path.exists() else 0
    for start in range(n_done, len(all_requests), batch):
        requests = all_requests[start : start + batch]
        texts = replies(llama, tokenizer, requests, tokens=96, temperature=0.7, seed=seed + start)
        with open(path, "a") as file:
            file.write("".join(json.dumps([a, b]) + "\n" for a, b in zip(requests, texts, strict=True)))
    return path


@torch.no_grad()
def replies(
    model: Any, tokenizer: Any, requests: list[str], *, tokens: int, temperature: float = 0.0, seed: int = 0
) -> list[str]:
    """Return the replies of a causal language model, up to the last complete sentence.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        requests: The user's messages.
        tokens: Most new tokens of a reply.
        temperature: Temperature of sampling; 0 decodes greedily.
        seed: Seed of sampling.
    """
    torch.manual_seed(seed)
    tokenizer.padding_side = "left"
    prompts = [f"<|im_start|>user\n{request}<|im_end|>\n<|im_start|>assistant\n" for request in requests]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    sampling = {"do_sample": True, "temperature": temperature, "top_p": 0.9} if temperature else {"do_sample": False}
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    out = model.generate(**inputs, max_new_tokens=tokens, eos_token_id=end, pad_token_id=pad, **sampling)
    texts = tokenizer.batch_decode(out[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() if text.rstrip().endswith((".", "!", "?")) else _cut_to_sentence(text) for text in texts]


def _cut_to_sentence(text: str) -> str:
    end = max(text.rfind(mark) for mark in ".!?")
    return (text[: end + 1] if end > 0 else text).strip()


@torch.no_grad()
def perplexity(model: Any, tokenizer: Any, texts: tuple[str, ...] = HELD_OUT, pieces: int | None = None) -> float:
    """Compute the perplexity of a causal language model, per token, over all texts.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        texts: The texts.
        pieces: Use only the first ``pieces`` entries of the vocabulary; None uses all.
    """
    total = count = 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()[0, :-1, :pieces]
        total += float(functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return math.exp(total / count)
