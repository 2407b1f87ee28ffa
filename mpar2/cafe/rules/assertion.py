"""Assertion status of a phrase in a sentence: asserted, questioned, answered, negated, hedged, quoted or compared.

The patterns work on a masked text: the sentence in lower case, in which every character of an event name is ``BLANK``.
So a pattern can match "another name", and the words of a name match no pattern. Masking keeps all lengths. Every search
covers at most ``REACH`` characters to either side, so the time is linear also for a hostile trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["BLANK", "REACH", "Sentence", "AssertionStatus", "assertion_of"]

BLANK = "\0"
REACH = 200  # characters; a cue further away does not apply to the phrase

AssertionStatus = Literal["asserted", "questioned", "answer", "negated", "hedged", "quoted", "compared", "retracted"]


class Sentence(NamedTuple):
    """A stretch ``[start, stop)`` of the trace between full stops; ``question``: a "?" ends it."""

    start: int
    stop: int
    section_role: Literal["questioned", "answer", "asserted"]
    question: bool
    part: int  # index of the innermost part, so that lists of different parts stay separate


class AssertionResult(NamedTuple):
    """The assertion status of a name in a sentence, with the reason.

    ``presence`` tells whether a name that is not asserted is still implied to be present. ``"both"``: both names of a
    comparison are ("louder than the dog"). ``"subject"``: the subject of a negated action is ("the horse does not
    sneeze"). ``"before"``: the name is if an earlier sentence asserts it ("the dog may be asleep"). ``"true"``: the
    name counts as asserted where the truth has it, and as hedged otherwise ("if I had to guess, a dog").
    """

    status: AssertionStatus
    reason: str
    presence: Literal["", "both", "subject", "before", "true"] = ""


class _CuedPattern:
    """A pattern that is applied only to texts with one of its cues. Most texts have none, and the test is fast."""

    def __init__(self, pattern: str, cues: str) -> None:
        self._pattern, self._cues = re.compile(pattern), tuple(cues.split("|"))

    def search(self, text: str) -> re.Match[str] | None:
        for cue in self._cues:
            if cue in text:
                return self._pattern.search(text)
        return None

    def match(self, text: str) -> re.Match[str] | None:
        for cue in self._cues:
            if cue in text:
                return self._pattern.match(text)
        return None

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        for cue in self._cues:
            if cue in text:
                return self._pattern.finditer(text)
        return iter(())


# A restart within the sentence: cues before it do not apply to phrases after it.
_RESTART = _CuedPattern(
    r"\b(?:is|was|are|were) (?:in fact|actually|really|instead|in reality)\b|\b(?:claims?|says|states|suggests),\s"
    r"|\b(?:but|however|yet|although|though|whereas|nevertheless)\b"
    r"|,\s+(?:because|since)\s+(?=an?\b|the\b)|(?<=\0)(?: [a-z]+){0,3} (?:because|since) (?=(?:an?|the)\b)"
    r"|,\s+(?:and|so)\s+(?:the|my)\s+(?:only|first|last|[a-z]+est)\b|\b(?:and|so|because|since|while)\s+(?:i|we|there|it|in fact|then)\b"  # noqa: E501
    r"|(?<!wish )(?<!thought )(?<!think )(?<!believed )(?<!assumed )(?<!thinking )(?<!\bdo )(?<!\bdid )(?<!\bcan )(?<!\bcould )\b(?:i|we)\s+(?:also |clearly |can |do |could |actually |indeed )*(?:hear|heard)\b(?!\s+(?:no|neither)\b)",  # noqa: E501
    "and |so |but|though|however|yet|hear|because|since|whereas|while|nevertheless|actually|really|instead|in fact|in reality"  # noqa: E501
    "|claim|says,|states,|suggests,",
)
_INQUIRY = _CuedPattern(
    r"\bwhether\b|(?<!a )(?<!another )(?<!his )(?<!her )\bquestions?\b(?!(?: is| was| asks)? (?:who|which|what|when)\b[^:]*:)|(?<!\0 )(?<!he )(?<!they )\bask(?:s|ed|ing)?\b(?!(?: \w+)? (?:which|what|who)\b[^:?]*:)"  # noqa: E501
    r"|(?<!\0 )\b(?:asks?|check|see|determine|decide|find out|verify|tell|know|wonder|listen|look|search)\s+(?:if|for|when|where"  # noqa: E501
    r"|which|how)\b(?![^:]*:)"
    r"|\b(?:tr(?:y|ied|ying)|attempt\w*) to (?:hear|find|detect|identify|discern)\b|\b(?:listen|look|search|check)ed for\b"  # noqa: E501
    r"|\b(?:options?|choices?) [\"\u201c(]|\b(?:decid|choos|choice|decision|torn|hesitat|waver|toss-up)\w* between\b"
    r"|\b(?:checking|looking|listening|searching)\s+(?:if|for|whether)\b"
    r"|(?<!of the )(?<!among the )\b(?:options?|choices?|candidates|alternatives|distractors?|decoys?|(?:candidate|possible) answers)(?:\s+(?:[A-D] |\d |here )?(?:are|were|is|include|given|listed|such as|like|mention|list|offer|suggest|say|state|claim|contain|propose|describe"  # noqa: E501
    r"|provided)\w*\b|\s*:)"
    r"|\b(?:option|choice|answer)s?\s+\(?(?:[a-h]|\d)\)?(?=\W)|\b(?:suggested|offered|listed) (?:by|in|among)\b",
    "wheth|question|ask|check|see|determ|decid|find out|verif|tell|know|wonder|listen|look|search|option|choice|answer|suggest|offer|listed|candidate|alternative|tr|attempt|torn|hesit|waver|toss|distract|decoy",  # noqa: E501
)
_LETTERED = re.compile(r"(?:^|[\s(])\(?(?P<letter>[A-H])[).:]\s*(?:[Aa]n?\s+|[Tt]he\s+)?(?:[\w-]+ ){0,2}$")
_ITEM = r"(?:[-*\u2022] ?|\(?[A-Ha-h\d][.):] ?)"
_OPTION_LIST = _CuedPattern(
    rf"\b(?:[Oo]ptions|[Cc]hoices|[Cc]andidates|[Aa]lternatives)\b[^.!?\n]{{0,40}}:\**\s*(?:[^.!?\n]{{0,80}};\s*|(?:\n\s*{_ITEM}[^\n]{{0,60}})*\n\s*{_ITEM})(?:[\w*'-]+ ){{0,3}}\**$",  # noqa: E501
    "ptions|hoices|andidates|lternatives",
)
_CONFIRMATION = re.compile(
    r"^\s*[:\u2013\u2014-]\s*(?:yes|correct|present|heard|confirmed|\u2713|\u2714)", re.IGNORECASE
)
_INQUIRY_AFTER = _CuedPattern(
    r"^\s+(?:option|choice|hypothesis|possibility|theory|idea|interpretation|explanation|scenario)s?\b"
    r"|^[^.;!?]{0,80}?\b(?:are|were) (?:the |all |my |our )?(?:only |given |other |possible |answer |two |three |four )*"  # noqa: E501
    r"(?:options|choices|candidates|alternatives|possibilities)\b"
    r"|^[\"\u201d]? (?:is|was) (?:also )?(?:an?|the|only an?) (?:[a-z]+ )?(?:alternative|option|distractor|decoy)\b"
    r"|^[^.;,\0]{0,25} in (?:the|his|her|its|their) (?:lyrics|story|title|novel|joke|dream)\b"
    r"|^,? as (?:option|choice|answer)\b|^ as an? (?:alternative|option|possibility|candidate|distractor)\b"
    r"|^ (?:(?:is|are|was|were) (?:also |only )?(?:listed|mentioned|offered|given|named|included|suggested|provided)"
    r" (?:as|among|in|by|with)|(?:was|were) among)\b[^.;!?]{0,40}\b(?:options?|choices?|answers?|questions?)\b",
    "option|choice|candidat|alternativ|distract|decoy|possibilit|answer|question|lyrics|story|title|novel|joke|dream|hypothes|theory|idea|interpret|explanation|scenario",
)
#: "the statement that a dog barks is wrong", "it is not true that a dog barks"
_STATEMENT = _CuedPattern(
    r"\b(?:statement|claim|option|choice|answer|description|idea|suggestion|assumption)s? (?:that|which|saying|claiming|with)\b",  # noqa: E501
    "statement|claim|option|choice|answer|descri|idea|sugges|assum",
)
_REFUTATION = re.compile(
    r"^[^.;!?]*\b(?:is|are|was|were|seems|must be) (?:\w+ly )?(?:wrong|false|incorrect|untrue|not (?:true|correct|right))\b"  # noqa: E501
)
_ANSWER = _CuedPattern(
    r"(?<!to )(?<!no )\banswer\b|\breply is\b|\b(?:choose|select|pick|go with)\b|\b(?:correct|right|best)\s+(?:option|choice)\b"  # noqa: E501
    r"|^\s*(?:so\s+)?that gives\b",
    "answer|reply|choose|select|pick|go with|option|choice|that gives",
)
#: "if I had to pick one": the name is a guess, and counts as a claim only where it is right
_GUESS = _CuedPattern(
    r"\bif (?:(?:i|we|one|you) (?:(?:absolutely )?(?:had|have|need(?:ed)?|were(?: asked| forced)?|was (?:asked|forced)|am (?:asked|forced)) to|must)"  # noqa: E501
    r"|(?:you |anyone |somebody |someone )?(?:asked?|forced?|pressed|pushed)(?: me)?\b)(?! hear)",
    "if ",
)

_NEGATION = re.compile(
    r"\b(?:(?:not|nor is it|n['’]t) true that|no|not|never|rarely|seldom|hardly|barely|scarcely|nothing (?:else (?:such as|like)|suggests|indicates|hints at|points to)|without|neither|nor|none of|nobody|no one|(?:what (?:i|we) miss|missing)(?: here)? (?:is|are)|nowhere (?:do|did|can|could|is|are)|zero|(?<![\d.:])0(?=\s+(?!to\b|until\b|through\b|and\b|sec)[^\W\d]{2})|lacks?|lacking"  # noqa: E501
    r"|cannot|\w+n['’]t"  # noqa: RUF001
    r"|absence of|lack of|want of|free of|devoid of|excludes?|excluding|rules? out|ruled out|ruling out|eliminates?|eliminating|(?:dismiss|reject|discard|disregard)(?:es|s|ing)?|let alone|rather than|instead of|unlike)\b"  # noqa: E501
)
_NEGATION_VOID = re.compile(  # continuations after which the cue negates nothing
    r"^(?:\s*(?:[,:]|[\u2013\u2014-]\s)|\s+(?:doubt|question|matter|surprise|wonder|problem|sense(?! an?\b| any)|difference|answer|reply|response|reaction|only|just|merely|simply|call (?:the|this))\b"  # noqa: E501
    r"|\s+(?:other |further )?(?:sounds?|events?|one)\b[^,;]*\b(?:before|after|than|as|until)\b"
    r"|[^,;]*\b(?:other than|except|besides|apart from|aside from|save for|beyond)\s+(?:for\s+)?(?:an?\s+|the\s+|her\s+|his\s+|its\s+)?$"  # noqa: E501
    r"|\s+(?:be\s+|been\s+|heard\s+|sound\s+|come\s+|start\s+|begin\s+|lie\s+){0,2}(?:before|after|until|at|during|above|over|behind|against|as|in"
    r"|longer|louder|shorter|softer"
    r"|stop|end|cease|fade|pause|change|disturb|interrupt|cover|mask|drown|affect|bother"
    r"|quieter|first|last|because|due|(?:from|by)(?! (?:an?|any)\b)|the (?:first|last|longest|loudest|only|same))\b)"
)
_LIST = re.compile(rf"^(?:[\s,{BLANK}]|\b(?:an?|the|any|or|nor|and|of|sounds?|single|other|loud|neither|no)\b)*$")
_BREAK = re.compile(r"[,:()|]|\b(?:then|so|because|while|when|where|that(?! of))\b")
#: predicates whose negation negates a sound; "does not react" and "is not loud" negate none
_AUDIBILITY = (
    r"heard|audible|present|there|detect\w*|discern\w*|distinguish\w*|identif\w+|found|perce\w+|notic\w+|record\w+|captur\w+"
    r"|includ\w+|involved|used|in use|play(?:s|ed|ing)?|made out|observed|evident|apparent|contain\w*|featur\w+|in (?:the|this)"  # noqa: E501
    r"|part of|among|one of|occur\w*|appear\w*|happen\w*|exist\w*|take(?:s|n)? (?:part|place)|participat\w+|show\w*|turn up"  # noqa: E501
    r"|r[iu]ng|ringing|bark|barking|sing|singing|speak|speaking|talk|talking|sound|sounding|meow|blow|go off|going off|join"  # noqa: E501
    r"|pass(?:es|ed)?(?: by)?|(?:driv|com|go)\w+ (?:by|past)|match\w*|fit|belong|correspond\w*|apply|applied|running|active|operating|closed|opened|supported|indicated|mentioned|plausible|likely|possible|an option|the (?:case|answer)|what (?:i|we) hear|what is heard|a (?:\w+ )?(?:explanation|option|candidate|match|fit|possibility)"  # noqa: E501
)
_ABSENCE_HEADING = _CuedPattern(  # the head of a list
    r"\b(?:not (?:detected|heard|present|audible|found)|absent|missing|excluded|ruled out)(?: sounds?)?[*_]*:(?=[^.;]*$)",  # noqa: E501
    "not |absent|missing|excluded|ruled",
)
_NEGATION_AFTER = re.compile(
    rf"^(?:\s+[^\W\d]+){{0,4}}?\s+(?:(?:(?:is|are|was|were|do|does|did|can|could|has|have|had|will)\s+(?:not|never)"
    rf"|(?:is|are|was|were|do|does|did|ca|could|has|have|had|wo)n['’]t|cannot|never|nowhere)\b"  # noqa: RUF001
    rf"(?:\s+(?:actually|really|clearly|even|ever|to|be|been|being|appear to be|seem to be|\w+ly))*(?:\s*(?:$|[.,;:!)])|\s+(?:{BLANK}+(?!{BLANK})|(?:{_AUDIBILITY})\b))"  # noqa: E501
    rf"(?!\s+(?:until|before|after|at \d|at the|alone|again)\b)"
    rf"(?![^,;{BLANK}]*\b(?:first|last|before|after|until|longer|overlap|together|at the same time|simultaneously|at once|at \d"  # noqa: E501
    rf"|(?:at|in|from|to) the (?:very )?(?:start|beginning|end)|initially|any ?more|again|yet|throughout|continuously|alone)\b))"  # noqa: E501
    r"|^\s*,?\s*(?:(?:can|could|may|should|must|has|have)\s+(?:all\s+|both\s+|also\s+|therefore\s+|thus\s+|now\s+)?(?:be|been)\s+)?"
    r"(?:(?:is|are|was|were|seems?|appears?|remains?|be)\s+(?:to be )?)?(?:\w+ly\s+|(?:all|both|also)\s+)?"
    r"(?:absent|missing|ruled out|excluded|eliminated|dismissed|discarded|rejected|disregarded|crossed out|inaudible|unheard|lacking"  # noqa: E501
    r"|nowhere|(?:less|not very|not) (?:plausible|likely|fitting|convincing)|implausible|improbable|unlikely|out of the question)\b"  # noqa: E501
    r"|^\s+(?:is|are|was|were|has|have)(?: not|n['\u2019]t) yet\b(?! (?:stop|end|fad|ceas))"
    r"|^\s+(?:has|have)(?: not|n['\u2019]t) (?!stop|end|fad|ceas)\w+ yet\b"
    r"|^[^.,;\0]{0,12}\b(?:is|are) (?:out|wrong|incorrect) ?(?:$|[,.;])"
    r"|^(?:\s+(?!ha[sd]\b|have\b|is\b|are\b|was\b|were\b)\w+)?\s+(?:no (?!more|less|fewer|longer|later|earlier|sense"
    r"|difference)|nothing\b)"
    r"|^[\s*_)\"'\u201d]*(?:[:\u2013\u2014|-]|\u2192|->)[\s*_]*(?:no(?:t|ne|thing)?\b|absent|never|there (?:is|are) no|(?:is|do|does|was)n.t|\u2717|\u2718|\u274c|\u00d7|eliminated|excluded|ruled out|incorrect|wrong|false|unlikely)"  # noqa: E501
)
_MEMBERS = re.compile(
    rf"(?:(?:,?\s+(?:and |or )?(?:an? |the )?{BLANK}+)+|\s+(?:and|or) (?:an? |the )?[a-z]+)(?=\s+(?:are|were|do|did|have|can|could)(?:n['\u2019]t)?\b)"  # noqa: E501
)  # "strings and brass are"
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|might|may|could(?!\s+(?:also |clearly |be |even )*(?:hear|heard|described|called))"
    r"|wish|not (?:quite )?sure|unsure|uncertain|unclear"
    r"|hard to (?:tell|say)|(?<!as )(?<!even )if|suppose|supposing|assuming|imagine|let['\u2019]s (?:say|pretend|assume)|would(?!(?:(?<=\bi would)|(?<=\bwe would)) (?:also )?(?:say|call|describe|attribute|identify|classify|guess|go (?:for|with)|conclude|interpret|recogni[sz]e|assign)\b)|usually|typically|generally|commonly|normally"  # noqa: E501
    r"|either|potentially|(?:probably|presumably|likely|apparently|perhaps) (?:because|since|as|in (?:response|reaction) to|due to|caused by)"  # noqa: E501
    r"|(?:were|had) (?:it|this|that|there|these|they|he|she|i|we|you)\b|should there be|unless|about to|used to (?:be|have)"  # noqa: E501
    r"|(?:explanation|possibility|hypothesis|theory) (?:is|was|would be) that"
    r"|possible(?! to)|unlikely|improbable|doubtful|hypothetical(?:ly)?|expect(?:s|ed|ing)?|in case|almost (?:hears?|feels?|sees?)|pictures?)\b"  # noqa: E501
    r"|^\s*(?:were|had|should) (?:the|an?|any|some)\b"
)
_CONTRACTION = _CuedPattern(
    r"['\u2019]d (?:also |surely |probably |certainly |rather |even )?(?:\0|$|need\b|(?!say|call|describe|classif"
    r"|attribute|identif|guess|go|conclude|interpret|recogni|assign|label|rank|put|place|bet|pick|been|gone|begun|heard|become"
    r"|[a-z]*(?:ed|en)\b)[a-z]+\b)",
    "'d |\u2019d ",
)
# Names that are not claimed to be heard: reported, compared, or corrected.
_NARRATION = _CuedPattern(  # every later name of the sentence is part of the narration
    r"\b(?:he|she|they)(?:['\u2019]s|['\u2019]re| is| are)? (?:describ|tell|recount|recall|remember|imagin|dream)\w*\b",
    "describ|tell|recount|recall|remember|imagin|dream",
)
_TOPIC = _CuedPattern(
    r"(?<!should )\bmention(?:s|ed|ing)?\b|\b(?:talk|speak|sing|tell|joke|chat|complain|ask|warn|think|worr|argu|discussion|convers|lyrics)\w*"  # noqa: E501
    r"(?: (?!about|of)[a-z]+)? (?:about|of)\b(?! (?:it|this|him|them|her)\b)|\b(?:say|saying|says|said|explain\w*|announc\w+|promis\w+|warn\w*|tells|told|telling|answers|replies|adds|insists|admits|jokes) (?:that|how|why)\b"  # noqa: E501
    r"|(?:\b(?:he|she|they)|\0) (?:says?|said|insists|admits|claims?|claimed|complains?|explains?|thinks?|believes?|describ\w+|recalls?|recounts?|reports?|tells?(?: \w+)?) (?:that |how |when )?(?=(?:an?|the|his|her|their|my|there)\b)"  # noqa: E501
    r"|\b(?:news|story|stories|report|article|poem|book|message|lecture|speech|conversation|explanation|account|song|tale"
    r"|jokes?|question|complaint|remark|anecdote|argument|documentary|podcast)(?: is| was)? (?:about|on)\b"
    r"|\b(?:something|go(?:es|ing)? on|rant\w*|rambl\w*|rav\w*) about\b|\bto (?:see|watch|visit|buy)\b"
    r"|\b(?:wait\w* for|in the hope of|hop(?:ed?|ing) (?:for|to hear))\b"
    r"|\bdiscuss(?:es|ed|ing)?\b|\0 (?:about|is about|was about|of how|discussing)\b(?! (?:\d|one|two|three|four|five|six|seven|eight|nine|ten|half)\b)",  # noqa: E501
    "mention|talk|speak|sing|song|tell|joke|chat|complain|ask|warn|think|worr|argu|discuss|convers|lyrics|say|said|answer"
    "|replie|adds|insist|admit|expla|announc|account|tale|question|remark|anecdote|documentary|podcast"
    "|promis|claim|believe|describ|recall|recount|report|news|stor|article|poem|book|message|lecture|wait|hop| about|\0 of|\0 disc|is about|was about|something about|to see|watch|visit|buy",  # noqa: E501
)
_COMPARISON = _CuedPattern(
    r"\bas (?:many|most|any|every) $|\0 (?:sounds?|sounded) (?:(?:a bit|almost|very|more|just|much|somewhat|rather|so) )?like\b|"  # noqa: E501
    r"(?<!sounds )(?<!sounding )(?<!sounded )(?<!seems )(?<!something )(?<!looks )(?<!feels )(?<!sound )\blike\b"
    r"|\b(?:resembl(?:es|ed|ing)|resemble|reminiscent of|similar to|remind(?:s|ed|ing)? (?:me|one|us|you) of|akin to"
    r"|(?:rather|more) than(?! \d| once| half| an? (?:few|dozen|couple)| (?:one|two|three|four|five|six|ten|just)\b)|instead of|as opposed to|not to be confused with"  # noqa: E501
    r"|comparable to|compar(?:es?|ed|ing) (?:it|them|this|that|him|her)? ?(?:to|with)|(?:in contrast|contrary) to|(?:differ\w*|distinct|distinguish\w*) from|as if|as though|compared (?:to|with)|evok(?:es|ed|ing)|imitat(?:es|ed|ing)|mimic(?:s|king)?)\b",  # noqa: E501
    "as many|as most|as any|as every|like|contra|differ|disti|resembl|reminis|similar|remind|akin|than|instead|opposed|confused|compar|as if|as though|evok|imitat|mimic",  # noqa: E501
)
_MORE_LIKE = ("more like ", "more like a ", "more like an ", "more like the ")
_DEGREE = _CuedPattern(r"\bas \w+ as\b|\b\w+er(?: \w+)? than\b|\b(?:more|less) \w+ than\b", "as | than")
_RETRACTION = _CuedPattern(
    r"\b(?:(?:he|anyone|anybody|whoever|those)(?: who)? (?:hears?|says?|thinks?|claims?|expects?)|what (?:at first |first |initially )?(?:sound|seem|appear|look)(?:s|ed)? (?:like|to be)"  # noqa: E501
    r"|(?:confuse|mistake) [^,;.]{0,30}? (?:with|for)|(?:takes?|took) (?:it|this|that|them) for|mistaken for|mistake \w+ for|mistook \w+ for|misheard as|confused? (?:with|for)|confusing (?:it )?with|taken for"  # noqa: E501
    r"|(?:initially|first|originally|briefly|almost|wrongly) (?:thought|believed|assumed|took|suspected|guessed|heard|mistook)"  # noqa: E501
    r"|(?:thought|believed|assumed|suspected|guessed) (?:at first |initially )?(?:it|this|that|there|i|he|she|the [a-z]+) (?:was|were|heard|might)"  # noqa: E501
    r"|(?:might|may|could) (?:easily )?(?:be(?! described| called| heard)|sound|seem)"
    r"|tempt\w*(?: \w+)? to (?:call|think|say|hear|take|identify|name|add|include|list|assume)|(?:initial|first) (?:guess|impression|thought|assumption|instinct)(?: (?:for|about|of|at) (?:the |this |that )?\0+)?(?: is| was)?|(?:i|we) (?:also |briefly )?(?:considered|suspected|thought of))\b",  # noqa: E501
    "he who|anyone|anybody|whoever|those|what |take|took|tempt|mista|misto|mish|confus|taken|thought|believ|assum|took|suspect|guess|heard|might|may|could|consider|impression|instinct",  # noqa: E501
)
_RETRACTION_AFTER = re.compile(
    r"^\s*,?\s*(?:but|though|although)?\s*(?:no,|wait\b|actually,|or rather|correction|scratch that|on second thought)"
    r"|^\s+(?:is|was) (?:my|the|an|one of my|among my) (?:(?:first|initial|early|original|obvious) )?(?:guess|hypothes|impression|thought|candidate|assumption|idea)\w*\b"  # noqa: E501
    r"|^[^.;\0]{0,25},? but (?:it|this|that) (?:is|was|turns? out)(?: to be)?(?: actually| in fact| really| clearly)?(?: an?| the)? ?(?:not\b|\0)"  # noqa: E501
    r"|^[^.;\0]{0,60},? but (?:neither|none)\b"
    r"|^[^.;\0]{0,60},? but (?:there|i|we) (?:(?:do|does|did|can|could|is|are|was|were) not|(?:do|does|did|ca|could|is|are|was|were)n.t)"  # noqa: E501
    r" (?:\w+ ){0,2}(?:one|any|it|them)\b"
    r"|^[^.;,\0]{0,40},? but (?:it |they |that )?(?:(?:is|are|was|were|do|does|did|can) not|(?:is|are|was|were|do|does|did|ca)n.t)"  # noqa: E501
    r" (?:\w+ )?(?:occur|appear|present|heard|there|audible|happen|sound|exist|in the)"  # noqa: E501
)
_HEDGE_AFTER = re.compile(
    r"^(?:\s+\w+)?\s+(?:may|might|could)\b(?!\s+(?:also |clearly |be |even |easily )*(?:hear|heard|taken|mistaken|confused)\b)"  # noqa: E501
    r"|^(?:\s+(?:with|of|in|from) [^,.;]{1,30}?)?\s+(?:could not|cannot|can not|can['\u2019]t) be (?:\w+ )?"
    r"(?:ruled out|excluded|dismissed)"
    r"|^\s+(?:(?:is|are) (?:considered|known|regarded)|stands? for|symboli[sz]es?)\b|^(?:\s+\w+)?\s+wouldn['\u2019]t\b"
    r"|^\s+(?:is|are|was|were) (?:too faint|(?:very |quite |too )?(?:hard|difficult|impossible)) to (?:make out|hear|detect|discern|confirm|tell)"  # noqa: E501
    r"|^\s*:[^.;\n]{0,30}\b(?:maybe|perhaps|possibly|not sure|unsure|unclear)\b"
    r"|^ if (?:it|i|we|there) (?:were|had|was)|^ (?:is|are) (?:what|something|a sound) (?:that )?(?:i|we|one|you)\b|^\s+(?:must have|(?:is|are) likely to)\b|^,? if any\b"  # noqa: E501
    r"|^\s+(?:will|is going to|are going to|is about to|are about to)\b|^(?:\s+\w+){0,2}?\s+would\b|^[^,.;\0]{0,30}\bbut would\b|^\s*(?:is|are|was|were) (?:possible|unlikely|conceivable|plausible|expected)\b"  # noqa: E501
    r"|^\s+(?:is|are|was|were) (?:probably|presumably|perhaps|likely) (?:there|present|also|playing|heard|audible|included|waiting|parked|nearby|involved)\b"  # noqa: E501
    r"|^\s*,?\s*(?:maybe|perhaps|possibly|i guess|i am not sure|i'm not sure)\s*(?:[.,!)]|$)"
)
#: "for a train, the hum would be louder"
_CASE = re.compile(r"(?:^|[.;,])\s*(?:but |and )?(?:for|with|in|as) (?:an? )?(?:[a-z]+ )?$")
_WOULD = re.compile(r"^[^.;]{0,60}(?:\b(?:would|could|might|usually|typically)|['\u2019]d)\b")
_IF_IT_WERE = re.compile(r"\bif (?:it|this|that) (?:were|was) [^,;:]{1,40}, (?:an? |the )?$")
_CLAUSE_END = re.compile(r"\s*(?:$|[.;,])")
_HAD_NOT = re.compile(
    r"\b(?:had (?:i|we) not heard|if (?:i|we) (?:had not|hadn['\u2019]t) heard|(?:were it not|if it (?:were not|weren['\u2019]t|wasn['\u2019]t)|if not) for)"  # noqa: E501
    r" (?:the|this|that|these|those) (?:[a-z]+ ){0,3}?(?:of (?:the |this )?)?$"
)
_WITHOUT = re.compile(r"\bwithout (?:the|this|that|these|those) (?:[a-z]+ )?$")
#: "a horn honks, presumably from a passing car"
_ORIGIN = re.compile(
    r"\b(?:probably|presumably|likely|perhaps|apparently) (?:(?:coming|made|caused|produced|created|emitted) )?(?:from|by) (?:an? |the |some )?(?:[a-z]+ )?$"  # noqa: E501
)
#: "the sleeper is not woken by the door": an action is denied, and the door not
_DENIED_ACTION = re.compile(
    r"(?:\bnot|n['\u2019]t|\bnever) (?:been |be )?[a-z]+(?:ed|en) by (?:the|this|that) (?:[a-z]+ )?$"
    r"|\bnot (?:of|from|by|to|with|because of|due to) (?:the|this|that) (?:[a-z]+ )?$"
)
_NO_SENSE = re.compile(r" (?:makes?|would make) (?:no|little) sense\b")
#: "the dog may be asleep" refers to a dog named before; "it may be the dog" and "if the dog barked" do not
_DEFINITE = re.compile(r"(?<!\bbe )(?<!been )(?<!\bis )(?<!\bwas )\b(?:the|this|both) (?:[a-z]+ )?$")
_IF = re.compile(
    r"\b(?:if|unless|suppos\w+|assuming|imagine|in case|unlikely|improbable|doubtful)\b|^\s*(?:were|had|should)\b"
)  # noqa: E501
_CONDITION = re.compile(
    r"\b(?:if|or|either|were|had|would|should|unless|suppos\w+|assuming|imagine|in case|expect\w*|unlikely|improbable|doubtful)\b"  # noqa: E501
)
_CONJUNCTION = re.compile(r"(?:.*(?:\b(?:because|since|as|for|whereas|while|but|and),?|\())?\s*")
_INDEFINITE = re.compile(r"(?:.*(?:\b(?:because|since|as|for|whereas|while|but|and),?|\())?\s*(?:an?\s+)?")
_COMPARATIVE = re.compile(
    r"\s+(?:has|have|makes?|sounds?|produces?) (?:an? )?(?:similar|different|comparable)\b|\s+(?:is|are) pitched\b|\s+(?:also )?has (?!been\b)|"  # noqa: E501
    r"\s+(?:is|are|sounds?|has|have|makes?|produces?|gives?)\s+(?:(?:usually|much|an?|far|generally|even)\s+){0,3}(?:[a-z]+er|more \w+|less \w+|different)\b"  # noqa: E501
)
_GENERIC = re.compile(
    r"^\s+(?:also )?(?:have(?! been| start| stop)|can(?!['\u2019]| (?:also |clearly )?be| hear)|usually|often|generally|typically|tend|sometimes|always)\b"  # noqa: E501
)
_GENERAL = re.compile(  # of "a bell" or "bells", not of "the bell"
    r"\s+(?:is|are|sounds?|has|have|makes?) (?:usually|often|generally|typically|normally|practically|commonly|rarely|always)\b"  # noqa: E501
    r"|\s+(?:is|are) (?:silent|noiseless|inaudible)\b"
    r"|\s+(?:does|do)(?: not|n['\u2019]t) (?!stop|end|cease|fade|pause|change|last|continue|start|begin|get|become|come|go)(?:[a-z]+\b|\0)"  # noqa: E501
)
_OR_BEFORE = re.compile(
    rf"{BLANK}\s*,?\s+or\s+(?:(?:at|by|from|of|in|on|with|for)\s+)?(?:an?\s+|the\s+|even\s+|some\s+)*(?:\w+\s+)?$"
)
_OR_AFTER = re.compile(
    rf"^\s*,?\s+or\s+(?:(?:at|by|from|of|in|on|with|for)\s+)?(?:an?\s+|the\s+|even\s+|some\s+)*(?:\w+\s+)?{BLANK}"
)
_CLAUSE_MARK = re.compile(r"[:()]|,(?! or\b)")
_AND_TOPIC = re.compile(r"^[^,;:]*\band (?:an? |the |his |her |their )?(?:[a-z]+ )?$")
_NO_VERB = re.compile(
    r"^\s*(?:$|[.,;)\"\u201d]|(?:[a-z]+ing|that|which|who|whose|and|of|in|on|from|with|for|to|at|near|by)\b)"
)
_CLAUSE = re.compile(r"[,:;()]|\b(?:is|are|was|and then|but)\s+(?!an?\b|the\b)|\b(?:as|while|when)\b")
_QUOTES = "\"“”„«»`'‘’"  # noqa: RUF001


def assertion_of(
    masked_text: str,
    raw: str,
    start: int,
    stop: int,
    sentence: Sentence,
    choices: frozenset[str] = frozenset(),
    around: tuple[str, str] = ("", ""),
) -> AssertionResult:
    """Find the assertion status of the phrase ``[start, stop)`` of a sentence.

    Args:
        masked_text: The sentence in lower case, every name blanked.
        around: The text before and after the phrase, beyond the sentence.

    Returns:
        The status of the phrase, with the reason.
    """
    # The role of the section or sentence decides first.
    if sentence.section_role == "questioned":
        return AssertionResult("questioned", "it stands in <ask>")
    if sentence.section_role == "answer":
        return AssertionResult("answer", "it stands in <answer>")
    if sentence.question:
        return AssertionResult("questioned", "the sentence is a question")
    # Limit the context before the phrase: from the last restart on, without brackets.
    before = masked_text[max(0, start - REACH) : start]
    after = masked_text[stop : stop + REACH]
    if restarts := list(_RESTART.finditer(before)):
        before = before[restarts[-1].end() :]
    if ")" in before:
        before = _BRACKETS.sub("", before)  # cues in brackets do not apply after them
    # Options, questions, guesses and answers claim nothing.
    if _is_quoted_choice(raw, start, stop, choices):
        return AssertionResult("questioned", "it quotes a choice")
    owned = raw.endswith(("'s", "\u2019s"), 0, stop)  # "the doctor's explanation"
    if (
        _INQUIRY.search(before)
        or (not owned and _INQUIRY_AFTER.match(after))
        or _is_option(around[0], after, around[1], start)
    ):  # noqa: E501
        return AssertionResult("questioned", "it is asked about or listed as an option")
    if _STATEMENT.search(before) and _REFUTATION.match(after):
        return AssertionResult("questioned", "it stands in a statement that is called wrong")
    if guess := _GUESS.search(before):
        return AssertionResult("hedged", f"a guess: {guess.group()!r}", "true")
    if origin := _ORIGIN.search(before):
        return AssertionResult("hedged", f"an inferred source: {origin.group()!r}", "true")
    if _ANSWER.search(before):
        return AssertionResult("answer", "it is named as the answer")
    if (_CASE.search(before) and _WOULD.match(after)) or (_IF_IT_WERE.search(before) and _CLAUSE_END.match(after)):
        return AssertionResult("hedged", "another case")
    if _HAD_NOT.search(before):
        return AssertionResult("asserted", "")  # "had I not heard the piano"
    if _WITHOUT.search(before) and re.search(r" would\b|['\u2019]d ", after):
        return AssertionResult("asserted", "")  # "without the dog it would be silent"
    # Negation.
    if _STOPS_BUT.search(masked_text[max(0, start - REACH) : start]) and _DOES_NOT.match(after):
        return AssertionResult("asserted", "")  # "the snoring stops, but the clock doesn't"
    if cue := _find_negation(before, after):
        presence = "subject" if BLANK in cue else "before" if _DENIED_ACTION.search(before) else ""
        return AssertionResult("negated", f"negated by {cue!r}", presence)
    if " sense" in after and (match := _NO_SENSE.match(after)):
        return AssertionResult("negated", f"called out of place: {match.group()!r}", "true")
    # Corrections, reports and comparisons mention a name without a claim.
    if cue := _find_cue(_RETRACTION, before, after):
        presence = "before" if _DEFINITE.search(before) else ""
        return AssertionResult("retracted", f"taken back or confused: {cue!r}", presence)
    if match := _RETRACTION_AFTER.match(after):
        return AssertionResult("retracted", f"taken back: {match.group().strip(' ,')!r}")
    if (narration := _NARRATION.search(before)) or (cue := _find_cue(_TOPIC, before, after, shared_topic=True)):
        cue = narration.group() if narration else cue
        return AssertionResult("quoted", f"what somebody speaks of: {cue!r}")
    if cue := _find_cue(_COMPARISON, before, after):
        return AssertionResult("compared", f"compared: {cue!r}", "true" if before.endswith(_MORE_LIKE) else "")
    if cue := _find_cue(_DEGREE, before, after):
        return AssertionResult("compared", f"degree: {cue!r}", "both")
    if after.startswith("-like"):
        return AssertionResult("compared", "something like it")
    # Generic statements and hedges come last, after every stronger cue.
    if _GENERIC.match(after) and _CONJUNCTION.fullmatch(before):
        return AssertionResult("hedged", "what is so in general")
    if _GENERAL.match(after) and _INDEFINITE.fullmatch(before):
        return AssertionResult("hedged", "what is so in general")
    if _COMPARATIVE.match(after) and _INDEFINITE.fullmatch(before):
        return AssertionResult("compared", "degree: what is so in general", "both")
    if cue := _find_hedge(before, after):
        is_definite = _DEFINITE.search(before) and not _CONDITION.search(cue) and not _IF.search(before)
        return AssertionResult("hedged", f"left open by {cue!r}", "before" if is_definite else "")
    return AssertionResult("asserted", "")


def _is_option(left: str, after: str, right: str, sentence_chars: int) -> bool:
    """Return whether the phrase is in a list of options: "(B) a dog", "A. a dog B. a cat", "options: a dog; a cat"."""
    lead = left[-30:]
    match = _LETTERED.search(lead)
    if match is None:
        return _OPTION_LIST.search(left) is not None
    if len(lead) - match.start() <= sentence_chars + 1:
        return not _CONFIRMATION.match(after)
    code = ord(match["letter"])  # a letter with a full stop may also end a sentence: a list has a neighbouring letter
    return re.search(rf"(?:^|\s){chr(code - 1)}[.)]\s", left) is not None or (
        re.search(rf"(?:^|\s){chr(code + 1)}[.)]\s", right) is not None
    )


def _find_negation(before: str, after: str) -> str | None:
    """Return the cue that negates a phrase with this context, or None."""
    after = _PARENTHESIS.sub("", after)
    if match := _ABSENCE_HEADING.search(before):
        return match.group()
    acts = False
    for match in _NEGATION.finditer(before):
        gap = _SUCH_AS.split(before[match.end() :])[-1]
        acts = acts and match.group() == "nor" or _ACTS_ON.search(before, 0, match.start()) is not None
        if acts or _NEGATION_VOID.search(gap) or _CONFUSION.match(gap.lstrip()):
            continue
        name_start = gap.find(BLANK)
        if name_start >= 0:
            # The negation applies to the first name after it, and to others only in the same list.
            if _in_list(gap, name_start, after):
                return match.group()
        elif not _BREAK.search(gap):
            return match.group()
    match = _NEGATION_AFTER.match(after) or (
        (members := _MEMBERS.match(after)) and _NEGATION_AFTER.match(after[members.end() :])
    )
    return match.group().strip(" ,") if match else None


def _in_list(gap: str, name_start: int, after: str) -> bool:
    """Return whether the phrase after ``gap`` is in one list with the name at ``name_start`` in it."""
    if not _LIST.match(gap[name_start:]) or _BREAK.search(gap[:name_start]):
        return False
    # "Without music, a dog barks": after a comma the list continues only where an "or" or "and" follows.
    if "," not in gap[name_start:] or re.search(r"\b(?:or|nor|and)\b", gap[name_start:]) or _LIST_END.match(after):
        return True
    return re.match(rf"\s*,[^.;]{{0,60}}\b(?:or|nor|and)\b[^.;]{{0,20}}{BLANK}", after) is not None


_SUCH_AS = re.compile(
    r"(?<=[a-z]) [\u2013\u2014](?= )|, (?:such as|like|including|for example|for instance|e\.g\.,?)(?= )"
)
_LIST_GOES_ON = re.compile(r",?\s+(?:and|or)\s|,\s")
_LIST_END = re.compile(
    r",?\s+(?:and|or)\s+(?:any\w*|other|the like|so on|anything)\b|(?:,\s*(?:an? |the )?\0+)*\s*[\u2013\u2014]\s"
)  # also "none of the others - a horse, a sheep - is heard"
_BRACKETS = re.compile(r"\([^()]*\)\s*")
_PARENTHESIS = re.compile(
    rf"^(?:,[^,.;]{{0,60}},| (?:instead of|rather than) (?:an? |the )?{BLANK}+"
    r"| (?:of which|about which|that|which) (?:he|she|they|i|we) (?:[a-z]+|\0+))"
    r"(?= (?:is|are|was|were|can|could|do|does|did|has|have)(?:not|n['\u2019]t)?\b)"
)  # ", as option D says,"
#: actions of one sound on another: "the whistle interrupts neither the speaker nor the crowd"
_ACTS_ON = re.compile(
    rf"{BLANK} (?:interrupt|disturb|cover|mask|drown|affect|bother|match|preced|follow|overlap)\w*(?: with| out)? $"
)
_STOPS_BUT = re.compile(r"\b(?:stop|end|ceas|fad|paus|chang|mov)\w*\b[^.;]{0,40}\bbut (?:the )?$")
_DOES_NOT = re.compile(r" (?:do|does|did)(?: not|n['\u2019]t)\s*(?:[.,;!)]|$)")
_CONFUSION = re.compile(r"(?:easily |perhaps )?(?:confuse|mistake)\b")


def _find_hedge(before: str, after: str) -> str | None:
    """Return the cue that hedges a phrase with this context, or None."""
    for match in (*_HEDGE.finditer(before), *_CONTRACTION.finditer(before)):
        gap = before[match.end() :].lstrip(" ,")
        if _CONFUSION.match(gap):  # "some could confuse the crow with a gull": the crow is claimed
            continue
        if not _CLAUSE_MARK.search(gap) and not (match.group() == "either" and "or" not in gap + after):
            return match.group()
    if match := _HEDGE_AFTER.match(after):
        return match.group().strip(" ,")
    if _OR_BEFORE.search(before) or _OR_AFTER.match(after):
        return "or"
    return None


def _find_cue(cue: _CuedPattern, before: str, after: str, shared_topic: bool = False) -> str | None:
    """Return the last match of a cue before the phrase with no other name, comma or clause between, or None.

    Args:
        shared_topic: Whether a second name after an "and" shares the cue also where the first name has modifiers
            ("sings of drums of war and a trumpet calling"), unless a verb follows it.
    """
    matches = list(cue.finditer(before))
    match = matches[-1] if matches else None
    if match is None or len(before) - match.end() > 45:
        return None
    gap = before[match.end() :]
    if BLANK in gap:  # members of a list share the cue
        name_start = gap.find(BLANK)
        shares = _in_list(gap, name_start, after) or (
            shared_topic
            and (
                _AND_TOPIC.search(gap)
                and _NO_VERB.match(after)
                or _LIST.match(gap[name_start:])
                and _LIST_GOES_ON.match(after)
            )
        )
        gap = gap[:name_start] if shares and shared_topic else gap
        return match.group() if shares and not _CLAUSE.search(gap) else None
    return None if _CLAUSE.search(gap) else match.group()


def _is_quoted_choice(raw: str, start: int, stop: int, choices: frozenset[str]) -> bool:
    """Return whether the phrase stands in quotation marks that enclose one of the choices."""
    if not choices:
        return False
    opening = max((raw.rfind(mark, max(0, start - 60), start) for mark in _QUOTES), default=-1)
    closings = [place for mark in _QUOTES if (place := raw.find(mark, stop, stop + 60)) >= 0]
    return opening >= 0 and bool(closings) and raw[opening + 1 : min(closings)].strip(" .,").lower() in choices
