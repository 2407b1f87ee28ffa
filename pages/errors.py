"""Errors as visitors see them: what we know how to say is said, anything else gets a number that the log explains.

Gradio shows nothing for an exception unless it shows the text of every exception, which may hold paths; so every
handler is wrapped.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import secrets
from collections.abc import Callable
from typing import Any

from mpar2.errors import MPAR2Error

__all__ = ["guarded", "message_of"]

_log = logging.getLogger(__name__)
_LONGEST = 600
# Gradio's toasts render markup (without scripts, but with images). Entities would look odd to API clients, so the two
# characters that open and close a tag are replaced by their typographic likes.
_NO_MARKUP = str.maketrans("<>", "‹›")
_PATH = re.compile(r"(?<![\w.:/])/[\w.+-]+(?:/[\w.+-]+)+")


def message_of(error: Exception) -> str:
    """Return the message for the visitor.

    An unknown error is logged under a short number, and only the number is shown.
    """
    if isinstance(error, MPAR2Error):
        text = _PATH.sub(_last_name, str(error)).translate(_NO_MARKUP)
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    number = secrets.token_hex(3)
    _log.error("unexpected error %s", number, exc_info=error)
    return f"Something went wrong on our side (error {number}). Try again, or with another clip."


def _last_name(path: re.Match[str]) -> str:
    """Return the name at the end of a path of this machine, which is nobody's business; anything else as it stands."""
    first = "/" + path[0].split("/")[1]
    return path[0].rsplit("/", 1)[1] if os.path.isdir(first) else path[0]


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a Gradio handler, which may be a generator, so that its errors become messages."""
    import gradio as gr

    def shown(error: Exception) -> Exception:
        return gr.Error(message_of(error), print_exception=False)

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generator(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except gr.Error:
                raise
            except Exception as error:
                raise shown(error) from None

        return generator

    @functools.wraps(handler)
    def plain(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise shown(error) from None

    return plain
