"""Evaluate arms on a benchmark. An interrupted run is resumed by the same command."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mpar2.commands._arms import add_arm_option, add_precision_options, add_prompt_option
from mpar2.engines import engine_names
from mpar2.items import benchmark_names
from mpar2.prompts import mode_names

if TYPE_CHECKING:
    from mpar2.arms import EvaluationArm
    from mpar2.engines.base import EngineOptions

_JSONL = """\
questions of your own (--benchmark jsonl), one JSON object a line:
  {"audio": "1.wav", "question": "Which is first?", "choices": ["a bell", "a dog"], "answer": "a bell"}
  needed: audio (relative to the file, or to --audio-root) and question
  known:  id, choices, answer (a choice, or its letter), caption, domain, category, sub_category, difficulty,
          events: [{"label": "a bell", "onset_s": 0.5, "offset_s": 1.2}]
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, _JSONL
    items = parser.add_argument_group("items")
    items.add_argument("--benchmark", required=True, choices=benchmark_names())
    items.add_argument("--data", required=True, metavar="PATH", help="its question file, or a folder with items.jsonl")
    items.add_argument("--audio-root", metavar="DIR", help="where its audio is (default: beside the question file)")
    items.add_argument("--limit", type=int, metavar="N", help="the first N items only")
    arm = parser.add_argument_group("the arms")
    add_arm_option(arm, several=True)
    arm.add_argument("--arms", metavar="FILE.yaml", help="several arms over the same items (mpar2.arms has the form)")
    arm.add_argument("--base", metavar="MODEL", help="one model in three arms: direct, free reasoning, MPAR² prompt")
    arm.add_argument("--model", help="short name, folder, hub id, or the name under which a server has it")
    arm.add_argument("--adapter", help="a LoRA adapter for it: folder or hub id")
    add_prompt_option(arm)
    arm.add_argument(
        "--mode", choices=mode_names(), help="how it is asked: at once, reasoning freely, in the MPAR² form (default)"
    )
    arm.add_argument("--name", help="the arm's name in tables (default: model and mode)")
    arm.add_argument(
        "--samples", type=int, metavar="K", help="answers of each item (default: 1); majorities are scored"
    )
    control = parser.add_argument_group("controls of an arm; a file of arms can set each of them too")
    control.add_argument(
        "--audio", choices=("normal", "silent", "shuffled"), help="input audio; shuffled: another item's recording"
    )
    control.add_argument(
        "--perception", choices=("own", "oracle"), help="oracle: the prompt holds the true events or the caption"
    )
    control.add_argument(
        "--max-reasoning-tokens",
        type=int,
        metavar="N",
        help="forced length: who still reasons after N tokens is cut short and made to answer (transformers)",
    )
    control.add_argument(
        "--min-reasoning-tokens",
        type=int,
        metavar="N",
        help="forced length: who would answer before N tokens is made to reason on (transformers)",
    )
    control.add_argument(
        "--hide-audio-after",
        type=_tokens_or_share,
        metavar="N|P%",
        help="mask the audio after N generated tokens, or after a share of the trace such as 50%% (transformers)",
    )
    decoding = parser.add_argument_group("decoding; values in the file of arms go first")
    decoding.add_argument("--max-new-tokens", type=int, metavar="N", help="default: 512")
    decoding.add_argument("--temperature", type=float, help="0, the default, is greedy")
    decoding.add_argument("--top-p", type=float)
    decoding.add_argument("--top-k", type=int)
    decoding.add_argument("--repetition-penalty", type=float)
    decoding.add_argument("--seed", type=int, default=0, help="what all randomness starts from (default: 0)")
    engine = parser.add_argument_group("what runs the model")
    engine.add_argument("--engine", choices=engine_names(), default="transformers")
    engine.add_argument("--device", help="transformers: cpu, cuda or mps; by default the best there is")
    add_precision_options(engine)
    engine.add_argument("--batch-size", type=int, default=8, metavar="N", help="transformers: answers at a time")
    engine.add_argument(
        "--attention-share",
        type=float,
        default=0.0,
        metavar="P",
        help="transformers: the share of items whose attention to audio is recorded, from 0 to 1",
    )
    engine.add_argument(
        "--base-url",
        action="append",
        default=[],
        metavar="URL",
        help="server: an address that ends in /v1; give the option once for each of several",
    )
    engine.add_argument("--in-flight", type=int, metavar="N", help="requests at once, at each address")
    engine.add_argument(
        "--audio-as",
        choices=("audio_url", "input_audio"),
        default="audio_url",
        help="server: how audio is sent first; where it is refused, the other form is tried once and kept",
    )
    engine.add_argument(
        "--fields",
        choices=("all", "openai"),
        default="all",
        help="server: openai leaves out top_k and repetition_penalty, which OpenAI and transformers serve refuse",
    )
    engine.add_argument(
        "--skip-audio-check",
        "--trust-hearing",
        dest="skip_audio_check",
        action="store_true",
        help="server: do not check whether audio arrives at the model",
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="the run's folder; made if it is not there")


