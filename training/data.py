"""Datasets for training: one schema, filters as counted steps, and a data card.

One row of the dataset:

    prompt       chat messages of one mode; the audio part holds the clip's absolute path
    completion   target of SFT; None where only GRPO uses the row
    id, source, audio, question, choices, answer, events, caption, truth_origin, category, difficulty

Filters run in a fixed order, and each reports how many rows it removed and the first of them:

``letters``      answers given by letter or in other words, replaced by their choice: counted, none is removed
``audio``        the file exists                 ``decodes``   it can be decoded and is not silent (optional: slow)
``answer``       there is an answer              ``choices``   and it is one of the choices
``duplicate``    same audio, question, choices   ``held_out``  no recording of an evaluation is trained on
``longer``       longer than the model's limit (``data.drop_longer``); otherwise ``cut`` counts clips that training cuts
``guessable``    the base model does not answer it with the audio silenced: it needs the audio (optional)
``pass_rate``    a policy's share of right answers lies within bounds (optional)

Every written file has a card beside it: sources with fingerprints, steps with counts, seed, prompt hash, split.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import soundfile

from mpar2.audio import AudioError, load_clip
from mpar2.prompts import build_messages, prompt_identity
from mpar2.question import Item, item_to_json, match_choice
from mpar2.runs.lines import dump_json, write_bytes, write_json
from training.sources import Source, read_source

SILENT = 1e-4  # a clip whose loudest sample is below this is silent


@dataclass(frozen=True)
class FilterStep:
    """One filter: rows before and after, the first row that it removed or changed, and the number of changed rows."""

    name: str
    before: int
    after: int
    first: str | None = None
    changed: int = 0

    def __str__(self) -> str:
        n_removed = self.before - self.after
        text = f"{self.name}: {self.before} -> {self.after}"
        if self.changed:
            return f"{text} ({self.changed} changed, first: {self.first})"
        return text + (f" ({n_removed} taken, first: {self.first})" if n_removed else "")

    def as_json(self) -> dict[str, Any]:
        """Return the step in the form of manifests and cards."""
        return {key: value for key, value in asdict(self).items() if key != "changed" or value}


@dataclass(frozen=True)
class Corpus:
    """Items to train on, with their sources and filter steps."""

    items: tuple[Item, ...]
    sources: tuple[Source, ...]
    steps: tuple[FilterStep, ...]
    seed: int = 0
    notes: dict[str, Any] = field(default_factory=dict)

    def report(self) -> str:
        """Return the steps as lines."""
        lines = [f"{source.name}: {len(source.items)} read" for source in self.sources]
        return "\n".join([*lines, *map(str, self.steps)])


def build_corpus(
    specs: Sequence[Mapping[str, Any]],
    *,
    decode: bool = False,
    held_out: Iterable[str] = (),
    longest_s: float | None = None,
    drop_longer: bool = False,
    shuffle_seed: int | None = None,
    limit: int | None = None,
    more: Sequence[tuple[str, Callable[[Sequence[Item]], Sequence[Item]]]] = (),
) -> Corpus:
    """Read all sources and filter them.

    Args:
        specs: Sources as a recipe writes them.
        decode: Whether each clip is decoded, and dropped where that fails or it is silent.
        held_out: Recordings (:func:`recordings_of`) that must not be trained on.
        longest_s: The longest audio that the model accepts, seconds. Longer clips are counted; training cuts them.
        drop_longer: Drop longer clips instead, since the question may be about the part that is cut.
        shuffle_seed: Seed of the order; None keeps the order of the sources.
        limit: Most items, after all filters.
        more: Further filters with their names, from items to the remaining items.

    Raises:
        ValueError: No item is left; the message has all counts.
    """
    sources = tuple(read_source(spec) for spec in specs)
    items: list[Item] = [item for source in sources for item in source.items]
    forbidden = frozenset(held_out)
    filters: list[tuple[str, Callable[[Sequence[Item]], Sequence[Item]]]] = [
        ("audio", lambda rows: [item for item in rows if Path(item.audio).is_file()])
    ]
    if decode:
        filters.append(("decodes", _decodable))
    filters += [
        ("answer", lambda rows: [item for item in rows if item.question.answer]),
        ("choices", lambda rows: [item for item in rows if _answer_is_a_choice(item)]),
        ("duplicate", _distinct),
        ("held_out", lambda rows: [item for item in rows if not forbidden & set(_recordings(item))]),
        *more,
    ]
    if longest_s is not None and drop_longer:
        filters.append(("longer", lambda rows: [item for item in rows if _seconds(item.audio) <= longest_s]))
    letters = [id for source in sources for id in source.lettered]
    steps = [FilterStep("letters", len(items), len(items), letters[0], len(letters))] if letters else []
    for name, keep in filters:
        remaining = list(keep(items))
        ids = {id(item) for item in remaining}
        first = next((item.id for item in items if id(item) not in ids), None)
        steps.append(FilterStep(name, len(items), len(remaining), first))
        items = remaining
    if longest_s is not None and not drop_longer:
        too_long = [item.id for item in items if _seconds(item.audio) > longest_s]
        steps += [FilterStep("cut", len(items), len(items), too_long[0], len(too_long))] if too_long else []
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(items)
    if limit is not None and limit < len(items):
        steps.append(FilterStep("limit", len(items), limit))
        items = items[:limit]
    if not items:
        raise ValueError(f"no item is left to train on:\n{Corpus((), sources, tuple(steps)).report()}")
    return Corpus(tuple(items), sources, tuple(steps), shuffle_seed or 0)


@lru_cache(maxsize=100_000)
def _seconds(path: str) -> float:
    """Return the length of a clip, by its header if possible; 0 if it cannot be decoded."""
    try:
        return float(soundfile.info(path).duration)
    except soundfile.SoundFileError:
        pass
    try:
        return load_clip(path).seconds
    except AudioError:
        return 0.0


def _decodable(items: Sequence[Item]) -> list[Item]:
    def is_audible(path: str) -> bool:
        try:
            return float(abs(load_clip(path).samples).max()) > SILENT
        except AudioError:
            return False

    paths = list(dict.fromkeys(item.audio for item in items))
    with ThreadPoolExecutor() as pool:
        audible = dict(zip(paths, pool.map(is_audible, paths), strict=True))
    return [item for item in items if audible[item.audio]]


def _answer_is_a_choice(item: Item) -> bool:
    choices = item.question.choices
    return not choices or (
        len(set(choices)) == len(choices) and match_choice(item.question.answer, choices) is not None
    )


def _distinct(items: Sequence[Item]) -> list[Item]:
    keys: set[tuple[str, str, tuple[str, ...]]] = set()
    distinct = []
    for item in items:
        question = " ".join(item.question.text.lower().split())
        key = (_file_digest(item.audio), question, tuple(sorted(item.question.choices)))
        if key not in keys:
            keys.add(key)
            distinct.append(item)
    return distinct


@lru_cache(maxsize=100_000)
def _file_digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recordings(item: Item) -> list[str]:
    """Return the recordings of a clip: those of a scene and the file itself, by content."""
    return [f"recording:{name}" for name in item.extra.get("sources", ())] + [f"file:{_file_digest(item.audio)}"]


def recordings_of(specs: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return all recordings of evaluation sets, to hold them out of training.

    Synthetic sounds do not count as recordings.
    """
    names = (name for spec in specs for item in read_source(spec).items for name in _recordings(item))
    return frozenset(name for name in names if not name.startswith("recording:synth:"))


