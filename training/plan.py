"""Estimates of a training's hours, memory and money, from operators counted on the model's shapes.

Nothing is loaded or trained: the model is built on the meta device, with one and with two layers of text. PyTorch's
FlopCounterMode counts its operations and a dispatch mode its operators; all layers of a stack cost the same.

counted      floating-point operations of a prompt's pass, of a pass with backward, and of a decoded token; operators of
             a decoded token; bytes of the weights
assumed      the share of a device's peak that passes reach (``USE``), seconds for each operator of a decoded token
             (``LAUNCH_S``), the length of clips, prompts and completions (fields of :class:`Load`)
left out     optimizer, communication, saving, and a judge that is a service: with 32 requests in flight it should be
             quicker than a rollout, which the cost sheet of a run shows

Numbers for a GPU are estimates, not measurements. The speed of a CPU is measured briefly beforehand.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mpar2.engines.families import get_family
from mpar2.engines.names import resolve, split_adapter
from training.memory import MODELS, Model, needs
from training.recipe import Recipe, RecipeError

USE = 0.4  # share of the peak in passes, as well-tuned trainers reach on models of this size
LAUNCH_S = 15e-6  # seconds of each operator of a decoded token under transformers' generate on a GPU
_SAMPLE = 256  # tokens of the passes that are counted


@dataclass(frozen=True)
class Device:
    """A device: dense bfloat16 operations a second, bytes a second and GB, as its vendor states them."""

    name: str
    flops: float
    bandwidth: float
    memory_gb: float
    use: float = USE
    launch_s: float = LAUNCH_S


DEVICES = {
    device.name: device
    for device in (
        Device("h200", 989e12, 4.8e12, 141),
        Device("h100", 989e12, 3.35e12, 80),
        Device("a100-80gb", 312e12, 2.04e12, 80),
        Device("l40s", 362e12, 0.864e12, 48),
        Device("rtx-4090", 165e12, 1.01e12, 24),
    )
}


def device_named(name: str) -> Device:
    """Return a device by name; ``cpu`` is this machine's, measured.

    Raises:
        RecipeError: The name is not known.
    """
    if name == "cpu":
        return this_cpu()
    if name not in DEVICES:
        raise RecipeError(f"no device {name!r} is known: choose cpu, {', '.join(DEVICES)}")
    return DEVICES[name]


@dataclass(frozen=True)
class Load:
    """The load of a training: seconds of a clip, tokens of a prompt's text and of an SFT completion, and items."""

    clip_s: float = 10.0
    prompt_tokens: int = 150
    sft_tokens: int = 250
    mean_share: float = 0.6  # of the longest completion: the mean of a step's completions
    items: int | None = None  # of SFT, whose steps are counted in epochs


@dataclass(frozen=True)
class Costs:
    """Operations of one sequence: linear in its tokens, and quadratic for attention."""

    token: float  # of a pass, a token, without attention
    attention: float  # of a pass, a token squared
    update: float  # of forward and backward, times those of a pass
    head: float  # of the language head, a token
    tower: float  # of the audio encoder, a second of sound
    launches: float  # operators that a decoded token dispatches
    weights: float  # parameters of the text stack and its head

    def read(self, tokens: float) -> float:
        """Return the operations of a pass over ``tokens``, without its head."""
        return self.token * tokens + self.attention * tokens**2


@dataclass(frozen=True)
class Plan:
    """Estimates of one training. ``seconds`` of a step by stage; ``memory_gb`` on each device; None where unknown."""

    steps: int | None
    seconds: dict[str, float]
    memory_gb: float
    device: Device
    devices: int
    price: float | None  # of a device's hour
    minutes: float | None = None  # after which the training stops

    @property
    def step_s(self) -> float:
        return sum(self.seconds.values())

    @property
    def hours(self) -> float | None:
        bounds = [] if self.minutes is None else [self.minutes / 60]
        return min(bounds + ([] if self.steps is None else [self.steps * self.step_s / 3600]), default=None)

    @property
    def money(self) -> float | None:
        return None if self.hours is None or self.price is None else self.hours * self.devices * self.price

    def text(self) -> str:
        """Return the plan as lines."""
        stages = ", ".join(f"{name} {seconds:.2g}" for name, seconds in self.seconds.items())
        lines = [
            f"estimate for {self.devices} x {self.device.name} (operators counted, speeds assumed; nothing was run)",
            f"  step    {self.step_s:.3g} s ({stages})",
            f"  steps   {'unknown: give items=N' if self.steps is None else self.steps}",
            f"  time    {'unknown' if self.hours is None else hours_text(self.hours)}",
            f"  memory  {self.memory_gb:.1f} GB on each of {self.devices}"
            + (f", which have {self.device.memory_gb:.0f}" if self.device.memory_gb else ""),
            f"  money   {'no price given' if self.money is None else f'{self.money:.2f}'}",
        ]
        if self.device.memory_gb and self.memory_gb > 0.8 * self.device.memory_gb:
            lines.append("  it does not fit (a fifth must stay free): shard the weights, or take a smaller batch")
        return "\n".join(lines)


