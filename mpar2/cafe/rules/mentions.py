"""Candidate mentions of sounds in a trace, and the sentences that contain them.

A candidate is a phrase that may name a sound. Neighbouring hits of the vocabulary that refer to one sound ("a dog is
barking", "barking of a dog", also across the border of two parts) are merged into one candidate. A phrase with an
action of another source ("a cat is barking") is one candidate whose ``source`` contradicts its ``concepts``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, replace

from mpar2.cafe.rules.assertion import BLANK, Sentence
from mpar2.cafe.rules.sounds import SOURCE_SOUNDS
from mpar2.cafe.rules.vocabulary import Hit, Vocabulary, words_of
from mpar2.trace import Trace

__all__ = ["SPEAKS", "CandidateMention", "ParsedTrace", "parse_mentions", "uncovered_nouns"]

_TAG = re.compile(r"</?\s{0,4}[A-Za-z]{2,12}\s{0,4}>")
_END = re.compile(r"[.!?;\n](?!(?<=\d\.)\d)")  # "3.5" has no end
_LINKERS_WORDS = (
    "is|are|was|were|be|been|being|that|which|who|of|a|an|the|sound|sounds|noise|starts|begins|keeps|to|start|begin"
    "|started|began|has|can|be|could|heard|their|its|his|her|keep|continues|continue|still|out|away|loud|softly|of"
    "|from|this|these|those|while|gets|goes|get|then|resume|resumes|resumed|continued|kept|finally"
)
_LINKERS = frozenset(_LINKERS_WORDS.split("|"))
_CORRECTIONS = frozenset(("actually", "really"))  # "rain is actually fire"
_MAX_LINKERS = 3

# Everyday uses of ambiguous words, in which they name no sound.
_NOT_A_SOUND = tuple(  # the word, the text before it, and the text after it
    tuple(re.compile(pattern) for pattern in row)
    for row in (
        ("steps?", r"\b(?:these|those|this|next|last|each|every|following|reasoning|by|the|first|second|third|few|my)\s+$",  # noqa: E501
         r"(?!\s+(?:only |then |[a-z]+ly )?(?:begin|start|stop|fade|continue|approach|grow|get|become|end|are heard|can be|have|belong|last|echo|sound|come|recede|move|pass|cease|pause|quicken|slow))"),  # noqa: E501
        ("tones?", r"\b(?:speaker|friendly|overall|emotional|his|her|their|of|same)\s+$", ""),
        ("tones?", "", r"\s+of\b"),
        ("key", r"\b(?:the|a|major|minor|is)\s+$", ""),
        ("waves?", r"\b(?:sound|sine|square)\s+$", ""),
        ("wave", "", r"\s*form"),
        ("beats?", "", r"\s+(?:per|a) (?:minute|second|bar|measure)\b"),
        ("speakers?", r"\b(?:from|through|over|out of|via)\s+(?:the\s+|a\s+)?$", ""),
        ("walk(?:s|ed|ing)?", "", r"\s+(?:through (?:it|this|them|these|the (?:options|choices|clip|audio|steps))|us|me)\b"),  # noqa: E501
    )
)  # fmt: skip


# Contexts that make a weak word a sound: a verb of hearing before it, or a verb of sounding after it.
_HEARING_BEFORE = re.compile(
    r"\b(?:hears?|heard|hearing|(?:sounds?|noises?) of)\s+(?:an?\s+|the\s+|some\s+)?(?:loud\s+|soft\s+|faint\s+|distant\s+)?$"  # noqa: E501
)
#: verbs of speaking, after a name of a person
SPEAKS = re.compile(
    r"\s+(?:then |also |[a-z]+ly )?(?:respond|repl(?:y|ies)|answers?\b|says?\b|asks?\b|tells?\b|explain|announc|introduc"  # noqa: E501
    r"|comment|greet|calls? out|thanks?\b|orders?\b|warn|promis|describ|address|interrupt|takes the (?:micro|floor)|adds?\b|mumbl|mutter|swears?\b|curses?\b|recit|reads?\b|prays?\b|preach|calls?\b|apologi|speaks?\b|talks?\b|gives? (?:orders|instructions|commands|a )|delivers?\b|picks? up|praises?\b|scolds?\b)"  # noqa: E501
)
_DETERMINED = re.compile(r"\b(?:an?|the|another|this|that|one|final|loud|sudden|brief)\s+(?:[a-z]+\s+)?$")
_SOUNDING_AFTER = re.compile(
    r"\s+(?:(?:is|are|was|were|starts?|begins?|keeps?|can (?:also |clearly )?be)\s+)?(?:also\s+|softly\s+|loudly\s+|faintly\s+|clearly\s+)?"  # noqa: E501
    r"(?:playing|plays|heard|audible|sounding|struck|sounded|blown|rung|shaken|beaten|torn|crumpled|dropped|closed|opened|on(?=[.,;])|slammed|flushed|used|operated|at work|swells?|soars?|rings?|ringing|buzz(?:es|ing)|hum(?:s|ming)|whirr?(?:s|ing)|hiss(?:es|ing)"  # noqa: E501
    r"|rattl(?:es|ing)|squeak(?:s|ing)|clatter(?:s|ing)|(?:creak|scrape|clink|chime|strike|ding|slam|screeche|crackle|pop|snap|crashe|bang|tinkle|jingle|blow|roar|murmur|whistle|whine|wail|howl|hoot|thump|thud|clank|clang|chirp|splashe)s|falls? (?:over|down|to)|drops|boom(?:s|ing)|blar(?:es|ing)|click(?:s|ing)|beep(?:s|ing))\b"  # noqa: E501
    r"|\s+(?:[a-z]+|(?:is|are|was|were) (?:on|[a-z]+ing))(?: [a-z]+ly)? in the (?:background|distance)\b"
)
_BARE = re.compile(r"[A-Za-z]+(?<!s)(?<!ing)(?<!ed)")
_IDIOM = re.compile(
    r"\b(?:rings? (?:a|any) bells?|alarm bells?|barking up the wrong tree|cats and dogs|fire[sd] up|so to speak|(?:generally|strictly|broadly|roughly) speaking|in (?:a )?(?:constant |musical )?dialogue|elephant in the room"  # noqa: E501
    r"|cat out of the bag|music to (?:my|the|our|one's) ears|at the drop of a hat|under the radar|a grain of salt|drums? up"  # noqa: E501
    r"|(?:the )?tip of the iceberg|wild[- ]goose chase|as \w+ as an? (?:mouse|bell|whistle|drum|fiddle|lion|lark|bird|cat)"  # noqa: E501
    r"|let sleeping dogs lie|in the same boat|on the same page|blow(?:s|ing)? the whistle on|second wind|bells and whistles"  # noqa: E501
    r"|cry(?:ing)? wolf|train of thought|plays? second fiddle|pull(?:ing|s)? (?:out )?all the stops|a fly on the wall"
    r"|lion's share|hold your horses|horse of a different colou?r|dark horse|rule of thumb|sound(?:s|ing)? the alarm (?:for|about)"  # noqa: E501
    r"|loud and clear|speaks? (?:against|in favou?r)|speaks? for (?=(?:an?|the) (?!first|last|whole|entire|full|rest|few|remain|next|duration))|stuck in traffic|(?:provid|suppl|lay|giv|keep|carr|play|doubl|follow|outlin|hold)\w* (?:down )?(?:the|a steady|its) (?:bass (?:line|notes?|part)|beat)|(?:provid|suppl|lay|giv|carr)\w* the bass|knock(?:s|ed|ing)? (?:down|over|out|off)|step by step|wave of \w+|flood of \w+|stream of (?:consciousness|words)|around the clock"  # noqa: E501
    r"|face the music|fire drill|on fire|next door|firing range|fire station|under fire|car park|dog park|bus stop|train station|door to"  # noqa: E501
    r"|open(?:s|ed|ing)? the door (?:to|for)|(?:lyrics?|songs?|evidence|facts?|data|context|title|text|verses?|everything|descriptions?|captions?|reports?) (?:\w+ ){0,3}?(?:speaks?|talks?|sings?|tells?)\b|key (?:to|clue|detail|evidence|point|sound|feature|piece)|birds of a feather)\b",  # noqa: E501
)
_REPORTING = re.compile(
    r"\b(?:say|says|said|saying|ask|asks|asked|asking|shout|shouts|shouted|shouting|yell|yells|yelled|yelling|announce"
    r"|announces|announced|announcing|tell|tells|telling|told|exclaim|exclaims|whisper|whispers|utter|utters|state|states"
    r"|stated|mention|mentions|words?|phrase|lyrics?|line|sentence|transcript\w*|speech|read|reads|reply|replies|warn|warns"
    r"|options?|choices?|statements?|claims?|answers?|descriptions?|captions?|alternatives?"
    r"|sing|sings|singing|comment\w*|explain\w*|remark\w*|something like|along the lines of|talk\w* about|called|titled)\b"  # noqa: E501
    r"[^.!?\n]{0,25}$",
    re.IGNORECASE,
)
_QUOTATION = re.compile(r"[\"\u201c]([^\"\u201c\u201d\n]{1,400})[\"\u201d]")
_SUBJECT = re.compile(
    r"\b(?:an?|the|its|this|that|some|another)\s+(?:[a-z]+\s+){0,2}?(?P<noun>[a-z]{3,})"
    r"(?:\s+(?:that|which))?(?:\s+(?:is|are|was|were|starts?|begins?|keeps?|continues?))?(?:\s+[a-z]+ly)?\s+$"
)
_NOT_SUBJECTS = frozenset(
    """
    loud soft distant faint single sharp short long brief quiet clear low high deep sudden constant steady
    continuous rapid slow fast repeated repetitive distinct final first second third last next other same gentle
    strong heavy light big small large old young nearby electronic mechanical metallic human male female animal
    person man woman people someone somebody speaker child sound noise audio clip recording occasional intermittent
    background regular rhythmic muffled high-pitched low-pitched angry excited happy initial subsequent whole entire
    muted intense rough echoing piercing shrill harsh bright warm tiny huge and with hear heard the its his her
    their this that these those which some any each another
    """.split()  # noqa: SIM905
)
# Pronoun subjects: the sound is that of the noun that the pronoun refers to.
_PRONOUN = re.compile(
    r"\b(?:it|they|which|that|those|others)\s+(?:(?:then|also|starts? to|begins? to|keeps|continues to"
    r"|[a-z]+ly)\s+){0,3}$"
)
_SOMEONE = re.compile(
    r"\b(?:some(?:one|body|thing)|he|she|(?:an?|the|another|one|two|several|some)\s+(?:[a-z]+\s+)?(?:persons?|people|individuals?)|people)"
    r"(?:\s+(?:who|that|is|are|was|were|can be heard|starts?(?: to)?|begins?(?: to)?|having|then|briefly|softly|loudly|(?!usual|typical|general|normal|rare|common|frequent)[a-z]+ly"  # noqa: E501
    r"|an?|the|in)){0,3}:?\s+$",
    re.IGNORECASE,
)
# Human actions whose source may also be a thing; the source of every other human action is a person.
_ALSO_THINGS = frozenset(
    ("singing", "whistling", "humming", "breathing", "crying", "whisper", "sigh", "groan", "crowd", "rap")
)


#: nouns for the manner of a sound, as in "opens with a creak"
_MANNERS = frozenset(
    "hiss creak bang thud click clatter squeak pop crash clank clang screech squeal whoosh rattle thump snap clink rumble roar".split()  # noqa: E501, SIM905
)
#: the start of a list entry, and the text between its name and its description
_ENTRY = re.compile(r"(?:^|[\n.;:*]|\d[.)])[\s*]*$")
_MARK = re.compile(r"[^\w\s'’-]")  # noqa: RUF001
_ENTRY_GAP = re.compile(r"\**\s*[\u2013\u2014:-]\s+(?:an? )?(?:[a-z]+ )?")
_MANNER_GAP = re.compile(r"[^.;:\n]{0,40} with an? (?:[a-z]+ )?")
#: "a hiss that I identify as rain": the first noun describes the sound that is named next
_IDENTIFIED_AS = re.compile(
    r"(?: sound| noise)? (?:(?:that|which) )?(?:(?:i|we) (?:would |can |could )?|(?:is|can be|could be) )?"
    r"(?:identif(?:y|ied)|recogni[sz]ed?|interpret(?:ed)?|take|taken|read|describe[ds]?|perceived?|hear|heard|attribut(?:e|ed))"
    r" (?:as|to|for) ",
    re.IGNORECASE,
)
_ASIDE_GAP = re.compile(r"[^,.;:\n]{0,40}, (?:[a-z]+ly )?")
_ASIDE_OBJECT = re.compile(
    r" (?:through|over|into|onto|across|against|along|past|down|up|off|out|as|its|his|her|their|the)\b"
)

_ELLIPSIS = re.compile(
    r"\b[Tt]he (?P<which>first|second|third|fourth)(?: one)?(?=\s*(?:$|[.,;)(]|(?:at|between|from|around|near|about|after|before)\b))"  # noqa: E501
    r"|\b(?P<one>[Aa]nother(?: one)?|[Oo]ne|[Tt]he other)(?= (?:at|between|from|around|near|about) )"
)
_FRAME = re.compile(
    r"\b(?:hears?|heard|hearing|(?:sounds?|noises?) of|there(?:'s| is| are| was| were)|accompanied by|joined by|followed by)\s+"  # noqa: E501
    r"(?:also |then |only |clearly |distinctly )?(?:an?|the|some|another|several|two|three)\s+"
    r"(?P<phrase>[a-z-]+(?: [a-z-]+){0,2})",
)
_NO_SOUNDS = frozenset(
    """
    sound sounds noise noises event events clip audio recording pause silence moment background distance beginning
    end start answer question option options choice choices order sequence thing things one ones difference
    indication evidence reason mention sense way lot number person people someone man pattern rhythm gap second
    seconds segment part time change possibility need other others same scene source sources voice total doubt hint
    sign chance point example first last environment atmosphere tone intensity volume pitch quality type kind few
    bit couple variety combination mix mixture series set group burst bursts period moments echo
    """.split()  # noqa: SIM905
)
_PHRASE_END = re.compile(
    r"\s(?:is|are|was|were|and|or|but|in|on|at|from|with|that|which|who|while|as|of|to|for|by|before|after|then|over|playing"
    r"|being|during|near|behind|through|coming|followed|[a-z]+ing|[a-z]+ed)\b.*"
)


def uncovered_nouns(masked_text: str, candidates: tuple[CandidateMention, ...], text: str) -> tuple[str, ...]:
    """Find nouns in the context of hearing that no candidate covers, and unknown subjects of sound verbs.

    Returns:
        Each noun once, in order.
    """
    nouns = []
    for match in _FRAME.finditer(masked_text):
        phrase = _PHRASE_END.sub("", " " + match["phrase"]).split()
        context = masked_text[match.start("phrase") : match.end() + 2]
        if (
            not phrase
            or BLANK in context
            or phrase[-1] in _NO_SOUNDS
            or phrase[-1].endswith("ly")
            or len(phrase[-1]) < 3
        ):
            continue
        nouns.append(phrase[-1])
    for candidate in candidates:
        if candidate.unknown_subject and not candidate.quoted:
            before = text[max(0, candidate.start - 60) : candidate.start].lower()
            if match := _SUBJECT.search(before):
                nouns.append(match["noun"])
    return tuple(dict.fromkeys(nouns))


def _reported_speech(masked: str) -> list[tuple[int, int]]:
    """Return the spans of quoted speech and quoted options. A name in them is not claimed to be heard."""
    return [
        match.span(1)
        for match in _QUOTATION.finditer(masked)
        if len(match[1].split()) >= 5
        or masked[max(0, match.start() - 2) : match.start()].rstrip().endswith(":")
        or _REPORTING.search(masked[max(0, match.start() - 60) : match.start()])
    ]


def _unknown_subject(
    masked: str, candidate: CandidateMention, in_truth: frozenset[str], vocabulary: Vocabulary
) -> bool:
    """Return whether the candidate is only a verb whose subject no vocabulary knows ("the projector hums")."""
    if candidate.role != "action" or in_truth.intersection(candidate.concepts):
        return False
    name = candidate.concepts[0] if candidate.concepts else ""
    if name and name not in _ALSO_THINGS and vocabulary.concept(name).family == "human":
        return False
    if not masked[candidate.start : candidate.stop].lower().endswith(("s", "ed", "ing")):
        return bool(_PRONOUN.search(masked[max(0, candidate.start - 40) : candidate.start].lower()))
    before = masked[max(0, candidate.start - 60) : candidate.start].lower()
    if _PRONOUN.search(before):
        return True
    match = _SUBJECT.search(before)
    return (
        match is not None
        and match["noun"] not in _NOT_SUBJECTS
        and not match["noun"].endswith(("ly", "ing", "ed", "ous", "ic", "al"))
    )


def _is_aside(
    masked: str,
    candidate: CandidateMention,
    previous: CandidateMention | None,
    in_truth: frozenset[str],
) -> bool:
    """Return whether a name only describes the one before it: "a car passes, splashing through puddles"."""
    manner = masked[candidate.start : candidate.stop].lower() in _MANNERS
    if manner and _IDENTIFIED_AS.match(masked, candidate.stop):
        return True
    if previous is None:
        return False
    gap = masked[previous.stop : candidate.start]
    if manner and _MANNER_GAP.fullmatch(gap):  # "the doors open with a hiss", also where a bus may hiss
        return previous.concepts != candidate.concepts
    if in_truth.intersection(candidate.concepts) or candidate.role != "action":
        return False
    if gap == " and ":  # "kids laugh and scream"
        return any(
            sound in SOURCE_SOUNDS.get(name, ()) for name in previous.concepts[:1] for sound in candidate.concepts
        )
    if manner or not masked.endswith("ing", candidate.start, candidate.stop) or not _ASIDE_GAP.fullmatch(gap):
        return False
    return _ASIDE_OBJECT.match(masked, candidate.stop) is not None


def _with_subject(masked: str, candidate: CandidateMention, lower_bound: int) -> CandidateMention:
    """Extend a human action to its subject where that is "someone", "two people" or the like."""
    match = _SOMEONE.search(masked, max(lower_bound, candidate.start - 60), candidate.start)
    if match is None or (candidate.role != "action" and " having " not in match.group()):
        return candidate
    return replace(candidate, start=match.start())


@dataclass(frozen=True)
class CandidateMention:
    """A phrase ``[start, stop)`` of the trace that may name a sound.

    ``concepts`` are the sounds that it may name. They are empty for general words, which have a ``family``. ``source``
    is set where the phrase assigns an action to another source.
    """

    start: int
    stop: int
    concepts: tuple[str, ...]
    role: str
    plural: bool
    weak: bool
    family: str | None
    source: tuple[str, ...] = ()
    quoted: bool = False  # in speech that the trace reports
    unknown_subject: bool = False  # a verb whose subject the vocabulary does not know
    part: int = -1  # index of the innermost part of the trace at its first character


@dataclass(frozen=True)
class ParsedTrace:
    """A trace with its candidates. ``masked_text`` is the text in lower case, tags and names blanked."""

    text: str
    masked_text: str
    candidates: tuple[CandidateMention, ...]
    sentences: tuple[Sentence, ...]

    def by_sentence(self) -> list[list[int]]:
        """Return the indices of the candidates of each sentence, in order."""
        starts = [sentence.start for sentence in self.sentences]
        groups: list[list[int]] = [[] for _ in self.sentences]
        for index, candidate in enumerate(self.candidates):
            groups[bisect_right(starts, candidate.stop - 1) - 1].append(index)
        return groups


def parse_mentions(trace: Trace, vocabulary: Vocabulary, in_truth: frozenset[str]) -> ParsedTrace:
    """Find the candidates and sentences of a trace.

    Args:
        vocabulary: Names of sounds, those of the truth among them.
        in_truth: The concepts of the truth, their parents and kinds.
    """
    text = trace.text
    masked, part_indices = _mask(trace)
    words = words_of(masked)
    hits = [hit for hit in vocabulary.find(masked, words) if _is_sound(hit, masked)]
    roles = [_section_role(trace, part) for part in range(-1, len(trace.parts))]
    # Merge neighbouring hits that refer to one sound.
    candidates: list[CandidateMention] = []
    last_maker: str | None = None
    for hit in hits:
        hit_maker = vocabulary.maker(hit, words)
        candidate = CandidateMention(
            hit.start, hit.stop, hit.concepts, hit.role, hit.plural, hit.weak, hit.family, part=part_indices[hit.start]
        )
        joined = None
        if candidates and _can_join(candidates[-1], candidate, text, masked, part_indices, roles):
            gap = masked[candidates[-1].stop : candidate.start].lower().split()
            last = candidates[-1]
            if not gap and last.role == "action" == candidate.role and _BARE.fullmatch(masked[last.start : last.stop]):
                candidates[-1] = replace(last, role="noun")  # "rain drums on the roof": the first is the subject
            if gap[:1] == ["of"] and last.role == "action" and "speech" in last.concepts:
                candidate = replace(candidate, quoted=True)  # "he talks of dolphins"
            else:
                joined = _join(candidates[-1], candidate, vocabulary, last_maker, hit_maker, in_truth, gap)
        if joined is None:
            candidates.append(candidate)
        else:
            candidates[-1] = joined
        last_maker = hit_maker
    # Drop weak words without a context of hearing, and idioms.
    candidates = _with_ellipses(candidates, masked, vocabulary)
    lower = masked.lower()
    idioms = [match.span() for match in _IDIOM.finditer(lower)]
    candidates = [
        candidate
        for candidate in candidates
        if (not candidate.weak or _has_sound_context(candidate, lower) or _matches_truth(candidate, lower, in_truth))
        and not any(start <= candidate.start < stop for start, stop in idioms)
    ]
    # Mark quotations and unknown subjects, and extend human actions to their subject.
    quotations = _reported_speech(masked)
    for index, candidate in enumerate(candidates):  # few candidates change, and copies take time
        previous = candidates[index - 1] if index else None
        if quotations and any(start <= candidate.start < stop for start, stop in quotations):
            candidates[index] = replace(candidate, quoted=True)
        elif _unknown_subject(masked, candidate, in_truth, vocabulary) or _is_aside(
            masked, candidate, previous, in_truth
        ):
            candidates[index] = replace(candidate, unknown_subject=True)
        elif candidate.concepts and (
            candidate.role == "action" or vocabulary.concept(candidate.concepts[0]).family == "human"
        ):
            lower_bound = previous.stop if previous else 0
            candidates[index] = _with_subject(masked, candidate, lower_bound)
    # Blank the names only now: the steps above read them.
    masked_text = _blank_names(lower if len(lower) == len(masked) else masked, candidates)
    borders = {position for part in trace.parts for position in (part.chars.start, part.chars.stop)}
    sentences = _sentences(masked, part_indices, borders, roles, candidates, quotations)
    return ParsedTrace(text, masked_text, tuple(candidates), tuple(sentences))


def _with_ellipses(candidates: list[CandidateMention], masked: str, vocabulary: Vocabulary) -> list[CandidateMention]:
    """Add ellipses such as "the second" after "two barks", where the truth has several events of the name."""
    ellipses = []
    starts = [candidate.start for candidate in candidates]
    for match in _ELLIPSIS.finditer(masked):
        index = bisect_right(starts, match.start()) - 1
        if index < 0 or masked[max(0, match.start() - 3) : match.start()] in ("at ", "in ", "by "):
            continue
        antecedent = candidates[index]
        gap = masked[antecedent.stop : match.start()] if antecedent.stop <= match.start() else "."
        if len(gap) > 80 or _END.search(gap) or not antecedent.concepts:
            continue
        if any(len(vocabulary.labels_named(name)) > 1 for name in antecedent.concepts):
            ellipses.append(
                replace(
                    antecedent,
                    start=match.start(match.lastgroup),
                    stop=match.end(match.lastgroup),
                    role="noun",
                    plural=False,
                )
            )
    return sorted([*candidates, *ellipses], key=lambda candidate: candidate.start) if ellipses else candidates


def _mask(trace: Trace) -> tuple[str, list[int]]:
    """Return the text with tags as blanks, and for each character the index of its innermost part (-1: none)."""
    part_indices = [-1] * len(trace.text)
    chars = list(trace.text)
    for index, part in enumerate(trace.parts):
        part_indices[part.chars.start : part.chars.stop] = [index] * (part.chars.stop - part.chars.start)
        for start, stop in ((part.outer.start, part.chars.start), (part.chars.stop, part.outer.stop)):
            chars[start:stop] = " " * (stop - start)
    for match in _TAG.finditer(trace.text):
        chars[match.start() : match.end()] = " " * (match.end() - match.start())
    # A NUL in the trace would count as a blanked name.
    return "".join(chars).replace(BLANK, " "), part_indices


def _section_role(trace: Trace, part: int) -> str:
    """Return the role of a part: whether its text asserts, asks or answers."""
    if part < 0:
        return "asserted"
    return {"ask": "questioned", "answer": "answer"}.get(trace.parts[part].kind, "asserted")


def _is_sound(hit: Hit, masked: str) -> bool:
    """Return whether the context of a weak word allows a sound. Other words always name one."""
    if not hit.weak:
        return True
    word = masked[hit.start : hit.stop].lower()
    before, after = masked[max(0, hit.start - 20) : hit.start].lower(), masked[hit.stop : hit.stop + 20].lower()
    return not any(
        name.fullmatch(word) and left.search(before) and right.match(after) for name, left, right in _NOT_A_SOUND
    )


def _matches_truth(candidate: CandidateMention, lower: str, in_truth: frozenset[str]) -> bool:
    """Return whether a weak word names a sound of the truth. "someone" and "person" never do."""
    return bool(in_truth.intersection(candidate.concepts)) and lower[candidate.start : candidate.stop] not in _ANYONE


_ANYONE = frozenset(("someone", "somebody", "person", "persons"))


def _has_sound_context(candidate: CandidateMention, lower: str) -> bool:
    """Return whether a verb of hearing stands before the candidate, or a verb of sounding after it."""
    before = lower[max(0, candidate.start - 40) : candidate.start]
    if _HEARING_BEFORE.search(before):
        return candidate.role == "noun" or lower.endswith("ing", candidate.start, candidate.stop)
    after = SPEAKS if candidate.concepts == ("speech",) else _SOUNDING_AFTER
    if candidate.role != "noun" and not _DETERMINED.search(before):
        return False
    return after.match(lower, candidate.stop) is not None


def _can_join(
    left: CandidateMention, right: CandidateMention, text: str, masked: str, part_indices: list[int], roles: list[str]
) -> bool:
    """Return whether only linking words and tags of asserted parts stand between two neighbours."""
    gap = masked[left.stop : right.start]
    if _ENTRY_GAP.fullmatch(gap) and _ENTRY.search(masked, max(0, left.start - 20), left.start):
        return bool(set(left.concepts) & set(right.concepts))  # "4. Dog - a single bark"
    if len(gap) > 60 or _MARK.search(gap):
        return False
    tagged = "<" in text[left.stop : right.start]
    if "\n" in gap and not tagged:
        return False
    parts = part_indices[left.stop - 1], part_indices[right.start]
    if parts[0] != parts[1] and any(roles[part + 1] != "asserted" for part in parts):
        return False
    words = gap.lower().replace("'s", "").split()
    if len(words) > _MAX_LINKERS or _CORRECTIONS.intersection(words):
        return False
    return all(word in _LINKERS or word.endswith("ly") for word in words)


def _join(
    left: CandidateMention,
    right: CandidateMention,
    vocabulary: Vocabulary,
    left_maker: str | None,
    right_maker: str | None,
    in_truth: frozenset[str],
    gap: list[str],
) -> CandidateMention | None:
    """Merge two neighbouring candidates, or return None where they name two sounds."""
    if not left.concepts or not right.concepts or left.source:
        return None
    if {"its", "his", "her", "their"} & set(gap) and not in_truth.intersection(right.concepts):
        return _merge(left, right, left.concepts)  # a motorcycle revs its engine
    # "a phone conversation": the last noun is the sound
    is_compound = left.role == right.role == "noun" and not gap and not left.plural
    if is_compound and in_truth.intersection(right.concepts) and not in_truth.intersection(left.concepts):
        return _merge(left, right, right.concepts)
    # From here on, one of the two is a noun and the other an action.
    if left.role == right.role or {"while", "then"} & set(gap):
        return None
    noun, action = (left, right) if left.role == "noun" else (right, left)
    if noun.weak and noun.concepts == ("speech",):  # "the worker hammers"
        humans = tuple(c for c in action.concepts if vocabulary.concept(c).family == "human")
        return _merge(left, right, humans or action.concepts)
    # Both name one sound, or the noun is the more precise name.
    maker = left_maker if noun is left else right_maker
    shared_concepts = tuple(c for c in noun.concepts if c in action.concepts)
    if shared_concepts and (in_truth.intersection(shared_concepts) or not in_truth.intersection(noun.concepts)):
        return _merge(left, right, shared_concepts)
    parents = {vocabulary.concept(c).parent for c in noun.concepts}
    if parents.intersection(action.concepts):  # "a man is talking": the noun is the more precise name
        return _merge(left, right, noun.concepts)
    if noun is left and gap[-1:] in (["a"], ["an"]) and {"is", "was", "are", "were"} & set(gap):
        return None  # "my guess for the blender was a drill"
    families = [vocabulary.concept(candidate.concepts[0]).family for candidate in (noun, action)]
    if noun is left and {"from", "this", "these"} & set(gap):
        return None
    # The noun is a source that may make a sound of the truth.
    sources = {noun.concepts[0]} & SOURCE_SOUNDS.keys()
    may_speak = not (noun.concepts[0].endswith("speech") and _NO_SPEECH.issuperset(action.concepts))
    source_sounds = in_truth.intersection(sound for name in sources for sound in SOURCE_SOUNDS[name])
    matches_truth = bool(source_sounds) if may_speak else "children playing" in source_sounds
    if families == ["human", "human"] and may_speak:
        names = in_truth.intersection(noun.concepts)
        if _NO_SPEECH.issuperset(action.concepts):  # "the audience laughs" is no applause
            names -= _NO_SPEECH
        matches_truth = matches_truth or bool(names)
    if matches_truth and not in_truth.intersection(action.concepts):
        return _merge(left, right, noun.concepts)
    if families == ["human", "human"]:  # "a man laughs": the sound is the laughter
        return _merge(left, right, action.concepts)
    if maker is not None and families == ["animal", "animal"]:  # "a cat barks"
        return replace(_merge(left, right, action.concepts), source=noun.concepts)
    # A verb belongs to its subject where that is a known source: the wind whistles, a phone beeps, a violin sings.
    many_senses = len(action.concepts) > 3 and in_truth.intersection(noun.concepts)  # "the whistle blows"
    if in_truth.intersection(action.concepts) and not many_senses:
        return _merge(left, right, action.concepts)
    return _merge(left, right, noun.concepts)


#: human sounds other than speech
_NO_SPEECH = frozenset(
    "laughter crying cough sneeze snoring singing choir humming whistling yawn sigh burp applause breathing rap".split()  # noqa: SIM905
)


def _merge(left: CandidateMention, right: CandidateMention, concepts: tuple[str, ...]) -> CandidateMention:
    """Return one candidate over both phrases."""
    plural = left.plural if left.role == "noun" else right.plural
    weak = left.weak and right.weak and left.role == right.role  # a noun with its own action is no weak name
    return CandidateMention(
        left.start, right.stop, concepts, "noun", plural, weak, left.family or right.family, part=left.part
    )


def _blank_names(text: str, candidates: list[CandidateMention]) -> str:
    """Replace each character of a candidate by ``BLANK``."""
    pieces, position = [], 0
    for candidate in candidates:
        pieces += [text[position : candidate.start], BLANK * (candidate.stop - candidate.start)]
        position = candidate.stop
    return "".join([*pieces, text[position:]])


def _sentences(
    masked: str,
    part_indices: list[int],
    borders: set[int],
    roles: list[str],
    candidates: list[CandidateMention],
    quotations: list[tuple[int, int]],
) -> list[Sentence]:
    """Split at full stops, ";", line ends and borders of parts, but not inside a candidate or a quotation.

    A quoted question is no question of the trace: a "?" before a closing quotation mark ends a plain sentence.
    """
    cuts = {match.end(): match.group() == "?" for match in _END.finditer(masked)}
    if quotations:
        ends = dict.fromkeys((stop for _, stop in quotations), False)
        inside = {place for start, stop in quotations for place in range(start + 1, stop)}
        cuts = {place: ends.get(place, is_question) for place, is_question in cuts.items() if place not in inside}
    for position in borders:
        if 0 < position < len(part_indices) and part_indices[position] != part_indices[position - 1]:
            cuts.setdefault(position, False)
    starts = [candidate.start for candidate in candidates]
    sentence_ends = []
    for cut in sorted(cuts):
        index = bisect_right(starts, cut - 1) - 1
        if index < 0 or not candidates[index].start < cut < candidates[index].stop:
            sentence_ends.append(cut)
    sentences, position = [], 0
    for cut in [*sentence_ends, len(masked)]:
        if cut > position:
            part = (
                part_indices[cut - 1]
                if part_indices[cut - 1] == part_indices[position]
                else max(part_indices[position:cut])
            )
            role = roles[part + 1]
            sentences.append(Sentence(position, cut, role, cuts.get(cut, False), part))  # type: ignore[arg-type]
        position = cut
    return sentences
