"""Attention to the audio during reasoning: the record of one generation, and measures of it. NumPy only.

Conventions. For generated token t, layer l, head h, ``a[t, l, h, j]`` is the softmax weight on position j. **Row t is
the query that produced token t**: the last position of the prompt for t = 0, and token t - 1 after that. Positions
are all positions visible to the query (prompt, audio, earlier tokens). Audio positions are numbered from 0 in time
order. The model's encoder determines the seconds per position: 40 ms in Qwen2.5-Omni and Qwen2-Audio, 77 to 100 ms
in others (``engines.families``).

========================  =====================================================================================
attention ratio           mass on audio, ``sum_{j in audio} a``, mean over layers and heads
corrected ratio           the ratio over the audio share of the visible positions; 1 = as much as uniform attention.
                          The raw ratio falls as the text grows even if the model's preference does not change
heatmap                   ``a`` over audio frames, for each token or the mean over each group of tokens
sink                      a frame with high weight at every token; it marks no event, and can be subtracted
========================  =====================================================================================

The correction and the rule for sinks are ours, not the paper's. ``layers`` and ``heads`` select those to average over;
None takes all.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mpar2.runs.lines import write_bytes
from mpar2.trace import Span

__all__ = [
    "OLD_FRAME_S",
    "AttentionRecord",
    "Heatmap",
    "attention_ratio",
    "corrected_ratio",
    "downsample",
    "heatmap",
    "load_record",
    "save_record",
    "sink_frames",
]

_FORMAT = 1
OLD_FRAME_S = 0.04  # of files and records written before other frame lengths were supported
_SINK_TIMES_UNIFORM = 5.0
_SINK_TOKENS = 0.9
_SINK_MIN_TOKENS = 8

Correction = Literal["none", "length"]


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """Attention of one generation (T tokens, L layers, H heads, C columns of audio).

    ``rows`` is bounded in memory. ``heads`` is ``all`` (every head), ``mean`` (their mean) or ``none`` (no rows, C: 0).
    ``frame_s`` grows when neighbouring frames are summed into one column: ``frames_per_column`` of them, each of
    ``frame_s / frames_per_column`` seconds.
    """

    rows: np.ndarray  # float16 (T, L, H or 1, C): weight on each column of audio
    mass: np.ndarray  # float32 (T, L, H): weight on all audio positions
    visible: np.ndarray  # int32 (T,): positions visible to the query
    audio_positions: int
    frame_s: float  # seconds of a column
    heads: Literal["all", "mean", "none"] = "all"
    frames_per_column: int = 1

    def __post_init__(self) -> None:
        tokens, layers, _ = self.mass.shape
        if self.rows.ndim != 4 or self.rows.shape[:2] != (tokens, layers) or self.visible.shape != (tokens,):
            raise ValueError(
                f"rows {self.rows.shape}, mass {self.mass.shape}, visible {self.visible.shape} do not belong together"
            )


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Attention over tokens and time. ``values[r, c]`` is the mean weight of one frame in column c.

    ``rows[r]`` are the tokens of row r. With ``correction == "length"`` values are multiples of uniform attention over
    all visible positions. ``subtracted`` are the columns from which a sink was subtracted.
    """

    values: np.ndarray  # float32 (R, C)
    rows: tuple[Span, ...]
    frame_s: float  # seconds of a column
    correction: Correction = "none"
    subtracted: tuple[int, ...] = ()


