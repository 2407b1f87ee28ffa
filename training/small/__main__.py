"""Make the small pair: ``python -m training.small all WORK``, or one stage of it. All goes on where it was stopped.

``bank``      packages -> sounds -> rendered scenes as features: ``WORK/bank``, ``WORK/features``
``tower``     the audio tower over all classes: ``WORK/tower``; the one in this folder, or with ``--minutes`` a new
              training from the tiny pair's
``ears``      what that tower hears beside the tiny pair's, on the validation scenes
``start``     SmolLM2-135M and the tower as a checkpoint: ``WORK/start``
``english``   the language model's own chats, which every lesson mixes in: ``WORK/english.jsonl``
``name``, ``list``, ``time``, ``question``, ``align``   the base's lessons (``training.small.lessons``), the first four
              without a tower: ``WORK/<lesson>/merged``
``base``      the last of them: ``WORK/small-base``
``chain``     the SFT cold start, an adapter: ``WORK/small-sft``
``grpo``      GRPO with all rewards (``recipes/small.yaml``), single sounds included: ``WORK/small-mpar2``
``evaluate``  the table of the pair, on recordings that nothing was learnt from or chosen by: ``WORK/table.md``

A stage leaves ``log.jsonl`` with its scores, and stops when nothing is gained. ``--steps`` and ``--minutes`` set other
lengths than the recipe's. Needs apt-get, dpkg, npm, pip, fluidsynth, espeak-ng and flite, the extra ``train`` and the
package ``gguf``. ``pack FOLDER OUT`` writes a checkpoint's weights as int8 rows, ``unpack FOLDER OUT`` as usual again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import mpar2
from training.small.lessons import LESSONS

IMAGINED = ("name", "list", "time", "question")  # need no tower: they may run while it is trained
BASE_LESSONS = (*IMAGINED, "align")
STAGES = ("bank", "tower", "ears", "start", "english", *BASE_LESSONS, "base", "chain", "grpo", "evaluate")
SCENES = {"train": 4800, "validation": 300}
TOWER_MINUTES = 90.0
TOWER = Path(__file__).with_name("tower")  # a trained one, as int8 rows: ``tower`` takes it unless minutes are given
TINY = Path(mpar2.__file__).parent / "checkpoints" / "tiny-base"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.small", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="stage", required=True)
    for name in (*STAGES, "all"):
        command = commands.add_parser(name)
        command.add_argument("work", type=Path, help="a folder for everything that is made on the way (about 15 GB)")
        command.add_argument("--steps", type=int, help="of a lesson")
        command.add_argument("--minutes", type=float, help="of the tower's training")
        command.add_argument("--seed", type=int, default=0)
    for name in ("pack", "unpack"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        command.add_argument("out", type=Path)
    args = parser.parse_args(argv)
    if args.stage in ("pack", "unpack"):
        from training.small import storage

        getattr(storage, args.stage)(args.folder, args.out)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    for stage in STAGES if args.stage == "all" else (args.stage,):
        print(f"{stage}: {_run(stage, args)}", flush=True)


def _run(stage: str, args: argparse.Namespace) -> Any:
    if stage in LESSONS:
        return _lesson(args.work, stage, args.steps, args.seed)
    made = {"bank": _bank, "ears": _ears, "start": _start, "english": _english, "base": _base}
    if stage in made:
        return made[stage](args.work)
    if stage == "tower":
        return _tower(args.work, args.minutes, args.seed)
    if stage == "grpo":
        return _grpo(args.work, args.seed)
    from training.small.measure import evaluate_pair

    return evaluate_pair(args.work)


def _bank(work: Path) -> Path:
    from training.scenes import bank
    from training.tiny import features

    if not (work / "bank" / "bank.json").exists():
        bank.build(work / "bank", work / "packages")
    for split, count in SCENES.items():
        if not (work / "features" / split / "frames.npy").exists():
            features.render(work / "bank", work / "features" / split, split, count)
    return work / "features"


def _tower(work: Path, minutes: float | None, seed: int) -> Path:
    from safetensors.torch import save_file

    from training.small.storage import read_rows
    from training.tiny.tower import average

    trained, out = work / f"tower-{seed}", work / "tower"
    if not (out / "scores.json").exists():
        if not trained.exists() and minutes is None and TOWER.exists():
            trained.mkdir()
            save_file(read_rows(TOWER, torch.float32), trained / "tower.safetensors")
        elif not (trained / "tower.safetensors").exists():
            options = ("--start", TINY, "--minutes", minutes or TOWER_MINUTES, "--seed", seed)
            _python("training.tiny.tower", work / "features", trained, *options)
        average(work / "features", [trained / "tower.safetensors"], out)  # of one: rounds it, and keeps what it hears
    return out


def _ears(work: Path) -> str:
    from training.small.ears import compare_towers

    return compare_towers(work / "features", {"tiny pair's": TINY, "small pair's": work / "tower"}, work / "ears.json")


def _start(work: Path) -> Path:
    from training.small.build import fetch_smollm2, small_processor, small_thinker
    from training.small.ears import load_tower_of

    out = work / "start"
    if not (out / "model.safetensors").exists():
        llama, tokenizer = fetch_smollm2(work / "smollm2")
        tower = load_tower_of(TINY, llama.config.hidden_size)  # its place is taken in the lesson "align"
        processor = small_processor(tokenizer)
        small_thinker(llama, tower, processor.tokenizer).to(torch.bfloat16).save_pretrained(out)
        processor.save_pretrained(out)
    return out


def _english(work: Path) -> Path:
    from training.small.build import fetch_smollm2
    from training.small.english import own_chats
    from training.small.precision import fast_dtype

    llama, tokenizer = fetch_smollm2(work / "smollm2")
    return own_chats(llama.to(fast_dtype()), tokenizer, work / "english.jsonl")


def _lesson(work: Path, name: str, steps: int | None, seed: int) -> Path:
    """One lesson, from the checkpoint that the lesson before left; the adapter's stays an adapter."""
    from dataclasses import replace

    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    from mpar2.engines.processor import AudioProcessor
    from training.small.align import load_pooled, teach
    from training.small.ears import load_tower_of
    from training.small.frames import fit_projection, frame_basis
    from training.small.precision import fast_dtype

    place = list(LESSONS).index(name)
    before = list(LESSONS)[:place]
    adapter = name not in BASE_LESSONS
    source = work / "small-base" if adapter else work / before[-1] / "merged" if before else work / "start"
    out = work / "small-sft" if adapter else work / name / "merged"
    if (out / ("adapter_model.safetensors" if adapter else "model.safetensors")).exists():
        return out
    # Written-out attention: on a CPU the fused one takes a third of a training step.
    options = {"dtype": fast_dtype(), "attn_implementation": "eager"}
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(source, **options)
    processor = AudioProcessor.from_pretrained(source)
    features = None if name in IMAGINED else work / "features" / "train"
    if name == "align":
        if (work / "tower").exists():  # else the start's own
            tower = load_tower_of(work / "tower", model.config.text_config.hidden_size)
            model.model.audio_tower.load_state_dict(tower.state_dict())
        scenes, pooled, counts = load_pooled(features)
        basis = frame_basis(model, processor.tokenizer)
        explained = fit_projection(model.model.audio_tower.proj, basis, pooled, counts, scenes)
        print(f"the projection explains {explained:.2f} of the variance of the frames' targets", flush=True)
    chats = work / "english.jsonl"
    english = [tuple(json.loads(line)) for line in chats.read_text().splitlines()] if chats.exists() else []
    lesson = replace(LESSONS[name], steps=steps or LESSONS[name].steps)
    earlier = [] if adapter else [LESSONS[other] for other in before]
    options = {"before": earlier, "english": english, "projection": name == "align", "seed": seed}
    adapted = teach(model, processor, features, work / name, lesson, **options)
    if adapter:
        adapted.peft_config["default"].base_model_name_or_path = source.name  # found beside it, wherever that is
        adapted.to(torch.bfloat16).save_pretrained(out)
    else:
        adapted.merge_and_unload().to(torch.bfloat16).save_pretrained(out)
        processor.save_pretrained(out)
    return out


def _base(work: Path) -> Path:
    import shutil

    out = work / "small-base"
    if not out.exists():
        shutil.copytree(work / BASE_LESSONS[-1] / "merged", out)
    return out


def _grpo(work: Path, seed: int) -> Path:
    """GRPO over scenes with chains and single recordings; the adapter comes to lie beside the base."""
    import shutil

    from training.scenes.benchmark import main as write_items

    for split, count in (("train", 1200), ("validation", 60)):
        for what in ("scenes", "recordings"):
            folder = work / "grpo-data" / f"{what}-{split}"
            if not (folder / "items.jsonl").exists():
                write_items([str(work / "bank"), str(folder), "--split", split, "--what", what, "--count", str(count)])
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
