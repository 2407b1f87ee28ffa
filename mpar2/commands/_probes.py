"""The tasks of ``mpar2 cafe`` that run the models of a run again: direct probes, and attention grounding.

Both use the recording itself. Arms with another input (silent or shuffled audio, oracle perception, masked audio) are
skipped and listed; their weights are measured under the arms with the normal recording. Intervals are clustered by
clip.

    RUN/cafe/probe-answers.jsonl   the journal: answers by weights and question, so that no request is repeated
    RUN/cafe/probes.jsonl          one line for each arm and item, from the arm's latest probe
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpar2.commands._arms import add_engine_options, engine_of
from mpar2.commands._paid import at_least_one
from mpar2.commands._truth import add_truth, event_truths

if TYPE_CHECKING:
    from mpar2.audio import Clip
    from mpar2.cafe.probes import Probe
    from mpar2.cafe.schema import Truth
    from mpar2.engines.base import Arm, Engine
    from mpar2.llm.journal import Journal
    from mpar2.question import Item
    from mpar2.statistics import Interval

_ANSWER_TOKENS = 512  # enough for a model that reasons before its answer; one that answers directly stops early


def configure(tasks: Any) -> None:
    """Add the tasks to the parser's tasks."""
    probe = tasks.add_parser("probe", help="ask the models of a run directly about each event, and about absent ones")
    _common(probe)
    probe.add_argument("--batch-size", type=at_least_one, default=8, metavar="N")
    probe.add_argument("--seed", type=int, default=0)
    probe.set_defaults(work=_probe)

    ground = tasks.add_parser(
        "ground", help="whether attention lies on an event while a model writes of it, against chance"
    )
    _common(ground)
    ground.add_argument("--keep-sinks", action="store_true", help="count columns that draw attention at every token")
    ground.set_defaults(work=_ground)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder whose items have events")
    parser.add_argument("--audio-root", required=True, metavar="DIR", help="where the run's audio is")
    parser.add_argument("--arm", action="append", default=[], help="of these arms only; give the option once for each")
    parser.add_argument("--limit", type=at_least_one, metavar="N", help="the first N items only")
    add_truth(parser, "whose events are asked about")
    add_engine_options(parser)


def _subjects(options: argparse.Namespace, engine: Engine) -> tuple[dict[str, Item], dict[str, Truth], list[Arm], Any]:
    """Return items with events (at most ``--limit``), their truths, the chosen arms and the run.

    Raises:
        ScoreError: No item has events, or no arm can be probed.
    """
    from mpar2.cafe.score import ScoreError
    from mpar2.runs import item_of, read_run

    run = read_run(options.run)
    items = {record["id"]: item_of(record) for record in run.records()}
    truths = event_truths(options.run, items, options.truth, f"'mpar2 cafe {options.task}'")
    truths = dict(list(truths.items())[: options.limit])
    items = {name: items[name] for name in truths}
    entries = [entry for entry in run.manifest.get("arms", []) if not options.arm or entry["name"] in options.arm]
    if controlled := [entry["name"] for entry in entries if _is_controlled(entry)]:
        print(f"left out, as their input is not the recording alone: {', '.join(controlled)}", file=sys.stderr)
    entries = [entry for entry in entries if not _is_controlled(entry)]
    arms = [_arm_of(entry) for entry in entries]
    if changed := [arm.name for arm, entry in zip(arms, entries, strict=True) if _has_changed(arm, entry, engine)]:
        print(
            f"the weights have changed since the run; they are probed as they are now: {', '.join(changed)}",
            file=sys.stderr,
        )
    if not arms:
        raise ScoreError(f"{options.run} has {len(items)} items with events and no such arm: nothing to ask")
    return items, truths, arms, run


def _is_controlled(entry: Mapping[str, Any]) -> bool:
    """Return whether a manifest's arm changes the recording or the question."""
    audio, perception = entry.get("audio") or "normal", entry.get("perception") or "own"
    return audio != "normal" or perception != "own" or entry.get("hide_audio_after") is not None


def _has_changed(arm: Arm, entry: Mapping[str, Any], engine: Engine) -> bool:
    """Return whether the weights differ from the hashes in the manifest.

    Unknown hashes do not differ.
    """
    now = engine.weights(arm)
    return any(now.get(key) and entry.get(key) and now[key] != entry[key] for key in ("model_hash", "adapter_hash"))


def _probe(options: argparse.Namespace) -> int:
    from mpar2.cafe.probes import make_probes, probe_record, probe_report, read_answers
    from mpar2.llm.journal import Journal

    engine = engine_of(options)
    items, truths, arms, run = _subjects(options, engine)
    probes = {
        name: make_probes(name, truth, seed=options.seed, absent=items[name].extra.get("absent") or ())
        for name, truth in truths.items()
    }
    clips = {name: item.audio for name, item in items.items()}
    folder, lines = Path(options.run) / "cafe", []
    reports: dict[tuple[str, ...], str] = {}
    names: dict[tuple[str, ...], list[str]] = {}
    with Journal(folder / "probe-answers.jsonl") as journal:
        for arm in arms:
            keys = _answer_missing(engine, arm, items, probes, journal, options)
            answers = {name: read_answers(journal.get(keys[name]), probes[name]) for name in items}
            lines += [
                {"arm": arm.name, "item": name, "answers": probe_record(item_answers)}
                for name, item_answers in answers.items()
            ]
            # arms of the same weights have the same answers and share one line
            key_group = tuple(keys.values())
            names.setdefault(key_group, []).append(arm.name)
            if key_group not in reports:
                reports[key_group] = str(
                    probe_report([answer for item_answers in answers.values() for answer in item_answers], clips)
                )
    for key_group, report in reports.items():
        print(f"{', '.join(names[key_group])}: {report}")
        for name in names[key_group]:
            print(f"  Err_omit of the traces of {name} by rules {_err_omit(run, name, items, truths)}")
    _write_probes(folder / "probes.jsonl", lines)
    return 0


