"""Calibrate and measure the tagger: ``python -m training.tagger.evaluate BANK WEIGHTS OUT`` (.pt or .safetensors).

``BANK`` is a bank of labelled sounds (``training.scenes.bank``). The settings of events and the map from score to
confidence are chosen on its validation split. Errors are measured on its test split: every recording alone, and scenes
of two to five events composed of them. No recording of either split was trained on.

``OUT`` gets ``tagger.safetensors`` (float16), ``tagger.json`` (settings and errors, read by the package) and
``errors.md`` (tables for the card). An event is correct as for CAFE: its label, its onset within 0.5 s and its offset
within the larger of 0.5 s and 20 % of its length. It is *named* correctly by its label alone.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file, save_file

from mpar2.audio import Clip
from mpar2.question import Event
from mpar2.statistics import bootstrap_interval
from mpar2.tagger.model import TaggerNet
from mpar2.tagger.names import GENERAL, label_members
from mpar2.tagger.profile import EventSettings
from mpar2.tagger.tagging import TaggedEvent, events_of, frame_scores
from training.scenes.render import Bank, compose
from training.tagger.labels import tagger_label

__all__ = ["Case", "calibrate", "measure"]

_SCENES = {"validation": 100, "test": 200}
_PRECISION, _LEAST = 0.75, 0.1
_MOST = 8  # recordings of a class and package
_START = EventSettings(threshold=0.04, stay=0.5, gap_s=0.4, shortest_s=0.16, sure=0.5, least=0.0, slope=1.0, offset=0.0)


class Case(NamedTuple):
    """A clip's scores, its length in seconds, and its exact events."""

    scores: np.ndarray
    seconds: float
    events: tuple[Event, ...]  # with the tagger's labels


class _Bank(Bank):
    """A bank of the classes that the tagger has a label for, without the synthesisers, which it was trained on."""

    @cached_property
    def rows(self) -> list[dict]:
        rows = json.loads((Path(self.folder) / "bank.json").read_text())
        return [row for row in rows if _usable(row)]


def _usable(row: dict) -> bool:
    return bool(tagger_label(row["label"])) and row["seconds"] >= 0.05 and not row["source"].startswith("synth:")


def recordings(bank: Path, split: str, net: TaggerNet) -> list[Case]:
    """Score every recording of a split alone, between half seconds of near silence.

    Args:
        bank: Folder of the bank of sounds.
        split: "validation" or "test".
        net: The tagger.
    """
    counts: Counter[tuple[str, str]] = Counter()
    cases = []
    for row in _Bank(bank).rows:
        key = row["label"], row["source"].split("/")[0]
        if row["split"] != split or counts[key] >= _MOST:
            continue
        counts[key] += 1
        dry = soundfile.read(Path(bank) / row["file"], dtype="float32")[0]
        pad = np.zeros(8000, np.float32)
        noise = np.random.default_rng(counts.total()).standard_normal(len(dry) + 16000) * 1e-4
        samples = (np.concatenate([pad, dry, pad]) * 0.5 + noise).astype(np.float32)
        clip = Clip(samples)
        event = Event(tagger_label(row["label"]), 0.5, 0.5 + len(dry) / 16000)
        cases.append(Case(frame_scores(clip, net), clip.seconds, (event,)))
    return cases


def scenes(bank: Path, split: str, net: TaggerNet) -> list[Case]:
    """Score composed scenes of two to five events.

    Args:
        bank: Folder of the bank of sounds.
        split: "validation" or "test".
        net: The tagger.
    """
    sounds, cases, seed = _Bank(bank), [], 90_000
    while len(cases) < _SCENES[split]:
        scene, samples = compose(sounds, split, seed)
        seed += 1
        events = tuple(Event(tagger_label(e.label), e.onset_s, e.offset_s) for e in scene.events)
        if events:
            cases.append(Case(frame_scores(Clip(samples), net), len(samples) / 16000, events))
    return cases


