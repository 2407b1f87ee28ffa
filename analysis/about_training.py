"""Exhibits about trainings: rewards, lengths, dead groups, KL, entropy, attention to audio, loss, over steps.

All figures show the same recipes. A recipe with several seeds is drawn as the mean over seeds, with a band from the
lowest seed to the highest. A single seed is drawn with the spread that its trainer logged, if any. Metrics have the
names of TRL's log (``training/audio_grpo.py`` adds those with ``zero_variance_groups`` and ``audio_attention``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.exhibit import Exhibit
from analysis.figures import Axes, lines, panels
from analysis.training_log import TrainingLog, curve, families
from analysis.words import caption, number

_REWARD = re.compile(r"rewards/([^/]+)/mean")
_FEWEST = 20  # points of a line below which the reading gives its range instead of its ends


class _Curve(NamedTuple):
    """One panel: a metric, its title, and the columns that give the spread of a single seed."""

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
        window: Length of the moving mean over the lines and their captions, in logged steps; 1 draws them as logged.
            Tables are always as logged.

    Returns:
        One exhibit per figure, without a drawing where no chosen training logged its metrics.
    """
    recipes = families(logs)
    selected = {name: recipes[name] for name in (recipes if chosen is None else chosen) if name in recipes}
    places = {name: place for place, name in enumerate(recipes)}
    return [_exhibit(figure, selected, places, window) for figure in _figures(selected)]


def _figures(recipes: Mapping[str, Sequence[TrainingLog]]) -> list[_Figure]:
    metrics = {name for logs in recipes.values() for log in logs for name in log.rows}
    rewards = sorted({match[1] for name in metrics if (match := _REWARD.fullmatch(name))})
    # Recipes have different rewards, so the panels follow the logged metrics.
    reward_curves = tuple(_Curve(f"rewards/{name}/mean", name, f"rewards/{name}/std") for name in rewards)
    dead_curves = (_Curve("frac_reward_zero_std", "All rewards together", percent=True),)
    dead_curves += tuple(_Curve(f"rewards/{name}/zero_variance_groups", name, percent=True) for name in rewards)
    only_grpo = "Only GRPO logs this: choose a GRPO recipe."
    lengths = ("completions/min_length", "completions/max_length")
    return [
        _Figure("training-reward", "Reward while training", "Reward, weighted sum",
                (_Curve("reward", "reward", "reward_std"),), only_grpo,
                ("The sum of all rewards by the recipe's weights, mean over completions.",)),
        _Figure("training-rewards", "Each reward while training", "Reward", reward_curves, only_grpo),
        _Figure("training-length", "Length of completions while training", "Tokens",
                (_Curve("completions/mean_length", "length", lengths),), only_grpo),
        _Figure("training-dead", "Dead groups: all completions of a prompt got the same reward", "Share of groups",
                dead_curves, only_grpo, ("A dead group has no advantage, so nothing is learnt from it.",)),
        _Figure("training-attention", "Attention to audio while training", "Attention to audio",
                (_Curve("audio_attention/ratio", "Share of attention on audio", percent=True),
                 _Curve("audio_attention/corrected", "Length-corrected: 1 = uniform attention")),
                "These trainings did not watch attention: set watch_attention_every in the recipe.",
                ("Over one completion each time, teacher-forced: a sample, not a mean over the batch.",)),
        _Figure("training-kl", "Distance from the reference while training (KL)", "KL, nats a token",
                (_Curve("kl", "KL"),),
                "These trainings logged no KL: SFT has none, and GRPO only with beta above 0."),
        _Figure("training-entropy", "Entropy of the policy while training", "Entropy, nats a token",
                (_Curve("entropy", "entropy"),), "These trainings logged no entropy."),
        _Figure("training-loss", "Loss while training", "Loss",
                (_Curve("loss", "Training"), _Curve("eval_loss", "Validation")), "These trainings logged no loss.",
                ("GRPO's loss is no measure of progress: its advantages are centred at every step.",)),
    ]  # fmt: skip


