"""Claims of a sentence about an event beyond its presence: count, order, length and loudness (time: ``times``).

A claim is data; ``checks`` compares it with the truth. The tolerances are ours, since the paper states none:

* onsets within 0.5 s; whole seconds, clock times and "about" within 1 s
* offsets within the larger of 0.5 s and 20 % of the event's length (the collar rule of sound event detection, wider)
* order and overlap within 0.3 s
* lengths within the larger of 0.5 s and 25 %
* levels within 1 dB

A claim about a property that the truth does not carry is never wrong.

``masked_text`` is a sentence with every name blanked; ``start`` and ``stop`` are the half-open characters of a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mpar2.cafe.rules.assertion import BLANK, REACH

__all__ = [
    "Claim",
    "CountClaim",
    "PairClaim",
    "comparison_scope",
    "continues",
    "count_claim",
    "is_between",
    "ordinal_of",
    "pair_claim",
    "place_claims",
]

ONSET_TOLERANCE_S = 0.5
COARSE_TOLERANCE_S = 1.0
OFFSET_SHARE = 0.2
LENGTH_SHARE = 0.25
ORDER_TOLERANCE_S = 0.3
LEVEL_TOLERANCE_DB = 1.0
TO_END_SHARE = 0.1  # of the clip's known length: "from the start", "until the end"
BORDER_TOLERANCE_S, BORDER_SHARE = 1.0, 0.3  # of the clip's known length: "at the start", "at the end"

Relation = Literal[
    "at", "start", "end", "interval", "length", "from_on", "up_to", "over_by", "end_after", "not_before",  # times: a, b
    "at_start", "at_end", "from_start", "to_end", "throughout",  # of the clip
    "first", "last", "nth",  # place among all events: a
    "longest", "shortest", "loudest", "quietest",
]  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A claim about one event. ``a`` and ``b`` are seconds, or ``a`` is a place counted from 1."""

    relation: Relation
    a: float = 0.0
    b: float = 0.0
    tolerance_s: float = ONSET_TOLERANCE_S
    words: str = ""
    among: tuple[int, ...] = ()  # events among which it is the first, last or nth; empty: all


@dataclass(frozen=True)
class PairClaim:
    """A claim that relates the left of two names in a sentence to the right one."""

    relation: Literal[
        "before", "after", "before_end", "after_end", "end_before", "ends_first", "overlap", "start_together",
        "longer", "shorter", "louder", "quieter", "as_long", "as_loud",
    ]  # fmt: skip
    words: str


@dataclass(frozen=True)
class CountClaim:
    """A claim that there are ``n`` events, or at least ``n``."""

    n: int
    at_least: bool
    words: str

    def allows(self, count: int) -> bool:
        """Return whether the claim is true of ``count`` events."""
        return count >= self.n if self.at_least else count == self.n


# Places and superlatives ----------------------------------------------------------------------------------------------

