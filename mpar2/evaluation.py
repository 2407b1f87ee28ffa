"""Evaluate arms on the items of a benchmark, and store every answer: resumable, at any scale.

The work is planned before it starts (``tasks``): items of similar length share a batch, all arms and samples of one
item are adjacent (so the audio encoder runs once on a clip), long clips go first (so memory errors occur early). A
batch with a missing answer is recomputed in full, so that a killed and resumed run ends with the same answers as an
uninterrupted one.

Several processes (``accelerate launch``, or any launcher that sets RANK and WORLD_SIZE) share the batches; each
writes its own file of lines, and the last one to finish writes the metrics.

Failures are recorded with their reason and retried at the next start, after all tasks that were never tried. If a batch
fails, its tasks run one by one, so that only the faulty ones fail. A service's refusal of a single request (400)
belongs to the item; one of the key or the model (401, 403, 404) stops the run (``llm.retry`` has the scopes). After
``GIVE_UP_AFTER`` consecutive failures that are not the item's own, the run stops.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mpar2.accuracy import summarise
from mpar2.arms import EvaluationArm, apply_audio_control, arm_to_json, build_question, shuffled_partners
from mpar2.audio import AudioError, Clip, Limits, load_clip
from mpar2.engines.base import Engine, EngineOptions, Generation, ItemError, Request
from mpar2.errors import MPAR2Error
from mpar2.items import ItemSet
from mpar2.llm.batch import FailuresInARow, for_each
from mpar2.llm.errors import CallFailed, LLMError, ReplyRejected
from mpar2.llm.journal import finish_in_thread
from mpar2.predictions import write_predictions
from mpar2.prompts import prompt_identity, requested_form
from mpar2.question import Item, Question
from mpar2.runs import RunWriter, build_manifest, read_run
from mpar2.runs.record import kind_of_message
from mpar2.tasks import Batch, Task, audio_seconds, plan, record_of_answer, record_of_failure, seed_of

__all__ = ["EvaluationError", "Settings", "engine_settings", "evaluate", "free_memory"]

GIVE_UP_AFTER = 20
_LIMITS = Limits(max_seconds=3600.0, max_bytes=1_000_000_000, max_decoded_samples=2_000_000_000)


class EvaluationError(MPAR2Error, ValueError):
    """The evaluation cannot start or continue."""


@dataclass(frozen=True)
class Settings:
    """Execution settings. ``seed``, ``attention_share`` and ``engine`` identify the run, the rest does not."""

    seed: int = 0
    attention_share: float = 0.0  # share of the items with recorded attention, in [0, 1]
    engine: Mapping[str, Any] = field(default_factory=dict)  # other options that change answers: dtype, fields sent
    batch_size: int = 8
    rank: int = 0
    world: int = 1
    command: tuple[str, ...] = ()


def engine_settings(name: str, options: EngineOptions) -> dict[str, Any]:
    """Return the engine options that change answers, and so are part of a run's identity.

    ``quantize`` is omitted if unset, so that runs started before the option existed can be resumed.
    """
    if name == "server":
        return {"audio_as": options.audio_as, "fields": options.fields}
    return {"dtype": options.dtype} | ({"quantize": options.quantize} if options.quantize else {})


Report = Callable[[int, int, int], None]  # done, total, failed


@dataclass
class _Work:
    """The current run: its writer, counts and clip warnings."""

    run: RunWriter
    items: ItemSet
    settings: Settings
    partners: Mapping[str, Item]  # the item whose recording replaces an item's under shuffled audio
    total: int
    report: Report

    def __post_init__(self) -> None:
        self.failures = FailuresInARow(GIVE_UP_AFTER, any_answer=bool(self.run.done))
        self.counting = threading.Lock()  # answers of services arrive in several threads
        self.clip_warnings: dict[str, tuple[str, ...]] = {}  # by the item's audio

    def _audio_item(self, task: Task) -> Item:
        """Return the item whose recording the task uses."""
        return self.partners[task.item.id] if task.arm.audio == "shuffled" else task.item

    def inputs(self, batch: Batch) -> list[tuple[Clip, Question] | Exception]:
        """Return the clip and question of each task, or its error. Each recording is decoded once per batch."""
        by_audio = {item.audio: item for item in map(self._audio_item, batch.tasks)}
        clips = {audio: self._clip(item) for audio, item in by_audio.items()}
        inputs: list[tuple[Clip, Question] | Exception] = []
        for task in batch.tasks:
            clip = clips[self._audio_item(task).audio]
            if isinstance(clip, Exception):
                inputs.append(clip)
            else:
                inputs.append((apply_audio_control(task.arm, clip), build_question(task.arm, task.item)))
        return inputs

    def _clip(self, item: Item) -> Clip | Exception:
        path = self.items.audio_path(item)
        if not path.is_file():
            return AudioError(f"the audio file {item.audio} is not there")
        try:
            clip = load_clip(path, limits=_LIMITS)
        except (AudioError, OSError) as error:
            return error
        if clip.warnings:
            self.clip_warnings[item.audio] = tuple(clip.warnings)
        return clip

    def answered(self, task: Task, generation: Generation) -> None:
        """Record an answer, with the loader's warnings about its recording."""
        if task.key not in self.run.done:  # a batch is recomputed in full, even if some of its answers exist
            warnings = self.clip_warnings.get(self._audio_item(task).audio, ())
            self.run.append(record_of_answer(task, generation, warnings=warnings))
        with self.counting:
            self.failures.answered()
            self._report_progress()

    def failed(self, task: Task, error: Exception) -> None:
        """Record a failure with its reason; raise if so many follow each other that the engine must be down."""
        if task.key in self.run.done:
            return
        expected = isinstance(error, (ItemError, AudioError, OSError, LLMError))
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        self.run.append(record_of_failure(task, reason))
        with self.counting:
            self._report_progress()
            give_up = self.failures.failed(error if expected else CallFailed("engine", reason, 1))
        if give_up:
            raise EvaluationError(
                f"{self.failures.in_a_row} answers in a row failed, the last one with: {reason[:500]}. "
                "What is done is kept; start again when the cause is gone"
            )

    def _report_progress(self) -> None:
        self.report(len(self.run.done), self.total, len(self.run.failed))


