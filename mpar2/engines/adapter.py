"""LoRA adapters: find, check against the model, attach.

PEFT loads matching weights and warns about the rest, so an adapter of another model can have no effect unnoticed, and
one that contains weights of the base overwrites them for every arm. Therefore

* names of older layouts (the Thinker before transformers 5.21; adapters of the whole Omni, under ``thinker.``) are
  converted first, and ``target_modules`` is replaced by the exact list of layers in the file;
* every tensor of the file must match a parameter in size, and every layer in the configuration must have weights;
* tensors that would replace weights of the base are refused, unless they equal them;
* patterns of the configuration run only if they provably terminate, and ranks are read from the file.

Weights are read from safetensors only: ``.bin`` files are pickles, which execute code.
"""

from __future__ import annotations

import re
import warnings as py_warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpar2.engines.base import EngineError
from mpar2.engines.names import adapter_config, first_line, resolve

if TYPE_CHECKING:
    import torch

    from mpar2.engines.checkpoint import Checkpoint

__all__ = ["Adapter", "adapter_folder", "attach_adapter"]

_PREFIX = "base_model.model."
_MARK = re.compile(r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)\b")
_MAX_PATTERN = 2000
_Rename = Callable[[str], str]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter attached to a checkpoint. ``key`` is its name inside PEFT."""

    key: str
    source: str
    modifies_audio_encoder: bool  # then arms cannot share the encoder's output
    batchable: bool  # it can run in one batch with other adapters and with the bare base
    warnings: tuple[str, ...] = ()


def adapter_folder(adapter: str) -> Path:
    """Return the folder of an adapter, downloaded from the hub if necessary.

    Raises:
        EngineError: It is neither a folder nor on the hub.
    """
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


def attach_adapter(checkpoint: Checkpoint, folder: Path, name: str, key: str, *, alone: bool = False) -> Adapter:
    """Attach an adapter to a checkpoint.

    Args:
        checkpoint: The loaded base.
        folder: Where adapter_config.json and adapter_model.safetensors are.
        name: Name of the adapter in messages.
        key: Its name inside PEFT.
        alone: No other arm uses the checkpoint (an export), so weights of the base may be replaced.

    Raises:
        EngineError: The adapter does not fit, is incomplete, or would change the base for other arms.
    """
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict

    # Refuse adapter types that cannot be checked.
    config = adapter_config(folder)
    if config.get("peft_type") != "LORA":
        raise EngineError(
            f"the adapter '{name}' is of type {config.get('peft_type')}; only LoRA adapters are supported"
        )
    if config.get("target_parameters"):
        raise EngineError(f"the adapter '{name}' adapts parameters of experts (target_parameters): not supported")
    # Rename every tensor of the file to the current layout, and check it against the model.
    tensors = _read_tensors(folder, name)
    base = checkpoint.peft.get_base_model() if checkpoint.peft is not None else checkpoint.model
    modules = {path.replace(".base_layer", ""): module for path, module in base.named_modules()}
    weights, original_name = _with_current_names(checkpoint, tensors, name)
    saved = _saved_modules(config, modules, weights)
    replaced = _check_fit(checkpoint, modules, base, weights, saved, name, alone=alone)
    for path in replaced:
        del weights[path]
    warnings = _check_promises(modules, config, weights, original_name, name)
    # Attach; a failure from here on may leave changed layers.
    lora = _exact_config(LoraConfig, config, weights, saved, name)
    try:
        if checkpoint.peft is None:
            with py_warnings.catch_warnings():  # peft reads a property by its old name, of no concern to a user
                py_warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
                checkpoint.peft = PeftModel(base, lora, adapter_name=key)
        else:
            checkpoint.peft.add_adapter(key, lora)
        result = set_peft_model_state_dict(checkpoint.peft, weights, adapter_name=key)
    except Exception as error:
        checkpoint.damaged = True  # some layers may have changed
        raise EngineError(f"the adapter '{name}' does not fit '{checkpoint.name}': {first_line(error)}") from error
    # PEFT ignores unknown weights: none may be left over.
    if result.unexpected_keys:
        checkpoint.damaged = True
        raise EngineError(
            f"{len(result.unexpected_keys)} weights of the adapter '{name}' were not taken, such as "
            f"{result.unexpected_keys[0]}: it was saved by a version of PEFT that is not known here"
        )
    _replace_base_weights(base, replaced)
    checkpoint.peft.eval()
    checkpoint.peft.requires_grad_(False)
    checkpoint.peft.to(checkpoint.device)
    # A different base is allowed, with a warning.
    trained_on = str(config.get("base_model_name_or_path") or "")
    if trained_on and Path(trained_on).name != Path(checkpoint.name).name:
        warnings.append(f"the adapter '{name}' was trained on '{trained_on}', and runs here on '{checkpoint.name}'")
    return Adapter(
        key=key,
        source=str(folder),
        modifies_audio_encoder=any(checkpoint.family.is_audio(path) for path in weights),
        batchable=_is_plain(checkpoint, config, weights, key),
        warnings=tuple(warnings),
    )


def _read_tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (SafetensorError, OSError) as error:
        raise EngineError(
            f"the weights of the adapter '{name}' are not readable ({first_line(error)}): fetch or save it again"
        ) from error
    invalid = [path for path, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if invalid:
        raise EngineError(
            f"{len(invalid)} weights of the adapter '{name}' hold values that are not finite numbers, such as "
            f"{invalid[0]}: its training diverged, or the file is damaged"
        )
    return tensors


def _with_current_names(
    checkpoint: Checkpoint, tensors: Mapping[str, torch.Tensor], name: str
) -> tuple[dict[str, torch.Tensor], _Rename]:
    """Return the tensors by current names, with PEFT's prefix, and the map from current to original module names."""
    family = checkpoint.family
    unprefixed = {path.removeprefix(_PREFIX): value for path, value in tensors.items()}
    renamed = {family.current_name(path): value for path, value in unprefixed.items()}
    if len(renamed) < len(unprefixed):
        raise EngineError(f"the adapter '{name}' holds weights of one layer under two names: save it again")
    lora = [path for path in unprefixed if _MARK.search(path)]
    for original_name in family.older_names():
        if all(original_name(family.current_name(path)) == path for path in lora):
            break
    else:
        raise EngineError(f"the adapter '{name}' mixes names of several versions of transformers: save it again")
    return {_PREFIX + path: value for path, value in renamed.items()}, original_name


