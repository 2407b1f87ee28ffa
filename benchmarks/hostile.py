"""Cost of untrusted files and requests: through the loaders, one process per file, and through the running app.

    python -m benchmarks.hostile [--seed 0] [--odd-values 200] [--only loaders|app]

Loaders: every file in a process of its own, with the limits of the public app; processor time and the rise of peak
memory for each. App: the same files, and requests with odd values to every handler by every route, sent sequentially to
one running app with the tiny pair. Exit status 1 if a file was neither used nor refused with a message, or exceeded a
limit; if the app ended, took longer than 10 s for one, replied without a message, or kept more than 200 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load import memory_mb, start_app, wait_for
from testing.hostile import write_files
from testing.hostile.sounds import good_wav, hostile_sounds
from testing.hostile.uploads import good_upload, hostile_uploads
from testing.hostile.worker import Report, examine

LIMIT_MB, LIMIT_S = 300, 10.0
APP_LIMIT_MB, APP_LIMIT_S = 200, 10.0
_TOKENS = 4


def main(arguments: list[str] | None = None) -> int:
    """Print one line for each kind, and all failures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--odd-values", type=int, default=200, help="runs with one odd value (default: %(default)s)")
    parser.add_argument("--only", choices=("loaders", "app"))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="through the app: every Nth only")
    options = parser.parse_args(arguments)
    n_failures = 0
    if options.only != "app":
        n_failures += _loaders(options.seed, options.odd_values)
    if options.only != "loaders":
        n_failures += _app(options.seed, options.odd_values, options.every)
    return 1 if n_failures else 0


def _loaders(seed: int, odd_values: int) -> int:
    runs = hostile_uploads(seed, odd_values)
    by_hand = len(runs) - odd_values
    failures: list[Report] = []
    print(f"{'files':34}{'n':>6}{'used':>6}{'refused':>9}{'other':>7}{'most MB':>9}{'most s':>8}")
    for title, kind, files in (
        ("recordings, loaded", "sounds", hostile_sounds(seed)),
        ("runs, loaded", "uploads", runs[:by_hand]),
        ("runs with an odd value, drawn", "figures", runs[by_hand:]),
    ):
        with tempfile.TemporaryDirectory(prefix="mpar2-hostile-") as folder:
            reports = list(examine(kind, write_files(files, Path(folder))))
        counts = Counter(report.outcome for report in reports)
        n_other = len(reports) - counts["used"] - counts["refused"]
        memory, seconds = max(r.extra_mb for r in reports), max(r.seconds for r in reports)
        print(
            f"{title:34}{len(reports):6}{counts['used']:6}{counts['refused']:9}{n_other:7}{memory:9.0f}{seconds:8.1f}"
        )
        failures += [
            report
            for report in reports
            if report.outcome not in ("used", "refused") or report.extra_mb > LIMIT_MB or report.seconds > LIMIT_S
        ]
    for report in failures:
        print(f"{report.name}: {report.outcome}, {report.seconds:.1f} s, {report.extra_mb:.0f} MB: {report.message}")
    return len(failures)


# ---- the running app -----------------------------------------------------------------------------------------------


