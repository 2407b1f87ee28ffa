"""Load test with many visitors: every reply must match its own clip, and memory must not grow.

    python -m benchmarks.load [--seconds 300] [--visitors 50] [--tokens 16] [--hostile 5]

The app is started as a process of its own, with the tiny pair, on a free port. Each visitor sends a clip of a unique
length and a question with a unique number to ``/compare``, checks that both are returned, and repeats this until the
time is over. A wait starts at the first attempt and includes attempts refused by a full queue. Some visitors leave the
queue, and their places must become free again. With ``--hostile N`` the same honest visitors (all but N) run twice,
alone and beside N of ``HOSTILE``; honest median waits may grow by ``MOST_RATIO``. Visitors are distinguished by the
header of a proxy. Exit status 1 if a reply belonged to another visitor, an error was not "busy", or memory, including
child processes, grew by more than ``LIMIT_MB`` between the first fifth of the time and the last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import wave
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil

from testing.synthetic import write_run

HOSTILE = ("bulk", "large bodies", "direct routes", "nobody listens", "silent judge")  # of their visitors, in turn
LIMIT_MB = 150
MOST_RATIO = 1.5
_ROOT = Path(__file__).resolve().parents[1]
_START_S = 600
# The silent judge is on this machine, which a public app must not call, so the check of addresses is disabled.
_APP = """
import contextlib, app
from pages import scoring
scoring.check_address, scoring.public_only = lambda *_, **__: None, lambda _: contextlib.nullcontext()
app.main()
"""


@dataclass(frozen=True)
class Routes:
    """Indices of the app's functions, and the names of two models."""

    compare: int  # of the API
    run: int  # of the page
    judge: int
    read: int  # of an uploaded run
    models: tuple[str, str]

    @classmethod
    def of(cls, config: dict[str, Any]) -> Routes:
        """Build the routes from the configuration that the app serves."""
        components = {component["id"]: component["props"] for component in config["components"]}
        labels = {props.get("label"): props for props in components.values()}
        by_name = {d["api_name"]: d["id"] for d in config["dependencies"]}
        by_event = {
            (components.get(target, {}).get("elem_id"), event, len(d["inputs"])): d["id"]
            for d in config["dependencies"]
            for target, event in d["targets"]
        }
        judge = next(d["id"] for d in config["dependencies"] if [None, "success"] in d["targets"])
        run = next(d["id"] for d in config["dependencies"] if d["inputs"] and d["targets"][0][1] == "submit")
        names = labels["left_model"]["value"], labels["right_model"]["value"]
        return cls(by_name["compare"], run, judge, by_event["run-file", "upload", 1], names)


@dataclass
class Tally:
    """Results of all visitors."""

    outcomes: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    positions: int = 0  # messages with a position; one is sent whenever the queue moves
    lock: threading.Lock = field(default_factory=threading.Lock)


def clip_of(number: int) -> bytes:
    """Return a tone of 1 s plus 20 ms times ``number``, so that the length identifies the visitor."""
    times = np.arange(16_000 + 320 * number) / 16_000
    samples = (8000 * np.sin(2 * np.pi * (200 + 10 * number) * times)).astype("<i2")
    buffer = BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(samples.tobytes())
    return buffer.getvalue()


