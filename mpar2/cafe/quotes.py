"""Where the quotes that a model gives stand in the text that it was given; one that stands nowhere is told."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpar2.trace import Span

__all__ = ["locate_quotes"]


def locate_quotes(text: str, quotes: Sequence[str], *, overlap: bool = False) -> tuple[list[Span], str]:
    """Where ``quotes``, given in reading order, stand in ``text``: spans without overlap, or ([], what is wrong).

    Runs of white space count as equal, since models fold line breaks. A quote that occurs several times takes the
    first free place at or after the quote before it, whole words before parts of words. ``overlap=True`` lets quotes
    share text.

    >>> locate_quotes("a dog, then a dog", ["dog", "dog"])[0]
    [Span(start=2, stop=5), Span(start=14, stop=17)]
    """
    problem = ""
    in_order = list(range(len(quotes)))
    # in reading order; and, where a short quote took a place inside a longer one, longest first
    for order in (in_order, sorted(in_order, key=lambda index: -len(quotes[index]))):
        spans, problem_now = _place(text, quotes, order, overlap)
        if not problem_now:
            return spans, ""
        problem = problem or problem_now
    return [], problem


def _place(text: str, quotes: Sequence[str], order: Sequence[int], overlap: bool) -> tuple[list[Span], str]:
    placed: dict[int, Span] = {}
    for index in order:
        places = _occurrences(text, quotes[index])
        if not places:
            return [], f"quote {quotes[index][:80]!r} does not stand in the text; copy it character for character"
        free = [p for p in places if overlap or not any(p.start < q.stop and q.start < p.stop for q in placed.values())]
        if not free:
            times = f"{len(places)} time{'s' if len(places) > 1 else ''}"
            return [], f"quote {quotes[index][:80]!r} stands {times} in the text, all taken by other mentions"
        cursor = max((span.start for other, span in placed.items() if other < index), default=0)
        placed[index] = next((place for place in free if place.start >= cursor), free[0])
    return [placed[index] for index in range(len(quotes))], ""


def _occurrences(text: str, quote: str) -> list[Span]:
    words = quote.split()
    if not words:
        return []
    pattern = r"\s+".join(re.escape(word) for word in words)
    for form in (rf"(?<!\w){pattern}(?!\w)", pattern):
        spans = [Span(*match.span()) for match in re.finditer(form, text)]
        if spans:
            return spans
    return []
