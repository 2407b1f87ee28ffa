"""Stored form of an attention record, within a budget of bytes (``attention.jsonl`` of a run).

Comparisons of version 1 contain it too. :func:`record_of` reads it back, and ``pages.attention_view`` makes pictures.

    layers, heads      of the model
    audio_positions    encoder positions that the audio takes; visible [token]: positions that each token sees
    columns, column_s  columns of the heatmap and their length in seconds
    tokens             packed [layers or 1, heads or 1, token, column]: mean weight of one 40 ms frame of the column
    parts, parts_of    packed [layers, heads, part, column] and the indices of those parts; null where ``tokens``
                       keeps every head
    mass               packed [layers, heads or 1, token]: weight on all audio positions
    ratio, corrected   the arm's mean attention ratio and length-corrected ratio (mpar2.attention)

Arrays have one byte a value and one float32 scale a row (the last axis): ``value = byte / 255 * scale``, exact to 0.2 %
of the row's maximum, which is finer than any colour scale. ``unpack`` in ``view/arrays.js`` is the counterpart.

``tokens`` is null if the engine recorded the ratio alone. To stay within the budget, resolution is reduced in this
order, which preserves time the longest: average heads of tokens, average layers of tokens (parts keep both), average
heads of parts, join neighbouring columns, average layers of parts. A ``mass`` above half the budget (many layers and
heads) is averaged over heads.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from mpar2.attention import AttentionRecord, attention_ratio, corrected_ratio
from mpar2.trace import Trace

ATTENTION_BYTES = 300_000

_MOST_COLUMNS, _FEWEST_COLUMNS = 400, 100


def attention_document(record: AttentionRecord | None, trace: Trace, budget: int) -> dict[str, Any] | None:
    """Pack an attention record (see the module); None if nothing was recorded."""
    if record is None or not len(record.visible):
        return None
    tokens, layers, heads = record.mass.shape
    mass = record.mass.transpose(1, 2, 0)
    if mass.size > budget // 2:
        mass = mass.mean(axis=1, keepdims=True)
    document: dict[str, Any] = {
        "layers": layers,
        "heads": heads,
        "audio_positions": record.audio_positions,
        "visible": [int(n) for n in record.visible],
        "mass": pack(mass),
        "ratio": float(attention_ratio(record).mean()),
        "corrected": float(corrected_ratio(record).mean()),
        "columns": 0,
        "column_s": record.frame_s,
        "tokens": None,
        "parts": None,
        "parts_of": None,
    }
    # Without heatmap rows, only the ratios can be stored.
    if record.heads == "none" or not record.rows.size:
        return document
    weights = record.rows.astype(np.float32).transpose(1, 2, 0, 3) / record.frames_per_column  # (L, H, T, C)
    # Means over parts keep layers and heads longer than single tokens, at little cost.
    spans = [(i, p.tokens.start, min(p.tokens.stop, tokens)) for i, p in enumerate(trace.parts) if p.tokens]
    spans = [(i, start, stop) for i, start, stop in spans if stop > start]
    parts = _part_means(weights, [(start, stop) for _, start, stop in spans])
    weights, step = _join_columns(weights, _MOST_COLUMNS)
    parts, _ = _join_columns(parts, _MOST_COLUMNS)
    # Reduce the resolution in the order of the module's docstring until the budget is met.
    if weights.size > budget:
        weights = weights.mean(axis=1, keepdims=True)
        if weights.size + parts.size > budget:
            weights = weights.mean(axis=0, keepdims=True)
        if weights.size + parts.size > budget:
            parts = parts.mean(axis=1, keepdims=True)
        while weights.size + parts.size > budget and weights.shape[-1] > _FEWEST_COLUMNS:
            limit = max(_FEWEST_COLUMNS, weights.shape[-1] // 2)
            weights, factor = _join_columns(weights, limit)
            parts, _ = _join_columns(parts, limit)
            step *= factor
        if weights.size + parts.size > budget:
            parts = parts.mean(axis=0, keepdims=True)
        document |= {"parts": pack(parts), "parts_of": [index for index, _, _ in spans]}
    column_s = record.frame_s * step
    return document | {"columns": weights.shape[-1], "column_s": round(column_s, 6), "tokens": pack(weights)}


def _part_means(weights: np.ndarray, spans: list[tuple[int, int]]) -> np.ndarray:
    means = [weights[:, :, start:stop].mean(axis=2) for start, stop in spans]
    empty = np.zeros((*weights.shape[:2], 0, weights.shape[3]), dtype=np.float32)
    return np.stack(means, axis=2) if means else empty


def _join_columns(weights: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Average neighbouring columns to at most ``most`` columns; return them and the number joined into one."""
    step = -(-weights.shape[-1] // most)
    if step <= 1:
        return weights, 1
    starts = np.arange(0, weights.shape[-1], step)
    sizes = np.diff(np.append(starts, weights.shape[-1]))
    return np.add.reduceat(weights, starts, axis=-1) / sizes, step


def record_of(packed: dict[str, Any]) -> AttentionRecord:
    """Return the record that :func:`attention_document` packed, at its stored resolution.

    Raises:
        ValueError, KeyError, TypeError: The sizes of its arrays do not agree, or one is missing.
    """
    mass = unpack(packed["mass"])  # (L, H or 1, T)
    if mass.ndim != 3:
        raise ValueError(f"mass has shape {mass.shape}; expected layers, heads, tokens")
    visible = np.rint(np.asarray(packed["visible"], dtype=np.float64)).astype(np.int32)
    positions, frame_s = int(packed["audio_positions"]), float(packed["column_s"])
    if packed["tokens"] is None:
        rows = np.zeros((mass.shape[2], mass.shape[0], 1, 0), dtype=np.float16)
        return AttentionRecord(rows, mass.transpose(2, 0, 1), visible, positions, frame_s, "none")
    cells = unpack(packed["tokens"])  # (L or 1, H or 1, T, J): mean weight of one frame of the column
    if cells.ndim != 4 or cells.shape[2] != mass.shape[2]:
        raise ValueError(f"attention has shapes {cells.shape} and {mass.shape}")
    if cells.shape[0] != mass.shape[0]:
        mass = mass.mean(axis=0, keepdims=True)
    heads = "all" if cells.shape[1] > 1 else "mean"
    rows = cells.transpose(2, 0, 1, 3)  # already the mean of a frame: as if each column were one
    return AttentionRecord(rows, mass.transpose(2, 0, 1), visible, positions, frame_s, heads)


def pack(array: np.ndarray) -> dict[str, Any]:
    """Pack non-negative values of any shape ``[..., row]`` as ``{"shape", "scale", "data"}``; NaN becomes 0."""
    values = np.nan_to_num(np.asarray(array, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)
    if values.ndim == 0:
        raise ValueError("pack needs at least one axis, the row")
    scale = values.max(axis=-1, initial=0.0)
    safe = np.where(scale > 0, scale, 1.0)[..., None]
    data = np.rint(values / safe * 255).astype(np.uint8)
    return {
        "shape": list(values.shape),
        "scale": base64.b64encode(scale.astype("<f4").tobytes()).decode("ascii"),
        "data": base64.b64encode(data.tobytes()).decode("ascii"),
    }


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """Return the values that :func:`pack` wrote.

    Raises:
        ValueError: The sizes of shape, data and scale do not agree.
    """
    shape = tuple(int(n) for n in packed["shape"])
    data = np.frombuffer(base64.b64decode(packed["data"], validate=True), dtype=np.uint8)
    scale = np.frombuffer(base64.b64decode(packed["scale"], validate=True), dtype="<f4")
    if not shape or min(shape) < 0 or data.size != math.prod(shape) or scale.size != math.prod(shape[:-1]):
        raise ValueError(f"packed array of shape {shape} holds {data.size} values and {scale.size} scales")
    return data.reshape(shape).astype(np.float32) / 255 * scale.reshape(shape[:-1])[..., None]