_DET = r"(?:(?:an?|the|another|some|that|this|clearly|of|sound|sounds)\s+|by\s+|far\s+)*"
_LIGHT = (
    r"(?:\s*,?\s*\b(?:there|is|are|was|comes?|i|we|hear|heard|can|an?|the|at|some|sounds?|of|short|loud|brief|single|another)\b"
    r"|\s*\d[\d.]*\s*s?\b)*\s*,?\s*"
)
_ORDINALS = {
    "first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4, "fifth": 5, "5th": 5,
}  # fmt: skip
_THING = r"(?:sounds?|events?|thing|noise)"
_CLIP = (
    r"(?:clip|audio|recording|scene|track|sound clip|file|piece|song|excerpt|performance|composition|segment|sequence)"
)
_FIRST_BEFORE = re.compile(
    rf"(?:^|[,:]\s*|\b(?:and|so)\s+)first(?:ly)?\b(?!\s*,?\s*(?:i|we) (?!hear)){_LIGHT}$"
    rf"|\bfirst {_THING}(?:\s+\w+){{0,5}}?\s+(?:is|are|was|were)\s+{_DET}$"
    rf"|\b(?:{_CLIP}|it|everything) (?:starts|begins|opens) with\s+{_DET}$"
    rf"|^\s*(?:starts|begins|opens) with\s+{_DET}$"
    rf"|\b(?:nothing|no (?:other )?{_THING}) (?:starts?|comes?|begins?|is heard|sounds) before\s+{_DET}(?:first\s+)?$"
)
_FIRST_AFTER = re.compile(
    rf"^(?P<lead>[^,;|{BLANK}]{{0,30}}?)\b(?:(?:comes?|is|are|starts?|begins?|sounds?|plays?|heard|occurs?"
    rf"|appears?) first\b(?!\s+(?:heard|half|part|at|time))"
    rf"|(?:is|are|was) the (?:very )?first (?:{_THING}|to)\b|(?:opens?|starts?|begins?) the {_CLIP}|before (?:all"
    rf"|everything|any)\b"
    r")"
    r"|^(?: [a-z]+s)? first\s*(?:$|[.,;])"
)
_LAST_BEFORE = re.compile(
    rf"(?:^|[,:]\s*|\band\s+)(?:finally|lastly)\b{_LIGHT}$"
    rf"|\blast {_THING}(?:\s+\w+){{0,5}}?\s+(?:is|are|was|were)\s+{_DET}$"
    rf"|\b(?:{_CLIP}|it|everything) (?:ends|closes|finishes|concludes) with\s+{_DET}$"
    rf"|\band (?:ends|closes|finishes|concludes) with\s+{_DET}$"
    rf"|\b(?:nothing|no (?:other )?{_THING}) (?:starts?|comes?|begins?|is heard|follows) after\s+{_DET}(?:last\s+)?$"
)
_LAST_AFTER = re.compile(
    rf"^(?P<lead>[^,;|{BLANK}]{{0,30}}?)\b(?:(?:comes?|is|are|starts?|begins?|sounds?|plays?|heard|occurs?"
    rf"|appears?) last\b(?!\s+(?:half|part))"
    rf"|(?:is|are|was) the (?:very )?last (?:{_THING}|to)\b|(?:ends?|closes?) the {_CLIP}|after (?:all|everything)\b"
    r")"
    r"|^ (?:ends?|closes?|finishes|concludes) it(?=\s*(?:$|[.,;]))|^(?: [a-z]+s)? last\s*(?:$|[.,;])"
)
_BORDER = r"(?:at|near|towards?|in|by|around|right at|close to)\s+(?:the\s+)?(?:very\s+)?"
_NOT_OF_CLIP = rf"(?!\s+of\s+(?:the|its|his|her|their|an?|that|this)\s+(?!(?:\d+[- ]second |whole |entire |full )?{_CLIP}))(?!\s+(?:up|of it|of them))"  # noqa: E501
_CLIP_START = rf"\b{_BORDER}(?:start|beginning|outset|opening)\b{_NOT_OF_CLIP}"
_CLIP_END = rf"\b{_BORDER}(?:end|close|conclusion)\b{_NOT_OF_CLIP}"
_OF_CLIP = rf"(?:\s+of (?:the|this) {_CLIP})?"
_BORDER_GAP = rf"[^,;.|{BLANK}]{{0,30}}?"
_AT_BORDER = {
    "at_start": (
        re.compile(rf"{_CLIP_START}{_OF_CLIP}{_LIGHT}$"),
        re.compile(rf"^(?P<lead>{_BORDER_GAP}){_CLIP_START}"),
    ),
    "at_end": (
        re.compile(rf"{_CLIP_END}{_OF_CLIP}{_LIGHT}$"),
        re.compile(rf"^(?P<lead>{_BORDER_GAP}){_CLIP_END}"),
    ),
    "from_start": (
        re.compile(rf"\bfrom the (?:very )?(?:start|beginning|outset)\b{_NOT_OF_CLIP}(?: on)?,?{_LIGHT}$"),
        re.compile(rf"^(?P<lead>{_BORDER_GAP})\bfrom the (?:very )?(?:start|beginning|outset)\b{_NOT_OF_CLIP}"),
    ),
    "to_end": (
        re.compile(r"(?!)"),
        re.compile(rf"^(?P<lead>{_BORDER_GAP})\b(?:until|till|through|to) the (?:very )?end\b{_NOT_OF_CLIP}"),
    ),
}
_WHOLE = rf"(?:for |during |over )?(?:the |its )?(?:whole|entire|full)(?: (?:length|duration))?(?: of)?(?: (?:the )?(?:{_CLIP}|duration|time))"  # noqa: E501
_THROUGHOUT = (
    re.compile(rf"^\s*throughout(?: (?:the|this) (?:(?:whole|entire) )?{_CLIP})?,?{_LIGHT}$"),
    re.compile(
        rf"^(?P<lead>[^,;.|{BLANK}]{{0,40}}?)\b(?:throughout(?=\s*(?:$|[,.;)]|and\b|(?:the|this) (?:(?:whole|entire) )?{_CLIP}\b))"  # noqa: E501
        rf"|{_WHOLE}\b|from (?:the )?(?:very )?(?:start|beginning) to (?:the )?(?:very )?(?:end|finish)\b)"
    ),
)
_NTH_BEFORE = re.compile(
    rf"\b(?P<word>{'|'.join(_ORDINALS)}) {_THING}(?:\s+\w+){{0,4}}?\s+(?:is|are|was|were)\s+{_DET}$"
    rf"|\bnumber (?P<digit>\d) (?:is|are)\s+{_DET}$"
)
_NTH_AFTER = re.compile(rf"^\s+(?:is|are|was|comes as) the (?P<word>{'|'.join(_ORDINALS)}) {_THING}\b")
_SUPERLATIVES = {
    "longest": "longest", "shortest": "shortest", "briefest": "shortest", "loudest": "loudest",
    "quietest": "quietest", "softest": "quietest", "faintest": "quietest",
}  # fmt: skip
_TOP = "|".join(_SUPERLATIVES)
_TOP_BEFORE = re.compile(
    rf"(?<!next )(?<!second )\b(?P<word>{_TOP})(?:\s+{_THING})?(?:\s+(?:of|among|in|from|by)\b[^,;{BLANK}]{{0,30}}?)?(?:,[^,{BLANK}]{{0,25}},)?\s+(?:is|are|was"  # noqa: E501
    rf"|were)\s+{_DET}$"
)
_TOP_AFTER = re.compile(
    rf"^(?P<lead>[^,;|{BLANK}]{{0,30}}?)\b(?:is|are|was|lasts?|sounds?)\s+(?:clearly "
    rf"|by far )?(?:the )?(?P<word>{_TOP})\b(?!\s+(?!{_THING}|of\b|in\b|one\b|and\b)[\w{BLANK}])"
    rf"|^[^;{BLANK}]{{0,12}}?,\s*(?:is |are )?the (?P<word2>{_TOP})\b"
)
_GOVERNED = re.compile(r"\b(?:after|before|despite|beneath|under|over) (?:an? |the )?(?:[a-z]+ )?$")
_AT_PLACE = re.compile(r"\b(?:on|at|against|into|in) (?:an? |the )?$")  # "someone knocks on the door first"
_OTHER_BORDER = re.compile(
    r"\bnot\b|n['’]t\b|\bnever\b|\b(?:until|from|before|after|then|and|but|stops?|ends?|continues?|lasts?|fad\w+)\b"  # noqa: RUF001
)
# Every match of the patterns above contains one of these strings. Most sentences contain none.
_PLACE_WORD = re.compile(
    r"first|1st|second|third|fourth|fifth|\d(?:nd|rd|th)|last|final|number|start|begin|open|end|clos|finish|conclu|outset"
    r"|nothing|no |through|whole|entire|full|before (?:all|every|any)|after (?:all|every)|est\b"
)
_NEGATION = re.compile(r"\bnot\b|n['’]t\b|\bnever\b")  # noqa: RUF001


