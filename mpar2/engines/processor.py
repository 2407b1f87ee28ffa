"""Processors of Qwen's Omni models and of Gemma for audio and text only.

The stock classes require an image and a video processor and hence torchvision, which an audio model does not need.
The classes here are the same without them: same text, same features, same files. They read the folder of an official
checkpoint and those that they save themselves.

Padding of Qwen2.5-Omni: the stock class pads every clip to the longest audio of the checkpoint (``chunk_length`` of
the feature extractor, 300 s). The encoder uses valid frames only, so clips are padded to the longest clip of the batch
plus one analysis window, which does not change any valid frame: a frame at the end is followed by the same zeros.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    Gemma3nProcessor,
    Gemma4Processor,
    ProcessorMixin,
    Qwen2_5OmniProcessor,
    Qwen3OmniMoeProcessor,
)

__all__ = ["AudioProcessor", "Gemma3nAudioProcessor", "Gemma4AudioProcessor", "Qwen3AudioProcessor"]


class _WithoutVision:
    """A processor with only a feature extractor and a tokenizer."""

    def __init__(self, feature_extractor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        ProcessorMixin.__init__(self, feature_extractor, tokenizer, chat_template=chat_template)
        for name in ("image", "audio", "video"):
            setattr(self, f"{name}_token", getattr(tokenizer, f"{name}_token"))
            setattr(self, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))
        for name in ("vision_bos", "vision_eos", "audio_bos", "audio_eos"):
            setattr(self, f"{name}_token", getattr(tokenizer, f"{name}_token"))


class AudioProcessor(_WithoutVision, Qwen2_5OmniProcessor):
    """``Qwen2_5OmniProcessor`` with only a feature extractor and a tokenizer."""

    def _process_audio(self, audio: Any, **kwargs: Any) -> Any:
        extractor = self.feature_extractor
        longest = max(len(samples) for samples in audio) + extractor.n_fft
        whole_frames = -(-longest // extractor.hop_length) * extractor.hop_length
        kwargs["max_length"] = min(extractor.n_samples, whole_frames)
        return super()._process_audio(audio, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        names = self.tokenizer.model_input_names + self.feature_extractor.model_input_names
        return list(dict.fromkeys([*names, "feature_attention_mask"]))


class Qwen3AudioProcessor(_WithoutVision, Qwen3OmniMoeProcessor):
    """``Qwen3OmniMoeProcessor`` with only a feature extractor and a tokenizer."""

    def _process_audio(self, audio: Any, **kwargs: Any) -> Any:
        return super()._process_audio(audio, **({"padding": True, "truncation": False} | kwargs))


class _GemmaWithoutVision:
    """A processor of Gemma with only a feature extractor and a tokenizer."""

    def __init__(
        self,
        feature_extractor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        audio_seq_length: int = 188,
        **kwargs: Any,
    ) -> None:
        ProcessorMixin.__init__(self, feature_extractor, tokenizer, chat_template=chat_template)
        self.audio_seq_length = audio_seq_length
        for name in ("audio_token", "audio_token_id", "boa_token", "eoa_token"):
            setattr(self, name, getattr(tokenizer, name))


class Gemma3nAudioProcessor(_GemmaWithoutVision, Gemma3nProcessor):
    """``Gemma3nProcessor`` with only a feature extractor and a tokenizer."""


class Gemma4AudioProcessor(_GemmaWithoutVision, Gemma4Processor):
    """``Gemma4Processor`` with only a feature extractor and a tokenizer."""
