"""Check whether a served model receives the audio, for engines and captions.

Some servers accept an audio part and drop it silently: ``transformers serve`` 5.23 does for checkpoints with an
unknown processor class, the tiny pair among them. The model then describes a clip that it never received. Three
signs are checked, the cheapest first:

1. three seconds of sound take more prompt tokens than one second;
2. sound and silence of the same length get different replies, or different log-probabilities (a server that pads each
   clip to 30 s, like llama.cpp, counts the same tokens for both);
3. thirty-one seconds take more prompt tokens than one, or exceed the server's limit.

A server is refused only if all three are missing. If a server counts no tokens, or its replies to equal requests
differ, the check is undecided: it is accepted, with a note.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpar2.llm.base import ChatClient, Reply, Sampling
from mpar2.llm.errors import CallFailed, StopRun

__all__ = ["AudioCheck", "check_audio", "require_audio"]

_SHORT_S, _LONGER_S, _BEYOND_PADDING_S = 1, 3, 31
_MIN_LOGPROB_DIFFERENCE = 0.02  # of one token; batching alone moves a log-probability by about 0.001
_QUESTION = "What is heard? Answer in a few words."


@dataclass(frozen=True)
class AudioCheck:
    """``received``: True, False, or None if undecided; ``detail`` describes the observation."""

    received: bool | None
    detail: str


async def check_audio(client: ChatClient) -> AudioCheck:
    """Check whether the model behind ``client`` receives audio, by two to six short requests.

    Raises:
        LLMError: The service is not available.
    """
    try:
        return await _check(client)
    except CallFailed as error:
        if error.reason == "refused_audio":
            return AudioCheck(False, f"the server refuses audio: {error.detail}")
        if error.scope == "endpoint":
            raise
        return AudioCheck(None, f"whether {client.model} receives audio could not be checked: {error.detail}")


async def require_audio(client: ChatClient) -> AudioCheck:
    """Check like :func:`check_audio`, and stop the run if audio does not arrive.

    Raises:
        StopRun: Audio does not reach the model.
    """
    result = await check_audio(client)
    if result.received is False:
        raise StopRun("no_audio", result.detail)
    return result


async def _check(client: ChatClient) -> AudioCheck:
    # 1: do prompt tokens grow with the audio?
    short = (await _ask(client, _noise(_SHORT_S), 1)).usage.prompt
    longer = (await _ask(client, _noise(_LONGER_S), 1)).usage.prompt
    counts = f"{_SHORT_S} s and {_LONGER_S} s of sound take {short} and {longer} prompt tokens"
    if short is not None and longer is not None and longer > short:
        return AudioCheck(True, f"{client.model} receives audio: {counts}")

    # 2: do replies depend on the audio?
    sound_reply = await _ask(client, _noise(_LONGER_S), 24)
    silence_reply = await _ask(client, _silence(_LONGER_S), 24)
    repeatable = True
    if _differ(sound_reply, silence_reply):
        if not _differ(silence_reply, await _ask(client, _silence(_LONGER_S), 24)):
            return AudioCheck(True, f"{client.model} receives audio: sound and silence get unlike replies")
        repeatable = False

    # 3: does a clip beyond any padding take more tokens?
    if short is None:
        reason = "it counts no prompt tokens, and its replies do not tell sound from silence"
        return AudioCheck(None, f"whether {client.model} receives audio is not known: {reason}")
    try:
        padded = (await _ask(client, _noise(_BEYOND_PADDING_S), 1)).usage.prompt
    except CallFailed as error:
        if error.reason != "too_long":
            raise
        return AudioCheck(True, f"{client.model} receives audio: {_BEYOND_PADDING_S} s are too long for its context")
    if padded is not None and padded > short:
        counts = f"{_SHORT_S} s and {_BEYOND_PADDING_S} s of sound take {short} and {padded} prompt tokens"
        return AudioCheck(True, f"{client.model} receives audio: {counts}")
    if not repeatable:
        reason = f"prompts have {short} tokens whatever the clip, and the same clip gets unlike replies"
        return AudioCheck(None, f"whether {client.model} receives audio is not known: {reason}")
    return AudioCheck(
        False,
        f"{client.model} does not receive audio: prompts with {_SHORT_S}, {_LONGER_S} and {_BEYOND_PADDING_S} s of "
        f"sound all have {short} tokens, and sound and silence get the same reply. The server drops the audio of this "
        "checkpoint, or serves it for text only: serve it with one that takes its audio",
    )


async def _ask(client: ChatClient, audio: bytes, tokens: int) -> Reply:
    return await client.complete("", [audio, _QUESTION], None, Sampling(max_tokens=tokens, temperature=0.0))


def _differ(first: Reply, second: Reply) -> bool:
    if (first.text, first.reasoning) != (second.text, second.reasoning):
        return True
    pairs = zip(first.logprobs, second.logprobs, strict=False)
    return any(abs(a.logprob - b.logprob) > _MIN_LOGPROB_DIFFERENCE for a, b in pairs)


def _noise(seconds: int) -> bytes:
    """Return bursts of noise, four a second, as WAV, clearly distinct from silence."""
    import numpy as np

    from mpar2.audio import SAMPLE_RATE, Clip, wav_bytes

    samples = np.random.default_rng(0).normal(scale=0.1, size=seconds * SAMPLE_RATE)
    gate = (np.arange(samples.size) * 4 // SAMPLE_RATE) % 2
    return wav_bytes(Clip((samples * (0.2 + gate)).astype(np.float32)))


def _silence(seconds: int) -> bytes:
    import numpy as np

    from mpar2.audio import SAMPLE_RATE, Clip, wav_bytes

    return wav_bytes(Clip(np.zeros(seconds * SAMPLE_RATE, np.float32)))
