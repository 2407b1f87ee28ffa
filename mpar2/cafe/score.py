"""Scores of a run: one verdict for each trace, stored beside the run, resumable.

    RUN/cafe/NAME/verdicts.jsonl   the journal: one fsynced line for each verdict
    RUN/cafe/NAME/replies.jsonl    replies of a model judge, so that no reply is paid twice
    RUN/cafe/NAME/scores.jsonl     one line for each line of the run, written once all traces are judged
    RUN/cafe/NAME/metrics.json     rates for each arm, with all settings that the scores depend on

A line of scores: ``key, id, arm, sample``, and either ``verdict`` and ``counts``, or ``unscored`` with the reason.
A trace without a verdict enters no rate. Verdicts of two served model versions never share a table.

The key of a verdict in the journal is the hash of the judge, the model, the prompts and the request. A start after a
kill judges the missing traces. An unscored trace is a result like any other, except where the service returned no reply
at all: such a trace is reported as failed, left out of the journal, and judged at the next start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mpar2 import __version__
from mpar2.cafe.caption import read_captions
from mpar2.cafe.metrics import (
    CLAIM_METRICS,
    DEFAULT_RULE,
    RULES,
    EventCounts,
    Rate,
    count_events,
    errors_by_part,
    evaluate,
    profile,
    profile_table,
    rules_table,
    table,
)
from mpar2.cafe.schema import Judge, JudgeRequest, Truth, Unscored, Verdict
from mpar2.cafe.truth import choose_truth
from mpar2.cafe.validation.injection import FlipReport
from mpar2.errors import MPAR2Error
from mpar2.llm.batch import run_batch
from mpar2.llm.errors import CallFailed
from mpar2.llm.journal import Journal, content_key
from mpar2.runs import item_of, open_lines, read_run
from mpar2.runs.lines import load_json, read_lines, write_json, write_lines
from mpar2.tagger import ORIGIN, errors

__all__ = [
    "TraceScore",
    "ScoreError",
    "ScoreSet",
    "against_truth",
    "judge_all",
    "request_key",
    "find_scores",
    "rates_as_json",
    "read_scores",
    "requests_of",
    "score_run",
]

SCORES, METRICS = "scores.jsonl", "metrics.json"
# The service returned no reply. A later request may succeed, and nothing was paid.
_TRANSIENT = ("rate_limited", "unavailable", "bad_request")


class ScoreError(MPAR2Error, ValueError):
    """Scores cannot be computed, read or put into one table; the message gives the reason."""


@dataclass(frozen=True)
class TraceScore:
    """The outcome of one line of a run: a verdict, or the reason why there is none."""

    key: str
    id: str
    arm: str
    sample: int
    outcome: Verdict | Unscored
    clip: str = ""  # audio of the item, the unit of every interval; empty in older scores, where the item is the unit
    chars: int = 0  # length of the trace; 0 in older scores

    @property
    def counts(self) -> EventCounts | None:
        """The counts of the events by outcome; None for an unscored trace."""
        return count_events(self.outcome) if isinstance(self.outcome, Verdict) else None


@dataclass(frozen=True)
class ScoreSet:
    """The scores of a run by one judge.

    ``options`` of its methods are those of the bootstrap (:func:`mpar2.cafe.metrics.evaluate`).
    """

    scores: tuple[TraceScore, ...]
    failed: Mapping[str, str]  # lines without a reply, with the reason; the next start tries them again
    canaries: str | None = None
    rule: str = DEFAULT_RULE  # how the mentions of an event are counted

    def __post_init__(self) -> None:
        _check_one_version(score.outcome for score in self.scores)

    @property
    def unscored(self) -> Counter[str]:
        """Reasons of traces without a verdict."""
        return Counter(score.outcome.reason for score in self.scores if isinstance(score.outcome, Unscored))

    @property
    def origins(self) -> Counter[str]:
        """Number of verdicts by origin of the truth."""
        return Counter(score.outcome.truth_origin for score in self.scores if isinstance(score.outcome, Verdict))

    @property
    def leniency(self) -> tuple[int, int]:
        """Number of replies of a model judge that were read leniently, and of all its replies."""
        verdicts = [score.outcome for score in self.scores if isinstance(score.outcome, Verdict)]
        model_verdicts = [verdict for verdict in verdicts if verdict.input_tokens or verdict.output_tokens]
        return sum(verdict.lenient for verdict in model_verdicts), sum(verdict.attempts for verdict in model_verdicts)

    def arms(self) -> list[str]:
        """Return the arms in order of appearance."""
        return list(dict.fromkeys(score.arm for score in self.scores))

    def of_arm(self, arm: str) -> tuple[list[EventCounts], list[str]]:
        """Return the counts under the rule of the set, and the clips, of an arm's scored traces."""
        verdicts, clips = self.verdicts_of(arm)
        return [count_events(verdict, self.rule) for verdict in verdicts], clips

    def verdicts_of(self, arm: str) -> tuple[list[Verdict], list[str]]:
        """Return the verdicts and the clips of an arm's scored traces."""
        pairs = [(score.outcome, score.clip or score.id) for score in self.scores if score.arm == arm]
        scored = [(outcome, clip) for outcome, clip in pairs if isinstance(outcome, Verdict)]
        return [verdict for verdict, _ in scored], [clip for _, clip in scored]

    def rules_of(self, arm: str, **options: Any) -> dict[str, dict[str, Rate]]:
        """Return the metrics of an arm under every counting rule."""
        verdicts, clips = self.verdicts_of(arm)
        return {rule: evaluate([count_events(v, rule) for v in verdicts], clips, **options) for rule in RULES}

    def claims_of(self, arm: str, **options: Any) -> dict[str, Rate]:
        """Return an arm's mentions per event, and its claims of time, order and count per trace."""
        verdicts, clips = self.verdicts_of(arm)
        return evaluate([count_events(verdict) for verdict in verdicts], clips, table=CLAIM_METRICS, **options)

    def profile_of(self, arm: str, bins: int = 5) -> list[dict[str, Any]]:
        """Return outcomes and errors along the traces of an arm; see :func:`mpar2.cafe.metrics.profile`."""
        of_arm = [score for score in self.scores if score.arm == arm and score.chars]
        return profile([(s.outcome, s.chars) for s in of_arm if isinstance(s.outcome, Verdict)], bins)

    def coverage_of(self, arm: str) -> tuple[int, int]:
        """Count an arm's nouns in the context of hearing that are not in the judge's vocabulary, and its mentions."""
        verdicts, _ = self.verdicts_of(arm)
        return sum(len(v.uncovered) for v in verdicts), sum(len(v.mentions) for v in verdicts)

    def rates(self, **options: Any) -> dict[str, dict[str, Rate]]:
        """Return the metrics of each arm; see :func:`mpar2.cafe.metrics.evaluate`."""
        return {arm: evaluate(*self.of_arm(arm), **options) for arm in self.arms()}

    def report(self, rates: Mapping[str, Mapping[str, Rate]] | None = None) -> str:
        """Return the rates (of :meth:`rates`, if they are known), profiles and notes as text, arm by arm."""
        rates = self.rates() if rates is None else rates
        sections = []
        # For each arm: rates, then counting rules, then profiles, claims and coverage.
        for arm in self.arms():
            of_arm = [score for score in self.scores if score.arm == arm]
            reasons = Counter(s.outcome.reason for s in of_arm if isinstance(s.outcome, Unscored))
            counts = f" ({', '.join(f'{n} {reason}' for reason, n in reasons.items())})" if reasons else ""
            head = f"{arm}: {len(of_arm) - sum(reasons.values())} of {len(of_arm)} traces scored{counts}"
            sections.append(f"{head}\n{table(dict(rates[arm]), self.of_arm(arm)[0])}")
            # An arm without a verdict has no further tables.
            if not self.verdicts_of(arm)[0]:
                continue
            sections.append(f"by counting rule (above: {self.rule})\n{rules_table(self.rules_of(arm))}")
            profiles = {f"{20 * n}-{20 * n + 20} %": row for n, row in enumerate(self.profile_of(arm))}
            profiles |= errors_by_part(self.verdicts_of(arm)[0])
            sections.append(f"wrong mentions by kind of error, along the trace and by part\n{profile_table(profiles)}")
            claims = ", ".join(
                f"{name.replace('_', ' ')} {'-' if rate.micro.estimate is None else f'{rate.micro.estimate:.2f}'}"
                for name, rate in self.claims_of(arm, resamples=1).items()
            )
            n_unknown, n_known = self.coverage_of(arm)
            sections.append(
                f"{claims}\ncoverage: {n_unknown} sounds named in words that the judge does not know, beside {n_known} "
                "that it knows"
            )
        # Notes on the truth and the judge apply to all arms.
        sections.append("truth: " + (", ".join(f"{origin} ({n})" for origin, n in self.origins.items()) or "none"))
        if ORIGIN in self.origins:
            sections.append(errors().note())
        if self.failed:
            sections.append(f"{len(self.failed)} traces got no answer and are tried again at the next start")
        lenient, replies = self.leniency
        if replies:
            sections.append(
                f"{lenient} of {replies} replies of the judge were read leniently (wrapped, or other typography)"
            )
        if self.canaries:
            sections.append(self.canaries)
        return "\n\n".join(sections)


