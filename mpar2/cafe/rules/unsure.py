"""Mentions of what the truth is not sure of: neither right nor wrong.

A truth by a machine (``mpar2.tagger``) may leave open whether a sound is there. A mention that a judge calls
hallucinated, and that names such a sound, is neutral: the truth does not contradict it. What names a truth event keeps
its kind, and an unsure event is never missed.
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
        mentions: A judge's, sorted against the events of ``truth``.
        truth: ``unsure`` holds the events that may or may not be audible.

    Returns:
        The mentions in the same order. A name fits an unsure event as it fits a truth event: the same, a more or a less
        precise one, or the word for its family.
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
    for name in vocabulary.lookup(label):
        if any(other in (name, PARENTS.get(name)) or PARENTS.get(other) == name for other in names):
            return True
    family = GENERAL.get(" ".join(label.lower().split()))
    return family is not None and any(vocabulary.concept(name).family == family for name in names)
