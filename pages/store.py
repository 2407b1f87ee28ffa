"""Generate the stored comparisons of the examples: ``python -m pages.store [NAME ...]``.

A stored comparison ``examples/<name>/comparison.json`` is the document that the Compare tab would show for the example
with the app's own arms. The audio is left out, because the clip is in the same folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mpar2.runs.lines import dump_json, write_bytes
from pages.examples import EXAMPLES, Example
from pages.running import Asked, Comparer
from pages.services import Services, first_arms


def make_comparison(services: Services, example: Example) -> dict[str, Any]:
    """Return the finished comparison document of an example, without its audio.

    Raises:
        RuntimeError: An arm did not finish.
    """
    asked = Asked(
        audio=str(example.clip_path),
        question=example.question.text,
        choices="\n".join(example.question.choices),
        arms=first_arms(services.offers),
        max_new_tokens=services.max_new_tokens,
    )
    *_, document = Comparer(services).run(asked, f"store {example.name}")
    if document["status"] != "done":
        raise RuntimeError(f"example '{example.name}' did not finish: {[arm['error'] for arm in document['arms']]}")
    return document | {"clip": document["clip"] | {"audio": None}}


def main(arguments: list[str] | None = None) -> int:
    """Run the named examples, or all."""
    from pages.options import build_services, parse_options

    parser = argparse.ArgumentParser(prog="python -m pages.store", description="Store the comparisons of the examples.")
    parser.add_argument("names", nargs="*", help="examples (default: all)")
    parser.add_argument("--examples", type=Path, default=EXAMPLES, help="folder of examples (default: examples/)")
    options, rest = parser.parse_known_args(arguments)
    services = build_services(parse_options([*rest, "--examples", str(options.examples)]))
    unknown = set(options.names) - {example.name for example in services.examples}
    if unknown:
        print(f"no example {', '.join(sorted(unknown))} in {options.examples}", file=sys.stderr)
        return 2
    for example in services.examples:
        if options.names and example.name not in options.names:
            continue
        document = make_comparison(services, example)
        write_bytes(example.comparison_path, dump_json(document))
        outcome = ", ".join(f"{arm['name']}: {arm['answer']} ({arm['correct']})" for arm in document["arms"])
        print(f"{example.name}: {outcome}; {example.comparison_path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
