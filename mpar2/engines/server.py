"""The engines for services: any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp), one or many; Gemini.

* The audio comes first, as a WAV file, then the text of :func:`mpar2.prompts.prompt_text`.
* All sampling parameters are sent, including neutral ones: servers otherwise apply the checkpoint's own
  generation_config (vLLM on Qwen2-Audio: temperature 0.7, top_p 0.5, top_k 20, repetition_penalty 1.1). OpenAI and
  ``transformers serve`` refuse top_k and repetition_penalty: ``fields="openai"`` omits them, and the latter then
  takes those two from the checkpoint.
* Several endpoints share the work: each has ``in_flight`` slots, and the next request takes the first free one, so a
  faster endpoint answers more. If an endpoint fails after all retries, its request moves to the next.
* :meth:`RemoteEngine.stream` runs all arms concurrently and yields their texts as they grow.
* Thoughts that a server returns separately are prepended to the text as ``<think>..</think>``.
* Servers return no attention. Tokens are known if the server returns log-probabilities (requested while streaming);
  otherwise ``tokens`` of a generation are empty, and ``token_count`` is their number.

Two silent failures of servers: A LoRA whose names do not match is served as its bare base, so merge adapters before
serving. A server that loads an audio model as a language model drops the audio and answers all the same, so each
endpoint is checked before its first use (:mod:`mpar2.llm.audio_check`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Literal

from mpar2.answers import read_answer
from mpar2.audio import Clip, wav_bytes
from mpar2.engines.background import Put, in_background
from mpar2.engines.base import Arm, AttentionDetail, Decoding, Engine, EngineError, Generation, Progress, Request, Token
from mpar2.errors import MPAR2Error
from mpar2.llm.audio_check import check_audio
from mpar2.llm.base import ChatClient, OnText, Reply, Sampling, TokenLogprob
from mpar2.llm.errors import CallFailed, ReplyRejected
from mpar2.llm.gemini import GeminiClient
from mpar2.llm.limits import Limiter
from mpar2.llm.openai_server import AudioForm, OpenAIClient
from mpar2.llm.retry import RetryPolicy
from mpar2.prompts import prompt_text
from mpar2.question import Question
from mpar2.trace import Span, parse_trace

__all__ = ["GeminiEngine", "RemoteEngine", "ServerEngine"]

_log = logging.getLogger(__name__)
_ELSEWHERE = ("unavailable", "timeout", "bad_body")  # failures that may not occur on another endpoint
_STOP_POLL_S = 0.1
_NO_TOKEN_ID = -1  # services identify tokens by their text


class _Session:
    """Open clients of the endpoints, and the free slots; used inside ``async with``."""

    def __init__(
        self,
        open_client: Callable[[AsyncExitStack, int, str], Awaitable[ChatClient]],
        places: Sequence[int],
        in_flight: int,
    ) -> None:
        self._open_client = open_client
        self._clients: dict[tuple[int, str], ChatClient] = {}
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self.free: asyncio.Queue[int] = asyncio.Queue()
        for _ in range(in_flight):  # round robin at the start
            for place in places:
                self.free.put_nowait(place)

    async def __aenter__(self) -> _Session:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def client(self, place: int, model: str) -> ChatClient:
        async with self._opening:
            if (place, model) not in self._clients:
                self._clients[place, model] = await self._open_client(self._stack, place, model)
        return self._clients[place, model]


class RemoteEngine(Engine):
    """Run arms on services.

    Use it inside ``async with`` for :meth:`answer`; :meth:`generate_batch` and :meth:`stream` work without.

    Args:
        connect: Builds the client of an endpoint for one model: ``connect(place, model, logprobs)``.
        places: Number of endpoints.
        in_flight: Concurrent requests per endpoint.
        check_audio: Check before the first use that audio reaches the model.

    Raises:
        EngineError: ``in_flight`` is below 1.
    """

    remote = True

    def __init__(
        self,
        connect: Callable[[int, str, bool], ChatClient],
        places: Sequence[int],
        in_flight: int,
        *,
        check_audio: bool = False,
    ) -> None:
        if in_flight < 1:
            raise EngineError(f"in_flight is {in_flight}: at least one request must be allowed")
        self.concurrency = len(places) * in_flight
        self._connect = connect
        self._places = tuple(places)
        self._in_flight = in_flight
        self._check_audio = check_audio
        self._session: _Session | None = None
        self._checked: dict[tuple[int, str], str | None] = {}  # the warning, if any, by endpoint and model

    async def __aenter__(self) -> RemoteEngine:
        self._session = await self._new_session(logprobs=False).__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.__aexit__(*exc)

    def _new_session(self, *, logprobs: bool) -> _Session:
        """Build a session with clients for the current event loop, so that several streams can run at the same time."""

        async def open_client(stack: AsyncExitStack, place: int, model: str) -> ChatClient:
            client = await stack.enter_async_context(self._connect(place, model, logprobs))
            if self._check_audio and (place, model) not in self._checked:
                await self._check(place, client)
            return client

        return _Session(open_client, self._places, self._in_flight)

    async def answer(self, clip: Clip, question: Question, arm: Arm, decoding: Decoding) -> Generation:
        """Generate once, inside ``async with`` (:meth:`Engine.answer`).

        Raises:
            LLMError: The service returned no answer; ``reason`` gives the cause.
            EngineError: No service supports the request.
        """
        if self._session is None:
            raise RuntimeError("answer() is used inside `async with engine`")
        return await self._answer(self._session, clip, question, arm, decoding)

    async def _answer(
        self,
        session: _Session,
        clip: Clip,
        question: Question,
        arm: Arm,
        decoding: Decoding,
        on_text: OnText | None = None,
    ) -> Generation:
        """Generate once; with ``on_text``, stream the reply and call it with the text and reasoning so far."""
        if arm.adapter is not None:
            raise EngineError(
                f"arm {arm.name!r} has the adapter {arm.adapter!r}; a server applies none: merge it into the model, or "
                "serve it under a name of its own and give that as the model"
            )
        if decoding.has_interventions:
            raise EngineError(f"arm {arm.name!r} forces its length or hides the audio: no service does that")
        sampling = self.sampling(decoding)
        parts = [wav_bytes(clip), prompt_text(question, arm.mode, arm.prompt)]
        failed_places: set[int] = set()
        while True:
            place = await session.free.get()
            try:
                client = await session.client(place, arm.model)
                reply = await client.complete("", parts, None, sampling, on_text)
                break
            except CallFailed as failure:
                failed_places.add(place)
                if failure.reason not in _ELSEWHERE or len(failed_places) == len(self._places):
                    raise
            finally:
                session.free.put_nowait(place)
        _check_reply(reply)
        warning = self._checked.get((place, arm.model))
        return _generation(reply, clip, question, arm, (warning,) if warning else ())

    def sampling(self, decoding: Decoding) -> Sampling:
        """Return the sampling parameters for the service.

        Raises:
            EngineError: The service lacks a parameter that ``decoding`` sets.
        """
        return Sampling(
            max_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k or -1,  # -1 disables it in vLLM and SGLang; 0 does not in SGLang
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
        """Send all requests concurrently, as far as the endpoints allow (:meth:`Engine.generate_batch`).

        ``batch_size`` and ``attention`` are ignored.

        Raises:
            EngineError: A service returned no answer, or does not support the request.
        """
        decoding = decoding or Decoding()

        async def run_request(session: _Session, request: Request) -> Generation:
            seed = decoding.seed if request.seed is None else request.seed
            seeded = replace(decoding, seed=seed)
            return await self._answer(session, request.clip, request.question, request.arm, seeded)

        async def work() -> list[Generation]:
            async with self._new_session(logprobs=False) as session, asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_request(session, request)) for request in requests]
            return [task.result() for task in tasks]

        try:
            return asyncio.run(work())
        except ExceptionGroup as errors:
            raise _as_engine_error(errors.exceptions[0]) from None

    def stream(
        self,
        clip: Clip,
        question: Question,
        arms: Sequence[Arm],
        decoding: Decoding | None = None,
        *,
        attention: bool = False,
        stop: threading.Event | None = None,
    ) -> Iterator[Progress]:
        """Run all arms concurrently, yielding their texts as they grow (:meth:`Engine.stream`).

        If an arm fails, the others finish; then its error is raised.
        """

        def work(put: Put, stop_event: threading.Event) -> None:
            asyncio.run(self._stream_all(clip, question, arms, decoding or Decoding(), put, stop_event))

        return in_background([work], stop)

    async def _stream_all(
        self,
        clip: Clip,
        question: Question,
        arms: Sequence[Arm],
        decoding: Decoding,
        put: Put,
        stop: threading.Event,
    ) -> None:
        """Run the arms' tasks, and emit their updates and errors."""
        started = time.monotonic()
        texts = ["" for _ in arms]

        async def run_arm(session: _Session, index: int, arm: Arm) -> None:
            put(Progress(index, "loading"))
            pieces = 0

            def on_text(text: str, reasoning: str) -> None:
                nonlocal pieces
                pieces += 1
                texts[index] = _with_reasoning(text, reasoning)
                put(Progress(index, "reasoning", texts[index], pieces))

            try:
                generation = await self._answer(session, clip, question, arm, decoding, on_text)
            except MPAR2Error as error:
                put(_as_engine_error(error, arm))
            except asyncio.CancelledError:  # stopped: the partial text is the result
                generation = _stopped(texts[index], clip, question, arm, time.monotonic() - started, pieces)
                put(Progress(index, "done", generation.text, pieces, generation))
                raise
            else:
                count = generation.token_count or pieces
                put(Progress(index, "done", generation.text, count, generation))

        # Run all arms concurrently; poll the stop signal.
        async with self._new_session(logprobs=self.logprobs) as session:
            tasks = [asyncio.create_task(run_arm(session, index, arm)) for index, arm in enumerate(arms)]
            waiting = asyncio.gather(*tasks, return_exceptions=True)
            while not waiting.done():
                await asyncio.wait([waiting], timeout=_STOP_POLL_S)
                if stop.is_set():
                    for task in tasks:
                        task.cancel()
            for outcome in await waiting:
                if isinstance(outcome, Exception):  # a programming error
                    put(outcome)

    async def _check(self, place: int, client: ChatClient) -> None:
        result = await check_audio(client)
        if result.received is False:
            raise EngineError(f"{result.detail}; --skip-audio-check asks it all the same")
        _log.info("%s", result.detail)
        self._checked[place, client.model] = None if result.received else result.detail


