"""Markup, scripts, styles and addresses in every text that a model or a stranger writes: a browser shows them as text.

Each payload of ``testing.hostile.texts`` goes into every field of a comparison at once, and through every view and
export. Nothing may run (``window.pwned``, dialogs), nothing may be asked of another host, no foreign element may stand
in a view. Where a view is mounted by hand, no content security policy could hide a failure.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from analysis.bundle import bundle
from mpar2.audio import AudioError, load_clip
from mpar2.engines.base import EngineError
from pages.errors import message_of
from pages.export import VIEW, to_html, view_css, view_js
from testing.browser import browser_page, chromium, document
from testing.hostile.texts import EVIL, TEXTS

in_browser = pytest.mark.skipif(chromium() is None, reason="no chromium found: the payloads need a browser")
FOREIGN = "img, script, iframe, object, embed, link, style, base, form, video, marquee, math, foreignObject, animate"
PROVOKE = """(root) => {
  for (const details of root.querySelectorAll('details')) details.open = true;
  for (const node of Array.from(root.querySelectorAll('*')).slice(0, 400))
    for (const kind of ['pointerover', 'mouseover', 'mouseenter', 'focus', 'animationstart'])
      node.dispatchEvent(new Event(kind, { bubbles: true }));
}"""


@contextmanager
def guarded_page(home: str = "about:blank") -> Iterator[Any]:
    """A page that remembers what went wrong in ``page.caught``: dialogs, and requests to any other place."""
    pytest.importorskip("playwright")
    with browser_page(viewport={"width": 1200, "height": 900}) as page:
        page.caught = []

        def guard(route: Any) -> None:
            url = route.request.url
            if url.startswith((home, "data:", "blob:")):
                route.continue_()
            else:
                page.caught.append(f"request {url}")
                route.abort()

        def dialog(shown: Any) -> None:
            page.caught.append(f"dialog {shown.message}")
            shown.dismiss()

        page.route("**/*", guard)
        page.on("dialog", dialog)
        yield page


def untouched(page: Any) -> None:
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert page.caught == []


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    made = document()
    made["clip"]["audio"] = None
    return made


def with_payload(plain: dict[str, Any], text: str) -> dict[str, Any]:
    """The document with ``text`` in every field that somebody else writes."""
    made = copy.deepcopy(plain)
    made["clip"] |= {"name": text, "warnings": [text]}
    made["question"] |= {"text": text, "choices": [text, "b"], "answer": text, "domain": text, "difficulty": text}
    made["truth"]["origin"] = text
    for event in made["truth"]["events"]:
        event["label"] = text
    made |= {"credits": text, "example": text, "link": text, "package": text, "created": text, "id": text}
    made["prompts"] = {text: text}
    for index, arm in enumerate(made["arms"]):
        arm |= {name: text for name in ("name", "model", "adapter", "answer", "choice", "unscored")}
        arm |= {"warnings": [text], "problems": [text]}
        if index == 0:
            arm["error"] = text
            stretched = (text * (len(arm["text"]) // len(text) + 1))[: len(arm["text"])]
            arm["text"] = stretched  # the same length, so that parts, tokens and mentions keep their places
        cafe = arm.get("cafe") or {}
        cafe |= {name: text for name in ("judge", "model", "model_version", "truth_origin", "source") if name in cafe}
        for mention in cafe.get("mentions", []):
            mention |= {name: text for name in ("label", "quote", "reason", "evidence") if name in mention}
        for target in [*cafe.get("targets", []), *cafe.get("missed", [])]:
            if isinstance(target, dict) and "label" in target:
                target["label"] = text
    return made


@in_browser
def test_every_payload_in_every_field_of_a_comparison(plain: dict[str, Any]) -> None:
    with guarded_page() as page:
        page.set_content(f"<style>{view_css()}</style><main><div id=view class=mp-view></div></main>")
        page.add_script_tag(content=f"{view_js()}\nwindow.mount = mountComparison;")
        page.evaluate("window.view = mount(document.getElementById('view'), {})")
        for text in TEXTS:
            page.evaluate("(made) => view.show(made)", with_payload(plain, text))
            page.evaluate(f"({PROVOKE})(document.getElementById('view'))")
            assert page.locator("#view").locator(FOREIGN).count() == 0, text
            shown = page.evaluate("document.querySelector('#view h2').lastChild.textContent")
            assert shown.split() == text.replace("\0", "\ufffd").split() or shown.split() == text.split(), text
            assert page.evaluate("window.pwned") is None, text
        untouched(page)
        assert page.problems == []


@in_browser
def test_every_payload_in_the_form_of_the_compare_tab() -> None:
    """Cards, suggestions, arms and judges from the server, and the messages that it writes beside a field."""
    with guarded_page() as page:
        page.set_content("<main><div id=view></div></main>")
        page.add_script_tag(content=f"{bundle(VIEW / 'compare.js')}\nwindow.mount = mountCompare;")
        for text in TEXTS:
            card = {"name": text, "title": text, "group": "Others", "shows": text, "seconds": 1, "url": None}
            setup = {
                "examples": [card | {"question": text, "choices": [text], "answer": text, "events": []}],
                "first": None,
                "offers": [text],
                "modes": {text: [text, text]},
                "arms": [[text, text]],
                "judges": [["rules", text, False, False]],
                "suggested": {"questions": [{"text": text, "choices": [text]}], "note": text},
                "shell": "none",
                "most_seconds": 60,
                "most_tokens": 100,
                "most_question": 1000,
                "most_clips": 50,
                "real_models": [[text, text, text]],
            }
            page.evaluate(
                """([setup, text]) => {
                  const root = document.getElementById('view');
                  window.tab = mount(root, { setup, home: '', trigger: () => {} });
                  tab.clip({ refused: text });
                  tab.clip({ source: 'upload', name: text, seconds: 1, digest: text, warnings: [text], audio: null });
                }""",
                [setup, text],
            )
            page.evaluate(f"({PROVOKE})(document.getElementById('view'))")
            assert page.locator("#view").locator(FOREIGN.replace("form, ", "")).count() == 0, text
        untouched(page)
        assert page.problems == []


@in_browser
def test_exported_comparisons_run_and_fetch_nothing(plain: dict[str, Any], tmp_path: Path) -> None:
    """All payloads at once in one page, and the worst alone: those that end or open an element."""
    worst = [text for text in TEXTS if re.search(r"</script|<!--|</title|\]\]>|\u2028|plaintext", text)]
    with guarded_page(tmp_path.as_uri()) as page:
        for number, text in enumerate(["\n".join(TEXTS), *worst]):
            carried = tmp_path / f"{number}.html"
            carried.write_text(to_html(with_payload(plain, text)), encoding="utf-8")
            page.goto(carried.as_uri())
            page.wait_for_selector(".mp-arm", timeout=30_000)
            page.evaluate(f"({PROVOKE})(document.getElementById('view'))")
            assert page.locator("#view").locator(FOREIGN).count() == 0, text
            assert page.evaluate("window.pwned") is None, text
        untouched(page)


def test_there_are_a_hundred_payloads_of_every_sort() -> None:
    assert len(set(TEXTS)) >= 100
    for sort in ("<script", r"\bon\w+=", "javascript:", "expression|url\\(", "<svg", "=cmd"):
        assert any(re.search(sort, text, re.IGNORECASE) for text in TEXTS), sort


def test_no_payload_can_end_the_data_of_an_exported_page(plain: dict[str, Any]) -> None:
    for text in TEXTS:
        page = to_html(with_payload(plain, text))
        data = re.search(r'<script type="application/json" id="document">(.*?)</script>', page, re.DOTALL)[1]
        assert json.loads(data)["question"]["text"] == text and not re.search("[<>&]", data)


@pytest.mark.parametrize("kind", [AudioError, EngineError])
def test_messages_hold_no_tags(kind: type[Exception]) -> None:
    for text in TEXTS:
        assert not re.search("[<>]", message_of(kind(text)))
        with pytest.raises(AudioError) as caught:
            load_clip(b"", name=text)
        assert "\n" not in str(caught.value) and EVIL not in message_of(RuntimeError(text))
