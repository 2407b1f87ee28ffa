"""Files that the app serves beside Gradio's own: scripts, Plotly, stored comparisons, under ``/view/<content>/<name>``.

Only published files are served: names are looked up, never opened, so no path of this machine can be requested. The
address contains a digest of the content, so browsers cache a file permanently. Each file is made on its first request,
compressed once, and cached.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable
from typing import Any

_KINDS = {"js": "text/javascript", "json": "application/json", "html": "text/plain", "css": "text/css"}
_CACHE = "public, max-age=31536000, immutable"


class _File:
    def __init__(self, name: str, make: Callable[[], str]) -> None:
        self.name, self._make = name, make
        self._lock = threading.Lock()
        self._packed: bytes | None = None

    def packed(self) -> bytes:
        """Return the content, compressed."""
        with self._lock:
            if self._packed is None:
                self._packed = gzip.compress(self._make().encode("utf-8", "replace"), 6, mtime=0)
            return self._packed


_files: dict[tuple[str, str], _File] = {}


def publish(name: str, key: str, make: Callable[[], str]) -> str:
    """Publish the text that ``make`` returns; return its address, relative to the app.

    Args:
        name: File name; its suffix gives the content type.
        key: Everything that the text depends on; another key gives another address.
        make: Returns the text; called on the first request.
    """
    token = hashlib.sha256(f"{name}\n{key}".encode("utf-8", "replace")).hexdigest()[:16]
    _files.setdefault((token, name), _File(name, make))
    return f"view/{token}/{name}"


def routes() -> list[Any]:
    """Return the routes for Gradio's server (``launch(app_kwargs={"routes": …})``)."""
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def serve(request: Request) -> Response:
        file = _files.get((request.path_params["token"], request.path_params["name"]))
        if file is None:
            return PlainTextResponse("There is no such file.", status_code=404)
        data = await run_in_threadpool(file.packed)
        headers = {"Cache-Control": _CACHE, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            data = gzip.decompress(data)
        kind = _KINDS.get(file.name.rsplit(".", 1)[-1], "text/plain")
        return Response(data, media_type=f"{kind}; charset=utf-8", headers=headers)

    return [Route("/view/{token}/{name}", serve, methods=["GET", "HEAD"])]
