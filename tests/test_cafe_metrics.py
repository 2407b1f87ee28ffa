"""CAFE's numbers against an obvious version, their identities, and their edges."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpar2.cafe.metrics import (
    METRICS,
    RULES,
    EventCounts,
    check_counts,
    count_events,
    evaluate,
    rates_of_trace,
    table,
)
from mpar2.cafe.rules.judge import annotate
from mpar2.cafe.schema import Mention, MentionKind, Truth, Verdict, missed_events
from mpar2.cafe.score import read_scores
from mpar2.question import Event
from mpar2.runs import read_run
from mpar2.trace import Span

TRUTH = Truth((Event("dog bark", 0.0, 2.0), Event("siren", 4.0, 6.0), Event("piano", 7.0, 8.0)))


def counts_of(text: str, truth: Truth = TRUTH) -> EventCounts:
    return count_events(annotate(text, truth))


def random_counts(n: int, seed: int) -> list[EventCounts]:
    rng = random.Random(seed)
    return [EventCounts(*(rng.choice((0, 0, 1, 2, 5)) for _ in range(6))) for _ in range(n)]


def slow(counts: list[EventCounts]) -> dict[str, Any]:
    """The definitions, written down one after the other."""

    def ratio(pairs: list[tuple[int, int]]) -> tuple[float | None, float | None, int]:
        defined = [(a, b) for a, b in pairs if b]
        above, below = sum(a for a, _ in pairs), sum(b for _, b in pairs)
        micro = above / below if below else None
        return micro, (sum(a / b for a, b in defined) / len(defined) if defined else None), len(pairs) - len(defined)

    pred = [(c, c.matched + c.misused + c.hallucinated) for c in counts]
    target = [(c, c.matched + c.misused + c.missed) for c in counts]
    expected = {
        "acc_per": ratio([(c.matched, n) for c, n in pred]),
        "err_per": ratio([(c.hallucinated, n) for c, n in pred]),
        "err_use": ratio([(c.misused, n) for c, n in pred]),
        "err_omit": ratio([(c.missed, n) for c, n in target]),
        "recall": ratio([(c.matched, n) for c, n in target]),
        "events": ratio([(n, 1) for _, n in pred]),
    }
    f1 = [(2 * c.matched, n + m) for (c, n), (_, m) in zip(pred, target, strict=True)]
    both = [pair for pair, (_, n), (_, m) in zip(f1, pred, target, strict=True) if n and m]
    pooled = ratio(f1)[0]
    expected["f1"] = (pooled, sum(a / b for a, b in both) / len(both) if both else None, len(counts) - len(both))
    return expected


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_obvious_version(seed: int) -> None:
    counts = random_counts(60, seed)
    rates = evaluate(counts, resamples=50)
    for name, (micro, macro, undefined) in slow(counts).items():
        assert rates[name].micro.estimate == pytest.approx(micro)
        assert rates[name].macro.estimate == pytest.approx(macro)
        assert rates[name].undefined == undefined


def test_intervals_equal_an_obvious_bootstrap_of_items() -> None:
    counts = random_counts(40, 3)
    items = [f"item{number // 2}" for number in range(40)]
    found = evaluate(counts, items, resamples=4000)["acc_per"].micro
    rng = random.Random(1)
    draws = []
    for _ in range(4000):
        drawn = [rng.randrange(20) for _ in range(20)]
        chosen = [counts[2 * item + half] for item in drawn for half in (0, 1)]
        draws.append(sum(c.matched for c in chosen) / sum(c.n_pred for c in chosen))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.015), pytest.approx(high, abs=0.015))
    assert found.n == 20


def test_every_event_has_one_fate() -> None:
    counts = counts_of("A dog barks. The dog barks at 9.0 s. The dog barks. A cat meows; the CAT meows. A siren wails.")
    assert (counts.matched, counts.misused, counts.hallucinated, counts.missed) == (1, 1, 1, 1)
    assert counts.mentions == 6
    assert (counts.n_pred, counts.n_tgt) == (3, 3)


def test_repeating_the_true_or_the_false_moves_nothing() -> None:
    once = counts_of("A dog barks. A cat meows.")
    often = counts_of("A dog barks. A cat meows." + " The dog barks. The cat meows." * 9)
    assert rates_of_trace(once) == rates_of_trace(often)


def test_shares_of_asserted_events_sum_to_one() -> None:
    for counts in random_counts(50, 9):
        rates = rates_of_trace(counts)
        parts = [rates[name] for name in ("acc_per", "err_per", "err_use")]
        assert parts == [None] * 3 if counts.n_pred == 0 else sum(parts) == pytest.approx(1.0)


def test_a_trace_that_asserts_nothing_is_counted_and_left_out() -> None:
    silent, right = counts_of("Is there a dog?"), counts_of("A dog barks.")
    rates = evaluate([silent, right])
    assert rates_of_trace(silent)["acc_per"] is None
    assert (rates["acc_per"].micro.estimate, rates["acc_per"].macro.estimate, rates["acc_per"].undefined) == (
        1.0,
        1.0,
        1,
    )
    assert rates["err_omit"].micro.estimate == pytest.approx(5 / 6)
    assert rates["f1"].undefined == 1


def test_nothing_to_score_gives_no_number() -> None:
    for counts in ([], [EventCounts()]):
        rates = evaluate(counts)
        assert all(rates[name].micro.estimate is None for name in METRICS if name != "events")
    assert "-" in table(evaluate([]))


def test_the_table_shows_counts_beside_every_rate() -> None:
    counts = [counts_of("A dog barks. A cat meows."), counts_of("A siren wails.")]
    shown = table(evaluate(counts), counts)
    assert "2/3" in shown and "4/6" in shown
    assert "2 traces: 2 matched, 1 hallucinated, 0 misused, 4 missed" in shown


def test_the_same_seed_gives_the_same_interval() -> None:
    counts = random_counts(30, 2)
    assert evaluate(counts, seed=4) == evaluate(counts, seed=4)


@pytest.mark.parametrize("bad", [-1, 0.5, True])
def test_counts_that_no_verdict_gave_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"trace 0: matched .* whole numbers"):
        check_counts([EventCounts(matched=bad)])


def test_groups_must_be_one_for_each_trace() -> None:
    with pytest.raises(ValueError, match="1 groups for 2 traces"):
        evaluate([EventCounts(), EventCounts()], ["a"])


def _of(*mentions: tuple[str, str, tuple[int, ...]], targets: tuple[str, ...] = ("dog", "siren")) -> Verdict:
    made = tuple(
        Mention(
            f"m{n}", label, Span(n, n + 1), label, MentionKind(kind), events, "wrong time" if kind == "misused" else ""
        )
        for n, (label, kind, events) in enumerate(mentions)
    )
    return Verdict(made, missed_events(made, len(targets)), targets, "server", "human")


def test_each_counting_rule_gives_the_outcome_that_its_words_say() -> None:
    verdict = _of(("dog", "matched", (0,)), ("dog", "misused", (0,)), ("cat", "hallucinated", ()))
    counted = {rule: count_events(verdict, rule) for rule in RULES}
    said = {rule: (c.matched, c.misused, c.hallucinated, c.n_pred, c.n_tgt) for rule, c in counted.items()}
    assert said == {
        "any_wrong": (0, 1, 1, 2, 2),
        "first": (1, 0, 1, 2, 2),
        "any_right": (1, 0, 1, 2, 2),
        "mention": (1, 1, 1, 3, 2),
        "sound": (1, 0, 1, 2, 2),
        "sound_at_time": (0, 0, 0, 0, 2),
    }
    with pytest.raises(ValueError, match="choose one of any_wrong"):
        count_events(verdict, "best")


def test_the_rules_disagree_on_decay_as_an_audit_of_the_shipped_run_found() -> None:
    """Thirds by length (33/33/34) of two arms, recomputed by other code from the same verdicts."""
    run = Path(__file__).parents[1] / "examples/runs/held-out-scenes"
    tokens = {record["key"]: record["tokens"] for record in read_run(run).records()}
    audit = {
        ("base cot", "any_wrong"): (0.50, 0.365, 0.10),
        ("mpar2", "any_wrong"): (0.53, 0.41, 0.36),
        ("base cot", "first"): (0.66, 0.62, 0.41),
        ("mpar2", "any_right"): (0.69, 0.66, 0.74),
        ("base cot", "mention"): (0.59, 0.55, 0.31),
    }
    scores = read_scores(run / "cafe/reference").scores
    for (arm, rule), thirds in audit.items():
        ours = sorted((s for s in scores if s.arm == arm), key=lambda s: tokens[s.key])
        counts = [count_events(s.outcome, rule) for s in ours if isinstance(s.outcome, Verdict)]
        for part, expected in zip((counts[:33], counts[33:66], counts[66:]), thirds, strict=True):
            found = sum(c.matched for c in part) / sum(c.n_pred for c in part)
            assert abs(found - expected) < 0.04, (arm, rule, found, expected)
