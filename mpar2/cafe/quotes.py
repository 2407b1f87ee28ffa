"""Spans of a model's quotes in a text. A quote that does not occur is reported.

The exact quote is searched first. If it does not occur, quote and text are *folded*: typographic quotation marks,
apostrophes, dashes and dots become ASCII, letters take their composed form, invisible characters are removed, and so
are quotation marks or dots around the quote. Spans always count characters of the original text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from mpar2.trace import Span

__all__ = ["is_exact", "locate_quotes"]

_FORMS = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032`\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    "\u2026": "...",
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),
}
_AROUND = " \t\r\n'\"."


def locate_quotes(text: str, quotes: Sequence[str], *, overlap: bool = False) -> tuple[list[Span], str]:
    """Locate quotes in a text.

    Runs of white space match each other, since models fold line breaks. A quote that occurs several times takes the
    first free occurrence at or after the quote before it, whole words before parts of words.

    Args:
        text: The trace.
        quotes: The quotes, in reading order.
        overlap: Whether spans may share characters.

    Returns:
        The span of each quote and an empty string, or no spans and an error message.

    >>> locate_quotes("a dog, then a dog", ["dog", "dog"])[0]
    [Span(start=2, stop=5), Span(start=14, stop=17)]
    """
    problem = ""
    source = _Text(text)
    places = [source.places(quote) for quote in quotes]
    in_order = list(range(len(quotes)))
    # in reading order first; longest first where a short quote took characters of a longer one
    for order in (in_order, sorted(in_order, key=lambda index: -len(quotes[index]))):
        spans, order_problem = _place(quotes, places, order, overlap)
        if not order_problem:
            return spans, ""
        problem = problem or order_problem
    return [], problem


def is_exact(text: str, span: Span, quote: str) -> bool:
    """Return whether a quote equals the text at a span, up to white space."""
    return text[span.start : span.stop].split() == quote.split()


def _place(
    quotes: Sequence[str], places: Sequence[list[Span]], order: Sequence[int], overlap: bool
) -> tuple[list[Span], str]:
    """Assign one of its occurrences to each quote, in the given order; return spans or an error message."""
    spans: dict[int, Span] = {}
    for index in order:
        if not places[index]:
            return [], f"quote {quotes[index][:80]!r} does not stand in the text; copy it character for character"
        used_spans = () if overlap else spans.values()
        free = [p for p in places[index] if not any(p.start < q.stop and q.start < p.stop for q in used_spans)]
        if not free:
            times = f"{len(places[index])} time{'s' if len(places[index]) > 1 else ''}"
            return [], f"quote {quotes[index][:80]!r} stands {times} in the text, all taken by other mentions"
        cursor = max((span.start for other, span in spans.items() if other < index), default=0)
        spans[index] = next((place for place in free if place.start >= cursor), free[0])
    return [spans[index] for index in range(len(quotes))], ""


class _Text:
    """A text to search for quotes. Its folded form is computed on first use."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._cache: dict[str, list[Span]] = {}
        self._folded: tuple[str, list[Span]] | None = None

    def places(self, quote: str) -> list[Span]:
        """Return all occurrences of a quote, in order, with a cache."""
        if quote not in self._cache:
            self._cache[quote] = _occurrences(self._text, quote) or self._folded_places(quote)
        return self._cache[quote]

    def _folded_places(self, quote: str) -> list[Span]:
        if self._folded is None:
            self._folded = _fold(self._text)
        folded, origins = self._folded
        folded_quote = _fold(quote)[0]
        for candidate in dict.fromkeys((folded_quote, folded_quote.strip(_AROUND))):
            if spans := _occurrences(folded, candidate):
                return [Span(origins[span.start].start, origins[span.stop - 1].stop) for span in spans]
        return []


def _fold(text: str) -> tuple[str, list[Span]]:
    """Return the folded text, and the span in ``text`` of each of its characters."""
    pieces: list[str] = []
    origins: list[Span] = []
    for place, char in enumerate(text):
        form = _FORMS.get(char, char)
        if pieces and form and unicodedata.combining(form[0]):
            composed = unicodedata.normalize("NFC", pieces[-1] + form)
            if len(composed) == len(pieces[-1]):
                pieces[-1], origins[-1] = composed, Span(origins[-1].start, place + 1)
                continue
        for form_char in form:
            pieces.append(form_char)
            origins.append(Span(place, place + 1))
    return "".join(pieces), origins


def _occurrences(text: str, quote: str) -> list[Span]:
    """Return the spans of a quote as whole words, else as part of words; any white space matches."""
    words = quote.split()
    if not words:
        return []
    pattern = r"\s+".join(re.escape(word) for word in words)
    for form in (rf"(?<!\w){pattern}(?!\w)", pattern):
        spans = [Span(*match.span()) for match in re.finditer(form, text)]
        if spans:
            return spans
    return []
