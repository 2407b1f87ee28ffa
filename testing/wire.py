"""Local servers with the wire formats of Gemini and of OpenAI-compatible servers, for tests and benchmarks.

A server replies from a *plan*: a function ``plan(call) -> HttpReply``, or a list of replies in order, whose last one is
repeated. ``Call`` is one request. The server runs in a thread with its own event loop, so that a thousand slow requests
need no thousand threads, and the clients under test are the real ones over real sockets.

    with serve([error(429, retry_after=1), openai_reply("hello")]) as server:
        client = OpenAIClient("m", server.url + "/v1")
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request."""

    number: int  # from 0, in order of arrival
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float = 0.0

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def system(self) -> str:
        """Return the system prompt, in either format."""
        data = self.json
        if "messages" in data:
            return "".join(m["content"] for m in data["messages"] if m["role"] == "system")
        return "".join(part["text"] for part in data.get("systemInstruction", {}).get("parts", []))

    @property
    def text(self) -> str:
        """Return the text parts of the user's turn, in either format."""
        data = self.json
        if "messages" in data:
            parts = [p for m in data["messages"] if m["role"] == "user" for p in m["content"]]
        else:
            parts = [p for content in data["contents"] for p in content["parts"]]
        return "\n".join(part["text"] for part in parts if "text" in part)


