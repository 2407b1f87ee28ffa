"""Records attention to audio while a model generates, without changing what it generates.

transformers lets a program register an attention function. Ours computes the output with the stock SDPA function (for
one query on a CPU with written-out products, :func:`_one_query`) and, while a probe listens, keeps the last queries;
every few tokens the softmax rows of these alone are computed from the cache's keys, and their audio columns kept. T×T
is never held: one query and K keys cost heads × K products in a layer.

Only the text stack is switched to it (the encoder keeps its own). Which probe listens is a context variable that is set
around one forward pass, so models in other threads do not see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mpar2.attention import AttentionRecord

__all__ = ["MEMORY_BUDGET", "AttentionProbe", "install", "set_text_attention"]

MEMORY_BUDGET = 64 * 2**20  # bytes of one record's rows
_BLOCK = 4  # queries whose rows are computed together
_NAME = "mpar2_probe"

_listening: ContextVar[AttentionProbe | None] = ContextVar("listening", default=None)


def install(model: Any) -> bool:
    """Route the text stack's attention through the probe.

    Returns:
        False if the model has sliding windows, whose columns move.
    """
    text = model.config.get_text_config()
    if any(kind != "full_attention" for kind in getattr(text, "layer_types", None) or ()):
        return False
    set_text_attention(model, _NAME)
    return True


def set_text_attention(model: Any, name: str) -> None:
    """Switch the attention function of the text stack, and of nothing else.

    Args:
        model: The loaded model.
        name: A name of transformers' ``AttentionInterface``.
    """
    alone = model.config.get_text_config() is model.config  # no part of a configuration: the whole of it
    model.set_attn_implementation({"" if alone else "text_config": name})


class AttentionProbe:
    """Collects one record for each prompt of a batch.

    Listen with ``with probe.listen(rows)`` around a forward pass.

    Args:
        audio: Positions of each prompt's audio *in the padded batch*.
        frame_s: Seconds of sound that one position stands for.
        keep: ``ratio`` keeps the attention mass on audio alone, without its place.
        budget: Bytes that the rows of one record may take; above it they become coarser.
    """

    def __init__(
        self,
        audio: Sequence[range],
        frame_s: float,
        *,
        keep: Literal["full", "ratio"] = "full",
        budget: int = MEMORY_BUDGET,
    ) -> None:
        self._audio = list(audio)
        self._stores = [_Store(len(span), frame_s, budget if keep == "full" else 0) for span in audio]
        self._rows: list[int] = []  # of the passes that are pending
        self._queries = 1  # of the pass under way
        self._allowed: list[torch.Tensor] = []  # of each pending pass: (B or 1, 1, n, K)
        self._asked: dict[int, list[torch.Tensor]] = {}  # by layer: the queries of each pending pass, (B, H, n, D)
        self._keys: dict[int, torch.Tensor] = {}  # by layer: the keys of the latest pass, which hold all earlier ones
        self._scaling: dict[int, float] = {}

    @contextmanager
    def listen(self, rows: Sequence[int], queries: int = 1) -> Iterator[None]:
        """Record the last queries of the forward pass inside.

        Args:
            rows: The prompts that the pass holds, in order.
            queries: Queries of each row, at the end of the pass.
        """
        if list(rows) != self._rows:
            self._compute()
            self._rows = list(rows)
        self._queries = queries
        token = _listening.set(self)
        try:
            yield
        finally:
            _listening.reset(token)
        if sum(allowed.shape[2] for allowed in self._allowed) >= _BLOCK:
            self._compute()

    def record(self, row: int, tokens: int) -> AttentionRecord:
        """Return the record of one prompt.

        Args:
            row: The place of the prompt in the batch.
            tokens: How many of its tokens, from the first.
        """
        self._compute()
        return self._stores[row].record(tokens)

    def observe(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float
    ) -> None:
        """Keep what the rows of one layer are computed from; the attention function calls it.

        Args:
            layer: Index of the layer.
            query: (B, H, Q, D).
            key: (B, H or fewer, K, D).
            mask: Additive or boolean mask, (B, 1, Q, K); None for a causal one.
            scaling: Factor of the dot products.
        """
        n = min(self._queries, query.shape[2])
        asked = self._asked.setdefault(layer, [])
        if len(asked) == len(self._allowed):  # the first layer of the pass; the mask is the same in all of them
            self._allowed.append(_allowed(query, key, mask, n))
        last = query[:, :, query.shape[2] - n :].detach()
        asked.append(last if n == query.shape[2] else last.clone())  # a view would hold all of a prompt's queries
        self._keys[layer], self._scaling[layer] = key.detach(), scaling

    @torch.inference_mode()
    def _compute(self) -> None:
        """Compute the rows of the pending passes.

        Several tokens at a time cost a fraction of as many times one: the products are larger, and there are fewer of
        them. Keys are only ever appended, so those of the latest pass serve the earlier ones.
        """
        if not self._asked:
            return
        # What each query sees: nothing that came after it.
        keys = self._keys[next(iter(self._keys))].shape[2]
        batch = max(allowed.shape[0] for allowed in self._allowed)
        allowed = torch.cat(
            [pad(each, (0, keys - each.shape[3])).expand(batch, -1, -1, -1) for each in self._allowed], dim=2
        )
        visible = allowed[:, 0].sum(-1).expand(len(self._rows), -1).cpu().numpy()  # (B, n)
        first = keys - allowed.shape[2] if allowed[..., : keys - allowed.shape[2]].all() else 0
        hidden = ~allowed[..., first:]
        # The audio's columns: a slice where they are the same in all rows.
        spans = [self._audio[row] for row in self._rows]
        width = max((len(span) for span in spans), default=0)
        columns = None
        if any(span != spans[0] for span in spans):
            offsets, starts = torch.arange(width), torch.tensor([span.start for span in spans])
            columns = (starts[:, None] + offsets).clamp(max=keys - 1)[:, None, None].to(hidden.device)
        count, heads = allowed.shape[2], self._asked[next(iter(self._asked))][0].shape[1]
        shape = (len(self._rows), count, len(self._asked), heads, width)
        audio = torch.empty(shape, device=hidden.device)  # one buffer: no layer's whole rows outlive the layer
        for place, layer in enumerate(sorted(self._asked)):
            query, key = torch.cat(self._asked[layer], dim=2), self._keys[layer]
            scores = _scores(query, key, self._scaling[layer])  # (B, H, n, K)
            scores[..., first:].masked_fill_(hidden, float("-inf"))
            weights = torch.softmax(scores, dim=-1)
            if columns is None:
                found = weights[..., spans[0].start : spans[0].stop]
            else:
                found = weights.gather(-1, columns.expand(*weights.shape[:3], -1))
            audio[:, :, place] = found.transpose(1, 2)
        self._asked, self._keys, self._allowed = {}, {}, []
        kept = audio.cpu().numpy()
        for place, row in enumerate(self._rows):
            self._stores[row].add(kept[place, ..., : len(self._audio[row])], visible[place])


def _allowed(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, n: int) -> torch.Tensor:
    """Return which keys the last n queries see: bool (B or 1, 1, n, K)."""
    keys = key.shape[2]
    if mask is None:
        last = keys - n + torch.arange(n, device=query.device)
        return (torch.arange(keys, device=query.device)[None] <= last[:, None])[None, None]
    mask = mask[:, :, mask.shape[2] - n :, :keys]
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def _scores(query: torch.Tensor, key: torch.Tensor, scaling: float) -> torch.Tensor:
    """Return (B, H, n, K) scaled dot products in float32."""
    batch, heads, n, size = query.shape
    groups, keys = key.shape[1], key.shape[2]
    rows = (query.float() * scaling).reshape(batch, groups, heads // groups * n, size)
    return torch.matmul(rows, key.float().transpose(-1, -2)).reshape(batch, heads, n, keys)


def _attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    probe, scaling = _listening.get(), kwargs.get("scaling") or query.shape[-1] ** -0.5
    if probe is not None:
        probe.observe(module.layer_idx, query, key, attention_mask, scaling)
    if query.shape[2] == 1 and query.device.type == "cpu" and not query.requires_grad:
        return _one_query(query, key, value, attention_mask, scaling), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _one_query(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """Compute attention of one query: (B, 1, H, D), scores and softmax in float32.

    Query heads that share a key head are multiplied together. The stock function repeats keys and values for each query
    head, and its fused operator is slow for one query (times: ``benchmarks/README.md``).

    Args:
        query: (B, H, 1, D).
        key: (B, H or fewer, K, D).
        value: As ``key``.
        mask: Additive or boolean mask, (B, 1, 1, K); None where every key is seen.
        scaling: Factor of the dot products.
    """
    scores = _scores(query, key, scaling)  # (B, H, 1, K)
    if mask is not None:
        mask = mask[..., : key.shape[2]]
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    batch, groups = key.shape[:2]
    weights = torch.softmax(scores, dim=-1).to(value.dtype).reshape(batch, groups, -1, key.shape[2])
    return torch.matmul(weights, value).reshape(batch, 1, query.shape[1], value.shape[-1])


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


class _Store:
    """The growing record of one prompt, held under a budget of bytes.

    When it grows over the budget it keeps the mean over heads; when that is still too much, sums of neighbouring
    frames, twice as many each time. A budget of 0 keeps the mass alone.
    """

    def __init__(self, audio_positions: int, frame_s: float, budget: int) -> None:
        self.frame_s = frame_s
        self.audio_positions = audio_positions
        self.budget = budget
        self.heads: Literal["all", "mean", "none"] = "all" if budget else "none"
        self.frames = 1  # per column
        self.rows: list[np.ndarray] = []
        self.mass: list[np.ndarray] = []
        self.visible: list[np.ndarray] = []
        self.bytes = 0

    def add(self, audio: np.ndarray, visible: np.ndarray) -> None:
        """Append the attention of some queries.

        Args:
            audio: Attention to each audio position, (queries, L, H, F), float32.
            visible: How many positions each query sees, (queries,).
        """
        self.mass.append(audio.sum(axis=-1))
        self.visible.append(visible.astype(np.int32))
        if self.heads == "none":
            self.rows.append(np.zeros((*audio.shape[:2], 1, 0), dtype=np.float16))
            return
        if self.heads == "mean":
            audio = audio.mean(axis=2, keepdims=True)
        self._append(_sum_columns(audio, self.frames))
        while self.bytes > self.budget and (self.heads == "all" or self.rows[0].shape[-1] > 1):
            self._shrink()

    def _append(self, audio: np.ndarray) -> None:
        self.rows.append(torch.from_numpy(np.ascontiguousarray(audio)).half().numpy())  # five times NumPy's speed
        self.bytes += self.rows[-1].nbytes

    def _shrink(self) -> None:
        if self.heads == "all":
            smaller = [rows.astype(np.float32).mean(axis=2, keepdims=True) for rows in self.rows]
            self.heads = "mean"
        else:
            smaller = [_sum_columns(rows.astype(np.float32), 2) for rows in self.rows]
            self.frames *= 2
        self.rows, self.bytes = [], 0
        for rows in smaller:
            self._append(rows)

    def record(self, tokens: int) -> AttentionRecord:
        return AttentionRecord(
            rows=np.concatenate(self.rows)[:tokens],
            mass=np.concatenate(self.mass)[:tokens].astype(np.float32),
            visible=np.concatenate(self.visible)[:tokens],
            audio_positions=self.audio_positions,
            frame_s=self.frame_s * self.frames,
            heads=self.heads,
            frames_per_column=self.frames,
        )


def _sum_columns(audio: np.ndarray, frames: int) -> np.ndarray:
    if frames == 1:
        return audio
    return np.add.reduceat(audio, np.arange(0, audio.shape[-1], frames), axis=-1)
