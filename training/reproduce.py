"""Reproduce the paper from an empty machine by one plan: data, captions, chains, SFT, GRPO, evaluation, CAFE, report.

    python -m training reproduce PLAN [--plan] [--skip STAGE] [--from STAGE] [--until STAGE] [key=value …] out=FOLDER

A plan (``training/plans``) is a YAML file::

    about: what it reproduces
    values: {model: tiny-base, scenes: 120}       # ${model} in commands; key=value of the command line replaces them
    device: {name: h100, count: 4, price: ~}      # for --plan; name cpu is measured
    prices: {gemini-2.5-pro: {prompt: ~, completion: ~}}   # of a million tokens; none is built in
    stages:
      - name: sft
        run: training sft --recipe tiny --resume out=${out}/sft model=${model}
        reads: ["${data}"]                        # files from outside: when they change, the stage runs again
        makes: ["${out}/sft/adapter"]
        estimate: {hours: 1, why: …}              # or {requests: N, prompt_tokens: A, completion_tokens: B, model: M}

Each stage is a command that can also be run by hand: ``training``, ``mpar2``, ``accelerate`` or ``python``. Stages run
in the order of the file. A stage is done if its outputs exist and its command, its inputs and all previous stages are
unchanged since it finished, so the same command resumes a stopped run. ``--skip`` uses existing outputs in place of
running a stage. ``OUT/state.json`` holds the stages that are done; ``OUT/plan.yaml`` the plan with all values.

``--plan`` runs nothing. Hours and memory of ``sft`` and ``grpo`` come from counted operators (``training.plan``), those
of other stages and requests to services from the plan's own ``estimate``, with its reason.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any

import yaml

from mpar2.errors import MPAR2Error
from mpar2.llm.cost import Estimate, Prices
from mpar2.locks import try_lock
from mpar2.runs.lines import load_json, write_bytes, write_json
from training.recipe import read_mapping

_PROGRAMS = {
    "training": ["-m", "training"],
    "mpar2": ["-m", "mpar2.cli"],
    "accelerate": ["-m", "accelerate.commands.accelerate_cli"],
    "python": [],
}
_STAGE_KEYS = {"name", "run", "reads", "makes", "estimate", "about"}
_PLAN_KEYS = {"about", "values", "device", "prices", "stages"}
_ESTIMATE_KEYS = {"hours", "memory_gb", "requests", "prompt_tokens", "completion_tokens", "model", "items", "why"}


class ReproduceError(MPAR2Error, RuntimeError):
    """A plan is invalid, or a stage failed."""


@dataclass(frozen=True)
class Stage:
    """One command, its inputs from outside of the plan, and its output files or folders."""

    name: str
    run: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    makes: tuple[Path, ...] = ()
    estimate: Mapping[str, Any] = field(default_factory=dict)

    @property
    def argv(self) -> list[str]:
        """Return the command as an argument list."""
        return [sys.executable, *_PROGRAMS[self.run[0]], *self.run[1:]]

    @property
    def absent(self) -> Path | None:
        """Return an output that does not exist, or None if the stage is complete."""
        return next((path for path in self.makes if not path.exists()), None)


@dataclass(frozen=True)
class Reproduction:
    """A plan with its values filled in."""

    about: str
    out: Path
    stages: tuple[Stage, ...]
    values: Mapping[str, Any]
    device: Mapping[str, Any]
    prices: Mapping[str, Any]


def load_plan(name: str, out: Path, overrides: Sequence[str] = (), *, complete: bool = True) -> Reproduction:
    """Read a plan and fill its values in.

    Args:
        name: A plan of the package, or the path of a YAML file.
        out: The folder of all outputs; ``${out}`` in the plan.
        overrides: ``key=value`` texts that replace values.
        complete: Whether a missing value is an error; an estimate needs none.

    Raises:
        ReproduceError: The plan does not exist or is invalid; the message names stage and key.
    """
    tree = read_mapping(name, "plan", ReproduceError)
    context = f"plan '{name}'"
    if extra := sorted(set(map(str, tree)) - _PLAN_KEYS):
        raise ReproduceError(f"{context}: unknown key '{extra[0]}'; a plan has {', '.join(sorted(_PLAN_KEYS))}")
    values = dict(tree.get("values") or {})
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or key not in values:
            raise ReproduceError(f"{context}: '{override}' replaces no value; it has {', '.join(values) or 'none'}")
        values[key] = yaml.safe_load(value)
    missing = [key for key, value in values.items() if value is None]
    if missing and complete:
        raise ReproduceError(f"{context}: give {', '.join(f'{key}=…' for key in missing)}")
    substitutions = {key: f"<{key}>" if value is None else str(value) for key, value in values.items()}
    substitutions |= {"out": str(out), "package": str(Path(__file__).resolve().parent)}
    entries = tree.get("stages")
    if not isinstance(entries, list) or not entries:
        raise ReproduceError(f"{context}: a list of stages under the key 'stages' is needed")
    stages = tuple(_stage(entry, substitutions, context) for entry in entries)
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ReproduceError(f"{context}: two stages have one name")
    device = {"name": "cpu", "count": 1, "price": None} | (tree.get("device") or {})
    return Reproduction(str(tree.get("about") or ""), out, stages, values, device, tree.get("prices") or {})


def _stage(entry: Any, values: Mapping[str, str], context: str) -> Stage:
    if not isinstance(entry, dict) or not entry.get("name") or not entry.get("run"):
        raise ReproduceError(f"{context}: each stage needs a name and a command under 'run', not {entry!r:.100}")
    context = f"{context}, stage '{entry['name']}'"
    if extra := sorted(set(map(str, entry)) - _STAGE_KEYS):
        raise ReproduceError(f"{context}: unknown key '{extra[0]}'; a stage has {', '.join(sorted(_STAGE_KEYS))}")
    estimate = entry.get("estimate") or {}
    if extra := sorted(set(map(str, estimate)) - _ESTIMATE_KEYS):
        raise ReproduceError(
            f"{context}: unknown key '{extra[0]}'; an estimate has {', '.join(sorted(_ESTIMATE_KEYS))}"
        )

    def filled(text: Any) -> str:
        try:
            return Template(str(text)).substitute(values)
        except (KeyError, ValueError) as error:
            raise ReproduceError(f"{context}: {text!r} needs a value {error}; there are {', '.join(values)}") from None

    run = entry["run"]
    words = [filled(word) for word in (shlex.split(run) if isinstance(run, str) else run)]
    if words[0] not in _PROGRAMS:
        raise ReproduceError(f"{context}: a stage runs {', '.join(_PROGRAMS)}, not '{words[0]}'")
    reads, makes = (tuple(Path(filled(path)) for path in entry.get(key) or ()) for key in ("reads", "makes"))
    return Stage(str(entry["name"]), tuple(words), reads, makes, estimate)


# Running -------------------------------------------------------------------------------------------------------------


def run_plan(
    plan: Reproduction,
    *,
    skip: Sequence[str] = (),
    start: str | None = None,
    until: str | None = None,
    execute: Callable[[Stage], int] | None = None,
) -> None:
    """Run the stages that are not done.

    Args:
        plan: The plan.
        skip: Stages whose existing outputs are used.
        start: First stage to run again, with all after it.
        until: The last stage that runs.
        execute: Runs a stage and returns its exit status; by default in its own process.

    Raises:
        ReproduceError: A name is not a stage, another process uses the folder, or a stage failed.
    """
    names = [stage.name for stage in plan.stages]
    if unknown := [name for name in (*skip, start, until) if name is not None and name not in names]:
        raise ReproduceError(f"no stage '{unknown[0]}': the plan has {', '.join(names)}")
    plan.out.mkdir(parents=True, exist_ok=True)
    lock = try_lock(plan.out / "state")
    if lock is None:
        raise ReproduceError(f"another process works in {plan.out}")
    with ExitStack() as stack:
        stack.callback(lock.release)
        record = {"about": plan.about, "values": dict(plan.values)}
        record["stages"] = [{"name": stage.name, "run": shlex.join(stage.run)} for stage in plan.stages]
        write_bytes(plan.out / "plan.yaml", yaml.safe_dump(record, sort_keys=False, allow_unicode=True).encode())
        _run_stages(plan, set(skip), start, until, execute or (lambda stage: subprocess.run(stage.argv).returncode))


def _run_stages(
    plan: Reproduction, skip: set[str], start: str | None, until: str | None, execute: Callable[[Stage], int]
) -> None:
    path = plan.out / "state.json"
    state: dict[str, Any] = load_json(path.read_bytes(), str(path)) if path.exists() else {}
    key, rerun = "", False
    for number, stage in enumerate(plan.stages, 1):
        head = f"[{number}/{len(plan.stages)}] {stage.name}"
        rerun = rerun or stage.name == start
        if missing := [read for read in stage.reads if not read.exists()]:
            raise ReproduceError(f"stage '{stage.name}' reads {missing[0]}, which is not there")
        key = _key(stage, plan.out, key)
        if stage.name in skip:
            if stage.absent:
                raise ReproduceError(f"stage '{stage.name}' cannot be skipped: {stage.absent} is not there")
            key = _digest([_fingerprint(result) for result in stage.makes])  # later stages depend on these outputs
            print(f"{head}: skipped, its results are taken as they are", flush=True)
        elif not rerun and (state.get(stage.name) or {}).get("key") == key and not stage.absent:
            print(f"{head}: done before", flush=True)
        else:
            print(f"{head}: {shlex.join(stage.run)}", flush=True)
            begin_s = time.monotonic()
            if status := execute(stage):
                raise ReproduceError(
                    f"stage '{stage.name}' failed with status {status}; the same command goes on from there"
                )
            if stage.absent:
                raise ReproduceError(f"stage '{stage.name}' ended without {stage.absent}")
            finished = datetime.now(UTC).isoformat(timespec="seconds")
            seconds = round(time.monotonic() - begin_s, 1)
            state[stage.name] = {"key": key, "command": shlex.join(stage.run), "seconds": seconds, "at": finished}
            write_json(path, state)
        if stage.name == until:
            return


def _key(stage: Stage, out: Path, previous_key: str) -> str:
    """Hash the dependencies of a stage: its command without the output folder, its inputs, and the previous stages."""
    words = [word.replace(str(out), "${out}") for word in stage.run]
    return _digest([previous_key, words, [_fingerprint(path) for path in stage.reads]])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _fingerprint(path: Path) -> Any:
    """Return the hash of a file; for a folder, names and sizes, since audio is large."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return [[str(p.relative_to(path)), p.stat().st_size] for p in sorted(path.rglob("*")) if p.is_file()]


