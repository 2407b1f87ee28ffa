"""Decode one batch of prompts: prefill, one token at a time, tokens to text.

A custom loop instead of ``generate`` streams each row, stops at once, runs rows of one batch with different adapters,
samples every row from its own random generator, and shares the output of the audio encoder. Greedy output equals
``generate`` (tested). Finished rows leave the batch.

Sampling is repeatable: a row's samples depend on its seed and its own logits alone, not on the rest of the batch (up
to the last digits of floating point, which a batch may change).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mpar2.engines.adapter import Adapter
from mpar2.engines.base import Decoding, EngineError
from mpar2.engines.checkpoint import Checkpoint, free_bytes
from mpar2.engines.merge import merged_adapter
from mpar2.engines.probe import AttentionProbe
from mpar2.trace import Span

__all__ = ["Prompt", "Sampler", "Session", "TextStream", "end_tokens"]


_LOGITS = 2**26  # numbers in a block of logits while a text is scored
_ROOM = 64  # tokens by which the buffers of a cache grow


@dataclass(frozen=True, eq=False)
class Prompt:
    """Token ids with the audio placeholders expanded, the encoder's frames for them, and the adapter to run with."""

    ids: tuple[int, ...]
    audio: torch.Tensor  # (F, hidden)
    audio_start: int
    adapter: Adapter | None = None


