"""The HTTP transport of all clients, which bounds decoded bytes and decodes only requested encodings.

A server may send anything: an endless body, a few megabytes of gzip that expand to gigabytes, an unrequested encoding.
Requests ask for no compression (``Accept-Encoding: identity``); gzip and deflate are still accepted and expanded within
the bound; every other encoding is refused. Redirects are not followed, and loopback addresses are never reached through
a proxy of the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import zlib
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

from mpar2.llm.address import public_addresses
from mpar2.llm.errors import SettingError

__all__ = ["MAX_REPLY_BYTES", "MAX_STREAM_BYTES", "BadReplyError", "http_client", "proxy_of", "public_only"]

MAX_REPLY_BYTES = 1_000_000  # of a reply as one body; 65,536 tokens of text are about 300 kB
MAX_STREAM_BYTES = 32_000_000  # of a streamed reply, or one with log-probabilities: about 300 bytes a token


class BadReplyError(Exception):
    """A reply that a retry would not improve: too large, or in an unrequested encoding."""


class _BoundedStream(httpx2.AsyncByteStream):
    """The decoded bytes of a response; raises :class:`BadReplyError` beyond ``most`` bytes."""

    def __init__(self, stream: Any, encoding: str, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        # 47: gzip or zlib by the header; -15: the raw deflate that some servers send
        self._unzip = zlib.decompressobj(47) if encoding in ("gzip", "x-gzip", "deflate") else None
        self._total = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            for piece in self._decode(chunk):
                self._total += len(piece)
                if self._total > self._max_bytes:
                    raise BadReplyError(f"the reply is longer than {self._max_bytes:,} bytes")
                yield piece

    def _decode(self, chunk: bytes) -> list[bytes]:
        if self._unzip is None:
            return [chunk]
        try:
            piece = self._unzip.decompress(chunk, self._max_bytes - self._total + 1)
        except zlib.error as error:
            raise BadReplyError(f"the reply's compression is damaged ({error})") from None
        if self._unzip.unconsumed_tail:
            raise BadReplyError(f"the reply is longer than {self._max_bytes:,} bytes when unpacked")
        return [piece] if piece else []

    async def aclose(self) -> None:
        await self._stream.aclose()


class _BoundedTransport(httpx2.AsyncBaseTransport):
    def __init__(self, inner: httpx2.AsyncBaseTransport, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            await response.aclose()
            raise BadReplyError(f"the reply is encoded as {encoding[:40]!r}, which was not asked for")
        streamed = "text/event-stream" in response.headers.get("content-type", "").lower()
        max_bytes = max(self._max_bytes, MAX_STREAM_BYTES) if streamed else self._max_bytes
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _CODING_HEADERS]
        return httpx2.Response(
            response.status_code,
            headers=headers if encoding not in ("", "identity") else response.headers,
            stream=_BoundedStream(response.stream, encoding, max_bytes),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _PublicOnly(httpcore2.AsyncNetworkBackend):
    """Connect to exactly the checked address, in case the name changes its address meanwhile."""

    def __init__(self, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(self, host: str, port: int, **options: Any) -> Any:
        try:
            address = (await asyncio.to_thread(public_addresses, host, port))[0]
        except SettingError as error:
            raise httpcore2.ConnectError(str(error)) from None
        return await self._inner.connect_tcp(address, port, **options)

    async def connect_unix_socket(self, path: str, **options: Any) -> Any:
        raise httpcore2.ConnectError("a socket of this machine is not on the public internet")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


_CODING_HEADERS = (b"content-encoding", b"content-length")


_PUBLIC = ContextVar("_PUBLIC", default=False)


@contextlib.contextmanager
def public_only(wanted: bool = True) -> Iterator[None]:
    """Restrict clients opened inside to addresses of the public internet."""
    token = _PUBLIC.set(wanted)
    try:
        yield
    finally:
        _PUBLIC.reset(token)


def http_client(base_url: str, *, timeout_s: float, keep_alive: int, max_bytes: int) -> httpx2.AsyncClient:
    """Build the HTTP client for an SDK.

    Args:
        base_url: The server. A proxy of the environment is used, except for a loopback address.
        timeout_s: Limit of one read or write, in seconds (the whole try has its own limit).
        keep_alive: Idle connections kept open between requests.
        max_bytes: Largest number of decoded bytes of one reply.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=keep_alive)
    proxy = _proxy_url(base_url)
    inner = httpx2.AsyncHTTPTransport(limits=limits, proxy=proxy)
    if _PUBLIC.get() and proxy is None:
        inner._pool._network_backend = _PublicOnly(inner._pool._network_backend)
    return httpx2.AsyncClient(transport=_BoundedTransport(inner, max_bytes), follow_redirects=False, timeout=timeout_s)


def is_loopback(url: str) -> bool:
    """Return whether an address refers to this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_of(base_url: str) -> str | None:
    """Return the environment's proxy for a server, without its password; None without one."""
    proxy = _proxy_url(base_url)
    if proxy is None:
        return None
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _proxy_url(base_url: str) -> str | None:
    parts = urlsplit(base_url)
    if is_loopback(base_url) or not parts.hostname or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return (proxy if "://" in proxy else f"http://{proxy}") if proxy else None
