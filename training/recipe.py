"""Recipes: one file each, their resolution, and overrides from the command line.

A recipe is ``training/recipes/NAME.yaml``. ``extends: OTHER`` starts from another recipe. Mappings are merged, other
values are replaced, and the value ``~`` (null) removes the key. ``key=value`` arguments are applied last, with dots for
depth and YAML for values: ``grpo.learning_rate=1e-6 data.sources.0.data=items.jsonl``.

The resolved recipe is written beside the result, so that a training's folder identifies it.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from mpar2.engines.families import family_names
from mpar2.errors import MPAR2Error
from mpar2.prompts import mode_names, prompt_identity

TRACKERS = ("wandb", "tensorboard", "trackio")
_ORDERS = ("shuffled", "easy_first")
_DATA_KEYS = {"sources", "validation", "held_out", "decode", "limit", "drop_guessable", "drop_longer", "pass_rate"}


class RecipeError(MPAR2Error, ValueError):
    """A recipe or an override is invalid; the message names the key."""


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe. ``sft`` and ``grpo`` are options of TRL's configurations, passed on unchanged."""

    name: str
    about: str
    family: str
    model: str
    mode: str = "mpar2"
    prompt: str | None = None  # a set of ``mpar2.prompts`` or a text file; None: ours
    adapter: str | None = None  # start of GRPO: the adapter of SFT; None: the bare model
    dtype: str = "bfloat16"
    seed: int = 0
    minutes: float | None = None  # of training, after which it stops and saves; None: all its steps
    data: dict[str, Any] = field(default_factory=dict)
    order: str = "shuffled"
    lora: dict[str, Any] | None = None  # None: all weights
    train_tower: bool = False
    max_tokens: int | None = None  # of an SFT example
    sft: dict[str, Any] = field(default_factory=dict)
    grpo: dict[str, Any] = field(default_factory=dict)
    rewards: dict[str, dict[str, Any]] = field(default_factory=dict)
    scorer: dict[str, Any] = field(default_factory=lambda: {"name": "reference"})
    perception_term: dict[str, Any] | None = None
    rollouts: dict[str, Any] | None = None  # None: transformers' generate; else options of ``training.rollouts``
    watch_attention_every: int = 0
    resample_rounds: int = 0  # GRPO: how often groups without variance are replaced in a step
    report_to: str | list[str] | None = None  # wandb, tensorboard, trackio; for SFT and GRPO alike
    early_stop: dict[str, Any] | None = None  # {metric, patience, min_delta}: on validation, the best checkpoint kept
    smoke: bool = False  # two steps of a small random model on noise, to test that the recipe runs

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for the manifest."""
        return {f.name: copy.deepcopy(getattr(self, f.name)) for f in fields(self)}


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes."""
    return packaged_names("recipes")


def packaged_names(folder: str) -> list[str]:
    """Return the names of the YAML files in a folder of this package."""
    entries = resources.files(__package__).joinpath(folder).iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