def requests_of(
    records: Iterable[Mapping[str, Any]], captions: Mapping[str, Truth] | None = None, which: str | None = None
) -> tuple[dict[str, JudgeRequest], dict[str, Unscored]]:
    """Build the judge's requests for the lines of a run.

    Args:
        records: Lines of a run.
        captions: Truths by item, from :mod:`mpar2.cafe.caption`, for items without a truth of their own.
        which: Kind of truth, as in :func:`mpar2.cafe.truth.choose_truth`.

    Returns:
        Requests, and the reasons of lines that cannot be judged, both by the key of the line.
    """
    requests: dict[str, JudgeRequest] = {}
    unscored: dict[str, Unscored] = {}
    for record in records:
        item = item_of(record)
        truth = choose_truth(item, (captions or {}).get(record["id"]), which)
        if record["status"] != "ok":
            unscored[record["key"]] = Unscored("error", record["error"] or "")
        elif truth is None:
            unscored[record["key"]] = Unscored(
                "no_truth",
                "the item has no events or caption to be judged against (a cue is no list of events): add events to "
                "the items, or run 'mpar2 cafe caption RUN' and score with a model judge",
            )
        else:
            question = item.question
            requests[record["key"]] = JudgeRequest(
                question.text, question.choices, question.answer, truth, record["text"]
            )
    return requests, unscored


