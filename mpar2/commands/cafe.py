"""Score the audio events that reasoning traces name (CAFE), and measure how far a judge can be trusted."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpar2.cafe.metrics import DEFAULT_RULE, RULES
from mpar2.commands import _captions as captions
from mpar2.commands import _paid as paid
from mpar2.commands import _probes as probes
from mpar2.commands._arms import printable
from mpar2.commands._truth import add_truth, nothing_to_do, refuse_unfit

if TYPE_CHECKING:
    from mpar2.cafe.judges import JudgeEntry
    from mpar2.cafe.schema import Judge, JudgeRequest
    from mpar2.cafe.score import ScoreSet
    from mpar2.cafe.validation.injection import Canary
    from mpar2.llm.journal import Journal


def configure(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)

    score = tasks.add_parser("score", help="judge every trace of a run, and print the metrics with intervals")
    score.add_argument("run", metavar="RUN", help="a run folder; the scores go into RUN/cafe/NAME")
    _judge_options(score)
    add_truth(score, "what traces are judged against")
    score.add_argument("--name", help="of the scores (default: the judge and its model)")
    score.add_argument(
        "--rule",
        choices=tuple(RULES),
        default=DEFAULT_RULE,
        help="how several mentions of one event are counted (default: %(default)s); metrics.json has all rules",
    )
    score.add_argument("--limit", type=paid.at_least_one, metavar="N", help="the first N traces only")
    paid.add_limits(score)
    score.set_defaults(work=_score)

    trace = tasks.add_parser("trace", help="judge one trace")
    trace.add_argument("--trace", required=True, metavar="FILE", help="the text; - reads the standard input")
    trace.add_argument("--truth", required=True, metavar="FILE.json", help='["dog bark", {"label": .., "onset_s": ..}]')
    trace.add_argument("--question", default="", help="what the model was asked")
    trace.add_argument("--choice", action="append", default=[], metavar="TEXT")
    trace.add_argument("--answer", help="the true choice")
    _judge_options(trace)
    trace.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    trace.set_defaults(work=_trace)

    agree = tasks.add_parser("agree", help="how far two judges agree on the same traces")
    agree.add_argument("first", metavar="RUN_A", help="a run with scores, or a folder of scores: measured against")
    agree.add_argument("second", metavar="RUN_B", help="the other judge's")
    agree.add_argument(
        "--show", type=int, default=20, metavar="N", help="disagreements to print (default: %(default)s)"
    )
    agree.add_argument("--out", type=Path, metavar="FILE.jsonl", help="write all disagreements")
    agree.set_defaults(work=_agree)

    damage = tasks.add_parser(
        "damage", help="what dropped, swapped and added truth events, and the tagger's errors, do to the metrics"
    )
    damage.add_argument("run", metavar="RUN", help="a run folder whose items have a truth")
    damage.add_argument("--arm", help="of this arm only")
    damage.add_argument("--limit", type=paid.at_least_one, metavar="N", help="the first N traces only")
    add_truth(damage, "what is damaged")
    damage.add_argument("--seed", type=int, default=0)
    damage.add_argument("--out", type=Path, metavar="FILE.json", help="write the rates with counts and intervals")
    damage.set_defaults(work=_damage)

    sheet = tasks.add_parser("sheet", help="make a page on which a person rates mentions, blind")
    sheet.add_argument("run", metavar="RUN", help="a run with scores")
    sheet.add_argument("--scores", help="the folder of scores to draw mentions from (default: the run's only one)")
    add_truth(sheet, "only mentions that were judged against this")
    sheet.add_argument("--audio-root", required=True, metavar="DIR", help="where the run's audio is")
    sheet.add_argument("--mentions", type=int, default=60, metavar="N", help="default: %(default)s")
    sheet.add_argument("--seed", type=int, default=0)
    sheet.add_argument("--out", type=Path, default=Path("rating-sheet.html"), metavar="FILE.html")
    sheet.set_defaults(work=_sheet)

    rate = tasks.add_parser("rate", help="measure a judge against the ratings that people saved, and them by pairs")
    rate.add_argument("scores", metavar="SCORES", help="a run with scores, or a folder of scores")
    rate.add_argument("ratings", nargs="+", metavar="RATINGS.json", help="what the rating sheet saved, one a person")
    rate.set_defaults(work=_rate)

    captions.configure(tasks)
    probes.configure(tasks)


def run(options: argparse.Namespace) -> int:
    return options.work(options)


def _judge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--judge",
        choices=paid.JudgeChoices(),
        default="reference",
        help="default: %(default)s, which costs nothing",
    )
    paid.add_service(parser)


def _judge(options: argparse.Namespace, replies: Journal | None = None) -> Judge:
    """Return the selected judge; a model judge records its replies in the journal."""
    from mpar2.cafe.judges import JudgeOptions, make_judge

    where = {"model": options.model, "base_url": options.base_url}
    return make_judge(options.judge, JudgeOptions(**where, replies=replies, limiter=paid.limiter(options)))


def _score(options: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from mpar2.cafe.judges import judge_named
    from mpar2.cafe.score import ScoreError
    from mpar2.cafe.validation.injection import choose_canaries
    from mpar2.llm.journal import Journal

    # 1. Select what can be judged, before creating a folder or incurring a cost.
    if not Path(options.run).is_dir():
        raise ScoreError(f"{options.run} is no folder: scores are written beside the run, so unpack it first")
    entry = judge_named(options.judge)
    if entry.needs_events:
        refuse_unfit(f"the {entry.name} judge", options.truth)
    requests = _requests(options, entry)
    canaries = choose_canaries(len(requests), needs_events=entry.needs_events)
    # 2. The folder of the scores.
    judge_name = entry.name
    if entry.service is not None:
        from mpar2.llm.services import judge_model

        judge_name += "-" + re.sub(r"[^\w.-]+", "_", judge_model(entry.name, options.model))
    name = options.name or judge_name
    if not re.fullmatch(r"[\w.-]{1,120}", name) or name.startswith("."):
        raise ScoreError(f"--name {name!r}: letters, digits, '.', '_' and '-' make a name")
    folder = Path(options.run) / "cafe" / name
    # 3. Estimate the cost, if any; then judge.
    with ExitStack() as stack:
        replies = stack.enter_context(Journal(folder / "replies.jsonl")) if entry.service is not None else None
        judge: Any = _judge(options, replies)
        prices = paid.prices(options, judge.model)
        if hasattr(judge, "estimate"):
            new = _pending_requests(requests, judge, folder)
            extra = {request for canary in canaries for request in (canary.clean, canary.attacked)}
            work = f"{len(new)} traces to judge, and {len(extra)} canary traces"
            if not paid.agreed(work, judge.estimate([*new, *extra], prices), options):
                return 1
        scores = asyncio.run(_judge_run(options, judge, folder, canaries))
        print(scores.report())
        if replies is not None:
            print(f"\n{paid.spent(replies, prices)}")
    print(f"\n{folder / 'metrics.json'}")
    return 1 if scores.failed else 0


def _requests(options: argparse.Namespace, entry: JudgeEntry) -> dict[str, JudgeRequest]:
    """Return the judge's requests for the run; refuse a run without any item to judge."""
    from mpar2.cafe.caption import read_captions
    from mpar2.cafe.score import requests_of
    from mpar2.runs import read_run

    records = list(islice(read_run(options.run).records(), options.limit))
    requests, unscored = requests_of(records, read_captions(options.run), options.truth)
    usable = {k: r for k, r in requests.items() if not entry.needs_events or r.truth.events is not None}
    if not usable and (requests or any(reason.reason == "no_truth" for reason in unscored.values())):
        nothing_to_do(options.run, options.judge, f"{len(records)} traces have", options.truth)
    return usable


