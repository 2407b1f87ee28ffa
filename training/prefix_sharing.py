"""A prompt read once for all of its completions: the text model's twin of encoding a clip once.

The G completions of a prompt share clip, instructions and question, which are most of the tokens: a clip of 10 s is 250
positions, of 30 s 750. Here the text model reads each distinct prompt of a batch once, and its keys and values are
handed to all rows that continue it, in rollouts and in passes over completions, with gradients where a pass has them.
Log-probabilities are those of the whole rows (``tests/test_grpo.py``).

It needs the model itself in one process: sharded weights, and DDP's counting of gradients, want one call of the wrapped
model for each pass; and gradient checkpointing keeps no keys and values. Elsewhere each row is read whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from training.audio_inputs import AudioInjector, inner_model

__all__ = ["can_share", "read_prompts", "score_completions"]


def can_share(accelerator: Any, network: Any) -> bool:
    """Whether prompts can be read once here; see the module."""
    alone = accelerator.num_processes == 1 and accelerator.distributed_type.value == "NO"
    return alone and not any(getattr(part, "gradient_checkpointing", False) for part in inner_model(network).modules())


def read_prompts(
    network: Any, injector: AudioInjector, ids: torch.Tensor, seen: torch.Tensor, numbers: Sequence[int]
) -> tuple[Any, torch.Tensor]:
    """Read left-padded prompts (N, L), row i hearing clip ``numbers[i]``, up to their last token.

    Returns the cache of N rows and L - 1 columns, and the positions (N, L) of the prompts' tokens.
    """
    firsts: dict[tuple[int, bytes], int] = {}  # clip and tokens of a prompt -> its first row
    group, rows = [], []
    for i, number in enumerate(numbers):
        key = (number, ids[i].cpu().numpy().tobytes())
        if key not in firsts:
            firsts[key] = len(rows)
            rows.append(i)
        group.append(firsts[key])
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    inner = inner_model(network)
    with injector.inject(network, [numbers[i] for i in rows]):
        read = inner.model(
            input_ids=ids[rows, :-1],
            attention_mask=seen[rows, :-1],
            position_ids=positions[rows, :-1],
            use_cache=True,
        )
    cache = read.past_key_values
    cache.batch_select_indices(torch.tensor(group, device=ids.device))
    return cache, positions


def score_completions(
    network: Any, injector: AudioInjector, ids: torch.Tensor, seen: torch.Tensor, keep: int, numbers: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities (N, keep) of the last columns of rows (N, T), and entropies where the head gives them.

    The head is the one that TRL adds to the model it trains (``add_fused_lm_head``).
    """
    length = ids.shape[1] - keep
    cache, positions = read_prompts(network, injector, ids[:, :length], seen[:, :length], numbers)
    after = positions[:, -1:] + seen[:, length:].cumsum(-1)
    labels = ids[:, length - 1 :].masked_fill(seen[:, length - 1 :] == 0, -100)
    labels[:, 0] = -100  # the last token of the prompt: it is read, not scored
    outputs = network(
        input_ids=ids[:, length - 1 :],
        attention_mask=seen,
        position_ids=torch.cat([positions[:, -1:], after], dim=1),
        past_key_values=cache,
        labels=labels,
        fused_lm_head=True,
    )
    return outputs.log_probs, outputs.entropy