def place_claims(masked_text: str, start: int, stop: int, among: tuple[int, ...] = ()) -> list[Claim]:
    """Find the claims that a name is the first, last, nth, longest, shortest, loudest or quietest.

    Args:
        among: Indices of the events among which it is claimed to be first, last or nth; empty for all.

    Returns:
        The claims; empty for most names.
    """
    before, after = masked_text[max(0, start - REACH) : start], masked_text[stop : stop + REACH]
    before = before[max(0, before.rfind(BLANK)) :]  # from the name before on, which is no start of a sentence
    claims: list[Claim] = []
    if not _PLACE_WORD.search(before) and not _PLACE_WORD.search(after):
        return claims
    # A cue stands before or after the name. A negation between cue and name cancels the claim.
    for relation, left, right in (("first", _FIRST_BEFORE, _FIRST_AFTER), ("last", _LAST_BEFORE, _LAST_AFTER)):
        match = left.search(before) or (not _AT_PLACE.search(before) and right.match(after))
        if match and not _NEGATION.search(match.groupdict().get("lead") or ""):
            claims.append(Claim(relation, words=match.group().strip(" ,"), among=among))  # type: ignore[arg-type]
    for relation, (left, right) in _AT_BORDER.items():
        match = left.search(before)
        if match and "," in match.group() and before.startswith(BLANK) and not before[1 : match.start()].strip():
            match = None  # "a guitar from the start, vocals later": the claim is about the guitar
        if match is None and (match := right.match(after)) and _GOVERNED.search(before):
            match = None  # "the rain goes on after the thunder until the end"
        if match and not _OTHER_BORDER.search(match.groupdict().get("lead") or ""):
            claims.append(Claim(relation, words=match.group().strip(" ,")))  # type: ignore[arg-type]
    match = _THROUGHOUT[0].search(before) or _THROUGHOUT[1].match(after)
    if match and not _OTHER_BORDER.search(match.groupdict().get("lead") or ""):
        claims.append(Claim("throughout", words=match.group().strip(" ,")))
    if match := _NTH_BEFORE.search(before) or _NTH_AFTER.match(after):
        groups = match.groupdict()
        place = _ORDINALS[groups["word"]] if groups.get("word") else int(groups["digit"])
        claims.append(Claim("nth", place, words=match.group().strip(), among=among))
    if match := _TOP_BEFORE.search(before) or _TOP_AFTER.match(after):
        groups = match.groupdict()
        word = groups.get("word") or groups.get("word2")
        if word and not _NEGATION.search(groups.get("lead") or ""):
            claims.append(Claim(_SUPERLATIVES[word], words=word))  # type: ignore[arg-type]
    return claims


