"""Load models by name: locate checkpoints, select the family, attach adapters.

A name is a short name of a shipped pair (``small-base``, ``small-mpar2``), a folder, or a hub id (``owner/name``).
A folder or repository that holds only an adapter names its base itself, so ``small-mpar2`` alone is sufficient.

The family follows ``model_type`` of config.json (``engines.families`` has the table). Of whole-Omni repositories the
Thinker is loaded, without the vision tower.

Nothing fails silently: weights missing from the files, adapters whose keys or shapes do not fit, pickled weights
(``.bin``), quantised repositories without their library, and insufficient memory are errors. Precision: bfloat16 on
CUDA, float16 on MPS; on a CPU bfloat16 if the weights are stored in it and this processor multiplies it fast
(``engines.precision``), else float32. ``quantize="4bit"`` or ``"8bit"`` quantises the text stack's linear layers with
bitsandbytes. Weights may be int8 rows (``engines.rows``), which are converted to that precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpar2.engines.adapter import Adapter, adapter_folder, attach_adapter
from mpar2.engines.base import EngineError
from mpar2.engines.families import Family, family_of
from mpar2.engines.names import CHECKPOINTS, first_line, resolve, split_adapter

if TYPE_CHECKING:
    import torch

__all__ = [
    "CHECKPOINTS",
    "Adapter",
    "Checkpoint",
    "free_bytes",
    "load_checkpoint",
    "load_processor",
    "resolve",
    "split_adapter",
]

_MAX_ADAPTERS = 8  # attached to one base at a time

Quantize = Literal["4bit", "8bit"]
# libraries required to read quantised repositories
_QUANTISERS = {
    "gptq": ("GPTQ", "gptqmodel", "gptqmodel"),
    "awq": ("AWQ", "gptqmodel", "gptqmodel"),
    "bitsandbytes": ("bitsandbytes", "bitsandbytes", "bitsandbytes"),
    "compressed-tensors": ("compressed-tensors", "compressed_tensors", "compressed-tensors"),
    "fp8": ("FP8", "accelerate", "accelerate"),
}


@dataclass(eq=False)
class Checkpoint:
    """A loaded model. ``model`` is the instance of the transformers class, with adapters injected in place."""

    name: str
    model: Any
    processor: Any
    family: Family
    device: torch.device
    dtype: torch.dtype
    max_audio_seconds: float  # longest audio that the model takes; the rest is cut off
    quantized: bool = False
    adapters: dict[str, Adapter] = field(default_factory=dict)
    peft: Any = None  # peft.PeftModel once an adapter is attached
    damaged: bool = False  # attaching failed half-way: reload it
    _attached: int = 0

    def attach(self, adapter: str) -> Adapter:
        """Attach a LoRA adapter, or return it if already attached.

        Args:
            adapter: A short name, a folder or a hub id.

        Raises:
            EngineError: The adapter does not fit the model.
        """
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
        """Activate ``adapter``, or the bare base, for all rows."""
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
    quantize: Quantize | None = None,
    *,
    vision: bool = False,
) -> Checkpoint:
    """Load a model with its processor, in evaluation mode, with ``adapter`` attached and active.

    Args:
        model: Short name, folder or hub id of a checkpoint, or of an adapter that names its base.
        adapter: A LoRA adapter for it.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; None: the best available.
        dtype: Precision of the weights; None: by the device.
        quantize: Quantise the text stack's linear layers to 4 or 8 bits.
        vision: Also load an Omni model's vision tower, for a complete export.

    Raises:
        EngineError: The checkpoint cannot be loaded; the message gives the cause and the remedy.
    """
    model, adapter = split_adapter(model, adapter)
    # Locate the files.
    source = resolve(model)
    if isinstance(source, Path) and not (source / "config.json").exists():
        raise EngineError(f"'{source}' holds no config.json: give a folder as save_pretrained writes it")
    root = _read_config(source)
    device = _device(device)
    dtype = _dtype(dtype, device, root)
    name = model if source != Path(model) else source.resolve().name
    # Load the model, then the processor of its family.
    network, family = _load_network(source, root, name, device, dtype, quantize, vision=vision)
    processor = load_processor(model, family)
    # Processor and model must use the same audio token.
    reads, (_, writes) = _audio_token_id(network.config), family.audio_token(processor)
    if writes != reads:  # a tokenizer whose files are missing loads as an empty one
        raise EngineError(
            f"the processor of '{model}' writes audio as token {writes}, its model reads {reads}: "
            "the tokenizer's files are missing or belong to another model"
        )
    checkpoint = Checkpoint(
        name=name,
        model=network,
        processor=processor,
        family=family,
        device=device,
        dtype=dtype,
        max_audio_seconds=family.max_audio_seconds(processor),
        quantized=getattr(network, "is_quantized", False),
    )
    if adapter is not None:
        checkpoint.use(checkpoint.attach(adapter))
    return checkpoint


def load_processor(model: str, family: Family | None = None) -> Any:
    """Load the processor of a checkpoint, which computes the model's inputs from clips and chat messages.

    Args:
        model: A short name, a folder or a hub id.
        family: Its family; by default from config.json.

    Raises:
        EngineError: Files are missing or cannot be read.
    """
    source = resolve(model)
    family = family or family_of(_read_config(source).model_type, source)
    try:
        return family.load_processor(source)
    except Exception as error:  # transformers raises anything from OSError to AttributeError here
        raise EngineError(
            f"the processor of '{model}' cannot be loaded ({first_line(error)}): it needs preprocessor_config.json or "
            "processor_config.json, and the tokenizer's files"
        ) from error


def _audio_token_id(config: Any) -> int:
    return getattr(config, "audio_token_id", None) or config.audio_token_index


def _load_network(
    source: Path | str,
    root: Any,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    quantize: Quantize | None,
    *,
    vision: bool,
) -> tuple[Any, Family]:
    import torch
    import transformers

    from mpar2.engines.rows import holds_rows, read_rows

    # The family determines class, configuration and skipped weights (vision, speech output).
    family = family_of(root.model_type, source)
    stored = _check_quantisation(root, name, quantize)
    config = family.loaded_config(root, vision=vision)
    kind = getattr(transformers, family.model_class)
    ignored = kind._keys_to_ignore_on_load_unexpected or []
    kind._keys_to_ignore_on_load_unexpected = [*ignored, *(p for p in family.unused_weights if p not in ignored)]
    # Precision: as stored, as requested, or quantised while loading. Memory is checked before.
    options: dict[str, Any] = {}
    if stored is not None:
        config.quantization_config = stored
        options["device_map"] = {"": device}
    else:
        _check_memory(kind, config, family, name, device, dtype, quantize)
        if quantize is not None:
            options |= {"quantization_config": _bits(quantize, family, dtype), "device_map": {"": device}}
    try:
        rows = isinstance(source, Path) and holds_rows(source)
        network, info = kind.from_pretrained(
            None if rows else source,
            state_dict=read_rows(source, dtype) if rows else None,
            config=config,
            dtype=dtype,
            attn_implementation=family.attention,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EngineError(_too_large(name, device, dtype)) from error
    except Exception as error:  # SafetensorError, OSError, ValueError, RuntimeError: all mean unreadable weights
        raise EngineError(
            f"the weights of '{source}' cannot be loaded ({first_line(error)}): the files are missing, cut short, or "
            "not safetensors; fetch or save the checkpoint again"
        ) from error
    # Every weight of the model comes from the files; none keeps its random initialisation.
    if missing := sorted(info["missing_keys"]):
        raise EngineError(
            f"the checkpoint '{source}' lacks {len(missing)} weights of its own model, such as {missing[0]}: "
            "its config.json and its weights do not belong together"
        )
    if not options:
        try:
            network = network.to(device)  # not by device_map: hosted GPUs replace .to
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise EngineError(_too_large(name, device, dtype)) from error
    return network.eval(), family


def _check_quantisation(config: Any, name: str, quantize: Quantize | None) -> Any:
    """Return the quantisation of a saved repository, or None.

    Raise for a quantisation that cannot be read here.
    """
    from importlib.util import find_spec

    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    as_dict = stored if isinstance(stored, dict) else stored.to_dict()
    method = str(as_dict.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in as_dict else "unknown"))
    method = method.removeprefix("QuantizationMethod.").lower()
    called, module, package = _QUANTISERS.get(method, (method, "", ""))
    if quantize is not None:
        raise EngineError(f"'{name}' is a {called} checkpoint, quantised already: leave --quantize out")
    if not module or find_spec(module) is None:
        install = f"pip install {package}, or use" if package else "no library for it is known here: use"
        raise EngineError(
            f"'{name}' is a {called} checkpoint, quantised before it was published: {install} the plain checkpoint "
            "with --quantize 4bit"
        )
    return stored


def _bits(quantize: Quantize, family: Family, dtype: torch.dtype) -> Any:
    """Configure bitsandbytes for the text stack's linear layers; encoder, projector and head stay unquantised."""
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if quantize not in ("4bit", "8bit"):
        raise EngineError(f"quantize is '{quantize}': use 4bit or 8bit")
    if find_spec("bitsandbytes") is None:
        raise EngineError(f"--quantize {quantize} needs bitsandbytes: pip install bitsandbytes")
    skipped = ["lm_head", "visual", *(part.strip(".") for part in family.audio_modules)]
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=skipped)


