"""The training scorer by rules: a trace against the events of its clip, or against the sounds of its caption.

``words`` describes how it differs, by design, from the evaluation judge. Definitions (ours; the paper uses an LLM):

``perception``  F1 of the claims of ``<perception>`` with the events, one to one. A claim earns 1 at the right time,
                0.75 without a time, 0.5 at a wrong time. So neither naming fewer sounds nor naming each twice pays,
                and times do
``step``        the mean over the claims of ``<hear>``: each sound as above, 0 if the clip has none of it, a denial 1 if
                it is right; half for a wrong number. 0 for a step that lacks a part or repeats a previous step, 0.5
                for one whose ``<hear>`` has no verifiable claim
``review``      the mean over checked clauses: right to support what is there, right to correct what is not; times the
                coverage of the sounds in the steps' ``<hear>``
``thinking``    ``perception`` of the whole ``<think>``
``consistent``  1 if the choice named last in ``<think>`` is the answer

A truth that is only a caption consists of the sounds that the caption names, without times. A caption without any known
sound leaves the trace unscored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mpar2.question import Event
from mpar2.trace import Trace
from training.rewards.sample import Sample, Scores
from training.rewards.words import Lexicon, SoundClaim, read_claims

_UNCHECKED = 0.5
_UNTIMED = 0.75
_WRONG_TIME = 0.5
_NEAR_S = 1.0  # a moment this far from the onset earns nothing for its time
_SUPPORTS = re.compile(r"\b(?:supported|heard|confirmed|holds|correct|present|yes)\b")
_CORRECTS = re.compile(r"\b(?:corrected|unsupported|wrong|absent|false|not (?:heard|supported|present|there))\b")


@dataclass(frozen=True)
class ReferenceScorer:
    """Rules over the truth: no model, no service, deterministic."""

    id: str = "reference-stems-1"
    is_async: bool = False

    def score(self, sample: Sample) -> Scores | None:
        """Return the scores of a sample, or None where nothing is known of its clip.

        Several rewards need the same sample in one step; it is scored once.
        """
        return _score(sample)


@lru_cache(maxsize=2048)
def _score(sample: Sample) -> Scores | None:
    truth, lexicon = _truth(sample)
    if truth is None:
        return None
    trace = sample.trace
    claims = [claim for part in trace.of_kind("perception") for claim in read_claims(part.text, lexicon)]
    thinking = " ".join(part.text for part in trace.of_kind("think"))
    return Scores(
        perception=_f1(claims, truth, lexicon) if trace.of_kind("perception") else 0.0,
        steps=tuple(_step_scores(trace, truth, lexicon)),
        review=_review(trace, truth, lexicon),
        thinking=_f1(read_claims(thinking, lexicon), truth, lexicon) if thinking.strip() else 0.0,
        consistent=_consistent(thinking, sample),
    )


def _truth(sample: Sample) -> tuple[tuple[Event, ...] | None, Lexicon]:
    if sample.events is not None:
        return sample.events, Lexicon(event.label for event in sample.events)
    if sample.caption:
        lexicon = Lexicon()
        claims = [claim for claim in read_claims(sample.caption, lexicon) if not claim.denied]
        if claims:
            return tuple(Event(claim.sound) for claim in claims for _ in range(claim.count)), lexicon
    return None, Lexicon()


def _credit(claim: SoundClaim, event: Event) -> float:
    """Return a claim's credit for an event of the same sound."""
    if event.onset_s is None or event.offset_s is None:
        return 1.0
    if claim.onset_s is None:
        return _UNTIMED
    if claim.offset_s is None:
        return _WRONG_TIME + (1 - _WRONG_TIME) * max(0.0, 1 - abs(claim.onset_s - event.onset_s) / _NEAR_S)
    shared = min(claim.offset_s, event.offset_s) - max(claim.onset_s, event.onset_s)
    whole = max(claim.offset_s, event.offset_s) - min(claim.onset_s, event.onset_s)
    return _WRONG_TIME + (1 - _WRONG_TIME) * (max(0.0, shared) / whole if whole > 0 else 1.0)


