"""Tables of a paper's LaTeX source as rows of numbers: ``tables/*.tex`` of an arXiv source, or a folder of such files.

The parser supports ``tabular``, ``tabular*`` and ``tabularx``; cells over several columns or rows; rules, colours, bold
and underlined numbers, footnote marks; and macros without arguments that the folder's files define. The name of a
column is its header cells joined with " / ". The name of a row is its leading cells without a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis import AnalysisError

_LARGEST_BYTES = 2_000_000
_BEGIN = re.compile(r"\\begin\{(tabular[*x]?|tabulary)\}")
_MACRO = re.compile(r"\\(?:re)?newcommand\*?\s*\{?\\(\w+)\}?\s*\{")
_RULES = re.compile(
    r"\\(?:hline|toprule|midrule|bottomrule|addlinespace|noalign|specialrule|arrayrulecolor|morecmidrules)"
    r"(?:\[[^]]*\])?(?:\{[^{}]*\})*|\\c(?:mid)?(?:rule|line)(?:\([^)]*\))?\{[^{}]*\}|\\(?:row|column)color"
    r"(?:\[[^]]*\])*\{[^{}]*\}"
)
_DROPPED = re.compile(
    r"\\(?:cite[a-z]*|label|cellcolor|color|vspace|hspace|footnotemark|ref)\*?(?:\[[^]]*\])*\{[^{}]*\}"
)
_COLOURED = re.compile(r"\\(?:textcolor|colorbox|resizebox|scalebox)(?:\[[^]]*\])?\{[^{}]*\}")
_SIGNS = {"dagger": "†", "ddagger": "‡", "pm": "±", "times": "×", "checkmark": "yes", "textasciitilde": "~", "sim": "~"}
_NUMBER = re.compile(r"([-+−]?\d+(?:\.\d+)?)\s*%?\s*(?:[±(†‡*↑↓].*)?")
_EMPTY = re.compile(r"[-–—]+|n/?a", re.IGNORECASE)


class _Cell(NamedTuple):
    text: str
    columns: int = 1
    rows: int = 1


def read_tables(folder: str | Path) -> pd.DataFrame:
    """Read every number of the tables of a LaTeX source.

    Args:
        folder: The source's folder (its ``tables/`` is read), or a folder of ``.tex`` files.

    Returns:
        table (the file's name without ending), row, column, value.

    Raises:
        AnalysisError: No such folder, or no table with a number in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AnalysisError(f"{folder} is no folder: unpack the paper's arXiv source and name it")
    files = sorted((folder / "tables").glob("*.tex")) or sorted(folder.glob("*.tex"))
    macros: dict[str, str] = {}
    for file in sorted({*folder.glob("*.tex"), *files}):
        text = _source(file)
        macros |= {match[1]: _braced(text, match.end() - 1)[0] for match in _MACRO.finditer(text)}
    rows = [
        {"table": file.stem, "row": row, "column": column, "value": value}
        for file in files
        for row, column, value in table_cells(_source(file), macros)
    ]
    if not rows:
        raise AnalysisError(f"{folder} has no LaTeX table with numbers: tables/*.tex of the paper's source is needed")
    return pd.DataFrame(rows)


def _source(file: Path) -> str:
    if file.stat().st_size > _LARGEST_BYTES:
        raise AnalysisError(f"{file} has more than {_LARGEST_BYTES:,} bytes: is it a LaTeX source?")
    return file.read_text(encoding="utf-8", errors="replace")


def table_cells(text: str, macros: dict[str, str] | None = None) -> Iterator[tuple[str, str, float]]:
    """Yield the numbers in the tables of a LaTeX text: name of the row, name of the column, value."""
    text = re.sub(r"(?<!\\)%.*", "", text)
    for name, words in (macros or {}).items():
        text = re.sub(rf"\\{name}(?![A-Za-z])(?:\{{\}})?", lambda _, words=words: words, text)
    for begin in _BEGIN.finditer(text):
        start = begin.end()
        while argument := re.match(r"\s*([\[{])", text[start : start + 200]):  # column specification, width, position
            start = _braced(text, start)[1] if argument[1] == "{" else text.find("]", start) + 1
        end = text.find(rf"\end{{{begin[1]}}}", start)
        yield from _numbers(_grid(text[start : end if end >= 0 else len(text)]))


def _grid(body: str) -> list[list[str]]:
    """Return the texts of a table, a cell over several columns or rows repeated in each of them."""
    grid: list[list[str]] = []
    spanning: dict[int, tuple[str, int]] = {}  # column -> text and rows that it still covers
    for line in _split(_RULES.sub(" ", body), "\\\\"):
        line = re.sub(r"^\s*\[[^]]*\]", "", line)  # \\[2pt]
        if not line.strip():
            continue
        row: list[str] = []
        for cell in map(_cell, _split(line, "&")):
            for _ in range(cell.columns):
                column, text = len(row), cell.text
                if column in spanning and not text:
                    text, remaining = spanning[column]
                    spanning[column] = (text, remaining - 1)
                    if remaining <= 1:
                        del spanning[column]
                elif cell.rows > 1:
                    spanning[column] = (text, cell.rows - 1)
                row.append(text)
        grid.append(row)
    return grid


def _numbers(grid: list[list[str]]) -> Iterator[tuple[str, str, float]]:
    first = next((n for n, row in enumerate(grid) if any(_value(cell) is not None for cell in row[1:])), len(grid))
    header = [row for row in grid[:first] if len(row) < 3 or len(set(row)) > 1]  # others head a section
    for row in grid[first:]:
        leading = next(
            (n for n, cell in enumerate(row) if _value(cell) is not None or _EMPTY.fullmatch(cell)), len(row)
        )
        name = " ".join(dict.fromkeys(filter(None, row[: max(leading, 1)])))
        for place, cell in enumerate(row):
            value = _value(cell)
            if value is not None and place >= 1:
                above = dict.fromkeys(head[place] for head in header if place < len(head) and head[place])
                yield name, " / ".join(above), value


def _value(cell: str) -> float | None:
    match = _NUMBER.fullmatch(cell)
    return float(match[1].replace("−", "-")) if match else None


def _cell(source: str) -> _Cell:
    text, columns, rows = source.strip(), 1, 1
    while match := re.match(r"\\multi(column|row)\s*(?:\[[^]]*\])?\s*(?=\{)", text):
        number, place = _braced(text, match.end())
        if text[place : place + 1] == "[":
            place = text.find("]", place) + 1
        _, place = _braced(text, place)  # width or alignment
        if text[place : place + 1] == "[":
            place = text.find("]", place) + 1
        content, place = _braced(text, place)
        count = abs(int(number)) if re.fullmatch(r"-?\d{1,3}", number.strip()) else 1
        columns, rows = (count, rows) if match[1] == "column" else (columns, count)
        text = (content + text[place:]).strip()
    return _Cell(_plain(text), max(columns, 1), max(rows, 1))


def _plain(text: str) -> str:
    """Return the words of a cell.

    >>> _plain("\\\\textbf{63.51}$^{\\\\dagger}$"), _plain("MPAR$^2$-7B~\\\\cite{x}")
    ('63.51†', 'MPAR2-7B')
    """
    text = _COLOURED.sub("", _DROPPED.sub("", text)).replace("~", " ").replace("\\\\", " ")
    text = re.sub(r"\\(?:up|down)arrow", "", text)
    for name, sign in _SIGNS.items():
        text = re.sub(rf"\\{name}(?![A-Za-z])", sign, text)
    text = re.sub(r"\\[A-Za-z]+\*?(?:\[[^]]*\])?\s*(?=\{)", "", text)  # \textbf{x} is x
    text = re.sub(r"\\[A-Za-z]+\*?", "", text)  # \small
    text = re.sub(r"\\([%&_#$])", r"\1", text)
    return " ".join(re.sub(r"[{}$^]", "", text).split())


def _braced(text: str, start: int) -> tuple[str, int]:
    """Return the text in the braces that open at ``start``, and the position after the closing brace."""
    start = text.find("{", start)
    depth = 0
    for place in range(max(start, 0), len(text)):
        if text[place] in "{}" and text[place - 1 : place] != "\\":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return text[start + 1 : place], place + 1
    return text[start + 1 :], len(text)


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator outside of braces that is not escaped by a backslash."""
    parts, depth, begin, place = [], 0, 0, 0
    while place < len(text):
        if text.startswith(separator, place) and depth == 0:
            parts.append(text[begin:place])
            place = begin = place + len(separator)
            continue
        if text[place] == "\\":
            place += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        place += 1
    return [*parts, text[begin:]]
