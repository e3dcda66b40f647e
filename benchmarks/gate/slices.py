"""Steps of both sides in slices of time: one side runs, then it is stopped and the other goes on.

A shared machine's speed drifts within a step of 2 s as much as it does within a minute, so steps
by turns leave half of the drift in their ratio. Slices leave none that is slower than SLICE, and
what is counted is the processor's time of a worker's threads, not the clock's: another guest on the
machine, a late signal or the driver itself take none of it. A thread that waits for another spins
(SPIN), so a stretch on one core counts as the time it takes, like one on all.

What a step sleeps is not in it: that is a counter (``waits``).

Standard deviation of the ratio of one step of each side, both at rest in memory (STEADY_HEAP): 1.7%
of a training step of pusht (1.8 s), 2% of aloha's inference (0.35 s). By turns, %²s of a pair: 77 to
209 and 22 to 60.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Sequence
from typing import Any

from .cases import StepTime
from .channel import STEP_TIMEOUT, Worker
from .pairing import (
    BASE_FIRST,
    BY_TURNS,
    HEAD_FIRST,
    LEAST_PAIRS,
    MOST_PAIRS,
    STEADY_HEAP,
    Pairing,
    Samples,
    Workers,
)

CAN_SLICE = sys.platform == "linux"  # elsewhere a stopped worker would outlive a driver that is killed
SLICE = 0.020  # s; 0.010 has no less variance, and steps are 15% longer (10% at 0.020)
# Turns of the loop in which a thread of libgomp waits before it sleeps: about 0.1 s, its default 10 ms.
SPIN = {"GOMP_SPINCOUNT": "3000000"}


def answers_in_slices(
    workers: Workers, order: Sequence[str], do: str, timeout: float | None = None, **request: Any
) -> dict[str, dict[str, Any]]:
    """What both workers answer to one request, where one at a time runs; they are left stopped.

    The first slice is half as long as the others, so that neither side is ahead on average.

    Args:
        order: the sides; the first runs first.
        timeout: s, for both together (STEP_TIMEOUT).

    Raises:
        MeasurementError: a worker failed, ended, or gave no answer in time.
    """
    timeout = timeout or STEP_TIMEOUT
    for worker in workers.values():
        worker.pause()
        worker.send(do, **request)
    answers: dict[str, dict[str, Any]] = {}
    running, end, slice_end = order[0], time.monotonic() + timeout, time.monotonic() + SLICE / 2
    workers[running].resume()
    while len(answers) < len(workers):
        asked = {worker: name for name, worker in workers.items() if name not in answers}
        left = (slice_end if len(asked) > 1 else end) - time.monotonic()
        for worker in select.select(list(asked), [], [], max(0.0, left))[0]:
            worker.resume()  # it may have been stopped in the middle of its answer
            answers[asked[worker]] = worker.receive(timeout)
            worker.pause()  # its threads would spin on for a while
        if time.monotonic() > end:
            raise workers[running].hung(timeout)
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


def _warm(workers: Workers, case: StepTime) -> None:
    """One after the other: two threads of each at once wait for each other.

    Tracing at once is not faster either where two cores share what computes (8 s for both sides, 11 at once).
    """
    for worker in workers.values():
        ask_alone(worker, "warm", again=False, **case.request)


IN_SLICES = Pairing(slices, _warm, {**STEADY_HEAP, **SPIN})


def pairing_of(device: str) -> Pairing:
    """In slices on a CPU; on CUDA, whose work cannot be stopped half-way, step by step."""
    return IN_SLICES if device == "cpu" and CAN_SLICE else BY_TURNS