# Estimates ------------------------------------------------------------------------------------------------------------


def estimate_text(plan: Reproduction) -> str:
    """Return hours, memory and money of each stage and in total, as lines; unknown values are marked."""
    lines = [plan.about.strip(), f"{'stage':14} {'hours':>8} {'GB each':>8} {'money':>9}  how it is known"]
    hours, money, unknown = 0.0, 0.0, []
    priced = False
    for stage in plan.stages:
        time_h, memory, cost, basis = _estimate(stage, plan)
        hours, money, priced = hours + (time_h or 0.0), money + (cost or 0.0), priced or cost is not None
        if time_h is None:
            unknown.append(stage.name)
        cells = (f"{value:.2f}" if value is not None else "-" for value in (time_h, memory, cost))
        numbers = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, (8, 8, 9), strict=True))
        lines.append(f"{stage.name:14} {numbers}  {basis}")
    device = plan.device
    device_text = f"{device['count']} x {device['name']}; estimates, nothing was run"
    lines.append(f"{'all':14} {hours:8.2f} {'':8} {f'{money:.2f}' if priced else '-':>9}  {device_text}")
    if unknown:
        lines.append(f"without a time: {', '.join(unknown)}")
    if device["price"] is None:
        lines.append("no price of the device is given (device.price in the plan): its hours are not in the money")
    return "\n".join(lines)


