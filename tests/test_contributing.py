"""The snippets of CONTRIBUTING.md run, and what they register is known where the text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mpar2 import engines
from mpar2.engines import engine_names, make_engine
from mpar2.engines.base import Arm, Request
from mpar2.llm import services
from mpar2.question import Question
from pages.scoring import judge_choices
from tests.conftest import make_clip
from training.rewards import functions, make_rewards, make_scorer

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_ENGINES", dict(engines._ENGINES))
    monkeypatch.setattr(services, "SERVICES", dict(services.SERVICES))
    monkeypatch.setattr(functions, "REWARDS", dict(functions.REWARDS))
    snippets = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(compile(snippet, "CONTRIBUTING.md", "exec"), {"__name__": "snippet"})


def test_the_engine_answers(registered) -> None:
    assert "first-choice" in engine_names()
    question = Question("Which?", ("a dog", "a cat"))
    made = make_engine("first-choice").generate_batch([Request(make_clip(), question, Arm("first", "any"))])
    assert made[0].choice == "a dog"


def test_the_service_is_a_judge_everywhere(registered) -> None:
    assert "my-provider" in services.service_names()
    assert any(value == "my-provider" for _, value in judge_choices())
    assert services.judge_model("my-provider", None) == "large-1"


def test_the_reward_is_given_a_weight_by_a_recipe(registered) -> None:
    rewards, weights = make_rewards({"brief": {"weight": 0.2, "most": 2}}, make_scorer())
    assert rewards[0](["a", "b"], completion_ids=[[1, 2], [1, 2, 3]]) == [1.0, 0.0] and weights == [0.2]


FILES = sorted(set(re.findall(r"`((?:mpar2|analysis|pages|training|tests|examples)/[\w/.]+)`", TEXT)))


@pytest.mark.parametrize("path", FILES)
def test_every_named_file_is_there(path: str) -> None:
    assert (Path(__file__).resolve().parents[1] / path).exists()
