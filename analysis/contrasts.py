"""Arms against arms on the same items: differences with their tests, controls, modes, forced lengths, seeds.

Two arms are compared over the items that both have (same benchmark fingerprint, same id), item by item: the difference
with a paired bootstrap interval, and McNemar's exact test where each item has one answer of 0 or 1.

A **control** is an arm whose manifest entry differs from another arm's in one setting only (its audio, what it is
given, how long it may write, how it samples, or any setting that ``evaluate`` grows): the pair is found, not declared.
An arm that is made to reason on may also be given the room for it (a larger ``max_new_tokens``): that is one setting.
Two arms belong together as **direct and reasoning** where one checkpoint was asked both ways (whatever the budgets), or
where their names differ by a final dagger or "thinks", as in the paper's Figure 1 ("R1-AQA" and "R1-AQA†").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.load import ArmInfo, RunTable
from analysis.metrics import Metric, codes_of, measured, metric_of, rate, rate_of, units
from mpar2 import statistics

__all__ = [
    "Control",
    "against",
    "arms_table",
    "attending_roles",
    "baseline_of",
    "chance_of",
    "control_levels",
    "control_rows",
    "controls",
    "corrected",
    "difference_columns",
    "forced_lengths",
    "forced_rows",
    "is_plain",
    "mode_pairs",
    "paired",
    "probe_rates",
    "roles",
    "seeds",
    "versus",
]


class Side(NamedTuple):
    """One side of a comparison: numerators, denominators, and the rows (with item and clip) that they are of."""

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


def paired(first: Side, second: Side) -> Difference:
    """Compare two sides on their common items; clips are resampled whole.

    McNemar's test takes items as independent, so it is given only where each clip has one item, and each item one
    answer of 0 or 1 on both sides.

    Args:
        first: Values, denominators and items of the first side.
        second: The same of the second side.

    Returns:
        Second minus first, with its interval and tests.
    """
    codes = codes_of(pd.concat([first.rows["item"], second.rows["item"]], ignore_index=True))
    parts = codes[: len(first.rows)], codes[len(first.rows) :]
    if not all(map(len, parts)):
        return Difference(None, None, None, None, 0, 0)
    most = int(codes.max()) + 1
    both = np.logical_and(*(np.bincount(part, minlength=most) > 0 for part in parts))
    if not both.any():
        return Difference(None, None, None, None, 0, 0)
    columns = [
        np.bincount(part, column, most)[both]
        for part, side in zip(parts, (first, second), strict=True)
        for column in (side.above, side.below)
    ]
    clip_of_item = np.zeros(most, dtype=np.intp)
    clip_of_item[parts[0]] = codes_of(first.rows["clip"])
    clips = clip_of_item[both]
    found = statistics.paired_bootstrap(columns[0], columns[2], denominators=(columns[1], columns[3]), groups=clips)
    items = int(both.sum())
    answers = all((column == 1).all() for column in columns[1::2]) and np.isin(columns[::2], (0.0, 1.0)).all()
    exact = statistics.mcnemar(columns[0], columns[2]) if answers and found.n == items else None
    return Difference(found.estimate, found.low, found.high, found.p_value, items, found.n, exact)


_TOLD = ("name", "items", "prompt_hash", "prompt_version", "model_hash", "adapter_hash")
_WHO = ("model", "adapter", "mode")
_SAMPLING = ("samples", "temperature", "top_p", "top_k", "repetition_penalty")
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
    """Two arms that differ in one setting; ``what`` says in which."""

    reference: ArmInfo
    control: ArmInfo
    setting: str
    what: str


def benchmark_of(table: RunTable, arm: ArmInfo) -> str:
    """Return the fingerprint of an arm's benchmark: arms of two benchmarks share no item, and are not compared.

    Args:
        table: The runs.
        arm: One of its arms.

    Returns:
        The fingerprint, or the run's name where the manifest has none.
    """
    (run,) = (run for run in table.runs if run.name == arm.run)
    return str((run.manifest.get("benchmark") or {}).get("fingerprint") or run.name)


def baseline_of(table: RunTable, label: str) -> str:
    """Return the arm that one is compared with: the first arm of its benchmark, which may be itself.

    Args:
        table: The runs.
        label: Label of the arm.

    Raises:
        AnalysisError: No arm has that label.
    """
    wanted = benchmark_of(table, table.arm(label))
    return next(arm.label for arm in table.arms if benchmark_of(table, arm) == wanted)


def _pairs(table: RunTable) -> list[tuple[ArmInfo, ArmInfo]]:
    """Return the pairs of arms with known settings on one benchmark."""
    known = [(arm, benchmark_of(table, arm)) for arm in table.arms if arm.settings]
    return [(a, b) for (a, first), (b, second) in combinations(known, 2) if first == second]


def arms_table(table: RunTable) -> pd.DataFrame:
    """Return what each arm did: counts, accuracy by both rules, length."""
    rows = []
    for label in table.labels:
        part = table.rows(label)
        if part.empty:
            continue
        accuracy, strict, tokens = (rate(part, metric_of(name)) for name in ("accuracy", "strict", "tokens"))
        rows.append(
            {
                "arm": label,
                "items": part["item"].nunique(),
                "clips": part["clip"].nunique(),
                "answers": len(part),
                "failed": int((part["status"] == "error").sum()),
                "no answer found": int((part["answered"] == 0).sum()),
                "in form": part["form"].mean(),
                "no choice named": int(((part["parsed"] == 0) & (part["answered"] == 1)).sum()),
                "truncated": int(part["truncated"].sum()),
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

    Args:
        table: The loaded runs.
        first: Label of the first arm.
        second: Label of the second arm.
        metric: What is compared.

    Returns:
        Second minus first, with interval, tests, and numbers of items and clips.
    """
    sides = []
    for label in (first, second):
        part = table.rows(label)
        above, below, known = measured(part, metric)
        sides.append(Side(above, below, units(part, known)))
    difference = paired(*sides)
    exact = difference.exact if metric.share else None
    return {
        "arm": second,
        "minus": first,
        "metric": metric.name,
        "difference": difference.estimate,
        "low": difference.low,
        "high": difference.high,
        "p_bootstrap": difference.p_value,
        "p_mcnemar": exact.p_value if exact else None,
        "only_first_right": exact.only_first if exact else None,
        "only_second_right": exact.only_second if exact else None,
        "items": difference.items,
        "clips": difference.clips,
    }


