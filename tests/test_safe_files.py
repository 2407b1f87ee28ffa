"""Over the wire, as an attacker would: no file but one's own, no private endpoint, no key left, limits in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from conftest import make_clip

from mpar2.audio import wav_bytes
from mpar2.engines.transformers import TransformersEngine
from mpar2.formats import Limits
from pages.limits import LimitError, RunCounter, VisitorLimits, visitor_of
from pages.services import Offer, Services
from testing.hostile.sounds import NAMES, good_wav, hostile_sounds

pytest.importorskip("gradio")

OUTSIDE = (
    "/etc/passwd",
    "//etc/passwd",
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "....//....//....//etc/passwd",
    "/etc/passwd%00.wav",
    "file:///etc/passwd",
    "/proc/self/environ",
    "/dev/stdin",
    "app.py",
    "./pages/__init__.py",
    "pyproject.toml",
    "examples/index.json",
    "mpar2/checkpoints",
    "http://127.0.0.1:9/x",
    "https://example.invalid/x",
    "C:\\Windows\\win.ini",
)
PREFIXES = (
    "gradio_api/file=",
    "file=",
    "file/",
    "gradio_api/proxy=",
    "static/",
    "assets/",
    "svelte/",
    "custom_component/x/client/component/",
    "gradio_api/stream/x/y/",
    "",
)


@pytest.fixture(scope="module")
def app(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[SimpleNamespace]:
    import gradio as gr

    from pages import build_app, launch_settings

    patch = pytest.MonkeyPatch()
    cache = tmp_path_factory.mktemp("cache")
    patch.setenv("GRADIO_TEMP_DIR", str(cache))
    services = Services(
        engine=TransformersEngine(),
        offers=(Offer("small", str(tiny_checkpoint), None),),
        limits=Limits(max_seconds=8.0, max_bytes=1_000_000),
        max_new_tokens=8,
        local=False,
        visitors=VisitorLimits(question_chars=100, choices=4, choice_chars=20),
    )
    demo = build_app(services)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings(1))
    assert isinstance(demo, gr.Blocks)
    with httpx.Client(base_url=url, timeout=60) as client:
        yield SimpleNamespace(client=client, cache=cache, services=services)
    demo.close()
    patch.undo()


def send(app: SimpleNamespace, data: bytes, name: str = "clip.wav") -> str:
    """Upload as the page does; the path that the server gives it."""
    reply = app.client.post("/gradio_api/upload", files={"files": (name, data)})
    reply.raise_for_status()
    return reply.json()[0]


def ask(app: SimpleNamespace, audio: Any, question: Any = "What?", choices: str = "", *rest: Any) -> str:
    """Call ``/reason`` as a program does; all that comes back, as text."""
    rest = (*rest, *("small", "cot", 4, 0, 0)[len(rest) :])
    begun = app.client.post("/gradio_api/call/reason", json={"data": [audio, question, choices, *rest]})
    if begun.status_code != 200:
        return begun.text
    return app.client.get(f"/gradio_api/call/reason/{begun.json()['event_id']}").text


def file_of(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}} | more


def test_no_address_gives_a_file_of_the_machine(app: SimpleNamespace) -> None:
    for prefix in PREFIXES:
        for name in OUTSIDE:
            try:
                reply = app.client.get(f"/{prefix}{name}", follow_redirects=False)
            except httpx.TransportError:  # the server closed the connection after an address that is none
                continue
            assert "root:" not in reply.text and "build_services" not in reply.text, (prefix, name)
            assert "setuptools" not in reply.text and "PATH=" not in reply.text, (prefix, name)
            if prefix:
                assert reply.status_code >= 400, (prefix, name, reply.status_code)
    assert app.client.get(f"/gradio_api/file={app.cache}").status_code >= 400, "no listing of what others sent"


def test_a_program_cannot_name_a_file_that_it_did_not_send(app: SimpleNamespace, tmp_path: Path) -> None:
    mine = tmp_path / "server.wav"
    mine.write_bytes(wav_bytes(make_clip()))
    for path in (str(mine), "/etc/passwd", "../../../etc/passwd", f"{app.cache}/../{mine.name}", "app.py"):
        for audio in (file_of(path), {"path": path}, path, [path], file_of("x.wav", url=f"file://{path}")):
            said = ask(app, audio)
            assert '"tokens"' not in said and "root:" not in said, (audio, said)
    said = ask(app, file_of("x.wav", url=str(app.client.base_url.join("/config"))))
    assert '"tokens"' not in said
    assert '"tokens"' in ask(app, file_of(send(app, good_wav())))


def test_names_of_uploads_stay_within_the_cache(app: SimpleNamespace, tmp_path: Path) -> None:
    for name in NAMES:
        reply = app.client.post("/gradio_api/upload", files={"files": (name, good_wav())})
        if reply.status_code == 200:
            path = Path(reply.json()[0]).resolve()
            assert app.cache.resolve() in path.parents and path.parent != app.cache.resolve(), name
    names = {Path(name).name for name in NAMES}
    assert not [p for p in app.cache.parent.iterdir() if p.is_file() and p.name in names]


def test_an_upload_that_is_too_large_is_refused(app: SimpleNamespace) -> None:
    assert app.client.post("/gradio_api/upload", files={"files": ("a.wav", bytes(1_200_000))}).status_code == 413
    assert app.client.post("/gradio_api/upload", content=b"no form at all").status_code >= 400


def test_hostile_sounds_through_the_running_app(app: SimpleNamespace) -> None:
    """A sample; the loader meets all of them in ``test_safe_uploads``. The app answers a good clip afterwards."""
    for sound in [sound for sound in hostile_sounds() if sound.size is None][::14]:
        data = sound.make()
        if len(data) > 1_000_000:
            continue
        said = ask(app, file_of(send(app, data, sound.name)))
        assert "event: complete" in said or "event: error" in said, sound.name
        assert "Traceback" not in said and "on our side" not in said, (sound.name, said)
        assert '"tokens"' in said or json.loads(said.rsplit("data: ", 1)[1])["error"], (sound.name, said)
    assert '"tokens"' in ask(app, file_of(send(app, good_wav(1.1))))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("x" * 101,), "the limit here is 100"),
        (("?", "a\nb\nc\nd\ne"), "the limit here is 4"),
        (("?", "a\n" + "b" * 21), "the limit here is 20"),
        (("",), "the question is empty"),
        (("?", "", "small", "cot", 9), "choose 1 to 8"),
        (("?", "", "small", "cot", None), "no number"),
        (("?", "", "small", "cot", "many"), "on our side|number"),
        (("?", "", "small", "cot", 4, 99), "temperature 99"),
        (("?", "", "/etc", "cot"), "/etc|etc"),
        (("?", "", "small", "shout"), "shout"),
    ],
)
def test_limits_are_said_in_words(app: SimpleNamespace, arguments: tuple[Any, ...], says: str) -> None:
    import re

    said = ask(app, file_of(send(app, good_wav())), *arguments)
    assert "event: error" in said and re.search(says, said), said


def test_other_functions_of_components_cannot_be_called(app: SimpleNamespace) -> None:
    ids = [component["id"] for component in app.client.get("/config").json()["components"]]
    for component in ids[:60]:
        for name in ("__init__", "postprocess", "load_upload", "eval", "../x", "get_config"):
            reply = app.client.post(
                "/gradio_api/component_server",
                json={"session_hash": "s", "component_id": component, "fn_name": name, "data": "/etc/passwd"},
            )
            assert reply.status_code >= 400 and "root:" not in reply.text, (component, name)


def test_handlers_of_the_page_are_no_endpoints(app: SimpleNamespace) -> None:
    named = app.client.get("/gradio_api/info").json()["named_endpoints"]
    assert set(named) == {"/compare", "/reason"}
    for name in ("on_run", "on_clip", "on_file", "on_example"):
        begun = app.client.post(f"/gradio_api/call/{name}", json={"data": []})
        if begun.status_code == 200:  # Gradio queues what the page itself may call, and then wants the page's inputs
            said = app.client.get(f"/gradio_api/call/{name}/{begun.json()['event_id']}").text
            assert "event: error" in said and "event: complete" not in said, name


def test_a_key_is_in_no_file_no_log_and_no_answer(
    app: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    from dataclasses import replace

    from pages.export import to_html
    from pages.running import Asked, Comparer
    from pages.scoring import Judging

    marks = ("owner-marked-key", "visitor-marked-key")
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY", "MPAR2_SERVER_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, marks[0])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    clip = tmp_path / "clip.wav"
    clip.write_bytes(good_wav())
    judging = Judging("server", marks[1], "http://127.0.0.1:9/v1", "judge")
    asked = Asked(str(clip), "What?", arms=(("small", "cot"),), events="a bell", max_new_tokens=4, judging=judging)
    with caplog.at_level("DEBUG"):
        *_, document = Comparer(replace(app.services, local=True)).run(asked, "me")
    written = [path.read_bytes() for path in (*tmp_path.rglob("*"), *app.cache.rglob("*")) if path.is_file()]
    everything = [json.dumps(document), to_html(document), caplog.text, *capfd.readouterr(), repr(asked)]
    for mark in marks:
        assert not any(mark in text for text in everything), "a key is shown"
        assert not any(mark.encode() in data for data in written), "a key is on the disk"


# ---- how often ---------------------------------------------------------------------------------------------------


def test_runs_of_a_visitor_are_counted_over_an_hour() -> None:
    now = [0.0]
    counter = RunCounter(2, clock=lambda: now[0])
    for visitor in ("a", "b", "a"):
        counter.begin(visitor)
    now[0] = 1800.0
    with pytest.raises(LimitError, match="2 runs within an hour.*30 min"):
        counter.begin("a")
    counter.begin("b")
    now[0] = 3601.0
    counter.begin("a")
    RunCounter(0).begin("a")


def test_a_run_that_is_refused_for_another_reason_is_not_counted(app: SimpleNamespace, tmp_path: Path) -> None:
    from dataclasses import replace

    from mpar2.question import QuestionError
    from pages.running import Asked, Comparer

    clip = tmp_path / "clip.wav"
    clip.write_bytes(good_wav())
    comparer = Comparer(replace(app.services, visitors=VisitorLimits(runs_per_hour=1)))
    good = Asked(str(clip), "What?", arms=(("small", "cot"),), max_new_tokens=2)
    with pytest.raises(QuestionError):
        next(comparer.run(replace(good, question=" "), "me", visitor="1.2.3.4"))
    assert list(comparer.run(good, "me", visitor="1.2.3.4"))[-1]["status"] == "done"
    with pytest.raises(LimitError):
        next(comparer.run(good, "me", visitor="1.2.3.4"))
    assert list(comparer.run(good, "you", visitor="1.2.3.5"))[-1]["status"] == "done"


def test_behind_a_proxy_the_last_public_address_counts() -> None:
    def request(forwarded: str) -> SimpleNamespace:
        return SimpleNamespace(client=SimpleNamespace(host="10.0.0.1"), headers={"x-forwarded-for": forwarded})

    space = {"SPACE_ID": "me/space"}
    assert visitor_of(request("8.8.8.8, 9.9.9.9, 10.0.0.7"), space) == "9.9.9.9"
    assert visitor_of(request("not an address"), space) == "10.0.0.1"
    assert visitor_of(request("8.8.8.8"), {}) == "10.0.0.1", "without a proxy a header is only a claim"
    assert visitor_of(None, {}) == ""
    assert visitor_of(request("2a00:1:2:3::4"), space) == visitor_of(request("2a00:1:2:3:9::9"), space) != "10.0.0.1"
    assert visitor_of(request("::ffff:8.8.8.8"), space) == "8.8.8.8"


def test_options_and_environment_set_the_limits(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from pages.options import parse_options

    monkeypatch.delenv("SPACE_ID", raising=False)
    assert parse_options([]).runs_per_hour == 0 and parse_options([]).max_upload_mb == 20
    assert parse_options(["--host", "0.0.0.0"]).runs_per_hour == 60
    monkeypatch.setenv("MPAR2_MAX_SECONDS", "30")
    monkeypatch.setenv("MPAR2_QUEUE", "5")
    options = parse_options(["--max-choices", "3"])
    assert (options.max_seconds, options.queue, options.max_choices) == (30, 5, 3)
    monkeypatch.setenv("MPAR2_MAX_SECONDS", "a lot")
    with pytest.raises(SystemExit):
        parse_options([])
    assert "give a whole number from 1 to 1,800" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        (None,),
        ("half \ud800 a character",),
        ("?", "a\n\udc00"),
        ("?", "", None),
        ("?", "", "small", None),
        ("?", "", "small", ["cot"]),
        ("?", "", "small", "cot", 4, 1e-320),
        ("?", "", "small", "cot", 4, 0, None),
        ("?", "", "small", "cot", {}, 0, 0),
    ],
)
def test_odd_values_of_programs_are_refused_in_words(app: SimpleNamespace, arguments: tuple[Any, ...]) -> None:
    rest = (*arguments, *("?", "", "small", "cot", 4, 0, 0)[len(arguments) :])
    body = json.dumps({"data": [file_of(send(app, good_wav())), *rest]})
    begun = app.client.post("/gradio_api/call/reason", content=body, headers={"content-type": "application/json"})
    assert begun.status_code == 200, begun.text
    said = app.client.get(f"/gradio_api/call/reason/{begun.json()['event_id']}").text
    assert "event: error" in said and "on our side" not in said, said
    assert json.loads(said.rsplit("data: ", 1)[1])["error"], said


def test_a_program_is_told_what_the_loader_knows(app: SimpleNamespace) -> None:
    data = good_wav()
    assert "cut off" in ask(app, file_of(send(app, data[: len(data) * 6 // 10])))
