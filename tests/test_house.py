"""The structure of the packages: each lists its modules, and the core imports nothing that stands above it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LISTED = (
    "mpar2",
    "mpar2/cafe",
    "mpar2/cafe/rules",
    "mpar2/cafe/validation",
    "mpar2/engines",
    "mpar2/items",
    "mpar2/llm",
    "training/rewards",
    "mpar2/runs",
    "pages",
)


@pytest.mark.parametrize("folder", LISTED)
def test_a_package_says_what_is_in_it(folder: str) -> None:
    contents = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text("utf-8"))) or ""
    modules = {path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"}
    rooms = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    named = set(re.findall(r"``([a-z0-9_]+)/?``", contents))
    assert modules | rooms <= named, f"not named: {sorted((modules | rooms) - named)}"


def test_the_core_imports_neither_the_app_nor_its_libraries() -> None:
    others = "gradio|plotly|pages|training|testing|tests|benchmarks|app"
    above = re.compile(rf"^\s*(?:from|import) (?:{others})\b", re.MULTILINE)
    for path in (ROOT / "mpar2").rglob("*.py"):
        assert not above.search(path.read_text("utf-8")), path
