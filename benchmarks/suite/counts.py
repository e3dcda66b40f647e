"""Collect every count of a case in one process, for asv to look up figure by figure."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from .asv_cases import TIMEOUT, Machine, has_mode, measured_cases, ready, this_machine, workloads_of
from .precision import lerobot_train_flags
from .roofline import matrix_rate
from .steps import prepare
from .timer import PAUSE, timed, turned, warmed_up
from .workloads import DEVICES, SUITE_VERSION, Case, Step

NOT_APPLICABLE = math.nan  # asv's own sign; it takes None for a benchmark that failed
PAIRS = 5  # of two steps, one after the other; the ratio's standard deviation is about 2%
WARM_UP = 3  # pairs that are left out: a process's first steps of stock took 530 ms, later ones 380


@dataclass(frozen=True)
class Ratio:
    """Of the times of two steps.

    Attributes:
        middle: the median over pairs of steps.
        spread: the upper quartile over the lower one.
    """

    middle: float
    spread: float

    def named(self, name: str) -> dict[str, float]:
        return {name: self.middle, f"{name}_spread": self.spread}


NO_RATIO = Ratio(NOT_APPLICABLE, NOT_APPLICABLE)


def eager_counts(step: Step) -> dict[str, Any]:
    """Counts of an eager step, called once before."""
    from .step_counters import dispatched, peak_memory

    sent = dispatched(step)
    return {
        "flops": sent.flops,
        "dispatched_ops": sent.ops,
        "peak_memory_eager": peak_memory(step, step.case.device),
    }


def graph_counts(step: Step) -> dict[str, Any]:
    """Counts of the graph that Dynamo makes of a step's forward."""
    from .compile_counters import trace

    traced = trace(step.forward, step.batch)
    return {
        "graph_breaks": [str(graph_break) for graph_break in traced.graph_breaks],
        "graphs": traced.graphs,
        "ops": traced.ops,
    }


def figures_of(machine: Machine, case: Case) -> dict[str, Any]:
    """Every figure of a compiled case, by name; on CUDA with the flags that lerobot-train sets."""
    from .compile_counters import count_compilation
    from .step_counters import kernel_launches, peak_memory

    on_cuda = case.device == "cuda"
    with lerobot_train_flags(case.device):
        eager = prepare(case.as_variant("eager"))
        eager()
        found = graph_counts(eager) | eager_counts(eager)
        with count_compilation() as compilation:
            compiled = ready(machine, case)
        over_eager, seconds = by_turns(compiled, eager)
        return {
            **found,
            "graph_breaks": len(found["graph_breaks"]),
            "kernels": compilation.kernels,
            "launches": kernel_launches(compiled) if on_cuda else NOT_APPLICABLE,
            "cudagraph_skips": compilation.cudagraph_skips if on_cuda else NOT_APPLICABLE,
            "peak_memory_compiled": peak_memory(compiled, case.device),
            **over_eager.named("compiled_over_eager"),
            "limit_over_eager": found["flops"] / matrix_rate(case.device) / seconds,
            **(auto_over_stock(case) if case.phase == "inference" else NO_RATIO).named("auto_over_stock"),
        }


def auto_over_stock(case: Case) -> Ratio:
    """Time of ``auto``'s step as a share of stock LeRobot's eager one, by turns in one process."""
    if not has_mode("auto"):
        return NO_RATIO
    auto, stock = (warmed_up(case.as_variant(variant)) for variant in ("auto", "stock"))
    return by_turns(auto, stock)[0]


def by_turns(step: Step, other: Step) -> tuple[Ratio, float]:
    """The time of ``step`` as a share of that of ``other``, and the median seconds of ``other``."""
    pairs = []
    for turn in range(WARM_UP + PAIRS):
        seconds = {}
        for each in turned([step, other], turn):
            time.sleep(PAUSE)
            seconds[each.case] = timed(each)
        pairs.append((seconds[step.case], seconds[other.case]))
    pairs = pairs[WARM_UP:]
    low, middle, high = quantiles((one / two for one, two in pairs), n=4, method="inclusive")
    return Ratio(middle, high / low), median(two for _, two in pairs)


def _figure(name: str, unit: str = "unit") -> Callable[..., float]:
    """A benchmark that looks one of the case's figures up."""

    def track(self: Counts, *_: Any) -> float:
        return self.figures[name]

    track.unit = unit  # type: ignore[attr-defined]  # asv reads it there
    return track


class Counts(ABC):
    """The figures of a phase's fp32 steps; less is better in each, but for the limit.

    Abstract, so asv does not take it for a benchmark in the modules that import it.
    """

    version = SUITE_VERSION
    timeout = TIMEOUT
    param_names = ("workload", "device")
    phase: str
    params: tuple[list[str], ...]

    def __init_subclass__(cls, *, phase: str) -> None:
        cls.phase = phase
        cls.params = (workloads_of(phase), list(DEVICES))

    @abstractmethod
    def setup_cache(self) -> dict[str, Any]:
        """``collect_fp32(self.phase)``, in each subclass: asv tells caches apart by where they stand."""

    def setup(self, counts: dict[str, Any], workload: str, device: str) -> None:
        case = Case(workload, self.phase, "compiled", "fp32", device)
        if str(case) not in counts:
            raise NotImplementedError(f"{case} is not measured on this machine")
        self.figures = counts[str(case)]

    track_graphs = _figure("graphs")
    track_graph_breaks = _figure("graph_breaks")
    track_ops_captured = _figure("ops")
    track_inductor_kernels = _figure("kernels")
    track_flops = _figure("flops")
    track_dispatched_ops_eager = _figure("dispatched_ops")
    track_peak_memory_eager = _figure("peak_memory_eager", "bytes")
    track_peak_memory_compiled = _figure("peak_memory_compiled", "bytes")
    track_kernel_launches = _figure("launches")
    track_cudagraph_skips = _figure("cudagraph_skips")
    # Time of a compiled step as a share of an eager one's, in one process, by turns; and the ratio's spread.
    track_compiled_over_eager = _figure("compiled_over_eager", "ratio")
    track_compiled_over_eager_spread = _figure("compiled_over_eager_spread", "ratio")
    # Time of a step of ``auto`` as a share of one of stock LeRobot, likewise; inference.
    track_auto_over_stock = _figure("auto_over_stock", "ratio")
    track_auto_over_stock_spread = _figure("auto_over_stock_spread", "ratio")
    # Time that an eager step's products take at ``torch.mm``'s rate, as a share of the step's.
    track_limit_over_eager = _figure("limit_over_eager", "ratio")


def collect_fp32(phase: str) -> dict[str, dict[str, Any]]:
    """Figures of every fp32 case of ``phase`` that this machine measures, by the compiled case's name."""
    machine = this_machine()
    return {
        str(case): figures_of(machine, case)
        for case in measured_cases(machine, phase)
        if case.precision == "fp32"
    }