async def _judge_run(options: argparse.Namespace, judge: Judge, folder: Path, canaries: list[Canary]) -> ScoreSet:
    """Judge the canaries, which measure how easily the judge follows planted instructions; then judge the run."""
    from contextlib import AbstractAsyncContextManager, AsyncExitStack

    from mpar2.cafe.score import score_run
    from mpar2.cafe.validation.injection import flip_rate

    async with AsyncExitStack() as stack:
        if isinstance(judge, AbstractAsyncContextManager):
            await stack.enter_async_context(judge)
        return await score_run(
            options.run,
            judge,
            folder,
            limit=options.limit,
            in_flight=options.in_flight,
            label=f"judged by {folder.name}",
            rule=options.rule,
            truth=options.truth,
            canaries=await flip_rate(judge, canaries),
        )


def _pending_requests(requests: dict[str, JudgeRequest], judge: Judge, folder: Path) -> list[JudgeRequest]:
    """Return the requests that are not judged yet."""
    from mpar2.cafe.score import request_key
    from mpar2.llm.journal import Journal

    with Journal(folder / "verdicts.jsonl") as journal:
        return [request for request in requests.values() if request_key(judge, request) not in journal]


def _trace(options: argparse.Namespace) -> int:
    from mpar2.cafe.metrics import count_events, rates_of_trace
    from mpar2.cafe.schema import JudgeRequest, Unscored
    from mpar2.cafe.truth import truth_from_json

    text = sys.stdin.read() if options.trace == "-" else Path(options.trace).read_bytes().decode("utf-8", "replace")
    truth = truth_from_json(_json(options.truth))
    request = JudgeRequest(options.question, tuple(options.choice), options.answer, truth, text)
    outcome = asyncio.run(_judge(options).judge(request))
    if isinstance(outcome, Unscored):
        print(f"unscored: {outcome.reason} ({outcome.detail})", file=sys.stderr)
        return 1
    counts = count_events(outcome)
    rates = rates_of_trace(counts)
    if options.json:
        summary = {"verdict": outcome.as_dict(), "counts": counts.as_dict(), "rates": rates}
        print(json.dumps(summary, ensure_ascii=False))
        return 0
    for mention in outcome.mentions:
        span = f"{mention.chars.start}-{mention.chars.stop}"
        quote = printable(" ".join(mention.quote.split()))
        print(f"{mention.kind:12} {span:>11}  {quote}  ({printable(mention.reason)})")
    for index in outcome.missed:
        print(f"{'missed':12} {'':>11}  {printable(outcome.targets[index])}")
    summary = ", ".join(f"{name} {'-' if rate is None else f'{rate:.3f}'}" for name, rate in rates.items())
    print(f"\n{summary}\nN_pred {counts.n_pred}, N_tgt {counts.n_tgt}; truth: {outcome.truth_origin}")
    return 0


