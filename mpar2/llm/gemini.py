"""Chat with Gemini, through the real ``google-genai`` client (3.4).

What its own documentation does not say, and this module rests on (tried against a local server):

* ``parsed`` is ``None`` without a word on truncation, a broken constraint or a block: it is ignored here; the text, the
  finish reason and the block reason are read instead.
* SDK 3.x calls ``/v1`` by default, while preview models live under ``/v1beta``: the version is set.
* With aiohttp installed the SDK uses that and retries connections on its own: an httpx2 client is handed in, so that
  there is one transport with one set of errors, and redirects are not followed.
* Its environment variables may choose Vertex AI: switched off.

Audio goes inline as long as the request stays under ``inline_limit_bytes``, else through the Files API; uploaded
files are deleted after the reply (the service would keep them for 48 hours).
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from mpar2.llm.address import check_base_url
from mpar2.llm.base import Finish, Part, Reply, Sampling, Usage, audio_mime
from mpar2.llm.cost import estimate_tokens
from mpar2.llm.errors import clip_text, redact
from mpar2.llm.keys import gemini_key
from mpar2.llm.limits import Limiter, call_with_retries
from mpar2.llm.retry import Failure, RetryPolicy, failure_of_status

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["INLINE_LIMIT_BYTES", "GeminiClient"]

# The limit was 20 MB of request until 2026-01-08 and is said to be 100 MB since; the old one holds on every endpoint.
INLINE_LIMIT_BYTES = 20_000_000

_BLOCKED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"}
_FILE_POLL_S = 1.0


class GeminiClient:
    """One Gemini model. ``base_url`` is for a gateway or a test server."""

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
        rng: Random | None = None,
    ) -> None:
        self.model = model
        self.base_url = None if base_url is None else check_base_url(base_url)
        self.limiter = limiter or Limiter()
        self._key = gemini_key(api_key)
        self._sampling = sampling or Sampling()
        self._inline_limit_bytes = inline_limit_bytes
        self._policy = policy or RetryPolicy()
        self._rng = rng or Random()
        self._http: Any = None
        self._client: Any = None

    @property
    def identity(self) -> str:
        return f"gemini|{self.base_url or ''}|{self.model}|{self._sampling}"

    async def __aenter__(self) -> GeminiClient:
        import httpx2
        from google import genai
        from google.genai import types

        pool = httpx2.Limits(max_connections=None, max_keepalive_connections=self.limiter.in_flight)
        self._http = httpx2.AsyncClient(limits=pool, follow_redirects=False, timeout=self._policy.timeout_s)
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
    ) -> Reply:
        if self._client is None:
            raise RuntimeError("GeminiClient is closed; use it inside `async with`")
        estimate = estimate_tokens(system, parts)
        config = self._config(system, schema, sampling or self._sampling)
        uploaded: list[str] = []  # names of files to delete afterwards
        try:
            contents = await self._contents(parts, uploaded)

            async def send() -> tuple[Any, float]:
                started = time.monotonic()
                response = await self._client.aio.models.generate_content(
                    model=self.model, contents=contents, config=config
                )
                return response, time.monotonic() - started

            (response, seconds), tries = await self._retried(send, estimate)
        finally:
            for name in uploaded:
                await self._delete(name)
        reply = _reply(response, self.model, tries, seconds, structured=schema is not None)
        self.limiter.spend(reply.usage)
        return reply

    def _config(self, system: str, schema: type[BaseModel] | None, sampling: Sampling) -> Any:
        from google.genai import types

        fields: dict[str, Any] = {"max_output_tokens": sampling.max_tokens}
        for name in ("temperature", "top_p", "top_k", "seed"):
            if getattr(sampling, name) is not None:
                fields[name] = getattr(sampling, name)
        if sampling.repetition_penalty not in (None, 1.0):
            raise ValueError(f"Gemini has no repetition_penalty (given: {sampling.repetition_penalty}); leave it out")
        if system:
            fields["system_instruction"] = system
        if schema is not None:
            fields["response_mime_type"] = "application/json"
            fields["response_json_schema"] = schema.model_json_schema()
        return types.GenerateContentConfig(**fields)

    async def _contents(self, parts: Sequence[Part], uploaded: list[str]) -> list[Any]:
        """The parts in the SDK's form; names of files uploaded for them are added to ``uploaded``."""
        from google.genai import types

        size = sum(len(part.encode()) if isinstance(part, str) else len(part) * 4 / 3 for part in parts)
        contents: list[Any] = []
        for part in parts:
            if isinstance(part, str):
                contents.append(types.Part.from_text(text=part))
            elif size <= self._inline_limit_bytes:
                contents.append(types.Part.from_bytes(data=part, mime_type=audio_mime(part)))
            else:
                file = await self._upload(part, uploaded)
                contents.append(types.Part.from_uri(file_uri=file.uri, mime_type=audio_mime(part)))
        return [types.Content(role="user", parts=contents)]

    async def _upload(self, data: bytes, uploaded: list[str]) -> Any:
        from google.genai import types

        config = types.UploadFileConfig(mime_type=audio_mime(data))

        async def send() -> Any:
            try:
                return await self._client.aio.files.upload(file=io.BytesIO(data), config=config)
            except (KeyError, ValueError) as error:  # the SDK's words for an upload that the service did not finish
                raise _UploadBroken(str(error)) from None

        file, _ = await self._retried(send, 0)
        uploaded.append(file.name)

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
        except Exception:  # a file left behind is gone in 48 hours; the reply matters more
            return

    async def _retried(self, send: Any, estimate: int) -> tuple[Any, int]:
        return await call_with_retries(
            send,
            classify=self._classify,
            policy=self._policy,
            limiter=self.limiter,
            estimate=estimate,
            rng=self._rng,
        )

    def _classify(self, error: Exception) -> Failure:
        import httpx2
        from google.genai import errors
        from pydantic import ValidationError

        secrets = [self._key.get_secret_value()]
        said = redact(clip_text(f"{type(error).__name__}: {error}"), secrets)
        if isinstance(error, errors.APIError):
            headers = getattr(error.response, "headers", None) or {}
            message = redact(str(error.message or error.status or ""), secrets)
            wait = self._policy.max_wait_s
            return failure_of_status(error.code, message, headers, error.details, max_wait_s=wait)
        if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
            return Failure("timeout", f"no whole reply within {self._policy.timeout_s:g} s", "retry")
        if isinstance(error, httpx2.TransportError):
            return Failure("unavailable", f"no connection to {self.base_url or 'Gemini'}: {said}", "retry")
        if isinstance(error, _UploadBroken):
            return Failure("unavailable", said, "retry")
        unreadable = (json.JSONDecodeError, UnicodeDecodeError, ValidationError, errors.UnknownApiResponseError)
        if isinstance(error, (*unreadable, httpx2.DecodingError)):
            return Failure("bad_body", said, "retry")
        if isinstance(error, _BadFile):
            return Failure("bad_audio", said, "item")
        return Failure("bad_request", said, "stop")