def _app(seed: int, odd_values: int, every: int) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, app = f"http://127.0.0.1:{port}", start_app(port, _TOKENS)
    failures: list[str] = []
    try:
        stranger = _Stranger(url, wait_for(url, app))
        for _ in range(5):
            stranger.ask(good_wav())  # load the models and all libraries before measuring
        with tempfile.TemporaryDirectory() as folder:
            stranger.bring(good_upload(Path(folder)).read_bytes(), "good.zip")
        # Memory is compared with that of the warm app.
        process = psutil.Process(app.pid)
        before, most, slowest = memory_mb(process)[1], 0.0, 0.0
        counts: Counter[str] = Counter()
        for kind, name, attempt in islice(_attempts(stranger, seed, odd_values), 0, None, every):
            start = time.monotonic()
            try:
                outcome, message = attempt()
            except httpx.HTTPError as error:
                outcome, message = "connection", f"{type(error).__name__}: {error}"
            seconds = time.monotonic() - start
            counts[f"{kind}, {outcome}"] += 1
            most, slowest = max(most, memory_mb(process)[1]), max(slowest, seconds)
            # A refusal without a message is a failure, and so is an unexpected error of the app.
            silent = not message.strip()
            if outcome == "connection" or seconds > APP_LIMIT_S or silent or "on our side" in message:
                failures.append(f"{kind} {name}: {outcome} after {seconds:.1f} s: {message[:300]}")
                print(failures[-1], flush=True)
            if app.poll() is not None:
                failures.append(f"the app ended with exit status {app.returncode} at {kind} {name}")
                break
        # The app must still work after all attempts.
        answered = app.poll() is None and stranger.ask(good_wav())[0] == "used"
        after = memory_mb(process)[1] if app.poll() is None else 0.0
    finally:
        app.terminate()
        app.wait(30)
    for outcome, number in sorted(counts.items()):
        print(f"{outcome:50}{number:6}")
    print(
        f"{sum(counts.values())} through the running app: longest {slowest:.1f} s; memory {before:.0f} MB before, "
        f"{most:.0f} at most, {after:.0f} after; a good clip afterwards is {'answered' if answered else 'NOT answered'}"
    )
    if after - before > APP_LIMIT_MB:
        failures.append(f"the app kept {after - before:.0f} MB")
        print(failures[-1])
    return len(failures) + (not answered)


