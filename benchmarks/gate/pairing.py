"""Ways to pair two workers in time, and the one a device gets.

What counts is the variance of a launch's ratio times its seconds. `slices` has what a CPU gets; the
others are kept so that the choice can be measured on any machine (``nox -s campaign -- pairing``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .cases import StepTime
from .channel import STEP_TIMEOUT, Worker

LEAST_PAIRS, MOST_PAIRS = 2, 200  # of a step on either side

Workers = Mapping[str, Worker]

# glibc gives freed memory back, and a step asks for it again: 0 to 65,000 page faults, up to 0.6 s of a
# training step's 3.8, as chance has laid out a process's heap. One launch of aloha's inference had none
# in base and 9,600 in head, and 5% between equal code. So memory is kept: no faults after two steps.
STEADY_HEAP = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


@dataclass(frozen=True)
class Samples:
    """Seconds of each side's steps in one launch, neighbours in time at the same place.

    Attributes:
        took: s of the clock for all of them.
    """

    base: list[float]
    head: list[float]
    took: float = 0.0


@dataclass(frozen=True)
class Pairing:
    """What a launch does with its two workers.

    Attributes:
        steps: takes samples of a case for about so many seconds.
        warm: makes both workers ready for a case.
        compiling: seconds to compile a case on both sides, in this order.
        environment: variables the workers are started with.
    """

    steps: Callable[[Workers, StepTime, float], Samples]
    warm: Callable[[Workers, StepTime], None]
    compiling: Callable[[Workers, StepTime, Sequence[str]], Samples]
    environment: Mapping[str, str] = field(default_factory=dict)


def timed(pairing: Pairing, workers: Workers, case: StepTime, seconds: float) -> Samples:
    """Samples of a case, and how long they took."""
    began = time.monotonic()
    samples = pairing.steps(workers, case, seconds)
    return Samples(samples.base, samples.head, time.monotonic() - began)


def _by_turns(workers: Workers, case: StepTime, seconds: float, orders: Sequence[Sequence[str]]) -> Samples:
    """One step at a time, by turns in these orders, until both sides' steps have taken ``seconds``."""
    times: dict[str, list[float]] = {"base": [], "head": []}
    for turn in range(MOST_PAIRS):
        spent = sum(times["base"]) + sum(times["head"])
        if turn % 2 == 0 and turn >= LEAST_PAIRS and not spent < seconds:
            break
        for side in orders[turn % len(orders)]:
            answer = workers[side].ask("sample", timeout=STEP_TIMEOUT, samples=1, **case.request)
            times[side] += answer["seconds"]
    return Samples(times["base"], times["head"])


BASE_FIRST, HEAD_FIRST = ("base", "head"), ("head", "base")


def abba(workers: Workers, case: StepTime, seconds: float) -> Samples:
    """Exactly one worker runs; base, head, head, base, and the next time the other way round.

    A drift that is straight over four steps cancels.
    """
    return _by_turns(workers, case, seconds, (BASE_FIRST, HEAD_FIRST, HEAD_FIRST, BASE_FIRST))


def abab(workers: Workers, case: StepTime, seconds: float) -> Samples:
    """Exactly one worker runs; base, head, base, head."""
    return _by_turns(workers, case, seconds, (BASE_FIRST,))


def blocks(workers: Workers, case: StepTime, seconds: float) -> Samples:
    """Exactly one worker runs; all of base's samples, then as many of head's."""
    times: dict[str, list[float]] = {"base": [], "head": []}
    for side, worker in workers.items():
        while sum(times[side]) < seconds / 2 or len(times[side]) < LEAST_PAIRS:
            times[side] += worker.ask("sample", timeout=STEP_TIMEOUT, samples=1, **case.request)["seconds"]
    pairs = min(map(len, times.values()))
    return Samples(times["base"][:pairs], times["head"][:pairs])


def duet(workers: Workers, case: StepTime, seconds: float) -> Samples:
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


def warm_at_once(workers: Workers, case: StepTime) -> None:
    for worker in workers.values():
        worker.send("warm", **case.request)
    for worker in workers.values():
        worker.receive(STEP_TIMEOUT)


def compile_at_once(workers: Workers, case: StepTime, order: Sequence[str]) -> Samples:
    """A core each: compiling is one thread's work, and that thread's time is counted."""
    for side in order:
        workers[side].send("compile", **case.request)
    found = {side: worker.receive(STEP_TIMEOUT)["seconds"] for side, worker in workers.items()}
    return Samples([found["base"]], [found["head"]])


BY_TURNS = Pairing(abba, warm_at_once, compile_at_once, STEADY_HEAP)
