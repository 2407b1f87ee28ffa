"""How long an evaluation behind a server takes against the ideal, and arms that are streamed against one of them.

    python -m benchmarks.served [--items 640] [--in-flight 32] [--latency 1.0] [--repeat 3]

``evaluate``: ``mpar2 evaluate`` with the server engine, as a run does it: clips of 10 s decoded, sent as WAV, every
answer fsynced. Ideal is ``ceil(items / in_flight) * latency``. ``stream``: three arms side by side against one of them
alone, by server-sent events. The server runs in a process of its own. Ratios are medians of ``--repeat`` rounds. On a
machine that does other work too they say little: the client's processor time for a request is printed beside them, and
the requests per second that it allows.
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
    ours, theirs = context.Pipe()
    server = context.Process(target=_server, args=(theirs, args.latency), daemon=True)
    server.start()
    url = ours.recv() + "/v1"
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = _items(Path(folder) / "data", args.items)
            ideal = math.ceil(args.items / args.in_flight) * args.latency
            _evaluate(data, url, Path(folder) / "warm", args.in_flight, 2)
            before = time.process_time()
            _evaluate(data, url, Path(folder) / "counted", args.in_flight, args.items)
            a_request = (time.process_time() - before) / args.items
            ratios = {
                "evaluate": [
                    _evaluate(data, url, Path(folder) / str(n), args.in_flight, args.items) / ideal
                    for n in range(args.repeat)
                ],
                "stream": [_stream(url, 3) / _stream(url, 1) for _ in range(args.repeat)],
            }
    finally:
        ours.send("done")
        server.join(10)
    print(machine())
    print(f"{args.items} items, {args.in_flight} in flight, {args.latency:g} s latency: ideal {ideal:g} s\n")
    print(f"{a_request * 1000:.1f} ms of processor a request: at most {1 / a_request:.0f} requests a second\n")
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
    started = time.perf_counter()
    metrics = evaluate(items, [arm_from_json({"name": "a", "model": "m"})], engine, out)
    assert metrics is not None and metrics["arms"]["a"]["answered"] == count
    return time.perf_counter() - started


def _stream(url: str, arms: int) -> float:
    engine = ServerEngine([url], check_audio=False)
    started = time.perf_counter()
    updates = list(engine.stream(noise(10.0, 0), QUESTION, [Arm(f"a{n}", "m") for n in range(arms)]))
    assert sum(update.generation is not None for update in updates) == arms
    return time.perf_counter() - started


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