def against_truth(
    run: str | Path, scores: Iterable[TraceScore], records: Mapping[str, Mapping[str, Any]], which: str
) -> tuple[TraceScore, ...]:
    """Select the scores whose verdict uses a kind of truth."""
    captions = read_captions(run)
    matches = []
    for score in scores:
        truth = choose_truth(item_of(records[score.key]), captions.get(score.id), which)
        if truth is not None and isinstance(score.outcome, Verdict) and score.outcome.truth_origin == truth.origin:
            matches.append(score)
    return tuple(matches)


@dataclass(frozen=True)
class BatchJudgement:
    """Outcomes by name of the request, in order. ``failed`` holds the reasons of requests without a reply."""

    outcomes: dict[str, Verdict | Unscored]
    failed: dict[str, str]
    resumed: int  # number of outcomes read from the journal


def request_key(judge: Judge, request: JudgeRequest) -> str:
    """Return the hash of everything that a verdict depends on."""
    content = asdict(request)
    if not request.truth.unsure:  # keeps the keys of verdicts from before ``unsure`` existed
        del content["truth"]["unsure"]
    return content_key(judge.id, judge.model, judge.prompt_hash, content)


async def judge_all(
    judge: Judge,
    requests: Mapping[str, JudgeRequest],
    *,
    journal: Journal | None = None,
    in_flight: int = 4,
    label: str | None = None,
) -> BatchJudgement:
    """Judge all requests. Requests with equal content are judged once.

    The caller enters a model judge (``async with``), so that all traces share its connections.

    Args:
        judge: The judge.
        requests: Requests by name.
        journal: Journal of the outcomes; requests with an outcome in it are not judged again. None keeps no journal.
        in_flight: Number of concurrent requests.
        label: Label of a progress bar on stderr; None shows no bar.

    Raises:
        StopRun: The run cannot continue; the outcomes so far are in the journal.
    """
    keys = {name: request_key(judge, request) for name, request in requests.items()}

    async def work(item: tuple[str, JudgeRequest]) -> dict[str, Any]:
        outcome = await judge.judge(item[1])
        if isinstance(outcome, Verdict):
            return {"verdict": outcome.as_dict()}
        if outcome.reason in _TRANSIENT:
            scope = "request" if outcome.reason == "bad_request" else "endpoint"
            raise CallFailed(outcome.reason, outcome.detail, outcome.attempts, scope=scope)
        return {"unscored": asdict(outcome)}

    batch = await run_batch(
        requests.items(), work, key=lambda item: keys[item[0]], journal=journal, in_flight=in_flight, label=label
    )
    outcomes = {name: _outcome(batch.records[key]) for name, key in keys.items() if key in batch.records}
    failed = {name: str(batch.failed[key]) for name, key in keys.items() if key in batch.failed}
    return BatchJudgement(outcomes, failed, batch.resumed)


