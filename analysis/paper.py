"""Numbers of the paper as data, each with its table and the certainty of its source.

The paper's text was not available. ``paper.json`` holds the numbers of its abstract, its captions and notes of readers,
each with a tag of certainty. With the paper's arXiv source, every cell is read from its tables (:func:`paper_cells`).
The numbers are of other models, other audio and another judge than the shipped runs, so they are shown apart from
measured numbers and never enter their figures.

A cell matches a run (:func:`beside_cells`) if the run's benchmark is the column's and one arm has the name of the row
or is the only arm of the row's model. CAFE's rates, accuracy and accuracy by domain are matched.
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
from analysis.figures import Axes, dots, forest
from analysis.latex_tables import read_tables
from analysis.load import ArmInfo, RunTable
from analysis.metrics import metric_of, rate
from analysis.words import plural

_FILE = Path(__file__).resolve().parent / "paper.json"
_PLACES = (6, 7, 4)  # of the palette: no arm of a run that is shown beside


@cache
def _data() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


def source() -> str:
    """Return the citation of the paper."""
    return str(_data()["source"])


def paper_values() -> pd.DataFrame:
    """Return the paper's numbers: table, row, quantity, value (per cent), tag, certainty, note."""
    frame = pd.DataFrame(_data()["values"])
    frame["certainty"] = frame["tag"].map(_data()["tags"])
    return frame[["table", "row", "quantity", "value", "tag", "certainty", "note"]]


def paper_claims() -> pd.DataFrame:
    """Return the paper's claims: where, says, tag, certainty, unknown, ours (the corresponding exhibit)."""
    frame = pd.DataFrame(_data()["claims"])
    frame["certainty"] = frame["tag"].map(_data()["tags"])
    return frame[["where", "says", "tag", "certainty", "unknown", "ours"]]


