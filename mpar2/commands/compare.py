"""Ask two models, or one in two modes, about a recording, and print both side by side."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING

from mpar2.commands._arms import (
    MODES,
    add_decoding_options,
    add_question_options,
    engine_of,
    print_summary,
    print_warnings,
    printable,
    read_question,
    run_arms,
)
from mpar2.engines.as_json import generation_to_json

if TYPE_CHECKING:
    from mpar2.engines.base import Generation

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_question_options(parser)
    for side, model, mode in (("left", "tiny-base", "cot"), ("right", "tiny-mpar2", "mpar2")):
        group = parser.add_argument_group(f"the {side} arm")
        prefix = "" if side == "left" else "other-"
        group.add_argument(
            f"--{prefix}model", default=model, help="short name, folder or hub id (default: %(default)s)"
        )
        group.add_argument(f"--{prefix}adapter", help="a LoRA adapter for it: folder or hub id")
        group.add_argument(
            f"--{prefix}mode", choices=MODES, default=mode, help="how it is asked (default: %(default)s)"
        )
    add_decoding_options(parser)


def run(options: argparse.Namespace) -> int:
    from mpar2.engines.base import Arm

    clip, question, decoding = read_question(options)
    arms = [
        Arm("left", options.model, options.adapter, options.mode),
        Arm("right", options.other_model, options.other_adapter, options.other_mode),
    ]
    generations = run_arms(
        clip, question, arms, decoding, engine_of(options), attention=options.attention, live=not options.json
    )
    print_warnings(clip, generations)
    if options.json:
        report = {
            "audio": clip.source,
            "question": question.text,
            "choices": list(question.choices),
            "arms": [generation_to_json(generation) for generation in generations],
        }
        print(json.dumps(report, ensure_ascii=False))
        return 0
    _print_columns(generations)
    for generation in generations:
        print(f"\n{_title(generation)}")
        print_summary(generation, question)
    return 0


def _title(generation: Generation) -> str:
    arm = generation.arm
    return " + ".join(part for part in (arm.model, arm.adapter, arm.mode) if part)


def _print_columns(generations: list[Generation]) -> None:
    width = max(30, (shutil.get_terminal_size((120, 40)).columns - 3) // 2)
    columns = []
    for generation in generations:
        lines = [_title(generation), "-" * width]
        for paragraph in printable(generation.text).splitlines() or ["(no text)"]:
            lines += textwrap.wrap(paragraph, width) or [""]
        columns.append([line[:width] for line in lines])
    for left, right in zip_longest(*columns, fillvalue=""):
        print(f"{left:<{width}} | {right}".rstrip())
