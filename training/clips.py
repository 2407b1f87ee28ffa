"""Clips as a trainer needs them: decoded once, turned into mel features once, encoded once, heard everywhere.

A trainer names clips by path. ``Clips`` gives each path a number, and turns it into what a processor makes of it:
mel features with their mask, and the number of audio positions that the clip takes in a prompt.

``Ears`` puts what the audio tower hears into the model. It hooks the text embedding: where a prompt holds audio
placeholders, the embeddings of the placeholders are replaced by the clip's frames. So one mechanism serves generation,
reference and policy passes of both model families, and none of them runs the tower again for each of the G completions
of a prompt:

* a *frozen* tower encodes a clip once in the whole run (kept up to ``keep_bytes``, the least recently used leaving);
* a *trained* tower encodes each clip once in each pass, with gradients where the pass has them.

It is also the guard: a pass whose placeholders and frames do not match, or that holds no placeholder at all, is an
error. The stock models raise in neither case (Qwen2.5-Omni), so a trainer can train deaf without a word.

Limit: one clip in each prompt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.masking_utils import create_bidirectional_mask

from mpar2.audio import SAMPLE_RATE, Clip, load_clip
from mpar2.errors import MPAR2Error

__all__ = ["Clips", "DeafError", "Ears", "Mel", "encode", "family_of", "inner_model", "stack_mels", "tower_is_trained"]

_MEL_CLIPS = 512  # whose mel features are kept: 30 s are 1.5 MB


class DeafError(MPAR2Error, RuntimeError):
    """The model would have been trained, or run, without its audio."""


@dataclass(frozen=True, eq=False)
class Mel:
    """``features`` (bands, T) and ``mask`` (T,) of one clip, and the audio positions that it takes."""

    features: torch.Tensor
    mask: torch.Tensor
    positions: int


class Clips:
    """Paths to mel features, with the processor of the checkpoint."""

    def __init__(self, processor: Any, *, keep: int = _MEL_CLIPS) -> None:
        self._processor = processor
        self._paths: list[str] = []
        self._numbers: dict[str, int] = {}
        self._keep = keep
        self._mels: OrderedDict[int, Mel] = OrderedDict()
        extractor = processor.feature_extractor
        self.hears_s = extractor.n_samples / extractor.sampling_rate

    def number(self, path: str) -> int:
        """The number of a path, the same for the life of this object."""
        if path not in self._numbers:
            self._numbers[path] = len(self._paths)
            self._paths.append(path)
        return self._numbers[path]

    def path(self, number: int) -> str:
        return self._paths[number]

    def mel(self, number: int) -> Mel:
        """The features of a clip, cut where the model stops hearing."""
        if number in self._mels:
            self._mels.move_to_end(number)
            return self._mels[number]
        mel = self.mel_of(load_clip(self._paths[number]))
        self._mels[number] = mel
        while len(self._mels) > self._keep:
            self._mels.popitem(last=False)
        return mel

    def silent(self, number: int) -> Mel:
        """Silence that takes as many positions as the clip."""
        real = self.mel(number)
        samples = np.zeros(int(real.mask.sum()) * self._processor.feature_extractor.hop_length, np.float32)
        mel = self.mel_of(Clip(samples, "silence"))
        if mel.positions != real.positions:
            raise DeafError(
                f"silence as long as '{self._paths[number]}' takes {mel.positions} positions and not {real.positions}"
            )
        return mel

    def mel_of(self, clip: Clip) -> Mel:
        samples = np.asarray(clip.samples[: round(self.hears_s * SAMPLE_RATE)])
        made, _ = self._processor._process_audio(
            [samples], sampling_rate=SAMPLE_RATE, return_attention_mask=True, return_tensors="pt"
        )
        positions = int(made["num_audio_tokens"][0])
        if positions < 1:
            raise DeafError(f"'{clip.source}' lasts {clip.seconds:.3f} s: the model needs at least 0.04 s")
        return Mel(
            torch.as_tensor(made["input_features"])[0], torch.as_tensor(made["feature_attention_mask"])[0], positions
        )


def stack_mels(mels: Sequence[Mel]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, bands, T) features and (B, T) mask, padded on the right to the longest."""
    longest = max(mel.mask.shape[-1] for mel in mels)
    features = [torch.nn.functional.pad(mel.features, (0, longest - mel.features.shape[-1])) for mel in mels]
    masks = [torch.nn.functional.pad(mel.mask, (0, longest - mel.mask.shape[-1])) for mel in mels]
    return torch.stack(features), torch.stack(masks)


def family_of(model: Any) -> str:
    """``qwen2_5_omni`` or ``qwen2_audio``, of a model or anything that wraps one."""
    kind = getattr(model.config, "model_type", "")
    if kind in ("qwen2_5_omni_thinker", "qwen2_5_omni"):
        return "qwen2_5_omni"
    if kind == "qwen2_audio":
        return kind
    raise DeafError(f"a model of type '{kind}' has no audio tower that we know: use Qwen2.5-Omni or Qwen2-Audio")


