"""Time of an evaluation with a server against the ideal, and of three streamed arms against one.

    python -m benchmarks.served [--items 640] [--in-flight 32] [--latency 1.0] [--repeat 3]

``evaluate``: ``mpar2 evaluate`` with the server engine, as a run does it: clips of 10 s decoded, sent as WAV, every
answer fsynced. Ideal is ``ceil(items / in_flight) * latency``. ``stream``: three arms side by side against one of them
alone, by server-sent events. The server runs in a process of its own. Ratios are medians of ``--repeat`` rounds. They
are unreliable on a busy machine, so the client's processor time per request is printed too, with the requests per
second that it allows.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile

from benchmarks.setting import QUESTION, machine, noise
from mpar2.arms import arm_from_json
from mpar2.audio import SAMPLE_RATE
from mpar2.engines.base import Arm
from mpar2.engines.server import ServerEngine
from mpar2.evaluation import evaluate
from mpar2.items import read_items
from mpar2.question import Item, Question, item_to_json
from testing.wire import Call, HttpReply, openai_reply, openai_stream, serve

LIMITS = {"evaluate": 1.1, "stream": 1.2}  # as multiples of the ideal, of one arm
_PIECES = ["word "] * 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=640)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--latency", type=float, default=1.0, help="of the server, seconds a request")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    parent_pipe, child_pipe = context.Pipe()
    server = context.Process(target=_server, args=(child_pipe, args.latency), daemon=True)
    server.start()
    url = parent_pipe.recv() + "/v1"
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = _items(Path(folder) / "data", args.items)
            ideal = math.ceil(args.items / args.in_flight) * args.latency
            _evaluate(data, url, Path(folder) / "warm", args.in_flight, 2)
            start = time.process_time()
            _evaluate(data, url, Path(folder) / "counted", args.in_flight, args.items)
            request_s = (time.process_time() - start) / args.items
            ratios = {
                "evaluate": [
                    _evaluate(data, url, Path(folder) / str(n), args.in_flight, args.items) / ideal
                    for n in range(args.repeat)
                ],
                "stream": [_stream(url, 3) / _stream(url, 1) for _ in range(args.repeat)],
            }
    finally:
        parent_pipe.send("done")
        server.join(10)
    print(machine())
    print(f"{args.items} items, {args.in_flight} in flight, {args.latency:g} s latency: ideal {ideal:g} s\n")
    print(f"{request_s * 1000:.1f} ms of processor a request: at most {1 / request_s:.0f} requests a second\n")
    print("| what | ratio, median | rounds | limit |\n| --- | --- | --- | --- |")
    for name, values in ratios.items():
        rounds = ", ".join(f"{value:.3f}" for value in values)
        print(f"| {name} | {statistics.median(values):.3f} | {rounds} | {LIMITS[name]} |")
    raise SystemExit(any(statistics.median(values) > LIMITS[name] for name, values in ratios.items()))


def _items(folder: Path, count: int) -> Path:
    """Return ``count`` items over 16 clips of 10 s."""
    folder.mkdir()
    for number in range(16):
        soundfile.write(folder / f"{number}.wav", noise(10.0, number).samples, SAMPLE_RATE)
    question = Question("What comes first?", ("dog bark", "bell"), "bell")
    lines = (json.dumps(item_to_json(Item(f"i{n}", f"{n % 16}.wav", question))) for n in range(count))
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def _evaluate(data: Path, url: str, out: Path, in_flight: int, count: int) -> float:
    items = read_items("jsonl", data).first(count)
    engine = ServerEngine([url], in_flight=in_flight, check_audio=False)
    start = time.perf_counter()
    metrics = evaluate(items, [arm_from_json({"name": "a", "model": "m"})], engine, out)
    assert metrics is not None and metrics["arms"]["a"]["answered"] == count
    return time.perf_counter() - start


def _stream(url: str, arms: int) -> float:
    engine = ServerEngine([url], check_audio=False)
    start = time.perf_counter()
    updates = list(engine.stream(noise(10.0, 0), QUESTION, [Arm(f"a{n}", "m") for n in range(arms)]))
    assert sum(update.generation is not None for update in updates) == arms
    return time.perf_counter() - start


def _server(pipe: Any, latency: float) -> None:
    def plan(call: Call) -> HttpReply:
        if b'"stream":true' in call.body.replace(b" ", b""):
            return openai_stream(_PIECES, pause_s=0.02)
        return openai_reply("<answer>bell</answer>", delay_s=latency)

    with serve(plan) as server:
        pipe.send(server.url)
        pipe.recv()


if __name__ == "__main__":
    main()
