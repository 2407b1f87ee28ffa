"""One training from a recipe: data, model, trainer, and a folder that records it.

    OUT/training.json    written first: the resolved recipe, scorers, data with its filter steps, environment
    OUT/log.jsonl        a line for each logged step, fsynced; after a resume a step may occur twice, the later counts
    OUT/cost.json        GRPO: seconds by stage, tokens a second, peak memory (``training.cost``)
    OUT/checkpoint-N/    TRL's checkpoints, with optimizer, scheduler and random states, for ``resume``
    OUT/adapter/         the result (LoRA), or OUT/model/ (all weights); written atomically

A resumed run gets the batches that the stopped one would have got. Under ``accelerate launch`` every process runs
this, and the main process writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import gather_object
from transformers import EarlyStoppingCallback, TrainerCallback

from mpar2.engines.checkpoint import load_checkpoint, load_processor
from mpar2.engines.families import get_family
from mpar2.engines.names import resolve, split_adapter
from mpar2.errors import MPAR2Error
from mpar2.prompts import prompt_identity
from mpar2.question import Item
from mpar2.runs.lines import LineWriter, load_json, write_json
from mpar2.runs.manifest import differences, environment
from training.audio_inputs import Clips
from training.cost import cost_sheet, sheet_text
from training.data import (
    Corpus,
    build_corpus,
    filter_by_pass_rate,
    filter_text_only_solvable,
    recordings_of,
    to_dataset,
)
from training.export import log_rows
from training.recipe import Recipe, RecipeError
from training.rewards import make_rewards, make_scorer
from training.rewards.functions import Schedule
from training.rollouts import ServerRollouts
from training.smoke import smoke_test_recipe, token_reward

Method = Literal["sft", "grpo"]

# Independence: every manifest records the training scorer and the evaluation judges separately.
_EVALUATION = "mpar2.cafe: reference judge (phrases, assertion, claims) or a model judge with its own prompts"
_HARDNESS = {"easy": 0.0, "medium": 0.5, "hard": 1.0}


def train(method: Method, recipe: Recipe, out: Path, *, resume: bool = False, command: Sequence[str] = ()) -> Path:
    """Train a recipe, and return ``OUT/adapter`` or ``OUT/model``; an existing training is resumed or refused.

    Raises:
        RecipeError: ``out`` holds another training, or this one and ``resume`` is False.
        ValueError: The recipe's data or rewards are invalid.
    """
    out.mkdir(parents=True, exist_ok=True)
    rank = int(os.environ.get("RANK", "0"))
    main = rank == 0
    if recipe.smoke:  # each process has its own copy, so that none waits for a file
        recipe = smoke_test_recipe(recipe, out / ("smoke" if main else f"smoke-{rank}"))
    corpus = corpus_of(recipe)
    scorer = make_scorer(**recipe.scorer) if method == "grpo" else None
    manifest = {
        "format": "mpar2-training",
        "version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "method": method,
        "recipe": recipe.as_dict(),
        "training_scorer": scorer.id if scorer else None,
        "evaluation_scorer": _EVALUATION,
        "data": {
            "items": len(corpus.items),
            "sources": [{"name": s.name, "fingerprint": s.fingerprint, "items": len(s.items)} for s in corpus.sources],
            "steps": [step.as_json() for step in corpus.steps],
        },
        "prompt_hash": prompt_identity(recipe.mode, recipe.prompt)[1],  # type: ignore[arg-type]
        "environment": environment() | {"command": list(command)},
    }
    # The manifest comes before the model is loaded, so that another training's folder is refused early.
    checkpoint = _begin(out, manifest, resume, main)
    if main:
        print(corpus.report())
    trainer = (
        _make_sft_trainer(recipe, corpus, out) if method == "sft" else _make_grpo_trainer(recipe, corpus, out, scorer)
    )
    # The budget of minutes covers all starts of this training.
    minutes_before = _minutes_so_far(out)
    clock = _Clock(recipe.minutes, minutes_before)
    trainer.add_callback(clock)
    with LineWriter(out / "log.jsonl") if main else nullcontext() as log:
        trainer.add_callback(_Log(log, clock))
        time_over = recipe.minutes is not None and minutes_before >= recipe.minutes
        if checkpoint and (complete := _complete_checkpoint(checkpoint, trainer, time_over)):
            trainer._load_from_checkpoint(complete)
        else:
            trainer.train(resume_from_checkpoint=checkpoint)
    if main and method == "grpo":
        sheet = cost_sheet(log_rows(out / "log.jsonl"))
        write_json(out / "cost.json", sheet)
        print(sheet_text(sheet))
    return _save(trainer, recipe, out)


def finished(recipe: Recipe, out: Path) -> Path | None:
    """Return the result of a finished training, or None."""
    final = out / ("adapter" if recipe.lora is not None else "model")
    return final if final.is_dir() else None


def _begin(out: Path, manifest: Mapping[str, Any], resume: bool, main: bool) -> str | None:
    """Write the manifest of a new run, or return the checkpoint of a resumed one."""
    path = out / "training.json"
    if not main:  # the main process refuses for all; its manifest may or may not be written by now
        return _last_checkpoint(out) if resume else None
    if not path.exists():
        write_json(path, dict(manifest))
        return None
    old = load_json(path.read_bytes(), str(path))
    changed = differences(_comparable(old), _comparable(manifest))
    if changed:
        raise RecipeError(f"{out} holds another training ({'; '.join(changed[:5])}): choose another out=FOLDER")
    if not resume:
        raise RecipeError(f"{out} holds this training already: add --resume to go on with it, or choose another folder")
    return _last_checkpoint(out)  # None before the first save: begins anew


def _last_checkpoint(out: Path) -> str | None:
    """Return the newest complete checkpoint; an incomplete one lacks its state, which is written last."""
    complete = []
    for state in out.glob("checkpoint-*/trainer_state.json"):
        with contextlib.suppress(ValueError):
            json.loads(state.read_bytes())
            complete.append(state.parent)
    return str(max(complete, key=lambda folder: int(folder.name.rpartition("-")[2]))) if complete else None


def _complete_checkpoint(checkpoint: str, trainer: Any, time_over: bool = False) -> str | None:
    """Return the checkpoint to save if the training had already ended before the stop; training would do one more step.

    It had ended if all steps were done, its minutes were over, or it was stopped early. Return None if it continues, or
    if the weights are sharded (FSDP, DeepSpeed): only training loads those, so one more step is done.
    """
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_bytes())
    args = trainer.args  # of the recipe, which may have more steps than the stopped training
    steps_left = state["global_step"] < args.max_steps if args.max_steps > 0 else state["epoch"] < args.num_train_epochs
    early_stop = (state.get("stateful_callbacks") or {}).get("EarlyStoppingCallback")
    if (
        early_stop
        and early_stop["attributes"]["early_stopping_patience_counter"] >= early_stop["args"]["early_stopping_patience"]
    ):
        steps_left = False
    if (steps_left and not time_over) or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return None
    best = state.get("best_model_checkpoint") if args.load_best_model_at_end else None
    return best or checkpoint


def _comparable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    fields = {key: value for key, value in manifest.items() if key not in ("environment", "created")}
    ignored = ("minutes", "report_to")
    recipe = {k: v for k, v in (fields.get("recipe") or {}).items() if k not in ignored and v is not None}
    for section in ("sft", "grpo"):  # a run may be made longer, or log and save at other times
        recipe[section] = {
            key: value
            for key, value in (recipe.get(section) or {}).items()
            if key not in ("max_steps", "num_train_epochs", "logging_steps", "save_steps", "report_to")
        }
    return fields | {"recipe": recipe}


def corpus_of(recipe: Recipe) -> Corpus:
    """Return the corpus of a recipe, filtered and in its order."""
    data = recipe.data
    filters = []
    if model := data.get("drop_guessable"):
        filters.append(("guessable", lambda items: filter_text_only_solvable(items, str(model))))
    if rates := data.get("pass_rate"):
        unknown = set(rates) - {"model", "adapter", "mode", "samples", "keep", "batch_size"}
        if unknown or "model" not in rates:
            raise RecipeError(
                "data.pass_rate takes model (needed), adapter, mode, samples, keep and batch_size"
                + (f", not {', '.join(sorted(unknown))}" if unknown else "")
            )
        filters.append(("pass_rate", lambda items: filter_by_pass_rate(items, **{"mode": recipe.mode, **rates})))
    corpus = build_corpus(
        data.get("sources") or [],
        decode=bool(data.get("decode")),
        held_out=recordings_of(data.get("held_out") or []),
        longest_s=_longest_s(recipe),
        drop_longer=bool(data.get("drop_longer")),
        shuffle_seed=recipe.seed,
        limit=data.get("limit"),
        more=filters,
    )
    if recipe.order == "easy_first":
        items = sorted(corpus.items, key=_hardness)
        corpus = Corpus(tuple(items), corpus.sources, corpus.steps, corpus.seed, corpus.notes)
    return corpus


def _longest_s(recipe: Recipe) -> float | None:
    """Return the longest audio that the model accepts, or None where its processor is not available yet."""
    family = get_family(recipe.family)
    try:
        return family.max_audio_seconds(load_processor(split_adapter(recipe.model, recipe.adapter)[0]))
    except (OSError, ValueError, MPAR2Error) as error:
        print(f"note: lengths of clips are not compared with what the model hears: {error}", flush=True)
        return None


def _hardness(item: Item) -> float:
    """Return the difficulty of an item, from 0 (easy): by a policy's pass rate, else by the benchmark."""
    if (rate := item.extra.get("pass_rate")) is not None:
        return 1.0 - float(rate)
    return _HARDNESS.get(item.question.difficulty or "", 0.5)


