"""Prompts of the model judges and the captioner as versioned files, and the canaries.

A file never changes once its version was used in a published run. A new wording is a new file, so that a stored prompt
hash always identifies the text.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

__all__ = ["packaged_json", "load_prompt"]


def load_prompt(name: str, version: int = 1) -> str:
    """Return the text of a prompt."""
    return files(__name__).joinpath(f"{name}.v{version}.txt").read_text(encoding="utf-8").strip()


def packaged_json(name: str, version: int = 1) -> Any:
    """Return the data of a JSON file beside the prompts."""
    return json.loads(files(__name__).joinpath(f"{name}.v{version}.json").read_text(encoding="utf-8"))
