"""An evaluation asks what it should, survives kills with the same answers, and scores as the official scripts do."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import subprocess
import sys
import time

import pytest
import soundfile
from asking import FAST, arm, ask, oracle_of
from conftest import make_clip

from mpar2.arms import ArmError, shuffled_partners
from mpar2.cli import main
from mpar2.engines.base import EngineError
from mpar2.engines.server import GeminiEngine, ServerEngine
from mpar2.evaluation import EvaluationError, Settings, evaluate
from mpar2.items import read_items
from mpar2.question import Event, Item, Question, item_to_json
from mpar2.runs import RunError, read_run
from testing.wire import HttpReply, error, gemini_reply, openai_reply, serve


@pytest.fixture
def scenes(tmp_path):
    """Six scenes of unlike lengths, each a wave file and a question."""
    (tmp_path / "scenes" / "audio").mkdir(parents=True)
    lines = []
    for n in range(6):
        soundfile.write(tmp_path / "scenes" / "audio" / f"{n}.wav", make_clip(0.5 + 0.1 * n, n).samples, 16_000)
        question = Question(f"What comes first in {n}?", ("dog bark", "bell"), ("dog bark", "bell")[n % 2], "sound")
        events = (Event("bell", 0.3, 0.4), Event("dog bark", 0.1, 0.2)) if n else None
        lines.append(json.dumps(item_to_json(Item(f"s{n}", f"audio/{n}.wav", question, events))))
    (tmp_path / "scenes" / "items.jsonl").write_text("\n".join(lines) + "\n")
    return read_items("jsonl", tmp_path / "scenes")


# What is asked


def test_an_answer_from_a_server_becomes_a_record(scenes, tmp_path):
    decoding = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "repetition_penalty": 1.1, "max_new_tokens": 99}
    with serve(oracle_of(scenes)) as server:
        metrics = ask(server.url, scenes, [arm(**decoding)], tmp_path / "run", seed=5)
    records = sorted(read_run(tmp_path / "run").records(), key=lambda record: record["id"])
    first = records[0]
    assert (first["key"], first["choice"], first["prediction"], first["tokens"]) == ("s0|a|0", *("dog bark",) * 2, 7)
    assert first["served_model"] == "served-1" and first["token_ends"] is None
    assert first["item"]["question"] == "What comes first in 0?"
    assert metrics["arms"]["a"]["official"]["estimate"] == 1.0
    bodies = [call.json for call in server.calls]
    assert len(bodies) == 6 and len({body["seed"] for body in bodies}) == 6
    body = bodies[0]
    sent = [body[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens")]
    assert sent == [0.5, 0.9, 7, 1.1, 99]
    audio, words = body["messages"][0]["content"]
    assert audio["audio_url"]["url"].startswith("data:audio/wav;base64,") and words["type"] == "text"


def test_neutral_parameters_are_sent_too(scenes, tmp_path):
    with serve(oracle_of(scenes)) as server:
        ask(server.url, scenes.first(1), [arm()], tmp_path / "run")
    body = server.calls[0].json
    assert (body["temperature"], body["top_p"], body["top_k"], body["repetition_penalty"]) == (0, 1, -1, 1)


def test_only_openais_fields_are_sent_where_others_are_refused(scenes, tmp_path):
    with serve(oracle_of(scenes)) as server:
        engine = ServerEngine(
            [server.url + "/v1"], fields="openai", audio_as="input_audio", policy=FAST, check_audio=False
        )
        evaluate(scenes.first(1), [arm()], engine, tmp_path / "run")
        with pytest.raises(EngineError, match="leave them at 0 and 1"):
            evaluate(scenes, [arm(top_k=3, temperature=1)], engine, tmp_path / "other")
    body = server.calls[0].json
    assert set(body) == {"model", "messages", "max_tokens", "temperature", "top_p", "seed"}
    assert body["messages"][0]["content"][0]["type"] == "input_audio"


def test_several_endpoints_share_the_work_and_stand_in_for_each_other(scenes, tmp_path):
    slow = lambda call: openai_reply("<answer>bell</answer>", delay_s=0.05)  # noqa: E731
    with serve(slow) as one, serve(slow) as two, serve([error(503)]) as broken:
        engine = ServerEngine([s.url + "/v1" for s in (one, two, broken)], in_flight=2, policy=FAST, check_audio=False)
        metrics = evaluate(scenes, [arm(samples=5, temperature=1)], engine, tmp_path / "run")
    assert metrics["arms"]["a"]["answered"] == 30 and metrics["arms"]["a"]["failed"] == 0
    assert min(len(one.calls), len(two.calls)) >= 8
    assert max(one.open_most, two.open_most) <= 2


def sound_of(call):
    """The samples that a request carries."""
    part = call.json["messages"][0]["content"][0]
    data = part["audio_url"]["url"].partition(",")[2] if "audio_url" in part else part["input_audio"]["data"]
    return soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")[0]


def usage(prompt):
    return {"prompt_tokens": prompt, "completion_tokens": 1, "total_tokens": prompt + 1}


def growing(call):
    return openai_reply("<answer>bell</answer>", usage=usage(10 + len(sound_of(call)) // 640))


def padding(call):
    """As llama.cpp: each clip is padded to 30 s, so counts say nothing, and replies depend on the sound."""
    said = "noise" if abs(sound_of(call)).max() > 0 else "silence"
    return openai_reply(f"<answer>{said}</answer>", usage=usage(760))


def padding_and_mute(call):
    """A weak model that says the same of everything; only a clip beyond the padding shows that audio arrives."""
    return openai_reply("<answer>bell</answer>", usage=usage(760 * -(-len(sound_of(call)) // 480_000)))


def without_counts(call):
    return openai_reply("<answer>bell</answer>", usage=None)


def short_context(call):
    if len(sound_of(call)) > 480_000:
        return error(400, "the request exceeds the available context size", code="exceed_context_size_error")
    return openai_reply("<answer>bell</answer>", usage=usage(760))


@pytest.mark.parametrize(
    ("plan", "requests"),
    [(growing, 2), (padding, 5), (padding_and_mute, 5), (without_counts, 4), (short_context, 5)],
)
def test_a_server_that_takes_audio_is_not_refused(scenes, tmp_path, plan, requests):
    with serve(plan) as server:
        engine = ServerEngine([server.url + "/v1"], policy=FAST)
        evaluate(scenes, [arm()], engine, tmp_path / "run")
        assert len(server.calls) == requests + 6, "some to be sure, and one for each item"
        evaluate(scenes, [arm()], engine, tmp_path / "again")
        assert len(server.calls) == requests + 12, "checked once"


def test_a_server_that_drops_the_audio_is_found_out(scenes, tmp_path):
    with serve([openai_reply("<answer>bell</answer>")]) as server:
        engine = ServerEngine([server.url + "/v1"], policy=FAST)
        with pytest.raises(EngineError, match="m does not receive audio: .* all have 10 tokens"):
            evaluate(scenes, [arm()], engine, tmp_path / "dropped")


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "unsupported content[].type"),
        error(400, "Invalid value: 'audio_url'. Supported values are: 'text', 'image_url', and 'input_audio'."),
        HttpReply(422, {"detail": [{"loc": ["body", "messages", 0, "content", 0, "audio_url"], "msg": "bad"}]}),
        error(500, "unsupported content[].type"),
    ],
)
def test_the_other_form_of_audio_is_tried_once_and_kept(scenes, tmp_path, refusal):
    def plan(call):
        if call.json["messages"][0]["content"][0]["type"] == "audio_url":
            return refusal
        return growing(call)

    with serve(plan) as server:
        engine = ServerEngine([server.url + "/v1"], policy=FAST)
        metrics = evaluate(scenes, [arm()], engine, tmp_path / "run")
        assert metrics["arms"]["a"]["failed"] == 0 and len(server.calls) == 1 + 2 + 6
        evaluate(scenes, [arm()], engine, tmp_path / "again")
        assert len(server.calls) == 9 + 6, "remembered"
    with serve([refusal]) as server, pytest.raises(EngineError, match="the server refuses audio"):
        evaluate(scenes, [arm()], ServerEngine([server.url + "/v1"], policy=FAST), tmp_path / "never")


def test_thoughts_apart_from_the_text_are_put_back(scenes, tmp_path):
    with serve([openai_reply("<answer>bell</answer>", reasoning_content="hm", thoughts=3)]) as server:
        ask(server.url, scenes.first(1), [arm()], tmp_path / "run")
    (record,) = read_run(tmp_path / "run").records()
    assert record["text"] == "<think>hm</think><answer>bell</answer>" and record["tokens"] == 7


def test_gemini(scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "key-marker")
    with serve(lambda call: gemini_reply("<answer>bell</answer>")) as server:
        evaluate(scenes, [arm()], GeminiEngine(base_url=server.url, policy=FAST), tmp_path / "run")
    records = list(read_run(tmp_path / "run").records())
    assert len(records) == 6 and all(record["choice"] == "bell" for record in records)
    for file in (tmp_path / "run").rglob("*.json*"):
        assert "key-marker" not in file.read_text()


def test_a_blocked_answer_and_an_adapter_on_a_server(scenes, tmp_path):
    with serve([openai_reply(None, refusal="no")]) as server:
        metrics = ask(server.url, scenes.first(2), [arm()], tmp_path / "run")
        assert metrics["arms"]["a"]["failed"] == 2 and "blocked" in next(iter(metrics["arms"]["a"]["reasons"]))
        with pytest.raises(Exception, match="merge it into the model"):
            ask(server.url, scenes, [arm(adapter="x")], tmp_path / "other")


# Controls


def test_controls_change_what_is_heard_and_told(scenes, tmp_path):
    with serve(oracle_of(scenes)) as server:
        arms = [
            arm("plain"),
            arm("deaf", audio="silent"),
            arm("mixed", audio="shuffled"),
            arm("told", perception="oracle"),
        ]
        metrics = ask(server.url, scenes, arms, tmp_path / "run")
    heard = {}
    for call in server.calls:
        audio, words = call.json["messages"][0]["content"]
        number = re.search(r"in (\d)", words["text"])[1]
        kind = "told" if "The audio contains: 0.1-0.2 s dog bark; 0.3-0.4 s bell. What" in words["text"] else "other"
        heard.setdefault((number, kind), []).append(audio["audio_url"]["url"])
    own = {number: heard[number, "told"][0] for number in "12345"}
    for number in "12345":
        others = set(heard[number, "other"])
        assert len(others) == 3 and own[number] in others, "its own sound, silence, and the sound of another"
    assert metrics["arms"]["told"]["asked"] == 5 and metrics["arms"]["plain"]["asked"] == 6


def test_nobody_hears_its_own_recording_when_shuffled(scenes):
    found = shuffled_partners(scenes.items, seed=3)
    assert all(found[item.id].audio != item.audio for item in scenes.items)
    assert found == shuffled_partners(scenes.items[::-1], seed=3) and found != shuffled_partners(scenes.items, seed=4)
    with pytest.raises(ArmError, match="two different recordings"):
        shuffled_partners(scenes.items[:1], seed=0)


# Failure and resumption


def test_what_fails_is_recorded_and_tried_again(scenes, tmp_path):
    bad = {"s1", "s4"}
    right = oracle_of(scenes)

    def plan(call):
        return error(413, "too long") if any(f"in {id[1]}" in call.text for id in bad) else right(call)

    soundfile_path = scenes.audio_path(scenes.items[2])
    sound = soundfile_path.read_bytes()
    soundfile_path.unlink()
    with serve(plan) as server:
        metrics = ask(server.url, scenes, [arm()], tmp_path / "run")
        found = metrics["arms"]["a"]
        assert (found["answered"], found["failed"], found["missing"]) == (3, 3, 3)
        assert found["official"]["estimate"] == 0.5 and found["official_denominator"]["estimate"] == 1.0
        assert "the audio file audio/2.wav is not there" in found["reasons"]
        bad.clear()
        soundfile_path.write_bytes(sound)
        before = len(server.calls)
        metrics = ask(server.url, scenes, [arm()], tmp_path / "run")
    assert len(server.calls) == before + 3, "only what failed is asked again"
    assert metrics["arms"]["a"]["failed"] == 0 and metrics["arms"]["a"]["official"]["estimate"] == 1.0


def test_what_the_loader_warns_of_is_in_record_and_metrics(scenes, tmp_path):
    soundfile.write(scenes.audio_path(scenes.items[2]), make_clip(0.5).samples * 0, 16_000)
    with serve(oracle_of(scenes)) as server:
        metrics = ask(server.url, scenes, [arm()], tmp_path / "run")
    records = {record["id"]: record for record in read_run(tmp_path / "run").records()}
    assert records["s1"]["warnings"] is None and "silen" in " ".join(records["s2"]["warnings"])
    (problem,) = metrics["problems"]
    assert problem.startswith("1 of 6 recordings: ") and "silen" in problem and "(first: audio/2.wav)" in problem


def test_missing_files_are_grouped_and_a_limit_warns_of_what_is_used(scenes, tmp_path):
    for item in scenes.items[2:]:
        scenes.audio_path(item).unlink()
    lost = read_items("jsonl", scenes.source)
    assert "4 of 6 audio files are not there" in lost.problems[0] and lost.first(2).problems == ()
    assert "1 of 3 audio files" in lost.first(3).problems[0]
    with serve(oracle_of(scenes)) as server:
        found = ask(server.url, lost, [arm()], tmp_path / "run")["arms"]["a"]
    assert found["reasons"] == {"the audio file audio/2.wav is not there (and 3 more like it)": 4}


def test_refused_items_never_keep_the_others_from_their_turn(scenes, tmp_path):
    """Requests that a server refuses with 400, more of them than the failures in a row that end a run."""
    right = oracle_of(scenes)

    def plan(call):
        return right(call) if re.search("in [05]", call.text) else error(400, "cannot decode this")

    votes = [arm(samples=10, temperature=1)]
    with serve(plan) as server:
        found = ask(server.url, scenes, votes, tmp_path / "run")["arms"]["a"]
        assert (found["answered"], found["failed"]) == (20, 40)
        calls = len(server.calls)
        ask(server.url, scenes, votes, tmp_path / "run")
        assert len(server.calls) == calls + 40, "the refused ones are tried again at the next start"


def test_ctrl_c_keeps_what_is_finished(scenes, tmp_path):
    with serve(lambda call: openai_reply("<answer>bell</answer>", delay_s=0.05)) as server:
        options = ["--benchmark", "jsonl", "--data", str(scenes.source), "--engine", "server", "--in-flight", "1"]
        options += ["--skip-audio-check", "--samples", "9", "--temperature", "1"]
        options += ["--base-url", server.url + "/v1", "--model", "m", "--out", str(tmp_path / "run")]
        process = subprocess.Popen(
            [sys.executable, "-m", "mpar2.cli", "evaluate", *options], stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's "&" ignores it
        )  # fmt: skip
        while not server.calls[8:]:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 130 and "the same command goes on" in said and "Traceback" not in said
    assert len(list(read_run(tmp_path / "run").records())) >= 7


def test_a_service_that_is_down_stops_the_run(scenes, tmp_path):
    with serve([error(500)]) as server, pytest.raises(EvaluationError, match="20 answers in a row failed"):
        ask(server.url, scenes, [arm(samples=10, temperature=1)], tmp_path / "run")
    with serve([error(404, "no such model")]) as server, pytest.raises(Exception, match="model's name"):
        ask(server.url, scenes, [arm()], tmp_path / "other")


def test_a_finished_run_asks_nothing_and_another_is_refused(scenes, tmp_path):
    with serve(oracle_of(scenes)) as server:
        first = ask(server.url, scenes, [arm()], tmp_path / "run")
        (tmp_path / "run" / "metrics.json").unlink()
        assert ask(server.url, scenes, [arm()], tmp_path / "run") == first
        assert len(server.calls) == 6
        with pytest.raises(RunError, match=r"arms\[a\]\.temperature: 0\.0, now 0\.5"):
            ask(server.url, scenes, [arm(temperature=0.5)], tmp_path / "run")
        with pytest.raises(RunError, match="benchmark.fingerprint"):
            ask(server.url, scenes.first(3), [arm()], tmp_path / "run")


def test_no_audio_at_all_is_said_before_anything_is_asked(scenes, tmp_path):
    lost = read_items("jsonl", scenes.source, tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="--audio-root"):
        ask("http://127.0.0.1:1", lost, [arm()], tmp_path / "run")
    assert not (tmp_path / "run").exists()


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from mpar2.cli import main
import openai  # imported once, here, and not in each child

lines, rng, kills = Path(sys.argv[1], "items.jsonl"), random.Random(1), 0
most = int(os.environ.get("MPAR2_KILLS", "10"))
while True:
    size = lines.stat().st_size if lines.exists() else 0
    until = size + rng.randrange(1, 90_000 // most)  # bytes: of ten kills up to about 13 answers
    child = os.fork()
    if child == 0:
        os._exit(main(["evaluate", "--out", *sys.argv[1:]]))
    while kills < most and not (lines.exists() and lines.stat().st_size >= until):
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            sys.exit(f"the child ended by itself after {kills} kills")
        time.sleep(0.001)
    if kills == most:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kills += 1
"""


