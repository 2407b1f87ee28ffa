"""The engine contract: an engine of a few lines, registered as CONTRIBUTING says, runs wherever models run."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from conftest import make_clip

from mpar2 import engines
from mpar2.answers import read_answer
from mpar2.audio import wav_bytes
from mpar2.cli import main
from mpar2.engines import engine_names, make_engine, register_engine
from mpar2.engines.base import Arm, Decoding, Engine, EngineError, Generation, ItemError, Request
from mpar2.prompts import prompt_identity
from mpar2.question import Question
from mpar2.trace import parse_trace
from pages.limits import VisitorLimits
from pages.running import Asked, Comparer
from pages.services import Offer, Services


class Echo(Engine):
    """Answers with the first choice, or with the question."""

    def generate_batch(self, requests, decoding=None, *, batch_size=8, attention="none"):
        return [self._echo(request) for request in requests]

    def _echo(self, request: Request) -> Generation:
        question = request.question
        text = f"<think>I was asked.</think><answer>{(question.choices or (question.text,))[0]}</answer>"
        trace = parse_trace(text)
        return Generation(
            arm=request.arm,
            text=text,
            trace=trace,
            tokens=(),
            prompt_tokens=1,
            seconds=0.01,
            first_token_s=0.01,
            audio_seconds=request.clip.seconds,
            finish="stop",
            choice=read_answer(trace, question.choices).choice,
            token_count=len(text.split()),
        )


class RemoteEcho(Echo):
    """The same as a service would be: asked two things at a time."""

    remote = True
    concurrency = 2


class Broken(Echo):
    def _echo(self, request: Request) -> Generation:
        return request.no_such_attribute


class Picky(Echo):
    """Cannot take one of the clips; cannot run one of the models."""

    def _echo(self, request: Request) -> Generation:
        if request.clip.seconds < 1.2:
            raise ItemError("the clip is too short for this engine")
        return super()._echo(request)


class RemotePicky(Picky, RemoteEcho):
    pass


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_ENGINES", dict(engines._ENGINES))
    for kind in (Echo, RemoteEcho, Broken, Picky, RemotePicky):
        register_engine(kind.__name__.lower(), lambda options, kind=kind: kind())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two items with true events, in the project's own format."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for number, seconds in enumerate((1.0, 1.5)):
        (folder / f"{number}.wav").write_bytes(wav_bytes(make_clip(seconds, number)))
        events = [{"label": "dog bark", "onset_s": 0.1, "offset_s": 0.5}]
        lines.append(
            {
                "id": f"item{number}",
                "audio": f"{number}.wav",
                "question": "What comes first?",
                "choices": ["dog bark", "bell"],
                "answer": "dog bark",
                "events": events,
            }
        )
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def evaluate(data: Path, out: Path, engine: str) -> int:
    return main(
        ["evaluate", "--benchmark", "jsonl", "--data", str(data), "--model", "x", "--engine", engine, "--out", str(out)]
    )


def test_the_registry_names_the_engines_and_makes_them() -> None:
    assert engine_names()[:3] == ("transformers", "server", "gemini") and "echo" in engine_names()
    assert type(make_engine("echo")) is Echo
    with pytest.raises(EngineError, match="no engine 'nix': choose one of transformers, server"):
        make_engine("nix")


@pytest.mark.parametrize("engine", ["echo", "remoteecho"])
def test_evaluate_and_probe_run_any_engine(data: Path, tmp_path: Path, engine: str, capsys) -> None:
    run = tmp_path / "run"
    assert evaluate(data, run, engine) == 0
    records = [json.loads(line) for line in (run / "items.jsonl").read_text().splitlines()]
    assert [(r["choice"], r["tokens"], r["status"]) for r in records] == [("dog bark", 4, "ok")] * 2
    assert main(["cafe", "probe", str(run), "--audio-root", str(data), "--engine", engine]) == 0
    assert "x mpar2" in capsys.readouterr().out
    answers = [json.loads(line) for line in (run / "cafe" / "probes.jsonl").read_text().splitlines()]
    assert len(answers) == 2


def test_reason_and_compare_run_any_engine(data: Path, capsys) -> None:
    ask = [str(data / "0.wav"), "--question", "What?", "--choice", "bell", "--choice", "dog", "--engine", "echo"]
    assert main(["reason", *ask, "--model", "x"]) == 0
    shown = capsys.readouterr().out
    assert "choice:     bell" in shown and "tokens:     3" in shown and "not recorded" in shown
    assert main(["compare", *ask, "--model", "x", "--other-model", "y", "--json"]) == 0
    assert [arm["model"] for arm in json.loads(capsys.readouterr().out)["arms"]] == ["x", "y"]
    for arms in (["--base", "z"], ["--arm", "z:cot", "--arm", "z:direct"], ["--model", "z"]):
        assert main(["compare", *ask, *arms, "--prompt", "r1-aqa", "--json"]) == 0
        made = json.loads(capsys.readouterr().out)["arms"]
        digest = prompt_identity("cot", "r1-aqa")[1]
        assert {(arm["prompt"], arm["prompt_hash"]) for arm in made} == {("r1-aqa", digest)}
    assert main(["reason", *ask, "--arm", "z:cot", "--prompt", "nix"]) == 2
    assert "no prompt 'nix'" in capsys.readouterr().err
    assert main(["reason", *ask, "--model", "x", "--attention", str(data / "a.npz")]) == 2
    assert "Echo does not tell where a model attends" in capsys.readouterr().err


def test_the_apps_comparer_runs_any_engine(data: Path) -> None:
    offers = (Offer("x", "x", None), Offer("y", "y", None))
    services = Services(engine=Echo(), offers=offers, visitors=VisitorLimits())
    asked = Asked(str(data / "0.wav"), "What?", "bell\ndog", (("x", "cot"), ("y", "mpar2")))
    *_, document = Comparer(services).run(asked, "session")
    assert document["status"] == "done"
    assert [(arm["answer"], arm["token_count"]) for arm in document["arms"]] == [("bell", 3), ("bell", 3)]


def test_a_stream_over_a_batch_stops_between_arms() -> None:
    stop = threading.Event()
    seen = []
    for update in Echo().stream(make_clip(), Question("What?"), [Arm("a", "a"), Arm("b", "b")], Decoding(), stop=stop):
        seen.append((update.index, update.stage))
        stop.set()
    assert seen == [(0, "reasoning"), (0, "done")]


def test_capabilities_are_asked_and_named(data: Path, tmp_path: Path, capsys) -> None:
    common = ["evaluate", "--benchmark", "jsonl", "--data", str(data), "--model", "x", "--engine", "echo"]
    assert main([*common, "--attention-share", "0.5", "--out", str(tmp_path / "a")]) == 2
    assert "Echo does not tell where a model attends" in capsys.readouterr().err
    assert main([*common, "--max-reasoning-tokens", "5", "--out", str(tmp_path / "b")]) == 2
    assert "which Echo cannot do" in capsys.readouterr().err


def test_a_programming_error_stops_the_run_and_records_nothing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="no_such_attribute"):
        evaluate(data, tmp_path / "run", "broken")
    assert not any((tmp_path / "run").glob("items*.jsonl")) or not (tmp_path / "run" / "items.jsonl").read_text()


@pytest.mark.parametrize("engine", ["picky", "remotepicky"])
def test_an_items_own_error_is_recorded_on_the_item_alone(data: Path, tmp_path: Path, engine: str) -> None:
    assert evaluate(data, tmp_path / "run", engine) == 1
    records = {r["id"]: r for r in map(json.loads, (tmp_path / "run" / "items.jsonl").read_text().splitlines())}
    assert records["item0"]["error"] == "the clip is too short for this engine"
    assert records["item1"]["status"] == "ok"
