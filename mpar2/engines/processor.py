"""The processor of Qwen2.5-Omni for audio and text only.

The stock ``Qwen2_5OmniProcessor`` requires an image and a video processor and hence torchvision, which an audio
model does not need. :class:`AudioProcessor` is that class without them: same text, same features, same files. It
reads the folder of an official checkpoint and those that it saves itself.

Padding: the stock class pads every clip to the longest audio of the checkpoint (``chunk_length`` of the feature
extractor, 300 s for Qwen2.5-Omni). The encoder uses valid frames only, so clips are padded to the longest clip of the
batch plus one analysis window, which does not change any valid frame: a frame at the end is followed by the same zeros.
"""

from __future__ import annotations

from typing import Any

from transformers import ProcessorMixin, Qwen2_5OmniProcessor, Qwen3OmniMoeProcessor

__all__ = ["AudioProcessor", "Qwen3AudioProcessor"]


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
