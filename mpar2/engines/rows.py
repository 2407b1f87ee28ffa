"""Weights as int8 rows: a checkpoint of half the size of bfloat16, in shards small enough for a repository.

Every matrix W (rows, columns) is stored as ``name`` int8, round(W / s), and ``name.scale`` float32, s = max |row| /
127, one for each row; other tensors stay in bfloat16. :func:`pack` writes such a folder, with the processor's files;
``load_checkpoint`` reads it like any other, and :func:`unpack` restores the usual folder of ``save_pretrained``. On a
CPU the engine multiplies with the rows themselves (:func:`use_rows`) unless a precision is named. Weight-only rounding
by rows did not change SmolLM2's perplexity (27.9 against 28.5 on one short text); rounding of activations trebles it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mpar2.engines.int8_linear import Int8Linear, float_rows, int8_rows

if TYPE_CHECKING:
    from mpar2.engines.families import Family

__all__ = ["SHARD_BYTES", "holds_rows", "pack", "read_rows", "unpack", "use_rows"]

SHARD_BYTES = 90_000_000
_SCALE = ".scale"
_SHARDS = "rows-*-of-*.safetensors"
_WEIGHTS = "model.safetensors", "tower.safetensors", "parameters.safetensors"  # of a checkpoint, a tower, a lesson


def holds_rows(folder: Path) -> bool:
    """Return whether the weights of a folder are int8 rows."""
    return any(folder.glob(_SHARDS))


def pack(folder: Path, out: Path, shard_bytes: int = SHARD_BYTES, *, extend: bool = False) -> list[Path]:
    """Write the weights of a folder as int8 rows, with its other files.

    Args:
        folder: Folder of a checkpoint, of a tower's training (``tower.safetensors``) or of a lesson
            (``parameters.safetensors``).
        out: The folder to write.
        shard_bytes: Largest size of a shard, in bytes.
        extend: Keep the shards of ``out`` and add shards of those tensors alone that differ from theirs. A later shard
            takes precedence, and a repository stores only what has changed.

    Returns:
        The new shards.

    Raises:
        ValueError: A single tensor exceeds the size of a shard.
    """
    kept = sorted(out.glob(_SHARDS)) if extend else []
    stored = {name: parts for name, *parts in _packed(out)} if kept else {}
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, value in _tensors(folder):
        parts = {name: value.to(torch.bfloat16) if value.is_floating_point() else value}
        if value.ndim == 2:
            rows, scale = int8_rows(value)
            parts = {name: rows, name + _SCALE: scale}
        if name in stored and torch.equal(stored[name][0], parts[name]):
            scale = stored[name][1]
            if scale is None or torch.equal(scale, parts[name + _SCALE]):
                continue
        part_size = sum(part.numel() * part.element_size() for part in parts.values())
        if part_size > shard_bytes:
            raise ValueError(
                f"{name} takes {part_size:,} bytes, more than a shard of {shard_bytes:,}: allow larger shards"
            )
        if size + part_size > shard_bytes:
            shards.append({})
            size = 0
        shards[-1].update({key: part.contiguous() for key, part in parts.items()})
        size += part_size
    out.mkdir(parents=True, exist_ok=True)
    shards = [shard for shard in shards if shard or not kept]
    names = [_SHARDS.replace("*", "{:05d}").format(i + 1, len(kept + shards)) for i in range(len(kept + shards))]
    for path, name in zip(kept, names, strict=False):
        path.rename(out / name)
    paths = [out / name for name in names[len(kept) :]]
    for path, shard in zip(paths, shards, strict=True):
        save_file(shard, path, metadata={"format": "pt", "rows": "int8"})
    _copy_rest(folder, out)
    return paths


def unpack(folder: Path, out: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Convert a folder of :func:`pack` to that of ``save_pretrained``.

    Args:
        folder: Folder of :func:`pack`.
        out: The folder to write.
        dtype: Precision of the weights.

    Returns:
        ``out``.

    Raises:
        FileNotFoundError: As :func:`read_rows`.
    """
    state = read_rows(folder, dtype)
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    _copy_rest(folder, out)
    return out


def read_rows(folder: Path, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """Read the weights of a folder of :func:`pack`.

    Args:
        folder: Folder of :func:`pack`.
        dtype: Precision of the returned weights.

    Returns:
        Weights by name.

    Raises:
        FileNotFoundError: The folder holds no packed weights, or lacks a shard.
    """
    state = {}
    for name, value, scale in _packed(folder):
        if scale is not None:
            value = float_rows(value, scale, dtype)
        state[name] = value.to(dtype).contiguous() if value.is_floating_point() else value
    return state


def use_rows(model: Any, folder: Path, family: Family) -> None:
    """Replace the linear layers of a model's text stack by layers over the int8 rows themselves, in place.

    The audio encoder has many frames at a time, for which nothing is gained: it stays as it is.

    Args:
        model: What :func:`read_rows` gave the weights of, on a CPU.
        folder: Of :func:`pack`.
        family: Of the model.
    """
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embeddings.weight
    for name, rows, scale in _packed(folder):
        if scale is None or family.is_audio(name):
            continue
        layer = family.current_name(name).removesuffix(".weight")
        try:
            module = model.get_submodule(layer)
        except AttributeError:
            continue  # of a part that is not loaded
        if tied and module is embeddings:
            model.set_output_embeddings(Int8Linear(rows, scale, head.bias, embeddings.weight.dtype))
        elif isinstance(module, torch.nn.Linear):
            model.set_submodule(layer, Int8Linear(rows, scale, module.bias, module.weight.dtype))


def _packed(folder: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | None]]:
    """Yield name, value and, of a matrix, the scales of its int8 rows; of a tensor in two shards, that of the later."""
    shards = sorted(folder.glob(_SHARDS))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no rows-*.safetensors: it is no packed checkpoint")
    count = int(shards[0].stem.rsplit("-", 1)[1])
    if len(shards) != count:
        raise FileNotFoundError(f"{folder} holds {len(shards)} of {count} shards: fetch the folder again")
    last: dict[str, Path] = {}
    for path in shards:
        with safe_open(path, "pt") as file:
            last |= dict.fromkeys(file.keys(), path)
    for path in shards:
        with safe_open(path, "pt") as file:
            names = {name for name in file.keys() if last[name] == path}  # noqa: SIM118 - a safe_open is no mapping
            for name in names:
                if name.endswith(_SCALE) and name.removesuffix(_SCALE) in names:
                    continue
                value = file.get_tensor(name).clone()  # no view of a file that may be replaced
                yield name, value, file.get_tensor(name + _SCALE) if name + _SCALE in names else None


def _tensors(folder: Path):
    index = folder / "model.safetensors.index.json"
    names = [next((name for name in _WEIGHTS if (folder / name).exists()), _WEIGHTS[0])]
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for name in names:
        with safe_open(folder / name, "pt") as file:
            names_here = file.keys()
            for key in names_here:
                yield key, file.get_tensor(key)


def _copy_rest(folder: Path, out: Path) -> None:
    for path in folder.iterdir():
        if path.is_file() and ".safetensors" not in path.name and path.suffix != ".pt":  # without training state
            shutil.copyfile(path, out / path.name)
