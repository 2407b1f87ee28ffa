"""The Analysis tab in a real browser: shipped runs, a visitor's run, points, filters, and text that stays text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio")

from analysis import AnalysisError
from analysis.choice import Choice
from analysis.exhibits import EXHIBITS, build_exhibits, rows_of
from analysis.load import load_runs
from mpar2.audio import wav_bytes
from pages.analysis_runs import UPLOAD, Shelf, compared, load_upload, traces_document
from pages.arrays import pack, unpack
from pages.stored_item import HEATMAPS, audio_of
from testing.browser import browser_page, chromium, make_clip
from testing.synthetic import ARMS, FakeArm, write_run
from tests.test_analysis import HOSTILE, zipped
from tests.test_analysis_training import write_log

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


def test_a_point_lists_right_and_wrong_traces_in_turn_and_the_arms_beside(root: Path) -> None:
    table = Shelf(root).table("scenes")
    (exhibit,) = build_exhibits(table, only=["arms"])
    place = exhibit.drawing["data"][0]["customdata"][0]
    rows = rows_of(table, Choice(), place)
    listed = traces_document(table, rows, table.labels[:3], "base cot")
    assert listed["total"] == 30 and len(listed["items"]) == 12
    assert all([other["arm"] for other in item["beside"]] == ["base direct", "mpar2"] for item in listed["items"])
    assert {item["right"] for item in listed["items"][:2]} == {True, False}


def test_a_stored_item_is_a_comparison_with_annotations_and_the_course_of_attention(root: Path) -> None:
    table = Shelf(root).table("scenes")
    listed = traces_document(table, list(range(30)), table.labels, "t")
    row, beside = listed["items"][0]["row"], listed["items"][0]["beside"][0]
    document = compared(table, row, beside["row"])
    assert [arm["name"] for arm in document["arms"]] == [table.frame["arm"].iat[row], beside["arm"]]
    first = document["arms"][0]
    assert [part["kind"] for part in first["parts"] if part["parent"] is None][0] == "perception"
    assert len(first["tokens"]) == first["token_count"] and first["text"][slice(*first["tokens"][-1])]
    shares = unpack(first["attention"]["mass"])
    assert shares.shape == (1, 1, first["token_count"]) and np.isclose(shares[0, 0, 0], 0.3, atol=0.01)
    assert first["cafe"]["counts"]["matched"] == table.frame["matched"].iat[row]
    assert document["clip"]["audio"] is None and "not kept" in document["clip"]["warnings"][0]
    for wrong in ((-1, None), ("0", None), (10**9, None), (True, None)):
        assert compared(table, *wrong) is None


def test_kept_audio_and_heatmaps_are_shown_and_nothing_outside_the_run_is_read(root: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs" / "kept", 3)
    table = load_runs([folder])
    key, tokens = table.frame["key"].iat[0], int(table.frame["tokens"].iat[0])
    cells = np.random.default_rng(0).random((1, 1, tokens, 20))
    heatmap = {"layers": 1, "heads": 1, "audio_positions": 250, "visible": [300] * tokens, "columns": 20}
    heatmap |= {"column_s": 0.04, "tokens": pack(cells), "mass": pack(cells.sum(-1)), "ratio": 0.3, "corrected": 1.0}
    heatmap |= {"parts": None, "parts_of": None}
    (folder / HEATMAPS).write_text(json.dumps({"key": key, "attention": heatmap}) + "\nno json\n", "utf-8")
    (folder / "clips").mkdir()
    (folder / "clips" / "0.flac").write_bytes(wav_bytes(make_clip(2.0)))
    document = compared(table, 0, 1)
    assert document["clip"]["audio"].startswith("data:audio/flac") and document["clip"]["seconds"] == 2.0
    assert document["arms"][0]["attention"]["tokens"] is not None and document["arms"][1]["attention"]["tokens"] is None
    assert traces_document(table, list(range(15)), table.labels, "t")["items"][0]["kept"]
    (tmp_path / "secret.flac").write_bytes(wav_bytes(make_clip(2.0)))
    run = table.runs[0]
    for name in ("../../secret.flac", str(tmp_path / "secret.flac"), "clips/none.flac", "", "a\0b", None):
        assert audio_of(run, {"audio": name}) is None
    assert audio_of(replace(run, limits=UPLOAD), {"audio": "clips/0.flac"}) is None


def test_a_verdict_of_another_trace_is_not_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", 2)
    scores = folder / "cafe" / "reference" / "scores.jsonl"
    lines = [json.loads(line) for line in scores.read_text("utf-8").splitlines()]
    mention = {
        "id": "1",
        "quote": "a whale",
        "start": 3,
        "stop": 10,
        "label": "whale",
        "kind": "matched",
        "events": [0],
    }
    for line in lines:
        line["verdict"] |= {"mentions": [mention]}
    scores.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    document = compared(load_runs([folder]), 0, None)
    assert "does not belong" in document["arms"][0]["cafe"]["unscored"]


def test_the_tab_opens_on_the_held_out_scenes(tmp_path: Path) -> None:
    assert Shelf(tmp_path).first is None
    for name in ("a", "held-out-scenes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}", "utf-8")
        assert Shelf(tmp_path).first == name


def test_an_upload_is_named_as_the_visitors_own(root: Path, tmp_path: Path) -> None:
    table = load_upload(zipped(root / "scenes", tmp_path / "my run.zip"))
    assert table.runs[0].name == "yours: my run" and len(table.frame) == 150
    with pytest.raises(AnalysisError, match="line 1: 'key' is None.*RUN/items.jsonl as it is, or a zip of RUN"):
        (tmp_path / "wrong.jsonl").write_text('{"a": 1}\n', "utf-8")
        load_upload(tmp_path / "wrong.jsonl")
    assert traces_document(table, [0], [], "t")["items"] and compared(table, 0, None)["arms"][0]["cafe"]["counts"]


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
    figure = page.locator(f"#figures #exhibit-{name}")
    figure.wait_for(state="attached", timeout=90_000)
    figure.scroll_into_view_if_needed()  # a figure is drawn when it comes near
    page.wait_for_selector(f"#figures #exhibit-{name} .main-svg", timeout=90_000)
    return figure


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
        page.wait_for_selector("#stored .mp-arm", timeout=60_000)
        assert page.locator("#traces h3").first.inner_text().startswith("base cot: traces of")
        asked = page.locator("#stored h2").inner_text()
        page.locator("#traces .an-list button").nth(1).click()
        assert page.locator('#traces .an-list button[aria-pressed="true"]').count() == 1
        page.locator("#traces .an-actions button", has_text="mpar2 deaf").click()
        page.wait_for_selector('#stored .mp-arm:nth-of-type(2) h3:text-is("mpar2 deaf")', timeout=60_000)
        assert asked and page.locator("#stored .mp-decay-line").count() == 2
        assert page.locator("#stored .mp-part").count() >= 3
        page.locator("#traces").get_by_role("button", name="Close", exact=True).click()
        page.wait_for_selector("#stored .mp-arm", state="detached", timeout=60_000)

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


@in_browser
def test_the_training_view_draws_the_chosen_recipes_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    write_run(tmp_path / "scenes", 6)
    for seed in (1, 2):
        write_log(tmp_path / "training" / f"tiny-{seed}", seed=seed)
    write_log(tmp_path / "training" / "bare", recipe=HOSTILE, kind="sft", lines=[{"step": 1, "loss": 2.0}])
    write_log(tmp_path / "training" / "wrong", kind="ppo")
    demo, url = serve(Shelf(tmp_path))
    try:
        with browser_page(viewport={"width": 1440, "height": 1000}) as page:
            opened(page, url)
            drawn(page)
            page.get_by_role("tab", name="Training", exact=True).click()
            page.wait_for_selector("#training #exhibit-training-rewards .main-svg", timeout=90_000)
            assert "'kind' is 'ppo'" in page.locator("#training-note").inner_text()
            reading = page.locator("#exhibit-training-reward .an-reading").inner_text()
            assert reading.startswith("tiny, grpo (2 seeds): ")
            with page.expect_download() as download:
                page.locator("#exhibit-training-kl").get_by_role("button", name="CSV", exact=True).click()
            assert Path(download.value.path()).read_text("utf-8").startswith("recipe,metric,step,value,low,high,logs")
            assert page.locator("#training img").count() == 0
            assert page.problems == []
    finally:
        demo.close()


@in_browser
def test_without_training_logs_the_view_says_how_to_make_them(app: str) -> None:
    pytest.importorskip("playwright")
    with browser_page() as page:
        opened(page, app)
        drawn(page)
        page.get_by_role("tab", name="Training", exact=True).click()
        page.wait_for_selector("#training .an-message", timeout=60_000)
        assert "training export" in page.locator("#training .an-message").inner_text()