def test_kill_9_at_random_moments_changes_nothing(scenes, tmp_path):
    """The command in a process of its own, killed and started again; the server answers by the seed."""

    def plan(call):
        return openai_reply(f"<answer>{('dog bark', 'bell')[call.json['seed'] % 2]}</answer>", delay_s=0.004)

    with serve(plan) as server:
        options = ["--benchmark", "jsonl", "--data", str(scenes.source), "--engine", "server", "--in-flight", "1"]
        options += ["--trust-hearing"]
        options += ["--base-url", server.url + "/v1", "--model", "m", "--samples", "25", "--temperature", "1"]
        assert main(["evaluate", "--out", str(tmp_path / "calm"), *options]) == 0
        assert len(server.calls) == 150
        program = [sys.executable, "-c", KILLER, str(tmp_path / "killed"), *options]
        killed = subprocess.run(program, capture_output=True, text=True, timeout=300)
        assert killed.returncode == 0, killed.stderr[-2000:]
    assert len(server.calls) <= 300 + 10, "at most the one answer that was under way is asked twice"
    calm, killed = (sorted(_answers(tmp_path / name)) for name in ("calm", "killed"))
    assert calm == killed and len(calm) == 150
    assert (tmp_path / "calm" / "metrics.json").read_bytes() == (tmp_path / "killed" / "metrics.json").read_bytes()


