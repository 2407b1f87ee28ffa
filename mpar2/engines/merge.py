"""Merge a LoRA adapter into its base during generation, and restore the base bit by bit afterwards.

An unmerged adapter nearly doubles the operators of a decoded token (two more matrix products and an addition for each
adapted layer). PEFT's own ``merge_adapter`` and ``unmerge_adapter`` add and subtract the update, which rounds the base
weights each time; here the base tensors are saved and restored.

Cost: a second copy of the adapted weights while the context is open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["merged_adapter"]


@contextmanager
@torch.no_grad()
def merged_adapter(model: Any, adapter: str | None = None) -> Iterator[None]:
    """Run the block with ``adapter`` merged into the weights of ``model``.

    Args:
        model: A PEFT model, or a transformers model with PEFT layers, not sharded. Without such layers nothing happens.
        adapter: Name of the adapter; by default the active one.

    Raises:
        ValueError: A layer has several active adapters, or is merged already.
    """
    from peft.tuners.lora import LoraLayer

    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    changed: list[tuple[Any, torch.nn.Parameter, torch.Tensor, bool]] = []
    try:
        for layer in layers:
            names = [adapter] if adapter is not None else list(layer.active_adapters)
            if len(names) != 1 or layer.merged:
                raise ValueError(f"one adapter that is not merged yet is needed, a layer has {names}")
            if layer.disable_adapters or names[0] not in layer.lora_A:
                continue  # disabled, or not adapted by this adapter
            weight = layer.get_base_layer().weight
            if not weight.is_floating_point() or any(layer.use_dora.values()):
                continue  # quantised weights and DoRA are more than a sum: leave the layer unmerged
            delta = layer.get_delta_weight(names[0])
            changed.append((layer, weight, weight.data, layer._disable_adapters))
            weight.data = (weight.data.float() + delta.float()).to(weight.dtype)
            layer._disable_adapters = True  # so that the forward pass uses the base layer alone
        yield
    finally:
        for layer, weight, original, disabled in changed:
            weight.data = original
            layer._disable_adapters = disabled