def evaluate(
    items: ItemSet,
    arms: Sequence[EvaluationArm],
    engine: Engine,
    folder: str | Path,
    settings: Settings | None = None,
    report: Report = lambda done, total, failed: None,
) -> dict[str, Any] | None:
    """Generate the answers missing from a run folder, then compute its metrics.

    Args:
        items: Items of a benchmark, with the folder of their audio.
        arms: Models, modes and controls to compare; names are unique.
        engine: Engine that runs the models.
        folder: The run folder; its finished answers are kept.
        settings: Seed, batch size, attention share, process rank.
        report: Called with the numbers of finished, all and failed answers.

    Returns:
        The content of ``metrics.json``; None while other processes are still at work.

    Raises:
        EvaluationError: Arms, items and engine do not fit together, or the engine is down.
        RunError: The folder holds a different run.
    """
    settings = settings or Settings()
    _check(items, arms, engine, settings)
    arm_items = {arm.name: [item for item in items.items if arm.can_ask(item)] for arm in arms}
    shuffled = any(arm.audio == "shuffled" for arm in arms)
    manifest = build_manifest(
        benchmark=items.identity(),
        arms=[_arm_manifest(arm, engine, len(arm_items[arm.name])) for arm in arms],
        seed=settings.seed,
        engine={"name": type(engine).__name__, "attention_share": settings.attention_share, **settings.engine},
        command=settings.command,
    )
    # One task for each answer; finished ones are skipped, so that a stopped run resumes.
    tasks = [Task(item, arm, n) for arm in arms for item in arm_items[arm.name] for n in range(arm.samples)]
    with RunWriter(Path(folder), manifest, settings.rank) as run:
        partners = shuffled_partners(items.items, settings.seed) if shuffled else {}
        work = _Work(run, items, settings, partners, len(tasks), report)
        report(len(run.done), len(tasks), len(run.failed))
        # Local models run in batches, requests to services concurrently.
        local = [task for task in tasks if not engine.engine_for(task.arm.arm).remote]
        if any(task.key not in run.done for task in local):
            _run_batches(engine, local, work)
        remote = [task for task in tasks if engine.engine_for(task.arm.arm).remote]
        if missing := [task for task in remote if task.key not in run.done]:
            # failed tasks come last, so that repeated failures do not block the rest
            asyncio.run(_ask_services(engine, sorted(missing, key=lambda task: task.key in run.failed), work))
        if settings.world > 1:
            run.refresh()
            if any(task.key not in run.done and task.key not in run.failed for task in tasks):
                return None
        # All tasks are answered: write metrics and predictions, and close the run.
        done = read_run(run.folder)
        samples = {arm.name: arm.samples for arm in arms}
        forms = {arm.name: requested_form(arm.arm.mode, arm.arm.prompt) for arm in arms}
        metrics = summarise(done.records(), items.items, samples, arm_items, forms)
        metrics["problems"] = [*items.problems, *_recording_problems(done.records(), arms)]
        write_predictions(done, items, list(samples), run.folder / "predictions")
        run.finish(metrics)
        return metrics


