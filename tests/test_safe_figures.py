"""The payloads of ``testing.hostile.texts`` as arms, categories, traces and labels of a run: in figures and reports."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.choice import Choice
from analysis.exhibit import to_csv
from analysis.exhibits import build_exhibits
from analysis.load import load_runs
from analysis.report import plotly_js, report_html
from analysis.report import view_js as exhibits_js
from testing.hostile.texts import TEXTS
from testing.synthetic import FakeArm, write_run
from tests.test_safe_output import PROVOKE, guarded_page, in_browser, untouched


@pytest.fixture(scope="module")
def exhibits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any]]:
    """A run in which every text is a payload: six of arms, the others of items, categories, questions and traces."""
    names = [text[:200] for text in TEXTS if "|" not in text]
    chosen = [names[index * len(names) // 6] for index in range(6)]
    arms = tuple(FakeArm(name, "cot" if index else "direct") for index, name in enumerate(chosen))
    folder = write_run(tmp_path_factory.mktemp("runs") / "<img src=x onerror=window.pwned=1>", len(TEXTS), arms)
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    for number, line in enumerate(lines):
        text = TEXTS[number // len(arms)]
        line["item"] |= {name: text for name in ("question", "category", "sub_category", "domain", "difficulty")}
        line["item"]["events"][0]["label"] = text
        line |= {"text": text, "answer": text, "choice": text, "prediction": text}
        line["token_ends"] = [len(text)]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    table = load_runs([folder])
    return table, build_exhibits(table)


@in_browser
def test_figures_tables_and_hover_texts_show_payloads_as_text(exhibits: tuple[Any, list[Any]]) -> None:
    with guarded_page() as page:
        page.set_content("<div class=an-view id=view></div>")
        page.add_script_tag(content=plotly_js())
        page.add_script_tag(content=f"{exhibits_js()}\nwindow.mount = mountExhibits;")
        value = {"exhibits": [exhibit.to_json() for exhibit in exhibits[1]], "dark": {}, "message": "<img src=x>"}
        page.evaluate("window.shown = mount(document.getElementById('view'), { plotly: async () => Plotly })")
        page.evaluate("(value) => shown.show(value)", value)
        page.wait_for_selector("#view .main-svg", timeout=60_000)
        page.evaluate(f"({PROVOKE})(document.getElementById('view'))")
        hover = (
            "(plot) => plot.data.forEach((_, curve) => Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: 0 }]))"
        )
        for plot in page.locator("#view .js-plotly-plot").all():
            plot.evaluate(hover)
        untouched(page)
        elements = page.locator("#view").locator("img, iframe, object, embed, link, base, form, video, script, math")
        assert elements.count() == 0
        assert page.locator("#view a[*|href^='javascript'], #view a[*|href*='evil']").count() == 0


@in_browser
def test_a_report_runs_and_fetches_nothing(exhibits: tuple[Any, list[Any]], tmp_path: Path) -> None:
    table, drawn = exhibits
    report = tmp_path / "report.html"
    report.write_bytes(report_html(table, Choice(), drawn).encode("utf-8", "replace"))
    with guarded_page(tmp_path.as_uri()) as page:
        page.goto(report.as_uri())
        page.wait_for_selector(".main-svg", timeout=60_000)
        page.evaluate(f"({PROVOKE})(document.body)")
        untouched(page)
        assert page.locator("main").locator("img, iframe, object, embed, base, form, video, script").count() == 0


def test_no_cell_of_a_table_is_a_formula(exhibits: tuple[Any, list[Any]]) -> None:
    for exhibit in exhibits[1]:
        cells = [cell for row in csv.reader(io.StringIO(to_csv(exhibit.table))) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))], exhibit.name
    for text in TEXTS:
        cell = to_csv(pd.DataFrame({"a": [text]})).split("\n", 1)[1].lstrip('"')
        assert not cell.startswith(("=", "+", "@", "-")), text