def _outcome(record: dict[str, Any]) -> Verdict | Unscored:
    if "verdict" in record:
        return Verdict.from_dict(record["verdict"])
    return Unscored(**record["unscored"])


async def score_run(
    run: str | Path,
    judge: Judge,
    folder: str | Path,
    *,
    limit: int | None = None,
    in_flight: int = 4,
    label: str | None = None,
    canaries: FlipReport | None = None,
    rule: str = DEFAULT_RULE,
    truth: str | None = None,
) -> ScoreSet:
    """Judge every line of a run and write the scores into a folder. A start after a kill judges the missing lines.

    Args:
        run: Folder of the run.
        judge: The judge; the caller enters a model judge (``async with``).
        folder: Folder of ``verdicts.jsonl``, ``scores.jsonl`` and ``metrics.json``.
        limit: Number of lines to judge, from the first; None judges all.
        in_flight: Number of concurrent requests.
        label: Label of a progress bar on stderr; None shows no bar.
        canaries: Report of the judge on the canaries.
        rule: Counting rule, one of :data:`mpar2.cafe.metrics.RULES`.
        truth: Kind of truth, as in :func:`mpar2.cafe.truth.choose_truth`.

    Raises:
        RunError: The run cannot be read.
        StopRun: The service cannot continue; the verdicts so far are kept.
        ScoreError: The service served several versions of the model.
    """
    folder = Path(folder)
    # Lines without a trace or a truth are unscored and need no judge.
    records = list(islice(read_run(run).records(), limit))
    requests, unscored = requests_of(records, read_captions(run), truth)
    with Journal(folder / "verdicts.jsonl") as journal:
        batch = await judge_all(judge, requests, journal=journal, in_flight=in_flight, label=label)
    # Failed lines have no outcome and get no score, so that the next start judges them.
    outcomes = {**batch.outcomes, **unscored}
    scores = []
    for record in (record for record in records if record["key"] in outcomes):
        names = (record[name] for name in ("key", "id", "arm", "sample"))
        clip, chars = record["item"]["audio"] or "", len(record.get("text") or "")
        scores.append(TraceScore(*names, outcomes[record["key"]], clip, chars))
    score_set = ScoreSet(tuple(scores), batch.failed, str(canaries or "") or None, rule)
    write_lines(folder / SCORES, map(_line, score_set.scores))
    write_json(folder / METRICS, _summary(score_set, judge, limit, canaries))
    return score_set


def read_scores(source: str | Path) -> ScoreSet:
    """Read the scores of a judge.

    Args:
        source: A folder of scores, a run with one such folder, or a file of scores.

    Raises:
        ScoreError: There are no scores, there are those of several judges, or a line is no score.
    """
    path = find_scores(source)
    scores = []
    with open_lines(path) as file:
        for number, raw in read_lines(file, str(path.name)):
            try:
                outcome = Verdict.from_dict(raw["verdict"]) if "verdict" in raw else Unscored(**raw["unscored"])
                names = [raw[name] for name in ("key", "id", "arm", "sample")]
                if [*map(type, names)] != [str, str, str, int]:
                    raise TypeError("key, id and arm are texts, sample is a whole number")
                clip, chars = raw.get("clip") or "", raw.get("chars") or 0
                if not isinstance(clip, str) or type(chars) is not int:
                    raise TypeError("clip is a text, chars a whole number")
                scores.append(TraceScore(*names, outcome, clip, chars))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ScoreError(f"{path}, line {number}: no score ({error!r})") from None
    summary: Mapping[str, Any] = {}
    if (path.parent / METRICS).is_file():
        summary = load_json((path.parent / METRICS).read_bytes(), METRICS)
    rule = summary.get("rule") or DEFAULT_RULE
    if str(rule) not in RULES:
        raise ScoreError(f"{path.parent / METRICS}: no counting rule {str(rule)[:40]!r}: use one of {', '.join(RULES)}")
    return ScoreSet(tuple(scores), {}, summary.get("canaries"), rule)


