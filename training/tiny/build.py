"""A checkpoint of the real classes at a small size, with random weights: the starting point of the tiny pair.

``build_checkpoint`` writes what ``save_pretrained`` of Qwen2.5-Omni's Thinker writes: model, tokenizer (a byte-level
BPE in Qwen's class with Qwen2.5-Omni's special tokens), feature extractor, chat template, generation defaults. Loaders
accept the folder like any other checkpoint.

Differences from Qwen2.5-Omni, besides size:

* the tags of an MPAR² trace and of an R1 trace are one token each. They are *not* special tokens, so decoding keeps
  them;
* rotary base 1e4 (contexts here are short), tied embeddings, 80 mel bands (the layout of a Whisper encoder);
* the vision tower is as small as its class allows. The class requires one, but it is never run.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "CHAT_TEMPLATE",
    "SMALL",
    "SPECIAL_TOKENS",
    "TRACE_TAGS",
    "build_checkpoint",
    "build_tokenizer",
    "look_back",
    "special_ids",
]

SPECIAL_TOKENS = (  # Qwen2.5-Omni's, in its order
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_bos|>",
    "<|vision_eos|>",
    "<|vision_pad|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
)
_NAMED_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
TRACE_TAGS = tuple(
    f"<{slash}{kind}>"
    for kind in ("perception", "step", "ask", "hear", "infer", "review", "answer", "think")
    for slash in ("", "/")
)

# Qwen2.5-Omni's conversation format for audio and text, with generation tags that mark the assistant's tokens.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{%- if loop.first and message.role != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- for part in message.content if part.text is defined %}
{{- part.text }}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{%- if message.content is string %}
{{- message.content }}
{%- else %}
{%- set clips = namespace(count=0) %}
{%- for part in message.content %}
{%- if part.type == 'audio' or 'audio' in part or 'audio_url' in part %}
{%- set clips.count = clips.count + 1 %}
{%- if add_audio_id %}
{{- 'Audio ' + clips.count|string + ': ' }}
{%- endif %}
{{- '<|audio_bos|><|AUDIO|><|audio_eos|>' }}
{%- elif 'text' in part %}
{{- part.text }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_TEXT = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 640,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [8, 12, 12]},
}
_AUDIO = {  # Whisper tiny's layout, so that its encoder weights fit, and one more layer
    "num_mel_bins": 80,
    "d_model": 384,
    "encoder_layers": 5,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "max_source_positions": 1500,
    "n_window": 500,
}
_VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 1,
    "patch_size": 2,
    "window_size": 8,
    "fullatt_block_indexes": [0],
}
SMALL: dict[str, dict[str, Any]] = {  # for tests: builds in about a second
    "text": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
    },
    "audio": {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64},
}


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Return the ids by which a Thinker's configuration names its special tokens.

    Args:
        tokenizer: A tokenizer that contains :data:`SPECIAL_TOKENS`.

    Returns:
        Fields of ``Qwen2_5OmniThinkerConfig``.
    """
    ids = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), strict=True))
    return {
        "audio_token_index": ids["<|AUDIO|>"],
        "image_token_index": ids["<|IMAGE|>"],
        "video_token_index": ids["<|VIDEO|>"],
        "audio_start_token_id": ids["<|audio_bos|>"],
        "audio_end_token_id": ids["<|audio_eos|>"],
        "vision_start_token_id": ids["<|vision_bos|>"],
        "vision_end_token_id": ids["<|vision_eos|>"],
        "user_token_id": tokenizer("user").input_ids[0],
    }


