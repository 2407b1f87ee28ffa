"""Accessibility: axe-core in a real browser, colours under common colour-vision deficiencies, a guide by keyboard.

axe-core (MPL-2.0) comes with the package axe-playwright-python of the test extra; it is no part of this project.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.bundle import bundle
from pages.export import VIEW, to_html
from testing.browser import browser_page, chromium, document, tiny_services, write_example

pytest.importorskip("gradio")
pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium found: the journeys need a browser")

# Rules that find faults in Gradio's own markup, which this project cannot change. Each is switched off for the named
# elements only; our own elements are held to every rule.
GRADIO = {"nested-interactive": ".toast-header"}  # a toast is a button that holds its close button


@pytest.fixture(scope="module")
def app(tiny_checkpoint: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from pages import build_app, launch_settings
    from pages.examples import load_examples

    root = tmp_path_factory.mktemp("examples")
    stored = document(example="first")
    write_example(root, "first", stored=stored | {"clip": stored["clip"] | {"audio": None}})
    services = tiny_services(
        tiny_checkpoint, tiny_adapter, examples=load_examples(root), first_example="first", max_new_tokens=32
    )
    demo = build_app(services)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings())
    yield url
    demo.close()


def findings(page: Any, *, without: tuple[str, ...] = ()) -> list[str]:
    """Serious and critical findings of axe, one line an element, but for the rules ``without``."""
    from axe_playwright_python.sync_playwright import Axe

    page.wait_for_timeout(400)  # transitions of colour must have ended, or axe measures their middle
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['target']} {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for rule in found
        if rule["impact"] in ("serious", "critical") and rule["id"] not in without
        for node in rule["nodes"]
        if not (rule["id"] in GRADIO and page.locator(GRADIO[rule["id"]]).and_(page.locator(node["target"][0])).count())
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious_in_any_tab(app: str, width: int, scheme: str) -> None:
    with browser_page(viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        page.goto(app)
        page.wait_for_selector(".mp-card-arm", timeout=60_000)
        page.wait_for_function("document.title")  # Gradio sets it when it starts
        assert (page.evaluate(LOST), findings(page)) == ([], [])
        page.locator("[data-claim]:visible").first.click()
        page.get_by_role("button", name="Choices, arms, more", exact=False).click()
        page.eval_on_selector_all("#comparison details", "folds => folds.forEach((fold) => { fold.open = true; })")
        page.get_by_label("Rows of attention").select_option("passages")
        assert (page.evaluate(LOST), findings(page)) == ([], [])
        page.get_by_role("tab", name="Analysis").click()
        page.wait_for_selector("#figures .an-exhibit", timeout=60_000)
        page.wait_for_timeout(1500)
        assert (page.evaluate(LOST), findings(page)) == ([], [])
        page.locator(".an-item").first.click()
        page.wait_for_selector(".an-side .mp-card-arm", timeout=60_000)
        assert (page.evaluate(LOST), findings(page)) == ([], [])
        page.keyboard.press("Escape")
        page.get_by_role("button", name="The paper", exact=True).click()
        page.wait_for_selector("#paper .an-exhibit", timeout=60_000)
        assert (page.evaluate(LOST), findings(page)) == ([], [])


# Text that its box cuts off, and controls beside the page, which no scrolling reaches. A sound in the clip's lane is as
# wide as it lasts, so its name may be cut: its title and the list of claims have it whole.
LOST = """() => {
  const found = [];
  const hides = (overflow) => overflow === "hidden" || overflow === "clip";
  const shown = { opacityProperty: true, visibilityProperty: true };
  for (const node of document.querySelectorAll("body *")) {
    const style = getComputedStyle(node);
    if (!node.checkVisibility(shown) || style.clipPath !== "none") continue;
    if (node.closest("svg, .mp-lane, .mp-hidden")) continue;
    if ((node.innerText || node.value || "").trim()) {
      const x = hides(style.overflowX) && node.scrollWidth > node.clientWidth + 1;
      const y = hides(style.overflowY) && node.scrollHeight > node.clientHeight + 1;
      if (x || y) found.push(`cut off: ${node.outerHTML.slice(0, 120)}`);
    }
    const letters = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const roomy = innerWidth > 20 * letters; // in less, the opened list alone has long entries whole: no select wraps
    if (roomy && node.matches("select:not(.mp-examples)") && node.selectedOptions.length) {
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = style.font;
      const arrow = 16;
      const room = node.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - arrow;
      const text = node.selectedOptions[0].text;
      if (pen.measureText(text).width > room + 1) found.push(`cut off: ${text} in ${node.outerHTML.slice(0, 80)}`);
    }
    if (!node.matches("button, summary, select, textarea, input, label, [role=tab]")) continue;
    let around = node.parentElement;
    while (around && getComputedStyle(around).overflowX !== "auto") around = around.parentElement;
    const { left, right } = node.getBoundingClientRect();
    if (!around && (left < -1 || right > innerWidth + 1))
      found.push(`beside the page: ${node.outerHTML.slice(0, 120)}`);
  }
  return found;
}"""

# What has the focus and lies behind something that sticks, going backwards through the page: forwards, a browser
# scrolls what comes next in from below.
COVERED = """(inside) => {
  const found = [];
  const stops = [...document.querySelectorAll(inside)].flatMap((part) => [
    ...part.querySelectorAll("button, summary, select, textarea, input, [tabindex='0']"),
  ]);
  for (const node of stops.filter((stop) => stop.checkVisibility() && !stop.closest(".mp-hidden")).reverse()) {
    node.focus();
    const { left, top, width, height } = node.getBoundingClientRect();
    const over = document.elementFromPoint(left + width / 2, top + Math.min(height / 2, 20));
    if (document.activeElement !== node || !over || node.contains(over) || over.contains(node)) continue;
    let sticks = over;
    while (sticks && !["sticky", "fixed"].includes(getComputedStyle(sticks).position)) sticks = sticks.parentElement;
    if (sticks && !sticks.contains(node))
      found.push(`${node.outerHTML.slice(0, 90)} behind ${sticks.className || sticks.id}`);
  }
  return found;
}"""


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_text_at_200_percent_is_whole_in_any_tab(app: str, width: int, scheme: str) -> None:
    def check(part: str) -> None:
        for _ in range(20):  # what is drawn by the width follows it a frame or two later
            if not (lost := page.evaluate(LOST)):
                break
            page.wait_for_timeout(250)
        covered = page.evaluate(COVERED, part)
        assert (lost, covered, findings(page)) == ([], [], [])
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    with browser_page(letters_px=32, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        page.goto(app)
        page.wait_for_selector(".mp-card-arm", timeout=60_000)
        page.wait_for_selector("#mp-first", state="detached", timeout=60_000)
        assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.mp-form')).fontSize)") == 28
        check("#comparison")
        page.locator("[data-claim]:visible").first.click()
        page.get_by_role("button", name="Choices, arms, more", exact=False).click()
        page.eval_on_selector_all(
            "#comparison details:not(.mp-menu)", "folds => folds.forEach((fold) => { fold.open = true; })"
        )
        page.get_by_label("Rows of attention").select_option("passages")
        check("#comparison")
        for menu in page.locator("#comparison .mp-menu:visible").all():
            menu.locator("summary").click()
            lost = page.evaluate(LOST)
            assert lost == []
            page.keyboard.press("Escape")
        page.get_by_role("tab", name="Analysis").click()
        page.wait_for_selector("#figures .an-exhibit", timeout=60_000)
        page.locator("#figures .an-figure:visible").first.scroll_into_view_if_needed()  # it is drawn when it is seen
        page.wait_for_selector("#figures .an-figure .main-svg", timeout=60_000)
        letters = "(label) => parseFloat(getComputedStyle(label).fontSize)"
        assert page.locator("#figures .an-figure:visible .xtick text").first.evaluate(letters) > 12
        check("#analysis")
        page.locator(".an-item").first.click()
        page.wait_for_selector(".an-side .mp-card-arm", timeout=60_000)
        check(".an-side")
        page.keyboard.press("Escape")
        for name, figures in (("Training", "#training"), ("The paper", "#paper")):
            page.get_by_role("button", name=name, exact=True).click()
            page.wait_for_selector(f"{figures} .an-exhibit", timeout=60_000)
            check(figures)
        assert page.problems == []


# Contrast of each element with text of its own, by computed colours. In forced colours these are the colours drawn,
# while axe reads the fill of letters, for which Chromium gives the colour before forcing.
CONTRAST = """() => {
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const seen = node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!text || !seen || node.closest("svg, :disabled")) continue;
    let under = node;
    while (under && (parts(getComputedStyle(under).backgroundColor)[3] ?? 1) < 0.5) under = under.parentElement;
    const ink = light(parts(getComputedStyle(node).color).slice(0, 3));
    const paper = light(under ? parts(getComputedStyle(under).backgroundColor).slice(0, 3) : [255, 255, 255]);
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${node.outerHTML.slice(0, 120)}`);
  }
  return found;
}"""


def forced_findings(page: Any) -> list[str]:
    return findings(page, without=("color-contrast",)) + page.evaluate(CONTRAST)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_leave_nothing_serious_and_show_what_is_chosen(app: str, scheme: str) -> None:
    with browser_page(viewport={"width": 1440, "height": 900}, color_scheme=scheme, forced_colors="active") as page:
        page.goto(app)
        page.wait_for_selector(".mp-card-arm", timeout=60_000)
        page.wait_for_selector("#mp-first", state="detached", timeout=60_000)
        page.locator("[data-claim]:visible").first.click()
        assert forced_findings(page) == []
        style = "(node) => getComputedStyle(node).backgroundColor"
        chosen, other = (
            page.locator(f"[data-claim][aria-pressed={on}]").first.evaluate(style) for on in ("true", "false")
        )
        assert chosen != other
        page.keyboard.press("?")
        assert forced_findings(page) == []
        page.get_by_role("button", name="Tour in three steps").click()
        assert forced_findings(page) == []
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="Analysis").click()
        page.wait_for_selector("#figures .an-exhibit", timeout=60_000)
        widths = "(tabs) => tabs.map((tab) => parseFloat(getComputedStyle(tab).borderBottomWidth))"
        compare, analysis = page.locator("#tabs > .tab-wrapper [role=tab]:visible").evaluate_all(widths)
        assert analysis > compare
        page.wait_for_selector(".an-item", timeout=60_000)
        assert forced_findings(page) == []
        page.locator(".an-item").first.click()
        page.wait_for_selector(".an-side .mp-card-arm", timeout=60_000)
        assert forced_findings(page) == [] and page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_page_that_is_carried_away(tmp_path: Path, scheme: str) -> None:
    carried = tmp_path / "carried.html"
    carried.write_text(to_html(document()), encoding="utf-8")
    with browser_page(viewport={"width": 1200, "height": 900}, color_scheme=scheme, bypass_csp=True) as page:
        page.goto(carried.as_uri())
        page.wait_for_selector(".mp-card-arm")
        assert findings(page) == []


EVERYBODY = np.eye(3)
# Linear RGB as people with each deficiency see it at full severity (Machado, Oliveira and Fernandes 2009).
DEFICIENCIES = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def lightness(colours: np.ndarray, matrix: Any = EVERYBODY) -> np.ndarray:
    """CIE L* of sRGB ``colours`` [n, 3] in 0-255, as seen through ``matrix``."""
    c = np.asarray(colours, dtype=float) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ np.asarray(matrix).T
    y = linear.clip(0, 1) @ (0.2126, 0.7152, 0.0722)
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_the_heatmap_gets_steadily_darker_or_lighter_for_every_eye() -> None:
    colours = bundle(VIEW / "colours.js")
    code = f"() => {{ {colours}; return [RAMPS.light.heat, RAMPS.dark.heat].map((ramp) => [...ramp]); }}"
    with browser_page() as page:
        ramps = page.evaluate(code)
    for ramp, direction in zip(ramps, (-1, 1), strict=True):
        colours = np.reshape(ramp, (256, 3))
        for matrix in (EVERYBODY, *DEFICIENCIES.values()):
            course = direction * lightness(colours, matrix)[::8]
            assert (np.diff(course) > 0).all() and course[-1] - course[0] > 60


def test_the_tour_is_walked_by_keyboard_and_gives_focus_back(app: str) -> None:
    with browser_page(viewport={"width": 1200, "height": 900}) as page:
        page.goto(app)
        page.wait_for_selector(".mp-card-arm", timeout=60_000)
        page.get_by_role("button", name="Tour", exact=True).press("Enter")
        dialog = page.locator(".mp-dialog")
        assert "1 of 3" in dialog.inner_text() and page.evaluate("document.activeElement.tagName") == "H2"
        dialog.get_by_role("button", name="Next").press("Enter")
        assert "2 of 3" in dialog.inner_text() and page.locator(".mp-stage.mp-toured").count() == 1
        dialog.get_by_role("button", name="Next").press("Enter")
        assert "3 of 3" in dialog.inner_text()
        page.keyboard.press("Escape")
        assert dialog.is_hidden() and page.locator(".mp-toured").count() == 0
        assert page.evaluate("document.activeElement !== document.body")
        assert page.problems == []
