"""Mentions of unsure events, which are neither right nor wrong.

A truth from the tagger (``mpar2.tagger``) may contain unsure events. A hallucinated mention of an unsure event becomes
neutral, since the truth does not contradict it. Mentions of truth events keep their kind, and an unsure event is never
missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpar2.cafe.rules.sounds import GENERAL, PARENTS
from mpar2.cafe.rules.vocabulary import Vocabulary
from mpar2.cafe.schema import Mention, MentionKind, Truth

__all__ = ["spare_unsure"]


def spare_unsure(mentions: Sequence[Mention], truth: Truth) -> tuple[Mention, ...]:
    """Make hallucinated mentions of the truth's unsure events neutral.

    Args:
        mentions: Mentions of a verdict, classified against the events of ``truth``.
        truth: ``unsure`` holds the events that may or may not be audible.

    Returns:
        The mentions in the same order. A name fits an unsure event as it fits a truth event: by the same name, a more
        or a less precise one, or the word for its family.
    """
    if not truth.unsure:
        return tuple(mentions)
    vocabulary = Vocabulary(tuple(event.label for event in truth.unsure))
    results = []
    for mention in mentions:
        if mention.kind is MentionKind.HALLUCINATED:
            for event, names in zip(truth.unsure, vocabulary.truth, strict=True):
                if _fits(mention.label, names, vocabulary):
                    reason = f"not sure: {truth.origin} cannot tell whether the clip has {event.label!r}"
                    mention = replace(mention, kind=MentionKind.NEUTRAL, reason=reason)
                    break
        results.append(mention)
    return tuple(results)


def _fits(label: str, names: Sequence[str], vocabulary: Vocabulary) -> bool:
    """Return whether a label names one of the concepts ``names``, a parent or kind of it, or its family."""
    for name in vocabulary.lookup(label):
        if any(other in (name, PARENTS.get(name)) or PARENTS.get(other) == name for other in names):
            return True
    family = GENERAL.get(" ".join(label.lower().split()))
    return family is not None and any(vocabulary.concept(name).family == family for name in names)
