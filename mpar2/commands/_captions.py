"""The task of ``mpar2 cafe`` that captions the clips of a run, to judge items without annotated events."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpar2.commands import _paid as paid
from mpar2.commands._probes import run_clip

if TYPE_CHECKING:
    from mpar2.audio import Clip
    from mpar2.cafe.caption import Captioner
    from mpar2.llm.base import ChatClient
    from mpar2.llm.batch import BatchResult


def configure(tasks: Any) -> None:
    """Add the task to the parser's tasks."""
    caption = tasks.add_parser("caption", help="caption the clips whose events nobody has listed, to judge by")
    caption.add_argument("run", metavar="RUN", help="a run folder; the captions go into RUN/cafe/captions.jsonl")
    caption.add_argument("--audio-root", required=True, metavar="DIR", help="where the run's audio is")
    caption.add_argument(
        "--by",
        choices=paid.ServiceChoices("tagger"),
        default="gemini",
        help="default: %(default)s; tagger is the small one that comes with this package: offline, without a key or "
        "cost, with events and times for every judge, and often wrong",
    )
    caption.add_argument(
        "--truth",
        choices=("exact", "events", "caption"),
        help="caption the clips of all items without this (default: of items with neither events nor a caption; a cue "
        "is neither)",
    )
    paid.add_service(caption)
    caption.add_argument("--limit", type=paid.at_least_one, metavar="N", help="the first N such clips only")
    caption.add_argument(
        "--cache", type=Path, metavar="DIR", help="of captions, for all runs (default: ~/.cache/mpar2)"
    )
    paid.add_limits(caption)
    caption.set_defaults(work=_caption)


def _caption(options: argparse.Namespace) -> int:
    from mpar2.cafe.caption import Captioner, write_captions
    from mpar2.cafe.schema import Truth
    from mpar2.cafe.score import ScoreError
    from mpar2.cafe.truth import choose_truth
    from mpar2.llm.services import connect, judge_model
    from mpar2.runs import item_of, read_run

    if not Path(options.run).is_dir():
        raise ScoreError(f"{options.run} is no folder: captions are written beside the run, so unpack it first")
    items = {record["id"]: item_of(record) for record in read_run(options.run).records()}
    unlabelled = {id: item.audio for id, item in items.items() if choose_truth(item, None, options.truth) is None}
    names = list(dict.fromkeys(unlabelled.values()))[: options.limit]
    if not names:
        print(f"all {len(items)} items have {options.truth or 'events or a caption'} already: nothing to do")
        return 0
    if options.by == "tagger":
        return _tag(options, unlabelled, names)
    model = judge_model(options.by, options.model)
    client = connect(options.by, model, base_url=options.base_url, limiter=paid.limiter(options))
    captioner = Captioner(client, options.cache or _cache())
    estimate = captioner.estimate(_clips(options.audio_root, names), paid.prices(options, model))
    if not paid.agreed(f"{len(names)} clips to caption", estimate, options):
        return 1
    done = asyncio.run(_ask(client, captioner, options, names))
    captions = {name: record for name, record in done.records.items() if "caption" in record}
    truths = {name: Truth(None, record["caption"], record["origin"]) for name, record in captions.items()}
    matches = {id: truths[audio] for id, audio in unlabelled.items() if audio in truths}
    path = write_captions(options.run, matches)
    print(
        f"{len(captions)} of {len(names)} clips captioned, for {len(matches)} of {len(unlabelled)} items "
        f"without truth: {path}"
    )
    refusals = {name: record["refused"] for name, record in done.records.items() if "refused" in record}
    failed = refusals | {name: str(error) for name, error in done.failed.items()}
    _print_failed(failed)
    return 1 if failed else 0


def _tag(options: argparse.Namespace, unlabelled: dict[str, str], names: list[str]) -> int:
    """Tag the events of the clips ``names``; ``unlabelled`` maps items to clips."""
    from tqdm import tqdm

    from mpar2.audio import AudioError
    from mpar2.cafe.caption import write_captions
    from mpar2.tagger import errors, tag

    taggings, failed = {}, {}
    for name in tqdm(names, desc="tagged", disable=None):
        try:
            taggings[name] = tag(run_clip(options.audio_root, name))
        except AudioError as error:
            failed[name] = str(error)
    truths = {id: taggings[audio].truth() for id, audio in unlabelled.items() if audio in taggings}
    path = write_captions(options.run, truths)
    sure, unsure = (
        sum(len(getattr(tagging, attribute)) for tagging in taggings.values()) for attribute in ("events", "unsure")
    )
    print(f"{len(taggings)} of {len(names)} clips tagged ({sure} events, {unsure} more that it is not sure of), for "
          f"{len(truths)} of {len(unlabelled)} items without truth: {path}")  # fmt: skip
    print(errors().note())
    _print_failed(failed)
    return 1 if failed else 0


def _print_failed(failed: dict[str, str]) -> None:
    for name, reason in list(failed.items())[:5]:
        print(f"no caption of {name}: {reason}", file=sys.stderr)


async def _ask(client: ChatClient, captioner: Captioner, options: argparse.Namespace, names: list[str]) -> BatchResult:
    from mpar2.llm.batch import run_batch
    from mpar2.llm.errors import ReplyRejected

    async def work(name: str) -> dict[str, Any]:
        clip = await asyncio.to_thread(run_clip, options.audio_root, name)
        try:
            caption = await captioner.caption(clip)
        except ReplyRejected as error:
            return {"refused": str(error)}
        return {"caption": caption.text, "origin": caption.origin}

    async with client:
        return await run_batch(names, work, key=str, in_flight=options.in_flight, label="captioned")


def _clips(root: str, names: Iterable[str]) -> Iterator[Clip]:
    return (run_clip(root, name) for name in names)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mpar2" / "captions"
