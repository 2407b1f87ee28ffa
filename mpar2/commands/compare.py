"""Ask several models, or one in several modes, about a recording, and print them side by side."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from mpar2.commands._arms import (
    add_arm_option,
    add_decoding_options,
    add_prompt_option,
    add_question_options,
    engine_of,
    print_summary,
    print_warnings,
    printable,
    read_arms,
    read_question,
    run_arms,
)
from mpar2.engines.as_json import generation_to_json
from mpar2.engines.names import BASE, TRAINED
from mpar2.prompts import mode_names

if TYPE_CHECKING:
    from mpar2.engines.base import Arm, Generation


def configure(parser: argparse.ArgumentParser) -> None:
    add_question_options(parser)
    add_prompt_option(parser)
    arms = parser.add_argument_group("the arms, two to four; the small pair where none are named")
    add_arm_option(arms, several=True)
    arms.add_argument(
        "--base", metavar="MODEL", help="one model asked directly, reasoning freely, with the MPAR² prompt"
    )
    for prefix, side, model, mode in (("", "left", *_LEFT), ("other-", "right", *_RIGHT)):
        arms.add_argument(
            f"--{prefix}model", help=f"of the {side} arm: short name, folder or hub id (default: {model})"
        )
        arms.add_argument(f"--{prefix}adapter", help="a LoRA adapter for it: folder or hub id")
        arms.add_argument(f"--{prefix}mode", choices=mode_names(), help=f"how it is asked (default: {mode})")
    add_decoding_options(parser)


def run(options: argparse.Namespace) -> int:
    clip, question, decoding = read_question(options)
    arms = _arms(options)
    generations = run_arms(
        clip, question, arms, decoding, engine_of(options, arms), attention=options.attention, live=not options.json
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


_MAX_ARMS = 4
_LEFT, _RIGHT = (BASE, "cot"), (TRAINED, "mpar2")
_SIDES = ("model", "adapter", "mode", "other_model", "other_adapter", "other_mode")


def _arms(options: argparse.Namespace) -> Sequence[Arm]:
    """Return the arms of ``--arm``, of ``--base``, or of the left and right options."""
    from mpar2.arms import ArmError, arms_of_base
    from mpar2.engines.base import Arm

    arms = read_arms(options, ("base", *_SIDES))
    if arms:
        if not 2 <= len(arms) <= _MAX_ARMS:
            raise ArmError(f"{len(arms)} arms are given: two to {_MAX_ARMS} fit side by side")
        return arms
    if options.base is not None:
        for name in _SIDES:
            if getattr(options, name) is not None:
                raise ArmError(f"--base and --{name.replace('_', '-')} both name arms: give one or the other")
        return [replace(arm, prompt=options.prompt) for arm in arms_of_base(options.base)]
    left = Arm("left", options.model or _LEFT[0], options.adapter, options.mode or _LEFT[1], prompt=options.prompt)
    model, adapter, mode = (getattr(options, f"other_{part}") for part in ("model", "adapter", "mode"))
    return [left, replace(left, name="right", model=model or _RIGHT[0], adapter=adapter, mode=mode or _RIGHT[1])]


def _title(generation: Generation) -> str:
    arm = generation.arm
    words = " + ".join(part for part in (arm.model, arm.adapter, arm.mode) if part)
    return words if arm.name in ("left", "right") else f"{arm.name} ({words})"


def _print_columns(generations: list[Generation]) -> None:
    gaps = 3 * (len(generations) - 1)
    width = max(30, (shutil.get_terminal_size((120, 40)).columns - gaps) // len(generations))
    columns = []
    for generation in generations:
        lines = [_title(generation), "-" * width]
        for paragraph in printable(generation.text).splitlines() or ["(no text)"]:
            lines += textwrap.wrap(paragraph, width) or [""]
        columns.append([line[:width] for line in lines])
    for row in zip_longest(*columns, fillvalue=""):
        print(" | ".join(f"{cell:<{width}}" for cell in row).rstrip())