def build_checkpoint(
    folder: Path | str,
    corpus: Iterable[str],
    *,
    vocab_size: int = 3072,
    text: Mapping[str, Any] | None = None,
    audio: Mapping[str, Any] | None = None,
    small: bool = False,
    seed: int = 0,
) -> Path:
    """Write a random-weight Thinker with a tokenizer trained on a corpus. Equal arguments give equal files.

    Args:
        folder: Output folder.
        corpus: Texts; where they do not yield ``vocab_size`` tokens, the vocabulary is smaller.
        vocab_size: Tokens of the vocabulary.
        text: Fields of ``Qwen2_5OmniTextConfig`` to set.
        audio: Fields of ``Qwen2_5OmniAudioEncoderConfig`` to set.
        small: Start from :data:`SMALL` instead of the shipped size.
        seed: Seed of the weights.

    Returns:
        The folder.
    """
    import torch
    from transformers import (
        GenerationConfig,
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    from mpar2.engines.processor import AudioProcessor

    folder = Path(folder)
    tokenizer = build_tokenizer(corpus, vocab_size)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    end_ids = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"], "bos_token_id": None}
    # The caller's fields override those of the size; the audio output must have the text model's width.
    size = SMALL if small else {"text": {}, "audio": {}}
    text_fields = {**_TEXT, **size["text"], **(text or {})}
    audio_fields = {**_AUDIO, **size["audio"], **(audio or {}), "output_dim": text_fields["hidden_size"]}
    config = Qwen2_5OmniThinkerConfig(
        text_config={**text_fields, "vocab_size": len(tokenizer), "tie_word_embeddings": True, **end_ids},
        audio_config=audio_fields,
        vision_config={**_VISION, "out_hidden_size": text_fields["hidden_size"]},
        tie_word_embeddings=True,
        **special_ids(tokenizer),
        **end_ids,
    )
    # The caller's random state is restored, so that building a checkpoint does not change later draws.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
        pad_token_id=ids["<|endoftext|>"],
    )
    extractor = WhisperFeatureExtractor(
        feature_size=audio_fields["num_mel_bins"],
        chunk_length=30,
        n_fft=400,
        hop_length=160,
        return_attention_mask=True,
    )
    model.save_pretrained(folder)
    AudioProcessor(extractor, tokenizer, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    return folder


_SHARPNESS, _FREQUENCIES = 4.0, 10  # of the previous-token heads (``look_back``)


def look_back(language_model: Any) -> None:
    """Initialise head h of the first layer to attend h + 1 tokens back, by position alone.

    Copying (induction: Olsson et al. 2022, "In-context Learning and Induction Heads") needs heads that attend to the
    preceding tokens. From random weights a model of this size did not learn them in an hour of training; with this
    initialisation it copies after a minute. The rotary phase is put into the biases of query and key. With a key of
    ones at the 10 fastest rotary frequencies f and a query of ones rotated by d tokens, the score of a token n back is
    4 times the sum of cos((n - d) f), which is highest at n = d.

    Args:
        language_model: The text model, changed in place.
    """
    import torch

    attention = language_model.layers[0].self_attn
    size = attention.head_dim
    fastest = language_model.rotary_emb.inv_freq[:_FREQUENCIES]
    key = torch.zeros(2, size // 2)  # the two halves that rotate_half pairs
    key[0, : len(fastest)] = (_SHARPNESS / attention.scaling) ** 0.5
    with torch.no_grad():
        attention.k_proj.bias.copy_(key.flatten().repeat(attention.k_proj.out_features // size))
        for head, bias in enumerate(attention.q_proj.bias.view(-1, 2, size // 2), start=1):
            phase = fastest * head
            bias[0, : len(fastest)] = phase.cos() * key[0, : len(fastest)]
            bias[1, : len(fastest)] = -phase.sin() * key[0, : len(fastest)]


def build_tokenizer(corpus: Iterable[str], vocab_size: int = 3072) -> Any:
    """Train a byte-level BPE in Qwen's class.

    Args:
        corpus: Texts.
        vocab_size: Tokens of the vocabulary, including Qwen's special tokens and the trace tags.

    Returns:
        A ``Qwen2TokenizerFast``.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    # An untrained tokenizer of the class has the class's own normalizer and pre-tokenizer.
    template = Qwen2TokenizerFast()._tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.pre_tokenizer = template.normalizer, template.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS) - len(TRACE_TAGS),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_without_tags(corpus), trainer)
    bpe_state = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2TokenizerFast(
        vocab=bpe_state["vocab"],
        merges=[tuple(pair) for pair in bpe_state["merges"]],
        unk_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=dict(_NAMED_TOKENS),
        model_max_length=32768,
        padding_side="left",
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TRACE_TAGS])
    return tokenizer


_TAGS = re.compile("|".join(map(re.escape, (*SPECIAL_TOKENS, *TRACE_TAGS))))


def _without_tags(corpus: Iterable[str]) -> Iterator[str]:
    """Yield the corpus without tags: they are tokens of their own, so merges over their letters would be wasted."""
    for line in corpus:
        yield from (piece for piece in _TAGS.split(line) if piece)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write a random-weight checkpoint of the tiny size.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("corpus", type=Path, nargs="+", help="text files to train the tokenizer on")
    parser.add_argument("--vocab-size", type=int, default=3072)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = (line for path in options.corpus for line in path.read_text(encoding="utf-8").splitlines(keepends=True))
    build_checkpoint(options.folder, lines, vocab_size=options.vocab_size, seed=options.seed)


if __name__ == "__main__":
    _main()
