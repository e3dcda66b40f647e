"""What the campaign records: launches of equal sides, and of a head that is slowed."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from ...records import described, today
from ...repository import ROOT, MeasurementError
from ...suite.workloads import Case
from ..cases import StepTime, choose, step_times
from ..channel import STEP_TIMEOUT, StartWorker, starter
from ..decision import launch_ratio
from ..pairing import pairing_of
from ..sides import check_out, resolve
from ..timing import Budget, measure_launch, pair
from ..workplace import workplace
from .records import KINDS, append, log_ratios
from .slowdown import can_be_slowed, key, slowed

SLOWDOWN = 0.05
FIRST = 0.20  # slower, about, to begin the calibration with
CALIBRATION = 3  # times the seconds of a launch


def calibrate(start: StartWorker, cases: Sequence[Case], rng: random.Random) -> dict[str, int]:
    """Units of extra work that make each case's step SLOWDOWN slower, measured here and now.

    In place, as steps are timed, and at FIRST, of which the noise of one launch is little: what a unit
    takes between a step's own work is up to 1.4 times what it takes by itself.

    Args:
        start: starts a side's worker; head's can do extra work and does none yet.

    Raises:
        MeasurementError: the extra work has no effect.
    """
    units = {}
    pairing = pairing_of(cases[0].device)
    with pair(start, rng, pairing.environment) as (workers, _):
        head = workers["head"]
        unit = head.ask("ballast", timeout=STEP_TIMEOUT)["seconds"]
        for case in cases:
            step = StepTime(case)
            head.resume()
            alone = head.ask("sample", timeout=STEP_TIMEOUT, samples=5, busy=True, **step.request)
            first = max(1, round(FIRST * median(alone["seconds"]) / unit))
            head.ask("ballast", timeout=STEP_TIMEOUT, units={key(case): first})
            workers["base"].resume()
            pairing.warm(workers, step)
            samples = pairing.steps(workers, step, CALIBRATION * step.seconds)
            effect = math.expm1(launch_ratio(samples.base, samples.head))
            if effect < FIRST / 4:
                raise MeasurementError(
                    f"{case}: extra work for {FIRST:.0%} made it {effect:.1%} slower; run it again"
                )
            units[key(case)] = max(1, round(first * SLOWDOWN / effect))
    return units


def record(launches: int, minutes: float, device: str, console: Console, root: Path = ROOT) -> None:
    """Record until there are ``launches`` of each kind and case, or the time is up.

    Raises:
        MeasurementError: a side could not be run.
    """
    budget, cases = Budget(minutes), choose(None, device)
    rng = random.Random()  # noqa: S311  # another order each time it goes on
    source, _ = resolve("HEAD", "HEAD", root)
    with workplace(root) as place:
        base = check_out(source, place / "base", root)
        unloaded = slowed(base, place / "unloaded", {})
        sides = {"base": base, "head": unloaded}
        start = starter(sides, root)
        to_slow = [case for case in cases if can_be_slowed(StepTime(case))]
        units = calibrate(start, to_slow, rng) if "slower" in _missing(launches, cases) else {}
        with pair(start, rng) as (_, hello):
            about = described({**hello["base"]["environment"], "cores": os.cpu_count()})
        heads = {"same": base, "slower": slowed(base, place / "slowed", units)}
        while (missing := _missing(launches, cases)) and budget.left > 0:
            kind = rng.choice(sorted(missing))
            sides["head"] = heads[kind]
            todo = missing[kind]
            console.print(f"{kind}: {len(todo)} cases to go, {budget.left / 60:.0f} min left")
            for case, samples in measure_launch(todo, start, rng):
                append(
                    "launches",
                    {
                        "kind": kind,
                        "case": str(case),
                        "log_ratio": launch_ratio(samples.base, samples.head),
                        "base_seconds": median(samples.base),
                        "samples": [
                            [round(second, 5) for second in side] for side in (samples.base, samples.head)
                        ],
                        "units": units.get(key(case.case), 0) if kind == "slower" else 0,
                        "about": about,
                        "commit": source.commit,
                        "date": today(),
                    },
                )


def _missing(launches: int, cases: Sequence[Case]) -> dict[str, list[StepTime]]:
    """What is timed and has fewer launches of a kind than asked for."""
    found = {}
    for kind in KINDS:
        have = log_ratios(kind)
        todo = [
            case
            for case in step_times(cases)
            if len(have.get(case, ())) < launches and (kind == "same" or can_be_slowed(case))
        ]
        if todo:
            found[kind] = todo
    return found
