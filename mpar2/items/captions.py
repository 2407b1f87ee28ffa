"""Human-written captions as items: the truth of ``--truth caption``, from real recordings.

=============  =======================================================================================================
kind           columns of its file
=============  =======================================================================================================
``audiocaps``  CSV ``audiocap_id,youtube_id,start_time,caption``; five lines a clip in validation and test
``clotho``     CSV ``file_name,caption_1,…,caption_5``
``mecat``      JSONL ``{"KEY": {"short": [3], "long": [3], "speech": [3], "music": [3], "sound": [3], …}}``; a folder
               of such files. Files of the domain ``000`` are of silence: their clips have the empty list of events
=============  =======================================================================================================

Each clip becomes one item with an open question about all sounds, without an answer, so it is not scored for accuracy.
All captions of a clip are in its ``caption``, one per line, and as a list in ``extra["captions"]``, so that a judge
sees where annotators disagree.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mpar2.items.base import ItemsError, read_json_lines
from mpar2.question import Item, Question

__all__ = ["AUDIO_NAMES", "KINDS", "items_from_captions"]

#: file names of the audio, by kind, from the columns of the table
AUDIO_NAMES = {"audiocaps": "{youtube_id}_{start_time}.wav", "clotho": "{file_name}", "mecat": "{key}.flac"}
KINDS = tuple(AUDIO_NAMES)
QUESTION = "Which sounds are in the recording, in which order?"


def items_from_captions(source: str | Path, kind: str, *, audio_name: str | None = None) -> list[Item]:
    """Parse a caption set into items, one per clip.

    Args:
        source: The file; for ``mecat`` also a folder of files.
        kind: One of :data:`KINDS`.
        audio_name: Format of audio file names, from the columns; by default as in :data:`AUDIO_NAMES`.

    Raises:
        ItemsError: The file is not of this kind; the message names file, line and field.
    """
    if kind not in KINDS:
        raise ItemsError(f"unknown kind of caption set {kind!r}: choose one of {', '.join(KINDS)}")
    source = Path(source)
    if not source.exists():
        raise ItemsError(f"{source} does not exist: give the captions of {kind}")
    clips: dict[str, list[str]] = {}
    silent: set[str] = set()
    for values, captions, is_silence in (_mecat if kind == "mecat" else _table)(source, kind):
        try:
            clip = (audio_name or AUDIO_NAMES[kind]).format_map(values)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            columns = ", ".join("{" + name + "}" for name in values)
            raise ItemsError(f"the audio name {audio_name!r} does not fit ({error}); it can use {columns}") from None
        clips.setdefault(clip, []).extend(captions)
        if is_silence:
            silent.add(clip)
    if not clips:
        raise ItemsError(f"{source} holds no caption")
    return [
        Item(
            id=clip,
            audio=clip,
            question=Question(QUESTION),
            events=() if clip in silent else None,
            caption="\n".join(dict.fromkeys(captions)),
            truth_origin="human",
            extra={"captions": captions},
        )
        for clip, captions in clips.items()
    ]


def _table(source: Path, kind: str) -> Iterator[tuple[Mapping[str, str], list[str], bool]]:
    """Yield columns, captions and whether the clip is silent, for each line of a CSV file."""
    columns = {"audiocaps": ("youtube_id", "start_time", "caption"), "clotho": ("file_name", "caption_1")}[kind]
    try:
        with source.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            header = table.fieldnames or []
            if missing := [name for name in columns if name not in header]:
                raise ItemsError(f"{source}: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
            for number, row in enumerate(table, 2):
                texts = (row[name] or "" for name in header if name.startswith("caption"))
                captions = [text.strip() for text in texts if text.strip()]
                if not row[columns[0]] or not captions:
                    raise ItemsError(f"{source}, line {number}: '{columns[0]}' or the caption is empty")
                yield row, captions, False
    except (UnicodeDecodeError, csv.Error) as error:
        raise ItemsError(f"{source} cannot be read as a table: {error}") from None


def _mecat(source: Path, kind: str) -> Iterator[tuple[Mapping[str, str], list[str], bool]]:
    """Yield the same for the references of MECAT: the short captions, then the long ones."""
    for file in sorted(source.glob("*.jsonl")) if source.is_dir() else [source]:
        for number, entry in read_json_lines(file):
            for key, fields in entry.items():
                captions: list[Any] = []
                for name in ("short", "long"):
                    texts = fields.get(name) if isinstance(fields, Mapping) else None
                    captions += texts if isinstance(texts, list) else []
                if not captions or not all(isinstance(text, str) and text.strip() for text in captions):
                    raise ItemsError(f"{file}, line {number}: {key!r} has no 'short' or 'long' list of captions")
                yield {"key": key, "domain": file.stem}, captions, file.stem == "000"