def test_sigterm_stops_cleanly(scenes, tmp_path):
    with serve(lambda call: openai_reply("<answer>bell</answer>", delay_s=0.2)) as server:
        options = ["--benchmark", "jsonl", "--data", str(scenes.source), "--engine", "server", "--in-flight", "1"]
        options += ["--trust-hearing"]
        options += ["--base-url", server.url + "/v1", "--model", "m", "--out", str(tmp_path / "run")]
        process = subprocess.Popen(
            [sys.executable, "-m", "mpar2.cli", "evaluate", *options], stderr=subprocess.PIPE, text=True
        )
        while not server.calls[1:]:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 130 and "the same command goes on" in said and "Traceback" not in said
    assert len(list(read_run(tmp_path / "run").records())) >= 1


def _answers(folder):
    for record in read_run(folder).records():
        yield record["key"], record["status"], record["text"]


# The engine of this process


@pytest.fixture
def arms(tiny_checkpoint, tiny_adapter):
    common = {"model": str(tiny_checkpoint), "max_new_tokens": 12}
    return [
        arm("direct", **common | {"mode": "direct"}),
        arm("adapted", adapter=str(tiny_adapter), **common | {"mode": "mpar2"}),
        arm("votes", samples=2, temperature=1.0, **common),
    ]


