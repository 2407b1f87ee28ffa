"""Checkpoints of int8 rows decode with int8 products on a CPU: the same numbers, up to rounding, on every path."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mpar2.audio import load_clip
from mpar2.engines.base import Arm, Decoding, Request
from mpar2.engines.int8_linear import Int8Linear, float_rows, int8_rows
from mpar2.engines.names import CHECKPOINTS
from mpar2.engines.rows import pack
from mpar2.engines.transformers import TransformersEngine
from mpar2.question import make_question


def test_a_row_is_rounded_by_at_most_half_a_step() -> None:
    weight = torch.randn(1300, 96) * torch.rand(1300, 1)
    rows, scale = int8_rows(weight)
    steps = (float_rows(rows, scale, torch.float32) - weight).abs() / scale[:, None]
    assert steps.max() <= 0.5 + 1e-4 and rows.abs().max() == 127


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [64, 40])  # 40: no multiple of 16
def test_few_and_many_inputs_give_the_product_of_the_rounded_weight(dtype: torch.dtype, bias: bool, width: int) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(width, 48, bias=bias).to(dtype)
    rows, scale = int8_rows(linear.weight.detach())
    layer = Int8Linear(rows, scale, linear.bias, dtype)
    weight = float_rows(rows, scale, torch.float32)
    for shape in ((1, 1, width), (2, 5, width), (3, 40, width)):
        x = torch.randn(shape)[:, -1] if shape[1] == 5 else torch.randn(shape)  # the last position: with strides
        expected = nn.functional.linear(x, weight, linear.bias if linear.bias is None else linear.bias.float())
        output = layer(x.to(dtype))
        assert output.dtype == dtype and output.shape == expected.shape
        assert (output.float() - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pair, its base as int8 rows."""
    folder = tmp_path_factory.mktemp("packed")
    pack(CHECKPOINTS / "tiny-base", folder / "tiny-base")
    shutil.copytree(CHECKPOINTS / "tiny-mpar2", folder / "tiny-mpar2")
    return folder


def _text_layers(engine: TransformersEngine) -> list[nn.Module]:
    (loaded,) = engine._models.values()
    return [
        module.get_base_layer() if hasattr(module, "get_base_layer") else module
        for name, module in loaded.checkpoint.model.named_modules()
        if name.endswith(("q_proj", "down_proj")) and "audio_tower" not in name
    ]


def test_a_pair_of_int8_rows_reasons_with_its_adapter_as_with_floats(packed: Path) -> None:
    """Base and adapter in a batch, alone, and asked for in float32, where the rows are floats again."""
    samples = np.sin(np.arange(32_000) * 0.2).astype(np.float32) * 0.3
    clip, question = load_clip((16_000, samples)), make_question("Which sound is it?", ["a bell", "a piano"])
    base, trained = str(packed / "tiny-base"), str(packed / "tiny-mpar2")
    replies = {}
    for dtype in (None, "float32"):
        arms = [Arm("base", base, None, "cot", dtype=dtype), Arm("mpar2", trained, None, "mpar2", dtype=dtype)]
        engine = TransformersEngine(device="cpu")
        requests = [Request(clip, question, arm) for arm in arms]
        decoding = Decoding(max_new_tokens=24)
        both = engine.generate_batch(requests, decoding, batch_size=2, attention="full")
        alone = engine.generate_batch(requests[1:], decoding, batch_size=1)
        assert all(isinstance(layer, Int8Linear) == (dtype is None) for layer in _text_layers(engine))
        assert all(np.isfinite(generation.attention.mass).all() for generation in both)
        replies[dtype] = [generation.text for generation in (*both, *alone)]
    assert replies[None][1][:30] == replies[None][2][:30] == replies["float32"][1][:30]
    assert replies[None][1] != replies[None][0], "the adapter acts"
