"""Launches, budget and looks, on simulated time: who gets more launches, and when a case is closed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks.gate import timing
from benchmarks.gate.cases import CompileTime, StepTime
from benchmarks.gate.pairing import Samples
from benchmarks.gate.proof.replay import replay
from benchmarks.gate.timing import Budget, Timing, launch_until_decided
from benchmarks.gate.verdict import INCONCLUSIVE, SAME, SLOWER, Plan
from benchmarks.suite.workloads import Case

EAGER, COMPILED = (StepTime(Case("pusht", "inference", variant)) for variant in ("eager", "compiled"))
COMPILING = CompileTime(COMPILED.case)
PLAN = Plan(looks=(4, 6, 8, 10, 12, 16))


def ratios(effect: float, n: int, noise: float = 0.01, seed: int = 0) -> list[float]:
    return list(math.log1p(effect) + noise * np.random.default_rng(seed).normal(size=n))


def decided(case: Timing, log_ratios: Sequence[float]) -> Timing:
    case.base_seconds = [0.1]
    for value in log_ratios:
        case.log_ratios.append(value)
        case.look(PLAN, tests=4)
        if case.decided:
            break
    return case


def test_a_case_is_looked_at_only_where_the_plan_says() -> None:
    case = Timing(EAGER, explained=True)
    for launches, value in enumerate(ratios(0.5, 12), start=1):
        case.base_seconds.append(0.1)
        case.log_ratios.append(value)
        case.look(PLAN, tests=4)
        assert (case.verdict is not None) == (launches >= PLAN.looks[0])
        if case.decided:
            break
    assert launches in PLAN.looks


def test_an_unexplained_change_gets_one_more_batch() -> None:
    explained = decided(Timing(EAGER, explained=True), ratios(0.2, 16))
    unexplained = decided(Timing(EAGER), ratios(0.2, 16))
    assert explained.verdict is not None
    assert unexplained.verdict is not None
    assert explained.verdict.kind == unexplained.verdict.kind == SLOWER
    following = PLAN.looks[PLAN.looks.index(len(explained.log_ratios)) + 1]
    assert len(unexplained.log_ratios) == following


def test_a_change_that_goes_away_is_not_called() -> None:
    burst = decided(Timing(EAGER), [*ratios(0.2, 4, noise=0.002), *ratios(-0.4, 12, noise=0.002)])
    assert burst.verdict is not None
    assert burst.verdict.kind != SLOWER


def test_an_unconfirmed_change_at_the_end_is_inconclusive() -> None:
    case = Timing(EAGER, base_seconds=[0.1], log_ratios=ratios(0.2, 8))
    case.look(PLAN, tests=4)
    case.look(PLAN, tests=4, last=True)
    assert case.verdict is not None
    assert (case.verdict.kind, case.unconfirmed) == (INCONCLUSIVE, SLOWER)


def test_what_is_left_of_the_error_is_spent_when_time_is_up() -> None:
    case = Timing(EAGER, explained=True, base_seconds=[0.1], log_ratios=[0.02, 0.06, 0.03, 0.05, 0.04, 0.07])
    case.look(PLAN, tests=4)
    assert case.verdict is not None
    assert case.verdict.kind == INCONCLUSIVE
    early = case.verdict.level
    case.look(PLAN, tests=4, last=True)
    assert case.verdict.kind == SLOWER
    assert early < case.verdict.level == pytest.approx(PLAN.alpha / 4)


@pytest.mark.parametrize("launches", [7, 8])  # the second is a look of the plan, tested once more
def test_the_looks_of_a_case_spend_what_it_has_and_no_more(launches: int) -> None:
    case, levels = Timing(EAGER, base_seconds=[0.1]), {}
    for value in ratios(0.0, launches, noise=0.5):
        case.log_ratios.append(value)
        case.look(PLAN, tests=4)
        if case.verdict is not None:
            levels[case.looked_at] = case.verdict.level
    case.look(PLAN, tests=4, last=True)
    assert case.verdict is not None
    levels[launches] = case.verdict.level
    assert len(levels) == 3
    assert sum(levels.values()) == pytest.approx(PLAN.alpha / 4)


def test_launches_that_point_there_are_the_batch_before() -> None:
    values = [*ratios(0.05, 4, noise=0.012), *ratios(0.05, 3, noise=0.012, seed=1)]
    leaning, sudden = Timing(EAGER), Timing(EAGER)
    for case, looks in ((leaning, (4, 7)), (sudden, (7,))):
        for launches in looks:
            case.base_seconds, case.log_ratios = [0.1], values[:launches]
            case.look(PLAN, tests=4, last=launches == 7)
    assert leaning.verdict is not None
    assert sudden.verdict is not None
    assert (leaning.verdict.kind, sudden.verdict.kind) == (SLOWER, INCONCLUSIVE)
    assert sudden.unconfirmed == SLOWER


def test_a_compile_is_no_slower_below_ten_percent() -> None:
    step, compiling = (Timing(case, explained=True, base_seconds=[5.0]) for case in (EAGER, COMPILING))
    for case in (step, compiling):
        case.log_ratios = ratios(0.05, 8, noise=0.005)
        case.look(PLAN, tests=2)
    assert step.verdict is not None
    assert compiling.verdict is not None
    assert (step.verdict.kind, compiling.verdict.kind) == (SLOWER, SAME)


class Simulated:
    """Launches by a clock of their own: each takes ``setup``, and of a case ``beside`` and its steps."""

    def __init__(
        self, effects: dict[StepTime, float], setup: float, noise: float = 0.01, beside: float = 0.0
    ) -> None:
        self.now, self.setup, self.effects, self.noise, self.beside = 0.0, setup, effects, noise, beside
        self.asked: list[list[StepTime]] = []
        self.generator = np.random.default_rng(0)

    def launch(
        self, cases: Sequence[StepTime], _start: Any, _rng: Any, scale: float, started: Callable[[], None]
    ) -> Iterator[tuple[StepTime, Samples]]:
        self.asked.append(list(cases))
        self.now += self.setup
        started()
        for case in cases:
            self.now += self.beside + scale * case.seconds
            ratio = (1 + self.effects[case]) * math.exp(self.generator.normal() * self.noise)
            yield case, Samples([0.1] * 3, [0.1 * ratio] * 3)

    def run(self, monkeypatch: pytest.MonkeyPatch, minutes: float) -> list[Timing]:
        monkeypatch.setattr(timing, "measure_launch", self.launch)
        timings = [Timing(case, explained=True) for case in self.effects]
        launch_until_decided(timings, PLAN, Budget(minutes, clock=lambda: self.now), None, None)  # type: ignore[arg-type]
        return timings


def test_decided_cases_get_no_more_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated({EAGER: 0.5, COMPILED: 0.025}, setup=10, noise=0.03)
    slow, close = simulated.run(monkeypatch, minutes=60)
    assert slow.verdict is not None
    assert slow.verdict.kind == SLOWER
    assert len(slow.log_ratios) < len(close.log_ratios)
    assert simulated.asked[-1] == [COMPILED]


@pytest.mark.parametrize(
    ("minutes", "launches"),
    [
        (0.55, 2),  # 33 s, of 10 + 8 each: two shorter ones
        (0.65, 2),  # 39 s: one as asked for and a longer one
        (0.8, 3),  # 48 s: three shorter ones
        (1.5, 6),  # 90 s would be five: six shorter ones decide more
        (2.1, 7),  # 126 s: six are there anyway
        (0.4, 1),  # in 6 s nothing fits
        (0.01, 1),  # one is always taken
    ],
)
def test_launches_fill_the_time_and_no_more(
    monkeypatch: pytest.MonkeyPatch, minutes: float, launches: int
) -> None:
    monkeypatch.setattr(timing, "SETUP", 10.0)
    simulated = Simulated({EAGER: 0.0, COMPILED: 0.0}, setup=10, noise=2.0)
    timings = simulated.run(monkeypatch, minutes)
    assert len(simulated.asked) == launches
    if launches > 1:
        assert simulated.now == pytest.approx(60 * minutes)
    assert all(case.verdict is not None and case.verdict.kind == INCONCLUSIVE for case in timings)


def test_a_last_open_case_gets_the_launches_that_fit_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 s to start, and 20 s of each case beside 4 of steps: 50 s a launch of both, 26 of one."""
    monkeypatch.setattr(timing, "SETUP", 42.0)
    simulated = Simulated({EAGER: 1.0, COMPILED: 0.025}, setup=2, beside=20.0, noise=0.05)
    simulated.run(monkeypatch, minutes=5)
    alone = sum(asked == [COMPILED] for asked in simulated.asked)
    both = len(simulated.asked) - alone
    assert 0 < both < 5
    assert alone >= int((300 - 50 * both) / 26), "as many as there is time for, and not fewer of longer steps"
    assert simulated.now <= 300