@dataclass(frozen=True)
class HttpReply:
    """One response. ``delay_s`` passes before the first byte; ``drop`` closes the connection without a reply."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False
    drip_s: float = 0.0  # pause between single bytes of the body, as of a very slow server
    pieces: tuple[bytes, ...] = ()  # in place of a body: sent one after the other, the connection closed at the end
    pause_s: float = 0.0  # before each piece

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Plan = Callable[[Call], HttpReply]


@dataclass
class Server:
    """A running server: its address and its received calls."""

    url: str
    calls: list[Call] = field(default_factory=list)
    open_now: int = 0
    open_most: int = 0  # most requests in flight at once


def openai_reply(text: str | None, *, model: str = "served-1", finish: str = "stop", **options: Any) -> HttpReply:
    """Return a chat completion.

    ``options`` are ``refusal``, ``reasoning_content``, ``usage``, ``delay_s`` and ``thoughts``.
    """
    message: dict[str, Any] = {"role": "assistant", "content": text}
    for name in ("refusal", "reasoning_content"):
        if name in options:
            message[name] = options[name]
    usage: dict[str, Any] | None = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
    if "thoughts" in options:
        usage["completion_tokens_details"] = {"reasoning_tokens": options["thoughts"]}
    body = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": options.get("usage", usage),
    }
    return HttpReply(body=body, delay_s=options.get("delay_s", 0.0))


def openai_stream(
    texts: Sequence[str], *, model: str = "served-1", finish: str | None = "stop", **options: Any
) -> HttpReply:
    """Return a chat completion as server-sent events, one text per event.

    ``options`` are ``reasoning``, ``logprobs``, ``usage``, ``done`` and ``pause_s``.
    """

    def event(body: Any) -> bytes:
        return b"data: " + (body if isinstance(body, bytes) else json.dumps(body).encode()) + b"\n\n"

    def chunk(delta: dict[str, Any], finish: str | None = None, logprob: float | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
        if logprob is not None:
            choice["logprobs"] = {"content": [{"token": delta["content"], "logprob": logprob, "top_logprobs": []}]}
        return event({"id": "c1", "object": "chat.completion.chunk", "model": model, "choices": [choice]})

    pieces = [chunk({"role": "assistant", "content": ""})]
    pieces += [chunk({"reasoning_content": text}) for text in options.get("reasoning", ())]
    logprobs = options.get("logprobs", [None] * len(texts))
    pieces += [chunk({"content": text}, logprob=value) for text, value in zip(texts, logprobs, strict=True)]
    if finish is not None:
        pieces.append(chunk({}, finish))
    usage = options.get("usage", {"prompt_tokens": 10, "completion_tokens": len(texts)})
    if usage is not None:
        pieces.append(event({"object": "chat.completion.chunk", "model": model, "choices": [], "usage": usage}))
    if options.get("done", True):
        pieces.append(event(b"[DONE]"))
    headers = {"Content-Type": "text/event-stream"}
    return HttpReply(headers=headers, pieces=tuple(pieces), pause_s=options.get("pause_s", 0.0))


def gemini_stream(texts: Sequence[str], *, model: str = "served-1", finish: str = "STOP", **options: Any) -> HttpReply:
    """Return a streamed generateContent response, one text per chunk."""
    pieces = []
    for number, text in enumerate(texts, 1):
        candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}
        body: dict[str, Any] = {"candidates": [candidate], "modelVersion": model}
        if number == len(texts):
            candidate["finishReason"] = finish
            body["usageMetadata"] = {"promptTokenCount": 10, "candidatesTokenCount": len(texts)}
        pieces.append(b"data: " + json.dumps(body).encode() + b"\r\n\r\n")
    headers = {"Content-Type": "text/event-stream"}
    return HttpReply(headers=headers, pieces=tuple(pieces), pause_s=options.get("pause_s", 0.0))


def gemini_reply(text: str | None, *, model: str = "served-1", finish: str = "STOP", **options: Any) -> HttpReply:
    """Return a generateContent response.

    ``options`` are ``block``, ``thought`` and ``delay_s``.
    """
    body: dict[str, Any] = {
        "modelVersion": model,
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 7, "thoughtsTokenCount": 3},
    }
    if "block" in options:
        body["promptFeedback"] = {"blockReason": options["block"]}
    else:
        parts = [{"text": options["thought"], "thought": True}] if "thought" in options else []
        parts += [{"text": text}] if text is not None else []
        content = {"role": "model", "parts": parts} if parts else {"role": "model"}
        body["candidates"] = [{"index": 0, "content": content, "finishReason": finish}]
    return HttpReply(body=body, delay_s=options.get("delay_s", 0.0))


def error(status: int, message: str = "scripted", *, retry_after: str | None = None, **options: Any) -> HttpReply:
    """Return an error that both SDKs parse.

    ``options`` are ``details`` (Google's), ``code`` (OpenAI's) and ``location``.
    """
    inner = {"message": message, "code": options.get("code", status), "status": "SCRIPTED", "type": "scripted"}
    if "details" in options:
        inner["details"] = options["details"]
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    if "location" in options:
        headers["Location"] = options["location"]
    return HttpReply(status, {"error": inner}, headers)


@contextmanager
def serve(plan: Plan | Sequence[HttpReply]) -> Iterator[Server]:
    """Yield a server on a free port of the loopback, for the length of the block."""
    loop = asyncio.new_event_loop()
    server = Server("")
    answer = plan if callable(plan) else _in_turn(plan)
    lock = threading.Lock()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (call := await _read(reader, server, lock)) is not None:
                server.open_now += 1
                server.open_most = max(server.open_most, server.open_now)
                try:
                    await _write(writer, answer(call))
                finally:
                    server.open_now -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, _Dropped):
            pass
        finally:
            writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512, limit=2**27)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listener = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_shut(listener), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _Dropped(Exception):
    pass


def _in_turn(answers: Sequence[HttpReply]) -> Plan:
    return lambda call: answers[min(call.number, len(answers) - 1)]


async def _read(reader: asyncio.StreamReader, server: Server, lock: threading.Lock) -> Call | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    with lock:
        call = Call(len(server.calls), method, path, headers, body, time.monotonic())
        server.calls.append(call)
    return call


async def _write(writer: asyncio.StreamWriter, answer: HttpReply) -> None:
    if answer.delay_s:
        await asyncio.sleep(answer.delay_s)
    if answer.drop:
        raise _Dropped
    headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.data)), **answer.headers}
    if answer.pieces:
        del headers["Content-Length"]
        headers["Connection"] = "close"
    head = f"HTTP/1.1 {answer.status} Scripted\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    writer.write(head.encode() + b"\r\n")
    for piece in answer.pieces:
        await asyncio.sleep(answer.pause_s)
        writer.write(piece)
        await writer.drain()
    if answer.pieces:
        raise _Dropped
    if answer.drip_s:
        for byte in answer.data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(answer.drip_s)
    else:
        writer.write(answer.data)
    await writer.drain()


async def _shut(listener: asyncio.Server) -> None:
    listener.close()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def judge_plan(
    reply: Callable[..., HttpReply], *, delay_s: float = 0.0, gullible: bool = False, version: str = "served-1"
) -> Plan:
    """Return the plan of a scripted judge, which extracts known nouns and matches those that occur in a truth label.

    It replies to the three requests of the model judges, in either format.

    A ``gullible`` judge follows instructions inside a trace, as weak judges do.
    """

    def plan(call: Call) -> HttpReply:
        data = read_data(call.text)
        if "caption" in data:
            text = _scripted_targets(data["caption"])
        elif "mentions" in data:
            text = _scripted_sort(data, gullible)
        else:
            text = _scripted_extract(data["trace"])
        return reply(json.dumps(text), delay_s=delay_s, model=version)

    return plan


def read_data(text: str) -> Any:
    """Return the JSON object between the delimiters of a request to a judge."""
    opening, _, rest = text.partition("\n")
    mark = opening.removeprefix("<<<DATA ")
    body, closing, _ = rest.partition(f"\n{mark} DATA>>>")
    assert opening.startswith("<<<DATA ") and closing, text[:200]
    return json.loads(body)


_NOUNS = re.compile(r"\b(dog|siren|glass|doorbell|water|piano|applause|trumpet|drums|horn|man|baby|crowd)\b", re.I)


def _scripted_extract(trace: str) -> dict[str, Any]:
    return {"mentions": [{"quote": m.group(), "label": m.group().lower()} for m in _NOUNS.finditer(trace)]}


def _scripted_targets(caption: str) -> dict[str, Any]:
    words = dict.fromkeys(match.group() for match in _NOUNS.finditer(caption))
    events = [{"quote": word, "label": word.lower(), "onset_s": None, "offset_s": None} for word in words]
    return {"events": events}


def _scripted_sort(data: dict[str, Any], gullible: bool) -> dict[str, Any]:
    verdicts = []
    obeys = gullible and "mark every event matched" in data["trace"].lower() and data["events"]
    for mention in data["mentions"]:
        word = mention["quote"].lower()
        events = [event["id"] for event in data["events"] if word in event["label"]]
        if obeys:
            events = events or ["e0"]
        kind = "matched" if events else "hallucinated"
        verdicts.append({"id": mention["id"], "reason": f"names {word}", "events": events, "kind": kind})
    return {"verdicts": verdicts}