# Counts ---------------------------------------------------------------------------------------------------------------

_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "once": 1, "twice": 2, "thrice": 3,
}  # fmt: skip
_NUMBER = r"two|three|four|five|six|seven|eight|nine|ten"
_ADJECTIVES = (
    r"(?:(?:loud|soft|short|long|quick|distant|distinct|separate|different|brief|faint|sharp|clear|single"
    r"|consecutive|low|high|deep|quiet|more|big"
    r"|small|successive|individual|repeated|isolated)\s+){0,2}"
)
_COUNT_BEFORE = re.compile(
    rf"(?:\b(?P<word>{_NUMBER})|(?<![\d.:\-])(?P<digit>\d{{1,2}})|\b(?P<one>(?:only|just|exactly)\s+one|a single"
    rf"|one single|the only)"
    rf"|\b(?P<two>both|a pair of|a couple of)|\b(?P<many>several|multiple|many|numerous|repeated|a few|various"
    rf"|a series of))\s+{_ADJECTIVES}$"
)
_COUNT_AFTER = re.compile(
    rf"^(?P<lead>[^,;.{BLANK}]{{0,30}}?)\b(?:(?P<more>more than once|several times|multiple times|many times"
    rf"|repeatedly)|(?<!at )(?P<once>once|twice|thrice)\b(?!\s+(?:more|again))"
    rf"|(?P<word>one|{_NUMBER}|\d{{1,2}}) times?\b)"
)
_NUMBER_OF = re.compile(r"\bnumber of (?:the |distinct |separate |all )?$")
_NUMBER_IS = re.compile(rf"\s+(?:is|was|equals|=|amounts to|comes to)\s+(?:exactly )?(one|{_NUMBER}|\d{{1,2}})\b")
_KIND = re.compile(r" (?:loud|soft|short|long|quiet|low|high|deep|big|small)\b")
_OTHER_CLAUSE = re.compile(r"\b(?:not|never|and|then|but|interrupted|mentioned)\b|n['’]t\b")  # noqa: RUF001
_ORDINAL = re.compile(
    rf"\b(?:the|this|that|his|her|its|their|an?)\s+(?P<word>{'|'.join(_ORDINALS)}|last|final)\s+{_ADJECTIVES}$"
)

