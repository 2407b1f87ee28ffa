"""The table of a pair on held-out recordings: ``python -m training.small evaluate WORK``.

Benchmarks are written once to ``WORK/benchmark`` (test split, ``training.scenes.benchmark``). Runs are written to
``WORK/runs`` and resumed. All answers are decoded greedily. Intervals are 95 % bootstrap intervals over clips.
"""

from __future__ import annotations

import json
import re
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpar2.arms import EvaluationArm, arm_from_json
from mpar2.audio import Clip
from mpar2.cafe import annotate, count_events, truth_of
from mpar2.cafe.metrics import evaluate as rates
from mpar2.engines.base import Arm, Decoding
from mpar2.engines.precision import fast_dtype
from mpar2.question import make_question, strict_match
from mpar2.runs import item_of, read_run
from mpar2.statistics import Interval, accuracy_interval, bootstrap_statistic, paired_bootstrap
from mpar2.trace import parse_trace
from training.scenes.scene import Scene, SceneEvent
from training.small.ears import fit_readout, heard_events, load_tower_of, measure_ears
from training.small.english import QUESTIONS, perplexity, replies

__all__ = ["accuracy", "balanced_accuracy", "evaluate_pair", "inside", "pair_table", "write_benchmarks"]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?) s\b")
COUNTS = {"scenes": 100, "probes": 150}


def arms_of(base: Path, adapter: Path, tokens: int) -> tuple[EvaluationArm, ...]:
    """Return the arms: base direct, base with free reasoning, MPAR², and MPAR² with the true events given.

    Args:
        base: The base model.
        adapter: The adapter of MPAR².
        tokens: Most new tokens of an answer.
    """
    shared = {"model": str(base), "max_new_tokens": tokens}
    trained = shared | {"adapter": str(adapter), "mode": "mpar2"}
    rows = (
        {**shared, "name": "base direct", "mode": "direct", "max_new_tokens": 32},
        {**shared, "name": "base cot", "mode": "cot"},
        {**trained, "name": "mpar2"},
        {**trained, "name": "mpar2, true events given", "perception": "oracle"},
    )
    return tuple(map(arm_from_json, rows))


def write_benchmarks(bank: Path, out: Path, counts: Mapping[str, int] = COUNTS) -> dict[str, Path]:
    """Write the benchmarks: single recordings of all classes, scenes of 2-5 events, and probes (does a sound occur?).

    Args:
        bank: The bank of sounds.
        out: Output folder.
        counts: Number of scenes and of probes.

    Returns:
        The folder of each benchmark.
    """
    from training.scenes.benchmark import recording_items, scene_items, write_benchmark
    from training.scenes.render import Bank

    sounds = Bank(bank)
    items = {
        "recordings": lambda: recording_items(sounds, "test"),
        "scenes": lambda: scene_items(sounds, "test", counts["scenes"]),
        "probes": lambda: scene_items(sounds, "test", counts["probes"], questions=1, kinds=("occurs",), seed=60_000),
    }
    for name, make in items.items():
        if not (out / name / "items.jsonl").exists():
            write_benchmark(out / name, make())
    return {name: out / name for name in items}


def accuracy(records: Iterable[Mapping[str, Any]], arm: str) -> dict[str, tuple[bool, str]]:
    """Score the answers of an arm by the strict rule; a failed record is wrong.

    Args:
        records: Records of a run.
        arm: Name of the arm.

    Returns:
        For each item id, whether the answer is right, and the item's clip.
    """
    results = {}
    for record in records:
        if record["arm"] == arm:
            item, answer = item_of(record), _answer(record)
            results[item.id] = strict_match(item.question.answer, answer, item.question.choices), item.audio
    return results


def _answer(record: Mapping[str, Any]) -> str:
    return (record["choice"] or record["answer"] or "") if record["status"] == "ok" else ""


