"""From clips and questions to prompts: the chat template, what the encoder hears, and what it cannot hear."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from transformers.masking_utils import create_bidirectional_mask

from mpar2.audio import SAMPLE_RATE, Clip
from mpar2.engines.adapter import Adapter
from mpar2.engines.base import Arm, EngineError, ItemError
from mpar2.engines.checkpoint import Checkpoint
from mpar2.engines.decode import Prompt
from mpar2.prompts import build_messages
from mpar2.question import Question

__all__ = ["AudioFeatureCache", "audio_warnings", "build_prompt", "used_audio_seconds"]

_CACHED_CLIPS = 4  # clips whose encoding is kept, for the next question about them


class AudioFeatureCache:
    """What the audio encoder made of clips: run once for each clip, and kept for the last few."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._cached: OrderedDict[tuple[str, str], torch.Tensor] = OrderedDict()

    def get(self, clips: Sequence[Clip], adapters: Sequence[Adapter | None]) -> list[torch.Tensor]:
        """(F, hidden) for each clip, as its adapter hears it. The caller holds the checkpoint's lock."""
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
    limit = round(checkpoint.max_audio_seconds * SAMPLE_RATE)
    samples = [np.asarray(clip.samples[:limit]) for clip in clips]
    features, _ = checkpoint.processor._process_audio(
        samples, sampling_rate=SAMPLE_RATE, return_attention_mask=True, return_tensors="pt"
    )
    sizes = [int(size) for size in features["num_audio_tokens"]]
    for clip, size in zip(clips, sizes, strict=True):
        if size < 1:
            raise ItemError(f"the clip lasts {clip.seconds:.3f} s: the model needs at least 0.04 s")
    mel = features["input_features"].to(checkpoint.device, checkpoint.dtype)
    mask = torch.as_tensor(features["feature_attention_mask"], device=checkpoint.device)
    if checkpoint.family == "qwen2_5_omni":
        heard = checkpoint.model.get_audio_features(mel, mask, return_dict=True).last_hidden_state
        return list(heard.split(sizes))
    inner = checkpoint.model.model  # Qwen2-Audio does this inside forward, where it cannot be shared
    lengths, _ = inner.audio_tower._get_feat_extract_output_lengths(mask.sum(-1))
    frames = (mel.shape[-1] - 2) // 2 + 1
    attends = create_bidirectional_mask(
        config=inner.audio_tower.config,
        inputs_embeds=torch.zeros(len(clips), frames, 1, dtype=checkpoint.dtype, device=checkpoint.device),
        attention_mask=(torch.arange(frames, device=checkpoint.device)[None] < lengths[:, None]).long(),
    )
    heard = inner.multi_modal_projector(inner.audio_tower(mel, attention_mask=attends).last_hidden_state)
    return [row[:size] for row, size in zip(heard, sizes, strict=True)]


def build_prompt(
    checkpoint: Checkpoint, question: Question, arm: Arm, audio: torch.Tensor, adapter: Adapter | None
) -> Prompt:
    """The chat prompt of an arm, with one placeholder for each audio position."""
    processor = checkpoint.processor
    text = processor.apply_chat_template(build_messages(question, arm.mode), tokenize=False, add_generation_prompt=True)
    ids = processor.tokenizer(text.replace(processor.audio_token, processor.audio_token * len(audio)))["input_ids"]
    start = ids.index(processor.audio_token_id) if processor.audio_token_id in ids else -1
    if ids.count(processor.audio_token_id) != len(audio):  # a question or a template that writes control tokens
        raise EngineError(
            f"the prompt of '{arm.model}' does not hold exactly one clip: check its chat template, and that the "
            "question does not contain control tokens"
        )
    return Prompt(tuple(ids), audio, start, adapter)


def used_audio_seconds(checkpoint: Checkpoint, clip: Clip) -> float:
    """How much of the clip the model hears, in seconds."""
    return min(clip.seconds, checkpoint.max_audio_seconds)


def audio_warnings(checkpoint: Checkpoint, clip: Clip) -> tuple[str, ...]:
    """What the visitor must know about what the model did not hear."""
    if clip.seconds <= checkpoint.max_audio_seconds + 0.01:
        return ()
    lost = math.ceil((clip.seconds - checkpoint.max_audio_seconds) * 10) / 10
    return (
        f"'{checkpoint.name}' hears the first {checkpoint.max_audio_seconds:g} s only: the last {lost:.1f} s of this "
        f"{clip.seconds:.1f} s clip were not heard",
    )
