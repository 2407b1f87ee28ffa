"""Score one run under every rule in use: why do our numbers differ?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_WORDS = {
    "official": "official scripts, on the prediction",
    "official_raw": "official scripts, on the bare reply",
    "strict": "strict: the choice named without doubt",
    "letter": "last letter of a choice in the reply",
    "lmms_eval": "lmms-eval, its random guess as expectation",
    "nemo": "NeMo-RL: letters and digits of <answer>",
    "shuffled": "strict, had the choices been in another order",
    "judge": "the judge's verdicts",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, a zip of one, or its items.jsonl")
    parser.add_argument("--arm", action="append", dest="arms", metavar="NAME", help="this arm only; once for each")
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="another version of the same questions, joined by id: MMAU's original file beside v05.15.25, for example",
    )
    parser.add_argument("--benchmark", default="mmau", help="what --data is (default: mmau)")
    parser.add_argument(
        "--judge",
        type=Path,
        metavar="FILE.jsonl",
        help='verdicts of a judge: lines {"key": of the run\'s line, "right": true or false}',
    )
    parser.add_argument("--reference", default="official", metavar="RULE", help="differences are from it (official)")
    parser.add_argument("--show", type=int, default=3, metavar="N", help="replies behind each difference (default: 3)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="the table with the keys behind each difference")


def run(options: argparse.Namespace) -> int:
    from mpar2.rescore import RescoreError, read_verdicts, rescore

    verdicts = read_verdicts(options.judge) if options.judge else None
    versions: list[tuple[str, Any]] = [("the run's own questions", None)]
    if options.data:
        from mpar2.items import read_items

        items = read_items(options.benchmark, options.data)
        versions.append((f"{options.benchmark} {items.version}", items))
    tables = []
    for name, items in versions:
        rows = rescore(options.run, items=items, verdicts=verdicts, arms=options.arms or ())
        if options.reference not in rows[0].values:
            raise RescoreError(f"no rule {options.reference!r}: choose one of {', '.join(rows[0].values)}")
        tables.append({"questions": name, "table": _print(name, rows, options)})
    if options.out:
        from mpar2.runs.lines import write_json

        write_json(options.out, {"versions": tables})
        print(options.out)
    return 0


def _print(name: str, rows: list[Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    from mpar2.rescore import rescored_table

    table, by_key = rescored_table(rows, options.reference), {row.key: row for row in rows}
    arm = None
    print(f"Answers scored by {name}")
    for row in table:
        if row["arm"] != arm:
            arm = row["arm"]
            print(f"\n{arm}: {row['answers']} answers, {row['items']} items of {row['clips']} clips")
        print(f"  {_WORDS.get(row['rule'], row['rule']):46} {_rate(row)}  {_difference(row, options.reference)}")
        if row["guessed"]:
            print(f"      {row['guessed']} replies are guessed by this rule")
        for key in row["behind"][: options.show]:
            example = by_key[key]
            change = f"{example.values[options.reference]:g} -> {example.values[row['rule']]:g}"
            print(f"      {example.id}: {change}, answer {example.answer[:60]!r}, reply {example.reply[:90]!r}")
        if (remaining := len(row["behind"]) - options.show) > 0 and options.show:
            print(f"      and {remaining} more")
    print()
    return table


def _rate(row: dict[str, Any]) -> str:
    bounds = "" if row["low"] is None else f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return f"{100 * row['accuracy']:5.1f} %{bounds:16}"


def _difference(row: dict[str, Any], reference: str) -> str:
    if row["rule"] == reference:
        return "(reference)"
    if row["difference_low"] is None:
        return f"{100 * row['difference']:+.1f} points"
    return (
        f"{100 * row['difference']:+.1f} points [{100 * row['difference_low']:+.1f}, "
        f"{100 * row['difference_high']:+.1f}], {row['more_right']} more and {row['less_right']} fewer right"
    )
