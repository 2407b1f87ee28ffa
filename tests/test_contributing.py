"""The snippets of CONTRIBUTING.md run, and what they register is known where the text says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile

from mpar2 import engines, prompts
from mpar2.audio import SAMPLE_RATE
from mpar2.cafe import judges
from mpar2.cafe.schema import Truth
from mpar2.cafe.score import read_scores
from mpar2.cli import main
from mpar2.engines import engine_names, make_engine
from mpar2.engines.base import Arm, Request
from mpar2.items import base as items
from mpar2.llm import services
from mpar2.question import Event, Question
from pages.compare import setup_of
from pages.running import Asked, Comparer
from pages.scoring import Judging, judge_choices, score_traces
from pages.services import Offer, Services
from tests.conftest import make_clip
from tests.test_cafe_score import write_run
from training import rewards
from training.recipe import load_recipe
from training.rewards import Sample, Scores, functions, make_rewards, make_scorer
from training.sources import read_source

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_ENGINES", dict(engines._ENGINES))
    monkeypatch.setattr(services, "SERVICES", dict(services.SERVICES))
    monkeypatch.setattr(items, "_READERS", dict(items._READERS))
    monkeypatch.setattr(prompts, "MODES", dict(prompts.MODES))
    monkeypatch.setattr(judges, "_JUDGES", dict(judges._JUDGES))
    monkeypatch.setattr(functions, "REWARDS", dict(functions.REWARDS))
    snippets = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(snippets) == 6
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


def test_the_benchmark_is_evaluated_and_trained_on(registered, tmp_path, capsys) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "run"
    table.write_text("id,audio,question,a,b,answer\n1,1.wav,Which?,a dog,a cat,A\n2,1.wav,And now?,a dog,a cat,a cat\n")
    soundfile.write(tmp_path / "1.wav", make_clip().samples, SAMPLE_RATE)
    command = ["evaluate", "--benchmark", "my-table", "--data", str(table), "--out", str(out)]
    assert main([*command, "--engine", "first-choice", "--model", "any", "--mode", "direct"]) == 0
    assert "50.0 %" in capsys.readouterr().out, "the answer A is the first choice, a cat is not"
    command[-1] = str(tmp_path / "three")
    assert main([*command, "--engine", "first-choice", "--base", "any"]) == 0
    printed = capsys.readouterr().out
    assert all(f"any {arm}" in printed for arm in ("direct", "free reasoning", "MPAR² prompt"))
    assert main([*command, "--engine", "first-choice", "--base", "any", "--mode", "cot"]) == 2
    source = read_source({"kind": "my-table", "data": str(table)})
    assert [item.question.answer for item in source.items] == ["a dog", "a cat"]
    assert Path(source.items[0].audio).is_file()


def test_an_installed_package_registers_its_own(registered, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "their_readers.py").write_text("from mpar2.items import register_benchmark as r\nr('theirs', None)\n")
    (tmp_path / "theirs-1.dist-info").mkdir()
    (tmp_path / "theirs-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    points = "[mpar2]\ntheirs = their_readers\nbroken = not_there\n"
    (tmp_path / "theirs-1.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["evaluate", "--benchmark", "theirs", "--data", str(tmp_path / "no"), "--out", "x"]) == 2
    error = capsys.readouterr().err
    assert "the plugin broken (not_there) cannot be imported" in error and "no does not exist" in error


def test_the_judge_scores_a_run_from_the_shell_and_a_trace_in_the_app(
    registered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", 2)
    assert main(["cafe", "score", str(run), "--judge", "silent"]) == 0
    assert "truth: scene (4)" in capsys.readouterr().out
    counts = [score.counts for score in read_scores(run / "cafe" / "silent").scores]
    assert all(count.n_pred == 0 and count.missed == count.n_tgt > 0 for count in counts)
    judging = Judging("silent")
    judging.check(local=False)
    truth = Truth((Event("dog bark"),))
    told = score_traces(judging, make_clip(), Question("Which?"), truth, ["A dog barks."])
    ((_, document),) = [said for said in told if said is not None]
    assert document["counts"]["missed"] == 1 and "silent" in document["source"]
    assert main(["cafe", "score", str(run), "--judge", "silent", "--truth", "caption"]) == 2


def test_the_mode_is_known_to_commands_arms_the_app_and_recipes(registered, tmp_path, capsys) -> None:
    soundfile.write(tmp_path / "a.wav", make_clip().samples, SAMPLE_RATE)
    ask = [str(tmp_path / "a.wav"), "--question", "Which?", "--choice", "a dog", "--choice", "a cat"]
    ask += ["--engine", "first-choice", "--json"]
    assert main(["reason", *ask, "--model", "any", "--mode", "describe"]) == 0
    assert main(["reason", *ask, "--arm", "any:describe"]) == 0
    hashes = {json.loads(line)["prompt_hash"] for line in capsys.readouterr().out.splitlines()}
    assert hashes == {prompts.prompt_identity("describe")[1]}
    line = {"id": "1", "audio": "a.wav", "question": "Which?", "choices": ["a dog", "a cat"], "answer": "a dog"}
    (tmp_path / "items.jsonl").write_text(json.dumps(line))
    command = ["evaluate", "--benchmark", "jsonl", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*command, "--engine", "first-choice", "--arm", "any:describe"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["arms"]["any describe"]
    assert metrics["official"]["estimate"] == 1.0 and metrics["form"]["estimate"] == 0.0, "no thoughts are written"

    app = Services(engine=make_engine("first-choice"), offers=(Offer("any", "any", None),))
    assert setup_of(app)["modes"]["describe"] == ["Describe first", "describes the sounds first"]
    asked = Asked(str(tmp_path / "a.wav"), "Which?", "a dog\na cat", (("any", "describe"),))
    *_, document = Comparer(app).run(asked, "session")
    assert document["arms"][0]["answer"] == "a dog" and document["prompts"] == {"describe": hashes.pop()}
    assert load_recipe("tiny", ["mode=describe"]).mode == "describe"


def test_the_reward_is_given_a_weight_by_a_recipe(registered) -> None:
    rewards, weights = make_rewards({"brief": {"weight": 0.2, "most": 2}}, make_scorer())
    assert rewards[0](["a", "b"], completion_ids=[[1, 2], [1, 2, 3]]) == [1.0, 0.0] and weights == [0.2]


def test_a_scorer_of_ones_own_is_named_by_a_recipe(registered, monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        id, is_async = "half", False

        def __init__(self, mark: float = 0.5) -> None:
            self.mark = mark

        def score(self, sample: Sample) -> Scores:
            return Scores(perception=self.mark)

    monkeypatch.setattr(rewards, "_SCORERS", {})
    rewards.register_scorer("half", Half)
    (perception,), _ = make_rewards({"perception": {}}, make_scorer("half", mark=0.25))
    text = "<perception>A dog barks.</perception><answer>a</answer>"
    assert perception([text], events=[[{"label": "dog bark"}]], question=["Which?"], choices=[["a"]]) == [0.25]


FILES = sorted(set(re.findall(r"`((?:mpar2|analysis|pages|training|tests|examples)/[\w/.]+)`", TEXT)))


@pytest.mark.parametrize("path", FILES)
def test_every_named_file_is_there(path: str) -> None:
    assert (Path(__file__).resolve().parents[1] / path).exists()