@pytest.fixture(scope="module")
def engine():
    from mpar2.engines.transformers import TransformersEngine

    return TransformersEngine(device="cpu")


def test_stopped_and_resumed_equals_undisturbed(scenes, arms, engine, tmp_path):
    settings = Settings(batch_size=5, attention_share=0.5)
    calm = evaluate(scenes, arms, engine, tmp_path / "calm", settings)
    stops = 0

    def stop_sometimes(done, total, failed):
        nonlocal stops
        if total == 24 and done in (3, 11, 20) and done != stops:
            stops = done
            raise KeyboardInterrupt

    resumed = None
    for _ in range(4):
        try:
            resumed = evaluate(scenes, arms, engine, tmp_path / "stopped", settings, stop_sometimes)
        except KeyboardInterrupt:
            assert not (tmp_path / "stopped" / "metrics.json").exists()
    assert stops == 20 and resumed == calm
    assert sorted(_answers(tmp_path / "calm")) == sorted(_answers(tmp_path / "stopped"))
    manifest = read_run(tmp_path / "calm").manifest
    assert len(manifest["arms"][1]["adapter_hash"]) == 64 and manifest["arms"][0]["adapter_hash"] is None


def test_attention_is_recorded_for_the_chosen_share(scenes, arms, engine, tmp_path):
    evaluate(scenes, arms[:1], engine, tmp_path / "run", Settings(attention_share=0.5))
    records = list(read_run(tmp_path / "run").records())
    seen = [record for record in records if record["attention"]]
    assert 0 < len(seen) < 6
    for record in seen:
        ratio = record["attention"]["ratio"]
        assert record["attention"]["frame_s"] == 0.04
        assert len(ratio) == record["tokens"] == len(record["token_ends"]) and all(0 < value < 1 for value in ratio)
        assert record["token_ends"][-1] == len(record["text"])


