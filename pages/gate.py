"""Access control before Gradio: host names, sizes of requests, and quotas of each visitor.

``Gate`` is one ASGI middleware around all routes. It refuses with a message, before anything is read or stored:

* requests to a local app under a foreign host name: any web page could otherwise reach it by pointing a name of its own
  at 127.0.0.1 (DNS rebinding);
* bodies larger than any form: Gradio limits uploads only;
* uploads beyond one visitor's quota of an hour, or beyond the disk's quota for all;
* waiting requests beyond one visitor's share of the queue, or sessions beyond one visitor's share of kept state.

A visitor is an address if the app is public, and a session if it is local. Responses to frequent visitors of a public
app are delayed (:class:`pages.limits.Pace`), because refusals also take time of the process that runs the models.
:func:`refuse_downloads` keeps Gradio from fetching addresses in place of files. :func:`word_input_errors` adds messages
to Gradio's own refusals.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from pages.limits import MOST_VISITORS, Pace, visitor_of
from pages.line import events_of, share_of_line
from pages.results import RESULT_BYTES

if TYPE_CHECKING:
    import gradio as gr

    from pages.services import Services

__all__ = ["Gate", "UploadShares", "host_is_local", "refuse_downloads", "word_input_errors"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_BYTES = 1_000_000  # the largest form has some ten thousand characters
_FORM_BYTES = 100_000  # of an upload, beside its file
_HOUR_S = 3600.0
_SHARE_OF_UPLOADS = 25  # largest uploads that one visitor may send in an hour
_SHARE_OF_DISK = 200  # the same for all visitors: older uploads have been deleted
_SHARE_OF_SESSIONS = 120  # of one visitor in an hour; SESSIONS are kept in all
SESSIONS = 250  # a tenth of a megabyte each; a dropped session is created again on its next request
_PER_S, _BURST, _LONGEST_S = 10.0, 100.0, 5.0  # of a visitor's pace: see Pace
_UNITS_OF_READING = 0.1  # a page has a hundred files


class UploadShares:
    """Uploaded bytes of each visitor, and of all visitors, within the last hour."""

    def __init__(self, visitor_bytes: int, total_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._visitor_bytes, self._total_bytes, self._clock = visitor_bytes, total_bytes, clock
        self._uploads: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def refusal(self, visitor: str, size: int) -> str | None:
        """Count an upload, or refuse it."""
        with self._lock:
            cutoff = self._clock() - _HOUR_S
            for name in list(self._uploads):
                uploads = self._uploads[name]
                while uploads and uploads[0][0] <= cutoff:
                    uploads.popleft()
                if not uploads:
                    del self._uploads[name]
            own_bytes = sum(bytes_ for _, bytes_ in self._uploads.get(visitor, ()))
            if own_bytes + size > self._visitor_bytes:
                return (
                    f"you have sent {own_bytes / 1e6:.0f} MB within an hour; the limit is "
                    f"{self._visitor_bytes / 1e6:.0f} MB: go on in an hour"
                )
            if sum(bytes_ for uploads in self._uploads.values() for _, bytes_ in uploads) + size > self._total_bytes:
                return "the app's space for uploads is full: try again in some minutes, or choose an example"
            self._uploads.setdefault(visitor, deque()).append((self._clock(), size))
            while len(self._uploads) > MOST_VISITORS:
                self._uploads.popitem(last=False)
            return None


class SessionShares:
    """Sessions of each visitor within the last hour; each session may hold an uploaded run."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = most, clock
        self._sessions: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def refusal(self, visitor: str, session: str) -> str | None:
        """Count a request of a session, or refuse it.

        Each session counts once.
        """
        with self._lock:
            sessions = self._sessions.setdefault(visitor, OrderedDict())
            self._sessions.move_to_end(visitor)
            cutoff = self._clock() - _HOUR_S
            while sessions and next(iter(sessions.values())) <= cutoff:
                sessions.popitem(last=False)
            if session in sessions:
                sessions.move_to_end(session)
            elif len(sessions) >= self._limit:
                return (
                    f"you have begun {self._limit} sessions within an hour, which is one visitor's share: go on later"
                )
            sessions[session] = self._clock()
            while len(self._sessions) > MOST_VISITORS:
                self._sessions.popitem(last=False)
            return None


