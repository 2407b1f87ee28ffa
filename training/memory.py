"""Memory of a training on each GPU, computed from the shapes of the real models. Nothing here was measured.

Counted, in GB (1e9 bytes), for each GPU of n:

weights      2 bytes each (bf16); over n with FSDP or ZeRO-3, whole on each GPU with DDP (LoRA)
training     full: gradients 2, float32 copy and Adam's two moments 12 bytes for each trained weight, over n;
             LoRA: 16 bytes for each adapter weight
reference    2 bytes for each weight, over n, where all weights are trained with beta > 0; none for LoRA
rollout      keys and values of all rows at full length; the next pass reuses the same memory
activations  with gradient checkpointing: the input of each layer for a micro-batch, one layer's own activations
             (about 34 numbers for each token and width), and a tile of logits of the fused head

"All weights" is float32 weights under bf16 autocast (``dtype=float32``): 16 bytes for each weight in all, as above.
ZeRO-3 gathers the whole weights on each GPU while it generates, unless ``grpo.ds3_gather_for_generation=false``, which
is slow: add the unsharded weights for it. FSDP2 gathers layer by layer.

Left out: the CUDA context and kernels' workspace (2 to 4 GB), fragmentation (some 10 %), the judge, which is served
elsewhere. Leave a fifth of the GPU free.
"""

from __future__ import annotations

from dataclasses import dataclass

_TILE = 2048  # tokens at a time in the fused head


@dataclass(frozen=True)
class Model:
    """The shapes of a model; the tests count ``parameters`` from its class on the meta device."""

    name: str
    parameters: int  # loaded by training: the Thinker with its vision tower, or Qwen2-Audio
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    audio_tokens_per_s: int = 25

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    def adapter(self, rank: int) -> int:
        """Return the number of weights of a LoRA of ``rank`` on all linear layers of the text stack."""
        kv = self.kv_heads * self.head_size
        pairs = [(self.hidden, self.hidden), (self.hidden, kv), (self.hidden, kv), (self.hidden, self.hidden)]
        pairs += [(self.hidden, self.intermediate)] * 2 + [(self.intermediate, self.hidden)]
        return self.layers * sum(rank * (a + b) for a, b in pairs)


MODELS = (
    Model("Qwen2.5-Omni-3B", 4_703_464_448, 36, 2048, 11008, 16, 2, 151_936),
    Model("Qwen2.5-Omni-7B", 8_931_813_888, 28, 3584, 18944, 28, 4, 152_064),
    Model("Qwen2-Audio-7B", 8_397_094_912, 32, 4096, 11008, 32, 32, 156_032),
)


@dataclass(frozen=True)
class Need:
    """GB on each GPU."""

    weights: float
    training: float
    reference: float
    rollout: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.training + self.reference + max(self.rollout, self.activations)


def needs(
    model: Model,
    method: str,
    gpus: int,
    *,
    sharded: bool,
    rows: int = 8,
    tokens: int = 1600,
    rank: int = 64,
    beta: bool = True,
    rollouts: bool = True,
) -> Need:
    """Compute the memory of a training on each GPU.

    Args:
        model: Shapes of the model.
        method: "lora" or "full".
        gpus: Number of GPUs.
        sharded: Whether weights are sharded over them (FSDP, ZeRO-3).
        rows: Sequences on each GPU.
        tokens: Tokens of a sequence, audio included.
        rank: Rank of LoRA.
        beta: Whether the loss has a KL term, which needs a reference.
        rollouts: Whether completions are generated (GRPO).

    Raises:
        ValueError: The method is not known.
    """
    if method not in ("lora", "full"):
        raise ValueError(f"method is {method!r}: use lora or full")
    share = gpus if sharded else 1
    trained = model.adapter(rank) if method == "lora" else model.parameters
    cache = 2 * model.layers * model.kv_heads * model.head_size * 2 * rows * tokens
    inputs = model.layers * model.hidden * 2 * rows * tokens
    layer = 34 * model.hidden * rows * tokens
    tile = 2 * 4 * _TILE * model.vocabulary
    return Need(
        weights=model.parameters * 2 / share / 1e9,
        training=trained * (16 if method == "lora" else 14) / share / 1e9,
        reference=model.parameters * 2 / share / 1e9 if method == "full" and beta and rollouts else 0.0,
        rollout=cache / 1e9 if rollouts else 0.0,
        activations=(inputs + layer + tile) / 1e9,
    )


def table() -> str:
    """Return the table of the README: SFT with 2 rows and GRPO with 8 rows of 1,600 tokens (10 s of audio) on a GPU."""
    head = "| model | method | GPUs | sharding | SFT, GB each | GRPO, GB each |\n| --- | --- | --- | --- | --- | --- |"
    lines = [head]
    for model in MODELS:
        for method, gpus, sharded in (("lora", 1, False), ("lora", 4, True), ("full", 4, True), ("full", 8, True)):
            sft = needs(model, method, gpus, sharded=sharded, rows=2, beta=False, rollouts=False).total
            grpo = needs(model, method, gpus, sharded=sharded).total
            sharding = "FSDP2 or ZeRO-3" if sharded else "none (or DDP)"
            name = "LoRA r64" if method == "lora" else "all weights"
            lines.append(f"| {model.name} | {name} | {gpus} | {sharding} | {sft:.0f} | {grpo:.0f} |")
    return "\n".join(lines)