def _estimate(stage: Stage, plan: Reproduction) -> tuple[float | None, float | None, float | None, str]:
    """Return (hours, GB on each device, money, basis of the estimate); None where unknown."""
    estimate = stage.estimate
    words = list(stage.run)
    while words and words[0] != "training":  # accelerate launch … -m training grpo …
        words.pop(0)
    if words[1:2] in (["sft"], ["grpo"]):
        from training.__main__ import parser_of_commands
        from training.plan import Load, device_named, plan_training
        from training.recipe import load_recipe

        options = parser_of_commands().parse_args(words[1:])
        overrides = [text for text in options.overrides if not text.startswith("out=")]
        recipe = load_recipe(options.recipe, overrides, variant=getattr(options, "variant", None))
        if not recipe.smoke:
            load = Load(items=estimate.get("items"))
            device, price = device_named(plan.device["name"]), plan.device["price"]
            forecast = plan_training(
                options.command, recipe, device=device, devices=int(plan.device["count"]), price=price, load=load
            )
            return forecast.hours, forecast.memory_gb, forecast.money, "operators counted, speeds assumed"
    hours = estimate.get("hours")
    if "requests" in estimate:
        row = plan.prices.get(estimate.get("model")) or {}
        has_price = row.get("prompt") is not None and row.get("completion") is not None
        prices = Prices(float(row["prompt"]), float(row["completion"])) if has_price else None
        count = int(estimate["requests"])
        tokens = (count * int(estimate.get(name, 0)) for name in ("prompt_tokens", "completion_tokens"))
        forecast = Estimate(count, *tokens, prices)
        return hours, estimate.get("memory_gb"), forecast.cost, f"{forecast}; {estimate.get('why', 'the plan says')}"
    price = plan.device["price"]
    cost = None if hours is None or price is None else hours * plan.device["count"] * price
    why = str(estimate.get("why", "the plan says" if estimate else "no estimate"))
    return hours, estimate.get("memory_gb"), cost, why
