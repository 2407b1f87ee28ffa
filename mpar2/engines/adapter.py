"""LoRA adapters: found, checked against the model, attached to it.

PEFT loads what fits and warns about the rest, so an adapter of another model can pass for one that does nothing. Here
every weight of the file must have a layer of its size, and every layer that the configuration promises must be filled.
Weights are read from safetensors only: ``.bin`` files are pickles, which run code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpar2.engines.base import EngineError
from mpar2.engines.names import adapter_config, first_line, resolve

if TYPE_CHECKING:
    from mpar2.engines.checkpoint import Checkpoint

__all__ = ["Adapter", "adapter_folder", "attach_adapter"]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter that is attached to a checkpoint. ``key`` is its name inside PEFT."""

    key: str
    source: str
    modifies_audio_encoder: bool  # it changes the audio encoder, so two arms cannot share what the encoder heard
    batchable: bool  # it can run in one batch with other adapters and with the bare base
    warnings: tuple[str, ...] = ()


def adapter_folder(adapter: str) -> Path:
    """The folder of an adapter, fetched from the hub where need be."""
    where = resolve(adapter)
    if isinstance(where, str):
        from huggingface_hub import snapshot_download

        try:
            where = Path(snapshot_download(where, allow_patterns=["adapter_config.json", "adapter_model.safetensors"]))
        except Exception as error:
            raise EngineError(f"the adapter '{adapter}' cannot be fetched: {first_line(error)}") from error
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (where / file).exists():
            raise EngineError(
                f"the adapter '{adapter}' holds no {file}: give a folder as PEFT's save_pretrained writes it"
            )
    return where


def attach_adapter(checkpoint: Checkpoint, folder: Path, name: str, key: str) -> Adapter:
    """Attach the adapter in ``folder`` under PEFT's name ``key``; ``name`` is what messages call it."""
    from peft import PeftModel, get_peft_model_state_dict

    config = adapter_config(folder)
    if config.get("peft_type") != "LORA":
        raise EngineError(
            f"the adapter '{name}' is of type {config.get('peft_type')}; only LoRA adapters are supported"
        )
    shapes = _adapter_shapes(folder, name)
    _check_fit(checkpoint, shapes, name)
    try:
        if checkpoint.peft is None:
            checkpoint.peft = PeftModel.from_pretrained(checkpoint.model, folder, adapter_name=key)
        else:
            checkpoint.peft.load_adapter(folder, key)
    except Exception as error:
        checkpoint.damaged = True  # some layers may be changed already
        raise EngineError(f"the adapter '{name}' does not fit '{checkpoint.name}': {first_line(error)}") from error
    checkpoint.peft.eval()
    checkpoint.peft.to(checkpoint.device)
    loaded = get_peft_model_state_dict(checkpoint.peft, adapter_name=key, save_embedding_layers=False)
    if missing := sorted(set(loaded) - set(shapes)):
        checkpoint.peft.delete_adapter(key)
        raise EngineError(
            f"the adapter '{name}' lacks {len(missing)} of the weights that its configuration promises, such as "
            f"{missing[0]}: it was saved from another version of the model, or is incomplete"
        )
    warnings = []
    trained_on = str(config.get("base_model_name_or_path") or "")
    if trained_on and Path(trained_on).name != Path(checkpoint.name).name:
        warnings.append(f"the adapter '{name}' was trained on '{trained_on}', and runs here on '{checkpoint.name}'")
    return Adapter(
        key=key,
        source=str(folder),
        modifies_audio_encoder=any("audio_tower" in k or "multi_modal_projector" in k for k in shapes),
        batchable=_is_plain(checkpoint, config, shapes, key),
        warnings=tuple(warnings),
    )


def _is_plain(checkpoint: Checkpoint, config: dict[str, Any], shapes: dict[str, list[int]], key: str) -> bool:
    """Plain LoRA on linear layers, and nothing else: what the engine can add to some rows of a batch."""
    from torch.nn import Linear

    if config.get("bias", "none") != "none" or config.get("target_parameters") or config.get("layer_replication"):
        return False
    layers = [m for m in checkpoint.peft.modules() if key in getattr(m, "lora_A", ())]
    simple = all(type(m.lora_A[key]) is Linear and key not in m.lora_variant for m in layers)
    return simple and all(".lora_A." in name or ".lora_B." in name for name in shapes)


def _adapter_shapes(folder: Path, name: str) -> dict[str, list[int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise EngineError(
            f"the weights of the adapter '{name}' are not readable ({first_line(error)}): fetch or save it again"
        ) from error


def _check_fit(checkpoint: Checkpoint, shapes: dict[str, list[int]], name: str) -> None:
    """Every LoRA pair must have a layer of its size: PEFT alone would leave the rest out with a warning."""
    base = checkpoint.peft.get_base_model() if checkpoint.peft is not None else checkpoint.model
    modules = dict(base.named_modules())
    pairs = [(key, *key.removeprefix("base_model.model.").split(".lora_", 1)) for key in shapes if ".lora_" in key]
    if not pairs:
        raise EngineError(f"the adapter '{name}' holds no LoRA weights")
    unknown = [key for key, path, _ in pairs if path not in modules]
    if unknown:
        raise EngineError(
            f"{len(unknown)} of {len(pairs)} weights of the adapter '{name}' have no place in '{checkpoint.name}', "
            f"such as {unknown[0]}: the adapter belongs to another model, or to another version of transformers"
        )
    for key, path, side in pairs:
        layer = modules[path]
        sizes = {"A": ("in_features", 1), "B": ("out_features", 0)}.get(side[0])
        if sizes is None or not hasattr(layer, sizes[0]) or len(shapes[key]) != 2:
            continue
        if (wanted := getattr(layer, sizes[0])) != (got := shapes[key][sizes[1]]):
            raise EngineError(
                f"the adapter '{name}' has size {got} at {path}, where '{checkpoint.name}' has {wanted}: it belongs to "
                "another model"
            )
