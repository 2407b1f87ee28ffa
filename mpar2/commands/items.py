"""Make question files of real recordings from tables of sound events (exact truth) and sets of captions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpar2.question import Item


def configure(parser: argparse.ArgumentParser) -> None:
    from mpar2.items import captions as caption_sets
    from mpar2.items.events import KINDS

    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    events = tasks.add_parser("from-events", help="strong labels (who sounds when) to items with generated questions")
    events.add_argument("file", metavar="FILE", help="the table; a folder of tables for maestro and urbansed")
    events.add_argument("--kind", required=True, choices=KINDS, help="what the table is of")
    events.add_argument("--names", metavar="TSV", help="AudioSet's mid_to_display_name.tsv")
    events.add_argument("--audio-suffix", default=".wav", metavar="EXT", help="of clips named without one (.wav)")
    events.add_argument(
        "--window", type=float, metavar="SECONDS", help="cut recordings of minutes (maestro) into windows, audio too"
    )
    events.add_argument("--audio-root", type=Path, metavar="DIR", help="where the recordings to cut are")
    captions = tasks.add_parser("from-captions", help="captions that people wrote to items with an open question each")
    captions.add_argument("file", metavar="FILE", help="the captions; a folder of files for mecat")
    captions.add_argument("--kind", required=True, choices=caption_sets.KINDS, help="what the captions are of")
    captions.add_argument(
        "--audio-name",
        metavar="PATTERN",
        help="how its audio files are named; by default "
        + ", ".join(f"{name} for {kind}" for kind, name in caption_sets.AUDIO_NAMES.items()),
    )
    for task in (events, captions):
        task.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="for --benchmark jsonl")


def run(options: argparse.Namespace) -> int:
    from mpar2.items.captions import items_from_captions
    from mpar2.question import item_to_json
    from mpar2.runs.lines import write_lines

    if options.task == "from-events":
        items = _window_items(options) if options.window is not None else _whole_items(options)
    else:
        items = items_from_captions(options.file, options.kind, audio_name=options.audio_name)
    write_lines(options.out, map(item_to_json, items))
    clips = len({item.audio for item in items})
    print(f"{len(items)} items of {clips} clips: {options.out} (mpar2 evaluate --benchmark jsonl --data {options.out})")
    return 0


def _whole_items(options: argparse.Namespace, **windows: Any) -> list[Item]:
    from mpar2.items.events import items_from_events

    return items_from_events(
        options.file, options.kind, names=options.names, audio_suffix=options.audio_suffix, **windows
    )


def _window_items(options: argparse.Namespace) -> list[Item]:
    """Cut the recordings into windows beside the question file (mono, 16 kHz) and return their items."""
    from dataclasses import replace

    from mpar2.audio import SAMPLE_RATE, Clip, Limits, load_clip, wav_bytes
    from mpar2.items import ItemsError
    from mpar2.runs.lines import write_bytes

    if options.audio_root is None or options.window < 1:
        raise ItemsError("--window needs at least 1 second, and --audio-root with the recordings to cut")
    recordings = sorted({item.audio for item in _whole_items(options)})
    if missing := [name for name in recordings if not (options.audio_root / name).is_file()]:
        raise ItemsError(
            f"{len(missing)} of {len(recordings)} recordings are not in {options.audio_root}: {missing[0]}"
        )
    limits = Limits(max_seconds=3600.0, max_bytes=1_000_000_000, max_decoded_samples=2_000_000_000)
    folder, durations = options.out.parent / "windows", {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in recordings:
        clip = load_clip(options.audio_root / name, limits=limits)
        durations[name] = clip.seconds
        for start in range(0, len(clip.samples), int(options.window * SAMPLE_RATE)):
            piece = clip.samples[start : start + int(options.window * SAMPLE_RATE)]
            path = folder / f"{Path(name).stem}-{start / SAMPLE_RATE:g}{options.audio_suffix}"
            write_bytes(path, wav_bytes(Clip(piece)))
    items = _whole_items(options, window_s=options.window, durations=durations)
    return [replace(item, audio=f"windows/{item.audio}") for item in items]
