"""The first screen before Gradio: the page draws the Compare tab itself, then Gradio takes it over.

Gradio loads about eighty scripts in three rounds and inserts its ``head`` after most of them, which leaves the page
empty for ten seconds on a slow line. So the page begins with the header and a small script. The script draws the tab
with the tab's own module from the setup in the page, and then starts Gradio's script. When Gradio has created its
component, the drawn tab moves into it, and pending clicks are sent.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ENTRY = re.compile(r'<script type="module" crossorigin src="([^"]+)"></script>')
_BASE = re.compile(r"<base\b[^>]*>")  # addresses in the page are below the app's own from there on
_START = """
<div id="mp-first"><script>{
  const style = document.createElement("style");
  style.textContent = window.gradio_config.css || "";
  document.currentScript.replaceWith(style); // after all of Gradio's, which stand in the head
}</script><div class="gradio-container">@@BRAND@@</div></div>
<script type="module">
try {
  const { openFirst } = await import(window.gradio_config.root.replace(/\\/$/, "") + "/@@MODULE@@");
  await openFirst(document.getElementById("mp-first"), window.gradio_config);
} catch (error) {
  document.getElementById("mp-first").remove();
  throw error;
} finally {
  const script = document.createElement("script");
  Object.assign(script, { type: "module", crossOrigin: "", src: @@ENTRY@@ });
  document.head.append(script);
}
</script>
"""


class FirstScreen:
    """Middleware that adds the first screen to Gradio's page."""

    def __init__(self, app: Any, *, module: str, brand: str, first: str | None) -> None:
        self.app, self.module, self.brand, self.first = app, module, brand, first

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and modify the response if it is the page itself."""
        path, root = scope.get("path", ""), scope.get("root_path", "")
        if scope["type"] != "http" or path.removeprefix(root).strip("/"):
            await self.app(scope, receive, send)
            return
        start: dict[str, Any] = {}
        body = bytearray()

        async def change(message: Any) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            page = bytes(body)
            if start["status"] == 200 and scope["method"] == "GET":
                page = self.page(page.decode(), plain=not scope["query_string"]).encode()
            headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            await send(start | {"headers": [*headers, (b"content-length", str(len(page)).encode())]})
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, change)

    def page(self, text: str, *, plain: bool = True) -> str:
        """Return Gradio's page with the first screen; any other page is returned unchanged.

        It opens with the first comparison if it is ``plain``, without a query.
        """
        entry, base = _ENTRY.search(text), _BASE.search(text)
        if entry is None or base is None or "<gradio-app" not in text:
            return text
        preload = f'<link rel="modulepreload" href="./{self.module}">'
        if plain and self.first:
            preload += f'<link rel="preload" as="fetch" crossorigin="anonymous" href="./{self.first}">'
        start = _START.replace("@@BRAND@@", self.brand).replace("@@MODULE@@", self.module)
        start = start.replace("@@ENTRY@@", json.dumps(entry[1]))
        text = text.replace(entry[0], "", 1).replace(base[0], base[0] + preload, 1)
        return text.replace("<gradio-app", f"{start}<gradio-app", 1)
