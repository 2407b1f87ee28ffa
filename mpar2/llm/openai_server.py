"""Chat with any OpenAI-compatible server (vLLM, SGLang, llama.cpp, ``transformers serve``, OpenAI) by ``openai``.

Audio is sent as ``audio_url`` with a base64 data URI, supported by vLLM and SGLang, or as ``input_audio``, OpenAI's own
format, the only one of llama.cpp. The schema is sent as ``response_format: json_schema``. There are four fallbacks,
each used only after the server refused the request and named the field, each for the rest of this client's life and
recorded in every reply or log:

* no ``json_schema``: the schema is added to the instructions instead (``Reply.structured == "prompt"``);
* no ``max_tokens``: the newer ``max_completion_tokens`` is sent instead;
* one audio format refused: the other one is sent;
* no ``logprobs``: they are not requested again.

vLLM applies the checkpoint's own generation_config to unset fields, so a measurement sends every field of
:class:`~mpar2.llm.base.Sampling`. Redirects are not followed: a server must not forward a request, or its key, to
another. The SDK sends the request and raises its errors; bodies are parsed by :mod:`mpar2.llm.replies`, because the
SDK's own types accept any shape silently.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from mpar2.llm.address import check_base_url, server_key
from mpar2.llm.base import OnText, Part, Reply, Sampling, Structured, audio_mime
from mpar2.llm.cost import estimate_tokens
from mpar2.llm.errors import CallFailed, clip_text, redact
from mpar2.llm.limits import Limiter, call_with_retries
from mpar2.llm.replies import BadBodyError, ErrorInReply, Parts, decode_json, openai_delta, openai_parts
from mpar2.llm.retry import Failure, RetryPolicy, error_message, failure_of_status

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["AudioForm", "OpenAIClient"]

AudioForm = Literal["audio_url", "input_audio"]

_log = logging.getLogger(__name__)
_OTHER_FORM: dict[AudioForm, AudioForm] = {"audio_url": "input_audio", "input_audio": "audio_url"}


class OpenAIClient:
    """One model behind an OpenAI-compatible address; used inside ``async with``.

    Args:
        model: Name of the model on the server.
        base_url: Address of the server, which ends in ``/v1``.
        api_key: The key; None takes the environment's (:mod:`mpar2.llm.address`).
        sampling: Default of :meth:`complete`.
        audio_as: The audio format to try first.
        logprobs: Request the log-probability of each token.
        limiter: The limiter, shared with other clients.
        policy: Number of tries and waits between them.

    Raises:
        StopRun: The server is OpenAI's, and there is no key.
        SettingError: The address cannot be used.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str | None = None,
        sampling: Sampling | None = None,
        audio_as: AudioForm = "audio_url",
        logprobs: bool = False,
        limiter: Limiter | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.model = model
        self.base_url = check_base_url(base_url)
        self.limiter = limiter or Limiter()
        self._key = server_key(self.base_url, api_key)
        self._sampling = sampling or Sampling()
        self._first_audio_form = audio_as
        self._audio_as: AudioForm = audio_as
        self._logprobs = logprobs
        self._policy = policy or RetryPolicy()
        self._schema_in_prompt = False
        self._token_field = "max_tokens"
        self._client: Any = None

    @property
    def identity(self) -> str:
        # journals of earlier versions have the empty braces in their keys
        return f"openai|{self.base_url}|{self.model}|{self._sampling}|{self._first_audio_form}|{{}}"

    @property
    def audio_as(self) -> AudioForm:
        """The current audio format."""
        return self._audio_as

    async def __aenter__(self) -> OpenAIClient:
        from openai import AsyncOpenAI

        from mpar2.llm.transport import MAX_REPLY_BYTES, MAX_STREAM_BYTES, http_client

        http = http_client(
            self.base_url,
            timeout_s=self._policy.timeout_s,
            keep_alive=self.limiter.in_flight,
            max_bytes=MAX_STREAM_BYTES if self._logprobs else MAX_REPLY_BYTES,
        )
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
        on_text: OnText | None = None,
    ) -> Reply:
        import httpx2

        if self._client is None:
            raise RuntimeError("OpenAIClient is closed; use it inside `async with`")
        sampling = sampling or self._sampling
        estimate = estimate_tokens(system, parts)
        refusals: set[str] = set()
        tries = 0
        while True:
            # Build the request in the format that this server is known to accept.
            request = self._request(system, parts, schema, sampling)
            structured: Structured = (
                "none" if schema is None else "json_schema" if "response_format" in request else "prompt"
            )

            async def send(request: dict[str, Any] = request) -> tuple[Parts, float, float | None]:
                started = time.monotonic()
                if on_text is None:
                    # the SDK's typed method traverses the whole body, with minutes of audio, before it sends it
                    body = {key: value for key, value in request.items() if key != "extra_body"} | request["extra_body"]
                    response = await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
                    return openai_parts(decode_json(response.content)), time.monotonic() - started, None
                content, first = await self._read_stream(request, on_text, started)
                return content, time.monotonic() - started, first

            try:
                (content, seconds, first_s), attempts = await call_with_retries(
                    send, classify=self._classify, policy=self._policy, limiter=self.limiter, estimate=estimate
                )
            # After a refused field or audio format, repeat the request without it, once.
            except CallFailed as failure:
                tries += failure.tries
                if not failure.reason.startswith("refused_"):
                    raise
                if failure.reason in refusals or not self._disable(failure.reason, request):
                    reason = failure.reason if failure.reason == "refused_audio" else "bad_request"
                    raise CallFailed(reason, failure.detail, tries, scope="request") from None
                refusals.add(failure.reason)
                continue
            # Account for the reply.
            reply = content.reply(self.model, structured, tries + attempts, seconds, first_s)
            self.limiter.spend(reply.usage)
            return reply

    async def _read_stream(
        self, request: dict[str, Any], on_text: OnText, started: float
    ) -> tuple[Parts, float | None]:
        """Read server-sent events; a reply in one piece is accepted too."""
        parts, first = Parts(), None
        create = self._client.chat.completions.with_streaming_response.create
        async with create(**request, stream=True, stream_options={"include_usage": True}) as response:
            if "text/event-stream" not in response.headers.get("content-type", "").lower():
                parts = openai_parts(decode_json(await response.read()))
                on_text(parts.text, parts.reasoning)
                return parts, time.monotonic() - started
            complete = False
            async for data in _events(response.iter_lines()):
                if data.strip() == "[DONE]":
                    complete = True
                    break
                piece = openai_delta(decode_json(data))
                parts.add(piece)
                if piece.text or piece.reasoning:
                    first = first if first is not None else time.monotonic() - started
                    on_text(parts.text, parts.reasoning)
        if not complete and not parts.detail:
            raise BadBodyError("the stream ended in the middle of the reply")
        return parts, first

    def _request(
        self, system: str, parts: Sequence[Part], schema: type[BaseModel] | None, sampling: Sampling
    ) -> dict[str, Any]:
        names = ("top_k", "repetition_penalty")
        extra = {name: value for name in names if (value := getattr(sampling, name)) is not None}
        request: dict[str, Any] = {"model": self.model, self._token_field: sampling.max_tokens, "extra_body": extra}
        if self._logprobs:
            request["logprobs"] = True
        for name in ("temperature", "top_p", "seed"):
            if getattr(sampling, name) is not None:
                request[name] = getattr(sampling, name)
        if schema is not None:
            json_schema = schema.model_json_schema()
            if self._schema_in_prompt:
                instruction = "Reply with one JSON object and nothing else. It follows this JSON schema:"
                system = f"{system}\n\n{instruction}\n{json.dumps(json_schema)}".lstrip()
            else:
                named_schema = {"name": schema.__name__, "schema": json_schema, "strict": True}
                request["response_format"] = {"type": "json_schema", "json_schema": named_schema}
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

    def _disable(self, reason: str, request: dict[str, Any]) -> bool:
        """Disable the refused field permanently; return False if ``request`` did not have it.

        A concurrent request may have disabled it meanwhile.
        """
        if reason == "refused_schema" and "response_format" in request:
            if not self._schema_in_prompt:
                _log.warning("%s takes no json_schema: the schema goes into the instructions from here on", self.model)
            self._schema_in_prompt = True
        elif reason == "refused_max_tokens" and "max_tokens" in request:
            self._token_field = "max_completion_tokens"
            _log.info("%s takes max_completion_tokens in place of max_tokens", self.model)
        elif reason == "refused_audio" and (form := _audio_form(request)) is not None:
            self._audio_as = _OTHER_FORM[form]
            _log.info("%s takes no %s: audio goes as %s from here on", self.model, form, self._audio_as)
        elif reason == "refused_logprobs" and "logprobs" in request:
            self._logprobs = False
            _log.info("%s gives no log-probabilities", self.model)
        else:
            return False
        return True

    def _classify(self, error: Exception) -> Failure:
        import openai

        cause = error.__cause__
        if isinstance(error, ErrorInReply):
            return self._failure(error.status, str(error), {}, error.body)
        if isinstance(error, openai.APIStatusError):
            message = error_message(error.body) or error.message
            return self._failure(error.status_code, message, error.response.headers, error.body)
        if isinstance(error, (openai.APITimeoutError, TimeoutError)):
            return Failure("timeout", f"no whole reply within {self._policy.timeout_s:g} s", "endpoint", True)
        return classify_transport(error, cause, self.base_url, self._secrets)

    def _failure(self, status: int, message: str, headers: Any, body: Any) -> Failure:
        message = redact(message, self._secrets)
        if 400 <= status < 600 and (field := _refused(message, status)):
            return Failure(field, f"HTTP {status}: {clip_text(message)}", "request")
        if status in (400, 422) and re.search("top_k|repetition_penalty", message):
            message += ". This server takes OpenAI's own fields only: leave these two out (evaluate --fields openai)"
        if re.search(r"exceeds the available context size", message):
            message += ". llama.cpp shares its context (-c) among its slots (-np)"
        failure = failure_of_status(status, message, headers, body, max_wait_s=self._policy.max_wait_s)
        if status >= 500 and re.search(r"mtmd|failed to (process|decode|find).{0,40}(chunk|batch|slot)", message):
            # llama.cpp: the requests in flight share one context
            detail = f"{failure.detail}. The server's context may be too small for what is in flight: give it a larger"
            return Failure("unavailable", f"{detail} -c, or ask for less at once", "request", True)
        return failure

    @property
    def _secrets(self) -> list[str]:
        return [self._key.get_secret_value()]


