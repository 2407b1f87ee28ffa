"""Import runs of lmms-eval as runs of this project, to score, compare and plot them.

With ``--log_samples``, lmms-eval writes ``DATE_samples_TASK.jsonl``, one line per item and filter:

    doc_id, target     of the item; target is the answer's text or letter
    input              the prompt, with the choices as "A. words" (if the version writes it)
    doc, submission    the item itself, in older versions and in some tasks; ``choices`` may be a JSON string
    resps              the model's output: [[text]] before 0.6, [text] since; omitted if equal to the next
    filtered_resps     the same without thoughts: [text], or text
    token_counts       [{"output_tokens": n}], if the backend counts them

If a benchmark's own file is given, its items are used: joined by id, else by the words of question and choices in the
prompt. Otherwise items are built from ``doc``, ``submission`` or the prompt. The order of the choices is that of the
prompt, since letters in replies refer to it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpar2.accuracy import summarise
from mpar2.answers import read_answer
from mpar2.errors import MPAR2Error
from mpar2.items import ItemSet
from mpar2.items.base import fingerprint_of, read_json_lines
from mpar2.question import Item, Question, item_to_json, resolve_answer
from mpar2.runs import RunWriter, build_manifest, read_run
from mpar2.runs.record import record_key
from mpar2.trace import parse_trace

__all__ = ["SamplesError", "import_samples"]

_CHOICE = re.compile(r"^[ \t]*\(?([A-J])[.):]\)?[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"(?:.*_)?samples_(?P<task>.+)\.jsonl")


class SamplesError(MPAR2Error, ValueError):
    """A file of samples cannot be read; the message gives the reason."""


def import_samples(
    files: Sequence[str | Path], out: str | Path, *, names: Sequence[str] = (), items: ItemSet | None = None
) -> dict[str, Any]:
    """Convert samples of lmms-eval to a run.

    Args:
        files: Sample files of one task, one per model: each becomes an arm.
        out: The folder to create.
        names: Names of the arms; by default those of the files' folders, which lmms-eval names after the model.
        items: The benchmark's own questions.

    Returns:
        The content of ``metrics.json``; ``problems`` counts the skipped lines.

    Raises:
        SamplesError: A file has no such lines, or no line can be joined.
    """
    # Name the arms: the folder of a file is the model.
    paths = [Path(file) for file in files]
    if names and len(names) != len(paths):
        raise SamplesError(f"{len(names)} names are given for {len(paths)} files: one for each is needed")
    arms = [re.sub(r"[|/\\]+", "-", name).strip()[:80] for name in names or (p.resolve().parent.name for p in paths)]
    if len(set(arms)) < len(arms):
        raise SamplesError(f"two files would be the arm {Counter(arms).most_common(1)[0][0]!r}: name them with --name")
    task = match["task"] if (match := _NAME.fullmatch(paths[0].name)) else paths[0].stem
    # Join each line with its item; unmatched lines are counted.
    problems: Counter[str] = Counter()
    items_by_id: dict[str, Item] = {}
    records: list[dict[str, Any]] = []
    find = _Finder(items) if items is not None else None
    for path, arm in zip(paths, arms, strict=True):
        for where, line in _lines(path):
            item = _item(line, where) if find is None else find(line)
            if item is None:
                problems[f"lines of {arm!r} are of no item of {items.source.name}"] += 1  # type: ignore[union-attr]
                continue
            items_by_id.setdefault(item.id, item)
            records += _records(line, item, arm, where)
    if not records:
        raise SamplesError(f"{paths[0]} has no line of {items.source if items else 'an item with choices'}: {task}")
    # Write the run; the settings of the original run are unknown.
    run_items = tuple(items_by_id.values())
    samples = {arm: max(r["sample"] for r in records if r["arm"] == arm) + 1 for arm in {r["arm"] for r in records}}
    benchmark = {"name": task, "version": "as in the samples", "fingerprint": fingerprint_of(run_items)}
    benchmark = items.identity() if items else benchmark | {"file": paths[0].name}
    manifest = build_manifest(
        benchmark=benchmark | {"items": len(run_items)},
        arms=[{"name": arm, "model": arm, "samples": samples.get(arm, 1), "items": len(run_items)} for arm in arms],
        seed=0,
        engine={"name": "lmms-eval"},
    )
    with RunWriter(Path(out), manifest) as run:
        for record in records:
            if record["key"] not in run.done:
                run.append(record)
        metrics = summarise(read_run(run.folder).records(), run_items, {arm: samples.get(arm, 1) for arm in arms})
        metrics["problems"] = [f"{count} {problem}" for problem, count in problems.items()]
        run.finish(metrics)
    return metrics


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines of a file, one for each item (the first of several filters)."""
    seen: set[Any] = set()
    for number, line in read_json_lines(path):
        where = f"{path}, line {number}"
        if "doc_id" not in line or not ("resps" in line or "filtered_resps" in line):
            raise SamplesError(f"{where}: no 'doc_id' and 'resps'; is this a samples file of lmms-eval --log_samples?")
        if str(line["doc_id"]) not in seen:
            seen.add(str(line["doc_id"]))
            yield where, line


