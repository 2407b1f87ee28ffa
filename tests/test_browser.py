"""Journeys through the Compare tab in a real browser, with the real engine on small random weights."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip

from mpar2.audio import wav_bytes
from pages.examples import EXAMPLES
from pages.export import to_html, view_js
from testing.browser import TRACES, browser_page, chromium, document, tiny_services, write_example

pytest.importorskip("gradio")
pytest.importorskip("playwright")
VIEW = Path(__file__).resolve().parents[1] / "pages" / "view"
pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium found: the journeys need a browser")

HOSTILE = (
    "<img src=x onerror=\"window.pwned='markup'\"><script>window.pwned='script'</script>"
    "${window.pwned='template'}{{constructor.constructor(\"window.pwned='handlebars'\")()}}`'\"</script>"
)


@pytest.fixture(scope="module")
def app(tiny_checkpoint: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from pages import build_app, launch_settings
    from pages.examples import load_examples

    root = tmp_path_factory.mktemp("examples")
    stored = document(example="first")
    write_example(root, "first", stored=stored | {"clip": stored["clip"] | {"audio": None}})
    write_example(root, "second", title="A second clip", seconds=5.0, answer="Once")
    hostile = document((HOSTILE, f"<perception>{HOSTILE}</perception><answer>{HOSTILE}</answer>"))
    hostile["clip"] |= {"audio": None, "name": HOSTILE, "warnings": [HOSTILE]}
    hostile["question"] |= {"text": HOSTILE, "choices": [HOSTILE, "b"], "answer": HOSTILE}
    hostile["truth"]["events"][0]["label"] = HOSTILE
    hostile["credits"] = HOSTILE
    hostile["arms"][0] |= {"name": HOSTILE, "model": HOSTILE, "warnings": [HOSTILE], "problems": [HOSTILE]}
    for mention in hostile["arms"][0]["cafe"]["mentions"]:
        mention["reason"] = HOSTILE
    write_example(root, "hostile", title=HOSTILE, question=HOSTILE, seconds=5.5, stored=hostile)
    examples = load_examples(root)
    services = tiny_services(tiny_checkpoint, tiny_adapter, examples=examples, first_example="first", max_new_tokens=48)
    demo = build_app(services)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings())
    yield url
    demo.close()


def opened(page: Any, url: str) -> Any:
    page.goto(url)
    page.wait_for_selector(".mp-card-arm", timeout=60_000)
    page.wait_for_selector("#mp-first", state="detached", timeout=60_000)  # Gradio is there
    return page


def finished(page: Any) -> None:
    page.wait_for_function(
        "document.querySelector('.mp-status')?.textContent === 'Your result' && document.querySelector('#stop').hidden",
        timeout=90_000,
    )


def pixels(page: Any, canvas: str) -> str:
    """The pixels of a canvas."""
    page.wait_for_timeout(150)  # drawn in the next frame
    return page.eval_on_selector(canvas, "canvas => canvas.toDataURL()")


ARM_ROW = ".mp-arm-rows .mp-row[data-arm='%d'] canvas"


def mounted(page: Any, made: dict[str, Any], options: str = "{}") -> Any:
    """The view alone, on an empty page, with a document."""
    page.set_content("<div id=view class=mp-view></div>")
    page.add_style_tag(content=(VIEW / "view.css").read_text("utf-8"))
    page.add_script_tag(content=f"{view_js()}\nwindow.mount = mountComparison;")
    page.evaluate(
        f"(made) => {{ window.view = mount(document.getElementById('view'), {options}); view.show(made); }}", made
    )
    page.wait_for_timeout(300)
    return page


# ---- journeys ----------------------------------------------------------------------------------------------------


def test_a_visitor_sees_an_example_at_once_and_lights_what_belongs_together(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        opened(page, app)
        cards = page.locator(".mp-card-arm")
        assert cards.count() == 2 and "✗ wrong" in cards.nth(0).inner_text() and "✓ right" in cards.nth(1).inner_text()
        assert "of 3 claims right" in cards.nth(0).inner_text() or "claims right" in cards.nth(0).inner_text()
        before = pixels(page, ARM_ROW % 1)
        arm = page.locator(".mp-arm[data-arm='1']")
        arm.get_by_role("button", name="Hears", exact=True).click()
        chosen = page.locator(".mp-chosen")
        assert "Perception" in chosen.inner_text() and chosen.locator("[data-hear]").count() >= 1
        assert pixels(page, ARM_ROW % 1) != before  # the row shows that passage now
        assert arm.locator(".mp-within").count() > 5
        box = chosen.bounding_box()
        assert 0 <= box["y"] <= 900  # what it says is in sight

        arm.locator("[data-claim]").first.click()
        assert page.locator(".mp-region.mp-lit").count() >= 1 and arm.locator("mark.mp-lit").count() >= 1
        assert page.locator(".mp-bands i").count() >= 1
        page.locator(".mp-region").last.press("Enter")  # a true sound: its claims in every arm
        assert page.locator(".mp-claim.mp-lit").count() >= 2 and "siren" in chosen.inner_text()

        trace = arm.locator(".mp-trace")
        trace.focus()
        page.keyboard.press("ArrowRight")
        first = arm.locator(".mp-chosen-word").first.inner_text()
        page.keyboard.press("ArrowRight")
        assert arm.locator(".mp-chosen-word").first.inner_text() != first
        page.keyboard.press("Escape")
        assert page.locator(".mp-chosen-word").count() == 0
        assert page.problems == []
        assert all(url.startswith((app, "data:", "blob:")) for url in requests)


def test_the_first_screen_is_there_before_gradio_and_nothing_is_lost_when_that_comes(app: str) -> None:
    places = (
        "() => ['.mp-brand h1', '.mp-form', '#run', '.mp-card-arm', '.mp-stage', '.mp-trace'].map((name) => "
        "{ const box = document.querySelector(name).getBoundingClientRect(); return [box.x, box.y, box.width]; })"
    )
    for width in (1440, 390):
        with browser_page(viewport={"width": width, "height": 900}) as page:
            page.route("**/assets/*.js", lambda route: None)  # Gradio's, on a line that is slow enough
            page.goto(app, wait_until="commit")
            page.wait_for_selector("#mp-first .mp-card-arm", timeout=60_000)
            page.get_by_label("Question", exact=True).fill("Which sound is loud?")
            before = page.evaluate(places)
            if width == 390:
                page.get_by_role("button", name="Compare", exact=True).click()
            assert page.evaluate("!window.mpViews")
            page.unroute("**/assets/*.js")
            page.wait_for_selector("#mp-first", state="detached", timeout=60_000)
            if width == 390:  # what was pressed runs now
                finished(page)
                assert "Which sound is loud?" in page.locator(".mp-head").inner_text()
            else:
                assert page.evaluate(places) == before
                assert page.evaluate("document.activeElement.id") == "mp-field-question"
            assert page.problems == []


def test_occlusion_of_an_arm_stands_under_its_attention(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, f"{app}?example=second")
        finished(page)
        page.locator(".mp-stage-bar .mp-menu summary").click()
        page.get_by_role("button", name="Occlusion of B: 21 passes").click()
        page.locator(".mp-row-needs canvas[aria-label*='Rank correlation']").wait_for(timeout=120_000)
        assert "B needs" in page.locator(".mp-chosen").inner_text() and page.locator("#stop").is_hidden()
        assert len(set(pixels(page, ".mp-row-needs canvas"))) > 20
        assert page.problems == []


def test_settings_of_the_stage_change_what_is_drawn_and_say_so(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 1000}) as page:
        opened(page, app)
        seen = {pixels(page, ARM_ROW % 0)}
        page.get_by_label("Rows of attention").select_option("passages")
        seen.add(pixels(page, ARM_ROW % 0))
        assert page.locator(".mp-row-label").count() > 6
        page.get_by_label("Rows of attention").select_option("words")
        seen.add(pixels(page, ARM_ROW % 0))
        page.get_by_label("Rows of attention").select_option("passages")
        page.get_by_label("Attention as").select_option("length")
        seen.add(pixels(page, ARM_ROW % 0))
        assert "an even spread" in page.locator(".mp-card-arm").first.inner_text()
        page.locator(".mp-stage-bar .mp-menu summary").click()
        page.get_by_label("Hide moments that always draw attention").check()
        seen.add(pixels(page, ARM_ROW % 0))
        if not page.locator(".mp-stage-bar .mp-menu[open]").count():
            page.locator(".mp-stage-bar .mp-menu summary").click()
        page.get_by_label("Layers and heads").select_option(label="Layer 2")
        seen.add(pixels(page, ARM_ROW % 0))
        assert len(seen) == 6
        page.keyboard.press("Escape")
        assert page.locator(".mp-menu[open]").count() == 0
        assert page.problems == []


def test_the_stage_plays_seeks_selects_loops_and_zooms(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        pad = page.locator(".mp-pad")
        box = pad.bounding_box()
        clock = "parseFloat(document.querySelector('.mp-stage .mp-clock').textContent)"
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
        page.wait_for_function(f"{clock} > 3.05 && {clock} < 4")
        page.keyboard.press(" ")
        page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20, steps=4)
        page.mouse.up()
        assert page.locator(".mp-range").inner_text() == "1.5–3.0 s"
        page.get_by_role("button", name="Loop the selected", exact=False).click()
        page.wait_for_timeout(2200)
        assert 1.4 <= page.evaluate(clock) <= 3.1  # it has come round
        pad.focus()
        page.keyboard.press("Escape")
        ticks = page.locator(".mp-axis").inner_text()
        page.keyboard.press("+")
        page.wait_for_timeout(200)
        assert page.locator(".mp-axis").inner_text() != ticks
        page.mouse.wheel(0, 300)
        page.wait_for_timeout(200)
        assert page.evaluate("scrollY") > 0  # a plain wheel scrolls the page
        assert page.locator(".mp-stage").bounding_box()["y"] >= -1  # and the stage stays in sight
        assert page.problems == []


def test_playing_the_trace_writes_it_word_by_word(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        page.get_by_role("button", name="Play the trace").click()
        longest = max(int(text) for text in re.findall(r"(\d+) tokens", page.locator(".mp-summary").inner_text()))
        assert page.locator(".mp-trace-clock").inner_text().splitlines()[0].endswith(f" of {longest}")
        page.wait_for_function("document.querySelectorAll('.mp-word.mp-later').length > 5")
        late = page.locator(".mp-word.mp-later").count()
        page.wait_for_function(f"document.querySelectorAll('.mp-word.mp-later').length < {late}")
        page.get_by_label("Speed of the trace").select_option("4")
        page.wait_for_function("document.querySelectorAll('.mp-word.mp-later').length === 0", timeout=30_000)
        page.get_by_role("button", name="Show the whole trace").click()
        assert page.locator(".mp-word.mp-now, .mp-word.mp-later").count() == 0
        assert page.problems == []


def test_a_recording_is_uploaded_asked_about_and_carried_away(app: str, tmp_path: Path) -> None:
    sound = tmp_path / "my kitchen.wav"
    sound.write_bytes(wav_bytes(make_clip(2.0)))
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        page.goto(f"{app}?q=What+comes+first%3F&choice=dog+bark&choice=bell")
        page.wait_for_selector(".mp-form", timeout=60_000)
        question = page.get_by_label("Question", exact=True)
        assert question.input_value() == "What comes first?"
        page.locator("#clip-file").set_input_files(str(sound))
        page.get_by_text("Your sound: my kitchen.wav").wait_for(timeout=60_000)
        assert page.locator(".mp-card-arm").count() == 0  # nothing is said of a sound that nobody asked about
        question.fill("What comes first?")
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        assert page.locator(".mp-card-arm").count() == 3
        page.locator(".mp-fold summary", has_text="Clip, credits").click()
        assert "my kitchen.wav" in page.locator(".mp-folds").inner_text()
        page.locator(".mp-head summary", has_text="Save").click()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Download JSON", exact=True).click()
        data = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
        assert data["status"] == "done" and data["clip"]["name"] == "my kitchen.wav" and "example=" not in data["link"]
        for name, start in (("Picture (SVG)", b"<svg"), ("Picture (PNG)", b"\x89PNG")):
            page.locator(".mp-head summary", has_text="Save").click()
            with page.expect_download() as saved:
                page.get_by_role("button", name=name, exact=True).click()
            assert Path(saved.value.path()).read_bytes().startswith(start)
        page.locator(".mp-head summary", has_text="Save").click()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Download page", exact=True).click()
        carried = tmp_path / "carried.html"
        saved.value.save_as(carried)
        assert page.problems == []
    with browser_page(viewport={"width": 390, "height": 800}, offline=True) as page:
        opened(page, carried.as_uri())
        assert "What comes first?" in page.locator("h2").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.problems == []


def test_what_a_tagger_finds_in_an_own_recording_is_an_opinion_that_a_visitor_corrects(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        page.locator("#clip-file").set_input_files(str(EXAMPLES / "recording-dog-bark" / "clip.flac"))
        page.get_by_text("Your sound: clip.flac").wait_for(timeout=60_000)
        assert "machine’s opinion" in page.locator(".mp-sound-note").inner_text()
        found = page.locator(".mp-row-opinion .mp-region:not(.mp-unsure)", has_text="dog bark")
        assert "%" in found.inner_text() and "machine’s opinion" in found.get_attribute("aria-label")
        own = page.locator(".mp-row-lane:not(.mp-row-opinion) .mp-region")
        assert own.count() == 0
        page.get_by_label("Question", exact=True).fill("What comes first?")
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        note = page.locator(".mp-opinion-note")
        assert "machine’s opinion" in note.inner_text() and "%" in note.inner_text()  # and how often it errs
        assert "in the clip" not in page.locator(".mp-arms").inner_text().lower()

        found.focus()
        page.keyboard.press("Alt+ArrowRight")  # its start is moved: from here on it is the visitor's
        assert own.count() == page.locator(".mp-row-opinion .mp-region:not(.mp-unsure)").count()
        assert page.evaluate("document.activeElement.matches('.mp-row-lane:not(.mp-row-opinion) .mp-region')")
        assert "dog bark" in page.locator("#mp-field-events").input_value()
        assert page.locator(".mp-stale-note").is_visible()
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        page.wait_for_function("!document.querySelector('.mp-opinion-note')")
        assert "events that you listed" in page.locator(".mp-arms").inner_text() and found.count() == 1
        assert page.problems == []


def test_what_was_typed_is_there_after_the_page_loads_itself_again(app: str) -> None:
    """As it does once a server that was lost answers again; a new visit begins with the example."""
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        question = page.get_by_label("Question", exact=True)
        own = question.input_value()
        question.fill("Which sound is the loudest?")
        if page.locator(".mp-drawer").is_hidden():
            page.get_by_role("button", name="Choices, arms, more", exact=False).click()
        page.get_by_label("Answer choices").fill("the horn\nthe rain")
        page.get_by_label("Sounds in the clip").fill("rain 0.5-1")
        page.reload()
        page.wait_for_function("document.querySelector('textarea')?.value === 'Which sound is the loudest?'")
        assert page.get_by_label("Answer choices").input_value() == "the horn\nthe rain"
        assert page.get_by_label("Sounds in the clip").input_value() == "rain 0.5-1"
        page.goto("about:blank")
        opened(page, app)
        assert page.get_by_label("Question", exact=True).input_value() == own
        assert page.problems == []


def test_several_clips_become_a_run_that_the_analysis_opens(app: str, tmp_path: Path) -> None:
    for name, seconds in (("one.wav", 1.0), ("two.wav", 1.5)):
        (tmp_path / name).write_bytes(wav_bytes(make_clip(seconds)))
    table = tmp_path / "questions.csv"
    table.write_text("audio,question,choices,answer\none.wav,What is it?,dog|bell,dog\ntwo.wav,How many?,,\n", "utf-8")
    with browser_page(viewport={"width": 1440, "height": 900}, accept_downloads=True) as page:
        opened(page, app)
        page.locator("#clip-file").set_input_files([str(tmp_path / "one.wav"), str(tmp_path / "two.wav"), str(table)])
        batch = page.locator(".mp-batch")
        batch.get_by_text("2 sounds and a table of questions").wait_for(timeout=60_000)
        assert page.evaluate("document.activeElement.textContent") == "Run them"
        page.keyboard.press("Enter")
        batch.get_by_role("button", name="Open in Analysis").wait_for(timeout=120_000)
        assert "of 4 answers" in batch.inner_text() or "of 6 answers" in batch.inner_text()
        with page.expect_download() as saved:
            batch.get_by_role("link", name="Download the run").click()
        assert Path(saved.value.path()).read_bytes().startswith(b"PK")
        batch.get_by_role("button", name="Open in Analysis").click()
        page.locator("#run-note .mp-ok").wait_for(timeout=90_000)
        page.wait_for_function("document.querySelectorAll('.an-item').length === 2", timeout=60_000)
        assert "tab=analysis" in page.url
        page.go_back()
        page.wait_for_function("document.querySelector('#comparison').offsetParent !== null")
        assert page.problems == []


def test_a_result_that_the_form_no_longer_asks_for_is_marked(app: str, tmp_path: Path) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        stale = page.locator(".mp-stale-note")
        assert stale.is_hidden()
        question = page.get_by_label("Question", exact=True)
        text = question.input_value()
        for change, back in (
            (lambda: question.fill("Something else?"), lambda: question.fill(text)),
            (
                lambda: page.get_by_label("Sounds in the clip").fill("rain"),
                lambda: page.get_by_label("Sounds in the clip").fill(""),
            ),
            (
                lambda: page.get_by_label("Mode of arm A").select_option("mpar2"),
                lambda: page.get_by_label("Mode of arm A").select_option("direct"),
            ),
        ):
            if page.locator(".mp-drawer").is_hidden():
                page.get_by_role("button", name="Choices, arms, more", exact=False).click()
            change()
            assert stale.is_visible()
            back()
            assert stale.is_hidden()
        page.get_by_label("Answer choices").fill("one\ntwo")
        assert stale.is_visible()
        sound = tmp_path / "mine.wav"
        sound.write_bytes(wav_bytes(make_clip(2.0)))
        page.locator("#clip-file").set_input_files(str(sound))
        page.get_by_text("Your sound: mine.wav").wait_for(timeout=60_000)
        assert page.get_by_label("Answer choices").input_value() == ""  # they belonged to the other clip
        assert page.locator(".mp-card-arm").count() == 0
        assert page.problems == []


def test_errors_stand_at_their_field_and_focus_goes_there(app: str, tmp_path: Path) -> None:
    with browser_page(viewport={"width": 1200, "height": 900}) as page:
        opened(page, app)
        run = page.get_by_role("button", name="Compare", exact=True)

        def refused(label: str, name: str, says: str) -> None:
            page.locator(f"#mp-error-{name}", has_text=says).wait_for(timeout=30_000)
            assert page.evaluate("document.activeElement.id") == f"mp-field-{name}", label
            assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"

        question = page.get_by_label("Question", exact=True)
        text = question.input_value()
        question.fill(" ")
        run.click()
        refused("question", "question", "Write a question first.")
        question.fill(text)
        page.get_by_role("button", name="Choices, arms, more", exact=False).click()
        answer = page.get_by_label("Right answer")
        answer.fill("<img src=x onerror=window.pwned=1>")
        run.click()
        refused("answer", "answer", "is not one of your choices")
        answer.fill("")
        events = page.get_by_label("Sounds in the clip")
        events.fill("dog bark 1,0 - 1,5\nbad line here - x\nrain")
        assert [chip for chip in page.locator(".mp-field-events + .mp-chips .mp-chip").all_inner_texts()] == [
            "dog bark 1.0–1.5 s",
            "rain",
        ]
        assert "Line 2" in page.locator("#mp-error-events").inner_text()
        run.click()
        refused("events", "events", "Line 2")
        events.fill("")
        page.get_by_label("Answer choices").fill("same\nsame")
        run.click()  # what only the server says comes to the field as well
        refused("choices", "choices", "are the same")
        page.get_by_label("Answer choices").fill("")
        page.get_by_label("Longest answer").fill("100000")
        run.click()
        refused("tokens", "max_new_tokens", "choose 1 to")
        page.get_by_label("Longest answer").fill("4")
        wrong = tmp_path / "<img src=x onerror=window.pwned=1>.wav"
        wrong.write_text("this is no sound " * 50, encoding="utf-8")
        small = tmp_path / "note.wav"
        small.write_text("this is no sound " * 50, encoding="utf-8")
        page.locator("#clip-file").set_input_files(str(small))  # a file keeps its name in what is said of it
        page.locator("#mp-error-audio", has_text="note.wav").wait_for(timeout=60_000)
        page.locator("#clip-file").set_input_files(str(wrong))
        page.locator("#mp-error-audio", has_text="this is text, not audio").wait_for(timeout=60_000)
        assert page.evaluate("window.pwned") is None and page.locator(".toast-wrap .toast-body").count() == 0


def test_a_clip_that_is_too_long_can_be_cut_where_it_stands(app: str, tmp_path: Path) -> None:
    sound = tmp_path / "long walk.wav"
    sound.write_bytes(wav_bytes(make_clip(11.0)))
    with browser_page(viewport={"width": 1200, "height": 900}) as page:
        opened(page, app)
        page.locator("#clip-file").set_input_files(str(sound))
        page.get_by_text("long walk.wav is 11 s long; the limit is 8 s.").wait_for(timeout=30_000)
        page.get_by_role("button", name="Use the first 8 s").click()
        page.get_by_text("Your sound: long walk.wav, 8.0 s").wait_for(timeout=60_000)
        assert page.problems == []


def test_a_microphone_that_is_refused_is_said(app: str) -> None:
    with browser_page(viewport={"width": 1200, "height": 900}) as page:
        opened(page, app)
        page.evaluate(
            "() => { navigator.mediaDevices.getUserMedia = async () => "
            "{ throw new DOMException('no', 'NotAllowedError'); } }"
        )
        page.get_by_role("button", name="Record", exact=True).click()
        page.locator("#mp-error-audio", has_text="The microphone is not allowed here").wait_for(timeout=10_000)


def test_a_run_can_be_stopped_and_focus_is_never_lost(app: str) -> None:
    with browser_page(viewport={"width": 1200, "height": 900}) as page:
        opened(page, app)
        page.get_by_label("Example", exact=True).select_option(
            label="A second clip, 5.0 s"
        )  # not stored: it runs at once
        # Pressed in the page, as soon as it can be: the small model may be done before a mouse gets there.
        press = "(() => { const b = document.querySelector('#stop'), y = !b.hidden; if (y) b.click(); return y })()"
        page.wait_for_function(press, timeout=60_000, polling=20)
        page.wait_for_function("document.querySelector('#stop').hidden", timeout=60_000)
        assert page.locator(".mp-status").inner_text() in ("Stopped before the end", "Your result", "Example")
        run = page.get_by_role("button", name="Compare", exact=True)
        run.focus()
        page.keyboard.press("Enter")
        finished(page)
        assert page.evaluate("document.activeElement !== document.body")
        page.locator(".mp-trace:visible").first.focus()
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.keyboard.press("Control+Enter")
        seen = "(() => { const b = document.querySelector('#stop'), { top, bottom } = b.getBoundingClientRect();"
        page.wait_for_function(f"{seen} return !b.hidden && top >= 0 && bottom <= innerHeight }})()", polling=20)
        finished(page)
        assert page.problems == []


def test_addresses_open_what_they_name_and_back_works(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        page.locator(".mp-arm[data-arm='1'] [data-claim]").nth(1).click()
        assert page.url.endswith("pick=1c1")
        address = page.url
        page.get_by_role("button", name="Next example (J)").first.click()
        page.wait_for_url("**example=**")
        page.go_back()
        page.wait_for_function("document.querySelector('.mp-claim.mp-lit') !== null", timeout=30_000)
        opened(page, address)
        page.wait_for_selector(".mp-claim.mp-lit")
        opened(page, f"{app}?example=first&arm1=small-base:direct")
        assert page.locator(".mp-stale-note").is_visible()  # other arms than the stored ones: it says so
        page.goto(f"{app}?example=nonsense")
        page.locator("#mp-error-audio", has_text="There is no example “nonsense” here").wait_for(timeout=60_000)
        page.get_by_role("tab", name="Analysis").click()
        page.wait_for_url("**tab=analysis**")
        page.go_back()
        page.wait_for_selector("#comparison .mp-form", state="visible")


def test_a_blind_test_hides_who_is_who_until_the_vote_and_counts_it(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        page.get_by_role("button", name="Blind test").click()
        shown = page.locator(".mp-result").inner_text()
        assert "tiny-base" not in shown and "MPAR²" not in shown and "✓" not in page.locator(".mp-summary").inner_text()
        assert page.locator(".mp-trace mark").count() == 0  # a mark says who heard better
        page.locator("[data-vote='0']").click()
        assert (
            page.locator(".mp-votes").inner_text().startswith("You chose ")
            and "tiny-" in page.locator(".mp-votes").inner_text()
        )
        assert "✓ right" in page.locator(".mp-summary").inner_text()


def test_a_presenter_steps_through_examples_without_the_form(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        size = "parseFloat(getComputedStyle(document.querySelector('.mp-head h2')).fontSize)"
        before = page.evaluate(size)
        page.keyboard.press("p")
        page.wait_for_function(f"{size} > {1.3 * before}")
        assert page.locator(".mp-form").is_hidden()
        title = page.locator(".mp-head h2").inner_text()
        page.locator(".mp-present-bar").get_by_role("button", name="Previous example", exact=False).click()
        page.wait_for_function("(title) => document.querySelector('.mp-head h2').innerText !== title", arg=title)
        page.get_by_role("button", name="Leave the presentation", exact=False).click()
        assert page.locator(".mp-form").is_visible()
        page.keyboard.press("?")
        page.get_by_role("heading", name="Keys").wait_for()


# ---- nothing misleads --------------------------------------------------------------------------------------------


def test_an_item_of_a_shipped_run_plays_its_sound_and_shows_where_each_arm_listened(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        page.add_init_script(
            "window.sounds = []; window.Audio = class extends Audio { constructor() { super(); sounds.push(this); } };"
        )
        page.goto(f"{app}?tab=analysis&run=held-out-recordings")
        page.wait_for_selector(".an-item", timeout=120_000)
        page.get_by_label("Which items").select_option(label="With sound and heatmaps")
        assert page.locator(".an-item").count() == 5 and "5 of 69" in page.locator(".an-items-bar").inner_text()
        page.locator(".an-item").first.click()
        page.wait_for_selector(".an-side .mp-card-arm", timeout=60_000)
        side = page.locator(".an-side")
        assert "held-out-recordings" in side.locator("header").first.inner_text()
        assert "No sound" not in side.inner_text()
        arms = side.locator(".mp-arm-rows canvas")
        assert arms.count() == side.locator(".mp-card-arm").count() > 1
        page.wait_for_timeout(300)  # drawn in the next frame
        colours = """(canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }"""
        assert all(canvas.evaluate(colours) > 20 for canvas in arms.all())
        side.get_by_role("button", name="Play (Space)").click()
        page.wait_for_function("sounds.some((sound) => sound.currentTime > 0.2 && sound.duration > 1)", timeout=30_000)
        page.go_back()  # the item has an address of its own
        side.wait_for(state="hidden")
        page.go_forward()
        page.wait_for_selector(".an-side .mp-card-arm", timeout=60_000)
        page.keyboard.press("Escape")
        side.wait_for(state="hidden")
        assert page.problems == []


def test_items_and_the_question_fit_whatever_the_width_and_print_holds_the_picture(app: str) -> None:
    lines = "(n) => { const r = document.createRange(); r.selectNodeContents(n); return r.getClientRects().length; }"
    with browser_page(viewport={"width": 390, "height": 844}) as page:
        opened(page, app)
        page.get_by_label("Question", exact=True).fill("Which sound begins after the owl and before the cat meow?")
        high = page.get_by_label("Question", exact=True).bounding_box()["height"]
        page.set_viewport_size({"width": 1440, "height": 900})
        page.wait_for_timeout(300)
        assert page.get_by_label("Question", exact=True).bounding_box()["height"] < high
        page.emulate_media(media="print")
        assert page.locator(".mp-form").is_hidden() and page.locator(".mp-stage canvas").first.is_visible()
        page.emulate_media(media="screen")
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(f"{app}?tab=analysis&run=small-scenes")
        page.wait_for_selector(".an-items .an-right", timeout=120_000)
        cells = page.locator(".an-items :is(.an-right, .an-wrong)")
        assert [cells.nth(place).evaluate(lines) for place in range(3)] == [1, 1, 1]
        assert all(0 <= cells.nth(place).bounding_box()["x"] < 390 for place in range(2))


def test_menus_of_the_analysis_open_inside_the_page(app: str) -> None:
    inside = "box => { const { left, right } = box.getBoundingClientRect(); return left >= 0 && right <= innerWidth; }"
    for width in (1440, 390):
        with browser_page(viewport={"width": width, "height": 900}) as page:
            page.goto(f"{app}?tab=analysis&run=small-scenes&run=held-out-scenes")
            page.wait_for_selector("#analysis [aria-busy=false]", timeout=120_000)
            for menu in page.locator(".an-bar .mp-menu").all():
                menu.locator("summary").click()
                page.wait_for_timeout(100)
                assert menu.locator(".mp-menu-box").evaluate(inside), (width, menu.inner_text()[:40])
                page.keyboard.press("Escape")


def test_what_is_drawn_anew_keeps_the_focus(app: str) -> None:
    held = "document.activeElement.innerText || document.activeElement.getAttribute('aria-label')"
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        page.goto(f"{app}?tab=analysis&run=held-out-recordings")
        page.wait_for_selector("#analysis [aria-busy=false]", timeout=120_000)
        sort = page.locator(".an-items thead button", has_text="tokens").first
        sort.press("Enter")
        assert page.evaluate(held).startswith("tokens")
        page.locator(".an-bar summary", has_text="Arms").click()
        box = page.locator(".an-bar input[type=checkbox]:visible:checked").first
        box.press("Space")
        page.wait_for_selector("#analysis [aria-busy=false]", timeout=60_000)
        page.wait_for_timeout(300)
        assert page.evaluate("document.activeElement.type") == "checkbox"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_ticked_control_never_looks_like_an_empty_one(app: str, scheme: str) -> None:
    from PIL import Image

    with browser_page(viewport={"width": 1440, "height": 1000}, color_scheme=scheme) as page:
        opened(page, app)
        page.get_by_role("tab", name="Analysis").click()
        page.wait_for_selector("#analysis .an-contents button", timeout=60_000)
        page.get_by_role("tab", name="Compare").click()
        page.eval_on_selector_all("#comparison .mp-menu", "menus => menus.forEach((menu) => { menu.open = true; })")
        boxes = page.locator("input[type=checkbox]:visible, input[type=radio]:visible")
        assert boxes.count() >= 1
        for index in range(boxes.count()):
            box = boxes.nth(index)
            images = []
            for on in (True, False):
                box.evaluate("(node, on) => { node.checked = on; node.blur(); }", on)
                images.append(np.asarray(Image.open(io.BytesIO(box.screenshot())).convert("RGB"), dtype=int))
            assert (np.abs(images[0] - images[1]).max(axis=2) > 60).mean() > 0.2  # filled, not only ticked
            edge = images[1][images[1].shape[0] // 2]
            assert np.abs(edge - edge[len(edge) // 2]).max() > 60  # and the empty one has a border


def test_a_quantity_of_an_arm_has_one_value_wherever_it_stands() -> None:
    made = document()
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        mounted(page, made)
        for index, arm in enumerate(made["arms"]):
            first, last = arm["attention"]["thirds"]["raw"]
            line = f"{100 * first:.0f} % → {100 * last:.0f} %"
            card = page.locator(f".mp-card-arm[data-arm='{index}']")
            assert line in card.inner_text() and line in card.locator("svg[role=img]").get_attribute("aria-label")
            counts = arm["cafe"]["counts"]
            assert f"{counts['matched']} of {counts['predicted']} claims right" in card.inner_text()
            section = page.locator(f".mp-arm[data-arm='{index}']")
            assert section.locator(".mp-claim.mp-matched").count() == counts["matched"]
            assert section.locator(".mp-claim.mp-misused").count() == counts["misused"]
            section.locator("summary", has_text="as a table").click()
            cells = section.locator("details table tbody tr td:nth-of-type(2)").all_inner_texts()
            assert cells == [f"{100 * share:.0f} %" for share in arm["attention"]["views"][0]["shares"]["raw"]]


def test_no_part_of_a_decay_line_is_cut_off() -> None:
    made = document()
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        mounted(page, made)
        points = page.eval_on_selector_all(
            ".mp-decay-line", "lines => lines.map((line) => line.getAttribute('points'))"
        )
        heights = [[float(pair.split(",")[1]) for pair in line.split()] for line in points]
        assert min(min(line) for line in heights) >= 1.9 and max(max(line) for line in heights) <= 38.1
        for line, arm in zip(heights, made["arms"], strict=True):  # no plateau where the values differ
            highest = max(arm["attention"]["course"]["raw"])
            assert line.count(min(line)) <= arm["attention"]["course"]["raw"].count(highest) + 2  # to a hundredth


def test_a_trace_is_whole_or_a_button_shows_the_rest() -> None:
    made = document(
        (TRACES[0], "<perception>" + "A dog bark at 0.5-1.2 s. " * 60 + "</perception><answer>Twice</answer>")
    )
    over = "trace => trace.scrollHeight - trace.clientHeight"
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        mounted(page, made)
        short, long = (page.locator(f".mp-arm[data-arm='{arm}']") for arm in (0, 1))
        assert short.locator(".mp-trace").evaluate(over) <= 1
        assert short.get_by_role("button", name="Show the whole trace").count() == 0
        assert long.locator(".mp-trace").evaluate(over) > 1
        long.get_by_role("button", name="Show the whole trace").click()
        assert long.locator(".mp-trace").evaluate(over) <= 1
        long.get_by_role("button", name="Fold the trace").click()
        assert long.locator(".mp-trace").evaluate(over) > 1


def test_no_right_claim_is_no_success_and_an_answer_alone_is_no_claim() -> None:
    made = document(("A helicopter passes.\nAnswer: Once", TRACES[1]))
    made["arms"][1] |= {"mode": "direct", "text": "Twice", "parts": [], "words": []}
    cafe = made["arms"][1]["cafe"]
    cafe["counts"] |= {"predicted": 0, "matched": 0, "misused": 0, "hallucinated": 0}
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        mounted(page, made)
        none = page.locator(".mp-arm[data-arm='0'] .mp-counts .mp-chip", has_text="0 of 1 claim right")
        assert "mp-matched" not in none.get_attribute("class").split()
        assert "answers only" in page.locator(".mp-card-arm[data-arm='1']").inner_text()


def test_all_that_a_click_reaches_tab_reaches(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        opened(page, app)
        page.wait_for_timeout(300)
        unreachable = page.evaluate(
            "() => Array.from(document.querySelector('#comparison').querySelectorAll('button, summary, [role=button],"
            " a, select, input')).filter((node) => node.offsetParent && !node.disabled &&"
            " node.tabIndex < 0 && !node.classList.contains('mp-hidden')).map((node) => node.outerHTML.slice(0, 120))"
        )
        assert unreachable == []
        reached = []
        for _ in range(10):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert "mp-field-question" in reached or "run" in reached, reached


def test_text_of_models_and_strangers_stays_text(app: str, tmp_path: Path) -> None:
    carried = tmp_path / "hostile.html"
    hostile = document((HOSTILE, f"<perception>{HOSTILE}</perception><answer>{HOSTILE}</answer>"))
    hostile["clip"]["name"] = hostile["question"]["text"] = hostile["arms"][1]["name"] = HOSTILE
    hostile["truth"]["events"][0]["label"] = HOSTILE
    carried.write_text(to_html(hostile), encoding="utf-8")
    for address in (f"{app}?example=hostile", carried.as_uri(), f"{app}?q={HOSTILE[:60]}&choice=${{window.pwned=9}}"):
        with browser_page(viewport={"width": 1200, "height": 900}) as page:
            page.goto(address)
            page.wait_for_selector(".mp-card-arm" if "?q=" not in address else ".mp-form", timeout=60_000)
            page.wait_for_timeout(600)
            page.eval_on_selector_all(".mp-view details", "folds => folds.forEach((fold) => { fold.open = true; })")
            for mark in page.locator("mark[data-mention], .mp-region").all()[:4]:
                mark.hover(force=True)
            page.wait_for_timeout(200)
            assert page.evaluate("window.pwned") is None, address
            assert page.locator(".mp-view img, .mp-view script, .mp-view iframe").count() == 0
            if "?q=" not in address:
                assert HOSTILE in page.locator(".mp-headline h2").inner_text()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(1440, "light"), (1440, "dark"), (1024, "light"), (768, "dark"), (390, "light"), (390, "dark")],
)
def test_nothing_scrolls_sideways_and_both_themes_draw(app: str, width: int, scheme: str) -> None:
    with browser_page(viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        opened(page, app)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ink, paper = page.evaluate(
            "(() => { const s = getComputedStyle(document.querySelector('.mp-card-arm h3')); "
            "return [s.color, getComputedStyle(document.querySelector('.mp-card-arm')).backgroundColor]; })()"
        )
        assert _contrast(ink, paper) > 7
        assert page.evaluate("document.documentElement.scrollHeight") <= (1500 if width == 1440 else 3000)
        assert page.problems == []


def test_the_first_screen_comes_fast_and_does_not_jump(app: str) -> None:
    for width in (1440, 390):
        with browser_page(viewport={"width": width, "height": 900}) as page:
            page.add_init_script(
                "window.shift = 0; new PerformanceObserver((list) => { for (const e of list.getEntries()) "
                "if (!e.hadRecentInput) window.shift += e.value; }).observe({ type: 'layout-shift', buffered: true });"
            )
            opened(page, app)  # once for the server's own first time
            start = time.perf_counter()
            page.goto(app, wait_until="commit")
            page.wait_for_selector(".mp-card-arm", timeout=60_000)
            took = time.perf_counter() - start
            page.wait_for_selector("#mp-first", state="detached", timeout=60_000)
            page.wait_for_timeout(800)
            assert page.evaluate("window.shift") <= 0.05, width
            assert took < 6  # generous: machines that test are busy; benchmarks/page.py measures


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of two CSS colours (WCAG 2)."""

    def luminance(colour: str) -> float:
        channels = [float(value) / 255 for value in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)
