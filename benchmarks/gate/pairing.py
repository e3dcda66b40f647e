"""How two workers share the time of a launch: in slices on a CPU, else by turns.

What counts is the variance of a launch's ratio times its seconds; docs/gate.md has it for both, and for the
ways that were tried and rejected.

A shared machine's speed drifts within a step of 2 s as much as it does within a minute, so steps
by turns leave half of the drift in their ratio. In slices of time one side runs, then it is stopped and the
other goes on: that leaves none that is slower than SLICE. What is counted is the processor's time of a
worker's threads, not the clock's: another guest on the machine, a late signal or the driver itself take none
of it. A thread that waits for another spins (SPIN), so a stretch on one core counts as the time it takes,
like one on all. What a step sleeps is not in it: that is a counter (``waits``).

Standard deviation of the ratio of one step of each side, both at rest in memory (STEADY_HEAP): 1.7%
of a training step of pusht (1.8 s), 2% of aloha's inference (0.35 s). By turns, %²s of a pair: 77 to
209 and 22 to 60.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .cases import StepTime
from .channel import STEP_TIMEOUT, Worker

CAN_SLICE = sys.platform == "linux"  # elsewhere a stopped worker would outlive a driver that is killed
SLICE = 0.020  # s; 0.010 has no less variance, and steps are 15% longer (10% at 0.020)
# Turns of the loop in which a thread of libgomp waits before it sleeps: about 0.1 s, its default 10 ms.
SPIN = {"GOMP_SPINCOUNT": "3000000"}
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
    environment: Mapping[str, str]


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


def answers_in_slices(
    workers: Workers, order: Sequence[str], do: str, **request: Any
) -> dict[str, dict[str, Any]]:
    """What both workers answer to one request, where one at a time runs; they are left stopped.

    The first slice is half as long as the others, so that neither side is ahead on average.

    Args:
        order: the sides; the first runs first.

    Raises:
        MeasurementError: a worker failed, ended, or both took longer than STEP_TIMEOUT.
    """
    for worker in workers.values():
        worker.pause()
        worker.send(do, **request)
    answers: dict[str, dict[str, Any]] = {}
    running, end, slice_end = order[0], time.monotonic() + STEP_TIMEOUT, time.monotonic() + SLICE / 2
    workers[running].resume()
    while len(answers) < len(workers):
        asked = {worker: name for name, worker in workers.items() if name not in answers}
        left = (slice_end if len(asked) > 1 else end) - time.monotonic()
        for worker in select.select(list(asked), [], [], max(0.0, left))[0]:
            worker.resume()  # it may have been stopped in the middle of its answer
            answers[asked[worker]] = worker.receive(STEP_TIMEOUT)
            worker.pause()  # its threads would spin on for a while
        if time.monotonic() > end:
            raise workers[running].hung(STEP_TIMEOUT)
        following = [name for name in order if name not in answers and name != running]
        if following:
            workers[running].pause()
            (running,) = following
            workers[running].resume()
        slice_end = time.monotonic() + SLICE
    return answers


def ask_alone(worker: Worker, do: str, **request: Any) -> dict[str, Any]:
    """What a stopped worker answers; it is stopped again."""
    worker.resume()
    answer = worker.ask(do, timeout=STEP_TIMEOUT, **request)
    worker.pause()
    return answer


def slices(workers: Workers, case: StepTime, seconds: float) -> Samples:
    """Steps in slices, as many on either side; the sides take turns to begin.

    The first lap is not counted: the second step of training lets the heap grow (33,000 page faults).
    """
    times: dict[str, list[float]] = {"base": [], "head": []}
    answers_in_slices(workers, BASE_FIRST, "sample", samples=1, busy=True, **case.request)
    for lap in range(MOST_PAIRS):
        if lap >= LEAST_PAIRS and not sum(times["base"]) + sum(times["head"]) < seconds:
            break
        order = HEAD_FIRST if lap % 2 else BASE_FIRST
        found = answers_in_slices(workers, order, "sample", samples=1, busy=True, **case.request)
        for side, answer in found.items():
            times[side] += answer["seconds"]
    return Samples(times["base"], times["head"])


def warm_one_by_one(workers: Workers, case: StepTime) -> None:
    """One after the other: two threads of each at once wait for each other.

    Tracing at once is not faster either where two cores share what computes (8 s for both sides, 11 at once).
    """
    for worker in workers.values():
        ask_alone(worker, "warm", again=False, **case.request)


BY_TURNS = Pairing(abba, warm_at_once, STEADY_HEAP)
IN_SLICES = Pairing(slices, warm_one_by_one, {**STEADY_HEAP, **SPIN})


def pairing_of(device: str) -> Pairing:
    """In slices on a CPU; on CUDA, whose work cannot be stopped half-way, step by step."""
    return IN_SLICES if device == "cpu" and CAN_SLICE else BY_TURNS
