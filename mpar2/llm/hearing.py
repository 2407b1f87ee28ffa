"""Does a served model receive the audio at all?

Some servers take an audio part and drop it without a word: ``transformers serve`` 5.23 does for checkpoints whose
processor class it does not know, the tiny pair among them. The model then describes a clip that it never had. What
shows it is the count of prompt tokens: eight seconds of audio take more than one second does, or no audio arrived.
"""

from __future__ import annotations

import io
import wave

from mpar2.llm.base import ChatClient, Sampling
from mpar2.llm.errors import StopRun

__all__ = ["hears_audio", "require_hearing"]

_SHORT_S, _LONG_S = 1, 8
_RATE = 16_000


async def hears_audio(client: ChatClient) -> bool | None:
    """Two tiny requests; None where the server counts no tokens, so that it cannot be told."""
    tokens = []
    for seconds in (_SHORT_S, _LONG_S):
        reply = await client.complete("", [_silence(seconds), "Reply with one word."], None, Sampling(max_tokens=16))
        tokens.append(reply.usage.prompt)
    if None in tokens:
        return None
    return tokens[1] > tokens[0]


async def require_hearing(client: ChatClient) -> None:
    """:class:`~mpar2.llm.errors.StopRun` where audio is known not to arrive."""
    if await hears_audio(client) is False:
        raise StopRun(
            "bad_request",
            f"{client.model} takes audio but does not hear it: {_LONG_S} s of sound cost no more prompt tokens than "
            f"{_SHORT_S} s. The server drops audio for this checkpoint; serve it with one that takes its audio",
        )


def _silence(seconds: int) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(b"\0\0" * (_RATE * seconds))
    return data.getvalue()
