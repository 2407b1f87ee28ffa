"""The Analysis tab in a real browser: shipped runs, a visitor's run, points, filters, and text that stays text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from analysis import AnalysisError
from analysis.choice import Choice
from analysis.exhibits import EXHIBITS, build_exhibits, rows_of
from pages.analysis_runs import Shelf, load_upload, traces_document
from tests.browser import browser_page, chromium
from tests.synthetic import ARMS, FakeArm, write_run
from tests.test_analysis import HOSTILE, zipped

in_browser = pytest.mark.skipif(chromium() is None, reason="no chromium found: the journeys need a browser")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "scenes", 30)
    return root


def test_the_shelf_has_what_is_there_and_nothing_else(root: Path, tmp_path: Path) -> None:
    shelf = Shelf(root)
    assert shelf.names() == ["scenes"] and shelf.table("scenes") is shelf.table("scenes")
    for name in ("../scenes", "/etc", "nothing"):
        with pytest.raises(AnalysisError):
            shelf.table(name)
    assert Shelf(tmp_path / "none").names() == []
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{}", "utf-8")
    assert Shelf(tmp_path).tables(["broken"]) == []


def test_traces_of_a_point_stand_beside_the_other_arms(root: Path) -> None:
    table = Shelf(root).table("scenes")
    (exhibit,) = build_exhibits(table, only=["arms"])
    place = exhibit.drawing["data"][0]["customdata"][0]
    rows = rows_of(table, Choice(), place)
    document = traces_document(table, rows, table.labels[:3], "base cot")
    assert document["total"] == 30 and len(document["items"]) == 12
    for item in document["items"]:
        assert [side["arm"] for side in item["sides"]] == ["base cot", "base direct", "mpar2"]
        assert item["sides"][0]["parts"][0]["name"] == "Perception" and item["truth"]
        assert [part["name"] for part in item["sides"][0]["parts"]][1] == "Step 1: Ask"
    assert {side["sides"][0]["right"] for side in document["items"][:2]} == {True, False}


def test_an_upload_is_named_as_the_visitors_own(root: Path, tmp_path: Path) -> None:
    table = load_upload(zipped(root / "scenes", tmp_path / "my run.zip"))
    assert table.runs[0].name == "yours: my run" and len(table.frame) == 150
    assert traces_document(table, [0], [], "t")["items"]


# ---- in the browser ----------------------------------------------------------------------------------------------


def serve(shelf: Shelf) -> Any:
    import gradio as gr

    from pages import launch_settings
    from pages.analysis import build_analysis

    with gr.Blocks(analytics_enabled=False, fill_width=True) as demo, gr.Tabs():
        with gr.Tab("Other", id="other"):
            gr.Markdown("Nothing here")
        with gr.Tab("Analysis", id="analysis") as tab:
            build_analysis(tab, shelf)
    _, url, _ = demo.queue().launch(prevent_thread_lock=True, quiet=True, **launch_settings())
    return demo, url


@pytest.fixture(scope="module")
def app(root: Path) -> Iterator[str]:
    demo, url = serve(Shelf(root))
    yield url
    demo.close()


def opened(page: Any, url: str) -> None:
    page.goto(url)
    page.get_by_role("tab", name="Analysis", exact=True).click()


def drawn(page: Any, name: str = "decay") -> Any:
    page.wait_for_selector(f"#figures #exhibit-{name} .main-svg", timeout=90_000)
    return page.locator(f"#figures #exhibit-{name}")


@in_browser
def test_a_visitor_reads_figures_points_and_the_paper(app: str) -> None:
    pytest.importorskip("playwright")
    with browser_page(viewport={"width": 1440, "height": 1000}) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        opened(page, app)
        figure = drawn(page)
        assert page.locator("#figures .an-exhibit").count() == len(EXHIBITS)
        assert figure.locator(".modebar-btn").count() == 6
        assert figure.locator('.modebar-btn[data-title*="hare"], .modebar-btn[data-title*="loud"]').count() == 0
        reading = figure.locator(".an-reading").inner_text()
        assert reading.startswith("base cot")

        spot = figure.locator(".scatterlayer .trace .points path").first.bounding_box()
        page.mouse.click(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
        page.wait_for_selector("#traces .an-trace", timeout=60_000)
        assert page.locator("#traces h3").first.inner_text().startswith("base cot: traces of")
        page.locator("#traces .an-list button").nth(1).click()
        assert page.locator('#traces .an-list button[aria-pressed="true"]').count() == 1
        assert page.locator("#traces .an-part").count() >= 3

        with page.expect_download() as download:
            figure.get_by_role("button", name="CSV", exact=True).click()
        assert Path(download.value.path()).read_text("utf-8").startswith("arm,metric,bin")

        page.get_by_role("tab", name="What the paper reports", exact=True).click()
        page.wait_for_selector("#paper #exhibit-paper-beside-ours td", timeout=90_000)
        assert page.locator("#paper .an-exhibit").count() == 4
        assert [url for url in requests if not url.startswith((app.rstrip("/"), "data:", "blob:"))] == []
        assert page.problems == []


@in_browser
def test_a_visitor_brings_a_run_of_their_own(app: str, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    arms = (FakeArm(f"mine {HOSTILE}"[:60], "cot"), ARMS[1])
    theirs = zipped(write_run(tmp_path / "theirs", 12, arms, hostile=HOSTILE), tmp_path / "theirs.zip")
    wrong = tmp_path / "wrong.zip"
    wrong.write_bytes(b"no zip at all")
    with browser_page(viewport={"width": 390, "height": 800}) as page:
        opened(page, app)
        drawn(page)
        page.locator("#run-file input[type=file]").set_input_files(str(wrong))
        page.wait_for_selector("#run-note .mp-error", timeout=60_000)
        page.wait_for_selector("#run-file input[type=file]", state="attached", timeout=60_000)
        page.locator("#run-file input[type=file]").set_input_files(str(theirs))
        page.wait_for_selector("#run-note .mp-ok", timeout=60_000)
        page.wait_for_function("document.querySelector('#figures')?.textContent.includes('theirs')", timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("#figures img").count() == 0
        assert page.problems == []


@in_browser
def test_without_runs_the_tab_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    demo, url = serve(Shelf(tmp_path / "none"))
    try:
        with browser_page() as page:
            opened(page, url)
            page.wait_for_selector("#figures .an-message", timeout=60_000)
            assert "mpar2 evaluate" in page.locator("#figures .an-message").inner_text()
    finally:
        demo.close()
