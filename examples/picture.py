"""Take the picture of the app in the README: ``python examples/picture.py [FILE]``. Needs the test extra, chromium."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pages import build_app, launch_settings  # noqa: E402
from pages.options import build_services, parse_options  # noqa: E402
from testing.browser import browser_page  # noqa: E402

_LARGEST = 300_000  # bytes


def main() -> None:
    """Save the first screen at 1440 x 1200 in the light theme; its stored comparison needs no model."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "examples" / "app.png"
    demo = build_app(build_services(parse_options([])))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings())
    with browser_page(viewport={"width": 1440, "height": 1200}, color_scheme="light") as page:
        page.goto(url)
        page.wait_for_selector("#comparison .mp-card-arm", timeout=120_000)
        page.wait_for_selector(".mp-stage-bar .mp-primary:not([disabled])")  # the sound is loaded last
        page.wait_for_timeout(1500)  # for the waveform
        page.screenshot(path=target)
    demo.close()
    Image.open(target).convert("RGB").quantize(256).save(target, optimize=True)
    if (size := target.stat().st_size) > _LARGEST:
        raise SystemExit(f"{target} has {size:,} bytes; the limit is {_LARGEST:,}")
    print(f"{target}: {size:,} bytes")


if __name__ == "__main__":
    main()
