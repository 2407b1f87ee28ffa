"""The 521 AudioSet names of the tagger's outputs, and their labels in this project.

``names.json`` lists them in the order of the scores, each with a *label*: a name of ``mpar2.cafe.rules.sounds`` where
it has one, so that the rules of CAFE find its mentions. Several names may share a label ("Bark", "Yip": "dog bark"). A
name without a label is no event (rooms, "Silence", "Sound effect"). The labels of :data:`GENERAL` name a family.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

__all__ = ["GENERAL", "audioset_names", "label_families", "label_members", "label_of"]

#: label of a family of sounds -> the family in ``mpar2.cafe.rules.sounds``
GENERAL: Mapping[str, str] = MappingProxyType({"animal": "animal", "music": "music", "vehicle": "vehicle"})


@cache
def _rows() -> list[tuple[str, str]]:
    return [tuple(row) for row in json.loads(files("mpar2.tagger").joinpath("names.json").read_text("utf-8"))]


def audioset_names() -> tuple[str, ...]:
    """Return the AudioSet names in the order of the scores."""
    return tuple(name for name, _ in _rows())


@cache
def label_members() -> Mapping[str, tuple[int, ...]]:
    """Return the indices of the names of each label among the scores."""
    members: dict[str, list[int]] = {}
    for position, (_, label) in enumerate(_rows()):
        if label:
            members.setdefault(label, []).append(position)
    return MappingProxyType({label: tuple(positions) for label, positions in members.items()})


@cache
def label_families() -> Mapping[str, str | None]:
    """Return the family of each label in ``mpar2.cafe.rules.sounds``, or None where it has no such sound."""
    from mpar2.cafe.rules.vocabulary import Vocabulary

    vocabulary = Vocabulary()
    families: dict[str, str | None] = {}
    for label in label_members():
        concepts = vocabulary.lookup(label)
        families[label] = vocabulary.concept(concepts[0]).family if concepts else None
    return MappingProxyType(families)


@cache
def label_of(name: str) -> str | None:
    """Return the tagger's label for a name of a sound, or None where it has none.

    >>> label_of("a dog barking"), label_of("plucked strings"), label_of("justice")
    ('dog bark', 'guitar', None)
    """
    from mpar2.cafe.rules.vocabulary import Vocabulary

    if name in label_members():
        return name
    vocabulary = Vocabulary()
    concept = vocabulary.lookup(name)[:1]
    return next((label for label in label_members() if concept and vocabulary.lookup(label)[:1] == concept), None)
