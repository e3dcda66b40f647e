"""Collect every count of a case in one process, for asv to look up figure by figure."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from statistics import median
from typing import Any

from .asv_cases import TIMEOUT, Machine, measured_cases, ready, setup_cache
from .precision import lerobot_train_flags
from .roofline import matrix_rate
from .steps import prepare
from .timer import timed
from .workloads import SUITE_VERSION, Case, Step

NOT_APPLICABLE = math.nan  # asv's own sign; it takes None for a benchmark that failed
PAIRS = 5  # of an eager and a compiled step; the ratio's standard deviation is about 2%


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
    """On CUDA with the flags that lerobot-train sets."""
    with lerobot_train_flags(case.device):
        return _figures_of(machine, case)


def _figures_of(machine: Machine, case: Case) -> dict[str, Any]:
    from .compile_counters import count_compilation
    from .step_counters import kernel_launches, peak_memory

    eager = prepare(case.as_variant("eager"))
    eager()
    found = graph_counts(eager) | eager_counts(eager)
    with count_compilation() as compilation:
        compiled = ready(machine, case)
    pairs = [(timed(compiled), timed(eager)) for _ in range(PAIRS)]
    seconds = median(eager_s for _, eager_s in pairs)
    return {
        **found,
        "graph_breaks": len(found["graph_breaks"]),
        "kernels": compilation.kernels,
        "launches": kernel_launches(compiled) if case.device == "cuda" else NOT_APPLICABLE,
        "cudagraph_skips": compilation.cudagraph_skips if case.device == "cuda" else NOT_APPLICABLE,
        "peak_memory_compiled": peak_memory(compiled, case.device),
        "compiled_over_eager": median(compiled_s / eager_s for compiled_s, eager_s in pairs),
        "limit_over_eager": found["flops"] / matrix_rate(case.device) / seconds,
    }


class Counts(ABC):
    """The figures of a phase's fp32 steps; less is better in every one. Abstract, so asv passes it by."""

    version = SUITE_VERSION
    timeout = TIMEOUT
    param_names = ("workload", "device")
    phase: str

    @abstractmethod
    def setup_cache(self) -> dict[str, Any]:
        """``collect_fp32(self.phase)``, in the subclass: asv tells caches apart by where they stand."""

    def setup(self, counts: dict[str, Any], workload: str, device: str) -> None:
        case = Case(workload, self.phase, "compiled", "fp32", device)
        if str(case) not in counts:
            raise NotImplementedError(f"{case} is not measured on this machine")
        self.figures = counts[str(case)]

    def track_graphs(self, *_: Any) -> int:
        return self.figures["graphs"]

    def track_graph_breaks(self, *_: Any) -> int:
        return self.figures["graph_breaks"]

    def track_ops_captured(self, *_: Any) -> int:
        return self.figures["ops"]

    def track_inductor_kernels(self, *_: Any) -> int:
        return self.figures["kernels"]

    def track_flops(self, *_: Any) -> int:
        return self.figures["flops"]

    def track_dispatched_ops_eager(self, *_: Any) -> int:
        return self.figures["dispatched_ops"]

    def track_peak_memory_eager(self, *_: Any) -> int:
        return self.figures["peak_memory_eager"]

    track_peak_memory_eager.unit = "bytes"  # type: ignore[attr-defined]

    def track_peak_memory_compiled(self, *_: Any) -> int:
        return self.figures["peak_memory_compiled"]

    track_peak_memory_compiled.unit = "bytes"  # type: ignore[attr-defined]

    def track_compiled_over_eager(self, *_: Any) -> float:
        """Time of a compiled step as a share of an eager one's, in one process, by turns."""
        return self.figures["compiled_over_eager"]

    track_compiled_over_eager.unit = "ratio"  # type: ignore[attr-defined]

    def track_limit_over_eager(self, *_: Any) -> float:
        """Time that an eager step's products take at ``torch.mm``'s rate, as a share of the step's."""
        return self.figures["limit_over_eager"]

    track_limit_over_eager.unit = "ratio"  # type: ignore[attr-defined]

    def track_kernel_launches(self, *_: Any) -> float:
        return self.figures["launches"]

    def track_cudagraph_skips(self, *_: Any) -> float:
        return self.figures["cudagraph_skips"]


def collect_fp32(phase: str) -> dict[str, dict[str, Any]]:
    """Figures of every fp32 case of ``phase`` that this machine measures, by the compiled case's name."""
    machine = setup_cache()
    return {
        str(case): figures_of(machine, case)
        for case in measured_cases(machine, phase)
        if case.precision == "fp32"
    }