def against(name: str, first: Side, second: Side) -> dict[str, Any]:
    """Compare two sides, as columns beside the second one's value.

    Args:
        name: Label of the first side.
        first: The side that is subtracted.
        second: The side whose row gets the columns.

    Returns:
        The columns of :func:`difference_columns`.
    """
    away = paired(first, second)
    exact = away.exact
    found = {"minus": name, "difference": away.estimate, "low": away.low, "high": away.high}
    return difference_columns(found | {"p_bootstrap": away.p_value, "p_mcnemar": exact.p_value if exact else None})


def probe_rates(table: RunTable) -> pd.DataFrame:
    """Return each arm's right answers to probes of present and of absent events, against the benchmark's first arm.

    Probes that were answered with neither yes nor no are left out and counted.

    Returns:
        A row for each arm and kind of probe: the rate with its 95 % interval over clips, ``probes`` (answered),
        ``asked``, and the columns of :func:`difference_columns`.
    """
    rows: list[dict[str, Any]] = []
    bases: dict[tuple[str, str], tuple[str, Side]] = {}
    for name in table.labels:
        every = table.probes[table.probes["arm"] == name]
        part = every[every["yes"].notna()]
        for kind, chosen in (
            ("present, answered yes", part[part["present"]]),
            ("absent, answered no", part[~part["present"]]),
        ):
            right = (chosen["yes"].astype(bool) == chosen["present"]).to_numpy(dtype=float)
            found = rate_of(right, None, chosen, share=True)
            if found.estimate is None:
                continue
            own = Side(right, right * 0 + 1, chosen)
            minus, base = bases.setdefault((benchmark_of(table, table.arm(name)), kind), (name, own))
            compared = against(minus, base, own) if minus != name else difference_columns({})
            asked = int((every["present"] == (kind == "present, answered yes")).sum())
            counts = {"probes": len(chosen), "asked": asked}
            rows.append({"arm": name, "probe": kind, **found.columns(), **counts, **compared})
    return pd.DataFrame(rows)