def test_a_compile_alone_gets_every_launch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no steps that could be shorter or longer: 7.3 s a launch, whatever 100 s are divided by."""
    simulated = Simulated({COMPILING: 0.0}, setup=7.3, noise=2.0)
    simulated.run(monkeypatch, minutes=100 / 60)
    assert len(simulated.asked) == 13


def test_the_replay_keeps_and_breaks_promises_as_it_should() -> None:
    recorded = {case: ratios(0.0, 60, noise=0.012, seed=seed) for seed, case in enumerate((EAGER, COMPILED))}
    calm = replay(recorded, Plan(), runs=200)
    assert calm.alarms <= 0.03
    assert calm.undecided < 0.05
    big = replay(recorded, Plan(), effect=0.10, runs=100)
    assert all(share == 1 for share in big.caught.values())
    biased = {case: [value + 0.06 for value in values] for case, values in recorded.items()}
    assert replay(biased, Plan(), runs=50).alarms > 0.9, "a bias of the pairing would be seen"


def test_the_replays_limit_is_clopper_and_pearsons() -> None:
    recorded = {EAGER: [0.0, 0.001, -0.001]}
    rates = replay(recorded, Plan(), runs=100)
    assert rates.alarms == 0
    assert rates.upper() == pytest.approx(1 - 0.05 ** (1 / 100))


def test_a_replay_of_nothing_is_refused() -> None:
    for recorded in ({}, {EAGER: [0.1]}):
        with pytest.raises(ValueError, match="at least two recorded launches"):
            replay(recorded, Plan())


def test_looks_rise() -> None:
    assert all(a < b for a, b in itertools.pairwise(Plan().looks))
    assert decided(Timing(EAGER), [0.0] * 4).verdict.kind == SAME  # type: ignore[union-attr]
