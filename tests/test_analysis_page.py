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
from analysis.exhibits import EXHIBITS, build_exhibits
from analysis.load import load_runs
from analysis.style import colour_of
from mpar2.audio import wav_bytes
from mpar2.runs import RunError
from pages.analysis import GROUPS
from pages.analysis_figures import choice_of, drawn
from pages.analysis_items import first_arms, items_value, summary_value
from pages.analysis_runs import UPLOAD, Brought, Shelf, compared, load_upload
from pages.attention_pack import pack
from pages.document import check_document
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


def test_brought_runs_have_a_bound_and_who_holds_most_gives_back_first() -> None:
    packed, now = b"x" * 1000, [0.0]
    brought = Brought(3000, kept_s=100.0, clock=lambda: now[0])
    brought.keep("mine", "me", packed)
    for number in range(5):
        now[0] += 1
        brought.keep(f"theirs {number}", "greedy", packed)
    assert brought.packed("mine") is packed and brought.packed("theirs 4") is packed
    for gone in ("theirs 0", "theirs 2", "nobody's"):
        with pytest.raises(RunError, match="not kept any more .* choose its file again"):
            brought.packed(gone)
    brought.keep("mine", "me", packed)
    assert len(brought) == 3, "a session has one"
    now[0] += 100
    with pytest.raises(RunError, match="an hour at most"):
        brought.packed("mine")
    assert not len(brought)


def test_the_table_of_items_holds_every_item_and_what_each_arm_made_of_it(root: Path) -> None:
    table = Shelf(root).table("scenes")
    arms = first_arms(table)
    value = items_value(table, arms)
    assert value["total"] == len(value["items"]) == 30 and value["arms"] == arms
    frame = table.frame
    for id, question, _, _, cells in value["items"]:
        assert question
        for arm, (row, right, tokens, matched, predicted) in zip(arms, cells, strict=True):
            assert (frame["id"].iat[row], str(frame["arm"].iat[row])) == (id, arm)
            assert (right, tokens) == (frame["right"].iat[row], frame["tokens"].iat[row])
            assert (matched, predicted) == (frame["matched"].iat[row], frame["n_pred"].iat[row])


def test_the_first_arms_are_those_that_reason_without_interventions(root: Path) -> None:
    table = Shelf(root).table("scenes")
    arms = first_arms(table)
    assert 1 <= len(arms) <= 3 and all("direct" not in arm and "deaf" not in arm for arm in arms)


def test_the_summary_says_a_difference_with_its_interval_and_whether_it_is_clear(root: Path) -> None:
    table = Shelf(root).table("scenes")
    arms = first_arms(table)
    for line in summary_value(table, arms):
        for arm in line["arms"]:
            assert abs(arm["value"] - line["value"] - arm["difference"]) < 0.05
            assert arm["clear"] == (arm["low"] > 0 or arm["high"] < 0)


def test_every_figure_is_filled_on_a_run_that_holds_what_it_needs(root: Path) -> None:
    """A figure about arms that were not chosen takes them from the run; no point of it leads nowhere."""
    table = Shelf(root).table("scenes")
    *_, value = drawn(table, {})
    assert value["whole"] and [exhibit["name"] for exhibit in value["exhibits"]][0] == "decay"
    assert {exhibit["name"] for exhibit in value["exhibits"]} == set(EXHIBITS)
    filled = {e["name"] for e in value["exhibits"] if e["figure"] is not None or e["table"]["rows"]}
    alone = {e.name for e in build_exhibits(table, Choice(metric="acc_per")) if e.drawing is not None}
    assert alone <= filled
    assert value["metric"] == "acc_per"
    *_, none = drawn(table, {"arms": []})
    assert none["exhibits"] == [] and "No arm is chosen" in none["message"]


def test_every_figure_has_a_place_in_the_contents_and_every_arm_one_colour(root: Path) -> None:
    named = [name for _, names in GROUPS for name in names]
    assert sorted(named) == sorted(EXHIBITS)
    table = Shelf(root).table("scenes")
    chosen = table.labels[-1:]
    *_, value = drawn(table, {"arms": chosen})
    for exhibit in value["exhibits"]:
        for trace in (exhibit["figure"] or {"data": []})["data"]:
            if trace.get("name") == chosen[0] and trace["type"] == "scatter":
                assert trace["line"]["color"] == colour_of(0), exhibit["name"]
    css = (Path(__file__).parents[1] / "pages/view/view.css").read_text("utf-8")
    assert all(f"--mp-arm-{place}: {colour_of(place).lower()};" in css for place in range(6))


