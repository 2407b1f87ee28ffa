"""Attention grounding: the share of attention inside an event's interval while the model generates a mention of it.

It is computed for each matched mention whose truth event has times. ``inside`` is the share of the attention on audio
(mean over layers and heads, over the mention's tokens) that falls inside the event's interval. ``chance`` is the
interval's share of the clip. ``lift`` is the ratio of the two; 1 is chance.

Conventions: the row of token t is the query that produced it (``mpar2.attention``). A token belongs to a mention if it
shares a character with it. Columns that the event covers in part count in part. For a mention of several events, the
union of their intervals counts. Attention sinks, columns with high weight at every token, are excluded from both shares
unless ``keep_sinks``.

A high lift shows that attention and event coincide, not that one causes the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpar2.attention import AttentionRecord, sink_frames
from mpar2.cafe.schema import Mention, MentionKind, Verdict
from mpar2.question import Event
from mpar2.statistics import Interval, bootstrap_interval
from mpar2.trace import Span

__all__ = ["Grounding", "event_columns", "ground", "grounding_report"]


@dataclass(frozen=True)
class Grounding:
    """Grounding of one mention. ``inside`` and ``chance`` are shares in [0, 1] of attention and of the clip."""

    mention: str
    events: tuple[int, ...]
    tokens: Span
    inside: float
    chance: float

    @property
    def lift(self) -> float:
        """Ratio of ``inside`` to ``chance``."""
        return self.inside / self.chance


def ground(
    verdict: Verdict,
    events: Sequence[Event],
    record: AttentionRecord,
    token_spans: Sequence[Span],
    *,
    keep_sinks: bool = False,
) -> list[Grounding]:
    """Compute the grounding of each matched mention with tokens and an event with times.

    Mentions with a chance of 0 or 1 (an event that fills the clip) are uninformative and left out.

    Args:
        verdict: Verdict on the trace.
        events: Events of the clip.
        record: Attention of the trace, with rows (tokens, layers, heads, columns).
        token_spans: Character span of each token, in the order of the rows.
        keep_sinks: Include the columns of attention sinks.

    Raises:
        ValueError: The record has no rows, or their number is not that of the tokens.
    """
    if record.heads == "none":
        raise ValueError("this record holds the attention ratio only: record with attention='full' to see where")
    if len(token_spans) != len(record.rows):
        raise ValueError(f"{len(token_spans)} tokens for {len(record.rows)} rows of attention: not the same generation")
    weights = np.asarray(record.rows, dtype=np.float32).mean(axis=(1, 2))  # (T, C)
    usable = np.ones(weights.shape[1])
    if not keep_sinks:
        usable[list(sink_frames(record))] = 0.0
    groundings = []
    for mention in verdict.mentions:
        tokens = _tokens(mention, token_spans)
        if mention.kind is not MentionKind.MATCHED or tokens is None:
            continue
        inside = event_columns(events, mention.events, record) * usable
        mass = weights[tokens.start : tokens.stop].mean(axis=0) * usable
        chance = inside.sum() / usable.sum() if usable.sum() else 0.0
        if 0.0 < chance < 1.0 and mass.sum() > 0:
            inside_share = float((weights[tokens.start : tokens.stop].mean(axis=0) * inside).sum() / mass.sum())
            groundings.append(Grounding(mention.id, mention.events, tokens, inside_share, float(chance)))
    return groundings


def event_columns(events: Sequence[Event], indices: Sequence[int], record: AttentionRecord) -> np.ndarray:
    """Return the share of each column inside one of the events, (C,) in [0, 1]; all 0 if none of them has times."""
    columns = record.rows.shape[-1]
    # A fine grid gives partial columns, and counts overlapping events once.
    steps = 8
    centers = (np.arange(columns * steps) + 0.5) * record.frame_s / steps
    covered = np.zeros(columns * steps, dtype=bool)
    for index in indices:
        onset, offset = events[index].onset_s, events[index].offset_s
        if onset is not None and offset is not None:
            covered |= (centers >= onset) & (centers < offset)
    return covered.reshape(columns, steps).mean(axis=1)


def grounding_report(
    groundings: Sequence[Sequence[Grounding]], groups: Sequence[str], **options: Any
) -> dict[str, Interval]:
    """Pool groundings over traces: mean ``inside``, mean ``chance``, and their ratio ``lift``, clustered by clip."""
    flat = [(grounding, group) for trace, group in zip(groundings, groups, strict=True) for grounding in trace]
    names = [group for _, group in flat]
    inside = np.array([grounding.inside for grounding, _ in flat])
    chance = np.array([grounding.chance for grounding, _ in flat])
    return {
        "inside": bootstrap_interval(inside, groups=names, **options),
        "chance": bootstrap_interval(chance, groups=names, **options),
        "lift": bootstrap_interval(inside, chance, groups=names, **options),
    }


def _tokens(mention: Mention, spans: Sequence[Span]) -> Span | None:
    """Return the span of tokens that share a character with a mention, or None."""
    indices = [t for t, span in enumerate(spans) if span.start < mention.chars.stop and span.stop > mention.chars.start]
    return Span(indices[0], indices[-1] + 1) if indices else None
