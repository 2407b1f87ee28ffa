"""Write the answers of a run in the official format, so that the unmodified official scripts score them.

Every entry of the question file is copied, with the keys that the scripts read:

    model_output, model_prediction   MMAU (its script, its README)
    answer_prediction                MMAR
    thinking_prediction              MMAR-Rubrics: all text before the answer

The prediction is the choice that the answer names, else the words of the answer, else those of the reply. It is empty
only for an empty reply.

An item without an answer has none of the keys: the scripts exclude it from their denominator. Of several samples only
the first is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpar2.accuracy import answer_of
from mpar2.items import ItemSet
from mpar2.runs import Run
from mpar2.runs.lines import write_json, write_lines
from mpar2.trace import parse_trace

__all__ = ["prediction_keys", "write_predictions"]


def prediction_keys(prediction: str, text: str) -> dict[str, str]:
    """Return one answer under the keys that the official scripts read.

    >>> prediction_keys("dog", "<think>It barks.</think><answer>(A)</answer>")["thinking_prediction"]
    '<think>It barks.</think>'
    """
    answers = parse_trace(text).of_kind("answer")
    thinking = text[: answers[-1].outer.start] if answers else text
    return {
        "model_output": prediction,
        "model_prediction": prediction,
        "answer_prediction": prediction,
        "thinking_prediction": thinking.strip(),
    }


def write_predictions(run: Run, items: ItemSet, arms: Sequence[str], folder: Path) -> dict[str, Path]:
    """Write one file for each arm, for the official scripts of the benchmark; return the files by arm name."""
    predictions_by_arm: dict[str, dict[str, dict[str, str]]] = {name: {} for name in arms}
    for record in run.records():
        if record["status"] == "ok" and record["sample"] == 0 and record["arm"] in predictions_by_arm:
            predictions_by_arm[record["arm"]][record["id"]] = prediction_keys(
                answer_of(record).prediction, record["text"]
            )
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    for name, predictions in predictions_by_arm.items():
        entries: list[dict[str, Any]] = [
            entry | predictions.get(item.id, {}) for item, entry in zip(items.items, items.official, strict=True)
        ]
        path = folder / f"{_file_name(name, [p.stem for p in files.values()])}.{items.form}"
        if items.form == "json":
            write_json(path, entries)
        else:
            write_lines(path, entries)
        files[name] = path
    return files


def _file_name(arm: str, used_names: Sequence[str]) -> str:
    plain = re.sub(r"[^\w.+-]+", "-", arm).strip("-.") or "arm"
    name, number = plain, 2
    while name in used_names:
        name, number = f"{plain}-{number}", number + 1
    return name
