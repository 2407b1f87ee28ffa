"""Export a run as logs for Inspect's viewer (``inspect view --log-dir DIR``), one for each arm.

The format is version 2 of ``inspect_ai.log.EvalLog`` as JSON. A sample is one item, its epoch one sample of the arm.
The question is the user's message, the reply the assistant's. Scores are ``official`` and ``strict`` ("C" right, "I"
wrong), and the event counts of CAFE if available.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mpar2 import __version__
from mpar2.accuracy import answer_of, score
from mpar2.runs import Run, read_run
from mpar2.runs.lines import write_json

__all__ = ["write_inspect_logs"]

_SCORERS = ("official", "strict")


def write_inspect_logs(source: str | Path, folder: str | Path, scores: str | Path | None = None) -> list[Path]:
    """Write the log of each arm of a run.

    Args:
        source: The run: a folder, a zip of one, or a lone ``items.jsonl``.
        folder: The folder to write.
        scores: CAFE's scores of the run: their folder or file.

    Returns:
        The written files, in the order of the arms.

    Raises:
        RunError: The source is no run.
    """
    run = read_run(source)
    events = _event_counts(scores) if scores is not None else {}
    settings = {arm["name"]: arm for arm in run.manifest.get("arms", [])}
    by_arm: dict[str, list[dict[str, Any]]] = {name: [] for name in settings}
    for record in run.records():
        by_arm.setdefault(record["arm"], []).append(_sample(record, settings.get(record["arm"], {}), events))
    paths = []
    for name, samples in by_arm.items():
        created = _date(run.manifest.get("created"))
        stem = re.sub(r"[^\w.+-]+", "-", name).strip("-.")[:60] or "arm"
        # the viewer parses date and task from the name: DATE_TASK_ID.json
        id = _id(run.name, name)
        path = Path(folder) / f"{created.replace(':', '-')}_{stem}_{id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _log(run, name, settings.get(name, {}), samples, created, id))
        paths.append(path)
    return paths


def _event_counts(scores: str | Path) -> dict[str, dict[str, Any]]:
    from mpar2.cafe.score import read_scores

    names = ("matched", "hallucinated", "misused", "missed")
    counts = {entry.key: entry.counts for entry in read_scores(scores).scores}
    return {key: {name: getattr(c, name) for name in names} for key, c in counts.items() if c is not None}


def _log(
    run: Run, arm: str, settings: Mapping[str, Any], samples: list[dict[str, Any]], created: str, id: str
) -> dict[str, Any]:
    benchmark = run.manifest.get("benchmark") or {}
    items = list(dict.fromkeys(sample["id"] for sample in samples))
    names = {"max_new_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p"}
    decoding = {name: settings[key] for key, name in names.items() if settings.get(key) is not None}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": id,
            "run_id": _id(run.name, created),
            "created": created,
            "task": arm,
            "task_id": id,
            "dataset": {
                "name": str(benchmark.get("name") or run.name),
                "location": benchmark.get("file"),
                "samples": len(items),
                "sample_ids": items,
                "shuffled": False,
            },
            "model": f"mpar2/{settings.get('model') or arm}",
            "model_generate_config": decoding,
            "config": {"epochs": max((sample["epoch"] for sample in samples), default=1)},
            "packages": {"mpar2": __version__},
            "metadata": {"run": run.name, "arm": dict(settings), "benchmark": dict(benchmark)},
        },
        "plan": {"name": "plan", "steps": [], "config": decoding},
        "results": {
            "total_samples": len(samples),
            "completed_samples": sum("error" not in sample for sample in samples),
            "scores": [_result(name, samples) for name in _SCORERS],
        },
        "stats": {"started_at": created, "completed_at": created, "model_usage": {}},
        "samples": samples,
    }


def _result(name: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    values = [sample["scores"][name]["value"] == "C" for sample in samples if name in sample["scores"]]
    accuracy = sum(values) / len(values) if values else 0.0
    return {
        "name": name,
        "scorer": name,
        "params": {},
        "scored_samples": len(values),
        "unscored_samples": len(samples) - len(values),
        "metrics": {"accuracy": {"name": "accuracy", "value": accuracy, "params": {}}},
    }


def _sample(
    record: Mapping[str, Any], settings: Mapping[str, Any], events: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    item, reply = record["item"], record["text"]
    model = f"mpar2/{settings.get('model') or record['arm']}"
    question = {"id": f"{record['key']}|q", "role": "user", "content": _question(item)}
    sample: dict[str, Any] = {
        "id": record["id"],
        "epoch": record["sample"] + 1,
        "input": [question],
        "choices": item["choices"] or None,
        "target": item["answer"] or "",
        "messages": [question],
        "scores": dict(_scores(record, events)),
        "metadata": {
            name: item[name]
            for name in ("audio", "domain", "category", "sub_category", "difficulty", "events", "caption")
            if item.get(name) is not None
        },
    }
    if record["status"] != "ok":
        error = record["error"] or "failed"
        return sample | {"error": {"message": error, "traceback": error, "traceback_ansi": error}}
    answer = {"id": f"{record['key']}|a", "role": "assistant", "content": reply, "source": "generate", "model": model}
    sample["messages"] = [question, answer]
    stop = "max_tokens" if record["finish"] == "length" else "stop"
    sample["output"] = {"model": model, "choices": [{"message": answer, "stop_reason": stop}]}
    if record["seconds"] is not None:
        sample["output"]["time"] = sample["total_time"] = record["seconds"]
    if record["tokens"] is not None:
        prompt_tokens, tokens = record["prompt_tokens"] or 0, record["tokens"]
        usage = {"input_tokens": prompt_tokens, "output_tokens": tokens, "total_tokens": prompt_tokens + tokens}
        sample["output"]["usage"] = usage
        sample["model_usage"] = {model: usage}
    return sample


def _question(item: Mapping[str, Any]) -> str:
    letters = (f"{chr(ord('A') + index)}. {choice}" for index, choice in enumerate(item["choices"] or ()))
    return "\n".join([item["question"], *letters, f"(audio: {item['audio']})"])


def _scores(record: Mapping[str, Any], events: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the scores of a sample; a failed answer is wrong, an item without a public answer is not scored."""
    ok = record["status"] == "ok"
    if record["item"]["answer"] is not None:
        answer = answer_of(record) if ok else None
        correctness = score(record, answer) if ok else None
        for name in _SCORERS:
            right = bool(correctness and getattr(correctness, name))
            yield name, {"value": "C" if right else "I", "answer": answer.prediction if answer else None}
    if counts := events.get(record["key"]):
        asserted = counts["matched"] + counts["hallucinated"] + counts["misused"]
        yield "cafe", {"value": dict(counts), "explanation": f"{asserted} events asserted"}


def _date(text: Any) -> str:
    """Return the date of a manifest, which is untrusted text; the epoch if invalid."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return "1970-01-01T00:00:00+00:00"


def _id(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:22]