def difference_columns(compared: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`versus` found, as columns beside an arm's own value and interval.

    None for the arm of reference.
    """
    names = {"low": "difference_low", "high": "difference_high"}
    keys = ("minus", "difference", "low", "high", "p_bootstrap", "p_mcnemar")
    return {names.get(key, key): compared.get(key) for key in keys}


def controls(table: RunTable) -> list[Control]:
    """Return every pair of arms that differ in one setting, reference first."""
    found = []
    for a, b in _pairs(table):
        differing = _differing(a, b)
        if len(differing) != 1 or differing & set(_WHO):
            continue
        (setting,) = differing
        reference, control = (b, a) if _is_reference(b, a, setting) else (a, b)
        if setting in _NORMAL and reference.get(setting, _NORMAL[setting]) != _NORMAL[setting]:
            continue  # silent against shuffled: two floors, and no reference
        found.append(Control(reference, control, setting, _what(reference, control, setting)))
    return found


def _differing(a: ArmInfo, b: ArmInfo) -> set[str]:
    keys = (set(a.settings) | set(b.settings)) - set(_TOLD)
    unlike = {key for key in keys if a.get(key, _NORMAL.get(key)) != b.get(key, _NORMAL.get(key))}
    if "min_reasoning_tokens" in unlike:
        short, long = sorted((a, b), key=lambda arm: arm.get("min_reasoning_tokens") or 0)
        if (long.get("max_new_tokens") or 0) > (short.get("max_new_tokens") or 0):
            unlike.discard("max_new_tokens")
    return {"sampling" if key in _SAMPLING else key for key in unlike}


def _is_reference(a: ArmInfo, b: ArmInfo, setting: str) -> bool:
    """Return whether a, rather than b, is the arm that nothing was done to."""
    if setting in _NORMAL:
        return a.get(setting, _NORMAL[setting]) == _NORMAL[setting]
    if setting == "sampling":
        return a.get("samples", 1) < b.get("samples", 1)
    mine, other = a.get(setting), b.get(setting)
    if setting == "max_new_tokens":
        return (mine or 0) > (other or 0)
    return mine in (None, "", 0, False, "normal", "none") and other not in (None, "", 0, False, "normal", "none")


def _what(reference: ArmInfo, control: ArmInfo, setting: str) -> str:
    if setting == "sampling":
        return f"{control.get('samples', 1)} samples at temperature {control.get('temperature', 0):g}"
    value = control.get(setting)
    if setting in _AMOUNTS:
        return _AMOUNTS[setting].format(f"{value} tokens" if type(value) is int else value)
    return _WORDS.get((setting, str(value)), f"{setting.replace('_', ' ')} {value}")


def control_rows(table: RunTable, metric: Metric) -> pd.DataFrame:
    """Compare each control with its reference on their common items.

    Args:
        table: The runs.
        metric: What is compared.

    Returns:
        A row for each of :func:`controls`: what :func:`versus` returns, ``control`` (in words) and ``p_holm``.
    """
    rows = [
        {"control": control.what, **versus(table, control.reference.label, control.control.label, metric)}
        for control in controls(table)
    ]
    return corrected(pd.DataFrame(rows))


def control_levels(table: RunTable, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Measure each reference and its controls, each over all items of its arm.

    Args:
        table: The runs.
        metrics: What is measured.

    Returns:
        A row for each arm and metric that has a value: reference, arm, control ("unchanged" for the reference), metric
        (label), value with low and high, items, clips.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in controls(table):
        for arm, what in ((pair.reference, "unchanged"), (pair.control, pair.what)):
            for metric in metrics:
                key = (pair.reference.label, arm.label, metric.label)
                found = rate(table.rows(arm.label), metric)
                if key not in rows and found.estimate is not None:
                    names = {"reference": key[0], "arm": key[1], "control": what, "metric": key[2]}
                    rows[key] = names | found.columns()
    return pd.DataFrame(list(rows.values()))


_THINKS = re.compile(r"(?:\s*†|[ -]thinks)$")
_SEED = re.compile(r"[ -]seed[ -]?(\d+)$")


def chance_of(rows: pd.DataFrame) -> float | None:
    """Return what guessing among the given choices scores on the items of these rows; None where truth is unknown."""
    known = rows[np.isfinite(rows["chance"])].drop_duplicates("item")["chance"]
    return float(known.mean()) if len(known) else None


def is_plain(arm: ArmInfo) -> bool:
    """Return whether nothing is done to the arm: its own audio and perception, no forced length, one answer an item."""
    free = all(arm.get(key, normal) == normal for key, normal in _NORMAL.items())
    return free and arm.get("samples", 1) == 1


def mode_pairs(table: RunTable) -> list[tuple[ArmInfo, ArmInfo]]:
    """Return (direct, reasoning) pairs: one checkpoint asked both ways, or trainings that differ in thinking.

    Arms are paired by role: budgets and sampling do not matter, controls take no part. Trainings are paired by name, as
    in the paper's Figure 1: "R1-AQA" with "R1-AQA†" or "R1-AQA thinks".
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
    """Return (base, MPAR²) of each benchmark: the arms whose difference a figure's sentence states.

    MPAR² is the first plain arm in that mode whose weights are not the base's; the base is the first plain arm that
    reasons in its own way (else the first that answers directly) and is no training.
    """
    found = []
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
                found.append((bases[0], trained[0]))
    return found


def attending_roles(table: RunTable, metric: Metric) -> list[tuple[str, str]]:
    """Return the pairs of :func:`roles` among the arms whose attention was recorded.

    Args:
        table: The runs.
        metric: The attention metric that an arm must have.

    Returns:
        (base, MPAR²) labels, one pair for each benchmark that has both.
    """
    there = {arm.label for arm in table.arms if rate(table.rows(arm.label), metric).items}
    recorded = RunTable(
        table.frame, table.attention, table.probes, tuple(arm for arm in table.arms if arm.label in there), table.runs
    )
    return [(base.label, trained.label) for base, trained in roles(recorded)]


def forced_lengths(table: RunTable) -> list[tuple[str, list[ArmInfo]]]:
    """Return the families of arms that differ only in how long they may or must write, of at least two arms each.

    Returns:
        The settings that differ, in words, and the arms.
    """
    families: dict[tuple[Any, ...], list[ArmInfo]] = {}
    for arm in table.arms:
        if arm.settings:
            families.setdefault((arm.run, *_without_length(arm.settings)), []).append(arm)
    found = []
    for family in families.values():
        if len(family) > 1:
            keys = sorted({key for a, b in combinations(family, 2) for key in _differing(a, b)})
            if keys:
                found.append((", ".join(key.replace("_", " ") for key in keys), family))
    return found


def _without_length(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    kept = {k: v for k, v in settings.items() if k not in _TOLD and "token" not in k and "length" not in k}
    return tuple(sorted((key, repr(value)) for key, value in kept.items()))


def forced_rows(table: RunTable, metric: Metric) -> pd.DataFrame:
    """Measure the arms of each family of :func:`forced_lengths` on the items that all of them have.

    Args:
        table: The runs.
        metric: What is measured.

    Returns:
        A row for each arm, by family and length: family (label of its free arm), setting, arm, length (mean tokens),
        value with low and high, items, clips, and the difference from the free arm, paired by item.
    """
    rows = []
    for setting, family in forced_lengths(table):
        labels = [arm.label for arm in family]
        free = [arm for arm in family if _is_free(arm)] or family
        family_name = max(free, key=lambda arm: arm.get("max_new_tokens") or 0).label
        part = table.frame[table.frame["arm"].isin(labels) & np.isfinite(table.frame["tokens"])]
        by_item = part.groupby("item", observed=True)["arm"].nunique()
        common = part[part["item"].isin(by_item.index[by_item == len(labels)])]
        for label in labels:
            own = common[common["arm"] == label]
            if own.empty:
                continue
            found = rate(own, metric)
            compared = versus(table, family_name, label, metric) if label != family_name else {}
            rows.append(
                {
                    "family": family_name,
                    "setting": setting,
                    "arm": label,
                    "length": float(own["tokens"].mean()),
                    **found.columns(),
                    **difference_columns(compared),
                }
            )
    return pd.DataFrame(rows).sort_values(["family", "length"]) if rows else pd.DataFrame()


def _is_free(arm: ArmInfo) -> bool:
    """Return whether the arm may reason as long or as short as it likes."""
    return all(arm.get(key, _NORMAL[key]) == _NORMAL[key] for key in ("max_reasoning_tokens", "min_reasoning_tokens"))


def seeds(table: RunTable, metric: Metric) -> pd.DataFrame:
    """Measure arms that ran under several seeds.

    A seed is that of an evaluation (one arm in several runs), or of a training (arms named "NAME seed 0", "NAME seed
    1", ..).

    Args:
        table: The runs.
        metric: What is measured.

    Returns:
        A row for each such arm: mean, sd (of the sample), lowest and highest over ``seeds`` seeds, the value of each.
    """
    by_run = {run.name: run for run in table.runs}
    families: dict[tuple[Any, ...], list[tuple[Any, ArmInfo]]] = {}
    for arm in table.arms:
        manifest = by_run[arm.run].manifest
        benchmark = repr(manifest.get("benchmark", {}).get("fingerprint"))
        if match := _SEED.search(arm.name):
            family = (arm.name[: match.start()], "training", benchmark)
            families.setdefault(family, []).append((int(match[1]), arm))
        elif arm.settings and "seed" in manifest:
            kept = {k: v for k, v in arm.settings.items() if k not in ("name", "items")}
            family = (arm.name, "evaluation", benchmark, repr(sorted(kept.items())))
            families.setdefault(family, []).append((manifest["seed"], arm))
    rows = []
    for (name, kind, *_), members in families.items():
        if len({seed for seed, _ in members}) < 2:
            continue
        values = [(seed, rate(table.rows(arm.label), metric).estimate) for seed, arm in members]
        known = [value for _, value in values if value is not None]
        if known:
            rows.append(
                {
                    "arm": name,
                    "of": kind,
                    "run": members[0][1].run,
                    "seeds": len(known),
                    "mean": float(np.mean(known)),
                    "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
                    "lowest": min(known),
                    "highest": max(known),
                    "values": "; ".join(f"seed {seed}: {value:.4f}" for seed, value in values if value is not None),
                }
            )
    return pd.DataFrame(rows)


def corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ``p_holm``: each row's test (McNemar's where there is one) corrected for all rows."""
    if rows.empty or "p_bootstrap" not in rows:
        return rows
    tested = rows["p_mcnemar"].astype(float).fillna(rows["p_bootstrap"].astype(float))
    return rows.assign(p_holm=statistics.holm(tested.tolist()))
