"""Steps made ready to be timed, and timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from .steps import prepare
from .workloads import Case, Step

# s before a step: threads of ONNX Runtime and OpenVINO wait at work for a while, and torch was 3x as slow.
PAUSE = 0.05

T = TypeVar("T")


def fixed_compile_seconds() -> float:
    """Time of a process's first Inductor compile, of a function that is nothing: 5 s and more when cold.

    It is the toolchain's check and has nothing to do with a model.
    """
    import torch

    start = time.perf_counter()
    torch.compile(lambda x: x.sin() + 1)(torch.zeros(64))
    return time.perf_counter() - start


def warmed_up(case: Case, *, again: bool = True) -> Step:
    """The case's step after its first calls, compiled where it is to be.

    Args:
        again: call a compiled step a second time; without, whoever times it leaves out that call.

    Raises:
        RuntimeError: the case compiles, and nothing was compiled.
    """
    from .compile_counters import first_compiled_call

    step = prepare(case)
    if case.compiles:
        first_compiled_call(step)
    if again or not case.compiles:
        step()  # allocators, thread pools and, on CUDA, the recording of graphs
    step.wait()
    return step


def turned(steps: Sequence[T], turn: int) -> list[T]:
    """The steps (or their names) in the order of this turn: no step is always the first."""
    shift = turn % len(steps)
    return [*steps[shift:], *steps[:shift]]


def timed(step: Step) -> float:
    """Seconds of one call, waiting for the device before and after."""
    step.wait()
    start = time.perf_counter()
    step()
    step.wait()
    return time.perf_counter() - start
