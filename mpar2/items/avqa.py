"""AVQA (Yang et al. 2022) as R1-AQA and its followers write it: one JSON object a line.

    {"id", "video_name", "video_id", "question_text", "multi_choice": [..], "answer": index, "question_relation",
     "question_type", "dataset_name": "AVQA", "audio_path"}

As R1-AQA does, "video" in a question becomes "audio": only the sound is given. ``question_type`` becomes the category.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mpar2.items.base import Entries, ItemsError, choice_texts, read_json_lines, text_of
from mpar2.question import Item, Question

__all__ = ["read_avqa"]


def read_avqa(source: Path) -> Entries:
    """Read a JSONL file of AVQA questions."""
    numbered = read_json_lines(source)
    items = tuple(_item(record, f"{source}, line {number}") for number, record in numbered)
    return Entries(items, tuple(record for _, record in numbered), "jsonl", "R1-AQA lines", source.parent)


def _item(record: dict[str, Any], where: str) -> Item:
    choices = choice_texts(record, "multi_choice", where)
    answer = record.get("answer")
    if answer is not None and (type(answer) is not int or not 0 <= answer < len(choices)):
        raise ItemsError(f"{where}: 'answer' is {answer!r}; the index of one of {len(choices)} choices is needed")
    id = record.get("id")
    if isinstance(id, bool) or not isinstance(id, int | str) or id == "":
        raise ItemsError(f"{where}: 'id' is {id!r}; a number or a text is needed")
    question = Question(
        text=_heard(str(text_of(record, "question_text", where))),
        choices=choices,
        answer=None if answer is None else choices[answer],
        domain=None,
        category=text_of(record, "question_type", where, needed=False),
        sub_category=text_of(record, "question_relation", where, needed=False),
    )
    return Item(str(id), str(text_of(record, "audio_path", where)), question)


def _heard(text: str) -> str:
    return re.sub(r"video", lambda match: "Audio" if match[0][0] == "V" else "audio", text, flags=re.IGNORECASE)