def _tokens_or_share(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def run(options: argparse.Namespace) -> int:
    from mpar2.engines.routing import engine_for_arms
    from mpar2.evaluation import Settings, engine_settings, evaluate
    from mpar2.items import read_items

    items = read_items(options.benchmark, options.data, options.audio_root).first(options.limit)
    # One process of several (torchrun, accelerate), or the only one.
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 and os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true"):
        _say(
            "note: one process works: accelerate starts several on GPUs only; on CPUs run "
            "torchrun --nproc-per-node 2 -m mpar2.cli evaluate ..."
        )
    _say(f"{items.benchmark} ({items.version}): {len(items.items)} items")
    for problem in items.problems:
        _say(f"note: {problem}")
    engine_options = _engine_options(options, world)
    settings = Settings(
        seed=options.seed,
        engine=engine_settings(options.engine, engine_options),
        attention_share=options.attention_share,
        batch_size=options.batch_size,
        rank=rank,
        world=world,
        command=("mpar2", *sys.argv[1:]),
    )
    # Arms, their engine, and the run.
    arms = _arms(options)
    engine = engine_for_arms([arm.arm for arm in arms], options.engine, engine_options)
    try:
        with _terminable(), _notes(), _progress(hidden=rank > 0) as report:
            metrics = evaluate(items, arms, engine, options.out, settings, report)
    except KeyboardInterrupt:
        _say(f"stopped; what is done is in {options.out}, and the same command goes on from there")
        return 130
    if metrics is None:
        _say("this process is done; the last one writes the metrics")
        return 0
    _print_table(metrics)
    print(f"\n{Path(options.out) / 'metrics.json'}")
    # Failures count as wrong; exit status 1 reports them to scripts.
    failed = sum(arm["failed"] for arm in metrics["arms"].values())
    if failed:
        _say(f"{failed} answers failed, and count as wrong; the same command tries them again. Reasons:")
        for name, arm in metrics["arms"].items():
            for reason, count in arm["reasons"].items():
                _say(f"  {name}: {count} x {reason}")
    return 1 if failed else 0


_SINGLE = ("model", "adapter", "mode")


def _arms(options: argparse.Namespace) -> Sequence[EvaluationArm]:
    """Return the arms of ``--arm``, a file, ``--base``, or ``--model``; other options apply to all of them."""
    from mpar2.arms import ArmError, arm_from_json, arms_of_base, load_arms, parse_arms

    names = ("prompt", "samples", "audio", "perception")
    names += ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty")
    names += ("max_reasoning_tokens", "min_reasoning_tokens", "hide_audio_after")
    settings = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    sources = (("--arm", options.arm), ("--arms", options.arms), ("--base", options.base))
    used_sources = [source for source, value in sources if value]
    if len(used_sources) > 1:
        raise ArmError(f"{used_sources[0]} and {used_sources[1]} both name arms: give one or the other")
    for name in ("name", *_SINGLE):
        if used_sources and getattr(options, name) is not None:
            raise ArmError(
                f"--{name} belongs to a single arm, and {used_sources[0]} names arms with theirs: give one or the other"
            )
    if options.arms is not None:
        return load_arms(options.arms, **settings)
    if used_sources:
        return [
            arm_from_json({"name": a.name, "model": a.model, "adapter": a.adapter, "mode": a.mode} | settings)
            for a in (parse_arms(options.arm) if options.arm else arms_of_base(options.base))
        ]
    if options.model is None:
        raise ArmError("no model is given: use --model, --base, --arm, or --arms with a file")
    single = {name: getattr(options, name) for name in _SINGLE if getattr(options, name) is not None}
    stem = Path(options.model).name
    name = options.name or " ".join(
        [stem, *([Path(options.adapter).name] if options.adapter else []), options.mode or "mpar2"]
    )
    return [arm_from_json({"name": name} | single | settings)]


def _engine_options(options: argparse.Namespace, world: int) -> EngineOptions:
    from mpar2.commands._arms import quiet_libraries
    from mpar2.engines.base import EngineOptions

    device = options.device
    if options.engine == "transformers":
        quiet_libraries()
        if device is None and world > 1:
            import torch

            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else None
    return EngineOptions(
        device=device,
        dtype=options.dtype,
        quantize=options.quantize,
        base_urls=tuple(options.base_url),
        in_flight=options.in_flight,
        audio_as=options.audio_as,
        fields=options.fields,
        check_audio=not options.skip_audio_check,
    )


@contextmanager
def _notes() -> Iterator[None]:
    """Print the engines' notes about servers on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    logger = logging.getLogger("mpar2.engines")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def _terminable() -> Iterator[None]:
    """Handle SIGTERM (a cluster's time limit) like Ctrl-C."""

    def stop(signum: int, frame: FrameType | None) -> None:
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):  # asyncio's own handler cancels the running tasks
            interrupt(signal.SIGINT, frame)
        else:  # the shell lets a background job ignore Ctrl-C
            raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


@contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[int, int, int], None]]:
    """Show progress, rate and remaining time on stderr: a progress bar, or occasional lines in a log."""
    from tqdm import tqdm

    with tqdm(
        unit="answer", disable=hidden, mininterval=0.5 if sys.stderr.isatty() else 30.0, dynamic_ncols=True
    ) as bar:

        def report(done: int, total: int, failed: int) -> None:
            if bar.total is None:
                bar.total, bar.initial, bar.n = total, done, done  # the rate counts from this start
                bar.refresh()
            if failed:
                bar.set_postfix(failed=failed, refresh=False)
            bar.update(done - bar.n)

        yield report