def _check_fit(
    checkpoint: Checkpoint,
    modules: Mapping[str, Any],
    base: Any,
    weights: Mapping[str, torch.Tensor],
    saved: tuple[str, ...],
    name: str,
    *,
    alone: bool,
) -> dict[str, torch.Tensor]:
    """Check that every tensor matches a parameter in size; return those that replace base weights, by full names.

    In a shared checkpoint these must equal the base's tensors.
    """
    import torch

    # Every name exists in the model.
    lora = {path: _split(path) for path in weights if _MARK.search(path)}
    if not lora:
        raise EngineError(f"the adapter '{name}' holds no LoRA weights")
    unknown = [path for path, (module, _, _) in lora.items() if module not in modules]
    parameters = dict(base.named_parameters(remove_duplicate=False))
    base_parameters = {path.replace(".base_layer", ""): value for path, value in parameters.items()}
    unknown += [path for path in weights if path not in lora and path.removeprefix(_PREFIX) not in base_parameters]
    if unknown:
        raise EngineError(
            f"{len(unknown)} of {len(weights)} weights of the adapter '{name}' have no place in '{checkpoint.name}', "
            f"such as {unknown[0]}: the adapter belongs to another model, or to another version of transformers"
        )
    # LoRA factors have the sizes of their layers.
    for path, (module, mark, _) in lora.items():
        attribute, axis = {"lora_A": ("in_features", 1), "lora_B": ("out_features", 0)}.get(mark, ("", 0))
        size = getattr(modules[module], attribute, None) if attribute else None
        if size is not None and weights[path].ndim == 2 and weights[path].shape[axis] != size:
            raise EngineError(
                f"the adapter '{name}' has size {weights[path].shape[axis]} at {module}, where '{checkpoint.name}' has "
                f"{size}: it belongs to another model"
            )
    # Full weights: of equal shape, and different from the base's only if no other arm uses it.
    copies = tuple(f"{_PREFIX}{module}." for module in saved)  # PEFT stores these beside the base's
    full = {path: value for path, value in weights.items() if path not in lora and not path.startswith(copies)}
    changed = []
    for path, value in full.items():
        target = base_parameters[path.removeprefix(_PREFIX)]
        if target.shape != value.shape:
            raise EngineError(
                f"the adapter '{name}' has shape {tuple(value.shape)} at {path}, where '{checkpoint.name}' has "
                f"{tuple(target.shape)}: it belongs to another model, or to one with more tokens"
            )
        if not torch.equal(target.detach().cpu(), value.to(target.dtype)):
            changed.append(path)
    if changed and not alone:
        raise EngineError(
            f"the adapter '{name}' also carries {len(changed)} weights of the base itself, such as "
            f"{changed[0].removeprefix(_PREFIX)}, and would change it for every arm: merge it once (mpar2 export MODEL "
            "--adapter ADAPTER OUT --as thinker) and use OUT as the model"
        )
    return full