def test_two_processes_share_the_work(scenes, arms, engine, tmp_path):
    alone = evaluate(scenes, arms, engine, tmp_path / "alone", Settings(batch_size=3))
    found = [evaluate(scenes, arms, engine, tmp_path / "both", Settings(batch_size=3, rank=r, world=2)) for r in (0, 1)]
    assert found == [None, alone]
    assert {p.name for p in (tmp_path / "both").iterdir()} >= {"items.jsonl", "items.1.jsonl", "metrics.json"}
    assert sorted(_answers(tmp_path / "alone")) == sorted(_answers(tmp_path / "both"))


def test_one_bad_clip_does_not_take_its_batch_with_it(scenes, arms, engine, tmp_path):
    scenes.audio_path(scenes.items[3]).write_bytes(b"RIFF no sound")
    metrics = evaluate(scenes, arms[:1], engine, tmp_path / "run", Settings(batch_size=6))
    assert (metrics["arms"]["direct"]["answered"], metrics["arms"]["direct"]["failed"]) == (5, 1)


def test_the_command_prints_a_table(scenes, tiny_checkpoint, tmp_path, capsys):
    options = ["--benchmark", "jsonl", "--data", str(scenes.source), "--limit", "2", "--model", str(tiny_checkpoint)]
    options += ["--mode", "direct", "--max-new-tokens", "4", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main(["evaluate", *options]) == 0
    shown = capsys.readouterr()
    assert "small-base direct" in shown.out and "metrics.json" in shown.out and "2 items" in shown.err
    assert main(["evaluate", *options, "--name", "x"]) == 2, "another arm is another run"