def paper_exhibits() -> list[Exhibit]:
    """Return figures of the paper's numbers, and its claims with their unknowns."""
    # The paper gives no intervals, so rows have no bounds.
    values = paper_values().assign(low=None, high=None)
    values["share"] = values["value"] / 100
    table_two, table_one = values[values["table"].isin(["Table 2", "Appendix"])], values[values["table"] == "Table 1"]
    rows = table_two.to_dict("records")
    ablation = dots(
        [(name, [row for row in rows if row["quantity"] == name]) for name in ("MMAU", "MMAR")],
        Axes("row", "share", "", "Accuracy, as the paper reports it", percent=True),
        tip=_tip,
        places=_PLACES[:2],
    )
    ablation["layout"]["height"] = 440
    cafe = forest(
        table_one.to_dict("records"),
        "share",
        names=lambda row: f"{row['row']}: {row['quantity']}",
        x_title="As the paper reports it",
        percent=True,
        tip=_tip,
        zero=None,
        places=lambda row: _PLACES["SQI".index(row["tag"])],
        kinds=lambda row: _data()["tags"][row["tag"]],
    )
    # Inferred numbers are counted, so that the caption can separate them from reported ones.
    claims = paper_claims()
    n_inferred = int((values["tag"] == "I").sum())
    notes = (f"Source: {source()}.", *(f"[{tag}] {meaning}." for tag, meaning in _data()["tags"].items()))
    return [
        Exhibit(
            "paper-table-2",
            "The paper's Table 2 and its appendix",
            "The paper reports +8.69 points on MMAU and +5.12 on MMAR for MPAR²-7B, of which format and simple "
            "accuracy rewards alone give +6.91 and +2.32; it gives no interval.",
            ablation,
            table_two.drop(columns=["low", "high", "share"]),
            notes,
        ),
        Exhibit(
            "paper-table-1",
            "The known cells of the paper's Table 1 (CAFE on MMAR)",
            f"Acc_per is 31.74 % for the base and 63.51 % for MPAR²-7B; {plural(n_inferred, 'number')} of this page "
            "are our arithmetic, and most other cells are unknown.",
            cafe,
            table_one.drop(columns=["low", "high", "share"]),
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
    """Pair each claim of the paper with our exhibit's reading, of all arms where the chosen ones leave it empty."""
    from analysis.exhibits import build_exhibits

    rows = []
    for claim in paper_claims().to_dict("records"):
        reading, measured_on = "No run is loaded.", ""
        if table is not None:
            for arms in (choice.arms, ()):  # all arms, if the chosen ones leave it empty
                (exhibit,) = build_exhibits(table, replace(choice, arms=arms), [claim["ours"]])
                if exhibit.drawing is not None or not exhibit.table.empty:
                    break
            reading = exhibit.reading
            measured_on = "; ".join(dict.fromkeys(f"{run.name} ({run.benchmark})" for run in table.runs))
        rows.append(
            {
                "paper": claim["where"],
                "the paper reports": claim["says"],
                "certainty": _data()["tags"][claim["tag"]],
                "unknown": claim["unknown"],
                "our runs say": reading,
                "measured on": measured_on,
            }
        )
    return pd.DataFrame(rows)


_QUANTITIES = {"accper": "acc_per", "errper": "err_per", "erruse": "err_use", "erromit": "err_omit", "recall": "recall"}
_DOMAINS = ("sound", "music", "speech")


def paper_cells(folder: str | Path | None = None) -> pd.DataFrame:
    """Return the cells of the paper's tables.

    Args:
        folder: The paper's LaTeX source; None takes the cells of ``paper.json``.

    Returns:
        table, row, column, value (per cent).

    Raises:
        AnalysisError: The folder has no table with numbers.
    """
    if folder is not None:
        return read_tables(folder)
    return paper_values()[["table", "row", "quantity", "value"]].rename(columns={"quantity": "column"})


def beside_cells(cells: pd.DataFrame, table: RunTable) -> pd.DataFrame:
    """Pair each cell of the paper with the measured value of the runs, in per cent."""
    rows = []
    for cell in cells.to_dict("records"):
        measurement: dict[str, Any] = dict.fromkeys(("ours", "low", "high", "items", "clips", "arm"))
        arm, metric, domain, reason = _matching_arm(cell, table)
        if arm is not None and metric is not None:
            answers = table.rows(arm.label)
            if domain is not None:
                answers = answers[answers["domain"].map(_domain_words).isin([domain])]
            measured = rate(answers, metric_of(metric))
            if measured.estimate is None or measured.low is None:
                reason = "the run has no such value" if measured.estimate is None else "too few clips for an interval"
            else:
                percent = [100 * x for x in (measured.estimate, measured.low, measured.high)]
                measurement = dict(zip(measurement, (*percent, measured.items, measured.clips, arm.label), strict=True))
        state = "unknown"
        if measurement["ours"] is not None:
            state = "reproduced" if measurement["low"] <= cell["value"] <= measurement["high"] else "differs"
        identity = {"table": cell["table"], "row": cell["row"], "column": cell["column"], "paper": cell["value"]}
        rows.append(identity | measurement | {"state": state, "why": reason if state == "unknown" else ""})
    return pd.DataFrame(rows)


def cells_exhibit(cells: pd.DataFrame, table: RunTable) -> Exhibit:
    """Return the paper's cells beside the runs, with the number of reproduced ones."""
    comparison = beside_cells(cells, table)
    counts = {state: int((comparison["state"] == state).sum()) for state in ("reproduced", "differs", "unknown")}
    reasons = comparison.loc[comparison["state"] == "unknown", "why"]
    suffix = f" Most often: {reasons.mode()[0]}." if len(reasons) else ""
    reading = (
        f"Of {plural(len(comparison), 'number')}, {counts['reproduced']} are reproduced, {counts['differs']} differ "
        f"and {counts['unknown']} are unknown.{suffix}"
    )
    note = (
        "Reproduced: the paper's value lies within our 95 % interval over clips. An arm is compared where it has "
        "the name of the paper's row, or is the only one of that model."
    )
    title = "Each number of the paper's tables beside these runs"
    return Exhibit("paper-cells", title, reading, None, comparison, (note,))


def _matching_arm(
    cell: dict[str, Any], table: RunTable
) -> tuple[ArmInfo | None, str | None, frozenset[str] | None, str]:
    """Return the arm, metric and domain that match a cell, or None with the reason."""
    heading, column = f"{cell['table']} {cell['column']}".lower(), re.sub(r"[^a-z]", "", str(cell["column"]).lower())
    metric = next((name for keywords, name in _QUANTITIES.items() if keywords in column), "accuracy")
    # CAFE was run on MMAR [paper]
    is_mmar = "mmar" in heading or metric != "accuracy" or "cafe" in heading
    if not is_mmar and "mmau" not in heading:
        return None, None, None, "the column names no benchmark"
    domain = _domain_words(column) or None if metric == "accuracy" else None
    revised = not is_mmar and ("new" in heading or "v05" in heading)
    candidates = []
    for run in table.runs:
        benchmark = run.manifest.get("benchmark") or {}
        is_revised = str(benchmark.get("version") or "").startswith("v05")
        if benchmark.get("name") == ("mmar" if is_mmar else "mmau") and (is_mmar or revised == is_revised):
            candidates += [arm for arm in table.arms if arm.run == run.name]
    if not candidates:
        return None, None, None, f"no run of {'MMAR' if is_mmar else 'MMAU'}{' (v05.15.25)' if revised else ''}"
    row_key = _key(cell["row"])
    by_name = [arm for arm in candidates if row_key in (_key(arm.label), _key(arm.name))]
    by_model = [arm for arm in candidates if _key(str(arm.get("model", "")).rsplit("/", 1)[-1]) == row_key]
    by_model = [arm for arm in by_model if not arm.get("adapter")]
    matches = by_name or by_model
    if len(matches) == 1:
        return matches[0], metric, domain, ""
    if matches:
        return None, None, None, "several arms are of this model: name one as the paper's row"
    return None, None, None, "no arm of this model: name one as the paper's row"


def _key(name: Any) -> str:
    """Normalise a name: lower case, without blanks, marks, superscripts, "(base)" and "(ours)"."""
    words = re.sub(r"\((?:base|ours)\)", "", str(name), flags=re.IGNORECASE).replace("²", "2")
    return re.sub(r"[^a-z0-9]", "", words.lower())


def _domain_words(domain: Any) -> frozenset[str]:
    return frozenset(word for word in _DOMAINS if word in str(domain).lower())


def _tip(row: Any) -> str:
    note = f"<br>{row['note']}" if row["note"] else ""
    return f"{row['row']}<br>{row['quantity']} {row['value']:.2f} [{row['tag']}]{note}"
