"""The tasks of ``mpar2 cafe`` that run the models of a run once more: direct probes, and attention grounding."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpar2.audio import Clip
    from mpar2.engines.base import Arm
    from mpar2.question import Item

__all__ = ["configure", "run_clip"]


def configure(tasks: Any) -> None:
    """Add the tasks to the parser's tasks."""
    probe = tasks.add_parser("probe", help="ask the models of a run directly about each event, and about absent ones")
    _common(probe)
    probe.add_argument("--batch-size", type=int, default=8, metavar="N")
    probe.add_argument("--seed", type=int, default=0)
    probe.set_defaults(work=_probe)

    ground = tasks.add_parser(
        "ground", help="whether attention lies on an event while a model writes of it, against chance"
    )
    _common(ground)
    ground.add_argument("--keep-sinks", action="store_true", help="count columns that draw attention at every token")
    ground.set_defaults(work=_ground)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--audio-root", required=True, metavar="DIR", help="where the run's audio is")
    parser.add_argument("--arm", action="append", default=[], help="of these arms only; give the option once for each")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N items only")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")


def _subjects(options: argparse.Namespace) -> tuple[dict[str, Item], list[Arm], Any]:
    """Items with events (at most ``--limit``), the chosen arms and the run. Raises ``ScoreError`` if there are none."""
    from mpar2.arms import arm_from_json
    from mpar2.cafe.score import ScoreError
    from mpar2.runs import item_of, read_run

    run = read_run(options.run)
    items = {record["id"]: item_of(record) for record in run.records()}
    items = {name: item for name, item in items.items() if item.events is not None}
    items = dict(list(items.items())[: options.limit])
    arms = [_arm_of(entry, arm_from_json) for entry in run.manifest.get("arms", [])]
    arms = [arm for arm in arms if not options.arm or arm.name in options.arm]
    if not items or not arms:
        raise ScoreError(f"{options.run} has {len(items)} items with events and {len(arms)} such arms: nothing to ask")
    return items, arms, run


def _probe(options: argparse.Namespace) -> int:
    from mpar2.cafe.probes import ask_probes, make_probes, probe_record, probe_report, read_answers
    from mpar2.cafe.truth import truth_of
    from mpar2.engines.base import Arm, Decoding
    from mpar2.engines.transformers import TransformersEngine
    from mpar2.llm.journal import Journal, content_key

    items, arms, _ = _subjects(options)
    names = list(items)
    engine, decoding = TransformersEngine(device=options.device), Decoding(max_new_tokens=32)
    probes = {name: make_probes(name, truth_of(items[name]), seed=options.seed) for name in names}
    with Journal(Path(options.run) / "cafe" / "probes.jsonl") as journal:
        for given in arms:
            arm = Arm(given.name, given.model, given.adapter, "direct")
            keys = {
                name: content_key(arm.model, arm.adapter, name, [(p.label, p.question.text) for p in probes[name]])
                for name in names
            }
            todo = [name for name in names if keys[name] not in journal]
            step = max(1, options.batch_size // 2)
            for start in range(0, len(todo), step):
                chosen = todo[start : start + step]
                clips: Mapping[str, Clip] = {n: run_clip(options.audio_root, items[n].audio) for n in chosen}
                asked = [probe for name in chosen for probe in probes[name]]
                answers = ask_probes(engine, arm, clips, asked, decoding, batch_size=options.batch_size)
                for name in chosen:
                    mine = [answer for answer in answers if answer.probe.item == name]
                    journal.append({"key": keys[name], "arm": arm.name, "item": name, "answers": probe_record(mine)})
                print(f"\r{arm.name}: {min(start + step, len(todo))} of {len(todo)} items", end="", file=sys.stderr)
            if todo:
                print(file=sys.stderr)
            answers = [a for name in names for a in read_answers(journal.get(keys[name]), probes[name])]
            print(f"{arm.name}: {probe_report(answers)}")
    return 0


def _ground(options: argparse.Namespace) -> int:
    from mpar2.cafe.grounding import ground, grounding_report
    from mpar2.cafe.reference import annotate
    from mpar2.cafe.truth import truth_of
    from mpar2.engines.transformers import TransformersEngine

    items, arms, run = _subjects(options)
    engine = TransformersEngine(device=options.device)
    for arm in arms:
        found, groups = [], []
        for name, text in _texts(run, arm.name, items):
            item = items[name]
            verdict = annotate(text, truth_of(item), choices=item.question.choices)
            generation = engine.attend(run_clip(options.audio_root, item.audio), item.question, arm, text)
            spans = [token.chars for token in generation.tokens]
            found.append(ground(verdict, item.events, generation.attention, spans, keep_sinks=options.keep_sinks))
            groups.append(name)
            print(f"\r{arm.name}: {len(found)} traces", end="", file=sys.stderr)
        print(file=sys.stderr)
        mentions = sum(map(len, found))
        if not mentions:
            print(f"{arm.name}: no matched mention with times in {len(found)} traces")
            continue
        report = grounding_report(found, groups)
        print(
            f"{arm.name}: {mentions} matched mentions in {len(found)} traces; of the attention on audio "
            f"{report['inside']} inside the event, by chance {report['chance']}, ratio {report['lift']}"
        )
    return 0


def _texts(run: Any, arm: str, items: Mapping[str, Item]) -> Iterator[tuple[str, str]]:
    """(item, trace) of each trace of the arm that has text."""
    for record in run.records():
        if record["arm"] == arm and record["id"] in items and record.get("text"):
            yield record["id"], record["text"]


def _arm_of(entry: Mapping[str, Any], arm_from_json: Any) -> Arm:
    """The arm of a manifest, without the hashes that stand beside its settings."""
    known = ("name", "model", "adapter", "mode")
    return arm_from_json({key: entry[key] for key in known if entry.get(key) is not None}).arm


def run_clip(root: str, name: str) -> Clip:
    """The clip under ``root``; a run may come from a stranger, so a name that leads out of it is refused."""
    from mpar2.audio import AudioError, load_clip

    folder = Path(root).resolve()
    for path in (folder / name, folder / Path(name).name):
        if path.resolve().is_relative_to(folder) and path.is_file():
            return load_clip(path)
    raise AudioError(f"{name} is not under {root}: give the folder of the run's audio with --audio-root")
