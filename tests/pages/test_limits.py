"""The table of limits: what its figures are made of, and that what cannot be measured writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages import limits
from benchmarks.suite import answers
from benchmarks.suite.workloads import Case

ENVIRONMENT = {"threads": 2, "cpu": "AVX512", "torch": "2.11.0", "lerobot": "0.6.1", "python": "3.12.1"}
RATES = {"fp32": 200e9, "bf16": 400e9, "bytes": 20e9}


def test_the_limit_is_the_longer_of_matrix_work_and_traffic() -> None:
    assert limits.limit({"flops": 40e9, "bytes": 2e8}, RATES, "fp32") == pytest.approx(0.2)
    assert limits.limit({"flops": 40e9, "bytes": 2e8}, RATES, "bf16") == pytest.approx(0.1)
    assert limits.limit({"flops": 1e9, "bytes": 2e9}, RATES, "fp32") == pytest.approx(0.1)


def test_a_speed_up_stands_beside_its_limit() -> None:
    work = {"flops": 30e9, "bytes": 2e8}
    launches = [
        {"stock": [0.30, 0.30, 0.30], "auto": [0.20, 0.30, 0.20], "work": work},
        {"stock": [0.30], "auto": [0.25], "work": work},
    ]
    row = limits.speed_up_row(limits.SpeedUp("aloha", "inference", "fp32", 1.38), launches, RATES)
    assert row.figure == "1.35 (1.20 to 1.50)x: 225.0 of 300.0 ms; limit 2.00x (150.0 ms)"
    assert row.met is False
    assert limits.speed_up_row(limits.SpeedUp("aloha", "inference", "bf16", 1.3), launches, RATES).met


def test_a_first_call_is_told_from_the_process_s_first_compile() -> None:
    cold = limits.Seconds("aloha", "inference", 8)
    row = limits.seconds_row(cold, [{"seconds": 9.0, "fixed": 5.0}, {"seconds": 7.0, "fixed": 7.0}])
    assert row.figure == "8.00 (7.00 to 9.00) s; 6.0 s more for the process's first compile, whatever it is"
    assert row.met
    assert "more" not in limits.seconds_row(cold, [{"seconds": 9.0}]).figure


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """What launches are asked for; they measure nothing. The CPU's table is there already."""
    found: list[tuple[str, str]] = []

    def answers(request: dict[str, Any], *, inductor_cache: Path) -> dict[str, Any]:
        names = [str(Case(**case)) for case in request["cases"]]
        found.append((request["do"], inductor_cache.name))
        return {
            "environment": ENVIRONMENT,
            "rates": RATES,
            "work": {"flops": 1e9, "bytes": 1e8},
            "seconds": {name: [1.0] for name in names} if request["do"] == "alternate" else 1.0,
            "fixed_seconds": 3.0,
            "made": False,
            "cases": {name: {"seconds": 2.0} for name in names},
            "bytes": dict.fromkeys(names, 2**20),
        }

    monkeypatch.setattr(limits, "launch", answers)
    monkeypatch.setattr(limits, "ROOT", tmp_path)
    marks = [
        mark.format(machine=machine)
        for machine in ("cpu AVX512", "cuda")
        for mark in (limits.BEGIN, limits.END)
    ]
    (tmp_path / limits.PAGE).write_text("\n".join(marks))
    assert limits.main(["--launches", "2"]) == 0
    found.clear()
    return found


def test_a_warm_start_has_one_cache_and_cold_compiles_have_none(
    asked: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert limits.main(["--only", "aloha inference: cold", "aloha inference: warm", "--launches", "2"]) == 0
    first_calls = [cache for do, cache in asked if do == "first_call"]
    assert len(first_calls) == 5
    assert len(set(first_calls[:2])) == 2, "each cold one has an empty cache"
    assert len(set(first_calls[2:])) == 1, "the first of these fills it and is not counted"
    assert "2.00 (2.00 to 2.00) s" in capsys.readouterr().out


def test_an_artifact_is_saved_once_and_loaded_in_processes_of_their_own(asked: list[tuple[str, str]]) -> None:
    assert limits.main(["--only", "artifact", "--launches", "3"]) == 0
    starts = ["start"] * 4  # the first makes what the others find
    assert [do for do, _ in asked] == ["rates", *starts, "save", "load", "load", "load"]


def test_a_warm_start_that_makes_the_artifact_anew_is_none(
    asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: Any = vars(limits)["launch"]
    monkeypatch.setattr(limits, "launch", lambda *args, **named: {**answers(*args, **named), "made": True})
    assert limits.main(["--only", "compile_artifact", "--launches", "2"]) == 2
    assert "was compiled although an artifact of it is kept" in capsys.readouterr().err
    assert asked


def test_each_device_has_its_own_table(asked: list[tuple[str, str]], tmp_path: Path) -> None:
    assert limits.main(["--device", "cuda", "--launches", "2"]) == 0
    cpu, cuda = (tmp_path / limits.PAGE).read_text().split(limits.END.format(machine="cpu AVX512"))
    assert "pusht training, bf16" in cpu
    assert "aloha training, bf16" not in cpu
    assert "aloha training, bf16" in cuda
    assert "memory" in cuda
    assert asked


def test_rows_measured_again_say_of_what_and_leave_the_others(
    asked: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / limits.PAGE
    before = page.read_text().splitlines()
    assert limits.main(["--only", "from an artifact", "--launches", "3"]) == 0
    changed = [line for line in page.read_text().splitlines() if line not in before]
    assert len(changed) == 1
    assert changed[0].startswith(
        "| aloha inference: from an artifact | 1.00 (1.00 to 1.00) s (the subject as of "
    )
    page.write_text(page.read_text().replace("2 threads, AVX512", "4 threads, AVX512"))
    kept = page.read_text()
    assert limits.main(["--only", "artifact"]) == 2
    assert "no figures of this machine (2 threads, AVX512" in capsys.readouterr().err
    assert page.read_text() == kept
    assert asked


def test_a_machine_without_a_place_is_told_before_anything_is_timed(
    asked: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / limits.PAGE
    page.write_text(page.read_text().replace("limits cpu AVX512:", "limits cpu AVX2:"))
    assert limits.main([]) == 2
    assert "no place for this machine; put <!-- limits cpu AVX512: written by" in capsys.readouterr().err
    assert [do for do, _ in asked] == ["rates"]


@pytest.mark.parametrize(
    "error", [RuntimeError("launch ended with exit code 1"), ValueError("no such device")]
)
def test_what_could_not_be_measured_is_exit_code_2(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(limits, "launch", fails)
    assert limits.main(["--only", "memory"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"limits: {error}"


def test_a_launch_measures_the_machine_and_the_work() -> None:
    case = Case("tiny", "training", "eager")
    rates = answers.ANSWERS["rates"]([case])["rates"]
    assert all(rate > 1e8 for rate in rates.values())
    work = answers.ANSWERS["work"]([case])["work"]
    assert work["flops"] > 1e8
    assert work["bytes"] > 1e6


def test_a_start_says_whether_it_made_the_artifact(tmp_path: Path) -> None:
    case = Case("tiny", "inference", "auto")
    assert [answers.ANSWERS["start"]([case], kept=str(tmp_path))["made"] for _ in range(2)] == [True, False]


def test_a_saved_policy_is_loaded_in_its_own_launch(tmp_path: Path) -> None:
    case = Case("tiny", "inference", "auto")
    answers.ANSWERS["save"]([case], into=str(tmp_path))
    assert answers.ANSWERS["load"]([case], saved=str(tmp_path))["seconds"] > 0