def _validation(recipe: Recipe) -> tuple[Item, ...]:
    specs = recipe.data.get("validation") or []
    return build_corpus(specs).items if specs else ()


def _model(recipe: Recipe) -> tuple[Any, Any]:
    """Return the model ready to train, with its starting adapter if any, and its processor."""
    base, adapter = split_adapter(recipe.model, recipe.adapter)
    loaded = load_checkpoint(base, device=_load_device(recipe), dtype=recipe.dtype)
    model = loaded.model
    # The family names the classes that FSDP shards, unless accelerate's configuration does.
    os.environ.setdefault("FSDP_TRANSFORMER_CLS_TO_WRAP", ",".join(loaded.family.layer_classes))
    model.config.use_cache = False  # otherwise trainers warn; generation enables it itself
    if adapter is not None:
        if recipe.lora is None:
            raise RecipeError("a recipe that trains all weights cannot start from an adapter: merge it first")
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(resolve(adapter)), is_trainable=True)
        return model, loaded.processor
    if not recipe.train_tower:
        family = get_family(recipe.family)
        for name, weight in model.named_parameters():
            if family.is_audio(name) or ".visual." in name:
                weight.requires_grad_(False)
    return model, loaded.processor


def _load_device(recipe: Recipe) -> str | None:
    """Return the device to load the model on: the process's own GPU, or the CPU if the weights are to be sharded."""
    import torch

    sharded = any(
        os.environ.get(f"ACCELERATE_USE_{backend}", "").lower() == "true" for backend in ("FSDP", "DEEPSPEED")
    )
    if sharded or recipe.sft.get("use_cpu") or recipe.grpo.get("use_cpu"):
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else None


