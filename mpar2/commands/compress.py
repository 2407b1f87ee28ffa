"""Compress a finished run in place: every command still reads it, at about a tenth of its size."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")


def run(options: argparse.Namespace) -> int:
    from mpar2.runs import compress_run

    for folder in options.runs:
        before, after = compress_run(folder)
        print(f"{folder}: {before / 1e6:.1f} MB -> {after / 1e6:.1f} MB")
    return 0
