"""Errors that cross a process, and addresses that change between a check and a request."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

gr = pytest.importorskip("gradio")

from mpar2.engines.base import EngineError  # noqa: E402
from mpar2.llm.base import Sampling  # noqa: E402
from mpar2.llm.errors import CallFailed, LLMError  # noqa: E402
from mpar2.llm.openai_server import OpenAIClient  # noqa: E402
from mpar2.llm.retry import RetryPolicy  # noqa: E402
from mpar2.llm.transport import public_only  # noqa: E402
from pages.running import Asked, Comparer  # noqa: E402
from pages.services import Offer, Services  # noqa: E402
from testing.hostile.sounds import good_wav  # noqa: E402
from testing.wire import openai_reply, serve  # noqa: E402


def _work(function: Callable[..., Any], arguments: Any, pipe: Any) -> None:
    try:
        for update in function(*arguments):
            pipe.send((update, None))
        pipe.send((None, "end"))
    except Exception as error:
        pipe.send((None, type(error).__name__))  # spaces 0.51: the parent learns the name of the class


def lending() -> ModuleType:
    """``spaces`` as on ZeroGPU: the function runs in a forked process, its exceptions lose their words."""

    def lend(duration: Any) -> Any:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            def parent(*arguments: Any) -> Iterator[Any]:
                ours, theirs = multiprocessing.Pipe()
                context = multiprocessing.get_context("fork")
                process = context.Process(target=_work, args=(function, arguments, theirs))
                process.start()
                theirs.close()
                try:
                    while True:
                        update, end = ours.recv()
                        if end == "end":
                            return
                        if end is not None:
                            raise gr.Error(end)
                        yield update
                finally:
                    process.kill()
                    process.join()

            return parent

        return decorate

    module = ModuleType("spaces")
    module.GPU = lend  # type: ignore[attr-defined]
    return module


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    monkeypatch.setitem(sys.modules, "spaces", lending())


class Broken:
    def stream(self, *_: Any, **__: Any) -> Iterator[Any]:
        raise EngineError("the weights cannot be loaded: config.json is cut short")
        yield


def test_an_error_of_a_lent_gpu_keeps_its_words(lent: None, tmp_path: Path) -> None:
    clip = tmp_path / "a.wav"
    clip.write_bytes(good_wav())
    services = Services(engine=Broken(), offers=(Offer("broken", "broken", None),))
    asked = Asked(str(clip), "What?", arms=(("broken", "cot"),), max_new_tokens=4)
    *_, last = Comparer(services).run(asked, "visitor")
    assert last["status"] == "error" and "config.json" in last["arms"][0]["error"], last["arms"][0]["error"]
    with pytest.raises(EngineError, match=r"config\.json"):
        list(Comparer(services).reason(asked, "visitor"))


def test_a_gpu_that_is_not_lent_is_said(lent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> Iterator[Any]:
        raise gr.Error("You have exceeded your GPU quota")
        yield

    module = SimpleNamespace(GPU=lambda duration: lambda function: refused)
    monkeypatch.setitem(sys.modules, "spaces", module)
    clip = tmp_path / "a.wav"
    clip.write_bytes(good_wav())
    services = Services(engine=Broken(), offers=(Offer("m", str(tmp_path), None),))
    *_, last = Comparer(services).run(Asked(str(clip), "What?", arms=(("m", "cot"),)), "visitor")
    assert (last["status"], last["arms"][0]["error"]) == ("error", "You have exceeded your GPU quota")


@pytest.mark.parametrize("public", [True, False])
def test_a_name_that_changes_its_address_after_the_check(public: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def rebound(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host in ("judge.example", b"judge.example") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)

    async def ask(url: str) -> str:
        with public_only(public):
            policy = RetryPolicy(max_tries=1)
            async with OpenAIClient("m", url, api_key="k", policy=policy, sampling=Sampling(8)) as client:
                return (await client.complete("", ["hello"])).text

    with serve([openai_reply("inside")]) as server:
        url = server.url.replace("127.0.0.1", "judge.example") + "/v1"
        if public:
            with pytest.raises(LLMError, match="not on the public internet") as caught:
                asyncio.run(ask(url))
            assert isinstance(caught.value, CallFailed) and not server.calls
        else:
            assert asyncio.run(ask(url)) == "inside"
