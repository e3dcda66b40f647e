"""The table of limits: what its figures are made of, and that what cannot be measured writes nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import benchmarks.pages.__main__ as pages
from benchmarks.markdown import between_markers, markers
from benchmarks.one_run import alone
from benchmarks.pages import limits, records
from benchmarks.pages.rows import COLD_COMPILE, FROM_ARTIFACT, Row
from benchmarks.suite import answers
from benchmarks.suite.workloads import Case

from .conftest import ENVIRONMENT

RATES = {"fp32": 200e9, "bf16": 400e9, "bytes": 20e9}
INFERENCE = Case("aloha", "inference", "auto")


def test_the_limit_is_the_longer_of_matrix_work_and_traffic() -> None:
    assert limits.limit({"flops": 40e9, "bytes": 2e8}, RATES, "fp32") == pytest.approx(0.2)
    assert limits.limit({"flops": 40e9, "bytes": 2e8}, RATES, "bf16") == pytest.approx(0.1)
    assert limits.limit({"flops": 1e9, "bytes": 2e9}, RATES, "fp32") == pytest.approx(0.1)


def test_a_speed_up_stands_beside_its_limit() -> None:
    launches = [
        {"stock": [0.30, 0.30, 0.30], "auto": [0.20, 0.30, 0.20]},
        {"stock": [0.30], "auto": [0.25]},
    ]
    record = limits.step(launches, 0.15)
    line = Row("step", INFERENCE, 1.38).line(record)
    assert line.figure == "1.35 (1.20 to 1.50)x: 225.0 of 300.0 ms; limit 2.00x (150.0 ms)"
    assert line.target == "≥ 1.38x"
    assert line.met is False
    assert Row("step", INFERENCE, 1.3).line(record).met


def test_a_first_call_is_told_from_the_process_s_first_compile() -> None:
    row = Row(COLD_COMPILE, INFERENCE, 8)
    record = {"seconds": records.summary([9.0, 7.0]), "first_compile_seconds": 6.0}
    line = row.line(record)
    assert line.figure == "8.00 (7.00 to 9.00) s; 6.0 s more for the process's first compile, whatever it is"
    assert line.met
    assert not Row(COLD_COMPILE, INFERENCE, 7.9).line(record).met
    by_engine = row.line({"seconds": records.summary([9.0, 7.0])})
    assert by_engine.figure == "8.00 (7.00 to 9.00) s", "an engine's user pays for no compile"
    loaded = Row(FROM_ARTIFACT, INFERENCE, 8).line({"seconds": records.summary([9.0])})
    assert loaded[1:] == ("9.00 s", "≤ 8 s", False)


Asked = list[tuple[str, str]]
MEASURED = {"made": False}


@pytest.fixture
def asked(root: Path, launches: Callable[[Any], None]) -> Asked:  # noqa: ARG001
    """What launches are asked for; they measure nothing. The CPU's table is there already."""
    found: Asked = []

    def answers(request: dict[str, Any], *, inductor_cache: Path) -> dict[str, Any]:
        names = [str(Case(**case)) for case in request["cases"]]
        found.append((request["do"], inductor_cache.name))
        if request["do"] == "alternate":
            acts = all(case["phase"] == "inference" for case in request["cases"])
            assert bool(request["pause"]) == acts, "torch's threads and another runtime's are to come to rest"
        return {
            "environment": ENVIRONMENT,
            "rates": RATES,
            "work": {"flops": 1e9, "bytes": 1e8},
            "seconds": {name: [1.0] for name in names} if request["do"] == "alternate" else 1.0,
            "fixed_seconds": 3.0,
            "cases": {name: {"seconds": 2.0} for name in names},
            "bytes": dict.fromkeys(names, 2**20),
            **MEASURED,
        }

    launches(answers)
    assert pages.main(["limits", "--launches", "2"]) == 0
    found.clear()
    return found


