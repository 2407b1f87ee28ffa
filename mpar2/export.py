"""Export a checkpoint with its adapter in the layouts of other programs.

===========  =========================================================================================================
``thinker``  the model as this project loads it, with the adapter merged: transformers, this project
``whole``    the layout of a whole-Omni repository (``thinker.`` before every name, no talker): vLLM, SGLang, ms-swift
``adapter``  the adapter alone, with the layer names of a whole model that servers and ms-swift use
``gguf``     llama.cpp's text model and audio projector, by llama.cpp's own converter
===========  =========================================================================================================

Output is written atomically: a temporary folder beside OUT is filled and renamed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from mpar2.engines.base import EngineError
from mpar2.engines.names import adapter_config, split_adapter

__all__ = ["FORMS", "export_checkpoint"]

Form = Literal["whole", "thinker", "adapter", "gguf"]
FORMS: tuple[Form, ...] = ("whole", "thinker", "adapter", "gguf")
_WHOLE = {  # family -> (architecture, model type) of the whole repository
    "qwen2_5_omni": ("Qwen2_5OmniModel", "qwen2_5_omni"),
    "qwen3_omni_moe": ("Qwen3OmniMoeForConditionalGeneration", "qwen3_omni_moe"),
}
_SHARD = "4GB"


def export_checkpoint(
    model: str,
    out: Path,
    form: Form,
    *,
    adapter: str | None = None,
    dtype: str | None = None,
    llama_cpp: Path | None = None,
) -> Path:
    """Write ``model`` with ``adapter`` to the new folder ``out``.

    Args:
        model: Short name, folder or hub id.
        out: A folder that does not exist yet, or is empty.
        form: One of the layouts above.
        adapter: A LoRA adapter; merged, except for ``adapter``.
        dtype: Precision of the written weights; None: that of the checkpoint.
        llama_cpp: For ``gguf``, llama.cpp's source folder, which holds convert_hf_to_gguf.py.

    Raises:
        EngineError: The folder is not empty, the form does not fit the model, or the converter fails.
    """
    # Check as much as possible before loading the model.
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EngineError(f"'{out}' is there already: give a new folder")
    model, adapter = split_adapter(model, adapter)
    if form == "gguf" and (llama_cpp is None or not (llama_cpp / "convert_hf_to_gguf.py").is_file()):
        raise EngineError("--as gguf needs llama.cpp's source: give --llama-cpp DIR, which holds convert_hf_to_gguf.py")
    # Write to a temporary folder, and rename it when complete.
    with _new_folder(out) as part:
        if form == "adapter":
            _write_adapter(model, adapter, part)
        elif form == "gguf":
            assert llama_cpp is not None
            whole = part / "whole"
            _write_model(model, adapter, whole, "whole", dtype)
            _convert(llama_cpp, whole, part)
            shutil.rmtree(whole)
        else:
            _write_model(model, adapter, part, form, dtype)
    return out


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_model(model: str, adapter: str | None, folder: Path, form: Form, dtype: str | None) -> None:
    from mpar2.engines.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(model, device="cpu", dtype=dtype or _stored_dtype(model), vision=True)
    if form == "whole" and checkpoint.family.name not in _WHOLE:
        raise EngineError(
            f"'{model}' is of the family {checkpoint.family.name}, whose repositories hold one model: use --as thinker"
        )
    if checkpoint.quantized:
        raise EngineError(f"'{model}' is quantised: merge into the plain checkpoint, and quantise the result")
    network = checkpoint.model
    if adapter is not None:
        from mpar2.engines.adapter import adapter_folder, attach_adapter

        attach_adapter(checkpoint, adapter_folder(adapter), adapter, "exported", alone=True)
        network = checkpoint.peft.merge_and_unload()
    network.save_pretrained(folder, max_shard_size=_SHARD)
    checkpoint.processor.save_pretrained(folder)
    if checkpoint.family.name in _WHOLE:
        _set_prefix(folder, "thinker." if form == "whole" else "")
    if form == "whole":
        _write_whole_config(folder, *_WHOLE[checkpoint.family.name])


def _stored_dtype(model: str) -> str:
    """Return the precision of the checkpoint's files from its configuration."""
    from transformers import AutoConfig

    from mpar2.engines.names import resolve

    config = AutoConfig.from_pretrained(resolve(model))
    config = getattr(config, "thinker_config", config)
    return str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")


def _set_prefix(folder: Path, prefix: str) -> None:
    """Prefix every weight's name with ``prefix``. transformers saves a Thinker under the names it was read from."""
    from safetensors.torch import load_file, save_file

    def renamed(values: dict[str, Any]) -> dict[str, Any]:
        return {prefix + name.removeprefix("thinker."): value for name, value in values.items()}

    for file in sorted(folder.glob("*.safetensors")):
        save_file(renamed(load_file(file)), file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    if index.exists():
        content = json.loads(index.read_text())
        content["weight_map"] = renamed(content["weight_map"])
        index.write_text(json.dumps(content, indent=1))


def _write_whole_config(folder: Path, architecture: str, model_type: str) -> None:
    """Convert a Thinker's configuration to that of a whole repository without a talker."""
    thinker = json.loads((folder / "config.json").read_text())
    text = thinker["text_config"]
    rope = text.get("rope_parameters") or {}
    if rope:  # for programs written before transformers 5
        text["rope_theta"] = rope.get("rope_theta", 1_000_000.0)
        text["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"} | {"type": "default"}
    whole = {"architectures": [architecture], "model_type": model_type, "enable_audio_output": False}
    whole |= {"thinker_config": thinker, "torch_dtype": thinker.get("dtype")}
    (folder / "config.json").write_text(json.dumps(whole, indent=1))


def _write_adapter(model: str, adapter: str | None, folder: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig

    from mpar2.engines.adapter import adapter_folder
    from mpar2.engines.families import family_of
    from mpar2.engines.names import resolve

    if adapter is None:
        raise EngineError("--as adapter needs an adapter: give --adapter, or a model that is one")
    family = family_of(AutoConfig.from_pretrained(resolve(model)).model_type, model)
    source, prefix = adapter_folder(adapter), "base_model.model."
    served = family.older_names()[-2 if family.name in _WHOLE else -1]
    tensors = load_file(source / "adapter_model.safetensors")
    renamed = {
        prefix + served(family.current_name(name.removeprefix(prefix))): value for name, value in tensors.items()
    }
    save_file(renamed, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = adapter_config(source)
    layers = {re.split(r"\.lora_", name)[0].rpartition(".")[2] for name in renamed if ".lora_" in name}
    config |= {"target_modules": sorted(layers), "base_model_name_or_path": model}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))


def _convert(llama_cpp: Path, whole: Path, out: Path) -> None:
    """Run llama.cpp's converter, once for the text model and once for the audio projector."""
    for name, options in (("model.gguf", []), ("mmproj.gguf", ["--mmproj"])):
        command = [sys.executable, "-m", "mpar2.gguf_converter", str(llama_cpp.resolve()), str(whole.resolve())]
        command += ["--outfile", str((out / name).resolve()), *options]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode or not (out / name).exists():
            last = (result.stderr.strip() or result.stdout.strip() or "no message").splitlines()[-1]
            raise EngineError(f"llama.cpp's converter failed for {name}: {last[:300]}")
