"""The reference judge: rules over exact truth, no model.

It finds every name of a sound (``mentions``), asks whether the sentence asserts it (``assertion``), looks for it in the
truth, and checks what the sentence says of its time (``times``), order, count, length, loudness, maker and kind
(``claims``). The rules are those of :data:`mpar2.cafe.schema.DECISION_TABLE`, in its order, except one: whether a
conclusion follows from an event takes understanding, and is left to the model judges.

How a mention picks its truth events when several have its name: claims pick those that they are true of; "a", "an",
"another" pick one, the first that its part of the trace has not yet named; anything else ("the barking", "dogs")
speaks of all of them. A wrong claim about several events is charged to all of them, a wrong time to the nearest.

Known limits: one sentence at a time (a pronoun's claim is not checked), English only, and no more words than
``sounds`` and the truth have: a hallucinated sound with a name outside of both is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from mpar2.cafe.rules import claims as claim_rules
from mpar2.cafe.rules.assertion import BLANK, REACH, assertion_of
from mpar2.cafe.rules.checks import holds, nearest, pair_holds
from mpar2.cafe.rules.claims import OFFSET_SHARE
from mpar2.cafe.rules.mentions import SPEAKS, CandidateMention, ParsedTrace, parse_mentions, uncovered_nouns
from mpar2.cafe.rules.sounds import PARENTS, PARTS, SOUNDS, SOURCE_SOUNDS
from mpar2.cafe.rules.times import attach_times
from mpar2.cafe.rules.unsure import spare_unsure
from mpar2.cafe.rules.vocabulary import MAKER_WORDS, Vocabulary
from mpar2.cafe.schema import (
    JudgeRequest,
    Mention,
    MentionKind,
    Truth,
    Unscored,
    Verdict,
    missed_events,
)
from mpar2.cafe.sound_classes import CLASSES
from mpar2.trace import Span, Trace, parse_trace

__all__ = ["ReferenceJudge", "annotate"]

# Names that support a general word beyond their own family.
_ALSO = {
    "music": ("singing", "humming", "rap", "beatboxing", "throat singing", "whistling"),
    "vehicle": ("siren", "car horn", "tire squeal"),
}
_ONE = re.compile(r"\b(?:an?|another|one)\s+(?!few\b|couple\b|pair\b|lot\b|series\b)(?:[^\W\d]+\s+)?$")
#: a person by one word, who may make any sound of people
_PERSONS = {
    **dict.fromkeys(("man", "men", "male", "guy", "gentleman", "boy", "father", "baritone", "tenor"), "male"),
    **dict.fromkeys(("woman", "women", "female", "lady", "girl", "mother", "soprano", "mezzo"), "female"),
    **dict.fromkeys(("child", "children", "kid", "kids"), "child"),
}
#: who may be heard more than once
_PEOPLE = frozenset(("speakers", "voices", "people", "persons", "individuals", "singers", "children", *_PERSONS))
#: things that are named as the place of another sound ("footsteps approach the door")
_PLACES = frozenset(
    ("door", "car engine", "train", "bus", "truck", "boat", "airplane", "water", "waves", "telephone", "radio", "television",  # noqa: E501
     "glass breaking", "fountain", "bicycle", "faucet", "piano", "organ", "fire", "clock", "printer", "toilet flush", "washing machine")  # noqa: E501
)  # fmt: skip
_AT_PLACE = re.compile(
    r"\b(?:in(?:side)?|on|at|near|behind|outside|beside|(?<!followed )(?<!accompanied )(?<!joined )by|towards?|approach(?:es|ing)?|into|onto|against|aboard|through|around|next to"  # noqa: E501
    r"|close to|out of)\s+(?:(?:an?|the|his|her|their|its|some)\s+(?:\w+\s+)?)?$"
)
#: "a man talks to a woman": she need not be heard
_ADDRESSED = re.compile(
    rf"{BLANK} (?:[a-z]+ly )?(?:to|at|towards?) (?:an?|the|his|her|their|another|some) (?:[a-z]+ )?$"
)
#: "is heard three times" counts events, "calls three times" may be within one
_HEARD_TIMES = re.compile(r"\b(?:heard|occur|appear|happen|audible|present)")
#: a relative clause or a "has": what it names is what the name before it would make
_BELONGS = re.compile(
    r",? (?:(?:with (?:its|their|his|her)|(?:and )?(?:its|their)|whose|that|which|has|have|makes?|produces?)\b"
    r"(?:(?!\bthese\b|\bthose\b|\bthe\b)[^.;:()]){0,40}|(?:and|or) (?:an? |(?!these|those|the)[a-z]+ )?)"
)
_WHICH_OF = re.compile(r"\b(?:which|what) (?:one )?of (?:the|these)\b[^.!?]*\?$")
_SAYS = re.compile(r"\b(?:is|are|was|were|has|have|can|could|i|we|there|it|then|hear|heard)\b|\d")
_OWNED = re.compile(r"\b(?:his|her|my|our|your) (?:[a-z]+ )?$")
_ITS = re.compile(r"[^,.;:\0]{0,20} with (?:its|his|her|their) (?:[a-z]+ )?")  # "a truck waits with its engine on"
#: "fireworks crackle", "goats bleat": plural nouns and plain verbs that tell what is so in general
_PLURAL_DO = re.compile(
    r"(?!(?:the|these|those|some|two|three|several|many|both) )[a-z]+s(?: [a-z]+(?<!ing)(?<!ed)(?<!s))?"
)
_PLAIN_VERB = re.compile(
    r" (?:[a-z]+ly )?(?:(?!(?:can|could|are|were|and|or|in|at|from|with|on|of|by|to|for|near|then)\b|start|begin|join"
    r"|enter|continue|pass|approach|follow|fade|recede|come|go|play|sound|occur|appear|arrive|precede)"
    rf"[a-z]+(?<!ing)(?<!ed)(?<!s)(?<!ly)\b|{BLANK})"
)
_CLAUSE_START = re.compile(r"(?:[,:(]\s*|\b(?:since|because|as|for|whereas|while|but|when|where)\s+)$")
_SET_AGAINST = re.compile(r"\s*(?:but|this|these|here|nobody|nothing|none|neither)\b")  # "goats bleat; this is deeper"
_HERE = re.compile(
    r"\b(?:in the|at|near\w*|outside|overhead|throughout|around|behind|above|below|faintly|softly|loudly|quietly|too"
    r"|also|as well|together|then|now|here|away|far|close)\b|\d"
)
_SENTENCE_LIMIT = 20_000  # characters; more than a sentence ever has, so that a hostile one is cut


_CLAIM_KINDS = dict.fromkeys(("first", "last", "nth"), "order") | dict.fromkeys(
    ("longest", "shortest", "loudest", "quietest"), "attribute"
)


_ORDERS = frozenset(("before", "after", "before_end", "after_end", "end_before", "overlap", "start_together"))


class ReferenceJudge:
    """The judge behind the interface of the others; needs a truth with events."""

    id = "reference"
    model: str | None = None
    prompt_hash: str | None = None

    async def judge(self, request: JudgeRequest) -> Verdict | Unscored:
        """Judge one trace by rules.

        Args:
            request: The trace with its truth.

        Returns:
            A verdict at once, or ``no_truth`` where only a caption is known.
        """
        if request.truth.events is None:
            return Unscored("no_truth", "the reference judge needs a list of events; this item has only a caption")
        return annotate(request.trace, request.truth, choices=request.choices)


def annotate(text: str, truth: Truth, *, choices: Sequence[str] = ()) -> Verdict:
    """Sort the event mentions of a trace against the truth's events.

    Args:
        text: The raw trace, with or without tags.
        truth: What is audible; it needs events.
        choices: Of the question: what is quoted of them is not claimed.

    Returns:
        The verdict: mentions in order of the trace, and missed events.

    Raises:
        ValueError: The truth has no events.

    >>> from mpar2.question import Event
    >>> verdict = annotate("A cat, then a dog barks.", Truth((Event("dog bark", 0.0, 2.0), Event("siren", 4.0, 6.0))))
    >>> [(mention.quote, str(mention.kind)) for mention in verdict.mentions], verdict.missed
    ([('cat', 'hallucinated'), ('dog barks', 'matched')], (1,))
    """
    if truth.events is None:
        raise ValueError("the reference judge needs truth events; this truth has only a caption (use a model judge)")
    labels = tuple(event.label for event in truth.events)
    vocabulary = _vocabulary(labels)
    in_truth = frozenset(name for names in vocabulary.truth for name in names)
    trace = parse_trace(text)
    parsed = parse_mentions(trace, vocabulary, in_truth | _relatives(in_truth))
    heard_parts = frozenset(i for i, part in enumerate(trace.parts) if part.kind in ("perception", "hear"))
    told = frozenset(choice.strip(" .").lower() for choice in choices)
    state = _Judgement(parsed, truth, vocabulary, told, heard_parts).run()
    names = _part_names(trace)
    mentions = tuple(
        Mention(
            f"m{number}",
            text[d.start : d.stop],
            Span(d.start, d.stop),
            j.label,
            j.kind,
            j.events,
            j.reason,
            j.claim_kinds(),
            names[d.part],
        )
        for number, (d, j) in enumerate(zip(parsed.candidates, state, strict=True), 1)
    )
    mentions = spare_unsure(mentions, truth)
    return Verdict(
        mentions=mentions,
        missed=missed_events(mentions, len(labels)),
        targets=labels,
        judge="reference",
        truth_origin=truth.origin,
        uncovered=uncovered_nouns(parsed.masked_text, parsed.candidates, text),
    )


def _part_names(trace: Trace) -> dict[int, str]:
    """Name each part for a reader: its kind, and for a step and what stands in one "step 2"; -1 is outside of parts."""
    names = {-1: ""}
    for index, part in enumerate(trace.parts):
        names[index] = f"step {part.number}" if part.number is not None else part.kind
        if part.parent is not None and trace.parts[part.parent].number is not None:
            names[index] = f"step {trace.parts[part.parent].number}"
    return names


@lru_cache(maxsize=256)
def _vocabulary(labels: tuple[str, ...]) -> Vocabulary:
    return Vocabulary(labels)


@lru_cache(maxsize=256)
def _relatives(names: frozenset[str]) -> frozenset[str]:
    """Return the parents and the kinds of concepts."""
    return frozenset(PARENTS[n] for n in names if n in PARENTS) | frozenset(k for k, p in PARENTS.items() if p in names)


@dataclass
class MentionState:
    """What is known of one candidate so far; ``kind`` is None while it is claimed, real, and not yet contradicted."""

    label: str
    kind: MentionKind | None = None
    reason: str = ""
    events: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()  # events of this name that no claim has ruled out
    all: tuple[int, ...] = ()  # events of this name
    narrowed: bool = False
    claims: list[claim_rules.Claim] = field(default_factory=list)

    general: bool = False  # not claimed to be heard, so that what it has or makes is not either
    related: bool = False  # a claim relates it to another event
    counted: bool = False
    whole: bool = False  # its count is that of all events of the name

    def claim_kinds(self) -> tuple[str, ...]:
        """Return what the mention says beside the sound: time, order, count, attribute."""
        kinds = {_CLAIM_KINDS.get(claim.relation, "time") for claim in self.claims}
        kinds |= {"order"} if self.related else set()
        kinds |= {"count"} if self.counted else set()
        return tuple(sorted(kinds))

    def settle(self, kind: MentionKind, reason: str, events: Sequence[int] = ()) -> None:
        """Decide the kind of the mention.

        Args:
            kind: The kind.
            reason: Why, for the reader of the verdict.
            events: Truth events that it refers to, by number.
        """
        self.kind, self.reason, self.events = kind, reason, tuple(events)


class _Judgement:
    """One pass over a parsed trace: assertion and lookup, then each sentence's claims, then the choice of events."""

    def __init__(
        self,
        parsed: ParsedTrace,
        truth: Truth,
        vocabulary: Vocabulary,
        choices: frozenset[str],
        heard_parts: frozenset[int],
    ) -> None:
        self.parsed, self.truth, self.vocabulary, self.choices = parsed, truth, vocabulary, choices
        self.heard_parts = heard_parts  # whose every sentence says what is heard
        self.groups = parsed.by_sentence()
        self.events_of: dict[str, list[int]] = {}  # by name of a concept
        self.named: dict[int, set[int]] = {}  # part -> events already named in it

    def run(self) -> list[MentionState]:
        self.states = [MentionState(self._label(candidate)) for candidate in self.parsed.candidates]
        for number, group in enumerate(self.groups):
            if not group:
                continue
            for index in group:
                self._look_up(index, number)
            self._check_claims(number, group)
            self._check_pairs(number, group)
            for index in group:
                self._choose(index, number)
        return self.states

    # lookup

    def _label(self, candidate: CandidateMention) -> str:
        """Return the truth's label where the candidate names one, else the concept's name, else the general word."""
        for name in candidate.concepts:
            for index in self._events_named(name):
                return self.truth.events[index].label  # type: ignore[index]
        words = self.parsed.text[candidate.start : candidate.stop].lower()
        return candidate.concepts[0] if candidate.concepts else " ".join(words.split())

    def _events_named(self, name: str) -> list[int]:
        """Return the truth events that the name fits: the same, a more precise or a less precise one."""
        if name in self.events_of:
            return self.events_of[name]
        labels, parent = self.vocabulary.labels_named, PARENTS.get(name)
        found = labels(name) or (labels(parent, kinds=False) if parent else [])
        if not found:  # a crowd stands for the cheering that it makes
            found = [index for sound in SOURCE_SOUNDS.get(name, ()) for index in labels(sound)]
        self.events_of[name] = sorted(set(found))
        return self.events_of[name]

    def _families(self, index: int) -> set[str | None]:
        names = self.vocabulary.truth[index]
        families = {self.vocabulary.concept(name).family for name in names}
        return families | {family for family, also in _ALSO.items() if any(name in also for name in names)}

    def _look_up(self, index: int, number: int) -> None:
        candidate, state = self.parsed.candidates[index], self.states[index]
        sentence = self.parsed.sentences[number]
        begin = max(sentence.start, candidate.start - 2 * REACH)
        end = min(sentence.stop, candidate.stop + 2 * REACH)
        if candidate.quoted:
            state.settle(MentionKind.NEUTRAL, "quoted: reported speech")
            return
        text = self.parsed.text
        result = assertion_of(
            self.parsed.masked_text[begin:end],
            text[begin:end],
            candidate.start - begin,
            candidate.stop - begin,
            sentence,
            self.choices,
            (text[max(0, candidate.start - REACH) : candidate.start], text[candidate.stop : candidate.stop + 80]),
        )
        found = sorted({event for name in candidate.concepts for event in self._events_named(name)})
        words = self.parsed.text[candidate.start : candidate.stop].lower()
        found = self._narrowed_by_words(found, words)
        sex = _PERSONS.get(words.split()[-1])
        if result.heard == "subject" and found and self._another_sound(index + 1, found):
            pass  # "the horse does not sneeze": the horse is not denied
        elif result.heard == "both" and (found or sex):
            pass  # "louder than the dog": both are said to be heard
        elif result.heard == "true" and found:
            pass  # "if I had to guess, a dog": right
        elif result.heard == "before" and (known := self._known(found, index, number)):
            state.settle(MentionKind.MATCHED, f"in the truth: {self._describe(known[0])}, claimed before", known)
            return
        elif result.status != "asserted":
            state.general = result.status in ("negated", "hedged", "compared")
            state.settle(MentionKind.NEUTRAL, f"{result.status}: {result.why}")
            return
        if why := self._in_general(index, number, words, found):
            state.general = True
            state.settle(MentionKind.NEUTRAL, why)
            return
        if candidate.unknown_subject:
            state.settle(MentionKind.NEUTRAL, "not understood: a verb of a source that the vocabulary does not know")
            return
        if candidate.source:
            self._wrong_source(state, candidate, found)
            return
        if (
            not found
            and (sex or words.split()[-1] in MAKER_WORDS)
            and _ADDRESSED.search(self.parsed.masked_text[max(0, candidate.start - 40) : candidate.start])
        ):
            state.settle(MentionKind.NEUTRAL, "addressed: somebody speaks to, or barks at, it")
            return
        if found:
            before = self.parsed.text[max(0, candidate.start - 8) : candidate.start].lower().split()
            if others := self._of_the_other_sex(" ".join([*before[-1:], words]), found):
                label = self.truth.events[others[0]].label  # type: ignore[index]
                state.settle(MentionKind.MISUSED, f"wrong attribute: the truth has {label!r}", others)
                return
            state.all = state.candidates = tuple(found)
            return
        if sex and not SPEAKS.match(self.parsed.text, candidate.stop):
            fitting, others = self._made_by(sex)
            if fitting:
                state.all = state.candidates = tuple(fitting)
                return
            if others:
                label = self.truth.events[others[0]].label  # type: ignore[index]
                state.settle(MentionKind.MISUSED, f"wrong attribute: the truth has {label!r}", others)
                return
        siblings = self._siblings(candidate.concepts)
        if siblings:
            label = self.truth.events[siblings[0]].label  # type: ignore[index]
            state.settle(MentionKind.MISUSED, f"wrong attribute: the truth has {label!r}", siblings)
            return
        if candidate.family is not None:
            if any(candidate.family in self._families(event) for event in range(len(self.vocabulary.truth))):
                state.settle(MentionKind.NEUTRAL, f"general: the truth has {candidate.family} sounds, none is named")
                return
            state.settle(MentionKind.HALLUCINATED, f"the truth has no {candidate.family} sound")
            return
        if candidate.concepts[0] in _PLACES and _AT_PLACE.search(
            self.parsed.masked_text[max(0, candidate.start - 40) : candidate.start]
        ):
            state.settle(MentionKind.NEUTRAL, "a place: where something else sounds")
            return
        if self._only_general(candidate.concepts):
            state.settle(MentionKind.NEUTRAL, "general: the truth is less precise than this name and may include it")
            return
        if whole := self._whole_of(candidate.concepts):
            state.settle(MentionKind.NEUTRAL, f"not sure: it may be part of {self._describe(whole[0])}")
            return
        state.settle(MentionKind.HALLUCINATED, f"the truth has no {state.label!r}")

    def _whole_of(self, names: Sequence[str]) -> list[int]:
        """Return the truth events of things that may make such a sound among others: the brakes of a train."""
        return [i for name in names for whole in PARTS.get(name, ()) for i in self._events_named(whole)]

    def _in_general(self, index: int, number: int, words: str, found: Sequence[int]) -> str | None:
        """Return why a name is no claim: it belongs to what is not claimed, or tells what such things do in general."""
        candidate, masked_text = self.parsed.candidates[index], self.parsed.masked_text
        sentence = self.parsed.sentences[number]
        last = self.parsed.candidates[index - 1]
        if index and last.start >= sentence.start:
            before = self.states[index - 1]
            belongs = _BELONGS if before.general else _ITS if before.kind is MentionKind.HALLUCINATED else None
            if belongs and belongs.fullmatch(masked_text, last.stop, candidate.start):
                return "hedged: it belongs to what is not claimed or not there"
        if found:
            return None
        asked = masked_text[max(0, sentence.start - REACH) : sentence.start]
        if (
            asked.endswith("?")
            and _WHICH_OF.search(asked)
            and not _SAYS.search(masked_text, sentence.start, sentence.stop)
        ):
            return "questioned: an option, after a question"
        start = masked_text[max(sentence.start, candidate.start - 40) : candidate.start]
        thing = candidate.role == "noun" and " " not in words and self._family(candidate) != "human"
        if thing and _OWNED.search(start):
            return "hedged: somebody's, which need not be heard"
        if sentence.part in self.heard_parts or not _PLURAL_DO.fullmatch(words):
            return None
        after = masked_text[candidate.stop : min(sentence.stop, candidate.stop + REACH)]
        if not (" " in words or _PLAIN_VERB.match(after)) or _HERE.search(after):
            return None
        set_against = _SET_AGAINST.match(masked_text, sentence.stop) and not start.strip()
        return "hedged: what is so in general" if set_against or _CLAUSE_START.search(start) else None

    def _family(self, candidate: CandidateMention) -> str | None:
        return self.vocabulary.concept(candidate.concepts[0]).family if candidate.concepts else candidate.family

    def _known(self, found: Sequence[int], index: int, number: int) -> list[int]:
        """Return the truth events of ``found`` that an earlier mention has claimed."""
        claimed = set().union(*self.named.values())
        for earlier in self.groups[number]:
            if earlier < index:
                claimed.update(self.states[earlier].candidates)
        return [event for event in found if event in claimed]

    def _another_sound(self, index: int, found: Sequence[int]) -> bool:
        """Return whether the candidate is of none of the truth events ``found``."""
        names = self.parsed.candidates[index].concepts if index < len(self.parsed.candidates) else ()
        return bool(names) and not any(event in found for name in names for event in self._events_named(name))

    def _narrowed_by_words(self, found: list[int], words: str) -> list[int]:
        """Keep, of several events with one name, those whose labels share most words: "the cat meows" is no purring."""
        if len(found) < 2 or len({self.truth.events[i].label for i in found}) < 2:  # type: ignore[index]
            return found
        stems = {word[:4] for word in re.findall(r"[a-z]{3,}", words)}
        shared = {
            i: sum(word[:4] in stems for word in re.findall(r"[a-z]{3,}", self.truth.events[i].label.lower()))  # type: ignore[index]
            for i in found
        }
        return [i for i in found if shared[i] == max(shared.values())]

    def _of_the_other_sex(self, words: str, found: list[int]) -> list[int]:
        """Return the events, where the mention says one sex and the labels of all of them the other."""
        told = {_PERSONS[word] for word in re.findall(r"[a-z]+", words) if word in _PERSONS} - {"child"}
        labels = [set(re.findall(r"[a-z]+", self.truth.events[i].label.lower())) for i in found]  # type: ignore[index]
        sexes = [{_PERSONS[word] for word in label if word in _PERSONS} - {"child"} for label in labels]
        return found if len(told) == 1 and all(sex and not sex & told for sex in sexes) else []

    def _made_by(self, sex: str) -> tuple[list[int], list[int]]:
        """Return the events that a person of this sex (any: "person") may make, and those of the other sex."""
        fitting, others = [], []
        for index, event in enumerate(self.truth.events or ()):
            if "human" in self._families(index):
                told = {_PERSONS[word] for word in re.findall(r"[a-z]+", event.label.lower()) if word in _PERSONS}
                (others if told - {sex, "person"} and sex != "person" and sex not in told else fitting).append(index)
        return fitting, others

    def _wrong_source(self, state: MentionState, candidate: CandidateMention, found: Sequence[int]) -> None:
        sources = sorted({event for name in candidate.source for event in self._events_named(name)})
        why = f"wrong source: {candidate.source[0]!r} and {candidate.concepts[0]!r} are given to one maker"
        if found or sources:
            state.settle(MentionKind.MISUSED, why, found or sources)
        else:
            state.settle(MentionKind.HALLUCINATED, "the truth has neither the maker nor the sound")

    def _siblings(self, names: Sequence[str]) -> list[int]:
        parents = {PARENTS[name] for name in names if name in PARENTS}
        return [i for i, its in enumerate(self.vocabulary.truth) if any(PARENTS.get(n) in parents for n in its)]

    def _only_general(self, names: Sequence[str]) -> bool:
        """Return whether the truth has an event called by a family word ("music") that the name may be a case of."""
        families = {self.vocabulary.concept(name).family for name in names}
        return any(
            self.vocabulary.concept(name).family in families and name not in _known_names()
            for names_of_event in self.vocabulary.truth
            for name in names_of_event
        )

    # claims

    def _check_claims(self, number: int, group: Sequence[int]) -> None:
        sentence = self.parsed.sentences[number]
        real = [index for index in group if self.states[index].kind is None]
        if not real:
            return
        stop = min(sentence.stop, sentence.start + _SENTENCE_LIMIT)
        masked_text = self.parsed.masked_text[sentence.start : stop]
        candidates, base = self.parsed.candidates, sentence.start
        spans = {i: (candidates[i].start - base, candidates[i].stop - base) for i in group}
        among = self._compared(masked_text, number, group)
        for index, claim in attach_times(masked_text, spans):
            self.states[index].claims.append(claim)
        for index in real:
            state = self.states[index]
            state.claims += claim_rules.place_claims(masked_text, *spans[index], among)
            words = self.parsed.text[candidates[index].start : candidates[index].stop].lower()
            place = claim_rules.ordinal_of(masked_text, spans[index][0], words)
            if place is not None and not self._pick(state, place):
                continue
            self._narrow(state)
            if (
                state.kind is None
                and not candidates[index].family
                and (count := claim_rules.count_claim(masked_text, *spans[index]))
            ):
                self._count(state, count, people=words.split()[0] in _PEOPLE)

    def _compared(self, masked_text: str, number: int, group: Sequence[int]) -> tuple[int, ...]:
        """Return the events among which one is first or last: "of the dog and the cat, ..."; empty where it is all."""
        match = claim_rules.among_which(masked_text)
        if match is None:
            return ()
        named = list(group) + (self.groups[number - 1] if match == "these" and number else [])
        events = {event for index in named for event in self.states[index].all}
        return tuple(sorted(events)) if len(events) > 1 else ()

    def _pick(self, state: MentionState, place: int) -> bool:
        """Narrow to the event that an ordinal picks; False where there is none."""
        if place > len(state.all):
            state.settle(MentionKind.MISUSED, f"wrong count: number {place} of {len(state.all)}", state.all)
            return False
        state.candidates = (state.all[place - 1 if place > 0 else -1],)
        state.narrowed = True
        return True

    def _narrow(self, state: MentionState) -> None:
        """Keep the candidates that all claims are true of."""
        if not state.claims:
            return
        if self._several_times(state):
            return
        if self._group_interval(state):
            return
        kept = tuple(i for i in state.candidates if all(holds(claim, i, self.truth) for claim in state.claims))
        if kept:
            state.candidates, state.narrowed = kept, True
            return
        false = [c for c in state.claims if not any(holds(c, i, self.truth) for i in state.candidates)]
        wrong = (false or state.claims)[0]
        event = nearest(state.claims, state.candidates, self.truth)
        what = {"first": "order", "last": "order", "nth": "order"}.get(wrong.relation, "time")
        if wrong.relation in ("longest", "shortest", "loudest", "quietest", "length"):
            what = "attribute"
        state.settle(MentionKind.MISUSED, f"wrong {what}: {wrong.words!r} ({self._describe(event)})", (event,))

    def _group_interval(self, state: MentionState) -> bool:
        """Return whether an interval is true of several events of the name together: first onset to last offset."""
        intervals = [claim for claim in state.claims if claim.relation == "interval"]
        events = [self.truth.events[i] for i in state.all]  # type: ignore[index]
        if len(intervals) != 1 or len(intervals) != len(state.claims) or len(events) < 2:
            return False
        onsets, offsets = [e.onset_s for e in events], [e.offset_s for e in events]
        if None in onsets or None in offsets:
            return False
        claim = intervals[0]
        whole = abs(claim.a - min(onsets)) <= claim.tolerance_s  # type: ignore[type-var]
        collar = max(claim.tolerance_s, OFFSET_SHARE * (max(offsets) - min(onsets)))  # type: ignore[type-var,operator]
        return whole and abs(claim.b - max(offsets)) <= collar  # type: ignore[type-var,operator]

    def _several_times(self, state: MentionState) -> bool:
        """Settle "a bark at 0.5 s and again at 6.0 s": each time is of an event of its own; True if all are right."""
        times = [claim for claim in state.claims if claim.relation in ("at", "start", "interval")]
        if len(times) < 2 or len(state.all) < len(times):
            return False
        rest = [claim for claim in state.claims if claim not in times]
        fits = [{i for i in state.candidates if holds(time, i, self.truth)} for time in times]
        kept = tuple(i for i in state.candidates if any(i in fit for fit in fits))
        if not all(fits) or len(kept) < len(times) or not all(holds(c, i, self.truth) for c in rest for i in kept):
            return False
        state.candidates = kept
        return True

    def _count(self, state: MentionState, count: claim_rules.CountClaim, people: bool) -> None:
        state.counted = True
        total = len(state.all)
        if people and len({self.truth.events[i].label for i in state.all}) <= count.n <= total:  # type: ignore[index]
            return  # each may be heard several times
        signal = total and "signal" in self._families(state.all[0])  # "the phone rings twice"
        calls = ("times", "repeatedly", "series of", "a few", *(("twice", "thrice") if signal else ()))
        least = 1 if count.at_least else count.n
        calling = count.words.endswith(calls) and not _HEARD_TIMES.search(count.words)
        if total == 1 and calling and self._may_repeat(state.all[0], least):
            return
        if count.allows(total) or (state.narrowed and count.n <= total):
            if count.allows(total):
                state.candidates, state.narrowed, state.whole = state.all, False, True
            return
        state.settle(MentionKind.MISUSED, f"wrong count: {count.words!r}, the truth has {total}", state.all)

    def _may_repeat(self, index: int, seconds: int) -> bool:
        """Return whether an event is long enough for what happens "several times" within it."""
        event = self.truth.events[index]  # type: ignore[index]
        return event.onset_s is not None and event.offset_s is not None and event.offset_s - event.onset_s >= seconds

    def _check_pairs(self, number: int, group: Sequence[int]) -> None:
        sentence = self.parsed.sentences[number]
        stop = min(sentence.stop, sentence.start + _SENTENCE_LIMIT)
        masked_text = self.parsed.masked_text[sentence.start : stop]
        candidates = self.parsed.candidates
        pairs: list[tuple[int, int, claim_rules.PairClaim]] = []
        if group:
            previous = self._last_before(number)
            start = candidates[group[0]].start - sentence.start
            if previous is not None and claim_rules.continues(masked_text, start):
                pairs.append((previous, group[0], claim_rules.PairClaim("before", "then")))
        for left, right in zip(group, group[1:], strict=False):
            if self._open(left) and self._open(right):
                a, b = candidates[left], candidates[right]
                base = sentence.start
                claim = claim_rules.pair_claim(
                    masked_text, (a.start - base, a.stop - base), (b.start - base, b.stop - base)
                )
                if claim is not None:
                    pairs.append((left, right, claim))
        for left, right, claim in pairs:
            self._relate(self.states[left], self.states[right], claim)
        for three in zip(group, group[1:], group[2:], strict=False):
            spans = [(candidates[i].start - sentence.start, candidates[i].stop - sentence.start) for i in three]
            if all(map(self._open, three)) and claim_rules.is_between(masked_text, *spans):
                self._check_between(*(self.states[i] for i in three))

    def _check_between(self, middle: MentionState, left: MentionState, right: MentionState) -> None:
        """Settle "a bell between the dog and the cat", where no events of these names lie so."""
        after, before = claim_rules.PairClaim("after", "between"), claim_rules.PairClaim("before", "between")
        for a in middle.candidates:
            for b in left.candidates:
                for c in right.candidates:
                    if a in (b, c) or (pair_holds(after, a, b, self.truth) and pair_holds(before, a, c, self.truth)):
                        return
        for state in (middle, left, right):
            if state.kind in (None, MentionKind.MATCHED):
                state.settle(MentionKind.MISUSED, "wrong order: 'between'", state.candidates)

    def _open(self, index: int) -> bool:
        return bool(self.states[index].candidates)

    def _last_before(self, number: int) -> int | None:
        """Return the last real event named in the sentence before this one, in the same part."""
        if number == 0 or self.parsed.sentences[number - 1].part != self.parsed.sentences[number].part:
            return None
        group = self.groups[number - 1]
        return group[-1] if group and self._open(group[-1]) else None

    def _relate(self, left: MentionState, right: MentionState, claim: claim_rules.PairClaim) -> None:
        if not left.candidates or not right.candidates:
            return
        left.related = right.related = True
        good = [
            (a, b)
            for a in left.candidates
            for b in right.candidates
            if (a != b or len(left.all) == 1) and pair_holds(claim, a, b, self.truth)
        ]
        if good and left.all == right.all and len(left.all) == 1:
            return  # "the dog barks, then the dog stops": one event related to itself claims nothing
        if good:
            for state, kept in ((left, {a for a, _ in good}), (right, {b for _, b in good})):
                if state.kind is None and len(kept) < len(state.candidates):
                    state.candidates = tuple(i for i in state.candidates if i in kept)
                    state.narrowed = True
            return
        for state, other in ((left, right), (right, left)):
            if state.kind in (None, MentionKind.MATCHED) and (state.kind is None or state is left):
                order = claim.relation in _ORDERS
                why = f"wrong {'order' if order else 'attribute'}: {claim.words!r} with {other.label!r}"
                state.settle(MentionKind.MISUSED, why, state.candidates)

    # choice of events

    def _choose(self, index: int, number: int) -> None:
        """Match what no claim has contradicted, and choose the events that it speaks of."""
        state = self.states[index]
        part = self.parsed.sentences[number].part
        named = self.named.setdefault(part, set())
        if state.kind is None:
            candidate = self.parsed.candidates[index]
            before = self.parsed.masked_text[max(0, candidate.start - 40) : candidate.start]
            one = not state.whole and (state.narrowed or _ONE.search(before) is not None)
            events = state.candidates
            if one:
                fresh = [event for event in events if event not in named]
                events = (fresh or list(events))[:1]  # type: ignore[assignment]
            state.settle(MentionKind.MATCHED, f"in the truth: {self._describe(events[0])}", events)
        named.update(state.events)

    def _describe(self, index: int) -> str:
        event = self.truth.events[index]  # type: ignore[index]
        if event.onset_s is None:
            return event.label
        end = "" if event.offset_s is None else f"-{event.offset_s:g}"
        return f"{event.label} {event.onset_s:g}{end} s"


@lru_cache(maxsize=1)
def _known_names() -> frozenset[str]:
    return frozenset(CLASSES) | frozenset(row[0] for row in SOUNDS)
