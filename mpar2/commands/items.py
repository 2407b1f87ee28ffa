"""Make question files of real recordings from tables of sound events (exact truth) and sets of captions."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    from mpar2.items import captions as caption_sets
    from mpar2.items.events import KINDS

    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    events = tasks.add_parser("from-events", help="strong labels (who sounds when) to items with generated questions")
    events.add_argument("file", metavar="FILE", help="the table; a folder of tables for maestro and urbansed")
    events.add_argument("--kind", required=True, choices=KINDS, help="what the table is of")
    events.add_argument("--names", metavar="TSV", help="AudioSet's mid_to_display_name.tsv")
    events.add_argument("--audio-suffix", default=".wav", metavar="EXT", help="of clips named without one (.wav)")
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
    from mpar2.items.events import items_from_events
    from mpar2.question import item_to_json
    from mpar2.runs.lines import dump_json, write_bytes

    if options.task == "from-events":
        items = items_from_events(options.file, options.kind, names=options.names, audio_suffix=options.audio_suffix)
    else:
        items = items_from_captions(options.file, options.kind, audio_name=options.audio_name)
    write_bytes(options.out, b"".join(dump_json(item_to_json(item)) + b"\n" for item in items))
    clips = len({item.audio for item in items})
    print(f"{len(items)} items of {clips} clips: {options.out} (mpar2 evaluate --benchmark jsonl --data {options.out})")
    return 0
