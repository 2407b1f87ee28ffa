"""Finds the places of a trace that name a sound, and the sentences they stand in.

A candidate is a phrase not yet judged: the names that the vocabulary finds, where neighbouring names that speak of one
sound ("a dog is barking", "barking of a dog", also over the border of two parts) are one candidate. Two makers in one
phrase ("a cat is barking") are one candidate with a ``source`` that contradicts its ``concepts``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, replace

from mpar2.cafe.rules.assertion import BLANK, Sentence
from mpar2.cafe.rules.vocabulary import Hit, Vocabulary, words_of
from mpar2.trace import Trace

__all__ = ["CandidateMention", "ParsedTrace", "parse_mentions"]

_TAG = re.compile(r"</?\s{0,4}[A-Za-z]{2,12}\s{0,4}>")
_END = re.compile(r"(?<!\d)\.|\.(?!\d)|[!?;\n]")
_LINKERS_WORDS = (
    "is|are|was|were|be|been|being|that|which|who|of|a|an|the|sound|sounds|noise|starts|begins|keeps|to|start|begin"
    "|started|began|has|can"
)
_LINKERS = frozenset(_LINKERS_WORDS.split("|"))
_MOST_LINKERS = 3

# Everyday uses of words that name a sound only in the right company.
_NOT_A_SOUND = {
    "step": (
        re.compile(r"\b(?:these|those|this|next|last|each|every|following|reasoning|by|the|first|second|third|few|my)\s+$"),
        None,
    ),
    "tone": (
        re.compile(r"\b(?:speaker|friendly|overall|emotional|his|her|their|of|same)\s+$"),
        re.compile(r"^\s+of\b"),
    ),
    "key": (re.compile(r"\b(?:the|a|major|minor|is)\s+$"), None),
    "wave": (re.compile(r"\b(?:sound|sine|square)\s+$"), re.compile(r"^\s*form")),
    "walk": (None, re.compile(r"^\s+(?:through|us|me)\b")),
}  # fmt: skip


@dataclass(frozen=True)
class CandidateMention:
    """A phrase ``[start, stop)`` of the trace that may name a sound.

    ``concepts`` are what it may name (empty for general words, then ``family`` is set); ``source`` is set where the
    phrase gives an action to another maker.
    """

    start: int
    stop: int
    concepts: tuple[str, ...]
    role: str
    plural: bool
    weak: bool
    family: str | None
    source: tuple[str, ...] = ()
    part: int = -1  # number of the innermost part of the trace that it begins in


@dataclass(frozen=True)
class ParsedTrace:
    """A trace as the reference judge sees it: ``masked_text`` is the text in lower case, tags and names blanked."""

    text: str
    masked_text: str
    candidates: tuple[CandidateMention, ...]
    sentences: tuple[Sentence, ...]

    def by_sentence(self) -> list[list[int]]:
        """The indices of the candidates of each sentence, in order."""
        starts = [sentence.start for sentence in self.sentences]
        groups: list[list[int]] = [[] for _ in self.sentences]
        for index, candidate in enumerate(self.candidates):
            groups[bisect_right(starts, candidate.stop - 1) - 1].append(index)
        return groups


def parse_mentions(trace: Trace, vocabulary: Vocabulary, in_truth: frozenset[str]) -> ParsedTrace:
    """Find the candidates and sentences of a trace. ``in_truth`` are the concepts that the truth holds."""
    text = trace.text
    masked, owner = _mask(trace)
    words = words_of(masked)
    hits = [hit for hit in vocabulary.find(masked, words) if _is_sound(hit, masked)]
    roles = [_section_role(trace, part) for part in range(-1, len(trace.parts))]
    candidates: list[CandidateMention] = []
    maker: str | None = None
    for hit in hits:
        its_maker = vocabulary.maker(hit, words)
        candidate = CandidateMention(hit.start, hit.stop, hit.concepts, hit.role, hit.plural, hit.weak, hit.family)
        candidate = replace(candidate, part=owner[hit.start])
        joined = None
        if candidates and _joinable(candidates[-1], candidate, text, masked, owner, roles):
            joined = _join(candidates[-1], candidate, vocabulary, maker, its_maker, in_truth)
        if joined is None:
            candidates.append(candidate)
        else:
            candidates[-1] = joined
        maker = its_maker
    candidates = [
        candidate for candidate in candidates if not candidate.weak or in_truth.intersection(candidate.concepts)
    ]
    masked_text = _blank(masked.lower() if len(masked.lower()) == len(masked) else masked, candidates)
    return ParsedTrace(text, masked_text, tuple(candidates), tuple(_sentences(masked, owner, roles, candidates)))


def _mask(trace: Trace) -> tuple[str, list[int]]:
    """The text with tags as blanks, and for each character the innermost part (-1: none)."""
    owner = [-1] * len(trace.text)
    letters = list(trace.text)
    for index, part in enumerate(trace.parts):
        owner[part.chars.start : part.chars.stop] = [index] * (part.chars.stop - part.chars.start)
        for start, stop in ((part.outer.start, part.chars.start), (part.chars.stop, part.outer.stop)):
            letters[start:stop] = " " * (stop - start)
    for match in _TAG.finditer(trace.text):
        letters[match.start() : match.end()] = " " * (match.end() - match.start())
    # A NUL in the trace would pass for a found name.
    return "".join(letters).replace(BLANK, " "), owner


def _section_role(trace: Trace, part: int) -> str:
    """What a part does with what stands in it."""
    if part < 0:
        return "asserted"
    return {"ask": "questioned", "answer": "answer"}.get(trace.parts[part].kind, "asserted")


def _is_sound(hit: Hit, masked: str) -> bool:
    """Whether a weak word may stand for a sound here; other words always do."""
    if not hit.weak:
        return True
    word = masked[hit.start : hit.stop].lower()
    for base, (before, after) in _NOT_A_SOUND.items():
        if word.startswith(base):
            if before and before.search(masked[max(0, hit.start - 20) : hit.start].lower()):
                return False
            if after and after.search(masked[hit.stop : hit.stop + 20].lower()):
                return False
    return True


def _joinable(
    left: CandidateMention, right: CandidateMention, text: str, masked: str, owner: list[int], roles: list[str]
) -> bool:
    gap = masked[left.stop : right.start]
    if len(gap) > 60 or re.search(r"[^\w\s'’-]", gap):  # noqa: RUF001
        return False
    tagged = "<" in text[left.stop : right.start]
    if "\n" in gap and not tagged:
        return False
    ends = owner[left.stop - 1], owner[right.start]
    if ends[0] != ends[1] and any(roles[part + 1] != "asserted" for part in ends):
        return False
    words = gap.lower().replace("'s", "").split()
    return len(words) <= _MOST_LINKERS and all(word in _LINKERS or word.endswith("ly") for word in words)


def _join(
    left: CandidateMention,
    right: CandidateMention,
    vocabulary: Vocabulary,
    left_maker: str | None,
    right_maker: str | None,
    in_truth: frozenset[str],
) -> CandidateMention | None:
    """One candidate for two neighbouring names, or None where they are two sounds."""
    if not left.concepts or not right.concepts or left.source or left.role == right.role:
        return None
    noun, action = (left, right) if left.role == "noun" else (right, left)
    maker = left_maker if noun is left else right_maker
    shared = tuple(c for c in noun.concepts if c in action.concepts)
    if shared:
        return _span(left, right, shared)
    kinds = {vocabulary.concept(c).parent for c in noun.concepts}
    if kinds.intersection(action.concepts):  # "a man is talking": the noun is the more precise name
        return _span(left, right, noun.concepts)
    families = [vocabulary.concept(candidate.concepts[0]).family for candidate in (noun, action)]
    if families == ["human", "human"]:  # "a man laughs": the sound is the laughter
        return _span(left, right, action.concepts)
    if maker is not None and families == ["animal", "animal"]:  # "a cat barks"
        return replace(_span(left, right, action.concepts), source=noun.concepts)
    if families[1] == "animal" and not in_truth.intersection(action.concepts):  # "the engine roars": no lion
        return _span(left, right, noun.concepts)
    return None


def _span(left: CandidateMention, right: CandidateMention, concepts: tuple[str, ...]) -> CandidateMention:
    plural = left.plural if left.role == "noun" else right.plural
    weak = left.weak and right.weak
    return CandidateMention(
        left.start, right.stop, concepts, "noun", plural, weak, left.family or right.family, part=left.part
    )


def _blank(text: str, candidates: list[CandidateMention]) -> str:
    pieces, position = [], 0
    for candidate in candidates:
        pieces += [text[position : candidate.start], BLANK * (candidate.stop - candidate.start)]
        position = candidate.stop
    return "".join([*pieces, text[position:]])


def _sentences(masked: str, owner: list[int], roles: list[str], candidates: list[CandidateMention]) -> list[Sentence]:
    """Sentences end at full stops, ";", line ends and borders of parts, but not inside a candidate."""
    cuts = {match.end(): match.group() == "?" for match in _END.finditer(masked)}
    for position in range(1, len(owner)):
        if owner[position] != owner[position - 1]:
            cuts.setdefault(position, False)
    starts = [candidate.start for candidate in candidates]
    kept = []
    for cut in sorted(cuts):
        near = bisect_right(starts, cut - 1) - 1
        if near < 0 or not candidates[near].start < cut < candidates[near].stop:
            kept.append(cut)
    sentences, position = [], 0
    for cut in [*kept, len(masked)]:
        if cut > position:
            middle = owner[cut - 1] if owner[cut - 1] == owner[position] else max(owner[position:cut])
            role_of_section = roles[middle + 1]
            sentences.append(Sentence(position, cut, role_of_section, cuts.get(cut, False), middle))  # type: ignore[arg-type]
        position = cut
    return sentences
