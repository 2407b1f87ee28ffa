"""Ask one model about a recording, and print its reasoning."""

from __future__ import annotations

import argparse
import json

from mpar2.commands._arms import (
    add_arm_option,
    add_decoding_options,
    add_prompt_option,
    add_question_options,
    engine_of,
    print_summary,
    print_warnings,
    read_arms,
    read_question,
    run_arms,
)
from mpar2.engines.as_json import generation_to_json
from mpar2.prompts import mode_names

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_question_options(parser)
    add_prompt_option(parser)
    add_arm_option(parser, several=False)
    parser.add_argument("--model", help="short name, folder or hub id (default: tiny-mpar2)")
    parser.add_argument("--adapter", help="a LoRA adapter for it: folder or hub id")
    parser.add_argument("--mode", choices=mode_names(), help="how it is asked (default: mpar2)")
    add_decoding_options(parser)


def run(options: argparse.Namespace) -> int:
    from mpar2.arms import ArmError
    from mpar2.engines.base import Arm

    clip, question, decoding = read_question(options)
    arms = read_arms(options, ("model", "adapter", "mode"))
    if len(arms) > 1:
        raise ArmError("reason asks one arm: use mpar2 compare for several")
    model = options.model or "tiny-mpar2"
    arm = arms[0] if arms else Arm(model, model, options.adapter, options.mode or "mpar2", prompt=options.prompt)
    (generation,) = run_arms(
        clip, question, [arm], decoding, engine_of(options, [arm]), attention=options.attention, live=not options.json
    )
    print_warnings(clip, [generation])
    if options.json:
        warnings = list(dict.fromkeys((*clip.warnings, *generation.warnings)))
        print(json.dumps(generation_to_json(generation) | {"warnings": warnings}, ensure_ascii=False))
        return 0
    print("\n")
    print_summary(generation, question)
    return 0