def _saved_modules(
    config: Mapping[str, Any], modules: Mapping[str, Any], weights: Mapping[str, torch.Tensor]
) -> tuple[str, ...]:
    """Return the modules of which the adapter has a full copy (``modules_to_save``) in the file."""
    ends = tuple(f".{name}" for name in config.get("modules_to_save") or ())
    paths = [path for path in modules if path and ends and f".{path}".endswith(ends)]
    return tuple(path for path in paths if any(key.startswith(f"{_PREFIX}{path}.") for key in weights))


def _split(path: str) -> tuple[str, str, str]:
    """Return (module, factor, rest) of a tensor's full name."""
    mark = _MARK.search(path)
    assert mark is not None
    return path[: mark.start()].removeprefix(_PREFIX), mark[1], path[mark.end() :]


def _replace_base_weights(base: Any, replaced: Mapping[str, torch.Tensor]) -> None:
    """Copy the tensors into the base; they equal its own unless a single arm uses the checkpoint."""
    import torch

    parameters = {
        path.replace(".base_layer", ""): value for path, value in base.named_parameters(remove_duplicate=False)
    }
    with torch.no_grad():
        for path, value in replaced.items():
            parameters[path.removeprefix(_PREFIX)].copy_(value)


def _check_promises(
    modules: Mapping[str, Any],
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    original_name: _Rename,
    name: str,
) -> list[str]:
    """Check that every layer in ``target_modules`` has both factors, and return warnings.

    Names are compared in the layout that the adapter was trained in. A part of the model (text stack, audio encoder)
    without any weight in the file is exempt, with a warning, since a bare list of layer names matches both.
    """
    from torch.nn import Linear

    lora: dict[str, set[str]] = {}
    for path in weights:
        if _MARK.search(path):
            module, mark, _ = _split(path)
            lora.setdefault(module, set()).add(mark)
    incomplete = [f"{m}.lora_{side}" for m, marks in lora.items() for side in "AB" if _half_missing(marks, side)]
    targets = config.get("target_modules") or []
    matches = _matcher(targets, name)
    linear = [m for m, layer in modules.items() if isinstance(getattr(layer, "base_layer", layer), Linear)]
    promised = [module for module in linear if matches(original_name(module))]
    parts = {_part(module) for module in lora}
    empty = [module for module in promised if module not in lora and _part(module) in parts]
    incomplete += [f"{module}.lora_{side}" for module in empty for side in "AB"]
    if incomplete:
        raise EngineError(
            f"the adapter '{name}' lacks {len(incomplete)} of the weights that its configuration promises, such as "
            f"{incomplete[0]}: it was saved from another version of the model, or is incomplete"
        )
    missing_parts = sorted({_part(module) for module in promised} - parts)
    if not missing_parts:
        return []
    return [
        f"the configuration of the adapter '{name}' names layers of {' and '.join(missing_parts)} too, and its "
        "file has no weights for them: they stay as in the base"
    ]


def _half_missing(marks: set[str], side: str) -> bool:
    return not marks & {f"lora_{side}", f"lora_embedding_{side}"}


def _part(module: str) -> str:
    return next((part for part in ("language_model", "audio_tower", "visual") if part in module), module.split(".")[0])


def _matcher(targets: str | list[str], name: str) -> Callable[[str], bool]:
    """Return PEFT's matching rule: a regular expression matches the whole name, an entry of a list its end."""
    if isinstance(targets, str) and targets == "all-linear":
        return lambda module: not module.endswith("lm_head")
    if isinstance(targets, str):
        pattern = _bounded_pattern(targets, name)
        return lambda module: pattern.fullmatch(module) is not None
    ends = tuple(f".{target}" for target in targets)
    return lambda module: f".{module}".endswith(ends)


