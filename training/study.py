"""A study: several trainings of one file in sequence, each in its own folder, with their logs and arms.

    about: what the study compares
    overrides: [data.sources.0.data=scenes/train]     # for all runs
    runs:
      - {name: mpar2 seed 0, recipe: tiny, seed: 0, minutes: 7}
      - {name: sari cold start, recipe: tiny-sari, method: sft, overrides: [sft.max_steps=60]}
      - {name: sari, recipe: tiny-sari, after: sari cold start, minutes: 3}
      - {name: prompt only, recipe: tiny, method: none, overrides: [adapter=~]}

``method`` is ``grpo`` (the default), ``sft``, or ``none``: nothing is trained, the arm is only evaluated. ``after``
starts a run from the adapter of a previous one. Runs are trained in the order of the file, so put the most important
first. The same command resumes: finished runs are skipped, a stopped one continues from its checkpoint. A failed run
does not stop the others and is reported at the end. Processes of the same study started in parallel (two cores, or two
GPUs with ``CUDA_VISIBLE_DEVICES``) share the runs: each takes the first that is free.

    OUT/NAME/        each run, as ``training.run`` writes it
    OUT/logs/NAME/   its small log, to keep (``training.export``)
    OUT/arms.yaml    for ``mpar2 evaluate --arms``: an arm for each run that has a result
"""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mpar2.evaluation import free_memory
from mpar2.locks import try_lock
from mpar2.runs.lines import write_bytes
from training.export import export_run
from training.recipe import Recipe, RecipeError, load_recipe

_METHODS = ("grpo", "sft", "none")
_KEYS = {"name", "recipe", "method", "seed", "minutes", "after", "overrides", "evaluate"}
_POLL_S = 2.0
_NAME = re.compile(r"[A-Za-z0-9][\w .+-]{0,59}")


@dataclass(frozen=True)
class StudyRun:
    """One training, or an arm without one. ``minutes`` stops it early; ``evaluate`` adds it to the arms."""

    name: str
    recipe: Recipe
    method: str = "grpo"
    after: str | None = None
    evaluate: bool = True

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "-")