def attention_ratio(
    record: AttentionRecord, layers: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> np.ndarray:
    """Compute the attention ratio of each token.

    Returns:
        (T,) share of attention on audio positions, 0 to 1.

    Raises:
        ValueError: A layer or head does not exist.

    Source:
        arXiv 2603.02266, Figure 6.
    """
    return _pick(record.mass, layers, heads).mean(axis=(1, 2))


def corrected_ratio(
    record: AttentionRecord, layers: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> np.ndarray:
    """Compute the attention ratio over the audio share of the visible positions, (T,); 1 = uniform attention."""
    return attention_ratio(record, layers, heads) * record.visible / max(record.audio_positions, 1)


def heatmap(
    record: AttentionRecord,
    token_groups: Sequence[Span] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    correction: Correction = "none",
    remove_sink: bool = False,
) -> Heatmap:
    """Compute the heatmap of the chosen layers and heads.

    Args:
        token_groups: Tokens of each row; one token a row by default.
        correction: ``length`` multiplies by the visible positions: values are multiples of uniform attention.
        remove_sink: Subtract the constant weight of sink frames (:func:`sink_frames`).

    Returns:
        Mean weight of one frame in each column, (R, C). A group without tokens is a row of NaN, since zero would mean
        no attention.

    Raises:
        ValueError: Rows were not recorded, a layer or head does not exist, or the correction is unknown.
    """
    picture = _columns(record, layers, heads) / record.frames_per_column
    if correction == "length":
        picture = picture * record.visible[:, None]
    elif correction != "none":
        raise ValueError(f"unknown correction {correction!r}: choose 'none' or 'length'")
    subtracted: tuple[int, ...] = ()
    if remove_sink and (sinks := sink_frames(record, layers, heads)):
        constant = np.quantile(picture[:, list(sinks)], 1 - _SINK_TOKENS, axis=0)
        picture[:, list(sinks)] = np.maximum(picture[:, list(sinks)] - constant, 0.0)
        subtracted = sinks
    if token_groups is None:
        token_groups = [Span(t, t + 1) for t in range(len(picture))]
    values = np.full((len(token_groups), picture.shape[1]), np.nan, dtype=np.float32)
    for row, group in enumerate(token_groups):
        if len(tokens := picture[max(group.start, 0) : group.stop]):
            values[row] = tokens.mean(axis=0)
    return Heatmap(values, tuple(token_groups), record.frame_s, correction, subtracted)


def sink_frames(
    record: AttentionRecord, layers: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Find attention sinks: columns with at least 5 times the even share of audio attention at 90 % of the tokens.

    Returns:
        Indices of columns; empty with fewer than 8 tokens or 10 columns.
    """
    picture = _columns(record, layers, heads)
    if len(picture) < _SINK_MIN_TOKENS or picture.shape[1] < 2 * _SINK_TIMES_UNIFORM:
        return ()
    share = picture / np.maximum(picture.sum(axis=1, keepdims=True), 1e-12)
    steady = np.quantile(share, 1 - _SINK_TOKENS, axis=0) * picture.shape[1]
    return tuple(int(column) for column in np.flatnonzero(steady >= _SINK_TIMES_UNIFORM))


def downsample(picture: Heatmap, columns: int = 300) -> Heatmap:
    """Average neighbouring columns so that a browser draws at most ``columns`` of them, at least 1."""
    if columns < 1:
        raise ValueError(f"{columns} columns cannot show anything: ask for at least 1")
    width = picture.values.shape[1]
    step = -(-width // columns)
    if step <= 1:
        return picture
    starts = np.arange(0, width, step)
    sizes = np.diff(np.append(starts, width))
    values = (np.add.reduceat(picture.values, starts, axis=1) / sizes).astype(np.float32)
    subtracted = tuple(sorted({column // step for column in picture.subtracted}))
    return Heatmap(values, picture.rows, picture.frame_s * step, picture.correction, subtracted)


def save_record(record: AttentionRecord, path: str | os.PathLike[str]) -> Path:
    """Write a record as .npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, format=_FORMAT, **vars(record))
    path = Path(path)
    write_bytes(path, buffer.getvalue())
    return path


def load_record(path: str | os.PathLike[str]) -> AttentionRecord:
    """Load a record written by :func:`save_record`. No code in the file is executed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or no attention record.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            if (version := int(data["format"])) != _FORMAT:
                raise ValueError(f"it has format {version}; this version reads {_FORMAT}")
            return AttentionRecord(
                rows=data["rows"],
                mass=data["mass"],
                visible=data["visible"],
                audio_positions=int(data["audio_positions"]),
                frame_s=float(data["frame_s"]),
                heads=str(data["heads"]),  # type: ignore[arg-type]
                frames_per_column=int(data["frames_per_column"])
                if "frames_per_column" in data
                else round(float(data["frame_s"]) / OLD_FRAME_S),
            )
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged zip raises many types
        raise ValueError(f"'{path}' is not an attention record: {error}") from error


def _columns(record: AttentionRecord, layers: Sequence[int] | None, heads: Sequence[int] | None) -> np.ndarray:
    """Return (T, C) weight on each column, mean over layers and heads."""
    if record.heads == "none":
        raise ValueError("this record holds the attention ratio only: record with attention='full' for a heatmap")
    if record.heads == "mean" and heads is not None:
        raise ValueError("this record holds the mean over heads only (memory budget): single heads cannot be chosen")
    return _pick(record.rows, layers, heads).astype(np.float32).mean(axis=(1, 2))


def _pick(values: np.ndarray, layers: Sequence[int] | None, heads: Sequence[int] | None) -> np.ndarray:
    for name, chosen, axis in (("layer", layers, 1), ("head", heads, 2)):
        if chosen is None:
            continue
        if not len(chosen) or min(chosen) < 0 or max(chosen) >= values.shape[axis]:
            raise ValueError(f"{name}s {list(chosen)} do not exist: choose from 0 to {values.shape[axis] - 1}")
        values = np.take(values, list(chosen), axis=axis)
    return values
