"""Tables of sound events with times (strong labels) as items: truth from real recordings.

==============  =====================================================================================================
kind            columns of its file
==============  =====================================================================================================
``desed``       TSV ``filename onset offset event_label``; a clip without events is one line with three empty fields
``audioset``    TSV ``segment_id start_time_seconds end_time_seconds label`` (a MID; names from
                ``mid_to_display_name.tsv``); with ``present``, NOT_PRESENT frames are certified absences
``tacos``       CSV ``filename,text,onset,offset``: events in words; generic ones ("background noise") are dropped
``maestro``     text without header ``start end label soft``, one file a recording: seconds at or above 0.5 are joined;
                ``extra["soft"]`` has the mean of their soft values, an entry for each event
``urbansed``    text without header ``start end label``, one file a recording (scaper's form, also of synthetic DESED)
==============  =====================================================================================================

Each clip becomes items with its ``events`` (``truth_origin`` "human"), its certified absences in ``extra["absent"]``,
and generated questions: which sound comes first, how often a sound occurs, and whether a sound is present. A label
missing from a clip counts as absent only if every clip was annotated with the same closed set of labels (not in
AudioSet, whose absences are certified, nor in TACOS, whose free-text labels name one sound in many ways).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mpar2.items.base import ItemsError
from mpar2.question import Event, Item, Question

__all__ = ["KINDS", "items_from_events"]

KINDS = ("desed", "audioset", "tacos", "maestro", "urbansed")
_GENERIC = {"background noise", "noise", "silence", "background", "ambient noise", "ambience"}
_GAP_S = 0.05  # events of one label with a smaller gap are merged


class _Row(NamedTuple):
    clip: str
    label: str | None  # None: the clip has no event
    onset: float
    offset: float
    present: bool = True
    soft: float = 1.0


def items_from_events(
    source: str | Path,
    kind: str,
    *,
    names: str | Path | None = None,
    audio_suffix: str = ".wav",
    window_s: float | None = None,
    durations: Mapping[str, float] | None = None,
) -> list[Item]:
    """Parse a table of events into items, clip by clip.

    Args:
        source: The file; for ``maestro`` and ``urbansed`` also a folder of files, one for each recording.
        kind: One of :data:`KINDS`.
        names: ``mid_to_display_name.tsv`` of AudioSet.
        audio_suffix: Suffix to append to clip names without one.
        window_s: Cut recordings into windows of that many seconds; ``NAME-START`` is the clip of each (START in s).
        durations: Duration of each recording in seconds by audio name, for windows; by default the last event's offset.

    Raises:
        ItemsError: The file is not of this kind; the message names file, line and field.
    """
    if kind not in KINDS:
        raise ItemsError(f"unknown kind of event table {kind!r}: choose one of {', '.join(KINDS)}")
    source = Path(source)
    if not source.exists():
        raise ItemsError(f"{source} does not exist: give the table of {kind}")
    # Collect the events and certified absences of each clip.
    rows_of_names = _cells(Path(names), "\t") if names else ()
    display_names = {cells[0]: cells[1] for cells in rows_of_names if len(cells) > 1}
    events: dict[str, list[Event]] = {}
    absent: dict[str, set[str]] = {}
    unsure: dict[str, set[str]] = {}  # labels that may be present
    soft: dict[str, dict[str, list[tuple[float, float]]]] = {}  # clip -> label -> (onset, value)
    for row in _rows(source, kind):
        events.setdefault(row.clip, [])
        absent.setdefault(row.clip, set())
        if row.label is None:
            continue
        label = display_names.get(row.label, row.label).replace("_", " ").strip()
        if kind == "tacos" and label.lower().strip(" .") in _GENERIC:
            continue
        if row.soft < 0.5:
            unsure.setdefault(row.clip, set()).add(label if row.soft > 0 else "")
        elif row.present:
            events[row.clip].append(Event(label, row.onset, row.offset))
            soft.setdefault(row.clip, {}).setdefault(label, []).append((row.onset, row.soft))
        else:
            absent[row.clip].add(label)
    if not events:
        raise ItemsError(f"{source} holds no event")
    # Questions need labels absent from a clip; only AudioSet lists absences.
    vocabulary = sorted({event.label for clip_events in events.values() for event in clip_events})
    closed = vocabulary if kind not in ("audioset", "tacos") else []
    items: list[Item] = []
    for clip, clip_events in events.items():
        merged = _merge_events(clip_events)
        confidences = [_mean_soft(event, soft[clip][event.label]) for event in merged]
        absent_labels = [label for label in closed if label not in unsure.get(clip, ())]
        length = (durations or {}).get(_audio_name(clip, audio_suffix)) or max((e.offset_s for e in merged), default=0)
        for name, window_events in _windows(clip, merged, window_s, length):
            extra = {"soft": [confidences[number] for number, _ in window_events]} if kind == "maestro" else {}
            items += _items(name, tuple(e for _, e in window_events), absent[clip], absent_labels, audio_suffix, extra)
    return items


def _windows(
    clip: str, events: tuple[Event, ...], window_s: float | None, length: float
) -> Iterator[tuple[str, list[tuple[int, Event]]]]:
    """Yield each window's name and its events, numbered as in the recording, in seconds from the window's start."""
    if window_s is None:
        yield clip, list(enumerate(events))
        return
    for start in (window_s * number for number in range(max(1, math.ceil(length / window_s - 1e-9)))):
        end = start + window_s
        window_events = [
            (number, Event(event.label, max(event.onset_s, start) - start, min(event.offset_s, end) - start))
            for number, event in enumerate(events)
            if event.onset_s < end and event.offset_s > start  # type: ignore[operator]
        ]
        yield f"{Path(clip).stem}-{start:g}", window_events


def _audio_name(clip: str, suffix: str) -> str:
    return clip if Path(clip).suffix in (".wav", ".flac", ".mp3", ".ogg") else clip + suffix


def _mean_soft(event: Event, values: list[tuple[float, float]]) -> float:
    """Return the mean soft value over the seconds of an event."""
    values_inside = [value for onset, value in values if event.onset_s <= onset < event.offset_s]  # type: ignore[operator]
    return round(sum(values_inside) / len(values_inside), 4)


def _rows(source: Path, kind: str) -> Iterator[_Row]:
    if kind in ("maestro", "urbansed"):
        for file in sorted(source.glob("*.txt")) if source.is_dir() else [source]:
            for number, cells in enumerate(_cells(file, "\t"), 1):
                where = f"{file}, line {number}"
                if len(cells) < (4 if kind == "maestro" else 3):
                    raise ItemsError(
                        f"{where}: {len(cells)} columns; start, end and label are needed, maestro's value too"
                    )
                soft = _number(cells[3], where, "soft") if kind == "maestro" else 1.0
                yield _timed_row(file.stem, cells[2], cells[0], cells[1], where)._replace(soft=soft)
        return
    table = list(_cells(source, "," if kind == "tacos" else "\t"))
    header = [cell.strip() for cell in table[0]] if table else []
    columns = {
        "desed": ("filename", "event_label", "onset", "offset"),
        "audioset": ("segment_id", "label", "start_time_seconds", "end_time_seconds"),
        "tacos": ("filename", "text", "onset", "offset"),
    }[kind]
    if missing := [name for name in columns if name not in header]:
        raise ItemsError(f"{source}: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
    for number, cells in enumerate(table[1:], 2):
        where, row = f"{source}, line {number}", dict(zip(header, cells, strict=False))
        clip, label, onset, offset = (row.get(name, "").strip() for name in columns)
        if not clip:
            raise ItemsError(f"{where}: '{columns[0]}' is empty")
        if not label and not onset and not offset:
            yield _Row(clip, None, 0.0, 0.0)
        else:
            present = row.get("present", "PRESENT").strip().upper() != "NOT_PRESENT"
            yield _timed_row(clip, label, onset, offset, where)._replace(present=present)


def _cells(file: Path, separator: str) -> Iterator[list[str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
            yield from (cells for cells in csv.reader(lines, delimiter=separator, quoting=quoting) if cells)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ItemsError(f"{file} cannot be read as a table: {error}") from None


def _timed_row(clip: str, label: str, onset: str, offset: str, where: str) -> _Row:
    if not label.strip():
        raise ItemsError(f"{where}: the label is empty")
    start, stop = _number(onset, where, "onset"), _number(offset, where, "offset")
    if stop < start or start < 0:
        raise ItemsError(f"{where}: the event ends at {stop:g} s and begins at {start:g} s")
    return _Row(clip, label.strip(), start, stop)


def _number(text: str, where: str, field: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ItemsError(f"{where}: '{field}' is {text!r}; a number is needed")
    return value


def _merge_events(events: list[Event]) -> tuple[Event, ...]:
    """Return events in order of onset; adjacent ones of one label are merged (labels of one-second frames)."""
    merged: list[Event] = []
    last: dict[str, int] = {}
    for event in sorted(events, key=lambda event: (event.onset_s, event.offset_s)):
        place = last.get(event.label)
        if place is not None and event.onset_s <= merged[place].offset_s + _GAP_S:  # type: ignore[operator]
            stop = max(merged[place].offset_s, event.offset_s)  # type: ignore[type-var]
            merged[place] = Event(event.label, merged[place].onset_s, stop)
        else:
            last[event.label] = len(merged)
            merged.append(event)
    return tuple(merged)


def _items(
    clip: str, events: tuple[Event, ...], certified: set[str], closed: list[str], suffix: str, extra: dict[str, Any]
) -> Iterator[Item]:
    """Yield the generated questions of one clip that its events can decide."""
    audio = _audio_name(clip, suffix)
    labels = list(dict.fromkeys(event.label for event in events))
    absent = sorted(certified - set(labels)) or [label for label in closed if label not in labels][:5]
    extra = extra | ({"absent": absent} if absent else {})

    def item(kind: str, text: str, choices: tuple[str, ...], answer: str) -> Item:
        return Item(
            f"{clip}-{kind}", audio, Question(text, choices, answer, "sound", kind), events, None, "human", extra
        )

    onsets = [event.onset_s for event in events]
    if len(labels) > 1 and onsets[0] != onsets[1]:
        choices = tuple(sorted(labels)[:5])
        if events[0].label not in choices:
            choices = (*choices[:-1], events[0].label)
        yield item("first", "Which sound starts first?", choices, events[0].label)
    if labels:
        chosen = max(labels, key=lambda label: sum(event.label == label for event in events))
        count = sum(event.label == chosen for event in events)
        numbers = tuple(str(number) for number in range(max(1, count - 1), max(1, count - 1) + 4))
        yield item("count", f"How many times does this sound occur: {chosen}?", numbers, str(count))
    if absent:
        yield item("absence", f"Is this sound in the recording: {absent[0]}?", ("yes", "no"), "no")
    if labels:
        yield item("presence", f"Is this sound in the recording: {labels[0]}?", ("yes", "no"), "yes")