class Session:
    """A batch of prompts and its key-value cache.

    The caller holds the checkpoint's lock, and closes the session.

    Args:
        checkpoint: The loaded checkpoint.
        prompts: One for each row.

    Attributes:
        rows: Indices into ``prompts`` of the rows still in the batch.
        probe: Records attention, if set.
    """

    def __init__(self, checkpoint: Checkpoint, prompts: Sequence[Prompt]) -> None:
        self._checkpoint = checkpoint
        self._network = checkpoint.model
        self._prompts = list(prompts)
        self._width = max(len(prompt.ids) for prompt in prompts)
        self.rows = list(range(len(prompts)))  # the prompts that are still in the batch
        self.probe: AttentionProbe | None = None
        self._cache: DynamicCache | None = None
        self._mask = torch.zeros(0)  # (B, columns of the cache): visible to attention
        self._hidden_columns = False  # whether the mask hides any column
        self._counts = torch.zeros(0)  # the same with hidden audio counted: position ids are computed from it
        self._deltas = torch.zeros(0)
        self._adapters = ExitStack()
        self._mixed = len({prompt.adapter for prompt in prompts}) > 1
        if not self._mixed:
            self._use([prompt.adapter for prompt in prompts])

    def audio_positions(self) -> list[range]:
        """Return the positions of each prompt's audio in the padded batch, for a probe."""
        shifts = [self._width - len(prompt.ids) + prompt.audio_start for prompt in self._prompts]
        return [range(start, start + len(p.audio)) for start, p in zip(shifts, self._prompts, strict=True)]

    @torch.inference_mode()
    def prefill(self) -> torch.Tensor:
        """Run each prompt by itself up to its last token, then the last tokens together.

        A batch of whole prompts would have to be padded, and attention with padding is slower. Prompts of one clip and
        adapter share the pass over the tokens that they begin with.

        Returns:
            Logits of the first new token, (B, V).
        """
        device = self._checkpoint.device
        lengths = torch.tensor([len(p.ids) for p in self._prompts], device=device)
        self._mask = (torch.arange(self._width, device=device)[None] >= self._width - lengths[:, None]).long()
        self._counts = self._mask
        self._hidden_columns = bool((lengths < self._width).any())
        ids = [torch.tensor([prompt.ids], device=device) for prompt in self._prompts]
        positions, deltas = zip(
            *(self._checkpoint.family.first_positions(self._network, row) for row in ids), strict=True
        )
        self._deltas = torch.cat(deltas)
        caches = self._run_prompts(positions)
        if self._mixed:
            self._use([prompt.adapter for prompt in self._prompts])
        self._cache = _joined(self._network, caches)
        last = [self._inputs(prompt, len(prompt.ids) - 1, len(prompt.ids)) for prompt in self._prompts]
        inputs = {name: torch.cat([row[name] for row in last]) for name in last[0]}
        hidden = self._hidden(inputs, torch.cat([row[..., -1:] for row in positions], dim=-2), 1)
        return self._checkpoint.family.logits(self._network, hidden[:, -1])

    @torch.inference_mode()
    def feed(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run one forward pass over the next tokens of each row.

        Args:
            tokens: The tokens of each row, of equal number.

        Returns:
            Logits of the last position, (B, V).
        """
        hidden = self._follow(torch.tensor(tokens, device=self._checkpoint.device))
        return self._checkpoint.family.logits(self._network, hidden[:, -1])

    @torch.inference_mode()
    def score(self, tokens: Sequence[int]) -> torch.Tensor:
        """Compute log-probabilities by teacher forcing, as the first pass of a session.

        Args:
            tokens: Token ids that follow each prompt.

        Returns:
            (B, T), natural logarithms.
        """
        rows = len(self.rows)
        first = self.prefill()
        targets = torch.tensor(tokens, device=self._checkpoint.device)
        logprobs = [torch.log_softmax(first, dim=-1)[:, targets[:1]]]
        if len(tokens) > 1:
            hidden = self._follow(targets[None, :-1].expand(rows, -1))
            step = max(1, _LOGITS // (rows * first.shape[-1]))  # logits of a whole text may not fit
            for start in range(0, hidden.shape[1], step):
                logits = self._checkpoint.family.logits(self._network, hidden[:, start : start + step])
                chosen = targets[None, 1 + start : 1 + start + logits.shape[1], None].expand(rows, -1, 1)
                logprobs.append(torch.log_softmax(logits, dim=-1).gather(-1, chosen)[..., 0])
        return torch.cat(logprobs, dim=1)

    @torch.inference_mode()
    def keep(self, places: Sequence[int]) -> None:
        """Keep only the rows at ``places`` of the batch."""
        index = torch.tensor(places, device=self._checkpoint.device)
        self.rows = [self.rows[place] for place in places]
        self._cache.batch_select_indices(index)
        self._mask, self._counts, self._deltas = self._mask[index], self._counts[index], self._deltas[index]
        self._hidden_columns = not self._mask.all()
        if self._mixed:  # rows have moved; a single adapter stays active
            self._use([self._prompts[row].adapter for row in self.rows])

    def hide_audio(self, row: int) -> None:
        """Mask the audio for a row from its next token on. Position ids do not change.

        Args:
            row: Index of its prompt.
        """
        span = self.audio_positions()[row]
        self._mask = self._mask.clone()  # may share memory with the counts of the positions
        self._mask[self.rows.index(row), span.start : span.stop] = 0
        self._hidden_columns = True

    def rollback(self, row: int, tokens: int) -> None:
        """Remove the last tokens of a row: they are masked, and the next tokens take their positions.

        Args:
            row: Index of its prompt.
            tokens: Number of tokens.
        """
        place = self.rows.index(row)
        self._mask, self._counts = self._mask.clone(), self._counts.clone()
        columns = self._counts[place].nonzero()[:, 0]
        columns = columns[len(columns) - tokens :]
        self._mask[place, columns] = self._counts[place, columns] = 0
        self._hidden_columns = True

    def close(self) -> None:
        self._adapters.close()

    def _use(self, adapters: Sequence[Adapter | None], *, merge: bool = True) -> None:
        """Run the following passes with one adapter for each row; see :func:`_adapted`."""
        self._adapters.close()
        self._adapters.enter_context(_adapted(self._checkpoint, adapters, merge=merge))

    def _inputs(self, prompt: Prompt, start: int, stop: int) -> dict[str, torch.Tensor]:
        """Return the text model's inputs for the tokens from ``start`` to ``stop`` of a prompt, with its audio."""
        ids = torch.tensor([prompt.ids[start:stop]], device=self._checkpoint.device)
        first, last = prompt.audio_start, prompt.audio_start + len(prompt.audio)
        first, last = (min(max(place, start), stop) - start for place in (first, last))
        # a placeholder's id may lie outside the vocabulary
        ids[:, first:last] = self._network.generation_config.pad_token_id or 0
        inputs = self._checkpoint.family.embed(self._network, ids)
        frames = prompt.audio[max(start - prompt.audio_start, 0) :][: last - first]
        inputs["inputs_embeds"][0, first:last] = frames.to(ids.device, inputs["inputs_embeds"].dtype)
        return inputs

    def _run_prompts(self, positions: Sequence[torch.Tensor]) -> list[DynamicCache]:
        """Return a cache of each prompt without its last token.

        Args:
            positions: Position ids of each prompt, (..., 1, T).
        """
        groups: dict[tuple[Adapter | None, int], list[int]] = {}
        for row, prompt in enumerate(self._prompts):
            groups.setdefault((prompt.adapter, id(prompt.audio)), []).append(row)
        caches: dict[int, DynamicCache] = {}
        for (adapter, _), rows in groups.items():
            if self._mixed:
                self._use([adapter], merge=False)  # merging costs more than one prompt gains
            # The tokens that all prompts of the group begin with, then the rest of each.
            shared, cache = _shared_tokens([self._prompts[row].ids for row in rows]), growing_cache(self._network)
            self._extend(cache, self._prompts[rows[0]], positions[rows[0]][..., :shared])
            for row in rows:
                rest = positions[row][..., shared:-1]
                caches[row] = _joined(self._network, [cache]) if rest.shape[-1] else cache
                self._extend(caches[row], self._prompts[row], rest, shared)
        return [caches[row] for row in range(len(self._prompts))]

    def _extend(self, cache: DynamicCache, prompt: Prompt, positions: torch.Tensor, start: int = 0) -> None:
        """Append the tokens of a prompt from ``start``, one for each position id, to the cache of its row."""
        stop = start + positions.shape[-1]
        if stop == start:
            return
        self._network.model(
            **self._inputs(prompt, start, stop),
            attention_mask=torch.ones(1, stop, dtype=torch.long, device=self._checkpoint.device),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )

    def _follow(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states (B, T, hidden) of tokens (B, T) that follow the cache."""
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=1)
        self._counts = torch.cat([self._counts, torch.ones_like(ids)], dim=1)
        positions = self._counts.cumsum(-1)[:, -ids.shape[1] :] - 1 + self._deltas
        return self._hidden(self._checkpoint.family.embed(self._network, ids), positions, ids.shape[1])

    def _mask_of_a_token(self) -> torch.Tensor | None:
        """Return the attention mask of one query per row in the model's format, which transformers computes slowly.

        None for layers with sliding windows, where transformers computes it.
        """
        if not all(type(layer) is _GrowingLayer for layer in self._cache.layers):
            return self._mask
        return self._mask[:, None, None].bool() if self._hidden_columns else None

    def _hidden(self, inputs: dict[str, torch.Tensor], positions: torch.Tensor, queries: int) -> torch.Tensor:
        with ExitStack() as stack:
            if self.probe is not None:
                stack.enter_context(self.probe.listen(self.rows, queries))
            return self._network.model(
                **inputs,
                attention_mask=self._mask if positions.shape[-1] > 1 else self._mask_of_a_token(),
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
            ).last_hidden_state


class _GrowingLayer(DynamicLayer):
    """Keys and values as views of growing buffers. The parent class copies all of them at every token."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._buffers: dict[str, torch.Tensor] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        self.keys = self._append("keys", self.keys, length, key_states)
        self.values = self._append("values", self.values, length, value_states)
        return self.keys, self.values

    def _append(self, name: str, current: torch.Tensor, length: int, new: torch.Tensor) -> torch.Tensor:
        stop = length + new.shape[-2]
        buffer = self._buffers.get(name)
        if buffer is None or stop > buffer.shape[-2]:
            buffer = new.new_empty(*new.shape[:-2], stop + _ROOM, new.shape[-1])
            if length:
                buffer[..., :length, :] = current
            self._buffers[name] = buffer
        buffer[..., length:stop, :] = new
        return buffer[..., :stop, :]

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._buffers = {}


def growing_cache(network: Any) -> DynamicCache:
    """Build an empty cache whose layers of full attention are not copied at every token."""
    cache = DynamicCache(config=network.config.get_text_config())
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _shared_tokens(prompts: Sequence[tuple[int, ...]]) -> int:
    """Return the number of tokens that all prompts begin with, without the last token of any."""
    shortest = min(map(len, prompts)) - 1
    return next((n for n in range(shortest) if len({ids[n] for ids in prompts}) > 1), shortest)


def _joined(network: Any, caches: Sequence[DynamicCache]) -> DynamicCache:
    """Return a copy of caches of one row each as one cache, aligned at their ends."""
    joined = growing_cache(network)
    for layer, *rows in zip(joined.layers, *(cache.layers for cache in caches), strict=True):
        if rows[0].keys is None:  # a layer that reads the keys of another
            continue
        longest = max(row.keys.shape[-2] for row in rows)
        layer.update(
            *(
                torch.cat([pad(states, (0, 0, longest - states.shape[-2], 0)) for states in side])
                for side in ([row.keys for row in rows], [row.values for row in rows])
            )
        )
        if layer.is_sliding:  # such a layer holds the end of its text only
            layer.cumulative_length = max(row.cumulative_length for row in rows)
    return joined


@contextmanager
def _adapted(checkpoint: Checkpoint, adapters: Sequence[Adapter | None], *, merge: bool) -> Iterator[None]:
    """Run the rows of a batch with their own adapters; ``None`` is the bare base.

    With ``merge``, if all rows share one plain adapter and memory allows, it is merged into the weights inside this
    context.

    PEFT mixes adapters in a batch too, but at the cost of a second pass on small models, since it indexes rows by lists
    in every layer. Here each layer's base runs bare, and each adapter's update is added to its rows.
    """
    if not all(adapter is None or adapter.batchable for adapter in adapters):
        checkpoint.use(adapters[0])  # batches of such adapters hold one adapter only
        yield
        return
    if merge and len(set(adapters)) == 1 and adapters[0] is not None and can_merge(checkpoint, adapters[0]):
        checkpoint.use(adapters[0])
        with merged_adapter(checkpoint.peft, adapters[0].key):
            yield
        return
    checkpoint.use(None)
    rows = {adapter.key: [] for adapter in adapters if adapter is not None}
    for row, adapter in enumerate(adapters):
        if adapter is not None:
            rows[adapter.key].append(row)
    groups = {key: _index(places, len(adapters), checkpoint.device) for key, places in rows.items()}
    with ExitStack() as changes:
        for module in checkpoint.model.modules() if groups else ():
            if any(key in getattr(module, "lora_A", ()) for key in groups):
                module.forward = partial(_forward_by_rows, module.base_layer.forward, _factors(module, groups))
                changes.callback(delattr, module, "forward")  # uncovers the class's own method
        yield


def can_merge(checkpoint: Checkpoint, adapter: Adapter) -> bool:
    """Return whether memory suffices for a second copy of the weights that the adapter changes.

    Args:
        checkpoint: The loaded base.
        adapter: The attached adapter.

    Returns:
        Also False if the base is quantised or its device does not report its free memory.
    """
    layers = [layer for layer in checkpoint.model.modules() if adapter.key in getattr(layer, "lora_A", ())]
    weights = [layer.get_base_layer().weight for layer in layers]
    needed = sum(weight.nbytes for weight in weights)
    free = free_bytes(checkpoint.device)
    quantized = checkpoint.quantized or not all(weight.is_floating_point() for weight in weights)
    return not quantized and free is not None and 2 * needed < free


def _index(places: list[int], batch: int, device: torch.device) -> slice | torch.Tensor:
    """Return the rows ``places`` as an index; adjacent rows as a slice, which avoids a copy."""
    if places == list(range(places[0], places[-1] + 1)):
        return slice(None) if len(places) == batch else slice(places[0], places[-1] + 1)
    return torch.tensor(places, device=device)


_Factors = list[tuple["slice | torch.Tensor", torch.Tensor, torch.Tensor]]


@torch.no_grad()
def _factors(layer: Any, groups: dict[str, slice | torch.Tensor]) -> _Factors:
    """Return rows, A (r, in) and scaled B, transposed (1, r, out), of each adapter of a layer."""
    return [
        (rows, layer.lora_A[key].weight, (layer.lora_B[key].weight * layer.scaling[key]).t().contiguous()[None])
        for key, rows in groups.items()
        if key in layer.lora_A
    ]


def _forward_by_rows(
    base: Callable[[torch.Tensor], torch.Tensor], factors: _Factors, hidden: torch.Tensor
) -> torch.Tensor:
    """Return (B, T, out): the output of the base layer, plus B A x on the rows of each adapter."""
    output = base(hidden)
    for rows, down, up in factors:
        low = torch.nn.functional.linear(hidden[rows].to(down.dtype), down)
        if not isinstance(rows, slice):
            output.index_add_(0, rows, (low @ up).to(output.dtype))
        elif output.dtype == up.dtype:
            output[rows].baddbmm_(low, up.expand(len(low), -1, -1))
        else:  # PEFT stores adapters in float32, where such small products are faster than in bfloat16
            output[rows].add_(low @ up)
    return output


class Sampler:
    """Sample the next token of one row.

    Args:
        decoding: Temperature, top-p, top-k and repetition penalty.
        prompt_ids: Token ids of the prompt, which the repetition penalty counts.
        seed: Seed of the samples; None: that of ``decoding``.
    """

    def __init__(self, decoding: Decoding, prompt_ids: Sequence[int], seed: int | None = None) -> None:
        self._prompt = list(prompt_ids)
        self._greedy = decoding.temperature == 0
        self._steps: list[Any] = []
        if decoding.repetition_penalty != 1.0:
            self._steps.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
        if not self._greedy:
            self._steps.append(TemperatureLogitsWarper(decoding.temperature))
            if decoding.top_k:
                self._steps.append(TopKLogitsWarper(decoding.top_k))
            if decoding.top_p < 1.0:
                self._steps.append(TopPLogitsWarper(decoding.top_p))
        self._generator = torch.Generator().manual_seed(decoding.seed if seed is None else seed)

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, written: Sequence[int]) -> int:
        """Sample the token that follows the prompt and the ``written`` tokens.

        Args:
            logits: Logits of the next token, (V,).
            written: Token ids that were generated so far.

        Returns:
            The token's id.

        Raises:
            EngineError: The logits are not finite numbers.
        """
        if not torch.isfinite(logits.max()):  # the maximum of anything with NaN is NaN
            raise EngineError(
                f"the model's logits are not finite numbers after {len(written)} tokens: its weights are damaged, or "
                "the precision is too narrow for them (try --dtype float32)"
            )
        scores = logits[None]
        if self._steps:
            history = torch.tensor([[*self._prompt, *written]], device=logits.device)
            for step in self._steps:
                scores = step(history, scores)
        if self._greedy:
            return int(scores.argmax())
        chances = torch.softmax(scores[0].float(), dim=-1).cpu()  # sampled on the CPU, equal for every device
        return int(torch.multinomial(chances, 1, generator=self._generator))


class TextStream:
    """Decode the tokens of a BPE incrementally, exactly like the tokenizer on the full sequence.

    Its pieces are bytes written as letters (GPT-2), or text with a mark for spaces and single bytes as <0x..> (Gemma).

    Special tokens produce no text; bytes of an incomplete character are buffered.

    Attributes:
        ids: The tokens so far.
        spans: The characters of the text that each token completes.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._silent = set(tokenizer.all_special_ids)
        self._silent |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._bytes_of = _marked_bytes if "ByteFallback" in str(tokenizer.backend_tokenizer.decoder) else _letter_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pieces: list[str] = []
        self._length = 0
        self.ids: list[int] = []
        self.spans: list[Span] = []

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def whole(self) -> bool:
        """Whether no character is incomplete."""
        return not self._decoder.getstate()[0]

    def push(self, token: int) -> None:
        """Append a token, and decode its complete characters."""
        piece = None if token in self._silent else self._tokenizer.convert_ids_to_tokens(token)
        self.ids.append(token)
        self._add(self._decoder.decode(self._bytes_of(piece)) if piece else "")

    def rollback(self, tokens: int) -> None:
        """Remove the last ``tokens`` tokens."""
        if tokens:
            self._length = self.spans[-tokens].start
            self._pieces = [self.text[: self._length]]
            del self.ids[-tokens:], self.spans[-tokens:]
            self._decoder.reset()

    def finish(self) -> None:
        """End the text: an incomplete character becomes a replacement mark, assigned to the last token."""
        rest = self._decoder.decode(b"", final=True)
        if rest:
            last = self.spans.pop()
            self._add(rest)
            self.spans[-1] = Span(last.start, self.spans[-1].stop)

    def _add(self, text: str) -> None:
        self.spans.append(Span(self._length, self._length + len(text)))
        self._length += len(text)
        self._pieces.append(text)


def _byte_alphabet() -> dict[str, int]:
    """Return the byte of each letter of a byte-level BPE (GPT-2's table); printable bytes map to themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unprintable = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(unprintable)}


_BYTES = _byte_alphabet()


def _letter_bytes(piece: str) -> bytes:
    if all(letter in _BYTES for letter in piece):
        return bytes(_BYTES[letter] for letter in piece)
    return piece.encode()  # an added token, stored verbatim


def _marked_bytes(piece: str) -> bytes:
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        return bytes.fromhex(byte[1])
    return piece.replace("\u2581", " ").encode()


def end_tokens(checkpoint: Checkpoint) -> frozenset[int]:
    """Return the ids of tokens that end a turn: the checkpoint's own, and Qwen's two."""
    eos = checkpoint.model.generation_config.eos_token_id
    ends = {eos} if isinstance(eos, int) else set(eos or ())
    tokenizer = checkpoint.processor.tokenizer
    vocabulary = tokenizer.get_vocab()
    ends |= {vocabulary[token] for token in ("<|im_end|>", "<|endoftext|>") if token in vocabulary}
    return frozenset(ends | ({tokenizer.eos_token_id} - {None}))
