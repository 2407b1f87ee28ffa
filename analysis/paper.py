"""What the paper reports, as data: each number with where it stands and how sure we are of it.

The paper's text was not at hand; ``paper.json`` holds what its abstract, its captions and its readers' notes give, each
with a tag of certainty. Who has the paper's arXiv source gets every cell from its own tables (:func:`paper_cells`).
These numbers are of other models, other audio and another judge than the shipped runs: they are shown apart from
measured ones and never enter a figure of them.

A cell and a run answer to each other (:func:`beside_cells`) where the arm is named as the row is, or is the only one
of the row's model, and where the run's benchmark is the column's: CAFE's rates, accuracy, accuracy by domain.
``reproduced``: the paper's value lies within our 95 % interval; ``differs``: it does not; ``unknown``: no such arm.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.choice import Choice
from analysis.exhibit import Exhibit
from analysis.figures import dots, forest
from analysis.latex_tables import read_tables
from analysis.load import ArmInfo, RunTable
from analysis.metrics import metric_of, rate
from analysis.words import plural

__all__ = [
    "beside_cells",
    "beside_ours",
    "cells_exhibit",
    "paper_cells",
    "paper_claims",
    "paper_exhibits",
    "paper_values",
    "source",
]

_FILE = Path(__file__).resolve().parent / "paper.json"
_PLACES = (6, 7, 4)  # of the palette: no arm of a run that is shown beside


@cache
def _data() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


def source() -> str:
    """Return the paper, as it is cited."""
    return str(_data()["source"])


def paper_values() -> pd.DataFrame:
    """Return the paper's numbers: table, row, quantity, value (per cent), tag, certainty, note."""
    frame = pd.DataFrame(_data()["values"])
    frame["certainty"] = frame["tag"].map(_data()["tags"])
    return frame[["table", "row", "quantity", "value", "tag", "certainty", "note"]]


def paper_claims() -> pd.DataFrame:
    """Return the paper's claims: where, says, tag, certainty, unknown, ours (the exhibit that answers to it)."""
    frame = pd.DataFrame(_data()["claims"])
    frame["certainty"] = frame["tag"].map(_data()["tags"])
    return frame[["where", "says", "tag", "certainty", "unknown", "ours"]]


def paper_exhibits() -> list[Exhibit]:
    """Return the paper's numbers drawn on their own, and the list of what it leaves unknown."""
    values = paper_values()
    table_two = values[values["table"].isin(["Table 2", "Appendix"])]
    rows = [row | {"low": None, "high": None, "share": row["value"] / 100} for row in table_two.to_dict("records")]
    ablation = dots(
        [(name, [row for row in rows if row["quantity"] == name]) for name in ("MMAU", "MMAR")],
        "row",
        "share",
        x_title="",
        y_title="Accuracy, as the paper reports it",
        percent=True,
        tip=_tip,
        places=_PLACES[:2],
    )
    ablation["layout"]["height"] = 440
    table_one = values[values["table"] == "Table 1"]
    cells = [row | {"low": None, "high": None, "share": row["value"] / 100} for row in table_one.to_dict("records")]
    cafe = forest(
        cells,
        "share",
        names=lambda row: f"{row['row']}: {row['quantity']}",
        x_title="As the paper reports it",
        percent=True,
        tip=_tip,
        zero=None,
        places=lambda row: _PLACES["SQI".index(row["tag"])],
        kinds=lambda row: _data()["tags"][row["tag"]],
    )
    claims = paper_claims()
    guessed = int((values["tag"] == "I").sum())
    notes = (f"Source: {source()}.", *(f"[{tag}] {meaning}." for tag, meaning in _data()["tags"].items()))
    return [
        Exhibit(
            "paper-table-2",
            "The paper's Table 2 and its appendix",
            "The paper reports +8.69 points on MMAU and +5.12 on MMAR for MPAR²-7B, of which format and simple "
            "accuracy rewards alone give +6.91 and +2.32; it gives no interval.",
            ablation,
            table_two,
            notes,
        ),
        Exhibit(
            "paper-table-1",
            "The known cells of the paper's Table 1 (CAFE on MMAR)",
            f"Acc_per is 31.74 % for the base and 63.51 % for MPAR²-7B; {plural(guessed, 'number')} of this page are "
            "our arithmetic, and most other cells are unknown.",
            cafe,
            table_one,
            notes,
        ),
        Exhibit(
            "paper-claims",
            "What the paper reports, and what it leaves open",
            f"{plural(len(claims), 'figure or table', 'figures and tables')}, each with what is not known of it.",
            None,
            claims.drop(columns=["tag", "ours"]),
            notes[:1],
        ),
    ]


