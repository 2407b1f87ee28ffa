"""Audio need of items, from answers of other models without the audio.

Foo et al., "All That Glitters Is Not Audio" (arXiv 2604.24401) publish the answers of eight models to MMAU, MMAR and
MMAU-Pro with the audio, without it, and on fragments, judged item by item. The files
``results/BENCHMARK/MODEL/none_llm_judge.jsonl`` of their archive are read: a line ``{"id": ..., "llm_correct": true}``
for each item. Any other file of such lines is accepted, and so are lines ``{"id": ..., "needs_audio": true}``.

An item needs the audio if at most half of the models answer it correctly without it. ``analysis.load`` applies the
same rule to the arms of a run with silent audio.
"""

from __future__ import annotations

from pathlib import Path

from analysis import AnalysisError
from mpar2.items.base import read_json_lines

_FILES = "none_llm_judge.jsonl"


def read_audio_need(source: str | Path) -> dict[str, float]:
    """Read the share of models that answer an item correctly without its audio.

    Args:
        source: The archive's folder, one benchmark or model of it, or a file of lines.

    Returns:
        Item id to share, in [0, 1]; an item with ``needs_audio`` has 0 or 1.

    Raises:
        AnalysisError: No such file, or a line without the fields; the message names it.
    """
    source = Path(source)
    files = sorted(source.rglob(_FILES)) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise AnalysisError(f"{source} has no {_FILES}: unpack the published predictions, or give a file of lines")
    answers: dict[str, list[float]] = {}
    for file in files:
        for number, line in read_json_lines(file):
            right = line.get("llm_correct")
            if right is None and isinstance(line.get("needs_audio"), bool):
                right = not line["needs_audio"]
            if not isinstance(right, bool) or not isinstance(line.get("id"), str | int):
                raise AnalysisError(f"{file}, line {number}: 'id' and 'llm_correct' (or 'needs_audio') are needed")
            answers.setdefault(str(line["id"]), []).append(float(right))
    return {id: sum(values) / len(values) for id, values in answers.items()}
