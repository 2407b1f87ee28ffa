"""Accuracy of a run by the official and by the strict rule, with intervals, by group of items.

Conventions. An answer is right, wrong, or not scored: an item without a public answer is counted and not scored. A
missing answer (a failed item) counts as wrong in ``official`` and ``strict``; ``official_denominator`` leaves it out,
as the official MMAU and MMAR scripts do. An answer that does not name exactly one choice is *unparsable*: it counts,
it is wrong by the strict rule, and the official rule scores the words of the reply. No random choice replaces it.
Among the unparsable answers, ``no_answer`` counts the replies without any answer, and ``wrong_form`` those whose answer
names no choice. ``form`` is the share of replies in exactly the format that the prompt requests (the tags of the mode
and nothing else). A model that was not trained on a format may answer well outside of it.
Answers are parsed from the text of a reply (``mpar2.answers``), so stored runs and new ones share one parser.
With several samples per item, a rate is the mean over samples. The unit of every interval is the clip: questions
about one clip, and samples of one question, are resampled together.

``score``      one record -> right or wrong by each rule
``summarise``  all records -> the content of ``metrics.json``
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from mpar2 import statistics
from mpar2.answers import Answer, read_answer
from mpar2.question import Item, strict_match, string_match
from mpar2.runs.record import kind_of_message, record_key
from mpar2.trace import Trace, has_form, parse_trace

__all__ = ["GROUPS", "Correctness", "answer_of", "majority_vote", "score", "summarise", "vote_sizes"]

GROUPS = ("domain", "category", "sub_category", "difficulty")
_ALL_PAIRS = 8  # with more arms, each is compared with the first one only


class Correctness(NamedTuple):
    """One answer by both rules; ``parsed`` if it names one choice, ``answered`` if an answer was found at all."""

    official: bool
    strict: bool
    parsed: bool
    answered: bool = True
    form: bool | None = None  # whether the reply has the requested format; None: no format was requested


def answer_of(record: Mapping[str, Any], trace: Trace | None = None) -> Answer:
    """Return the answer of an ok record, parsed from its text; the recorded answer if it has no text."""
    if trace is None and record.get("text") is None:
        prediction = record["prediction"] or ""
        return Answer(record.get("answer", prediction) or None, record["choice"], prediction)
    if trace is None:
        trace = parse_trace(record["text"])
    return read_answer(trace, record["item"]["choices"] or ())


def score(record: Mapping[str, Any], answer: Answer | None = None) -> Correctness | None:
    """Score one answered record by the official and the strict rule.

    Returns:
        The score; None if the item has no public answer.

    >>> item = {"choices": ["Man", "Woman"], "answer": "Man"}
    >>> score({"item": item, "choice": "Man", "prediction": "Man"})
    Correctness(official=True, strict=True, parsed=True, answered=True, form=None)
    """
    item = record["item"]
    target, choices = item["answer"], item["choices"] or ()
    if target is None:
        return None
    answer = answer_of(record) if answer is None else answer
    return Correctness(
        official=string_match(target, answer.prediction, choices),
        strict=strict_match(target, answer.choice if choices else answer.words, choices),
        parsed=answer.choice is not None if choices else answer.words is not None,
        answered=answer.choice is not None or answer.words is not None,
    )


@dataclass
class _Tally:
    """Accumulated results of one arm: item, scores and tokens of each answer."""

    clips: dict[str, str]  # item id -> clip
    ids: list[str] = field(default_factory=list)
    scores: list[Correctness] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    answered: int = 0
    form: str | None = None  # format requested from the arm
    withheld: int = 0
    truncated: int = 0
    tokens: list[int] = field(default_factory=list)
    votes: dict[str, dict[int, tuple[str, bool, int | None]]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


def summarise(
    records: Iterable[Mapping[str, Any]],
    items: Sequence[Item],
    samples: Mapping[str, int],
    asked: Mapping[str, Sequence[Item]] | None = None,
    forms: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Compute the metrics of a run.

    Args:
        records: Lines of the run.
        items: Items of the run.
        samples: Answers per item, by arm.
        asked: Items of each arm; by default all items.
        forms: Mode whose format is requested from each arm (``mpar2.prompts.requested_form``); None: no format.

    Returns:
        The content of ``metrics.json``: rates by arm and group, differences of pairs of arms, with 95 % intervals
        clustered by clip.
    """
    truth = {item.id: item for item in items}
    asked = {name: [item.id for item in (asked or {}).get(name, items)] for name in samples}
    clips = {id: item.audio or id for id, item in truth.items()}
    tallies = {name: _Tally(clips, form=(forms or {}).get(name)) for name in samples}
    finished: set[str] = set()
    for record in records:
        name = record["arm"]
        if name not in tallies or record["id"] not in truth:
            continue
        if record["status"] == "ok":
            finished.add(record["key"])
            _count(tallies[name], record, samples[name])
        else:
            tallies[name].errors[record["error"]] += 1
    for name, tally in tallies.items():
        for id in asked[name]:
            if truth[id].question.answer is not None:
                keys = (record_key(id, name, sample) for sample in range(samples[name]))
                tally.missing += [id for key in keys if key not in finished]
    return {
        "items": len(items),
        "arms": {name: _arm_metrics(tally, truth, asked[name], samples[name]) for name, tally in tallies.items()},
        "pairs": _pairs(tallies),
        "rules": {
            "official": "set of words, as the MMAU and MMAR scripts; a missing answer is wrong",
            "official_denominator": "the same rule over answered items only, as the scripts count",
            "strict": "the one choice that the answer names; a missing or unparsable answer is wrong",
            "interval": "95 %; Wilson for one answer a clip, bootstrap over clips for several; n counts clips",
        },
    }


