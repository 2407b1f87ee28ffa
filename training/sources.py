"""Sources of training items, each read into a list of items with absolute audio paths.

A source is a mapping, as a recipe writes it:

    {kind: avqa | mmau | mmar | scenes | jsonl | …, data: FILE OR FOLDER, audio_root: FOLDER, limit: N}
    {kind: events, form: desed | audioset | tacos | maestro | urbansed, data: TABLE, audio_root: FOLDER, names: TSV}
    {kind: hf, data: NAME OR FOLDER, split: train, cache: FOLDER,
     columns: {question: …, choices: …, answer: …, audio: …}}

All kinds but ``events`` and ``hf`` are benchmarks of ``mpar2.items``, read as in an evaluation. ``events`` are tables
of strong labels (``mpar2.items.events``): real recordings with exact events and generated questions. ``hf`` is a
Hugging Face dataset with an audio column (a name of the hub, or a folder of ``save_to_disk``). Audio stored inside of
it is written once to ``cache``, so that all later code handles files only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpar2.errors import MPAR2Error
from mpar2.items import benchmark_names, read_items
from mpar2.items.base import answers_in_other_words, fingerprint_of
from mpar2.items.events import items_from_events
from mpar2.question import Item, Question, resolve_answer
from mpar2.runs.lines import write_bytes

_FILE_KEYS = {"kind", "data", "audio_root", "limit"}
_EVENT_KEYS = {"kind", "form", "data", "audio_root", "names", "limit"}
_HF_KEYS = {"kind", "data", "split", "columns", "cache", "limit"}


class SourceError(MPAR2Error, ValueError):
    """A source of training items cannot be read."""


@dataclass(frozen=True)
class Source:
    """The items of a source, and its fields of a data card."""

    name: str
    items: tuple[Item, ...]
    fingerprint: str
    version: str
    problems: tuple[str, ...] = ()
    lettered: tuple[str, ...] = ()  # ids of items whose answer was given by letter or in other words


def source_kinds() -> tuple[str, ...]:
    """Return the kinds of sources: every registered benchmark, ``events`` and ``hf``."""
    return (*benchmark_names(), "events", "hf")


def read_source(spec: Mapping[str, Any]) -> Source:
    """Read one source of a recipe.

    Raises:
        SourceError: The mapping or the data is invalid.
    """
    kind = spec.get("kind")
    if kind not in source_kinds():
        raise SourceError(f"a source is of kind {kind!r}: use one of {', '.join(source_kinds())}")
    unknown = set(spec) - {"hf": _HF_KEYS, "events": _EVENT_KEYS}.get(kind, _FILE_KEYS)
    if unknown:
        raise SourceError(f"source {kind}: unknown keys {', '.join(sorted(unknown))}")
    if not spec.get("data"):
        raise SourceError(f"source {kind}: 'data' is missing: give the file or folder, for example data.0.data=PATH")
    return {"hf": _hf, "events": _events}.get(kind, _file)(spec)


def _file(spec: Mapping[str, Any]) -> Source:
    benchmark = read_items(spec["kind"], spec["data"], spec.get("audio_root")).first(spec.get("limit"))
    items = tuple(replace(item, audio=str(benchmark.audio_path(item).resolve())) for item in benchmark.items)
    name = f"{spec['kind']}:{benchmark.source.name}"
    lettered = tuple(answers_in_other_words(benchmark))
    return Source(name, items, benchmark.fingerprint, benchmark.version, benchmark.problems, lettered)


def _events(spec: Mapping[str, Any]) -> Source:
    path = Path(spec["data"])
    event_items = items_from_events(path, str(spec.get("form")), names=spec.get("names"))[: spec.get("limit")]
    root = Path(spec.get("audio_root") or (path if path.is_dir() else path.parent)).resolve()
    items = tuple(replace(item, audio=str(root / item.audio)) for item in event_items)
    return Source(f"events:{spec.get('form')}:{path.name}", items, fingerprint_of(event_items), "")


def _hf(spec: Mapping[str, Any]) -> Source:
    import datasets

    data = str(spec["data"])
    split = spec.get("split", "train")
    table = datasets.load_from_disk(data) if Path(data).is_dir() else datasets.load_dataset(data, split=split)
    if isinstance(table, datasets.DatasetDict):
        table = table[split]
    if spec.get("limit"):
        table = table.select(range(min(int(spec["limit"]), len(table))))
    names = {"question": "question", "choices": "choices", "answer": "answer", "audio": "audio"}
    names |= dict(spec.get("columns") or {})
    missing = [f"{field} -> {column}" for field, column in names.items() if column not in table.column_names]
    if missing:
        raise SourceError(
            f"the dataset '{data}' lacks {', '.join(missing)}; it has {', '.join(table.column_names)}: name its "
            "columns with 'columns'"
        )
    table = table.cast_column(names["audio"], datasets.Audio(decode=False))
    cache = Path(spec.get("cache") or "audio-cache").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    items = tuple(_rows(table, names, cache))
    digest = hashlib.sha256(repr([(i.id, i.audio, i.question) for i in items]).encode()).hexdigest()
    return Source(f"hf:{Path(data).name}:{split}", items, digest, str(table.info.version or ""))


def _rows(table: Any, names: Mapping[str, str], cache: Path) -> Iterator[Item]:
    fields = ("caption", "category", "difficulty", "domain", "sub_category")
    for number, row in enumerate(table):
        choices = row[names["choices"]]
        if choices is not None and not isinstance(choices, list | tuple):
            raise SourceError(f"row {number}: the choices are {choices!r:.60}; a list of texts is needed")
        choices = tuple(str(choice) for choice in choices or ())
        answer = row[names["answer"]]
        if isinstance(answer, int) and not isinstance(answer, bool) and choices:
            if not 0 <= answer < len(choices):
                raise SourceError(f"row {number}: answer {answer} is no index of its {len(choices)} choices")
            answer = choices[answer]
        values = {name: row.get(names.get(name, name)) for name in fields}
        caption = values.pop("caption")
        question = Question(
            text=str(row[names["question"]]),
            choices=choices,
            answer=resolve_answer(None if answer is None else str(answer), choices),
            **values,
        )
        audio = row[names["audio"]]
        yield Item(
            id=str(row.get(names.get("id", "id"), number)),
            audio=_stored(audio, cache, number),
            question=question,
            caption=caption,
            truth_origin="human" if caption else None,
        )


def _stored(audio: Any, cache: Path, number: int) -> str:
    """Return the path of a clip; bytes inside the table become a file, named by their hash."""
    if audio is None:
        return str(cache / f"missing-{number}")
    if audio.get("bytes") is None:
        return str(Path(audio["path"]).resolve())
    data = audio["bytes"]
    path = cache / (hashlib.sha256(data).hexdigest()[:32] + (Path(audio.get("path") or "").suffix or ".audio"))
    if not path.exists():
        write_bytes(path, data)
    return str(path)
