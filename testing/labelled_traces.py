"""Traces with mentions labelled by people, and the agreement of a judge with the labels.

A file holds traces separated by blank lines. The first line of each is ``truth: label onset-offset [level]; ...``
(empty if nothing is audible). The rest is the trace, in which ``{words|K0,1}`` marks a mention with its kind (M
matched, H hallucinated, U misused, N neutral or no mention) and the indices of its truth events.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpar2.cafe.schema import Truth, Verdict
from mpar2.question import Event
from mpar2.trace import Span

_KINDS = {"M": "matched", "H": "hallucinated", "U": "misused", "N": "neutral"}
_MARK = re.compile(r"\{([^{}|]*)\|([MHUN])([\d,]*)\}")
_EVENT = re.compile(r"(.+?)(?: ([\d.]+)-([\d.]+))?(?: (-\d+))?")


@dataclass(frozen=True)
class Label:
    """The label of one mention."""

    chars: Span
    kind: str
    events: tuple[int, ...]


@dataclass(frozen=True)
class LabelledTrace:
    """A trace without its marks, its truth and its labels."""

    text: str
    truth: Truth
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class LabelAgreement:
    """Counts over labelled mentions; ``invented`` are hallucinations of the judge without such a label."""

    mentions: int
    agreed: int
    invented: int
    differences: tuple[str, ...]


def read_labelled(path: Path) -> list[LabelledTrace]:
    """Read a file of labelled traces; lines that begin with "#" are comments."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [_trace(block) for block in "\n".join(lines).strip().split("\n\n")]


def agreement_with(judge: Callable[[str, Truth], Verdict], traces: list[LabelledTrace]) -> LabelAgreement:
    """Compare the kinds of a judge's mentions with the labels.

    A label is matched with the judge's mention that shares most characters with it. A label without a mention counts
    as judged "neutral". Mentions without a label are compared with "neutral".
    """
    mentions = agreed = invented = 0
    differences = []
    for trace in traces:
        verdict = judge(trace.text, trace.truth)
        matched_ids: set[str] = set()
        for label in trace.labels:
            overlaps = [(_overlap(m.chars, label.chars), m) for m in verdict.mentions if _overlap(m.chars, label.chars)]
            best = max(overlaps, key=lambda pair: pair[0], default=(0, None))[1]
            matched_ids |= {m.id for _, m in overlaps}
            kind = "neutral" if best is None else str(best.kind)
            mentions += 1
            agreed += kind == label.kind
            invented += kind == "hallucinated" != label.kind
            if kind != label.kind:
                words = trace.text[label.chars.start : label.chars.stop]
                reason = best.reason if best is not None else "not listed"
                differences.append(f"{words!r}: {label.kind}, judged {kind} ({reason}) in: {trace.text}")
        for mention in verdict.mentions:
            if mention.id not in matched_ids and mention.kind in ("hallucinated", "misused"):
                mentions += 1
                invented += mention.kind == "hallucinated"
                reason = f"judged {mention.kind} ({mention.reason})"
                differences.append(f"{mention.quote!r}: no label, {reason} in: {trace.text}")
    return LabelAgreement(mentions, agreed, invented, tuple(differences))


def _overlap(a: Span, b: Span) -> int:
    return max(0, min(a.stop, b.stop) - max(a.start, b.start))


def _trace(block: str) -> LabelledTrace:
    truth_line, _, body = block.partition("\n")
    events, levels = [], []
    for entry in filter(None, (part.strip() for part in truth_line.removeprefix("truth:").split(";"))):
        label, onset, offset, level = _EVENT.fullmatch(entry).groups()  # type: ignore[union-attr]
        events.append(Event(label, *(None if time is None else float(time) for time in (onset, offset))))
        levels.append(None if level is None else float(level))
    levels_db = tuple(levels) if levels and None not in levels else None
    text, labels, position = "", [], 0
    for mark in _MARK.finditer(body):
        text += body[position : mark.start()]
        span = Span(len(text), len(text) + len(mark[1]))
        labels.append(Label(span, _KINDS[mark[2]], tuple(int(n) for n in mark[3].split(",") if n)))
        text += mark[1]
        position = mark.end()
    return LabelledTrace(text + body[position:], Truth(tuple(events), levels_db=levels_db), tuple(labels))
