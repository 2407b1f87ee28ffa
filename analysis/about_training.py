"""Exhibits about trainings: rewards, lengths, dead groups, KL, entropy, attention to audio, loss, over steps.

All figures take the same recipes. A recipe that was trained under several seeds is one line, the mean, with a band from
the lowest seed to the highest; a single seed has the spread that its trainer logged, where it logged one. Metrics have
the names of TRL's log (``training/audio_grpo.py`` adds those with ``zero_variance_groups`` and ``audio_attention``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.exhibit import Exhibit
from analysis.figures import lines, panels
from analysis.training_log import TrainingLog, curve, families
from analysis.words import caption, number

__all__ = ["build_training_exhibits"]

_REWARD = re.compile(r"rewards/([^/]+)/mean")
_FEWEST = 20  # points of a line whose ends a reading compares


class _Curve(NamedTuple):
    """What a panel draws: a metric, its title, and what spreads a single seed."""

    metric: str
    title: str
    spread: tuple[str, str] | str | None = None
    percent: bool = False


class _Figure(NamedTuple):
    name: str
    title: str
    y_title: str
    curves: tuple[_Curve, ...]
    missing: str
    notes: tuple[str, ...] = ()


def build_training_exhibits(
    logs: Sequence[TrainingLog], chosen: Sequence[str] | None = None, window: int = 1
) -> list[Exhibit]:
    """Build every figure about trainings.

    Args:
        logs: The trainings.
        chosen: Labels of ``analysis.training_log.families``; None takes all, unknown ones are ignored.
        window: Logged steps that a moving mean of the lines, and of the sentences that read them, spans; 1 draws them
            as logged. Tables are always as logged.

    Returns:
        One exhibit a figure; without a drawing where no chosen training logged its metrics.
    """
    known = families(logs)
    shown = {name: known[name] for name in (known if chosen is None else chosen) if name in known}
    places = {name: place for place, name in enumerate(known)}
    return [_exhibit(figure, shown, places, window) for figure in _figures(shown)]


def _figures(shown: Mapping[str, Sequence[TrainingLog]]) -> list[_Figure]:
    metrics = {name for logs in shown.values() for log in logs for name in log.rows}
    rewards = sorted({match[1] for name in metrics if (match := _REWARD.fullmatch(name))})
    each = tuple(_Curve(f"rewards/{name}/mean", name, f"rewards/{name}/std") for name in rewards)
    dead = (_Curve("frac_reward_zero_std", "All rewards together", percent=True),)
    dead += tuple(_Curve(f"rewards/{name}/zero_variance_groups", name, percent=True) for name in rewards)
    only_grpo = "Only GRPO logs this: choose a GRPO recipe."
    return [
        _Figure(
            "training-reward",
            "Reward while training",
            "Reward, weighted sum",
            (_Curve("reward", "reward", "reward_std"),),
            only_grpo,
            ("The sum of all rewards by the recipe's weights, mean over completions.",),
        ),
        _Figure("training-rewards", "Each reward while training", "Reward", each, only_grpo),
        _Figure(
            "training-length",
            "Length of completions while training",
            "Tokens",
            (_Curve("completions/mean_length", "length", ("completions/min_length", "completions/max_length")),),
            only_grpo,
        ),
        _Figure(
            "training-dead",
            "Dead groups: all completions of a prompt got the same reward",
            "Share of groups",
            dead,
            only_grpo,
            ("A dead group has no advantage, so nothing is learnt from it.",),
        ),
        _Figure(
            "training-attention",
            "Attention to audio while training",
            "Attention to audio",
            (
                _Curve("audio_attention/ratio", "Share of attention on audio", percent=True),
                _Curve("audio_attention/corrected", "Length-corrected: 1 = uniform attention"),
            ),
            "These trainings did not watch attention: set watch_attention_every in the recipe.",
            ("Over one completion each time, teacher-forced: a sample, not a mean over the batch.",),
        ),
        _Figure(
            "training-kl",
            "Distance from the reference while training (KL)",
            "KL, nats a token",
            (_Curve("kl", "KL"),),
            "These trainings logged no KL: SFT has none, and GRPO only with beta above 0.",
        ),
        _Figure(
            "training-entropy",
            "Entropy of the policy while training",
            "Entropy, nats a token",
            (_Curve("entropy", "entropy"),),
            "These trainings logged no entropy.",
        ),
        _Figure(
            "training-loss",
            "Loss while training",
            "Loss",
            (_Curve("loss", "Training"), _Curve("eval_loss", "Validation")),
            "These trainings logged no loss.",
            ("GRPO's loss is no measure of progress: its advantages are centred at every step.",),
        ),
    ]


def _exhibit(
    figure: _Figure, shown: Mapping[str, Sequence[TrainingLog]], places: Mapping[str, int], window: int
) -> Exhibit:
    groups: list[tuple[_Curve, list[tuple[str, list[dict[str, Any]]]]]] = []
    sheets, findings, short = [], [], set()
    for part in figure.curves:
        series = []
        for name, logs in shown.items():
            found = curve(logs, part.metric, part.spread)
            if found.empty:
                continue
            having = [log for log in logs if part.metric in log.rows]
            if any(len(log.rows[part.metric].dropna()) > len(found) for log in having):
                short.add(name)
            sheets.append(found.assign(recipe=name, metric=part.metric))
            line = _smooth(found, window)
            findings.append(_finding(name, part, line, len(figure.curves) > 1))
            series.append((name, line.to_dict("records")))
        if series:
            groups.append((part, series))
    if not groups:
        return Exhibit(figure.name, figure.title, figure.missing)
    names = [name for name in shown if any(name == known for _, series in groups for known, _ in series)]
    # Every panel has every recipe, so that a colour and a place in the legend mean the same one in each.
    full = [(part, [(name, dict(series).get(name, [])) for name in names]) for part, series in groups]
    settings: dict[str, Any] = {
        "x_title": "Step",
        "y_title": figure.y_title,
        "tip": lambda row: (
            f"step {row['step']}: {number(row['value'])}<br>{number(row['low'])} to {number(row['high'])}"
            if row["low"] == row["low"]
            else f"step {row['step']}: {number(row['value'])}"
        ),
        "places": [places[name] for name in names],
    }
    if len(full) == 1:
        drawing = lines(full[0][1], "step", "value", percent=full[0][0].percent, **settings)
    else:
        drawing = panels(
            [(part.title, series) for part, series in full],
            "step",
            "value",
            percent=all(part.percent for part, _ in full),
            shared=len({part.percent for part, _ in full}) == 1,
            **settings,
        )
    table = pd.concat(sheets, ignore_index=True)
    return Exhibit(
        figure.name,
        figure.title,
        caption(findings),
        drawing,
        table[["recipe", "metric", "step", "value", "low", "high", "logs"]],
        (*figure.notes, *_notes(shown, names, window), *_short(short)),
    )


def _finding(name: str, part: _Curve, line: pd.DataFrame, titled: bool) -> str:
    """Read a line as it is drawn: its ends, or where it has few points only the values between which it stays."""
    steps, values = line["step"], line["value"]
    what = f"{part.title} " if titled else ""
    if len(line) == 1:
        return f"{name}: {what}{_value(part, values.iat[0])}, logged once (step {steps.iat[0]})."
    if len(line) < _FEWEST:
        return (
            f"{name}: {what}{_value(part, values.min())} to {_value(part, values.max())} over {steps.iat[-1]} steps, "
            "too few for a trend."
        )
    ends = f"{_value(part, values.iat[0])} at step {steps.iat[0]}, {_value(part, values.iat[-1])} at step"
    return f"{name}: {what}{ends} {steps.iat[-1]}."


def _value(part: _Curve, value: float) -> str:
    return f"{100 * value:.1f} %" if part.percent else number(float(value))


def _smooth(found: pd.DataFrame, window: int) -> pd.DataFrame:
    if window <= 1:
        return found
    means = found[["value", "low", "high"]].rolling(window, center=True, min_periods=1).mean()
    return found.assign(**means)


def _notes(shown: Mapping[str, Sequence[TrainingLog]], names: Sequence[str], window: int) -> list[str]:
    notes = ["Bands: from the lowest to the highest seed; for a single seed, the spread that its trainer logged."]
    if window > 1:
        notes.append(f"Lines are moving means over {window} logged steps; the table is as logged.")
    for name in names:
        for log in shown[name]:
            known = {key: log.manifest[key] for key in ("base", "steps", "started", "package", "note")}
            facts = "; ".join(f"{key} {value}" for key, value in known.items() if value is not None)
            notes.append(f"{log.name}: recipe {log.recipe} ({log.kind}), seed {log.seed}; {facts}.")
    return notes


def _short(names: set[str]) -> list[str]:
    return [f"{name}: only the steps that all its seeds logged are drawn." for name in sorted(names)]
