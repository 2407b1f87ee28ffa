"""Evaluations against a local server, in short: what the tests of runs share."""

from __future__ import annotations

from mpar2.arms import arm_from_json
from mpar2.engines.server import ServerEngine
from mpar2.evaluation import Settings, evaluate
from mpar2.llm import RetryPolicy
from testing.wire import openai_reply

FAST = RetryPolicy(max_tries=2, base_s=0.01)


def arm(name="a", model="m", **options):
    return arm_from_json({"name": name, "model": model, "mode": "cot", **options})


def oracle_of(items):
    """A plan for the local server that answers each question rightly."""
    truth = {item.question.text: item.question.answer for item in items.items}

    def plan(call):
        answer = next(truth[text] for text in truth if text in call.text)
        return openai_reply(f"<think>I hear it.</think><answer>{answer}</answer>")

    return plan


def server_engine(*urls, **options):
    return ServerEngine([url + "/v1" for url in urls], policy=FAST, check_audio=False, **options)


def ask(url, items, arms, folder, **settings):
    return evaluate(items, arms, server_engine(url), folder, Settings(**settings))
