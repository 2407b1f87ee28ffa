"""Simulated runs whose truth is known: intervals cover it, and curves, slopes and tests say it."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.slopes import held_difficulty, within_item
from mpar2 import statistics

RUNS = 200
COVERED = (0.93, 0.97)  # of nominal 95 % intervals, over all simulations of a kind
CLIPS, QUESTIONS, SAMPLES = 50, 2, 2


def _clustered(rng: np.random.Generator, clips: int = CLIPS):
    """Two questions a clip, several events a trace; what a clip is like is shared by its questions (rate 0.5)."""
    clip = np.repeat(np.arange(clips), QUESTIONS)
    ease = rng.beta(1, 1, clips)[clip]
    below = rng.integers(1, 7, len(clip)).astype(float)
    return clip, rng.binomial(below.astype(int), ease).astype(float), below


def _share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def _simulations(kind: int):
    return (np.random.default_rng([kind, number]) for number in range(4 * RUNS))


@pytest.mark.parametrize("clips", [25, 50, 100])
def test_clustered_intervals_of_pooled_rates_cover_and_unclustered_ones_do_not(clips: int) -> None:
    clustered, alone = [], []
    for rng in _simulations(clips):
        clip, above, below = _clustered(rng, clips)
        for groups, hits in ((clip, clustered), (None, alone)):
            found = statistics.bootstrap_interval(above, below, groups=groups, resamples=1000)
            hits.append(found.low <= 0.5 <= found.high)
    assert COVERED[0] <= _share(clustered) <= COVERED[1]
    assert _share(alone) < 0.9, "items of one clip are no independent evidence"


def test_intervals_of_accuracy_cover_with_and_without_shared_clips() -> None:
    for kind, spread in ((1, None), (2, 4.0)):
        hits = []
        for rng in _simulations(kind):
            clip = np.repeat(np.arange(60), 2) if spread else np.arange(120)
            ease = rng.beta(0.6 * spread, 0.4 * spread, 60)[clip] if spread else 0.6
            found = statistics.accuracy_interval((rng.random(120) < ease).astype(float), clip, resamples=1000)
            hits.append(found.low - 1e-9 <= 0.6 <= found.high + 1e-9)
        assert COVERED[0] <= _share(hits) <= COVERED[1]


def test_paired_differences_cover_and_keep_their_level() -> None:
    hits, wrong = [], []
    for rng in _simulations(3):
        clip = np.repeat(np.arange(CLIPS), QUESTIONS)
        ease = np.clip(rng.normal(0.5, 0.2, CLIPS), 0.05, 0.85)[clip]
        sides = [(rng.random(len(clip)) < ease + shift).astype(float) for shift in (0.0, 0.1, 0.0)]
        truth = 0.1
        found = statistics.paired_bootstrap(sides[0], sides[1], groups=clip, resamples=1000)
        hits.append(found.low - 1e-9 <= truth <= found.high + 1e-9)  # differences are multiples of 1 %
        wrong.append(statistics.paired_bootstrap(sides[0], sides[2], groups=clip, resamples=1000).p_value < 0.05)
    assert COVERED[0] <= _share(hits) <= COVERED[1]
    assert 0.03 <= _share(wrong) <= 0.07


def _run(rng: np.random.Generator, slope: float, confounded: bool):
    """Traces of questions of three difficulties; length may follow difficulty, and acts on the rate by ``slope``."""
    items = np.arange(CLIPS * QUESTIONS)
    item = np.repeat(items, SAMPLES)
    clip = item // QUESTIONS
    difficulty = rng.integers(0, 3, len(items))[item]
    doublings = rng.normal(0, 0.8, len(item)) + (difficulty - 1.0 if confounded else 0.0)
    rate = np.clip(0.5 - (0.15 * (difficulty - 1.0) if confounded else 0.0) + slope * doublings, 0.02, 0.98)
    below = rng.integers(2, 7, len(item)).astype(float)
    return item, clip, difficulty, doublings, rng.binomial(below.astype(int), rate) / below, below


@pytest.mark.parametrize(("slope", "confounded"), [(0.0, False), (-0.08, False), (0.0, True), (-0.05, True)])
def test_slopes_say_the_truth_with_decay_without_and_confounded(slope: float, confounded: bool) -> None:
    free, held, inside = [], [], []
    for rng in _simulations(int(10 + 100 * abs(slope) + confounded)):
        item, clip, difficulty, x, y, weights = _run(rng, slope, confounded)
        for strata, found in ((None, free), (difficulty, held), (item, inside)):
            found.append(statistics.slope(x, y, weights, groups=clip, strata=strata, resamples=1000))
    for found in (held, inside) if confounded else (free, held, inside):
        covered = _share([one.low <= slope <= one.high for one in found])
        assert COVERED[0] <= covered <= COVERED[1], (slope, covered)
    falls = {name: _share([one.high < 0 for one in found]) for name, found in (("free", free), ("held", held))}
    if confounded and slope == 0:
        assert falls["free"] > 0.9 and falls["held"] < 0.06, "difficulty poses as length unless it is held"
    if not confounded:
        assert (falls["free"] > 0.8) == (slope < 0)


def test_logistic_slopes_cover_with_answers_of_one_clip_alike() -> None:
    covered = {"difficulty": [], "item": []}
    for number in range(RUNS):
        rng = np.random.default_rng([20, number])
        item = np.repeat(np.arange(120), 4)
        clip, difficulty = item // 2, np.repeat(rng.integers(0, 3, 120), 4)
        x = rng.normal(0, 0.8, len(item)) + difficulty
        odds = 1.0 - 1.0 * difficulty - 0.4 * (x - 1)
        right = (rng.random(len(item)) < 1 / (1 + np.exp(-odds))).astype(float)
        for name, found in (
            ("difficulty", held_difficulty(right, 2.0 ** (x + 6), clip, difficulty)),
            ("item", within_item(right, 2.0 ** (x + 6), item)),
        ):
            covered[name].append(np.log(found.odds_ratio.low) <= -0.4 <= np.log(found.odds_ratio.high))
    for hits in covered.values():
        assert 0.91 <= _share(hits) <= 0.985  # 200 simulations: 0.95 with two standard errors of sampling


def test_holm_keeps_the_chance_of_any_false_finding() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((4 * RUNS, 12))
    plain = _share([(row < 0.05).any() for row in p])
    corrected = _share([min(statistics.holm(list(row))) < 0.05 for row in p])
    assert plain > 0.4 and corrected < 0.07
    assert statistics.holm([None, 0.01, float("nan")]) == [None, 0.01, None]