def hours_text(hours: float) -> str:
    """Format hours for reading.

    >>> hours_text(0.004), hours_text(0.5), hours_text(12.34)
    ('14 s', '30 min', '12.3 h')
    """
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"


def this_cpu() -> Device:
    """Measure this machine: a matrix product, a memory copy and a small operator, a tenth of a second each."""
    size = 512
    a, b = torch.randn(size, size), torch.randn(size, size)
    flops = 2 * size**3 / _seconds(lambda: a @ b)
    block = torch.zeros(2**23)
    bandwidth = 2 * block.nbytes / _seconds(lambda: block.clone())
    small = torch.zeros(64)
    return Device("this CPU", flops, bandwidth, 0.0, 0.7, _seconds(lambda: small + 1.0) * 2)


def _seconds(work: Callable[[], Any]) -> float:
    """Return the time of the quickest run of ``work`` in a tenth of a second."""
    best, end = math.inf, time.perf_counter() + 0.1
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def plan_training(
    method: str,
    recipe: Recipe,
    *,
    device: Device,
    devices: int = 1,
    price: float | None = None,
    load: Load | None = None,
) -> Plan:
    """Estimate a training.

    Args:
        method: ``sft`` or ``grpo``.
        recipe: The resolved recipe; its model's configuration must be available, or its shapes known
            (``memory.MODELS``).
        device: The device.
        devices: Number of devices.
        price: Price of an hour of one device, in any currency.
        load: Lengths of clips and texts.

    Raises:
        RecipeError: The model's shapes are not known.
    """
    load = load or Load()
    config, shapes = _shapes(recipe)
    costs = count_costs(recipe, config)
    options = recipe.sft if method == "sft" else recipe.grpo
    rows = int(options.get("per_device_train_batch_size", 8)) * int(options.get("gradient_accumulation_steps", 1))
    speed = device.flops * device.use
    n_prompt = load.prompt_tokens + load.clip_s / get_family(recipe.family).frame_s
    recompute = 1.0 if options.get("gradient_checkpointing") else 0.0  # the forward of the backward
    steps = options.get("max_steps")
    # The language head runs on completions only: one operation forward, two backward.
    if method == "sft":
        n_completion = load.sft_tokens
        passes = (
            rows
            * (costs.read(n_prompt + n_completion) * (costs.update + recompute) + 3 * costs.head * n_completion)
            / speed
        )
        seconds = {"passes": passes, "tower": rows * load.clip_s * costs.tower / speed}
        if steps is None and load.items:
            steps = math.ceil(load.items / (rows * devices) * float(options.get("num_train_epochs", 1)))
    else:
        longest = int(options.get("max_completion_length", 256))
        n_completion = load.mean_share * longest
        prompts = max(1, rows // int(options.get("num_generations", 8)))
        reference = 1.0 if options.get("beta") else 0.0  # the reference's pass
        pass_flops = costs.read(n_prompt + n_completion)
        if devices == 1 and not recompute:  # the rows of a prompt share its pass (``training.prefix_sharing``)
            pass_flops -= costs.read(n_prompt) * (1 - prompts / rows)
        step_flops = rows * (
            pass_flops * (costs.update + recompute + reference) + (3 + reference) * costs.head * n_completion
        )
        # A decoded token is bound by launches, by reading the weights, or by arithmetic.
        weight_bytes = costs.weights * (4 if recipe.dtype == "float32" else 2)
        token_s = max(
            costs.launches * device.launch_s,
            weight_bytes / device.bandwidth,
            rows * (costs.token + costs.head + 2 * costs.attention * n_prompt) / speed,
        )
        seconds = {
            "rollout": longest * token_s + prompts * costs.read(n_prompt) / speed,
            "tower": prompts * load.clip_s * costs.tower / speed,
            "passes": step_flops / speed,
        }
    # Memory is computed for bfloat16; float32 weights double it.
    need = needs(
        shapes,
        "full" if recipe.lora is None else "lora",
        devices,
        sharded=recipe.lora is None and devices > 1,
        rows=int(options.get("per_device_train_batch_size", 8)),
        tokens=round(
            n_prompt + (load.sft_tokens if method == "sft" else int(options.get("max_completion_length", 256)))
        ),
        rank=int((recipe.lora or {}).get("r", 8)),
        beta=bool(options.get("beta")),
        rollouts=method == "grpo",
    )
    memory = need.total * (2 if recipe.dtype == "float32" else 1)
    return Plan(steps, seconds, memory, device, devices, price, recipe.minutes)


def _shapes(recipe: Recipe) -> tuple[Any, Model]:
    """Return the model's configuration, and its shapes for ``training.memory``."""
    import transformers

    if recipe.smoke:
        raise RecipeError("a smoke run takes seconds: run it; --plan is for the recipe itself")
    name = split_adapter(recipe.model)[0]
    family = get_family(recipe.family)
    shapes = next((model for model in MODELS if str(name).rpartition("/")[2].startswith(model.name)), None)
    location = resolve(name)
    if shapes is not None and isinstance(location, str):  # no request to the hub is needed
        text = {"hidden_size": shapes.hidden, "num_hidden_layers": shapes.layers, "vocab_size": shapes.vocabulary}
        text |= {"num_attention_heads": shapes.heads, "num_key_value_heads": shapes.kv_heads}
        text |= {"intermediate_size": shapes.intermediate}
        kind = getattr(transformers, family.model_class).config_class
        if recipe.family == "qwen2_audio":
            text["model_type"] = "qwen2"
        return family.loaded_config(kind(text_config=text)), shapes
    try:
        config = transformers.AutoConfig.from_pretrained(location)
    except (OSError, ValueError) as error:
        names = ", ".join(model.name for model in MODELS)
        raise RecipeError(f"no configuration of '{name}' to plan with ({error}); known without one: {names}") from None
    config = family.loaded_config(getattr(config, "thinker_config", config))
    text = config.get_text_config()
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in _build(recipe.family, config).parameters())
    return config, Model(
        name=str(name),
        parameters=parameters,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        vocabulary=text.vocab_size,
    )


