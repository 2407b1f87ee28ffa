r"""The paper's own LaTeX tables are read cell by cell, and stand beside the runs that answer to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis import AnalysisError
from analysis.latex_tables import read_tables, table_cells
from mpar2.cli import main
from testing.synthetic import FakeArm, write_run

CAFE = r"""
\begin{table*}[t]
\caption{Perception on MMAR. 99.9 in a caption is no cell.}
\resizebox{\linewidth}{!}{%
\begin{tabular}{l|cccc|c}
\toprule
\multirow{2}{*}{\textbf{Model}} & \multicolumn{4}{c|}{\textbf{CAFE} (\%)} & \multirow{2}{*}{MMAR$_{acc}^{\dagger}$} \\
\cmidrule(lr){2-5}
 & Acc$_{per}\uparrow$ & Err$_{per}\downarrow$ & Err$_{use}$ & Err$_{omit}$ & \\
\midrule
\multicolumn{6}{c}{\textit{Open-source}} \\
Qwen2.5-Omni-7B~\cite{xu2025} & 31.74 & 40.10 & 28.16 & \underline{50.0} & 55.20 \\ % the base, 1.0
\rowcolor{gray!20} \ours-7B & \textbf{63.51} & 28.75 & \textbf{7.74} & 30.59 & 60.32 {\scriptsize (+5.12)} \\[2pt]
Step-Audio-R1 & - & -- & 9.1 & \textbf{6.77} & 67.40 \\
\bottomrule
\end{tabular}}
\end{table*}
"""
BENCHMARK = r"""\begin{tabularx}{\textwidth}{lc *{4}{X} c}
Model & Size & \multicolumn{4}{c}{MMAU} & MMAR \\ \hline
 & & Sound & Music & Speech & Avg & Avg \\
\multirow{2}{*}{Qwen2.5-Omni} & 7B & 70.1 & 65.0 & 62.6 & 65.90 & 55.20$\pm$0.3 \\
 & 3B & 1 & 2 & 3 & 63.30 & 53.80 \\
w/o $R_{spr}$ & 7B & \multicolumn{3}{c}{--} & 74.08 & 59.62 \\
\end{tabularx}"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "arxiv" / "tables").mkdir(parents=True)
    (tmp_path / "arxiv" / "example_paper.tex").write_text(r"\newcommand{\ours}{MPAR$^2$}" + "\n")
    (tmp_path / "arxiv" / "tables" / "cafe.tex").write_text(CAFE)
    (tmp_path / "arxiv" / "tables" / "benchmark.tex").write_text(BENCHMARK)
    return tmp_path / "arxiv"


def test_every_number_is_read_with_its_row_and_column(source: Path) -> None:
    cells = read_tables(source)
    found = {(c["table"], c["row"], c["column"]): c["value"] for c in cells.to_dict("records")}
    assert found["cafe", "MPAR2-7B", "CAFE (%) / Acc_per"] == 63.51
    assert found["cafe", "MPAR2-7B", "MMAR_acc†"] == 60.32
    assert found["cafe", "Qwen2.5-Omni-7B", "CAFE (%) / Err_omit"] == 50.0
    assert found["benchmark", "Qwen2.5-Omni 7B", "MMAU / Sound"] == 70.1
    assert found["benchmark", "Qwen2.5-Omni 3B", "MMAR / Avg"] == 53.8
    assert found["benchmark", "w/o R_spr 7B", "MMAU / Avg"] == 74.08
    assert len(cells) == 10 + 3 + 10 + 2 and {"Step-Audio-R1"} <= set(cells["row"])


def test_a_table_that_ends_early_or_nests_is_no_error() -> None:
    broken = r"\begin{tabular}{ll} a & {\textbf{b & c} \\ d & 1.5 \\ e & \multicolumn{2}{c}{2}"
    assert [value for _, _, value in table_cells(broken)] in ([1.5, 2.0, 2.0], [])
    assert not list(table_cells(r"\begin{tabular}"))


def run_on(folder: Path, benchmark: str, version: str, arms: list[FakeArm]) -> Path:
    write_run(folder, 60, arms)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["benchmark"] |= {"name": benchmark, "version": version}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_each_cell_is_reproduced_differs_or_is_unknown(source: Path, tmp_path: Path, capsys) -> None:
    # right in about 60 of 100 answers at every length: near the paper's 55.20, far from 31.74
    base = FakeArm("free", "cot", 1.0, 0.0, model="Qwen/Qwen2.5-Omni-7B")
    run = run_on(tmp_path / "mmar", "mmar", "2026-02", [base, FakeArm("MPAR²-7B", level=-4.0, adapter="a")])
    out = ["--out", str(tmp_path / "report.html"), "--data", str(tmp_path / "data"), "--only", "arms"]
    assert main(["report", str(run), "--paper", str(source), *out]) == 0
    printed = capsys.readouterr().out
    assert "are reproduced" in printed and "no run of MMAU" in printed
    import pandas as pd

    beside = pd.read_csv(tmp_path / "data" / "paper-cells.csv").set_index(["row", "column"])
    acc = beside.loc[("Qwen2.5-Omni-7B", "MMAR_acc†")]
    assert acc["state"] == "reproduced" and acc["arm"] == "free" and acc["low"] <= 55.2 <= acc["high"]
    assert beside.loc[("MPAR2-7B", "MMAR_acc†"), "state"] == "differs"
    assert beside.loc[("MPAR2-7B", "CAFE (%) / Acc_per"), "clips"] == 60
    assert beside.loc[("Step-Audio-R1", "MMAR_acc†"), "why"] == "no arm of this model: name one as the paper's row"
    assert set(beside.loc[beside["state"] == "unknown", "ours"].isna()) == {True}
    assert "paper-cells" in (tmp_path / "report.html").read_text("utf-8")


def test_domains_versions_and_two_arms_of_one_model(source: Path, tmp_path: Path) -> None:
    from analysis.load import load_runs
    from analysis.paper import beside_cells, paper_cells

    cells = paper_cells(source)
    arms = [FakeArm("Qwen2.5-Omni 7B", "cot", 1.0), FakeArm("two", "cot", model="Qwen2.5-Omni-3B")]
    arms.append(FakeArm("three", "direct", model="Qwen2.5-Omni-3B"))
    table = load_runs([run_on(tmp_path / "mmau", "mmau", "original", arms)])
    beside = beside_cells(cells, table).set_index(["row", "column"])
    assert beside.loc[("Qwen2.5-Omni 7B", "MMAU / Sound"), "items"] == 30  # every second item
    assert beside.loc[("Qwen2.5-Omni 7B", "MMAU / Avg"), "items"] == 60
    assert beside.loc[("Qwen2.5-Omni 3B", "MMAU / Avg"), "why"].startswith("several arms are of this model")
    new = beside_cells(cells.assign(table="mmau_new"), table).set_index(["row", "column"])
    assert new.loc[("Qwen2.5-Omni 7B", "MMAU / Avg"), "why"] == "no run of MMAU (v05.15.25)"


def test_a_folder_without_tables_is_an_error(tmp_path: Path, capsys) -> None:
    with pytest.raises(AnalysisError, match="is no folder"):
        read_tables(tmp_path / "nowhere")
    run = write_run(tmp_path / "run", 6, [FakeArm("a")])
    assert main(["report", str(run), "--paper", str(tmp_path), "--out", str(tmp_path / "x.html")]) == 2
    assert "no LaTeX table" in capsys.readouterr().err
