"""Rollouts by a server: real log-probabilities, fresh weights, and a stop where audio or weights are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mpar2.question import Item
from testing.rollout_server import RolloutServer, serve_rollouts
from tests.test_grpo import Spy, trainer, write_items
from training.recipe import RecipeError, load_recipe
from training.rollouts import RolloutError, ServerRollouts
from training.run import train


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[Item]:
    return write_items(tmp_path_factory.mktemp("clips"), 3)


def trained(server: RolloutServer, checkpoint: Path, items: list[Item], folder: Path, **options):
    settings = {"wait_minutes": 0.5, "tolerance": 0.02} | options
    rollouts = ServerRollouts(base_url=server.url, checkpoint=str(checkpoint), folder=folder / "rollouts", **settings)
    config = {"max_steps": 3, "learning_rate": 5e-2}
    made = trainer(checkpoint, items, folder, Spy(), rollouts=rollouts, options=config)
    made.train()
    return made


def test_a_server_makes_the_completions_with_the_weights_of_each_step(tiny_checkpoint, items, tmp_path):
    with serve_rollouts(RolloutServer(tiny_checkpoint)) as server:
        made = trained(server, tiny_checkpoint, items, tmp_path)
    logs = [line for line in made.state.log_history if "reward" in line]
    assert len(logs) == 3 and server.adapters == ["policy-0", "policy-1", "policy-2"]
    for line in logs:
        assert line["grad_norm"] > 0 and line["rollout/logp_difference"] < 1e-4
        assert line["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=1e-3)
        assert line["time/rollout_s"] > 0 and line["time/sync_s"] > 0 and line["rollout/tokens_per_s"] > 0
    bodies = server.requests
    assert {body["n"] for body in bodies} == {4} and bodies[-1]["model"] == "policy-2"


def test_a_server_that_does_not_use_the_audio_stops_the_training(tiny_checkpoint, items, tmp_path):
    with (
        serve_rollouts(RolloutServer(tiny_checkpoint, no_audio=True)) as server,
        pytest.raises(RolloutError, match="does not get the audio"),
    ):
        trained(server, tiny_checkpoint, items, tmp_path)


def test_a_server_that_keeps_old_weights_stops_the_training(tiny_checkpoint, items, tmp_path):
    with (
        serve_rollouts(RolloutServer(tiny_checkpoint, stale=True)) as server,
        pytest.raises(RolloutError, match="serves other weights"),
    ):
        trained(server, tiny_checkpoint, items, tmp_path, tolerance=1e-3)


def test_an_outage_pauses_the_training(tiny_checkpoint, items, tmp_path):
    with serve_rollouts(RolloutServer(tiny_checkpoint, outages=2)) as server:
        made = trained(server, tiny_checkpoint, items, tmp_path)
    assert made.state.global_step == 3


def test_a_server_that_stays_away_ends_the_training_in_words(tiny_checkpoint, items, tmp_path):
    server = RolloutServer(tiny_checkpoint, outages=10_000)
    with serve_rollouts(server), pytest.raises(RolloutError, match="go on with --resume"):
        trained(server, tiny_checkpoint, items, tmp_path, wait_minutes=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "0.10.2 or newer"),
        (["logprobs"], "0.10.2 or newer"),
    ],
)
def test_a_reply_without_ids_or_log_probabilities_is_refused(tiny_checkpoint, items, tmp_path, change, message):
    class Poor(RolloutServer):
        def complete(self, body):
            reply = super().complete(body)
            for choice in reply["choices"]:
                choice.pop("token_ids", None)
                for key in change:
                    choice[key] = None
            return reply

    with serve_rollouts(Poor(tiny_checkpoint)) as server, pytest.raises(RolloutError, match=message):
        trained(server, tiny_checkpoint, items, tmp_path)


def test_log_probabilities_are_compared_on_completion_tokens_only():
    client = ServerRollouts(base_url="http://127.0.0.1:9/v1", checkpoint="small", folder=Path("unused"))
    server = torch.tensor([[-1.0, -2.0, 0.0]])
    assert client.check(server, torch.tensor([[-1.0, -2.1, -9.0]]), torch.tensor([[1, 1, 0]])) == pytest.approx(0.05)
    with pytest.raises(RolloutError, match="no log-probabilities"):
        client.check(torch.full((1, 2), torch.nan), torch.zeros(1, 2), torch.ones(1, 2))


def test_a_recipe_names_the_server(tmp_path):
    options = ["smoke=false", "rollouts={name: server, base_url: http://127.0.0.1:9/v1}", "lora=~"]
    recipe = load_recipe("tiny", options)
    from training.run import _rollouts

    with pytest.raises(RecipeError, match="need LoRA"):
        _rollouts(recipe, tmp_path)
    with pytest.raises(RecipeError, match="base_url"):
        _rollouts(load_recipe("tiny", ["rollouts={name: server}"]), tmp_path)
    assert callable(train)
