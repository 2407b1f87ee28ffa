"""Prompts of the model judges and the captioner as versioned files, and the canaries.

A file never changes once its version was used in a published run. A new wording is a new file, so that a stored prompt
hash always identifies the text.
"""

from __future__ import annotations

from importlib.resources import files

__all__ = ["load_prompt"]


def load_prompt(name: str, version: int = 1) -> str:
    """Return the text of a prompt."""
    return files(__name__).joinpath(f"{name}.v{version}.txt").read_text(encoding="utf-8").strip()
