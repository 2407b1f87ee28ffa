"""Attention grounding: while it writes a matched mention, does the model attend to where the event sounds?

For each matched mention whose truth event has times: of the attention on audio while the mention's tokens were
generated (mean over layers and heads), the share that falls inside the event's interval, against the share that chance
would give, which is the interval's share of the clip. ``lift`` is the ratio of the two; 1 is chance.

Conventions: token t's row is the query that produced it (``mpar2.attention``); a token belongs to a mention if it has a
character of it. Columns that the event covers in part count in part. Of a mention of several events, the union of their
intervals counts. Sink columns, which draw weight at every token whatever sounds, are left out of both shares unless
``keep_sinks``.

A high lift says that attention and event coincide, not that the one caused the other.
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
    """One mention: ``inside`` and ``chance`` are shares in [0, 1] of the attention on audio and of the clip."""

    mention: str
    events: tuple[int, ...]
    tokens: Span
    inside: float
    chance: float

    @property
    def lift(self) -> float:
        """How many times what chance gives."""
        return self.inside / self.chance


def ground(
    verdict: Verdict,
    events: Sequence[Event],
    record: AttentionRecord,
    token_spans: Sequence[Span],
    *,
    keep_sinks: bool = False,
) -> list[Grounding]:
    """Compute the grounding of each matched mention that has tokens, and an event with times.

    Mentions for which chance would be 0 or 1 (an event that fills the clip) say nothing and are left out.

    Args:
        verdict: Of the trace.
        events: Of the clip.
        record: Attention of the trace, with rows.
        token_spans: Characters of each token, as the record's rows count them.
        keep_sinks: Count the columns of attention sinks too.

    Raises:
        ValueError: The record has no rows, or they are not those of the tokens.
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
    """Return (C,) share of each column that lies inside one of the events; 0 throughout if none of them has times.

    Args:
        events: Of the clip.
        indices: Of the events that count.
        record: Attention, whose columns are frames of audio.

    Returns:
        (C,) shares in [0, 1].
    """
    columns = record.rows.shape[-1]
    # Fine grid: overlapping events must not count twice where a column holds both.
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
    """Pool groundings over traces.

    Args:
        groundings: Of the mentions of each trace.
        groups: The clip of each trace.
        **options: Of the bootstrap (:func:`mpar2.statistics.bootstrap_interval`).

    Returns:
        Mean ``inside``, mean ``chance``, and their ratio ``lift``, with intervals that are clustered by clip.
    """
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
    indices = [t for t, span in enumerate(spans) if span.start < mention.chars.stop and span.stop > mention.chars.start]
    return Span(indices[0], indices[-1] + 1) if indices else None
