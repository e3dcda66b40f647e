"""Where one step's, or one compile's, time goes, in the process that does it; ``breakdown`` asks for it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from .steps import prepare
from .workloads import Case, Step

STEPS = 5  # profiled in a launch
PROFILED = 3  # where the least of them counts
# By the names of torch's operators and of CUDA's kernels; the first that fits.
KINDS: dict[str, re.Pattern[str]] = {
    "optimizer": re.compile(r"adam|multi_tensor|foreach", re.IGNORECASE),
    "random numbers": re.compile(r"keep_mask|bernoulli|random|dropout", re.IGNORECASE),
    "convolutions": re.compile(r"conv(?!ert)|fprop|dgrad|wgrad|winograd|implicit_gemm", re.IGNORECASE),
    "products": re.compile(r"::\w*mm\b|linear|attention|flash|fmha|gemm|cutlass|nvjet|matmul", re.IGNORECASE),
}
MATRIX_WORK = ("products", "convolutions")
COMPILE_STAGES = ("Dynamo", "AOTAutograd", "Inductor's Python", "waiting for compilers")
REST = "all else"


def kind_of(name: str) -> str | None:
    """Which of KINDS an operator or a kernel is of; None for what Inductor generated, and the rest."""
    if name.startswith("triton_"):
        return None
    return next((kind for kind, pattern in KINDS.items() if pattern.search(name)), None)


def step_breakdown(cases: Sequence[Case]) -> dict[str, Any]:
    """Mean seconds of a step of the first case by kind, over STEPS of them, and FLOPs by kind.

    REST is what is left of the clock's time: Inductor's own kernels, Python, an idle device. FLOPs are
    those of our eager step, as in ``limits``; a graph that computes less than it seems to run faster.
    """
    from .step_counters import dispatched, profiled
    from .timer import timed, warmed_up

    eager = prepare(cases[0].as_variant("eager"))
    eager()
    flops = dict.fromkeys(MATRIX_WORK, 0)
    for name, count in dispatched(eager).flops_by_op.items():
        flops["convolutions" if kind_of(name) == "convolutions" else "products"] += count
    del eager
    step, on_cuda = warmed_up(cases[0]), cases[0].device == "cuda"
    with profiled(step.case.device) as profile:
        clock = [timed(step) for _ in range(STEPS)]
    times = dict.fromkeys(KINDS, 0.0)
    for name, seconds, _ in own_times(profile, on_cuda):
        kind = kind_of(name)
        if kind is not None:
            times[kind] += seconds / STEPS
    takes = fmean(clock)  # as the kinds are means: with a median what is left could be below zero
    return {"takes": takes, "times": {**times, REST: takes - sum(times.values())}, "flops": flops}


def own_times(profile: Any, on_cuda: bool) -> Iterator[tuple[str, float, int]]:
    """Name, own seconds and calls of each operator; on CUDA of each kernel, without the operators.

    torch gives the operator that launched a kernel the kernel's time as well.
    """
    from torch.autograd import DeviceType

    for event in profile.key_averages():
        if not on_cuda:
            yield event.key, event.self_cpu_time_total / 1e6, event.count
        elif event.device_type == DeviceType.CUDA:
            yield event.key, event.self_device_time_total / 1e6, event.count


def operator_times(step: Step) -> dict[str, Any]:
    """Seconds of a warm step, and own seconds and calls of each operator in it; on CUDA of each kernel.

    Of each the least over PROFILED steps: what else the machine does only adds.
    """
    from .step_counters import profiled
    from .timer import timed

    on_cuda = step.case.device == "cuda"
    takes: list[float] = []
    own: dict[str, tuple[float, int]] = {}
    for _ in range(PROFILED):
        with profiled(step.case.device) as profile:
            takes.append(timed(step))
        for name, seconds, calls in own_times(profile, on_cuda):
            own[name] = min(own.get(name, (seconds, calls)), (seconds, calls))
    return {"takes": min(takes), "operators": own}


def compile_breakdown(cases: Sequence[Case]) -> dict[str, Any]:
    """Seconds of the first case's first call by stage of torch.compile, the process's first compile apart."""
    from .compile_counters import compile_stages, first_compiled_call
    from .timer import fixed_compile_seconds

    fixed_compile_seconds()
    step = prepare(cases[0])
    with compile_stages() as stages:
        start = time.perf_counter()
        first_compiled_call(step)
        step.wait()
        takes = time.perf_counter() - start
    times = dict(zip(COMPILE_STAGES, stages, strict=True))
    return {"takes": takes, "times": {**times, REST: takes - sum(stages)}}
