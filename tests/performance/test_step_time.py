"""Time of each variant's step, side by side in one table a case: ``nox -s bench``."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.suite.compile_counters import first_compiled_call
from benchmarks.suite.peers import PEERS
from benchmarks.suite.precision import has_tf32, in_force, lerobot_train_flags
from benchmarks.suite.steps import prepare
from benchmarks.suite.workloads import EXPORT, VARIANTS, Case

pytestmark = pytest.mark.performance


# The first takes more than a minute to compile: `nox -s ratios` measures it; `nox -s peers` the others.
NOT_HERE = ("stock-compiled", *PEERS, EXPORT)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    cases = [
        Case(workload, phase, variant, option("--precision"), option("--device"))
        for workload in option("--workload") or ("aloha", "pusht")
        for phase in option("--phase") or ("inference",)
        for variant in VARIANTS
        if variant not in NOT_HERE
    ]
    metafunc.parametrize("case", cases, ids=[str(case) for case in cases])


def test_step(case: Case, benchmark: Any) -> None:
    benchmark.name = case.variant
    with lerobot_train_flags(case.device):
        flags = f", {in_force(case.device)}" if has_tf32(case.device) else ""
        benchmark.group = f"{case.workload} {case.phase} {case.precision} {case.device}{flags}"
        step = prepare(case)
        if case.compiles:
            first_compiled_call(step)
        step()

        def work() -> None:
            step()
            step.wait()

        benchmark.pedantic(work, rounds=10, iterations=1)
