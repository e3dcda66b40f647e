"""Which operators of a slower step grew: one profiled worker of each side. No torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..repository import MeasurementError
from ..suite.fresh_process import AnswerError
from .cases import StepTime
from .channel import STEP_TIMEOUT, StartWorker, Worker
from .pairing import pairing_of
from .timing import pair

MOST_CASES = 2  # the slowest: each is warmed up once more on either side, and a red run has its verdict
MOST = 5  # of an operator's lines for a case
SHARE = 0.05  # of what the step lost; less is noise of a single step
ELSE = "all else (Python, and kernels that Inductor made)"

Profile = Mapping[str, Any]


def grown(base: Profile, head: Profile) -> tuple[str, ...]:
    """What takes longer in head, most first: ``aten::mm 12.1 → 24.3 ms (61 → 122 calls)``.

    Args:
        base, head: ``takes``, seconds of a step, and ``operators``: own seconds and calls by name.
    """
    names = {*base["operators"], *head["operators"]}
    times = {name: tuple(side["operators"].get(name, (0.0, 0))[0] for side in (base, head)) for name in names}
    rest = (side["takes"] - sum(own for own, _ in side["operators"].values()) for side in (base, head))
    times[ELSE] = tuple(max(0.0, each) for each in rest)
    least = SHARE * max(0.0, head["takes"] - base["takes"])
    slower = [name for name, (before, now) in times.items() if now - before > least]
    lines = []
    for name in sorted(slower, key=lambda name: times[name][0] - times[name][1])[:MOST]:
        before, now = (f"{seconds * 1e3:.3g}" for seconds in times[name])
        calls = [side["operators"].get(name, (0.0, 0))[1] for side in (base, head)]
        counted = "" if name == ELSE else f" ({calls[0]} → {calls[1]} calls)"
        lines.append(f"{name} {before} → {now} ms{counted}")
    return tuple(lines)


def find_grown(
    slower: Sequence[StepTime], start: StartWorker, rng: random.Random, progress: Callable[[str], None]
) -> dict[str, tuple[str, ...]]:
    """``grown`` of the first cases of ``slower``, by name; without those that could not be profiled.

    A verdict that is known is not lost by what goes wrong here: it is said, and nothing is raised for it.
    """
    found: dict[str, tuple[str, ...]] = {}
    if not slower:
        return found
    progress(f"which operators grew: {', '.join(map(str, slower[:MOST_CASES]))}")
    try:
        with pair(start, rng, pairing_of(slower[0].case.device).environment) as (workers, _):
            for case in slower[:MOST_CASES]:
                base, head = (_profile(workers[name], case) for name in ("base", "head"))
                found[str(case)] = grown(base, head)
    except (MeasurementError, AnswerError, OSError) as error:
        progress(f"which operators grew could not be found: {error}")
    return found


def _profile(worker: Worker, case: StepTime) -> Profile:
    return worker.ask("operators", timeout=STEP_TIMEOUT, **case.request)