def ask(
    client: httpx.Client,
    routes: Routes,
    number: int,
    tokens: int,
    tally: Tally,
    *,
    start: float,
    leave_after_s: float | None = None,
) -> bool:
    """Send one request of one visitor, from upload to reply; return False if the queue is full.

    The wait counts from ``start``, a monotonic time. After ``leave_after_s`` the visitor leaves the queue.
    """
    session = os.urandom(8).hex()
    upload = client.post("/gradio_api/upload", files={"files": (f"clip {number}.wav", clip_of(number))})
    upload.raise_for_status()
    question = f"Is this visitor number {number}?"
    audio = {"path": upload.json()[0], "meta": {"_type": "gradio.FileData"}}
    data = [audio, question, "", routes.models[0], "cot", routes.models[1], "mpar2", tokens, 0, 0, False]
    body = {"data": data, "fn_index": routes.compare, "session_hash": session}
    reply = client.post("/gradio_api/queue/join", json=body)
    if reply.status_code in (429, 503):
        with tally.lock:
            tally.outcomes["told that the line is full"] += 1
        time.sleep(1.0)
        return False
    reply.raise_for_status()
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
        for line in events.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "estimation" and message.get("rank") is not None:
                with tally.lock:
                    tally.positions += 1
            if message.get("msg") == "process_completed":
                _check(message, number, question, tally)
                with tally.lock:
                    tally.waits.append(time.monotonic() - start)
                return True
            if leave_after_s is not None and time.monotonic() - start > leave_after_s:
                with tally.lock:
                    tally.outcomes["left the line"] += 1
                return True
    with tally.lock:
        tally.outcomes["stream ended early"] += 1
    return True


def _check(message: dict[str, Any], number: int, question: str, tally: Tally) -> None:
    output = message.get("output") or {}
    document = (output.get("data") or [None])[0]
    with tally.lock:
        if not message.get("success") or not isinstance(document, dict):
            tally.outcomes[f"error: {str(output.get('error'))[:80]}"] += 1
            return
        seconds = 1 + 0.02 * number
        if document["question"]["text"] != question or abs(document["clip"]["seconds"] - seconds) > 0.001:
            tally.wrong.append(f"visitor {number} got {document['question']['text']}, {document['clip']['seconds']} s")
        tally.outcomes["own answer" if document["status"] == "done" else f"status {document['status']}"] += 1


def visit(url: str, routes: Routes, number: int, tokens: int, end: float, tally: Tally) -> None:
    """Run one visitor until ``end``. Every fifth visitor leaves every second request after three seconds."""
    turn, start = 0, time.monotonic()
    with httpx.Client(base_url=url, timeout=_START_S, headers={"X-Forwarded-For": f"11.0.0.{number}"}) as client:
        while time.monotonic() < end:
            turn += 1
            leave_after_s = 3.0 if number % 5 == 0 and turn % 2 else None
            try:
                if ask(client, routes, number, tokens, tally, start=start, leave_after_s=leave_after_s):
                    start = time.monotonic()
            except httpx.HTTPError as error:
                with tally.lock:
                    tally.outcomes[f"connection: {type(error).__name__}"] += 1


@cache
def dear_run() -> bytes:
    """Return a zipped run that is small to send and expensive to read."""
    with tempfile.TemporaryDirectory() as folder, BytesIO() as buffer:
        lines = write_run(Path(folder, "run"), 2000) / "items.jsonl"
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(lines, "run/items.jsonl")
        return buffer.getvalue()