class ServerEngine(RemoteEngine):
    """OpenAI-compatible endpoints that all serve the same models.

    Args:
        base_urls: Their addresses, which end in ``/v1``.
        in_flight: Concurrent requests per address.
        api_key: The key; None takes the environment's (``mpar2.llm.address``).
        audio_as: The audio format to try first.
        fields: ``openai`` omits the fields that OpenAI does not support.
        policy: Number of tries and waits between them.
        check_audio: Check before the first use that audio reaches the model.

    Raises:
        EngineError: There is no address, or ``in_flight`` is below 1.
    """

    logprobs = True

    def __init__(
        self,
        base_urls: Sequence[str],
        *,
        in_flight: int = 8,
        api_key: str | None = None,
        audio_as: AudioForm = "audio_url",
        fields: Literal["all", "openai"] = "all",
        policy: RetryPolicy | None = None,
        check_audio: bool = True,
    ) -> None:
        if not base_urls:
            raise EngineError("no address for the server: give --base-url, for example http://localhost:8000/v1")
        self._fields = fields
        # a model on a small machine may take minutes for one trace
        policy = policy or RetryPolicy(timeout_s=600.0)
        clients: dict[int, OpenAIClient] = {}

        def connect(place: int, model: str, logprobs: bool) -> ChatClient:
            client = OpenAIClient(
                model,
                base_urls[place],
                limiter=Limiter(in_flight),
                api_key=api_key,
                audio_as=clients[place].audio_as if place in clients else audio_as,  # the accepted format
                policy=policy,
                logprobs=logprobs,
            )
            clients[place] = client
            return client

        super().__init__(connect, range(len(base_urls)), in_flight, check_audio=check_audio)

    def sampling(self, decoding: Decoding) -> Sampling:
        sampling = super().sampling(decoding)
        if self._fields == "all":
            return sampling
        if decoding.top_k or decoding.repetition_penalty != 1.0:
            raise EngineError("top_k and repetition_penalty are not among OpenAI's fields: leave them at 0 and 1")
        return Sampling(sampling.max_tokens, sampling.temperature, sampling.top_p, seed=sampling.seed)


