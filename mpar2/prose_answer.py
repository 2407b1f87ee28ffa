"""The answer that prose without tags states beyond doubt in its last line.

Such lines are "The answer is B.", ``\\boxed{B}``, and "(B) a bell" alone.

What hedges ("the answer is unclear") or names no choice is no answer: better none than a guessed one.
"""

from __future__ import annotations

import re

__all__ = ["prose_answer"]

_TAIL = 600  # characters at the end in which an answer is sought
_ANSWER_IS = re.compile(
    r"\banswer(?: is|\s{0,4}:)\s{0,4}:?\s{0,4}(.{1,200})$",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\{([^{}]{1,200})\}")
_LETTERED = re.compile(r"(?:[(\[][A-Z][)\]]|[A-Z][.):])\s{1,4}\S.{0,200}|[(\[][A-Z][)\]][.:]?")
_NOT_AN_ANSWER = re.compile(
    r"(?:not|unclear|unknown|uncertain|ambiguous|in the|to be|that|whether|either|one of)\b|cannot|can't|n't",
    re.IGNORECASE,
)


def prose_answer(text: str, *, alone: bool = True) -> str | None:
    """The answer in the last line of ``text``; ``alone``: nothing precedes it, so that a bare letter may be one.

    >>> prose_answer("The first sound is a bell. So the answer is (B)."), prose_answer("The answer is unclear.")
    ('(B)', None)
    """
    lines = [stripped for line in text[-_TAIL:].splitlines() if (stripped := line.replace("*", "").strip())]
    if not lines:
        return None
    last = lines[-1]
    if len(lines) > 1 and re.fullmatch(r"(?:the )?(?:final )?answer(?: is)?\s{0,4}:", lines[-2], re.IGNORECASE):
        last = f"Answer: {last}"  # "Answer:" alone on its line, the answer under it
    boxed = _BOXED.findall(last)
    if boxed:
        return _clean(boxed[-1])
    if _LETTERED.fullmatch(last) or (len(lines) == 1 and alone and re.fullmatch(r"[A-Z]\.?", last)):
        return _clean(last)
    # The last statement of the line counts: "the answer is not A; the answer is B."
    spot = max((m.start() for m in re.finditer(r"\banswer(?: is|\s{0,4}:)", last, re.IGNORECASE)), default=None)
    match = _ANSWER_IS.search(last, spot) if spot is not None else None
    if match is None:
        return None
    said = re.split(r"(?<=[^\s.]{3})[.!?](?=\s|$)|,? (?:because|since|as)\b", match[1], maxsplit=1)[0]
    return None if _NOT_AN_ANSWER.match(said.strip()) else _clean(said)


def _clean(said: str) -> str | None:
    """The stated answer without the quotes and the full stop around it; None if nothing is left."""
    return said.strip().strip("\"'`“”‘’").rstrip(".!;,").strip("\"'`“”‘’").strip() or None
