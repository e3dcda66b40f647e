"""What each optimisation is worth: its edit applies, its row says what was measured; without torch."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import benchmarks.pages.__main__ as pages
from benchmarks.edits import Edit
from benchmarks.gate import channel
from benchmarks.markdown import between_markers, markers
from benchmarks.pages import effects, records
from benchmarks.pages.effects import measure_each, record_of, tables
from benchmarks.pages.limits import DOCUMENT
from benchmarks.pages.optimisations import OPTIMISATIONS, Optimisation
from benchmarks.repository import PACKAGE, ROOT, MeasurementError
from benchmarks.suite.workloads import Case

from ..gate import conftest as gate_fixtures
from ..gate.conftest import FAKE, Repository
from .conftest import with_places

repository = gate_fixtures.repository
QUIET = Console(quiet=True)
COMPILED, EAGER = "pusht-inference-compiled-fp32-cpu", "pusht-inference-eager-fp32-cpu"
SLEEPS = Optimisation(
    "it does not dawdle",
    Edit("'seconds': 1.0", "'seconds': 1.5, 'compile': 20.0", "__init__.py"),
    (COMPILED,),
)
COUNTS = Optimisation(
    "it does not repeat",
    Edit("'counts': {}", "'graph': {'dispatched_ops': 900}", "__init__.py"),
    (EAGER,),
)


@pytest.fixture
def root(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The repository that is measured, with places for the tables; its records lie beside it."""
    monkeypatch.setattr(channel, "WORKER", FAKE)
    monkeypatch.setattr(effects, "OPTIMISATIONS", (SLEEPS, COUNTS))
    monkeypatch.setattr(records, "RECORDED", tmp_path / "recorded")
    for module in (pages, effects):
        monkeypatch.setattr(module, "ROOT", repository.root)
    repository.commit(seconds=1.0, noise=0.001, counts={})
    with_places(repository.root)
    return repository.root


def measure(chosen: list[Optimisation], launches: int, root: Path) -> None:
    measure_each(chosen, launches, QUIET, root)


def rows() -> list[str]:
    """Lines of the table that is drawn of what is recorded."""
    text = tables(records.read("effects"))["effects"]
    return [line for line in text.splitlines() if line.startswith("| it ")]


@pytest.mark.parametrize("optimisation", OPTIMISATIONS, ids=lambda each: each.name)
def test_an_optimisation_can_be_taken_back(optimisation: Optimisation, tmp_path: Path) -> None:
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE)
    optimisation.taken_back.apply(tmp_path)
    ast.parse((tmp_path / PACKAGE / optimisation.taken_back.file).read_text())
    assert optimisation.measured(), "a name that is no case raises ValueError"


def test_a_row_says_what_is_gained_with_it(root: Path, repository: Repository) -> None:
    assert pages.main(["effects", "--launches", "2"]) == 0
    slow, counted = rows()
    assert slow.startswith("| it does not dawdle | pusht inference, compiled, fp32 | 90 kernels | ")
    ((without, with_it),), (step,) = (
        re.findall(r"([\d.]+) → ([\d.]+) s", slow),
        re.findall(r"([\d.]+) \(.*\)x", slow),
    )
    assert float(without) == pytest.approx(20, rel=0.1)
    assert float(with_it) == pytest.approx(5, rel=0.1)
    assert float(step) == pytest.approx(1.5, rel=0.02)
    assert counted.startswith(
        "| it does not repeat | pusht inference, eager, fp32 | 900 → 500 dispatched |  | 1.0"
    )
    text = between_markers(root / DOCUMENT, *markers("effects"))
    assert text.splitlines()[-2:] == [slow, counted]
    assert "medians over 2 fresh launches" in text
    assert " cores, AVX2, 2 threads, torch 2.11.0" in text
    assert repository.left_behind() == set()


def test_rows_of_the_same_subject_stay_and_others_go(root: Path, repository: Repository) -> None:
    measure([SLEEPS, COUNTS], 1, root)
    slow, _ = rows()
    measure([COUNTS], 1, root)
    assert rows()[0] == slow
    assert len(rows()) == 2
    repository.commit(seconds=1.0, noise=0.001, counts={})
    measure([COUNTS], 1, root)
    assert [line.split("|")[1] for line in rows()] == [" it does not repeat "]


def test_what_was_measured_before_an_interruption_is_recorded_and_drawn(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launch = effects.measured_launch

    def interrupted(case: Case, *args: Any, **named: Any) -> dict[str, Any]:
        if case.variant == "eager":
            raise KeyboardInterrupt
        return launch(case, *args, **named)

    monkeypatch.setattr(effects, "measured_launch", interrupted)
    assert pages.main(["effects", "--launches", "1"]) == 2
    assert "effects: stopped; what was recorded stands in the table" in capsys.readouterr().err
    assert "| it does not dawdle |" in (root / DOCUMENT).read_text()


def test_rows_stand_in_the_order_of_the_list_and_those_of_no_optimisation_do_not() -> None:
    case = Case(*COMPILED.split("-"))
    launches = [{"times_as_fast": 1.0, "kernels": {"with": 1, "without": 2}}]
    gone = Optimisation("it is no more", Edit("", ""), (COMPILED,))
    how: dict[str, Any] = {"cpu": "AVX2", "threads": 2, "torch": "2.11.0", "lerobot": "0.6.1"}
    how |= {"python": "3.12.1", "device": "cpu", "subject": "abc", "launches": 1}
    found = [{**record_of(each, case, launches), "about": how} for each in (*OPTIMISATIONS[1::-1], gone)]
    names = [line.split(" | ")[0] for line in tables(found)["effects"].splitlines()[4:]]
    assert names == [f"| {each.name}" for each in OPTIMISATIONS[:2]]
    assert tables([]) == {}


def test_words_that_no_name_holds_are_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pages.main(["effects", "--only", "nonsense"]) == 2
    assert "effects: no optimisation's name holds nonsense" in capsys.readouterr().err
    assert not (root / ".gate").exists()


def test_no_launch_is_no_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        pages.main(["effects", "--launches", "0"])
    assert ended.value.code == 2
    assert "--launches: takes at least 1" in capsys.readouterr().err


def test_a_side_that_fails_is_exit_code_2_and_leaves_the_page(
    root: Path, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit(seconds=1.0, counts={}, fails={"compile": "no such operator"})
    page = (root / DOCUMENT).read_text()
    with pytest.raises(MeasurementError, match="no such operator"):
        measure([SLEEPS], 1, root)
    assert pages.main(["effects"]) == 2
    assert "effects: " in capsys.readouterr().err
    assert (root / DOCUMENT).read_text() == page
    assert repository.left_behind() == set()
