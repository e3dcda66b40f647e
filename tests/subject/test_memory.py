"""Made compile-friendly, ACT never holds more memory than stock; the counter is exact, so is the test."""

from __future__ import annotations

import pytest

from benchmarks.suite.step_counters import peak_memory
from benchmarks.suite.steps import prepare
from benchmarks.suite.workloads import Case


@pytest.mark.parametrize(("workload", "phase"), [("aloha", "inference"), ("tiny", "training")])
def test_eager_holds_no_more_than_stock(workload: str, phase: str) -> None:
    peaks = {}
    for variant in ("stock", "eager"):
        step = prepare(Case(workload, phase, variant))
        step()  # the optimizer's state is made once
        peaks[variant] = peak_memory(step, "cpu")
    assert 0 < peaks["eager"] <= peaks["stock"]
