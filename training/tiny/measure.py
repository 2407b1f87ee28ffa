"""What a run says of the tiny pair: ``python -m training.tiny.measure RUN``, a line an arm.

Event F1 of the *perception part* alone (the whole trace where there is none): its mentions are sorted by CAFE's
reference judge against the exact events of the scene, then pooled. Answers are scored by the strict rule.
Intervals are bootstrapped over clips.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import mean

from mpar2.cafe import EventCounts, annotate, count_events, truth_of
from mpar2.cafe.metrics import evaluate
from mpar2.question import strict_match
from mpar2.runs import item_of, read_run
from mpar2.statistics import Interval, PairedDifference, bootstrap_interval
from mpar2.trace import parse_trace

__all__ = ["measure", "show"]


def measure(run: Path) -> dict[str, dict]:
    """By arm: ``accuracy``, ``f1``, ``acc_per``, ``recall``, ``attention`` as intervals, mean ``tokens``, ``items``.

    ``attention`` is the attention ratio (``mpar2.attention``), a mean over tokens, then over the traces that have one.
    """
    counts: dict[str, list[EventCounts]] = defaultdict(list)
    right: dict[str, list[bool]] = defaultdict(list)
    tokens: dict[str, list[int]] = defaultdict(list)
    listening: dict[str, list[float]] = defaultdict(list)
    clips: dict[str, list[str]] = defaultdict(list)
    for record in read_run(run).records():
        if record["status"] != "ok":
            continue
        item, arm, trace = item_of(record), record["arm"], parse_trace(record["text"])
        perception = next((part.text for part in trace.parts if part.kind == "perception"), record["text"])
        counts[arm].append(count_events(annotate(perception, truth_of(item), choices=item.question.choices)))
        said = record["choice"] or record["answer"] or ""
        right[arm].append(strict_match(item.question.answer, said, item.question.choices))
        tokens[arm].append(record["tokens"])
        clips[arm].append(item.audio)
        if record["attention"] and record["attention"]["ratio"]:
            listening[arm].append(mean(record["attention"]["ratio"]))
    found = {}
    for arm in counts:
        rates = evaluate(counts[arm], clips[arm])
        found[arm] = {
            "items": len(right[arm]),
            "accuracy": bootstrap_interval([float(r) for r in right[arm]], groups=clips[arm]),
            **{name: rates[name].micro for name in ("f1", "acc_per", "recall", "err_omit")},
            "attention": bootstrap_interval(listening[arm]),
            "tokens": mean(tokens[arm]),
        }
    return found


def show(interval: Interval | PairedDifference, form: str = ".2f") -> str:
    """``0.51 [0.41, 0.61]``; a dash where nothing was counted."""
    if interval.estimate is None or interval.low is None:
        return "-"
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    print(
        "| arm | items | accuracy | event F1 | Acc_per | recall | attention | tokens |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for arm, row in measure(parser.parse_args(argv).run).items():
        shown = " | ".join(show(row[name]) for name in ("accuracy", "f1", "acc_per", "recall", "attention"))
        print(f"| {arm} | {row['items']} | {shown} | {row['tokens']:.0f} |")


if __name__ == "__main__":
    main()