def _check_memory(
    kind: Any,
    config: Any,
    family: Family,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    quantize: Quantize | None,
) -> None:
    """Compare the size of the weights with the free memory before reading or downloading anything."""
    size, free = _needed_bytes(kind, config, family, dtype, quantize), free_bytes(device)
    if free is None or size <= free:
        return
    smaller = _needed_bytes(kind, config, family, dtype, "4bit")
    way_out = f"--quantize 4bit ({smaller / 1e9:.1f} GB), " if quantize is None and smaller <= free else ""
    raise EngineError(
        f"'{name}' needs {size / 1e9:.1f} GB on {device} in {quantize or str(dtype).removeprefix('torch.')}, "
        f"{free / 1e9:.1f} GB are free: use {way_out}a smaller model, or another device"
    )


def _needed_bytes(kind: Any, config: Any, family: Family, dtype: torch.dtype, quantize: Quantize | None) -> float:
    """Return the bytes of the weights, from a model on the meta device."""
    import copy

    import torch

    with torch.device("meta"):
        skeleton = kind(copy.deepcopy(config))
    total = 0.0
    for weight_name, weight in skeleton.named_parameters():
        in_bits = weight.ndim == 2 and ".layers." in weight_name and not family.is_audio(weight_name)
        size = {"4bit": 0.56, "8bit": 1.0}[quantize] if quantize and in_bits else dtype.itemsize
        total += weight.numel() * size
    return total


