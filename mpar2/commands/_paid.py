"""Shared code of tasks that use a paid service: options, cost estimate, confirmation, and total cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpar2.llm.cost import Estimate, Prices
    from mpar2.llm.journal import Journal
    from mpar2.llm.limits import Limiter


class ServiceChoices:
    """The names of all services, after ``first``, as ``choices`` of an option.

    Evaluated on validation or help only, so that other commands do not import the clients of services.
    """

    def __init__(self, *first: str) -> None:
        self._first = first

    def __iter__(self) -> Iterator[str]:
        from mpar2.llm.services import service_names

        return iter((*self._first, *service_names()))

    def __contains__(self, name: object) -> bool:
        return name in self._first or name in tuple(self)


class JudgeChoices(ServiceChoices):
    """The names of all judges."""

    def __iter__(self) -> Iterator[str]:
        from mpar2.cafe.judges import judge_names

        return iter(judge_names())


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add the options for the service's model and address."""
    parser.add_argument("--model", help="of the service (default: MPAR2_JUDGE_MODEL, else Gemini's default)")
    parser.add_argument("--base-url", metavar="URL", help="of a server, for example http://localhost:8000/v1")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options for concurrency, request limits and prices."""
    parser.add_argument(
        "--in-flight", type=at_least_one, default=4, metavar="N", help="requests at once (default: %(default)s)"
    )
    parser.add_argument("--max-tokens", type=at_least_one, metavar="N", help="stop before this many tokens are spent")
    parser.add_argument(
        "--prices",
        metavar="FILE.json",
        help='prices per million tokens, for an estimate of the cost: {"MODEL": {"prompt": 2.0, "completion": 12.0}}',
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before a service is paid")


def at_least_one(text: str) -> int:
    """Parse an integer of at least 1, for argparse."""
    number = int(text) if text.strip().isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 on")
    return number


def limiter(options: argparse.Namespace) -> Limiter:
    """Return the limiter that all requests of the task share."""
    from mpar2.llm.limits import Limiter

    return Limiter(getattr(options, "in_flight", 4), getattr(options, "max_tokens", None))


def prices(options: argparse.Namespace, model: str | None) -> Prices | None:
    """Return the prices of a model from the file ``--prices``; None without the file or an entry for the model.

    Raises:
        SettingError: The file is no price list.
    """
    from mpar2.llm.cost import Prices

    return None if options.prices is None else Prices.load(options.prices, model or "")


def agreed(what: str, estimate: Estimate, options: argparse.Namespace) -> bool:
    """Print the estimated cost and ask for confirmation; without an interactive input, the answer is no."""
    print(f"{what}: {estimate}", file=sys.stderr)
    if options.yes or not estimate.requests:
        return True
    if not sys.stdin.isatty():
        print("confirmation required: pass --yes in non-interactive use", file=sys.stderr)
        return False
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")


def spent(replies: Journal, table: Prices | None) -> str:
    """Return the cost of all recorded replies as text, with those of earlier starts and rejected ones."""
    from mpar2.llm.journal import usage_of

    usage = usage_of(replies)
    completion = (usage.completion or 0) + (usage.thoughts or 0)
    cost = "" if table is None else f", {table.cost(usage):.2f} {table.currency} at the prices given"
    return f"{len(replies)} replies in all: {usage.total} tokens ({usage.prompt or 0} in, {completion} out){cost}"
