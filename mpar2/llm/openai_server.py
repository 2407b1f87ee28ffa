"""Chat with any OpenAI-compatible server (vLLM, SGLang, ``transformers serve``, OpenAI) by the ``openai`` client.

Audio goes as ``audio_url`` with a base64 data URI, which vLLM and SGLang take; ``audio_as="input_audio"`` is OpenAI's
own form. The schema goes as ``response_format: json_schema``. Two concessions are made, each only after the server
refused with 400 or 422 and named the field, each for the rest of this client's life and written into every reply or
log:

* no ``json_schema``: the schema is put into the instructions instead (``Reply.structured == "prompt"``);
* no ``max_tokens``: the newer ``max_completion_tokens`` is sent instead.

vLLM applies the checkpoint's own generation_config to whatever is not sent, so a measurement sends every field of
:class:`~mpar2.llm.base.Sampling`. Redirects are not followed: a server must not pass a request, or its key, on to
another.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from mpar2.llm.address import check_base_url
from mpar2.llm.base import Finish, Part, Reply, Sampling, Structured, Usage, audio_mime
from mpar2.llm.cost import estimate_tokens
from mpar2.llm.errors import CallFailed, StopRun, clip_text, redact
from mpar2.llm.keys import server_key
from mpar2.llm.limits import Limiter, call_with_retries
from mpar2.llm.retry import Failure, RetryPolicy, failure_of_status

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["OpenAIClient"]

_log = logging.getLogger(__name__)
_FINISH: dict[str, Finish] = {"stop": "stop", "length": "length", "content_filter": "blocked"}


class OpenAIClient:
    """One model behind ``base_url`` (the address that ends in ``/v1``)."""

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str | None = None,
        sampling: Sampling | None = None,
        audio_as: Literal["audio_url", "input_audio"] = "audio_url",
        extra_body: dict[str, Any] | None = None,
        limiter: Limiter | None = None,
        policy: RetryPolicy | None = None,
        rng: Random | None = None,
    ) -> None:
        self.model = model
        self.base_url = check_base_url(base_url)
        self.limiter = limiter or Limiter()
        self._key = server_key(self.base_url, api_key)
        self._sampling = sampling or Sampling()
        self._audio_as = audio_as
        self._extra_body = dict(extra_body or {})
        self._policy = policy or RetryPolicy()
        self._rng = rng or Random()
        self._schema_in_prompt = False
        self._token_field = "max_tokens"
        self._client: Any = None

    @property
    def identity(self) -> str:
        extra = json.dumps(self._extra_body, sort_keys=True)
        return f"openai|{self.base_url}|{self.model}|{self._sampling}|{self._audio_as}|{extra}"

    async def __aenter__(self) -> OpenAIClient:
        import httpx2
        from openai import AsyncOpenAI

        pool = httpx2.Limits(max_connections=None, max_keepalive_connections=self.limiter.in_flight)
        http = httpx2.AsyncClient(limits=pool, follow_redirects=False, timeout=self._policy.timeout_s)
        self._client = AsyncOpenAI(
            api_key=self._key.get_secret_value(), base_url=self.base_url, max_retries=0, http_client=http
        )
        if urlsplit(self.base_url).hostname != "api.openai.com":
            # the SDK reads these from the environment and would send them to any server
            self._client.organization = self._client.project = None
        return self

    async def __aexit__(self, *exc: object) -> None:
        client, self._client = self._client, None
        await client.close()

    async def complete(
        self,
        system: str,
        parts: Sequence[Part],
        schema: type[BaseModel] | None = None,
        sampling: Sampling | None = None,
    ) -> Reply:
        if self._client is None:
            raise RuntimeError("OpenAIClient is closed; use it inside `async with`")
        sampling = sampling or self._sampling
        estimate = estimate_tokens(system, parts)
        for _ in range(3):  # the request as it is, and once more after each concession
            in_prompt, token_field = self._schema_in_prompt, self._token_field
            request = self._request(system, parts, schema, sampling)
            structured: Structured = "none" if schema is None else "prompt" if in_prompt else "json_schema"

            async def send(request: dict[str, Any] = request) -> Any:
                started = time.monotonic()
                completion = await self._client.chat.completions.create(**request)
                if isinstance(completion, str) or not getattr(completion, "choices", None):
                    raise _BadBody(f"body is no chat completion: {clip_text(str(completion), 200)}")
                return completion, time.monotonic() - started

            try:
                (completion, seconds), tries = await call_with_retries(
                    send,
                    classify=self._classify,
                    policy=self._policy,
                    limiter=self.limiter,
                    estimate=estimate,
                    rng=self._rng,
                )
            except CallFailed as failure:
                if not failure.reason.startswith("refused_"):
                    raise
                self._concede(failure.reason, in_prompt, token_field)
                continue
            reply = _reply(completion, self.model, structured, tries, seconds)
            self.limiter.spend(reply.usage)
            return reply
        raise StopRun("bad_request", f"{self.model} refused both the request and its plainer forms")

    def _request(
        self, system: str, parts: Sequence[Part], schema: type[BaseModel] | None, sampling: Sampling
    ) -> dict[str, Any]:
        extra = dict(self._extra_body)
        for name in ("top_k", "repetition_penalty"):
            if getattr(sampling, name) is not None:
                extra[name] = getattr(sampling, name)
        request: dict[str, Any] = {"model": self.model, self._token_field: sampling.max_tokens, "extra_body": extra}
        for name in ("temperature", "top_p", "seed"):
            if getattr(sampling, name) is not None:
                request[name] = getattr(sampling, name)
        if schema is not None:
            json_schema = schema.model_json_schema()
            if self._schema_in_prompt:
                wish = "Reply with one JSON object and nothing else. It follows this JSON schema:"
                system = f"{system}\n\n{wish}\n{json.dumps(json_schema)}".lstrip()
            else:
                named = {"name": schema.__name__, "schema": json_schema, "strict": True}
                request["response_format"] = {"type": "json_schema", "json_schema": named}
        content = [self._part(part) for part in parts]
        request["messages"] = [{"role": "system", "content": system}] if system else []
        request["messages"].append({"role": "user", "content": content})
        return request

    def _part(self, part: Part) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        mime = audio_mime(part)
        data = base64.b64encode(part).decode("ascii")
        if self._audio_as == "input_audio":
            return {"type": "input_audio", "input_audio": {"data": data, "format": mime.removeprefix("audio/")}}
        return {"type": "audio_url", "audio_url": {"url": f"data:{mime};base64,{data}"}}

    def _concede(self, reason: str, in_prompt: bool, token_field: str) -> None:
        """Give up the refused field. A second refusal of the same kind means that the cause lies elsewhere."""
        if reason == "refused_schema" and not in_prompt:
            self._schema_in_prompt = True
            _log.warning("%s takes no json_schema: the schema goes into the instructions from here on", self.model)
        elif reason == "refused_max_tokens" and token_field == "max_tokens":
            self._token_field = "max_completion_tokens"
            _log.info("%s takes max_completion_tokens in place of max_tokens", self.model)
        else:
            raise StopRun("bad_request", f"{self.model} still refuses the request ({reason})")

    def _classify(self, error: Exception) -> Failure:
        import openai

        if isinstance(error, openai.APIStatusError):
            message = _message(error.body) or error.message
            if error.status_code in (400, 422) and (refused := _refused(message)):
                return Failure(refused, redact(clip_text(message), self._secrets), "item")
            wait = self._policy.max_wait_s
            if error.status_code in (400, 422) and re.search("top_k|repetition_penalty", message):
                message += (
                    ". This server takes OpenAI's own fields only: leave these two out (evaluate --fields openai)"
                )
            message = redact(message, self._secrets)
            return failure_of_status(error.status_code, message, error.response.headers, error.body, max_wait_s=wait)
        if isinstance(error, (openai.APITimeoutError, TimeoutError)):
            return Failure("timeout", f"no whole reply within {self._policy.timeout_s:g} s", "retry")
        if isinstance(error, openai.APIConnectionError):
            cause = redact(clip_text(str(error.__cause__ or error)), self._secrets)
            return Failure("unavailable", f"no connection to {self.base_url}: {cause}", "retry")
        if isinstance(error, (_BadBody, json.JSONDecodeError, openai.APIResponseValidationError, UnicodeDecodeError)):
            return Failure("bad_body", redact(clip_text(str(error)), self._secrets), "retry")
        return Failure("bad_request", redact(clip_text(f"{type(error).__name__}: {error}"), self._secrets), "stop")

    @property
    def _secrets(self) -> list[str]:
        return [self._key.get_secret_value()]


class _BadBody(Exception):
    """HTTP 200 with a body that is no completion."""


def _reply(completion: Any, model: str, structured: Structured, tries: int, seconds: float) -> Reply:
    choice = completion.choices[0]
    message = choice.message
    refusal = getattr(message, "refusal", None) or ""
    finish: Finish = "blocked" if refusal else _FINISH.get(choice.finish_reason or "", "other")
    extra = message.model_extra or {}
    return Reply(
        text=message.content or "",
        model=model,
        model_version=completion.model or "",
        usage=_usage(completion.usage),
        finish=finish,
        detail=clip_text(refusal) or (choice.finish_reason or ""),
        reasoning=str(extra.get("reasoning_content") or extra.get("reasoning") or ""),
        structured=structured,
        tries=tries,
        seconds=seconds,
    )


def _usage(usage: Any) -> Usage:
    if usage is None:
        return Usage()
    details = getattr(usage, "completion_tokens_details", None)
    thoughts = getattr(details, "reasoning_tokens", None)
    completion = usage.completion_tokens
    if completion is not None and thoughts:
        completion -= thoughts
    return Usage(usage.prompt_tokens, completion, thoughts)


def _message(body: Any) -> str:
    """What a refusal says, in OpenAI's form (``error.message``) or in FastAPI's (``detail``).

    >>> _message({"detail": "Unexpected fields"})
    'Unexpected fields'
    """
    if isinstance(body, dict):
        inner = body.get("error", body.get("detail", body))
        inner = inner.get("message", "") if isinstance(inner, dict) else inner
        return str(inner or "")
    return body if isinstance(body, str) else ""


def _refused(message: str) -> str | None:
    if re.search(r"response_format|json_schema|guided|structured.?output", message, re.I):
        return "refused_schema"
    if re.search(r"max_completion_tokens", message) and re.search(r"unsupported|not supported", message, re.I):
        return "refused_max_tokens"
    return None