def free_bytes(device: torch.device) -> int | None:
    """Return the memory available for weights, in bytes; None if the device does not report it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    import psutil

    free = psutil.virtual_memory().available
    limit, usage = (Path("/sys/fs/cgroup") / file for file in ("memory.max", "memory.current"))
    try:  # the limit of a container
        free = min(free, int(limit.read_text()) - int(usage.read_text()))
    except (OSError, ValueError):  # no control group of version 2, or no limit ("max")
        return free
    return free


def _too_large(name: str, device: torch.device, dtype: torch.dtype) -> str:
    return (
        f"'{name}' does not fit into the memory of {device} in {str(dtype).removeprefix('torch.')}: close what else "
        "uses it, or use --quantize 4bit, a smaller model or another device"
    )


def _read_config(source: Path | str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source)
    except Exception as error:
        kind = "not readable" if isinstance(source, Path) else "not in the local cache, and the hub did not give it"
        raise EngineError(f"the configuration of '{source}' is {kind}: {first_line(error)}") from error


def _device(name: str | torch.device | None) -> torch.device:
    import torch

    if name is not None:
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise EngineError(f"unknown device '{name}': use cpu, cuda or mps") from error
        is_available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(device.type)
        if is_available is not None and not is_available():
            raise EngineError(f"there is no device '{name}' here, or this build of torch cannot use it: use cpu")
        return device
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(requested: str | torch.dtype | None, device: torch.device, config: Any) -> torch.dtype:
    """Return the requested precision, or the best one for the device and the stored weights."""
    import torch

    from mpar2.engines.precision import fast_dtype

    if isinstance(requested, str):
        dtype = getattr(torch, requested, None)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise EngineError(f"unknown precision '{requested}': use float32, bfloat16 or float16")
        return dtype
    if requested is not None:
        return requested
    if device.type == "cpu":
        return fast_dtype() if config.dtype == torch.bfloat16 else torch.float32
    return torch.float16 if device.type == "mps" else torch.bfloat16
