"""The engine that asks Gemini, through google-genai.

Gemini has no repetition penalty, and its thoughts are hidden: a trace is what it writes where its prompt asks for one.
``max_new_tokens`` counts its hidden thoughts too, so leave room for them.
"""

from __future__ import annotations

from mpar2.engines.base import Decoding, EngineError
from mpar2.engines.server import RemoteEngine
from mpar2.llm import ChatClient, GeminiClient, Limiter, RetryPolicy, Sampling

__all__ = ["GeminiEngine"]


class GeminiEngine(RemoteEngine):
    """Gemini models; the key is read from the environment. ``base_url`` is for a gateway."""

    def __init__(
        self,
        *,
        in_flight: int = 4,
        api_key: str | None = None,
        base_url: str | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        def connect(place: int, model: str, logprobs: bool) -> ChatClient:
            return GeminiClient(model, api_key=api_key, base_url=base_url, limiter=Limiter(in_flight), policy=policy)

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
