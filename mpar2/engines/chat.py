"""Render the chat templates of checkpoints within limits: a template is untrusted code from the checkpoint.

Templates run in the sandbox of transformers, which blocks access to Python and files but neither endless loops nor
gigabytes of output. ``_SECONDS`` and ``_MAX_CHARS`` limit both.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

from mpar2.engines.base import EngineError
from mpar2.engines.names import first_line

__all__ = ["render_chat", "render_template"]

_SECONDS = 5.0
_MAX_CHARS = 1_000_000


class _Expired(BaseException):
    """Raised inside a template that exceeds its time; not an ``Exception``, so that no handler catches it."""


def render_chat(processor: Any, messages: list[dict[str, Any]], audio_token: str) -> str:
    """Render the chat as text, with the header of the model's turn.

    Templates that support content parts write a placeholder for the audio part; for templates that take plain strings
    only, the placeholder is put before the words.

    Args:
        processor: The processor of the checkpoint, which has the chat template.
        messages: Messages of :func:`mpar2.prompts.build_messages`.
        audio_token: The placeholder of a clip.

    Raises:
        EngineError: The template does not end, fails, or does not write exactly one placeholder for the clip.
    """
    errors: list[EngineError] = []
    for form in (messages, _as_plain_text(messages, audio_token)):
        try:
            text = render_template(processor, form)
        except EngineError as error:
            errors.append(error)
            if "does not end" in str(error):
                raise
            continue
        if text.count(audio_token) == 1:
            return text
    if errors:
        raise errors[0]
    raise EngineError(
        f"the chat template writes {text.count(audio_token)} placeholders ({audio_token}) for a prompt with exactly "
        "one clip: check the template, and that the question does not contain control tokens"
    )


def _as_plain_text(messages: list[dict[str, Any]], audio_token: str) -> list[dict[str, Any]]:
    def words(content: Any) -> str:
        if isinstance(content, str):
            return content
        return "".join(audio_token if part["type"] == "audio" else part["text"] for part in content)

    return [message | {"content": words(message["content"])} for message in messages]


def render_template(processor: Any, messages: list[dict[str, Any]]) -> str:
    """Render messages as text, in a thread that is interrupted after a few seconds.

    Args:
        processor: The processor of the checkpoint, which has the chat template.
        messages: Chat messages; their contents are strings or lists of parts.

    Raises:
        EngineError: The template does not end, fails, or writes too much.
    """
    outcome: list[str | BaseException] = []

    def work() -> None:
        try:
            outcome.append(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except BaseException as error:  # re-raised in the caller, below
            outcome.append(error)

    worker = threading.Thread(target=work, name="chat template", daemon=True)
    worker.start()
    worker.join(_SECONDS)
    if worker.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident or 0), ctypes.py_object(_Expired))
        worker.join(1.0)
        raise EngineError(f"the chat template of this checkpoint does not end within {_SECONDS:g} s")
    (result,) = outcome
    if isinstance(result, BaseException):
        words = "".join(ch if ch.isprintable() else "\ufffd" for ch in first_line(result))
        raise EngineError(f"the chat template of this checkpoint fails: {words}") from result
    if not isinstance(result, str) or len(result) > _MAX_CHARS:
        raise EngineError(f"the chat template of this checkpoint writes more than {_MAX_CHARS:,} characters")
    return result