def molest(url: str, routes: Routes, silent: str, number: int, tokens: int, end: float, tally: Tally) -> None:
    """Run one hostile visitor until ``end``, who sends requests without a pause and does not wait for results.

    ``silent`` is the address of a server that never replies.
    """
    kind = HOSTILE[number % len(HOSTILE)]
    with httpx.Client(base_url=url, timeout=30, headers={"X-Forwarded-For": f"12.0.0.{number}"}) as client:
        file, turn = _uploaded(client, clip_of(number)), 0
        arms = [[routes.models[0], "cot"], [routes.models[1], "mpar2"]]
        data = [file, "What?", "", *arms[0], *arms[1], tokens, 0, 0, False]
        form = {"question": "What?", "arms": arms, "max_new_tokens": tokens, "events": "a bell"}
        form |= {"judge": "server", "address": silent, "model": "none", "key": "none"}
        costly_run = dear_run()
        large = b'{"data": ["' + b"x" * 20_000_000 + b'"]}'

        def join(fn: int, values: list[Any], session: str, **fields: Any) -> httpx.Response:
            body = {"data": values, "fn_index": fn, "session_hash": session} | fields
            return client.post("/gradio_api/queue/join", json=body)

        while time.monotonic() < end:
            turn += 1
            session = f"hostile {number} {turn % 100}"
            try:
                match kind:
                    case "bulk" if turn % 2:
                        reply = client.post("/gradio_api/upload", files={"files": ("a.wav", bytes(15_000_000))})
                    case "bulk":
                        reply = join(routes.read, [_uploaded(client, costly_run, "run.zip")], session)
                    case "large bodies":
                        reply = client.post("/gradio_api/queue/join", content=large)
                    case "direct routes":
                        body = {"data": data, "fn_index": routes.compare, "session_hash": session}
                        reply = client.post("/gradio_api/run/compare", json=body)
                    case "nobody listens":
                        reply = join(routes.compare, data, session)
                    case "silent judge":
                        reply = join(routes.run, [file], session, event_data=form)
                        if reply.status_code == 200:
                            _listen(client, session)
                            reply = join(routes.judge, [], session)
                outcome = f"{kind}: {reply.status_code}"
            except (httpx.HTTPError, ValueError, LookupError) as error:
                outcome = f"{kind}: {type(error).__name__}"
            with tally.lock:
                tally.outcomes[outcome] += 1


def _listen(client: httpx.Client, session: str) -> None:
    """Wait until an event of the session has ended."""
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
        for line in events.iter_lines():
            if '"process_completed"' in line:
                return


def _uploaded(client: httpx.Client, content: bytes, name: str = "clip.wav") -> dict[str, Any]:
    path = client.post("/gradio_api/upload", files={"files": (name, content)}).json()[0]
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def start_app(port: int, tokens: int) -> subprocess.Popen[bytes]:
    # not a local app: that accepts only this machine, and counts visitors by session
    command = [
        sys.executable,
        "-c",
        _APP,
        "--base",
        "tiny-base",
        "--model",
        "tiny-mpar2",
        "--host",
        "0.0.0.0",
        "--port",
        str(port),
        "--max-new-tokens",
        str(tokens),
        "--runs-per-hour",
        "0",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "MPAR2_BEHIND_PROXY": "1"}  # visitors by X-Forwarded-For
    return subprocess.Popen(command, cwd=_ROOT, env=environment)


def wait_for(url: str, app: subprocess.Popen[bytes]) -> dict[str, Any]:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and app.poll() is None:
        try:
            return httpx.get(f"{url}/config", timeout=30).json()
        except httpx.HTTPError:
            time.sleep(1)
    raise SystemExit("the app did not start")


def memory_mb(app: psutil.Process) -> tuple[float, float]:
    """Return the memory of the app alone, and with its child processes, in MB; shared pages count once (Linux: PSS)."""
    sizes = [_physical(app)]
    for process in app.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            sizes.append(_physical(process))
    return app.memory_info().rss / 1e6, sum(sizes)


def _physical(process: psutil.Process) -> float:
    info = process.memory_full_info()
    return getattr(info, "pss", info.rss) / 1e6


