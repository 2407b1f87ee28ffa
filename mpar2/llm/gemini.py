"""Chat with Gemini, through the ``google-genai`` client (3.4).

Undocumented behaviour that this module relies on (tested against a local server):

* ``parsed`` is ``None`` without a cause on truncation, a schema violation or a block, and its types reject replies of
  unusual shape in many ways: the raw body is parsed by :mod:`mpar2.llm.replies` instead.
* SDK 3.x calls ``/v1`` by default, while preview models live under ``/v1beta``: the version is set.
* With aiohttp installed the SDK uses it and retries connections on its own: an httpx2 client is passed in, so that
  there is one transport with one set of errors, and redirects are not followed.
* Its environment variables may choose Vertex AI: switched off.

Audio is sent inline while the request is smaller than ``inline_limit_bytes``, else through the Files API; uploaded
files are deleted after the reply (the service would store them for 48 hours).
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mpar2.llm.address import check_base_url, gemini_key
from mpar2.llm.base import OnText, Part, Reply, Sampling, Structured, audio_mime
from mpar2.llm.cost import estimate_tokens
from mpar2.llm.errors import SettingError, clip_text, redact
from mpar2.llm.limits import Limiter, call_with_retries
from mpar2.llm.openai_server import classify_transport
from mpar2.llm.replies import ErrorInReply, Parts, decode_json, gemini_parts
from mpar2.llm.retry import Failure, RetryPolicy, error_message, failure_of_status

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["INLINE_LIMIT_BYTES", "GeminiClient"]

# The limit was 20 MB of request until 2026-01-08 and reportedly 100 MB since; the old one works on every endpoint.
INLINE_LIMIT_BYTES = 20_000_000

_GOOGLE = "https://generativelanguage.googleapis.com"
_FILE_POLL_S = 1.0
# Status and headers of the current task's last response: the SDK loses them if an error's body is malformed.
_LAST: ContextVar[dict[str, Any] | None] = ContextVar("_LAST", default=None)


class GeminiClient:
    """One Gemini model; used inside ``async with``.

    Args:
        model: Name of the model.
        api_key: The key; None takes the environment's (:mod:`mpar2.llm.address`).
        base_url: A gateway or a test server; None is Google's address.
        sampling: Default of :meth:`complete`.
        inline_limit_bytes: Largest request with inline audio; longer audio is uploaded first.
        limiter: The limiter, shared with other clients.
        policy: Number of tries and waits between them.

    Raises:
        StopRun: There is no key.
        SettingError: The address cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        sampling: Sampling | None = None,
        inline_limit_bytes: int = INLINE_LIMIT_BYTES,
        limiter: Limiter | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.model = model
        self.base_url = None if base_url is None else check_base_url(base_url)
        self.limiter = limiter or Limiter()
        self._key = gemini_key(api_key)
        self._sampling = sampling or Sampling()
        self._inline_limit_bytes = inline_limit_bytes
        self._policy = policy or RetryPolicy()
        self._http: Any = None
        self._client: Any = None

    @property
    def identity(self) -> str:
        return f"gemini|{self.base_url or ''}|{self.model}|{self._sampling}"

    async def __aenter__(self) -> GeminiClient:
        from google import genai
        from google.genai import types

        from mpar2.llm.transport import MAX_REPLY_BYTES, http_client

        self._http = http_client(
            self.base_url or _GOOGLE,
            timeout_s=self._policy.timeout_s,
            keep_alive=self.limiter.in_flight,
            max_bytes=MAX_REPLY_BYTES,
        )
        self._http.event_hooks["response"] = [_note_status]
        options = types.HttpOptions(
            base_url=self.base_url,
            api_version="v1beta",
            timeout=int(self._policy.timeout_s * 1000),
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_async_client=self._http,
        )
        self._client = genai.Client(vertexai=False, api_key=self._key.get_secret_value(), http_options=options)
        return self

    async def __aexit__(self, *exc: object) -> None:
        client, self._client = self._client, None
        await client.aio.aclose()
        client.close()
        await self._http.aclose()

    async def complete(
        self,
        system: str,
        parts: Sequence[Part],
        schema: type[BaseModel] | None = None,
        sampling: Sampling | None = None,
        on_text: OnText | None = None,
    ) -> Reply:
        if self._client is None:
            raise RuntimeError("GeminiClient is closed; use it inside `async with`")
        estimate = estimate_tokens(system, parts)
        config = self._config(system, schema, sampling or self._sampling, streamed=on_text is not None)
        upload_names: list[str] = []  # names of files to delete afterwards
        try:
            # Upload long audio first, since it exceeds the limit of a request.
            contents = await self._contents(parts, upload_names)

            async def send() -> tuple[Parts, float, float | None]:
                started = time.monotonic()
                models = self._client.aio.models
                # Parse the raw body, with the same reader as streams.
                if on_text is None:
                    response = await models.generate_content(model=self.model, contents=contents, config=config)
                    body = getattr(response.sdk_http_response, "body", None)
                    return gemini_parts(decode_json(body or "")), time.monotonic() - started, None
                content, first = Parts(), None
                chunks = await models.generate_content_stream(model=self.model, contents=contents, config=config)
                async for chunk in chunks:
                    body = chunk.model_dump(mode="json", by_alias=True, exclude_none=True)
                    body.pop("sdkHttpResponse", None)
                    piece = gemini_parts(body)
                    content.add(piece)
                    if piece.text or piece.reasoning:
                        first = first if first is not None else time.monotonic() - started
                        on_text(content.text, content.reasoning)
                return content, time.monotonic() - started, first

            (content, seconds, first_s), tries = await self._retried(send, estimate)
        finally:
            # Delete uploads in any case.
            for name in upload_names:
                await self._delete(name)
        structured: Structured = "none" if schema is None else "json_schema"
        reply = content.reply(self.model, structured, tries, seconds, first_s)
        self.limiter.spend(reply.usage)
        return reply

    def _config(
        self, system: str, schema: type[BaseModel] | None, sampling: Sampling, *, streamed: bool = False
    ) -> Any:
        from google.genai import types

        # request the raw body, which the SDK does not offer for streams
        fields: dict[str, Any] = {"max_output_tokens": sampling.max_tokens, "should_return_http_response": not streamed}
        for name in ("temperature", "top_p", "top_k", "seed"):
            if getattr(sampling, name) is not None:
                fields[name] = getattr(sampling, name)
        if sampling.repetition_penalty not in (None, 1.0):
            raise SettingError(f"Gemini has no repetition_penalty (given: {sampling.repetition_penalty}); leave it out")
        if system:
            fields["system_instruction"] = system
        if schema is not None:
            fields["response_mime_type"] = "application/json"
            fields["response_json_schema"] = schema.model_json_schema()
        return types.GenerateContentConfig(**fields)

    async def _contents(self, parts: Sequence[Part], upload_names: list[str]) -> list[Any]:
        """Return the parts in the SDK's format; names of uploaded files are appended to ``upload_names``."""
        from google.genai import types

        size = sum(len(part.encode()) if isinstance(part, str) else len(part) * 4 / 3 for part in parts)
        contents: list[Any] = []
        for part in parts:
            if isinstance(part, str):
                contents.append(types.Part.from_text(text=part))
            elif size <= self._inline_limit_bytes:
                contents.append(types.Part.from_bytes(data=part, mime_type=audio_mime(part)))
            else:
                file = await self._upload(part, upload_names)
                contents.append(types.Part.from_uri(file_uri=file.uri, mime_type=audio_mime(part)))
        return [types.Content(role="user", parts=contents)]

    async def _upload(self, data: bytes, upload_names: list[str]) -> Any:
        from google.genai import types

        config = types.UploadFileConfig(mime_type=audio_mime(data))

        async def send() -> Any:
            try:
                return await self._client.aio.files.upload(file=io.BytesIO(data), config=config)
            except (KeyError, ValueError) as error:  # the SDK's errors for an upload that the service did not finish
                raise _UploadBroken(str(error)) from None

        file, _ = await self._retried(send, 0)
        upload_names.append(file.name)

        async def ready() -> Any:
            while True:
                state = await self._client.aio.files.get(name=file.name)
                name = getattr(state.state, "name", state.state)
                if name == "FAILED":
                    raise _BadFile("the service could not read the uploaded audio")
                if name != "PROCESSING":
                    return state
                await asyncio.sleep(_FILE_POLL_S)

        state, _ = await self._retried(ready, 0)
        return state

    async def _delete(self, name: str) -> None:
        try:
            async with asyncio.timeout(10):
                await self._client.aio.files.delete(name=name)
        except Exception:  # a remaining file expires after 48 hours; the reply matters more
            return

    async def _retried(self, send: Any, estimate: int) -> tuple[Any, int]:
        from google.genai import errors

        from mpar2.llm.transport import BadReplyError

        async def noting_status() -> Any:
            last: dict[str, Any] = {}
            token = _LAST.set(last)
            try:
                return await send()
            except (errors.APIError, BadReplyError, ErrorInReply, TimeoutError, _BadFile, _UploadBroken):
                raise
            except Exception as error:
                if last.get("status", 200) < 300:
                    raise
                # the SDK failed on the body of an error: status and headers are more informative than its exception
                raise _OddError(last["status"], last["headers"], f"{type(error).__name__}: {error}") from None
            finally:
                _LAST.reset(token)

        return await call_with_retries(
            noting_status, classify=self._classify, policy=self._policy, limiter=self.limiter, estimate=estimate
        )

    def _classify(self, error: Exception) -> Failure:
        from google.genai import errors

        secrets = [self._key.get_secret_value()]

        def of_status(status: int, message: str, headers: Any, body: Any) -> Failure:
            return failure_of_status(
                status, redact(message, secrets), headers, body, max_wait_s=self._policy.max_wait_s
            )

        if isinstance(error, errors.APIError):
            status = error.code if isinstance(error.code, int) else getattr(error.response, "status_code", 500)
            message = error_message(error.details) or str(error.message or error.status or "")
            return of_status(status, message, getattr(error.response, "headers", None) or {}, error.details)
        if isinstance(error, ErrorInReply):
            return of_status(error.status, str(error), {}, error.body)
        if isinstance(error, _OddError):
            return of_status(error.status, str(error), error.headers, None)
        if isinstance(error, TimeoutError):
            return Failure("timeout", f"no whole reply within {self._policy.timeout_s:g} s", "endpoint", True)
        if isinstance(error, _UploadBroken):
            return Failure(
                "unavailable", redact(clip_text(f"the upload did not finish: {error}"), secrets), "endpoint", True
            )
        if isinstance(error, _BadFile):
            return Failure("bad_audio", clip_text(str(error)), "request")
        return classify_transport(error, error.__cause__, self.base_url or "Gemini", secrets)


async def _note_status(response: Any) -> None:
    last = _LAST.get()
    if last is not None:
        last.update(status=response.status_code, headers=response.headers)


class _OddError(Exception):
    """An error with a body that the SDK could not parse."""

    def __init__(self, status: int, headers: Any, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.headers = headers


class _UploadBroken(Exception):
    """The Files API did not acknowledge an upload."""


class _BadFile(Exception):
    """The Files API could not process a file."""
