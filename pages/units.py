"""Passages and words of a trace, each with its spans of characters and tokens.

A *passage* is a part of the trace without nested parts, or one sentence of free text. A *word* is a run of letters and
digits ("0.2", "dog's"), which may cover several tokens. Spans are half-open and count characters or generated tokens,
as everywhere in the comparison document.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_SHORTEST_SENTENCE = 12  # characters; shorter pieces ("1. ", "e.g. ") join the next
_WORD = re.compile(r"[^\W_]+(?:[.,:'’-][^\W_]+)*")
_TAG = re.compile(r"</?[a-z_]+>")
_FREE = ("text", "think")
_NAMES = {
    "perception": ("Perception", "perception"),
    "step": ("Step", "step"),
    "ask": ("asks", "asks"),
    "hear": ("hears", "hears"),
    "infer": ("concludes", "concludes"),
    "review": ("Review", "review"),
    "answer": ("Answer", "answer"),
    "think": ("Thinking", "thinks"),
    "text": ("Free text", "text"),
}


class Passage(NamedTuple):
    """One row of the picture by passages."""

    name: str
    short: str
    kind: str
    chars: tuple[int, int]
    tokens: tuple[int, int]


class WordTokens(NamedTuple):
    """One word of a trace."""

    chars: tuple[int, int]
    tokens: tuple[int, int]


def passages(text: str, parts: Sequence[Mapping[str, Any]], tokens: Sequence[Sequence[int]]) -> list[Passage]:
    """Return the passages of a trace in their order."""
    parents = {part["parent"] for part in parts if part["parent"] is not None}
    ends = [stop for _, stop in tokens]
    result: list[Passage] = []
    for index, part in enumerate(parts):
        if index in parents or not part["tokens"] or not part["text"].strip():
            continue
        first, last = part["tokens"][0], min(part["tokens"][1], len(tokens))
        if last <= first:
            continue
        start, stop = part["chars"]
        sentences = _sentences(text, start, stop) if part["kind"] in _FREE else []
        if len(sentences) < 2:
            name, short = _name(parts, index)
            result.append(Passage(name, short, part["kind"], (start, stop), (first, last)))
            continue
        token = first
        for number, (begin, end) in enumerate(sentences, 1):
            token_end = last if number == len(sentences) else min(last, max(token, bisect_right(ends, end)))
            if token_end > token:
                title = (f"Sentence {number}", f"S{number}")
                result.append(Passage(*title, part["kind"], (begin, end), (token, token_end)))
            token = token_end
    return result


def words(text: str, tokens: Sequence[Sequence[int]]) -> list[WordTokens]:
    """Return the words of a trace, without tags and words that no token covers.

    >>> words("a dog bark 0.5 s", [(0, 1), (1, 5), (5, 10), (10, 14), (14, 16)])[1]
    WordTokens(chars=(2, 5), tokens=(1, 2))
    """
    starts, ends = [start for start, _ in tokens], [stop for _, stop in tokens]
    tags = [match.span() for match in _TAG.finditer(text)]
    tag_starts = [start for start, _ in tags]
    result = []
    for match in _WORD.finditer(text):
        start, stop = match.span()
        tag = bisect_right(tag_starts, start) - 1
        if tag >= 0 and start < tags[tag][1]:
            continue
        first, last = bisect_right(ends, start), bisect_left(starts, stop)
        if last > first:
            result.append(WordTokens((start, stop), (first, last)))
    return result


def _name(parts: Sequence[Mapping[str, Any]], index: int) -> tuple[str, str]:
    part = parts[index]
    name, short = _NAMES.get(part["kind"], _NAMES["text"])
    parent = None if part["parent"] is None else parts[part["parent"]]
    if parent is not None and parent["kind"] == "step" and parent["number"]:
        return f"Step {parent['number']} {name[0].lower()}{name[1:]}", f"{parent['number']} {short}"
    if part["kind"] == "step" and part["number"]:
        return f"{name} {part['number']}", f"{short} {part['number']}"
    return name[0].upper() + name[1:], short


def _sentences(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    """Split ``text[start:stop]`` into sentences, which end at a line break, or at ". ? !" before a blank."""
    spans: list[tuple[int, int]] = []
    begin = start
    for place in range(start, stop):
        last = place + 1 >= stop
        ends = text[place] == "\n" or (text[place] in ".?!" and (last or text[place + 1].isspace()))
        if ends and place + 1 - begin >= _SHORTEST_SENTENCE:
            spans.append((begin, place + 1))
            begin = place + 1
    if begin < stop:
        if spans and stop - begin < _SHORTEST_SENTENCE:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((begin, stop))
    return spans
