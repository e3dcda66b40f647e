"""What a process of ``python -m benchmarks.gpu`` answers: a step beside stock's, compiled first, timed later.

Compiling happens side by side with other processes; timing is asked for when they have nothing to do.
"""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from .environment import environment
from .precision import in_force, lerobot_train_flags, strict_fp32
from .serving import serve
from .steps import prepare
from .timer import timed, turned
from .workloads import Case, Step

PROFILED = 5  # steps
STRICT, AS_TRAIN = "strict", "lerobot-train"
STEPS = {"training": 15}  # of each variant in a turn; else:
OTHERWISE = 40
TURNS = 4


class Steps:
    """One case in mode auto and stock eager in fp32, under one set of flags."""

    def __init__(self) -> None:
        self._flags = ExitStack()  # in force until the process ends
        self._steps: list[Step] = []
        self._peak_of_stock = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = getattr(self, request.pop("do"))(**request)
        return found

    def ready(self, case: dict[str, Any], flags: str) -> dict[str, Any]:
        """Make both ready: seconds of auto's first call and of four, and bytes that it then holds."""
        auto = Case(**case)
        wanted = strict_fp32 if flags == STRICT else lerobot_train_flags
        self._flags.enter_context(wanted(auto.device))
        stock = Case(auto.workload, auto.phase, "stock", "fp32", auto.device)
        self._steps = [prepare(stock), prepare(auto)]
        for _ in range(2):
            self._steps[0]()
        self._peak_of_stock = _peak(self._steps[0])  # before auto holds a pool of its own
        before = _held(auto.device)
        calls = [timed(self._steps[1]) for _ in range(4)]  # a later one may compile, too, or record a graph
        about = {**environment(), "device": _name(auto.device), "flags": in_force(auto.device)}
        return {
            "first_call": calls[0],
            "first_calls": sum(calls),
            "held": _held(auto.device) - before,
            "about": about,
        }

    def times(self) -> dict[str, Any]:
        """By turns, ms: median, 95th and 99th percentile of each; what the device works; peak memory."""
        stock, auto = self._steps
        seconds: dict[str, list[float]] = {"stock": [], "auto": []}
        for turn in range(TURNS):
            for step in turned(self._steps, turn):
                step()
                of_this = seconds["stock" if step is stock else "auto"]
                of_this += [timed(step) for _ in range(STEPS.get(auto.case.phase, OTHERWISE))]
        found: dict[str, Any] = {name: _percentiles(values) for name, values in seconds.items()}
        found["speed_up"] = found["stock"]["ms"] / found["auto"]["ms"]
        if auto.case.device == "cuda":
            found["auto"] |= _work(auto) | {"peak": _peak(auto)}
            found["stock"] |= _work(stock) | {"peak": self._peak_of_stock}
        if auto.case.phase == "inference":
            found["difference"] = float((auto().float() - stock().float()).abs().max())
        return found


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1e3 * value for value in seconds)
    share = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (95, 99)}
    return {"ms": median(ordered), **share}


def _work(step: Step) -> dict[str, Any]:
    """ms that the device works in a step, kernels, and the kernels that take longest, us."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(PROFILED):
            step()
        step.wait()
    by_name: dict[str, tuple[int, float]] = {}
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            count, took = by_name.get(event.name, (0, 0.0))
            by_name[event.name] = count + 1, took + event.self_device_time_total
    longest = sorted(by_name.items(), key=lambda item: -item[1][1])[:12]
    return {
        "busy": sum(took for _, took in by_name.values()) / PROFILED / 1e3,
        "kernels": sum(count for count, _ in by_name.values()) / PROFILED,
        "longest": [[name[:80], count / PROFILED, took / PROFILED] for name, (count, took) in longest],
    }


def _peak(step: Step) -> int:
    from .step_counters import peak_memory

    return peak_memory(step, step.case.device)


def _held(device: str) -> int:
    from .step_counters import held_by_graphs

    if device != "cuda":
        return 0
    import torch

    torch.cuda.synchronize()
    return int(torch.cuda.memory_allocated()) + held_by_graphs()


def _name(device: str) -> str:
    import torch

    return str(torch.cuda.get_device_name()) if device == "cuda" else device


if __name__ == "__main__":
    serve(Steps().answer)
