"""Attention of one arm as the page draws it. All values are computed here; the page does no arithmetic on them.

    layers, heads, audio_positions     of the model
    tokens, columns, column_s          generated tokens; columns of the pictures and their length in seconds
    ratio, corrected, even             mean share of attention on the audio; the same over an even spread; that spread
    course     {raw, length}           share on the audio along the trace, token by token, smoothed as it is drawn
    thirds     {raw, length} or null   means over the first and the last third; null under 12 tokens
    summary    {raw, length}           the picture in one sentence
    passages   [name, short, kind, chars, tokens]     rows of the pictures by passage
    views      [label, shares, pictures]              all layers and heads first, then single ones where kept
    whole      pictures of one row: the mean over the whole trace
    words      pictures of single words, a row for each of the arm's ``words``; null where nothing was kept
    peaks      {passages, words}       for each row up to three [start_s, stop_s, share of the row's attention]
    lights     [word, start_s, stop_s] when a word lights up while the clip plays
    sinks      times (s) of the frames that draw attention at every token

``pictures`` are packed arrays (``pages.attention_pack``) by mode: ``raw`` is the share of attention on one 40 ms frame,
``length`` the same relative to an even spread over all that the token sees; ``raw_clean`` and ``length_clean`` are
without sinks, and absent where there is none. A picture whose ``data`` is null has the bytes of ``raw`` and scales of
its own. Rates and pictures are those of ``mpar2.attention``; the rule for lights is ours: a word whose attention,
smoothed over 0.2 s, reaches 1.8 times its own mean lights up until it falls below 1.4 times, five words at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mpar2.attention import AttentionRecord, attention_ratio, corrected_ratio, downsample, heatmap, sink_frames
from mpar2.trace import Span
from pages.attention_pack import pack
from pages.units import Passage, WordTokens

ATTENTION_BYTES = 200_000  # of one arm: three arms, the sound and the scripts make a page of about 1.5 MB
FEWEST_FOR_THIRDS = 12  # tokens
MODES = ("raw", "length", "raw_clean", "length_clean")

_MOST_COLUMNS, _FEWEST_COLUMNS = 400, 100
_MOST_SINGLE = 12  # layers, or heads, that get a picture of their own
_SMOOTH_S, _JOIN_S, _MOST_PEAKS = 0.2, 0.12, 3
_LIGHT_ON, _LIGHT_OFF, _MOST_LIGHTS = 1.8, 1.4, 5


def attention_view(
    record: AttentionRecord | None,
    passages: Sequence[Passage],
    words: Sequence[WordTokens],
    seconds: float,
    budget: int = ATTENTION_BYTES,
) -> dict[str, Any] | None:
    """Return the view of ``record`` (see the module), about ``budget`` bytes; None if nothing was recorded."""
    if record is None or not len(record.visible):
        return None
    tokens, layers, heads = record.mass.shape
    shares = {"raw": attention_ratio(record), "length": corrected_ratio(record)}
    rows = [passage for passage in passages if passage.tokens[0] < tokens]
    groups = [Span(p.tokens[0], min(p.tokens[1], tokens)) for p in rows]
    view: dict[str, Any] = {
        "layers": layers,
        "heads": heads,
        "audio_positions": record.audio_positions,
        "tokens": tokens,
        "columns": 0,
        "column_s": record.frame_s,
        "ratio": float(shares["raw"].mean()),
        "corrected": float(shares["length"].mean()),
        "even": float((record.audio_positions / np.maximum(record.visible, 1)).clip(max=1).mean()),
        "course": {mode: _rounded(smooth(course)) for mode, course in shares.items()},
        "thirds": {mode: _thirds(course) for mode, course in shares.items()} if tokens >= FEWEST_FOR_THIRDS else None,
        "summary": dict.fromkeys(shares, ""),
        "passages": [
            {
                "name": p.name,
                "short": p.short,
                "kind": p.kind,
                "chars": list(p.chars),
                "tokens": [group.start, group.stop],
            }
            for p, group in zip(rows, groups, strict=True)
        ],
        "views": [],
        "whole": None,
        "words": None,
        "peaks": {"passages": [], "words": []},
        "lights": [],
        "sinks": [],
    }
    # Without heatmap rows, the view has shares and a summary, but no pictures.
    means = {mode: [float(course[g.start : g.stop].mean()) for g in groups] for mode, course in shares.items()}
    if record.heads == "none" or not record.rows.size or not groups:
        view["summary"] = {mode: _summary(rows, means[mode], [[] for _ in rows], mode) for mode in means}
        return view

    # Halve the columns until the required pictures fit the budget; views of layers and heads use the remainder.
    word_spans = [Span(w.tokens[0], min(w.tokens[1], tokens)) for w in words if w.tokens[0] < tokens]
    sinks = sink_frames(record)
    columns = min(record.rows.shape[3], _MOST_COLUMNS)
    pictures_per_word = 3 if sinks else 1  # length-corrected pictures share the bytes
    while columns > _FEWEST_COLUMNS and columns * (len(word_spans) * pictures_per_word + len(groups) * 4) > budget:
        columns = max(_FEWEST_COLUMNS, columns // 2)
    remaining = budget - columns * (len(word_spans) * pictures_per_word + len(groups) * 4)

    view["sinks"] = [round(column * record.frame_s, 3) for column in sinks]
    # Views of single layers and heads are optional, and end with the budget.
    for label, layer_subset, head_subset in _choices(record):
        single = label != "All layers and heads"
        if single and (remaining := remaining - columns * len(groups) * 2) < 0:
            break
        pictures = _pictures(record, groups, layer_subset, head_subset, columns, clean=bool(sinks) and not single)
        ratios = {
            "raw": attention_ratio(record, layer_subset, head_subset if record.mass.shape[2] > 1 else None),
            "length": corrected_ratio(record, layer_subset, head_subset if record.mass.shape[2] > 1 else None),
        }
        group_shares = {
            mode: [round(float(r[g.start : g.stop].mean()), 6) for g in groups] for mode, r in ratios.items()
        }
        view["views"].append({"label": label, "shares": group_shares, "pictures": _packed(pictures)})
    # Peaks and summary exclude sinks, which draw attention at every token.
    passage_pictures = _pictures(record, groups, None, None, columns, clean=bool(sinks))
    passage_picture = passage_pictures.get("raw_clean", passage_pictures["raw"])
    view |= {"columns": passage_picture.shape[1], "column_s": _column_s(record, columns)}
    view["whole"] = _packed(_pictures(record, [Span(0, tokens)], None, None, columns, clean=bool(sinks)))
    passage_peaks = [peaks(row, view["column_s"], seconds) for row in passage_picture]
    view["summary"] = {mode: _summary(rows, means[mode], passage_peaks, mode) for mode in means}
    view["peaks"]["passages"] = passage_peaks
    # Lights of words come from the same pictures, so both agree.
    if word_spans:
        pictures = _pictures(record, word_spans, None, None, columns, clean=bool(sinks))
        word_picture = pictures.get("raw_clean", pictures["raw"])
        view["words"] = _packed(pictures)
        view["peaks"]["words"] = [peaks(row, view["column_s"], seconds) for row in word_picture]
        view["lights"] = _lights(word_picture, view["column_s"], seconds)
    return view


def smooth(course: np.ndarray) -> np.ndarray:
    """Return the moving mean over one thirtieth of the trace, at least three tokens, as it is drawn."""
    return _box(course, max(1, round(len(course) / 60)))


def peaks(row: np.ndarray, column_s: float, seconds: float) -> list[list[float]]:
    """Return the attention peaks of a row: the three runs of columns with the largest shares.

    The row is smoothed over 0.2 s. A run is above the mean plus one standard deviation, and runs closer than 0.12 s
    are joined (ours).

    Args:
        row: Attention of each column, (columns,); NaN counts as 0.
        column_s: Length of a column, in seconds.
        seconds: Length of the clip: no run ends after it.

    Returns:
        ``[start_s, stop_s, share]``, the largest share first.
    """
    values = np.nan_to_num(np.asarray(row, dtype=np.float64))
    half_width = int(_SMOOTH_S / 2 / column_s)
    level = _box(values, half_width)
    total = level.sum()
    if not total > 0:
        return []
    runs: list[list[int]] = []
    for column in np.flatnonzero(level >= level.mean() + level.std()):
        if runs and (column - runs[-1][1]) * column_s <= _JOIN_S + 1e-9:
            runs[-1][1] = int(column) + 1
        else:
            runs.append([int(column), int(column) + 1])
    masked = level * (level >= level.mean() + level.std())
    shares = [float(masked[start:stop].sum() / total) for start, stop in runs]
    segments = [
        [round(start * column_s, 3), round(min(stop * column_s, seconds), 3), round(share, 4)]
        for (start, stop), share in zip(runs, shares, strict=True)
    ]
    return sorted((run for run in segments if run[1] > run[0]), key=lambda run: -run[2])[:_MOST_PEAKS]


def row_maximum(pictures: Sequence[np.ndarray]) -> float:
    """Return the value of the strongest colour, shared by the arms: the 99th percentile of all cells."""
    cells = [picture[np.isfinite(picture)].ravel() for picture in pictures]
    values = np.concatenate(cells) if cells else np.zeros(0)
    if not values.size:
        return 0.0
    return float(np.quantile(values, 0.99)) or float(values.max())


def _choices(record: AttentionRecord) -> Iterator[tuple[str, list[int] | None, list[int] | None]]:
    """Yield (label, layers, heads) of each view: all, groups of layers, single layers, single heads."""
    layers, heads = record.rows.shape[1:3]
    yield "All layers and heads", None, None
    if layers >= 6:
        third = -(-layers // 3)
        yield "Early layers", list(range(third)), None
        yield "Middle layers", list(range(third, layers - third)), None
        yield "Late layers", list(range(layers - third, layers)), None
    if 1 < layers <= _MOST_SINGLE:
        for layer in range(layers):
            yield f"Layer {layer + 1}", [layer], None
    if record.heads == "all" and 1 < heads <= _MOST_SINGLE:
        for head in range(heads):
            yield f"Head {head + 1}", None, [head]


def _pictures(
    record: AttentionRecord,
    groups: Sequence[Span],
    layers: list[int] | None,
    heads: list[int] | None,
    columns: int,
    *,
    clean: bool,
) -> dict[str, np.ndarray]:
    pictures = {}
    for mode in MODES if clean else MODES[:2]:
        correction = "length" if mode.startswith("length") else "none"
        picture = heatmap(record, groups, layers, heads, correction, remove_sink=mode.endswith("clean"))  # type: ignore[arg-type]
        pictures[mode] = downsample(picture, columns).values
    return pictures


def _column_s(record: AttentionRecord, columns: int) -> float:
    return record.frame_s * -(-record.rows.shape[3] // columns)


def _packed(pictures: Mapping[str, np.ndarray]) -> dict[str, Any]:
    packed = {mode: pack(values) for mode, values in pictures.items()}
    for mode, other in (("length", "raw"), ("length_clean", "raw_clean")):
        if mode in packed and packed[mode]["data"] == packed[other]["data"]:
            packed[mode] |= {"data": None, "as": other}
    return packed


def _box(values: np.ndarray, half_width: int) -> np.ndarray:
    """Return the moving mean over ``2 half_width + 1`` columns along the last axis, shorter at the ends."""
    count = values.shape[-1]
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1, dtype=np.float64)], axis=-1)
    places = np.arange(count)
    low, high = np.maximum(0, places - half_width), np.minimum(count, places + half_width + 1)
    return (sums[..., high] - sums[..., low]) / (high - low)


def _lights(rows: np.ndarray, column_s: float, seconds: float) -> list[list[float]]:
    """Return ``[word, start_s, stop_s]`` of words above the threshold, with hysteresis, at most five at a time."""
    level = _box(np.nan_to_num(rows.astype(np.float64)), int(_SMOOTH_S / 2 / column_s))
    mean = level.mean(axis=1, keepdims=True)
    strength = np.divide(level, mean, out=np.zeros_like(level), where=mean > 0)
    lit: dict[int, int] = {}
    lights: list[list[float]] = []

    def switch_off(word: int, column: int) -> None:
        start = lit.pop(word)
        lights.append([word, round(start * column_s, 3), round(min(column * column_s, seconds), 3)])

    for column in range(strength.shape[1]):
        for word in [word for word in lit if strength[word, column] < _LIGHT_OFF]:
            switch_off(word, column)
        free_slots = _MOST_LIGHTS - len(lit)
        candidates = [int(w) for w in np.argsort(-strength[:, column])[: 2 * _MOST_LIGHTS] if w not in lit]
        for word in candidates[:free_slots]:
            if strength[word, column] >= _LIGHT_ON:
                lit[word] = column
    for word in list(lit):
        switch_off(word, strength.shape[1])
    return sorted(lights, key=lambda light: (light[1], light[0]))


def _thirds(course: np.ndarray) -> list[float]:
    third = max(1, len(course) // 3)
    return [float(course[:third].mean()), float(course[-third:].mean())]


def _rounded(course: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in course]


def _summary(rows: Sequence[Passage], shares: Sequence[float], by_row: Sequence[Any], mode: str) -> str:
    """Return a one-sentence summary of the picture, from its own numbers."""
    if not rows:
        return "The trace holds no words."
    highest, lowest = int(np.argmax(shares)), int(np.argmin(shares))

    def describe(index: int) -> str:
        share = shares[index]
        value = f"{100 * share:.0f} %" if mode == "raw" else f"{share:.2f} times an even spread"
        row_peaks = by_row[index][:1]
        peak_note = f", around {row_peaks[0][0]:.1f}–{row_peaks[0][1]:.1f} s" if row_peaks and index == highest else ""
        return f"{rows[index].name[0].lower()}{rows[index].name[1:]} ({value}{peak_note})"

    if len(rows) == 1:
        return f"Attends to the sound in {describe(0)}."
    return f"Attends to the sound most in {describe(highest)}, least in {describe(lowest)}."
