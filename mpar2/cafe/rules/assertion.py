"""Whether a phrase in a sentence is claimed, asked, answered, denied, or left open.

Works on *masked_texts*: sentences in lower case in which every character of a found event name is ``BLANK``, so that
patterns can speak of "another name" and never trip over the names' own words. All lengths stay equal, and every search
looks at most ``REACH`` characters to either side, so that a hostile trace costs linear time.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = ["BLANK", "REACH", "Sentence", "AssertionStatus", "assertion_of"]

BLANK = "\0"
REACH = 200  # characters; a cue further away than this does not speak of the phrase

AssertionStatus = Literal["asserted", "questioned", "answer", "negated", "hedged"]


class Sentence(NamedTuple):
    """A stretch ``[start, stop)`` of the trace between full stops; ``question``: a "?" ends it."""

    start: int
    stop: int
    section_role: Literal["questioned", "answer", "asserted"]
    question: bool
    part: int  # number of the innermost part, so that lists of different parts are not one list


class AssertionResult(NamedTuple):
    """Find the assertion status of a sentence towards a name in it, and what shows it."""

    status: AssertionStatus
    why: str


# A new start within the sentence ends the reach of what stands before it.
_RESTART = re.compile(
    r"\b(?:but|however|yet|although|though|whereas|nevertheless)\b"
    r"|\b(?:and|so|because|since|while)\s+(?:i|we|there|it|in fact|then)\b"
    r"|\b(?:i|we)\s+(?:also |clearly |can |do |could |actually |indeed )*(?:hear|heard)\b(?!\s+(?:no|neither)\b)"
)
_ASK = re.compile(
    r"\bwhether\b|\bquestions?\b|\bask(?:s|ed|ing)?\b"
    r"|\b(?:check|see|determine|decide|find out|verify|tell|know|wonder|listen|look|search)\s+(?:if|for|when|where"
    r"|which|how)\b"
    r"|\b(?:checking|looking|listening|searching)\s+(?:if|for|whether)\b"
    r"|(?<!of the )(?<!among the )\b(?:options|choices)(?:\s+(?:are|were|is|include|given|listed|such as|like)\b|\s*:)"
    r"|\b(?:option|choice)\s+\(?(?:[a-h]|\d)\)?(?=\W)"
)
_LETTERED = re.compile(r"(?:^|[\s(])\(?[A-H][).:]\s*(?:an?\s+|the\s+)?$", re.IGNORECASE)
_ANSWER = re.compile(
    r"\banswer\b|\b(?:choose|select|pick|go with)\b|\b(?:correct|right|best)\s+(?:option|choice)\b"
    r"|^\s*(?:so\s+)?that gives\b"
)

_DENY = re.compile(
    r"\b(?:no|not|never|without|neither|nor|none of|nobody|no one|zero|(?<![\d.:])0(?=\s+[^\W\d]{2})|lacks?|lacking"
    r"|cannot|\w+n['’]t"  # noqa: RUF001
    r"|absence of|lack of|free of|excludes?|excluding|rules? out|ruled out|ruling out|rather than|instead of|unlike)\b"
)
_NO_DENIAL = re.compile(  # what follows the cue and takes its force away
    r"^(?:\s*,|\s+(?:doubt|question|matter|surprise|wonder|problem|only|just|merely|simply)\b"
    r"|\s+(?:other |further )?(?:sounds?|events?|one)\b[^,;]*\b(?:before|after|than|as|until)\b"
    r"|[^,;]*\b(?:other than|except|besides)\s+(?:for\s+)?(?:an?\s+|the\s+)?$"
    r"|\s+(?:be\s+|been\s+|heard\s+|sound\s+|come\s+|start\s+|begin\s+|lie\s+)?(?:before|after|until|at|during|as|in"
    r"|longer|louder|shorter|softer"
    r"|quieter|first|last|because|due|from|by|the (?:first|last|longest|loudest|only|same))\b)"
)
_LIST = re.compile(rf"^(?:[\s,{BLANK}]|\b(?:an?|the|any|or|nor|and|of|sounds?|single|other|loud|neither|no)\b)*$")
_BREAK = re.compile(r"[,:()|]|\b(?:then|so|because|while|when|where|that)\b")
_DENY_AFTER = re.compile(
    rf"^(?:\s+[^\W\d]+){{0,4}}?\s+(?:(?:is|are|was|were|do|does|did|can|could|has|have|had|will)\s+(?:not|never)"
    rf"|(?:is|are|was|were|do|does|did|ca|could|has|have|had|wo)n['’]t|cannot|never|nowhere)\b"  # noqa: RUF001
    rf"(?!\s+(?:only|just|the|an?|as|before|after|longer|louder|shorter|softer|quieter|first|last|at|in|until|from"
    rf"|very|much|loud|long|short|soft"
    rf"|over|by|too|so|part|on)\b)(?![^,;{BLANK}]*\b(?:first|last|before|after|until|longer|overlap|at \d)\b)"
    r"|^\s*,?\s*(?:(?:is|are|was|were|seems?|remains?|be)\s+)?(?:\w+ly\s+)?"
    r"(?:absent|missing|ruled out|excluded|inaudible|unheard|not present|not heard|lacking|nowhere)\b"
)
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|might|may|could(?!\s+(?:also |clearly |be |even )*(?:hear|heard))"
    r"|not (?:quite )?sure|unsure|uncertain|unclear"
    r"|hard to (?:tell|say)|(?<!as )if|suppose|supposing|assuming|imagine|would|usually|typically|generally|commonly"
    r"|either|potentially"
    r"|hypothetical(?:ly)?)\b"
)
_HEDGE_AFTER = re.compile(
    r"^(?:\s+\w+)?\s+(?:may|might|could)\b(?!\s+(?:also |clearly |be |even )*(?:hear|heard)\b)"
    r"|^\s*,?\s*(?:maybe|perhaps|possibly|i guess|i am not sure|i'm not sure)\s*(?:[.,!)]|$)"
)
_OR_BEFORE = re.compile(rf"{BLANK}\s*,?\s+or\s+(?:an?\s+|the\s+|even\s+|some\s+)*(?:\w+\s+)?$")
_OR_AFTER = re.compile(rf"^\s*,?\s+or\s+(?:an?\s+|the\s+|even\s+|some\s+)*(?:\w+\s+)?{BLANK}")
_QUOTES = "\"“”„«»`'‘’"  # noqa: RUF001


def assertion_of(
    masked_text: str, raw: str, start: int, stop: int, sentence: Sentence, choices: frozenset[str] = frozenset()
) -> AssertionResult:
    """Find the assertion status of the phrase ``[start, stop)`` of a sentence, and why.

    ``masked_text`` and ``raw`` are the sentence (offsets count from its start); ``choices`` are in lower case.
    """
    if sentence.section_role == "questioned":
        return AssertionResult("questioned", "it stands in <ask>")
    if sentence.section_role == "answer":
        return AssertionResult("answer", "it stands in <answer>")
    if sentence.question:
        return AssertionResult("questioned", "the sentence is a question")
    before = masked_text[max(0, start - REACH) : start]
    after = masked_text[stop : stop + REACH]
    if restarts := list(_RESTART.finditer(before)):
        before = before[restarts[-1].end() :]
    if _quoted_choice(raw, start, stop, choices):
        return AssertionResult("questioned", "it quotes a choice")
    if _ASK.search(before) or _LETTERED.search(raw[max(0, start - 12) : start]):
        return AssertionResult("questioned", "it is asked about or listed as an option")
    if _ANSWER.search(before):
        return AssertionResult("answer", "it is named as the answer")
    if cue := _denial(before, after):
        return AssertionResult("negated", f"negated by {cue!r}")
    if cue := _hedge(before, after):
        return AssertionResult("hedged", f"left open by {cue!r}")
    return AssertionResult("asserted", "")


def _denial(before: str, after: str) -> str | None:
    for match in _DENY.finditer(before):
        gap = before[match.end() :]
        if _NO_DENIAL.search(gap):
            continue
        other = gap.find(BLANK)
        if other >= 0:
            # The denial hits the first name after it, and others only as members of the same list.
            if _LIST.match(gap[other:]) and not _BREAK.search(gap[:other]):
                return match.group()
        elif not _BREAK.search(gap):
            return match.group()
    match = _DENY_AFTER.search(after)
    return match.group().strip(" ,") if match else None


def _hedge(before: str, after: str) -> str | None:
    for match in _HEDGE.finditer(before):
        gap = before[match.end() :].lstrip(" ,")
        if not re.search(r"[,:()]", gap) and not (match.group() == "either" and "or" not in gap + after):
            return match.group()
    if match := _HEDGE_AFTER.search(after):
        return match.group().strip(" ,")
    if _OR_BEFORE.search(before) or _OR_AFTER.search(after):
        return "or"
    return None


def _quoted_choice(raw: str, start: int, stop: int, choices: frozenset[str]) -> bool:
    """Whether the phrase stands in quotation marks that enclose one of the choices."""
    if not choices:
        return False
    left = max((raw.rfind(mark, max(0, start - 60), start) for mark in _QUOTES), default=-1)
    rights = [place for mark in _QUOTES if (place := raw.find(mark, stop, stop + 60)) >= 0]
    return left >= 0 and bool(rights) and raw[left + 1 : min(rights)].strip(" .,").lower() in choices
