"""Many traces and one judge: bounded, with progress, resumable.

Each verdict is one line of a journal, under the hash of all that it depends on: judge, model, prompts and the request.
A start after a kill judges what is missing. An unscored trace is a result like any other, except where the service gave
no answer at all: such a trace is reported as failed, left out of the journal, and judged on the next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mpar2.cafe.schema import Judge, JudgeRequest, Unscored, Verdict
from mpar2.llm.batch import run_batch
from mpar2.llm.errors import CallFailed
from mpar2.llm.journal import Journal, content_key

__all__ = ["BatchJudgement", "judge_all", "request_key"]

# No answer came; asking later may bring one, and nothing was paid.
_TRANSIENT = ("rate_limited", "unavailable", "bad_request")


@dataclass(frozen=True)
class BatchJudgement:
    """Outcomes under the names of the requests, in their order; ``failed``: without an answer, with the reason."""

    outcomes: dict[str, Verdict | Unscored]
    failed: dict[str, str]
    resumed: int  # outcomes that were in the journal before


def request_key(judge: Judge, request: JudgeRequest) -> str:
    """Return what a verdict depends on, in one hash."""
    content = asdict(request)
    if not request.truth.unsure:  # verdicts of before such truths keep their keys
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
    """Judge every request, ``in_flight`` at a time; those with equal content once.

    A model judge is entered by the caller (``async with``), so that all traces share its connections. ``label`` names a
    progress bar. Raises :class:`~mpar2.llm.errors.StopRun` where the run cannot go on.
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

    done = await run_batch(
        requests.items(), work, key=lambda item: keys[item[0]], journal=journal, in_flight=in_flight, label=label
    )
    outcomes = {name: _outcome(done.records[key]) for name, key in keys.items() if key in done.records}
    failed = {name: str(done.failed[key]) for name, key in keys.items() if key in done.failed}
    return BatchJudgement(outcomes, failed, done.resumed)


def _outcome(record: dict[str, Any]) -> Verdict | Unscored:
    if "verdict" in record:
        return Verdict.from_dict(record["verdict"])
    return Unscored(**record["unscored"])
