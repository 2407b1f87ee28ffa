"""Error messages for visitors: expected errors are shown, unexpected ones are logged under a number that is shown.

Gradio shows either no exception or the text of every exception, which may contain paths. So every handler is wrapped.
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

_log = logging.getLogger(__name__)
_LONGEST = 600
# Gradio's toasts render markup (without scripts, but with images). API clients would show entities literally, so "<"
# and ">" are replaced by similar characters.
_NO_MARKUP = str.maketrans("<>", "‹›")
_PATH = re.compile(r"(?<![\w.:/])/[\w.+-]+(?:/[\w.+-]+)+")


def message_of(error: Exception) -> str:
    """Return the message for the visitor. An unexpected error is logged, and its message holds only its number."""
    if isinstance(error, MPAR2Error):
        text = _PATH.sub(_last_name, str(error)).translate(_NO_MARKUP)
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    number = secrets.token_hex(3)
    _log.error("unexpected error %s", number, exc_info=error)
    return f"Something went wrong on our side (error {number}). Try again, or with another clip."


def _last_name(path: re.Match[str]) -> str:
    """Return the last name of a path of this machine; return any other match unchanged."""
    root = "/" + path[0].split("/")[1]
    return path[0].rsplit("/", 1)[1] if os.path.isdir(root) else path[0]


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a Gradio handler or generator, so that its errors are shown as messages."""
    import gradio as gr

    def to_gradio_error(error: Exception) -> Exception:
        return gr.Error(message_of(error), print_exception=False)

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generator_wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except gr.Error:
                raise
            except Exception as error:
                raise to_gradio_error(error) from None

        return generator_wrapper

    @functools.wraps(handler)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise to_gradio_error(error) from None

    return wrapper
