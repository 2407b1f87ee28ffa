"""Audio inputs of a trainer: each clip is decoded, turned into mel features and encoded once, and used in every pass.

A dataset names clips by path. ``Clips`` maps each path to a number and to the processor's mel features with their mask,
and gives the number of audio positions of the clip in a prompt.

``AudioInjector`` puts the output of the audio tower into the model by a hook on the text embedding. It replaces the
embeddings of a prompt's audio placeholders by the frames of the clip. It serves generation, reference and policy passes
of both model families, and the tower does not run again for each of the G completions of a prompt:

* a *frozen* tower encodes a clip once in the whole run (up to ``keep_bytes`` are cached, least recently used first
out);
* a *trained* tower encodes each clip once in each pass, with gradients where the pass has them.

It is also a guard: a pass whose placeholders and frames do not match, or that has no placeholder, is an error. The
stock models raise in neither case (Qwen2.5-Omni), so training without audio would go unnoticed.

Under sharding (FSDP2, ZeRO-3) the tower is called outside of the root module's forward; :func:`gathered` gathers the
weights that it needs.

Clips of the next batch are decoded in the background (:meth:`Clips.load_ahead`) while completions are generated.

Limit: one clip in each prompt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mpar2.audio import Clip, load_clip
from mpar2.engines.families import ClipFeatures, family_of, family_of_processor
from mpar2.errors import MPAR2Error
from training.cost import StageTimer

_MEL_CLIPS = 512  # clips whose mel features are cached: 30 s are 1.5 MB


class AudioNotUsedError(MPAR2Error, RuntimeError):
    """The model would be trained, or run, without its audio."""


class Clips:
    """Map paths of clips to numbers, and numbers to mel features of the checkpoint's processor."""

    def __init__(self, processor: Any, *, keep: int = _MEL_CLIPS) -> None:
        self._processor = processor
        self._paths: list[str] = []
        self._numbers: dict[str, int] = {}
        self._keep = keep
        self._mels: OrderedDict[int, ClipFeatures] = OrderedDict()
        self._loading: dict[int, Future[ClipFeatures]] = {}
        self._loaders: ThreadPoolExecutor | None = None
        self.family = family_of_processor(processor)
        self.max_audio_seconds = self.family.max_audio_seconds(processor)

    def number(self, path: str) -> int:
        """Return the number of a path, the same for the life of this object."""
        if path not in self._numbers:
            self._numbers[path] = len(self._paths)
            self._paths.append(path)
        return self._numbers[path]

    def path(self, number: int) -> str:
        """Return the path that has a number."""
        return self._paths[number]

    def mel(self, number: int) -> ClipFeatures:
        """Return the features of a clip, cut at the longest audio that the model accepts."""
        if number in self._mels:
            self._mels.move_to_end(number)
            return self._mels[number]
        future = self._loading.pop(number, None)
        mel = future.result() if future is not None else self._load(number)
        self._mels[number] = mel
        while len(self._mels) > self._keep:
            self._mels.popitem(last=False)
        return mel

    def load_ahead(self, paths: Iterable[str]) -> None:
        """Decode clips and compute their features in the background; :meth:`mel` waits for them where needed."""
        if self._loaders is None:
            self._loaders = ThreadPoolExecutor(2, thread_name_prefix="clips")
        for number in dict.fromkeys(map(self.number, paths)):
            if number not in self._mels and number not in self._loading:
                self._loading[number] = self._loaders.submit(self._load, number)

    def _load(self, number: int) -> ClipFeatures:
        return self.mel_of(load_clip(self._paths[number]))

    def silent(self, number: int) -> ClipFeatures:
        """Return the features of silence with as many positions as the clip."""
        real = self.mel(number)
        samples = np.zeros(int(real.mask.sum()) * self._processor.feature_extractor.hop_length, np.float32)
        mel = self.mel_of(Clip(samples, "silence"))
        if mel.positions != real.positions:
            raise AudioNotUsedError(
                f"silence as long as '{self._paths[number]}' takes {mel.positions} positions and not {real.positions}"
            )
        return mel

    def mel_of(self, clip: Clip) -> ClipFeatures:
        """Return the features of a clip.

        Raises:
            AudioNotUsedError: The clip is too short for a single position.
        """
        features = self.family.features(self._processor, np.asarray(clip.samples))
        if features.positions < 1:
            raise AudioNotUsedError(
                f"'{clip.source}' lasts {clip.seconds:.3f} s: the model needs at least {self.family.frame_s:.2f} s"
            )
        return features