class _Stranger:
    """API client of the app, with another visitor's address (by the proxy's header) for each request."""

    def __init__(self, url: str, config: dict[str, Any]) -> None:
        self.url, self.dependencies = url, [d for d in config["dependencies"] if d.get("backend_fn", True)]
        self.components = {component["id"]: component for component in config["components"]}
        self.client = httpx.Client(base_url=url, timeout=60)
        self.number = 0
        reason = next(d for d in self.dependencies if d["api_name"] == "reason")
        self.models = [self.components[number]["props"].get("value") for number in reason["inputs"]]
        (self.reads,) = (
            dependency["id"]
            for dependency in self.dependencies
            for target, event in dependency["targets"]
            if event == "upload" and self.components[target]["props"].get("elem_id") == "run-file"
        )

    def headers(self) -> dict[str, str]:
        self.number += 1
        return {"X-Forwarded-For": f"11.{self.number >> 16 & 255}.{self.number >> 8 & 255}.{self.number & 255}"}

    def upload(self, data: bytes, name: str = "clip.wav") -> dict[str, Any] | str:
        reply = self.client.post("/gradio_api/upload", files={"files": (name, data)}, headers=self.headers())
        if reply.status_code != 200:
            return reply.text
        return {"path": reply.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def ask(self, data: bytes, name: str = "clip.wav") -> tuple[str, str]:
        """Call ``/reason`` about a recording, and return (outcome, reply)."""
        file = self.upload(data, name)
        if isinstance(file, str):
            return "refused", file
        values = [file, "What is heard?", "", *self.models[3:5], _TOKENS, 0, 0]
        reply = self.client.post("/gradio_api/call/reason", json={"data": values}, headers=self.headers())
        if reply.status_code != 200:
            return "refused", reply.text
        text = self.client.get(f"/gradio_api/call/reason/{reply.json()['event_id']}").text
        return ("used", text) if '"tokens"' in text else ("refused", text.rsplit("data: ", 1)[-1].strip(' \n"nul'))

    def bring(self, data: bytes, name: str) -> tuple[str, str]:
        """Upload a run to the Analysis tab, and return (outcome, reply)."""
        file = self.upload(data, name)
        return ("refused", file) if isinstance(file, str) else self.join(self.reads, [file])

    def join(self, fn: int, values: Any, **fields: Any) -> tuple[str, str]:
        """Call a handler of the page through the queue, and return (outcome, reply)."""
        session = os.urandom(6).hex()
        body = {"data": values, "fn_index": fn, "session_hash": session} | fields
        try:
            content = json.dumps(body).encode("utf-8", "surrogatepass")
        except RecursionError:
            content = b'{"data":' + b"[" * 5000 + b"]" * 5000 + b"}"
        headers = self.headers() | {"Content-Type": "application/json"}
        reply = self.client.post("/gradio_api/queue/join", content=content, headers=headers)
        if reply.status_code != 200:
            return "refused", reply.text
        message = ""
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
            for line in events.iter_lines():
                event = json.loads(line[6:]) if line.startswith("data: ") else {}
                if event.get("msg") == "process_completed":
                    output = event.get("output") or {}
                    if not event.get("success"):
                        return "refused", str(output.get("error") or "")
                    return "answered", json.dumps(output.get("data") or "nothing to show")
                if event.get("msg") in ("unexpected_error", "close_stream"):
                    return "refused", str(event.get("message") or "the stream is closed")
        return "refused", message

    def inputs(self, dependency: dict[str, Any], file: Any) -> list[Any]:
        """Return a valid value for each input."""
        kinds = [self.components[number] for number in dependency["inputs"]]
        files = ("audio", "file", "uploadbutton")
        return [file if component["type"] in files else component["props"].get("value") for component in kinds]


def _attempts(stranger: _Stranger, seed: int, odd_values: int) -> Iterator[tuple[str, str, Any]]:
    for sound in hostile_sounds(seed):
        data = sound.make()
        if sound.size is not None:
            data += bytes(min(sound.size, 25_000_000) - len(data))
        yield "recording", sound.name, lambda data=data, sound=sound: stranger.ask(data, sound.name)
    for upload in hostile_uploads(seed, odd_values):
        data = upload.make()
        yield "run", upload.name, lambda data=data, upload=upload: stranger.bring(data, upload.name)
    rng = random.Random(seed)
    good = stranger.upload(good_wav())
    for dependency in stranger.dependencies:
        inputs, name = stranger.inputs(dependency, good), f"{dependency['id']} {dependency.get('api_name')}"
        if dependency.get("api_name") == "compare":
            inputs = [value if value is not None else "" for value in inputs]
        for odd in _odd_values(rng):
            position = rng.randrange(len(inputs)) if inputs else 0
            values = [*inputs[:position], odd, *inputs[position + 1 :]]
            yield "queued request", name, lambda d=dependency, v=values: stranger.join(d["id"], v)
        for values in ([], None, {}, "x", inputs + inputs, [None] * len(inputs)):
            yield "queued request", name, lambda d=dependency, v=values: stranger.join(d["id"], v)
        for route in (f"run/{dependency.get('api_name') or 'predict'}", "api/predict", "run/predict/"):
            yield "direct request", name, lambda d=dependency, r=route, v=inputs: _post(stranger, r, d["id"], v)


def _post(stranger: _Stranger, route: str, fn: int, values: list[Any]) -> tuple[str, str]:
    reply = stranger.client.post(
        f"/gradio_api/{route}", json={"data": values, "fn_index": fn}, headers=stranger.headers()
    )
    return ("refused" if reply.status_code >= 400 else "used"), reply.text


def _odd_values(rng: random.Random) -> list[Any]:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    file = {"meta": {"_type": "gradio.FileData"}}
    odd = [
        *(None, True, -1, 1e308, 10**400, "", "\0", "\ud800", "x" * 900_000, [], {}, deep, ["x"] * 10_000),
        *({"path": "/etc/passwd"} | file, {"path": "http://127.0.0.1:1/x.wav"} | file, {"path": "../../x"} | file),
        *({"path": None} | file, {"path": "a\0b"} | file, {"__type__": "update"}, "<script>alert(1)</script>", "=1+1"),
    ]
    return rng.sample(odd, 14)


if __name__ == "__main__":
    sys.exit(main())