def inner_model(model: Any) -> Any:
    """The transformers class inside of PEFT and of accelerate's wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def tower_is_trained(model: Any) -> bool:
    """Whether any weight that sound passes before it reaches the text model takes gradients."""
    return any(
        weight.requires_grad
        for name, weight in model.named_parameters()
        if "audio_tower" in name or "multi_modal_projector" in name
    )


def encode(model: Any, mels: Sequence[Mel]) -> list[torch.Tensor]:
    """What the tower of ``model`` makes of clips: (positions, hidden) each, with gradients where the tower has them."""
    inner = inner_model(model)
    weight = next(inner.model.audio_tower.parameters())
    features, mask = stack_mels(mels)
    features, mask = features.to(weight.device, weight.dtype), mask.to(weight.device)
    sizes = [mel.positions for mel in mels]
    if family_of(inner) == "qwen2_5_omni":
        heard = inner.get_audio_features(features, mask, return_dict=True)
        return list(heard.last_hidden_state.split(sizes))
    audio = inner.model  # Qwen2-Audio does this inside forward, where it cannot be shared
    lengths, _ = audio.audio_tower._get_feat_extract_output_lengths(mask.sum(-1))
    frames = (features.shape[-1] - 2) // 2 + 1
    attends = create_bidirectional_mask(
        config=audio.audio_tower.config,
        inputs_embeds=torch.zeros(len(mels), frames, 1, dtype=weight.dtype, device=weight.device),
        attention_mask=(torch.arange(frames, device=weight.device)[None] < lengths[:, None]).long(),
    )
    heard = audio.multi_modal_projector(audio.audio_tower(features, attention_mask=attends).last_hidden_state)
    return [row[:size] for row, size in zip(heard, sizes, strict=True)]


class Ears:
    """Puts the frames of clips into the passes of a model; see the module."""

    def __init__(self, clips: Clips, audio_token_id: int, *, frozen: bool, keep_bytes: int = 4 * 2**30) -> None:
        self.clips = clips
        self.frozen = frozen
        self.encoded = 0  # clips that the tower has encoded so far
        self.audio_token_id = audio_token_id
        self._keep_bytes = keep_bytes
        self._kept: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._bytes = 0

    @contextmanager
    def listen(
        self, model: Any, numbers: Sequence[int], frames: Sequence[torch.Tensor] | None = None
    ) -> Iterator[None]:
        """Run ``model`` inside with row i hearing clip ``numbers[i]``, or ``frames[i]`` in its place."""
        state = {"passes": 0}

        def put(module: Any, inputs: tuple[Any, ...], embedded: torch.Tensor) -> torch.Tensor:
            ids = inputs[0]
            if ids.shape[1] == 1:  # decoding: the prompt is in the cache
                return embedded
            state["passes"] += 1
            heard = list(frames) if frames is not None else self.frames(model, numbers)
            where = ids == self.audio_token_id
            self._check(where.sum(-1).tolist(), [len(row) for row in heard])
            source = torch.cat([row.to(embedded.device, embedded.dtype) for row in heard])
            return embedded.masked_scatter(where[..., None], source)

        handle = inner_model(model).get_input_embeddings().register_forward_hook(put)
        try:
            yield
        finally:
            handle.remove()
        if not state["passes"]:
            raise DeafError("the model ran without embedding a prompt: no audio could have reached it")

    def frames(self, model: Any, numbers: Sequence[int]) -> list[torch.Tensor]:
        """What ``model`` hears of each clip; equal numbers share one encoding."""
        wanted = list(dict.fromkeys(numbers))
        if not self.frozen:
            found = dict(zip(wanted, self._encode(model, wanted), strict=True))
            return [found[number] for number in numbers]
        missing = [number for number in wanted if number not in self._kept]
        if missing:
            with torch.no_grad():
                for number, heard in zip(missing, self._encode(model, missing), strict=True):
                    self._kept[number] = heard.clone()
                    self._bytes += heard.nbytes
        found = {}
        for number in wanted:
            self._kept.move_to_end(number)
            found[number] = self._kept[number]
        while self._bytes > self._keep_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return [found[number] for number in numbers]

    def silent_frames(self, model: Any, numbers: Sequence[int]) -> list[torch.Tensor]:
        """What ``model`` makes of silence of each clip's length."""
        by_length: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for number in numbers:
                size = self.clips.mel(number).positions
                if size not in by_length:
                    by_length[size] = encode(model, [self.clips.silent(number)])[0]
        return [by_length[self.clips.mel(number).positions] for number in numbers]

    def _encode(self, model: Any, numbers: Sequence[int], batch: int = 16) -> list[torch.Tensor]:
        heard: list[torch.Tensor] = []
        for first in range(0, len(numbers), batch):
            heard += encode(model, [self.clips.mel(number) for number in numbers[first : first + batch]])
        self.encoded += len(numbers)
        return heard

    @staticmethod
    def _check(holes: Sequence[int], frames: Sequence[int]) -> None:
        if list(holes) == list(frames):
            return
        if not any(holes):
            raise DeafError(f"the prompts hold no audio placeholder, while {sum(frames)} frames wait to be heard")
        raise DeafError(
            f"audio placeholders and frames do not match: rows have {list(holes)} placeholders and {list(frames)} "
            "frames; a prompt was cut, or a completion contains the placeholder"
        )
