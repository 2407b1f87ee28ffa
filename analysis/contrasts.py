"""Arms against arms on the same items: differences with their tests, controls, modes, forced lengths, seeds.

Two arms are compared over the items that both have (same benchmark fingerprint, same id), item by item: the difference
with a paired bootstrap interval, and McNemar's exact test where each item has one answer of 0 or 1.

A **control** is an arm whose manifest entry differs from another arm's in one setting only, such as audio, perception,
length limit or sampling. Pairs are detected, not declared. A larger ``min_reasoning_tokens`` may come with a larger
``max_new_tokens``; that counts as one setting. Two arms form a **direct and reasoning** pair if one checkpoint was run
in both modes (with any budgets), or if their names differ by a final dagger or "thinks", as in the paper's Figure 1
("R1-AQA" and "R1-AQA†").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.load import ArmInfo, RunTable
from analysis.metrics import Metric, codes_of, measured, metric_of, rate, rate_of, units
from mpar2 import statistics


class Side(NamedTuple):
    """One side of a comparison: numerators and denominators, (n,), and their n rows with item and clip."""

    above: NDArray[np.float64]
    below: NDArray[np.float64]
    rows: pd.DataFrame


class Difference(NamedTuple):
    """Second minus first over the items that both have; ``exact`` is McNemar's test, where it applies."""

    estimate: float | None
    low: float | None
    high: float | None
    p_value: float | None
    items: int
    clips: int
    exact: statistics.McNemar | None = None

    def columns(self) -> dict[str, Any]:
        """Return the columns of a table: difference, low, high, and the p values of both tests."""
        p_values = {"p_bootstrap": self.p_value, "p_mcnemar": self.exact.p_value if self.exact else None}
        return {"difference": self.estimate, "low": self.low, "high": self.high, **p_values}


def paired(first: Side, second: Side) -> Difference:
    """Compare two sides on their common items by a paired bootstrap over clips.

    McNemar's test assumes independent items. It is computed only if each clip has one item and each item has one
    answer of 0 or 1 on both sides.
    """
    codes = codes_of(pd.concat([first.rows["item"], second.rows["item"]], ignore_index=True))
    side_codes = codes[: len(first.rows)], codes[len(first.rows) :]
    if not all(map(len, side_codes)):
        return Difference(None, None, None, None, 0, 0)
    n_items = int(codes.max()) + 1
    shared = np.logical_and(*(np.bincount(codes_of_side, minlength=n_items) > 0 for codes_of_side in side_codes))
    if not shared.any():
        return Difference(None, None, None, None, 0, 0)
    columns = [
        np.bincount(codes_of_side, column, n_items)[shared]
        for codes_of_side, side in zip(side_codes, (first, second), strict=True)
        for column in (side.above, side.below)
    ]
    clip_of_item = np.zeros(n_items, dtype=np.intp)
    clip_of_item[side_codes[0]] = codes_of(first.rows["clip"])
    clips = clip_of_item[shared]
    interval = statistics.paired_bootstrap(columns[0], columns[2], denominators=(columns[1], columns[3]), groups=clips)
    items = int(shared.sum())
    binary = all((column == 1).all() for column in columns[1::2]) and np.isin(columns[::2], (0.0, 1.0)).all()
    exact = statistics.mcnemar(columns[0], columns[2]) if binary and interval.n == items else None
    return Difference(interval.estimate, interval.low, interval.high, interval.p_value, items, interval.n, exact)


_IGNORED_KEYS = ("name", "items", "prompt_hash", "prompt_version", "model_hash", "adapter_hash")
_MODEL_KEYS = ("model", "adapter", "mode")
_LENGTH_KEYS = ("max_reasoning_tokens", "min_reasoning_tokens")
_SAMPLING_KEYS = ("samples", "temperature", "top_p", "top_k", "repetition_penalty")
_NORMAL = {
    "audio": "normal",
    "perception": "own",
    "min_reasoning_tokens": 0,
    "max_reasoning_tokens": None,
    "hide_audio_after": None,
}
_WORDS = {
    ("audio", "silent"): "silent audio",
    ("audio", "shuffled"): "shuffled audio",
    ("perception", "oracle"): "true events given",
}
_AMOUNTS = {
    "max_new_tokens": "at most {}",
    "max_reasoning_tokens": "at most {} of reasoning",
    "min_reasoning_tokens": "at least {} of reasoning",
    "hide_audio_after": "audio masked after {}",
}


