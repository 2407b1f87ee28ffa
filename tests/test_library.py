"""The names that ``import mpar2`` offers: there, and loaded only when asked for."""

from __future__ import annotations

import doctest
import subprocess
import sys

import mpar2
from mpar2 import library


def test_names_are_offered_and_loaded_when_asked_for():
    for name in mpar2.__all__:
        assert getattr(mpar2, name) is not None, name
    code = "import sys, mpar2; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules); mpar2.Question"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_examples_run():
    assert doctest.testmod(library).failed == 0
    assert mpar2.score("<answer>Man</answer>", "Man", ["Man", "Woman"])["official"] == 1.0