def _print_table(metrics: dict[str, Any]) -> None:
    width = max(len(name) for name in metrics["arms"])
    counted = "in form  no answer found  no choice named  missing  tokens"
    print(f"{'arm':<{width}}  official [95 %]       answered only  strict   {counted}")
    for name, arm in metrics["arms"].items():
        official = arm["official"]
        print(
            f"{name:<{width}}  {_percent(official['estimate']):>7} "
            f"{'[' + _percent(official['low']) + ', ' + _percent(official['high']) + ']':<16}"
            f"{_percent(arm['official_denominator']['estimate']):>11}  {_percent(arm['strict']['estimate']):>10}  "
            f"{_percent((arm['form'] or {}).get('estimate')):>7}  {arm['no_answer']:>15}  {arm['wrong_form']:>15}  "
            f"{arm['missing']:>7}  "
            f"{'-' if arm['tokens']['mean'] is None else format(arm['tokens']['mean'], '.0f'):>6}"
        )
    baseline = next(iter(metrics["arms"]))
    for pair in metrics["pairs"]:  # metrics.json has the other pairs too
        difference = pair["difference"]
        first, second = pair["arms"]
        if first != baseline or difference["low"] is None:
            continue
        print(
            f"{second} - {first}: {difference['estimate'] * 100:+.1f} points "
            f"[{difference['low'] * 100:+.1f}, {difference['high'] * 100:+.1f}], p = {difference['p_value']:.3g}, "
            f"on {pair['items']} items"
        )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f} %"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
