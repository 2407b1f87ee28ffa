"""Replace groups whose rewards are all equal by groups of other prompts (dynamic sampling of DAPO, arXiv 2503.14476).

Such a group has zero advantage everywhere and adds no gradient at full cost. DAPO samples until a batch is full of
groups with variance; here at most ``resample_rounds`` times, so that the cost of a step is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def flat_groups(advantages: torch.Tensor, size: int) -> list[int]:
    """Return the indices of the groups of ``size`` rows whose advantages, (N,), are all zero."""
    groups = advantages.view(-1, size)
    return (groups == 0).all(dim=1).nonzero().flatten().tolist()


def replace_groups(
    batch: Mapping[str, Any],
    fresh: Mapping[str, Any],
    places: Sequence[int],
    sources: Sequence[int],
    size: int,
    pad: int,
) -> dict[str, Any]:
    """Copy groups of one generation batch into another.

    Args:
        batch: Tensors with a row for each completion, as TRL makes them. Prompts are padded on the left, all others on
            the right. Other entries are unchanged.
        fresh: The batch that groups are copied from, with the same keys.
        places: Indices of the groups of ``batch`` to replace.
        sources: Indices of as many groups of ``fresh``.
        size: Completions in a group.
        pad: Token id that pads prompts and completions.

    Returns:
        A new batch; its columns are as wide as the wider of the two.
    """
    merged = dict(batch)
    count = len(batch["completion_ids"])
    for key, value in batch.items():
        if not isinstance(value, torch.Tensor) or value.dim() == 0 or len(value) != count:
            continue
        other = fresh[key]
        if value.dim() > 1 and value.shape[1] != other.shape[1]:
            width = max(value.shape[1], other.shape[1])
            fill = pad if key in ("prompt_ids", "completion_ids") else 0
            value, other = (_pad_to_width(rows, width, fill, left=key.startswith("prompt_")) for rows in (value, other))
        value = value.clone()
        for place, source in zip(places, sources, strict=True):
            value[place * size : (place + 1) * size] = other[source * size : (source + 1) * size]
        merged[key] = value
    return merged


def _pad_to_width(rows: torch.Tensor, width: int, fill: int, *, left: bool) -> torch.Tensor:
    missing = width - rows.shape[1]
    return torch.nn.functional.pad(rows, (missing, 0) if left else (0, missing), value=fill)
