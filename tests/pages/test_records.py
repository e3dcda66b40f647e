"""Rows of tables: which replace which, and what stands above and in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import records as files
from benchmarks.pages import records

from .conftest import ENVIRONMENT

HERE = {**ENVIRONMENT, "device": "cpu", "subject": "abc"}


@pytest.fixture(autouse=True)
def _root(root: Path) -> None:
    """Nothing is recorded."""


def test_a_row_measured_anew_replaces_that_of_the_same_case_and_machine() -> None:
    old = [
        {"row": "step", "case": "a", "about": HERE, "n": 1},
        {"row": "step", "case": "b", "about": HERE, "n": 2},
        {"row": "start", "case": "a", "about": HERE, "n": 3},
        {"row": "step", "case": "a", "about": {**HERE, "cpu": "AVX2"}, "n": 4},
        {"row": "step", "case": "a", "about": {**HERE, "device": "cuda"}, "n": 5},
    ]
    records.keep("limits", old)
    records.keep("limits", [{"row": "step", "case": "a", "about": {**HERE, "subject": "def"}, "n": 6}])
    assert [record["n"] for record in records.read("limits")] == [6, 2, 3, 4, 5]
    records.keep("limits", [], lambda record: records.machine(record["about"]) != "cpu AVX512")
    assert [record["n"] for record in records.read("limits")] == [4, 5]


def test_the_same_record_is_the_same_but_for_the_day() -> None:
    assert records.is_same({**HERE, "date": "2026-01-01"}, HERE)
    assert not records.is_same(HERE, {**HERE, "launches": 3})
    assert not records.is_same({**HERE, "subject": "def"}, HERE)
    assert records.is_same({**HERE, "subject": "def"}, HERE, records.ENVIRONMENT)
    assert not records.is_same({**HERE, "torch": "2.12.0"}, HERE, records.ENVIRONMENT)


def test_a_figure_keeps_every_launch() -> None:
    found = records.summary([1.5, 1.25, 2.0])
    assert found == {"launches": [1.5, 1.25, 2.0], "median": 1.5, "least": 1.25, "most": 2.0}
    assert records.spread(found) == "1.50 (1.25 to 2.00)"
    assert records.spread(records.summary([1.5])) == "1.50"


def test_the_sentence_says_machine_versions_and_subject() -> None:
    assert records.measured_on({**HERE, "precision": "fp32"}) == (
        "AVX512, 2 threads, torch 2.11.0, LeRobot 0.6.1, Python 3.12.1, cpu, fp32; inference and rollout "
        "batch 1, training batch 8; the subject as of abc."
    )
    cuda = records.measured_on({**HERE, "cores": 8, "device": "cuda", "flags": "TF32 on"})
    assert cuda.startswith("8 cores, AVX512, 2 threads, ")
    assert "Python 3.12.1, cuda (TF32 on); " in cuda


def test_a_line_that_was_cut_short_is_none(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.jsonl"
    assert files.read(path) == []
    files.append(path, {"row": "a"})
    with path.open("a") as file:
        file.write('{"row": ')
    assert files.read(path) == [{"row": "a"}]
    files.append(path, {"row": "b"})
    assert files.read(path) == [{"row": "a"}, {"row": "b"}]
    files.write(path, [{"row": "c"}])
    assert [each.name for each in path.parent.iterdir()] == ["table.jsonl"]
    assert files.read(path) == [{"row": "c"}]
