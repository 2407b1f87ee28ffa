"""One pass over a prompt for all of its completions: the text model's counterpart of encoding a clip once.

The G completions of a prompt share clip, instructions and question, which are most of the tokens: a clip of 10 s is 250
positions, of 30 s 750. Here the text model reads each distinct prompt of a batch once. Its keys and values are used for
all rows that continue it, in rollouts and in passes over completions, with gradients where a pass has them.
Log-probabilities equal those of the whole rows (``tests/test_grpo.py``).

It needs the model itself in one process. Sharded weights and DDP's gradient counting require one call of the wrapped
model for each pass, and gradient checkpointing stores no keys and values. In those cases each row is read whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import sdpa_mask

from mpar2.engines.probe import set_text_attention
from training.audio_inputs import AudioInjector, inner_model


def can_share(accelerator: Any, network: Any) -> bool:
    """Return whether prompts can be read once here; see the module."""
    alone = accelerator.num_processes == 1 and accelerator.distributed_type.value == "NO"
    return alone and not any(getattr(part, "gradient_checkpointing", False) for part in inner_model(network).modules())


def read_prompts(
    network: Any, injector: AudioInjector, ids: torch.Tensor, attention_mask: torch.Tensor, numbers: Sequence[int]
) -> tuple[Any, list[int], torch.Tensor]:
    """Run the model over left-padded prompts up to their last token, each distinct prompt once.

    Args:
        network: The model.
        injector: Puts the clips into the pass.
        ids: Token ids, (N, L).
        attention_mask: Attention mask, (N, L).
        numbers: Number of each row's clip.

    Returns:
        The cache of the distinct prompts, L - 1 columns; for each of the N rows its row in that cache; the positions
        (N, L) of the prompts' tokens.
    """
    cache_rows: dict[tuple[int, bytes], int] = {}  # clip and tokens of a prompt -> its first row
    group, rows = [], []
    for i, number in enumerate(numbers):
        key = (number, ids[i].cpu().numpy().tobytes())
        if key not in cache_rows:
            cache_rows[key] = len(rows)
            rows.append(i)
        group.append(cache_rows[key])
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    inner = inner_model(network)
    with injector.inject(network, [numbers[i] for i in rows]):
        outputs = inner.model(
            input_ids=ids[rows, :-1],
            attention_mask=attention_mask[rows, :-1],
            position_ids=positions[rows, :-1],
            use_cache=True,
        )
    return outputs.past_key_values, group, positions


class _Prefixed(DynamicLayer):
    """Keys and values of a layer: those of each prompt once, and those of later tokens in ``room`` columns."""

    def __init__(self, prompts: DynamicLayer, copies: int, room: int) -> None:
        super().__init__()
        self.prompt_keys, self.prompt_values, self.copies = prompts.keys, prompts.values, copies
        rows, heads, self.prompt_length, size = prompts.keys.shape
        shape = (rows * copies, heads, room, size)
        self.keys, self.values = (x.new_empty(shape) for x in (prompts.keys, prompts.values))
        self.dtype, self.device = prompts.keys.dtype, prompts.keys.device
        self.is_initialized = True
        self._length = 0

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **rest: Any):
        end = self._length + key_states.shape[-2]
        self.keys[:, :, self._length : end] = key_states
        self.values[:, :, self._length : end] = value_states
        self._length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.prompt_length + self._length


@contextmanager
def shared_cache(network: Any, cache: Any, group: Sequence[int], room: int) -> Iterator[Any]:
    """Make a cache for decoding in which the rows of a prompt share its keys and values.

    Attention over the prompt is one product for all rows of the prompt, and nothing is copied when a token is added.
    transformers' own cache would hold the prompt once for each row and copy all of it at every token.

    Args:
        network: The model; its text attention is replaced inside of the context.
        cache: Cache of the distinct prompts (:func:`read_prompts`).
        group: The prompt of each row.
        room: Columns for new tokens.

    Yields:
        The cache of all rows. It is the plain one unless the rows of each prompt are adjacent and equal in number.
    """
    copies = len(group) // (max(group) + 1)
    if list(group) != [row // copies for row in range(len(group))]:
        cache.batch_select_indices(torch.tensor(group, device=cache.layers[0].keys.device))
        yield cache
        return
    global _active
    inner = inner_model(network)
    implementation = inner.config.get_text_config()._attn_implementation
    shared = DynamicCache()
    shared.layers = [_Prefixed(layer, copies, room) for layer in cache.layers]
    set_text_attention(inner, _NAME)
    _active = shared
    try:
        yield shared
    finally:
        _active = None
        set_text_attention(inner, implementation)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from queries (N, heads, T, d) to the shared prompts and to the rows' own keys (N, kv heads, t, d)."""
    layer = _active.layers[module.layer_idx]
    prompts, heads, length, size = layer.prompt_keys.shape
    rows, all_heads, count, _ = query.shape
    copies, n_queries = layer.copies, all_heads // heads * count  # queries of a row and key head
    own_queries = query.reshape(rows, heads, n_queries, size) * scaling

    def merge_rows(x: torch.Tensor) -> torch.Tensor:  # (N, heads, each, ·) -> (prompts, heads, copies x each, ·)
        x = x.reshape(prompts, copies, heads, n_queries, -1).transpose(1, 2)
        return x.reshape(prompts, heads, copies * n_queries, -1)

    def split_rows(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(prompts, heads, copies, n_queries, -1).transpose(1, 2).reshape(rows, heads, n_queries, -1)

    scores = torch.cat([split_rows(merge_rows(own_queries) @ layer.prompt_keys.mT), own_queries @ key.mT], dim=-1)
    if attention_mask is not None:
        split = scores.reshape(rows, heads, -1, count, scores.shape[-1])
        scores = split.masked_fill(~attention_mask[:, :, None], -torch.inf).view_as(scores)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    prompt_weights, own_weights = weights[..., :length], weights[..., length:]
    out = split_rows(merge_rows(prompt_weights) @ layer.prompt_values) + own_weights @ value
    return out.reshape(rows, all_heads, count, size).transpose(1, 2).contiguous(), None


_NAME = "mpar2_shared_prompts"
_active: Any = None  # the cache of the current generation; a process generates one batch at a time
AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


def score_completions(
    network: Any,
    injector: AudioInjector,
    ids: torch.Tensor,
    attention_mask: torch.Tensor,
    keep: int,
    numbers: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Score the last columns of rows with the head that TRL adds to the model it trains (``add_fused_lm_head``).

    Args:
        network: The model.
        injector: Puts the clips into the pass.
        ids: Token ids, (N, T): prompts padded on the left, completions on the right.
        attention_mask: Attention mask, (N, T).
        keep: Columns of completions.
        numbers: Number of each row's clip.

    Returns:
        Log-probabilities, (N, keep), in nats; entropies, (N, keep), or None where the head gives none.
    """
    length = ids.shape[1] - keep
    cache, group, positions = read_prompts(network, injector, ids[:, :length], attention_mask[:, :length], numbers)
    cache.batch_select_indices(torch.tensor(group, device=ids.device))
    after = positions[:, -1:] + attention_mask[:, length:].cumsum(-1)
    labels = ids[:, length - 1 :].masked_fill(attention_mask[:, length - 1 :] == 0, -100)
    labels[:, 0] = -100  # the last token of the prompt is input only
    outputs = network(
        input_ids=ids[:, length - 1 :],
        attention_mask=attention_mask,
        position_ids=torch.cat([positions[:, -1:], after], dim=1),
        past_key_values=cache,
        labels=labels,
        fused_lm_head=True,
    )
    return outputs.log_probs, outputs.entropy