def filter_text_only_solvable(items: Sequence[Item], model: str) -> list[Item]:
    """Return the items that a model does not answer correctly on silence; the others need no audio."""
    rates = _right_answers(items, model, None, "direct", 1, 8, silent=True)
    return [item for item, rate in zip(items, rates, strict=True) if rate == 0]


def filter_by_pass_rate(
    items: Sequence[Item],
    model: str,
    *,
    adapter: str | None = None,
    mode: str = "mpar2",
    samples: int = 8,
    keep: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 8,
) -> list[Item]:
    """Measure a policy's share of right answers on each item, and return the items of middle difficulty.

    The share of right answers at temperature 1 is stored in ``extra["pass_rate"]``, by which ``order: easy_first``
    sorts. Items that are always or never right give a group no advantage (source: Kimi k1.5, arXiv 2501.12599, section
    on prompt curation and curriculum sampling).

    Args:
        items: The items.
        model: Checkpoint of the policy.
        adapter: Its adapter; None uses the bare checkpoint.
        mode: Mode of the prompt.
        samples: Answers of each item.
        keep: Lowest and highest share that is kept.
        batch_size: Answers generated at a time.

    Raises:
        ValueError: ``keep`` is no range within [0, 1], or ``samples`` is below 1.
    """
    low, high = keep
    if not 0 <= low <= high <= 1 or samples < 1:
        raise ValueError(f"pass_rate: keep is {list(keep)} and samples {samples}: 0 <= low <= high <= 1, at least 1")
    rates = _right_answers(items, model, adapter, mode, samples, batch_size, silent=False)
    return [
        replace(item, extra=item.extra | {"pass_rate": round(rate, 4)})
        for item, rate in zip(items, rates, strict=True)
        if low <= rate <= high
    ]