def find_scores(source: str | Path) -> Path:
    """Return the path of the only file of scores in a folder of scores or a run, or the file itself."""
    path = Path(source)
    if path.is_file():
        return path
    for name in (SCORES, f"{SCORES}.gz"):
        if (path / name).is_file():
            return path / name
    paths = sorted((*path.glob(f"cafe/*/{SCORES}"), *path.glob(f"cafe/*/{SCORES}.gz")))
    if len(paths) == 1:
        return paths[0]
    if paths:
        names = ", ".join(str(file.parent.relative_to(path)) for file in paths)
        raise ScoreError(f"{path} has the scores of several judges ({names}): name one of these folders")
    raise ScoreError(f"{path} has no finished scores: run 'mpar2 cafe score {path} --judge reference' first")


def _check_one_version(outcomes: Iterable[Verdict | Unscored]) -> None:
    """Raise ``ScoreError`` where verdicts of several served model versions are mixed."""
    model_versions = (o.model_version for o in outcomes if isinstance(o, Verdict) and o.model_version)
    versions = Counter(version for joined in model_versions for version in joined.split(" + "))
    if len(versions) > 1:
        counts = ", ".join(f"{version} ({n})" for version, n in versions.most_common())
        raise ScoreError(
            f"the service served {len(versions)} versions of the model: {counts}. One table cannot hold both: score "
            "into a new folder with --name, or pin the model's version with --model"
        )


def _line(score: TraceScore) -> dict[str, Any]:
    line: dict[str, Any] = {"key": score.key, "id": score.id, "arm": score.arm, "sample": score.sample}
    line |= {"clip": score.clip} if score.clip else {}
    line |= {"chars": score.chars} if score.chars else {}
    if isinstance(score.outcome, Verdict):
        return line | {"verdict": score.outcome.as_dict(), "counts": count_events(score.outcome).as_dict()}
    return line | {"unscored": asdict(score.outcome)}


def _summary(score_set: ScoreSet, judge: Judge, limit: int | None, canaries: FlipReport | None) -> dict[str, Any]:
    verdicts = [score.outcome for score in score_set.scores if isinstance(score.outcome, Verdict)]
    versions = {verdict.model_version for verdict in verdicts if verdict.model_version}
    arms = score_set.arms()
    return {
        "judge": judge.id,
        "model": judge.model,
        "model_version": next(iter(versions), None),
        "prompt_hash": judge.prompt_hash,
        "package_version": __version__,
        "truth_origins": dict(score_set.origins),
        "tagger": errors().note() if ORIGIN in score_set.origins else None,
        "limit": limit,
        "scored": len(verdicts),
        "unscored": dict(score_set.unscored),
        "failed": len(score_set.failed),
        "input_tokens": sum(verdict.input_tokens for verdict in verdicts),
        "output_tokens": sum(verdict.output_tokens for verdict in verdicts),
        "canaries": score_set.canaries,
        "canary_counts": canaries.as_dict() if canaries else None,
        "lenient_replies": score_set.leniency[0],
        "replies": score_set.leniency[1],
        "rule": score_set.rule,
        "rules": {arm: {r: rates_as_json(v) for r, v in score_set.rules_of(arm).items()} for arm in arms},
        "claims": {arm: rates_as_json(score_set.claims_of(arm)) for arm in arms},
        "coverage": {arm: dict(zip(("unknown", "known"), score_set.coverage_of(arm), strict=True)) for arm in arms},
        "profile": {arm: score_set.profile_of(arm) for arm in arms},
        "errors_by_part": {arm: errors_by_part(score_set.verdicts_of(arm)[0]) for arm in arms},
        "arms": {arm: rates_as_json(rates) for arm, rates in score_set.rates().items()},
    }


def rates_as_json(rates: Mapping[str, Rate]) -> dict[str, Any]:
    """Return rates as plain JSON values."""
    return {
        name: rate._asdict() | {"micro": rate.micro._asdict(), "macro": rate.macro._asdict()}
        for name, rate in rates.items()
    }
