"""Stages of the small pair: ``python -m training.small start|name …``. Each goes on where it was stopped.

``start PACKAGES TOWER OUT``    SmolLM2-135M and a trained tower as a checkpoint, ``OUT``
``name START FEATURES OUT``     the first lesson: naming; ``OUT/merged`` is a checkpoint
``pack FOLDER OUT``             weights as int8 rows; ``unpack FOLDER OUT`` gives the usual folder again
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, first, second in (
        ("start", "packages", "tower"), ("name", "start", "features"), ("pack", "folder", None),
        ("unpack", "folder", None),
    ):  # fmt: skip
        command = commands.add_parser(name)
        for argument in filter(None, (first, second, "out")):
            command.add_argument(argument, type=Path)
        if name == "name":
            command.add_argument("--steps", type=int, default=600)
            command.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.command == "start":
        _start(args.packages, args.tower, args.out)
    elif args.command == "name":
        _name(args.start, args.features, args.out, args.steps, args.seed)
    else:
        from training.small import storage

        getattr(storage, args.command)(args.folder, args.out)


def _start(packages: Path, tower_path: Path, out: Path) -> None:
    from safetensors.torch import load_file

    from training.small.build import fetch_smollm2, small_processor, small_thinker
    from training.tiny.tower import make_tower

    llama, tokenizer = fetch_smollm2(packages)
    tower = make_tower(llama.config.hidden_size)
    state = {k.removeprefix("tower."): v for k, v in load_file(tower_path).items() if k.startswith("tower.")}
    # The projection of the tower's own training is of another width: the next stage makes a new one.
    tower.load_state_dict({k: v for k, v in state.items() if not k.startswith("proj.")}, strict=False)
    processor = small_processor(tokenizer)
    small_thinker(llama, tower, processor.tokenizer).to(torch.bfloat16).save_pretrained(out)
    processor.save_pretrained(out)


def _name(start: Path, features: Path, out: Path, steps: int, seed: int) -> None:
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    from mpar2.engines.processor import AudioProcessor
    from training.small.align import name_stage

    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    processor = AudioProcessor.from_pretrained(start)
    adapted = name_stage(model, processor, features, out, steps=steps, seed=seed)
    adapted.merge_and_unload().to(torch.bfloat16).save_pretrained(out / "merged")
    processor.save_pretrained(out / "merged")


if __name__ == "__main__":
    main()