_ORDINAL_WORD = re.compile(rf"(?P<word>{'|'.join(_ORDINALS)})")


def count_claim(masked_text: str, start: int, stop: int) -> CountClaim | None:
    """Find the claimed number of events. A bare plural claims no number, and neither does "a" or "one".

    Returns:
        The claim, or None where no number is claimed.
    """
    before, after = masked_text[max(0, start - 60) : start], masked_text[stop : stop + 60]
    if _NUMBER_OF.search(before) and (match := _NUMBER_IS.match(after)):
        return CountClaim(int(match[1]) if match[1].isdigit() else _NUMBERS[match[1]], False, match.group().strip())
    if match := _COUNT_BEFORE.search(before):
        groups, words = match.groupdict(), match.group().strip()
        if groups["many"]:
            return CountClaim(2, True, words)
        if groups["word"] or groups["digit"]:
            number = int(groups["digit"]) if groups["digit"] else _NUMBERS[groups["word"]]
            lead = before[: match.start()]
            # "Three short beeps" says nothing about long ones.
            return CountClaim(number, lead.endswith("at least ") or _KIND.search(words) is not None, words)
        return CountClaim(1 if groups["one"] else 2, False, words)
    if (match := _COUNT_AFTER.match(after)) and not _OTHER_CLAUSE.search(match["lead"]):
        groups, words = match.groupdict(), match.group().strip()
        if groups["more"]:
            return CountClaim(2, True, words)
        value = groups["once"] or groups["word"]
        at_least = groups["lead"].endswith("at least ")
        return CountClaim(int(value) if value.isdigit() else _NUMBERS[value], at_least, words)
    return None


def ordinal_of(masked_text: str, start: int, words: str = "") -> int | None:
    """Return the ordinal of a name: "the second bark" -> 2, "the last bark" -> -1.

    Args:
        words: Text of the name, which may itself be an ordinal ("the second").

    Returns:
        A place counted from 1, -1 for the last, or None where no ordinal stands before the name.
    """
    word = _ORDINAL_WORD.fullmatch(words) or _ORDINAL.search(masked_text[max(0, start - 40) : start])
    return None if word is None else _ORDINALS.get(word["word"], -1)


# Pairs ----------------------------------------------------------------------------------------------------------------

