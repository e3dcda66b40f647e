"""The whole sequential procedure over launches drawn from recorded ones: how often it is wrong. No torch.

Drawn by launch, never by sample: a launch is what replicates. One run draws, for every case, as
many launches as it could get, with replacement; then ``Timing.look`` decides as it does in a gate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..cases import StepTime
from ..timing import Pace, Timing, look_at
from ..verdict import INCONCLUSIVE, SLOWER, Plan
from .pace import Room

STEP_SECONDS = 1.0  # far above the absolute floor, which is not what is measured here
Recorded = Mapping[StepTime, Sequence[float]]  # log ratios of A/A launches


@dataclass(frozen=True)
class Rates:
    """What a replay found.

    Attributes:
        runs: how many gate runs were replayed.
        alarms: share of runs with any case called slower.
        caught: share of cases called slower, by case.
        undecided: share of cases left inconclusive.
        launches: mean number of launches that a run took.
        alone: the case that was slower, where it was one.
    """

    effect: float
    runs: int
    alarms: float
    caught: Mapping[str, float]
    undecided: float
    launches: float
    alone: str = ""

    def upper(self, confidence: float = 0.95) -> float:
        """Upper limit of the share of runs with an alarm (Clopper and Pearson, Biometrika 26, 1934)."""
        count = round(self.alarms * self.runs)
        return float(stats.beta.ppf(confidence, count + 1, self.runs - count)) if count < self.runs else 1.0


def replay(
    recorded: Recorded,
    plan: Plan,
    *,
    effect: float = 0.0,
    runs: int = 10_000,
    alone: StepTime | None = None,
    room: Room | None = None,
) -> Rates:
    """Replay ``runs`` gates with every case, or one alone, ``effect`` slower than recorded.

    Args:
        recorded: A/A launches; each case's mean is left as it is, so a bias of the pairing counts.
        alone: the case that is slower; the others are not.
        room: the time of a run; without it a case gets all launches of the plan.

    Raises:
        ValueError: nothing is recorded, or a case has fewer than two launches.
    """
    if not recorded or min(map(len, recorded.values())) < 2:
        raise ValueError(
            "a replay needs at least two recorded launches of every case; run nox -s campaign -- record"
        )
    generator = np.random.default_rng(0)
    shift = {case: math.log1p(effect) if alone in (None, case) else 0.0 for case in recorded}
    draws = {
        case: np.asarray(values)[generator.integers(len(values), size=(runs, plan.most))]
        for case, values in recorded.items()
    }
    alarms = launches = undecided = 0
    caught = dict.fromkeys(recorded, 0)
    for run in range(runs):
        timings = [Timing(case, base_seconds=[STEP_SECONDS]) for case in recorded]
        launches += one_run(timings, {case: draws[case][run] for case in recorded}, shift, plan, room)
        kinds = {timing.case: timing.verdict.kind for timing in timings if timing.verdict is not None}
        for case, kind in kinds.items():
            caught[case] += kind == SLOWER
            undecided += kind == INCONCLUSIVE
        alarms += SLOWER in kinds.values()
    return Rates(
        effect=effect,
        runs=runs,
        alarms=alarms / runs,
        caught={str(case): count / runs for case, count in caught.items()},
        undecided=undecided / (runs * len(recorded)),
        launches=launches / runs,
        alone=str(alone or ""),
    )


def one_run(
    timings: Sequence[Timing], draws: Recorded, shift: Mapping[StepTime, float], plan: Plan, room: Room | None
) -> int:
    """As ``timing.launch_until_decided``: undecided cases get one launch after another; how many it took.

    A launch of shorter steps than the recorded ones varies more, by as much as if all noise were of its
    samples; one of longer steps is taken to vary no less.
    """
    pace, left, launch = Pace(), room.seconds if room else math.inf, 0
    while launch < plan.most and (undecided := [timing for timing in timings if not timing.decided]):
        noisier = 1.0
        if room:
            cases = [timing.case for timing in undecided]
            scale = pace.scale(left, cases)
            if scale is None:
                break
            seconds = {case: room.beside[case] + scale * case.seconds for case in cases}
            pace.took(room.start, seconds, scale)
            left -= room.start + sum(seconds.values())
            noisier = max(1.0, scale**-0.5)
        for timing in undecided:
            drawn = float(draws[timing.case][launch])
            timing.log_ratios.append(noisier * drawn + shift[timing.case])
        launch += 1
        if launch in plan.looks:
            look_at(timings, plan)
    look_at(timings, plan, last=True)
    return launch
