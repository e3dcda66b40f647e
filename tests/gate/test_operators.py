"""What a report says of a slower step beside its verdict: the operators that grew."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch

from benchmarks.gate import answer_shapes, worker
from benchmarks.gate.operators import ELSE, MOST, grown
from benchmarks.suite.profiling import operator_times
from benchmarks.suite.steps import prepare
from benchmarks.suite.workloads import Case, Step

Gate = Callable[..., Any]
BASE: dict[str, Any] = {
    "takes": 0.100,
    "operators": {"aten::mm": [0.060, 60], "aten::add": [0.010, 20], "gone": [0.005, 1]},
}
TINY = Case("tiny", "inference", "eager")


def head(**operators: list[float]) -> dict[str, Any]:
    """``BASE`` with these operators, whose time the whole step takes longer."""
    found = copy.deepcopy(BASE)
    for name, (seconds, calls) in operators.items():
        found["takes"] += seconds - found["operators"].get(f"aten::{name}", [0.0, 0])[0]
        found["operators"][f"aten::{name}"] = [seconds, calls]
    return found


def test_what_takes_longer_is_named_with_its_times_and_calls_the_most_first() -> None:
    assert grown(BASE, head(mm=[0.080, 61], sort=[0.015, 2])) == (
        "aten::mm 60 → 80 ms (60 → 61 calls)",
        "aten::sort 0 → 15 ms (0 → 2 calls)",
    )


def test_less_than_a_twentieth_of_what_was_lost_is_noise() -> None:
    assert grown(BASE, head(mm=[0.080, 60], add=[0.0109, 20])) == ("aten::mm 60 → 80 ms (60 → 60 calls)",)


def test_python_and_inductors_kernels_are_what_is_left() -> None:
    slower = {**BASE, "takes": 0.150}
    assert grown(BASE, slower) == (f"{ELSE} 25 → 75 ms",)


def test_no_more_than_a_reader_takes_in() -> None:
    operators = {f"op{number}": [0.010 + number / 1000, 1] for number in range(20)}
    found = grown(BASE, head(**operators))
    assert len(found) == MOST
    assert found[0].startswith("aten::op19 0 → 29 ms")


def test_a_red_report_has_them_and_its_picture_of_a_step_is_of_both_sides(
    repository: Any, run_gate: Gate
) -> None:
    repository.commit(seconds=0.12)
    done = run_gate()
    (eager,) = [t for t in done.report["times"] if "-eager-" in t["name"]]
    said = "aten::mm 50 → 60 ms (3 → 3 calls)"
    assert said in eager["grown"]
    assert f"What grew in a step of {eager['name']}, from base to head: {said}" in done.markdown
    (compiling,) = [t for t in done.report["times"] if "-compile-" in t["name"]]
    assert compiling["grown"] == []


def test_a_green_run_profiles_nothing(repository: Any, run_gate: Gate) -> None:
    repository.commit(seconds=0.09, fails={"operators": "nobody asks"})
    done = run_gate()
    assert done.code == 0
    assert "which operators grew" not in done.said


@pytest.mark.parametrize("how", ["no profiler here", "exit"])
def test_a_verdict_is_not_lost_with_them(repository: Any, run_gate: Gate, how: str) -> None:
    repository.commit(seconds=0.12, fails={"operators": how})
    done = run_gate()
    assert done.code == 1
    assert done.markdown.startswith("**Regression: 2 of 3 cases slower")
    assert "which operators grew could not be found: head" in done.said
    assert all(t["grown"] == [] for t in done.report["times"])


def test_a_step_that_does_something_twice_has_it_twice() -> None:
    step = prepare(TINY)
    step()
    weight = torch.ones(2000, 2000)  # sorted in ten times the step's own time: what else runs here adds less

    def more() -> Any:
        for _ in range(5):
            weight.sort()
        return step.work()

    slower = Step(step.case, step.policy, step.batch, step.forward, more)
    base, found = operator_times(step), operator_times(slower)
    assert base["takes"] > sum(own for own, _ in base["operators"].values()) > 0
    assert "aten::addmm" in base["operators"]
    (first, *_) = grown(base, found)
    assert first.startswith("aten::sort 0 → ")
    assert first.endswith("(0 → 5 calls)")


def test_a_worker_profiles_the_step_that_it_times() -> None:
    answer = json.loads(json.dumps(worker.answer({"do": "operators", "case": asdict(TINY)})))
    assert answer_shapes.well_formed("operators", answer)
    assert answer["operators"]["aten::addmm"][1] > 0
    assert not answer_shapes.well_formed("operators", {"takes": 1.0, "operators": {"aten::mm": [1.0]}})
