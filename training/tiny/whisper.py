"""Start the audio tower from a pretrained Whisper encoder (OpenAI, MIT) in CTranslate2's file format.

CTranslate2 ``model.bin``, version 6, is a sequence of names and little-endian tensors. The linear layers of one
attention block are stored together (q, k, v; Whisper's k has no bias). Qwen2.5-Omni's audio tower has Whisper's layout.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch

__all__ = ["read_ctranslate2", "whisper_encoder_state"]

_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Return all tensors of a CTranslate2 model file, by name.

    Raises:
        ValueError: The file has another version.
    """
    tensors = {}
    with open(path, "rb") as file:

        def number(code: str) -> int:
            return struct.unpack(f"<{code}", file.read(struct.calcsize(code)))[0]

        def string() -> str:
            return file.read(number("H"))[:-1].decode()

        version = number("I")
        if version != 6:
            raise ValueError(f"CTranslate2 file version {version}; this reader knows version 6")
        string(), number("I")
        for _ in range(number("I")):
            name = string()
            shape = [number("I") for _ in range(number("B"))]
            dtype = _DTYPES[number("B")]
            tensors[name] = np.frombuffer(file.read(number("I")), dtype).reshape(shape)
    return tensors


def whisper_encoder_state(path: Path) -> dict[str, torch.Tensor]:
    """Return a state dict for ``Qwen2_5OmniAudioEncoder``, without its projection and its own special embeddings.

    Args:
        path: CTranslate2 file of a Whisper.
    """
    source = read_ctranslate2(path)
    state: dict[str, torch.Tensor] = {}

    def put(name: str, array: np.ndarray) -> None:
        state[name] = torch.from_numpy(array.astype(np.float32))

    for conv in ("conv1", "conv2"):
        put(f"{conv}.weight", source[f"encoder/{conv}/weight"])
        put(f"{conv}.bias", source[f"encoder/{conv}/bias"])
    put("ln_post.weight", source["encoder/layer_norm/gamma"])
    put("ln_post.bias", source["encoder/layer_norm/beta"])
    layer = 0
    while f"encoder/layer_{layer}/ffn/linear_0/weight" in source:
        old, new = f"encoder/layer_{layer}", f"layers.{layer}"
        weights = np.split(source[f"{old}/self_attention/linear_0/weight"], 3)
        biases = np.split(source[f"{old}/self_attention/linear_0/bias"], 3)
        for name, weight, bias in zip(("q_proj", "k_proj", "v_proj"), weights, biases, strict=True):
            put(f"{new}.self_attn.{name}.weight", weight)
            if name != "k_proj":
                put(f"{new}.self_attn.{name}.bias", bias)
        put(f"{new}.self_attn.out_proj.weight", source[f"{old}/self_attention/linear_1/weight"])
        put(f"{new}.self_attn.out_proj.bias", source[f"{old}/self_attention/linear_1/bias"])
        for norm, origin in (("self_attn_layer_norm", "self_attention"), ("final_layer_norm", "ffn")):
            put(f"{new}.{norm}.weight", source[f"{old}/{origin}/layer_norm/gamma"])
            put(f"{new}.{norm}.bias", source[f"{old}/{origin}/layer_norm/beta"])
        for i in (0, 1):
            put(f"{new}.fc{i + 1}.weight", source[f"{old}/ffn/linear_{i}/weight"])
            put(f"{new}.fc{i + 1}.bias", source[f"{old}/ffn/linear_{i}/bias"])
        layer += 1
    return state
