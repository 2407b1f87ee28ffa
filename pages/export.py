"""The comparison view as one script and one style sheet, and the exported page of a comparison.

The exported page is self-contained and makes no requests: its content security policy allows only its own script (by
hash), its styles, and audio from data URIs. The document is embedded as JSON in a script element of a type that no
browser runs, with ``<``, ``>`` and ``&`` escaped, so that no text can end the element.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from pathlib import Path
from typing import Any

from analysis.bundle import bundle

VIEW = Path(__file__).resolve().parent / "view"

SLOT = "@@MPAR2_DOCUMENT@@"  # the same as in comparison.js
_PAGE_STYLE = """
body { margin: 0; background: #f5f7f9; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { body { background: #10141b; } }
main { max-width: 90rem; margin: 0 auto; padding: 1rem 1.25rem 3rem; }
.brand { font: 600 13px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #5a6370; }
@media (prefers-color-scheme: dark) { .brand { color: #a3adba; } }
"""

_START = """
const view = mountComparison(document.getElementById("view"), {});
view.show(JSON.parse(document.getElementById("document").textContent));
document.addEventListener("keydown", (event) => { if (!event.defaultPrevented) view.onKey(event); });
"""


@cache
def view_js() -> str:
    """Return all scripts of the comparison view; they define ``mountComparison``."""
    return bundle(VIEW / "comparison.js")


@cache
def view_css() -> str:
    """Return the styles of the view."""
    return (VIEW / "view.css").read_text(encoding="utf-8")


@cache
def page_shell() -> str:
    """Return the exported page with :data:`SLOT` in the place of the document."""
    # The slot must not occur in the script itself, where a replacement would break it.
    name, quoted = json.dumps(SLOT), json.dumps(SLOT[:4]) + " + " + json.dumps(SLOT[4:])
    script = "(() => {\n" + view_js().replace(name, quoted) + _START + "})();"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; media-src data:; img-src data:"
    )
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>MPAR² comparison</title><style>{_PAGE_STYLE}{view_css()}</style></head><body><main>",
            '<p class="brand">MPAR² · audio reasoning, side by side</p>',
            '<div id="view" class="mp-view mp-auto"><noscript>This page draws the comparison with a script of its own; '
            "allow scripts to read it.</noscript></div></main>",
            f'<script type="application/json" id="document">{SLOT}</script>',
            f"<script>{script}</script></body></html>",
        )
    )


def to_html(document: dict[str, Any]) -> str:
    """Return a comparison document as a self-contained page."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return page_shell().replace(SLOT, text)
