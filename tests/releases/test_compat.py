"""The table of docs/compatibility.md: one row an environment, each written by its own run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.releases import compat
from benchmarks.repository import ROOT, MeasurementError

OUTCOMES = {"a": "passed", "b": "passed", "c": "skipped", "d": "error"}


def line(python: str, lerobot: str, torch: str, passed: int = 1) -> str:
    name = f"py{python}-lerobot{lerobot}-torch{torch}"
    return f"| {name} | {python} | {lerobot} | {torch} | 0.1 | {passed} | 0 | 0 | 1 |"


def test_a_row_counts_outcomes_and_names_what_is_installed() -> None:
    cells = [cell.strip() for cell in compat.row("env", OUTCOMES, 125.0).split("|")[1:-1]]
    assert len(cells) == compat.HEAD[0].count("|") - 1
    assert cells[0] == "env"
    assert cells[5:] == ["2", "1", "1", "2"]


def test_rows_are_replaced_and_ordered_by_number_not_by_letter() -> None:
    table = ""
    for each in (("3.12", "0.6.1", "2.11.0"), ("3.10", "0.4.4", "2.6.0"), ("3.9", "0.6.1", "2.7.0+cpu")):
        table = compat.with_row(table, line(*each))
    table = compat.with_row(table, line("3.10", "0.4.4", "2.6.0", passed=9))
    rows = table.splitlines()[2:]
    assert [row.split("|")[4].strip() for row in rows] == ["2.6.0", "2.7.0+cpu", "2.11.0"]
    assert "| 9 |" in rows[0]


def page(tmp_path: Path) -> Path:
    path = tmp_path / "compatibility.md"
    path.write_text(f"before\n{compat.BEGIN}\n{compat.END}\nafter\n")
    return path


@pytest.mark.parametrize(("outcomes", "code"), [(OUTCOMES, 1), ({"a": "passed", "b": "skipped"}, 0)])
def test_what_failed_is_exit_code_1_and_stands_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str], code: int
) -> None:
    monkeypatch.setattr(compat, "PAGE", page(tmp_path))
    monkeypatch.setattr(compat, "run_tests", lambda *_: outcomes)
    assert compat.main(["py3.12-lerobot0.6.1-torch2.11.0"]) == code
    assert "| py3.12-lerobot0.6.1-torch2.11.0 |" in compat.PAGE.read_text()


def test_a_part_of_the_tests_is_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "PAGE", page(tmp_path))
    monkeypatch.setattr(compat, "run_tests", lambda *_: {"a": "passed"})
    assert compat.main(["env", "-k", "loss"]) == 0
    assert "env" not in compat.PAGE.read_text()


def test_no_answer_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise MeasurementError("pytest ended with exit code 4")

    monkeypatch.setattr(compat, "PAGE", page(tmp_path))
    monkeypatch.setattr(compat, "run_tests", fails)
    assert compat.main(["env"]) == 2
    assert capsys.readouterr().err == "compat: pytest ended with exit code 4\n"


def test_what_it_runs_is_there() -> None:
    assert all((ROOT / path).exists() for path in compat.paths())