def _count(tally: _Tally, record: Mapping[str, Any], samples: int) -> None:
    tally.answered += 1
    tally.truncated += record["finish"] == "length"
    if record["tokens"] is not None:
        tally.tokens.append(record["tokens"])
    trace = None if record.get("text") is None else parse_trace(record["text"])
    answer = answer_of(record, trace)
    scored = score(record, answer)
    if scored is None:
        tally.withheld += 1
        return
    if tally.form is not None and trace is not None:
        scored = scored._replace(form=has_form(trace, tally.form))
    tally.ids.append(record["id"])
    tally.scores.append(scored)
    if samples > 1:
        vote = (answer.prediction, scored.official, record["tokens"])
        tally.votes.setdefault(record["id"], {})[record["sample"]] = vote


def _group_errors(errors: Counter[str]) -> dict[str, int]:
    """Return the ten most frequent causes of failure: the first message of each kind, with counts."""
    kinds: dict[str, list[str]] = {}
    for message in sorted(errors):
        kinds.setdefault(kind_of_message(message), []).append(message)
    counts: Counter[str] = Counter()
    for messages in kinds.values():
        suffix = f" (and {len(messages) - 1} more like it)" if len(messages) > 1 else ""
        counts[messages[0] + suffix] = sum(errors[message] for message in messages)
    return dict(counts.most_common(10))


def _arm_metrics(tally: _Tally, truth: Mapping[str, Item], asked: Sequence[str], samples: int) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    for group in GROUPS:
        values = dict.fromkeys(getattr(truth[id].question, group) for id in asked)
        if values.keys() - {None}:
            groups[group] = {
                value or "(none)": _rates(tally, {i for i in asked if getattr(truth[i].question, group) == value})
                for value in sorted(values, key=str)
            }
    total = sum(tally.tokens) if tally.tokens else None
    return {
        "asked": len(asked) * samples,
        "answered": tally.answered,
        "failed": sum(tally.errors.values()),
        "reasons": _group_errors(tally.errors),
        "answer_withheld": tally.withheld,
        "truncated": tally.truncated,
        "tokens": {"total": total, "mean": total / len(tally.tokens) if tally.tokens else None},
        **_rates(tally, set(asked)),
        "by": groups,
        "self_consistency": _self_consistency(tally, samples),
    }


