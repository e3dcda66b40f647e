"""How long the parts of a gate run take on this machine, so that a replay knows how many launches fit."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ...records import described, today
from ...repository import MeasurementError
from ..cases import CompileTime, StepTime, choose, named, step_times
from ..channel import starter
from ..result import Result
from ..sides import check_out, resolve
from ..timing import LEAST_SCALE, Laps, measure_launch, pair
from ..workplace import workplace
from .records import append, lines

# Timed part by part: of all cases, and of those that do not compile, whose steps all load their graphs.
LAUNCHES = 2
BEFORE = "before the launches"  # as a report's ``about`` has it
KNOWN = ("nothing", "base")  # whose answers are in ``.gate``: nobody's on a new machine, base's in CI
EDITS = (1, 3)  # of HARMLESS, one for each of KNOWN; comments and docstrings would run nothing


@dataclass(frozen=True)
class Room:
    """What a gate run has time for.

    Attributes:
        seconds: for all launches.
        start: s until a launch's workers answer.
        beside: what each case adds to a launch beside its steps, s: compiling, or loading and warming up.
            A step that has just been compiled takes less, which is left out.
    """

    seconds: float
    start: float
    beside: Mapping[StepTime, float]


def room(known: str, minutes: float) -> Room:
    """What a run of ``minutes`` has time for, as recorded.

    Args:
        known: one of KNOWN.

    Raises:
        MeasurementError: nothing is recorded.
    """
    newest = _newest()
    beside = {named(name): seconds for name, seconds in newest["beside"].items()}
    return Room(60 * minutes - newest["before"][known], newest["start"], beside)


def in_words() -> str:
    """What was recorded, for a reader.

    Raises:
        MeasurementError: nothing is recorded.
    """
    newest = _newest()
    nothing, base = (newest["before"][known] for known in KNOWN)
    launch = newest["start"] + sum(newest["beside"].values())
    return (
        f"{nothing:.0f} s before the launches where nothing is known, {base:.0f} where base is, and "
        f"{launch:.0f} for a first launch beside its steps ({newest['about']})"
    )


def _newest() -> dict[str, Any]:
    recorded = lines("pace")
    if not recorded:
        raise MeasurementError("no pace is recorded; run nox -s campaign -- pace first")
    return recorded[-1]


def record_pace(gated: Callable[[int, Sequence[str]], Result], clone: Path) -> None:
    """Record what comes before the launches, with nothing known and with base known, and a launch's parts.

    Args:
        gated: the gate's result on that harmless edit, with these options.
        clone: of the project; nothing is known in it.

    Raises:
        MeasurementError: a side could not be run.
    """
    one_launch = ("--minutes", "0.1")  # the first is always taken
    before = {
        known: float(gated(number, one_launch).about[BEFORE].partition(" ")[0])
        for known, number in zip(KNOWN, EDITS, strict=True)
    }
    cases, rng = step_times(choose(None, "cpu")), random.Random(0)  # noqa: S311  # an order, not a secret
    source, _ = resolve("HEAD", "HEAD", clone)
    starts: list[float] = []
    beside: dict[str, list[float]] = {}
    steps = [case for case in cases if not isinstance(case, CompileTime)]
    with workplace(clone) as place:
        side = check_out(source, place / "base", clone)
        start = starter({"base": side, "head": side}, clone)
        for chosen in [cases] * LAUNCHES + [steps] * LAUNCHES:
            laps = Laps()
            for case, _ in measure_launch(chosen, start, rng, LEAST_SCALE, laps.no_case):
                took = laps.lap() - LEAST_SCALE * case.seconds
                if chosen is steps or case not in steps:
                    beside.setdefault(str(case), []).append(took)
            laps.no_case()
            starts.append(laps.start)
        with pair(start, rng) as (_, hello):
            about = described({**hello["base"]["environment"], "cores": os.cpu_count()})
    append(
        "pace",
        {
            "before": before,
            "start": round(median(starts), 1),
            "beside": {name: round(median(seconds), 1) for name, seconds in beside.items()},
            "about": about,
            "commit": source.commit,
            "date": today(),
        },
    )
