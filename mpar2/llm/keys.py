"""The one place that reads keys from the environment.

| service | variables, in order |
| --- | --- |
| gemini | GEMINI_API_KEY, GOOGLE_API_KEY |
| api.openai.com | OPENAI_API_KEY |
| any other OpenAI-compatible server | MPAR2_SERVER_KEY; none needed |

``OPENAI_API_KEY`` goes to OpenAI only: a key must not reach a server because a variable happened to be set.
A key given by hand (a visitor's) wins, is used for that client only and is stored nowhere.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from pydantic import SecretStr

from mpar2.llm.errors import StopRun

__all__ = ["gemini_key", "server_key"]

_NO_KEY = "EMPTY"  # what vLLM and SGLang expect in the header when they check none


def gemini_key(given: str | None = None) -> SecretStr:
    """Return the Gemini key: ``given``, else the environment's.

    Raises:
        StopRun: There is none.
    """
    return _first(given, "GEMINI_API_KEY", "GOOGLE_API_KEY") or _missing("Gemini", "GEMINI_API_KEY")


def server_key(base_url: str, given: str | None = None) -> SecretStr:
    """Return the key of an OpenAI-compatible server: ``given``, else the environment's."""
    if urlsplit(base_url).hostname == "api.openai.com":
        return _first(given, "OPENAI_API_KEY") or _missing("OpenAI", "OPENAI_API_KEY")
    return _first(given, "MPAR2_SERVER_KEY") or SecretStr(_NO_KEY)


def _first(given: str | None, *names: str) -> SecretStr | None:
    for value in (given, *(os.environ.get(name) for name in names)):
        if value and value.strip():
            return SecretStr(value.strip())
    return None


def _missing(service: str, variable: str) -> SecretStr:
    raise StopRun("no_key", f"no {service} key: set {variable} in the environment, or give a key for this call")
