"""Chat clients for judges, captioners and served models: bounded, retried, structured, resumable.

``base``           parts, sampling, the reply, the ``ChatClient`` protocol
``openai_server``  any OpenAI-compatible server          ``gemini``   Gemini
``services``       the registry of services              ``address``  addresses and keys
``transport``      bounded bodies, proxies               ``replies``  reply from a body of any shape
``retry``          scope of a failure, waits             ``limits``   in flight, token budget, stop
``structured``     validated value from a reply          ``cost``     tokens and prices before and after
``journal``        replies that are already paid         ``batch``    many items: progress, resume
``errors``         three classes of failure              ``audio_check``  check that audio reaches the model

    async with connect("server", "qwen3-32b", base_url="http://localhost:8000/v1") as client:
        reply = await client.complete("You are terse.", ["What is heard?", wav_bytes])

The SDKs are imported when a client is entered, not before.
"""

from mpar2.llm.address import check_base_url
from mpar2.llm.audio_check import AudioCheck, check_audio, require_audio
from mpar2.llm.base import ChatClient, Part, Reply, Sampling, TokenLogprob, Usage
from mpar2.llm.batch import BatchResult, run_batch
from mpar2.llm.cost import Estimate, Prices, estimate_tokens
from mpar2.llm.errors import CallFailed, LLMError, ReplyRejected, StopRun
from mpar2.llm.gemini import GeminiClient
from mpar2.llm.journal import Journal, JournalError, RecordedClient, content_key
from mpar2.llm.limits import Limiter, Totals
from mpar2.llm.openai_server import OpenAIClient
from mpar2.llm.retry import RetryPolicy
from mpar2.llm.services import (
    DEFAULT_GEMINI_MODEL,
    Service,
    connect,
    judge_model,
    register_service,
    service_named,
    service_names,
)
from mpar2.llm.structured import StructuredReply, ask, parse

__all__ = [
    "AudioCheck",
    "Service",
    "TokenLogprob",
    "DEFAULT_GEMINI_MODEL",
    "StructuredReply",
    "BatchResult",
    "CallFailed",
    "ChatClient",
    "Estimate",
    "GeminiClient",
    "Journal",
    "JournalError",
    "LLMError",
    "Limiter",
    "OpenAIClient",
    "Part",
    "Prices",
    "RecordedClient",
    "Reply",
    "ReplyRejected",
    "RetryPolicy",
    "Sampling",
    "StopRun",
    "Totals",
    "Usage",
    "ask",
    "check_base_url",
    "connect",
    "content_key",
    "estimate_tokens",
    "check_audio",
    "judge_model",
    "parse",
    "require_audio",
    "register_service",
    "service_named",
    "service_names",
    "run_batch",
]