def calibrate(single: Sequence[Case], mixed: Sequence[Case]) -> EventSettings:
    """Choose the settings of events such that a confidence is the measured share of correct events.

    Sure events must have a precision of three in four in *scenes*. Single sounds are easier than real audio, and those
    of new packages are harder than those of validation (from 0.25 on, half of the latter were right, a third of the
    new).

    Args:
        single: Recordings alone.
        mixed: Scenes.
    """
    best_count, best_settings, cases = -1.0, _START, [*single, *mixed]
    for stay in (0.3, 0.45):
        settings = replace(_START, stay=stay)
        predictions = [events_of(case.scores, case.seconds, settings) for case in cases]
        slope, offset = _logistic(predictions, cases)
        settings = replace(settings, slope=slope, offset=offset)
        settings = replace(settings, label_offsets=_label_offsets(predictions, cases, settings))
        for sure in np.arange(0.2, 0.71, 0.05).round(2).tolist():
            settings = replace(settings, sure=sure)
            n_placed = _counts(predictions, cases, settings, timed=True)[:, 0].sum()
            tp, fp, fn = _counts(predictions[len(single) :], mixed, settings, timed=False).sum(axis=0)
            print(f"stay {stay} sure {sure}: in scenes {tp} right, {fp} wrong, {fn} missed; {n_placed} placed")
            if tp >= _PRECISION * (tp + fp) and n_placed > best_count:
                best_count, best_settings = n_placed, settings
    return replace(best_settings, least=_LEAST)


def _logistic(predictions: Sequence[Sequence[TaggedEvent]], cases: Sequence[Case]) -> tuple[float, float]:
    """Fit the share of correct events over the logit of the score, which ``_START`` does not change: slope, offset."""
    from scipy.optimize import minimize

    x, y = [], []
    for events, case in zip(predictions, cases, strict=True):
        for event in events:
            if event.label not in GENERAL:
                score = min(max(event.confidence, 1e-4), 1 - 1e-4)
                x.append(np.log(score / (1 - score)))
                y.append(any(e.label == event.label and _overlap(e, event) > 0 for e in case.events))
    x, y = np.array(x), np.array(y, float)

    def loss(params: np.ndarray) -> float:
        z = params[0] * x + params[1]
        return float(np.mean(np.logaddexp(0, z) - y * z))

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return round(float(slope), 4), round(float(offset), 4)


def _label_offsets(
    predictions: Sequence[Sequence[TaggedEvent]], cases: Sequence[Case], settings: EventSettings
) -> dict[str, float]:
    """Return the log of correct events over the sum of confidences of each label, shrunk to 0 for small counts."""
    expected: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for events, case in zip(predictions, cases, strict=True):
        for event in events:
            expected[event.label] += _confidence(event, settings)
            correct[event.label] += any(e.label == event.label and _overlap(e, event) > 0 for e in case.events)
    offsets = {label: np.log((correct[label] + 1.5) / (expected[label] + 1.5)) for label in sorted(expected)}
    return {label: round(float(np.clip(offset, -2, 2)), 3) for label, offset in offsets.items() if label not in GENERAL}


def _counts(
    predictions: Sequence[Sequence[TaggedEvent]], cases: Sequence[Case], settings: EventSettings, timed: bool
) -> np.ndarray:
    """Count correct, false and missed events, (cases, 3); general labels are neither correct nor false."""
    rows = []
    for events, case in zip(predictions, cases, strict=True):
        sure = [e for e in events if e.label not in GENERAL and _confidence(e, settings) >= settings.sure]
        hits = len(_match(sure, case.events, timed))
        rows.append((hits, len(sure) - hits, len(case.events) - hits))
    return np.array(rows)


def _confidence(event: TaggedEvent, settings: EventSettings) -> float:
    """Return the calibrated confidence of an event of ``_START``, whose confidence is its score."""
    return settings.confidence(event.confidence, event.label)


def _match(events: Sequence[Event], truth: Sequence[Event], timed: bool) -> list[tuple[Event, Event]]:
    """Match tagged and true events one to one, nearest onsets first."""
    candidates = sorted(
        (abs(e.onset_s - t.onset_s), i, j)
        for i, e in enumerate(events)
        for j, t in enumerate(truth)
        if e.label == t.label and (not timed or _right_times(e, t))
    )
    pairs, used_events, used_truth = [], set(), set()
    for _, i, j in candidates:
        if i not in used_events and j not in used_truth:
            used_events.add(i)
            used_truth.add(j)
            pairs.append((events[i], truth[j]))
    return pairs


def _right_times(event: Event, truth: Event) -> bool:
    collar = max(0.5, 0.2 * (truth.offset_s - truth.onset_s))
    return abs(event.onset_s - truth.onset_s) <= 0.5 and abs(event.offset_s - truth.offset_s) <= collar


def _overlap(a: Event, b: Event) -> float:
    return min(a.offset_s, b.offset_s) - max(a.onset_s, b.onset_s)


def _f1(rows: np.ndarray) -> float:
    tp, fp, fn = rows.sum(axis=0)
    return 2 * tp / max(1, 2 * tp + fp + fn)


