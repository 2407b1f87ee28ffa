"""Names of checkpoints: short names of the shipped pairs, folders, hub ids; and detection of adapters."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from mpar2.engines.base import EngineError

__all__ = ["BASE", "CHECKPOINTS", "TRAINED", "adapter_config", "first_line", "resolve", "split_adapter"]

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"  # the shipped pairs, as package data
BASE, TRAINED = "small-base", "small-mpar2"  # the default pair
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")


def resolve(name: str | os.PathLike[str]) -> Path | str:
    """Resolve the name of a checkpoint.

    Args:
        name: A short name (``small-base``), a folder, or a hub id.

    Returns:
        The folder, or the hub id unchanged.

    Raises:
        EngineError: The name is neither.
    """
    text = str(name)
    if re.fullmatch(r"[\w.-]+", text) and (CHECKPOINTS / text).is_dir() and text not in (".", ".."):
        return CHECKPOINTS / text
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise EngineError(f"checkpoint '{text}' is a file: give the folder that holds config.json")
    if _HUB_ID.fullmatch(text) and not text.startswith(("./", "../", "~")):
        return text
    shipped = sorted(p.name for p in CHECKPOINTS.iterdir()) if CHECKPOINTS.is_dir() else []
    hint = f"; shipped with this package: {', '.join(shipped)}" if shipped else ""
    raise EngineError(f"no checkpoint '{text}': there is no such folder, and it is not a hub id like owner/name{hint}")


def split_adapter(model: str, adapter: str | None = None) -> tuple[str, str | None]:
    """Return ``(base, adapter)`` of an arm; a model that is only an adapter names its own base.

    Args:
        model: A short name, a folder or a hub id, of a checkpoint or of an adapter.
        adapter: A LoRA adapter for it, or None.

    Raises:
        EngineError: The model is an adapter and another adapter is given, it does not name its base, or there is no
            such checkpoint.
    """
    where = resolve(model)
    if not isinstance(where, Path) or (where / "config.json").exists() or not (where / "adapter_config.json").exists():
        return model, adapter
    if adapter is not None:
        raise EngineError(f"'{model}' is an adapter itself, so it cannot carry the adapter '{adapter}': give its base")
    base = adapter_config(where).get("base_model_name_or_path")
    if not base:
        raise EngineError(
            f"the adapter '{model}' does not say which model it belongs to: give the model and the adapter"
        )
    sibling = where.parent / Path(base).name
    if (sibling / "config.json").exists():
        return (sibling.name if sibling.parent == CHECKPOINTS else str(sibling)), model
    return base, model


def adapter_config(folder: Path) -> dict[str, Any]:
    """Read adapter_config.json of a folder.

    Raises:
        EngineError: The file is missing, or is no JSON object.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"adapter_config.json in '{folder}' is not readable: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise EngineError(f"adapter_config.json in '{folder}' is not an object")
    return config


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, shortened for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
