"""Make the clips and questions of ``examples/``: ``python -m training.scenes.examples BANK OUT``.

Recordings and scenes come from the test split, and only from packages whose licence allows sharing here
(``LICENCES``). A scene does not mix sounds of incompatible licences. Comparisons are stored afterwards, by running the
small pair: ``python -m pages.store``.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import soundfile

from mpar2.audio import SAMPLE_RATE
from mpar2.question import Item, item_to_json
from training.scenes.benchmark import recording_items
from training.scenes.questions import make_questions
from training.scenes.render import Bank, compose

__all__ = ["LICENCES", "make"]

LICENCES = {  # package: (licence, credit), from each package's copyright file
    "gcompris-qt-data/instruments.rcc": (
        "GPL-3.0-or-later",
        "Sylvain Dechy, Jérôme Blanchard, Julie Jules, Chloé Tuvuku (GCompris)",
    ),
    "gcompris-qt-data/explore_farm_animals.rcc": (
        "GPL-3.0-or-later",
        "Bruno Coudoin, Franck Doucet and others (GCompris)",
    ),
    "lincity-ng-data": ("GPL-2.0-or-later", "LinCity-NG contributors"),
    "sound-icons": ("GPL-2.0-or-later", "sound-icons by the Free(b)soft project"),
    "tuxpaint-stamps-default": ("GPL-2.0", "Tux Paint stamps contributors"),
    "synth": ("Apache-2.0", "synthesised by training.scenes.synth"),
    "tts:flite": ("Apache-2.0", "spoken by the Flite speech synthesiser"),
}
_TOGETHER = {"GPL-3.0-or-later", "GPL-2.0-or-later", "Apache-2.0"}

RECORDINGS = ("dog bark", "siren", "bird song", "violin", "cow moo", "train", "duck quack", "accordion", "water")
SCENES = (  # (name, title, kind of question, least number of events)
    ("what-comes-first", "What comes first?", "first", 3),
    ("how-many", "How many times?", "count", 3),
    ("right-after", "What comes right after?", "after", 4),
    ("the-longest", "The longest sound", "longest", 3),
    ("heard-twice", "Heard more than once", "repeats", 4),
    ("after-the-longest", "After the longest sound", "after_longest", 4),
    ("in-between", "In between", "between", 4),
)


def _terms(source: str) -> tuple[str, str] | None:
    return next((terms for name, terms in LICENCES.items() if source.startswith(name)), None)


def make(bank: Bank, out: Path, seed: int = 90_000) -> list[str]:
    """Write the example folders of the app.

    Args:
        bank: The sounds; those of the split "test" are used.
        out: Folder of the examples.
        seed: Seeds above this one are tried for scenes.

    Returns:
        Names of the examples, easy ones first.
    """
    names = []
    for item, samples in recording_items(bank, "test", most=1):
        terms = _terms(item.extra["sources"][0])
        label = item.events[0].label
        name = f"recording-{label.replace(' ', '-')}"
        if (
            label in RECORDINGS
            and terms
            and name not in names
            and not item.extra["sources"][0].startswith(("synth", "tts"))
        ):
            _write(out / name, f"A recording: {label}", "recording", item, samples, [terms])
            names.append(name)
    for name, title, kind, least in SCENES:
        rng = random.Random(f"example {name}")
        while True:
            seed += 1
            scene, samples = compose(bank, "test", seed)
            terms = {_terms(event.source) for event in scene.events}
            candidates = [q for q in make_questions(scene, rng) if q.kind == kind and q.question.choices]
            if candidates and len(scene.events) >= least and None not in terms and {t[0] for t in terms} <= _TOGETHER:
                break
        events = tuple(event.as_event() for event in scene.events)
        item = Item(name, "clip.flac", candidates[0].question, events, truth_origin="scene", extra={"seed": seed})
        _write(out / f"scene-{name}", title, "scene", item, samples, sorted(terms))
        names.append(f"scene-{name}")
    return names


def _write(folder: Path, title: str, kind: str, item: Item, samples, terms: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "clip.flac", samples, SAMPLE_RATE, subtype="PCM_16")
    data = item_to_json(item) | {"title": title, "clip": "clip.flac", "kind": kind}
    del data["id"], data["audio"]
    licences = {licence for licence, _ in terms} - ({"Apache-2.0"} if len(terms) > 1 else set())
    data["licence"] = "GPL-3.0-or-later" if len(licences) > 1 else licences.pop()
    data["credits"] = "; ".join(sorted({credit for _, credit in terms}))
    (folder / "example.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args(argv)
    names = make(Bank(args.bank), args.out)
    (args.out / "index.json").write_text(json.dumps({"order": names}, indent=1) + "\n")
    print(f"{len(names)} examples in {args.out}")


if __name__ == "__main__":
    main()
