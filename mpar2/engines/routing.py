"""One engine for arms on different backends: this process, servers, services.

An arm names its backend (:func:`mpar2.arms.split_engine`): ``server:http://host:port/v1#MODEL``, ``gemini:MODEL``,
``NAME:MODEL`` of any registered engine or service; a bare model runs on the default engine. Each backend gets one
engine, built for the first of its arms. Arms of several backends run at the same time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from mpar2.arms import split_engine
from mpar2.audio import Clip
from mpar2.engines import engine_names, make_engine
from mpar2.engines.background import Put, in_background
from mpar2.engines.base import (
    Arm,
    AttentionDetail,
    Decoding,
    Engine,
    EngineError,
    EngineOptions,
    Generation,
    Progress,
    Request,
    Token,
)
from mpar2.question import Question

__all__ = ["RoutingEngine", "engine_for_arms"]


def engine_for_arms(arms: Sequence[Arm], default: str = "transformers", options: EngineOptions | None = None) -> Engine:
    """Build the engine that runs all arms.

    Args:
        arms: The arms.
        default: Name of the engine of arms without one.
        options: Engine options.

    Returns:
        A :class:`RoutingEngine` if an arm names its own engine; else the default engine.

    Raises:
        EngineError: No engine is called ``default``.
    """
    if all(split_engine(arm.model)[0] is None for arm in arms):
        return make_engine(default, options)
    return RoutingEngine(default, options)


class RoutingEngine(Engine):
    """Run each arm on the engine that it names (see the module).

    Args:
        default: Name of the engine of arms without one.
        options: Options of all engines.
    """

    def __init__(self, default: str = "transformers", options: EngineOptions | None = None) -> None:
        self._default = default
        self._options = options or EngineOptions()
        self._engines: dict[tuple[str, str], Engine] = {}
        self._lock = threading.Lock()
        self._stack: AsyncExitStack | None = None
        self._entered: set[int] = set()

    def _route(self, arm: Arm) -> tuple[Engine, Arm]:
        """Return the engine of an arm, and the arm with that engine's name for its model."""
        name, model = split_engine(arm.model)
        address = ""
        if name == "server":
            address, _, model = model.partition("#")
            if not model:
                raise EngineError(f"arm {arm.name!r}: write a served model as server:http://host:port/v1#MODEL")
        name = name or self._default
        with self._lock:
            if (name, address) not in self._engines:
                options = replace(self._options, base_urls=(address,)) if address else self._options
                self._engines[name, address] = _make(name, options)
            return self._engines[name, address], replace(arm, model=model)

    def engine_for(self, arm: Arm) -> Engine:
        return self._route(arm)[0]

    @property
    def attention(self) -> bool:  # type: ignore[override]
        """Whether any engine in use records attention."""
        return any(engine.attention for engine in self._engines_in_use())

    @property
    def interventions(self) -> bool:  # type: ignore[override]
        return any(engine.interventions for engine in self._engines_in_use())

    @property
    def logprobs(self) -> bool:  # type: ignore[override]
        return any(engine.logprobs for engine in self._engines_in_use())

    @property
    def concurrency(self) -> int:  # type: ignore[override]
        """Total concurrency of all services in use."""
        return max(1, sum(engine.concurrency for engine in self._engines.values() if engine.remote))

    def _engines_in_use(self) -> list[Engine]:
        if not self._engines:  # nothing has run yet: use the engine of a bare model
            self._route(Arm("", ""))
        return list(self._engines.values())

    def preload(self, arms: Sequence[Arm]) -> None:
        for engine, inner in self._groups(arms):
            engine.preload(list(inner.values()))

    def _groups(self, arms: Sequence[Arm]) -> list[tuple[Engine, dict[int, Arm]]]:
        """Return the engines in use, each with its arms by their index in ``arms``."""
        groups: dict[int, tuple[Engine, dict[int, Arm]]] = {}
        for index, arm in enumerate(arms):
            engine, inner = self._route(arm)
            groups.setdefault(id(engine), (engine, {}))[1][index] = inner
        return list(groups.values())

    def generate_batch(
        self,
        requests: Sequence[Request],
        decoding: Decoding | None = None,
        *,
        batch_size: int = 8,
        attention: AttentionDetail = "none",
    ) -> list[Generation]:
        generations: dict[int, Generation] = {}
        for engine, arms in self._groups([request.arm for request in requests]):
            inner = [replace(requests[index], arm=arm) for index, arm in arms.items()]
            detail: AttentionDetail = attention if engine.attention else "none"
            done = engine.generate_batch(inner, decoding, batch_size=batch_size, attention=detail)
            for index, generation in zip(arms, done, strict=True):
                generations[index] = replace(generation, arm=requests[index].arm)
        return [generations[index] for index in range(len(requests))]

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
        """Stream all arms, those of different engines concurrently (:meth:`Engine.stream`).

        If an engine fails, the others finish; then its error is raised.
        """

        def worker(engine: Engine, inner: dict[int, Arm]) -> Callable[..., None]:
            def work(put: Put, stop_event: threading.Event) -> None:
                places, inner_arms = list(inner), list(inner.values())
                for update in engine.stream(clip, question, inner_arms, decoding, attention=attention, stop=stop_event):
                    index, generation = places[update.index], update.generation
                    generation = None if generation is None else replace(generation, arm=arms[index])
                    put(replace(update, index=index, generation=generation))

            return work

        return in_background([worker(*group) for group in self._groups(arms)], stop)

    async def answer(self, clip: Clip, question: Question, arm: Arm, decoding: Decoding) -> Generation:
        engine, inner = self._route(arm)
        if self._stack is None:
            raise RuntimeError("answer() is used inside `async with engine`")
        async with self._entering:
            if id(engine) not in self._entered:
                await self._stack.enter_async_context(engine)
                self._entered.add(id(engine))
        return replace(await engine.answer(clip, question, inner, decoding), arm=arm)

    async def __aenter__(self) -> RoutingEngine:
        self._stack = AsyncExitStack()
        self._entering = asyncio.Lock()
        self._entered = set()
        return self

    async def __aexit__(self, *exc: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    def attend(self, clip: Clip, question: Question, arm: Arm, text: str) -> Generation:
        engine, inner = self._route(arm)
        return replace(engine.attend(clip, question, inner, text), arm=arm)

    def score(self, requests: Sequence[Request], text: str, *, batch_size: int = 8) -> list[tuple[Token, ...]]:
        scored: dict[int, tuple[Token, ...]] = {}
        for engine, arms in self._groups([request.arm for request in requests]):
            inner = [replace(requests[index], arm=arm) for index, arm in arms.items()]
            scored |= zip(arms, engine.score(inner, text, batch_size=batch_size), strict=True)
        return [scored[index] for index in range(len(requests))]

    def base_of(self, arm: Arm) -> str:
        engine, inner = self._route(arm)
        return engine.base_of(inner)

    def weights(self, arm: Arm) -> dict[str, str | None]:
        engine, inner = self._route(arm)
        return engine.weights(inner)


def _make(name: str, options: EngineOptions) -> Engine:
    """Return the engine of that name, or a remote engine for the service of that name."""
    if name in engine_names():
        return make_engine(name, options)
    from mpar2.engines.server import RemoteEngine
    from mpar2.llm.base import ChatClient
    from mpar2.llm.limits import Limiter
    from mpar2.llm.services import connect

    in_flight = options.in_flight or 4

    def client(place: int, model: str, logprobs: bool) -> ChatClient:
        base_url = options.base_urls[place] if options.base_urls else None
        return connect(name, model, base_url=base_url, limiter=Limiter(in_flight))

    return RemoteEngine(client, range(max(1, len(options.base_urls))), in_flight)
