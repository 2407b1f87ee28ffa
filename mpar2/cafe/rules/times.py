"""Time expressions of a sentence, and the event name that each belongs to.

A time becomes a ``claims.Claim``. Its tolerances are defined in ``claims``. Spans are half-open and count characters of
the sentence's masked text (``mentions``).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace

from mpar2.cafe.rules.assertion import BLANK
from mpar2.cafe.rules.claims import COARSE_TOLERANCE_S, ONSET_TOLERANCE_S, Claim, Relation

__all__ = ["TimeExpression", "attach_times", "time_expressions"]

_NUMBER = r"\d{1,4}(?:\.\d{1,3})?"
_UNIT = r"(?:\s*-?\s*(?:s|secs?|seconds?)\b)"
_CLOCK = r"\d{1,2}:\d{2}(?:\.\d{1,3})?"
_TIME = re.compile(
    rf"(?P<clock_a>{_CLOCK})\s*(?:-|–|—|to|until)\s*(?P<clock_b>{_CLOCK})"  # noqa: RUF001
    rf"|(?<![\d.:])(?P<a>{_NUMBER}){_UNIT}?\s*(?:-|–|—|\bto\b|\buntil\b|\btill\b|\bthrough\b"
    rf"|(?P<and>\band\b))\s*(?P<b>{_NUMBER}){_UNIT}"  # noqa: RUF001
    rf"|(?<![\d.:])(?P<ba>\d{{1,4}}\.\d{{1,3}})\s*(?:-|–|—|\|)\s*(?P<bb>\d{{1,4}}\.\d{{1,3}})(?![\d.])"  # noqa: RUF001
    rf"|(?<![\d.:])(?P<clock>{_CLOCK})(?![\d:])"
    rf"|(?<![\d.:])(?P<point>{_NUMBER}){_UNIT}"
)
_DIGIT = re.compile(r"\d")
_NOT_A_TIME = re.compile(
    r"^\s*(?:of (?:silence|quiet|nothing)|after(?! (?:the )?(?:start|beginning))|before|later|earlier|apart|clip|audio|recording|file|sample"  # noqa: E501
    r"|segment|excerpt|sound clip|track)\b"
)
_CLIP_LENGTH = re.compile(
    rf"\b(?:clip|audio|recording)\s+(?:of|lasts|is|has|runs)\b[^,;{BLANK}]*$|\b(?:time|interval|gap|pause|delay|distance|silence|overlap) (?:between|of|by)\b[^,;.]*$|\b(?:intro(?:duction)?|solo|interlude|section|passage) of (?:about |around |roughly )?$|\b(?:preced|follow|separat|delay)\w*\b[^.;]{{0,40}}\bby (?:about |around |roughly |only |just )?$|\bmiddle\b[^,;{BLANK}]*$|\blast\s*$"  # noqa: E501
)
_ABOUT = re.compile(r"(?:\b(?:around|about|approximately|roughly|near(?:ly)?|circa|almost)|~)\s*(?:the\s+)?$")
_END = re.compile(
    r"\b(?:until|till|up to|through|(?:ends?|ending|ended|(?<!the )(?<!a )stops?|stopping|stopped|fad(?:es?|ing|ed)(?: out| away)?|dies (?:down|away|out)|ceases?"  # noqa: E501
    r"|ceased|drops? out|dropping out|subsid(?:es?|ed)|disappears?|vanish(?:es)?|recedes?|concludes?|finish(?:es|ed)?"
    r"|cuts? (?:out|off)|falls? silent|goes (?:quiet|silent)|is gone"
    r"|(?:switched|turned|shut|cut) off)(?: at| by| around"
    r"| about)*)\s*$"
)
_START = re.compile(
    r"\b(?:(?:starts?|starting|begins?|beginning|began|started|commences?|sets in|onset|enters|resumes?|kicks in|comes in)(?: only| at| around| about"  # noqa: E501
    r"| from)*)\s*$"
)
_LENGTH = re.compile(
    r"\b(?:lasts?|lasted|lasting|takes?|took|for|of|with|duration|length|long)(?: for| of| is| about| around| only| just)*"  # noqa: E501
    r"(?: all| the (?:full|whole|entire))?(?: of the)?\s*$"
)
_WITHIN = re.compile(r"\b(?:within|in|during)\s+(?:the\s+)?first\s*$")
_NOT_UNTIL = re.compile(r"(?:\bnot|n['\u2019]t)\b[^,;]*\b(?:until|before) $")
_ONLY_WITHIN = re.compile(r"\bonly (?:heard |audible |present )?(?:within|in|during|for) the first $")
_OVER = re.compile(
    r"\b(?:silent|quiet|inaudible|gone|over|absent|no longer (?:heard|audible|present)) (?:after|from|by)\s*$"
)
_AFTER = re.compile(r"(?:only |shortly |just )?\bafter\s*$")
_FROM_ON = re.compile(r"\b(?:after|since|from)\s*$")
_UP_TO = re.compile(r"\bbefore\s*$")


@dataclass(frozen=True)
class TimeExpression:
    """A time in a sentence, ``[start, stop)``, and its claim about an event."""

    start: int
    stop: int
    claim: Claim
    bare: bool  # no word tells what the time means (onset, offset, length)


def _seconds(text: str) -> float:
    """Return the seconds of "1:02.5" or "62.5"."""
    if ":" in text:
        minutes, seconds = text.split(":")
        return 60 * float(minutes) + float(seconds)
    return float(text)


_WORDS = {
    word: number
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
_WORD = "|".join(_WORDS)
_NUMBER_WORD = re.compile(
    rf"\b({_WORD})(?=[\s-]+(?:seconds?\b|(?:and|to|or|until|through)\s+(?:{_WORD}|\d+)[\s-]+seconds?\b))"
)
_AT_WORD = re.compile(rf"(?<= at )({_WORD.replace('|ten|', '|')})(?=\s*(?:[.,;)]|$|and\b))")


def _with_digits(masked_text: str) -> str:
    """Write "six seconds" as "6   seconds" and "at six." as "at 6 s.". The length of the text, and so every span, stays the same."""  # noqa: E501
    if " at " in masked_text:
        masked_text = _AT_WORD.sub(lambda match: f"{_WORDS[match[1]]} s".ljust(len(match[1])), masked_text)
    if "second" not in masked_text:
        return masked_text
    return _NUMBER_WORD.sub(lambda match: str(_WORDS[match[1]]).ljust(len(match[1])), masked_text)


def time_expressions(masked_text: str) -> list[TimeExpression]:
    """Find all times of a sentence, in order.

    Times that measure the clip or a distance between events are left out.
    """
    expressions = []
    masked_text = _with_digits(masked_text)
    if not _DIGIT.search(masked_text):
        return expressions
    for match in _TIME.finditer(masked_text):
        before, after = (
            masked_text[max(0, match.start() - 60) : match.start()],
            masked_text[match.end() : match.end() + 30],
        )
        # A length of the clip, or a distance between events, is no time of an event.
        if _NOT_A_TIME.match(after) or _CLIP_LENGTH.search(before):
            continue
        groups = match.groupdict()
        if groups["and"] and not re.search(r"\bbetween\s*$", before):
            continue
        words = match.group().strip()
        # Two times are an interval; whole seconds and clock times get the coarse tolerance.
        first = next((groups[k] for k in ("clock_a", "a", "ba") if groups[k]), None)
        if first is not None:
            second = next(groups[k] for k in ("clock_b", "b", "bb") if groups[k])
            coarse = ":" in first or ("." not in first and "." not in second) or bool(_ABOUT.search(before))
            tolerance = COARSE_TOLERANCE_S if coarse else ONSET_TOLERANCE_S
            claim = Claim("interval", _seconds(first), _seconds(second), tolerance, words)
            expressions.append(TimeExpression(match.start(), match.end(), claim, False))
            continue
        # The words around a single time decide its relation (onset, offset, length, ...).
        value = groups["clock"] or groups["point"]
        about = _ABOUT.search(before)
        coarse = "." not in value or about is not None
        lead = before[: about.start()] if about else before
        relation, bare = _relation(lead, after)
        tolerance = COARSE_TOLERANCE_S if coarse else ONSET_TOLERANCE_S
        claim = Claim(relation, _seconds(value), 0.0, tolerance, words)
        expressions.append(TimeExpression(match.start(), match.end(), claim, bare))
    return expressions


def _relation(before: str, after: str) -> tuple[Relation, bool]:
    """Return the relation that the words around a time express, and whether there are no such words."""
    if _ONLY_WITHIN.search(before):
        return "over_by", False
    if _WITHIN.search(before) or _UP_TO.search(before):
        return "up_to", False
    if re.match(r"\s*-?\s*long\b", after) or _LENGTH.search(before):
        return "length", False
    if _OVER.search(before):
        return "over_by", False
    if _NOT_UNTIL.search(before):
        return "start", False
    if _END.search(before):
        return "end", False
    if _START.search(before):
        return "start", False
    if match := _AFTER.search(before):
        if _START.search(before[: match.start()]):
            return "not_before", False
        return ("end_after" if _END.search(before[: match.start()]) else "from_on"), False
    if _FROM_ON.search(before):
        return "from_on", False
    return "at", not re.search(r"\b(?:at|@|by|in|from)\s*(?:the\s*)?$", before)


# Assignment of times to names --------------------------------------------------------------------------------------

_SEPARATOR = re.compile(r"[,;|]|\b(?:and|then|so|but)\b")
_CONTINUES = re.compile(
    r"^\s*(?:\([^)]*)?,?\s*(?:and\s+)?(?:(?:which|that|it|ending|ends|until|lasting|lasts|starting|from|to|up)\b|$)"
)
_FOREIGN = re.compile(
    r"\b(?:so|because|therefore|before|after|than|clip|audio|recording|not)\b"
    r"|\b(?:another|the (?:other|second|third|last|latter|former|next|final|first))(?: one)?\b"
)


def attach_times(masked_text: str, spans: dict[int, tuple[int, int]]) -> list[tuple[int, Claim]]:
    """Assign each time to the name before or after it. A comma or an "and" between them separates the two.

    Args:
        spans: Characters ``(start, stop)`` of each name, by the index of the name.

    Returns:
        Pairs of a name's index and a claim.
    """
    times = time_expressions(masked_text)
    order = sorted(spans, key=lambda index: spans[index][0])
    if not times or not order:
        return []
    leading = times[0].start < spans[order[0]][0]
    starts = [spans[index][0] for index in order]
    interval_names: set[int] = set()
    pairs = []
    for time in times:
        position = bisect_left(starts, time.start)
        left = order[position - 1] if position else None
        right = order[position] if position < len(order) else None
        gap_left = masked_text[spans[left][1] : time.start] if left is not None else ""
        gap_right = masked_text[time.stop : spans[right][0]] if right is not None else ""
        # A time in brackets belongs to the name before the bracket.
        if _IN_BRACKET.search(masked_text[max(0, time.start - 12) : time.start]):
            if left is not None and "," not in gap_left:
                pairs.append((left, time.claim))
            continue
        if (
            left is None
            and _is_cut(gap_right)
            and not _ADVERBIAL.search(masked_text[max(0, time.start - 80) : time.start])
        ):
            continue  # "it stops at 5 s, and a man speaks"
        # Otherwise the separators decide between the two neighbours.
        target = _side(left, right, gap_left, gap_right, leading)
        if target is None:
            continue
        claim = time.claim
        if time.bare and target == left and re.search(r"\d\D{0,12}[,(]\s*$", gap_left) and left in interval_names:
            claim = replace(claim, relation="length")  # "0.4-1.6 s a dog bark, 1.2 s"
        # "only rain from 2 to 5 s": the rain need neither start nor end there, so both ends are points in time.
        if claim.relation == "interval":
            interval_names.add(target)
            start, stop = spans[target]
            if (
                _STILL_BEFORE.search(masked_text, max(0, start - 30), start)
                or _STILL_AFTER.match(masked_text, stop)
                or _TOGETHER.search(masked_text)
            ):
                pairs += [(target, replace(claim, relation="at", a=seconds)) for seconds in (claim.a, claim.b)]
                continue
        if claim.relation == "length" and (_ALONE.search(gap_left) or _TOGETHER.search(gap_left)):
            continue  # "the organ plays alone for 3 s", and goes on together with others
        if target == right and _is_cut(gap_right) and not _ADVERBIAL.search(masked_text, 0, time.start):
            continue  # "one asks, the other answers at 4 s, both laugh"
        pairs.append((target, claim))
        # "A dog and a cat start at 3 s": a plural verb makes the claim about both.
        if target == left and position > 1 and _PLURAL_VERB.match(gap_left):
            between = masked_text[spans[order[position - 2]][1] : spans[target][0]]
            if _CONJOINED.fullmatch(between):
                pairs.append((order[position - 2], claim))
    return pairs


#: "only", "still", "again": the event need neither start nor end within the interval
_STILL_BEFORE = re.compile(
    r"\b(?:only|just|still|nothing but|back to|continu\w+|remain\w*)\s+(?:with\s+)?(?:an? |the |some )?(?:\w+ )?$"
)
_STILL_AFTER = re.compile(r" (?:alone|only|again|still|by itself|continues|keeps)\b")
#: of an interval in which several events overlap
_TOGETHER = re.compile(r"\b(?:at the same time|overlap\w*|simultaneous\w*|together)\b")
_ALONE = re.compile(r"\b(?:alone|solo|by itself|on its own)\b")
_PLURAL_VERB = re.compile(
    r" (?:both |all )?(?:start|begin|end|stop|set in|come in|enter|occur|appear|are|were|fade|cease)\b"
)
_CONJOINED = re.compile(r" and (?:an? |the )?(?:[a-z]+ )?")
_IN_BRACKET = re.compile(r"[\w\0]\s*\((?:at |around |about |from |~ ?)?$")
#: words before a time that modify only the time
_ADVERBIAL = re.compile(
    r"(?:^|[,;:(|*-]|\b(?:and|then|but|so|where|when|that)\b)[\s*]*(?:(?:at|around|about|approximately|roughly|near|nearly|from|between"
    r"|after|before|by|with|in|within|until|till|for|over|during|the|just|only|some|another|exactly|starting|beginning|right|shortly"
    r"|first|last|initial|next|second|into|mark|clip|recording|audio|timestamp|somewhere|precisely|not|again|later|here|~)[\s:]*)*$"
)


def _side(left: int | None, right: int | None, gap_left: str, gap_right: str, leading: bool) -> int | None:
    """Return the neighbour that a time belongs to, or None where neither can be decided.

    Args:
        leading: Whether the sentence starts with a time, so that times precede their names.
    """
    left_fits = left is not None and len(gap_left) <= 80 and not _FOREIGN.search(_own_words(gap_left))
    right_fits = right is not None and len(gap_right) <= 60 and not _FOREIGN.search(gap_right)
    if not left_fits or not right_fits:
        if left_fits and right is not None and _is_cut(gap_left) and not _is_cut(gap_right):
            return None  # it belongs to the right name, but a foreign word separates them
        if right_fits and left is not None and _is_cut(gap_right) and not _is_cut(gap_left):
            return None
        return left if left_fits else right if right_fits else None
    left_cut, right_cut = _is_cut(gap_left), _is_cut(gap_right)
    if left_cut != right_cut:
        return right if left_cut else left
    return right if leading and not left_cut else left


def _is_cut(gap: str) -> bool:
    """Return whether a separator stands between time and name. "which ends at" and an open bracket are none."""
    return _SEPARATOR.search(gap) is not None and not _CONTINUES.match(gap)


def _own_words(gap: str) -> str:
    """Return the gap without earlier times, and without an "after" or "before" directly before the time."""
    return _LEADS_TO_TIME.sub(" ", re.sub(r"\d[\d.:]*", " ", gap))


_LEADS_TO_TIME = re.compile(r"\b(?:after|before)(?: about| around| roughly| approximately| some| just| only)?\s*$")
