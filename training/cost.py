"""Seconds, tokens and memory of a GRPO step by stage, and the cost sheet of a run.

Stages are exclusive (a nested stage pauses the outer one), so they add up to the step:

=========  =====================================================================================
rollout    the completions are generated
tower      the audio tower encodes clips, for rollouts and passes alike
judge      rewards are computed
sync       weights are sent to a rollout server
passes     the rest of a step: reference and policy passes, backward; without the optimizer
=========  =====================================================================================
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STAGES = ("rollout", "tower", "judge", "sync", "passes")


class StageTimer:
    """Measure exclusive wall-clock seconds by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time in the context for ``name``, and pause the stage around it."""
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def take(self) -> dict[str, float]:
        """Return the seconds since the last call, and reset."""
        self._book()
        seconds, self.seconds = self.seconds, dict.fromkeys(STAGES, 0.0)
        return seconds

    def _book(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def peak_memory_gb() -> float:
    """Return the peak memory of this process in GB: of its GPU if there is one, else its resident set."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def cost_sheet(rows: Iterable[Mapping[str, Any]]) -> dict[str, float | int]:
    """Summarise the logged steps of a run.

    The first step, which warms up, is left out if there are others.

    Returns:
        ``steps``; means per step of ``step_s`` and of each stage in seconds; ``tokens_per_s`` of rollouts;
        ``peak_gb``; ``no_variance`` (share of groups whose rewards are all equal).
    """
    timed = [row for row in rows if "time/passes_s" in row]
    timed = timed[1:] or timed
    if not timed:
        return {"steps": 0}

    def mean(key: str) -> float:
        values = [float(row[key]) for row in timed if row.get(key) is not None]
        return sum(values) / len(values) if values else 0.0

    stages = {f"{stage}_s": mean(f"time/{stage}_s") for stage in STAGES}
    return {
        "steps": len(timed),
        "step_s": sum(stages.values()),
        **stages,
        "tokens_per_s": mean("rollout/tokens_per_s"),
        "peak_gb": max(float(row.get("memory/peak_gb") or 0.0) for row in timed),
        "no_variance": mean("frac_reward_zero_std"),
    }


def sheet_text(sheet: Mapping[str, float | int]) -> str:
    """Return the cost sheet as lines for a terminal."""
    if not sheet["steps"]:
        return "cost sheet: no step was timed"
    lines = [f"cost sheet, means over {sheet['steps']} steps of this process:"]
    for stage in STAGES:
        seconds = float(sheet[f"{stage}_s"])
        lines.append(f"  {stage:8} {seconds:9.2f} s  {seconds / max(float(sheet['step_s']), 1e-9):4.0%}")
    lines.append(f"  {'step':8} {sheet['step_s']:9.2f} s")
    lines.append(f"  rollouts {sheet['tokens_per_s']:.0f} tokens/s, peak memory {sheet['peak_gb']:.2f} GB")
    lines.append(f"  groups without variance {sheet['no_variance']:.0%}")
    return "\n".join(lines)
