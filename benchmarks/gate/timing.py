"""The time tier: launches of both sides, paired in time, until every case is decided or time is up.

One launch starts a fresh worker for each side and serves every undecided case, in random order, so
that start-up is paid once. How the sides share the time within a launch is in `pairing`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from ..repository import MeasurementError
from .cases import CompileTime, StepTime
from .channel import StartWorker, Worker
from .decision import NO_PRIOR, Prior, decide, fit_prior, launch_ratio
from .pairing import Samples, compile_at_once, pairing_of
from .verdict import FASTER, INCONCLUSIVE, SLOWER, Plan, Verdict

MOST_MINUTES = 7 * 24 * 60
LEAST_SCALE, MOST_SCALE = 0.5, 1.5  # of a case's seconds, so that launches fill the time there is
# Launches to have, if with shorter steps. Replayed by launches (docs/gate.md of commit a615e90), of runs of
# three 13 to 35% called 3% in one case, of runs of six 33 to 99%.
ENOUGH = 6
SETUP = 55.0  # s of a first launch of the default cases on two cores, beside its steps


@dataclass
class Timing:
    """A case on its way to a verdict.

    Attributes:
        case: what is timed of it.
        explained: counters moved that can explain a change of its time.
        log_ratios: head over base, one per launch.
        base_seconds: median step of base in each launch.
    """

    case: StepTime
    explained: bool = False
    log_ratios: list[float] = field(default_factory=list)
    base_seconds: list[float] = field(default_factory=list)
    verdict: Verdict | None = None
    looked_at: int = 0
    unconfirmed: str | None = None
    _before: int = 0  # launches at the look before
    _leaning: str | None = None  # what the launches of the look before pointed to

    @property
    def decided(self) -> bool:
        return self.verdict is not None and self.verdict.decided

    def add(self, base: Sequence[float], head: Sequence[float]) -> None:
        """One launch's samples.

        Raises:
            MeasurementError: a time that is zero or not a number.
        """
        try:
            self.log_ratios.append(launch_ratio(base, head))
        except ValueError as error:
            raise MeasurementError(f"{self.case}: {error}") from None
        self.base_seconds.append(median(base))

    def look(self, plan: Plan, tests: int, prior: Prior = NO_PRIOR, *, last: bool = False) -> None:
        """Decide, if this many launches are a look of the plan, or if there will be no more.

        A change of time that no counter explains is called only when the launches of the look
        before pointed there already: it gets one more batch of launches. The last look may come
        twice at the same launches, as it is known to be the last only when time is up.
        """
        plan = replace(plan, min_effect=max(plan.min_effect, self.case.least))
        launches = len(self.log_ratios)
        again = self.verdict is not None and launches == self.looked_at
        if self.decided or (not last and (again or launches not in plan.looks)):
            return
        if not again:
            self._before, self.looked_at = self.looked_at, launches
            self._leaning = self.verdict.leaning if self.verdict is not None else None
        verdict = decide(
            self.log_ratios,
            median(self.base_seconds) if self.base_seconds else 0.0,
            plan,
            tests=tests,
            spent_at=self._before,
            last=last,
            prior=prior,
        )
        alone = verdict.kind in (SLOWER, FASTER) and not self.explained and verdict.kind != self._leaning
        self.unconfirmed = verdict.kind if alone else None
        self.verdict = replace(verdict, kind=INCONCLUSIVE) if alone else verdict


@contextmanager
def pair(
    start: StartWorker, rng: random.Random, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[dict[str, Worker], dict[str, dict[str, Any]]]]:
    """A fresh worker of each side, and what it says it runs; which one starts first is drawn."""
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(start(name, environment or {}))
            for name in rng.sample(("base", "head"), 2)
        }
        for worker in workers.values():
            worker.send("hello")
        yield workers, {name: worker.check_hello() for name, worker in workers.items()}


def measure_launch(
    cases: Sequence[StepTime],
    start: StartWorker,
    rng: random.Random,
    scale: float = 1.0,
    started: Callable[[], None] = lambda: None,
) -> Iterator[tuple[StepTime, Samples]]:
    """One launch: each case's samples as they come, in random order; compiling and its step before all else.

    Args:
        scale: how much of each case's ``seconds`` to spend on its steps.
        started: called when both workers have answered.
    """
    pairing = pairing_of(cases[0].case.device)
    with pair(start, rng, pairing.environment) as (workers, _):
        started()
        compiling = [case for case in cases if isinstance(case, CompileTime)]
        for case in compiling:
            yield case, compile_at_once(workers, case, rng.sample(("base", "head"), 2))
        steps = [case for case in cases if case not in compiling]
        there = {case.case for case in compiling}  # a step that has just been compiled comes first
        for step_time in sorted(rng.sample(steps, len(steps)), key=lambda step: step.case not in there):
            pairing.warm(workers, step_time)
            yield step_time, pairing.steps(workers, step_time, scale * step_time.seconds)


def look_at(timings: Sequence[Timing], plan: Plan, *, last: bool = False) -> None:
    """Decide every case that is to be looked at now, with what all of them say about the noise."""
    prior = fit_prior([timing.log_ratios for timing in timings])
    for timing in timings:
        timing.look(plan, len(timings), prior, last=last)


def slowest_first(timings: Sequence[Timing]) -> list[StepTime]:
    """Cases whose step is slower; not what is slower to compile."""
    slower = [
        (timing.verdict.ratio, timing.case)
        for timing in timings
        if timing.verdict is not None
        and timing.verdict.kind == SLOWER
        and not isinstance(timing.case, CompileTime)
    ]
    return [case for _, case in sorted(slower, key=lambda each: -each[0])]


class Budget:
    """What is left of the run's time.

    Raises:
        ValueError: ``minutes`` is no time to measure in.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < minutes <= MOST_MINUTES:  # neither is NaN
            raise ValueError(f"{minutes:g} minutes cannot be kept to; give more than 0, a week at most")
        self._clock = clock
        self._started = clock()
        self._end = self._started + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - self._clock()

    @property
    def used(self) -> float:
        """Seconds."""
        return self._clock() - self._started