def _lora(recipe: Recipe, model: Any) -> Any:
    """Return PEFT's configuration, or None where all weights are trained or the model has an adapter already."""
    if recipe.lora is None or hasattr(model, "peft_config"):
        return None
    from peft import LoraConfig

    options = dict(recipe.lora)
    layers = options.pop("layers", None)
    targets = get_family(recipe.family).lora_targets(layers=layers, audio=recipe.train_tower)
    return LoraConfig(target_modules=targets, **options)


def _common(recipe: Recipe, out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of TRL's configuration, including those of an early stop if the recipe has one."""
    common = {"output_dir": str(out), "seed": recipe.seed, "data_seed": recipe.seed, **options}
    if recipe.report_to is not None:
        common["report_to"] = recipe.report_to
    if recipe.early_stop:
        metric = recipe.early_stop.get("metric", "eval_loss")
        steps = common.get("save_steps", 500)
        common |= {"load_best_model_at_end": True, "metric_for_best_model": metric, "save_total_limit": 2}
        common |= {"greater_is_better": not metric.endswith("loss"), "eval_strategy": "steps", "eval_steps": steps}
    return common


def _callbacks(recipe: Recipe) -> list[TrainerCallback]:
    """Return the recipe's early stop: training ends when ``metric`` has not improved ``patience`` times."""
    if not recipe.early_stop:
        return []
    options = dict(recipe.early_stop)
    options.pop("metric", None)
    if unknown := sorted(set(options) - {"patience", "min_delta"}):
        raise RecipeError(f"early_stop has unknown keys {', '.join(unknown)}: it takes metric, patience, min_delta")
    if not recipe.data.get("validation"):
        raise RecipeError("early_stop needs data.validation: the items that it is measured on")
    return [EarlyStoppingCallback(int(options.get("patience", 3)), float(options.get("min_delta", 0.0)))]


def _make_sft_trainer(recipe: Recipe, corpus: Corpus, out: Path) -> Any:
    from training.audio_sft import AudioSFTTrainer, sft_config

    model, processor = _model(recipe)
    validation = _validation(recipe)
    return AudioSFTTrainer(
        model,
        processor=processor,
        clips=Clips(processor),
        max_tokens=recipe.max_tokens,
        args=sft_config(**_common(recipe, out, recipe.sft)),
        train_dataset=to_dataset(corpus.items, recipe.mode, completions=True, prompt=recipe.prompt),
        eval_dataset=to_dataset(validation, recipe.mode, completions=True, prompt=recipe.prompt)
        if validation
        else None,
        peft_config=_lora(recipe, model),
        callbacks=_callbacks(recipe),
    )


def _make_grpo_trainer(recipe: Recipe, corpus: Corpus, out: Path, scorer: Any) -> Any:
    from training.audio_grpo import AudioGRPOTrainer, PerceptionTerm, grpo_config

    model, processor = _model(recipe)
    if recipe.lora is None and recipe.grpo.get("beta", 0.0) and recipe.family == "qwen2_5_omni":
        _need_a_thinker(model)
    functions, weights = make_rewards(recipe.rewards, scorer)
    if recipe.smoke:  # random weights earn no reward: one that varies makes the update nonzero
        functions, weights = [*functions, token_reward], [*weights, 1.0]
    schedules = {i: weight for i, weight in enumerate(weights) if isinstance(weight, Schedule)}
    weights = [weight.at(0) if isinstance(weight, Schedule) else weight for weight in weights]
    options = _common(recipe, out, recipe.grpo) | {"reward_weights": weights}
    rollouts = _rollouts(recipe, out)
    if recipe.order == "easy_first":
        options["shuffle_dataset"] = False
    validation = _validation(recipe)
    return AudioGRPOTrainer(
        model,
        processor=processor,
        perception_term=PerceptionTerm(**recipe.perception_term) if recipe.perception_term else None,
        watch_attention_every=recipe.watch_attention_every,
        rollouts=rollouts,
        resample_rounds=recipe.resample_rounds,
        schedules=schedules,
        reward_funcs=functions,
        args=grpo_config(**options),
        train_dataset=to_dataset(corpus.items, recipe.mode, prompt=recipe.prompt),
        eval_dataset=to_dataset(validation, recipe.mode, prompt=recipe.prompt) if validation else None,
        peft_config=_lora(recipe, model),
        callbacks=_callbacks(recipe),
    )


def _rollouts(recipe: Recipe, out: Path) -> ServerRollouts | None:
    """Return the client of the rollout server that the recipe names, or None."""
    if not recipe.rollouts:
        return None
    if recipe.lora is None:
        raise RecipeError("rollouts by a server need LoRA: the weights of a whole model are not sent at every step")
    options = dict(recipe.rollouts)
    if options.pop("name", "server") != "server":
        raise RecipeError("rollouts.name must be 'server', or leave rollouts out for transformers' generate")
    checkpoint = split_adapter(recipe.model, recipe.adapter)[0]
    try:
        return ServerRollouts(folder=out / "rollouts", checkpoint=checkpoint, **options)
    except TypeError as error:
        raise RecipeError(f"rollouts: {error}") from None


def _need_a_thinker(model: Any) -> None:
    """Refuse a model whose reference TRL cannot load, since TRL loads it again by the class in the configuration."""
    from transformers import AutoConfig

    source = model.config._name_or_path
    if AutoConfig.from_pretrained(source).model_type != "qwen2_5_omni_thinker":
        raise RecipeError(
            f"all weights with beta > 0 need a reference model, which cannot be loaded from '{source}', the whole of "
            "Qwen2.5-Omni: save its Thinker alone first (README, full training), set grpo.beta=0, or train LoRA"
        )


def _save(trainer: Any, recipe: Recipe, out: Path) -> Path:
    """Write the result to a temporary folder that is renamed when complete; return its path."""
    final = out / ("adapter" if recipe.lora is not None else "model")
    part = out / f".{final.name}.part"
    if trainer.accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # gathers sharded weights: on every process
    if trainer.accelerator.is_main_process:
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        if recipe.lora is not None:
            model.peft_config["default"].base_model_name_or_path = split_adapter(recipe.model, recipe.adapter)[0]
            model.save_pretrained(part, state_dict=state, selected_adapters=["default"])
        else:
            model.save_pretrained(part, state_dict=state)
            trainer.processing_class.save_pretrained(part)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
    trainer.accelerator.wait_for_everyone()
    return final


def _minutes_so_far(out: Path) -> float:
    """Return the minutes of a stopped training up to its last checkpoint, from its log."""
    path = out / "log.jsonl"
    checkpoint = _last_checkpoint(out)
    if not path.exists() or checkpoint is None:
        return 0.0
    last = int(checkpoint.rpartition("-")[2])
    return max((row["minutes"] for row in log_rows(path) if row["step"] <= last and "minutes" in row), default=0.0)


class _Clock(TrainerCallback):
    """Stop a training when its minutes are over. The clock starts with the first step; loading is not counted."""

    def __init__(self, minutes: float | None, before: float) -> None:
        self._limit = minutes
        self._before = before
        self._start = time.monotonic()

    @property
    def minutes(self) -> float:
        return self._before + (time.monotonic() - self._start) / 60

    def on_train_begin(self, args, state, control, **rest) -> None:
        self._start = time.monotonic()

    def on_step_end(self, args, state, control, **rest) -> None:
        over = self._limit is not None and self.minutes >= self._limit
        if args.world_size > 1:  # clocks differ, and all processes must stop at the same step
            over = any(gather_object([over]))
        if over:
            control.should_training_stop = True


class _Log(TrainerCallback):
    def __init__(self, lines: LineWriter | None, clock: _Clock) -> None:
        self._lines = lines
        self._clock = clock

    def on_log(self, args, state, control, logs=None, **rest) -> None:
        if self._lines is not None and logs:
            plain = {key: value for key, value in logs.items() if isinstance(value, int | float | str | None)}
            finite = {key: value for key, value in plain.items() if not isinstance(value, float) or value == value}
            self._lines.append({"step": state.global_step, "minutes": round(self._clock.minutes, 3), **finite})
