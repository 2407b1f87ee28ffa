"""The house keeps its own rules: every room lists what is in it, and no file is longer than a reader's patience."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LISTED = ("mpar2", "mpar2/cafe", "mpar2/engines", "mpar2/items", "mpar2/llm", "mpar2/rewards", "mpar2/runs", "pages")


@pytest.mark.parametrize("folder", LISTED)
def test_a_package_says_what_is_in_it(folder: str) -> None:
    contents = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text("utf-8"))) or ""
    modules = {path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"}
    rooms = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    named = set(re.findall(r"``([a-z_]+)/?``", contents))
    assert modules | rooms <= named, f"not named: {sorted((modules | rooms) - named)}"


def test_no_file_of_the_core_or_the_pages_passes_400_lines() -> None:
    files = [path for room in ("mpar2", "pages") for path in (ROOT / room).rglob("*.py")]
    assert {path.name: n for path in files if (n := len(path.read_text("utf-8").splitlines())) > 400} == {}


def test_the_core_imports_neither_the_app_nor_its_libraries() -> None:
    above = re.compile(r"^\s*(?:from|import) (?:gradio|plotly|pages|training|app)\b", re.MULTILINE)
    for path in (ROOT / "mpar2").rglob("*.py"):
        assert not above.search(path.read_text("utf-8")), path