_SPAN_OF_TIME = rf" (?:[a-z]+ )?(?:\d[\d.]*|one|{_NUMBER}|a few|a couple of|half a|a)[ -]?(?:more )?(?:s\b|sec|minute)"
_PAIRS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (relation, re.compile(pattern))
    for relation, pattern in (
        ("longer", r"\blonger(?:\s+\w+)?\s+than\b"),
        ("shorter", r"\b(?:shorter|briefer)(?:\s+\w+)?\s+than\b"),
        ("louder", r"\blouder(?:\s+\w+)?\s+than\b"),
        ("quieter", r"\b(?:quieter|softer|fainter)(?:\s+\w+)?\s+than\b"),
        ("as_long", r"\bas long as\b"),
        ("as_loud", r"\bas loud as\b"),
        (
            "end_before",
            r"\b(?:stop(?:s|ped)?|end(?:s|ed)?|ceased?s?|fade[sd]?(?: out| away)?|finish(?:es|ed)|is over|dies (?:down|away))"  # noqa: E501
            r"(?: just| right| well| shortly)? (?:before|once|when|as soon as)\b",
        ),
        (
            "start_together",
            r"\b(?:starts?|begins?|began|started|enters?|sets? in|comes? in) (?:at the same time as|together with|simultaneously with)",  # noqa: E501
        ),
        (
            "overlap",
            r"\b(?:(?:while|during)\b(?![^,]*,)|at the same time as|simultaneous(?:ly)? with|overlap(?:s|ped|ping)?(?: with)?"  # noqa: E501
            r"|in parallel with)\b",
        ),
        (
            "before",
            r"\b(?:after (?:which|that)|afterwards?|followed(?: \w+)? by|before|precedes?|preceded(?! by)|preceding"
            r"|prior to|earlier than|until|by the time|gives way to|leads? to)\b(?!\s*,? (?:though|although)\b)",
        ),
        ("after_end", r"\b(?:once|as soon as)\b"),
        (
            "after",
            rf"\b(?:after(?!{_SPAN_OF_TIME})|follows?(?!\s*(?:[,.;]|and\b))|following"
            r"|later than|preceded by|subsequent to)\b",
        ),
        ("before", r"(?<!so )(?<!thus )\b(?:then|next)\b(?! to|(?<=next)\s*,)"),
    )
)  # fmt: skip
_FRONTED = re.compile(
    rf"(?:^\s*|[,;:]\s*|\b(?:so|and|but|then)\s+)(?:right |just |immediately |shortly )?(?P<word>after|following|before"
    rf"|prior to|by the time|while|during)\s+{_DET}(?:\w+\s+)?$"
)
_TOGETHER = re.compile(rf"^[^,;{BLANK}]{{0,30}}\b(?:at the same time|simultaneously|overlap(?:s|ping)?)\b(?! as)")
_SENTENCE_THEN = re.compile(
    rf"^\s*(?:and\s+)?(?:then|next|after that|afterwards?|later|subsequently|after this|finally)\b{_LIGHT}$"
)
_FRONT = {
    "after": "before", "following": "before", "before": "after", "prior to": "after",
    "by the time": "after",
    "while": "overlap", "during": "overlap",
}  # fmt: skip
_OF_PRONOUN = re.compile(
    r"\s+(?:it|them|him|her|these|those|long|(?:the|its) (?:very )?(?:end|start|beginning|outset)|(?:the|this|that) (?:clip|recording|audio)|(?:starting|stopping|fading|ending)\b)\b"  # noqa: E501
)
_STOP_BEFORE = re.compile(r"\b(?:stop(?:s|ped)?|cease[sd]?|finish(?:es|ed)?) $")
_BEFORE_IT = re.compile(r" (?:when|once|before|as soon as)\b")
_MAX_GAP = 80
_ENDING = re.compile(
    r"\s+(?:(?:has|have|had) (?:already )?)?(?:ends?|ended|stops?|stopped|finish(?:es|ed)|ceases?|ceased|(?:fades?|faded|dies|died)"  # noqa: E501
    r" (?:out|away|down)|is over|subsides?|subsided"
    r"|(?:is|are|was|were|has been|have been|gets|got) (?:turned|switched|shut) off)\b"
)
_DOES = re.compile(r" (?:do|does|did)\b")
_OR = re.compile(r"\bor\b|;")
_AND = re.compile(r"\s+and\s+(?:an?\s+|the\s+)?")
# "is silent after", "continues until": a claim about duration, not about order
_ASPECT = re.compile(
    r"\bbefore and after\b|\b(?:more|further|continued|continuing|ongoing)\s+$|\b(?:(?:is|are|was|were|falls?|becomes?|remains?) (?:silent|quiet|gone|over|inaudible|absent)|no longer \w+|continu(?:es?|ed)|goes on"  # noqa: E501
    r"|(?:stop|end|ceas|fad|resum)\w*(?: (?:out|away|again))?) (?:right |just |shortly |even |(?:\d+|[a-z]+) seconds? )?after\b"  # noqa: E501
)
# A "while" of contrast claims nothing about time.
_CONTRAST = re.compile(
    r",\s*while\b|\bwhile\s+(?:the\s+)?(?:second|other|latter|third|last|next|final|former|first|later|option|others?)\b"
    r"|\bwhile\b[^,;]{0,40}\b(?:only|later|afterwards?|after|before|then|next|at \d)\b"
)


