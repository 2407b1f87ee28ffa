"""Labels and splits of collected recordings, by a list of sources.

The list is in the form of ``training/scenes/sources.json``: for each class and split, ``package:path pattern``.
Recordings of its splits ``validation`` and ``test`` are never trained on, with or without a label; neither is anything
of :data:`HELD_OUT`, so that the test has a package and a sound font that are entirely new.
"""

from __future__ import annotations

import fnmatch
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mpar2.tagger.names import label_of

__all__ = ["HELD_OUT", "SourceLabel", "find_label", "read_labels", "tagger_label"]

#: groups of ``training.tagger.collect`` that are never trained on
HELD_OUT = ("package-gcompris-qt-data", "gm-TimGM6mb")

_SYNONYMS = {
    "sheep": "sheep bleat",
    "crow": "crow caw",
    "seagull": "bird song",
    "saw": "sawing",
    "camera": "camera shutter",
}


class SourceLabel(NamedTuple):
    """Split and label of a recording in a list of sources; ``label`` is one of the tagger's."""

    split: str
    label: str | None


def read_labels(sources: Path, packages: Path) -> dict[str, SourceLabel]:
    """Read the split and label of each recording in a list of sources.

    Args:
        sources: The list.
        packages: Folder that packages are unpacked in; recordings that are not there are left out.

    Returns:
        Split and label for each ``package/file``.
    """
    table = json.loads(Path(sources).read_text())
    table.pop("comment", None)
    labels: dict[str, SourceLabel] = {}
    for split in ("train", "validation", "test"):  # later splits override: a test recording is not trained on
        for label, splits in table.items():
            for spec in splits.get(split, ()):
                kind, _, rest = spec.partition(":")
                if kind in ("synth", "tts", "pat", "gm", "kit"):
                    continue
                package = spec.rpartition(":")[0].replace(":", "__")
                pattern, _, member = spec.rpartition(":")[2].partition("!")
                for path in _files(packages / package):
                    if fnmatch.fnmatch(path, pattern):
                        name = path.rsplit("/", 1)[-1]
                        labels[f"{package}/{name}!{member}" if member else f"{package}/{name}"] = SourceLabel(
                            split, tagger_label(label)
                        )
    return labels


def find_label(labels: dict[str, SourceLabel], source: str) -> SourceLabel | None:
    """Return the entry of a source, or None where the list does not contain it.

    Args:
        labels: Labels of :func:`read_labels`; entries of Qt resource files are patterns.
        source: ``package/file``, or ``package/file!member``.
    """
    if source in labels or "!" not in source:
        return labels.get(source)
    patterns = (pattern for pattern in labels if "!" in pattern)
    return next((labels[pattern] for pattern in patterns if fnmatch.fnmatch(source, pattern)), None)


def tagger_label(label: str) -> str | None:
    """Return the tagger's label for the class ``label`` of a bank, or None."""
    return label_of(_SYNONYMS.get(label, label))


@cache
def _files(package: Path) -> tuple[str, ...]:
    return tuple(str(path) for path in sorted(package.rglob("*")) if path.is_file())
