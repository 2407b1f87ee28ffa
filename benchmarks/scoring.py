"""Traces per core-second scored by rules: short template traces, and the free English of large models.

    python -m benchmarks.scoring [--repeat 5]

``template`` is a trace of 335 characters with all parts; ``free`` are the labelled traces of ``tests/data``, given as
traces of 340 characters (characters a second over 340). Processor time, the best of the repeats.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from mpar2.cafe.metrics import RULES, count_events
from mpar2.cafe.rules.judge import annotate
from mpar2.cafe.schema import Truth
from mpar2.question import Event
from testing.labelled_traces import read_labelled

LIMIT = 1400  # template traces a core-second
TRUTH = Truth((Event("dog bark", 0.0, 2.0), Event("siren", 4.0, 6.0)))
TEMPLATE = (
    "<perception>A dog barks at 0.5 s, then a siren wails from 4.0 to 6.0 s.</perception><step><ask>Which comes first?"
    "</ask><hear>The dog bark, before the siren.</hear><infer>The dog is first, and no bell is heard at all here."
    "</infer></step><review>The dog barks twice? No, once.</review><answer>dog</answer> It could be mistaken for a cat."
)
DATA = Path(__file__).resolve().parent.parent / "tests" / "data"


def rate(traces: Sequence[tuple[str, Truth]], *, counted: bool, repeat: int) -> float:
    """Score the traces repeatedly, and return traces per core-second of the fastest repeat.

    With ``counted``, the events are also counted by every rule.
    """
    best = 0.0
    for text, truth in traces:  # fill the caches of vocabularies
        annotate(text, truth)
    for _ in range(repeat):
        start = time.process_time()
        for text, truth in traces:
            verdict = annotate(text, truth)
            if counted:
                for rule in RULES:
                    count_events(verdict, rule)
        best = max(best, len(traces) / (time.process_time() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="Traces that a core scores by rules in a second.")
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    free = [
        (trace.text, trace.truth) for path in sorted(DATA.glob("cafe_traces*.txt")) for trace in read_labelled(path)
    ]
    scale = sum(len(text) for text, _ in free) / len(free) / 340
    template = [(TEMPLATE, TRUTH)] * 300
    alone = rate(template, counted=False, repeat=repeat)
    print("| traces | judged | judged, and counted by every rule |")
    print("| --- | --- | --- |")
    print(f"| template | {alone:.0f} | {rate(template, counted=True, repeat=repeat):.0f} |")
    print(
        f"| free, as of 340 characters | {scale * rate(free, counted=False, repeat=repeat):.0f} "
        f"| {scale * rate(free, counted=True, repeat=repeat):.0f} |"
    )
    print(f"template {alone:.0f} a core-second, at least {LIMIT} are wanted")
    raise SystemExit(alone < LIMIT)


if __name__ == "__main__":
    main()