def measure(single: Sequence[Case], mixed: Sequence[Case], settings: EventSettings) -> dict:
    """Measure the errors on held-out recordings, alone and in scenes, as ``tagger.json`` stores them.

    Args:
        single: Recordings alone.
        mixed: Scenes.
        settings: Settings that turn scores into events.
    """
    return {
        "recordings": _recording_errors(single, settings),
        "scenes": _scene_errors(mixed, settings),
        "labels": _label_errors(single, mixed, settings),
        "damage": _damage_rates(mixed, settings),
    }


def _recording_errors(cases: Sequence[Case], settings: EventSettings) -> dict:
    first, first_three, named, labels = [], [], [], []
    for case in cases:
        ranked = _ranking(case.scores)
        (event,) = case.events
        sure = [e for e in events_of(case.scores, case.seconds, settings) if e.confidence >= settings.sure]
        first.append(ranked[0] == event.label)
        first_three.append(event.label in ranked[:3])
        named.append(any(e.label == event.label for e in sure))
        labels.append(event.label)
    by_label = defaultdict(list)
    for label, correct in zip(labels, first, strict=True):
        by_label[label].append(correct)
    return {
        "count": len(cases),
        "labels": len(by_label),
        "first": _interval(first, labels),
        "first_three": _interval(first_three, labels),
        "named_surely": _interval(named, labels),
        "first_mean_of_labels": round(float(np.mean([np.mean(values) for values in by_label.values()])), 3),
    }


def _ranking(scores: np.ndarray) -> list[str]:
    tops = {
        label: scores[:, list(positions)].max() for label, positions in label_members().items() if label not in GENERAL
    }
    return sorted(tops, key=tops.__getitem__, reverse=True)


def _scene_errors(cases: Sequence[Case], settings: EventSettings) -> dict:
    predictions = [events_of(case.scores, case.seconds, settings) for case in cases]
    sure = [[e for e in events if e.label not in GENERAL and e.confidence >= settings.sure] for events in predictions]
    report: dict = {"count": len(cases), "events": sum(len(case.events) for case in cases)}
    # Precision, recall and F1 by name, and by name and times, with intervals over scenes.
    for name, timed in (("named", False), ("placed", True)):
        rows = []
        for events, case in zip(sure, cases, strict=True):
            hits = len(_match(events, case.events, timed))
            rows.append((hits, len(events) - hits, len(case.events) - hits))
        tp, fp, fn = np.array(rows, float).T
        groups = list(range(len(cases)))
        for key, numerator, denominator in (
            ("precision", tp, tp + fp),
            ("recall", tp, tp + fn),
            ("f1", 2 * tp, 2 * tp + fp + fn),
        ):
            report[f"{name}_{key}"] = _rounded(bootstrap_interval(numerator, denominator, groups=groups))
    # F1 by the number of events in the scene.
    for size in (2, 3, 4, 5):
        subset = [(e, c) for e, c in zip(sure, cases, strict=True) if len(c.events) == size]
        hits = sum(len(_match(e, c.events, False)) for e, c in subset)
        total = sum(len(e) + len(c.events) for e, c in subset)
        report[f"named_f1_of_{size}"] = round(2 * hits / max(1, total), 3)
    pairs = [pair for events, case in zip(sure, cases, strict=True) for pair in _match(events, case.events, False)]
    on, off = (np.array([getattr(e, field) - getattr(t, field) for e, t in pairs]) for field in ("onset_s", "offset_s"))
    report["onset_error_s"], report["offset_error_s"] = _spread(on), _spread(off)
    # The share of missed events that an unsure event names.
    unsure = [[e for e in events if e.label not in GENERAL and e.confidence < settings.sure] for events in predictions]
    misses = [
        t
        for events, case in zip(sure, cases, strict=True)
        for t in case.events
        if not any(t is truth for _, truth in _match(events, case.events, False))
    ]
    n_unsure = sum(
        any(e.label == t.label for e in unsure_events)
        for unsure_events, case in zip(unsure, cases, strict=True)
        for t in case.events
        if any(t is miss for miss in misses)
    )
    report["missed_but_unsure"] = round(n_unsure / max(1, len(misses)), 3)
    # Calibration: the accuracy of all events in five bins of confidence.
    bins = defaultdict(list)
    for events, case in zip(predictions, cases, strict=True):
        for event in events:
            if event.label not in GENERAL:
                correct = any(t.label == event.label and _overlap(t, event) > 0 for t in case.events)
                bins[min(int(event.confidence * 5), 4)].append((event.confidence, correct))
    report["calibration"] = [
        {
            "confidence": round(float(np.mean([confidence for confidence, _ in rows])), 3),
            "right": round(float(np.mean([correct for _, correct in rows])), 3),
            "events": len(rows),
        }
        for _, rows in sorted(bins.items())
    ]
    return report


