"""The registry of services, shared by judges, captions, rewards, engines, the app and the shell.

To add one, write a client with the methods of :class:`~mpar2.llm.base.ChatClient` and register it::

    register_service(Service("echo", EchoClient, default_model="echo-1", key_variables=("ECHO_KEY",), label="Echo"))

From then on ``--judge echo``, ``--by echo``, ``--service echo``, arms ``echo:MODEL`` and the app's judges support it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mpar2.llm.base import ChatClient, Sampling
from mpar2.llm.errors import SettingError
from mpar2.llm.gemini import GeminiClient
from mpar2.llm.limits import Limiter
from mpar2.llm.openai_server import OpenAIClient
from mpar2.llm.retry import RetryPolicy

__all__ = [
    "DEFAULT_GEMINI_MODEL",
    "SERVICES",
    "Service",
    "connect",
    "judge_model",
    "register_service",
    "service_named",
    "service_names",
]

# The paper's judge (gemini-3-pro-preview) is shut down; this one is nearest in lineage.
DEFAULT_GEMINI_MODEL = "gemini-3.1-pro-preview"


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        name: Name in ``--judge`` and in arms.
        client: Builds a client: ``client(model, base_url=..., api_key=..., sampling=..., limiter=..., policy=...)``.
        default_model: The default model; None if a model must be named.
        needs_address: The user must give the address (``--base-url``).
        key_variables: Environment variables of the key, in order; empty if no key is needed.
        needs_key: Requests need a key.
        paid: Requests cost money, so commands show an estimate and ask for confirmation.
        sampling: Sampling of judges and captions.
        label: Label in menus.
    """

    name: str
    client: Callable[..., ChatClient]
    default_model: str | None = None
    needs_address: bool = False
    key_variables: tuple[str, ...] = ()
    needs_key: bool = False
    paid: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    label: str = ""

    @property
    def title(self) -> str:
        """The label, or the name if there is none."""
        return self.label or self.name


def _server_client(model: str, *, base_url: str | None = None, **options: Any) -> ChatClient:
    if not base_url:
        raise SettingError("no address for the server: give --base-url, for example http://localhost:8000/v1")
    return OpenAIClient(model, base_url, **options)


SERVICES: dict[str, Service] = {}


def register_service(service: Service) -> None:
    """Register a service under its name; an existing one is replaced."""
    SERVICES[service.name] = service


# Gemini 3 is meant to run at its default temperature and ignores others or degrades with them.
register_service(
    Service(
        "gemini",
        GeminiClient,
        default_model=DEFAULT_GEMINI_MODEL,
        key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        needs_key=True,
        label="Gemini",
    )
)
# A server's greedy decoding is repeatable.
register_service(
    Service(
        "server",
        _server_client,
        needs_address=True,
        key_variables=("MPAR2_SERVER_KEY",),
        sampling=Sampling(max_tokens=8192, temperature=0.0, top_p=1.0, seed=0),
        label="A server",
    )
)


def service_names() -> tuple[str, ...]:
    """List the names of all services, for the choices of options."""
    return tuple(SERVICES)


def service_named(name: str) -> Service:
    """Look up a service.

    Raises:
        SettingError: No service has this name; the message lists the available ones.
    """
    if name not in SERVICES:
        raise SettingError(f"no service is named {name[:80]!r}: choose one of {', '.join(SERVICES)}")
    return SERVICES[name]


def judge_model(service: str, given: str | None = None) -> str:
    """Return the model of a judge.

    Args:
        service: Name of the service.
        given: Value of an option; None takes ``MPAR2_JUDGE_MODEL``, else the service's default.

    Raises:
        SettingError: No such service, or no model is named anywhere.
    """
    entry = service_named(service)
    name = (given or "").strip() or os.environ.get("MPAR2_JUDGE_MODEL", "").strip() or entry.default_model
    if not name:
        hint = " (the server lists its models at /v1/models)" if entry.needs_address else ""
        raise SettingError(f"no model for the {entry.name}: give --model or set MPAR2_JUDGE_MODEL{hint}")
    return name


def connect(
    service: str,
    model: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    sampling: Sampling | None = None,
    limiter: Limiter | None = None,
    policy: RetryPolicy | None = None,
    **options: Any,
) -> ChatClient:
    """Build a client, to be used in ``async with``.

    Args:
        service: A registered name.
        model: Name of the model at the service.
        base_url: Address of the service, or of a gateway to it.
        api_key: The key; None takes the environment's.
        sampling: Default of requests without their own.
        limiter: The limiter that requests share.
        policy: Number of tries and waits between them.
        options: Further options of the client.

    Raises:
        SettingError: No such service, or a missing or invalid address.
        StopRun: A key is needed and there is none.
    """
    common: dict[str, Any] = {"api_key": api_key, "sampling": sampling, "limiter": limiter, "policy": policy, **options}
    return service_named(service).client(model, base_url=base_url, **common)
