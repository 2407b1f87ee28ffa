"""Benchmarks as items, parsed from the unmodified official files.

``base``   the set of items, its fingerprint, and the shared code of all readers
``mmau``   MMAU's JSON array; the version is identified by content
``mmar``   MMAR's JSONL (or the JSON it was before 2026-02); its cues become events of origin ``cue``
``tables`` MMAU-Pro, MMSU, AudioMCQ and AVQA: one question per row, as JSON or parquet
``plain``  ``jsonl``: one item a line, as :func:`mpar2.question.item_to_json` writes it; ``scenes``: a folder with
           ``items.jsonl`` beside its audio, every item with its exact events
``events`` tables of strong labels (DESED, AudioSet-strong, TACOS, MAESTRO Real, URBAN-SED) -> items
``captions`` sets of captions (AudioCaps, Clotho, MECAT) -> items

A file of the wrong kind is an error with the number of the entry. Tolerable problems (repeated choices, a withheld
answer, missing audio) are lines in ``ItemSet.problems``. Items keep the audio path of the file, relative to
``audio_root``, so that a run can be moved and shared.

``register_benchmark`` registers a benchmark for ``mpar2 evaluate --benchmark``, :func:`mpar2.evaluate` and the sources
of training recipes. An installed package can register one in a module named by an entry point of the group ``mpar2``,
which the command imports.
"""

from __future__ import annotations

from mpar2.items.base import Entries, ItemsError, ItemSet, benchmark_names, read_items, register_benchmark

__all__ = ["Entries", "ItemSet", "ItemsError", "benchmark_names", "read_items", "register_benchmark"]
