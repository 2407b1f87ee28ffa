"""Chat clients on local servers, in short: what the tests of ``mpar2.llm`` share."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mpar2.llm import (
    ChatClient,
    GeminiClient,
    OpenAIClient,
    Reply,
    RetryPolicy,
    Sampling,
    ask,
)
from testing.wire import HttpReply, Server, gemini_reply, openai_reply

KEY = "sk-marker-7f3a9c"
FAST = RetryPolicy(base_s=0.001, cap_s=0.002, timeout_s=5.0)
WIRES = ("openai", "gemini")


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    count: int = Field(ge=0)


def reply(wire: str, text: str | None = '{"name": "a", "count": 1}', **options: Any) -> HttpReply:
    if wire == "openai" and "finish" in options:
        options["finish"] = {"MAX_TOKENS": "length", "SAFETY": "content_filter"}[options["finish"]]
    return (openai_reply if wire == "openai" else gemini_reply)(text, **options)


def client(wire: str, server: Server, **options: Any) -> ChatClient:
    options = {"policy": FAST, "api_key": KEY, **options}
    if wire == "openai":
        return OpenAIClient("asked", server.url + "/v1", **options)
    return GeminiClient("asked", base_url=server.url, **options)


def run(wire: str, server: Server, do: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with client(wire, server, **options) as opened:
            return await do(opened)

    return asyncio.run(inside())


def complete(wire: str, server: Server, **options: Any) -> Reply:
    return run(wire, server, lambda c: c.complete("be terse", ["hello"]), **options)


def ask_thing(wire: str, server: Server, **options: Any) -> Any:
    return run(wire, server, lambda c: ask(c, "be terse", ["hello"], Thing, sampling=Sampling(100)), **options)


def wav(seconds: float = 0.5) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\0\0" * int(16000 * seconds))
    return data.getvalue()
