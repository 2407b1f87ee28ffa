"""The reference for judging traces or probing models: the option ``--truth``, and the truths of a run's items."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mpar2.cafe.truth import TRUTHS

if TYPE_CHECKING:
    from mpar2.cafe.schema import Truth
    from mpar2.question import Item


def add_truth(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option ``--truth``."""
    parser.add_argument(
        "--truth",
        choices=TRUTHS,
        help=f"{what}: exact (annotated events with times), events (any list of events), caption, or cue (MMAR's "
        "notes, which list no events). Default: events, else captions; never a cue",
    )


def refuse_unfit(who: str, which: str | None) -> None:
    """Refuse a kind of truth without events.

    Raises:
        ScoreError: ``which`` is a cue or a caption.
    """
    from mpar2.cafe.score import ScoreError

    if which in ("cue", "caption"):
        raise ScoreError(
            f"{who} needs a list of events, and --truth {which} is none: give --truth events or exact, or score with "
            "'mpar2 cafe score RUN --judge gemini' (or server), which can use a caption or a cue"
        )


def event_truths(run: str, items: Mapping[str, Item], which: str | None, who: str) -> dict[str, Truth]:
    """Return the truths of all items that have events.

    Raises:
        ScoreError: No item has such a truth; the message gives the remedy.
    """
    from mpar2.cafe.caption import read_captions
    from mpar2.cafe.truth import choose_truth

    refuse_unfit(who, which)
    captions = read_captions(run)
    truths = {id: choose_truth(item, captions.get(id), which) for id, item in items.items()}
    event_lists = {id: truth for id, truth in truths.items() if truth is not None and truth.events is not None}
    if not event_lists:
        nothing_to_do(run, who, f"{len(items)} items have", which)
    return event_lists


def nothing_to_do(run: str, who: str, what: str, which: str | None) -> None:
    """Refuse a run without any item to judge, before any cost arises.

    ``what`` lacks them, with its verb ("12 items have").

    Raises:
        ScoreError: Always; the message gives the remedy.
    """
    from mpar2.cafe.score import ScoreError

    raise ScoreError(
        f"nothing in {run} can be judged by {who}: its {what} no {which or 'events'} to be judged against (MMAR's cue "
        "is no list of events). Give the items events ('events' of a JSON line); or let the tagger list them ('mpar2 "
        "cafe caption RUN --by tagger'); or run 'mpar2 cafe caption' and score with --judge gemini or server"
    )
