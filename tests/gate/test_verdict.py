"""The statistics: known answers, error rates by simulation, and what is refused. No torch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.gate.verdict import FASTER, INCONCLUSIVE, SAME, SLOWER, Plan, decide, launch_ratio

PLAN = Plan()
STEP = 0.1  # s


def launches(effect: float, n: int, noise: float = 0.01, seed: int = 0) -> list[float]:
    """Log ratios with exactly this mean and standard deviation."""
    values = np.random.default_rng(seed).normal(size=n)
    values = (values - values.mean()) / values.std(ddof=1)
    return list(math.log1p(effect) + noise * values)


def test_a_ratio_is_the_median_over_neighbours_in_time() -> None:
    base = [1.0, 2.0, 4.0]  # the machine slows down; the ratio does not
    assert launch_ratio(base, [1.1, 2.2, 4.4]) == pytest.approx(math.log(1.1))
    assert launch_ratio(base, [1.1, 2.2, 99.0]) == pytest.approx(math.log(1.1)), "one disturbed sample"


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("side", ["base", "head"])
def test_a_time_that_is_no_time_is_refused_and_the_side_named(bad: float, side: str) -> None:
    good, broken = [1.0, 1.0], [1.0, bad]
    with pytest.raises(ValueError, match=f"^{side} reported a time of"):
        launch_ratio(*((broken, good) if side == "base" else (good, broken)))


def test_samples_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        launch_ratio([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no pairs"):
        launch_ratio([], [])


@pytest.mark.parametrize(
    ("effect", "kind"), [(0.10, SLOWER), (-0.10, FASTER), (0.0, SAME), (0.02, INCONCLUSIVE)]
)
def test_known_answers(effect: float, kind: str) -> None:
    verdict = decide(launches(effect, 8), STEP, PLAN, tests=8)
    assert verdict.kind == kind
    assert verdict.ratio == pytest.approx(1 + effect)
    assert verdict.launches == 8


def test_the_p_value_is_students() -> None:
    values = launches(0.02, 6)
    verdict = decide(values, STEP, PLAN, tests=8)
    assert verdict.p == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (math.log(verdict.low), math.log(verdict.high)) == pytest.approx((low, high))


def test_the_sides_are_treated_alike() -> None:
    values = launches(0.06, 8)
    slower = decide(values, STEP, PLAN, tests=8)
    faster = decide([-value for value in values], STEP, PLAN, tests=8)
    assert (slower.kind, faster.kind) == (SLOWER, FASTER)
    assert slower.ratio * faster.ratio == pytest.approx(1)


def test_more_cases_ask_for_more_evidence() -> None:
    values = launches(0.05, 8, noise=0.018)
    assert decide(values, STEP, PLAN, tests=2).kind == SLOWER
    assert decide(values, STEP, PLAN, tests=2000).kind != SLOWER


def test_a_change_below_the_floor_is_not_red_however_sure() -> None:
    values = launches(0.10, 8, noise=0.001)
    assert decide(values, 100e-6, PLAN, tests=8).kind == SAME  # 10 µs, and the floor is 20
    assert decide(values, 100e-3, PLAN, tests=8).kind == SLOWER


def test_a_certain_change_below_the_minimum_effect_is_the_same() -> None:
    verdict = decide(launches(0.01, 8, noise=0.001), STEP, PLAN, tests=8)
    assert verdict.p < 1e-6
    assert verdict.kind == SAME


def test_too_noisy_to_say_is_inconclusive_not_the_same() -> None:
    assert decide(launches(0.0, 8, noise=0.2), STEP, PLAN, tests=8).kind == INCONCLUSIVE


@pytest.mark.parametrize("values", [[], [0.1]])
def test_one_launch_decides_nothing(values: list[float]) -> None:
    assert decide(values, STEP, PLAN, tests=1).kind == INCONCLUSIVE


def test_launches_that_agree_to_the_last_bit_are_the_same() -> None:
    assert decide([0.0] * 4, STEP, PLAN, tests=8).kind == SAME


def test_what_cannot_be_decided_on_is_refused() -> None:
    with pytest.raises(ValueError, match="not all finite"):
        decide([0.0, math.nan], STEP, PLAN, tests=1)
    with pytest.raises(ValueError, match="at least one case"):
        decide([0.0, 0.1], STEP, PLAN, tests=0)


@pytest.mark.parametrize("fields", [{"min_effect": 0.0}, {"min_effect": 3}, {"looks": (4, 4)}, {"looks": ()}])
def test_plans_that_make_no_sense_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"minimum effect|looks"):
        Plan(**fields)  # type: ignore[arg-type]


def test_all_looks_together_spend_what_a_test_has() -> None:
    looks = (0, *PLAN.looks)
    levels = [
        decide(launches(0.0, now), STEP, PLAN, tests=5, spent_at=before).level
        for before, now in itertools.pairwise(looks)
    ]
    assert sum(levels) == pytest.approx(PLAN.alpha / 5)
    assert all(level > 0 for level in levels)


def replay(effect: float, noise: float, runs: int, cases: int, *, heavy: bool = False) -> tuple[float, float]:
    """Shares of runs with any case called slower, and of cases called slower."""
    generator = np.random.default_rng(1)
    draw = generator.standard_t(3, (runs, cases, PLAN.most)) / math.sqrt(3) if heavy else None
    values = generator.normal(size=(runs, cases, PLAN.most)) if draw is None else draw
    values = math.log1p(effect) + noise * values
    red = np.zeros((runs, cases), dtype=bool)
    for run in range(runs):
        for case in range(cases):
            before = 0
            for look in PLAN.looks:
                verdict = decide(list(values[run, case, :look]), STEP, PLAN, tests=cases, spent_at=before)
                before = look
                if verdict.decided:
                    red[run, case] = verdict.kind == SLOWER
                    break
    return red.any(axis=1).mean(), red.mean()


@pytest.mark.parametrize("heavy", [False, True])
def test_false_alarms_stay_below_what_is_promised(heavy: bool) -> None:
    # 400 runs of 4 cases: with 1% promised, more than 11 alarms has a chance of 0.1%.
    alarms, _ = replay(0.0, 0.02, runs=400, cases=4, heavy=heavy)
    assert alarms <= stats.binom.isf(0.001, 400, PLAN.alpha) / 400


def test_five_percent_is_caught_through_two_percent_of_noise() -> None:
    _, caught = replay(0.05, 0.02, runs=100, cases=4)
    assert caught >= 0.95
