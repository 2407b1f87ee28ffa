"""The reference judge: rules over exact truth, without a model.

The judge finds every name of a sound (``mentions``), decides whether the sentence asserts it (``assertion``), looks it
up in the truth, and checks the claims about its time (``times``), order, count, length, loudness, source and kind
(``claims``). It applies :data:`mpar2.cafe.schema.DECISION_TABLE` in order, except for one row: whether a conclusion
follows from an event requires language understanding, and is left to the model judges.

Several truth events may have the name of a mention. Claims select the events that they are true of. "A", "an" and
"another" select one event, the first that its part of the trace has not named yet. Any other mention ("the barking",
"dogs") refers to all of them. A wrong claim about several events counts against all of them, a wrong time against the
nearest.

Known limits: the judge reads one sentence at a time (a pronoun's claim is not checked), and English only. Its words are
those of ``sounds`` and of the truth, so it misses a hallucinated sound with any other name.
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
from mpar2.cafe.rules.sounds import PARENTS, PARTS, PEOPLE, SOUNDS, SOURCE_SOUNDS
from mpar2.cafe.rules.times import attach_times
from mpar2.cafe.rules.unsure import spare_unsure
from mpar2.cafe.rules.vocabulary import Vocabulary
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

# Further sounds that a general word of a family may refer to.
_FAMILY_EXTRAS = {
    "music": ("singing", "humming", "rap", "beatboxing", "throat singing", "whistling"),
    "vehicle": ("siren", "car horn", "tire squeal"),
}
_SINGULAR = re.compile(r"\b(?:an?|another|one)\s+(?!few\b|couple\b|pair\b|lot\b|series\b)(?:[^\W\d]+\s+)?$")
#: words for a person, who may make any human sound -> the sex
_SEX_OF_WORD = {
    **dict.fromkeys(("man", "men", "male", "guy", "gentleman", "boy", "father", "baritone", "tenor"), "male"),
    **dict.fromkeys(("woman", "women", "female", "lady", "girl", "mother", "soprano", "mezzo"), "female"),
    **dict.fromkeys(("child", "children", "kid", "kids"), "child"),
}
#: words for people who may each be heard several times
_PEOPLE = frozenset(("voices", "people", "individuals", "singers", "children", *_SEX_OF_WORD)) | {
    f"{person}s" for person in f"speaker|reporter|{PEOPLE}".split("|")
}
#: things that may only be the place of another sound ("footsteps approach the door")
_PLACES = frozenset(
    ("door", "car engine", "train", "bus", "truck", "boat", "airplane", "water", "waves", "telephone", "radio", "television",  # noqa: E501
     "glass breaking", "fountain", "bicycle", "faucet", "piano", "organ", "fire", "clock", "printer", "toilet flush", "washing machine")  # noqa: E501
)  # fmt: skip
_PLACE_PREPOSITION = re.compile(
    r"\b(?:in(?:side)?|on|at|near|behind|outside|beside|(?<!followed )(?<!accompanied )(?<!joined )by|towards?|approach(?:es|ing)?|into|onto|against|aboard|through|around|next to"  # noqa: E501
    r"|close to|out of|(?:walk|run|go|rush|hurr|step|head|return)\w* (?:back |over )?to)\s+(?:(?:an?|the|his|her|their|its|some)\s+(?:\w+\s+)?)?$"  # noqa: E501
)
#: "is heard three times" counts events, "calls three times" may be one event
_EVENT_VERB = re.compile(r"\b(?:heard|occur|appear|happen|audible|present)")
#: a relative clause or a "has": the sound in it belongs to the name before it
_RELATIVE_CLAUSE = re.compile(
    r",? (?:also )?(?:(?:with (?:its|their|his|her)|(?:and )?(?:its|their)|whose|that|which|has|have|makes?|produces?)\b"  # noqa: E501
    r"(?:(?!\bthese\b|\bthose\b|\bthe\b)[^.;:()]){0,40}|(?:and|or) (?:an? |(?!these|those|the)[a-z]+ )?)"
)
_CHOICE_QUESTION = re.compile(r"\b(?:which|what) (?:one )?of (?:the|these)\b[^.!?]*\?$")
_CLAUSE_VERB = re.compile(r"\b(?:is|are|was|were|has|have|can|could|i|we|there|it|then|hear|heard)\b|\d")
_WITH_ITS = re.compile(r"[^,.;:\0]{0,20} with (?:its|his|her|their) (?:[a-z]+ )?")  # "a truck waits with its engine on"
#: "fireworks crackle", "goats bleat": plural nouns and base-form verbs of generic statements
_PLURAL_NOUN = re.compile(
    r"(?!(?:the|these|those|some|two|three|several|many|both) )[a-z]+s(?: [a-z]+(?<!ing)(?<!ed)(?<!s))?"
)
_PLAIN_VERB = re.compile(
    r" (?:also |[a-z]+ly )?(?:(?!(?:can|could|are|were|and|or|in|at|from|with|on|of|by|to|for|near|then)\b|start|begin|join"  # noqa: E501
    r"|enter|continue|pass|approach|follow|fade|recede|come|go|play|sound|occur|appear|arrive|precede)"
    rf"[a-z]+(?<!ing)(?<!ed)(?<!s)(?<!ly)\b|{BLANK})"
)
_CLAUSE_START = re.compile(r"(?:[,:(]\s*|\b(?:since|because|as|for|whereas|while|but|when|where)\s+)$")
_CONTRAST = re.compile(r"\s*(?:but|this|these|here|nobody|nothing|none|neither)\b")  # "goats bleat; this is deeper"
_LOCATION = re.compile(
    r"\b(?:in the|at|near\w*|outside|overhead|throughout|around|behind|above|below|faintly|softly|loudly|quietly|too"
    r"|also|as well|together|then|now|here|away|far|close)\b|\d"
)
_RECENT = 50  # mentions among which a word is looked up again
_SENTENCE_LIMIT = 20_000  # characters; longer than any real sentence, and a bound for hostile ones


_CLAIM_KINDS = dict.fromkeys(("first", "last", "nth"), "order") | dict.fromkeys(
    ("longest", "shortest", "loudest", "quietest"), "attribute"
)


_PLACED = frozenset(("at", "start", "interval", "at_start", "at_end", "from_start", "to_end", "from_on"))
_ORDERS = frozenset(
    ("before", "after", "before_end", "after_end", "end_before", "ends_first", "overlap", "start_together")
)


class ReferenceJudge:
    """The reference judge behind the :class:`~mpar2.cafe.schema.Judge` interface. It needs a truth with events."""

    id = "reference"
    model: str | None = None
    prompt_hash: str | None = None

    async def judge(self, request: JudgeRequest) -> Verdict | Unscored:
        """Judge one trace by rules."""
        if request.truth.events is None:
            return Unscored("no_truth", "the reference judge needs a list of events; this item has only a caption")
        return annotate(request.trace, request.truth, choices=request.choices)


def annotate(text: str, truth: Truth, *, choices: Sequence[str] = ()) -> Verdict:
    """Classify the event mentions of a trace against the truth's events.

    Args:
        text: The raw trace, with or without tags.
        truth: A truth with events.
        choices: Choices of the question. A quoted choice is no claim.

    Returns:
        The verdict, with the mentions in order of the trace, and the missed events.

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
    perception_parts = frozenset(i for i, part in enumerate(trace.parts) if part.kind in ("perception", "hear"))
    choice_texts = frozenset(choice.strip(" .").lower() for choice in choices)
    # Judge each candidate; names, parts and labels are added only for the record.
    states = _TraceJudge(parsed, truth, vocabulary, choice_texts, perception_parts).run()
    part_names = _part_names(trace)
    mentions = tuple(
        Mention(
            f"m{number}",
            text[candidate.start : candidate.stop],
            Span(candidate.start, candidate.stop),
            state.label,
            state.kind,
            state.events,
            state.reason,
            state.claim_kinds(),
            part_names[candidate.part],
        )
        for number, (candidate, state) in enumerate(zip(parsed.candidates, states, strict=True), 1)
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
    """Return the display name of each part: its kind, or "step 2" for a step and its children. -1: no part."""
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
    """The state of one candidate. ``kind`` is None while it is claimed, in the truth, and not contradicted."""

    label: str
    kind: MentionKind | None = None
    reason: str = ""
    events: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()  # events of this name that agree with all claims so far
    all_events: tuple[int, ...] = ()  # events of this name
    narrowed: bool = False
    claims: list[claim_rules.Claim] = field(default_factory=list)

    general: bool = False  # not claimed to be heard, and neither are sounds that belong to it
    related: bool = False  # a claim relates it to another event
    counted: bool = False
    counts_all: bool = False  # the claimed count is that of all events of the name

    def claim_kinds(self) -> tuple[str, ...]:
        """Return the kinds of the mention's claims: time, order, count, attribute."""
        kinds = {_CLAIM_KINDS.get(claim.relation, "time") for claim in self.claims}
        kinds |= {"order"} if self.related else set()
        kinds |= {"count"} if self.counted else set()
        return tuple(sorted(kinds))

    def settle(self, kind: MentionKind, reason: str, events: Sequence[int] = ()) -> None:
        """Set the kind of the mention.

        Args:
            events: Indices of the truth events that it refers to.
        """
        self.kind, self.reason, self.events = kind, reason, tuple(events)


class _TraceJudge:
    """One pass over a parsed trace: assertion and lookup, the claims of each sentence, then the choice of events."""

    def __init__(
        self,
        parsed: ParsedTrace,
        truth: Truth,
        vocabulary: Vocabulary,
        choices: frozenset[str],
        perception_parts: frozenset[int],
    ) -> None:
        self.parsed, self.truth, self.vocabulary, self.choices = parsed, truth, vocabulary, choices
        self.perception_parts = perception_parts
        self.groups = parsed.by_sentence()
        self.events_by_name: dict[str, list[int]] = {}  # name of a concept -> truth events that it fits
        self.events_by_part: dict[int, set[int]] = {}  # part -> events already named in it

    def run(self) -> list[MentionState]:
        """Judge all candidates, and return their states in the order of the candidates."""
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
        """Return the label of the first truth event that the candidate fits, else its concept, else its words."""
        for name in candidate.concepts:
            for index in self._events_named(name):
                return self.truth.events[index].label  # type: ignore[index]
        words = self.parsed.text[candidate.start : candidate.stop].lower()
        return candidate.concepts[0] if candidate.concepts else " ".join(words.split())

    def _events_named(self, name: str) -> list[int]:
        """Return the truth events that the name fits: the same, a more precise or a less precise one."""
        if name in self.events_by_name:
            return self.events_by_name[name]
        labels, parent = self.vocabulary.labels_named, PARENTS.get(name)
        events = labels(name) or (labels(parent, kinds=False) if parent else [])
        if not events:  # "a crowd" also refers to its cheering
            events = [index for sound in SOURCE_SOUNDS.get(name, ()) for index in labels(sound)]
        self.events_by_name[name] = sorted(set(events))
        return self.events_by_name[name]

    def _events_of(self, names: Sequence[str]) -> list[int]:
        """Return the truth events that a phrase with one or several senses fits.

        A phrase and a label that are both ambiguous need half of their senses in common, or one with a word of the
        label: "honk" fits "Horn" as a car horn, but "horn" does not fit "Whistle" as a train horn.
        """
        events = sorted({event for name in names for event in self._events_named(name)})
        return events if len(names) == 1 else [event for event in events if self._shares_a_sense(set(names), event)]

    def _shares_a_sense(self, senses: set[str], event: int) -> bool:
        """Return whether an ambiguous phrase may mean the truth event."""
        label_senses = self.vocabulary.truth[event]
        shared = senses.intersection(label_senses)
        if len(label_senses) == 1 or 2 * len(shared) >= min(len(senses), len(label_senses)):
            return True
        words = self.truth.events[event].label.lower().split()  # type: ignore[index]
        return any(word in sense for sense in shared for word in words)

    def _families(self, index: int) -> set[str | None]:
        """Return the families of a truth event, by whose words it may be called."""
        names = self.vocabulary.truth[index]
        families = {self.vocabulary.concept(name).family for name in names}
        if "animal" in families:
            families.add("nature")
        return families | {family for family, extras in _FAMILY_EXTRAS.items() if any(name in extras for name in names)}

    def _look_up(self, index: int, number: int) -> None:
        """Decide whether candidate ``index`` of sentence ``number`` is asserted, and find its truth events.

        A mention of a truth event keeps ``kind`` None, for the checks of its claims. Any other mention is settled here.
        """
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
        # A name that is not asserted is neutral, unless the sentence still implies that it is present.
        events = self._events_of(candidate.concepts)
        words = self.parsed.text[candidate.start : candidate.stop].lower()
        events = self._narrow_by_words(events, words)
        sex = _SEX_OF_WORD.get(words.split()[-1])
        if result.presence == "subject" and events and self._is_another_sound(index + 1, events):
            pass  # "the horse does not sneeze": the horse is not negated
        elif result.presence == "both" and (events or sex):
            pass  # "louder than the dog": both are claimed to be heard
        elif result.presence == "true" and events:
            pass  # "if I had to guess, a dog": right
        elif result.presence == "before" and (earlier := self._earlier_events(events, index, number)):
            state.settle(MentionKind.MATCHED, f"in the truth: {self._describe(earlier[0])}, claimed before", earlier)
            return
        elif result.status != "asserted":
            state.general = result.status in ("negated", "hedged", "compared")
            state.settle(MentionKind.NEUTRAL, f"{result.status}: {result.reason}")
            return
        # Asserted, but no claim about the clip, or no claim that the vocabulary can decide.
        if reason := self._generic_reason(index, number, words, events):
            state.general = True
            state.settle(MentionKind.NEUTRAL, reason)
            return
        if candidate.unknown_subject:
            state.settle(MentionKind.NEUTRAL, "not understood: a verb of a source that the vocabulary does not know")
            return
        if candidate.source:
            self._settle_wrong_source(state, candidate, events)
            return
        # The truth has the name, unless the mention and the labels disagree on the sex of a speaker.
        if events:
            preceding = self.parsed.text[max(0, candidate.start - 8) : candidate.start].lower().split()
            if mismatches := self._events_of_other_sex(" ".join([*preceding[-1:], words]), events):
                label = self.truth.events[mismatches[0]].label  # type: ignore[index]
                state.settle(MentionKind.MISUSED, f"wrong attribute: the truth has {label!r}", mismatches)
                return
            state.all_events = state.candidates = tuple(events)
            return
        # A person by one word may be the source of any human event.
        if sex and not SPEAKS.match(self.parsed.text, candidate.stop):
            same_sex, mismatches = self._events_by_sex(sex)
            if same_sex:
                state.all_events = state.candidates = tuple(same_sex)
                return
            if mismatches:
                label = self.truth.events[mismatches[0]].label  # type: ignore[index]
                state.settle(MentionKind.MISUSED, f"wrong attribute: the truth has {label!r}", mismatches)
                return
        # Another kind of the same parent is a wrong attribute, not a hallucination.
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
        # Nothing in the truth fits: neutral where the name may be a place, a case or a part of something there.
        if candidate.concepts[0] in _PLACES and _PLACE_PREPOSITION.search(
            self.parsed.masked_text[max(0, candidate.start - 40) : candidate.start]
        ):
            state.settle(MentionKind.NEUTRAL, "a place: where something else sounds")
            return
        if self._is_only_general(candidate.concepts):
            state.settle(MentionKind.NEUTRAL, "general: the truth is less precise than this name and may include it")
            return
        if earlier_names := self._named_before(index, words):
            state.all_events = state.candidates = earlier_names
            return
        if containers := self._container_events(candidate.concepts):
            state.settle(MentionKind.NEUTRAL, f"not sure: it may be part of {self._describe(containers[0])}")
            return
        state.settle(MentionKind.HALLUCINATED, f"the truth has no {state.label!r}")

    def _named_before(self, index: int, words: str) -> tuple[int, ...]:
        """Return the events of a recent mention with the word: "a woodpecker drums, the drumming"; "doorbell, bell"."""
        candidate = self.parsed.candidates[index]
        if not self.parsed.masked_text.endswith("the ", 0, candidate.start):
            return ()
        word = re.split(r" (?:has|have|is|was|had)\b", words)[0]
        stem = re.sub(r"(.)\1ing$|ing$|s$|e$", r"\1", word)
        for earlier in range(index - 1, max(-1, index - _RECENT), -1):
            if events := self.states[earlier].all_events:
                named = self.parsed.candidates[earlier]
                first, *others = self.parsed.text[named.start : named.stop].lower().split()
                if first.endswith(word) or any(other.startswith(stem) or other.endswith(word) for other in others):
                    return events
        return ()

    def _container_events(self, names: Sequence[str]) -> list[int]:
        """Return the truth events that may contain such a sound: a train contains the sound of its brakes."""
        return [i for name in names for container in PARTS.get(name, ()) for i in self._events_named(container)]

    def _generic_reason(self, index: int, number: int, words: str, events: Sequence[int]) -> str | None:
        """Return why an asserted name is no claim about the clip, or None where it is one.

        Such a name belongs to a source that is not claimed, is an option after a question, or is part of a generic
        statement.
        """
        candidate, masked_text = self.parsed.candidates[index], self.parsed.masked_text
        sentence = self.parsed.sentences[number]
        previous = self.parsed.candidates[index - 1]
        # "A tram that rings its bell" claims no bell where no tram is claimed.
        if index and previous.start >= sentence.start:
            previous_state = self.states[index - 1]
            pattern = (
                _RELATIVE_CLAUSE
                if previous_state.general
                else _WITH_ITS
                if previous_state.kind is MentionKind.HALLUCINATED
                else None
            )
            if pattern and pattern.fullmatch(masked_text, previous.stop, candidate.start):
                return "hedged: it belongs to what is not claimed or not there"
        if events:
            return None
        # "Which of these is it? A dog, a cat." lists options.
        question = masked_text[max(0, sentence.start - REACH) : sentence.start]
        if (
            question.endswith("?")
            and _CHOICE_QUESTION.search(question)
            and not _CLAUSE_VERB.search(masked_text, sentence.start, sentence.stop)
        ):
            return "questioned: an option, after a question"
        lead = masked_text[max(sentence.start, candidate.start - 40) : candidate.start]
        # "Goats bleat" is generic outside of a perception part, unless words of time or place tie it to the clip.
        if sentence.part in self.perception_parts or not _PLURAL_NOUN.fullmatch(words):
            return None
        after = masked_text[candidate.stop : min(sentence.stop, candidate.stop + REACH)]
        if not (" " in words or _PLAIN_VERB.match(after)) or _LOCATION.search(after):
            return None
        contrast = not lead.strip() and _CONTRAST.match(masked_text, sentence.stop) is not None
        return "hedged: what is so in general" if contrast or _CLAUSE_START.search(lead) else None

    def _family(self, candidate: CandidateMention) -> str | None:
        return self.vocabulary.concept(candidate.concepts[0]).family if candidate.concepts else candidate.family

    def _earlier_events(self, events: Sequence[int], index: int, number: int) -> list[int]:
        """Return those of ``events`` that an earlier mention claims."""
        claimed = set().union(*self.events_by_part.values())
        for earlier in self.groups[number]:
            if earlier < index:
                claimed.update(self.states[earlier].candidates)
        return [event for event in events if event in claimed]

    def _is_another_sound(self, index: int, events: Sequence[int]) -> bool:
        """Return whether the candidate names a sound, but none of ``events``."""
        names = self.parsed.candidates[index].concepts if index < len(self.parsed.candidates) else ()
        return bool(names) and not any(event in events for name in names for event in self._events_named(name))

    def _narrow_by_words(self, events: list[int], words: str) -> list[int]:
        """Keep the events whose labels share most words with the mention: "the cat meows" is no purring."""
        if len(events) < 2 or len({self.truth.events[i].label for i in events}) < 2:  # type: ignore[index]
            return events
        stems = {word[:4] for word in re.findall(r"[a-z]{3,}", words)}
        n_shared = {
            i: sum(word[:4] in stems for word in re.findall(r"[a-z]{3,}", self.truth.events[i].label.lower()))  # type: ignore[index]
            for i in events
        }
        return [i for i in events if n_shared[i] == max(n_shared.values())]

    def _events_of_other_sex(self, words: str, events: list[int]) -> list[int]:
        """Return the events if the mention names one sex and the labels of all of them the other, else none."""
        claimed_sex = {_SEX_OF_WORD[word] for word in re.findall(r"[a-z]+", words) if word in _SEX_OF_WORD} - {"child"}
        labels = [set(re.findall(r"[a-z]+", self.truth.events[i].label.lower())) for i in events]  # type: ignore[index]
        label_sexes = [{_SEX_OF_WORD[word] for word in label if word in _SEX_OF_WORD} - {"child"} for label in labels]
        return events if len(claimed_sex) == 1 and all(sex and not sex & claimed_sex for sex in label_sexes) else []

    def _events_by_sex(self, sex: str) -> tuple[list[int], list[int]]:
        """Return the human events that agree with a sex ("person" for any), and those of the other sex."""
        same_sex, other_sex = [], []
        for index, event in enumerate(self.truth.events or ()):
            if "human" in self._families(index):
                label_sexes = {
                    _SEX_OF_WORD[word] for word in re.findall(r"[a-z]+", event.label.lower()) if word in _SEX_OF_WORD
                }
                (
                    other_sex
                    if label_sexes - {sex, "person"} and sex != "person" and sex not in label_sexes
                    else same_sex
                ).append(index)
        return same_sex, other_sex

    def _settle_wrong_source(self, state: MentionState, candidate: CandidateMention, events: Sequence[int]) -> None:
        """Settle a mention that assigns a sound to another source: misused if the truth has one of the two."""
        source_events = sorted({event for name in candidate.source for event in self._events_named(name)})
        reason = f"wrong source: {candidate.source[0]!r} and {candidate.concepts[0]!r} are given to one maker"
        if events or source_events:
            state.settle(MentionKind.MISUSED, reason, events or source_events)
        else:
            state.settle(MentionKind.HALLUCINATED, "the truth has neither the maker nor the sound")

    def _siblings(self, names: Sequence[str]) -> list[int]:
        """Return the truth events of another kind of the same parent."""
        parents = {PARENTS[name] for name in names if name in PARENTS}
        return [
            i
            for i, names_of_event in enumerate(self.vocabulary.truth)
            if len(names_of_event) == 1 and PARENTS.get(names_of_event[0]) in parents
        ]

    def _is_only_general(self, names: Sequence[str]) -> bool:
        """Return whether the truth has an event with only a family word ("music") that may include the name."""
        families = {self.vocabulary.concept(name).family for name in names}
        return any(
            self.vocabulary.concept(name).family in families and name not in _vocabulary_names()
            for names_of_event in self.vocabulary.truth
            for name in names_of_event
        )

    # claims

    def _check_claims(self, number: int, group: Sequence[int]) -> None:
        """Check the claims of sentence ``number`` about single events: times, places in the order, and counts."""
        sentence = self.parsed.sentences[number]
        open_indices = [index for index in group if self.states[index].kind is None]
        if not open_indices:
            return
        stop = min(sentence.stop, sentence.start + _SENTENCE_LIMIT)
        masked_text = self.parsed.masked_text[sentence.start : stop]
        candidates, offset = self.parsed.candidates, sentence.start
        spans = {i: (candidates[i].start - offset, candidates[i].stop - offset) for i in group}
        among = self._comparison_events(masked_text, number, group)
        for index, claim in attach_times(masked_text, spans):
            self.states[index].claims.append(claim)
        for index in open_indices:
            state = self.states[index]
            state.claims += claim_rules.place_claims(masked_text, *spans[index], among)
            words = self.parsed.text[candidates[index].start : candidates[index].stop].lower()
            ordinal = claim_rules.ordinal_of(masked_text, spans[index][0], words)
            if ordinal is not None and not self._pick_ordinal(state, ordinal):
                continue
            self._narrow(state)
            if (
                state.kind is None
                and not candidates[index].family
                and (count := claim_rules.count_claim(masked_text, *spans[index]))
            ):
                by_people = words.split()[0] in _PEOPLE or (
                    count.words == "both" and candidates[index].role == "action"
                )
                self._check_count(state, count, people=by_people)

    def _comparison_events(self, masked_text: str, number: int, group: Sequence[int]) -> tuple[int, ...]:
        """Return the scope of "first" and "last", as in "of the dog and the cat, ..."; empty for all events."""
        match = claim_rules.comparison_scope(masked_text)
        if match is None:
            return ()
        indices = list(group) + (self.groups[number - 1] if match == "these" and number else [])
        events = {event for index in indices for event in self.states[index].all_events}
        return tuple(sorted(events)) if len(events) > 1 else ()

    def _pick_ordinal(self, state: MentionState, ordinal: int) -> bool:
        """Narrow to the event of an ordinal. Return False where there is none, which is a wrong count."""
        if ordinal > len(state.all_events):
            state.settle(
                MentionKind.MISUSED, f"wrong count: number {ordinal} of {len(state.all_events)}", state.all_events
            )
            state.candidates = ()  # relations to it claim nothing about real events
            return False
        state.candidates = (state.all_events[ordinal - 1 if ordinal > 0 else -1],)
        state.narrowed = True
        return True

    def _narrow(self, state: MentionState) -> None:
        """Keep the events that all claims are true of. Where there are none, the mention is misused."""
        if not state.claims:
            return
        if self._settle_several_times(state):
            return
        if self._is_group_interval(state):
            return
        events = tuple(i for i in state.candidates if all(holds(claim, i, self.truth) for claim in state.claims))
        if events:
            state.candidates, state.narrowed = events, True
            return
        # "At the start and from 6 s on": each claim is true of another event.
        if len(state.all_events) > 1 and _PLACED.issuperset(claim.relation for claim in state.claims):
            fits = [{i for i in state.candidates if holds(claim, i, self.truth)} for claim in state.claims]
            if all(fits):
                state.candidates = tuple(sorted(set().union(*fits)))
                return
        # Charge the nearest event with the first claim that no event satisfies.
        false_claims = [c for c in state.claims if not any(holds(c, i, self.truth) for i in state.candidates)]
        wrong_claim = (false_claims or state.claims)[0]
        event = nearest(state.claims, state.candidates, self.truth)
        aspect = {"first": "order", "last": "order", "nth": "order"}.get(wrong_claim.relation, "time")
        if wrong_claim.relation in ("longest", "shortest", "loudest", "quietest", "length"):
            aspect = "attribute"
        state.settle(MentionKind.MISUSED, f"wrong {aspect}: {wrong_claim.words!r} ({self._describe(event)})", (event,))

    def _is_group_interval(self, state: MentionState) -> bool:
        """Return whether the only claim is an interval over several events: first onset to last offset."""
        intervals = [claim for claim in state.claims if claim.relation == "interval"]
        events = [self.truth.events[i] for i in state.all_events]  # type: ignore[index]
        if len(intervals) != 1 or len(intervals) != len(state.claims) or len(events) < 2:
            return False
        onsets, offsets = [e.onset_s for e in events], [e.offset_s for e in events]
        if None in onsets or None in offsets:
            return False
        claim = intervals[0]
        onset_fits = abs(claim.a - min(onsets)) <= claim.tolerance_s  # type: ignore[type-var]
        collar = max(claim.tolerance_s, OFFSET_SHARE * (max(offsets) - min(onsets)))  # type: ignore[type-var,operator]
        return onset_fits and abs(claim.b - max(offsets)) <= collar  # type: ignore[type-var,operator]

    def _settle_several_times(self, state: MentionState) -> bool:
        """Match several times with one event each, as in "a bark at 0.5 s and again at 6.0 s".

        Return True if all times are right.
        """
        times = [claim for claim in state.claims if claim.relation in ("at", "start", "interval")]
        if len(times) < 2 or len(state.all_events) < len(times):
            return False
        other_claims = [claim for claim in state.claims if claim not in times]
        fits = [{i for i in state.candidates if holds(time, i, self.truth)} for time in times]
        events = tuple(i for i in state.candidates if any(i in fit for fit in fits))
        if (
            not all(fits)
            or len(events) < len(times)
            or not all(holds(c, i, self.truth) for c in other_claims for i in events)
        ):
            return False
        state.candidates = events
        return True

    def _check_count(self, state: MentionState, count: claim_rules.CountClaim, people: bool) -> None:
        """Check a claimed count against the events of the name. ``people``: the name is a word for persons."""
        state.counted = True
        total = len(state.all_events)
        if people and len({self.truth.events[i].label for i in state.all_events}) <= count.n:  # type: ignore[index]
            return  # an event may be of several people, and several events of one person
        signal = total and "signal" in self._families(state.all_events[0])  # "the phone rings twice"
        call_words = ("times", "repeatedly", "series of", "a few", *(("twice", "thrice") if signal else ()))
        min_s = 1 if count.at_least else count.n
        is_call_count = count.words.endswith(call_words) and not _EVENT_VERB.search(count.words)
        if total == 1 and is_call_count and self._may_repeat(state.all_events[0], min_s):
            return
        if count.allows(total) or (state.narrowed and count.n <= total):
            if count.allows(total):
                state.candidates, state.narrowed, state.counts_all = state.all_events, False, True
            return
        state.settle(MentionKind.MISUSED, f"wrong count: {count.words!r}, the truth has {total}", state.all_events)

    def _may_repeat(self, index: int, seconds: int) -> bool:
        """Return whether an event lasts long enough to repeat a sound once a second."""
        event = self.truth.events[index]  # type: ignore[index]
        return event.onset_s is not None and event.offset_s is not None and event.offset_s - event.onset_s >= seconds

    def _check_pairs(self, number: int, group: Sequence[int]) -> None:
        """Check the claims of sentence ``number`` that relate two or three mentions."""
        sentence = self.parsed.sentences[number]
        stop = min(sentence.stop, sentence.start + _SENTENCE_LIMIT)
        masked_text = self.parsed.masked_text[sentence.start : stop]
        candidates = self.parsed.candidates
        pairs: list[tuple[int, int, claim_rules.PairClaim]] = []
        # A sentence that starts with "then" relates its first mention to the last one of the sentence before.
        if group:
            previous = self._previous_mention(number)
            start = candidates[group[0]].start - sentence.start
            if previous is not None and claim_rules.continues(masked_text, start):
                pairs.append((previous, group[0], claim_rules.PairClaim("before", "then")))
        for left, right in zip(group, group[1:], strict=False):
            if self._is_open(left) and self._is_open(right):
                a, b = candidates[left], candidates[right]
                offset = sentence.start
                claim = claim_rules.pair_claim(
                    masked_text, (a.start - offset, a.stop - offset), (b.start - offset, b.stop - offset)
                )
                if claim is not None:
                    pairs.append((left, right, claim))
        for left, right, claim in pairs:
            self._check_relation(self.states[left], self.states[right], claim)
        for triple in zip(group, group[1:], group[2:], strict=False):
            spans = [(candidates[i].start - sentence.start, candidates[i].stop - sentence.start) for i in triple]
            if all(map(self._is_open, triple)) and claim_rules.is_between(masked_text, *spans):
                self._check_between(*(self.states[i] for i in triple))

    def _check_between(self, middle: MentionState, left: MentionState, right: MentionState) -> None:
        """Settle "a bell between the dog and the cat" as a wrong order, where no events of these names agree."""
        after, before = claim_rules.PairClaim("after", "between"), claim_rules.PairClaim("before", "between")
        for a in middle.candidates:
            for b in left.candidates:
                for c in right.candidates:
                    if a in (b, c) or (pair_holds(after, a, b, self.truth) and pair_holds(before, a, c, self.truth)):
                        return
        for state in (middle, left, right):
            if state.kind in (None, MentionKind.MATCHED):
                state.settle(MentionKind.MISUSED, "wrong order: 'between'", state.candidates)

    def _is_open(self, index: int) -> bool:
        """Return whether a mention refers to truth events."""
        return bool(self.states[index].candidates)

    def _previous_mention(self, number: int) -> int | None:
        """Return the last mention of the sentence before, if it is in the same part and refers to truth events."""
        if number == 0 or self.parsed.sentences[number - 1].part != self.parsed.sentences[number].part:
            return None
        group = self.groups[number - 1]
        return group[-1] if group and self._is_open(group[-1]) else None

    def _check_relation(self, left: MentionState, right: MentionState, claim: claim_rules.PairClaim) -> None:
        """Keep the events of both mentions that a claim is true of. Where there are none, the mentions are misused."""
        if not left.candidates or not right.candidates:
            return
        left.related = right.related = True
        true_pairs = [
            (a, b)
            for a in left.candidates
            for b in right.candidates
            if (a != b or len(left.all_events) == 1) and pair_holds(claim, a, b, self.truth)
        ]
        if true_pairs and left.all_events == right.all_events and len(left.all_events) == 1:
            return  # "the dog barks, then the dog stops": one event related to itself claims nothing
        if true_pairs:
            for state, events in ((left, {a for a, _ in true_pairs}), (right, {b for _, b in true_pairs})):
                if state.kind is None and len(events) < len(state.candidates):
                    state.candidates = tuple(i for i in state.candidates if i in events)
                    state.narrowed = True
            return
        for state, other in ((left, right), (right, left)):
            if state.kind in (None, MentionKind.MATCHED) and (state.kind is None or state is left):
                is_order = claim.relation in _ORDERS
                reason = f"wrong {'order' if is_order else 'attribute'}: {claim.words!r} with {other.label!r}"
                state.settle(MentionKind.MISUSED, reason, state.candidates)

    # choice of events

    def _choose(self, index: int, number: int) -> None:
        """Match a mention that no claim contradicts, and choose its events."""
        state = self.states[index]
        part = self.parsed.sentences[number].part
        named_events = self.events_by_part.setdefault(part, set())
        if state.kind is None:
            candidate = self.parsed.candidates[index]
            before = self.parsed.masked_text[max(0, candidate.start - 40) : candidate.start]
            is_single = not state.counts_all and (state.narrowed or _SINGULAR.search(before) is not None)
            events = state.candidates
            if is_single:
                new_events = [event for event in events if event not in named_events]
                events = (new_events or list(events))[:1]  # type: ignore[assignment]
            state.settle(MentionKind.MATCHED, f"in the truth: {self._describe(events[0])}", events)
        named_events.update(state.events)

    def _describe(self, index: int) -> str:
        """Return the label and times of a truth event, for a reason."""
        event = self.truth.events[index]  # type: ignore[index]
        if event.onset_s is None:
            return event.label
        end = "" if event.offset_s is None else f"-{event.offset_s:g}"
        return f"{event.label} {event.onset_s:g}{end} s"


@lru_cache(maxsize=1)
def _vocabulary_names() -> frozenset[str]:
    return frozenset(CLASSES) | frozenset(row[0] for row in SOUNDS)
