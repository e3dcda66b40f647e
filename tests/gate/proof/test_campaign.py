"""The campaign records, goes on where it was stopped, and draws its figures; on workers without torch."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.edits import Edit
from benchmarks.gate import channel
from benchmarks.gate.cases import CompileTime, StepTime, choose, step_times
from benchmarks.gate.proof import campaign, evidence, recording, records, tables
from benchmarks.gate.proof.campaign import run_gates, try_mutants, write_page
from benchmarks.gate.proof.mutants import Mutant
from benchmarks.gate.proof.recording import record
from benchmarks.gate.proof.records import append, lines, log_ratios
from benchmarks.gate.proof.replay import Rates
from benchmarks.gate.run import gate
from benchmarks.gate.workplace import workplace
from benchmarks.repository import MeasurementError
from benchmarks.suite.workloads import Case

from ..conftest import FAKE, Repository
from ..fake_worker import IN_PLACE, UNIT

QUIET = Console(quiet=True)
COUNTED = ("aloha-inference", "tiny-inference", "tiny-training")
STEP = StepTime(Case("pusht", "inference", "eager"))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records, "RECORDED", tmp_path / "recorded")
    monkeypatch.setattr(channel, "WORKER", FAKE)


def recorded_ratios(kind: str) -> dict[str, int]:
    return {str(case): len(values) for case, values in log_ratios(kind).items()}


def test_it_records_what_is_missing_and_no_more(repository: Repository) -> None:
    repository.commit(seconds=1.0)
    record(2, 5.0, "cpu", QUIET, repository.root)
    everything = {str(case): 2 for case in step_times(choose(None, "cpu"))}
    assert recorded_ratios("same") == everything
    steps = {name: 2 for name in everything if "-compile-" not in name and "-auto-" not in name}
    assert recorded_ratios("slower") == steps, "no work reaches compiling, nor what an engine runs"
    (line, *_) = lines("launches")
    assert {"about", "date", "commit", "samples", "base_seconds", "units"} <= line.keys()
    assert all(line["units"] > 0 for line in lines("launches") if line["kind"] == "slower")

    before = len(lines("launches"))
    record(2, 5.0, "cpu", QUIET, repository.root)
    assert len(lines("launches")) == before
    assert repository.left_behind() == set()


def test_extra_work_is_calibrated_to_the_share_that_is_wanted(repository: Repository) -> None:
    repository.commit(seconds=1.0, noise=0.001)
    record(1, 5.0, "cpu", QUIET, repository.root)
    units = [line["units"] for line in lines("launches") if line["kind"] == "slower"]
    wanted = recording.SLOWDOWN / (IN_PLACE * UNIT)
    assert units == [pytest.approx(wanted, rel=0.05)] * len(units)


def test_extra_work_without_effect_is_an_error(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(seconds=1.0, noise=0.001)
    monkeypatch.setattr(recording, "key", lambda _: "no step has this name")
    with pytest.raises(MeasurementError, match=r"extra work for 20% made it .* slower; run it again"):
        record(1, 5.0, "cpu", QUIET, repository.root)
    assert repository.left_behind() == set()


def test_a_line_cut_short_is_as_if_it_were_not_there() -> None:
    append("launches", {"kind": "same", "case": str(STEP), "log_ratio": 0.5})
    with (records.RECORDED / "launches.jsonl").open("a") as file:
        file.write('{"kind": "same", "case": "pusht-infer')
    assert log_ratios("same") == {STEP: [0.5]}
    append("launches", {"kind": "same", "case": str(STEP), "log_ratio": 0.25})
    assert log_ratios("same") == {STEP: [0.5, 0.25]}, "what follows it is not lost"


def fill() -> None:
    for case in step_times([STEP.case, STEP.case.as_variant("compiled")]):
        for i in range(12):
            common = {"case": str(case), "about": "2 cores", "date": "2026-01-0" + str(1 + i % 2), "units": 0}
            append("launches", {"kind": "same", "log_ratio": 0.004 * (-1) ** i, **common})
            if not isinstance(case, CompileTime):
                append("launches", {"kind": "slower", "log_ratio": 0.05, **common})
    common = {"verdicts": {str(STEP): ["same", 1.0, 6]}, "minutes": "8.0 of 9"}
    append("runs", {"kind": "same", "edit": "a helper", "exit_code": 0, **common})
    append("runs", {"kind": "same", "edit": "a rename", "exit_code": 3, **common})
    append("runs", {"kind": "slower", "edit": "5% injected", "exit_code": 1, **common})
    append(
        "runs",
        {
            "kind": "slower",
            "edit": "5% again",
            "exit_code": 1,
            **common,
            "verdicts": {str(STEP): ["slower", 1.05, 3]},
        },
    )
    ops = ["ops dispatched in eager"]
    mutants = (
        {"name": "a clone", "cause": "ops dispatched", "exit_code": 1, "named": {"a": ops, "b": ops}},
        {"name": "missed", "cause": "recompiles", "exit_code": 0, "named": {}},
        {"name": "wrong cause", "cause": "recompiles", "exit_code": 1, "named": {"a": ["FLOPs"]}},
    )
    for line in mutants:
        for name in ("mutants", "worth"):
            append(name, {**line, "headline": ""})


def test_the_page_says_what_is_met_and_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    assert "do not rely on times yet" in evidence.page(2), (
        "twelve launches and a run of each kind are too few"
    )
    monkeypatch.setattr(evidence, "LAUNCHES", 12)
    monkeypatch.setattr(evidence, "RUNS", {"same": 5, "slower": 2})
    for case in evidence.DROPPED:
        append("launches", {"kind": "same", "case": case, "log_ratio": 0.2, "units": 0, "about": "2 cores"})
    docs = tmp_path / "docs"
    docs.mkdir()
    page = docs / "gate.md"
    page.write_text(f"before\n{evidence.BEGIN}\nold\n{evidence.END}\nafter\n")
    write_page(50, QUIET, tmp_path)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert evidence.TOO_FEW not in text, "what is no longer decided on is not replayed"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    for block in text.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if "|" in line}) <= 1, "ragged table"
    by_name = {row[0]: row for row in rows}
    outcomes = {"a clone": "met", "missed": "**not met**", "wrong cause": "**not met**"}
    assert {name: by_name[name][-1] for name in outcomes} == outcomes
    assert [by_name[case][1:] for case in ("a", "b")] == [["2", "wrong cause"], ["1", ""]]
    assert by_name["a rename"][1:] == ["undecided", "1 same", "no", "6", "8.0 of 9"]
    assert "**Not run yet: 3 of 5 harmless edits.**" in text
    assert "2 of 2 harmless edits without a false alarm: met." in text
    assert "1 of 2 of them green, every case decided: **not met**." in text
    assert "1 of 2 heads with 5% injected called slower by time: **not met**." in text, (
        "red by a counter only"
    )
    assert by_name["none (A/A)"][3] == "met"
    assert by_name["10%"][1] == "100.0%"
    assert by_name["5%"][3] == "met"
    assert by_name["5%"][4].startswith("100.0%"), "compiling, which has 10% for its least, does not count"
    assert "With 6 launches at most, what the default time had room for in a real run" in text
    assert "With 16 launches at most" in text
    assert "2026-01-01 to 2026-01-02" in text
    assert "do not rely on times yet" not in text
    assert evidence.NOT_YET in text, "how to pair"


def test_machines_are_told_apart_by_what_differs() -> None:
    first, second = "2 cores, AVX2, torch 2.11", "2 cores, AVX512, torch 2.11"
    assert tables.short_names([first, second, first]) == {first: "AVX2", second: "AVX512"}
    assert tables.short_names([first]) == {first: first}
    common = {"case": str(STEP), "kind": "same"}
    found = [{**common, "about": first, "log_ratio": ratio} for ratio in (0.01, -0.01)]
    text = tables.noise_table([*found, {**common, "about": second, "kind": "slower", "log_ratio": 0.0488}])
    assert f"| {STEP} | AVX2 | 2 | 1.41% | +0.00% ± 1.96% |  |" in text
    assert f"| {STEP} | AVX512 | 0 | nan% |  | +5.0% (1) |" in text


def mutant(name: str, cause: str = "", **behaviour: Any) -> Mutant:
    """The fake subject made to behave so."""
    edit = Edit("BEHAVIOUR = {}", f"NAME = {name!r}\nBEHAVIOUR = {behaviour!r}", "__init__.py")
    return Mutant(name, edit, cause)


def test_a_mutant_is_timed_only_where_its_time_must_name_it(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit()
    mutants = [mutant("an op", "ops captured", counts={"ops": 271}), mutant("slow", "slower", seconds=0.2)]
    monkeypatch.setattr(campaign, "MUTANTS", mutants)
    monkeypatch.setattr(campaign, "gate", partial(gate, command=FAKE))
    for _ in range(2):
        try_mutants(5.0, QUIET, repository.root)
        assert [(line["name"], line["exit_code"]) for line in lines("mutants")] == [("an op", 1), ("slow", 1)]
    counted, slow = lines("mutants")
    assert counted["named"] == {case: ["ops captured"] for case in COUNTED}
    assert "cases slower" not in counted["headline"]
    assert set(slow["named"]) == {str(case) for case in step_times(choose(None, "cpu")) if case.least == 0.0}
    assert {what for found in slow["named"].values() for what in found} == {"slower"}
    assert tables.mutant_table(lines("mutants")).count("| met |") == 2


def test_real_runs_take_a_harmless_edit_or_a_slowdown_by_turns(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit()
    monkeypatch.setattr(campaign, "HARMLESS", [mutant("first"), mutant("second")])
    monkeypatch.setattr(evidence, "RUNS", {"same": 2, "slower": 1})
    monkeypatch.setattr(campaign, "gate", partial(gate, command=FAKE))
    append("launches", {"kind": "slower", "case": str(STEP), "log_ratio": 0.05, "units": 3})
    for _ in range(2):  # the second time there is nothing left to do
        run_gates(5.0, QUIET, repository.root)
        assert [line["edit"] for line in lines("runs")] == ["first", "5% injected", "second"]
    assert all(len(line["verdicts"]) == len(step_times(choose(None, "cpu"))) for line in lines("runs"))
    assert [line["kind"] for line in lines("runs")] == ["same", "slower", "same"]
    assert repository.left_behind() == set()


def run_of(minutes: float, *launches: int) -> dict[str, Any]:
    verdicts = {f"case {i}": ["same", 1.0, n] for i, n in enumerate(launches)}
    return {"verdicts": verdicts, "minutes": f"{minutes} of 9.5"}


@pytest.mark.parametrize(
    ("runs", "launches"),
    [
        ([run_of(9.4, 2, 4), run_of(9.5, 3, 3), run_of(9.4, 5)], [3, 5]),
        ([run_of(9.4, 4), run_of(5.0, 2)], [4]),
        ([run_of(9.4, 4), run_of(6.5, 2, 12)], [4]),
        ([run_of(7.0, 2, 4), run_of(5.0, 2)], [4]),
        ([{"verdicts": {}, "minutes": "0"}], []),
        ([], []),
    ],
    ids=["used up", "one ended early", "one case took long", "all ended early", "not timed", "none"],
)
def test_launches_that_the_default_time_has_room_for(runs: list[Any], launches: list[int]) -> None:
    assert evidence.shipped_launches(runs) == launches


def test_a_red_run_is_one_with_any_case_slower() -> None:
    first, second = str(STEP), str(STEP).replace("eager", "compiled")

    def row(alarms: float, least: float) -> list[str]:
        caught = {first: least, second: 0.95}
        return evidence.power_row(Rates(0.03, 100, alarms, caught, undecided=0.2, launches=3.0))

    both = ["by the run met, by the least case **not met**", f"25.0% ({STEP}) to 95.0%"]
    assert row(0.95, 0.25)[:5] == ["3%", "95.0%", "≥ 90%, a case ≥ 50%", *both]
    assert row(0.85, 0.25)[3] == "**not met**"
    assert row(0.95, 0.55)[3] == "met", "one case alone has a target of its own"


def test_a_page_of_half_a_campaign_says_what_is_missing() -> None:
    append("pairing", {"design": "abba", "case": str(STEP), "log_ratio": 0.01, "seconds": 4.0})
    append("pairing", {"design": "abba", "case": str(STEP), "log_ratio": 0.03, "seconds": 4.0})
    text = evidence.page(10)
    assert "do not rely on times yet" in text
    assert "| abba | 2 | 1.41% | +2.00% | 4.0 | 8.0 |" in text
    assert text.count(evidence.NOT_YET) == 4
    assert evidence.TOO_FEW in text


def test_nothing_recorded_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert campaign.main(["write"]) == 2
    assert "nothing is recorded" in capsys.readouterr().err


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_a_campaign_that_is_stopped_cleans_up(
    signal_: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*_: Any) -> None:
        with workplace(tmp_path):
            signal.raise_signal(signal_)

    monkeypatch.setattr(campaign, "record", stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        assert campaign.main(["record"]) == 2
    finally:
        signal.signal(signal.SIGINT, before)
    assert "the same command goes on where it was" in capsys.readouterr().err
    assert not (tmp_path / ".gate" / "run").exists()


def test_the_recorded_launches_of_this_repository_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for path in records.RECORDED.glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert isinstance(json.loads(line), dict)
