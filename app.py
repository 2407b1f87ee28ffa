"""Start the app: ``python app.py``. Needs no network; ``pages/options.py`` has the options and the environment."""

from __future__ import annotations

import os
import sys

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import contextlib
import logging
import threading
from typing import Any

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401 - on a Space with lent GPUs it must come before torch

_log = logging.getLogger("mpar2.app")


def main(arguments: list[str] | None = None) -> None:
    """Build and serve the app, and load the default models in the background."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # A model's thread releases the interpreter lock at each of its thousands of operations, and waits up to this
    # interval to get it back while another thread computes. The default of 5 ms would add up to seconds.
    sys.setswitchinterval(0.0005)
    from mpar2.errors import MPAR2Error
    from pages import build_app, launch_settings
    from pages.compare import first_comparison
    from pages.gpu import lends_gpus
    from pages.options import build_services, parse_options

    options = parse_options(arguments)
    try:
        services = build_services(options)
    except MPAR2Error as error:
        raise SystemExit(f"app.py: {error}") from None

    demo = build_app(services)
    if lends_gpus():
        _preload(demo)  # models must be on the device before the first GPU is lent
    else:
        threading.Thread(target=_preload, args=(demo,), daemon=True).start()
    settings = launch_settings(options.max_upload_mb, mcp=options.mcp, first=first_comparison(services))
    demo.launch(server_name=options.host, server_port=options.port, **settings)


def _preload(demo: Any) -> None:
    from pages import analysis, opinion, spectrogram

    services = demo.services
    spectrogram.warm_up()
    try:
        services.engine.preload([services.arm(offer.name, "mpar2") for offer in services.offers[:2]])
    except Exception as error:  # the first comparison shows the error
        _log.warning("the models could not be loaded yet: %s", error)
    opinion.warm_up()
    analysis.warm_up(demo.shelf)


if __name__ == "__main__":
    main()