def test_what_a_null_model_expects_never_looks_like_what_was_measured() -> None:
    table = Shelf().table("held-out-scenes")
    figure = build_exhibits(table, Choice(arms=tuple(first_arms(table)), metric="acc_per"), ["decay"])[0].drawing
    lines = [trace for trace in figure["data"] if trace.get("name")]
    expected = [trace for trace in lines if trace["name"].endswith("null model")]
    measured = [trace for trace in lines if trace not in expected]
    assert expected and measured
    assert {(trace["mode"], trace["line"]["dash"]) for trace in expected} == {("lines", "dash")}
    assert {(trace["mode"], trace["line"]["dash"]) for trace in measured} == {("lines+markers", "solid")}


def test_what_a_page_sends_is_checked(root: Path) -> None:
    table = Shelf(root).table("scenes")
    sent = {"arms": ["nobody", table.labels[0]], "bins": "8", "filters": {"domain": ["x", 3], "evil": ["y"]}}
    choice = choice_of(table, sent)
    assert choice.arms == (table.labels[0],) and choice.bins == 8 and dict(choice.filters) == {"domain": ("x",)}
    with pytest.raises(AnalysisError, match="no metric"):
        choice_of(table, {"metric": "__class__"})


def test_a_stored_item_is_a_comparison_with_annotations_and_the_course_of_attention(root: Path) -> None:
    table = Shelf(root).table("scenes")
    arms = first_arms(table)
    cells = items_value(table, arms)["items"][0][4]
    rows = [cell[0] for cell in cells]
    document = check_document(json.loads(json.dumps(compared(table, rows[0], rows[1:]))))
    assert [arm["name"] for arm in document["arms"]] == arms
    first = document["arms"][0]
    assert [part["kind"] for part in first["parts"] if part["parent"] is None][0] == "perception"
    assert first["text"][slice(*first["words"][0][:2])].strip()
    assert len(first["attention"]["course"]["raw"]) == first["token_count"] and first["attention"]["views"] == []
    assert np.isclose(first["attention"]["course"]["raw"][0], 0.3, atol=0.02)
    assert first["cafe"]["claims"][0]["fate"] == "missed"
    assert document["clip"]["audio"] is None and "they are not kept beside this run" in document["clip"]["warnings"][0]
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
    assert document["arms"][0]["attention"]["views"] and not document["arms"][1]["attention"]["views"]
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


def test_the_tab_opens_on_the_scenes_of_the_small_pair(tmp_path: Path) -> None:
    assert Shelf(tmp_path).first is None
    for name in ("a", "small-scenes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}", "utf-8")
        assert Shelf(tmp_path).first == name


def test_an_upload_is_named_as_the_visitors_own(root: Path, tmp_path: Path) -> None:
    table = load_upload(zipped(root / "scenes", tmp_path / "my run.zip"))
    assert table.runs[0].name == "yours: my run" and len(table.frame) == 150
    with pytest.raises(AnalysisError, match="line 1: 'key' is None.*RUN/items.jsonl as it is, or a zip of RUN"):
        (tmp_path / "wrong.jsonl").write_text('{"a": 1}\n', "utf-8")
        load_upload(tmp_path / "wrong.jsonl")
    assert compared(table, 0, None)["arms"][0]["cafe"]["counts"]


# ---- in the browser ----------------------------------------------------------------------------------------------


def serve(shelf: Shelf) -> Any:
    import gradio as gr

    from pages import launch_settings
    from pages.analysis import build_analysis

    with gr.Blocks(analytics_enabled=False, fill_width=True) as demo, gr.Tabs():
        with gr.Tab("Other", id="other"):
            gr.Markdown("Nothing here")
        with gr.Tab("Analysis", id="analysis"):
            build_analysis(shelf)
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


def drawn_figure(page: Any, name: str = "decay") -> Any:
    figure = page.locator(f"#figures #exhibit-{name}")
    figure.wait_for(state="attached", timeout=90_000)
    if (folded := figure.locator(".an-toggle[aria-expanded=false]")).count():
        folded.click()
    figure.scroll_into_view_if_needed()  # a figure is drawn when it comes near
    page.wait_for_selector(f"#figures #exhibit-{name} .main-svg", timeout=90_000)
    return figure


