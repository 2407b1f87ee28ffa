"""Compressed runs: read as they are, by every reader, and no larger than they may be."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis.load import load_runs
from analysis.traces import fetch, fetch_verdicts
from mpar2.cafe.score import find_scores
from mpar2.cli import main
from mpar2.runs import RunError, RunLimits, RunWriter, compress_run, read_run
from mpar2.runs.lines import write_json
from testing.synthetic import ARMS, write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = write_run(tmp_path / "run", 20, ARMS[:2])
    write_json(run / "metrics.json", {"items": 20, "arms": {"base": {"scored": 20}}})
    return run


def test_a_compressed_run_reads_as_before(folder: Path, capsys) -> None:
    records, table = list(read_run(folder).records()), load_runs([folder])
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert main(["compress", str(folder)]) == 0
    assert "MB" in capsys.readouterr().out
    assert not list(folder.rglob("*.jsonl")) and find_scores(folder).name == "scores.jsonl.gz"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < size / 4
    assert list(read_run(folder).records()) == records
    assert list(read_run(folder / "items.jsonl.gz").records()) == records
    assert (folder / "metrics.json").read_bytes() == b'{"items":20,"arms":{"base":{"scored":20}}}\n'
    again = load_runs([folder])
    pd.testing.assert_frame_equal(again.frame, table.frame)
    pd.testing.assert_frame_equal(again.probes, table.probes)
    assert fetch(again, [0, 3]) == fetch(table, [0, 3]) and len(fetch_verdicts(again, [1])) == 1
    zipped = load_runs([shutil.make_archive(str(folder), "zip", folder)])
    pd.testing.assert_frame_equal(zipped.frame, table.frame)
    pd.testing.assert_frame_equal(zipped.probes, table.probes)


def test_a_compressed_run_is_gone_on_with(folder: Path) -> None:
    manifest, before = read_run(folder).manifest, list(read_run(folder).records())
    compress_run(folder)
    with RunWriter(folder, manifest) as run:
        assert run.done == {record["key"] for record in before}
        new = before[0] | {"key": f"new|{before[0]['arm']}|0", "id": "new"}
        run.append(new)
    assert len(list(read_run(folder).records())) == len(before) + 1


def test_an_unfinished_run_is_not_compressed(folder: Path, capsys) -> None:
    (folder / "metrics.json").unlink()
    assert main(["compress", str(folder)]) == 2 and "finish it first" in capsys.readouterr().err
    assert (folder / "items.jsonl").is_file()


def test_damage_and_bombs_are_errors(folder: Path) -> None:
    compress_run(folder)
    path = folder / "items.jsonl.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="damaged"):
        list(read_run(folder).records())
    path.write_bytes(b"no gzip")
    with pytest.raises(RunError, match="damaged"):
        list(read_run(folder).records())
    path.write_bytes(gzip.compress(b" " * 3_000_000 + b"\n"))
    with pytest.raises(RunError, match="limit|bytes|longer"):
        list(read_run(folder, RunLimits(max_bytes=100_000, max_line_bytes=50_000)).records())
