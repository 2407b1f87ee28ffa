"""The report is one page that carries everything, executes nothing of a run, and opens in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from analysis.exhibits import EXHIBITS
from analysis.report import plotly_js, shown_manifest
from mpar2.cli import main
from testing.browser import browser_page, chromium
from testing.synthetic import ARMS, FakeArm, write_run

HOSTILE = '</script><script>window.pwned=1</script><img src=x onerror="window.pwned=2">${window.pwned=3}'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    arms = (*ARMS[:4], FakeArm("=evil <b>", "cot"))
    write_run(folder / "run", 24, arms, hostile=HOSTILE)
    out = folder / "made" / "report.html"
    assert main(["report", str(folder / "run"), "--out", str(out), "--data", str(folder / "data"), "--bins", "4"]) == 0
    return out


def test_the_page_stands_alone(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.count(plotly_js()[:2000]) == 1
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#x27;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 2
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy and "connect-src" not in policy
    outside = text.replace(plotly_js(), "")
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", outside)


def test_the_page_holds_every_figure_manifest_and_command(page: Path) -> None:
    text = page.read_text("utf-8")
    document = json.loads(re.search(r'<script type="application/json" id="document">(.*?)</script>', text, re.S)[1])
    figures = document["groups"]["figures"]
    assert [exhibit["name"] for exhibit in figures] == list(EXHIBITS)
    assert all("--bins 4" in " ".join(exhibit["command"]) for exhibit in figures)
    assert "paper-beside-ours" in [exhibit["name"] for exhibit in document["groups"]["paper"]]
    assert "mpar2-run" in text and "items.jsonl" in text
    assert "/somewhere/secret" not in text and str(page.parent) not in text
    assert "window.pwned=1</script>" not in text


def test_tables_go_out_as_data(page: Path) -> None:
    data = page.parent.parent / "data"
    assert (data / "decay.csv").read_text("utf-8").startswith("arm,metric,bin,from,to,length,value")
    assert "'=evil <b>" in (data / "decay.csv").read_text("utf-8")
    names = {path.stem for path in data.glob("*.csv")}
    assert {"decay", "arms", "controls", "cafe", "frontier"} <= names <= set(EXHIBITS)
    pytest.importorskip("pyarrow")
    import pandas as pd

    assert {path.stem for path in data.glob("*.parquet")} == names
    assert "=evil <b>" in set(pd.read_parquet(data / "decay.parquet")["arm"])


def test_parquet_that_cannot_be_written_is_said(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("analysis.report", "analysis.command"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    out = ["--out", str(tmp_path / "x.html"), "--data", str(tmp_path / "data"), "--only", "arms"]
    assert main(["report", str(page.parent.parent / "run"), *out]) == 0
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["arms.csv"]
    assert "pip install pyarrow" in capsys.readouterr().err


def test_paths_of_the_machine_are_left_out() -> None:
    command = ["mpar2", "evaluate", "--data=/home/me/x.json", "~/runs/y", "C:\\data\\z.json", "--out", "runs/a"]
    shown = shown_manifest({"environment": {"command": command}})
    assert shown["environment"]["command"] == [
        "mpar2", "evaluate", "--data=x.json", "y", "z.json", "--out", "runs/a"
    ]  # fmt: skip


def test_bad_wishes_are_refused_with_a_way_on(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(page.parent.parent / "run")
    for extra, words in (
        (["--only", "magic"], "choose from decay"),
        (["--arm", "nobody"], "choose from base cot"),
        (["--metric", "magic"], "choose from accuracy"),
        (["--judge", "nobody"], "it has reference"),
        (["--domain", "speech"], "no answer is left"),
    ):
        assert main(["report", run, "--out", str(page.parent / "x.html"), *extra]) == 2
        assert words in capsys.readouterr().err
    assert not (page.parent / "x.html").exists()
    assert main(["report", str(page.parent / "nothing"), "--out", str(page.parent / "x.html")]) == 2


@pytest.mark.skipif(chromium() is None, reason="no chromium found: the page is opened in a browser")
def test_a_browser_draws_it(page: Path) -> None:
    pytest.importorskip("playwright")
    with browser_page(viewport={"width": 1200, "height": 900}) as tab:
        requests: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_selector("#exhibit-decay .js-plotly-plot, #exhibit-decay .main-svg", timeout=60_000)
        assert tab.locator("#figures .an-exhibit").count() == len(EXHIBITS)
        assert tab.evaluate("window.pwned") is None
        assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
        tab.locator("#exhibit-arms summary").first.click()
        assert tab.locator("#exhibit-arms tbody tr").count() == 5
        with tab.expect_download() as download:
            tab.locator("#exhibit-arms").get_by_role("button", name="CSV", exact=True).click()
        assert "'=evil <b>" in Path(download.value.path()).read_text("utf-8")
        with tab.expect_download() as download:
            tab.locator("#exhibit-decay").get_by_role("button", name="SVG", exact=True).click()
        assert download.value.suggested_filename == "decay.svg"
        assert tab.problems == []
