"""The table of docs/compatibility.md: one row an environment, each written by its own run."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from benchmarks.markdown import between_markers, markers
from benchmarks.pages import compatibility, records
from benchmarks.releases import compat
from benchmarks.repository import ROOT, MeasurementError

OUTCOMES = {"a": "passed", "b": "passed", "c": "skipped", "d": "error"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The document has a place, and nothing is recorded."""
    begin, end = markers("compat")
    (tmp_path / "docs").mkdir()
    (tmp_path / compatibility.DOCUMENT).write_text(f"before\n{begin}\n{end}\nafter\n")
    monkeypatch.setattr(compat, "ROOT", tmp_path)
    monkeypatch.setattr(records, "RECORDED", tmp_path / "recorded")
    return tmp_path


def record(python: str, lerobot: str, torch: str, passed: int = 1) -> dict[str, Any]:
    about = {"python": python, "lerobot": lerobot, "torch": torch, "torchvision": "0.1"}
    counts = {"passed": passed, "failed": 0, "skipped": 0, "minutes": 1.2}
    return {"row": f"py{python}-lerobot{lerobot}-torch{torch}", "about": about, **counts}


def test_a_row_counts_outcomes_and_names_what_is_installed() -> None:
    found = compat.record_of("env", OUTCOMES, 125.0)
    cells = compatibility.cells(found)
    assert len(cells) == len(compatibility.HEADER)
    assert cells[0] == "env"
    assert cells[3] == version("torch")
    assert cells[5:] == ["2", "1", "1", "2"]
    assert found["about"]["date"]


@pytest.mark.usefixtures("root")
def test_rows_are_replaced_and_ordered_by_number_not_by_letter() -> None:
    for each in (("3.12", "0.6.1", "2.11.0"), ("3.10", "0.4.4", "2.6.0"), ("3.9", "0.6.1", "2.7.0+cpu")):
        records.keep("compat", [record(*each)])
    records.keep("compat", [record("3.10", "0.4.4", "2.6.0", passed=9)])
    rows = compatibility.tables(records.read("compat"))["compat"].splitlines()[2:]
    assert [row.split("|")[4].strip() for row in rows] == ["2.6.0", "2.7.0+cpu", "2.11.0"]
    assert "| 9 |" in rows[0]


@pytest.mark.parametrize(("outcomes", "code"), [(OUTCOMES, 1), ({"a": "passed", "b": "skipped"}, 0)])
def test_what_failed_is_exit_code_1_and_stands_in_the_table(
    root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str], code: int
) -> None:
    monkeypatch.setattr(compat, "run_tests", lambda *_: outcomes)
    assert compat.main(["py3.12-lerobot0.6.1-torch2.11.0"]) == code
    text = between_markers(root / compatibility.DOCUMENT, *markers("compat"))
    assert "| py3.12-lerobot0.6.1-torch2.11.0 |" in text
    assert [each["failed"] for each in records.read("compat")] == [code]


def test_a_part_of_the_tests_is_no_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "run_tests", lambda *_: {"a": "passed"})
    assert compat.main(["env", "-k", "loss"]) == 0
    assert "env" not in (root / compatibility.DOCUMENT).read_text()
    assert records.read("compat") == []


def test_no_answer_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise MeasurementError("pytest ended with exit code 4")

    monkeypatch.setattr(compat, "run_tests", fails)
    assert compat.main(["env"]) == 2
    assert capsys.readouterr().err == "compat: pytest ended with exit code 4\n"


def test_what_it_runs_is_there_and_every_test_of_the_subject() -> None:
    paths = compat.paths()
    assert all((ROOT / path).exists() for path in paths)
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "tests/subject").rglob("test_*.py")} <= set(paths)
