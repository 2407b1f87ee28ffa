"""Benchmarks as items: the official files, read unchanged.

``base``   the set of items, its fingerprint, what all readers share
``mmau``   MMAU's JSON array; the version is recognised by content
``mmar``   MMAR's JSONL (or the JSON it was before 2026-02); its cues become events of origin ``cue``
``tables`` MMAU-Pro, MMSU, AudioMCQ and AVQA: a question a row, as JSON or parquet
``plain``  ``jsonl``: one item a line, as :func:`mpar2.question.item_to_json` writes it; ``scenes``: a folder with
           ``items.jsonl`` beside its audio, every item with its exact events
``events`` tables of strong labels (DESED, AudioSet-strong, TACOS, MAESTRO Real, URBAN-SED) -> items
``captions`` sets of captions (AudioCaps, Clotho, MECAT) -> items

A file that is not what it is said to be is an error with the number of the entry. What can be lived with (choices
given twice, an answer withheld, audio not there) is a line in ``ItemSet.problems``. Items keep the audio's path as the
file has it, relative to ``audio_root``; so a run can be moved and shared.

``register_benchmark`` makes a benchmark known to ``mpar2 evaluate --benchmark``, :func:`mpar2.evaluate` and the sources
of training recipes. A package that is installed can do so by an entry point of the group ``mpar2``: the command imports
what such entry points name.
"""

from __future__ import annotations

from mpar2.items.base import Entries, ItemsError, ItemSet, benchmark_names, read_items, register_benchmark

__all__ = ["Entries", "ItemSet", "ItemsError", "benchmark_names", "read_items", "register_benchmark"]
