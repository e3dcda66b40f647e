"""A robot asks for a chunk of actions: ``policy.predict_action_chunk``, batch 1."""

from __future__ import annotations

from typing import Any

from .asv_cases import TIMEOUT, Machine, precisions_of, ready, setup_cache, workloads_of
from .counts import Counts, collect_fp32
from .workloads import DEVICES, SUITE_VERSION, Case

PHASE = "inference"
WORKLOADS, PRECISIONS = workloads_of(PHASE), precisions_of(PHASE)


class Inference:
    """Seconds per action chunk, eager and compiled."""

    version = SUITE_VERSION
    timeout = TIMEOUT
    params = (WORKLOADS, PRECISIONS, list(DEVICES), ["eager", "compiled"])
    param_names = ("workload", "precision", "device", "variant")
    number, repeat, warmup_time = 1, (3, 10, 4.0), 0  # ready() has warmed it up

    def setup_cache(self) -> Machine:
        return setup_cache()

    def setup(self, machine: Machine, workload: str, precision: str, device: str, variant: str) -> None:
        self.step = ready(machine, Case(workload, PHASE, variant, precision, device))

    def time_predict_action_chunk(self, *_: Any) -> None:
        self.step()
        self.step.wait()


class InferenceCounts(Counts):
    """Exact counts of the same step, and the ratio of compiled to eager time."""

    phase = PHASE
    params = (WORKLOADS, list(DEVICES))

    def setup_cache(self) -> dict[str, Any]:
        return collect_fp32(self.phase)

    setup_cache.timeout = TIMEOUT  # type: ignore[attr-defined]
