"""Items in this project's own format: one JSON object per line (:func:`mpar2.question.item_to_json`).

Audio paths are relative to the file. A line needs ``audio`` and ``question``; ``id`` defaults to the line number. A
folder stands for its ``items.jsonl``. ``scenes`` are such items with exact events, which every item must have.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mpar2.items.base import Entries, ItemsError, read_json_lines
from mpar2.question import Item, QuestionError, item_from_json

__all__ = ["read_jsonl", "read_scenes"]

_OTHER_TIMES = ("onset", "offset", "start", "end", "start_s", "end_s")


def read_jsonl(source: Path) -> Entries:
    """Read a JSONL file of items, or the ``items.jsonl`` of a folder.

    Raises:
        ItemsError: There is no such file, or a line is no item; the message names the line.
    """
    file = source / "items.jsonl" if source.is_dir() else source
    if not file.is_file():
        raise ItemsError(f"{file} is not there: a folder of items has its questions in items.jsonl")
    numbered = read_json_lines(file)
    items = tuple(_item(entry, f"{file}, line {number}", str(number)) for number, entry in numbered)
    return Entries(items, tuple(entry for _, entry in numbered), "jsonl", "items.jsonl", file.parent)


def read_scenes(source: Path) -> Entries:
    """Read a folder of scenes; every item must have its events.

    Raises:
        ItemsError: As of :func:`read_jsonl`, or an item has no events.
    """
    entries = read_jsonl(source)
    without = [item.id for item in entries.items if item.events is None]
    if without:
        raise ItemsError(
            f"{source}: {len(without)} items have no events (first: {without[0]}); a scene has its exact truth; "
            "for items without it choose --benchmark jsonl"
        )
    return entries


def _item(entry: dict[str, Any], where: str, id: str) -> Item:
    try:
        item = item_from_json(entry, id=id)
    except QuestionError as error:
        raise ItemsError(f"{where}: {error}") from None
    if not item.audio.strip() or not item.question.text.strip():
        raise ItemsError(f"{where}: 'audio' and 'question' must not be empty")
    for number, (event, entry_of_event) in enumerate(zip(item.events or (), entry.get("events") or (), strict=True), 1):
        place = f"{where}: entry {number} of 'events'"
        if wrong_keys := [key for key in _OTHER_TIMES if key in entry_of_event]:
            raise ItemsError(f"{place} has {wrong_keys[0]!r}; its times are 'onset_s' and 'offset_s', in seconds")
        if not 0 <= (event.onset_s or 0) <= (event.offset_s if event.offset_s is not None else event.onset_s or 0):
            raise ItemsError(f"{place} lasts from {event.onset_s} to {event.offset_s} s; give 0 <= onset_s <= offset_s")
    answer = item.question.answer
    return item if answer is None or answer.strip() else replace(item, question=replace(item.question, answer=None))
