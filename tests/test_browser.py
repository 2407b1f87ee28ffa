"""Journeys through the Compare tab in a real browser, with the real engine on small random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip

from mpar2.attention import attention_ratio, corrected_ratio, heatmap
from mpar2.audio import wav_bytes
from mpar2.engines.transformers import TransformersEngine
from mpar2.formats import Limits
from mpar2.question import Question
from mpar2.trace import Span
from pages.export import script, to_html, view_js
from pages.services import Offer, Services
from testing.browser import ARMS, TRACES, browser_page, chromium, document, generation, write_example

pytest.importorskip("gradio")
pytest.importorskip("playwright")
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
    services = Services(
        engine=TransformersEngine(),
        offers=(
            Offer("small-base", str(tiny_checkpoint), None),
            Offer("small-mpar2", str(tiny_checkpoint), str(tiny_adapter)),
        ),
        examples=examples,
        first_example="first",
        limits=Limits(max_seconds=8.0),
        max_new_tokens=48,
    )
    demo = build_app(services)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings())
    yield url
    demo.close()


def opened(page: Any, url: str) -> Any:
    page.goto(url)
    page.wait_for_selector(".mp-arm", timeout=30_000)
    return page


def finished(page: Any) -> None:
    page.wait_for_function(
        "document.querySelector('.mp-eyebrow')?.textContent === 'Finished comparison'", timeout=120_000
    )


def heat(page: Any, arm: int) -> str:
    return page.evaluate(f"document.querySelectorAll('.mp-heat')[{arm}].toDataURL()")


def test_the_first_screen_is_a_finished_comparison_to_explore(app: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        opened(page, app)
        assert page.locator(".mp-eyebrow").inner_text() == "Stored comparison"
        assert page.locator(".mp-chip").all_inner_texts() == ["✗ wrong", "✓ correct"]
        assert page.locator("mark.mp-hallucinated").count() >= 1
        assert page.locator(".mp-words").first.inner_text().startswith("tiny-base gives the audio")

        page.locator('.mp-arm[data-arm="1"]').get_by_role("button", name="Perception", exact=True).click()
        chosen = page.locator('.mp-arm[data-arm="1"] .mp-selection')
        assert "Perception" in chosen.inner_text() and chosen.locator("[data-hear]").count() >= 1
        page.locator('.mp-arm[data-arm="1"] [data-token]').nth(3).click()
        assert "Perception" not in chosen.inner_text()

        before = heat(page, 0)
        page.get_by_role("radio", name="Tokens", exact=True).check(force=True)
        tokens = heat(page, 0)
        page.get_by_role("radio", name="Length-corrected", exact=True).check(force=True)
        page.get_by_role("checkbox", name="Remove sinks", exact=True).check()
        corrected = heat(page, 0)
        assert len({before, tokens, corrected}) == 3
        assert "sink frame is subtracted" in page.locator(".mp-words").first.inner_text()
        page.locator('[data-picker="layers"] summary').click()
        page.locator('[data-pick="layers"]').nth(0).uncheck()
        assert page.locator('[data-picker="layers"] summary').inner_text().startswith("Layers: 2 of 3")
        assert heat(page, 0) != corrected

        trace = page.locator('.mp-arm[data-arm="0"] .mp-trace')
        trace.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        picked = page.locator('.mp-arm[data-arm="0"] .mp-picked')  # a token over the border of a mention is drawn twice
        assert len(set(picked.evaluate_all("nodes => nodes.map((node) => node.dataset.token)"))) == 1

        strip = page.locator('.mp-arm[data-arm="0"] .mp-strip-button')
        strip.nth(4).click()
        page.wait_for_function("parseFloat(document.querySelector('.mp-clock').textContent) > 0.5")
        assert page.problems == []
        assert all(url.startswith((app, "data:", "blob:")) for url in requests)


def test_a_recording_is_uploaded_asked_about_and_carried_away(app: str, tmp_path: Path) -> None:
    sound = tmp_path / "my kitchen.wav"
    sound.write_bytes(wav_bytes(make_clip(2.0)))
    with browser_page(viewport={"width": 1440, "height": 900}) as page:
        page.goto(f"{app}?q=What+comes+first%3F&choice=dog+bark&choice=bell")
        page.wait_for_function("document.querySelector('#question textarea')?.value === 'What comes first?'")
        assert page.locator("#choices textarea").input_value() == "dog bark\nbell"
        page.locator('#audio input[type="file"]').first.set_input_files(str(sound))
        page.wait_for_selector("#audio #waveform, #audio .waveform-container", timeout=20_000)
        page.get_by_role("button", name="Compare", exact=True).click()
        finished(page)
        assert "my kitchen.wav" in page.locator(".mp-facts").inner_text()
        assert page.locator(".mp-heat").count() >= 1
        page.wait_for_selector("#run:enabled", timeout=20_000)
        page.wait_for_selector("#stop:disabled", timeout=20_000)

        with page.expect_download() as saved:
            page.get_by_role("button", name="Download JSON", exact=True).click()
        data = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
        assert data["status"] == "done" and data["clip"]["name"] == "my kitchen.wav" and "example=" not in data["link"]
        with page.expect_download() as saved:
            page.get_by_role("button", name="Download page", exact=True).click()
        carried = tmp_path / "carried.html"
        saved.value.save_as(carried)
        assert page.problems == []
    with browser_page(viewport={"width": 390, "height": 800}, offline=True) as page:
        opened(page, carried.as_uri())
        assert page.locator("h2").inner_text() == "What comes first?"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.problems == []


def test_a_run_can_be_stopped_and_errors_say_what_to_do(app: str, tmp_path: Path) -> None:
    with browser_page(viewport={"width": 1200, "height": 900}) as page:
        opened(page, app)
        page.get_by_role("button", name="A second clip").click()  # nothing is stored for it, so it runs at once
        # Pressed in the page, as soon as it can be: the small model may be done before a mouse gets there.
        press = "(() => { const b = document.querySelector('#stop'), y = !b.disabled; if (y) b.click(); return y })()"
        page.wait_for_function(press, timeout=60_000, polling=20)
        page.wait_for_function("document.querySelector('#run').disabled === false", timeout=60_000)
        assert page.locator(".mp-eyebrow").inner_text() in ("Stopped before the end", "Finished comparison")
        page.locator("button", has_text="Truth and judge").click()
        page.locator("#answer textarea, #answer input").first.fill("<img src=x onerror=window.pwned=1>")
        page.get_by_role("button", name="Compare", exact=True).click()
        page.locator(".toast-wrap").get_by_text("onerror", exact=False).first.wait_for(timeout=20_000)
        assert page.locator(".toast-wrap img").count() == 0
        page.locator("#answer textarea, #answer input").first.fill("")
        text = tmp_path / "<img src=x onerror=window.pwned=1>.wav"
        text.write_text("this is no sound " * 50, encoding="utf-8")
        page.locator('#audio button[aria-label="Clear"]').first.click()
        page.get_by_role("button", name="Compare", exact=True).click()
        page.get_by_text("There is no audio yet", exact=False).wait_for(timeout=20_000)
        page.locator('#audio input[type="file"]').first.set_input_files(str(text))
        page.get_by_text("this is text, not audio", exact=False).first.wait_for(timeout=20_000)
        assert page.evaluate("window.pwned") is None


def test_text_of_models_and_strangers_stays_text(app: str, tmp_path: Path) -> None:
    carried = tmp_path / "hostile.html"
    hostile = document((HOSTILE, f"<perception>{HOSTILE}</perception><answer>{HOSTILE}</answer>"))
    hostile["clip"]["name"] = hostile["question"]["text"] = hostile["arms"][1]["name"] = HOSTILE
    hostile["truth"]["events"][0]["label"] = HOSTILE
    carried.write_text(to_html(hostile), encoding="utf-8")
    for address in (f"{app}?example=hostile", carried.as_uri(), f"{app}?q={HOSTILE[:60]}&choice=${{window.pwned=9}}"):
        with browser_page(viewport={"width": 1200, "height": 900}) as page:
            page.goto(address)
            page.wait_for_selector(".mp-arm" if "?q=" not in address else "#question textarea", timeout=30_000)
            page.wait_for_timeout(600)
            for index in range(page.locator(".mp-view details summary").count()):
                page.locator(".mp-view details summary").nth(index).click(force=True)
            for mark in page.locator("mark[data-mention], .mp-event").all()[:4]:
                mark.hover(force=True)
            page.wait_for_timeout(200)
            assert page.evaluate("window.pwned") is None, address
            assert page.locator(".mp-view img, .mp-view script, .mp-view iframe").count() == 0
            if "?q=" not in address:
                assert HOSTILE in page.locator(".mp-headline h2").inner_text()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_nothing_scrolls_sideways_and_both_themes_draw(app: str, width: int, scheme: str) -> None:
    with browser_page(viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        opened(page, app)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ink, paper = page.evaluate(
            "(() => { const s = getComputedStyle(document.querySelector('.mp-arm h3')); "
            "return [s.color, getComputedStyle(document.querySelector('.mp-arm')).backgroundColor]; })()"
        )
        assert _contrast(ink, paper) > 7
        assert page.problems == []


def test_a_mention_that_is_pointed_at_shows_its_event_and_where_it_listened() -> None:
    made = document()
    arm, number, mention = next(
        (index, number, mention)
        for index, arm in enumerate(made["arms"])
        for number, mention in enumerate(arm["cafe"]["mentions"])
        if mention["kind"] == "matched"
    )
    lit = "#view .mp-event.mp-lit"
    with browser_page() as page:
        page.set_content("<div id=view class=mp-view></div>")
        page.add_script_tag(content=f"{view_js()}\nwindow.mount = mountComparison;")
        page.evaluate("(made) => mount(document.getElementById('view'), {}).show(made)", made)
        side = page.locator(f'.mp-arm[data-arm="{arm}"]')
        side.locator(f'mark[data-mention="{number}"]').first.dispatch_event("mouseover")
        events = page.locator(lit).evaluate_all("(nodes) => nodes.map((node) => Number(node.dataset.event))")
        assert sorted(set(events)) == mention["events"] and side.locator(".mp-within, .mp-picked").count()
        assert mention["quote"] in side.locator(".mp-selection").inner_text()
        page.locator("#view h2").first.dispatch_event("mouseover")
        assert page.locator(lit).count() == 0 and side.locator(".mp-within, .mp-picked").count() == 0
        side.locator(".mp-trace").focus()
        for _ in made["arms"][arm]["tokens"]:  # the same by keyboard
            page.keyboard.press("ArrowRight")
            if side.locator(f'mark[data-mention="{number}"] .mp-picked').count():
                break
        assert page.locator(lit).count() and page.problems == []


def test_the_browser_computes_what_the_library_computes() -> None:
    code = script("dom.js") + script("data.js")
    for index, sink in ((0, True), (1, False)):
        made = generation(ARMS[index], TRACES[index], Question("?"), sink=sink)
        arm = document()["arms"][index]
        with browser_page() as page:
            for layers, heads, corrected, remove in (([], [], False, False), ([0, 2], [1], True, sink)):
                settings = {
                    "rows": "tokens",
                    "corrected": corrected,
                    "removeSinks": remove,
                    "layers": layers,
                    "heads": heads,
                }
                found = page.evaluate(
                    f"([arm, settings]) => {{ {code}; const found = reduceAttention(arm, settings); "
                    "return { sinks: found.sinks, "
                    "rows: found.rows.map((row) => [Array.from(row.values), row.share]) }; }",
                    [arm, settings],
                )
                chosen = (layers or None, heads or None)
                expected = heatmap(
                    made.attention, None, *chosen, correction="length" if corrected else "none", remove_sink=remove
                )
                values = np.array([row[0] for row in found["rows"]])
                # Subtracting a sink leaves the difference of two large numbers, each kept to one byte.
                loose = expected.values.max() / (40 if remove else 120)
                assert np.abs(values - expected.values).max() <= loose
                assert tuple(found["sinks"]) == expected.subtracted
                share = (corrected_ratio if corrected else attention_ratio)(made.attention, *chosen)
                assert np.allclose([row[1] for row in found["rows"]], share, rtol=0.01)
            settings = {"rows": "parts", "corrected": False, "removeSinks": False, "layers": [], "heads": []}
            groups = page.evaluate(
                f"([arm, settings]) => {{ {code}; return reduceAttention(arm, settings).rows.map("
                "(row) => [row.start, row.stop, row.unit.name, Array.from(row.values)]); }",
                [arm, settings],
            )
            by_part = heatmap(made.attention, [Span(start, stop) for start, stop, _, _ in groups])
            assert np.abs(np.array([row[3] for row in groups]) - by_part.values).max() <= by_part.values.max() / 120
            names = [name for _, _, name, _ in groups]
            assert names[0] == ("Sentence 1" if index == 0 else "Perception") and len(names) >= 4


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of two CSS colours (WCAG 2)."""

    def luminance(colour: str) -> float:
        channels = [float(value) / 255 for value in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)
