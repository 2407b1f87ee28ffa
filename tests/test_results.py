"""Results that visitors store: by a link while the app keeps them, as a file for good; and what strangers may send."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from conftest import make_clip

from mpar2.audio import load_clip, wav_bytes
from pages.limits import Kept
from pages.results import RESULT_BYTES
from testing.browser import browser_page, chromium, document, tiny_services, write_example
from tests.test_browser import ARM_ROW, HOSTILE, finished, opened, pixels

pytest.importorskip("gradio")
browser = pytest.mark.skipif(chromium() is None, reason="no chromium found: the journeys need a browser")


@pytest.fixture(scope="module")
def app(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    from pages import build_app, launch_settings
    from pages.examples import load_examples

    root = tmp_path_factory.mktemp("examples")
    folder = write_example(root, "first")
    stored = document(example="first")
    stored["clip"] |= {"audio": None, "digest": load_clip(folder / "clip.wav").digest}
    (folder / "comparison.json").write_text(json.dumps(stored), "utf-8")
    services = tiny_services(
        tiny_checkpoint, tiny_adapter, examples=load_examples(root), first_example="first", max_new_tokens=32
    )
    demo = build_app(services)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings())
    with httpx.Client(base_url=url, timeout=60) as client:
        yield SimpleNamespace(url=url, client=client, demo=demo, services=services, examples=root)
    demo.close()


def stored_in(page: Any) -> str:
    return page.locator(".mp-status").inner_text()


def saved_as(page: Any, path: Path) -> Path:
    page.locator(".mp-head summary", has_text="Save").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSON", exact=True).click()
    saved.value.save_as(path)
    return path


# ---- in the browser ----------------------------------------------------------------------------------------------


@browser
def test_a_result_of_an_own_sound_is_kept_and_its_link_opens_it_elsewhere(app: SimpleNamespace, tmp_path: Path) -> None:
    sound = tmp_path / "my kitchen.wav"
    sound.write_bytes(wav_bytes(make_clip(2.0)))
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app.url)
        page.locator("#clip-file").set_input_files(str(sound))
        page.get_by_text("Your sound: my kitchen.wav").wait_for(timeout=60_000)
        page.get_by_label("Question", exact=True).fill("What comes first?")
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        traces = page.locator(".mp-arms").inner_text()
        heatmap = pixels(page, ARM_ROW % 1)
        page.locator(".mp-head summary", has_text="Save").click()
        button = page.get_by_role("button", name="Copy link to this result", exact=True)
        assert "Kept here for 60 min" in button.get_attribute("title")
        page.evaluate("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
        button.click()
        page.wait_for_function("window.copied")
        link = page.evaluate("window.copied")
        assert link == page.url and "result=" in link and page.problems == []
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, link)
        assert stored_in(page) == "Stored result" and page.locator(".mp-arms").inner_text() == traces
        assert pixels(page, ARM_ROW % 1) == heatmap
        assert page.get_by_label("Question", exact=True).input_value() == "What comes first?"
        assert page.locator(".mp-stale-note").is_hidden()
        page.get_by_role("button", name="Play", exact=False).first.click()
        page.wait_for_function("document.querySelector('.mp-stage audio, audio')?.currentTime !== 0", timeout=10_000)
        page.locator(".mp-arm [data-word]").nth(2).click()
        assert "result=" in page.url and "pick=" in page.url
        page.reload()
        page.wait_for_selector(".mp-card-arm")
        assert stored_in(page) == "Stored result" and page.locator(".mp-chosen-word").count() == 1
        page.get_by_role("button", name="Ask something else of its sound").click()
        page.get_by_text("Your sound: my kitchen.flac").wait_for(timeout=60_000)
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        assert "result=" not in page.url
        page.go_back()
        page.wait_for_function("document.querySelector('.mp-status')?.textContent === 'Stored result'")
        assert page.problems == []


@browser
def test_a_result_that_was_saved_as_a_file_is_opened_again(app: SimpleNamespace, tmp_path: Path) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app.url)
        assert stored_in(page) == "Example"
        first = saved_as(page, tmp_path / "result.json")
        summary = page.locator(".mp-summary").inner_text()
    data = json.loads(first.read_text("utf-8"))
    data["id"] = "another"
    data["clip"] |= {"digest": "0" * 64, "name": "a stranger's.wav"}
    data["arms"][0]["text"] = data["arms"][0]["text"].replace("helicopter", "HELICOPTER")
    own = tmp_path / "own.json"
    own.write_text(json.dumps(data), "utf-8")
    with browser_page(viewport={"width": 390, "height": 800}) as page:
        opened(page, app.url)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open a result").click()
        chooser.value.set_files(str(first))
        page.wait_for_function("document.querySelector('.mp-status')?.textContent === 'Stored result'")
        assert page.locator(".mp-summary").inner_text() == summary and "result=" in page.url
        assert page.get_by_label("Example", exact=True).input_value() == "first"  # by its sound
        page.locator("#clip-file").set_input_files(str(own))
        page.get_by_text("A stored result of").wait_for()
        assert "HELICOPTER" in page.locator(".mp-arms").text_content()
        again = json.loads(saved_as(page, tmp_path / "again.json").read_text("utf-8"))
        assert again == {key: value for key, value in data.items() if key != "stored"} | {"opened": True}
        page.locator(".mp-history summary").click()
        page.locator(".mp-history .mp-menu-box button").nth(1).click()
        assert "HELICOPTER" not in page.locator(".mp-arms").text_content()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390 and page.problems == []


@browser
def test_a_file_that_is_no_result_is_refused_where_it_was_chosen(app: SimpleNamespace, tmp_path: Path) -> None:
    made = json.loads(json.dumps(document(), allow_nan=False))
    cases = {
        "broken": ('{"format":', "not JSON"),
        "other": ('{"some": "settings"}', "Download JSON"),
        "spy": (
            json.dumps(made | {"clip": made["clip"] | {"audio": "https://example.com/spy.wav"}}),
            "clip.audio",
        ),
        "large": ("[" + "0," * (RESULT_BYTES // 2) + "0]", "at most 8 MB"),
    }
    hostile = copy.deepcopy(made)
    hostile["question"]["text"] = hostile["clip"]["name"] = hostile["credits"] = hostile["created"] = HOSTILE
    hostile["arms"][0] |= {"name": HOSTILE, "model": HOSTILE, "answer": HOSTILE, "problems": [HOSTILE]}
    hostile["clip"]["digest"] = "1" * 64
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        opened(page, app.url)
        for name, (text, says) in cases.items():
            file = tmp_path / f"{name}.json"
            file.write_text(text, "utf-8")
            page.locator("#clip-file").set_input_files(str(file))
            page.locator("#mp-error-audio", has_text=says).wait_for(timeout=20_000)
            assert stored_in(page) == "Example" and "result=" not in page.url
        file = tmp_path / "hostile.json"
        file.write_text(json.dumps(hostile), "utf-8")
        page.locator("#clip-file").set_input_files(str(file))
        page.wait_for_function("document.querySelector('.mp-status')?.textContent === 'Stored result'")
        page.wait_for_timeout(500)
        assert page.evaluate("window.pwned") is None and "onerror" in page.locator(".mp-head").inner_text()
        assert all(url.startswith((app.url, "data:", "blob:")) for url in requests) and page.problems == []


@browser
def test_a_link_whose_result_is_gone_says_so_and_opens_the_rest(app: SimpleNamespace) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, f"{app.url}?result=nothing")
        assert "not kept here any more" in page.locator("#mp-error-audio").inner_text()
        assert stored_in(page) == "Example" and page.problems == []


@browser
def test_a_file_equal_to_an_example_shows_the_sounds_that_it_is_scored_against(app: SimpleNamespace) -> None:
    own = ".mp-row-lane:not(.mp-row-opinion) .mp-region"
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app.url)
        page.locator("#clip-file").set_input_files(str(app.examples / "first" / "clip.wav"))
        page.get_by_text("Your sound: clip.wav").wait_for(timeout=60_000)
        assert "It is the sound of the example" in page.locator(".mp-sound-note").inner_text()
        before = page.locator(own).evaluate_all("nodes => nodes.map((node) => node.getAttribute('aria-label'))")
        assert len(before) == 3 and before[0].startswith("dog bark")
        page.get_by_label("Question", exact=True).fill("What comes first?")
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        assert page.locator(own).count() == 3 and page.locator(f"{own}[data-event='2']").count() == 1
        for _ in range(3):  # who empties the list is scored against what the example has, and sees it
            page.locator(own).first.press("Delete")
        assert page.locator(own).count() == 0
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        assert page.locator(own).count() == 3 and page.problems == []


@browser
def test_the_lane_goes_back_with_the_history(app: SimpleNamespace) -> None:
    own = ".mp-row-lane:not(.mp-row-opinion) .mp-region"
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app.url)
        page.locator(own).first.press("Delete")
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        assert page.locator(own).count() == 2 and "events that you listed" in page.locator(".mp-arms").inner_text()
        page.locator(".mp-history summary").click()
        page.locator(".mp-history .mp-menu-box button").nth(1).click()
        assert stored_in(page) == "Example" and page.locator(own).count() == 3
        assert page.locator(".mp-stale-note").is_hidden() and page.problems == []


# ---- over the wire -----------------------------------------------------------------------------------------------


def test_what_is_stored_comes_back_and_nothing_else_does(app: SimpleNamespace) -> None:
    made = json.loads(json.dumps(document(), allow_nan=False))
    names = [app.client.post("/results", json=made | {"stored": True}).json()["id"] for _ in range(2)]
    assert len(set(names)) == 2 and min(map(len, names)) >= 20
    reply = app.client.get(f"/results/{names[0]}")
    assert reply.json() == made | {"opened": True} and "no-store" in reply.headers["cache-control"]
    plain = app.client.get(f"/results/{names[0]}", headers={"Accept-Encoding": "identity"})
    assert plain.json() == reply.json()
    for other in ("nothing", "..%2f..%2fetc%2fpasswd", names[0][:-1]):
        assert app.client.get(f"/results/{other}").status_code == 404


def test_what_strangers_send_is_refused_in_words(app: SimpleNamespace) -> None:
    made = json.loads(json.dumps(document(), allow_nan=False))
    deep = "[" * 100_000 + "]" * 100_000
    for content, says in (
        (b"\xff\xfe", "not JSON"),
        (deep.encode(), "not JSON"),
        (b"[1, 2]", "object is needed"),
        (json.dumps(made | {"version": 1}).encode(), "version 2"),
        (json.dumps(made | {"status": "running"}).encode(), "had not ended"),
        (json.dumps(made | {"arms": made["arms"] * 3}).encode(), "6 arms"),
        (json.dumps(made).replace('"token_count": ', '"token_count": 1e999, "x": ').encode(), "arms.0"),
        (json.dumps(made | {"surprise": 1}).encode(), "surprise"),
    ):
        reply = app.client.post("/results", content=content, headers={"Content-Type": "application/json"})
        assert reply.status_code == 422 and says in reply.json()["error"], reply.text[:300]
    assert app.client.post("/results", content=json.dumps(made)).status_code == 415  # as a form of another site sends
    much = b" " * (RESULT_BYTES + 1)
    assert app.client.post("/results", content=much, headers={"Content-Type": "application/json"}).status_code == 413


def test_an_operator_may_forbid_keeping_and_files_open_all_the_same(app: SimpleNamespace) -> None:
    services = app.demo.services
    app.demo.services = replace(services, keep_results_min=0)
    try:
        reply = app.client.post("/results", json=json.loads(json.dumps(document())))
        assert reply.status_code == 200 and reply.json() == {"id": None} and not len(app.demo.services.results)
    finally:
        app.demo.services = services


def test_results_go_with_their_time_and_who_holds_most_gives_back_first() -> None:
    now = [0.0]
    kept = Kept(100, kept_s=60.0, clock=lambda: now[0])
    kept.keep("mine", "me", bytes(30))
    for number in range(5):
        now[0] += 1
        kept.keep(str(number), "greedy", bytes(30))
    assert kept.get("mine") == kept.get("4") == bytes(30) and kept.get("0") is None and len(kept) == 3
    now[0] = 61.0
    assert kept.get("mine") is None and kept.get("4") == bytes(30)