class GeminiEngine(RemoteEngine):
    """Gemini models, through google-genai; the key is read from the environment.

    Gemini has no repetition penalty, and its thoughts are hidden: a trace is its visible text, if its prompt requests
    one. ``max_new_tokens`` includes the hidden thoughts, so leave room for them.

    Args:
        in_flight: Concurrent requests.
        base_url: The address of a gateway; None is Google's.
        policy: Number of tries and waits between them.
    """

    def __init__(
        self,
        *,
        in_flight: int = 4,
        base_url: str | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        def connect(place: int, model: str, logprobs: bool) -> ChatClient:
            return GeminiClient(model, base_url=base_url, limiter=Limiter(in_flight), policy=policy)

        super().__init__(connect, range(1), in_flight)

    def sampling(self, decoding: Decoding) -> Sampling:
        if decoding.repetition_penalty != 1.0:
            raise EngineError("Gemini has no repetition penalty: leave it at 1")
        return Sampling(
            max_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k or None,
            seed=decoding.seed,
        )


def _check_reply(reply: Reply) -> None:
    """Raise if a reply is blocked or empty. An unknown finish reason does not count as blocked."""
    if reply.finish == "blocked":
        raise ReplyRejected("blocked", f"the service ended the answer: {reply.detail or 'no reason given'}")
    if reply.text.strip() or reply.reasoning.strip():
        return
    if reply.finish == "length":
        raise ReplyRejected("truncated", "the limit of tokens was used up before the first word: raise it")
    raise ReplyRejected("empty", f"empty reply (finish {reply.detail or 'not given'})")


def _as_engine_error(error: BaseException, arm: Arm | None = None) -> BaseException:
    """Return a service's error as an :class:`EngineError`; other errors unchanged."""
    if isinstance(error, EngineError) or not isinstance(error, MPAR2Error):
        return error
    return EngineError(f"{arm.name}: {error}" if arm is not None else str(error))


def _with_reasoning(text: str, reasoning: str) -> str:
    return (
        f"<think>{reasoning}</think>{text}"
        if reasoning.strip() and text
        else (f"<think>{reasoning}" if reasoning.strip() else text)
    )


def _tokens(reply: Reply) -> int | None:
    thoughts = reply.usage.thoughts if reply.reasoning.strip() else None  # hidden thoughts are not in the text
    return None if reply.usage.completion is None else reply.usage.completion + (thoughts or 0)


def _token_spans(logprobs: Sequence[TokenLogprob], text: str, offset: int) -> tuple[Token, ...]:
    """Return the tokens with their spans in the generation's text; none if they do not concatenate to the text."""
    if "".join(entry.token for entry in logprobs).rstrip() != text.rstrip():
        return ()
    tokens = []
    place = 0
    for entry in logprobs:
        end = min(place + len(entry.token), len(text))
        tokens.append(Token(_NO_TOKEN_ID, Span(offset + place, offset + end), entry.logprob))
        place = end
    return tuple(tokens)


def _generation(reply: Reply, clip: Clip, question: Question, arm: Arm, warnings: tuple[str, ...] = ()) -> Generation:
    thoughts = f"<think>{reply.reasoning}</think>" if reply.reasoning.strip() else ""
    text = thoughts + reply.text
    trace = parse_trace(text)
    return Generation(
        arm=arm,
        text=text,
        trace=trace,
        tokens=_token_spans(reply.logprobs, reply.text, len(thoughts)),
        prompt_tokens=reply.usage.prompt or 0,
        seconds=reply.seconds,
        first_token_s=reply.seconds if reply.first_s is None else reply.first_s,
        audio_seconds=clip.seconds,
        finish="length" if reply.finish == "length" else "stop",
        choice=read_answer(trace, question.choices).choice,
        warnings=warnings,
        token_count=_tokens(reply),
        served_model=reply.model_version,
    )


def _stopped(text: str, clip: Clip, question: Question, arm: Arm, seconds: float, pieces: int) -> Generation:
    """Return the generation of a stopped arm, with its partial text."""
    trace = parse_trace(text)
    return Generation(
        arm=arm,
        text=text,
        trace=trace,
        tokens=(),
        prompt_tokens=0,
        seconds=seconds,
        first_token_s=seconds,
        audio_seconds=clip.seconds,
        finish="cancelled",
        choice=read_answer(trace, question.choices).choice,
        token_count=pieces,
    )