def test_a_warm_start_has_one_cache_and_cold_compiles_have_none(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["--only", "aloha inference: cold", "aloha inference: warm start"]
    assert pages.main(["limits", *only, "--launches", "2"]) == 0
    first_calls = [cache for do, cache in asked if do == "first_call"]
    assert len(first_calls) == 5
    assert len(set(first_calls[:2])) == 2, "each cold one has an empty cache"
    assert len(set(first_calls[2:])) == 1, "the first of these fills it and is not counted"
    assert "2.00 (2.00 to 2.00) s" in capsys.readouterr().out


def test_an_artifact_is_saved_once_and_loaded_in_processes_of_their_own(asked: Asked) -> None:
    assert pages.main(["limits", "--only", "artifact", "--launches", "3"]) == 0
    starts = ["start"] * 4  # the first makes what the others find
    assert [do for do, _ in asked] == ["rates", *starts, "save", "load", "load", "load"]


def test_a_warm_start_that_makes_the_artifact_anew_is_none(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MEASURED, "made", True)
    before = records.read("limits")
    assert pages.main(["limits", "--only", "compile_artifact", "--launches", "2"]) == 2
    assert "was compiled although an artifact of it is kept" in capsys.readouterr().err
    assert asked
    assert records.read("limits") == before


@pytest.mark.usefixtures("asked")
def test_each_device_has_its_own_table(root: Path) -> None:
    assert pages.main(["limits", "--device", "cuda", "--launches", "2"]) == 0
    cpu, cuda = (
        between_markers(root / limits.DOCUMENT, *markers(f"limits {machine}"))
        for machine in ("cpu AVX512", "cuda")
    )
    assert "pusht training, bf16" in cpu
    assert "aloha training, bf16" not in cpu
    assert "aloha training, bf16" in cuda
    assert "memory" in cuda


@pytest.mark.usefixtures("asked")
def test_rows_measured_again_say_of_what_and_leave_the_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = root / limits.DOCUMENT
    before = page.read_text().splitlines()
    monkeypatch.setattr(records, "subject", lambda _: "def")
    assert pages.main(["limits", "--only", "from an artifact", "--launches", "3"]) == 0
    (changed,) = [line for line in page.read_text().splitlines() if line not in before]
    assert changed == (
        "| aloha inference: from an artifact "
        "| 1.00 (1.00 to 1.00) s (the subject as of def, 3 launches) | ≤ 1.5 s | met |"
    )
    assert pages.main(["limits", "--only", "from an artifact", "--launches", "2"]) == 0
    assert "s (the subject as of def) |" in page.read_text()


@pytest.mark.parametrize("difference", [{"threads": 4}, {"torch": "2.12.0"}, None])
def test_rows_are_not_put_beside_those_of_another_environment(
    difference: dict[str, Any] | None, asked: Asked, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """None: there is no table of this machine yet."""
    found = records.read("limits")
    other = [{**each, "about": {**each["about"], **(difference or {})}} for each in found]
    records.keep("limits", other if difference else [], lambda _: False)
    page, there = (root / limits.DOCUMENT).read_text(), records.read("limits")
    assert pages.main(["limits", "--only", "artifact"]) == 2
    assert "no figures of this machine (AVX512, 2 threads, torch 2.11.0" in capsys.readouterr().err
    assert [do for do, _ in asked] == ["rates"], "before anything is timed"
    assert records.read("limits") == there
    assert difference or (root / limits.DOCUMENT).read_text() == page


def test_words_that_no_row_has_are_one_line(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.main(["limits", "--only", "nonsense"]) == 2
    assert "limits: no row's name holds nonsense" in capsys.readouterr().err
    assert not asked


def test_one_launch_is_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        pages.main(["limits", "--launches", "1"])
    assert ended.value.code == 2
    assert "--launches: takes at least 2" in capsys.readouterr().err


def test_a_whole_table_leaves_no_row_of_another_environment(
    asked: Asked,
) -> None:
    stale = {**records.read("limits")[0], "row": "of an older table"}
    records.keep("limits", [stale])
    assert pages.main(["limits", "--launches", "2"]) == 0
    assert stale not in records.read("limits")
    assert asked


def test_a_machine_without_a_place_is_told_before_anything_is_timed(
    asked: Asked, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = root / limits.DOCUMENT
    records.keep("limits", [], lambda _: False)
    page.write_text(page.read_text().replace("limits cpu AVX512:", "limits cpu AVX2:"))
    assert pages.main(["limits"]) == 2
    said = "no place for these figures; put <!-- limits cpu AVX512: written by"
    assert said in capsys.readouterr().err
    assert [do for do, _ in asked] == ["rates"]


@pytest.mark.parametrize(
    "error", [RuntimeError("launch ended with exit code 1"), ValueError("no such device")]
)
@pytest.mark.usefixtures("root")
def test_what_could_not_be_measured_is_exit_code_2(
    error: Exception, launches: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    launches(fails)
    assert pages.main(["limits", "--only", "memory"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"limits: {error}"


def test_whoever_measures_is_alone(asked: Asked, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (root / limits.DOCUMENT).read_text()
    with alone(root):
        assert pages.main(["limits", "--only", "memory"]) == 2
    assert "each would disturb the other's times" in capsys.readouterr().err
    assert not asked
    assert (root / limits.DOCUMENT).read_text() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("asked")
def test_a_stop_records_nothing_and_says_so(
    number: int, launches: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before, handlers = (
        records.read("limits"),
        {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
    )

    def stopped(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    launches(stopped)
    try:
        assert pages.main(["limits"]) == 2
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert capsys.readouterr().err.splitlines()[-1] == "limits: stopped; nothing of this run is recorded"
    assert records.read("limits") == before


def test_a_launch_measures_the_machine_and_the_work() -> None:
    case = Case("tiny", "training", "eager")
    rates = answers.ANSWERS["rates"]([case])["rates"]
    assert rates.pop("of") == "The faster of torch.mm and a convolution"
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
