"""What the paper reports, as data: each number with where it stands and how sure we are of it.

The paper's text was not at hand; ``paper.json`` holds what its abstract, its captions and its readers' notes give, each
with a tag of certainty. These numbers are of other models, other audio and another judge than any run here: they are
shown apart from measured ones and never enter a figure or a test of them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.choice import Choice
from analysis.exhibit import Exhibit
from analysis.figures import dots, forest
from analysis.load import RunTable
from analysis.words import plural

__all__ = ["beside_ours", "paper_claims", "paper_exhibits", "paper_values", "source"]

_FILE = Path(__file__).resolve().parent / "paper.json"


@cache
def _data() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


def source() -> str:
    """The paper, as it is cited."""
    return str(_data()["source"])


def paper_values() -> pd.DataFrame:
    """table, row, quantity, value (per cent), tag, certainty, note."""
    frame = pd.DataFrame(_data()["values"])
    frame["certainty"] = frame["tag"].map(_data()["tags"])
    return frame[["table", "row", "quantity", "value", "tag", "certainty", "note"]]


def paper_claims() -> pd.DataFrame:
    """where, says, tag, certainty, unknown, ours (the exhibit that answers to it)."""
    frame = pd.DataFrame(_data()["claims"])
    frame["certainty"] = frame["tag"].map(_data()["tags"])
    return frame[["where", "says", "tag", "certainty", "unknown", "ours"]]


def paper_exhibits() -> list[Exhibit]:
    """The paper's numbers drawn on their own, and the list of what it leaves unknown."""
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
        places=lambda row: "SQI".index(row["tag"]),
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
            (*notes, "Circles are of tag S, diamonds of Q, squares of I."),
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
    """Each claim, and what the measured runs say about it: in words, with what was measured named."""
    from analysis.exhibits import build_exhibits

    rows = []
    for claim in paper_claims().to_dict("records"):
        ours, measured_on = "No run is loaded.", ""
        if table is not None:
            (exhibit,) = build_exhibits(table, choice, [claim["ours"]])
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


def _tip(row: Any) -> str:
    note = f"<br>{row['note']}" if row["note"] else ""
    return f"{row['row']}<br>{row['quantity']} {row['value']:.2f} [{row['tag']}]{note}"
