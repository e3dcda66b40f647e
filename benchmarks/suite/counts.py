"""Collect every count of a case in one process, for asv to look up figure by figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .asv_cases import (
    NOT_APPLICABLE,
    TIMEOUT,
    Machine,
    measured_cases,
    ready,
    this_machine,
    workloads_of,
)
from .precision import lerobot_train_flags
from .speed_ratios import ratios
from .steps import prepare
from .workloads import DEVICES, SUITE_VERSION, Case, Step


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
        return {
            **found,
            "graph_breaks": len(found["graph_breaks"]),
            "kernels": compilation.kernels,
            "launches": kernel_launches(compiled) if on_cuda else NOT_APPLICABLE,
            "cudagraph_skips": compilation.cudagraph_skips if on_cuda else NOT_APPLICABLE,
            "peak_memory_compiled": peak_memory(compiled, case.device),
            **ratios(case, found["flops"]),
        }


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
    # Time of a compiled step as a share of an eager one's, by turns; and the ratio's spread over processes.
    track_compiled_over_eager = _figure("compiled_over_eager", "ratio")
    track_compiled_over_eager_spread = _figure("compiled_over_eager_spread", "ratio")
    # Time of a step of ``auto`` as a share of one of stock LeRobot, likewise; inference.
    track_auto_over_stock = _figure("auto_over_stock", "ratio")
    track_auto_over_stock_spread = _figure("auto_over_stock_spread", "ratio")
    # Time that an eager step's products take at the machine's rate, as a share of the step's.
    track_limit_over_eager = _figure("limit_over_eager", "ratio")


def collect_fp32(phase: str) -> dict[str, dict[str, Any]]:
    """Figures of every fp32 case of ``phase`` that this machine measures, by the compiled case's name."""
    machine = this_machine()
    return {
        str(case): figures_of(machine, case)
        for case in measured_cases(machine, phase)
        if case.precision == "fp32"
    }
