"""Analysis of runs: tables and figures over finished generations. No model is loaded.

``load``        runs -> one typed table (``RunTable``)        ``cache``      its columnar copy beside a large run
``scores``      CAFE counts and probes beside a run           ``traces``     the texts behind some of its rows
``choice``      choice of arms, items, metric and bins        ``metrics``    numerator and denominator of each metric
``about_arms``, ``about_effort``, ``about_length``  figures   ``slopes``     length against outcome, difficulty held
``decay``       metrics over reasoning length                 ``contrasts``  arms against arms, controls, seeds
``effort``      tokens by kind of item, accuracy over tokens  ``attention``  attention to audio along the trace
``training_log``  logs of trainings, by recipe     ``about_training``  their figures
``paper``       the paper's own numbers, with their sources   ``words``      numbers as words
``latex_tables``  the numbers in tables of a LaTeX source     ``audio_need``  which items need the audio
``exhibit``     a figure, its reading, its table              ``exhibits``   all exhibits of a table of runs
``figures``     kinds of drawing                              ``bundle``     the scripts of the views as one
``report``      one page that holds them all                  ``command``    ``mpar2 report``
``style``       colours, light and dark

    table = load_runs(["runs/scenes"])
    for exhibit in build_exhibits(table):
        print(exhibit.title, exhibit.reading)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpar2.errors import MPAR2Error

if TYPE_CHECKING:
    from analysis.choice import Choice
    from analysis.exhibits import build_exhibits
    from analysis.load import RunTable, load_runs

__all__ = ["AnalysisError", "Choice", "RunTable", "build_exhibits", "load_runs"]


class AnalysisError(MPAR2Error, ValueError):
    """The analysis cannot be done as requested. The message states the reason and the remedy."""


_HOMES = {"Choice": "choice", "RunTable": "load", "build_exhibits": "exhibits", "load_runs": "load"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"analysis.{_HOMES[name]}"), name)
