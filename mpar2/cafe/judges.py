"""The judges by name: one registry, read by ``mpar2 cafe``, the app and ``mpar2.cafe.make_judge``.

``reference`` is the judge by rules; every service of ``mpar2.llm.services`` is a judge under its own name. To add one,
write a class with the attributes and the ``judge`` of :class:`~mpar2.cafe.schema.Judge`, and register it::

    register_judge("my-judge", lambda options: MyJudge())

A judge with ``estimate(requests, prices)`` is taken to cost something: commands then show the estimate and ask first.
One that is an asynchronous context manager is entered once for all traces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpar2.cafe.schema import Judge
from mpar2.errors import MPAR2Error

if TYPE_CHECKING:
    from mpar2.llm.journal import Journal
    from mpar2.llm.limits import Limiter
    from mpar2.llm.services import Service

__all__ = ["JudgeEntry", "JudgeError", "JudgeOptions", "judge_named", "judge_names", "make_judge", "register_judge"]


class JudgeError(MPAR2Error, ValueError):
    """No judge has this name, or it cannot be used so; the message says what to do."""


@dataclass(frozen=True)
class JudgeOptions:
    """What a judge may be given; the judge by rules needs nothing.

    Attributes:
        model: of the service; None takes its default.
        base_url: where the service is.
        api_key: None takes the environment's.
        replies: keeps every reply, so that none is paid twice.
        limiter: bounds requests in flight and tokens.
    """

    model: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    replies: Journal | None = None
    limiter: Limiter | None = None


@dataclass(frozen=True)
class JudgeEntry:
    """A judge under its name.

    Attributes:
        name: as in ``--judge``.
        make: makes the judge.
        label: for people.
        needs_events: the judge cannot use a truth that is only a caption.
        service: the service that answers, None for a judge of another kind.
    """

    name: str
    make: Callable[[JudgeOptions], Judge]
    label: str = ""
    needs_events: bool = False
    service: Service | None = None

    @property
    def title(self) -> str:
        """The label, or the name where there is none."""
        return self.label or self.name


def _reference(options: JudgeOptions) -> Judge:
    from mpar2.cafe.rules.judge import ReferenceJudge

    return ReferenceJudge()


_JUDGES: dict[str, JudgeEntry] = {"reference": JudgeEntry("reference", _reference, "Rules", needs_events=True)}


def register_judge(
    name: str, make: Callable[[JudgeOptions], Judge], *, label: str = "", needs_events: bool = False
) -> None:
    """Make a judge known under ``name``; one of that name is replaced.

    Args:
        name: for ``--judge``, and for the folder of its scores.
        make: makes the judge from :class:`JudgeOptions`.
        label: for people; default: the name.
        needs_events: it cannot use a truth that is only a caption.
    """
    _JUDGES[name] = JudgeEntry(name, make, label, needs_events)


def judge_names() -> tuple[str, ...]:
    """List the names of all judges, ``reference`` first."""
    from mpar2.llm.services import service_names

    return tuple(dict.fromkeys((*_JUDGES, *service_names())))


def judge_named(name: str) -> JudgeEntry:
    """Look up a judge.

    Raises:
        JudgeError: no judge has this name; the message lists those that there are.

    Args:
        name: as in ``--judge``.

    Returns:
        The registered judge.
    """
    if name in _JUDGES:
        return _JUDGES[name]
    from mpar2.llm.services import SERVICES

    if name not in SERVICES:
        raise JudgeError(f"no judge is named {name[:80]!r}: choose one of {', '.join(judge_names())}")
    return JudgeEntry(name, lambda options: _service_judge(name, options), SERVICES[name].title, False, SERVICES[name])


def make_judge(name: str, options: JudgeOptions | None = None) -> Judge:
    """Make a judge. No service is called yet.

    Args:
        name: one of :func:`judge_names`.
        options: what the command line says of judges; what does not concern this one is not read.

    Returns:
        The judge.

    Raises:
        JudgeError: no judge has this name; the message lists those that there are.
    """
    return judge_named(name).make(options or JudgeOptions())


def _service_judge(name: str, options: JudgeOptions) -> Judge:
    from mpar2.cafe.llm_judge import llm_judge

    return llm_judge(
        name,
        model=options.model,
        base_url=options.base_url,
        api_key=options.api_key,
        journal=options.replies,
        limiter=options.limiter,
    )
