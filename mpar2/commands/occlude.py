"""Find where in a recording an answer rests: silence one window at a time, and see how the answer changes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mpar2.commands._arms import (
    add_engine_options,
    add_model_options,
    add_question_options,
    engine_of,
    printable,
    read_arm,
)

_BAR = 40


def configure(parser: argparse.ArgumentParser) -> None:
    add_question_options(parser)
    add_model_options(parser)
    parser.add_argument("--text", type=Path, metavar="FILE", help="a trace to explain; by default the model writes one")
    parser.add_argument("--windows", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--fill", choices=("silence", "noise"), default="silence", help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="windows at a time")
    parser.add_argument("--max-new-tokens", type=int, default=512, metavar="N")
    add_engine_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(options: argparse.Namespace) -> int:
    from mpar2.audio import load_clip
    from mpar2.engines.base import Decoding, EngineError, Request
    from mpar2.occlusion import attention_agreement, occlude
    from mpar2.question import make_question

    clip, question = load_clip(options.audio), make_question(options.question, options.choice)
    arm = read_arm(options)
    engine = engine_of(options, [arm])
    decoding = Decoding(max_new_tokens=options.max_new_tokens)
    # The text: from a file, or generated first.
    if options.text is None:
        (generation,) = engine.generate_batch([Request(clip, question, arm)], decoding)
        text = generation.text
    else:
        try:
            text = options.text.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EngineError(f"--text {options.text}: {error}") from error

    def report(done: int, total: int) -> None:
        print(f"\r{done} of {total} passes", end="" if done < total else "\n", file=sys.stderr, flush=True)

    result = occlude(
        engine,
        clip,
        question,
        arm,
        text,
        windows=options.windows,
        fill=options.fill,
        batch_size=options.batch_size,
        decoding=decoding,
        report=report,
    )
    # Agreement with attention, if the engine can record it.
    rho = None
    if engine.engine_for(arm).attention:
        reread = engine.attend(clip, question, arm, text)
        if reread.attention is not None:
            rho = attention_agreement(result, reread.attention, [token.chars for token in reread.tokens])
    if options.json:
        print(json.dumps(result.to_json() | {"text": text, "agreement_with_attention": rho}, ensure_ascii=False))
        return 0
    span = result.spans[0]
    print(f"answer: {printable(text[span.start : span.stop])}")
    print(f"{result.measure} of the answer, and how it falls with each window as {result.fill}:")
    # One bar per window, scaled to the largest drop.
    largest = max((abs(drop) for drop in result.drops[0]), default=0.0) or 1.0
    for start, stop, drop in zip(result.edges[:-1], result.edges[1:], result.drops[0], strict=True):
        print(f"{start:6.2f}-{stop:6.2f} s  {drop:+8.3f}  {'#' * round(_BAR * max(drop, 0.0) / largest)}")
    print(f"agreement with attention: {'not known' if rho is None else f'{rho:+.2f} (rank correlation)'}")
    return 0
