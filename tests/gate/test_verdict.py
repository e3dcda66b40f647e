"""The statistics: known answers, error rates by simulation, and what is refused. No torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.gate.cases import StepTime
from benchmarks.gate.decision import NO_PRIOR, decide, fit_prior, launch_ratio
from benchmarks.gate.timing import Timing, look_at
from benchmarks.gate.verdict import FASTER, INCONCLUSIVE, SAME, SLOWER, Plan
from benchmarks.suite.workloads import Case

PLAN = Plan()
STEP = 0.1  # s
CASE = StepTime(Case("tiny", "inference", "eager"))


def launches(effect: float, n: int, noise: float = 0.01, seed: int = 0) -> list[float]:
    """Log ratios with exactly this mean and standard deviation."""
    values = np.random.default_rng(seed).normal(size=n)
    values = (values - values.mean()) / values.std(ddof=1)
    return list(math.log1p(effect) + noise * values)


def test_a_ratio_is_the_trimmed_mean_over_neighbours_in_time() -> None:
    base = [1.0, 2.0, 4.0, 8.0, 16.0]  # the machine slows down; the ratio does not
    head = [1.1, 2.2, 4.4, 8.8, 17.6]
    assert launch_ratio(base, head) == pytest.approx(math.log(1.1))
    assert launch_ratio(base, [*head[:-1], 999.0]) == pytest.approx(math.log(1.1)), "one disturbed sample"
    assert launch_ratio(base, [1.0, *head[1:4], 20.0]) == pytest.approx(math.log(1.1))
    spread = [1.10, 2.24, 4.40, 9.04, 17.6]  # 1.10, 1.12, 1.10, 1.13, 1.10
    middle = (2 * math.log(1.10) + math.log(1.12)) / 3
    assert launch_ratio(base, spread) == pytest.approx(middle), "the median would be 1.10"


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
    verdict = decide(launches(effect, 8, noise=0.015), STEP, PLAN, tests=8)
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


@pytest.mark.parametrize(
    ("p", "leaning"), [(0.09, SLOWER), (0.11, None), (0.5, None), (0.89, None), (0.91, FASTER)]
)
def test_launches_lean_where_one_chance_in_ten_is_against_it(p: float, leaning: str | None) -> None:
    assert replace(decide(launches(0.0, 4), STEP, PLAN, tests=1), p=p).leaning == leaning


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


def test_the_last_look_spends_what_is_left() -> None:
    first = decide(launches(0.0, 4), STEP, PLAN, tests=5)
    last = decide(launches(0.0, 7), STEP, PLAN, tests=5, spent_at=4, last=True)
    assert first.level + last.level == pytest.approx(PLAN.alpha / 5)


def test_cases_that_agree_share_their_variance() -> None:
    cases = [launches(0.0, 4, noise=0.02, seed=seed) for seed in range(6)]
    prior = fit_prior(cases)
    assert math.isinf(prior.weight)
    assert prior.pooled == 18
    variance, df = prior.moderated(0.001**2, 3)
    assert math.sqrt(variance) == pytest.approx(0.02), "a lucky case is not believed"
    assert df == 18
    one = decide(launches(0.05, 4, noise=0.007), STEP, PLAN, tests=6)
    assert one.kind == INCONCLUSIVE
    assert (
        decide(
            launches(0.05, 4, noise=0.007), STEP, PLAN, tests=6, prior=fit_prior([launches(0, 4, 0.007)] * 6)
        ).kind
        == SLOWER
    )


def test_cases_that_do_not_agree_keep_their_own() -> None:
    noises = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    prior = fit_prior([launches(0.0, 40, noise=noise, seed=seed) for seed, noise in enumerate(noises)])
    assert prior.weight < 2
    variance, df = prior.moderated(0.1**2, 39)
    assert math.sqrt(variance) == pytest.approx(0.1, rel=0.1)
    assert 39 <= df <= 41


def test_the_priors_weight_is_what_the_variances_were_drawn_with() -> None:
    # Variances from the scaled inverse chi-squared with 8 degrees of freedom, as the model has it.
    generator = np.random.default_rng(0)
    true = 8 * 0.02**2 / generator.chisquare(8, size=400)
    prior = fit_prior([generator.normal(scale=math.sqrt(v), size=5).tolist() for v in true])
    assert prior.weight == pytest.approx(8, rel=0.5)
    assert math.sqrt(prior.variance) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("cases", [[], [[0.1, 0.2]], [[0.1], [0.2], [0.3]]])
def test_too_few_cases_have_nothing_in_common(cases: list[list[float]]) -> None:
    assert fit_prior(cases) == NO_PRIOR
    assert fit_prior(cases).moderated(0.5, 3) == (0.5, 3)


def test_launches_that_agree_to_the_last_bit_have_a_prior_too() -> None:
    assert math.isfinite(fit_prior([[0.0] * 4, [0.0] * 4]).variance)


def simulate(
    effect: float, noises: Sequence[float], runs: int, *, heavy: bool = False
) -> tuple[float, float]:
    """Shares of runs with any case called slower, and of cases called slower."""
    generator = np.random.default_rng(1)
    shape = (runs, len(noises), PLAN.most)
    draws = generator.standard_t(3, shape) / math.sqrt(3) if heavy else generator.normal(size=shape)
    red = np.zeros((runs, len(noises)), dtype=bool)
    for run in range(runs):
        timings = [Timing(CASE, explained=True, base_seconds=[STEP]) for _ in noises]
        for launch in range(PLAN.most):
            for case, timing in enumerate(timings):
                if not timing.decided:
                    timing.log_ratios.append(math.log1p(effect) + noises[case] * draws[run, case, launch])
            if launch + 1 in PLAN.looks:
                look_at(timings, PLAN)
        red[run] = [t.verdict is not None and t.verdict.kind == SLOWER for t in timings]
    return red.any(axis=1).mean(), red.mean()


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("noises", [(0.02,) * 4, (0.01, 0.015, 0.02, 0.04)])
def test_false_alarms_stay_below_what_is_promised(noises: Sequence[float], heavy: bool) -> None:
    # 400 runs: with 1% promised, more than 11 alarms has a chance of 0.1%.
    alarms, _ = simulate(0.0, noises, runs=400, heavy=heavy)
    assert alarms <= stats.binom.isf(0.001, 400, PLAN.alpha) / 400


def test_five_percent_is_caught_through_two_percent_of_noise() -> None:
    _, caught = simulate(0.05, (0.02,) * 4, runs=100)
    assert caught >= 0.95
