"""Which arms a visitor meets first: the same question answered at once, reasoned freely, and by MPAR²."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["first_arms"]


class _Offer(Protocol):
    @property
    def name(self) -> str: ...


def first_arms(offers: Sequence[_Offer]) -> tuple[tuple[str, str], ...]:
    """(checkpoint, mode) of each arm: the first offer at once and freely, the second (or the only one) by MPAR²."""
    base, trained = offers[0].name, offers[min(1, len(offers) - 1)].name
    return (base, "direct"), (base, "cot"), (trained, "mpar2")
