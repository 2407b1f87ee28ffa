"""What an engine is asked for, as rows to generate, and which rows may run in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from mpar2.engines.adapter import Adapter
from mpar2.engines.base import Request
from mpar2.engines.names import split_adapter

if TYPE_CHECKING:
    from mpar2.engines.checkpoint import Checkpoint

__all__ = ["Base", "Job", "by_base", "group_by_batchability"]


class Base(NamedTuple):
    """What is loaded: a checkpoint in a precision; None as in :class:`mpar2.engines.base.Arm`."""

    model: str
    dtype: str | None = None
    quantize: Literal["4bit", "8bit"] | None = None


@dataclass(eq=False)
class Job:
    """One row to generate. ``index`` is the caller's."""

    index: int
    request: Request
    adapter: str | None
    attached: Adapter | None = None
    written: tuple[int, ...] = ()  # tokens that the trace begins with
    hide_after: int | None = None  # tokens after which the audio is masked


def by_base(requests: Sequence[Request]) -> dict[Base, list[Job]]:
    """Group requests as rows of each base checkpoint (with its precision), in the order of the requests."""
    groups: dict[Base, list[Job]] = {}
    for index, request in enumerate(requests):
        base, adapter = split_adapter(request.arm.model, request.arm.adapter)
        arm = request.arm
        groups.setdefault(Base(base, arm.dtype, arm.quantize), []).append(Job(index, request, adapter))
    return groups


def group_by_batchability(checkpoint: Checkpoint, jobs: Sequence[Job]) -> list[list[Job]]:
    """Group jobs that can run in one batch: all whose adapters mix, and the jobs of each adapter that does not."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        job.attached = checkpoint.attach(job.adapter) if job.adapter is not None else None
        alone = job.attached is not None and not job.attached.batchable
        groups.setdefault(job.attached.key if alone and job.attached else "", []).append(job)
    return list(groups.values())