class Control(NamedTuple):
    """Two arms that differ in one setting; ``what`` describes it."""

    reference: ArmInfo
    control: ArmInfo
    setting: str
    what: str


def benchmark_of(table: RunTable, arm: ArmInfo) -> str:
    """Return the fingerprint of an arm's benchmark, else its run's name. Only arms of one benchmark are compared."""
    (run,) = (run for run in table.runs if run.name == arm.run)
    return str((run.manifest.get("benchmark") or {}).get("fingerprint") or run.name)


def baseline_of(table: RunTable, label: str) -> str:
    """Return the baseline of an arm: the first arm of its benchmark, which may be the arm itself."""
    benchmark = benchmark_of(table, table.arm(label))
    return next(arm.label for arm in table.arms if benchmark_of(table, arm) == benchmark)


def _pairs(table: RunTable) -> list[tuple[ArmInfo, ArmInfo]]:
    """Return the pairs of arms with known settings on one benchmark."""
    candidates = [(arm, benchmark_of(table, arm)) for arm in table.arms if arm.settings]
    return [(a, b) for (a, first), (b, second) in combinations(candidates, 2) if first == second]


def arms_table(table: RunTable) -> pd.DataFrame:
    """Return a row for each arm: counts of answers, accuracy by both rules, mean length."""
    rows = []
    for label in table.labels:
        answers = table.rows(label)
        if answers.empty:
            continue
        accuracy, strict, tokens = (rate(answers, metric_of(name)) for name in ("accuracy", "strict", "tokens"))
        rows.append(
            {
                "arm": label,
                "items": answers["item"].nunique(),
                "clips": answers["clip"].nunique(),
                "answers": len(answers),
                "failed": int((answers["status"] == "error").sum()),
                "no answer found": int((answers["answered"] == 0).sum()),
                "in form": answers["form"].mean(),
                "no choice named": int(((answers["parsed"] == 0) & (answers["answered"] == 1)).sum()),
                "truncated": int(answers["truncated"].sum()),
                "accuracy": accuracy.estimate,
                "low": accuracy.low,
                "high": accuracy.high,
                "strict": strict.estimate,
                "tokens": tokens.estimate,
            }
        )
    return pd.DataFrame(rows)


def versus(table: RunTable, first: str, second: str, metric: Metric) -> dict[str, Any]:
    """Compare two arms on their common items.

    Returns:
        Second minus first, with interval, tests, and numbers of items and clips.
    """
    sides = []
    for label in (first, second):
        answers = table.rows(label)
        above, below, known = measured(answers, metric)
        sides.append(Side(above, below, units(answers, known)))
    difference = paired(*sides)
    exact = difference.exact if metric.share else None
    return {
        **{"arm": second, "minus": first, "metric": metric.name},
        **difference._replace(exact=exact).columns(),
        "only_first_right": exact.only_first if exact else None,
        "only_second_right": exact.only_second if exact else None,
        "items": difference.items,
        "clips": difference.clips,
    }


def against(name: str, first: Side, second: Side) -> dict[str, Any]:
    """Compare two sides, as columns (:func:`difference_columns`) beside the second one's value."""
    return difference_columns({"minus": name, **paired(first, second).columns()})


def probe_rates(table: RunTable) -> pd.DataFrame:
    """Return each arm's right answers to probes of present and of absent events, against the benchmark's first arm.

    Probes without a yes or no are excluded and counted.

    Returns:
        A row for each arm and kind of probe: the rate with its 95 % interval over clips, ``probes`` (answered),
        ``asked``, and the columns of :func:`difference_columns`.
    """
    rows: list[dict[str, Any]] = []
    bases: dict[tuple[str, str], tuple[str, Side]] = {}
    for name in table.labels:
        probes = table.probes[table.probes["arm"] == name]
        for kind, present in (("present, answered yes", True), ("absent, answered no", False)):
            asked = probes[probes["present"] == present]
            kind_probes = asked[asked["yes"].notna()]
            right = (kind_probes["yes"].astype(bool) == present).to_numpy(dtype=float)
            result = rate_of(right, None, kind_probes, share=True)
            if result.estimate is None:
                continue
            side = Side(right, right * 0 + 1, kind_probes)
            minus, base = bases.setdefault((benchmark_of(table, table.arm(name)), kind), (name, side))
            comparison = against(minus, base, side) if minus != name else difference_columns({})
            counts = {"probes": len(kind_probes), "asked": len(asked)}
            rows.append({"arm": name, "probe": kind, **result.columns(), **counts, **comparison})
    return pd.DataFrame(rows)


