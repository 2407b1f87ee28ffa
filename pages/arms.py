"""Default arms of a comparison: direct answer, free reasoning, and MPAR²."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

REAL_MODELS = (  # command to serve the model, its requirements, and command to start the app with it as an arm
    (
        "llama-server -hf ggml-org/Qwen2.5-Omni-3B-GGUF -c 8192 --port 8080",
        "on a laptop: 3.4 GB to download, about 4.7 GB of memory",
        'python app.py --arm "server:http://127.0.0.1:8080/v1#Qwen2.5-Omni-3B:cot"',
    ),
    (
        "vllm serve Qwen/Qwen2.5-Omni-7B",
        "on a GPU: about 18 GB for the weights",
        'python app.py --arm "server:http://127.0.0.1:8000/v1#Qwen/Qwen2.5-Omni-7B:cot"',
    ),
)


class _Offer(Protocol):
    @property
    def name(self) -> str: ...


def first_arms(offers: Sequence[_Offer]) -> tuple[tuple[str, str], ...]:
    """Return (checkpoint, mode) of each arm: the first offer in "direct" and "cot", the second or only one in "mpar2".

    There is at least one offer.
    """
    base, trained = offers[0].name, offers[min(1, len(offers) - 1)].name
    return (base, "direct"), (base, "cot"), (trained, "mpar2")