def balanced_accuracy(records: Iterable[Mapping[str, Any]], arm: str) -> tuple[Interval, int, int]:
    """Compute the mean of the accuracies on "yes" probes and on "no" probes.

    Args:
        records: Records of a run.
        arm: Name of the arm.

    Returns:
        The mean with its interval, the number of non-empty answers, and the number of probes.
    """
    yes_truth, correct, clips, n_answered = [], [], [], 0
    for record in records:
        if record["arm"] == arm:
            item, answer = item_of(record), _answer(record)
            n_answered += bool(answer.strip())
            yes_truth.append(item.question.answer.lower().startswith("yes"))
            correct.append(strict_match(item.question.answer, answer, item.question.choices))
            clips.append(item.audio)

    def balanced(is_yes: np.ndarray, is_right: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            shares = [(is_right * side).sum(-1) / side.sum(-1) for side in (is_yes, 1 - is_yes)]
        return (shares[0] + shares[1]) / 2

    interval = bootstrap_statistic(balanced, np.array(yes_truth, float), np.array(correct, float), groups=clips)
    return interval, n_answered, len(yes_truth)


def inside(texts: Iterable[tuple[str, float]]) -> tuple[int, int]:
    """Count the spans of time within their clip.

    Args:
        texts: (perception, clip's length in seconds).

    Returns:
        The number of spans within the clip, and of all spans.
    """
    n_inside = n_spans = 0
    for text, seconds in texts:
        for start, stop in _SPAN.findall(text):
            n_spans += 1
            n_inside += float(start) < float(stop) <= seconds + 0.051  # tenths are written
    return n_inside, n_spans


def pair_table(runs: Mapping[str, Path], tower_f1: Interval | None = None) -> str:
    """Return a Markdown table of runs over ``recordings``, ``scenes`` and ``probes``.

    Args:
        runs: Folder of each run.
        tower_f1: Event F1 of the tower alone; None leaves its rows out.
    """
    lines = ["| what | figure | n |", "| --- | --- | --- |"]

    def row(title: str, figure: object, n: object) -> None:
        lines.append(f"| {title} | {figure} | {n} |")

    records = {name: list(read_run(path).records()) for name, path in runs.items()}
    for name in ("recordings", "scenes"):
        for arm in dict.fromkeys(record["arm"] for record in records[name]):
            correct, clips = zip(*accuracy(records[name], arm).values(), strict=True)
            n = f"{len(correct)} questions, {len(set(clips))} clips"
            row(f"{name}: answers right, {arm}", accuracy_interval(correct, clips), n)
    adapted, base = (accuracy(records["scenes"], arm) for arm in ("mpar2", "base direct"))
    pairs = [(base[id][0], correct, clip) for id, (correct, clip) in adapted.items() if id in base]
    first, second, clips = zip(*pairs, strict=True)
    gain = paired_bootstrap(np.array(first, float), np.array(second, float), groups=clips)
    row(
        "scenes: MPAR² above the base asked directly",
        Interval(gain.estimate, gain.low, gain.high, gain.n),
        f"{len(pairs)} questions, {gain.n} clips",
    )
    perception_f1 = _perception_f1(records["scenes"])
    row("scenes: event F1 of MPAR²'s perception", perception_f1, f"{perception_f1.n} clips")
    if tower_f1 is not None:
        row("scenes: the tower's own event F1", tower_f1, f"{tower_f1.n} clips")
        share = f"{perception_f1.estimate / tower_f1.estimate:.2f}" if tower_f1.estimate else "-"
        row("scenes: the one as a share of the other", share, "")
    perceptions = [*_perceptions(records["scenes"]), *_perceptions(records["recordings"])]
    n_inside, n_spans = inside((text, record["audio_seconds"]) for record, text in perceptions)
    row("spans of time inside the clip, MPAR²", f"{n_inside / n_spans:.3f}" if n_spans else "-", n_spans)
    for arm in ("base direct", "mpar2"):
        interval, n_answered, n_probes = balanced_accuracy(records["probes"], arm)
        row(f"probes: balanced accuracy, {arm}", interval, f"{n_answered} of {n_probes} answered")
    return "\n".join(lines)


def _perceptions(records: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], str]]:
    """Yield the perception part of each of MPAR²'s traces, with its record."""
    for record in records:
        if record["arm"] == "mpar2" and record["status"] == "ok":
            parts = parse_trace(record["text"]).parts
            yield record, next((part.text for part in parts if part.kind == "perception"), "")


def _perception_f1(records: Iterable[Mapping[str, Any]]) -> Interval:
    """Return the event F1 of MPAR²'s perception parts by CAFE's reference judge, pooled over traces."""
    counts, clips = [], []
    for record, text in _perceptions(records):
        item = item_of(record)
        counts.append(count_events(annotate(text, truth_of(item), choices=item.question.choices)))
        clips.append(item.audio)
    return rates(counts, clips)["f1"].micro


