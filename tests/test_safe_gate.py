"""Over the wire: every route with real inputs; bodies, hosts, addresses, and one visitor's share."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from mpar2.engines.transformers import TransformersEngine
from mpar2.formats import Limits
from pages.gate import BODY_BYTES, SessionShares, UploadShares, host_is_local
from pages.limits import Pace
from pages.line import events_of
from pages.services import Offer, Services, Uploads
from testing.hostile.sounds import good_wav

pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def app(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    from pages import build_app, launch_settings

    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("cache")))
    services = Services(
        engine=TransformersEngine(),
        offers=(Offer("small", str(tiny_checkpoint), None),),
        limits=Limits(max_seconds=8.0, max_bytes=1_000_000),
        max_new_tokens=8,
    )
    demo = build_app(services)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings(1))
    with httpx.Client(base_url=url, timeout=60) as client:
        config = client.get("/config").json()
        yield SimpleNamespace(client=client, services=services, demo=demo, config=config)
    demo.close()
    patch.undo()


def send(app: SimpleNamespace, data: bytes | None = None) -> dict[str, Any]:
    reply = app.client.post("/gradio_api/upload", files={"files": ("a.wav", data or good_wav())})
    reply.raise_for_status()
    return {"path": reply.json()[0], "meta": {"_type": "gradio.FileData"}}


def inputs_of(app: SimpleNamespace, dependency: dict[str, Any], sound: dict[str, Any]) -> list[Any]:
    """A real value for each input of a handler, by the kind of its component."""
    kinds = {component["id"]: component for component in app.config["components"]}
    values: list[Any] = []
    for number in dependency["inputs"]:
        component = kinds[number]
        if component["type"] in ("audio", "file", "uploadbutton"):
            values.append(sound)
        else:
            values.append(component["props"].get("value"))
    return values


def queued(dependency: dict[str, Any]) -> bool:
    return dependency.get("queue") is not False and dependency.get("backend_fn", True)


def test_no_queued_handler_runs_by_a_direct_route(app: SimpleNamespace) -> None:
    sound, tried = send(app), 0
    for dependency in app.config["dependencies"]:
        if not queued(dependency):
            continue
        body = {"data": inputs_of(app, dependency, sound), "fn_index": dependency["id"], "session_hash": "direct"}
        names = {"predict", str(dependency.get("api_name") or "predict")}
        for name in names:
            for route in ("run", "api"):
                for end in ("", "/"):
                    reply = app.client.post(f"/gradio_api/{route}/{name}{end}", json=body)
                    assert reply.status_code == 404, (route, name, dependency["id"], reply.text[:200])
                    tried += 1
    assert tried >= 16
    assert "direct" not in app.demo.state_holder, "what is refused makes no session"


def finished(app: SimpleNamespace, fn: int, data: list[Any], session: str) -> dict[str, Any]:
    joined = app.client.post("/gradio_api/queue/join", json={"data": data, "fn_index": fn, "session_hash": session})
    assert joined.status_code == 200, joined.text
    return completed(app, session)


def completed(app: SimpleNamespace, session: str) -> dict[str, Any]:
    with app.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
        for line in events.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("the stream ended")


def test_inputs_that_no_handler_takes_are_refused_in_words(app: SimpleNamespace) -> None:
    """Every queued handler, with odd values in each of its inputs: words, or a result; and nothing of the machine."""
    sound, refused = send(app), 0
    odd: list[Any] = [None, True, [], {}, "\ud800", 10**400, ["x"] * 50, {"path": "/etc/passwd"}, {"path": None}]
    for dependency in app.config["dependencies"]:
        if not queued(dependency) or not dependency["inputs"]:
            continue
        whole = inputs_of(app, dependency, sound)
        attempts = [[], whole[:-1], [*whole, 1]]
        attempts += [
            [*whole[:place], odd[(place + dependency["id"]) % len(odd)], *whole[place + 1 :]]
            for place in range(len(whole))
        ]
        for number, data in enumerate(attempts):
            body = json.dumps({"data": data, "fn_index": dependency["id"], "session_hash": f"o{number}"})
            headers = {"Content-Type": "application/json"}
            joined = app.client.post("/gradio_api/queue/join", content=body, headers=headers)
            if joined.status_code != 200:
                assert joined.status_code < 500 and joined.text, (dependency, data)
                continue
            message = completed(app, f"o{number}")
            if not message["success"]:
                refused += 1
                words = str(message["output"].get("error") or "")
                assert words and "Traceback" not in words and "/root" not in words, (dependency["api_name"], data)
                assert "on our side" not in words, (dependency["api_name"], data, words)
    assert refused > 20


def test_no_handler_fetches_an_address(app: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on this machine, put on Gradio's list of public hosts as any public host would be."""
    from gradio import processing_utils

    hits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(good_wav())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(processing_utils, "PUBLIC_HOSTNAME_WHITELIST", ["localhost"])
    address = f"http://localhost:{server.server_port}"
    tried = 0
    for dependency in app.config["dependencies"]:
        for name, meta in (("path", True), ("path", False), ("url", True)):
            sound: dict[str, Any] = {"path": "x.wav", name: f"{address}/{dependency['id']}.wav"}
            if meta:
                sound["meta"] = {"_type": "gradio.FileData"}
            data = inputs_of(app, dependency, sound)
            if sound in data and queued(dependency):
                message = finished(app, dependency["id"], data, f"fetch {tried}")
                assert '"tokens"' not in json.dumps(message)
                tried += 1
    server.shutdown()
    assert tried >= 9 and not hits


