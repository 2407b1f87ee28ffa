"""MMAR (Ma et al., arXiv 2505.13032): JSONL since 2026-02-16, a JSON array before.

    {"id", "audio_path": "./audio/<id>.wav", "question", "choices", "answer", "modality", "category", "sub-category",
     "language", "source", "url", "timestamp", "thinking", "cue": [..], "rubric": [..]}

``modality`` (speech, music, sound and their mixes) becomes the domain. There is no difficulty. ``cue``, new in 2026-02,
lists what a listener must perceive. It becomes the item's events, without times, of origin ``cue``: it is not a full
annotation, and some cues are properties rather than sounds. The official script reads ``answer_prediction``; the
script of the rubrics also reads ``thinking_prediction``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mpar2.items.base import Entries, ItemsError, question_of, read_json_array, read_json_lines, text_of
from mpar2.question import Event, Item

__all__ = ["read_mmar"]

_KNOWN = {"1c9a343e7bebf1037482b935c54eacd43cc63df7b2c668724b5560caf1f84fad": "2026-02 (JSONL, with cues and rubrics)"}


def read_mmar(source: Path) -> Entries:
    """Read ``MMAR-meta.jsonl`` or the older ``MMAR-meta.json``."""
    with source.open(encoding="utf-8-sig") as file:
        array = file.read(64).lstrip().startswith("[")
    numbered = list(enumerate(read_json_array(source), 1)) if array else read_json_lines(source)
    items = tuple(_item(record, f"{source}, entry {number}") for number, record in numbered)
    version = _KNOWN.get(hashlib.sha256(source.read_bytes()).hexdigest())
    if version is None:
        cues = sum(item.events is not None for item in items)
        version = f"other ({len(items)} items, {cues} with cues)"
    official = tuple(record for _, record in numbered)
    return Entries(items, official, "json" if array else "jsonl", version, source.parent)


def _item(record: Any, where: str) -> Item:
    if not isinstance(record, dict):
        raise ItemsError(f"{where}: {type(record).__name__} where an object is needed")
    question = question_of(record, where, domain="modality", category="category", sub_category="sub-category")
    cues = record.get("cue")
    cues = [cue for cue in cues if isinstance(cue, str) and cue.strip()] if isinstance(cues, list) else []
    language = record.get("language")
    return Item(
        id=str(text_of(record, "id", where)),
        audio=str(text_of(record, "audio_path", where)),
        question=question,
        events=tuple(Event(cue) for cue in cues) or None,
        truth_origin="cue" if cues else None,
        extra={"language": language} if isinstance(language, str) else {},
    )
