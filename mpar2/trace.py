"""The reasoning trace: generated text and its parts, and their parser.

The format (phases from arXiv 2603.02266, tags ours)::

    <perception>..</perception>
    <step><ask>..</ask><hear>..</hear><infer>..</infer></step>    one or more
    <review>..</review>
    <answer>..</answer>

``<think>..</think><answer>..</answer>`` (R1 style) and ``<answer>..</answer>`` alone are parsed as well.

Conventions: spans are half-open and count characters of ``Trace.text`` or generated tokens. Every part's
``text`` is exactly ``Trace.text[chars.start:chars.stop]``, never stripped. A part's children lie inside its
``chars`` and follow it in ``Trace.parts``. The top-level parts, in order, tile the text by their ``outer`` spans;
text between tagged parts (blank or not) is of kind ``text``.

The parser is total: it accepts any string, never raises, keeps every character, runs in linear time, and lists
malformed input in ``problems``. Its repairs:

* a misplaced opening tag closes the open parts (``<answer>`` inside ``<step>`` ends the step);
* inside ``<think>`` any part is allowed if a ``</think>`` follows;
* an unmatched closing tag stays in place, as text; a ``</think>`` before any other part turns the preceding text into
  a think part (chat templates may put the opening tag into the prompt);
* for a text that ends inside a tag, the fragment is excluded from the part's content;
* the answer is the last non-empty top-level ``<answer>``, otherwise the last nested one, otherwise the statement in
  the text outside of all parts ("The answer is X.", see ``mpar2.answers``), otherwise None.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from mpar2.answers import stated_answer, visible_text

__all__ = ["Part", "PartKind", "Span", "Trace", "has_form", "is_wellformed", "parse_trace", "trace_to_json"]

PartKind = Literal["perception", "step", "ask", "hear", "infer", "review", "answer", "think", "text"]


@dataclass(frozen=True)
class Span:
    """Half-open interval ``[start, stop)`` of characters or of generated tokens."""

    start: int
    stop: int


@dataclass(frozen=True)
class Part:
    """A part of a trace. ``chars`` covers the content without its tags; ``outer`` with them.

    ``tokens`` are the generated tokens that share at least one character with ``chars`` (a token across the border of
    two parts counts for both); None without token spans.
    ``parent`` is the index of the enclosing part in ``Trace.parts`` (``ask`` in ``step``), or None.
    """

    kind: PartKind
    text: str
    chars: Span
    outer: Span
    tokens: Span | None = None
    parent: int | None = None
    number: int | None = None  # 1-based, for steps


@dataclass(frozen=True)
class Trace:
    """A parsed trace. Top-level parts in order cover ``text`` without gap; ``problems`` lists malformed input."""

    text: str
    parts: tuple[Part, ...]
    problems: tuple[str, ...] = ()
    answer: str | None = None

    def top(self) -> tuple[Part, ...]:
        """Return the top-level parts; their ``outer`` spans tile the text."""
        return tuple(part for part in self.parts if part.parent is None)

    def of_kind(self, kind: PartKind) -> tuple[Part, ...]:
        """Return all parts of one kind, nested or not, in order."""
        return tuple(part for part in self.parts if part.kind == kind)

    def children(self, part: Part) -> tuple[Part, ...]:
        """Return the parts directly inside ``part``; equal parts are distinguished by their spans."""
        return tuple(p for p in self.parts if p.parent is not None and self.parts[p.parent] == part)


_STEP_PARTS = ("ask", "hear", "infer")
_PHASES = ("perception", "step", "review", "answer")
_TAGS = ("perception", "step", "ask", "hear", "infer", "review", "answer", "think")
# ASCII: otherwise IGNORECASE lets U+017F (long s) and U+212A (Kelvin sign) into tag names. The bounded blanks keep
# the search linear on "<" followed by a megabyte of spaces.
_TAG = re.compile(rf"<\s{{0,4}}(/?)\s{{0,4}}({'|'.join(_TAGS)})\s{{0,4}}>", re.IGNORECASE | re.ASCII)
_LONGEST_TAG = 32  # characters; no longer string can begin a tag
_MAX_PROBLEMS = 40  # distinct messages; hostile text could produce one for every step


def parse_trace(text: str, token_spans: Sequence[Span] | None = None) -> Trace:
    """Parse generated text into its parts. Never raises; malformed input is listed in ``problems``.

    Args:
        text: The generated text.
        token_spans: Characters of each generated token, (T,), non-decreasing; None if unknown.

    Returns:
        The trace; its parts have token spans if ``token_spans`` are given.

    >>> trace = parse_trace("<perception>a dog barks</perception><answer>dog</answer>")
    >>> [part.kind for part in trace.parts], trace.answer
    (['perception', 'answer'], 'dog')
    >>> trace.problems
    ('no <step> part', 'no <review> part')
    """
    builder = _Builder(text)
    builder.scan()
    tokens = _TokenIndex(token_spans) if token_spans is not None else None
    parts = tuple(
        Part(
            kind=node.kind,
            text=text[node.start : node.stop],
            chars=Span(node.start, node.stop),
            outer=Span(node.outer_start, node.outer_stop),
            tokens=tokens.covering(node.start, node.stop) if tokens else None,
            parent=node.parent,
            number=node.number,
        )
        for node in builder.nodes
    )
    answers = [part for part in parts if part.kind == "answer" and part.text.strip()]
    chosen = [part for part in answers if part.parent is None] or answers
    answer = chosen[-1].text.strip() if chosen else None
    problems = builder.problems
    _check_grammar(parts, problems)
    if answer is None:
        untagged = Trace(text, parts)
        alone = all(part.kind in ("think", "text", "answer") for part in untagged.top())
        answer = stated_answer(visible_text(untagged), alone=alone)
        if not any(part.kind == "answer" for part in parts):
            problems.add("no <answer> part" + ("" if answer is None else "; the answer was read from the text"))
    return Trace(text=text, parts=parts, problems=problems.messages(), answer=answer)


def is_wellformed(trace: Trace) -> bool:
    """Return whether a trace has exactly the MPAR² format: perception, steps, review, answer, without problems."""
    letters = "".join(p.kind[0] for p in trace.top() if not (p.kind == "text" and not p.text.strip()))
    return not trace.problems and re.fullmatch("ps+ra", letters) is not None


def has_form(trace: Trace, mode: str) -> bool:
    """Return whether a trace has exactly the format that its mode requests; an unknown mode is a ValueError."""
    if mode == "mpar2":
        return is_wellformed(trace)
    if mode not in ("direct", "cot"):
        raise ValueError(f"mode is {mode!r}: use direct, cot or mpar2")
    kinds = [part.kind for part in trace.top() if not (part.kind == "text" and not part.text.strip())]
    return not trace.problems and kinds == (["answer"] if mode == "direct" else ["think", "answer"])


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """Return the trace as plain JSON values; spans of characters and tokens are ``[start, stop]``."""

    def pair(span: Span | None) -> list[int] | None:
        return None if span is None else [span.start, span.stop]

    parts = []
    for p in trace.parts:
        spans = {"chars": pair(p.chars), "outer": pair(p.outer), "tokens": pair(p.tokens)}
        parts.append({"kind": p.kind, "number": p.number, "parent": p.parent, "text": p.text, **spans})
    wellformed = is_wellformed(trace)
    return {"parts": parts, "problems": list(trace.problems), "answer": trace.answer, "wellformed": wellformed}


@dataclass
class _Problems:
    """Distinct messages in order of first appearance, each with its count."""

    counts: dict[str, int] = field(default_factory=dict)
    dropped: int = 0

    def add(self, message: str) -> None:
        if message in self.counts or len(self.counts) < _MAX_PROBLEMS:
            self.counts[message] = self.counts.get(message, 0) + 1
        else:
            self.dropped += 1

    def messages(self) -> tuple[str, ...]:
        lines = [m if n == 1 else f"{m} ({n} times)" for m, n in self.counts.items()]
        return (*lines, f"and {self.dropped} further problems") if self.dropped else tuple(lines)


@dataclass
class _Node:
    """A part under construction; spans are set on closing."""

    kind: Any
    outer_start: int
    start: int
    stop: int = -1
    outer_stop: int = -1
    parent: int | None = None
    number: int | None = None


class _Builder:
    """One left-to-right pass over the tags with a stack of open parts (depth at most three: think, step, ask)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nodes: list[_Node] = []
        self.stack: list[int] = []
        self.problems = _Problems()
        self.cursor = 0  # end of the top-level parts so far
        self.steps = 0
        self.last_think_close = -1

    def scan(self) -> None:
        tags = list(_TAG.finditer(self.text))
        self.last_think_close = max((m.start() for m in tags if m[1] and m[2].lower() == "think"), default=-1)
        for match in tags:
            slash, kind = match[1], match[2].lower()
            canonical = f"<{slash}{kind}>"
            if match[0] != canonical:
                self.problems.add(f"tag {match[0]!r} is not written as {canonical}")
            if slash:
                self._close_tag(kind, match.start(), match.end())
            else:
                self._open_tag(kind, match.start(), match.end())
        self._finish()

    def _open_tag(self, kind: str, start: int, end: int) -> None:
        while self.stack and not self._may_hold(self.nodes[self.stack[-1]].kind, kind, start):
            self.problems.add(f"<{self.nodes[self.stack[-1]].kind}> is not closed before <{kind}>")
            self._close(start, start)
        parent = self.stack[-1] if self.stack else None
        if parent is None:
            self._loose(start)
        if kind in _STEP_PARTS and (parent is None or self.nodes[parent].kind != "step"):
            self.problems.add(f"<{kind}> stands outside a <step>")
        self.steps += kind == "step"
        number = self.steps if kind == "step" else None
        self.nodes.append(_Node(kind, start, end, parent=parent, number=number))
        self.stack.append(len(self.nodes) - 1)

    def _may_hold(self, outer: str, inner: str, position: int) -> bool:
        if outer == "step":
            return inner in _STEP_PARTS
        # A think part with a closing tag may quote our tags; one without ends where the next part begins.
        return outer == "think" and inner != "think" and position < self.last_think_close

    def _close_tag(self, kind: str, start: int, end: int) -> None:
        if not any(self.nodes[index].kind == kind for index in self.stack):
            self.problems.add(f"</{kind}> closes nothing")
            if kind == "think" and not self.nodes:
                self.nodes.append(_Node("think", 0, 0, start, end))
                self.cursor = end
            return
        while self.nodes[self.stack[-1]].kind != kind:
            self.problems.add(f"<{self.nodes[self.stack[-1]].kind}> is not closed before </{kind}>")
            self._close(start, start)
        self._close(start, end)

    def _close(self, stop: int, outer_stop: int) -> None:
        node = self.nodes[self.stack.pop()]
        node.stop, node.outer_stop = stop, outer_stop
        if not self.stack:
            self.cursor = outer_stop

    def _loose(self, stop: int) -> None:
        if stop > self.cursor:
            self.nodes.append(_Node("text", self.cursor, self.cursor, stop, stop))
            self.cursor = stop

    def _finish(self) -> None:
        end = len(self.text)
        fragment = _tag_fragment(self.text)
        if fragment < end:
            self.problems.add(f"the text ends inside a tag ({self.text[fragment:]!r})")
        stop = fragment
        while self.stack:
            self.problems.add(f"<{self.nodes[self.stack[-1]].kind}> is not closed: the text ends inside it")
            self._close(stop, end)
            stop = end  # parents contain the whole child, fragment included
        self._loose(end)