def main(arguments: list[str] | None = None) -> int:
    """Run the visitors and print their results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--hostile", type=int, default=0, help="of the visitors, in a second part of as many seconds")
    parser.add_argument("--tokens", type=int, default=16, help="longest trace (default: %(default)s)")
    options = parser.parse_args(arguments)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, tally, memory = f"http://127.0.0.1:{port}", Tally(), []
    app = start_app(port, options.tokens)
    # The silent judge occupies judging slots without ever replying.
    judge = socket.create_server(("127.0.0.1", 0), backlog=1000)  # accepts connections and never replies
    silent = f"http://127.0.0.1:{judge.getsockname()[1]}/v1"
    try:
        routes = Routes.of(wait_for(url, app))
        with httpx.Client(base_url=url, timeout=_START_S) as client:  # load the models before measuring
            ask(client, routes, options.visitors, options.tokens, Tally(), start=0.0)
        dear_run()
        process, start = psutil.Process(app.pid), time.monotonic()
        honest, beside_tally, hostile = options.visitors - options.hostile, Tally(), Tally()
        # The second round adds the hostile visitors to the same honest ones.
        for honest_tally, strangers in ((tally, 0), (beside_tally, options.hostile))[: 1 + bool(options.hostile)]:
            end = time.monotonic() + options.seconds
            threads = [
                threading.Thread(target=visit, args=(url, routes, number, options.tokens, end, honest_tally))
                for number in range(honest)
            ]
            threads += [
                threading.Thread(target=molest, args=(url, routes, silent, number, options.tokens, end, hostile))
                for number in range(strangers)
            ]
            for thread in threads:
                thread.start()
            # Memory is sampled during the load, to compare its start with its end.
            while any(thread.is_alive() for thread in threads):
                memory.append((time.monotonic() - start, *memory_mb(process)))
                time.sleep(0.5)
        status = app.poll()
        with httpx.Client(base_url=url, timeout=_START_S) as client:  # with an empty queue, a visitor is served at once
            last_tally = Tally()
            ask(client, routes, options.visitors, options.tokens, last_tally, start=0.0)
    finally:
        judge.close()
        app.terminate()
        app.wait(30)
    # Medians of the first and the last fifth are robust against single requests.
    fifth = options.seconds / 5
    early = [median(row[kind] for row in memory if row[0] <= fifth) for kind in (1, 2)]
    late = [median(row[kind] for row in memory if row[0] >= memory[-1][0] - fifth) for kind in (1, 2)]
    # Report both rounds, then decide on the exit status.
    served = sorted(tally.waits)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{options.visitors} visitors for {memory[-1][0]:.0f} s, {os.cpu_count()} cores, load average {load:.1f}, "
        f"{options.tokens} tokens an arm"
    )
    for outcome, number in tally.outcomes.most_common():
        print(f"  {outcome:40}{number:6}")
    if served:
        print(f"  wait for an answer: median {median(served):.1f} s, longest {served[-1]:.1f} s")
    print(f"  messages that told somebody's place in the line: {tally.positions}")
    print(f"  one more visitor, after all had left: {', '.join(last_tally.outcomes) or 'no reply'}")
    for kind, name in ((1, "the app"), (2, "the app and its child processes")):
        most = max(row[kind] for row in memory)
        print(
            f"  memory of {name}: {early[kind - 1]:.0f} MB early, {late[kind - 1]:.0f} MB late, at most {most:.0f} MB"
        )
    for line in tally.wrong:
        print(f"  CROSSED: {line}")
    ratio = _beside_hostile(tally, beside_tally, hostile) if options.hostile else 0.0
    tally.wrong += beside_tally.wrong
    tally.outcomes += beside_tally.outcomes
    expected = ("own answer", "told that the line is full", "left the line")
    errors = sum(number for outcome, number in tally.outcomes.items() if outcome not in expected)
    failed = (
        tally.wrong
        or errors
        or status is not None
        or ratio > MOST_RATIO
        or late[1] - early[1] > LIMIT_MB
        or not last_tally.outcomes["own answer"]
    )
    return 1 if failed else 0


def _beside_hostile(alone: Tally, beside: Tally, hostile: Tally) -> float:
    """Print both parts, and return the ratio of the honest visitors' median waits."""
    ratio = median(beside.waits) / median(alone.waits) if alone.waits and beside.waits else float("inf")
    for name, tally in (("alone", alone), ("beside hostile ones", beside)):
        waits = f"median wait {median(tally.waits):.1f} s" if tally.waits else "no answer"
        print(f"  honest {name}: {waits}, {dict(tally.outcomes)}")
    print(f"  ratio of median waits {ratio:.2f}; hostile: {dict(hostile.outcomes)}")
    return ratio


if __name__ == "__main__":
    sys.exit(main())
