"""Ways to pair two workers in time, compared by what counts: variance of a launch's ratio times its seconds.

The gate uses ABBA; this module keeps the others, so that the choice can be measured again on
another machine (``nox -s campaign -- pairing``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from .cases import StepTime
from .channel import Worker
from .timing import STEP_TIMEOUT, Samples, StartWorker, pair

Take = Callable[[dict[str, Worker], StepTime, float], Samples]


def _one(worker: Worker, case: StepTime, samples: int = 1) -> list[float]:
    answer = worker.ask("sample", timeout=STEP_TIMEOUT, **case.request, samples=samples)
    return list(answer["seconds"])


def _by_turns(workers: dict[str, Worker], case: StepTime, seconds: float, order: Sequence[str]) -> Samples:
    times: dict[str, list[float]] = {"base": [], "head": []}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for side in order:
            times[side] += _one(workers[side], case)
    return Samples(times["base"], times["head"])


def abba(workers: dict[str, Worker], case: StepTime, seconds: float) -> Samples:
    """Exactly one worker runs; base, head, head, base."""
    return _by_turns(workers, case, seconds, ("base", "head", "head", "base"))


def abab(workers: dict[str, Worker], case: StepTime, seconds: float) -> Samples:
    """Exactly one worker runs; base, head, base, head."""
    return _by_turns(workers, case, seconds, ("base", "head"))


def blocks(workers: dict[str, Worker], case: StepTime, seconds: float) -> Samples:
    """Exactly one worker runs; all of base's samples, then as many of head's."""
    end = time.monotonic() + seconds / 2
    base: list[float] = []
    while time.monotonic() < end:
        base += _one(workers["base"], case)
    return Samples(base, [_one(workers["head"], case)[0] for _ in base])


def duet(workers: dict[str, Worker], case: StepTime, seconds: float) -> Samples:
    """Both at once, a core and a thread each, cores swapped half-way (arXiv 2001.05811)."""
    times: dict[str, list[float]] = {"base": [], "head": []}
    for cores in ({"base": 0, "head": 1}, {"base": 1, "head": 0}):
        for side, worker in workers.items():
            worker.ask("share", timeout=STEP_TIMEOUT, cores=[cores[side]], threads=1)
        end = time.monotonic() + seconds / 2
        while time.monotonic() < end:
            for worker in workers.values():
                worker.send("sample", **case.request, samples=1)
            for side, worker in workers.items():
                times[side] += worker.receive(STEP_TIMEOUT)["seconds"]
    return Samples(times["base"], times["head"])


DESIGNS: dict[str, Take] = {f.__name__: f for f in (abba, abab, blocks, duet)}


def measure(
    design: str, cases: Sequence[StepTime], start: StartWorker, rng: random.Random, seconds: float = 4.0
) -> list[tuple[StepTime, Samples, float]]:
    """One launch of a design: each case's samples, and the seconds they took."""
    found = []
    with pair(start, rng) as (workers, _):
        for case in rng.sample(list(cases), len(cases)):
            for worker in workers.values():
                worker.send("warm", **case.request)
            for worker in workers.values():
                worker.receive(STEP_TIMEOUT)
            began = time.monotonic()
            samples = DESIGNS[design](workers, case, seconds)
            found.append((case, samples, time.monotonic() - began))
    return found
