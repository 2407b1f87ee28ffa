"""Registry of the judges by name, for ``mpar2 cafe``, the app and ``mpar2.cafe.make_judge``.

``reference`` is the rule-based judge. Every service of ``mpar2.llm.services`` is a judge under its own name. To add a
judge, write a class with the attributes and the method of :class:`~mpar2.cafe.schema.Judge`, and register it::

    register_judge("my-judge", lambda options: MyJudge())

A judge with ``estimate(requests, prices)`` counts as paid: commands show the estimate and ask for confirmation. A judge
that is an asynchronous context manager is entered once for all traces.
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
    """No judge has this name, or its options are invalid; the message suggests a remedy."""


@dataclass(frozen=True)
class JudgeOptions:
    """Options of a judge. The rule-based judge needs none."""

    model: str | None = None  # of the service; None takes its default
    base_url: str | None = None
    api_key: str | None = None  # None takes it from the environment
    replies: Journal | None = None  # all replies, so that none is paid twice
    limiter: Limiter | None = None


@dataclass(frozen=True)
class JudgeEntry:
    """A registered judge."""

    name: str
    make: Callable[[JudgeOptions], Judge]
    label: str = ""
    needs_events: bool = False  # it cannot use a truth that is only a caption
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
    """Register a judge under ``name``. An existing judge of that name is replaced.

    Args:
        name: Name for ``--judge``, and for the folder of its scores.
        make: Factory of the judge from :class:`JudgeOptions`.
        label: Display name; default: the name.
        needs_events: The judge cannot use a truth that is only a caption.
    """
    _JUDGES[name] = JudgeEntry(name, make, label, needs_events)


def judge_names() -> tuple[str, ...]:
    """Return the names of all judges, ``reference`` first."""
    from mpar2.llm.services import service_names

    return tuple(dict.fromkeys((*_JUDGES, *service_names())))


def judge_named(name: str) -> JudgeEntry:
    """Look up a judge, or raise a :class:`JudgeError` that lists the existing ones."""
    if name in _JUDGES:
        return _JUDGES[name]
    from mpar2.llm.services import SERVICES

    if name not in SERVICES:
        raise JudgeError(f"no judge is named {name[:80]!r}: choose one of {', '.join(judge_names())}")
    return JudgeEntry(name, lambda options: _service_judge(name, options), SERVICES[name].title, False, SERVICES[name])


def make_judge(name: str, options: JudgeOptions | None = None) -> Judge:
    """Make the judge of a name (:func:`judge_named`); it ignores options that it does not use.

    No service is called yet.
    """
    return judge_named(name).make(options or JudgeOptions())


def _service_judge(name: str, options: JudgeOptions) -> Judge:
    from mpar2.cafe.llm_judge import llm_judge

    connection = {key: getattr(options, key) for key in ("model", "base_url", "api_key", "limiter")}
    return llm_judge(name, journal=options.replies, **connection)
