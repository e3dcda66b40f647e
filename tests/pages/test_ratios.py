"""The README's table: what its figures are made of, and where they go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.markdown import write_between_markers
from benchmarks.pages import ratios
from benchmarks.repository import ROOT
from benchmarks.suite import answers
from benchmarks.suite.workloads import Case

ENVIRONMENT = {"threads": 2, "cpu": "AVX2", "torch": "2.11.0", "lerobot": "0.6.1", "python": "3.12.1"}


def test_a_ratio_that_misses_its_target_is_said_to() -> None:
    slow, fast = [{"seconds": 10.0, "kernels": 90}], [{"seconds": 40.0, "kernels": 600}]
    cold, kernels = ratios.compile_rows("aloha", fast, slow)
    assert cold.met
    assert "0.25" in cold.figure
    assert kernels.met
    assert not ratios.compile_rows("aloha", slow, fast)[0].met
    assert "**not met**" in ratios.ops_row("aloha", stock=875, ours=276).markdown()
    assert ratios.ops_row("aloha", stock=875, ours=275).met
    assert not ratios.memory_row("aloha", "training", stock=1000, ours=1001).met


def test_speed_ups_are_medians_over_launches() -> None:
    launches = [
        {"stock": [2.0, 9.0, 2.0], "eager": [2.0, 2.0, 2.0], "compiled": [1.0, 1.0, 1.0]},
        {"stock": [3.0], "eager": [4.0], "compiled": [1.0]},
        {"stock": [2.2], "eager": [2.0], "compiled": [1.0]},
    ]
    eager, compiled = ratios.speed_up_rows("aloha", "inference", launches)
    assert eager.figure == "1.00 (0.75 to 1.10)x"
    assert compiled.figure == "2.20 (2.00 to 3.00)x"
    assert eager.met
    assert compiled.met


def test_the_table_goes_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{ratios.BEGIN}\nold\n{ratios.END}\nafter\n")
    write_between_markers("new", page, ratios.BEGIN, ratios.END)
    assert page.read_text() == f"before\n{ratios.BEGIN}\nnew\n{ratios.END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match=r"README.md has no place for these figures"):
        write_between_markers("new", page, ratios.BEGIN, ratios.END)


def test_neighbours_in_time_are_compared() -> None:
    seconds = {"stock": [1.0, 2.0, 30.0], "eager": [1.0, 2.0, 30.0], "compiled": [0.5, 1.0, 15.0]}
    _, compiled = ratios.speed_up_rows("aloha", "inference", [seconds])
    assert compiled.figure == "2.00x"
    seconds["compiled"] = [0.5, 4.0, 15.0]  # one disturbed step
    _, compiled = ratios.speed_up_rows("aloha", "inference", [seconds])
    assert compiled.figure == "2.00x"


def test_cold_compiles_are_kept_for_the_same_subject_and_machine_only() -> None:
    about = ratios.described(ENVIRONMENT, 3, "cpu")
    cold = ratios.compile_rows("aloha", [{"seconds": 9.0, "kernels": 9}], [{"seconds": 3.0, "kernels": 3}])
    page = ratios.table([*cold, ratios.ops_row("aloha", 9, 3)], [], about)
    kept = ratios.cold_lines(page, about)
    assert kept == [row.markdown() for row in cold]
    assert ratios.table([ratios.ops_row("aloha", 9, 3)], kept, about) == page
    for other in (about.replace("2.11.0", "2.12.0"), ratios.described(ENVIRONMENT, 5, "cpu")):
        with pytest.raises(ValueError, match="another subject or machine; run without --keep-cold"):
            ratios.cold_lines(page, other)
    with pytest.raises(ValueError, match="run without --keep-cold"):
        ratios.cold_lines(ratios.table([], [], about), about)


def test_what_cannot_be_kept_ends_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answers(request: dict[str, Any], **_: Any) -> dict[str, Any]:
        asked.append(request["do"])
        traces = {str(Case(**case)): {"ops": 1} for case in request["cases"]}
        return {"environment": ENVIRONMENT, "traces": traces}

    monkeypatch.setattr(ratios, "launch", answers)
    before = (ROOT / "README.md").read_bytes()
    assert ratios.main(["--keep-cold", "--launches", "97"]) == 2
    assert set(asked) == {"traced"}
    assert (
        capsys.readouterr().err.splitlines()[-1].startswith("ratios: the cold compiles there are of another")
    )
    assert (ROOT / "README.md").read_bytes() == before


def test_a_table_that_upstream_made_is_taken_if_it_is_of_this_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ratios, "ROOT", tmp_path)
    monkeypatch.setattr(ratios, "subject_as_of", lambda _: "the subject as of abc")
    readme, made = tmp_path / "README.md", tmp_path / "ratios.md"
    readme.write_text(f"before\n{ratios.BEGIN}\nold\n{ratios.END}\nafter\n")
    table = ratios.table([ratios.Row("x", "1.3x", "", None)], [], ratios.described(ENVIRONMENT, 3, "cpu"))
    made.write_text(table)
    assert ratios.main(["--from", str(made)]) == 0
    assert readme.read_text() == f"before\n{ratios.BEGIN}\n{table}\n{ratios.END}\nafter\n"
    for wrong in (table.replace("abc", "abc with uncommitted changes"), "the subject as of abc"):
        made.write_text(wrong)
        assert ratios.main(["--from", str(made)]) == 2
        assert "is no table of the subject as of abc; measure it again" in capsys.readouterr().err
    assert ratios.main(["--from", str(tmp_path / "none.md")]) == 2
    assert "| x | 1.3x |" in readme.read_text()


def test_variants_take_turns_and_none_always_follows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [Case("tiny", "inference", variant) for variant in ("stock", "eager", "compiled")]
    order: list[str] = []
    now = 0.0

    class Fake:
        def __init__(self, case: Case) -> None:
            self.case = case

    def timed(step: Fake) -> float:
        nonlocal now
        now += 1.0
        order.append(step.case.variant)
        return now

    monkeypatch.setattr(answers, "warmed_up", Fake)
    monkeypatch.setattr(answers, "timed", timed)
    monkeypatch.setattr(answers, "time", SimpleNamespace(monotonic=lambda: now))
    found = answers.alternate(cases, seconds=27.0)["seconds"]
    assert order[:9] == [
        "stock",
        "eager",
        "compiled",
        "eager",
        "compiled",
        "stock",
        "compiled",
        "stock",
        "eager",
    ]
    assert {len(seconds) for seconds in found.values()} == {10}, "until the seconds are over"
    assert len(answers.alternate(cases, seconds=0.0)["seconds"][str(cases[0])]) == answers.LEAST_ROUNDS
