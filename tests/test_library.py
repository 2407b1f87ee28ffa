"""The names that ``import mpar2`` offers: there, loaded only when asked for, and useful in one call each."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mpar2
from mpar2 import library
from mpar2.answers import read_answer
from mpar2.audio import SAMPLE_RATE
from mpar2.engines.base import Engine, Generation
from mpar2.errors import MPAR2Error
from mpar2.trace import parse_trace
from tests.conftest import make_clip

ROOT = Path(__file__).resolve().parents[1]


def test_names_are_offered_and_loaded_when_asked_for():
    for name in mpar2.__all__:
        assert getattr(mpar2, name) is not None, name
    code = "import sys, mpar2; assert not {'torch', 'numpy', 'scipy', 'pandas'} & set(sys.modules); mpar2.Question"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_examples_run():
    assert doctest.testmod(library).failed == 0
    assert mpar2.score("<answer>Man</answer>", "Man", ["Man", "Woman"])["official"] == 1.0


@pytest.fixture
def questions(tmp_path):
    soundfile.write(tmp_path / "1.wav", make_clip().samples, SAMPLE_RATE)
    lines = [
        {"id": "a", "audio": "1.wav", "question": "Which?", "choices": ["a dog", "a cat"], "answer": "A"},
        {"id": "b", "audio": "1.wav", "question": "And now?", "choices": ["a dog", "a cat"], "answer": "a cat"},
        {"id": "c", "audio": "gone.wav", "question": "Lost?", "choices": ["yes", "no"], "answer": "yes"},
        {"id": "d", "audio": "1.wav", "question": "Open?"},
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "questions.jsonl"


class SecondChoice(Engine):
    """Answers "B", whatever it is asked."""

    def generate_batch(self, requests, decoding=None, *, batch_size=8, attention="none"):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        trace = parse_trace("<think>A cat.</think><answer>B</answer>")
        choice = read_answer(trace, request.question.choices).choice
        return Generation(request.arm, trace.text, trace, (), 0, 0.1, 0.0, request.clip.seconds, "stop", choice)


def test_one_call_evaluates(questions, tmp_path):
    frame = mpar2.evaluate("any:direct", "jsonl", questions, engine=SecondChoice(), out=tmp_path / "run")
    frame = frame.set_index("id")
    assert frame.loc["a", "answer"] == "a dog" and frame.loc["a", "choice"] == "a cat" and frame.loc["a", "right"] == 0
    assert frame.loc["b", "right"] == frame.loc["b", "strict"] == 1 and frame.loc["b", "answered"]
    assert frame.loc["c", "right"] == 0 and "gone.wav" in frame.loc["c", "error"], "a failed answer is wrong"
    assert np.isnan(frame.loc["d", "right"]), "the answer is withheld"
    assert frame.attrs["metrics"]["arms"]["any direct"]["official"]["estimate"] == pytest.approx(1 / 3)
    again = mpar2.evaluate("any:direct", "jsonl", questions, engine=SecondChoice(), out=tmp_path / "run")
    assert again["seconds"].equals(frame.reset_index()["seconds"]), "answers that are there are not asked for again"


def test_what_is_wrong_is_said(questions):
    for wrong, message in (
        ({"benchmark": "mmau2"}, "unknown benchmark 'mmau2'"),
        ({"model": "any:loud"}, "is no mode"),
        ({"max_tokens": 5}, "unknown key 'max_tokens'"),
    ):
        given = {"model": "any", "benchmark": "jsonl", "data": questions, "engine": SecondChoice()} | wrong
        with pytest.raises(MPAR2Error, match=message):
            mpar2.evaluate(**given)
    with pytest.raises(MPAR2Error, match="unknown setting 'max_tokens'"):
        mpar2.compare(questions.parent / "1.wav", "Which?", ["any"], engine=SecondChoice(), max_tokens=5)


def test_a_shell_goes_on_with_the_run_of_a_call(questions, tmp_path):
    from mpar2.cli import main

    settings = {"max_new_tokens": 4, "limit": 1, "out": tmp_path / "run"}
    frame = mpar2.evaluate("tiny-base:direct", "jsonl", questions, **settings)
    assert frame["tokens"].between(1, 4).all() and frame["seconds"].gt(0).all()
    command = [
        "evaluate",
        "--benchmark",
        "jsonl",
        "--data",
        str(questions),
        "--limit",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*command, "--arm", "tiny-base:direct", "--max-new-tokens", "4"]) == 0
    assert len((tmp_path / "run" / "items.jsonl").read_text().splitlines()) == 1


def test_the_example_of_the_readme_runs(questions, tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    questions.write_text(questions.read_text().splitlines()[0])
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"As a library:\n\n```python\n(.*?)```", text, re.DOTALL)
    known = {}
    exec(compile(snippet, "README.md", "exec"), known)
    assert known["trained"].trace.of_kind("perception") and known["base"].choice in ("a cow moo", "a flute", None)
    assert len(known["frame"]) == 2 and "right" in capsys.readouterr().out
