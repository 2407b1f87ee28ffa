"""Draw what runs measured: one self-contained page with every figure, table and manifest.

The command ``mpar2 report``, which the entry point group ``mpar2.commands`` names.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from analysis.choice import BINNINGS, FILTERS, LENGTHS, choice_from
from analysis.exhibits import EXHIBITS
from analysis.metrics import METRICS
from analysis.report import write_report


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``mpar2 report`` to its parser."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, zips of them, or items.jsonl files")
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="default: report.html"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="write every table there too, as CSV and Parquet")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help=f"this figure only; give it once for each: {', '.join(EXHIBITS)}",
    )
    parser.add_argument("--judge", metavar="NAME", help="whose scores to take where a run has several")
    parser.add_argument(
        "--paper", metavar="DIR", help="the paper's arXiv source: each number of its tables beside these runs"
    )
    parser.add_argument(
        "--audio-need",
        metavar="PATH",
        help="answers of other models without the audio, joined by id for --needs-audio: the published ones of arXiv "
        "2604.24401 (folder), or lines {id, needs_audio}; without it, arms with --audio silent decide",
    )
    group = parser.add_argument_group("what is drawn")
    group.add_argument(
        "--arm", action="append", dest="arms", metavar="NAME", help="these arms only; the first is the base"
    )
    group.add_argument("--metric", metavar="NAME", help=f"default: accuracy; one of {', '.join(METRICS)}")
    group.add_argument("--length", choices=tuple(LENGTHS), help="what counts as length (default: tokens)")
    group.add_argument("--binning", choices=tuple(BINNINGS), help="bins of equal count (default) or equal width")
    group.add_argument("--bins", type=int, metavar="N", help="default: 8")
    group.add_argument("--outcome", choices=("all", "right", "wrong"), help="of the answers (default: all)")
    for name in (name.replace("_", "-") for name in FILTERS):
        group.add_argument(f"--{name}", action="append", metavar="VALUE", help=f"items of this {name} only")


def run(options: argparse.Namespace) -> int:
    """Write the report, print the reading of each figure, and return the exit code."""
    exhibits = write_report(
        options.runs,
        options.out,
        choice_from(vars(options) | {"filters": {name: getattr(options, name) or () for name in FILTERS}}),
        only=options.only,
        judge=options.judge,
        data_folder=options.data,
        paper=options.paper,
        audio_need=options.audio_need,
    )
    for exhibit in exhibits:
        print(f"{exhibit.title}\n  {exhibit.reading}\n")
    print(options.out)
    if options.data is not None and find_spec("pyarrow") is None:
        print("note: the tables are there as CSV only; Parquet needs 'pip install pyarrow'", file=sys.stderr)
    return 0
