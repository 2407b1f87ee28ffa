"""One function that turns a service's name into a client, and the names of default models."""

from __future__ import annotations

import os
from typing import Any, Literal

from mpar2.llm.base import ChatClient, Sampling
from mpar2.llm.errors import SettingError
from mpar2.llm.gemini import GeminiClient
from mpar2.llm.limits import Limiter
from mpar2.llm.openai_server import OpenAIClient
from mpar2.llm.retry import RetryPolicy

__all__ = ["DEFAULT_GEMINI_MODEL", "Service", "connect", "judge_model"]

Service = Literal["gemini", "server"]

# The paper's judge (gemini-3-pro-preview) is shut down; this one is nearest in lineage.
DEFAULT_GEMINI_MODEL = "gemini-3.1-pro-preview"


def judge_model(service: Service, given: str | None = None) -> str:
    """The judge's model: ``given`` (a flag), else ``MPAR2_JUDGE_MODEL``, else the default, which only Gemini has."""
    name = given or os.environ.get("MPAR2_JUDGE_MODEL", "").strip()
    if not name and service == "server":
        raise SettingError(
            "no model for the server: give --model or set MPAR2_JUDGE_MODEL (the server lists its models at /v1/models)"
        )
    return name or DEFAULT_GEMINI_MODEL


def connect(
    service: Service,
    model: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    sampling: Sampling | None = None,
    limiter: Limiter | None = None,
    policy: RetryPolicy | None = None,
    **options: Any,
) -> ChatClient:
    """A client, to be used in ``async with``. ``options`` are those of the one client or the other."""
    common: dict[str, Any] = {"api_key": api_key, "sampling": sampling, "limiter": limiter, "policy": policy, **options}
    if service == "gemini":
        return GeminiClient(model, base_url=base_url, **common)
    if service == "server":
        if not base_url:
            raise SettingError("no address for the server: give --base-url, for example http://localhost:8000/v1")
        return OpenAIClient(model, base_url, **common)
    raise SettingError(f"service {service!r} is neither 'gemini' nor 'server'")