def classify_transport(error: Exception, cause: BaseException | None, place: str, secrets: list[str]) -> Failure:
    """Classify errors other than HTTP status: an unreadable reply, no connection, an invalid address.

    Args:
        error: The SDK's exception.
        cause: Its cause.
        place: The address, for the message.
        secrets: Texts to remove from the message.
    """
    import httpx2

    from mpar2.llm.transport import BadReplyError, proxy_of

    inner = cause or error
    words = redact(clip_text(str(inner) or type(inner).__name__), secrets)
    if isinstance(error, BadReplyError) or isinstance(cause, BadReplyError):
        return Failure("bad_body", words, "request")
    if isinstance(error, BadBodyError):
        return Failure("bad_body", words, "request", True)
    if isinstance(inner, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)) or (
        isinstance(inner, UnicodeError) and not isinstance(inner, UnicodeDecodeError)
    ):
        return Failure("not_found", f"{place} is no address that can be reached ({words})", "run")
    if isinstance(inner, (httpx2.TimeoutException, TimeoutError)):
        return Failure("timeout", f"no connection to {place} in time", "endpoint", True)
    if isinstance(inner, httpx2.TransportError) and not isinstance(inner, httpx2.DecodingError):
        proxy = proxy_of(place)
        route = f" through the proxy {proxy} (set NO_PROXY to go past it)" if proxy else ""
        return Failure("unavailable", f"no connection to {place}{route}: {words}", "endpoint", True)
    # the remaining errors occur while a reply is parsed: by the SDK, on an unexpected shape
    words = redact(clip_text(f"{type(inner).__name__}: {inner}"), secrets)
    return Failure("bad_body", f"the reply cannot be read ({words})", "request", True)


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield the data of server-sent events. Comments, names and ids are skipped; an error is yielded as data."""
    data: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line.startswith("error:"):  # llama.cpp
            data.append(json.dumps({"error": _json_or_text(line[6:])}))
        elif not line.strip() and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"message": text}


def _audio_form(request: dict[str, Any]) -> AudioForm | None:
    """Return the format of the audio in a request; None without audio."""
    return next((part["type"] for part in request["messages"][-1]["content"] if part["type"] != "text"), None)


def _refused(message: str, status: int) -> str | None:
    """Return the field that a refusal names; None if there is no fallback for it."""
    if status in (400, 415, 422) and re.search(
        r"response_format|json_schema|guided|structured.?output|grammar", message, re.I
    ):
        return "refused_schema"
    if re.search(r"max_completion_tokens", message) and re.search(r"unsupported|not supported", message, re.I):
        return "refused_max_tokens"
    if status in (400, 415, 422, 500, 501) and re.search(
        r"audio_url|input_audio|content\[?\]?\.?type|content (part )?type|unknown part type|content part", message, re.I
    ):
        return "refused_audio"
    if status in (400, 422, 501) and re.search(r"log.?prob", message, re.I):
        return "refused_logprobs"
    return None
