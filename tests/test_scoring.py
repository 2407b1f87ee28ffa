"""Judging on the page: what is judged against what, whose key goes where, and which addresses are never called."""

from __future__ import annotations

import importlib
import json
import threading
from typing import Any

import numpy as np
import pytest
from conftest import make_clip

from mpar2.audio import load_clip
from mpar2.cafe.schema import Truth
from mpar2.llm.errors import StopRun
from pages.scoring import Judging, JudgingError, check_address, score_traces
from testing.browser import EVENTS, QUESTION, TRACES


def test_rules_need_known_events_and_say_what_they_judged_against() -> None:
    clip = load_clip((16_000, np.ones(16_000, np.float32) * 0.1))
    assert not list(score_traces(Judging(), clip, QUESTION, None, list(TRACES)))
    scored = dict(score_traces(Judging(), clip, QUESTION, Truth(EVENTS, origin="visitor"), [TRACES[0], "  "]))
    assert list(scored) == [0]
    assert scored[0]["source"] == "Judged by rules, without a model, against the events that you listed."
    spans = [(m["start"], m["stop"], m["quote"]) for m in scored[0]["mentions"]]
    assert spans and all(TRACES[0][start:stop] == quote for start, stop, quote in spans)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/v1",
        "https://127.0.0.1/v1",
        "https://localhost:8000/v1",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/v1",
        "https://[::1]/v1",
        "https://user:pw@example.com/v1",
        "https://[::ffff:10.0.0.1]/v1",
        "file:///etc/passwd",
        "gopher://x",
        "",
    ],
)
def test_a_public_app_calls_no_private_address(address: str) -> None:
    with pytest.raises(JudgingError):
        check_address(address, local=False)


def test_a_local_app_may_call_its_own_machine() -> None:
    check_address("http://localhost:8000/v1", local=True)
    for address in ("file:///etc/passwd", "http://localhost:8000/v1?key=k", "http://localhost:none/v1"):
        with pytest.raises(JudgingError, match="https://host/v1"):
            check_address(address, local=True)  # before the models run: the client would refuse it after them


def test_a_visitors_server_gets_the_visitors_key_and_never_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    monkeypatch.setenv("MPAR2_SERVER_KEY", "owner-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "owner-secret")
    headers: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers.append(str(self.headers))
            self.send_response(401)
            self.end_headers()
            echo = self.headers["Authorization"].removeprefix("Bearer ")
            self.wfile.write(json.dumps({"error": {"message": f"bad key {echo}"}}).encode())

        def log_message(self, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    clip = make_clip()
    for secret in ("visitor-secret", ""):
        judging = Judging("server", secret, address, "judge")
        assert "visitor-secret" not in repr(judging)
        scored = dict(filter(None, score_traces(judging, clip, QUESTION, Truth(EVENTS), [TRACES[0]])))
        assert scored[0]["unscored"] and "visitor-secret" not in json.dumps(scored)
    server.shutdown()
    assert headers and "visitor-secret" in headers[0] and "owner-secret" not in "".join(headers)


def test_a_gemini_judge_is_the_environments_model_unless_the_visitor_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def connect(service: str, model: str, **_: Any) -> Any:
        asked.append(model)
        raise StopRun("no_key", "nobody is asked here")

    monkeypatch.setattr(importlib.import_module("mpar2.cafe.llm_judge"), "connect", connect)
    monkeypatch.setenv("MPAR2_JUDGE_MODEL", "gemini-of-the-house")
    for named in ("", "gemini-of-the-visitor"):
        list(score_traces(Judging("gemini", "k", "", named), make_clip(), QUESTION, Truth(EVENTS), [TRACES[0]]))
    assert asked == ["gemini-of-the-house", "gemini-of-the-visitor"]