@in_browser
def test_a_visitor_reads_figures_points_items_and_the_paper(app: str) -> None:
    pytest.importorskip("playwright")
    with browser_page(viewport={"width": 1440, "height": 1000}) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        opened(page, app)
        figure = drawn_figure(page)
        page.wait_for_function(f"document.querySelectorAll('#figures .an-exhibit').length === {len(EXHIBITS)}")
        assert page.get_by_label("Metric").input_value() == "acc_per"
        assert figure.locator(".modebar-btn").count() == 6
        assert figure.locator('.modebar-btn[data-title*="hare"], .modebar-btn[data-title*="loud"]').count() == 0
        assert "base cot" in figure.locator(".an-reading").inner_text()
        assert page.evaluate("document.documentElement.scrollHeight") <= 3500  # three screens and a half, not eleven

        rows = page.locator(".an-items tbody tr")
        assert rows.count() == 30
        spot = figure.locator(".scatterlayer .trace .points path").first.bounding_box()
        page.mouse.click(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
        page.locator(".an-items .an-chip", has_text="base cot: traces of").wait_for(timeout=60_000)
        behind = rows.count()
        assert 0 < behind < 30
        page.get_by_role("button", name="Show all items").click()
        assert rows.count() == 30
        figure.locator("summary", has_text="Points as a list").press("Enter")  # the same by keyboard
        figure.locator(".an-points button").first.press("Enter")
        page.locator(".an-items .an-chip", has_text="base cot: traces of").wait_for(timeout=60_000)
        assert rows.count() == behind
        page.get_by_role("button", name="Show all items").click()

        page.get_by_label("Which items").select_option(label="base cot wrong")
        wrong = rows.count()
        page.get_by_label("Which items").select_option(label="base cot right")
        assert wrong + rows.count() == 30 and "✗" not in "".join(
            page.locator(".an-items tbody td:nth-of-type(2)").all_inner_texts()
        )
        page.get_by_label("Which items").select_option(label="All items")
        page.get_by_role("button", name="tokens", exact=True).first.click()
        lengths = [int(text) for text in page.locator(".an-items tbody td:nth-of-type(3)").all_inner_texts()]
        assert lengths == sorted(lengths)

        asked = rows.first.locator(".an-item")
        asked.press("Enter")
        page.wait_for_selector(".an-side .mp-card-arm", timeout=60_000)
        assert (
            page.locator(".an-side .mp-card-arm").count() == 2 and page.locator(".an-side .mp-decay-line").count() == 2
        )
        assert figure.is_visible() and "item=" in page.url
        page.keyboard.press("Escape")
        page.wait_for_selector(".an-side", state="hidden")
        assert page.evaluate("document.activeElement.className") == "an-item"  # back where it was

        with page.expect_download() as download:
            figure.get_by_role("button", name="CSV", exact=True).click()
        assert Path(download.value.path()).read_text("utf-8").startswith("arm,metric,bin")
        with page.expect_download() as download:
            figure.get_by_role("button", name="SVG", exact=True).click()
        assert "scenes" in Path(download.value.path()).read_text("utf-8")  # title and run go along

        page.get_by_role("button", name="Controls", exact=True).click()
        drawn_figure(page, "controls")
        assert figure.is_hidden() and "figure=Controls" in page.url
        page.go_back()
        figure.wait_for(state="visible", timeout=30_000)
        page.get_by_role("button", name="The paper", exact=True).click()
        page.wait_for_selector("#paper #exhibit-paper-beside-ours td", timeout=90_000)
        assert page.locator("#paper .an-exhibit").count() == 4
        assert [url for url in requests if not url.startswith((app.rstrip("/"), "data:", "blob:"))] == []
        assert page.problems == []


@in_browser
def test_a_long_group_is_folded_and_each_figure_has_an_address(app: str) -> None:
    pytest.importorskip("playwright")
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        drawn_figure(page)
        page.wait_for_function(f"document.querySelectorAll('#figures .an-exhibit').length === {len(EXHIBITS)}")
        for group, _ in GROUPS:
            page.get_by_role("button", name=group, exact=True).click()
            assert page.evaluate("document.documentElement.scrollHeight") <= 2700, group  # three screens
        folded = page.locator("#figures .an-toggle[aria-expanded=false]:visible")
        count, first = folded.count(), folded.first.locator("xpath=ancestor::section")
        name = first.get_attribute("data-exhibit")
        assert count and first.locator(".an-reading").is_visible() and first.locator(".an-body").is_hidden()
        folded.first.press("Enter")
        page.wait_for_selector(f"#exhibit-{name} .main-svg", timeout=60_000)
        assert folded.count() == count - 1

        title = folded.last.inner_text()
        last = folded.last.locator("xpath=ancestor::section").get_attribute("data-exhibit")
        page.get_by_label("Contents").get_by_role("button", name=title, exact=True).click()
        page.wait_for_selector(f"#exhibit-{last} .main-svg", timeout=60_000)
        assert page.url.endswith(f"figure={last}") and page.evaluate("document.activeElement.textContent") == title
        assert page.evaluate(_BELOW_BAR, f"#exhibit-{last}")
        page.go_back()
        page.wait_for_function("location.search.endsWith('budget')")
        page.go_forward()
        page.reload()
        page.get_by_role("tab", name="Analysis", exact=True).click()
        page.wait_for_selector(f"#exhibit-{last} .main-svg", timeout=60_000)
        assert page.locator(f"#exhibit-{last} .an-toggle").get_attribute("aria-expanded") == "true"

        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        whole = "#figures .an-exhibit:not(.an-empty)"
        page.wait_for_function(
            f"[...document.querySelectorAll('{whole} .an-figure')].every((node) => node.querySelector('.main-svg'))",
            timeout=60_000,
        )
        assert page.locator(f"{whole}:visible").count() == page.locator(whole).count() > 8
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert page.locator(f"{whole}:visible").count() < 8 and page.problems == []


_BELOW_BAR = """(name) => document.querySelector(name).getBoundingClientRect().top
  >= document.querySelector('.an-bar').getBoundingClientRect().bottom - 1"""


@in_browser
def test_arms_and_metric_are_one_choice_for_all_figures(app: str) -> None:
    pytest.importorskip("playwright")
    with browser_page(viewport={"width": 1440, "height": 1000}) as page:
        opened(page, app)
        drawn_figure(page)
        page.get_by_label("Metric").select_option("accuracy")
        page.wait_for_function("document.querySelector('#exhibit-decay h3')?.textContent.startsWith('Accuracy')")
        assert "metric=accuracy" in page.url
        for _ in range(page.locator(".an-arms .an-chip").count()):
            left = page.locator(".an-arms .an-chip").count()
            page.locator(".an-arms .an-chip button").first.click()
            page.wait_for_function(f"document.querySelectorAll('.an-arms .an-chip').length < {left}")
        page.locator("#figures .an-message", has_text="No arm is chosen").wait_for(timeout=60_000)
        assert page.locator("#figures .main-svg").count() == 0
        page.locator(".an-bar summary", has_text="Arms").click()
        page.locator(".an-bar").get_by_label("mpar2", exact=True).check()
        drawn_figure(page)
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
        drawn_figure(page)
        page.locator("#run-file-input").set_input_files(str(wrong))
        page.wait_for_selector("#run-note .mp-error", timeout=60_000)
        page.locator("#run-file-input").set_input_files(str(theirs))
        page.wait_for_selector("#run-note .mp-ok", timeout=60_000)
        page.wait_for_function("document.querySelector('#figures')?.textContent.includes('theirs')", timeout=60_000)
        page.get_by_text("12 of 12").wait_for(timeout=60_000)  # the items are theirs too: figures come first
        page.locator(".an-item").first.click()
        page.wait_for_selector(".an-side .mp-card-arm", timeout=60_000)
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("#figures img, .an-items img, .an-side img").count() == 0
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
def test_the_trainings_draw_the_chosen_recipes_and_say_what_is_left_out(tmp_path: Path) -> None:
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
            drawn_figure(page)
            page.get_by_role("button", name="Training", exact=True).click()
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
        drawn_figure(page)
        page.get_by_role("button", name="Training", exact=True).click()
        page.wait_for_selector("#training .an-message", timeout=60_000)
        assert "training export" in page.locator("#training .an-message").inner_text()
