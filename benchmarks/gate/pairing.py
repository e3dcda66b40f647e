"""How two workers share the time of a launch: what every way has in common, and steps by turns.

What counts is the variance of a launch's ratio times its seconds; docs/gate.md has those of the ways that
were tried. `slices` has what a CPU gets.
"""

from __future__ import annotations

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
    """Seconds of each side's steps in one launch, neighbours in time at the same place."""

    base: list[float]
    head: list[float]


@dataclass(frozen=True)
class Pairing:
    """What a launch does with its two workers.

    Attributes:
        steps: takes samples of a case for about so many seconds.
        warm: makes both workers ready for a case.
        environment: variables the workers are started with.
    """

    steps: Callable[[Workers, StepTime, float], Samples]
    warm: Callable[[Workers, StepTime], None]
    environment: Mapping[str, str] = field(default_factory=dict)


BASE_FIRST, HEAD_FIRST = ("base", "head"), ("head", "base")
ABBA = (BASE_FIRST, HEAD_FIRST, HEAD_FIRST, BASE_FIRST)


def abba(workers: Workers, case: StepTime, seconds: float) -> Samples:
    """Exactly one worker runs; base, head, head, base, and the next time the other way round.

    A drift that is straight over four steps cancels.
    """
    times: dict[str, list[float]] = {"base": [], "head": []}
    for turn in range(MOST_PAIRS):
        if turn % 2 == 0 and turn >= LEAST_PAIRS and not sum(times["base"]) + sum(times["head"]) < seconds:
            break
        for side in ABBA[turn % len(ABBA)]:
            answer = workers[side].ask("sample", timeout=STEP_TIMEOUT, samples=1, **case.request)
            times[side] += answer["seconds"]
    return Samples(times["base"], times["head"])


def warm_at_once(workers: Workers, case: StepTime) -> None:
    for worker in workers.values():
        worker.send("warm", **case.request)
    for worker in workers.values():
        worker.receive(STEP_TIMEOUT)


def compile_at_once(workers: Workers, case: StepTime, order: Sequence[str]) -> Samples:
    """Seconds to compile a case on both sides, asked in this order.

    A core each: compiling is one thread's work, and that thread's time is counted.
    """
    for side in order:
        workers[side].send("compile", **case.request)
    found = {side: worker.receive(STEP_TIMEOUT)["seconds"] for side, worker in workers.items()}
    return Samples([found["base"]], [found["head"]])


BY_TURNS = Pairing(abba, warm_at_once, STEADY_HEAP)
