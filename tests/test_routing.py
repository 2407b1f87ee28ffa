"""Arms from anywhere: in this process, behind servers, at services; the same words in every command."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
import soundfile
from conftest import make_clip

from mpar2 import engines
from mpar2.cli import main
from mpar2.engines import register_engine
from mpar2.engines.base import Arm, Engine, EngineError, Generation
from mpar2.engines.routing import RoutingEngine, engine_for_arms
from mpar2.llm import services
from mpar2.llm.base import Reply, Usage
from mpar2.prompts import prompt_identity
from mpar2.question import Item, Question, item_to_json, make_question
from mpar2.runs import read_run
from mpar2.trace import parse_trace
from testing.wire import error, openai_reply, openai_stream, serve

QUESTION = make_question("What comes first?", ["dog bark", "bell"])


class Local(Engine):
    """An engine of this process that names the model it was asked for."""

    attention = True

    def generate_batch(self, requests, decoding=None, *, batch_size=8, attention="none"):
        made = []
        for request in requests:
            trace = parse_trace(f"<answer>bell</answer> by {request.arm.model}")
            made.append(
                Generation(request.arm, trace.text, trace, (), 1, 0.0, 0.0, request.clip.seconds, "stop", "bell", None)
            )
        return made


class FakeClient:
    """A service that needs no network."""

    asked = 0

    def __init__(self, model, **options):
        self.model = model
        self.identity = f"fake|{model}"

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        return None

    async def complete(self, system, parts, schema=None, sampling=None, on_text=None):
        FakeClient.asked += 1
        text = "<answer>dog bark</answer>"
        if on_text is not None:
            on_text(text, "")
        return Reply(text, self.model, "fake-7", Usage(1, 2), "stop")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(engines, "_ENGINES", dict(engines._ENGINES))
    monkeypatch.setattr(services, "SERVICES", dict(services.SERVICES))
    register_engine("transformers", lambda options: Local())
    services.register_service(services.Service("fake", FakeClient, default_model="fake-1", paid=False))


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    lines = []
    for n in range(3):
        soundfile.write(tmp_path / "data" / f"{n}.wav", make_clip(0.5, n).samples, 16_000)
        lines.append(
            json.dumps(item_to_json(Item(f"s{n}", f"{n}.wav", Question("What?", ("dog bark", "bell"), "bell"))))
        )
    (tmp_path / "data" / "items.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def plan(call):
    if call.json.get("stream"):
        return openai_stream(["<answer>", "bell", "</answer>"], pause_s=0.02)
    tokens = {"prompt_tokens": 10 + len(call.body) // 1000, "completion_tokens": 3, "total_tokens": 13}
    return openai_reply("<answer>bell</answer>", usage=tokens)


def test_arms_of_one_place_need_no_routing():
    assert isinstance(engine_for_arms([Arm("a", "tiny"), Arm("b", "Qwen/x")]), Local)
    assert isinstance(engine_for_arms([Arm("a", "tiny"), Arm("b", "fake:m")]), RoutingEngine)


def test_arms_of_three_places_are_streamed_side_by_side_as_they_were_named():
    with serve(plan) as server:
        arms = [Arm("here", "tiny"), Arm("served", f"server:{server.url}/v1#org/m"), Arm("service", "fake:any")]
        engine = engine_for_arms(arms)
        done = {u.index: u.generation for u in engine.stream(make_clip(), QUESTION, arms) if u.generation is not None}
        models = {call.json["model"] for call in server.calls}
    assert [done[n].arm for n in range(3)] == arms and models == {"org/m"}
    assert [done[n].choice for n in range(3)] == ["bell", "bell", "dog bark"]
    assert "by tiny" in done[0].text and done[2].served_model == "fake-7"
    assert engine.engine_for(arms[0]).attention and not engine.engine_for(arms[1]).attention


def test_occlusion_asks_the_routed_engine_for_the_model_that_it_knows(capsys, data):
    flips = []

    def answers(call):
        if "check" in call.text.lower() or not flips and b"bell" not in call.body:
            return plan(call)
        flips.append(call.json["model"])
        return openai_reply(f"<answer>{'dog bark' if len(flips) == 3 else 'bell'}</answer>")

    with serve(answers) as server:
        arm = f"s=server:{server.url}/v1#org/m:direct"
        ask = [str(data / "0.wav"), "--question", "What?", "--choice", "dog bark", "--choice", "bell", "--json"]
        trace = data / "trace.txt"
        trace.write_text("<answer>bell</answer>")
        assert main(["occlude", *ask, "--arm", arm, "--windows", "4", "--batch-size", "1", "--text", str(trace)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(flips) == {"org/m"} and found["measure"] == "changed answer"
    assert sorted(found["drops"][0]) == [0.0, 0.0, 0.0, 1.0]


def test_one_server_that_fails_lets_the_other_arms_finish():
    with serve([error(404, "no such model")]) as server:
        arms = [Arm("served", f"server:{server.url}/v1#m"), Arm("here", "tiny")]
        seen = []
        with pytest.raises(EngineError, match="served: not_found"):
            for update in engine_for_arms(arms).stream(make_clip(), QUESTION, arms):
                seen.append(update)
    assert any(update.index == 1 and update.generation is not None for update in seen)


def test_stopping_and_closing_reach_every_place():
    stop = threading.Event()
    with serve(
        lambda call: openai_stream(["word "] * 300, pause_s=0.02) if call.json.get("stream") else plan(call)
    ) as server:
        arms = [
            Arm("a", f"server:{server.url}/v1#a"),
            Arm("b", f"server:{server.url.replace('127.0.0.1', 'localhost')}/v1#b"),
        ]
        done = []
        for update in engine_for_arms(arms).stream(make_clip(), QUESTION, arms, stop=stop):
            if update.text.count("word") > 3:
                stop.set()
            if update.generation is not None:
                done.append(update.generation.finish)
        assert done == ["cancelled", "cancelled"]
        updates = engine_for_arms(arms).stream(make_clip(), QUESTION, arms)
        next(updates)
        updates.close()


def test_evaluate_takes_arms_from_anywhere(data, tmp_path, capsys):
    with serve(plan) as server:
        address = f"server:{server.url}/v1#m"
        command = ["evaluate", "--benchmark", "jsonl", "--data", str(data), "--out", str(tmp_path / "run")]
        command += ["--arm", "here=tiny:cot", "--arm", f"there={address}:direct", "--arm", "fake:any"]
        assert main(command) == 0
        said = capsys.readouterr()
        (tmp_path / "arms.yaml").write_text(f"arms:\n  - here=tiny:cot\n  - {{arm: '{address}', name2: 1}}\n")
        assert main([*command[:5], "--out", str(tmp_path / "x"), "--arms", str(tmp_path / "arms.yaml")]) == 2
        (tmp_path / "arms.yaml").write_text(f"arms:\n  - here=tiny:cot\n  - {{arm: 'there={address}', samples: 1}}\n")
        assert main([*command[:5], "--out", str(tmp_path / "y"), "--arms", str(tmp_path / "arms.yaml")]) == 0
    assert "note: m receives audio" in said.err
    run = read_run(tmp_path / "run")
    assert [entry["name"] for entry in run.manifest["arms"]] == ["here", "there", "any mpar2"]
    assert [entry["engine"] for entry in run.manifest["arms"]] == ["Local", "ServerEngine", "RemoteEngine"]
    assert len(list(run.records())) == 9 and {record["status"] for record in run.records()} == {"ok"}


@pytest.mark.parametrize(
    "both",
    [
        ["--arms", "a.yaml", "--model", "m"],
        ["--arms", "a.yaml", "--mode", "cot"],
        ["--arms", "a.yaml", "--adapter", "x"],
        ["--arms", "a.yaml", "--arm", "m"],
        ["--arm", "m", "--model", "x"],
        ["--arm", "m", "--name", "x"],
    ],
)
def test_two_ways_of_naming_arms_are_an_error(data, tmp_path, both, capsys):
    assert main(["evaluate", "--benchmark", "jsonl", "--data", str(data), "--out", str(tmp_path / "r"), *both]) == 2
    assert "give one or the other" in capsys.readouterr().err


def test_reason_and_compare_take_the_same_words(data, capsys):
    ask = [str(data / "0.wav"), "--question", "What?", "--choice", "bell", "--choice", "dog bark"]
    with serve(plan) as server:
        served = f"s=server:{server.url}/v1#m:cot"
        assert main(["reason", *ask, "--arm", served]) == 0
        assert "choice:     bell" in capsys.readouterr().out
        assert main(["compare", *ask, "--arm", served, "--arm", "tiny:direct", "--arm", "fake:any", "--json"]) == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    assert [arm["name"] for arm in arms] == ["s", "tiny direct", "any mpar2"] if "name" in arms[0] else len(arms) == 3
    assert main(["compare", *ask, "--base", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("tiny direct", "tiny free reasoning", "tiny MPAR² prompt"))
    for wrong in (["--arm", "a"], ["--arm", "a", "--arm", "b", "--model", "c"], ["--base", "a", "--other-mode", "cot"]):
        assert main(["compare", *ask, *wrong]) == 2
    assert main(["reason", *ask, "--arm", "a", "--arm", "b"]) == 2
    assert "compare for several" in capsys.readouterr().err


# A service that is registered is known everywhere


def test_a_registered_service_is_known_everywhere(capsys, tmp_path):
    from mpar2.cafe.llm_judge import llm_judge
    from pages.scoring import Judging, JudgingError, judge_choices
    from training.rewards import make_scorer

    assert services.judge_model("fake") == "fake-1"
    assert llm_judge("fake").model == "fake-1"
    make_scorer("fake", model="any")
    assert ("Fake", "fake") in judge_choices()
    Judging("fake").check(local=True)
    with pytest.raises(JudgingError, match="choose one of rules, gemini, server, fake"):
        Judging("nix").check(local=True)
    for command in (["cafe", "score", "--help"], ["cafe", "caption", "--help"]):
        with pytest.raises(SystemExit):
            main(command)
        assert "fake" in capsys.readouterr().out
    with pytest.raises(services.SettingError, match="choose one of gemini, server, fake"):
        services.connect("nix", "m")


def test_the_app_compares_served_and_local_arms_that_its_operator_names(data, monkeypatch):
    from mpar2.llm import RetryPolicy
    from pages.options import build_services, parse_options
    from pages.running import Asked, Comparer

    monkeypatch.setattr("mpar2.engines.server.RetryPolicy", lambda **options: RetryPolicy(max_tries=1))
    with serve(plan) as server:
        address = f"server:{server.url}/v1#org/omni"
        options = ["--arm", f"{address}:cot", "--arm", f"{address}:mpar2", "--arm", "here=tiny:cot", "--arm", "fake:m"]
        services = build_services(parse_options([*options, "--prompt", "r1-aqa"]))
        asked = Asked(str(data / "0.wav"), "What?", "dog bark\nbell", services.arms)
        *_, document = Comparer(services).run(asked, "session")
        models = {call.json["model"] for call in server.calls}
        asked_in = [call.text for call in server.calls if call.json.get("stream")]
    assert document["status"] == "done" and models == {"org/omni"}
    assert len(asked_in) == 2 and all("Output the final answer in <answer>" in text for text in asked_in)
    assert document["prompts"]["cot"] == prompt_identity("cot", "r1-aqa")[1]
    assert [arm["answer"] for arm in document["arms"]] == ["bell", "bell", "bell", "dog bark"]
    names = [name for name, _ in services.arms]
    assert names[0].startswith("omni") and server.url not in json.dumps(document)
    with pytest.raises(EngineError, match="no checkpoint 'server:"):
        services.arm("server:http://127.0.0.1:9/v1#m", "cot")
    *_, broken = Comparer(replace(services, local=False)).run(asked, "session")  # nothing answers there any more
    errors = [arm["error"] for arm in broken["arms"]]
    assert broken["status"] == "error" and server.url not in json.dumps(broken)
    assert all("no connection to the server" in error for error in errors[:2]) and errors[2:] == [None, None]
    assert [arm["answer"] for arm in broken["arms"]][2:] == ["bell", "dog bark"]
