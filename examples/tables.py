"""Write the tables of measured numbers into the README and the model cards: ``python examples/tables.py``.

A table is placed between ``<!-- table: NAME -->`` and ``<!-- end -->``. Run the script when the runs, the judge or the
statistics change; a test compares the written tables with the runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis import Choice, RunTable, load_runs  # noqa: E402
from analysis.contrasts import arms_table, chance_of, versus  # noqa: E402
from analysis.decay import curves, trend  # noqa: E402
from analysis.metrics import metric_of, rate  # noqa: E402

RUNS = (
    *("small-scenes", "small-recordings"),
    *("held-out-scenes", "held-out-recordings", "held-out-training", "held-out-training-recordings"),
)
CARDS = ("small-base", "small-mpar2", "tiny-base", "tiny-mpar2")
FILES = ("README.md", *(f"mpar2/checkpoints/{name}/README.md" for name in CARDS))
_MAIN = ("base direct", "base cot", "base, MPAR² prompt", "mpar2")
_FLOORS = ("mpar2, silent audio", "mpar2, shuffled audio")
_GIVEN = "mpar2, true events given"
_RULES = {
    "any wrong mention makes the event wrong (the default)": "acc_per",
    "each mention counts": "acc_per_mention",
    "the first mention decides": "acc_per_first",
    "any right mention makes the event right": "acc_per_any",
    "the right sound, whatever is claimed of it: precision": "label_precision",
    "the right sound: recall": "label_recall",
    "the right sound: F1": "label_f1",
}


def tables(runs: Mapping[str, RunTable]) -> dict[str, str]:
    """Return every table as Markdown, by name.

    Args:
        runs: Tables of the runs in ``RUNS``, by name.
    """
    scenes, recordings = runs["held-out-scenes"], runs["held-out-recordings"]
    columns = {"Acc_per": "acc_per", "recall": "recall", "right sound: precision": "label_precision"}
    columns |= {"right sound: recall": "label_recall", "attention": "attention"}
    small, single = runs["small-scenes"], runs["small-recordings"]
    return {
        "small_scenes": _of_arms(small, (*_MAIN, *_FLOORS, _GIVEN), {"accuracy": "accuracy", **columns}),
        "small_recordings": _of_arms(single, _MAIN, {"accuracy": "accuracy", "strict": "strict", **columns}),
        "scenes": _of_arms(scenes, (*_MAIN, *_FLOORS), {"accuracy": "accuracy", **columns}),
        "recordings": _of_arms(recordings, _MAIN, {"accuracy": "accuracy", "strict": "strict", **columns}),
        "rules": _by_rule(scenes),
        "thirds": _by_third(scenes),
        "training": _of_trainings(runs["held-out-training"], runs["held-out-training-recordings"]),
    }


def size(table: RunTable) -> str:
    """Return the sample size of a table, and the accuracy of guessing."""
    frame = table.frame
    return f"{frame['item'].nunique()} items of {frame['clip'].nunique()} clips; chance {chance_of(frame):.2f}"


def _of_arms(table: RunTable, arms: Sequence[str], columns: Mapping[str, str]) -> str:
    counts = arms_table(table).set_index("arm")
    rows = [
        [arm, *(_rate(table, arm, name) for name in columns.values())]
        + [str(counts.loc[arm, "no answer found"]), f"{counts.loc[arm, 'tokens']:.0f}"]
        for arm in arms
    ]
    return _markdown([f"arm ({size(table)})", *columns, "no answer", "tokens"], rows)


def _by_rule(table: RunTable) -> str:
    rows = []
    for words, name in _RULES.items():
        comparison = versus(table, "base cot", "mpar2", metric_of(name))
        values = [_rate(table, arm, name) for arm in ("base cot", "mpar2")]
        slopes = [_slope(table, arm, name, held) for arm, held in (("base cot", "difficulty"), ("mpar2", "difficulty"))]
        within = _slope(table, "base cot, 4 samples", name, "item")
        rows.append(
            [words, *values, _points(comparison["difference"], comparison["low"], comparison["high"]), *slopes, within]
        )
    head = ["counting rule", "base cot", "mpar2", "mpar2 minus base cot", "base cot, by length", "mpar2, by length"]
    return _markdown([*head, "base cot, by length within items"], rows)


def _by_third(table: RunTable) -> str:
    rates = curves(table, Choice(metric="acc_per", bins=3), ("acc_per", "acc_per_any"))
    rows = []
    for arm in ("base cot", "mpar2"):
        for name, words in (("acc_per", "any wrong"), ("acc_per_any", "any right")):
            thirds = rates[(rates["arm"] == arm) & (rates["metric"] == name)]
            cells = [f"{value:.2f} ({null:.2f})" for value, null in zip(thirds["value"], thirds["null"], strict=True)]
            rows.append([arm, words, *cells])
    return _markdown(["arm", "rule", "shortest third", "middle", "longest"], rows)


def _of_trainings(scenes: RunTable, recordings: RunTable) -> str:
    counts = arms_table(scenes).set_index("arm")
    missing = arms_table(recordings).set_index("arm")["no answer found"]
    rows = []
    for arm in scenes.labels:
        values = [_rate(scenes, arm, name) for name in ("accuracy", "acc_per", "label_f1")]
        recording_values = [_rate(recordings, arm, name) for name in ("accuracy", "strict", "f1")]
        rows.append([arm, *values, f"{counts.loc[arm, 'tokens']:.0f}", *recording_values, str(missing[arm])])
    head = ["scenes: accuracy", "Acc_per", "right sound: F1", "tokens", "recordings: accuracy", "strict", "event F1"]
    return _markdown(["", *head, "no answer"], rows)


def _rate(table: RunTable, arm: str, name: str) -> str:
    result = rate(table.frame[table.frame["arm"] == arm], metric_of(name))
    silent = result.estimate is None or (result.high == 0 and name != "accuracy")  # the arm names no events
    return "-" if silent else f"{result.estimate:.2f} [{result.low:.2f}, {result.high:.2f}]"


def _slope(table: RunTable, arm: str, name: str, held: str) -> str:
    effect = trend(table.frame[table.frame["arm"] == arm], metric_of(name), "tokens", held)
    return _points(effect.estimate, effect.low, effect.high)


def _points(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None or low is None or high is None:
        return "-"
    return f"{100 * estimate:+.0f} [{100 * low:+.0f}, {100 * high:+.0f}]"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def fill(text: str, made: Mapping[str, str]) -> str:
    """Return the text with every marked table replaced.

    Args:
        text: Text with markers.
        made: Tables as Markdown, by name.
    """
    marked = r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)"
    return re.sub(marked, lambda match: f"{match[1]}\n{made[match[2]]}\n\n{match[3]}", text, flags=re.DOTALL)


def main() -> None:
    """Write the tables at their markers in all files."""
    texts = tables({name: load_runs([ROOT / "examples" / "runs" / name]) for name in RUNS})
    for file in (ROOT / name for name in FILES):
        file.write_text(fill(file.read_text(encoding="utf-8"), texts), encoding="utf-8")


if __name__ == "__main__":
    main()
