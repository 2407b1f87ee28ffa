"""Comparisons that visitors store: ``POST /results`` checks and stores one, ``GET /results/ID`` returns it.

A comparison is a document of ``pages.document`` as its download contains it, including the sound. It is untrusted, so
it is checked by the schema before it is stored or shown. It is kept in memory for a time that the operator sets
(``--keep-results``), under an unguessable identifier, and returned to anyone who has the identifier. Only comparisons
that a visitor sends are stored.
"""

from __future__ import annotations

import gzip
import secrets
from typing import TYPE_CHECKING, Any

from mpar2.runs import RunError
from mpar2.runs.lines import dump_json, load_json
from pages.document import VERSION, DocumentError, check_document
from pages.limits import Kept, visitor_of

if TYPE_CHECKING:
    from pages.services import Services

RESULT_BYTES = 8_000_000  # four arms of long traces and two minutes of sound have about 3 MB
_HEADERS = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}


def opened_document(data: bytes) -> dict[str, Any]:
    """Return the checked comparison of a file, as the page opens it.

    Raises:
        DocumentError: It is no comparison, has an older version, or has not ended.
    """
    try:
        raw = load_json(data, "the file")
    except RunError as error:
        raise DocumentError(str(error)) from None
    if raw.get("version") != VERSION:
        raise DocumentError(f"not a comparison of version {VERSION}, as the button “Download JSON” writes it")
    document = check_document(raw)
    if document["status"] == "running":
        raise DocumentError("the comparison had not ended when it was saved")
    document.pop("stored", None)
    return document | {"opened": True}


def keep_result(kept: Kept, visitor: str, document: dict[str, Any]) -> str:
    """Keep a checked comparison, and return its unguessable identifier."""
    name = secrets.token_urlsafe(16)
    packed = gzip.compress(dump_json(document), 6, mtime=0)
    kept.keep(name, visitor, packed)
    return name


def routes() -> list[Any]:
    """Return the routes for Gradio's server; the app behind it has ``services``."""
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def services_of(request: Request) -> Services:
        return request.app.get_blocks().services

    def refusal(status: int, words: str) -> Response:
        return JSONResponse({"detail": words, "error": words}, status, _HEADERS)

    async def store(request: Request) -> Response:
        services = services_of(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            # Forms of other sites cannot send this content type.
            return refusal(415, "a comparison is sent as application/json")
        try:
            document = await run_in_threadpool(opened_document, await request.body())
        except DocumentError as error:
            return refusal(422, f"This file cannot be opened: {error}")
        if not services.keep_results_min:
            return JSONResponse({"id": None}, headers=_HEADERS)
        visitor = visitor_of(request)
        name = await run_in_threadpool(keep_result, services.results, visitor, document)
        return JSONResponse({"id": name}, headers=_HEADERS)

    async def send(request: Request) -> Response:
        packed = services_of(request).results.get(request.path_params["name"])
        if packed is None:
            return refusal(404, "this result is not kept here any more")
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type="application/json", headers=_HEADERS | {"Content-Encoding": "gzip"})
        return Response(gzip.decompress(packed), media_type="application/json", headers=_HEADERS)

    return [Route("/results", store, methods=["POST"]), Route("/results/{name}", send, methods=["GET"])]