def _right_answers(
    items: Sequence[Item], model: str, adapter: str | None, mode: str, samples: int, batch_size: int, *, silent: bool
) -> list[float]:
    """Return the share of right answers of each item: greedy for one sample, else at temperature 1."""
    import numpy as np

    from mpar2.audio import SAMPLE_RATE, Clip
    from mpar2.engines.base import Arm, Decoding, Request
    from mpar2.engines.transformers import TransformersEngine
    from mpar2.question import strict_match

    silence = Clip(np.zeros(4 * SAMPLE_RATE, np.float32), "silence")
    arm = Arm("measured", model, adapter, mode=mode)  # type: ignore[arg-type]
    engine, correct = TransformersEngine(), np.zeros(len(items))
    for sample in range(samples):
        budget = Decoding(
            max_new_tokens=32 if mode == "direct" else 384, temperature=float(samples > 1), top_p=1.0, seed=sample
        )
        for first in range(0, len(items), 256):  # clips in memory at a time
            batch = items[first : first + 256]
            requests = [Request(silence if silent else load_clip(item.audio), item.question, arm) for item in batch]
            for place, prediction in enumerate(engine.generate_batch(requests, budget, batch_size=batch_size), first):
                question = items[place].question
                answer = prediction.choice or prediction.trace.answer
                correct[place] += strict_match(question.answer or "", answer, question.choices)
    return (correct / samples).tolist()


def completion_of(item: Item, mode: str) -> str | None:
    """Return an item's completion for a mode; None where there is none."""
    completion = (item.extra.get("completions") or {}).get(mode)
    if completion is None and mode == "direct" and item.question.answer is not None:
        return f"<answer>{item.question.answer}</answer>"
    return completion


def to_dataset(items: Sequence[Item], mode: str, *, completions: bool = False, prompt: str | None = None) -> Any:
    """Return a ``datasets.Dataset`` of rows (see the module).

    With ``completions``, items without one for the mode are left out.

    Raises:
        ValueError: No row is left.
    """
    import datasets

    rows = []
    for item in items:
        text = completion_of(item, mode)
        if completions and text is None:
            continue
        rows.append(_row(item, mode, text, prompt))
    if not rows:
        raise ValueError(
            f"none of {len(items)} items has a completion for mode '{mode}' (extra.completions.{mode}): build the cold "
            "start first, see training/README.md"
        )
    return datasets.Dataset.from_list(rows)


def _row(item: Item, mode: str, completion: str | None, prompt: str | None) -> dict[str, Any]:
    messages = build_messages(item.question, mode, prompt)  # type: ignore[arg-type]
    for part in messages[0]["content"]:
        if part["type"] == "audio":
            part["path"] = item.audio
    data = item_to_json(item)
    keys = ("id", "audio", "question", "choices", "answer", "events", "caption", "truth_origin", "category")
    keys += ("difficulty",)
    return {"prompt": messages, "completion": completion} | {key: data[key] for key in keys}


def save_corpus(
    corpus: Corpus, folder: Path, *, split: str, prompts: Iterable[str] = ("direct", "cot", "mpar2")
) -> Path:
    """Write ``items.jsonl``, which refers to audio by absolute path, and ``card.json``; return the former."""
    folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(dump_json(item_to_json(item)) + b"\n" for item in corpus.items)
    write_bytes(folder / "items.jsonl", data)
    card = {
        "format": "mpar2-data-card",
        "version": 1,
        "split": split,
        "items": len(corpus.items),
        "sha256": hashlib.sha256(data).hexdigest(),
        "seed": corpus.seed,
        "sources": [
            {"name": s.name, "version": s.version, "fingerprint": s.fingerprint, "items": len(s.items)}
            | {"problems": list(s.problems)}
            for s in corpus.sources
        ],
        "steps": [step.as_json() for step in corpus.steps],
        "prompt_hashes": {mode: prompt_identity(mode)[1] for mode in prompts},
        "recordings": sorted({name for item in corpus.items for name in item.extra.get("sources", ())}),
        "notes": corpus.notes,
    }
    write_json(folder / "card.json", card)
    return folder / "items.jsonl"