class Laps:
    """Where a launch's time goes.

    Attributes:
        start: until its workers answer, and from the last case to their end, s.
        seconds: of each case, its steps included.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.start = 0.0
        self.seconds: dict[StepTime, float] = {}
        self._clock, self._last = clock, clock()

    def lap(self) -> float:
        """Seconds since the one before."""
        before, self._last = self._last, self._clock()
        return self._last - before

    def no_case(self) -> None:
        """What has just been done is no case's."""
        self.start += self.lap()


class Pace:
    """How long the next launch's steps may take, so that launches fill the time that is left.

    What a launch takes beside its steps is known by case, as later launches have fewer of them: a last open
    case gets many short launches.
    """

    def __init__(self) -> None:
        self._start = SETUP  # s, for all of a first launch; then until a launch's workers answer
        self._beside: dict[StepTime, float] = {}
        self._taken = 0

    def took(self, start: float, seconds: Mapping[StepTime, float], scale: float) -> None:
        """A launch whose workers took ``start`` s, and each case ``seconds`` with its steps at ``scale``."""
        self._start = start
        self._beside |= {case: max(0.0, took - scale * case.seconds) for case, took in seconds.items()}
        self._taken += 1

    def scale(self, left: float, cases: Sequence[StepTime]) -> float | None:
        """Share of its ``seconds`` that each case's steps should take next; None: a launch would not fit.

        The first launch is always taken: what is never measured cannot be decided.
        """
        setup = self._start + sum(self._beside.get(case, 0.0) for case in cases)
        steps = sum(case.seconds for case in cases)
        if not steps:  # only compiling is open: no step can be shorter
            return 1.0 if self._taken == 0 or setup <= left else None
        launches = max(1, round(left / (setup + steps)))
        if launches < ENOUGH - self._taken:
            most = int(left / (setup + LEAST_SCALE * steps))
            launches = max(launches, min(ENOUGH - self._taken, most))
        fits = (left / launches - setup) / steps
        if self._taken == 0:
            return min(max(fits, LEAST_SCALE), 1.0)
        return min(fits, MOST_SCALE) if fits >= LEAST_SCALE else None


def launch_until_decided(
    timings: Sequence[Timing],
    plan: Plan,
    budget: Budget,
    start: StartWorker,
    rng: random.Random,
    progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Launch until every case is decided, has all its launches, or another launch would not fit.

    Returns:
        Launches taken.
    """
    tests, launches, pace = len(timings), 0, Pace()
    while undecided := [t for t in timings if not t.decided and len(t.log_ratios) < plan.most]:
        by_case = {timing.case: timing for timing in undecided}
        scale = pace.scale(budget.left, list(by_case))
        if scale is None:
            break
        laps = Laps(lambda: budget.used)
        for case, samples in measure_launch(list(by_case), start, rng, scale, laps.no_case):
            laps.seconds[case] = laps.lap()
            by_case[case].add(samples.base, samples.head)
        laps.no_case()
        pace.took(laps.start, laps.seconds, scale)
        launches += 1
        look_at(timings, plan)
        decided = sum(timing.decided for timing in timings)
        progress(f"launch {launches}: {decided} of {tests} cases decided, {max(0.0, budget.left):.0f} s left")
    look_at(timings, plan, last=True)
    return launches