def _bounded_pattern(pattern: str, name: str) -> re.Pattern[str]:
    """Return the pattern if it provably terminates soon: no nested repetition, no repeated choice, few repetitions."""
    import re._parser as parser

    refusal = (
        f"target_modules of the adapter '{name}' is a regular expression that may take for ever "
        f"({pattern[:60]!r}): write the layers' names as a list in adapter_config.json"
    )
    if len(pattern) > _MAX_PATTERN:
        raise EngineError(refusal)
    repeats = 0

    # Nested repetitions and repeated choices backtrack exponentially, back-references without a known bound.
    def walk(tree: Any, repeated: bool) -> None:
        nonlocal repeats
        for operation, argument in tree:
            kind = str(operation)
            if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
                _, limit, body = argument
                if limit > 1:
                    repeats += 1
                    if repeated:
                        raise EngineError(refusal)
                walk(body, repeated or limit > 1)
            elif kind == "BRANCH":
                if repeated:
                    raise EngineError(refusal)
                for choice in argument[1]:
                    walk(choice, repeated)
            elif kind == "SUBPATTERN":
                walk(argument[3], repeated)
            elif kind in ("ASSERT", "ASSERT_NOT"):
                walk(argument[1], repeated)
            elif kind == "ATOMIC_GROUP":
                walk(argument, repeated)
            elif kind in ("GROUPREF", "GROUPREF_EXISTS"):
                raise EngineError(refusal)

    # Check the parse tree before the pattern can run.
    try:
        walk(parser.parse(pattern), False)
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise EngineError(f"target_modules of the adapter '{name}' is no regular expression: {error}") from error
    if repeats > 4:
        raise EngineError(refusal)
    return compiled


def _exact_config(
    kind: type[Any], config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], saved: tuple[str, ...], name: str
) -> Any:
    """Return PEFT's configuration with the exact layers and ranks of the file, without patterns."""
    import inspect

    ranks: dict[str, int] = {}
    for path, value in weights.items():
        if not _MARK.search(path):
            continue
        module, mark, _ = _split(path)
        if mark in ("lora_A", "lora_embedding_A"):
            ranks[module] = int(value.shape[0])
    alphas = config.get("alpha_pattern") or {}
    default = config.get("lora_alpha", 8)
    alpha = {module: _by_pattern(alphas, module, default, name) for module in ranks}
    fields = set(inspect.signature(kind).parameters)
    fixed = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern"}
    fixed |= {"alpha_pattern", "modules_to_save", "inference_mode", "peft_type", "auto_mapping", "init_lora_weights"}
    fixed |= {"ensure_weight_tying", "eva_config", "corda_config", "loftq_config", "runtime_config"}
    settings = {key: value for key, value in config.items() if key in fields - fixed and value is not None}
    try:
        return kind(
            **settings | {"r": next(iter(ranks.values())), "task_type": None},
            target_modules=sorted(ranks),
            modules_to_save=list(saved) or None,
            rank_pattern={f"^{re.escape(module)}": rank for module, rank in ranks.items()},
            alpha_pattern={f"^{re.escape(module)}": value for module, value in alpha.items()},
            inference_mode=True,
        )
    except (TypeError, ValueError) as error:
        raise EngineError(f"adapter_config.json of '{name}' cannot be read: {first_line(error)}") from error


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any, name: str) -> Any:
    """Apply PEFT's rule for ``alpha_pattern``: the first key that matches the end of the module's name."""
    for key, value in patterns.items():
        pattern = _bounded_pattern(key, name)
        if re.fullmatch(rf"(.*\.)?({pattern.pattern})", module):
            return value
    return default


def _is_plain(checkpoint: Checkpoint, config: Mapping[str, Any], weights: Mapping[str, Any], key: str) -> bool:
    """Return whether this is plain LoRA on linear layers, which the engine can apply to single rows of a batch."""
    from torch.nn import Linear

    if config.get("bias", "none") != "none" or config.get("layer_replication"):
        return False
    layers = [m for m in checkpoint.peft.modules() if key in getattr(m, "lora_A", ())]
    simple = all(
        type(m.lora_A[key]) is Linear and m.lora_B[key].bias is None and key not in m.lora_variant for m in layers
    )
    return simple and all(".lora_A." in path or ".lora_B." in path for path in weights)