def _recording_problems(records: Iterable[Mapping[str, Any]], arms: Sequence[EvaluationArm]) -> list[str]:
    """Return the loader's warnings by kind, each with the number of recordings and the first of them."""
    shuffled = {arm.name for arm in arms if arm.audio == "shuffled"}  # these use recordings of other items
    recordings: set[str] = set()
    kinds: dict[str, dict[str, str]] = {}
    for record in records:
        if record["arm"] in shuffled:
            continue
        audio = record["item"]["audio"]
        recordings.add(audio)
        for warning in record.get("warnings") or ():
            kinds.setdefault(kind_of_message(warning), {}).setdefault(audio, warning)
    return sorted(
        f"{len(messages)} of {len(recordings)} recordings: {min(messages.items())[1]} (first: {min(messages)})"
        for messages in kinds.values()
    )


def _check(items: ItemSet, arms: Sequence[EvaluationArm], engine: Engine, settings: Settings) -> None:
    if not arms:
        raise EvaluationError("there is no arm to evaluate")
    if not any(items.audio_path(item).is_file() for item in items.items):
        example = items.audio_path(items.items[0])
        raise EvaluationError(
            f"none of the {len(items.items)} audio files is there, not even {example}: name their folder (--audio-root)"
        )
    if not 0 <= settings.attention_share <= 1:
        raise EvaluationError(f"attention_share is {settings.attention_share}: a share from 0 to 1 is needed")
    engines = [engine.engine_for(arm.arm) for arm in arms]
    if settings.attention_share and (blind := [arm_engine for arm_engine in engines if not arm_engine.attention]):
        raise EvaluationError(
            f"{type(blind[0]).__name__} does not tell where a model attends: attention needs --engine transformers"
        )
    if settings.world > 1 and any(arm_engine.remote for arm_engine in engines):
        raise EvaluationError("one process is enough to ask services: raise --in-flight, or give more addresses")
    if settings.batch_size < 1:
        raise EvaluationError(f"batch_size is {settings.batch_size}: at least 1 is needed")
    for arm, arm_engine in zip(arms, engines, strict=True):
        if not any(arm.can_ask(item) for item in items.items):
            raise EvaluationError(
                f"arm {arm.name!r} has an oracle's perception, and no item has its true events or a caption"
            )
        if arm.decoding.has_interventions and not arm_engine.interventions:
            raise EvaluationError(
                f"arm {arm.name!r} forces its length or hides the audio, which {type(arm_engine).__name__} cannot do: "
                "such arms need --engine transformers"
            )


