"""CAFE in the app: classification of the events that a trace mentions against the events of the clip.

The judge is either the rules or a model, and the page names it. Rules use known events (an example's, or the visitor's
list), else a tagger's events (``pages.opinion``). A model is Gemini or an OpenAI-compatible server, with a key or an
address that the visitor enters for one run. If no events are known, a model judge first captions the clip and uses its
caption as the truth.

A visitor's key is kept only in the memory of its run, and in no log, state, link, file or document. The server's own
keys are never used for a visitor: a key is always passed explicitly, even an empty one, because clients fall back to
the environment without a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mpar2.audio import Clip
from mpar2.cafe.judges import JudgeOptions, judge_named, judge_names, make_judge
from mpar2.cafe.metrics import count_events, rates_of_trace
from mpar2.cafe.schema import JudgeRequest, Truth, Unscored, Verdict
from mpar2.errors import MPAR2Error
from mpar2.llm.address import check_base_url
from mpar2.llm.errors import LLMError
from mpar2.llm.transport import public_only
from mpar2.question import Question
from mpar2.tagger import ORIGIN
from pages.errors import message_of

_METRICS = ("acc_per", "err_per", "err_use", "err_omit")
_NO_KEY = "EMPTY"  # for servers without keys; not empty, so that no client falls back to the environment
_TIMEOUT_S, _PUBLIC_TIMEOUT_S = 240.0, 90.0
_BEAT_S = 0.2
_ORIGINS = {
    "scene": "the exact annotation of the scene",
    "human": "a listener's annotation",
    "cue": "the cue of the benchmark",
    "visitor": "the events that you listed",
    ORIGIN: "the opinion of a tagger, a machine that errs",
}


class JudgingError(MPAR2Error, ValueError):
    """The judge cannot be used as requested. The message states the reason and the remedy."""


@dataclass(frozen=True)
class Judging:
    """Options of the judge. ``secret`` is left out of ``repr``."""

    judge: str = "rules"  # or another of mpar2.cafe.judges
    secret: str = field(default="", repr=False)
    address: str = ""
    model: str = ""

    @property
    def needs_sounds(self) -> bool:
        """Return whether the judge needs target events, because it cannot caption the clip."""
        return self.judge == "rules" or judge_named(self.judge).service is None

    def check(self, *, local: bool) -> None:
        """Check that the judge can be used.

        ``local``: only this machine reaches the app, so any address may be called.

        Raises:
            JudgingError: Something is missing, or the address must not be called.
        """
        if self.judge == "rules":
            return
        names = [value for _, value in judge_choices()]
        if self.judge not in names:
            raise JudgingError(f"unknown judge '{self.judge[:40]}': choose one of {', '.join(names)}")
        service = judge_named(self.judge).service
        if service is None:
            return
        if service.needs_key and not self.secret.strip():
            raise JudgingError(f"{service.title} needs a key: paste yours, or check mentions by rules")
        if service.needs_address:
            check_address(self.address, local=local)
            if not self.model.strip():
                raise JudgingError("a server needs the name of a model; it lists its models at /v1/models")


def judge_choices() -> list[tuple[str, str]]:
    """List the judges as ``(label, value)``: the rules (``reference``), and all others of ``mpar2.cafe.judges``."""
    titles = {name: judge_named(name).title for name in judge_names() if name != "reference"}
    return [("Rules", "rules"), *((title[:1].upper() + title[1:], name) for name, title in titles.items())]


def check_address(address: str, *, local: bool) -> None:
    """Check that a visitor may make this machine call an address.

    Raises:
        JudgingError: The address is invalid, or must not be called.
    """
    if not local and not address.strip().lower().startswith("https:"):
        raise JudgingError("this app is public, so the server's address must begin with https://")
    try:
        check_base_url(address, public_only=not local)
    except ValueError as error:
        raise JudgingError(f"{error}. Write it like https://host/v1") from None


def score_traces(
    judging: Judging,
    clip: Clip,
    question: Question,
    truth: Truth | None,
    texts: list[str],
    *,
    local: bool = True,
) -> Iterator[tuple[int, dict[str, Any]] | None]:
    """Classify the mentions of traces.

    Args:
        judging: The judge, with its key or address.
        clip: The clip, which a model captions if ``truth`` is None.
        question: Its question.
        truth: Target events of the mentions; None if they are unknown.
        texts: The traces of all arms; an empty one is skipped.
        local: Only this machine reaches the app, so a judge has more time and may be at any address.

    Yields:
        (index of the arm, ``cafe`` of the document) for each trace with text. While a model judge works, None several
        times per second; closing the generator then cancels the requests.
    """
    if judging.judge == "rules":
        if truth is None:
            return
        from mpar2.cafe.rules.judge import annotate

        for index, text in enumerate(texts):
            if text.strip():
                yield index, cafe_document(annotate(text, truth, choices=question.choices))
        return
    requests = [(index, text) for index, text in enumerate(texts) if text.strip()]
    timeout_s = _TIMEOUT_S if local else _PUBLIC_TIMEOUT_S
    judging_task = asyncio.wait_for(_ask(judging, clip, question, truth, requests, local=local), timeout_s)
    try:
        with asyncio.Runner() as runner:  # its end cancels pending requests
            task = runner.get_loop().create_task(judging_task)
            while not task.done():
                runner.run(asyncio.wait([task], timeout=_BEAT_S))
                yield None
            outcomes = task.result()
    except MPAR2Error as error:
        detail = error.detail if isinstance(error, LLMError) else str(error)
        outcomes = {index: Unscored("unavailable", detail) for index, _ in requests}
    except TimeoutError:
        outcomes = {index: Unscored("unavailable", f"no answer within {timeout_s:.0f} s") for index, _ in requests}
    except Exception as error:  # an invalid reply of a judge must not lose the traces
        outcomes = {index: Unscored("unavailable", message_of(error)) for index, _ in requests}
    for index, outcome in outcomes.items():
        yield index, cafe_document(outcome)


async def _ask(
    judging: Judging,
    clip: Clip,
    question: Question,
    truth: Truth | None,
    requests: list[tuple[int, str]],
    *,
    local: bool,
) -> dict[int, Verdict | Unscored]:
    from mpar2.cafe.caption import Captioner
    from mpar2.llm.services import connect, judge_model

    entry = judge_named(judging.judge)
    service = entry.service
    model = judging.model.strip() or None
    address = judging.address.strip() if service is not None and service.needs_address else None
    key = judging.secret.strip() or _NO_KEY
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(public_only(not local))
        if truth is None:
            assert service is not None  # see needs_sounds
            with tempfile.TemporaryDirectory(prefix="mpar2-caption-") as folder:  # captions are not kept
                model_name = judge_model(service.name, model)
                async with connect(service.name, model_name, base_url=address, api_key=key) as client:
                    truth = (await Captioner(client, folder).caption(clip)).truth()
        request_fields = (question.text, question.choices, question.answer, truth)
        judge = make_judge(entry.name, JudgeOptions(model, address, key))
        if isinstance(judge, contextlib.AbstractAsyncContextManager):
            await stack.enter_async_context(judge)
        verdicts = await asyncio.gather(*(judge.judge(JudgeRequest(*request_fields, text)) for _, text in requests))
    return {index: verdict for (index, _), verdict in zip(requests, verdicts, strict=True)}


def cafe_document(outcome: Verdict | Unscored) -> dict[str, Any]:
    """Return the ``cafe`` of an arm in the comparison document."""
    if isinstance(outcome, Unscored):
        reason = "The judge did not answer" if outcome.reason == "unavailable" else outcome.reason.replace("_", " ")
        return {"unscored": f"{reason}. {outcome.detail}".strip()}
    counts = count_events(outcome)
    rates = rates_of_trace(counts)
    verdict = outcome.as_dict()
    truth_name = _ORIGINS.get(outcome.truth_origin) or f"a caption by {outcome.truth_origin.removeprefix('caption:')}"
    judge_name = outcome.model_version or outcome.model or outcome.judge
    judge_name = "rules, without a model" if outcome.judge == "reference" else judge_name
    return {
        **{key: verdict[key] for key in ("mentions", "missed", "targets", "judge", "model", "model_version")},
        **{key: verdict[key] for key in ("prompt_hash", "truth_origin", "package_version")},
        "counts": {
            "matched": counts.matched,
            "hallucinated": counts.hallucinated,
            "misused": counts.misused,
            "missed": counts.missed,
            "neutral": counts.neutral_mentions,
            "predicted": counts.n_pred,
            "targets": counts.n_tgt,
        },
        "metrics": {name: rates[name] for name in _METRICS},
        "source": f"Judged by {judge_name}, against {truth_name}.",
    }