def difference_columns(compared: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result of :func:`versus` as columns beside an arm's own; None in each for an empty result."""
    names = {"low": "difference_low", "high": "difference_high"}
    keys = ("minus", "difference", "low", "high", "p_bootstrap", "p_mcnemar")
    return {names.get(key, key): compared.get(key) for key in keys}


def controls(table: RunTable) -> list[Control]:
    """Return every pair of arms that differ in exactly one setting, with its reference."""
    pairs = []
    for a, b in _pairs(table):
        settings = _differing_settings(a, b)
        if len(settings) != 1 or settings & set(_MODEL_KEYS):
            continue
        (setting,) = settings
        reference, control = (b, a) if _is_reference(b, a, setting) else (a, b)
        if setting in _NORMAL and reference.get(setting, _NORMAL[setting]) != _NORMAL[setting]:
            continue  # silent against shuffled: two floors, and no reference
        pairs.append(Control(reference, control, setting, _control_description(reference, control, setting)))
    return pairs


def _differing_settings(a: ArmInfo, b: ArmInfo) -> set[str]:
    keys = (set(a.settings) | set(b.settings)) - set(_IGNORED_KEYS)
    changed = {key for key in keys if a.get(key, _NORMAL.get(key)) != b.get(key, _NORMAL.get(key))}
    if "min_reasoning_tokens" in changed:
        short, long = sorted((a, b), key=lambda arm: arm.get("min_reasoning_tokens") or 0)
        if (long.get("max_new_tokens") or 0) > (short.get("max_new_tokens") or 0):
            changed.discard("max_new_tokens")
    return {"sampling" if key in _SAMPLING_KEYS else key for key in changed}


def _is_reference(a: ArmInfo, b: ArmInfo, setting: str) -> bool:
    """Return whether ``a`` is the reference of the pair in this setting."""
    if setting in _NORMAL:
        return a.get(setting, _NORMAL[setting]) == _NORMAL[setting]
    if setting == "sampling":
        return a.get("samples", 1) < b.get("samples", 1)
    value_a, value_b = a.get(setting), b.get(setting)
    if setting == "max_new_tokens":
        return (value_a or 0) > (value_b or 0)
    unset = (None, "", 0, False, "normal", "none")
    return value_a in unset and value_b not in unset


def _control_description(reference: ArmInfo, control: ArmInfo, setting: str) -> str:
    if setting == "sampling":
        return f"{control.get('samples', 1)} samples at temperature {control.get('temperature', 0):g}"
    value = control.get(setting)
    if setting in _AMOUNTS:
        return _AMOUNTS[setting].format(f"{value} tokens" if type(value) is int else value)
    return _WORDS.get((setting, str(value)), f"{setting.replace('_', ' ')} {value}")


def control_rows(table: RunTable, metric: Metric) -> pd.DataFrame:
    """Compare each of :func:`controls` (in words) with its reference: :func:`versus`, and ``p_holm`` over all."""
    rows = [
        {"control": control.what, **versus(table, control.reference.label, control.control.label, metric)}
        for control in controls(table)
    ]
    return corrected(pd.DataFrame(rows))


def control_levels(table: RunTable, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Measure each reference and its controls, each over all items of its arm.

    Returns:
        A row for each arm and metric that has a value: reference, arm, control ("unchanged" for the reference), metric
        (label), value with low and high, items, clips.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in controls(table):
        for arm, description in ((pair.reference, "unchanged"), (pair.control, pair.what)):
            for metric in metrics:
                key = (pair.reference.label, arm.label, metric.label)
                result = rate(table.rows(arm.label), metric)
                if key not in rows and result.estimate is not None:
                    names = {"reference": key[0], "arm": key[1], "control": description, "metric": key[2]}
                    rows[key] = names | result.columns()
    return pd.DataFrame(list(rows.values()))


_THINKS = re.compile(r"(?:\s*†|[ -]thinks)$")
_SEED = re.compile(r"[ -]seed[ -]?(\d+)$")


def chance_of(rows: pd.DataFrame) -> float | None:
    """Return the accuracy of random guessing on the items of these rows; None if the truth is unknown."""
    chances = rows[np.isfinite(rows["chance"])].drop_duplicates("item")["chance"]
    return float(chances.mean()) if len(chances) else None


def is_plain(arm: ArmInfo) -> bool:
    """Return whether an arm is no control: normal audio, own perception, no forced length, one answer per item."""
    unchanged = all(arm.get(key, normal) == normal for key, normal in _NORMAL.items())
    return unchanged and arm.get("samples", 1) == 1


def mode_pairs(table: RunTable) -> list[tuple[ArmInfo, ArmInfo]]:
    """Return (direct, reasoning) pairs: one checkpoint in two modes, or trainings with and without reasoning.

    Budgets and sampling are ignored, and controls are excluded. Trainings are paired by name, as in the paper's
    Figure 1: "R1-AQA" with "R1-AQA†" or "R1-AQA thinks".
    """
    by_name = {(benchmark_of(table, arm), arm.name): arm for arm in table.arms}
    pairs = []
    for thinking in table.arms:
        if match := _THINKS.search(thinking.name):
            direct = by_name.get((benchmark_of(table, thinking), thinking.name[: match.start()].rstrip()))
            if direct is not None:
                pairs.append((direct, thinking))
    for a, b in _pairs(table):
        one_checkpoint = all(a.get(key) == b.get(key) for key in ("model", "adapter"))
        modes = {a.get("mode"), b.get("mode")}
        if one_checkpoint and "direct" in modes and len(modes) == 2 and is_plain(a) and is_plain(b):
            pairs.append((a, b) if a.get("mode") == "direct" else (b, a))
    return pairs


def roles(table: RunTable) -> list[tuple[ArmInfo, ArmInfo]]:
    """Return the (base, MPAR²) arms of each benchmark, whose difference the captions state.

    MPAR² is the first plain arm in mode "mpar2" whose weights differ from the base's. The base is the first plain arm
    without an adapter in mode "cot", else in mode "direct".
    """
    pairs = []
    for benchmark in dict.fromkeys(benchmark_of(table, arm) for arm in table.arms):
        arms = [arm for arm in table.arms if benchmark_of(table, arm) == benchmark and arm.settings and is_plain(arm)]
        bases = [arm for arm in arms if not arm.get("adapter") and arm.get("mode") in ("cot", "direct")]
        bases.sort(key=lambda arm: arm.get("mode") != "cot")
        if bases:
            weights = bases[0].get("model"), bases[0].get("adapter")
            trained = [
                arm for arm in arms if arm.get("mode") == "mpar2" and (arm.get("model"), arm.get("adapter")) != weights
            ]
            if trained:
                pairs.append((bases[0], trained[0]))
    return pairs


def attending_roles(table: RunTable, metric: Metric) -> list[tuple[str, str]]:
    """Return the labels of the pairs of :func:`roles` among the arms whose attention was recorded."""
    labels = {arm.label for arm in table.arms if rate(table.rows(arm.label), metric).items}
    recorded = replace(table, arms=tuple(arm for arm in table.arms if arm.label in labels))
    return [(base.label, trained.label) for base, trained in roles(recorded)]


def forced_lengths(table: RunTable) -> list[tuple[str, list[ArmInfo]]]:
    """Return the families of arms that differ only in their limits of length, each with the names of these settings."""
    families: dict[tuple[Any, ...], list[ArmInfo]] = {}
    for arm in table.arms:
        if arm.settings:
            others = {k: v for k, v in arm.settings.items() if "token" not in k and "length" not in k}
            key = sorted((k, repr(value)) for k, value in others.items() if k not in _IGNORED_KEYS)
            families.setdefault((arm.run, *key), []).append(arm)
    named_families = []
    for family in families.values():
        if len(family) > 1:
            keys = sorted({key for a, b in combinations(family, 2) for key in _differing_settings(a, b)})
            if keys:
                named_families.append((", ".join(key.replace("_", " ") for key in keys), family))
    return named_families


def forced_rows(table: RunTable, metric: Metric) -> pd.DataFrame:
    """Measure the arms of each family of :func:`forced_lengths` on the items that all of them have.

    Returns:
        A row for each arm, by family and length: family (label of its free arm), setting, arm, length (mean tokens),
        value with low and high, items, clips, and the difference from the free arm, paired by item.
    """
    rows = []
    for setting, family in forced_lengths(table):
        labels = [arm.label for arm in family]
        free_arms = [arm for arm in family if all(arm.get(key, _NORMAL[key]) == _NORMAL[key] for key in _LENGTH_KEYS)]
        family_name = max(free_arms or family, key=lambda arm: arm.get("max_new_tokens") or 0).label
        answers = table.frame[table.frame["arm"].isin(labels) & np.isfinite(table.frame["tokens"])]
        by_item = answers.groupby("item", observed=True)["arm"].nunique()
        common = answers[answers["item"].isin(by_item.index[by_item == len(labels)])]
        for label in labels:
            arm_answers = common[common["arm"] == label]
            if arm_answers.empty:
                continue
            result = rate(arm_answers, metric)
            comparison = versus(table, family_name, label, metric) if label != family_name else {}
            names = {"family": family_name, "setting": setting, "arm": label}
            length = {"length": float(arm_answers["tokens"].mean())}
            rows.append(names | length | result.columns() | difference_columns(comparison))
    return pd.DataFrame(rows).sort_values(["family", "length"]) if rows else pd.DataFrame()


def seeds(table: RunTable, metric: Metric) -> pd.DataFrame:
    """Measure arms that ran under several seeds.

    A seed is that of an evaluation (one arm in several runs), or of a training (arms named "NAME seed 0", "NAME seed
    1", ..).

    Returns:
        A row for each such arm: mean, sd (of the sample), lowest and highest over ``seeds`` seeds, the value of each.
    """
    manifests = {run.name: run.manifest for run in table.runs}
    families: dict[tuple[Any, ...], list[tuple[Any, ArmInfo]]] = {}
    for arm in table.arms:
        manifest = manifests[arm.run]
        benchmark = repr(manifest.get("benchmark", {}).get("fingerprint"))
        if match := _SEED.search(arm.name):
            family = (arm.name[: match.start()], "training", benchmark)
            families.setdefault(family, []).append((int(match[1]), arm))
        elif arm.settings and "seed" in manifest:
            settings = {k: v for k, v in arm.settings.items() if k not in ("name", "items")}
            family = (arm.name, "evaluation", benchmark, repr(sorted(settings.items())))
            families.setdefault(family, []).append((manifest["seed"], arm))
    rows = []
    for (name, kind, *_), members in families.items():
        if len({seed for seed, _ in members}) < 2:
            continue
        values = [(seed, rate(table.rows(arm.label), metric).estimate) for seed, arm in members]
        estimates = [value for _, value in values if value is not None]
        if estimates:
            rows.append(
                {
                    "arm": name,
                    "of": kind,
                    "run": members[0][1].run,
                    "seeds": len(estimates),
                    "mean": float(np.mean(estimates)),
                    "sd": float(np.std(estimates, ddof=1)) if len(estimates) > 1 else None,
                    "lowest": min(estimates),
                    "highest": max(estimates),
                    "values": "; ".join(f"seed {seed}: {value:.4f}" for seed, value in values if value is not None),
                }
            )
    return pd.DataFrame(rows)


def corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ``p_holm``: each row's test (McNemar's where there is one) corrected for all rows."""
    if rows.empty or "p_bootstrap" not in rows:
        return rows
    p_values = rows["p_mcnemar"].astype(float).fillna(rows["p_bootstrap"].astype(float))
    return rows.assign(p_holm=statistics.holm(p_values.tolist()))
