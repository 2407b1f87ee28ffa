"""What traces are judged against, or models asked about: the option ``--truth``, and the truths of a run's items."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mpar2.cafe.truth import TRUTHS

if TYPE_CHECKING:
    from mpar2.cafe.schema import Truth
    from mpar2.question import Item

__all__ = ["add_truth", "event_truths", "nothing_to_do", "refuse_unfit"]


def add_truth(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--truth``; ``what`` says what the task does with it."""
    parser.add_argument(
        "--truth",
        choices=TRUTHS,
        help=f"{what}: exact (annotated events with times), events (any list of events), caption, or cue (MMAR's "
        "notes, which list no events). Default: events, else captions; never a cue",
    )


def refuse_unfit(who: str, which: str | None) -> None:
    """Raise ``ScoreError`` where ``who`` needs a list of events and ``which`` is none."""
    from mpar2.cafe.score import ScoreError

    if which in ("cue", "caption"):
        raise ScoreError(
            f"{who} needs a list of events, and --truth {which} is none: give --truth events or exact, or score with "
            "'mpar2 cafe score RUN --judge gemini' (or server), which can use a caption or a cue"
        )


def event_truths(run: str, items: Mapping[str, Item], which: str | None, who: str) -> dict[str, Truth]:
    """Return the truths with events of those items that have one.

    Args:
        run: the run's folder, beside which captions and tagged events may stand.
        items: of the run, by id.
        which: the value of ``--truth``.
        who: what needs the events, for the error.

    Raises:
        ScoreError: no item has such a truth; the message says what to do.
    """
    from mpar2.cafe.caption import read_captions
    from mpar2.cafe.truth import choose_truth

    refuse_unfit(who, which)
    beside = read_captions(run)
    truths = {id: choose_truth(item, beside.get(id), which) for id, item in items.items()}
    found = {id: truth for id, truth in truths.items() if truth is not None and truth.events is not None}
    if not found:
        nothing_to_do(run, who, f"{len(items)} items have", which)
    return found


def nothing_to_do(run: str, who: str, what: str, which: str | None) -> None:
    """Raise the ``ScoreError`` of a run in which nothing can be judged, before anything is paid."""
    from mpar2.cafe.score import ScoreError

    raise ScoreError(
        f"nothing in {run} can be judged by {who}: its {what} no {which or 'events'} to be judged against (MMAR's cue "
        "is no list of events). Give the items events ('events' of a JSON line); or let the tagger list them ('mpar2 "
        "cafe caption RUN --by tagger'); or run 'mpar2 cafe caption' and score with --judge gemini or server"
    )
