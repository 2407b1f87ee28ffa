"""The kinds of question about a scene: the number of steps to the answer, and the function that drafts the question."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.scenes import one_step, two_step
from training.scenes.drafts import Draft
from training.scenes.scene import Scene

__all__ = ["KINDS", "LOUDNESS_KINDS"]

# Kind -> (number of steps to the answer, function that drafts the question).
KINDS: dict[str, tuple[int, Callable[[Scene, random.Random], Draft | None]]] = {
    "what": (1, one_step.what),
    "missing": (1, one_step.missing),
    "occurs": (1, one_step.occurs),
    "first": (1, one_step.first),
    "last": (1, one_step.last),
    "nth": (2, one_step.nth),
    "count": (2, one_step.count),
    "total": (2, one_step.total),
    "before": (2, one_step.before),
    "after": (2, one_step.after),
    "longest": (2, one_step.longest),
    "loudest": (2, one_step.loudest),
    "repeats": (2, one_step.repeats),
    "when": (2, one_step.when),
    "order": (2, one_step.order),
    "longer": (2, one_step.longer),
    "louder": (2, one_step.louder),
    "after_longest": (3, two_step.after_longest),
    "before_longest": (3, two_step.before_longest),
    "after_loudest": (3, two_step.after_loudest),
    "loudest_side": (3, two_step.loudest_side),
    "count_after": (3, two_step.count_after),
    "count_before": (3, two_step.count_before),
    "first_of_family": (3, two_step.first_of_family),
    "last_of_family": (3, two_step.last_of_family),
    "family_count": (3, two_step.family_count),
    "between": (3, two_step.between),
}

LOUDNESS_KINDS = frozenset({"loudest", "louder", "after_loudest", "loudest_side"})