def _exhibit(
    figure: _Figure, recipes: Mapping[str, Sequence[TrainingLog]], places: Mapping[str, int], window: int
) -> Exhibit:
    groups: list[tuple[_Curve, list[tuple[str, list[dict[str, Any]]]]]] = []
    sheets, findings, truncated = [], [], set()
    # Curves use only the steps that all seeds logged; seeds with more steps are noted.
    for panel in figure.curves:
        series = []
        for name, logs in recipes.items():
            points = curve(logs, panel.metric, panel.spread)
            if points.empty:
                continue
            metric_logs = [log for log in logs if panel.metric in log.rows]
            if any(len(log.rows[panel.metric].dropna()) > len(points) for log in metric_logs):
                truncated.add(name)
            sheets.append(points.assign(recipe=name, metric=panel.metric))
            means = points[["value", "low", "high"]].rolling(window, center=True, min_periods=1).mean()
            line = points.assign(**means) if window > 1 else points
            findings.append(_finding(name, panel, line, len(figure.curves) > 1))
            series.append((name, line.to_dict("records")))
        if series:
            groups.append((panel, series))
    if not groups:
        return Exhibit(figure.name, figure.title, figure.missing)
    names = [name for name in recipes if any(name == label for _, series in groups for label, _ in series)]
    # Every panel has every recipe, so that colours and legend entries agree between panels.
    panel_series = [(panel, [(name, dict(series).get(name, [])) for name in names]) for panel, series in groups]
    # Places refer to all recipes, so that colours do not change with the selection.
    axes = Axes("step", "value", "Step", figure.y_title, all(panel.percent for panel, _ in panel_series))
    settings: dict[str, Any] = {
        "tip": lambda row: (
            f"step {row['step']}: {number(row['value'])}<br>{number(row['low'])} to {number(row['high'])}"
            if row["low"] == row["low"]
            else f"step {row['step']}: {number(row['value'])}"
        ),
        "places": [places[name] for name in names],
    }
    if len(panel_series) == 1:
        drawing = lines(panel_series[0][1], axes, **settings)
    else:
        drawing = panels(
            [(panel.title, series) for panel, series in panel_series],
            axes,
            shared=len({panel.percent for panel, _ in panel_series}) == 1,
            **settings,
        )
    table = pd.concat(sheets, ignore_index=True)
    notes = [f"{name}: only the steps that all its seeds logged are drawn." for name in sorted(truncated)]
    return Exhibit(
        figure.name,
        figure.title,
        caption(findings),
        drawing,
        table[["recipe", "metric", "step", "value", "low", "high", "logs"]],
        (*figure.notes, *_notes(recipes, names, window), *notes),
    )


def _finding(name: str, panel: _Curve, line: pd.DataFrame, titled: bool) -> str:
    """Describe a drawn line by its first and last values, or by its range where it has few points."""
    steps, values = line["step"], line["value"]
    prefix = f"{panel.title} " if titled else ""
    if len(line) == 1:
        return f"{name}: {prefix}{_value(panel, values.iat[0])}, logged once (step {steps.iat[0]})."
    if len(line) < _FEWEST:
        return (
            f"{name}: {prefix}{_value(panel, values.min())} to {_value(panel, values.max())} over {steps.iat[-1]} "
            "steps, too few for a trend."
        )
    ends = f"{_value(panel, values.iat[0])} at step {steps.iat[0]}, {_value(panel, values.iat[-1])} at step"
    return f"{name}: {prefix}{ends} {steps.iat[-1]}."


def _value(panel: _Curve, value: float) -> str:
    return f"{100 * value:.1f} %" if panel.percent else number(float(value))


def _notes(recipes: Mapping[str, Sequence[TrainingLog]], names: Sequence[str], window: int) -> list[str]:
    notes = ["Bands: from the lowest to the highest seed; for a single seed, the spread that its trainer logged."]
    if window > 1:
        notes.append(f"Lines are moving means over {window} logged steps; the table is as logged.")
    for name in names:
        for log in recipes[name]:
            fields = {key: log.manifest[key] for key in ("base", "steps", "started", "package", "note")}
            facts = "; ".join(f"{key} {value}" for key, value in fields.items() if value is not None)
            notes.append(f"{log.name}: recipe {log.recipe} ({log.kind}), seed {log.seed}; {facts}.")
    return notes
