"""Runs are read and drawn in a child process: what is too much is a message to one visitor, and the next is served."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis import AnalysisError
from mpar2.child import Bounds, Pool
from mpar2.runs.lines import dump_json, load_json
from pages import analysis_process
from pages.analysis_figures import drawn
from pages.analysis_process import read_upload, values_of
from pages.analysis_runs import Shelf, load_upload
from testing.synthetic import write_run
from tests.test_analysis import zipped

FAULTS = """
import ctypes, os, runpy
import pages.analysis_runs
whole = pages.analysis_runs.load_upload
def load_upload(path):
    match os.path.basename(path):
        case "crash.jsonl":
            ctypes.string_at(0)
        case "loop.jsonl":
            while True:
                pass
        case "grow.jsonl":
            bytearray(20_000_000_000)
        case "odd.jsonl":
            raise KeyError("a fault of our own")
    return whole(path)
pages.analysis_runs.load_upload = load_upload
runpy.run_module("pages.analysis_process", run_name="__main__")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brought")
    return zipped(write_run(folder / "run", 30), folder / "run.zip")


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A child that has the faults that hostile files might trigger."""
    script = tmp_path / "faulty.py"
    script.write_text(FAULTS)
    pool = Pool("-P", str(script), busy=1)
    monkeypatch.setattr(analysis_process, "_pool", pool)
    yield
    pool.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("crash", "ended at this request .*bring a part of the run"),
        pytest.param(
            "loop",
            "more than 3 s of processor time",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="limits of processor time are POSIX"),
        ),
        pytest.param(
            "grow",
            "more memory than one request may have",
            marks=pytest.mark.skipif(
                not sys.platform.startswith("linux"), reason="limits of memory are those of Linux"
            ),
        ),
    ],
)
def test_what_kills_the_reader_is_a_message_and_the_next_run_is_read(
    faulty: None, monkeypatch: pytest.MonkeyPatch, run: Path, tmp_path: Path, name: str, words: str
) -> None:
    monkeypatch.setattr(analysis_process, "_BOUNDS", Bounds(3, 60, 700_000_000))
    hostile = tmp_path / f"{name}.jsonl"
    hostile.write_bytes(b"")
    for _ in range(2):  # in a new process, and in one that has read a run before
        with pytest.raises(AnalysisError, match=words):
            read_upload(hostile)
        assert read_upload(run)[0]["lines"] == ["150 answers of 5 arms"]


def test_a_fault_of_our_own_is_told_to_the_log(faulty: None, run: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_bytes(b"")
    with pytest.raises(RuntimeError, match="KeyError: 'a fault of our own'"):
        read_upload(tmp_path / "odd.jsonl")
    assert read_upload(run)[0]["name"] == "yours: run"


def test_a_brought_run_is_drawn_in_the_child_as_it_would_be_here(run: Path, tmp_path: Path) -> None:
    sent = {"runs": [], "mine": True, "metric": "accuracy", "bins": 5}
    _, packed = read_upload(run)
    here = [load_json(dump_json(value), "here") for value in drawn(load_upload(run), sent)]
    assert list(values_of("figures", tmp_path, sent, packed)) == here and len(here[-1]["exhibits"]) == 18
    (item,) = values_of("point", tmp_path, {"mine": True, "row": 3}, packed)
    assert item["document"]["arms"][0]["text"]
    (paper,) = values_of("paper", tmp_path, {"mine": True}, packed)
    assert paper["exhibits"][-1]["name"] == "paper-beside-ours"
    with pytest.raises(AnalysisError, match="unknown metric|no metric"):
        list(values_of("figures", tmp_path, sent | {"metric": "none"}, packed))


def test_reading_a_run_leaves_the_processor_of_this_process_to_the_models(tmp_path: Path) -> None:
    large = zipped(write_run(tmp_path / "run", 400), tmp_path / "run.zip")
    read_upload(large)  # the child has started
    begun = time.process_time()
    read_upload(large)
    here = time.process_time() - begun
    begun = time.process_time()
    load_upload(large)
    assert here < 0.1 * (time.process_time() - begun)


def test_an_app_that_cannot_draw_its_first_figures_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("gradio")
    from pages.analysis import warm_up

    write_run(tmp_path / "run", 2)
    monkeypatch.setattr(analysis_process, "_pool", Pool("-c", "raise SystemExit(3)", busy=1))
    warm_up(Shelf(tmp_path))
    assert "does not start (exit status 3)" in caplog.text
