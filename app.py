"""Starts the app: ``python app.py``. Runs without any network; everything it shows comes from this folder.

Environment, for hosts that start ``app.py`` themselves: ``MPAR2_BASE``, ``MPAR2_MODEL``, ``MPAR2_ADAPTER``,
``GRADIO_SERVER_NAME``, ``GRADIO_SERVER_PORT``.
"""

from __future__ import annotations

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse
import contextlib
import logging
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401 - on a Space with lent GPUs it must come before torch

_log = logging.getLogger("mpar2.app")


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line, with the environment behind them."""
    environment = os.environ.get
    host, port = environment("GRADIO_SERVER_NAME", "127.0.0.1"), int(environment("GRADIO_SERVER_PORT", "7860"))
    base, model = environment("MPAR2_BASE", "tiny-base"), environment("MPAR2_MODEL")
    parser = argparse.ArgumentParser(prog="app.py", description="Compare two audio models in the browser.")
    parser.add_argument("--base", default=base, help="arm A: short name, folder or hub id (default: %(default)s)")
    parser.add_argument("--model", default=model, help="arm B (default: tiny-mpar2; with --adapter, arm A's model)")
    parser.add_argument("--adapter", default=environment("MPAR2_ADAPTER"), help="LoRA adapter of arm B")
    parser.add_argument("--device", help="cpu, cuda or mps; by default the best there is")
    parser.add_argument("--host", default=host, help="default: %(default)s")
    parser.add_argument("--port", type=int, default=port, help="default: %(default)s")
    parser.add_argument("--max-seconds", type=float, default=60.0, help="longest clip (default: %(default)g)")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="longest trace (default: %(default)s)")
    parser.add_argument("--mcp", action="store_true", help="serve the endpoints as tools for language models too (MCP)")
    parser.add_argument("--examples", type=Path, help="folder of examples (default: examples/)")
    options = parser.parse_args(arguments)
    if options.mcp and find_spec("mcp") is None:
        parser.error("--mcp needs the package mcp: pip install 'gradio[mcp]'")
    return options


def build_services(options: argparse.Namespace) -> Any:
    """The engine and what it offers, from the options."""
    from mpar2.engines.transformers import TransformersEngine
    from mpar2.formats import Limits
    from pages.examples import EXAMPLES, first_example, load_examples
    from pages.services import Offer, Services

    root = options.examples or EXAMPLES
    examples = load_examples(root)
    right = options.model or (options.base if options.adapter else "tiny-mpar2")
    name_right = _name(options.adapter or right)
    name_left = _name(options.base)
    offers = [Offer(name_left, options.base, None)]
    if name_right != name_left:
        offers.append(Offer(name_right, right, options.adapter))
    return Services(
        engine=TransformersEngine(device=options.device),
        offers=tuple(offers),
        examples=examples,
        first_example=first_example(examples, root),
        limits=Limits(max_seconds=options.max_seconds, max_bytes=20_000_000),
        max_new_tokens=options.max_new_tokens,
        local=options.host in ("127.0.0.1", "localhost", "::1") and not os.environ.get("SPACE_ID"),
    )


def main(arguments: list[str] | None = None) -> None:
    """Build, serve, and load the default models meanwhile."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    options = parse_options(arguments)
    services = build_services(options)

    from pages import build_app, launch_settings
    from pages.gpu import lends_gpus

    demo = build_app(services)
    if lends_gpus():
        _preload(services)  # models must be on the device before the first GPU is lent
    else:
        threading.Thread(target=_preload, args=(services,), daemon=True).start()
    demo.launch(server_name=options.host, server_port=options.port, **launch_settings(mcp=options.mcp))


def _preload(services: Any) -> None:
    try:
        services.engine.preload([services.arm(offer.name, "mpar2") for offer in services.offers[:2]])
    except Exception as error:  # the first comparison will say it to the visitor
        _log.warning("the models could not be loaded yet: %s", error)


def _name(model: str) -> str:
    """A short name to show; never the path of a folder."""
    return Path(model).name or model


if __name__ == "__main__":
    main()