def _f1(claims: Sequence[SoundClaim], truth: Sequence[Event], lexicon: Lexicon) -> float:
    """Match claims and events one to one, the best pairs first, and return their F1."""
    asserted = [claim for claim in claims if not claim.denied for _ in range(claim.count)]
    if not asserted or not truth:
        return 1.0 if not asserted and not truth else 0.0
    pairs = sorted(
        (
            (_credit(claim, event), -i, -j)
            for i, claim in enumerate(asserted)
            for j, event in enumerate(truth)
            if claim.sound == lexicon.sound(event.label)
        ),
        reverse=True,
    )
    used_claims: set[int] = set()
    used_events: set[int] = set()
    total = 0.0
    for credit, i, j in pairs:
        if i not in used_claims and j not in used_events:
            used_claims.add(i)
            used_events.add(j)
            total += credit
    return 2 * total / (len(asserted) + len(truth))


def _supported(claim: SoundClaim, truth: Sequence[Event], lexicon: Lexicon) -> float:
    matches = [event for event in truth if lexicon.sound(event.label) == claim.sound]
    if claim.denied:
        return 0.0 if matches else 1.0
    if not matches:
        return 0.0
    best = max(_credit(claim, event) for event in matches)
    return best / 2 if claim.count > 1 and claim.count != len(matches) else best


def _step_scores(trace: Trace, truth: Sequence[Event], lexicon: Lexicon) -> list[float]:
    previous_texts: set[str] = set()
    scores = []
    for step in trace.of_kind("step"):
        words = " ".join(step.text.lower().split())
        parts = {part.kind: part for part in trace.children(step)}
        complete = all(kind in parts and parts[kind].text.strip() for kind in ("ask", "hear", "infer"))
        if not complete or words in previous_texts:
            scores.append(0.0)
            continue
        previous_texts.add(words)
        claims = read_claims(parts["hear"].text, lexicon)
        supports = [_supported(claim, truth, lexicon) for claim in claims] or [_UNCHECKED]
        scores.append(sum(supports) / len(supports))
    return scores


def _review(trace: Trace, truth: Sequence[Event], lexicon: Lexicon) -> float:
    text = " ".join(part.text for part in trace.of_kind("review")).lower()
    if not text.strip():
        return 0.0
    scores: list[float] = []
    checked_sounds: set[str] = set()
    # A comma may separate a claim from its verdict, so split after verdicts and at sentence ends.
    for clause in re.split(r"[;\n]|\.(?!\d)|(?<=supported),|(?<=heard),|(?<=corrected),|(?<=confirmed),", text):
        supports, corrects = _SUPPORTS.search(clause), _CORRECTS.search(clause)
        if not supports and not corrects:
            continue
        for claim in read_claims(_CORRECTS.sub(" ", clause), lexicon):
            support = _supported(claim, truth, lexicon)
            scores.append(1 - support if corrects else support)
            checked_sounds.add(claim.sound)
    if not scores:
        return _UNCHECKED
    claimed_sounds = {
        claim.sound
        for step in trace.of_kind("step")
        for part in trace.children(step)
        if part.kind == "hear"
        for claim in read_claims(part.text, lexicon)
    }
    coverage = len(claimed_sounds & checked_sounds) / len(claimed_sounds) if claimed_sounds else 1.0
    return sum(scores) / len(scores) * (0.5 + 0.5 * coverage)


def _consistent(thinking: str, sample: Sample) -> float:
    answer = sample.prediction.words
    if not thinking.strip() or not answer:
        return 0.0
    if not sample.choices:
        return float(" ".join(answer.lower().split()) in " ".join(thinking.lower().split()))
    answer_choice = sample.prediction.choice
    lower = thinking.lower()
    last = {choice: lower.rfind(choice.lower()) for choice in sample.choices}
    latest = max(last, key=lambda choice: (last[choice], len(choice)))
    return float(answer_choice is not None and last[latest] >= 0 and latest == answer_choice)
