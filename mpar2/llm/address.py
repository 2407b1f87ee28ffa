"""Addresses of servers, as typed by users, and their keys.

An address is plain http(s) and, for a public app, outside of the local network.

An app that connects to any address of a visitor can be abused to reach internal machines (server-side request
forgery). ``public_only=True`` resolves the name and refuses loopback, private, link-local (cloud metadata) and reserved
addresses. A name may change its address between this check and the request, so clients opened inside
``transport.public_only`` check again, and connect to the checked address. The clients follow no redirects, so a public
server cannot redirect them.

Keys are read from the environment here, and nowhere else:

| service | variables, in order |
| --- | --- |
| gemini | GEMINI_API_KEY, GOOGLE_API_KEY |
| api.openai.com | OPENAI_API_KEY |
| any other OpenAI-compatible server | MPAR2_SERVER_KEY; none needed |

``OPENAI_API_KEY`` goes to OpenAI only: a key must not reach another server because a variable happens to be set.
A key passed by a caller (a visitor's) takes precedence, is used for that client only and is stored nowhere.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from urllib.parse import urlsplit

from pydantic import SecretStr

from mpar2.llm.errors import SettingError, StopRun, clip_text

__all__ = ["check_base_url", "gemini_key", "public_addresses", "server_key"]

_NO_KEY = "EMPTY"  # expected in the header by vLLM and SGLang without authentication


def check_base_url(base_url: str, *, public_only: bool = False) -> str:
    """Check the address of a server, and return it without a trailing slash.

    Args:
        base_url: Address typed by a user.
        public_only: Refuse addresses of private networks and of this machine.

    Raises:
        SettingError: It is not a plain http(s) address, or not allowed.

    >>> check_base_url("http://localhost:8000/v1/")
    'http://localhost:8000/v1'
    """
    try:
        url = urlsplit(base_url.strip())
        port = url.port
    except ValueError as error:
        raise SettingError(f"server address {clip_text(base_url, 80)!r} cannot be read: {error}") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise SettingError(f"server address {clip_text(base_url, 80)!r} is no http(s) address like http://host:8000/v1")
    if url.username or url.password or url.query or url.fragment:
        raise SettingError("server address carries a user, password, query or fragment; give the key apart from it")
    # reject control characters and labels that are too long or empty, before the HTTP client or the resolver fails
    import httpx2

    try:
        if re.search(r"[\x00-\x20\x7f]", base_url.strip()):
            raise ValueError("it holds a blank or a control character")
        httpx2.URL(base_url.strip())
        url.hostname.encode("ascii" if url.hostname.isascii() else "idna")
        if not all(0 < len(label) <= 63 for label in url.hostname.rstrip(".").split(".")) and ":" not in url.hostname:
            raise ValueError("a part of its host's name is empty or longer than 63 characters")
    except (ValueError, httpx2.InvalidURL) as error:
        raise SettingError(
            f"server address {clip_text(base_url, 80)!r} cannot be used: {clip_text(str(error), 120)}"
        ) from None
    if public_only:
        public_addresses(url.hostname, port or (443 if url.scheme == "https" else 80))
    return base_url.strip().rstrip("/")


def public_addresses(host: str, port: int) -> list[str]:
    """Look up the addresses of a machine on the public internet.

    Raises:
        SettingError: There is no such machine, or one of its addresses is not on the public internet.
    """
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SettingError(f"server address: no machine named {clip_text(host, 80)!r} is found ({error})") from None
    for *_, address in entries:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if not all(part.is_global and not part.is_multicast for part in (ip, *_embedded(ip))):
            raise SettingError(
                f"server address {clip_text(host, 80)!r} is not on the public internet; it is refused here"
            )
    return [str(address[0]) for *_, address in entries]


def _embedded(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses inside of an IPv6 one: mapped, compatible, 6to4, Teredo, and NAT64."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return []
    inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    low = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in ipaddress.ip_network("64:ff9b::/96") or ip in ipaddress.ip_network("64:ff9b:1::/48"):
        inner.append(low)
    if int(ip) >> 32 == 0:
        inner.append(low)
    return [address for address in inner if address is not None]


def gemini_key(given: str | None = None) -> SecretStr:
    """Return the Gemini key.

    Raises:
        StopRun: There is no key.
    """
    return _first(given, "GEMINI_API_KEY", "GOOGLE_API_KEY") or _missing("Gemini", "GEMINI_API_KEY")


def server_key(base_url: str, given: str | None = None) -> SecretStr:
    """Return the key of an OpenAI-compatible server.

    Raises:
        StopRun: The server is OpenAI's, and there is no key.
    """
    if urlsplit(base_url).hostname == "api.openai.com":
        return _first(given, "OPENAI_API_KEY") or _missing("OpenAI", "OPENAI_API_KEY")
    return _first(given, "MPAR2_SERVER_KEY") or SecretStr(_NO_KEY)


def _first(given: str | None, *names: str) -> SecretStr | None:
    for value in (given, *(os.environ.get(name) for name in names)):
        if value and value.strip():
            return SecretStr(value.strip())
    return None


def _missing(service: str, variable: str) -> SecretStr:
    raise StopRun("no_key", f"no {service} key: set {variable} in the environment, or give a key for this call")
