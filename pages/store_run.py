"""Store the sound and the heatmaps of some items of a run: ``python -m pages.store_run RUN --audio-root DIR``.

The Analysis tab then shows these items like an example of the Compare tab, with a player and with attention heatmaps.
The recordings are copied to the paths of the items. Heatmaps are computed by teacher forcing of each trace with the
arm's model, and written to ``RUN/attention.jsonl``. Arms without the item's own audio (silent, shuffled, hidden) have
no heatmap, and neither have traces whose tokenization has changed. Store only recordings that may be redistributed, and
add their credits to the run.

``clips.json`` of a run may map recordings to clips of the app's examples. Then the items of those recordings are
stored, and no recording is copied.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpar2.arms import EvaluationArm, arm_from_json, build_question
from mpar2.audio import AudioError, load_clip
from mpar2.engines.base import EngineError
from mpar2.runs import Run, RunError, item_of, read_run
from mpar2.runs.lines import dump_json, write_bytes
from pages.attention_pack import attention_document
from pages.stored_item import HEATMAPS, linked_clips

ATTENTION_BYTES = 60_000  # of one trace; heads and layers of long traces are averaged
_EXTRA = ("prompt_version", "prompt_hash", "items", "model_hash", "adapter_hash")


def choose_items(run: Run, number: int) -> list[str]:
    """Choose items that every arm answered, from all difficulties in turn, in an order given by hashes of their ids."""
    arms = {arm["name"] for arm in run.manifest["arms"]}
    arms_of_item: dict[str, set[str]] = {}
    difficulty: dict[str, str] = {}
    for record in run.records():
        if record["status"] == "ok" and record["sample"] == 0:
            arms_of_item.setdefault(record["id"], set()).add(record["arm"])
            difficulty[record["id"]] = record["item"]["difficulty"] or ""
    complete = [id for id, names in arms_of_item.items() if names == arms]
    shuffled = sorted(complete, key=lambda id: hashlib.sha256(id.encode("utf-8", "replace")).digest())
    counts: dict[str, int] = {}
    order = []
    for id in shuffled:
        counts[difficulty[id]] = counts.get(difficulty[id], 0) + 1
        order.append((counts[difficulty[id]], difficulty[id], id))
    return [id for *_, id in sorted(order)[:number]]


def store_run(engine: Any, folder: Path, audio_root: Path, ids: Sequence[str]) -> Iterator[str]:
    """Copy the recordings of items beside a run, and write the heatmaps of their answers.

    Raises:
        RunError: A recording is missing, or its path leaves the folder.
    """
    run = read_run(folder)
    arms = {arm["name"]: _arm(arm) for arm in run.manifest["arms"]}
    lines = []
    for record in run.records():
        arm = arms.get(record["arm"])
        if record["id"] not in ids or record["status"] != "ok" or record["sample"] or arm is None:
            continue
        item = item_of(record)
        clip = load_clip(_recording(folder, audio_root, item.audio))
        if arm.audio != "normal" or arm.decoding.hide_audio_after:
            continue
        generation = engine.attend(clip, build_question(arm, item), arm.arm, record["text"])
        if len(generation.tokens) != record["tokens"]:
            yield f"{record['key']}: cut into {len(generation.tokens)} tokens now, {record['tokens']} then; left out"
            continue
        attention = attention_document(generation.attention, generation.trace, ATTENTION_BYTES)
        lines.append(dump_json({"key": record["key"], "attention": attention}))
        yield f"{record['key']}: {len(lines[-1]) / 1000:.0f} kB"
    write_bytes(folder / HEATMAPS, b"".join(line + b"\n" for line in lines))


def _arm(data: Mapping[str, Any]) -> EvaluationArm:
    return arm_from_json({key: value for key, value in data.items() if key not in _EXTRA})


def _recording(folder: Path, audio_root: Path, audio: str) -> Path:
    """Return the recording: an example's clip, or a copy beside the run (made from ``audio_root`` where needed)."""
    if (linked := linked_clips(folder).get(audio)) is not None:
        return linked
    target = (folder / audio).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise RunError(f"the recording {audio!r} would lie outside of the run: its path must be relative")
    if not target.is_file():
        source = audio_root / audio
        if not source.is_file():
            raise RunError(
                f"{source} is not there: --audio-root must be the folder that the run's audio paths start at"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return target


def main(arguments: list[str] | None = None) -> int:
    """Store some items of a run."""
    parser = argparse.ArgumentParser(prog="python -m pages.store_run", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--audio-root", type=Path, help="folder that the run's audio paths start at (default: the run)")
    parser.add_argument("--items", type=int, default=8, help="how many items (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")
    options = parser.parse_args(arguments)
    from mpar2.engines import make_engine
    from mpar2.engines.base import EngineOptions

    try:
        run, linked = read_run(options.run), linked_clips(options.run)
        ids = [record["id"] for record in run.records() if record["item"]["audio"] in linked]
        ids = list(dict.fromkeys(ids)) or choose_items(run, options.items)
        engine = make_engine("transformers", EngineOptions(device=options.device))
        for line in store_run(engine, options.run, options.audio_root or options.run, ids):
            print(line, flush=True)
    except (RunError, AudioError, EngineError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
