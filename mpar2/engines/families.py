"""Model families: the differences between audio language models, one class each.

To add a family, write a subclass of :class:`Family` here and decorate it with ``@register``. The defaults fit models of
the shape that transformers uses today: ``model.audio_tower`` and ``model.multi_modal_projector`` before
``model.language_model``, a processor whose ``_process_audio`` counts the positions of a clip (``num_audio_tokens``),
and ``get_audio_features``. The tests run each family with small random weights of its real classes
(``tests/test_families.py``).

======================  ==========================  =========  =================================================
family                  model types                 s a frame  longest audio
======================  ==========================  =========  =================================================
``qwen2_5_omni``        whole Omni, its Thinker     0.040      that of the feature extractor (300 s)
``qwen2_audio``         Qwen2-Audio                 0.040      that of the feature extractor (30 s)
``qwen3_omni_moe``      whole Omni, its Thinker     0.077      2,400 s (its report; the positions of the text stack)
``audioflamingo3``      Audio Flamingo 3            0.040      600 s, in windows of 30 s
``musicflamingo``       Audio Flamingo Next         0.040      1,200 s, in windows of 30 s
``voxtral``             Voxtral                     0.080      2,400 s; padded to a multiple of 30 s
``glmasr``              GLM-ASR                     0.080      655 s, in windows of 30 s
``granite_speech``      Granite Speech              0.100      600 s (ours)
``phi4_multimodal``     Phi-4 multimodal            0.080      240 s (ours: 4,096 positions with the answer)
``gemma3n``             Gemma 3n                    0.160      30 s; every clip takes 188 positions
``gemma4``              Gemma 4 with audio          0.040      30 s
======================  ==========================  =========  =================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mpar2.audio import SAMPLE_RATE
from mpar2.engines.base import EngineError

if TYPE_CHECKING:
    import torch

__all__ = ["ClipFeatures", "Family", "family_names", "family_of", "family_of_processor", "get_family", "stack_features"]


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """The features of one clip.

    Attributes:
        features: Input of the audio encoder, (W, bands, T): W windows (1 in most families). Granite: (1, T, bands).
        mask: 1 where a column belongs to the clip, (W, T).
        positions: Audio positions of the clip in a prompt, over all windows.
    """

    features: torch.Tensor
    mask: torch.Tensor
    positions: int


def stack_features(clips: Sequence[ClipFeatures]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack the features of clips for one pass of the encoder.

    Args:
        clips: Features of each clip, (windows, bands, T).

    Returns:
        Features (sum of windows, bands, longest T), padded on the right, and their mask (sum of windows, longest T).
    """
    import torch
    from torch.nn.functional import pad

    longest = max(clip.mask.shape[-1] for clip in clips)
    features = [pad(clip.features, (0, longest - clip.features.shape[-1])) for clip in clips]
    masks = [pad(clip.mask, (0, longest - clip.mask.shape[-1])) for clip in clips]
    return torch.cat(features), torch.cat(masks)


