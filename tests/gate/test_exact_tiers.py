"""Results and counters: which are asked of which side, in which order, and what they decide by themselves."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.gate.cases import choose, counted
from benchmarks.gate.exact_tiers import groups
from benchmarks.suite.workloads import Case

from .conftest import Repository, Run

Gate = Callable[..., Run]


def test_nothing_is_compiled_of_a_step_that_is_timed_in_eager_mode_alone() -> None:
    wanted = [request for group in groups(choose(None, "cpu")) for request in group]
    asked_of = {do for do, case in wanted if case.phase == "rollout_ensemble"}
    assert asked_of == {"graph"}
    assert {case.phase for do, case in wanted if do == "counts"} == {"inference", "training"}


def test_base_is_not_asked_again(repository: Repository, run_gate: Gate) -> None:
    repository.commit()
    first = run_gate()
    assert any(line.startswith("base: counts") for line in first.asked)
    assert "known from an earlier run" not in first.said
    repository.commit(counts={"ops": 271})
    second = run_gate("--base", "main")
    assert not any(line.startswith("base: ") for line in second.asked)
    assert [line for line in first.asked if "head" in line] == [
        line for line in second.asked if "head" in line
    ]
    assert second.code == 1
    assert "ops captured 270 → 271" in second.markdown
    third = run_gate("--base", "main", "--workloads", "pusht-inference", "pusht-training")
    assert [line for line in third.asked if "base" in line] == ["base: counts pusht-training"]


def test_without_names_pusht_is_not_counted_and_compiles_ahead(
    repository: Repository, run_gate: Gate
) -> None:
    def said(done: Run, what: str) -> list[str]:
        return [line.partition("left] ")[2] for line in done.said.splitlines() if what in line]

    repository.commit(counts={"kernels": 95}, seconds=0.2)
    first = run_gate(named=False)
    assert sorted(said(first, ": counts ")) == [
        f"{side}: counts {case}"
        for side in ("base", "head")
        for case in ("aloha-inference", "tiny-inference", "tiny-training")
    ]
    assert {f"{side}: outputs aloha-inference" for side in ("base", "head")} <= set(said(first, ": outputs "))
    assert sorted(said(first, ": compiling ")) == [
        f"{side}: compiling pusht-training" for side in ("base", "head")
    ]
    slower = {time["name"]: time["counters"] for time in first.report["times"]}
    assert slower["pusht-training-compiled-fp32-cpu"] == ["Inductor kernels 90 \u2192 95"], "those of tiny"
    repository.commit(seconds=0.21)
    assert said(run_gate("--base", "main", named=False), ": compiling ") == [], "base was timed before"
    assert said(run_gate("--base", "main"), ": compiling ") == [], "what is named is counted, and so compiled"
    assert said(run_gate("--base", "HEAD^", named=False), ": compiling ") == [], "base was head before"
    assert said(run_gate("--base", "main", "--no-times", named=False), ": compiling ") == []
    repository.commit(seconds=0.22)
    later = run_gate("--base", "HEAD^", named=False)
    assert len(said(later, ": compiling ")) == 2, "counters of base are known, and it was never timed"
    assert said(later, "base: ") == ["base: compiling pusht-training"]


def test_code_that_no_longer_compiles_is_red_though_nothing_is_counted_of_it(
    repository: Repository, run_gate: Gate
) -> None:
    repository.commit(fails={"warm": "too large"})
    done = run_gate(named=False)
    assert (done.code, done.report["times"]) == (1, [])
    assert "| pusht-training | compiling fails: head failed: RuntimeError: too large |" in done.markdown
    repository.commit()
    done = run_gate("--base", "HEAD^", named=False)
    assert (done.code, "compiling pusht-training); choose another base" in done.said) == (2, True), done.said


def test_what_breaks_its_graph_is_not_compiled_to_be_timed(repository: Repository, run_gate: Gate) -> None:
    repository.commit(counts={"graph_breaks": ["a.py:1"]})
    done = run_gate(named=False)
    assert done.code == 1
    assert "base: compiling pusht-training" in done.said
    assert "head: compiling" not in done.said


def test_a_side_begins_with_what_the_other_ends_with() -> None:
    ahead = [case for case in choose(None, "cpu") if case.compiles and case.phase == "training"]
    ordered = [group[0] for group in groups(counted(None, "cpu"), ahead)]
    long = {("warm", "pusht"): 34, ("counts", "tiny"): 22, ("counts", "aloha"): 20}  # s, of a core, cold
    tiny = ("counts", Case("tiny", "inference", "eager"))
    takes = [9 if asked == tiny else long.get((asked[0], asked[1].workload), 3) for asked in ordered]
    done = list(itertools.accumulate(takes))
    both_are_at = bisect.bisect(done, done[-1] / 2)
    assert takes[both_are_at] == 3, f"both sides compile {ordered[both_are_at]} at once"


def test_what_failed_is_asked_again(repository: Repository, run_gate: Gate) -> None:
    repository.commit(fails={"counts": "not today"})
    for _ in range(2):
        done = run_gate()
        assert (done.code, "head: counts pusht-inference" in done.asked) == (1, True)


@pytest.mark.parametrize(
    ("counts", "code", "said"),
    [
        ({"ops": 271}, 1, "ops captured 270 → 271"),
        ({"dispatched_ops": 499}, 0, "ops dispatched in eager 500 → 499"),
        ({"peak_memory_eager": 10**6 + 4000}, 0, None),
        ({"peak_memory_eager": 10**6 + 6000}, 1, "peak memory in eager 1,000,000 → 1,006,000"),
    ],
)
def test_counters_decide_without_statistics(
    repository: Repository, run_gate: Gate, counts: dict[str, int], code: int, said: str | None
) -> None:
    repository.commit(counts=counts)
    done = run_gate()
    assert done.code == code
    assert (said in done.markdown) if said else done.report["findings"] == []


def test_a_graph_break_is_red_with_its_place_and_nothing_is_timed(
    repository: Repository, run_gate: Gate
) -> None:
    place = "modeling_act_compiled.py:77: Unsupported Tensor.item() call Explanation: Dynamo cannot"
    broken = {"graph_breaks": [place], "graphs": 2, "kernels": None, "peak_memory_compiled": None}
    repository.commit(counts=broken)
    done = run_gate()
    assert done.code == 1
    assert "graph break in pusht-inference at modeling" in done.report["headline"]
    assert "Explanation" not in done.report["headline"]
    assert place.replace("_", r"\_") in done.markdown
    assert done.report["times"] == []


@pytest.mark.parametrize(
    ("behaviour", "what"),
    [
        ({"eager_actions": [9.0, 0.25]}, "eager actions, head against base"),
        ({"compiled_actions": [9.0, 0.25]}, "compiled actions against eager"),
        ({}, None),
    ],
)
def test_a_graph_that_is_mended_still_has_to_give_the_same_results(
    repository: Repository, run_gate: Gate, behaviour: dict[str, Any], what: str | None
) -> None:
    broken = {"graph_breaks": ["m.py:7"], "graphs": 2, "kernels": None, "peak_memory_compiled": None}
    repository.commit(counts=broken)
    repository.commit(**behaviour)
    for _ in range(2):  # and where base's answers are kept
        done = run_gate("--base", "HEAD^")
        assert done.code == (1 if what else 0)
        red = [finding["what"] for finding in done.report["findings"] if finding["red"]]
        assert (what in red) if what else red == []
    assert "base: results and counters are known" in done.said


@pytest.mark.parametrize(
    ("behaviour", "what"),
    [
        ({"eager_actions": [0.5, 0.2501]}, "eager actions, head against base"),
        ({"compiled_actions": [0.5, float("nan")]}, "compiled actions against eager"),
        ({"state_dict": {"_orig_mod.weight": [2, 2]}}, "state_dict"),
        ({"loss": 1.0001}, "loss and gradients, head against base"),
        ({"fails": {"outputs": "shape mismatch"}}, "outputs fails"),
        ({"graph": {"graph_breaks": ["m.py:7: only with two cameras"]}}, "graph breaks"),
    ],
)
def test_a_wrong_result_is_red(
    repository: Repository, run_gate: Gate, behaviour: dict[str, Any], what: str
) -> None:
    repository.commit(**behaviour)
    done = run_gate()
    assert done.code == 1
    assert what in [finding["what"] for finding in done.report["findings"]]
    assert done.report["times"] == []
