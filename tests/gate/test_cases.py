"""Which cases are decided on."""

from __future__ import annotations

import pytest

from benchmarks.gate.cases import DEFAULT, CompileTime, choose, named, step_times
from benchmarks.suite.workloads import Case


@pytest.mark.parametrize("device", list(DEFAULT))
def test_the_default_has_every_kind_of_step(device: str) -> None:
    cases = choose(None, device)
    assert len(set(cases)) == len(cases)
    assert {"eager", "compiled"} <= {case.variant for case in cases}
    assert {"inference", "training", "rollout_ensemble"} <= {case.phase for case in cases}
    assert [case.phase for case in cases if case.variant == "auto"] == ["tick_ensemble"]
    assert {case.device for case in cases} == {device}


def test_a_workload_is_all_its_phases_and_a_phase_is_one() -> None:
    phases = {"inference", "training", "rollout_ensemble", "tick_ensemble"}
    for device in DEFAULT:
        assert {case.phase for case in choose(["pusht"], device)} == phases
    assert [str(case) for case in choose(["aloha-tick"], "cpu")] == ["aloha-tick-auto-fp32-cpu"]
    assert {str(case) for case in choose(["aloha-rollout"], "cpu")} == {
        "aloha-rollout-eager-fp32-cpu",
        "aloha-rollout-compiled-fp32-cpu",
    }
    assert len(choose(["pusht-inference", "pusht-inference"], "cpu")) == 2


@pytest.mark.parametrize(
    ("names", "device", "said"),
    [
        (["walker"], "cpu", "unknown workload 'walker'; choose one of aloha"),
        (["pusht-walking"], "cpu", "unknown phase 'walking' in 'pusht-walking'"),
        ([], "cpu", "no case selected"),
        (None, "tpu", "unknown device 'tpu'"),
    ],
)
def test_unknown_names_are_refused(names: list[str] | None, device: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose(names, device)


def test_every_step_is_timed_and_the_first_graphs_compiling() -> None:
    found = step_times(choose(None, "cpu"))
    assert [str(case) for case in found if isinstance(case, CompileTime)] == [
        "aloha-inference-compile-fp32-cpu"
    ]
    assert [case.case for case in found if not isinstance(case, CompileTime)] == choose(None, "cpu")
    assert not any(isinstance(case, CompileTime) for case in step_times([Case("pusht", "training", "eager")]))


def test_what_is_timed_is_found_again_by_its_name() -> None:
    for case in step_times(choose(None, "cpu")):
        assert named(str(case)) == case
        assert type(named(str(case))) is type(case)