def _tag_fragment(text: str) -> int:
    """Return the start of an unfinished tag at the end of the text; ``len(text)`` if there is none."""
    start = text.rfind("<", max(0, len(text) - _LONGEST_TAG))
    if start < 0:
        return len(text)
    name = re.sub(r"\s+", "", text[start + 1 :], flags=re.ASCII).removeprefix("/").lower()
    return start if any(tag.startswith(name) for tag in _TAGS) else len(text)


class _TokenIndex:
    """Find the tokens of a range of characters by bisection."""

    def __init__(self, spans: Sequence[Span]) -> None:
        # Running maxima: bisection needs non-decreasing ends, and a parser that never raises must not rely on them.
        self.starts = list(accumulate((span.start for span in spans), max))
        self.stops = list(accumulate((span.stop for span in spans), max))

    def covering(self, start: int, stop: int) -> Span:
        first = bisect_right(self.stops, start)
        if start >= stop:
            return Span(first, first)
        return Span(first, max(first, bisect_left(self.starts, stop)))


def _check_grammar(parts: Sequence[Part], problems: _Problems) -> None:
    """Report deviations of the parts from the MPAR² format (if attempted) or from the R1 format."""
    kinds = [part.kind for part in parts if part.parent is None and part.kind != "text"]
    for part in parts:
        if part.kind == "text":
            untagged = _TAG.sub("", part.text)
            untagged = untagged[: _tag_fragment(untagged)]
            if kinds and untagged.strip():
                problems.add("text outside the parts")
        elif not part.text.strip():
            problems.add(f"<{part.kind}> is empty")
    for kind in ("perception", "review", "answer", "think"):
        if kinds.count(kind) > 1:
            problems.add(f"more than one <{kind}>")
    nested = {part.kind for part in parts if part.parent is not None and parts[part.parent].kind == "think"}
    if nested:
        problems.add(f"inside <think>: {', '.join(f'<{kind}>' for kind in sorted(nested))}")
    if "think" in kinds and "answer" in kinds and kinds.index("answer") < kinds.index("think"):
        problems.add("<answer> comes before <think>")
    _check_steps(parts, problems)
    if not {part.kind for part in parts} & {"perception", "step", "ask", "hear", "infer", "review"}:
        return
    if "think" in kinds:
        problems.add("<think> beside the parts of MPAR²")
    if not nested:
        for kind in ("perception", "step", "review"):
            if kind not in kinds:
                problems.add(f"no <{kind}> part")
    ranks = [(_PHASES.index(kind), kind) for kind in kinds if kind in _PHASES]
    for (rank, kind), (next_rank, next_kind) in zip(ranks, ranks[1:], strict=False):
        if next_rank < rank:
            problems.add(f"<{next_kind}> comes after <{kind}>")


def _check_steps(parts: Sequence[Part], problems: _Problems) -> None:
    children_of: dict[int, list[Part]] = {index: [] for index, part in enumerate(parts) if part.kind == "step"}
    for part in parts:
        if part.parent in children_of:
            children_of[part.parent].append(part)
    for index, children in children_of.items():
        step = parts[index]
        kinds = [child.kind for child in children]
        missing = [f"<{kind}>" for kind in _STEP_PARTS if kind not in kinds]
        if missing:
            problems.add(f"step {step.number} has no {', '.join(missing)}")
        if len(set(kinds)) < len(kinds):
            problems.add(f"step {step.number} repeats a part")
        elif kinds != sorted(kinds, key=_STEP_PARTS.index):
            problems.add(f"step {step.number} has its parts out of order")
        # All text of the step outside of its children must be blank.
        position, loose = step.chars.start, False
        for child in children:
            loose = loose or bool(step.text[position - step.chars.start : child.outer.start - step.chars.start].strip())
            position = child.outer.stop
        if children and (loose or step.text[position - step.chars.start :].strip()):
            problems.add(f"step {step.number} has text outside its parts")
