"""Benchmarks with one question per row: MMAU-Pro, MMSU and AudioMCQ (JSON lines, a JSON array or parquet), and AVQA.

==============  ======================================================================================================
benchmark       columns
==============  ======================================================================================================
``mmau-pro``    ``id, audio_path`` (a list), ``question, choices, answer, category, sub-cat, length_type,
                perceptual_skills, reasoning_skills`` (arXiv 2508.13992). Rows of several clips, open questions (their
                official score is an LLM's) and instruction following (no answer) are left out, and counted
``mmsu``        ``id, audio_path, question``; ``choices`` (letter to text, a missing one null) or ``choice_a`` to
                ``choice_d``; ``answer`` or ``answer_gt``, a text or a letter; ``category, task_name``
``audiomcq``    ``id, audio_path``; ``question, choices`` or ``question_text, multi_choice`` (the DCASE 2026 sets);
                ``answer, question_type, source_dataset`` (arXiv 2509.21060)
``avqa``        ``id, audio_path, question_text, multi_choice, answer`` (an index), ``question_type,
                question_relation``: JSON lines as R1-AQA writes them. As there, "video" in a question becomes "audio"
==============  ======================================================================================================

A folder stands for its files (``*.jsonl``, ``*.json``, ``*.parquet``), in the order of their names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpar2.items.base import Entries, ItemsError, id_of, question_of, read_json_array, read_json_lines, text_of
from mpar2.question import Item

__all__ = ["read_audiomcq", "read_avqa", "read_mmau_pro", "read_mmsu"]

_FORMS = (".jsonl", ".json", ".parquet")
Row = Mapping[str, Any]


def read_mmau_pro(source: Path) -> Entries:
    """Read MMAU-Pro's ``test.parquet``, or the same rows as JSON; only choice questions about one clip are kept."""
    return _entries(source, _mmau_pro, "MMAU-Pro, choices about one clip")


def read_mmsu(source: Path) -> Entries:
    """Read MMSU's questions; 453 of the 5,000 have two choices, padded to four with nulls."""
    return _entries(source, _mmsu, "MMSU")


def read_audiomcq(source: Path) -> Entries:
    """Read AudioMCQ, its strong audio-contribution part, or the DCASE 2026 development set."""
    return _entries(source, _audiomcq, "AudioMCQ")


def read_avqa(source: Path) -> Entries:
    """Read a JSONL file of AVQA questions."""
    numbered = read_json_lines(source)
    items = tuple(_avqa(record, f"{source}, line {number}") for number, record in numbered)
    return Entries(items, tuple(record for _, record in numbered), "jsonl", "R1-AQA lines", source.parent)


def _entries(source: Path, make: Callable[[Row, str], Item | str], version: str) -> Entries:
    """Return the items of all rows; for a skipped row, ``make`` returns the reason."""
    items: list[Item] = []
    official: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for where, row in _rows(source):
        item = make(row, where)
        if isinstance(item, str):
            left_out[item] += 1
        else:
            items.append(item)
            official.append(row)
    if left_out and not items:
        raise ItemsError(
            f"{source}: no row can be asked ({', '.join(f'{n} {reason}' for reason, n in left_out.items())})"
        )
    problems = tuple(f"{count} rows are left out: {reason}" for reason, count in left_out.items())
    folder = source if source.is_dir() else source.parent
    return Entries(tuple(items), tuple(official), "jsonl", version, folder, problems)


def _rows(source: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    files = [source]
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix in _FORMS)
        if not files:
            raise ItemsError(f"{source} has no file of questions ({', '.join('*' + form for form in _FORMS)})")
    for file in files:
        read = {".parquet": _parquet, ".json": read_json_array}.get(file.suffix)
        numbered = enumerate(read(file), 1) if read else read_json_lines(file)
        for number, row in numbered:
            if not isinstance(row, dict):
                raise ItemsError(f"{file}, row {number}: {type(row).__name__} where an object is needed")
            yield f"{file}, row {number}", row


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise ItemsError(f"{file} is parquet: install pyarrow, or write its rows as JSON lines") from None
    try:
        table = parquet.ParquetFile(file)
        # embedded audio is not read: items refer to files
        names = [name for name in table.schema_arrow.names if name not in ("audio", "context")]
        return table.read(columns=names).to_pylist()
    except (ArrowException, OSError) as error:
        raise ItemsError(f"{file} cannot be read as parquet: {error}") from None


def _mmau_pro(row: Row, where: str) -> Item | str:
    clips = row.get("audio_path")
    clips = [clips] if isinstance(clips, str) else clips
    if not isinstance(clips, list) or not clips or not all(isinstance(clip, str) and clip for clip in clips):
        raise ItemsError(f"{where}: 'audio_path' is {row.get('audio_path')!r:.80}; a list of paths is needed")
    if len(clips) > 1:
        return "they ask about several clips"
    if row.get("answer") is None:
        return "they have no answer (instruction following)"
    if not row.get("choices"):
        return "they are open questions"
    extra = {key: row[key] for key in ("length_type", "perceptual_skills", "reasoning_skills") if row.get(key)}
    text_of(row, "answer", where)  # needed here
    question = question_of(row, where, domain="category", category="category", sub_category="sub-cat")
    return Item(id_of(row, where), clips[0], question, extra=extra)


def _mmsu(row: Row, where: str) -> Item:
    choices = row.get("choices")
    if choices is None:
        choices = {letter: row.get(f"choice_{letter.lower()}") for letter in "ABCD"}
    answer = text_of(row, "answer" if "answer" in row else "answer_gt", where, needed=False)
    if isinstance(choices, Mapping):
        # a letter refers to the choices including the empty ones
        answer = choices.get(answer.strip(), answer) if answer else None
        choices = [choices[letter] for letter in sorted(choices) if choices[letter] not in (None, "")]
    row = {**row, "choices": choices}
    question = question_of(row, where, answer=None, category="category", sub_category="task_name")
    question = replace(question, answer=answer, domain="speech")
    id = id_of(row, where)
    return Item(id, text_of(row, "audio_path", where, needed=False) or f"{id}.wav", question)


def _audiomcq(row: Row, where: str) -> Item:
    text, choices = ("question_text", "multi_choice") if "question_text" in row else ("question", "choices")
    source = text_of(row, "source_dataset", where, needed=False)
    question = question_of(row, where, text=text, choices=choices, category="question_type")
    extra = {"source_dataset": source} if source else {}
    return Item(id_of(row, where), str(text_of(row, "audio_path", where)), question, extra=extra)


def _avqa(record: dict[str, Any], where: str) -> Item:
    columns = {"text": "question_text", "choices": "multi_choice", "category": "question_type"}
    question = question_of(record, where, **columns, sub_category="question_relation", answer=None)
    choices, answer = question.choices, record.get("answer")
    if answer is not None and (type(answer) is not int or not 0 <= answer < len(choices)):
        raise ItemsError(f"{where}: 'answer' is {answer!r}; the index of one of {len(choices)} choices is needed")
    text = re.sub(
        r"video", lambda match: "Audio" if match[0][0] == "V" else "audio", question.text, flags=re.IGNORECASE
    )
    question = replace(question, text=text, answer=None if answer is None else choices[answer])
    return Item(id_of(record, where), str(text_of(record, "audio_path", where)), question)
