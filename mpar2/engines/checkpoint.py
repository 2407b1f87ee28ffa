"""From a name to a loaded model: where checkpoints are found, which class runs them, and how adapters are attached.

A name is a short name of the shipped pair (``tiny-base``, ``tiny-mpar2``), a folder, or a hub id (``owner/name``).
A folder or repository that holds only an adapter names its base itself, so ``tiny-mpar2`` alone is enough.

The class follows ``model_type`` of config.json:

===========================  ==============================================================
``qwen2_5_omni``             the whole of Qwen2.5-Omni: its Thinker is loaded, the talker is not
``qwen2_5_omni_thinker``     a Thinker alone (what training saves, and the tiny checkpoints)
``qwen2_audio``              Qwen2-Audio, which hears 30 s
===========================  ==============================================================

Nothing fails silently: weights missing from the files, adapters whose keys or shapes do not fit, and pickled weights
(``.bin``) are errors. Precision: bfloat16 on CUDA, float16 on MPS, float32 on CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpar2.engines.adapter import Adapter, adapter_folder, attach_adapter
from mpar2.engines.base import EngineError
from mpar2.engines.names import CHECKPOINTS, first_line, resolve, split_adapter

if TYPE_CHECKING:
    import torch

__all__ = ["CHECKPOINTS", "Adapter", "Checkpoint", "load_checkpoint", "load_processor", "resolve", "split_adapter"]

_MAX_ADAPTERS = 8  # attached to one base at a time

Family = Literal["qwen2_5_omni", "qwen2_audio"]


@dataclass(eq=False)
class Checkpoint:
    """A model in memory. ``model`` is the instance of the transformers class, adapters injected in place."""

    name: str
    model: Any
    processor: Any
    family: Family
    device: torch.device
    dtype: torch.dtype
    max_audio_seconds: float  # longest audio that the model hears; the rest is cut off
    adapters: dict[str, Adapter] = field(default_factory=dict)
    peft: Any = None  # peft.PeftModel once an adapter is attached
    damaged: bool = False  # attaching failed half-way: load it anew
    _attached: int = 0

    def attach(self, adapter: str) -> Adapter:
        """Attach a LoRA adapter (short name, folder or hub id), or return it if it is attached already."""
        folder = adapter_folder(adapter)
        source = str(folder)
        if source in self.adapters:
            return self.adapters[source]
        if len(self.adapters) >= _MAX_ADAPTERS:
            oldest = self.adapters.pop(next(iter(self.adapters)))
            self.peft.delete_adapter(oldest.key)
        self._attached += 1
        info = attach_adapter(self, folder, adapter, f"adapter{self._attached}")
        self.adapters[source] = info
        return info

    def use(self, adapter: Adapter | None) -> None:
        """Make every row run with ``adapter``, or with the bare base."""
        if self.peft is None:
            return
        if adapter is None:
            self.peft.base_model.disable_adapter_layers()
        else:
            self.peft.base_model.enable_adapter_layers()
            self.peft.set_adapter(adapter.key)


def load_checkpoint(
    model: str,
    adapter: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Checkpoint:
    """Load a model with its processor, in evaluation mode; with ``adapter``, attached and in use."""
    model, adapter = split_adapter(model, adapter)
    source = resolve(model)
    if isinstance(source, Path) and not (source / "config.json").exists():
        raise EngineError(f"'{source}' holds no config.json: give a folder as save_pretrained writes it")
    device = _device(device)
    dtype = _dtype(dtype, device)
    name = model if source != Path(model) else source.resolve().name
    network, family = _load_network(source, device, dtype)
    processor = load_processor(model, family)
    wanted = network.config.audio_token_id
    if processor.audio_token_id != wanted:  # a tokenizer whose files are missing loads as an empty one
        raise EngineError(
            f"the processor of '{model}' writes audio as token {processor.audio_token_id}, its model reads {wanted}: "
            "the tokenizer's files are missing or belong to another model"
        )
    extractor = processor.feature_extractor
    checkpoint = Checkpoint(
        name=name,
        model=network,
        processor=processor,
        family=family,
        device=device,
        dtype=dtype,
        max_audio_seconds=extractor.n_samples / extractor.sampling_rate,
    )
    if adapter is not None:
        checkpoint.use(checkpoint.attach(adapter))
    return checkpoint


def load_processor(model: str, family: Family | None = None) -> Any:
    """The processor of a checkpoint: clips and chat messages to the model's inputs."""
    source = resolve(model)
    family = family or _family(_read_config(source).model_type, source)
    try:
        if family == "qwen2_audio":
            from transformers import Qwen2AudioProcessor

            return Qwen2AudioProcessor.from_pretrained(source)
        from mpar2.engines.processor import AudioProcessor

        return AudioProcessor.from_pretrained(source)
    except Exception as error:  # transformers raises anything from OSError to AttributeError here
        raise EngineError(
            f"the processor of '{model}' cannot be loaded ({first_line(error)}): it needs preprocessor_config.json or "
            "processor_config.json, and the tokenizer's files"
        ) from error


def _load_network(source: Path | str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Family]:
    import transformers

    config = _read_config(source)
    family = _family(config.model_type, source)
    if config.model_type == "qwen2_5_omni":
        config = config.thinker_config
    kinds = {
        "qwen2_5_omni": transformers.Qwen2_5OmniThinkerForConditionalGeneration,
        "qwen2_audio": transformers.Qwen2AudioForConditionalGeneration,
    }
    try:
        network, info = kinds[family].from_pretrained(
            source,
            config=config,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # SafetensorError, OSError, ValueError, RuntimeError: all mean unreadable weights
        raise EngineError(
            f"the weights of '{source}' cannot be loaded ({first_line(error)}): the files are missing, cut short, or "
            "not safetensors; fetch or save the checkpoint again"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise EngineError(
            f"the checkpoint '{source}' lacks {len(missing)} weights of its own model, such as {missing[0]}: "
            "its config.json and its weights do not belong together"
        )
    return network.to(device).eval(), family  # not by device_map: hosted GPUs replace .to


def _read_config(source: Path | str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source)
    except Exception as error:
        kind = "not readable" if isinstance(source, Path) else "not in the local cache, and the hub did not give it"
        raise EngineError(f"the configuration of '{source}' is {kind}: {first_line(error)}") from error


def _family(model_type: str, source: Path | str) -> Family:
    families: dict[str, Family] = {
        "qwen2_5_omni": "qwen2_5_omni",
        "qwen2_5_omni_thinker": "qwen2_5_omni",
        "qwen2_audio": "qwen2_audio",
    }
    if model_type not in families:
        raise EngineError(
            f"'{source}' is a model of type '{model_type}', which is not supported: use one of {', '.join(families)}"
        )
    return families[model_type]


def _device(wanted: str | torch.device | None) -> torch.device:
    import torch

    if wanted is not None:
        try:
            device = torch.device(wanted)
        except RuntimeError as error:
            raise EngineError(f"unknown device '{wanted}': use cpu, cuda or mps") from error
        there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(device.type)
        if there is not None and not there():
            raise EngineError(f"there is no device '{wanted}' here, or this build of torch cannot use it: use cpu")
        return device
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(wanted: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    import torch

    if isinstance(wanted, str):
        found = getattr(torch, wanted, None)
        if not isinstance(found, torch.dtype) or not found.is_floating_point:
            raise EngineError(f"unknown precision '{wanted}': use float32, bfloat16 or float16")
        return found
    if wanted is not None:
        return wanted
    return {"cuda": torch.bfloat16, "mps": torch.float16}.get(device.type, torch.float32)