def test_bodies_are_bounded_on_every_route(app: SimpleNamespace) -> None:
    routes = {path for path, methods in app.demo.app.openapi()["paths"].items() if "post" in methods}
    assert len(routes) > 10
    for route in sorted(routes):
        path = route.replace("{api_name}", "reason").replace("{", "").replace("}", "").split(":")[0]
        if path.rstrip("/").endswith("/upload"):
            continue
        reply = app.client.post(path, content=b'{"data": ["' + b"x" * BODY_BYTES + b'"]}')
        assert reply.status_code == 413 and "larger" in reply.json()["detail"], (route, reply.status_code)

        def chunks() -> Iterator[bytes]:
            for _ in range(BODY_BYTES // 50_000 + 1):
                yield b"x" * 50_000

        assert app.client.post(path, content=chunks()).status_code == 413, route


def test_an_upload_says_its_length_and_is_bounded_as_a_whole(app: SimpleNamespace) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"

    assert app.client.post("/gradio_api/upload", content=chunks()).status_code == 411
    many = [("files", (f"{number}.wav", bytes(200_000))) for number in range(8)]
    reply = app.client.post("/gradio_api/upload", files=many)
    assert reply.status_code == 413 and "limit is 1.0 MB" in reply.text


def test_uploads_of_an_hour_are_shared_out() -> None:
    now = [0.0]
    shares = UploadShares(100, 250, clock=lambda: now[0])
    assert shares.refusal("a", 60) is None
    assert "within an hour" in (shares.refusal("a", 60) or "")
    assert shares.refusal("b", 100) is None and shares.refusal("c", 80) is None
    assert "full" in (shares.refusal("d", 100) or "")
    now[0] = 3601.0
    assert shares.refusal("a", 100) is None and shares.refusal("d", 100) is None


def test_sessions_of_an_hour_are_shared_out() -> None:
    now = [0.0]
    shares = SessionShares(3, clock=lambda: now[0])
    assert [shares.refusal("a", name) for name in ("1", "2", "3", "1")] == [None] * 4
    assert "3 sessions within an hour" in str(shares.refusal("a", "4")) and shares.refusal("b", "4") is None
    now[0] = 3601.0
    assert shares.refusal("a", "4") is None


def test_who_sends_much_is_answered_late_and_nobody_else() -> None:
    now = [0.0]
    pace = Pace(10.0, 100.0, 5.0, clock=lambda: now[0])
    assert [pace.wait_s("page", 0.1) for _ in range(200)] == [0.0] * 200, "a page with its files"
    waits = [pace.wait_s("flood", 1.0) for _ in range(1000)]
    assert waits[:99] == [0.0] * 99 and waits == sorted(waits) and waits[-1] == 5.0
    assert pace.wait_s("page", 1.0) == 0.0
    now[0] = 20.0
    assert pace.wait_s("flood", 1.0) == 0.0, "what waits is paid for"


def test_only_names_of_this_machine_reach_a_local_app(app: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    port = app.client.base_url.port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", ""):
        for method, path in (("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("GET", "/")):
            assert app.client.request(method, path, headers={"host": host}).status_code in (400, 403), (host, path)
    for host in (f"localhost:{port}", "127.0.0.1", "[::1]:7860", "LOCALHOST."):
        assert app.client.get("/config", headers={"host": host}).status_code == 200, host
    monkeypatch.setenv("MPAR2_BEHIND_PROXY", "1")
    assert host_is_local("my.example")


def test_one_visitor_does_not_fill_the_line(app: SimpleNamespace) -> None:
    """Joins without listening: the ninth is refused in words, and another visitor is served."""
    reason = next(d for d in app.config["dependencies"] if d["api_name"] == "reason")
    sound = send(app)
    data = [sound, "What?", "", "small", "cot", 8, 0, 0]
    statuses = []
    for _ in range(40):
        body = {"data": data, "fn_index": reason["id"], "session_hash": "greedy"}
        statuses.append(app.client.post("/gradio_api/queue/join", json=body).status_code)
    assert statuses[:8] == [200] * 8 and 429 in statuses and 503 not in statuses
    begun = time.monotonic()
    message = finished(app, reason["id"], data, "honest")
    assert message["success"] and time.monotonic() - begun < 60
    wait_for_empty_line(app)


def wait_for_empty_line(app: SimpleNamespace) -> None:
    end = time.monotonic() + 60
    while any(events_of(app.demo)) and time.monotonic() < end:
        time.sleep(0.1)


def test_on_a_public_app_new_sessions_give_no_second_share(
    app: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the queue and by calls, whatever the session."""
    monkeypatch.setattr(app.demo, "services", replace(app.services, local=False))
    reason = next(d for d in app.config["dependencies"] if d["api_name"] == "reason")
    data = [send(app), "What?", "", "small", "cot", 8, 0, 0]
    statuses = []
    for number in range(30):
        body = {"data": data, "fn_index": reason["id"], "session_hash": f"greedy {number}"}
        statuses.append(app.client.post("/gradio_api/queue/join", json=body).status_code)
    assert statuses[:8] == [200] * 8 and 429 in statuses
    # some may have finished meanwhile, so that a few calls are let in before the share is full again
    calls = [app.client.post("/gradio_api/call/reason", json={"data": data}).status_code for _ in range(12)]
    assert 429 in calls and calls.count(200) < 12
    wait_for_empty_line(app)


def test_a_place_in_the_line_is_a_waiting_request(app: SimpleNamespace) -> None:
    """Asking for one's place does not take one."""
    submit = [d for d in app.config["dependencies"] if not d["inputs"] and any(t[1] == "submit" for t in d["targets"])]
    (ask,) = submit
    for number in range(60):
        body = {"data": [], "fn_index": ask["id"], "session_hash": f"idle {number}", "event_data": {}}
        reply = app.client.post("/gradio_api/run/predict", json=body)
        if reply.status_code == 404:
            message = finished(app, ask["id"], [], f"idle {number}")
            value = message["output"]["data"][0]
        else:
            value = reply.json()["data"][0]
        assert value["ahead"] == 0, (number, value)


def test_a_claim_on_a_file_does_not_delete_it_for_another(tmp_path: Path) -> None:
    now = [0.0]
    uploads = Uploads(clock=lambda: now[0])
    path = tmp_path / "known.wav"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))
    uploads.hold("call 1", str(path))  # a program waits with it
    uploads.hold("other", str(path))
    uploads.release("other")
    assert path.exists()
    now[0] = 3700.0
    uploads.hold("late", str(tmp_path / "else.wav"))
    assert "call 1" not in uploads._held, "nobody is remembered for ever"
