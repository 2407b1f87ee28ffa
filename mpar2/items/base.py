"""Shared code of all readers: the set of items, its fingerprint, and the checks of one entry.

A file or an entry that cannot be used is an :class:`ItemsError`, which names the file and, as ``where``, the entry.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mpar2.errors import MPAR2Error
from mpar2.question import Item, Question, QuestionError, item_from_json, item_to_json

__all__ = [
    "Entries",
    "ItemSet",
    "ItemsError",
    "benchmark_names",
    "choice_texts",
    "id_of",
    "question_of",
    "read_items",
    "read_json_array",
    "read_json_lines",
    "register_benchmark",
    "text_of",
]


class ItemsError(MPAR2Error, ValueError):
    """The file is not of this benchmark, or one of its entries is unusable."""


@dataclass(frozen=True)
class Entries:
    """The output of a reader: items, each with its original entry of the file."""

    items: tuple[Item, ...]
    official: tuple[dict[str, Any], ...]
    form: Literal["json", "jsonl"]
    version: str
    audio_folder: Path  # default base of relative audio paths
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class ItemSet:
    """The items of a benchmark, with the location of their audio and the identity of the set.

    ``fingerprint`` is a sha256 over the content of all items (not over the bytes of the file: indentation and the
    order of keys do not matter, the order of the items does).
    """

    benchmark: str
    items: tuple[Item, ...]
    fingerprint: str
    version: str
    problems: tuple[str, ...]
    audio_root: Path
    source: Path
    official: tuple[dict[str, Any], ...]
    form: Literal["json", "jsonl"]
    file_problems: tuple[str, ...] = ()  # of the whole file, independent of the selected items

    def audio_path(self, item: Item) -> Path:
        """Return the path of an item's audio file under ``audio_root``, or of its bare name there (flat downloads)."""
        path = self.audio_root / item.audio
        flat = self.audio_root / Path(item.audio).name
        return flat if not path.is_file() and flat.is_file() else path

    def identity(self) -> dict[str, Any]:
        """Return the entry of a run's manifest: name, version, fingerprint, number of items, file."""
        names = {"name": self.benchmark, "version": self.version, "fingerprint": self.fingerprint}
        return names | {"items": len(self.items), "file": self.source.name}

    def first(self, count: int | None) -> ItemSet:
        """Return the set of the first ``count`` items (None: all), with its own fingerprint."""
        if count is None or count >= len(self.items):
            return self
        if count < 1:
            raise ItemsError(f"limit is {count}: at least one item is needed")
        items = self.items[:count]
        official = self.official[:count]
        return _with_problems(replace(self, items=items, official=official, fingerprint=fingerprint_of(items)))


Reader = Callable[[Path], Entries]

# name -> reader, or its "module:function", imported on use
_READERS: dict[str, Reader | str] = {
    "mmau": "mpar2.items.mmau:read_mmau",
    "mmar": "mpar2.items.mmar:read_mmar",
    "mmau-pro": "mpar2.items.tables:read_mmau_pro",
    "mmsu": "mpar2.items.tables:read_mmsu",
    "audiomcq": "mpar2.items.tables:read_audiomcq",
    "avqa": "mpar2.items.tables:read_avqa",
    "scenes": "mpar2.items.plain:read_scenes",
    "jsonl": "mpar2.items.plain:read_jsonl",
}


def register_benchmark(name: str, reader: Reader) -> None:
    """Register a benchmark for evaluation and training under ``name``; an existing one is replaced.

    Args:
        name: Value of ``--benchmark`` and of the ``kind`` of a training source.
        reader: Maps the question file or folder to its :class:`Entries`. It raises :class:`ItemsError`.
    """
    _READERS[name] = reader


def benchmark_names() -> tuple[str, ...]:
    """Return the names of all benchmarks."""
    return tuple(_READERS)


def read_items(benchmark: str, data: str | Path, audio_root: str | Path | None = None) -> ItemSet:
    """Read the questions of a benchmark.

    Args:
        benchmark: One of :func:`benchmark_names`.
        data: Its question file or folder.
        audio_root: Base of relative audio paths; by default the reader's, mostly beside the file.

    Returns:
        The items. An answer letter is replaced by its choice.

    Raises:
        ItemsError: No such benchmark or file, or a file that is not of this benchmark.
    """
    if benchmark not in _READERS:
        raise ItemsError(f"unknown benchmark {benchmark!r}: choose one of {', '.join(_READERS)}")
    source = Path(data)
    if not source.exists():
        raise ItemsError(f"{source} does not exist: give the question file of {benchmark} with --data")
    reader = _READERS[benchmark]
    entries = (pkgutil.resolve_name(reader) if isinstance(reader, str) else reader)(source)
    try:  # check against the schema of a run's lines, so that every item can be recorded
        entries = replace(entries, items=tuple(item_from_json(item_to_json(item)) for item in entries.items))
    except QuestionError as error:
        raise ItemsError(f"{source}: {error}") from None
    if not entries.items:
        raise ItemsError(f"{source} holds no item")
    duplicates = [id for id, count in Counter(item.id for item in entries.items).items() if count > 1]
    if duplicates:
        raise ItemsError(
            f"{source}: {len(duplicates)} ids occur more than once, the first is {duplicates[0]!r}: ids must differ"
        )
    items = ItemSet(
        benchmark=benchmark,
        items=entries.items,
        fingerprint=fingerprint_of(entries.items),
        version=entries.version,
        problems=(),
        audio_root=Path(audio_root) if audio_root is not None else entries.audio_folder,
        source=source,
        official=entries.official,
        form=entries.form,
        file_problems=entries.problems,
    )
    return _with_problems(items)


