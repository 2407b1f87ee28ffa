"""Rollouts by a server: real log-probabilities, fresh weights, and a stop where audio or weights are missing."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpar2.engines.processor import AudioProcessor
from mpar2.llm.limits import Limiter
from mpar2.llm.openai_server import OpenAIClient
from mpar2.question import Item
from testing.rollout_server import RolloutServer, serve_rollouts
from testing.wire import Call, HttpReply, openai_reply, serve
from tests.test_grpo import Spy, trainer, write_items
from training.judge_ahead import JudgeAhead
from training.recipe import RecipeError, load_recipe
from training.rewards import make_rewards
from training.rewards.judge import JudgeScorer
from training.rollouts import RolloutError, ServerRollouts
from training.run import train


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[Item]:
    return write_items(tmp_path_factory.mktemp("clips"), 3)


DELAY_S = 0.3  # of the slow judge


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


def test_the_next_batch_is_asked_for_before_this_one_is_trained_on(tiny_checkpoint, items, tmp_path):
    """One update old, corrected by ratios; each batch is trained on once, in the order of the trainer without it."""
    seen = {}
    for ahead in (False, True):
        folder, asked = tmp_path / str(ahead), []  # requests that the server has when rewards are computed

        class Late(Spy):
            def __call__(self, *args, **columns):
                until = time.monotonic() + (20 if ahead and len(asked) < 2 else 0)  # noqa: B023 - called at once
                while len(server.requests) == len(asked) + 1 and time.monotonic() < until:  # noqa: B023
                    time.sleep(0.01)
                asked.append(len(server.requests))  # noqa: B023
                return super().__call__(*args, **columns)

        spy = Late()
        with serve_rollouts(RolloutServer(tiny_checkpoint)) as server:
            rollouts = ServerRollouts(
                base_url=server.url, checkpoint=str(tiny_checkpoint), folder=folder, tolerance=0.5, ahead=ahead
            )
            options = {"max_steps": 3, "learning_rate": 1e-2}
            made = trainer(tiny_checkpoint, items, folder, spy, rollouts=rollouts, options=options)
            made.train()
        seen[ahead] = spy.ids
        models = [body["model"] for body in server.requests]
        logs = [line for line in made.state.log_history if "reward" in line]
        if ahead:
            assert models[:3] == ["policy-0", "policy-0", "policy-1"]
            assert asked[:2] == [2, 3], "the server waits for the rewards and passes of the batch before"
            assert logs[0]["rollout/logp_difference"] < 1e-4 < logs[1]["rollout/logp_difference"] < 0.5
        else:
            assert models == ["policy-0", "policy-1", "policy-2"]
        assert all(line["grad_norm"] > 0 for line in logs)
    assert seen[True] == seen[False]


def test_a_slow_judge_works_while_completions_are_generated(tiny_checkpoint, tmp_path):
    """Groups are judged as they arrive, and no trace is sent twice (benchmarks.grpo_server times it)."""
    generated, judged = [], []

    class Timed(RolloutServer):
        def complete(self, body):
            reply = super().complete(body)
            generated.append(time.monotonic())
            return reply

    def plan(call: Call) -> HttpReply:
        judged.append(time.monotonic())
        steps = int(re.search(r'"steps_in_reasoning": (\d+)', call.text)[1])
        marks = {"perception": 0.5, "steps": [0.5] * steps, "review": 0.0, "thinking": 0.0, "consistent": 0.0}
        return replace(openai_reply(json.dumps(marks)), delay_s=DELAY_S)

    with serve_rollouts(Timed(tiny_checkpoint)) as server, serve(plan) as judge:
        client = OpenAIClient("judge", judge.url + "/v1", api_key="k", limiter=Limiter(in_flight=8))
        functions, _ = make_rewards({"perception": {}, "step": {}, "format": {}}, JudgeScorer(client, in_flight=8))
        rollouts = ServerRollouts(base_url=server.url, checkpoint=str(tiny_checkpoint), folder=tmp_path / "r")
        options = {"per_device_train_batch_size": 32, "max_completion_length": 24}
        folder = tmp_path / "items"
        folder.mkdir()
        made = trainer(tiny_checkpoint, write_items(folder, 8), tmp_path, functions, rollouts=rollouts, options=options)
        made.train()
    (log,) = [line for line in made.state.log_history if "reward" in line]
    assert len(generated) == 8 and len(judged) == 32  # 8 groups of 4 traces, which all differ
    assert sum(at < generated[-1] for at in judged) >= 8, "most judging waits for the last group"
    assert log["rewards/perception/unscored"] == 0


def test_a_judge_that_still_works_at_the_end_of_a_training_is_given_up(tiny_checkpoint):
    """Completions asked ahead for a step that never comes leave no task behind."""
    from trl.trainer.utils import shutdown_event_loop_in_daemon, start_event_loop_in_daemon

    class Slow:
        began, ended = threading.Event(), []

        async def score(self, sample):
            self.began.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.ended.append(sample.text)
                raise

    def reward(): ...

    reward.scorer = Slow()
    thread, loop, ready = start_event_loop_in_daemon(name="test")
    ready.wait()
    ahead = JudgeAhead([reward], AudioProcessor.from_pretrained(tiny_checkpoint), loop)
    rows, ids = [{"question": "What is it?"}], [[10, 11, 12]]
    ahead.ask(rows, ids)
    assert reward.scorer.began.wait(30)
    ahead.close()
    ahead.ask(rows, ids)  # a late arrival of a dropped batch
    time.sleep(0.1)
    assert len(reward.scorer.ended) == 1 and not asyncio.run_coroutine_threadsafe(_others(), loop).result()
    ahead.open()  # the trainer trains again
    reward.scorer.began.clear()
    ahead.ask(rows, ids)
    assert reward.scorer.began.wait(30)
    ahead.close()
    shutdown_event_loop_in_daemon(thread, loop)


async def _others() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


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