def _build(family: str, config: Any) -> Any:
    """Return a model of the family on the meta device."""
    import transformers

    with torch.device("meta"):
        return getattr(transformers, get_family(family).model_class)(config)


def count_costs(recipe: Recipe, config: Any) -> Costs:
    """Count the operations of a model, with the recipe's adapter in passes and without it in rollouts."""
    lora = None if recipe.lora is None else json.dumps(recipe.lora)
    shape = json.dumps(config.to_dict(), default=str, sort_keys=True)
    one_layer, two_layers = (
        _count(type(config), shape, layers, recipe.family, lora, recipe.train_tower) for layers in (1, 2)
    )
    text = config.get_text_config()
    extra_layers = text.num_hidden_layers - 1
    token_flops, attention_flops, update_flops, launches, weights = (
        a + extra_layers * (b - a) for a, b in zip(one_layer[:5], two_layers[:5], strict=True)
    )
    head = 2.0 * text.hidden_size * text.vocab_size
    update = update_flops / (token_flops * _SAMPLE + attention_flops * _SAMPLE**2)
    tower = 2.0 * 50 * one_layer[5]  # two operations for each weight and column, 50 columns a second
    return Costs(
        token_flops, attention_flops, update, head, tower, launches, weights + text.hidden_size * text.vocab_size
    )


@lru_cache(maxsize=64)
def _count(
    kind: Any, shape: str, layers: int, family_name: str, lora: str | None, train_tower: bool
) -> tuple[float, float, float, float, float, float]:
    """Count a model of ``layers`` layers of text, of the configuration class ``kind`` with the values ``shape``.

    Returns:
        Operations a token, a token squared, and of an update of ``_SAMPLE`` tokens; operators of a decoded token;
        weights of the layers; weights of the tower.
    """
    from transformers import DynamicCache

    config = kind.from_dict(json.loads(shape))
    stack = config.get_text_config()
    stack.num_hidden_layers = stack.max_window_layers = layers
    stack.layer_types = (getattr(stack, "layer_types", None) or [])[:layers] or None
    family = get_family(family_name)
    model = _build(family_name, config)
    text = model.model.language_model
    weights = sum(weight.numel() for layer in text.layers for weight in layer.parameters())
    tower = sum(weight.numel() for weight in family.audio_part(model).parameters())
    if lora is not None:
        model.requires_grad_(False)

    def run(count: int, cache: Any = None, **more: Any) -> Any:  # a cache: without one, masks read their positions
        embeddings = torch.empty(1, count, stack.hidden_size, device="meta", requires_grad=torch.is_grad_enabled())
        cache = cache or DynamicCache(config=stack)
        return text(inputs_embeds=embeddings, past_key_values=cache, use_cache=True, **more)

    # Rollouts use the merged weights, so launches are counted before the adapter is added.
    with torch.no_grad():
        cache = run(_SAMPLE).past_key_values
        with _Launches() as launches:
            run(1, cache, position_ids=torch.empty(1, 1, dtype=torch.long, device="meta"))
    if lora is not None:
        from peft import LoraConfig, get_peft_model

        options = json.loads(lora)
        targets = family.lora_targets(layers=options.pop("layers", None), audio=train_tower)
        get_peft_model(model, LoraConfig(target_modules=targets, **options), low_cpu_mem_usage=True)
    # Two lengths separate the linear from the quadratic term.
    with torch.no_grad():
        single, double = _flops(lambda: run(_SAMPLE)), _flops(lambda: run(2 * _SAMPLE))
    attention_flops = (double - 2 * single) / (2 * _SAMPLE**2)
    update_flops = _flops(lambda: run(_SAMPLE).last_hidden_state.sum().backward())
    return (
        (single - attention_flops * _SAMPLE**2) / _SAMPLE,
        attention_flops,
        update_flops,
        launches.count,
        weights,
        tower,
    )


def _flops(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


class _Launches(TorchDispatchMode):
    """Count dispatched operators; views launch no kernel."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not getattr(func, "is_view", False)
        return func(*args, **(kwargs or {}))