def _answer_missing(
    engine: Engine,
    arm: Arm,
    items: Mapping[str, Item],
    probes: Mapping[str, list[Probe]],
    journal: Journal,
    options: argparse.Namespace,
) -> dict[str, str]:
    """Generate the answers that the journal lacks for these weights; return the journal's keys by item."""
    from dataclasses import replace

    from mpar2.cafe.probes import ask_probes, probe_record
    from mpar2.engines.base import Decoding
    from mpar2.llm.journal import content_key

    hashes = engine.weights(arm)
    weights = [hashes.get("model_hash") or arm.model, hashes.get("adapter_hash") or arm.adapter]
    keys = {
        name: content_key(weights, name, [(p.label, p.question.text) for p in probes[name]], _ANSWER_TOKENS)
        for name in items
    }
    todo = [name for name in items if keys[name] not in journal]
    step = max(1, options.batch_size // 2)
    for start in range(0, len(todo), step):
        chosen = todo[start : start + step]
        clips = {name: run_clip(options.audio_root, items[name].audio) for name in chosen}
        questions = [probe for name in chosen for probe in probes[name]]
        direct, decoding = replace(arm, mode="direct"), Decoding(max_new_tokens=_ANSWER_TOKENS)
        answers = ask_probes(engine, direct, clips, questions, decoding, batch_size=options.batch_size)
        for name in chosen:
            item_answers = [answer for answer in answers if answer.probe.item == name]
            journal.append({"key": keys[name], "arm": arm.name, "item": name, "answers": probe_record(item_answers)})
        print(f"\r{arm.name}: {min(start + step, len(todo))} of {len(todo)} items", end="", file=sys.stderr)
    if todo:
        print(file=sys.stderr)
    return keys


def _err_omit(run: Any, arm: str, items: Mapping[str, Item], truths: Mapping[str, Truth]) -> Interval:
    """Return the pooled share of events that the arm's traces do not assert, to compare with probe accuracy."""
    from mpar2.cafe.metrics import count_events
    from mpar2.cafe.rules.judge import annotate
    from mpar2.statistics import bootstrap_interval

    clips, counts = [], []
    for name, text in _texts(run, arm, items):
        clips.append(items[name].audio)
        counts.append(count_events(annotate(text, truths[name], choices=items[name].question.choices)))
    return bootstrap_interval([c.missed for c in counts], [c.n_tgt for c in counts], groups=clips)


def _write_probes(path: Path, lines: list[dict[str, Any]]) -> None:
    """Replace the lines of the arms probed now; keep those of other arms."""
    from mpar2.runs.lines import read_lines, write_lines

    now, other_lines = {line["arm"] for line in lines}, []
    if path.is_file():
        with path.open("rb") as file:
            other_lines = [line for _, line in read_lines(file, path.name) if line.get("arm") not in now]
    write_lines(path, (*other_lines, *lines))


def _ground(options: argparse.Namespace) -> int:
    from mpar2.cafe.grounding import ground, grounding_report
    from mpar2.cafe.rules.judge import annotate

    engine = engine_of(options)
    items, truths, arms, run = _subjects(options, engine)
    for arm in arms:
        groundings, groups = [], []
        for name, text in _texts(run, arm.name, items):
            item = items[name]
            verdict = annotate(text, truths[name], choices=item.question.choices)
            generation = engine.attend(run_clip(options.audio_root, item.audio), item.question, arm, text)
            spans = [token.chars for token in generation.tokens]
            events, attention = truths[name].events, generation.attention
            groundings.append(ground(verdict, events, attention, spans, keep_sinks=options.keep_sinks))
            groups.append(item.audio)
            print(f"\r{arm.name}: {len(groundings)} traces", end="", file=sys.stderr)
        print(file=sys.stderr)
        mentions = sum(map(len, groundings))
        if not mentions:
            print(f"{arm.name}: no matched mention with times in {len(groundings)} traces")
            continue
        report = grounding_report(groundings, groups)
        print(
            f"{arm.name}: {mentions} matched mentions in {len(groundings)} traces; of the attention on audio "
            f"{report['inside']} inside the event, by chance {report['chance']}, ratio {report['lift']}"
        )
    return 0


def _texts(run: Any, arm: str, items: Mapping[str, Item]) -> Iterator[tuple[str, str]]:
    """Yield (item, trace) for each trace of the arm with text."""
    for record in run.records():
        if record["arm"] == arm and record["id"] in items and record.get("text"):
            yield record["id"], record["text"]


def _arm_of(entry: Mapping[str, Any]) -> Arm:
    """Return the arm of a manifest's entry, without the hashes beside its settings."""
    from mpar2.arms import arm_from_json

    keys = ("name", "model", "adapter", "mode")
    return arm_from_json({key: entry[key] for key in keys if entry.get(key) is not None}).arm


def run_clip(root: str, name: str) -> Clip:
    """Load a clip of a run.

    ``name`` is a path under ``root`` or a file name, as stored in the run. It is untrusted.

    Raises:
        AudioError: No such file under ``root`` (also for a name that points outside of it), or it holds no audio.
    """
    from mpar2.audio import AudioError, load_clip

    folder = Path(root).resolve()
    for path in (folder / name, folder / Path(name).name):
        if path.resolve().is_relative_to(folder) and path.is_file():
            return load_clip(path)
    raise AudioError(f"{name} is not under {root}: give the folder of the run's audio with --audio-root")