def read_mapping(name: str, kind: str, error: type[Exception]) -> dict[str, Any]:
    """Read a mapping from YAML.

    ``kind`` is ``recipe`` or ``plan``; the package's folder is its plural.

    Returns:
        The mapping, with numbers such as ``1e-6`` as numbers.
    """
    path, packaged = Path(name), packaged_names(f"{kind}s")
    if path.suffix in (".yaml", ".yml") and path.is_file():
        text = path.read_text(encoding="utf-8")
    elif name in packaged:
        text = resources.files(__package__).joinpath(f"{kind}s", f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise error(f"no {kind} '{name}': there is no such file, and the package has {', '.join(packaged)}")
    try:
        tree = _number(yaml.safe_load(text))
    except (RecursionError, yaml.YAMLError) as reason:
        raise error(f"{kind} '{name}' cannot be read as YAML: {reason}") from None
    if not isinstance(tree, dict):
        raise error(f"{kind} '{name}' is not a mapping")
    return tree


def variants() -> dict[str, dict[str, Any]]:
    """Return the published variants of GRPO (``variants.yaml``) by name."""
    return _number(yaml.safe_load(resources.files(__package__).joinpath("variants.yaml").read_text(encoding="utf-8")))


def load_recipe(name: str, overrides: Sequence[str] = (), *, variant: str | None = None) -> Recipe:
    """Resolve a recipe.

    Raises:
        RecipeError: A name, key or value is invalid.
    """
    tree = _read(name)
    if variant is not None:
        allowed = variants()
        if variant not in allowed:
            raise RecipeError(f"no variant '{variant}': choose one of {', '.join(allowed)}")
        tree = _merge(tree, {key: value for key, value in allowed[variant].items() if key != "source"})
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or not key:
            raise RecipeError(f"'{override}' is no override: write key=value, for example seed=1")
        _put(tree, key.split("."), _number(yaml.safe_load(value)), key)
    tree.pop("extends", None)
    allowed = {f.name for f in fields(Recipe)}
    if unknown := sorted(set(tree) - allowed):
        raise RecipeError(f"unknown keys {', '.join(unknown)}: a recipe has {', '.join(sorted(allowed))}")
    try:
        recipe = Recipe(**{"name": Path(name).stem} | tree)
    except TypeError as error:
        raise RecipeError(f"recipe '{name}': {error}") from None
    _check(recipe)
    return recipe


def _read(name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    if name in seen:
        raise RecipeError(f"recipe '{name}' extends itself: {' -> '.join((*seen, name))}")
    tree = read_mapping(name, "recipe", RecipeError)
    parent = tree.pop("extends", None)
    return tree if parent is None else _merge(_read(parent, (*seen, name)), tree)


def _merge(base: dict[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in override.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(dict(merged[key]), value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _put(tree: Any, path: Sequence[str], value: Any, key_path: str) -> None:
    *parents, leaf = path
    for step in parents:
        if isinstance(tree, list):
            tree = tree[_index(tree, step, key_path)]
            continue
        if tree.get(step) is None:
            tree[step] = {}
        tree = tree[step]
        if not isinstance(tree, dict | list):
            raise RecipeError(f"'{key_path}': '{step}' is a value, it has no keys below it")
    if isinstance(tree, list):
        tree[_index(tree, leaf, key_path)] = value
    else:
        tree[leaf] = value


def _index(values: list[Any], step: str, key_path: str) -> int:
    if not step.isdigit() or int(step) >= len(values):
        raise RecipeError(f"'{key_path}': '{step}' is no place in a list of {len(values)}")
    return int(step)


def _number(value: Any) -> Any:
    """Convert texts such as 1e-6 to numbers, which YAML 1.1 reads as texts."""
    if isinstance(value, dict):
        return {key: _number(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_number(inner) for inner in value]
    if isinstance(value, str):
        head, sign, tail = value.partition("e")
        if sign and tail.lstrip("+-").isdigit() and head.replace(".", "", 1).lstrip("+-").isdigit():
            return float(value)
    return value


def _check(recipe: Recipe) -> None:
    for key, allowed in (("family", family_names()), ("mode", mode_names()), ("order", _ORDERS)):
        if getattr(recipe, key) not in allowed:
            raise RecipeError(f"{key} is {getattr(recipe, key)!r}: use one of {', '.join(allowed)}")
    if unknown := sorted(set(recipe.data) - _DATA_KEYS):
        raise RecipeError(f"data has unknown keys {', '.join(unknown)}: it takes {', '.join(sorted(_DATA_KEYS))}")
    if recipe.minutes is not None and (not isinstance(recipe.minutes, int | float) or not recipe.minutes > 0):
        raise RecipeError(f"minutes is {recipe.minutes!r}: a number above 0 is needed, or nothing")
    prompt_identity(recipe.mode, recipe.prompt)  # type: ignore[arg-type]  # no such set, or a file that is not there
    trackers = [recipe.report_to] if isinstance(recipe.report_to, str) else recipe.report_to or []
    for name in trackers:
        if name not in TRACKERS:
            raise RecipeError(f"report_to names {name!r}: use {', '.join(TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            raise RecipeError(f"report_to names {name}, which is not installed: pip install {name}")
    for key in ("sft", "grpo"):
        owned = {"output_dir", "seed", "data_seed", "remove_unused_columns"} & set(getattr(recipe, key))
        if owned:
            raise RecipeError(f"{key}.{owned.pop()} is set by the command: give out=FOLDER or seed=N")