def _agree(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from mpar2.cafe.score import read_scores
    from mpar2.cafe.validation.agreement import compare_scores
    from mpar2.runs.lines import write_lines

    comparison = compare_scores(read_scores(options.first).scores, read_scores(options.second).scores)
    print(comparison)
    for difference in comparison.disagreements[: max(0, options.show)]:
        quote = printable(" ".join(difference.quote.split()))
        print(f"\n{difference.key}: {quote!r}\n  {difference.first}: {printable(difference.first_reason)}")
        print(f"  {difference.second}: {printable(difference.second_reason)}")
    remaining = len(comparison.disagreements) - max(0, options.show)
    if remaining > 0:
        print(f"\n{remaining} more disagreements; --out FILE.jsonl has them all")
    if options.out is not None:
        write_lines(options.out, map(asdict, comparison.disagreements))
    return 0


def _damage(options: argparse.Namespace) -> int:
    from mpar2.cafe.caption import read_captions
    from mpar2.cafe.score import rates_as_json, requests_of
    from mpar2.cafe.validation.perturbation import damage_report, damage_table
    from mpar2.runs import read_run
    from mpar2.runs.lines import write_json

    refuse_unfit("the judge of damaged truths", options.truth)
    of_arm = (r for r in read_run(options.run).records() if options.arm in (None, r["arm"]))
    records = list(islice(of_arm, options.limit))
    requests, _ = requests_of(records, read_captions(options.run), options.truth)
    requests = {key: request for key, request in requests.items() if request.truth.events is not None}
    if not requests:
        nothing_to_do(options.run, "rules against damaged truths", f"{len(records)} traces have", options.truth)
    clips = {record["key"]: record["item"]["audio"] or record["id"] for record in records}
    groups = [clips[key] for key in requests]
    rows = damage_report(requests, groups, seed=options.seed)
    print(f"{len(requests)} traces of {len(set(groups))} clips, judged by rules against damaged truths")
    print(damage_table(rows))
    if options.out is not None:
        report = [{"damage": row.damage, "rate": row.rate, "metrics": rates_as_json(row.rates)} for row in rows]
        write_json(options.out, {"seed": options.seed, "traces": len(requests), "rows": report})
    return 0


def _sheet(options: argparse.Namespace) -> int:
    from mpar2.audio import wav_bytes
    from mpar2.cafe.score import ScoreError, against_truth, read_scores
    from mpar2.cafe.validation.rating_sheet import choose_units, sheet_html
    from mpar2.runs import read_run
    from mpar2.runs.lines import write_bytes

    scores = read_scores(options.scores or options.run).scores
    records = {record["key"]: record for record in read_run(options.run).records()}
    if options.truth is not None:
        scores = against_truth(options.run, scores, records, options.truth)
        if not scores:
            raise ScoreError(f"no mention was judged against --truth {options.truth}: 'mpar2 cafe score' takes it too")
    units = choose_units(scores, records, options.mentions, seed=options.seed)
    page = sheet_html(units, lambda name: wav_bytes(probes.run_clip(options.audio_root, name)))
    write_bytes(options.out, page.encode())
    print(f"{len(units)} mentions of {len({unit.audio for unit in units})} clips: {options.out}")
    return 0


def _rate(options: argparse.Namespace) -> int:
    from mpar2.cafe.score import read_scores
    from mpar2.cafe.validation.rating_sheet import rate_judge, rate_person, read_ratings

    scores = read_scores(options.scores).scores
    raters = [read_ratings(path) for path in options.ratings]
    for rating in raters:
        print(rate_judge(rating, scores), end="\n\n")
    for rating, other in combinations(raters, 2):
        print(f"{other.rater} against {rate_person(rating, other)}", end="\n\n")
    return 0


def _json(path: str) -> Any:
    from mpar2.cafe.truth import TruthError

    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise TruthError(f"{path} is not JSON: {error}") from None
