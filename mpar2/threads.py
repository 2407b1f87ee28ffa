"""Run work that computes with OpenMP in a thread of its own: ``in_own_thread``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["in_own_thread"]

_T = TypeVar("_T")


def in_own_thread(function: Callable[..., _T], *args: Any) -> _T:
    """Call a function in a new thread, which ends with it, and return its result.

    libgomp keeps a team of threads for every thread that has computed in parallel, until that thread ends. Where the
    teams have more threads than there are cores, they sleep between two parallel regions instead of spinning, and a
    model decodes at little more than the speed of one core (1.7 times as long on two, ``benchmarks/README.md``). So
    what computes once beside a model does not leave a team behind in a thread that lives on.
    """
    result: Future[_T] = Future()

    def work() -> None:
        try:
            result.set_result(function(*args))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name=function.__name__, daemon=True).start()  # Ctrl-C does not wait for it
    return result.result()