@dataclass(frozen=True)
class Study:
    """The runs of a study, in the order of its file."""

    about: str
    runs: tuple[StudyRun, ...]


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study and resolve all recipes, so that an error in the last run is raised before the first is trained.

    A run's own keys take precedence over ``overrides``.

    Raises:
        RecipeError: The file cannot be read, or a run is invalid; the message names it.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RecipeError(f"study {path} cannot be read: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("runs"), list) or not data["runs"]:
        raise RecipeError(f"study {path}: a list of runs under the key 'runs' is needed")
    if extra := sorted(set(map(str, data)) - {"about", "overrides", "runs"}):
        raise RecipeError(f"study {path}: unknown key '{extra[0]}'; a study has about, overrides and runs")
    common = [*(data.get("overrides") or []), *overrides]
    runs: list[StudyRun] = []
    for entry in data["runs"]:
        runs.append(_run(path, entry, common, [run.name for run in runs if run.method != "none"]))
    folders = [run.folder for run in runs]
    if duplicates := sorted({name for name in folders if folders.count(name) > 1}):
        raise RecipeError(f"study {path}: two runs would be kept in the folder '{duplicates[0]}': name them apart")
    return Study(str(data.get("about") or ""), tuple(runs))


def _run(path: Path, entry: Any, common: Sequence[str], before: Sequence[str]) -> StudyRun:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or "recipe" not in entry:
        raise RecipeError(f"study {path}: each run needs a name and a recipe, not {entry!r}")
    name = entry["name"]
    context = f"study {path}, run '{name}'"
    if extra := sorted(set(map(str, entry)) - _KEYS):
        raise RecipeError(f"{context}: unknown key '{extra[0]}'; a run has {', '.join(sorted(_KEYS))}")
    if not _NAME.fullmatch(name) or name == "logs":
        raise RecipeError(f"{context}: a name is a folder's: letters, digits, spaces, '.', '+', '-'; and not 'logs'")
    method, after = entry.get("method", "grpo"), entry.get("after")
    if method not in _METHODS:
        raise RecipeError(f"{context}: method is {method!r}; use one of {', '.join(_METHODS)}")
    if after is not None and after not in before:
        raise RecipeError(f"{context}: 'after' names '{after}', which is no training before it in the file")
    own_overrides = [f"{key}={entry[key]}" for key in ("seed", "minutes") if key in entry]
    try:
        recipe = load_recipe(str(entry["recipe"]), [*common, *own_overrides, *(entry.get("overrides") or [])])
    except RecipeError as error:
        raise RecipeError(f"{context}: {error}") from None
    return StudyRun(name, recipe, method, after, bool(entry.get("evaluate", True)))


def run_study(study: Study, out: Path, *, command: Sequence[str] = ()) -> list[str]:
    """Train the runs that are not trained yet; return an error message for each run without a result."""
    main = os.environ.get("RANK", "0") == "0"
    out.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    results: dict[str, str | None] = {}  # adapter or model of each finished run
    pending = {run.name: (number, run) for number, run in enumerate(study.runs, 1)}
    while pending:
        ready = (entry for entry in pending.values() if entry[1].after not in pending)
        next_run = next(((*entry, claim) for entry in ready if (claim := _claim(entry[1], out))), None)
        if next_run is None:  # other processes have claimed all runs that are ready
            time.sleep(_POLL_S)
            continue
        number, run, claim = next_run
        with claim:
            del pending[run.name]
            if main:
                print(f"[{number}/{len(study.runs)}] {run.name}: {run.recipe.about}", flush=True)
            _settle(run, results, failed, out, command)
            if main and run.method != "none" and (out / run.folder / "log.jsonl").exists():
                export_run(out / run.folder, out / "logs" / run.folder)
            if main:
                _write_arms(study, results, out)
    return [f"{run.name}: {failed[run.name]}" for run in study.runs if run.name in failed]


def _claim(run: StudyRun, out: Path) -> AbstractContextManager[Any] | None:
    """Return a lock of ``run`` against other processes, held until it is closed; None if another process has it.

    The processes of one training (``accelerate launch``) do the runs together and claim nothing.
    """
    if run.method == "none" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return nullcontext()
    folder = out / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / "run")
    if lock is None:
        return None
    stack = ExitStack()
    stack.callback(lock.release)
    return stack


def _settle(
    run: StudyRun, results: dict[str, str | None], failed: dict[str, str], out: Path, command: Sequence[str]
) -> None:
    """Store the result of ``run`` in ``results``, or its error in ``failed``."""
    if run.after in failed:
        failed[run.name] = f"'{run.after}', which it starts from, has no result"
        return
    try:
        results[run.name] = _result(run, results, out, command)
    except Exception as error:  # any error: the other runs do not depend on it
        traceback.print_exc()
        failed[run.name] = (str(error).strip() or type(error).__name__).splitlines()[0]


def _result(run: StudyRun, results: Mapping[str, str | None], out: Path, command: Sequence[str]) -> str | None:
    from training.run import finished, train

    if run.method == "none":
        return run.recipe.adapter
    recipe = run.recipe if run.after is None else replace(run.recipe, adapter=results[run.after])
    folder = out / run.folder
    if (result := finished(recipe, folder)) is None:
        try:
            result = train(run.method, recipe, folder, resume=True, command=command)
        finally:
            free_memory()
    return str(result)


def _write_arms(study: Study, results: Mapping[str, str | None], out: Path) -> None:
    arms = []
    for run in study.runs:
        if run.name not in results or not run.evaluate:
            continue
        arm: dict[str, Any] = {"name": run.name, "model": run.recipe.model, "mode": run.recipe.mode}
        if run.recipe.prompt is not None:
            arm["prompt"] = run.recipe.prompt
        if run.recipe.lora is None and run.method != "none":
            arm["model"] = results[run.name]
        elif results[run.name] is not None:
            arm["adapter"] = results[run.name]
        arms.append(arm)
    text = yaml.safe_dump({"arms": arms}, sort_keys=False, allow_unicode=True)
    write_bytes(out / "arms.yaml", text.encode())