def _spread(values: np.ndarray) -> dict:
    low, middle, high = np.percentile(values, [10, 50, 90]) if len(values) else (0.0, 0.0, 0.0)
    return {"p10": round(float(low), 2), "median": round(float(middle), 2), "p90": round(float(high), 2)}


def _label_errors(single: Sequence[Case], mixed: Sequence[Case], settings: EventSettings) -> dict:
    table: dict[str, Counter] = defaultdict(Counter)
    for case in single:
        (event,) = case.events
        ranked = _ranking(case.scores)
        table[event.label]["recordings"] += 1
        table[event.label]["first"] += ranked[0] == event.label
        table[event.label]["first_three"] += event.label in ranked[:3]
    for case in mixed:
        sure = [e for e in events_of(case.scores, case.seconds, settings) if e.confidence >= settings.sure]
        pairs = _match(sure, case.events, False)
        for event in case.events:
            table[event.label]["events"] += 1
        for event in sure:
            if event.label not in GENERAL:
                table[event.label]["tagged"] += 1
        for event, _ in pairs:
            table[event.label]["right"] += 1
    keys = ("recordings", "first", "first_three", "events", "tagged", "right")
    return {label: {key: int(counts[key]) for key in keys} for label, counts in sorted(table.items())}


def _damage_rates(cases: Sequence[Case], settings: EventSettings) -> dict:
    """Return the tagger's errors as damage to a true list: rates of drops, swaps and additions, with the names."""
    events = dropped = swapped = 0
    added: Counter[str] = Counter()
    names: dict[str, Counter[str]] = defaultdict(Counter)
    shift: list[tuple[float, float]] = []
    for case in cases:
        sure = [e for e in events_of(case.scores, case.seconds, settings) if e.confidence >= settings.sure]
        sure = [e for e in sure if e.label not in GENERAL]
        pairs = _match(sure, case.events, False)
        shift += [(e.onset_s - t.onset_s, e.offset_s - t.offset_s) for e, t in pairs]
        unmatched = [e for e in sure if not any(e is matched for matched, _ in pairs)]
        events += len(case.events)
        for truth in case.events:
            if any(truth is matched for _, matched in pairs):
                continue
            best = max(unmatched, key=lambda e: _overlap(e, truth), default=None)  # noqa: B023 (used at once)
            if best is not None and _overlap(best, truth) > 0.5 * min(
                best.offset_s - best.onset_s, truth.offset_s - truth.onset_s
            ):
                swapped += 1
                names[truth.label][best.label] += 1
                unmatched.remove(best)
            else:
                dropped += 1
        added.update(e.label for e in unmatched)
    shift.sort()
    sample = shift[:: max(1, len(shift) // 100)]
    return {
        "events": events,
        "drop": round(dropped / events, 4),
        "swap": round(swapped / events, 4),
        "add": round(added.total() / events, 4),
        "swapped": {label: dict(counts.most_common()) for label, counts in sorted(names.items())},
        "added": dict(added.most_common()),
        "shifts_s": [[round(on, 2), round(off, 2)] for on, off in sample],
    }


def _interval(values: Sequence[bool], groups: Sequence[str]) -> dict:
    return _rounded(bootstrap_interval([float(value) for value in values], groups=list(groups)))


def _rounded(interval) -> dict:
    numbers = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: None if value is None else round(float(value), 3) for name, value in numbers.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bank", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    net = TaggerNet()
    packed = args.weights.suffix == ".safetensors"  # the shipped weights, to calibrate and measure them again
    net.load_state_dict(load_file(args.weights) if packed else torch.load(args.weights, weights_only=True))
    state = {name: value.half() if value.is_floating_point() else value for name, value in net.state_dict().items()}
    net.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
    net.eval()
    settings = calibrate(recordings(args.bank, "validation", net), scenes(args.bank, "validation", net))
    errors = measure(recordings(args.bank, "test", net), scenes(args.bank, "test", net), settings)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, args.out / "tagger.safetensors")
    (args.out / "tagger.json").write_text(json.dumps({"settings": asdict(settings), "errors": errors}, indent=1) + "\n")
    summary = {name: value for name, value in errors.items() if name in ("recordings", "scenes")}
    print(json.dumps(summary | {"settings": asdict(settings)}, indent=1))


if __name__ == "__main__":
    main()
