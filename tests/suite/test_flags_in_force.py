"""What every timer and every comparison has in force, as their steps see it; the gate's is in tests/gate.

A CPU stands for a device that has TF32: torch has the flags without CUDA, and Dynamo guards on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.pages import compare, records
from benchmarks.pages.compare import from_workload, time_by_turns
from benchmarks.repository import ROOT
from benchmarks.suite import answers, asv_cases, precision, timer
from benchmarks.suite.launch import as_request
from benchmarks.suite.precision import AS_LEROBOT_TRAIN, STRICT, in_force, strict_fp32
from benchmarks.suite.steps import prepare, step_of
from benchmarks.suite.workloads import Case, Step

pytestmark = pytest.mark.usefixtures("without_inductor")

TINY = Case("tiny", "inference", "stock")


@pytest.fixture
def tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "WITH_TF32", ("cuda", "cpu"))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The flags that the calls of each step see, by the order in which the steps are made."""
    flags: list[set[str]] = []

    def recording(step: Step) -> Step:
        mine: set[str] = set()
        flags.append(mine)

        def work() -> Any:
            mine.add(in_force("cpu"))
            return step.work()

        return replace(step, work=work)

    monkeypatch.setattr(compare, "step_of", lambda *args, **kwargs: recording(step_of(*args, **kwargs)))
    for module in (answers, timer):
        monkeypatch.setattr(module, "prepare", lambda *args, **kwargs: recording(prepare(*args, **kwargs)))
    return flags


@pytest.mark.usefixtures("tf32")
def test_the_script_times_as_lerobot_trains_and_compares_strictly(seen: list[set[str]]) -> None:
    """Each has steps of its own: a compiled one holds the TF32 that it was compiled with."""
    found = time_by_turns(from_workload("tiny", "inference"), "inference", runs=2)
    assert seen == 3 * [{AS_LEROBOT_TRAIN}] + 3 * [{STRICT}]
    assert all(timed.difference is not None and timed.difference < 1e-5 for timed in found)


def test_on_a_cpu_the_script_makes_each_step_once(seen: list[set[str]]) -> None:
    time_by_turns(from_workload("tiny", "inference"), "inference", runs=2)
    assert seen == 3 * [{"fp32"}]


def launched(do: str, **options: Any) -> dict[str, Any]:
    """The answer of a launch in this process."""
    return answers.answer(as_request(do, [TINY, TINY.as_variant("eager")], **options))


def said(environment: dict[str, Any], device: str) -> str:
    """Above a table of ratios."""
    return records.measured_on(records.about(environment, device, ROOT, precision="fp32"))


@pytest.mark.usefixtures("tf32")
def test_a_launch_times_as_lerobot_trains_and_says_so(seen: list[set[str]]) -> None:
    made = launched("alternate", seconds=0)["environment"]
    assert seen == 2 * [{AS_LEROBOT_TRAIN}]
    assert made["flags"] == AS_LEROBOT_TRAIN
    assert f", cuda, fp32 ({AS_LEROBOT_TRAIN}); " in said(made, "cuda")
    seen.clear()
    launched("difference")
    assert seen == 2 * [{STRICT}]


def test_on_a_cpu_a_launch_says_what_it_said(seen: list[set[str]]) -> None:
    made = launched("alternate", seconds=0)["environment"]
    assert seen == 2 * [{"fp32"}]
    assert ", cpu, fp32; " in said(made, "cpu")
    assert said(made, "cpu") == said({**made, "flags": "fp32"}, "cpu")


@pytest.mark.usefixtures("tf32")
def test_asv_times_as_lerobot_trains(seen: list[set[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asv_cases, "_ready", {})
    monkeypatch.setattr(asv_cases, "use_inductor_cache", lambda: None)
    monkeypatch.setattr(asv_cases, "skip_unless_measured", lambda *_: None)
    with strict_fp32("cpu"):  # puts back what it leaves to the process
        torch.backends.cudnn.allow_tf32 = True  # as torch has it
        step = asv_cases.ready(asv_cases.Machine(("cpu",), False), TINY)
        step()
    assert seen == [{AS_LEROBOT_TRAIN}]