class _UploadBroken(Exception):
    """The Files API did not acknowledge an upload."""


class _BadFile(Exception):
    """The Files API could not take a file in."""


def _reply(response: Any, model: str, tries: int, seconds: float, *, structured: bool) -> Reply:
    candidates = response.candidates or []
    text, reasoning, finish, detail = "", "", "other", ""
    if candidates:
        parts = (candidates[0].content.parts if candidates[0].content else None) or []
        text = "".join(part.text for part in parts if part.text and not part.thought)
        reasoning = "".join(part.text for part in parts if part.text and part.thought)
        detail = _name(candidates[0].finish_reason)
        finish = _finish(detail)
    elif response.prompt_feedback is not None:
        finish, detail = "blocked", _name(response.prompt_feedback.block_reason)
    usage = response.usage_metadata
    counts = (None, None, None)
    if usage is not None:
        counts = (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count)
    return Reply(
        text=text,
        model=model,
        model_version=response.model_version or "",
        usage=Usage(*counts),
        finish=finish,
        detail=detail,
        reasoning=reasoning,
        structured="json_schema" if structured else "none",
        tries=tries,
        seconds=seconds,
    )


def _finish(reason: str) -> Finish:
    if reason == "MAX_TOKENS":
        return "length"
    return "blocked" if reason in _BLOCKED else "stop" if reason == "STOP" else "other"


def _name(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
