"""``--plan``: operators counted on a model's shapes, and estimates that follow from them."""

from __future__ import annotations

import pytest
import torch

from mpar2.engines.checkpoint import load_checkpoint
from training.__main__ import main
from training.plan import DEVICES, Load, count_costs, plan_training
from training.recipe import RecipeError, load_recipe


def test_counted_operations_are_those_of_the_real_model():
    """Against the count of the loaded weights on the CPU, without an adapter."""
    from torch.utils.flop_counter import FlopCounterMode

    loaded = load_checkpoint("tiny-base", device="cpu", dtype="float32")
    text = loaded.model.model.language_model
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        text(inputs_embeds=torch.zeros(1, 300, loaded.model.config.get_text_config().hidden_size), use_cache=False)
    bare = count_costs(load_recipe("tiny", ["lora=~"]), loaded.model.config)
    shape = loaded.model.config.get_text_config()  # of attention the counter of the CPU counts nothing
    assert bare.token * 300 == pytest.approx(counter.get_total_flops(), rel=1e-6)
    assert bare.attention == 4 * shape.num_hidden_layers * shape.hidden_size
    assert bare.update == pytest.approx(3.0, rel=0.01)  # backward of all weights costs two passes
    assert bare.weights == sum(w.numel() for w in (*text.layers.parameters(), loaded.model.lm_head.weight))
    adapted = count_costs(load_recipe("tiny"), loaded.model.config)
    assert 1.0 < adapted.token / bare.token < 1.3 and adapted.update < bare.update
    assert adapted.launches == bare.launches > 20 * len(text.layers)  # rollouts merge the adapter


def test_estimates_follow_what_they_rest_on():
    def plan(method="grpo", overrides=(), **more):
        recipe = load_recipe("qwen2.5-omni-7b", list(overrides))
        return plan_training(method, recipe, device=DEVICES["h100"], **{"devices": 4, "price": 2.0} | more)

    usual, longer = plan(), plan(overrides=["grpo.max_completion_length=1536"])
    assert usual.steps == 1000 and usual.money == pytest.approx(usual.hours * 8)
    assert longer.seconds["rollout"] == pytest.approx(2 * usual.seconds["rollout"], rel=0.05)
    assert longer.memory_gb > usual.memory_gb > 2 * 8.9  # weights in bfloat16
    assert plan(overrides=["grpo.beta=0"]).seconds["passes"] < usual.seconds["passes"]
    assert plan(load=Load(clip_s=60)).seconds["tower"] == pytest.approx(6 * usual.seconds["tower"])
    assert plan("sft").hours is None and "items" in plan("sft").text()
    assert plan("sft", load=Load(items=4600)).steps == 288  # 2 epochs of 4,600 examples, 32 a step
    assert "does not fit" in plan(overrides=["lora=~"], devices=1).text()


def test_the_command_prints_a_plan_and_makes_nothing(tmp_path, capsys):
    options = ["--plan", "--device", "a100-80gb", "--devices", "4", "--price", "1.5", f"out={tmp_path / 'run'}"]
    assert main(["grpo", "--recipe", "qwen2-audio-7b", *options]) == 0
    text = capsys.readouterr().out
    assert "estimate for 4 x a100-80gb" in text and "nothing was run" in text and "steps   1000" in text
    assert not (tmp_path / "run").exists()
    assert main(["grpo", "--recipe", "tiny", "--plan", "--device", "tpu"]) == 2
    assert "choose cpu, " in capsys.readouterr().err
    with pytest.raises(RecipeError, match="no configuration of 'me/unknown'"):
        plan_training("sft", load_recipe("tiny", ["model=me/unknown"]), device=DEVICES["h100"])
