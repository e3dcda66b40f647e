"""A robot acts: ``policy.select_action``, from its queue of actions or with temporal ensembling."""

from __future__ import annotations

from typing import Any

from .asv_cases import TIMEOUT, Machine, precisions_of, ready, setup_cache, workloads_of
from .workloads import DEVICES, SUITE_VERSION, Case


class _Rollout:
    version = SUITE_VERSION
    timeout = TIMEOUT
    param_names = ("workload", "precision", "device", "variant")
    number, repeat, warmup_time = 1, (3, 10, 4.0), 0  # ready() has warmed it up
    phase: str

    def setup_cache(self) -> Machine:
        return setup_cache()

    def setup(self, machine: Machine, workload: str, precision: str, device: str, variant: str) -> None:
        self.step = ready(machine, Case(workload, self.phase, variant, precision, device))


class Rollout(_Rollout):
    """Seconds per chunk: one prediction, and every action of it taken from the queue."""

    phase = "rollout"
    params = (workloads_of(phase), precisions_of(phase), list(DEVICES), ["eager", "compiled"])

    def time_chunk_of_actions(self, *_: Any) -> None:
        self.step()
        self.step.wait()


class TemporalEnsembling(_Rollout):
    """Seconds per tick: one prediction and the ensemble's update."""

    phase = "rollout_ensemble"
    params = (workloads_of(phase), precisions_of(phase), list(DEVICES), ["eager", "compiled"])

    def time_tick(self, *_: Any) -> None:
        self.step()
        self.step.wait()
