"""Speed-ups that asv keeps: of fresh processes, with an interval, of what a commit has."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from benchmarks.suite import asv_cases, speed_ratios
from benchmarks.suite.answers import ANSWERS
from benchmarks.suite.asv_cases import Machine, skip_unless_measured
from benchmarks.suite.workloads import Case

CPU_ONLY = Machine(devices=("cpu",), cpu_bf16=False)


def answered(monkeypatch: pytest.MonkeyPatch, *ratios: float) -> list[dict[str, Any]]:
    """Let launches answer: eager steps of 0.1 s, compiled ones so many times that. What they are asked."""
    asked: list[dict[str, Any]] = []

    def launch(request: dict[str, Any], **_: Any) -> dict[str, Any]:
        options = {name: value for name, value in request.items() if name != "do"}
        inspect.signature(ANSWERS[request["do"]]).bind(**options)
        asked.append(request)
        slower = ratios[len(asked) - 1]
        cases = [Case(**fields) for fields in request["cases"]]
        takes = {"compiled": slower, "auto": slower / 2}
        return {"seconds": {str(case): [0.1 * takes.get(case.variant, 1.0)] * 5 for case in cases}}

    monkeypatch.setattr(speed_ratios, "launch", launch)
    monkeypatch.setattr(speed_ratios, "product_rate", lambda _: 1e9)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "kept")
    return asked


def test_a_ratio_is_of_fresh_processes_with_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answered(monkeypatch, 0.8, 0.9, 0.9, 1.0)
    found = speed_ratios.ratios(Case("tiny", "inference", "compiled"), flops=10**7)
    assert [[fields["variant"] for fields in each["cases"]] for each in asked] == [
        ["compiled", "eager", "auto", "stock"]
    ] * speed_ratios.LAUNCHES
    assert found["compiled_over_eager"] == pytest.approx(0.9)
    assert found["auto_over_stock"] == pytest.approx(0.45)
    assert found["limit_over_eager"] == pytest.approx(0.1)
    # Student's 95% quantile of three degrees of freedom, from a printed table: 3.182.
    assert found["compiled_over_eager_spread"] == pytest.approx(math.exp(2 * 0.145062), rel=1e-3)
    asked = answered(monkeypatch, 0.8, 0.9, 0.9, 1.0)
    found = speed_ratios.ratios(Case("tiny", "training", "compiled"), flops=10**7)
    assert [fields["variant"] for fields in asked[0]["cases"]] == ["compiled", "eager"]
    assert math.isnan(found["auto_over_stock"])


def test_a_step_s_time_is_not_that_of_a_burst_and_does_not_jump() -> None:
    assert speed_ratios.middle_half([1.0, 1.0, 1.0, 9.0]) == 1.0
    assert speed_ratios.middle_half([9.0, 15.0] * 8) == 12.0
    assert speed_ratios.middle_half([2.0]) == 2.0


def test_what_a_commit_has_not_yet_is_not_measured_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asv_cases, "has_mode", lambda _: False)
    monkeypatch.setattr(speed_ratios, "has_mode", lambda _: False)
    asked = answered(monkeypatch, 1.0, 1.0, 1.0, 1.0)
    assert math.isnan(speed_ratios.ratios(Case("tiny", "inference", "compiled"), 1)["auto_over_stock"])
    assert [fields["variant"] for fields in asked[0]["cases"]] == ["compiled", "eager"]
    with pytest.raises(NotImplementedError, match="this commit has no compile_mode auto"):
        skip_unless_measured(CPU_ONLY, Case("aloha", "tick", "auto"))
