"""The engine that asks servers: any OpenAI-compatible endpoint (vLLM, SGLang, ``transformers serve``), one or many.

* The audio goes first, as a WAV data URI, then the words of :func:`mpar2.prompts.prompt_text`.
* Every sampling parameter is sent, also the neutral ones: servers otherwise apply the checkpoint's own
  generation_config (vLLM on Qwen2-Audio: temperature 0.7, top_p 0.5, top_k 20, repetition_penalty 1.1). OpenAI and
  ``transformers serve`` refuse top_k and repetition_penalty: ``fields="openai"`` leaves them out, and the latter then
  takes those two from the checkpoint.
* Several endpoints share the work: each has ``in_flight`` places, and the next request takes the first free one, so a
  faster endpoint answers more. One that does not answer after all retries hands its request to the next.
* Thoughts that a server returns apart from the text are put back before it, as ``<think>..</think>``.
* A server says nothing about its tokens' places and nothing about attention: ``tokens`` of a generation are empty,
  and their number is its ``token_count``.

Two things that servers do without a word. A LoRA whose names do not match is served as its bare base: merge adapters
before serving. And a server that takes a checkpoint for a language model drops the audio and answers all the same
(``transformers serve`` 5.23 does so where it does not know the processor class, as with the tiny pair): so each
endpoint is asked twice at the start, with one and with three seconds of sound, and must count more tokens for the
longer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal

import numpy as np

from mpar2.answers import read_answer
from mpar2.audio import SAMPLE_RATE, Clip, wav_bytes
from mpar2.engines.base import Arm, AttentionDetail, Decoding, Engine, EngineError, Generation, Request
from mpar2.llm import CallFailed, ChatClient, Limiter, OpenAIClient, Reply, ReplyRejected, RetryPolicy, Sampling
from mpar2.prompts import prompt_text
from mpar2.question import Question
from mpar2.trace import parse_trace

__all__ = ["RemoteEngine", "ServerEngine"]

_ELSEWHERE = ("unavailable", "timeout", "bad_body")  # failures that another endpoint may not have


class RemoteEngine(Engine):
    """Runs arms on services. ``connect(place, model)`` makes the client of endpoint ``place`` for one model.

    Use it inside ``async with`` for :meth:`answer`; :meth:`generate_batch` and :meth:`stream` stand alone.
    """

    remote = True

    def __init__(
        self,
        connect: Callable[[int, str], ChatClient],
        places: Sequence[int],
        in_flight: int,
        *,
        check_hearing: bool = False,
    ) -> None:
        if in_flight < 1:
            raise EngineError(f"in_flight is {in_flight}: at least one request must be allowed")
        self._connect = connect
        self._places = tuple(places)
        self._in_flight = in_flight
        self.concurrency = len(self._places) * in_flight
        self._check_hearing = check_hearing
        self._clients: dict[tuple[int, str], ChatClient] = {}

    async def __aenter__(self) -> RemoteEngine:
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for _ in range(self._in_flight):  # round robin at the start
            for place in self._places:
                self._free.put_nowait(place)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.clear()
        await self._stack.aclose()

    async def answer(self, clip: Clip, question: Question, arm: Arm, decoding: Decoding) -> Generation:
        """One generation. Raises :class:`mpar2.llm.LLMError` with its reason if the service gave none."""
        if arm.adapter is not None:
            raise EngineError(
                f"arm {arm.name!r} has the adapter {arm.adapter!r}; a server applies none: merge it into the model, or "
                "serve it under a name of its own and give that as the model"
            )
        if decoding.has_interventions:
            raise EngineError(f"arm {arm.name!r} forces its length or hides the audio: no service does that")
        sampling = self.sampling(decoding)
        parts = [wav_bytes(clip), prompt_text(question, arm.mode)]
        tried: set[int] = set()
        while True:
            place = await self._free.get()
            try:
                client = await self._client(place, arm.model)
                reply = await client.complete("", parts, sampling=sampling)
                break
            except CallFailed as failure:
                tried.add(place)
                if failure.reason not in _ELSEWHERE or len(tried) == len(self._places):
                    raise
            finally:
                self._free.put_nowait(place)
        if reply.finish not in ("stop", "length"):
            raise ReplyRejected("blocked", f"the service ended the answer: {reply.detail or reply.finish}")
        return _generation(reply, clip, question, arm)

    def sampling(self, decoding: Decoding) -> Sampling:
        """The parameters to send."""
        return Sampling(
            max_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k or -1,  # -1 is "off" to vLLM and to SGLang; 0 is not to SGLang
            repetition_penalty=decoding.repetition_penalty,
            seed=decoding.seed,
        )

    def generate_batch(
        self,
        requests: Sequence[Request],
        decoding: Decoding | None = None,
        *,
        batch_size: int = 8,
        attention: AttentionDetail = "none",
    ) -> list[Generation]:
        """All requests at once, as far as the places allow."""

        async def work() -> list[Generation]:
            async with self, asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(request, decoding or Decoding())) for request in requests]
            return [task.result() for task in tasks]

        try:
            return asyncio.run(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _one(self, request: Request, decoding: Decoding) -> Generation:
        seed = decoding.seed if request.seed is None else request.seed
        return await self.answer(request.clip, request.question, request.arm, replace(decoding, seed=seed))

    async def _client(self, place: int, model: str) -> ChatClient:
        async with self._opening:
            if (place, model) not in self._clients:
                client = await self._stack.enter_async_context(self._connect(place, model))
                if self._check_hearing:
                    await _check_that_it_hears(client)
                self._clients[place, model] = client
        return self._clients[place, model]


class ServerEngine(RemoteEngine):
    """OpenAI-compatible endpoints at ``base_urls`` (the addresses that end in ``/v1``), all serving the same models."""

    def __init__(
        self,
        base_urls: Sequence[str],
        *,
        in_flight: int = 8,
        api_key: str | None = None,
        audio_as: Literal["audio_url", "input_audio"] = "audio_url",
        fields: Literal["all", "openai"] = "all",
        policy: RetryPolicy | None = None,
        check_hearing: bool = True,
    ) -> None:
        if not base_urls:
            raise EngineError("no address for the server: give --base-url, for example http://localhost:8000/v1")
        self._fields = fields

        def connect(place: int, model: str) -> ChatClient:
            options: dict[str, Any] = {"api_key": api_key, "audio_as": audio_as, "policy": policy}
            return OpenAIClient(model, base_urls[place], limiter=Limiter(in_flight), **options)

        super().__init__(connect, range(len(base_urls)), in_flight, check_hearing=check_hearing)

    def sampling(self, decoding: Decoding) -> Sampling:
        sampling = super().sampling(decoding)
        if self._fields == "all":
            return sampling
        if decoding.top_k or decoding.repetition_penalty != 1.0:
            raise EngineError("top_k and repetition_penalty are not among OpenAI's fields: leave them at 0 and 1")
        return Sampling(sampling.max_tokens, sampling.temperature, sampling.top_p, seed=sampling.seed)


async def _check_that_it_hears(client: ChatClient) -> None:
    """Two short requests; a server that does not count its tokens is believed."""
    noise = np.random.default_rng(0).normal(scale=0.05, size=3 * SAMPLE_RATE)
    counts: list[int | None] = []
    for seconds in (1, 3):
        sound = wav_bytes(Clip(noise[: seconds * SAMPLE_RATE]))
        reply = await client.complete("", [sound, "What is heard?"], sampling=Sampling(max_tokens=1, temperature=0.0))
        counts.append(reply.usage.prompt)
    if None not in counts and counts[0] == counts[1]:
        raise EngineError(
            f"this server does not hear: a prompt for '{client.model}' has {counts[0]} tokens with one second of audio "
            "and with three. It may serve the model for text only, or not know audio_url (try --audio-as input_audio); "
            "if it counts no audio tokens and hears all the same, give --trust-hearing"
        )


def _tokens(reply: Reply) -> int | None:
    thoughts = reply.usage.thoughts if reply.reasoning.strip() else None  # hidden thoughts are not in the text
    return None if reply.usage.completion is None else reply.usage.completion + (thoughts or 0)


def _generation(reply: Reply, clip: Clip, question: Question, arm: Arm) -> Generation:
    text = f"<think>{reply.reasoning}</think>{reply.text}" if reply.reasoning.strip() else reply.text
    trace = parse_trace(text)
    return Generation(
        arm=arm,
        text=text,
        trace=trace,
        tokens=(),
        prompt_tokens=reply.usage.prompt or 0,
        seconds=reply.seconds,
        first_token_s=reply.seconds,
        audio_seconds=clip.seconds,
        finish="length" if reply.finish == "length" else "stop",
        choice=read_answer(trace, question.choices).choice,
        token_count=_tokens(reply),
        served_model=reply.model_version,
    )