def inner_model(model: Any) -> Any:
    """Return the transformers model inside of PEFT and of accelerate's wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def tower_is_trained(model: Any) -> bool:
    """Return whether any weight of the audio tower or its projection requires gradients."""
    family = family_of(inner_model(model).config.model_type)
    return any(weight.requires_grad and family.is_audio(name) for name, weight in model.named_parameters())


@contextmanager
def gathered(model: Any, part: torch.nn.Module) -> Iterator[None]:
    """Gather the sharded weights that a call of ``part`` outside of the root's forward needs.

    FSDP2 gathers weights of the root module in its own forward only, ZeRO-3 those of the module that is called. Without
    sharding this does nothing.
    """
    if hasattr(model, "unshard"):  # FSDP2; the root reshards at the end of its next forward
        model.unshard()
        yield
        return
    partitioned = [weight for weight in part.parameters() if hasattr(weight, "ds_id")]
    if not partitioned:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(partitioned):  # ZeRO-3
        yield


def encode(model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
    """Run the audio tower over clips, and return the frames of each, (positions, hidden)."""
    inner = inner_model(model)
    family = family_of(inner.config.model_type)
    with gathered(model, family.audio_part(inner)):
        return family.encode(inner, clips)


class AudioInjector:
    """Put the frames of clips into the passes of a model; the module describes how.

    Args:
        clips: The clips.
        audio_token_id: Id of the placeholder.
        frozen: Whether the tower is frozen, so that its outputs can be cached.
        keep_bytes: Size of the cache.
        timer: Timer of the stages of a step.
    """

    def __init__(
        self,
        clips: Clips,
        audio_token_id: int,
        *,
        frozen: bool,
        keep_bytes: int = 4 * 2**30,
        timer: StageTimer | None = None,
    ) -> None:
        self.clips = clips
        self.frozen = frozen
        self.encoded = 0  # clips that the tower has encoded so far
        self.audio_token_id = audio_token_id
        self._keep_bytes = keep_bytes
        self._timer = timer or StageTimer()
        self._kept: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._bytes = 0

    @contextmanager
    def inject(
        self, model: Any, numbers: Sequence[int], frames: Sequence[torch.Tensor] | None = None
    ) -> Iterator[None]:
        """Put the audio of each row into the passes of the model in this context.

        Args:
            model: The model, wrapped or not.
            numbers: Number of the clip of each row.
            frames: Frames of each row, (positions, hidden); None uses those of the clips.

        Raises:
            AudioNotUsedError: Placeholders and frames do not match, or no pass embedded a prompt.
        """
        state = {"passes": 0}

        def put(module: Any, inputs: tuple[Any, ...], embedded: torch.Tensor) -> torch.Tensor:
            ids = inputs[0]
            if ids.shape[1] == 1:  # decoding: the prompt is in the cache
                return embedded
            state["passes"] += 1
            row_frames = list(frames) if frames is not None else self.frames(model, numbers)
            placeholders = ids == self.audio_token_id
            self._check(placeholders.sum(-1).tolist(), [len(row) for row in row_frames])
            source = torch.cat([row.to(embedded.device, embedded.dtype) for row in row_frames])
            return embedded.masked_scatter(placeholders[..., None], source)

        handle = inner_model(model).get_input_embeddings().register_forward_hook(put)
        try:
            yield
        finally:
            handle.remove()
        if not state["passes"]:
            raise AudioNotUsedError("the model ran without embedding a prompt: no audio could have reached it")

    def frames(self, model: Any, numbers: Sequence[int]) -> list[torch.Tensor]:
        """Encode clips to frames, (positions, hidden); equal numbers share one encoding."""
        distinct = list(dict.fromkeys(numbers))
        if not self.frozen:
            encoded = dict(zip(distinct, self._encode(model, distinct), strict=True))
            return [encoded[number] for number in numbers]
        missing = [number for number in distinct if number not in self._kept]
        if missing:
            with torch.no_grad():
                for number, row in zip(missing, self._encode(model, missing), strict=True):
                    self._kept[number] = row.clone()
                    self._bytes += row.nbytes
        encoded = {}
        for number in distinct:
            self._kept.move_to_end(number)
            encoded[number] = self._kept[number]
        while self._bytes > self._keep_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return [encoded[number] for number in numbers]

    def silent_frames(self, model: Any, numbers: Sequence[int]) -> list[torch.Tensor]:
        """Encode silence as long as each clip to frames, (positions, hidden), without gradients."""
        by_length: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for number in numbers:
                size = self.clips.mel(number).positions
                if size not in by_length:
                    by_length[size] = encode(model, [self.clips.silent(number)])[0]
        return [by_length[self.clips.mel(number).positions] for number in numbers]

    def _encode(self, model: Any, numbers: Sequence[int], batch: int = 16) -> list[torch.Tensor]:
        encoded: list[torch.Tensor] = []
        for first in range(0, len(numbers), batch):
            mels = [self.clips.mel(number) for number in numbers[first : first + batch]]
            with self._timer.stage("tower"):
                encoded += encode(model, mels)
        self.encoded += len(numbers)
        return encoded

    @staticmethod
    def _check(placeholders: Sequence[int], frames: Sequence[int]) -> None:
        if list(placeholders) == list(frames):
            return
        if not any(placeholders):
            raise AudioNotUsedError(f"the prompts hold no audio placeholder for {sum(frames)} frames of audio")
        raise AudioNotUsedError(
            f"audio placeholders and frames do not match: rows have {list(placeholders)} placeholders and "
            f"{list(frames)} frames; a prompt was cut, or a completion contains the placeholder"
        )
