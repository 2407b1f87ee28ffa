"""Records attention to audio while a model generates, without changing what it generates.

transformers lets a program register an attention function. Ours computes the output with the stock SDPA function and,
while a probe listens, the softmax row of the last queries alone, of which it keeps the audio columns. T×T is never
held: for one query and K keys it costs one product of size heads × K in each layer.

Only the text stack is switched to it (the encoder keeps its own), and with no probe listening it *is* SDPA. Which probe
listens is a context variable that is set around one forward pass, so models in other threads do not see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mpar2.attention import AttentionRecord

__all__ = ["MEMORY_BUDGET", "Probe", "install"]

MEMORY_BUDGET = 64 * 2**20  # bytes of one record's rows
_NAME = "mpar2_probe"

_listening: ContextVar[Probe | None] = ContextVar("listening", default=None)


def install(model: Any) -> bool:
    """Route the text stack's attention through the probe.

    Returns:
        False if the model has sliding windows, whose columns move.
    """
    text = model.config.get_text_config()
    if any(kind != "full_attention" for kind in getattr(text, "layer_types", None) or ()):
        return False
    model.set_attn_implementation({"text_config": _NAME})
    return True


class Probe:
    """Collects one record for each prompt of a batch.

    ``audio[i]`` are the positions of prompt i's audio *in the padded batch*, each of ``frame_s`` seconds. Listen with
    ``with probe.listen(rows)`` around a forward pass, where ``rows`` are the prompts that the pass holds, in order.
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
        self._queries = 1
        self._columns: slice | torch.Tensor = slice(0)
        self._inside: torch.Tensor | None = None  # None: the columns are a slice, the same for all rows
        self._allowed: torch.Tensor | None = None
        self._visible: torch.Tensor | None = None
        self._layers: dict[int, torch.Tensor] = {}

    @contextmanager
    def listen(self, rows: Sequence[int], queries: int = 1) -> Iterator[None]:
        """Record the last queries of the forward pass inside.

        Args:
            rows: Prompts of the batch's rows.
            queries: Queries of each row, at the end of the pass.
        """
        self._queries, self._layers, self._visible = queries, {}, None
        spans = [self._audio[row] for row in rows]
        if spans and all(span == spans[0] for span in spans):
            self._columns, self._inside = slice(spans[0].start, spans[0].stop), None
        else:
            offsets = torch.arange(max((len(span) for span in spans), default=0))
            starts = torch.tensor([span.start for span in spans])
            self._inside = offsets[None] < torch.tensor([len(span) for span in spans])[:, None]
            self._columns = torch.where(self._inside, starts[:, None] + offsets[None], 0)
        token = _listening.set(self)
        try:
            yield
        finally:
            _listening.reset(token)
        audio = torch.stack([self._layers[layer] for layer in sorted(self._layers)], dim=2)  # (B, queries, L, H, F)
        audio = audio.float().cpu().numpy()
        visible = self._visible.cpu().numpy() if self._visible is not None else np.zeros(audio.shape[:2])
        for place, row in enumerate(rows):
            self._stores[row].add(audio[place, ..., : len(self._audio[row])], visible[place])
        self._layers = {}

    def record(self, row: int, tokens: int) -> AttentionRecord:
        """Return the record of prompt ``row``, cut to its first ``tokens`` tokens."""
        return self._stores[row].record(tokens)

    def observe(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scaling: float
    ) -> None:
        """Record one layer; the attention function calls it.

        Args:
            layer: Index of the layer.
            query: (B, H, Q, D).
            key: (B, H or fewer, K, D).
            mask: Additive or boolean mask, (B, 1, Q, K); None for a causal one.
            scaling: Factor of the dot products.
        """
        if self._visible is None:  # the same in every layer
            allowed = _allowed(query, key, mask, self._queries)  # (B or 1, 1, n, K)
            self._visible = allowed[:, 0].sum(-1).expand(query.shape[0], -1)
            self._allowed = None if allowed.all() else allowed
        weights = _last_rows(query, key, self._allowed, scaling, self._queries)  # (B, H, n, K)
        if self._inside is None:
            audio = weights[..., self._columns]
        else:
            columns = self._columns.to(weights.device)[:, None, None, :].expand(*weights.shape[:3], -1)
            audio = weights.gather(-1, columns) * self._inside.to(weights.device)[:, None, None, :]
        self._layers[layer] = audio.transpose(1, 2)


def _allowed(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, n: int) -> torch.Tensor:
    """Which keys the last n queries see: bool (B or 1, 1, n, K)."""
    n, keys = min(n, query.shape[2]), key.shape[2]
    if mask is None:
        last = keys - n + torch.arange(n, device=query.device)
        return (torch.arange(keys, device=query.device)[None] <= last[:, None])[None, None]
    mask = mask[:, :, mask.shape[2] - n :, :keys]
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def _last_rows(
    query: torch.Tensor, key: torch.Tensor, allowed: torch.Tensor | None, scaling: float, n: int
) -> torch.Tensor:
    """Softmax rows of the last n queries, in float32. ``allowed``: None where they see every key."""
    batch, heads, length, size = query.shape
    n = min(n, length)
    groups, keys = key.shape[1], key.shape[2]
    rows = (query[:, :, length - n :].float() * scaling).reshape(batch, groups, heads // groups * n, size)
    scores = torch.matmul(rows, key.float().transpose(-1, -2)).reshape(batch, heads, n, keys)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return torch.softmax(scores, dim=-1)


def _attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    probe = _listening.get()
    if probe is not None:
        probe.observe(module.layer_idx, query, key, attention_mask, kwargs.get("scaling") or query.shape[-1] ** -0.5)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


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
        """``audio`` is (queries, L, H, F) in float32."""
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
