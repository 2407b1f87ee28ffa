"""The server engine against ``transformers serve`` itself, in a process of its own.

It takes audio, as ``audio_url`` and as ``input_audio``, of a checkpoint whose processor ``AutoProcessor`` can load. It
refuses top_k and repetition_penalty, so it is asked with ``fields="openai"``; whatever the temperature, it samples only
where the checkpoint's generation_config says do_sample. A folder with the processor of the tiny
pair (``mpar2.engines.processor``: Qwen2.5-Omni's without image and video) is no such checkpoint: transformers does not
know that class, takes the folder for a language model (5.23) and drops the audio without a word. The stock processor
needs torchvision, which an audio product does not install. So hearing is tried on a small Qwen2-Audio, and on the small
Omni that its deafness is found out.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import soundfile
from conftest import make_clip

from mpar2.cli import main
from mpar2.items import read_items
from mpar2.question import Item, Question, item_to_json
from mpar2.runs import read_run

pytestmark = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import fastapi, uvicorn"], capture_output=True).returncode != 0,
    reason="transformers serve needs fastapi and uvicorn",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server that loads whatever folder it is asked for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1500):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=1)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not start: {log.read_text('utf-8', 'replace')[-2000:]}")


@pytest.fixture
def items(tmp_path):
    folder = tmp_path / "items"
    folder.mkdir()
    question = Question("What comes first?", ("dog bark", "bell"), "bell")
    lines = [json.dumps(item_to_json(Item(f"s{n}", f"{n}.wav", question))) for n in range(2)]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    for n in range(2):
        soundfile.write(folder / f"{n}.wav", make_clip(1.0 + n, n).samples, 16_000)
    return read_items("jsonl", folder)


def asked(items, model, out, *options):
    common = ["--benchmark", "jsonl", "--data", str(items.source), "--model", str(model), "--mode", "cot"]
    return main(["evaluate", *common, "--max-new-tokens", "16", "--out", str(out), *options])


@pytest.mark.parametrize("audio_as", ["audio_url", "input_audio"])
def test_a_served_model_hears_and_answers_as_in_this_process(server, items, qwen2_audio_checkpoint, tmp_path, audio_as):
    options = ("--engine", "server", "--base-url", server, "--fields", "openai", "--audio-as", audio_as)
    assert asked(items, qwen2_audio_checkpoint, tmp_path / "served", *options) == 0
    assert asked(items, qwen2_audio_checkpoint, tmp_path / "here", "--device", "cpu") == 0
    served, here = (
        {record["id"]: (record["text"], record["tokens"], record["finish"]) for record in read_run(run).records()}
        for run in (tmp_path / "served", tmp_path / "here")
    )
    assert served == here
    assert served["s0"] != served["s1"], "the two recordings are told apart"


def test_a_checkpoint_that_it_serves_as_deaf_is_found_out(server, items, tiny_checkpoint, tmp_path, capsys):
    options = ("--engine", "server", "--base-url", server, "--fields", "openai")
    assert asked(items, tiny_checkpoint, tmp_path / "deaf", *options) == 2
    assert "does not receive audio" in capsys.readouterr().err


def test_fields_that_it_does_not_know_are_named_with_a_way_on(server, items, qwen2_audio_checkpoint, tmp_path, capsys):
    options = ("--engine", "server", "--base-url", server)
    assert asked(items, qwen2_audio_checkpoint, tmp_path / "run", *options) == 1
    said = capsys.readouterr().err
    assert "HTTP 422: Unexpected fields" in said and "--fields openai" in said
