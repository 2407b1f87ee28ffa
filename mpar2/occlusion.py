"""Occlude one window of a clip at a time, and measure the change of the answer, for any model.

The clip is cut into windows of equal length. With each of them replaced by silence (or by noise of the clip's level),
the model scores the same finished text again. The *drop* is the decrease in log-probability of the answer, of a part or
of a claim (in nats; after Zeiler and Fergus, arXiv 1311.2901, on time in place of image patches). A window that the
text depends on has a large drop; one that contradicts the text has a negative one.

Engines that score no text (services) generate a new answer per window: the drop is then 1 if the answer changed.

Occlusion needs no attention and is more informative: attention does not imply relevance. ``agreement`` is Spearman's
rank correlation of drop and attention over the windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from mpar2.attention import AttentionRecord
from mpar2.audio import Clip
from mpar2.engines.base import Arm, Decoding, Engine, EngineError, Request
from mpar2.question import Question
from mpar2.trace import Span, parse_trace

__all__ = ["Occlusion", "answer_span", "attention_agreement", "occlude", "occluded_clips", "occlusion_steps"]

Fill = Literal["silence", "noise"]
_MAX_WINDOWS = 200


@dataclass(frozen=True, eq=False)
class Occlusion:
    """The effect of occluding each window on spans of a text (S spans, N windows)."""

    edges: np.ndarray  # (N + 1,) boundaries of the windows, s
    spans: tuple[Span, ...]  # (S) characters of the text
    base: np.ndarray  # (S,) log-probability of each span with the whole clip; NaN if unknown
    drops: np.ndarray  # (S, N) decrease with the window occluded, nats; for "changed answer" 0 or 1
    measure: Literal["log-probability", "changed answer"]
    fill: Fill
    finished: int  # windows computed; the rest is NaN

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; NaN becomes null."""

        def plain(values: np.ndarray) -> list[Any]:
            return [None if math.isnan(value) else round(float(value), 5) for value in values]

        return {
            "measure": self.measure,
            "fill": self.fill,
            "edges_s": plain(self.edges),
            "spans": [[span.start, span.stop] for span in self.spans],
            "log_probability": plain(self.base),
            "drops": [plain(row) for row in self.drops],
            "finished": self.finished,
        }


def answer_span(text: str) -> Span:
    """Return the span of the answer in a trace; of the whole text without an answer part."""
    parts = [part for part in parse_trace(text).parts if part.kind == "answer"]
    return parts[-1].chars if parts and parts[-1].chars.stop > parts[-1].chars.start else Span(0, len(text))


def occluded_clips(clip: Clip, windows: int, fill: Fill = "silence", seed: int = 0) -> tuple[np.ndarray, list[Clip]]:
    """Return copies of the clip, each with one window replaced.

    Args:
        clip: The recording.
        windows: Number of windows of equal length, 2 or more.
        fill: Replacement of a window; ``noise`` is white and has the RMS of the clip.
        seed: Seed of the noise.

    Returns:
        (N + 1,) edges of the windows in s, and N clips of the clip's length.

    Raises:
        EngineError: There are too few or too many windows, or no such fill.
    """
    if not 2 <= windows <= _MAX_WINDOWS:
        raise EngineError(f"{windows} windows: choose 2 to {_MAX_WINDOWS}")
    if fill not in ("silence", "noise"):
        raise EngineError(f"fill is '{fill}': choose silence or noise")
    samples = np.asarray(clip.samples)
    cuts = np.linspace(0, len(samples), windows + 1).round().astype(int)
    noise = np.zeros_like(samples)
    if fill == "noise":
        loudness = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
        noise = np.random.default_rng(seed).normal(scale=loudness, size=len(samples)).astype(samples.dtype)
    clips = []
    for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
        changed = samples.copy()
        changed[start:stop] = noise[start:stop]
        clips.append(replace(clip, samples=changed, source=f"{clip.source} without {start}-{stop}"))
    return cuts * (clip.seconds / max(len(samples), 1)), clips


