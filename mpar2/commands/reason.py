"""Ask one model about a recording, and print its reasoning."""

from __future__ import annotations

import argparse
import json

from mpar2.commands._arms import (
    add_decoding_options,
    add_model_options,
    add_question_options,
    engine_of,
    print_summary,
    print_warnings,
    read_arm,
    read_question,
    run_arms,
)
from mpar2.engines.as_json import generation_to_json


def configure(parser: argparse.ArgumentParser) -> None:
    add_question_options(parser)
    add_model_options(parser)
    add_decoding_options(parser)


def run(options: argparse.Namespace) -> int:
    clip, question, decoding = read_question(options)
    arm = read_arm(options)
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
