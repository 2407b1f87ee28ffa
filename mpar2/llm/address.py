"""Addresses of servers, as people type them: plain http(s), and, for a public app, not one of our own network.

An app that connects wherever a visitor says can be made to ask machines that only it can reach (server-side request
forgery). ``public_only=True`` resolves the name and refuses loopback, private, link-local (cloud metadata) and reserved
addresses. A name that changes its address between this check and the request gets past it: an app that must exclude
that too filters outgoing connections. The clients follow no redirects, so a public server cannot send them elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from mpar2.llm.errors import SettingError, clip_text

__all__ = ["check_base_url"]


def check_base_url(base_url: str, *, public_only: bool = False) -> str:
    """``base_url`` without a closing slash; ``SettingError`` for what is no plain http(s) address.

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
    if public_only:
        _refuse_private(url.hostname, port or (443 if url.scheme == "https" else 80))
    return base_url.strip().rstrip("/")


def _refuse_private(host: str, port: int) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SettingError(f"server address: no machine named {clip_text(host, 80)!r} is found ({error})") from None
    for *_, address in found:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None)
        if not (mapped or ip).is_global or ip.is_multicast:
            raise SettingError(
                f"server address {clip_text(host, 80)!r} is not on the public internet; it is refused here"
            )
