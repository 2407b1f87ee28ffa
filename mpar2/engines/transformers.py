"""The engine that runs checkpoints in this process, on transformers and PEFT.

* Models are loaded on first use and kept; with more than ``max_models``, the least recently used one is unloaded.
  Arms that share a base share its weights: adapters are attached beside each other.
* Arms of one base run in one batch if their adapters can be mixed (plain LoRA on linear layers), each row with its
  own adapter or none; otherwise one after the other. The audio encoder runs once per clip, unless an adapter changes
  the encoder.
* One lock per model: one batch at a time. Blocked requests are reported as waiting. A stream generates in its own
  thread, so the lock is released when the model finishes, even if the updates are read slowly.
* Nothing is loaded before the first request, and results hold NumPy arrays and plain values only, so ``stream`` can
  run inside a function that a hosting service moves to another process with a GPU.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mpar2.answers import read_answer
from mpar2.audio import Clip
from mpar2.engines.background import Put, in_background
from mpar2.engines.base import Arm, AttentionDetail, Decoding, Engine, EngineError, Generation, Progress, Request, Token
from mpar2.engines.checkpoint import Checkpoint, load_checkpoint
from mpar2.engines.names import resolve, split_adapter
from mpar2.question import Question
from mpar2.trace import parse_trace

if TYPE_CHECKING:
    import torch

    from mpar2.attention import AttentionRecord
    from mpar2.engines.adapter import Adapter
    from mpar2.engines.decode import Prompt, Session, TextStream
    from mpar2.engines.inputs import AudioFeatureCache
    from mpar2.engines.probe import AttentionProbe

__all__ = ["TransformersEngine"]

_BLOCK = 32  # tokens at a time when a finished text is scored


class Base(NamedTuple):
    """The loaded base: a checkpoint in a precision; None as in :class:`mpar2.engines.base.Arm`."""

    model: str
    dtype: str | None = None
    quantize: Literal["4bit", "8bit"] | None = None


@dataclass(eq=False)
class Job:
    """One row to generate. ``index`` is the caller's index."""

    index: int
    request: Request
    adapter: str | None
    attached: Adapter | None = None
    written: tuple[int, ...] = ()  # tokens at the beginning of the trace
    hide_after: int | None = None  # tokens after which the audio is masked


def by_base(requests: Sequence[Request]) -> dict[Base, list[Job]]:
    """Group requests by base checkpoint and precision, in the order of the requests."""
    groups: dict[Base, list[Job]] = {}
    for index, request in enumerate(requests):
        base, adapter = split_adapter(request.arm.model, request.arm.adapter)
        arm = request.arm
        groups.setdefault(Base(base, arm.dtype, arm.quantize), []).append(Job(index, request, adapter))
    return groups