def _with_problems(items: ItemSet) -> ItemSet:
    """Return the set with newly computed problems of its items."""
    problems = list(items.file_problems)
    if ids := answers_in_other_words(items):
        reworded = "items give their answer by letter or in other words: its choice is used"
        problems.append(f"{len(ids)} {reworded} (first: {ids[0]})")
    problems += _content_problems(items.items)
    if missing := [path for path in map(items.audio_path, items.items) if not path.is_file()]:
        share = f"{len(missing)} of {len(items.items)}"
        problems.append(f"{share} audio files are not there (first: {missing[0]}); see --audio-root")
    return replace(items, problems=tuple(problems))


def read_json_lines(source: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects of a JSONL file with their line numbers, from 1; blank lines are skipped."""
    entries: list[tuple[int, dict[str, Any]]] = []
    with source.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    entry = json.loads(line)
                    if not isinstance(entry, dict):
                        raise ItemsError(f"{source}, line {number}: {type(entry).__name__} where an object is needed")
                    entries.append((number, entry))
        except UnicodeDecodeError as error:
            raise ItemsError(f"{source} is not UTF-8 text: {error}") from None
        except ItemsError:
            raise
        except (ValueError, RecursionError) as error:
            raise ItemsError(f"{source}, line {number}: not JSON ({str(error)[:200]})") from None
    return entries


def read_json_array(source: Path) -> list[Any]:
    """Return the entries of a file that is one JSON array."""
    try:
        entries = json.loads(source.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ItemsError(f"{source} is not the JSON array that is needed: {error}") from None
    if not isinstance(entries, list):
        raise ItemsError(f"{source} holds {type(entries).__name__}; a JSON array of objects is needed")
    return entries


def id_of(entry: Mapping[str, Any], where: str) -> str:
    """Return the entry's ``id``, a number or a string, as a string."""
    id = entry.get("id")
    if isinstance(id, bool) or not isinstance(id, int | str) or id == "":
        raise ItemsError(f"{where}: 'id' is {id!r}; a number or a text is needed")
    return str(id)


def text_of(entry: Mapping[str, Any], key: str, where: str, *, needed: bool = True) -> str | None:
    """Return the string under a key; None if it is missing or blank, and an error if it is ``needed``."""
    value = entry.get(key)
    if isinstance(value, str) and value.strip():
        return value
    if value is None or isinstance(value, str):
        if needed:
            raise ItemsError(f"{where}: '{key}' is missing or empty; the entry has {', '.join(map(str, entry))}")
        return None
    raise ItemsError(f"{where}: '{key}' is {value!r}; a text is needed")


def choice_texts(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """Return the choices under a key: a list of at least two strings."""
    value = entry.get(key)
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(choice, str) for choice in value):
        raise ItemsError(f"{where}: '{key}' is {value!r}; a list of at least two texts is needed")
    return tuple(value)


def question_of(
    entry: Mapping[str, Any],
    where: str,
    *,
    text: str = "question",
    choices: str = "choices",
    answer: str | None = "answer",
    **fields: str,
) -> Question:
    """Return the question of an entry; a missing answer or field is None.

    Args:
        entry: An object of the question file.
        where: Name of the entry in messages.
        text, choices, answer: Names of these fields in the file; None: no text holds the answer.
        **fields: The same for ``domain``, ``category``, ``sub_category`` and ``difficulty``.

    Raises:
        ItemsError: The text or the choices are missing, or a value is of a wrong type.
    """
    named = {"answer": answer, **fields}
    values = {name: text_of(entry, key, where, needed=False) for name, key in named.items() if key is not None}
    return Question(str(text_of(entry, text, where)), choice_texts(entry, choices, where), **values)


def answers_in_other_words(entries: ItemSet) -> list[str]:
    """Return the ids of items whose answer is a letter or differs in wording from its choice."""
    return [
        item.id
        for item, entry in zip(entries.items, entries.official, strict=True)
        if isinstance(entry.get("answer"), str) and item.question.answer not in (None, entry["answer"])
    ]


def fingerprint_of(items: Iterable[Item]) -> str:
    """Return the sha256 of the content of the items, in order, as hexadecimal digits."""
    digest = hashlib.sha256()
    for item in items:
        line = json.dumps(item_to_json(item), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        digest.update(line.encode("ascii") + b"\n")
    return digest.hexdigest()


def _content_problems(items: tuple[Item, ...]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for item in items:
        question = item.question
        if question.answer is None:
            groups.setdefault("have no answer: they are asked, and not scored", []).append(item.id)
        elif question.choices and question.answer not in question.choices:
            groups.setdefault("have an answer that is none of their choices", []).append(item.id)
        if len(set(question.choices)) < len(question.choices):
            groups.setdefault("give the same choice twice", []).append(item.id)
    return [f"{len(ids)} items {problem} (first: {ids[0]})" for problem, ids in groups.items()]
