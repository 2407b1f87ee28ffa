"""Options of the app, and the services that they describe.

Environment, for hosts that start ``app.py`` themselves: ``MPAR2_BASE``, ``MPAR2_MODEL``, ``MPAR2_ADAPTER``,
``GRADIO_SERVER_NAME``, ``GRADIO_SERVER_PORT``, and ``MPAR2_`` with the name of a limit (``MPAR2_MAX_SECONDS``).
"""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command line; the environment gives their defaults."""
    from mpar2.commands._arms import add_precision_options, add_prompt_option
    from mpar2.engines import engine_names
    from mpar2.engines.names import TRAINED

    environment = os.environ.get
    host, port = environment("GRADIO_SERVER_NAME", "127.0.0.1"), int(environment("GRADIO_SERVER_PORT", "7860"))
    base, model = environment("MPAR2_BASE"), environment("MPAR2_MODEL")
    parser = argparse.ArgumentParser(prog="app.py", description="Compare two audio models in the browser.")
    parser.add_argument(
        "--arm",
        action="append",
        metavar="NAME=MODEL[+ADAPTER][:MODE]",
        help="an arm of the comparison; give up to four (instead of --base, --model and --adapter)",
    )
    parser.add_argument("--base", default=base, help="a model, which alone is compared with itself in all modes")
    parser.add_argument("--model", default=model, help=f"arm B (default: {TRAINED}; with --adapter, arm A's model)")
    parser.add_argument("--adapter", default=environment("MPAR2_ADAPTER"), help="LoRA adapter of arm B")
    parser.add_argument("--engine", choices=engine_names(), default="transformers", help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")
    add_precision_options(parser)
    add_prompt_option(parser)
    parser.add_argument("--host", default=host, help="default: %(default)s")
    parser.add_argument("--port", type=int, default=port, help="default: %(default)s")
    parser.add_argument("--mcp", action="store_true", help="serve the endpoints as tools for language models too (MCP)")
    parser.add_argument("--examples", type=Path, help="folder of examples (default: examples/)")
    limits = parser.add_argument_group("limits", "Each can be set in the environment too: MPAR2_MAX_SECONDS and so on.")
    for name, maximum, default, meaning in _LIMITS:
        value = environment("MPAR2_" + name.replace("-", "_").upper(), default)
        kind = _whole_number(name, 0 if name in _MAY_BE_0 else 1, maximum)
        limits.add_argument(f"--{name}", type=kind, default=value, metavar="N", help=meaning)
    options = parser.parse_args(arguments)
    if options.mcp and find_spec("mcp") is None:
        parser.error("--mcp needs the package mcp: pip install 'gradio[mcp]'")
    if options.runs_per_hour is None:
        options.runs_per_hour = 0 if is_local(options.host) else PUBLIC_RUNS_PER_HOUR
    return options


PUBLIC_RUNS_PER_HOUR = 60
_LIMITS = (  # name, the most that it can be set to, default, meaning
    ("max-upload-mb", 1000, "20", "largest upload, in MB (default: %(default)s)"),
    ("max-seconds", 1800, "60", "longest clip, in seconds (default: %(default)s)"),
    ("max-question", 1000, "1000", "longest question, in characters (default: %(default)s)"),
    ("max-choices", 26, "26", "most choices (default: %(default)s)"),
    ("max-choice", 300, "300", "longest choice, in characters (default: %(default)s)"),
    ("max-new-tokens", 16_384, "512", "longest trace, in tokens (default: %(default)s)"),
    ("queue", 10_000, "32", "how many requests may wait (default: %(default)s)"),
    ("keep-results", 525_600, "60", "minutes that a stored result is kept in memory; 0: never (default: %(default)s)"),
    ("runs-per-hour", 1_000_000, None, f"runs of one visitor (default: {PUBLIC_RUNS_PER_HOUR} in public; 0: no limit)"),
)
_MAY_BE_0 = ("keep-results", "runs-per-hour")


def _whole_number(name: str, minimum: int, maximum: int) -> Any:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = -1
        if not minimum <= number <= maximum:
            raise argparse.ArgumentTypeError(f"{name} is {text!r}: give a whole number from {minimum} to {maximum:,}")
        return number

    return read


def is_local(host: str) -> bool:
    """Return whether only this machine can reach an app that listens on ``host``."""
    return host in ("127.0.0.1", "localhost", "::1") and not os.environ.get("SPACE_ID")


def build_services(options: argparse.Namespace) -> Any:
    """Build the services of the app from the options."""
    from mpar2.engines.base import Arm, EngineOptions
    from mpar2.engines.routing import engine_for_arms
    from mpar2.formats import Limits
    from mpar2.prompts import mode_names, prompt_identity
    from pages.examples import EXAMPLES, first_example, load_examples
    from pages.limits import VisitorLimits
    from pages.services import Services

    for mode in mode_names():
        prompt_identity(mode, options.prompt)  # raises for an invalid prompt
    root = options.examples or EXAMPLES
    examples = load_examples(root)
    offers, arms = _offers(options)
    engine_options = EngineOptions(device=options.device, dtype=options.dtype, quantize=options.quantize)
    return Services(
        engine=engine_for_arms([Arm(offer.name, offer.model) for offer in offers], options.engine, engine_options),
        offers=offers,
        arms=arms,
        examples=examples,
        first_example=first_example(examples, root),
        limits=Limits(max_seconds=options.max_seconds, max_bytes=options.max_upload_mb * 1_000_000),
        max_new_tokens=options.max_new_tokens,
        prompt=options.prompt,
        local=is_local(options.host),
        keep_results_min=options.keep_results,
        visitors=VisitorLimits(
            question_chars=options.max_question,
            choices=options.max_choices,
            choice_chars=options.max_choice,
            queue=options.queue,
            runs_per_hour=options.runs_per_hour,
        ),
    )


def _offers(options: argparse.Namespace) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """Return the checkpoints on offer, no two of one name, and the arms that a comparison begins with."""
    from mpar2.arms import ArmError, parse_arm, short_name, unique_names
    from mpar2.engines.base import Arm
    from mpar2.engines.names import BASE, TRAINED
    from pages.document import MOST_ARMS
    from pages.services import Offer

    if options.arm:
        if options.model or options.adapter:
            raise ArmError("--arm stands for itself: give no --model and no --adapter beside it")
        if not 1 <= len(options.arm) <= MOST_ARMS:
            raise ArmError(f"{len(options.arm)} arms are given; the most that are compared at once is {MOST_ARMS}")
        arms = [parse_arm(text) for text in options.arm]
    elif options.base and not (options.model or options.adapter):
        arms = [Arm(short_name(options.base), options.base, None, mode) for mode in ("direct", "cot", "mpar2")]
    else:
        base = options.base or BASE
        trained = options.model or (base if options.adapter else TRAINED)
        arms = [Arm(short_name(base), base, None, "direct"), Arm(short_name(base), base, None, "cot")]
        arms.append(Arm(short_name(options.adapter or trained), trained, options.adapter, "mpar2"))
    models = list(dict.fromkeys((arm.name, arm.model, arm.adapter) for arm in arms))
    unique_arms = unique_names([Arm(name, model, adapter, "mpar2") for name, model, adapter in models])
    names = {model: arm.name for model, arm in zip(models, unique_arms, strict=True)}
    offers = tuple(Offer(arm.name, arm.model, arm.adapter) for arm in unique_arms)
    return offers, tuple((names[arm.name, arm.model, arm.adapter], arm.mode) for arm in arms)
