"""A merged adapter: the same model, fewer operators, and a base that is restored bit by bit."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from torch.profiler import profile

from mpar2.engines.checkpoint import load_checkpoint
from mpar2.engines.merge import merged_adapter


@pytest.fixture
def adapted(tiny_checkpoint, tiny_adapter):
    loaded = load_checkpoint(str(tiny_checkpoint), device="cpu", dtype="float32")
    return PeftModel.from_pretrained(loaded.model, tiny_adapter).eval()


IDS = torch.arange(20, 32)[None]


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS).logits


def test_logits_are_those_of_the_adapter_and_the_base_comes_back(adapted):
    unmerged = logits(adapted)
    before = {name: weight.clone() for name, weight in adapted.named_parameters()}
    with merged_adapter(adapted):
        merged = logits(adapted)
    assert torch.allclose(merged, unmerged, atol=1e-4)
    with adapted.disable_adapter():
        assert not torch.allclose(merged, logits(adapted), atol=1e-2), "the adapter changes nothing: no test"
    assert all(torch.equal(weight, before[name]) for name, weight in adapted.named_parameters())
    assert torch.equal(logits(adapted), unmerged)


def test_an_error_inside_restores_the_base(adapted):
    unmerged = logits(adapted)
    with pytest.raises(KeyboardInterrupt), merged_adapter(adapted):
        raise KeyboardInterrupt
    assert torch.equal(logits(adapted), unmerged)


def test_a_pass_takes_fewer_operators(adapted):
    def operators() -> int:
        with profile() as seen:
            logits(adapted)
        return sum(event.count for event in seen.key_averages() if event.key.startswith("aten::"))

    plain = operators()
    with merged_adapter(adapted):
        assert operators() < 0.9 * plain


def test_a_disabled_adapter_is_not_merged(adapted):
    with adapted.disable_adapter():
        base = logits(adapted)
        with merged_adapter(adapted):
            assert torch.equal(logits(adapted), base)


def test_a_model_without_an_adapter_is_left_alone(tiny_checkpoint):
    model = load_checkpoint(str(tiny_checkpoint), device="cpu", dtype="float32").model
    with merged_adapter(model):
        assert torch.isfinite(logits(model)).all()