def _rates(tally: _Tally, ids: set[str]) -> dict[str, Any]:
    """Return the rates over a subset of the items."""
    rows = [(id, correctness) for id, correctness in zip(tally.ids, tally.scores, strict=True) if id in ids]
    missing = [id for id in tally.missing if id in ids]
    answered = [id for id, _ in rows]
    every = answered + missing

    def rate(values: list[bool], value_ids: list[str]) -> dict[str, Any]:
        return statistics.accuracy_interval(values, [tally.clips[id] for id in value_ids])._asdict()

    official = [correctness.official for _, correctness in rows]
    forms = [(id, correctness.form) for id, correctness in rows if correctness.form is not None]
    return {
        "scored": len(every),
        "items": len(set(every)),
        "clips": len({tally.clips[id] for id in every}),
        "missing": len(missing),
        "unparsable": sum(not correctness.parsed for _, correctness in rows),
        "no_answer": sum(not correctness.answered for _, correctness in rows),
        "wrong_form": sum(correctness.answered and not correctness.parsed for _, correctness in rows),
        "official": rate(official + [False] * len(missing), every),
        "official_denominator": rate(official, answered),
        "form": rate([form for _, form in forms], [id for id, _ in forms]) if forms else None,
        "strict": rate([correctness.strict for _, correctness in rows] + [False] * len(missing), every),
    }


def vote_sizes(samples: int) -> list[int]:
    """Return the numbers of answers for majority voting: 1, 2, 4, .. and all ``samples``."""
    return sorted({2**n for n in range(samples.bit_length()) if 2**n <= samples} | {samples})


def majority_vote(answers: Sequence[str]) -> int:
    """Find the most frequent answer (self-consistency, arXiv 2203.11171); ties go to the first one.

    Args:
        answers: Answers of one item, in the order of their samples; at least one.

    Returns:
        The index of the winner's first occurrence.

    >>> majority_vote(["a cat", "a dog", "a dog"]), majority_vote(["a cat", "a dog"])
    (1, 0)
    """
    count = Counter(answers)
    return answers.index(max(count, key=lambda answer: count[answer]))  # Counter keeps the order of first occurrence


def _self_consistency(tally: _Tally, samples: int) -> list[dict[str, Any]]:
    """Return the accuracy of the majority of the first k answers, k = 1, 2, 4, .. K, over items with all K answers.

    ``tokens`` is the mean cost of the k answers.
    """
    if samples == 1:
        return []
    complete = {id: votes for id, votes in tally.votes.items() if len(votes) == samples}
    clips = [tally.clips[id] for id in complete]
    rows: list[dict[str, Any]] = []
    for size in vote_sizes(samples):
        right: list[bool] = []
        costs: list[int] = []
        for votes in complete.values():
            ballots = [votes[sample] for sample in range(size)]
            right.append(ballots[majority_vote([choice for choice, _, _ in ballots])][1])
            if all(tokens is not None for _, _, tokens in ballots):
                costs.append(sum(tokens or 0 for _, _, tokens in ballots))
        official = statistics.accuracy_interval(right, clips)._asdict()
        rows.append({"samples": size, "official": official, "tokens": sum(costs) / len(costs) if costs else None})
    return rows


def _pairs(tallies: Mapping[str, _Tally]) -> list[dict[str, Any]]:
    """Return the paired differences of each pair of arms by the official rule, over the items that both answered."""
    means: dict[str, dict[str, float]] = {}
    for name, tally in tallies.items():
        sums: dict[str, list[bool]] = {}
        for id, correctness in zip(tally.ids, tally.scores, strict=True):
            sums.setdefault(id, []).append(correctness.official)
        means[name] = {id: sum(values) / len(values) for id, values in sums.items()}
    names = list(means)
    pairs = combinations(names, 2) if len(names) <= _ALL_PAIRS else ((names[0], other) for other in names[1:])
    rows: list[dict[str, Any]] = []
    for first, second in pairs:
        ids = [id for id in means[first] if id in means[second]]
        clips = [tallies[first].clips[id] for id in ids]
        compared = statistics.compare_arms(*([means[arm][id] for id in ids] for arm in (first, second)), groups=clips)
        rows.append({"arms": [first, second], "items": len(ids), "clips": len(set(clips)), **compared})
    return rows
