"""Build prompts from clips and questions: chat template, encoder frames, and truncation of the audio."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from mpar2.audio import Clip
from mpar2.engines.adapter import Adapter
from mpar2.engines.base import Arm, EngineError, ItemError
from mpar2.engines.checkpoint import Checkpoint
from mpar2.engines.decode import Prompt
from mpar2.prompts import build_messages
from mpar2.question import Question

__all__ = ["AudioFeatureCache", "audio_warnings", "build_prompt", "used_audio_seconds"]

_CACHED_CLIPS = 4  # clips whose encoding is cached, for the next question about them


class AudioFeatureCache:
    """Cache the encoder's output for the last few clips, one for each adapter that changes the encoder."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._cached: OrderedDict[tuple[str, str], torch.Tensor] = OrderedDict()

    def get(self, clips: Sequence[Clip], adapters: Sequence[Adapter | None]) -> list[torch.Tensor]:
        """Encode clips with their adapters' encoders. The caller holds the checkpoint's lock.

        Args:
            clips: The clips.
            adapters: The adapter of each clip; None is the bare base.

        Returns:
            Frames of each clip, (positions, hidden).

        Raises:
            ItemError: A clip is too short.
        """
        keys = [
            (clip.digest, adapter.key if adapter and adapter.modifies_audio_encoder else "")
            for clip, adapter in zip(clips, adapters, strict=True)
        ]
        result: dict[tuple[str, str], torch.Tensor] = {key: self._cached[key] for key in keys if key in self._cached}
        for variant in {key[1] for key in keys}:
            new = {
                k: (c, a) for k, c, a in zip(keys, clips, adapters, strict=True) if k[1] == variant and k not in result
            }
            if new:
                adapter = next(iter(new.values()))[1]
                self._checkpoint.use(adapter if adapter and adapter.modifies_audio_encoder else None)
                result |= dict(zip(new, _encode(self._checkpoint, [clip for clip, _ in new.values()]), strict=True))
        for key in keys:
            self._cached[key] = result[key]
            self._cached.move_to_end(key)
        while len(self._cached) > _CACHED_CLIPS:
            self._cached.popitem(last=False)
        return [result[key] for key in keys]


@torch.inference_mode()
def _encode(checkpoint: Checkpoint, clips: Sequence[Clip]) -> list[torch.Tensor]:
    """Return (F, hidden) for each clip. Raises :class:`ItemError` for clips that are too short."""
    family = checkpoint.family
    features = [family.features(checkpoint.processor, np.asarray(clip.samples)) for clip in clips]
    for clip, clip_features in zip(clips, features, strict=True):
        if clip_features.positions < 1:
            raise ItemError(f"the clip lasts {clip.seconds:.3f} s: the model needs at least {family.frame_s:.2f} s")
    return family.encode(checkpoint.model, features)


def build_prompt(
    checkpoint: Checkpoint, question: Question, arm: Arm, audio: torch.Tensor, adapter: Adapter | None
) -> Prompt:
    """Build the prompt of an arm.

    Args:
        checkpoint: The loaded checkpoint.
        question: The question.
        arm: The arm; its mode and prompt set determine the words.
        audio: Frames of the clip, (positions, hidden).
        adapter: The arm's adapter, attached; None is the bare base.

    Returns:
        Token ids with one audio placeholder for each position, and the frames.

    Raises:
        EngineError: The prompt does not hold exactly one clip.
        QuestionError: The question is empty.
        PromptError: The arm's prompt set or file cannot be used.
    """
    family, processor = checkpoint.family, checkpoint.processor
    _, token = family.audio_token(processor)
    text = family.render(processor, build_messages(question, arm.mode, arm.prompt))
    ids = family.prompt_ids(processor, text, len(audio))
    if ids.count(token) != len(audio):  # a question or a template that contains control tokens
        raise EngineError(
            f"the prompt of '{arm.model}' does not hold exactly one clip: check its chat template, and that the "
            "question does not contain control tokens"
        )
    return Prompt(tuple(ids), audio, ids.index(token), adapter)


def used_audio_seconds(checkpoint: Checkpoint, clip: Clip) -> float:
    """Return the duration of the clip that reaches the model, in seconds.

    Args:
        checkpoint: The loaded checkpoint.
        clip: The clip.
    """
    return min(clip.seconds, checkpoint.max_audio_seconds)


def audio_warnings(checkpoint: Checkpoint, clip: Clip) -> tuple[str, ...]:
    """Return a warning if the end of the clip is cut off, else nothing.

    Args:
        checkpoint: The loaded checkpoint.
        clip: The clip.
    """
    if clip.seconds <= checkpoint.max_audio_seconds + 0.01:
        return ()
    cut_s = math.ceil((clip.seconds - checkpoint.max_audio_seconds) * 10) / 10
    return (
        f"'{checkpoint.name}' takes the first {checkpoint.max_audio_seconds:g} s only: the last {cut_s:.1f} s of this "
        f"{clip.seconds:.1f} s clip were not used",
    )
