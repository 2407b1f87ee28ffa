"""Start time of the app: to its first usable page, and to the first token of an answer.

    python -m benchmarks.start [--repeat 3]

The baseline is ``import gradio, torch, transformers`` in a fresh interpreter, the minimum of such an app. The page is
usable when the server returns it with its configuration. The first token is that of ``/reason`` on an example's clip,
with the shipped pair, requested as soon as the page is served. Rounds interleave; medians. The first round, which reads
everything from the disk, is shown separately.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx

from benchmarks.setting import machine

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.5


def import_s() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio, torch, transformers"], check=True)
    return time.perf_counter() - start


def app_s(port: int) -> tuple[float, float]:
    """Return seconds from the command to the first page, and to the first token."""
    url = f"http://127.0.0.1:{port}"
    start = time.perf_counter()
    app = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            if app.poll() is not None:
                raise SystemExit("the app did not start: run `python app.py` to see why")
            try:
                if httpx.get(url, timeout=30).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        page = time.perf_counter() - start
        from gradio_client import Client, handle_file

        clip = next(ROOT.glob("examples/*/clip.*"))
        client = Client(url, verbose=False)
        client.predict(handle_file(str(clip)), "What do you hear?", "", max_new_tokens=1, api_name="/reason")
        return page, time.perf_counter() - start
    finally:
        app.terminate()
        app.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--port", type=int, default=7893)
    args = parser.parse_args()
    from gradio_client import Client  # noqa: F401 - its import is no part of what is measured

    rounds = [(import_s(), *app_s(args.port + n)) for n in range(args.repeat + 1)]
    print(machine())
    print("\n| round | import alone s | to the page s | to the first token s |\n| --- | --- | --- | --- |")
    print("| first | " + " | ".join(f"{seconds:.1f}" for seconds in rounds[0]) + " |")
    medians = [statistics.median(column) for column in zip(*rounds[1:], strict=True)]
    print("| later, median | " + " | ".join(f"{seconds:.1f}" for seconds in medians) + " |")
    print(f"\npage / import {medians[1] / medians[0]:.2f}, limit {LIMIT}")


if __name__ == "__main__":
    main()
