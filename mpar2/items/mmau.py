"""MMAU (Sakshi et al., arXiv 2410.19168): a JSON array of objects.

    {"id", "audio_id": "./test-mini-audios/<uuid>.wav", "question", "choices": [..], "answer", "dataset",
     "task": "sound"|"music"|"speech", "split", "category": str | [str], "sub-category", "difficulty"}

The 9,000 items of the test split have an empty ``answer``: it is withheld. The official script reads predictions from
``model_output`` (its README says ``model_prediction``).

The name "v05.15.25" covers a file that changed ten more times after that day, and results on the original file and the
revised one are not comparable (258 of the 894 shared test-mini items differ). So the version is identified by content:
exactly, by a hash over ids, questions, choices and answers; else by 36 items known in both versions.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpar2.items.base import Entries, ItemsError, question_of, read_json_array, text_of
from mpar2.question import Item

__all__ = ["mmau_version", "read_mmau"]

_EXACT = {
    "90f5910866ce7133e54fe1129425d01c65bcc4f11d7e25660b02dc1bf9a394bb": "original (commit 1f675a9)",
    "4439d45c2d942c1a98ed17e6762d5a6fa1d31a057b02c5d9f0cf956425c75545": "v05.15.25 (commit f0a4a97, 2025-08-09)",
}
# sha256 prefixes of 36 items changed by the revision: before, and after.
_ORIGINAL_MARKS = """
    5acb252746 bc4ed2477d f08a91e038 507bb3b822 d603bffa3b d73d5cb5e5 777ed75ebf bc741c29f3 ec2b6e2d11
    ea7613e747 7d655c4cd0 4e86bd77f9 2a3aad2e2e a3a4ed3ddf cea16fc072 5071511ab5 fa48e3674c 03158de470
    bf544b197a 61503baac0 f2ef780d3e f825ae0a83 16f4aded2b 669e662533 3673db41cc 08bc5a59ef 1eba04c41a
    44f2207495 0a746904cc 5e2f0648cb ea228d3ddd 9e8f3a0ad4 70f036623f a90429bc60 f47b642011 91cc1bf378
"""
_REVISED_MARKS = """
    4511040b16 677c2e82b1 43b666f80b 5d0480c72d e76f5798cf d94081ad1f da326e4d45 0a601b58c2 3f5acf7ad8
    bf9f788bfe b605b57110 adb0f6ef27 51caf317c1 1192128a24 21b5d95415 f4a4930d52 84bb32671e c3c38a2f1a
    1a6afe75da 4d12c12705 f56fce06f4 570685627e 0ffed7ae31 788aae9098 8722c0e8b2 11b0d4c669 3e9c43eece
    7d823b3ca2 46a1d4c61f 4735ed6bba fde0c50f8e 4fb70eea1f dd7c170e62 03eb541a97 8dd47bfd16 7cbbfcbbd9
"""


def read_mmau(source: Path) -> Entries:
    """Read ``mmau-test-mini.json``, ``mmau-test.json``, or a part of one."""
    records = read_json_array(source)
    items = tuple(_item(record, f"{source}, entry {number}") for number, record in enumerate(records, 1))
    return Entries(items, tuple(records), "json", mmau_version(items), source.parent)


def mmau_version(items: tuple[Item, ...]) -> str:
    """Return the MMAU version of the items, as text for a manifest.

    >>> mmau_version(())
    'unknown: none of the 36 items that tell versions apart is among these 0'
    """
    keys = [_content(item) for item in items]
    digest = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
    if digest in _EXACT:
        return _EXACT[digest]
    marks = {hashlib.sha256(key.encode()).hexdigest()[:10] for key in keys}
    original, revised = len(marks & set(_ORIGINAL_MARKS.split())), len(marks & set(_REVISED_MARKS.split()))
    if not original and not revised:
        return f"unknown: none of the 36 items that tell versions apart is among these {len(items)}"
    name = "original" if original > revised else "v05.15.25"
    return f"{name}, part or other commit ({original} items of the original, {revised} of f0a4a97, {len(items)} in all)"


def _content(item: Item) -> str:
    question = item.question
    parts = [item.id, question.text, list(question.choices), question.answer or ""]
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def _item(record: Any, where: str) -> Item:
    if not isinstance(record, dict):
        raise ItemsError(f"{where}: {type(record).__name__} where an object is needed")
    category = record.get("category")
    if isinstance(category, list) and len(category) == 1:  # 13 items of test-mini: ["Reasoning"]
        category = category[0]
    question = question_of(record, where, domain="task", sub_category="sub-category", difficulty="difficulty")
    difficulty = question.difficulty.lower() if question.difficulty else None  # the files of 2024 also had "Medium"
    question = replace(question, category=category if isinstance(category, str) else None, difficulty=difficulty)
    return Item(str(text_of(record, "id", where)), str(text_of(record, "audio_id", where)), question)