def group_by_batchability(checkpoint: Checkpoint, jobs: Sequence[Job]) -> list[list[Job]]:
    """Group jobs that can run in one batch: all with mixable adapters, and the jobs of each other adapter.

    Args:
        checkpoint: The loaded base; the adapters of the jobs are attached to it.
        jobs: Rows of this base.

    Returns:
        The groups, each in the order of ``jobs``.

    Raises:
        EngineError: An adapter does not fit the model.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        job.attached = checkpoint.attach(job.adapter) if job.adapter is not None else None
        separate = job.attached is not None and not job.attached.batchable
        groups.setdefault(job.attached.key if separate and job.attached else "", []).append(job)
    return list(groups.values())


@dataclass(eq=False)
class _Loaded:
    """A checkpoint in memory, its cached encoder outputs, and its lock."""

    checkpoint: Checkpoint
    features: AudioFeatureCache
    can_probe: bool
    lock: threading.Lock = field(default_factory=threading.Lock)


class TransformersEngine(Engine):
    """Run checkpoints in this process; see :class:`mpar2.engines.base.Engine`.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; None: the best available.
        dtype: Precision of the weights of arms that set none; None: by the device.
        quantize: Quantise the text stack's weights to 4 or 8 bits for arms that do not set it.
        max_models: Base models in memory at a time; beyond that the least recently used one is unloaded.
    """

    attention = True
    interventions = True
    scoring = True

    def __init__(
        self,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        quantize: Literal["4bit", "8bit"] | None = None,
        max_models: int = 2,
    ) -> None:
        self._device, self._dtype, self._quantize, self._max_models = device, dtype, quantize, max_models
        self._models: OrderedDict[Base, _Loaded] = OrderedDict()
        self._loading = threading.Lock()

    def preload(self, arms: Sequence[Arm]) -> None:
        """Load what the arms need, so that the first request does not wait."""
        for arm in arms:
            base, adapter = split_adapter(arm.model, arm.adapter)
            loaded = self._load(Base(base, arm.dtype, arm.quantize))
            with loaded.lock:
                if adapter is not None:
                    loaded.checkpoint.attach(adapter)

    def stream(
        self,
        clip: Clip,
        question: Question,
        arms: Sequence[Arm],
        decoding: Decoding | None = None,
        *,
        attention: bool = False,
        stop: threading.Event | None = None,
    ) -> Iterator[Progress]:
        """Generate every arm, yielding each arm's text as it grows (:meth:`Engine.stream`)."""

        def work(put: Put, stop_event: threading.Event) -> None:
            for update in self._stream(clip, question, arms, decoding or Decoding(), attention, stop_event):
                put(update)

        return in_background([work], stop)

    def _stream(
        self,
        clip: Clip,
        question: Question,
        arms: Sequence[Arm],
        decoding: Decoding,
        attention: bool,
        stop: threading.Event,
    ) -> Iterator[Progress]:
        jobs = [Request(clip, question, arm) for arm in arms]
        for base, group in by_base(jobs).items():
            if self._key(base) not in self._models:
                yield from (Progress(job.index, "loading") for job in group)
            loaded = self._load(base)
            while not loaded.lock.acquire(blocking=False):
                yield from (Progress(job.index, "waiting") for job in group)
                if stop.is_set():
                    return
                if loaded.lock.acquire(timeout=0.5):
                    break
            try:
                for batch in group_by_batchability(loaded.checkpoint, group):
                    yield from self._generate(loaded, batch, decoding, "full" if attention else "none", stop)
            finally:
                loaded.lock.release()

    def generate_batch(
        self,
        requests: Sequence[Request],
        decoding: Decoding | None = None,
        *,
        batch_size: int = 8,
        attention: AttentionDetail = "none",
    ) -> list[Generation]:
        """Generate for each request (:meth:`Engine.generate_batch`).

        Requests of one base run in batches of ``batch_size`` of similar length. ``seconds`` of a generation count from
        the start of its batch.

        Raises:
            EngineError: ``batch_size`` is below 1, a model cannot be loaded, or memory is insufficient.
        """
        if batch_size < 1:
            raise EngineError(f"batch_size is {batch_size}: it must be at least 1")
        decoding = decoding or Decoding()
        results: dict[int, Generation] = {}
        for base, group in by_base(requests).items():
            loaded = self._load(base)
            with loaded.lock:
                group = sorted(group, key=lambda job: (job.request.arm.mode, job.request.clip.seconds, job.index))
                for jobs in group_by_batchability(loaded.checkpoint, group):
                    for first in range(0, len(jobs), batch_size):
                        batch = jobs[first : first + batch_size]
                        for update in self._generate(loaded, batch, decoding, attention):
                            if update.generation is not None:
                                results[update.index] = update.generation
        return [results[index] for index in range(len(requests))]

    def attend(self, clip: Clip, question: Question, arm: Arm, text: str) -> Generation:
        """Score a finished text by teacher forcing, to record its attention (:meth:`Engine.attend`).

        One pass covers many tokens. The text is tokenized again; the model may have generated the same text in other
        tokens.
        """
        job = next(iter(by_base([Request(clip, question, arm)]).items()))
        loaded = self._load(job[0])
        with loaded.lock:
            return self._record_attention(loaded, group_by_batchability(loaded.checkpoint, job[1])[0][0], text)

    def score(self, requests: Sequence[Request], text: str, *, batch_size: int = 8) -> list[tuple[Token, ...]]:
        """Score ``text`` after each request (:meth:`Engine.score`).

        A batch takes two passes, one over the prompts and one over the text.

        Raises:
            EngineError: The text has no token, or a model cannot be loaded.
        """
        results: dict[int, tuple[Token, ...]] = {}
        for base, group in by_base(requests).items():
            loaded = self._load(base)
            stream = _tokenize(loaded.checkpoint, text)
            if not stream.ids:
                raise EngineError("there is no text to score")
            with loaded.lock:
                for jobs in group_by_batchability(loaded.checkpoint, group):
                    for first in range(0, len(jobs), batch_size):
                        batch = jobs[first : first + batch_size]
                        with closing(self._session(loaded.checkpoint, self._prompts(loaded, batch))) as session:
                            logprobs = session.score(stream.ids)
                        for job, row in zip(batch, logprobs.tolist(), strict=True):
                            pairs = zip(stream.ids, stream.spans, row, strict=True)
                            results[job.index] = tuple(Token(id, chars, logprob) for id, chars, logprob in pairs)
        return [results[index] for index in range(len(requests))]

    def base_of(self, arm: Arm) -> str:
        parts = (split_adapter(arm.model, arm.adapter)[0], arm.dtype, arm.quantize)
        return " ".join(part for part in parts if part)

    def weights(self, arm: Arm) -> dict[str, str | None]:
        """Return the hash of a folder's files, or the commit of a hub model, which is downloaded if necessary."""
        base, adapter = split_adapter(arm.model, arm.adapter)
        return {
            "model_hash": self._hash(base, arm),
            "adapter_hash": None if adapter is None else self._hash(adapter, arm),
        }

    def _hash(self, name: str, arm: Arm) -> str:
        from mpar2.runs import weights_hash

        where = resolve(name)
        if isinstance(where, Path):
            return weights_hash(where)
        commit = _cached_commit(where)
        if commit is None:
            self.preload([arm])  # downloads it
            commit = _cached_commit(where)
        return commit or "unknown"

    def _key(self, base: Base) -> Base:
        return Base(str(resolve(base.model)), *base[1:])

    def _load(self, base: Base) -> _Loaded:
        key = self._key(base)
        with self._loading:
            if key in self._models and self._models[key].checkpoint.damaged:
                del self._models[key]
            if key not in self._models:
                while len(self._models) >= self._max_models:
                    self._models.popitem(last=False)
                from mpar2.engines.inputs import AudioFeatureCache
                from mpar2.engines.probe import install
                from mpar2.engines.rows import holds_rows, use_rows

                checkpoint = load_checkpoint(
                    base.model,
                    device=self._device,
                    dtype=base.dtype or self._dtype,
                    quantize=base.quantize or self._quantize,
                )
                automatic = (base.dtype or self._dtype or base.quantize or self._quantize) is None
                if automatic and checkpoint.device.type == "cpu" and holds_rows(Path(key.model)):
                    use_rows(checkpoint.model, Path(key.model), checkpoint.family)
                self._models[key] = _Loaded(checkpoint, AudioFeatureCache(checkpoint), install(checkpoint.model))
            self._models.move_to_end(key)
            return self._models[key]

    def _generate(
        self,
        loaded: _Loaded,
        jobs: Sequence[Job],
        decoding: Decoding,
        attention: AttentionDetail,
        stop: threading.Event | None = None,
    ) -> Iterator[Progress]:
        """Run one batch to the end. The caller holds the lock; the session is always closed."""
        import torch

        from mpar2.engines.forced_decoding import ForcedDecoding
        from mpar2.engines.probe import AttentionProbe

        if decoding.hidden_share is not None:
            yield from self._hide_after_a_share(loaded, jobs, decoding, attention, stop)
            return
        start = time.perf_counter()
        yield from (Progress(job.index, "listening") for job in jobs)
        checkpoint = loaded.checkpoint
        # Encode the clips and build prompts and decoders, one for each row.
        prompts = self._prompts(loaded, jobs)
        decoders = [
            ForcedDecoding(
                checkpoint,
                prompt,
                decoding,
                job.request.arm.mode,
                seed=job.request.seed,
                written=job.written,
                hide_after=job.hide_after,
            )
            for prompt, job in zip(prompts, jobs, strict=True)
        ]
        # The session holds the key-value cache; the probe records attention, if supported.
        session = self._session(checkpoint, prompts)
        if attention != "none" and loaded.can_probe:
            session.probe = AttentionProbe(session.audio_positions(), checkpoint.family.frame_s, keep=attention)
        first_token_s = 0.0

        def finished(row: int, finish: Literal["stop", "length", "cancelled"]) -> Progress:
            text, passes = decoders[row].text, decoders[row].passes
            text.finish()
            record = _record(session.probe, row, passes, jobs[row].request.clip.seconds) if session.probe else None
            clock = (time.perf_counter() - start, first_token_s)
            generation = _generation(checkpoint, jobs[row], prompts[row], text, clock, finish, record)
            if attention != "none" and not loaded.can_probe:
                generation = replace(generation, warnings=(*generation.warnings, _NO_PROBE))
            return Progress(jobs[row].index, "done", generation.text, len(generation.tokens), generation)

        try:
            # One pass over all prompts, then one token a row and pass until every row has ended.
            logits = session.prefill()
            first_token_s = time.perf_counter() - start
            while session.rows:
                if stop is not None and stop.is_set():
                    yield from [finished(row, "cancelled") for row in session.rows]
                    return
                going: list[int] = []
                chosen: list[list[int]] = []
                for place, row in enumerate(session.rows):
                    step = decoders[row].step(logits[place])
                    if step.finish is not None:
                        yield finished(row, step.finish)
                        continue
                    # Forced lengths may remove tokens, and arms with masked audio stop seeing it.
                    if step.rollback:
                        session.rollback(row, step.rollback)
                    if decoders[row].should_hide_audio():
                        session.hide_audio(row)
                    going.append(place)
                    chosen.append([step.token])
                    text = decoders[row].text
                    yield Progress(jobs[row].index, "reasoning", text.text, len(text.ids))
                if not going:
                    return
                # Finished rows leave the batch.
                if len(going) < len(session.rows):
                    session.keep(going)
                logits = session.feed(chosen)
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"'{checkpoint.name}' does not fit into the memory of {checkpoint.device} with {len(jobs)} rows at "
                "once: use a shorter clip, fewer new tokens, a smaller batch or a smaller model"
            ) from error
        finally:
            session.close()

    def _hide_after_a_share(
        self,
        loaded: _Loaded,
        jobs: Sequence[Job],
        decoding: Decoding,
        attention: AttentionDetail,
        stop: threading.Event | None,
    ) -> Iterator[Progress]:
        """Generate the traces once with audio, to measure their lengths; then again with it hidden."""
        share = decoding.hidden_share or 0.0
        decoding = replace(decoding, hide_audio_after=None)
        full_generations = {
            update.index: update.generation
            for update in self._generate(loaded, jobs, decoding, "none", stop)
            if update.generation is not None
        }
        for job in jobs:
            ids = [token.id for token in full_generations[job.index].tokens]
            job.hide_after = max(1, round(share * len(ids)))
            job.written = tuple(ids[: job.hide_after])
        yield from self._generate(loaded, jobs, decoding, attention, stop)

    def _record_attention(self, loaded: _Loaded, job: Job, text: str) -> Generation:
        from mpar2.engines.probe import AttentionProbe

        if not loaded.can_probe:
            raise EngineError(_NO_PROBE)
        checkpoint = loaded.checkpoint
        start = time.perf_counter()
        (prompt,) = self._prompts(loaded, [job])
        stream = _tokenize(checkpoint, text)
        session = self._session(checkpoint, [prompt])
        session.probe = probe = AttentionProbe(session.audio_positions(), checkpoint.family.frame_s)
        try:
            session.prefill()
            first_token_s = time.perf_counter() - start
            for first in range(0, len(stream.ids) - 1, _BLOCK):
                session.feed([stream.ids[first : min(first + _BLOCK, len(stream.ids) - 1)]])
        finally:
            session.close()
        record = _record(probe, 0, range(len(stream.ids)), job.request.clip.seconds)
        clock = (time.perf_counter() - start, first_token_s)
        return _generation(checkpoint, job, prompt, stream, clock, "stop", record)

    @staticmethod
    def _prompts(loaded: _Loaded, jobs: Sequence[Job]) -> list[Prompt]:
        from mpar2.engines.inputs import build_prompt

        frames = loaded.features.get([job.request.clip for job in jobs], [job.attached for job in jobs])
        return [
            build_prompt(loaded.checkpoint, job.request.question, job.request.arm, audio, job.attached)
            for job, audio in zip(jobs, frames, strict=True)
        ]

    @staticmethod
    def _session(checkpoint: Checkpoint, prompts: Sequence[Prompt]) -> Session:
        from mpar2.engines.decode import Session

        return Session(checkpoint, prompts)