def occlusion_steps(
    engine: Engine,
    clip: Clip,
    question: Question,
    arm: Arm,
    text: str,
    spans: Sequence[Span] | None = None,
    *,
    windows: int = 20,
    fill: Fill = "silence",
    batch_size: int = 8,
    decoding: Decoding | None = None,
) -> Iterator[Occlusion]:
    """Occlude a clip window by window, and measure the effect on spans of a text.

    The cost is windows + 1 passes.

    Args:
        engine: Engine that runs the arm; if it scores texts, drops are log-probabilities, else changed answers.
        clip: The recording.
        question: The question.
        arm: The arm.
        text: The arm's trace.
        spans: Character spans of the text; by default the answer's.
        windows: Number of windows.
        fill: Replacement of a window.
        batch_size: Windows per batch.
        decoding: Decoding parameters of new answers.

    Yields:
        The drops so far, after each batch; windows not computed yet are NaN.

    Raises:
        EngineError: There are too few or too many windows, no such fill, or the engine fails.
    """
    scoring = engine.engine_for(arm).scoring
    chosen = tuple(spans) if spans and scoring else (answer_span(text),)
    # Process the clip itself, then one copy for each window, in batches.
    edges, clips = occluded_clips(clip, windows, fill)
    requests = [Request(each, question, arm) for each in (clip, *clips)]
    values: list[Any] = []
    for first in range(0, windows + 1, max(1, batch_size)):
        batch = requests[first : first + max(1, batch_size)]
        # Score the text if the engine can; else generate an answer to the occluded clip.
        if scoring:
            scored = engine.score(batch, text, batch_size=len(batch))
            values += [np.array([_sum_of(tokens, span) for span in chosen]) for tokens in scored]
        else:
            generations = engine.generate_batch(batch, decoding, batch_size=len(batch))
            values += [g.choice if g.choice is not None else g.trace.answer for g in generations]
        # Drops: 1 for a changed answer; otherwise the difference of log-probabilities.
        drops = np.full((len(chosen), windows), np.nan)
        for place, value in enumerate(values[1:]):
            drops[:, place] = values[0] - value if scoring else float(value != values[0])
        base = values[0] if scoring else np.full(1, np.nan)
        measure: Literal["log-probability", "changed answer"] = "log-probability" if scoring else "changed answer"
        yield Occlusion(edges, chosen, base, drops, measure, fill, len(values) - 1)


def occlude(
    engine: Engine,
    clip: Clip,
    question: Question,
    arm: Arm,
    text: str,
    spans: Sequence[Span] | None = None,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Occlusion:
    """Occlude a clip window by window, and return the final result of :func:`occlusion_steps`.

    Args:
        report: Called with the number of finished passes and the total.
        **options: The other arguments of :func:`occlusion_steps`.
    """
    for result in occlusion_steps(engine, clip, question, arm, text, spans, **options):
        report(result.finished + 1, result.drops.shape[1] + 1)
    return result


def attention_agreement(occlusion: Occlusion, record: AttentionRecord, tokens: Sequence[Span]) -> float | None:
    """Correlate by rank, over windows, the drop of the first span with the attention of its tokens to the window.

    Args:
        occlusion: With at least three windows computed.
        record: Attention of the same text, with rows.
        tokens: Character span of each token of the record.

    Returns:
        Spearman's rho in [-1, 1]; None if either side is constant, or no token lies in the span.
    """
    from scipy.stats import spearmanr

    if record.heads == "none":
        return None
    chosen = [place for place, chars in enumerate(tokens[: len(record.rows)]) if _overlap(chars, occlusion.spans[0])]
    if not chosen:
        return None
    columns = record.rows[chosen].astype(np.float32).mean(axis=(0, 1, 2))
    middles = (np.arange(len(columns)) + 0.5) * record.frame_s
    places = np.searchsorted(occlusion.edges, middles, side="right") - 1
    windows = occlusion.drops.shape[1]
    inside = (places >= 0) & (places < windows)
    attention = np.bincount(places[inside], weights=columns[inside], minlength=windows)
    drops = occlusion.drops[0]
    measured = ~np.isnan(drops)
    if measured.sum() < 3 or np.ptp(drops[measured]) == 0 or np.ptp(attention[measured]) == 0:
        return None
    return float(spearmanr(drops[measured], attention[measured]).statistic)


def _overlap(chars: Span, span: Span) -> bool:
    return chars.start < span.stop and chars.stop > span.start


def _sum_of(tokens: Sequence[Any], span: Span) -> float:
    """Return the log-probability of the tokens that overlap the span; NaN if there is none."""
    logprobs = [token.logprob for token in tokens if _overlap(token.chars, span)]
    return sum(logprobs) if logprobs else math.nan
