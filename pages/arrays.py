"""Arrays inside the comparison document: one byte a value, one float32 scale a row.

A row is the last axis. ``value = byte / 255 * scale``, so every value is exact to 0.2 % of its row's maximum, which is
finer than any colour scale, at an eighth of the size of float64. ``unpack`` in ``view/data.js`` is the counterpart.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np


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
