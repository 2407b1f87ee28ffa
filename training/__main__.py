"""``python -m training sft|grpo --recipe NAME [--resume] [out=FOLDER] [key=value …]`` and related commands.

reproduce   the paper's pipeline by one plan: data, captions, chains, SFT, GRPO, evaluation, CAFE, report
sft, grpo   train by a recipe         recipes   list them         show     print the resolved recipe
study       several trainings of one file, with their logs and an arm for each
data        filter sources into a file with a card                memory   memory needs, from shapes
scenes      write training scenes with chains from their exact events
export      the small log of a training, to keep with the code
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpar2.commands._paid import ServiceChoices
from mpar2.errors import MPAR2Error
from training.recipe import Recipe, load_recipe, recipe_names, variants
from training.scenes.kinds import KINDS as QUESTIONS
from training.sources import read_source, source_kinds

if TYPE_CHECKING:
    from training.plan import Plan


def parser_of_commands() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for method in ("sft", "grpo"):
        command = commands.add_parser(method, help=f"{method.upper()} by a recipe")
        command.add_argument("--recipe", required=True, help=f"one of {', '.join(recipe_names())}, or a YAML file")
        command.add_argument("--resume", action="store_true", help="go on from the last checkpoint in out")
        _add_plan_options(command)
        if method == "grpo":
            command.add_argument("--variant", choices=sorted(variants()), help="a published variant (variants.yaml)")
        command.add_argument("overrides", nargs="*", metavar="key=value")
    commands.add_parser("recipes", help="list the recipes")
    show = commands.add_parser("show", help="what a recipe resolves to")
    show.add_argument("--recipe", required=True)
    show.add_argument("overrides", nargs="*", metavar="key=value")
    study = commands.add_parser("study", help="several trainings of one file; the same command goes on")
    study.add_argument("file", type=Path, help="its form: training.study")
    study.add_argument("overrides", nargs="*", metavar="key=value", help="for all runs; out=FOLDER")
    reproduce = commands.add_parser("reproduce", help="the paper's path by one plan; the same command goes on")
    reproduce.add_argument("file", metavar="PLAN", help="a plan of training/plans, or a YAML file (training.reproduce)")
    reproduce.add_argument("overrides", nargs="*", metavar="key=value", help="values of the plan; out=FOLDER")
    reproduce.add_argument("--plan", action="store_true", help="print hours, memory and money, and stop")
    reproduce.add_argument("--skip", action="append", default=[], metavar="STAGE", help="take what is there instead")
    reproduce.add_argument("--from", dest="start", metavar="STAGE", help="run this stage and those after it again")
    reproduce.add_argument("--until", metavar="STAGE", help="stop after this stage")
    data = commands.add_parser("data", help="filter the sources of a recipe into one file with a card")
    data.add_argument("--recipe", required=True)
    data.add_argument("--split", default="train")
    data.add_argument("overrides", nargs="*", metavar="key=value")
    scenes = commands.add_parser("scenes", help="training scenes with chains")
    scenes.add_argument("bank", type=Path)
    scenes.add_argument("out", type=Path)
    scenes.add_argument("--split", choices=("train", "validation"), default="train")
    scenes.add_argument("--count", type=int, default=2000)
    scenes.add_argument("--questions", type=int, default=2, help="questions a scene")
    scenes.add_argument("--kinds", nargs="+", choices=sorted(QUESTIONS), default=sorted(QUESTIONS), help="of question")
    scenes.add_argument("--seed", type=int, default=0)
    export = commands.add_parser("export", help="the small log of a training, to keep with the code")
    export.add_argument("run", type=Path, help="the folder of a training, or a file of JSON lines with steps")
    export.add_argument("out", type=Path)
    file = export.add_argument_group("for a file, which does not say them itself")
    file.add_argument("--recipe")
    file.add_argument("--kind", choices=("sft", "grpo"))
    file.add_argument("--seed", type=int, default=0)
    file.add_argument("--base", default="")
    file.add_argument("--started", default="", help="UTC, as 2026-01-31T12:00:00+00:00")
    file.add_argument("--note", default="")
    for name, text in (("captions", "caption clips by a model that hears"), ("chains", "chains from captions")):
        command = commands.add_parser(name, help=f"{text}; shows what it takes, and goes on with --yes")
        command.add_argument("kind", choices=source_kinds())
        command.add_argument("data")
        command.add_argument("out", type=Path)
        command.add_argument("--audio-root")
        command.add_argument("--limit", type=int)
        offline = "tagger" if name == "captions" else "rules"  # no model, no address, no cost
        command.add_argument("--service", choices=ServiceChoices(offline), default="server")
        command.add_argument("--model", help=f"of the service; not with {offline}")
        command.add_argument("--base-url", help="of an OpenAI-compatible server")
        command.add_argument("--prices", help="a JSON file of prices, to see the cost")
        command.add_argument("--yes", action="store_true")
    commands.add_parser("memory", help="memory by model, method and number of GPUs, computed from shapes")
    return parser


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = parser_of_commands()
    args, extra = parser.parse_known_args(argv)
    if extra and hasattr(args, "overrides") and all("=" in word and not word.startswith("-") for word in extra):
        args.overrides += extra  # key=value after an option: argparse fills a list of positionals once
    elif extra:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    try:
        return _run(args, argv)
    except (MPAR2Error, ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace, argv: list[str]) -> int:
    if args.command == "recipes":
        for name in recipe_names():
            print(f"{name:28} {load_recipe(name).about.strip().splitlines()[0]}")
        return 0
    if args.command == "memory":
        from training.memory import table

        print(table())
        return 0
    if args.command == "scenes":
        from training.scene_items import write_scenes

        count = write_scenes(
            args.bank, args.out, args.split, args.count, questions=args.questions, kinds=args.kinds, seed=args.seed
        )
        print(f"{count} items in {args.out}")
        return 0
    if args.command in ("captions", "chains"):
        return _cold_start(args)
    if args.command == "export":
        return _export(args)
    if args.command == "reproduce":
        return _reproduce(args)
    if args.command == "study":
        return _study(args, argv)
    out, overrides = _split_out(args.overrides)
    recipe = load_recipe(args.recipe, overrides, variant=getattr(args, "variant", None))
    if args.command == "show":
        print(json.dumps(recipe.as_dict(), indent=2))
        return 0
    folder = Path(out or f"runs/{recipe.name}-{args.command}")
    if args.command == "data":
        from training.data import save_corpus
        from training.run import corpus_of

        corpus = corpus_of(recipe)
        print(corpus.report())
        print(save_corpus(corpus, folder, split=args.split, prompts=(recipe.mode,)))
        return 0
    if args.plan:
        print(_plan(args.command, recipe, args).text())
        return 0
    from training.run import train

    print(train(args.command, recipe, folder, resume=args.resume, command=["python", "-m", "training", *argv]))
    return 0


def _split_out(overrides: Sequence[str]) -> tuple[str, list[str]]:
    """Return the value of ``out=``, empty where it is not given, and the other overrides."""
    outs = [word.partition("=")[2] for word in overrides if word.startswith("out=")]
    return "".join(outs[:1]), [word for word in overrides if not word.startswith("out=")]


def _add_plan_options(command: argparse.ArgumentParser) -> None:
    plan = command.add_argument_group("--plan: hours, memory and money, estimated; nothing is loaded or run")
    plan.add_argument("--plan", action="store_true", help="print the estimate and stop")
    plan.add_argument("--device", default="cpu", help="cpu (measured here) or h100, h200, a100-80gb, l40s, rtx-4090")
    plan.add_argument("--devices", type=int, default=1, help="how many (default: 1)")
    plan.add_argument("--price", type=float, help="of a device's hour, to see the money")
    plan.add_argument("--items", type=int, help="items of SFT, where their file is not there yet")
    plan.add_argument("--clip-seconds", type=float, default=10.0, help="of a clip (default: 10)")


def _plan(method: str, recipe: Recipe, args: argparse.Namespace) -> Plan:
    from training.plan import Load, device_named, plan_training

    device = device_named(args.device)
    load = Load(clip_s=args.clip_seconds, items=args.items)
    return plan_training(method, recipe, device=device, devices=args.devices, price=args.price, load=load)


def _reproduce(args: argparse.Namespace) -> int:
    from training.reproduce import estimate_text, load_plan, run_plan

    out, overrides = _split_out(args.overrides)
    plan = load_plan(args.file, Path(out or f"runs/{Path(args.file).stem}"), overrides, complete=not args.plan)
    if args.plan:
        print(estimate_text(plan))
    else:
        run_plan(plan, skip=args.skip, start=args.start, until=args.until)
    return 0


def _study(args: argparse.Namespace, argv: list[str]) -> int:
    from training.study import load_study, run_study

    out, overrides = _split_out(args.overrides)
    folder = Path(out or f"runs/{args.file.stem}")
    failed = run_study(load_study(args.file, overrides), folder, command=["python", "-m", "training", *argv])
    print(folder / "arms.yaml")
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _export(args: argparse.Namespace) -> int:
    from training.export import export_run, log_rows, write_log

    if args.run.is_dir():
        print(export_run(args.run, args.out))
        return 0
    if not args.recipe or not args.kind:
        raise ValueError(f"{args.run} is a file, which does not say what was trained: give --recipe and --kind")
    manifest = {key: getattr(args, key) for key in ("recipe", "kind", "seed", "started", "base", "note")}
    print(write_log(args.out, manifest, log_rows(args.run)))
    return 0


def _cold_start(args: argparse.Namespace) -> int:
    from mpar2.llm.cost import Prices
    from mpar2.llm.services import connect
    from training.cold_start import run_captions, run_chains

    spec = {"kind": args.kind, "data": args.data, "audio_root": args.audio_root, "limit": args.limit}
    source = read_source({key: value for key, value in spec.items() if value is not None})
    client = prices = None
    if args.service not in ("tagger", "rules"):
        if not args.model:
            raise ValueError(f"--service {args.service} needs --model")
        prices = Prices.load(args.prices, args.model) if args.prices else None
        client = connect(args.service, args.model, base_url=args.base_url)
    run = run_captions if args.command == "captions" else run_chains
    return run(source, client, args.out, prices=prices, yes=args.yes)


if __name__ == "__main__":
    raise SystemExit(main())