class Family:
    """One model family; see the module.

    Attributes:
        name: The family's name, in recipes, records and messages.
        model_types: ``model_type`` of config.json.
        model_class: The transformers class to load.
        frame_s: Seconds of audio per position.
        audio_modules: Parts of the names of modules before the text model.
        lora_layers: Regular expression of the text stack's linear layers that LoRA adapts by default.
        lora_text_part: Regular expression of the text stack in full names.
        lora_audio_layers: Like ``lora_layers``, for the audio encoder.
        lora_audio_part: Regular expression of the audio encoder in full names.
        longest_s: The longest audio of the model; None: that of its feature extractor.
        layer_classes: Layer classes that FSDP shards.
        old_names: (pattern, replacement) pairs from parameter names of older checkpoints to current names.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    model_class: ClassVar[str]
    processor_class: ClassVar[str]
    unused_weights: ClassVar[tuple[str, ...]] = ()  # name patterns of weights that are deliberately not loaded
    mask_name: ClassVar[str] = "feature_attention_mask"  # argument of the forward pass
    attention: ClassVar[str | dict[str, str]] = "sdpa"  # attn_implementation of the parts of the model
    frame_s: ClassVar[float] = 0.04
    longest_s: ClassVar[float | None] = None
    audio_modules: ClassVar[tuple[str, ...]] = ("audio_tower", "multi_modal_projector")
    lora_layers: ClassVar[str] = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    lora_text_part: ClassVar[str] = ".*language_model.*"
    lora_audio_layers: ClassVar[str] = "q_proj|k_proj|v_proj|out_proj|fc1|fc2"
    lora_audio_part: ClassVar[str] = "audio_tower"
    layer_classes: ClassVar[tuple[str, ...]] = ("Qwen2DecoderLayer",)
    old_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^language_model\.lm_head\.", "lm_head."),
        (r"^language_model\.model\.", "model.language_model."),
        (r"^language_model\.", "model.language_model."),
        (r"^(audio_tower|multi_modal_projector)\.", r"model.\1."),
    )

    # ---- loading

    def loaded_config(self, config: Any, *, vision: bool = False) -> Any:
        """Return the configuration of the loaded part, from that of the repository.

        Args:
            config: The configuration of the repository; it may be changed in place.
            vision: Also load the vision tower.
        """
        return config

    def load_processor(self, source: Path | str) -> Any:
        """Load the processor of a checkpoint from a folder or a hub id."""
        import transformers

        return getattr(transformers, self.processor_class).from_pretrained(source)

    # ---- from a clip to frames

    def max_audio_seconds(self, processor: Any) -> float:
        """Return the longest audio of the model in seconds; the rest is cut off."""
        if self.longest_s is not None:
            return self.longest_s
        extractor = processor.feature_extractor
        return extractor.n_samples / extractor.sampling_rate

    def features(self, processor: Any, samples: np.ndarray) -> ClipFeatures:
        """Compute the encoder's input for one clip, cut at the longest audio of the model.

        Args:
            processor: The processor of the checkpoint.
            samples: Mono audio at 16 kHz, (n,), float32.

        Returns:
            The features, their mask, and the number of audio positions.
        """
        return self._features(processor, np.asarray(samples[: round(self.max_audio_seconds(processor) * SAMPLE_RATE)]))

    def _features(self, processor: Any, samples: np.ndarray) -> ClipFeatures:
        import torch

        options = {"sampling_rate": SAMPLE_RATE, "return_attention_mask": True, "return_tensors": "pt"}
        output, _ = processor._process_audio([samples], **options)
        mask = output["feature_attention_mask" if "feature_attention_mask" in output else "input_features_mask"]
        return ClipFeatures(
            torch.as_tensor(output["input_features"]), torch.as_tensor(mask), int(output["num_audio_tokens"][0])
        )

    def encode(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        """Run the audio encoder.

        Clips with features of equal width share a pass, since encoders of most families attend to the padding.

        Args:
            model: The loaded model.
            clips: Features of each clip.

        Returns:
            Frames of each clip, (positions, hidden), in the text model's space, with gradients if enabled.
        """
        frames: dict[int, torch.Tensor] = {}
        for width in dict.fromkeys(clip.features.shape[-1] for clip in clips):
            places = [place for place, clip in enumerate(clips) if clip.features.shape[-1] == width]
            frames |= zip(places, self._encode_together(model, [clips[place] for place in places]), strict=True)
        return [frames[place] for place in range(len(clips))]

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        features, mask = self._inputs(model, clips)
        output = model.get_audio_features(features, mask, return_dict=True)
        return _split(output.pooler_output, clips)

    def _inputs(self, model: Any, clips: Sequence[ClipFeatures]) -> tuple[torch.Tensor, torch.Tensor]:
        weight = next(self.audio_part(model).parameters())
        features, mask = stack_features(clips)
        return features.to(weight.device, weight.dtype), mask.to(weight.device)

    def audio_part(self, model: Any) -> Any:
        """Return the module of the audio encoder."""
        return model.model.audio_tower

    # ---- prompts

    def audio_token(self, processor: Any) -> tuple[str, int]:
        """Return the placeholder of a clip in the chat template, and the token id of one audio position."""
        return processor.audio_token, processor.audio_token_id

    def placeholder(self, processor: Any, positions: int) -> str:
        """Return the placeholder text of a clip.

        Args:
            processor: The processor of the checkpoint.
            positions: Audio positions of the clip.
        """
        return processor.audio_token * positions

    def prompt_ids(self, processor: Any, text: str, positions: int) -> list[int]:
        """Tokenize a rendered chat, with the placeholder of its clip expanded.

        Args:
            processor: The processor of the checkpoint.
            text: The rendered chat.
            positions: Audio positions of the clip.

        Returns:
            Token ids of the prompt.
        """
        token, _ = self.audio_token(processor)
        expanded = text.replace(token, self.placeholder(processor, positions), 1)
        return list(processor.tokenizer(expanded)["input_ids"])

    def render(self, processor: Any, messages: list[dict[str, Any]]) -> str:
        """Render the chat as text, with one placeholder for the clip and the header of the model's turn.

        Args:
            processor: The processor of the checkpoint.
            messages: Messages of :func:`mpar2.prompts.build_messages`.

        Raises:
            EngineError: The chat template fails, or does not write exactly one placeholder.
        """
        from mpar2.engines.chat import render_chat

        token, _ = self.audio_token(processor)
        return render_chat(processor, messages, token)

    # ---- the text model

    def embed(self, model: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the inputs of ``model.model`` for text tokens, (B, T): ``inputs_embeds``, and what the family adds."""
        return {"inputs_embeds": model.get_input_embeddings()(ids)}

    def first_positions(self, model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the position ids of a prompt as in the stock model.

        Args:
            model: The loaded model.
            ids: Token ids, (1, T).

        Returns:
            Position ids, and (1, 1) the offset to add to the number of tokens afterwards.
        """
        import torch

        return torch.arange(ids.shape[1], device=ids.device)[None], torch.zeros_like(ids[:, :1])

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Compute logits from the last hidden states of the text model.

        Args:
            model: The loaded model.
            hidden: Hidden states, (..., hidden).

        Returns:
            Logits, (..., V), float32.
        """
        return model.lm_head(hidden).float()

    def max_positions(self, config: Any) -> int | None:
        """Return the largest number of tokens of prompt, audio and answer together; None without a limit."""
        return getattr(config.get_text_config(), "max_position_embeddings", None)

    # ---- adapters

    def current_name(self, name: str) -> str:
        """Return the current name of a parameter or module from its name in an older version."""
        for pattern, replacement in self.old_names:
            if (renamed := re.sub(pattern, replacement, name)) != name:
                return renamed
        return name

    def older_names(self) -> tuple[Callable[[str], str], ...]:
        """Return functions that map the current name of a weight to each layout in which adapters were published.

        The first is the current layout, the identity.
        """

        def before_nesting(name: str) -> str:
            name = re.sub(r"^lm_head\b", "language_model.lm_head", name)
            name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
            return re.sub(r"^model\.(audio_tower|multi_modal_projector|encoder|projector)\b", r"\1", name)

        return (str, before_nesting)

    def is_audio(self, name: str) -> bool:
        """Return whether a module or weight belongs to the audio encoder or its projection."""
        return any(part in name for part in self.audio_modules)

    def lora_targets(self, *, layers: str | None = None, audio: bool = False) -> str:
        """Return PEFT's ``target_modules`` for training: a pattern of linear layers.

        Args:
            layers: Pattern of layer names in the text stack; by default the family's own.
            audio: Also adapt the audio encoder.

        Returns:
            The pattern.
        """
        targets = rf"{self.lora_text_part}\.({layers or self.lora_layers})"
        return rf"{targets}|.*{self.lora_audio_part}.*\.({self.lora_audio_layers})" if audio else targets


_FAMILIES: dict[str, Family] = {}


def register(kind: type[Family]) -> type[Family]:
    """Register a family by its name; a class decorator."""
    _FAMILIES[kind.name] = kind()
    return kind


def family_names() -> tuple[str, ...]:
    """Return the names of all families."""
    return tuple(_FAMILIES)


def get_family(name: str) -> Family:
    """Return the family of that name."""
    return _FAMILIES[name]


def family_of(model_type: str, source: object = "the model") -> Family:
    """Return the family of a ``model_type`` of config.json.

    Args:
        model_type: Value from config.json.
        source: The model's name, for the message.

    Raises:
        EngineError: No family supports it; the message lists the supported types.
    """
    for family in _FAMILIES.values():
        if model_type in family.model_types:
            return family
    raise EngineError(
        f"'{source}' is a model of type '{model_type}', which is not supported: use one of "
        f"{', '.join(kind for family in _FAMILIES.values() for kind in family.model_types)}, or serve it and use "
        "--engine server"
    )


def family_of_processor(processor: Any) -> Family:
    """Return the family of a processor.

    Raises:
        EngineError: It belongs to no supported family.
    """
    names = {kind.__name__ for kind in type(processor).__mro__}
    for family in _FAMILIES.values():
        if family.processor_class in names:
            return family
    raise EngineError(f"{type(processor).__name__} is the processor of no supported family")


class _Omni(Family):
    """Shared code for the Thinkers of Qwen's Omni models: three-dimensional positions, no vision."""

    unused_weights = (r"(^|\.)visual\.",)

    def loaded_config(self, config: Any, *, vision: bool = False) -> Any:
        config = getattr(config, "thinker_config", config)
        if not vision and getattr(config, "vision_config", None) is not None:
            config.vision_config.depth = 0  # the vision tower's layers are neither read nor kept
        return config

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        features, mask = self._inputs(model, clips)
        return _split(model.get_audio_features(features, mask, return_dict=True).last_hidden_state, clips)

    def first_positions(self, model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        return model.get_rope_index(ids, attention_mask=torch.ones_like(ids))

    def older_names(self) -> tuple[Callable[[str], str], ...]:
        def thinker(name: str) -> str:  # before transformers 5.21
            name = re.sub(r"^model\.language_model\.", "model.", name)
            return re.sub(r"^model\.(audio_tower|visual)\b", r"\1", name)

        return (str, thinker, lambda name: f"thinker.{thinker(name)}", lambda name: f"thinker.{name}")


@register
class Qwen25Omni(_Omni):
    """Qwen2.5-Omni and its Thinker: the encoder cuts the audio into chunks without attention between them."""

    name = "qwen2_5_omni"
    model_types = ("qwen2_5_omni", "qwen2_5_omni_thinker")
    model_class = "Qwen2_5OmniThinkerForConditionalGeneration"
    processor_class = "Qwen2_5OmniProcessor"
    audio_modules = ("audio_tower",)
    layer_classes = ("Qwen2_5OmniDecoderLayer", "Qwen2_5OmniAudioEncoderLayer")
    old_names = (
        (r"^(thinker\.)?model\.(?!language_model|audio_tower|visual)", "model.language_model."),
        (r"^(thinker\.)?(audio_tower|visual)\.", r"model.\2."),
        (r"^thinker\.", ""),
    )

    def load_processor(self, source: Path | str) -> Any:
        from mpar2.engines.processor import AudioProcessor

        return AudioProcessor.from_pretrained(source)

    def encode(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        """Encode each distinct chunk once.

        The encoder cuts a clip into chunks of ``2 * n_window`` mel columns without attention between them. So clips
        that differ in one place (an occluded window) share the encodings of the other chunks.
        """
        import torch

        size = 2 * model.config.audio_config.n_window
        chunks: dict[bytes, ClipFeatures] = {}
        rows: list[list[bytes]] = []
        for clip in clips:
            columns = int(clip.mask.sum())
            row = []
            for start in range(0, columns, size):
                piece = clip.features[..., start : min(start + size, columns)].contiguous()
                positions = ((piece.shape[-1] - 1) // 2 + 1 - 2) // 2 + 1
                if positions > 0:  # one or two columns at the end take no position
                    key = piece.numpy().tobytes()
                    mask = torch.ones(1, piece.shape[-1], dtype=clip.mask.dtype)
                    chunks.setdefault(key, ClipFeatures(piece, mask, positions))
                    row.append(key)
            rows.append(row)
        frames = dict(zip(chunks, self._encode_together(model, list(chunks.values())), strict=True))
        return [torch.cat([frames[key] for key in row]) for row in rows]


@register
class Qwen3OmniMoe(_Omni):
    """Qwen3-Omni and its Thinker: a mixture of experts, which LoRA does not adapt."""

    name = "qwen3_omni_moe"
    model_types = ("qwen3_omni_moe", "qwen3_omni_moe_thinker")
    model_class = "Qwen3OmniMoeThinkerForConditionalGeneration"
    processor_class = "Qwen3OmniMoeProcessor"
    frame_s = 1 / 13  # 13 positions for each 100 mel columns
    audio_modules = ("audio_tower",)
    lora_layers = "q_proj|k_proj|v_proj|o_proj"  # experts are not linear modules
    layer_classes = ("Qwen3OmniMoeThinkerTextDecoderLayer", "Qwen3OmniMoeAudioEncoderLayer")
    longest_s = 2400.0
    old_names = Qwen25Omni.old_names

    def load_processor(self, source: Path | str) -> Any:
        from mpar2.engines.processor import Qwen3AudioProcessor

        return Qwen3AudioProcessor.from_pretrained(source)


@register
class Qwen2Audio(Family):
    """Qwen2-Audio: every clip is padded to 30 s."""

    name = "qwen2_audio"
    model_types = ("qwen2_audio",)
    model_class = "Qwen2AudioForConditionalGeneration"
    processor_class = "Qwen2AudioProcessor"
    layer_classes = ("Qwen2DecoderLayer", "Qwen2AudioEncoderLayer")

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        """Repeat the steps of the stock forward pass, which does not expose the result."""
        import torch
        from transformers.masking_utils import create_bidirectional_mask

        tower = self.audio_part(model)
        features, mask = self._inputs(model, clips)
        lengths, _ = tower._get_feat_extract_output_lengths(mask.sum(-1))
        columns = (features.shape[-1] - 2) // 2 + 1
        attention_mask = create_bidirectional_mask(
            config=tower.config,
            inputs_embeds=torch.zeros(len(clips), columns, 1, dtype=features.dtype, device=features.device),
            attention_mask=(torch.arange(columns, device=features.device)[None] < lengths[:, None]).long(),
        )
        hidden = tower(features, attention_mask=attention_mask).last_hidden_state
        projected = model.model.multi_modal_projector(hidden)
        return [row[: clip.positions] for row, clip in zip(projected, clips, strict=True)]


class _Windowed(Family):
    """Families that cut a clip into windows of 30 s, each padded to its full length."""

    mask_name = "input_features_mask"

    def max_audio_seconds(self, processor: Any) -> float:
        return float(processor.max_audio_len)

    def _features(self, processor: Any, samples: np.ndarray) -> ClipFeatures:
        import torch

        output, _ = processor._process_audio([samples], **type(processor).audio_kwargs)
        return ClipFeatures(
            torch.as_tensor(output["input_features"]),
            torch.as_tensor(output["input_features_mask"]),
            int(output["num_audio_tokens"][0]),
        )


@register
class AudioFlamingo3(_Windowed):
    """Audio Flamingo 3."""

    name = "audioflamingo3"
    model_types = ("audioflamingo3",)
    model_class = "AudioFlamingo3ForConditionalGeneration"
    processor_class = "AudioFlamingo3Processor"
    layer_classes = ("Qwen2DecoderLayer", "AudioFlamingo3EncoderLayer")


@register
class MusicFlamingo(_Windowed):
    """Music Flamingo and Audio Flamingo Next: the encoder needs the position of the audio in the prompt."""

    name = "musicflamingo"
    model_types = ("musicflamingo",)
    model_class = "MusicFlamingoForConditionalGeneration"
    processor_class = "MusicFlamingoProcessor"
    layer_classes = ("Qwen2DecoderLayer", "AudioFlamingo3EncoderLayer")

    def placeholder(self, processor: Any, positions: int) -> str:
        return processor.replace_audio_token({"num_audio_tokens": [positions]}, 0)

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        """Encode one clip per pass: the encoder derives its times from the audio's position in the prompt."""
        import torch

        token, frames = model.config.audio_token_id, []
        for clip in clips:
            features, mask = self._inputs(model, [clip])
            ids = torch.full((1, clip.positions), token, device=features.device)
            frames.append(model.get_audio_features(features, mask, ids, return_dict=True).pooler_output)
        return frames


@register
class GlmAsr(_Windowed):
    """GLM-ASR."""

    name = "glmasr"
    model_types = ("glmasr",)
    model_class = "GlmAsrForConditionalGeneration"
    processor_class = "GlmAsrProcessor"
    frame_s = 0.08
    layer_classes = ("LlamaDecoderLayer", "GlmAsrEncoderLayer")


@register
class Voxtral(Family):
    """Voxtral: its prompt is assembled from token ids, since its tokenizer has no chat template."""

    name = "voxtral"
    model_types = ("voxtral",)
    model_class = "VoxtralForConditionalGeneration"
    processor_class = "VoxtralProcessor"
    frame_s = 0.08
    layer_classes = ("LlamaDecoderLayer", "VoxtralEncoderLayer")
    longest_s = 2400.0
    _COLUMNS = 3000  # of a window of 30 s

    def _features(self, processor: Any, samples: np.ndarray) -> ClipFeatures:
        import torch

        window = self._COLUMNS * processor.feature_extractor.hop_length
        options = {"sampling_rate": SAMPLE_RATE, "padding": True, "truncation": False, "pad_to_multiple_of": window}
        features = processor._retrieve_input_features([samples], self._COLUMNS, return_tensors="pt", **options)
        features = torch.as_tensor(features)
        mask = torch.ones(features.shape[0], features.shape[-1], dtype=torch.long)
        return ClipFeatures(features, mask, features.shape[0] * self._COLUMNS // 8)

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        features, _ = self._inputs(model, clips)
        return _split(model.get_audio_features(features, return_dict=True).pooler_output, clips)

    def render(self, processor: Any, messages: list[dict[str, Any]]) -> str:
        """Return the words alone; :meth:`prompt_ids` adds control tokens, which have no text in Mistral's tokenizer."""
        return "".join(part["text"] for part in messages[-1]["content"] if part["type"] == "text")

    def prompt_ids(self, processor: Any, text: str, positions: int) -> list[int]:
        """Return ``<s>[INST][BEGIN_AUDIO][AUDIO]..words[/INST]``, Voxtral's instruction format.

        Raises:
            EngineError: The tokenizer lacks one of these control tokens.
        """
        tokenizer = processor.tokenizer
        marks = [tokenizer.convert_tokens_to_ids(mark) for mark in ("<s>", "[INST]", "[BEGIN_AUDIO]", "[/INST]")]
        if None in marks or len(set(marks)) < len(marks):
            raise EngineError("this tokenizer lacks Voxtral's control tokens ([INST], [BEGIN_AUDIO], [/INST])")
        words = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        return [*marks[:3], *[processor.audio_token_id] * positions, *words, marks[3]]


@register
class GraniteSpeech(Family):
    """Granite Speech: features are frame-major, and logits are scaled."""

    name = "granite_speech"
    model_types = ("granite_speech",)
    model_class = "GraniteSpeechForConditionalGeneration"
    processor_class = "GraniteSpeechProcessor"
    frame_s = 0.1
    audio_modules = (".encoder.", ".projector.")
    lora_audio_layers = "to_q|to_kv|to_out|up_proj|down_proj"
    lora_audio_part = r"\.encoder\."
    layer_classes = ("GraniteDecoderLayer", "GraniteSpeechConformerBlock")
    longest_s = 600.0
    old_names = (*Family.old_names, (r"^(encoder|projector)\.", r"model.\1."))

    def audio_part(self, model: Any) -> Any:
        return model.model.encoder

    def audio_token(self, processor: Any) -> tuple[str, int]:
        return processor.audio_token, processor.tokenizer.convert_tokens_to_ids(processor.audio_token)

    def _features(self, processor: Any, samples: np.ndarray) -> ClipFeatures:
        import torch

        output = processor.audio_processor(torch.as_tensor(samples, dtype=torch.float32)[None], device="cpu")
        features = torch.as_tensor(output["input_features"])
        mask = torch.ones(features.shape[:2], dtype=torch.long)
        return ClipFeatures(features, mask, int(output["audio_embed_sizes"][0]))

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        """Encode one clip per pass, since the encoder attends to padding."""
        weight, frames = next(self.audio_part(model).parameters()), []
        for clip in clips:
            features = clip.features.to(weight.device, weight.dtype)
            frames.append(model.get_audio_features(features, return_dict=True).pooler_output[0, : clip.positions])
        return frames

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Scale the logits like Granite's text models; the stock speech class does not, and sampling needs it."""
        return super().logits(model, hidden) / getattr(model.config.get_text_config(), "logits_scaling", 1.0)


@register
class Phi4Multimodal(Family):
    """Phi-4 multimodal: the audio encoder is part of the text model's embeddings."""

    name = "phi4_multimodal"
    model_types = ("phi4_multimodal",)
    model_class = "Phi4MultimodalForCausalLM"
    processor_class = "Phi4MultimodalProcessor"
    unused_weights = (r"\.image_embed\.img_processor\.encoder\.layers\.",)
    frame_s = 0.08
    audio_modules = ("audio_embed",)
    lora_layers = "qkv_proj|o_proj|gate_up_proj|down_proj"
    lora_text_part = r"(.*\.)?model\.layers\.\d+\..*"
    lora_audio_layers = "q_proj|k_proj|v_proj|o_proj|gate_up_proj|down_proj"
    lora_audio_part = "audio_embed"
    layer_classes = ("Phi4MultimodalDecoderLayer", "Phi4MultimodalAudioConformerEncoderLayer")
    longest_s = 240.0
    old_names = ()

    def loaded_config(self, config: Any, *, vision: bool = False) -> Any:
        if not vision:
            config.vision_config.num_hidden_layers = 0
        config.audio_token_id = config.audio_config.audio_token_id
        return config

    def audio_part(self, model: Any) -> Any:
        return model.model.embed_tokens_extend.audio_embed

    def _features(self, processor: Any, samples: np.ndarray) -> ClipFeatures:
        import torch

        extractor = processor.audio_processor
        if len(samples) < extractor.win_length:
            return ClipFeatures(torch.zeros(1, 0, extractor.feature_size), torch.zeros(1, 0), 0)
        output = extractor([samples], sampling_rate=SAMPLE_RATE, return_tensors="pt")
        features = torch.as_tensor(output["audio_input_features"])
        mask = torch.ones(features.shape[:2], dtype=torch.long)
        return ClipFeatures(features, mask, int(output["audio_embed_sizes"][0]))

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        """Encode one clip per pass with the stock module, which substitutes frames for placeholders."""
        import torch

        part, frames = self.audio_part(model), []
        weight = next(part.parameters())
        for clip in clips:
            ids = torch.full((1, clip.positions), model.config.audio_token_id, device=weight.device)
            empty = torch.zeros(*ids.shape, model.config.hidden_size, dtype=weight.dtype, device=weight.device)
            frames.append(part(ids, empty, clip.features, [clip.positions])[0])
        return frames

    def max_positions(self, config: Any) -> int | None:
        """Return the positions of its short rotary embedding; beyond them the cache would have to be recomputed."""
        return config.original_max_position_embeddings


class _Gemma(Family):
    """Gemma: every layer has its own embedding of the token, and most layers attend in a sliding window."""

    mask_name = "input_features_mask"
    audio_modules = ("audio_tower", "embed_audio")
    longest_s = 30.0

    def prompt_ids(self, processor: Any, text: str, positions: int) -> list[int]:
        """Tokenize a rendered chat as :meth:`Family.prompt_ids`; its template writes the token that begins a text."""
        token, _ = self.audio_token(processor)
        expanded = text.replace(token, self.placeholder(processor, positions), 1)
        return list(processor.tokenizer(expanded, add_special_tokens=False)["input_ids"])

    def _features(self, processor: Any, samples: np.ndarray) -> ClipFeatures:
        import torch

        extractor = processor.feature_extractor
        if len(samples) <= extractor.frame_length:
            return ClipFeatures(torch.zeros(1, 0, extractor.feature_size), torch.zeros(1, 0, dtype=torch.bool), 0)
        output = extractor([samples], return_tensors="pt")
        mask = torch.as_tensor(output["input_features_mask"])
        return ClipFeatures(torch.as_tensor(output["input_features"]), mask, self._count(processor, mask[0]))

    def _count(self, processor: Any, mask: torch.Tensor) -> int:
        """Return the number of positions of a clip, from the mask of its columns (T,)."""
        raise NotImplementedError

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Cap the logits softly, as the stock class does."""
        logits, cap = super().logits(model, hidden), model.config.get_text_config().final_logit_softcapping
        return logits if cap is None else (logits / cap).tanh() * cap


@register
class Gemma3n(_Gemma):
    """Gemma 3n: a clip always takes the positions of 30 s; token ids above those of text have a table of their own."""

    name = "gemma3n"
    model_types = ("gemma3n",)
    model_class = "Gemma3nForConditionalGeneration"
    processor_class = "Gemma3nProcessor"
    unused_weights = (r"(^|\.)vision_tower\.",)
    frame_s = 0.16
    lora_audio_layers = "q_proj|k_proj|v_proj|post|ffw_layer_1|ffw_layer_2|linear_start|linear_end"
    layer_classes = ("Gemma3nTextDecoderLayer", "Gemma3nAudioConformerBlock")

    def loaded_config(self, config: Any, *, vision: bool = False) -> Any:
        if not vision:
            from mpar2.engines.no_vision import NoVisionConfig

            sizes = ("hidden_size", "vocab_size", "vocab_offset", "rms_norm_eps")
            config.vision_config = NoVisionConfig(**{name: getattr(config.vision_config, name) for name in sizes})
        return config

    def load_processor(self, source: Path | str) -> Any:
        from mpar2.engines.processor import Gemma3nAudioProcessor

        return Gemma3nAudioProcessor.from_pretrained(source)

    def placeholder(self, processor: Any, positions: int) -> str:
        return f"\n\n{processor.boa_token}{processor.audio_token * positions}{processor.eoa_token}\n\n"

    def _count(self, processor: Any, mask: torch.Tensor) -> int:
        return processor.audio_seq_length

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        """Encode one clip per pass, and fill the positions that it leaves with the padding of the stock class."""
        import torch

        weight, core, frames = next(self.audio_part(model).parameters()), model.model, []
        last = torch.tensor([[core.vocab_size - 1]], device=weight.device)
        padding = core.embed_audio(input_ids=last)[0]
        for clip in clips:
            features, beyond = clip.features.to(weight.device, weight.dtype), ~clip.mask.to(weight.device)
            output = core.get_audio_features(features, beyond, return_dict=True)
            heard = torch.where(output.audio_mel_mask[0, :, None], padding, output.pooler_output[0])
            frames.append(torch.cat([heard, padding.expand(clip.positions - len(heard), -1)]))
        return frames

    def embed(self, model: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Embed text, and the marks of audio, whose ids lie above those of text and images."""
        import torch

        core = model.model
        offset = core.embed_audio.vocab_offset
        marks = core.embed_audio(input_ids=ids.clamp(min=offset))
        embeds = torch.where((ids >= offset)[..., None], marks, model.get_input_embeddings()(ids))
        return {"inputs_embeds": embeds, "per_layer_inputs": core.language_model.get_per_layer_inputs(ids)}


@register
class Gemma4(_Gemma):
    """Gemma 4, in the sizes that hear."""

    name = "gemma4"
    model_types = ("gemma4",)
    model_class = "Gemma4ForConditionalGeneration"
    processor_class = "Gemma4Processor"
    unused_weights = (r"(^|\.)(vision_tower|embed_vision)\.",)
    attention: ClassVar[dict[str, str]] = {"": "sdpa", "audio_config": "eager"}  # the encoder has no other
    lora_audio_layers = r"(?:q_proj|k_proj|v_proj|post|ffw_layer_1|ffw_layer_2|linear_start|linear_end)\.linear"
    layer_classes = ("Gemma4TextDecoderLayer", "Gemma4AudioLayer")

    def loaded_config(self, config: Any, *, vision: bool = False) -> Any:
        if config.audio_config is None:
            raise EngineError("this size of Gemma 4 has no audio encoder: use one that hears, such as E2B or E4B")
        if not vision:
            config.vision_config = None
        return config

    def load_processor(self, source: Path | str) -> Any:
        from mpar2.engines.processor import Gemma4AudioProcessor

        return Gemma4AudioProcessor.from_pretrained(source)

    def placeholder(self, processor: Any, positions: int) -> str:
        return f"{processor.boa_token}{processor.audio_token * positions}{processor.eoa_token}"

    def _count(self, processor: Any, mask: torch.Tensor) -> int:
        return int(mask[::4].sum())  # two convolutions, each with a stride of two

    def _encode_together(self, model: Any, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
        """Encode one clip per pass."""
        weight, frames = next(self.audio_part(model).parameters()), []
        for clip in clips:
            features, mask = clip.features.to(weight.device, weight.dtype), clip.mask.to(weight.device)
            output = model.model.get_audio_features(features, mask, return_dict=True)
            frames.append(output.pooler_output[output.attention_mask])
        return frames

    def embed(self, model: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        inputs, text = super().embed(model, ids), model.model.language_model
        if text.config.hidden_size_per_layer_input:
            inputs["per_layer_inputs"] = text.get_per_layer_inputs(ids)
        return inputs


def _split(frames: torch.Tensor, clips: Sequence[ClipFeatures]) -> list[torch.Tensor]:
    """Split frames (sum of positions, hidden), with any leading shape, by clip."""
    return list(frames.reshape(-1, frames.shape[-1]).split([clip.positions for clip in clips]))
