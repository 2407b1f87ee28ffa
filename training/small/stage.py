"""A training stage that can be killed and resumed: ``run_stage``.

A step is a function of its number and of the weights, so that a resumed stage ends with the same weights as one that
was not stopped. The state is written atomically; every window of steps adds a row to ``log.jsonl``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["run_stage"]


def run_stage(
    parameters: Mapping[str, torch.nn.Parameter],
    gradients: Callable[[int], float],
    out: Path,
    *,
    steps: int,
    optimizer: Any,
    window: int = 20,
    patience: int = 8,
    least_gain: float = 0.01,
    seed: int = 0,
    writes: bool = True,
) -> dict:
    """Minimise the loss of ``gradients(step)`` over ``parameters`` with warm-up and a cosine.

    Args:
        parameters: Parameters by name; their values are part of the state.
        gradients: Adds the gradients of a step's loss to the parameters and returns the loss. Its random choices must
            follow from the step's number or from torch's generator.
        out: Folder of ``state.pt`` and ``log.jsonl``; an existing state is resumed.
        steps: The schedule's length; a stage may end before it.
        optimizer: Optimizer of the parameters; its groups have their peak learning rates.
        window: Steps between two rows of the log and two states.
        patience: Windows without gain after which the stage stops. A window gains when its mean loss falls below the
            best before by ``least_gain``.
        least_gain: Least gain, as a share of the best loss.
        seed: Seed of torch's generator at step 0.
        writes: Whether this process writes the log and the states; one of several processes does.

    Returns:
        The last row of the log, ``{step, loss, seconds, stopped}``; ``stopped`` is ``steps`` or ``no gain``.

    Raises:
        ValueError: The state in ``out`` has other parameters.
    """
    out.mkdir(parents=True, exist_ok=True)
    state, log = out / "state.pt", out / "log.jsonl"
    values = list(parameters.values())
    peaks = [group["lr"] for group in optimizer.param_groups]
    torch.manual_seed(seed)
    step, spent_s, best, stale, row = 0, 0.0, math.inf, 0, {}
    # Resume with all that a step depends on, so that the result equals that of an uninterrupted run.
    if state.exists():
        checkpoint = torch.load(state, weights_only=False)
        if set(checkpoint["parameters"]) != set(parameters):
            raise ValueError(f"{state} is of another training: its parameters have other names. Give another folder")
        with torch.no_grad():
            for name, value in checkpoint["parameters"].items():
                parameters[name].copy_(value)
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["torch"])
        step, spent_s, best, stale, row = (checkpoint[k] for k in ("step", "spent_s", "best", "stale", "row"))
    begin, losses = time.time() - spent_s, []
    while step < steps and stale < patience:
        rate = min(1, (step + 1) / max(steps // 20, 1)) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * rate
        optimizer.zero_grad()
        loss = gradients(step)
        torch.nn.utils.clip_grad_norm_(values, 1.0)
        optimizer.step()
        losses.append(loss)
        step += 1
        # Gain is judged by the mean over a window, since the loss of single steps is noisy.
        if step % window and step < steps:
            continue
        mean = sum(losses) / len(losses)
        losses = []
        stale = 0 if mean < best * (1 - least_gain) else stale + 1
        best = min(best, mean)
        row = {"step": step, "loss": round(mean, 4), "seconds": round(time.time() - begin)}
        row |= {"stopped": "no gain" if stale >= patience else "steps" if step >= steps else None}
        if not writes:
            continue
        with open(log, "a") as file:
            file.write(json.dumps(row) + "\n")
        # Written under another name first, so that a kill leaves the previous state.
        checkpoint = {"parameters": {k: v.detach().clone() for k, v in parameters.items()}, "step": step, "row": row}
        checkpoint |= {"optimizer": optimizer.state_dict(), "torch": torch.get_rng_state()}
        checkpoint |= {"spent_s": time.time() - begin, "best": best, "stale": stale}
        torch.save(checkpoint, state.with_suffix(".part"))
        state.with_suffix(".part").replace(state)
    return row
