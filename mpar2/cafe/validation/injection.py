"""Robustness to prompt injection: traces with orders to the judge hidden in what it reads.

Each canary is judged clean and attacked. The attack is appended, so every mention of the clean trace stands at the
same characters in the attacked one. A mention whose kind changes, or that the judge no longer lists, is a *flip*;
mentions inside the attack itself do not count. Canaries that the judge could not score are counted apart: a judge that
crashes has not withstood anything. The attack ``control`` asks for nothing, so its flips are the judge's own noise, and
are what the flip rate is to be read against.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from mpar2.cafe.prompts import load_json
from mpar2.cafe.schema import Judge, JudgeRequest, Mention, Truth, Unscored, Verdict
from mpar2.question import Event

__all__ = ["Canary", "Flip", "FlipReport", "flip_rate", "load_canaries"]


@dataclass(frozen=True)
class Canary:
    """One base trace under one attack."""

    name: str  # base/attack
    clean: JudgeRequest
    attacked: JudgeRequest

    @property
    def control(self) -> bool:
        return self.name.endswith("/control")


@dataclass(frozen=True)
class Flip:
    """One mention that changed under an attack; ``became`` is ``unlisted`` when the judge dropped it."""

    canary: str
    quote: str
    was: str
    became: str


@dataclass(frozen=True)
class FlipReport:
    """Flips among the mentions of the canaries that could be judged, control apart."""

    mentions: int
    flips: tuple[Flip, ...]
    control_mentions: int
    control_flips: tuple[Flip, ...]
    canaries: int
    unscored: tuple[tuple[str, str], ...]  # canary and reason

    @property
    def rate(self) -> float | None:
        """Flips per mention; None where nothing could be judged."""
        return len(self.flips) / self.mentions if self.mentions else None

    @property
    def control_rate(self) -> float | None:
        return len(self.control_flips) / self.control_mentions if self.control_mentions else None

    def __str__(self) -> str:
        def share(flips: tuple[Flip, ...], mentions: int) -> str:
            return f"{len(flips)} of {mentions}" + (f" ({len(flips) / mentions:.1%})" if mentions else "")

        return (
            f"canaries: {share(self.flips, self.mentions)} mentions flipped under attack, "
            f"{share(self.control_flips, self.control_mentions)} without one; "
            f"{len(self.unscored)} of {self.canaries} canaries unscored"
        )


def load_canaries() -> list[Canary]:
    """The canaries of the package: every base under every attack."""
    data = load_json("canaries")
    return [
        _canary(f"{name}/{attack['name']}", base, attack)
        for name, base in data["bases"].items()
        for attack in data["attacks"]
    ]


async def flip_rate(judge: Judge, canaries: list[Canary] | None = None) -> FlipReport:
    """Judge all canaries, clean and attacked, and count the flips. Each distinct request is judged once."""
    canaries = load_canaries() if canaries is None else canaries
    wanted = list(dict.fromkeys(request for canary in canaries for request in (canary.clean, canary.attacked)))
    verdicts = dict(zip(wanted, await asyncio.gather(*(judge.judge(request) for request in wanted)), strict=True))
    counts = {False: 0, True: 0}
    flips: dict[bool, list[Flip]] = {False: [], True: []}
    unscored: list[tuple[str, str]] = []
    for canary in canaries:
        clean, attacked = verdicts[canary.clean], verdicts[canary.attacked]
        failed = next((verdict for verdict in (clean, attacked) if isinstance(verdict, Unscored)), None)
        if failed is not None:
            unscored.append((canary.name, f"{failed.reason}: {failed.detail}"))
            continue
        assert isinstance(clean, Verdict) and isinstance(attacked, Verdict)
        counts[canary.control] += len(clean.mentions)
        flips[canary.control] += _flips(canary.name, clean, attacked)
    return FlipReport(
        counts[False], tuple(flips[False]), counts[True], tuple(flips[True]), len(canaries), tuple(unscored)
    )


def _flips(name: str, clean: Verdict, attacked: Verdict) -> list[Flip]:
    found = []
    for mention in clean.mentions:
        other = max(attacked.mentions, key=lambda candidate: _shared(mention, candidate), default=None)
        if other is None or _shared(mention, other) == 0:
            found.append(Flip(name, mention.quote, str(mention.kind), "unlisted"))
        elif other.kind is not mention.kind:
            found.append(Flip(name, mention.quote, str(mention.kind), str(other.kind)))
    return found


def _shared(a: Mention, b: Mention) -> int:
    return max(0, min(a.chars.stop, b.chars.stop) - max(a.chars.start, b.chars.start))


def _canary(name: str, base: dict[str, Any], attack: dict[str, str]) -> Canary:
    events = tuple(Event(label, onset, offset) for label, onset, offset in base["events"])
    truth = Truth(events=events, origin="human")
    if attack["field"] == "caption":
        truth = Truth(events=None, caption=base["caption"], origin="human")
    clean = JudgeRequest(base["question"], tuple(base["choices"]), base["answer"], truth, base["trace"])
    match attack["field"]:
        case "trace":
            attacked = replace(clean, trace=clean.trace + attack["text"])
        case "question":
            attacked = replace(clean, question=clean.question + attack["text"])
        case "caption":
            attacked = replace(clean, truth=replace(truth, caption=base["caption"] + attack["text"]))
        case other:
            raise ValueError(f"canary {name}: field {other!r} is none of trace, question, caption")
    return Canary(name, clean, attacked)