class _Finder:
    """Look up the benchmark item of a line."""

    def __init__(self, items: ItemSet) -> None:
        self.by_id = {item.id: item for item in items.items}
        self.by_question: dict[str, list[Item]] = {}
        for item in items.items:
            self.by_question.setdefault(item.question.text.strip(), []).append(item)

    def __call__(self, line: Mapping[str, Any]) -> Item | None:
        prompt = _prompt(line)
        entry = _entry(line)
        match = self.by_id.get(str(entry.get("id"))) if entry else None
        if match is None and prompt:
            candidates = [item for text, items in self.by_question.items() if text in prompt for item in items]
            candidates = [item for item in candidates if all(choice in prompt for choice in item.question.choices)]
            # a short question may be part of a longer one
            longest = max((len(item.question.text) for item in candidates), default=0)
            candidates = [item for item in candidates if len(item.question.text) == longest]
            match = candidates[0] if len(candidates) == 1 else None
        choices = _choices(prompt)
        if match is not None and sorted(choices) == sorted(match.question.choices):
            match = replace(match, question=replace(match.question, choices=choices))
        return match


def _item(line: Mapping[str, Any], where: str) -> Item:
    """Build an item from the line alone."""
    entry, prompt = _entry(line) or {}, _prompt(line)
    choices = entry.get("choices")
    if isinstance(choices, str):
        with suppress(ValueError):
            choices = json.loads(choices)
    if not (isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)):
        choices = _choices(prompt)
    text = entry.get("question") or (_CHOICE.split(prompt, maxsplit=1)[0].strip() if prompt else "")
    answer = entry.get("answer", line.get("target"))
    if not isinstance(text, str) or not text or not choices or not isinstance(answer, str):
        raise SamplesError(
            f"{where}: neither an item nor a prompt with choices is in the line: give the benchmark's own question "
            "file with --benchmark and --data"
        )
    id = str(entry.get("id", line["doc_id"]))
    audio = entry.get("audio_id") or entry.get("audio_path") or id
    answer = resolve_answer(answer.strip() or None, tuple(choices))  # an empty one is withheld
    question = Question(text, tuple(choices), answer, domain=entry.get("task"))
    return Item(id, str(audio), question)


def _entry(line: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((line[name] for name in ("doc", "submission") if isinstance(line.get(name), Mapping)), None)


def _prompt(line: Mapping[str, Any]) -> str:
    prompt = line.get("input")
    if prompt is None:  # before 0.4 the arguments were in the line
        arguments = line.get("arguments")
        while isinstance(arguments, list) and arguments:
            arguments = arguments[0]
        prompt = arguments
    return prompt if isinstance(prompt, str) else ""


def _choices(prompt: str) -> tuple[str, ...]:
    """Return the choices that a prompt lists as "A. words", if their letters are consecutive from A."""
    matches = _CHOICE.findall(prompt)
    letters = "".join(letter for letter, _ in matches)
    return tuple(words for _, words in matches) if letters and "ABCDEFGHIJ".startswith(letters) else ()


def _records(line: Mapping[str, Any], item: Item, arm: str, where: str) -> Iterator[dict[str, Any]]:
    """Yield one record for each reply of a line."""
    replies = line.get("resps", line.get("filtered_resps"))
    while isinstance(replies, list) and len(replies) == 1 and isinstance(replies[0], list):
        replies = replies[0]
    replies = [replies] if isinstance(replies, str) else replies
    if not isinstance(replies, list) or not all(isinstance(reply, str) for reply in replies):
        raise SamplesError(f"{where}: 'resps' is {replies!r:.80}; texts are needed")
    counts = line.get("token_counts")
    tokens = counts[0].get("output_tokens") if isinstance(counts, list) and counts and counts[0] else None
    for sample, reply in enumerate(replies):
        trace = parse_trace(reply)
        answer = read_answer(trace, item.question.choices)
        data = item_to_json(item)
        yield {
            "key": record_key(item.id, arm, sample),
            "id": data.pop("id"),
            "arm": arm,
            "sample": sample,
            "status": "ok",
            "item": data,
            "text": reply,
            "answer": answer.words,
            "choice": answer.choice,
            "prediction": answer.prediction,
            "tokens": tokens if type(tokens) is int else None,
        }
