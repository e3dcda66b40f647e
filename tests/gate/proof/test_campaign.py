"""The campaign records, goes on where it was stopped, and draws its figures; on workers without torch."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.edits import Edit
from benchmarks.gate import channel
from benchmarks.gate.cases import CompileTime, StepTime, choose, step_times
from benchmarks.gate.proof import campaign, evidence, recording, records, tables
from benchmarks.gate.proof.campaign import measure_pace, run_gates, try_mutants, write_page
from benchmarks.gate.proof.mutants import Mutant
from benchmarks.gate.proof.pace import Room, room
from benchmarks.gate.proof.recording import record
from benchmarks.gate.proof.records import append, lines, log_ratios
from benchmarks.gate.proof.replay import Rates, one_run, replay
from benchmarks.gate.run import gate
from benchmarks.gate.timing import SETUP, Timing
from benchmarks.gate.verdict import Plan
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
    cases = [str(case) for case in step_times([STEP.case, STEP.case.as_variant("compiled")])]
    before, beside = {"nothing": 80.0, "base": 30.0}, dict.fromkeys(cases, 6.0)
    append("pace", {"before": before, "start": 4.0, "beside": beside, "about": "2 cores"})
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
    assert "80 s before the launches where nothing is known, 30 where base is, and 22 for a first" in text
    assert "In the default time, nothing known:" in text
    assert "In the default time, base known:" in text
    assert "With 16 launches, however long they take:" in text
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
    run_gates(5.0, QUIET, repository.root, again="first")
    assert [line["edit"] for line in lines("runs")] == ["first", "5% injected", "second", "first"]
    assert tables.newest(lines("runs")) == [lines("runs")[at] for at in (3, 1, 2)], "the later run counts"
    assert repository.left_behind() == set()


def test_a_red_run_is_one_with_any_case_slower() -> None:
    first, second = str(STEP), str(STEP).replace("eager", "compiled")

    def rates(alarms: float, alone: str = "", caught: float = 0.0) -> Rates:
        return Rates(0.03, 100, alarms, {alone: caught}, undecided=0.2, launches=3.0, alone=alone)

    def row(alarms: float, least: float) -> list[str]:
        return evidence.power_row(rates(alarms), [rates(least, first, least), rates(0.95, second, 0.95)])

    both = ["by the run met, by the least case **not met**", f"25.0% ({STEP}) to 95.0%"]
    assert row(0.95, 0.25)[:5] == ["3%", "95.0%", "≥ 90%, a case ≥ 50%", *both]
    assert row(0.85, 0.25)[3] == "**not met**"
    assert row(0.95, 0.55)[3] == "met", "one case alone has a target of its own"
    assert evidence.power_row(replace(rates(0.5), effect=0.01), [])[2:5] == ["", "", ""]


NOISY, QUIETER = STEP, StepTime(STEP.case.as_variant("compiled"))
# Launches of equal sides that vary by 3% and by 0.3%.
VARYING = {
    case: list(np.random.default_rng(0).normal(0.0, noise, 40))
    for case, noise in ((NOISY, 0.03), (QUIETER, 0.003))
}


def room_for(launches: float) -> Room:
    """Time for so many launches of both cases, whose start takes 20 s and each case 10 beside its steps."""
    cases, beside = list(VARYING), dict.fromkeys(VARYING, 10.0)
    one = 20.0 + sum(beside[case] + case.seconds for case in cases)
    return Room(launches * one, 20.0, beside)


def test_a_run_has_as_many_launches_as_fit() -> None:
    by_room = {fit: replay(VARYING, Plan(), runs=50, room=room_for(fit)) for fit in (0.1, 3.0, 6.0)}
    assert by_room[0.1].launches == 1, "the first is always taken"
    assert by_room[0.1].undecided == 1.0
    assert 2 < by_room[3.0].launches <= 5
    assert by_room[3.0].launches < by_room[6.0].launches <= replay(VARYING, Plan(), runs=50).launches


def test_what_is_decided_leaves_its_time_to_the_others() -> None:
    never_decided = [10 * ratio for ratio in VARYING[NOISY]]
    both = replay({NOISY: never_decided, QUIETER: never_decided}, Plan(), runs=50, room=room_for(4))
    one = replay({**VARYING, NOISY: never_decided}, Plan(), runs=50, room=room_for(4))
    assert both.launches <= 5
    assert one.launches > both.launches


def test_one_case_alone_is_slower() -> None:
    found = replay(VARYING, Plan(), effect=0.05, runs=50, alone=QUIETER, room=room_for(6))
    assert found.alone == str(QUIETER)
    assert found.caught[str(QUIETER)] > 0.9
    assert found.caught[str(NOISY)] < 0.1


@pytest.mark.parametrize(("seconds", "times"), [(1.0, 2**0.5), (8 * (SETUP + 4) + 20, 1.0)])
def test_shorter_steps_vary_more(seconds: float, times: float) -> None:
    """Where there is no time at all a launch's steps are half as long; the slowdown stays what it is."""
    timing = Timing(NOISY, base_seconds=[1.0])
    draws, shift = {NOISY: [0.01] * 16}, {NOISY: 0.05}
    one_run([timing], draws, shift, Plan(), replace(room_for(1), seconds=seconds))
    assert timing.log_ratios[0] == pytest.approx(times * 0.01 + 0.05)


def test_the_pace_of_a_run_is_recorded(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit()
    edits = [mutant(f"edit {number}") for number in range(4)]
    monkeypatch.setattr(campaign, "HARMLESS", edits)
    monkeypatch.setattr(campaign, "gate", partial(gate, command=FAKE))
    assert campaign.main(["write"]) == 2
    measure_pace(QUIET, repository.root)
    (line,) = lines("pace")
    assert set(line["before"]) == {"nothing", "base"}
    assert min(line["before"].values()) >= 0
    assert set(line["beside"]) == set(map(str, step_times(choose(None, "cpu"))))
    assert room("base", 9.5).seconds == pytest.approx(570 - line["before"]["base"])
    assert repository.left_behind() == set()


def test_without_a_pace_nothing_is_said_of_the_default_time() -> None:
    with pytest.raises(MeasurementError, match="campaign -- pace"):
        room("nothing", 9.5)


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
