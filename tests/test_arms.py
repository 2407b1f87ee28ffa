"""Arms with controls: read from files and options, run in one evaluation, refused where they cannot be had."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile
from asking import arm
from conftest import make_clip

from mpar2.arms import (
    ArmError,
    arm_from_json,
    arm_to_json,
    arms_of_base,
    build_question,
    load_arms,
    parse_arm,
    parse_arms,
)
from mpar2.cli import main
from mpar2.engines.base import Arm
from mpar2.engines.server import ServerEngine
from mpar2.engines.transformers import TransformersEngine
from mpar2.evaluation import EvaluationError, Settings, evaluate
from mpar2.items import read_items
from mpar2.llm import RetryPolicy, StopRun
from mpar2.question import Event, Item, Question, item_to_json
from mpar2.runs import read_run
from testing.wire import error, openai_reply, serve

ARMS = Path(__file__).parents[1] / "examples" / "runs" / "arms.yaml"


def write_items(folder: Path, seconds: list[float]):
    (folder / "audio").mkdir(parents=True)
    lines = []
    for n, length in enumerate(seconds):
        soundfile.write(folder / "audio" / f"{n}.wav", make_clip(length, n).samples, 16_000)
        question = Question(f"What comes first in {n}?", ("dog bark", "bell"), "bell", "sound")
        events = (Event("dog bark", 0.1, 0.2),) if n else None
        item = Item(f"s{n}", f"audio/{n}.wav", question, events, caption="A dog barks.", truth_origin="human")
        lines.append(json.dumps(item_to_json(item)))
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    return read_items("jsonl", folder)


@pytest.fixture
def items(tmp_path):
    return write_items(tmp_path / "items", [0.5, 0.6, 0.7, 0.8])


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(device="cpu")


def server_engine(url: str, **options) -> ServerEngine:
    return ServerEngine([url + "/v1"], policy=RetryPolicy(max_tries=2, base_s=0.01), check_audio=False, **options)


# What is written


@pytest.mark.parametrize(
    "options",
    [
        {"max_reasoning_tokens": 0},
        {"min_reasoning_tokens": 64, "max_reasoning_tokens": 64},
        {"hide_audio_after": "50%"},
        {"hide_audio_after": 32, "min_reasoning_tokens": 100},
    ],
)
def test_a_control_reads_back_as_written(options):
    written = arm_to_json(arm(**options))
    assert options.items() <= written.items()
    assert arm_from_json(json.loads(json.dumps(written))) == arm(**options)


def test_no_control_is_written_as_none():
    written = arm_to_json(arm())
    assert (written["max_reasoning_tokens"], written["min_reasoning_tokens"], written["hide_audio_after"]) == (
        None,
        0,
        None,
    )
    assert arm_from_json(written) == arm()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_reasoning_tokens": 1.5}, r"max_reasoning_tokens is 1.5; a whole number is needed"),
        ({"max_reasoning_tokens": True}, "a whole number is needed"),
        ({"min_reasoning_tokens": "long"}, "min_reasoning_tokens is 'long'; a number is needed"),
        ({"max_reasoning_tokens": 600}, r"below max_new_tokens \(512\)"),
        ({"hide_audio_after": 0.5}, "hide_audio_after is 0.5; a number of tokens, or a share of the trace such as 50%"),
        ({"hide_audio_after": "middle"}, "a share of the trace such as 50%"),
        ({"mode": "direct", "max_reasoning_tokens": 8}, "mode direct does not reason"),
    ],
)
def test_a_control_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ArmError, match=f"^arm 'a'.*{message}"):
        arm(**change)


def test_a_caption_stands_in_for_events_that_nobody_wrote(items):
    oracle = arm(perception="oracle")
    texts = [build_question(oracle, item).text for item in items.items[:2]]
    assert texts[0] == "About the audio: A dog barks. What comes first in 0?"
    assert texts[1] == "The audio contains: 0.1-0.2 s dog bark. What comes first in 1?"


def test_the_shipped_file_has_every_control():
    arms = load_arms(ARMS)
    modes = {(a.arm.model, a.arm.mode) for a in arms}
    assert {("tiny-base", "direct"), ("tiny-base", "cot"), ("tiny-base", "mpar2"), ("tiny-mpar2", "mpar2")} <= modes
    assert {a.audio for a in arms} == {"normal", "silent", "shuffled"} and {a.perception for a in arms} == {
        "own",
        "oracle",
    }
    assert any(a.samples > 1 for a in arms) and any(a.decoding.hidden_share == 0.5 for a in arms)
    cuts = {a.decoding.max_reasoning_tokens for a in arms}
    assert {0, 16, 32, 64, 128} <= cuts and any(a.decoding.min_reasoning_tokens for a in arms)


# What is run


def test_every_control_in_one_run(items, engine, tiny_checkpoint, tmp_path):
    (tmp_path / "arms.yaml").write_text(
        f"defaults: {{model: {tiny_checkpoint}, mode: cot, max_new_tokens: 24}}\n"
        "arms:\n  - {name: plain}\n  - {name: silent, audio: silent}\n  - {name: shuffled, audio: shuffled}\n"
        "  - {name: oracle, perception: oracle}\n  - {name: cut, max_reasoning_tokens: 5}\n"
        "  - {name: longer, min_reasoning_tokens: 12}\n  - {name: hidden, hide_audio_after: 50%}\n"
        "  - {name: votes, samples: 2, temperature: 1.0}\n"
    )
    arms = load_arms(tmp_path / "arms.yaml")
    metrics = evaluate(items, arms, engine, tmp_path / "run", Settings(attention_share=1.0))
    assert [found["answered"] for found in metrics["arms"].values()] == [4] * 7 + [8]
    run = read_run(tmp_path / "run")
    settings = {entry["name"]: entry for entry in run.manifest["arms"]}
    assert settings["cut"]["max_reasoning_tokens"] == 5 and settings["hidden"]["hide_audio_after"] == "50%"
    records = {record["key"]: record for record in run.records()}
    for item in items.items:
        plain, cut, hidden, longer = (records[f"{item.id}|{name}|0"] for name in ("plain", "cut", "hidden", "longer"))
        assert "<answer>" not in longer["text"][: longer["token_ends"][11]], "it reasons for twelve tokens at least"
        assert "<answer>" in cut["text"] and plain["text"].startswith(cut["text"][: cut["token_ends"][4]])
        half = round(plain["tokens"] / 2)
        ratio = hidden["attention"]["ratio"]
        assert all(value > 0 for value in ratio[:half]) and not any(ratio[half:]) and len(ratio) > half
    changed = [arm_from_json(arm_to_json(a) | {"max_reasoning_tokens": 6}) if a.name == "cut" else a for a in arms]
    with pytest.raises(Exception, match=r"arms\[cut\].max_reasoning_tokens: 5, now 6"):
        evaluate(items, changed, engine, tmp_path / "run", Settings(attention_share=1.0))


def test_controls_from_the_command_line(items, tiny_checkpoint, tmp_path, capsys):
    options = ["--benchmark", "jsonl", "--data", str(items.source), "--limit", "1", "--out", str(tmp_path / "run")]
    options += ["--model", str(tiny_checkpoint), "--mode", "cot", "--max-new-tokens", "12", "--device", "cpu"]
    assert main(["evaluate", *options, "--max-reasoning-tokens", "3", "--hide-audio-after", "2"]) == 0
    (entry,) = read_run(tmp_path / "run").manifest["arms"]
    assert (entry["max_reasoning_tokens"], entry["hide_audio_after"]) == (3, 2)
    more = ["--audio", "shuffled", "--perception", "oracle", "--min-reasoning-tokens", "4", "--samples", "2"]
    options[options.index("--limit") + 1] = "2"
    options[options.index("--out") + 1] = str(tmp_path / "other")
    assert main(["evaluate", *options, *more, "--temperature", "0.7", "--seed", "3"]) == 0
    other = read_run(tmp_path / "other").manifest
    (entry,) = other["arms"]
    assert (entry["audio"], entry["perception"], entry["min_reasoning_tokens"]) == ("shuffled", "oracle", 4)
    assert (entry["samples"], entry["temperature"], other["seed"]) == (2, 0.7, 3)
    capsys.readouterr()
    assert main(["evaluate", *options, "--hide-audio-after", "half"]) == 2
    assert "a share of the trace such as 50%" in capsys.readouterr().err


def test_services_refuse_what_they_cannot_do(items, tmp_path, capsys):
    options = ["--benchmark", "jsonl", "--data", str(items.source), "--out", str(tmp_path / "run")]
    options += ["--engine", "server", "--base-url", "http://127.0.0.1:1/v1", "--model", "m", "--mode", "cot"]
    for control in (["--min-reasoning-tokens", "5"], ["--max-reasoning-tokens", "0"], ["--hide-audio-after", "50%"]):
        assert main(["evaluate", *options, *control]) == 2
        assert "need --engine transformers" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# What goes wrong with one item is its own


def test_items_that_cannot_be_asked_fail_alone(engine, tiny_checkpoint, tmp_path):
    """Prompts that are too long, more of them than the failures in a row that would end a run."""
    items = write_items(tmp_path / "items", [0.2] * 24)
    limit = json.loads((tiny_checkpoint / "config.json").read_text())["text_config"]["max_position_embeddings"]
    lines = [json.loads(line) for line in (tmp_path / "items" / "items.jsonl").read_text().splitlines()]
    for line in lines[2:]:
        line["question"] = "x " * limit
    (tmp_path / "items" / "items.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    items = read_items("jsonl", tmp_path / "items")
    plain = arm(model=str(tiny_checkpoint), max_new_tokens=4)
    found = evaluate(items, [plain], engine, tmp_path / "run", Settings(batch_size=12))["arms"]["a"]
    assert (found["answered"], found["failed"]) == (2, 22)
    assert all(reason.startswith("the prompt has") for reason in found["reasons"]), found["reasons"]


def test_a_servers_refusal_of_one_item_is_that_items(items, tmp_path):
    def plan(call):
        return error(400, "cannot decode audio") if "in 2" in call.text else openai_reply("<answer>bell</answer>")

    with serve(plan) as server:
        found = evaluate(items, [arm()], server_engine(server.url), tmp_path / "run")["arms"]["a"]
    assert (found["answered"], found["failed"]) == (3, 1)
    assert "HTTP 400: cannot decode audio" in next(iter(found["reasons"]))
    assert found["official"]["n"] == 4 and found["official"]["estimate"] == 0.75


@pytest.mark.parametrize(
    ("status", "message"), [(401, "Check the key"), (403, "Check the key"), (404, "Check the model's name")]
)
def test_a_refusal_of_the_key_or_the_model_stops_at_once(items, tmp_path, status, message):
    with serve([error(status, "no")]) as server, pytest.raises(StopRun, match=message):
        evaluate(items, [arm(samples=50, temperature=1)], server_engine(server.url, in_flight=2), tmp_path / "run")
    assert len(server.calls) <= 4


def test_a_server_that_refuses_everything_stops_the_run(items, tmp_path):
    with (
        serve([error(400, "unknown field")]) as server,
        pytest.raises(EvaluationError, match="HTTP 400: unknown field"),
    ):
        evaluate(items, [arm(samples=20, temperature=1)], server_engine(server.url), tmp_path / "run")
    assert len(server.calls) < 80


def test_events_without_times_are_told_without():
    item = Item("x", "x.wav", Question("What?"), (Event("Organ"), Event("Reverberation")), truth_origin="cue")
    assert build_question(arm(perception="oracle"), item).text == "The audio contains: Organ; Reverberation. What?"


def test_an_arm_reads_back_as_written(tmp_path):
    (tmp_path / "arms.yaml").write_text(
        "defaults: {model: base, max_new_tokens: 64}\n"
        "arms:\n  - {name: one, mode: direct}\n"
        "  - {name: two, model: other, samples: 4, temperature: 0.7, audio: silent}\n"
    )
    one, two = load_arms(tmp_path / "arms.yaml", temperature=0.5)
    assert (one.arm.model, one.decoding.max_new_tokens, one.decoding.temperature) == ("base", 64, 0.5)
    assert (two.arm.model, two.samples, two.decoding.temperature, two.audio) == ("other", 4, 0.7, "silent")
    assert arm_from_json(arm_to_json(two)) == two


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a|b"}, "without '|'"),
        ({"name": "../a"}, "slashes"),
        ({"model": None}, "names no model"),
        ({"mode": "think"}, "choose one of direct, cot, mpar2"),
        ({"audio": "loud"}, "normal, silent, shuffled"),
        ({"temprature": 1}, "unknown key 'temprature'"),
        ({"temperature": "warm"}, "a number is needed"),
        ({"top_p": 0}, "above 0"),
        ({"samples": 2}, "set a temperature"),
        ({"samples": 0}, "whole number"),
    ],
)
def test_arms_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ArmError, match=re.escape(message) if "|" in message else message):
        arm_from_json({"name": "a", "model": "m"} | change)


def test_two_arms_of_one_name_are_refused(tmp_path):
    (tmp_path / "arms.yaml").write_text("arms: [{name: a, model: m}, {name: a, model: n}]")
    with pytest.raises(ArmError, match="two arms are named 'a'"):
        load_arms(tmp_path / "arms.yaml")


# Arms in one word


@pytest.mark.parametrize(
    ("text", "model", "adapter", "mode", "name"),
    [
        ("free=Qwen/Qwen2.5-Omni-3B:cot", "Qwen/Qwen2.5-Omni-3B", None, "cot", "free"),
        ("Q/x+runs/g/adapter", "Q/x", "runs/g/adapter", "mpar2", "x adapter mpar2"),
        ("server:http://h:8080/v1#my:8b:direct", "server:http://h:8080/v1#my:8b", None, "direct", "my:8b direct"),
        ("s=server:https://h/v1#org/m", "server:https://h/v1#org/m", None, "mpar2", "s"),
        ("gemini:gemini-3:cot", "gemini:gemini-3", None, "cot", "gemini-3 cot"),
    ],
)
def test_an_arm_in_one_word(text, model, adapter, mode, name):
    assert parse_arm(text) == Arm(name, model, adapter, mode)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=", "names no model"),
        ("", "names no model"),
        ("m+", "names no adapter"),
        ("=m", "empty name"),
        ("m:think", "'think' is no mode"),
        ("server:http://h/v1", "server:http://host:port/v1#MODEL"),
        ("server:h#m", "server:http://host:port/v1#MODEL"),
        ("a|b=m", "without '|'"),
    ],
)
def test_an_arm_in_one_word_that_cannot_be_read_says_why(text, message):
    with pytest.raises(ArmError, match=re.escape(message)):
        parse_arm(text)


def test_arms_of_equal_names_are_all_kept(tmp_path):
    arms = parse_arms(["runs/seed0/model", "runs/seed1/model", "tiny", "tiny", "tiny mpar2 2=x", "you/a", "me/a"])
    assert [arm.name for arm in arms[:2]] == ["model mpar2 (seed0)", "model mpar2 (seed1)"]
    assert len({arm.name for arm in arms}) == len(arms) == 7
    assert [arm.model for arm in arms][2:4] == ["tiny", "tiny"]
    (tmp_path / "a+b").mkdir()
    assert parse_arm(f"{tmp_path}/a+b").adapter is None
    assert parse_arm(f"{tmp_path}/a+b+c").adapter == "c"


def test_one_model_alone_is_compared_in_three_modes():
    arms = arms_of_base("Qwen/Qwen2.5-Omni-7B")
    assert [arm.mode for arm in arms] == ["direct", "cot", "mpar2"] and len({arm.name for arm in arms}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "defaults: {mode: [x]}\narms: [m]",
        "arms: " + "[" * 3000 + "]" * 3000,
        "{[1]: 2}",
        "arms: [{arm: [m]}]",
        "\ud800",
    ],
)
def test_odd_files_of_arms_are_arm_errors(text, tmp_path):
    file = tmp_path / "arms.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ArmError):
        load_arms(file)
