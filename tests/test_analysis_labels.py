"""Every label of a figure is there, whole enough to be told from the others, and inside its figure: wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from mpar2.runs.lines import dump_json
from pages.analysis import GROUPS
from pages.analysis_process import _values
from pages.analysis_runs import Shelf
from testing.browser import browser_page, chromium
from testing.synthetic import FakeArm, write_run
from tests.test_analysis_page import drawn_figure, opened, serve

pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium found: figures are drawn in a browser")

_INSIDE = """node => { const box = node.querySelector('.main-svg').getBoundingClientRect();
  return [...node.querySelectorAll('.xtick text, .ytick text, .g-xtitle text, .legend')].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.left < box.left - 1 || own.right > box.right + 1 || own.bottom > box.bottom + 1;
  }).map((text) => text.textContent); }"""


def in_this_process(what: str, root: Path, sent: Mapping[str, Any], mine: bytes | None = None) -> Iterator[Any]:
    """What the child process answers, from here, where more arms may be drawn than the app draws."""
    for value in _values(what, root, sent, mine or b""):
        yield json.loads(dump_json(value))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("many")
    arms = [FakeArm(f"mpar2 with control {n} of twelve", "mpar2", 2.0 - 0.2 * n, 0.0, 20 + 12 * n) for n in range(12)]
    write_run(root / "scenes", 40, arms)
    patch = pytest.MonkeyPatch()
    patch.setattr("pages.analysis_items._FIRST", len(arms))
    patch.setattr("pages.analysis.MOST_ARMS", len(arms))
    patch.setattr("pages.analysis_figures.MOST_ARMS", len(arms))
    patch.setattr("pages.analysis.values_of", in_this_process)
    demo, url = serve(Shelf(root))
    yield url
    demo.close()
    patch.undo()


def drawn(page: Any, name: str) -> Any:
    """The figure, after its group was chosen in the contents."""
    (group,) = (title for title, names in GROUPS if name in names)
    page.get_by_role("button", name=group, exact=True).click()
    return drawn_figure(page, name)


@pytest.mark.parametrize("width", [1440, 390])
def test_labels_are_all_there_and_distinct(app: str, width: int) -> None:
    pytest.importorskip("playwright")

    def texts(name: str, axis: str) -> list[str]:
        return page.locator(f"#exhibit-{name} .{axis}tick text").evaluate_all(
            "nodes => nodes.map((node) => node.textContent)"
        )

    with browser_page(viewport={"width": width, "height": 1000}) as page:
        opened(page, app)
        for name in ("arms", "slopes", "correlations", "frontier", "cafe"):
            figure: Any = drawn(page, name)
            assert figure.evaluate(_INSIDE) == [], f"{name}: labels leave the figure"
            assert figure.locator(".nsewdrag").first.bounding_box()["height"] > 120, f"{name}: no room for the plot"
        for name, axis, count in (("arms", "x", 12), ("slopes", "y", 24), ("correlations", "y", 72)):
            found = texts(name, axis)
            assert len(set(found)) == len(found) == count, f"{name}: {found}"
        assert page.problems == []


def test_lists_and_tables_are_readable_on_a_phone(app: str) -> None:
    pytest.importorskip("playwright")
    with browser_page(viewport={"width": 390, "height": 800}) as page:
        opened(page, app)
        figure = drawn(page, "arms")
        figure.locator("summary", has_text="Points as a list").click()
        cut = "nodes => nodes.filter((node) => node.scrollHeight > node.clientHeight + 1).length"
        points = figure.locator(".an-points button")
        points.last.wait_for()
        assert points.count() == 12 and points.evaluate_all(cut) == 0
        points.first.click()
        page.locator(".an-items .an-chip").first.wait_for(timeout=60_000)
        assert page.locator(".an-items tbody .an-item").evaluate_all(cut) == 0
        page.get_by_role("button", name="The paper", exact=True).click()
        page.wait_for_selector("#paper #exhibit-paper-claims td", timeout=90_000)
        says = page.locator("#paper #exhibit-paper-claims td:nth-child(2)").first
        assert says.bounding_box()["width"] > 150
        assert page.evaluate("document.documentElement.scrollWidth") <= 390 and page.problems == []
