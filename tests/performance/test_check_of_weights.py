"""What a graph with constant weights asks at each call, asked between two steps: ``nox -s bench``."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.suite.steps import prepare
from benchmarks.suite.workloads import Case
from lerobot_policy_act_compiled.weights import Weights

pytestmark = pytest.mark.performance


@pytest.mark.parametrize("workload", ["aloha", "pusht"])
def test_check_of_weights(workload: str, benchmark: Any) -> None:
    """After a step each time, whose work has taken the weights' samples out of the cache."""
    benchmark.name, benchmark.group = f"check of weights, {workload}", "weights"
    step = prepare(Case(workload, "inference", "eager"))
    weights = Weights(step.policy)

    def between_steps() -> tuple[tuple[Any], dict[str, Any]]:
        step()
        return (step.policy,), {}

    assert benchmark.pedantic(weights.are_those_of, setup=between_steps, rounds=12)