def evaluate_pair(work: Path, counts: Mapping[str, int] = COUNTS, tokens: int = 320) -> str:
    """Write and return the table of ``WORK/small-base`` and ``WORK/small-mpar2`` (or the cold start's adapter).

    Args:
        work: Folder of the stages.
        counts: Number of scenes and of probes.
        tokens: Most new tokens of an answer.
    """
    from mpar2.engines.transformers import TransformersEngine
    from mpar2.evaluation import Settings, evaluate
    from mpar2.items import read_items

    base = work / "small-base"
    adapter = next(folder for folder in (work / "small-mpar2", work / "small-sft") if folder.exists())
    benchmarks = write_benchmarks(work / "bank", work / "benchmark", counts)
    dtype = str(fast_dtype()).removeprefix("torch.")
    engine = TransformersEngine(dtype=dtype)
    arms, runs = arms_of(base, adapter, tokens), {}
    for name, folder in benchmarks.items():
        runs[name] = work / "runs" / f"{adapter.name}-{name}"
        benchmark_arms = arms if name == "scenes" else arms[:3]
        evaluate(read_items("scenes", folder), benchmark_arms, engine, runs[name], Settings(engine={"dtype": dtype}))
    predictions, scenes = _tower_predictions(base, work / "features", benchmarks["scenes"])
    table = pair_table(runs, measure_ears(predictions, scenes)["event"]["f1"])
    table += "\n" + _english_rows(work / "start", base) + "\n" + _time_rows(engine, base, adapter, tokens)
    (work / "table.md").write_text(table + "\n")
    return table


def _tower_predictions(base: Path, features: Path, benchmark: Path) -> tuple[list, list[Scene]]:
    """Return the events that the pair's tower predicts for the scenes of a benchmark, and the scenes."""
    from mpar2.audio import load_clip
    from mpar2.items import read_items
    from training.small.align import load_pooled
    from training.tiny.features import mel_features
    from training.tiny.tower import lower_layers, upper_layers

    train_scenes, pooled, counts = load_pooled(features / "train")
    n_fit = min(len(train_scenes), 1200)
    clips = [pooled[row, : counts[row]] for row in range(n_fit)]
    readout, tower = fit_readout(clips, train_scenes[:n_fit]), load_tower_of(base)
    items = read_items("scenes", benchmark)
    first_items = {item.audio: item for item in items.items}
    predictions, scenes = [], []
    for audio, item in first_items.items():
        samples = load_clip(items.audio_path(item)).samples
        mel, frames = torch.from_numpy(mel_features(samples))[None], torch.tensor([len(samples) // 160 // 4 * 4])
        with torch.no_grad():
            predictions.append(
                heard_events(upper_layers(tower, *lower_layers(tower, mel, frames, 0), 0).numpy(), readout)
            )
        events = tuple(SceneEvent(e.label, e.onset_s, e.offset_s, 0.0, audio) for e in item.events)
        scenes.append(Scene(0, "test", len(samples) / 16000, events, "none"))
    return predictions, scenes


def _english_rows(start: Path, base: Path) -> str:
    """Return the perplexity of held-out English before and after the lessons, and the base's replies to plain text."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    from mpar2.engines.processor import AudioProcessor

    tokenizer = AudioProcessor.from_pretrained(base).tokenizer
    perplexities = []
    for folder in (start, base):
        model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        perplexities.append(perplexity(model, tokenizer))
    texts = replies(model, tokenizer, list(QUESTIONS), tokens=60)
    share = f"{perplexities[1] / perplexities[0]:.2f} x | {perplexities[1]:.1f} against {perplexities[0]:.1f}"
    row = f"| perplexity of held-out English against SmolLM2's | {share} |"
    return "\n".join(
        [row, "", *(f"- {question} {json.dumps(reply)}" for question, reply in zip(QUESTIONS, texts, strict=True)), ""]
    )


def _time_rows(engine: Any, base: Path, adapter: Path, tokens: int) -> str:
    """Measure base and MPAR² side by side on 6 s of noise: seconds to the first words, to the end, and peak memory."""
    clip = Clip(0.05 * np.random.default_rng(0).standard_normal(96_000).astype(np.float32))
    arms = [Arm("base", str(base), mode="cot"), Arm("mpar2", str(base), str(adapter), mode="mpar2")]
    engine.preload(arms)
    begin, first_s = time.perf_counter(), None
    for progress in engine.stream(clip, make_question("What do you hear?"), arms, Decoding(max_new_tokens=tokens)):
        if first_s is None and progress.text.strip():
            first_s = time.perf_counter() - begin
    total_s = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return (
        f"First words after {first_s or total_s:.1f} s, both finished after {total_s:.1f} s, peak memory {peak:.1f} GB."
    )