def _arm_manifest(arm: EvaluationArm, engine: Engine, asked: int) -> dict[str, Any]:
    version, digest = prompt_identity(arm.arm.mode, arm.arm.prompt)
    entry = arm_to_json(arm) | {"prompt_version": version, "prompt_hash": digest, "items": asked}
    if (arm_engine := engine.engine_for(arm.arm)) is not engine:
        entry["engine"] = type(arm_engine).__name__
    return entry | engine.weights(arm.arm)


def _run_batches(engine: Engine, tasks: Sequence[Task], work: _Work) -> None:
    settings = work.settings
    seconds = {item.id: audio_seconds(work.items.audio_path(item)) for item in work.items.items}
    options = {"batch_size": settings.batch_size, "attention_share": settings.attention_share}
    batches = plan(tasks, seconds, base_of=engine.base_of, seed=settings.seed, **options)
    own_batches = batches[settings.rank :: settings.world]
    todo = [batch for batch in own_batches if any(task.key not in work.run.done for task in batch.tasks)]
    for batch, inputs in _prefetch(todo, work.inputs):
        ready: list[tuple[Task, Clip, Question]] = []
        for task, task_inputs in zip(batch.tasks, inputs, strict=True):
            if isinstance(task_inputs, Exception):
                work.failed(task, task_inputs)
            else:
                ready.append((task, *task_inputs))
        for task, outcome in _generate(engine, ready, batch, settings.seed):
            if isinstance(outcome, Exception):
                work.failed(task, outcome)
            else:
                work.answered(task, outcome)


def _generate(
    engine: Engine, ready: Sequence[tuple[Task, Clip, Question]], batch: Batch, seed: int
) -> Iterator[tuple[Task, Generation | Exception]]:
    """Yield the generation of each task. If a batch fails, its tasks run alone, and only the faulty ones fail.

    Expected errors (``MPAR2Error``) and insufficient memory belong to the tasks. Any other exception is a programming
    error, and stops the run.
    """
    if not ready:
        return
    try:
        generations = engine.generate_batch(
            [Request(clip, question, task.arm.arm, seed_of(task, seed)) for task, clip, question in ready],
            ready[0][0].arm.decoding,
            batch_size=len(ready),
            attention="ratio" if batch.attention else "none",
        )
    except (MPAR2Error, MemoryError) as error:
        free_memory()
        if len(ready) == 1:
            yield ready[0][0], error
            return
        for single in ready:
            yield from _generate(engine, [single], batch, seed)
        return
    yield from zip((task for task, _, _ in ready), generations, strict=True)


def _prefetch(batches: Sequence[Batch], load: Callable[[Batch], Any]) -> Iterator[tuple[Batch, Any]]:
    """Yield each batch with the result of ``load``, which runs one batch ahead in a thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="audio") as pool:
        future = pool.submit(load, batches[0]) if batches else None
        for index, batch in enumerate(batches):
            assert future is not None
            data = future.result()
            future = pool.submit(load, batches[index + 1]) if index + 1 < len(batches) else None
            yield batch, data


async def _ask_services(engine: Engine, tasks: Iterable[Task], work: _Work) -> None:
    """Run as many concurrent requests as the engine allows; each answer is stored on arrival."""

    async def run_task(task: Task) -> None:
        # in threads, so that neither a decoder nor a slow disk blocks other requests
        (inputs,) = await asyncio.to_thread(work.inputs, Batch((task,), attention=False))
        if isinstance(inputs, Exception):
            await finish_in_thread(work.failed, task, inputs)
            return
        decoding = replace(task.arm.decoding, seed=seed_of(task, work.settings.seed))
        try:
            generation = await engine.answer(*inputs, task.arm.arm, decoding)
        except (CallFailed, ReplyRejected, ItemError) as error:
            await finish_in_thread(work.failed, task, error)
        else:
            await finish_in_thread(work.answered, task, generation)

    async with engine:
        await for_each(tasks, run_task, in_flight=engine.concurrency)


def free_memory() -> None:
    """Release the memory of a finished batch or training."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