def _cached_commit(repository: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "adapter_config.json"):
        if isinstance(path := try_to_load_from_cache(repository, file), str):
            return Path(path).parent.name
    return None


_NO_PROBE = "this model attends through sliding windows, in which positions move: attention to audio is not recorded"


def _tokenize(checkpoint: Checkpoint, text: str) -> TextStream:
    """Tokenize a finished text, with the characters of each token."""
    from mpar2.engines.decode import TextStream

    tokenizer = checkpoint.processor.tokenizer
    stream = TextStream(tokenizer)
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        stream.push(token)
    stream.finish()
    return stream


def _record(probe: AttentionProbe, row: int, passes: Sequence[int], seconds: float) -> AttentionRecord:
    """Return the row's record, without passes of removed tokens and without columns beyond the end of the clip.

    Families that pad a clip have such columns; ``mass`` includes them, the heatmap over time does not.
    """
    record = probe.record(row, max(passes, default=-1) + 1)
    columns = math.ceil(seconds / record.frame_s) + 1
    record = replace(record, rows=record.rows[..., :columns])
    if len(passes) == len(record.visible):
        return record
    indices = list(passes)
    return replace(record, rows=record.rows[indices], mass=record.mass[indices], visible=record.visible[indices])


def _generation(
    checkpoint: Checkpoint,
    job: Job,
    prompt: Prompt,
    stream: TextStream,
    clock: tuple[float, float],
    finish: Literal["stop", "length", "cancelled"],
    attention: AttentionRecord | None,
) -> Generation:
    from mpar2.engines.inputs import audio_warnings, used_audio_seconds

    request = job.request
    trace = parse_trace(stream.text, stream.spans)
    return Generation(
        arm=request.arm,
        text=stream.text,
        trace=trace,
        tokens=tuple(Token(id, chars) for id, chars in zip(stream.ids, stream.spans, strict=True)),
        prompt_tokens=len(prompt.ids),
        seconds=clock[0],
        first_token_s=clock[1],
        audio_seconds=used_audio_seconds(checkpoint, request.clip),
        finish=finish,
        choice=read_answer(trace, request.question.choices).choice,
        token_count=len(stream.ids),
        attention=attention,
        warnings=audio_warnings(checkpoint, request.clip) + (job.attached.warnings if job.attached else ()),
    )