def beside_ours(table: RunTable | None, choice: Choice) -> pd.DataFrame:
    """Put each claim of the paper beside what the exhibit that answers to it says of the runs.

    Args:
        table: The runs; None where none is loaded.
        choice: Arms, filters and bins; where its arms cannot answer, all arms are taken.

    Returns:
        A row of words for each claim, with its certainty, and what was measured on.
    """
    from analysis.exhibits import build_exhibits

    rows = []
    for claim in paper_claims().to_dict("records"):
        ours, measured_on = "No run is loaded.", ""
        if table is not None:
            for arms in (choice.arms, ()):  # what the chosen arms cannot say, others may
                (exhibit,) = build_exhibits(table, replace(choice, arms=arms), [claim["ours"]])
                if exhibit.drawing is not None or not exhibit.table.empty:
                    break
            ours = exhibit.reading
            measured_on = "; ".join(dict.fromkeys(f"{run.name} ({run.benchmark})" for run in table.runs))
        rows.append(
            {
                "paper": claim["where"],
                "the paper reports": claim["says"],
                "certainty": _data()["tags"][claim["tag"]],
                "unknown": claim["unknown"],
                "our runs say": ours,
                "measured on": measured_on,
            }
        )
    return pd.DataFrame(rows)


_QUANTITIES = {"accper": "acc_per", "errper": "err_per", "erruse": "err_use", "erromit": "err_omit", "recall": "recall"}
_DOMAINS = ("sound", "music", "speech")


def paper_cells(folder: str | Path | None = None) -> pd.DataFrame:
    """Return the cells of the paper's tables.

    Args:
        folder: The paper's LaTeX source; None takes the cells that ``paper.json`` knows.

    Returns:
        table, row, column, value (per cent).

    Raises:
        AnalysisError: The folder has no table with numbers.
    """
    if folder is not None:
        return read_tables(folder)
    return paper_values()[["table", "row", "quantity", "value"]].rename(columns={"quantity": "column"})


def beside_cells(cells: pd.DataFrame, table: RunTable) -> pd.DataFrame:
    """Put each cell of the paper beside the measured value of the runs.

    Args:
        cells: Of :func:`paper_cells`.
        table: The runs.

    Returns:
        table, row, column, paper and ours with low and high (per cent), items, clips, arm, state, why.
    """
    rows = []
    for cell in cells.to_dict("records"):
        found: dict[str, Any] = dict.fromkeys(("ours", "low", "high", "items", "clips", "arm"))
        arm, metric, domain, why = _ours(cell, table)
        if arm is not None and metric is not None:
            part = table.rows(arm.label)
            if domain is not None:
                part = part[part["domain"].map(_domain_words).isin([domain])]
            measured = rate(part, metric_of(metric))
            if measured.estimate is None or measured.low is None:
                why = "the run has no such value" if measured.estimate is None else "too few clips for an interval"
            else:
                percent = [100 * x for x in (measured.estimate, measured.low, measured.high)]
                found = dict(zip(found, (*percent, measured.items, measured.clips, arm.label), strict=True))
        state = "unknown"
        if found["ours"] is not None:
            state = "reproduced" if found["low"] <= cell["value"] <= found["high"] else "differs"
        named = {"table": cell["table"], "row": cell["row"], "column": cell["column"], "paper": cell["value"]}
        rows.append(named | found | {"state": state, "why": why if state == "unknown" else ""})
    return pd.DataFrame(rows)