class Gate:
    """The middleware. It reads ``services`` and the queue of the app behind it."""

    def __init__(self, app: Any, *, upload_bytes: int) -> None:
        self.app, self.upload_bytes = app, upload_bytes
        self.pace = Pace(_PER_S, _BURST, _LONGEST_S)
        self.sessions = SessionShares(_SHARE_OF_SESSIONS)
        self.shares = UploadShares(_SHARE_OF_UPLOADS * upload_bytes, _SHARE_OF_DISK * upload_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from starlette.requests import Request

        request = Request(scope)
        demo = scope["app"].get_blocks()
        services: Services | None = getattr(demo, "services", None)
        # DNS rebinding is a risk of local apps only: a public app is reachable anyway.
        local = services is not None and services.local
        if local and not host_is_local(request.headers.get("host", "")):
            await _answer(send, 403, "this app serves its own machine only: open it as http://127.0.0.1 or localhost")
            return
        # Delay before reading anything, so that a flood costs only waiting time.
        reads = scope["method"] not in ("POST", "PUT", "PATCH", "DELETE")
        if not local and (
            wait_s := self.pace.wait_s(visitor_of(request), _UNITS_OF_READING if reads else _units(request))
        ):
            await asyncio.sleep(wait_s)
        if reads:
            await self.app(scope, receive, send)
            return
        # Uploads are judged by their announced length, before Gradio stores them.
        path = scope["path"].rstrip("/")
        if path.endswith("/upload"):
            if refusal := self._upload_refusal(request):
                await _answer(send, *refusal)
                return
            await self.app(scope, receive, send)
            return
        # Language models have no upload: their files come inside the request.
        limit = BODY_BYTES + (self.upload_bytes * 3 // 2 if "/mcp" in path else 0)
        if path.endswith("/results"):
            limit = RESULT_BYTES
        body = await _read_body(request, receive, limit)
        if body is None:
            await _answer(send, 413, f"the request is larger than {limit / 1e6:.0f} MB: send files by /upload")
            return
        if re.search(r"/(run|api)/[^/]+$", path) and _is_queued(demo, body):  # Gradio would first make a session of it
            await _answer(send, 404, "this function has a line: join it by /queue/join or /call")
            return
        # Joining a queue is limited by waiting requests and by sessions.
        if path.endswith("/queue/join") or re.search(r"/call/(v2/)?[^/]+$", path):
            if _waits_too_often(demo, request, body, local=local):
                words = "your requests in the line are one visitor's share: wait for them"
                await _answer(send, 429, words)
                return
            session = _session_in(body) or secrets.token_hex(8)  # a call without one begins its own
            if not local and (refusal := self.sessions.refusal(visitor_of(request), session)):
                await _answer(send, 429, refusal)
                return
            if services is not None:
                _hold_files(services, body)
        await self.app(scope, _replay_body(body, receive), send)

    def _upload_refusal(self, request: Any) -> tuple[int, str] | None:
        try:
            size = int(request.headers["content-length"])
        except (KeyError, ValueError):
            return 411, "an upload must say its length: send it with Content-Length"
        if size > self.upload_bytes + _FORM_BYTES:
            return 413, f"the upload has {size / 1e6:.1f} MB; the limit is {self.upload_bytes / 1e6:.1f} MB: cut it"
        refusal = self.shares.refusal(visitor_of(request), size)
        return (429, refusal) if refusal else None


def _units(request: Any) -> float:
    """Return the cost of a request for :class:`pages.limits.Pace`: one, and one for each announced megabyte."""
    size = request.headers.get("content-length", "")
    return 1.0 + (min(int(size), 10**9) / 1e6 if size.isdecimal() else 0.0)


def _is_queued(demo: gr.Blocks, body: bytes) -> bool:
    """Return whether a direct request is for a function with a queue, or for no known function."""
    try:
        number = json.loads(body).get("fn_index")
    except (ValueError, RecursionError, AttributeError):
        return True
    function = demo.fns.get(number) if isinstance(number, int) else None
    return function is None or function.queue


def _waits_too_often(demo: gr.Blocks, request: Any, body: bytes, *, local: bool) -> bool:
    session, visitor = _session_in(body), visitor_of(request)
    n_waiting = sum(
        bool(session)
        and event.session_hash == session
        or (not local and bool(visitor) and visitor_of(event.request) == visitor)
        for event in events_of(demo)
    )
    return n_waiting >= share_of_line((demo._queue.max_size or 10_000) - len(demo._queue))


def _hold_files(services: Services, body: bytes) -> None:
    """Hold the files of a request, so that they are not deleted when another visitor of the same file leaves."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    holder = _session_in(body) or f"call {secrets.token_hex(8)}"
    for path in _paths(value):
        services.uploads.hold(holder, os.path.abspath(path))


def _session_in(body: bytes) -> str:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    session = value.get("session_hash") if isinstance(value, dict) else None
    return session if isinstance(session, str) else ""


def _paths(value: Any, depth: int = 8) -> Iterator[str]:
    """Yield the paths of files anywhere in the inputs of a request."""
    if depth == 0:
        return
    if isinstance(value, dict):
        if isinstance(path := value.get("path"), str) and 0 < len(path) < 4096 and "\0" not in path:
            yield path
        for inner in value.values():
            yield from _paths(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value[:100]:
            yield from _paths(inner, depth - 1)


def host_is_local(host: str) -> bool:
    """Return whether a Host header is a name of this machine or an IP address.

    Behind a proxy (``GRADIO_ROOT_PATH`` or ``MPAR2_BEHIND_PROXY=1``) any name is accepted.

    >>> host_is_local("127.0.0.1:7860"), host_is_local("[::1]:7860"), host_is_local("evil.example:7860")
    (True, True, False)
    """
    if os.environ.get("GRADIO_ROOT_PATH") or os.environ.get("MPAR2_BEHIND_PROXY") == "1":
        return True
    name = re.sub(r":\d*$", "", host.strip()).strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _read_body(request: Any, receive: Receive, limit: int) -> bytes | None:
    """Return the whole body, or None if it is larger than ``limit`` bytes."""
    try:
        if int(request.headers.get("content-length", 0)) > limit:
            return None
    except ValueError:
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields the body already read, then further messages."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(send: Send, status: int, words: str) -> None:
    body = json.dumps({"detail": words, "error": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


def refuse_downloads() -> None:
    """Keep Gradio from fetching an address in place of a file (completely, and before any limit).

    Every such download goes through ``gradio.processing_utils.async_ssrf_protected_get``.
    """
    import gradio as gr
    from gradio import processing_utils

    if not hasattr(processing_utils, "async_ssrf_protected_get"):
        raise RuntimeError("this version of gradio downloads by another function: see pages/gate.py")

    async def refuse(url: str) -> Any:
        raise gr.Error("Addresses are not fetched here: upload the file itself.", print_exception=False)

    processing_utils.async_ssrf_protected_get = refuse


def word_input_errors(demo: gr.Blocks) -> None:
    """Replace Gradio's errors about numbers, types and paths of inputs by messages of the app.

    Gradio's own messages are not shown to visitors, because they may contain paths of the machine.
    """
    import gradio as gr
    from gradio.exceptions import InvalidPathError

    original = demo.preprocess_data

    async def preprocess_data(block_fn: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        try:
            return await original(block_fn, inputs, *rest, **more)
        except gr.Error as error:
            if error.message:
                raise
            words = "an input of this request cannot be used"
        except InvalidPathError:
            words = "a file must be uploaded before it is named: this path is no upload of this app"
        except Exception as error:
            n_inputs = len(block_fn.inputs)
            match = re.search(r"at index (\d+) \(a `(\w+)` component\)", str(error))
            if not isinstance(inputs, list) or len(inputs) != n_inputs:
                words = f"this function takes a list of {n_inputs} inputs: /gradio_api/info lists them"
            elif match is not None:
                words = f"input {int(match[1]) + 1} cannot be read: give what a {match[2]} of the page gives"
            else:
                words = "an input of this request cannot be read: /gradio_api/info lists their types"
        raise gr.Error(words, print_exception=False)

    demo.preprocess_data = preprocess_data  # type: ignore[method-assign]