def pair_claim(masked_text: str, left: tuple[int, int], right: tuple[int, int]) -> PairClaim | None:
    """Find the claim that relates two neighbouring names.

    Returns:
        The claim about the left name, or None where the two are not related.
    """
    gap = masked_text[left[1] : right[0]]
    if len(gap) > _MAX_GAP or BLANK in gap or _NEGATION.search(gap) or _OR.search(gap):
        return None
    # A preposition before the first name ("after the dog, a cat") decides before anything between the two.
    front = masked_text[max(0, left[0] - 60) : left[0]]
    if match := _FRONTED.search(front):
        return PairClaim(_FRONT[match["word"]], match["word"])  # type: ignore[arg-type]
    if _ASPECT.search(gap):
        return None
    if _STOP_BEFORE.search(front) and _BEFORE_IT.match(gap):  # "the birds stop singing when the plane appears"
        return PairClaim("end_before", "stop before")
    # The first matching pattern between the names is the claim; "ends" after the second name moves it to the offset.
    contrast = _CONTRAST.search(gap)
    right_ends = _ENDING.match(masked_text[right[1] : right[1] + 40])
    for relation, pattern in _PAIRS:
        if match := pattern.search(gap):
            if _OF_PRONOUN.match(gap, match.end()):
                return None
            if contrast and match.group() == "while":
                return None
            if relation == "after_end" and not right_ends:
                continue
            if relation == "end_before" and (right_ends or _DOES.match(masked_text, right[1])):
                return PairClaim("ends_first", match.group()) if "before" in match.group() else None
            if relation in ("before", "after") and right_ends:
                return PairClaim(f"{relation}_end", match.group())  # type: ignore[arg-type]
            return PairClaim(relation, match.group())  # type: ignore[arg-type]
    # "a dog and a cat start at the same time"
    conjunction = _AND.fullmatch(gap)
    match = _TOGETHER.match(masked_text[right[1] : right[1] + 60]) if conjunction else None
    if match and not _NEGATION.search(match.group()):
        onset_verb = re.search(r"\b(?:start|begin|began|enter|set in|come in)", match.group())
        return PairClaim("start_together" if onset_verb else "overlap", match.group().strip())
    return None


_AMONG = re.compile(
    r"^\W*(?:(?:so|thus|and|hence|now|but|then),? )*(?:out of|of|between|among|amongst|comparing) "
    rf"(?:(?P<these>these|those|them|the (?:two|three|four|five))\b|[^;.]{{0,40}}{BLANK}[^;.]*,)"
)


def comparison_scope(masked_text: str) -> Literal["these", "named"] | None:
    """Return the scope of a comparison: "named" sounds of this sentence only, or "these" of the sentence before too.

    Returns:
        The scope, or None where it is all sounds.
    """
    match = _AMONG.match(masked_text)
    return None if match is None else "these" if match["these"] else "named"


_BETWEEN = re.compile(rf"[^,;.{BLANK}]{{1,40}}\bbetween (?:an? |the )?(?:[a-z]+ )?")


def is_between(masked_text: str, middle: tuple[int, int], left: tuple[int, int], right: tuple[int, int]) -> bool:
    """Return whether the first of three neighbouring names is claimed to lie between the other two.

    Returns:
        True for "a bell rings between the dog and the cat".
    """
    gap = masked_text[middle[1] : left[0]]
    return "between" in gap and bool(
        _BETWEEN.fullmatch(gap) and not _NEGATION.search(gap) and _AND.fullmatch(masked_text[left[1] : right[0]])
    )


def continues(masked_text: str, start: int) -> bool:
    """Return whether a sentence begins with "then" or the like, directly followed by a name."""
    return start <= _MAX_GAP and _SENTENCE_THEN.match(masked_text[:start]) is not None