def cells_exhibit(cells: pd.DataFrame, table: RunTable) -> Exhibit:
    """Return the paper's cells beside the runs, with how many are reproduced.

    Args:
        cells: Of :func:`paper_cells`.
        table: The runs.
    """
    beside = beside_cells(cells, table)
    counts = {state: int((beside["state"] == state).sum()) for state in ("reproduced", "differs", "unknown")}
    whys = beside.loc[beside["state"] == "unknown", "why"]
    more = f" Most often: {whys.mode()[0]}." if len(whys) else ""
    return Exhibit(
        "paper-cells",
        "Each number of the paper's tables beside these runs",
        f"Of {plural(len(beside), 'number')}, {counts['reproduced']} are reproduced, {counts['differs']} differ and "
        f"{counts['unknown']} are unknown.{more}",
        None,
        beside,
        (
            "Reproduced: the paper's value lies within our 95 % interval over clips. An arm is compared where it has "
            "the name of the paper's row, or is the only one of that model.",
        ),
    )


def _ours(cell: dict[str, Any], table: RunTable) -> tuple[ArmInfo | None, str | None, frozenset[str] | None, str]:
    """Return the arm, metric and domain that a cell answers to, and why there are none."""
    where, column = f"{cell['table']} {cell['column']}".lower(), re.sub(r"[^a-z]", "", str(cell["column"]).lower())
    metric = next((name for words, name in _QUANTITIES.items() if words in column), "accuracy")
    # CAFE was run on MMAR [paper]
    on = "mmar" if "mmar" in where or metric != "accuracy" or "cafe" in where else "mmau" if "mmau" in where else None
    words = frozenset(word for word in _DOMAINS if word in column)
    domain = words or None if metric == "accuracy" else None
    if on is None:
        return None, None, None, "the column names no benchmark"
    revised = "new" in where or "v05" in where
    fitting = []
    for run in table.runs:
        known = run.manifest.get("benchmark") or {}
        version = str(known.get("version") or "")
        if known.get("name") == on and (on == "mmar" or revised == version.startswith("v05")):
            fitting += [arm for arm in table.arms if arm.run == run.name]
    if not fitting:
        return None, None, None, f"no run of {on.upper()}{' (v05.15.25)' if revised and on == 'mmau' else ''}"
    wanted = _key(cell["row"])
    named = [arm for arm in fitting if wanted in (_key(arm.label), _key(arm.name))]
    model = [arm for arm in fitting if _key(str(arm.get("model", "")).rsplit("/", 1)[-1]) == wanted]
    model = [arm for arm in model if not arm.get("adapter")]
    chosen = named or model
    if len(chosen) == 1:
        return chosen[0], metric, domain, ""
    if chosen:
        return None, None, None, "several arms are of this model: name one as the paper's row"
    return None, None, None, "no arm of this model: name one as the paper's row"


def _key(name: Any) -> str:
    """Return names that differ in case, blanks, marks and superscripts are the same; "(base)" is no part of a name."""
    words = re.sub(r"\((?:base|ours)\)", "", str(name), flags=re.IGNORECASE).replace("²", "2")
    return re.sub(r"[^a-z0-9]", "", words.lower())


def _domain_words(domain: Any) -> frozenset[str]:
    return frozenset(word for word in _DOMAINS if word in str(domain).lower())


def _tip(row: Any) -> str:
    note = f"<br>{row['note']}" if row["note"] else ""
    return f"{row['row']}<br>{row['quantity']} {row['value']:.2f} [{row['tag']}]{note}"
