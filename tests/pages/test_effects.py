"""What each optimisation is worth: its edit applies, its row says what was measured; without torch."""

from __future__ import annotations

import ast
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.edits import Edit
from benchmarks.gate import channel
from benchmarks.pages import effects
from benchmarks.pages.effects import BEGIN, END, Launch, measure, merged, on_page, row
from benchmarks.pages.limits import PAGE
from benchmarks.pages.optimisations import OPTIMISATIONS, Optimisation
from benchmarks.repository import PACKAGE, ROOT, MeasurementError
from benchmarks.suite.workloads import Case

from ..gate import conftest as gate_fixtures
from ..gate.conftest import FAKE, Repository

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
def root(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(channel, "WORKER", FAKE)
    monkeypatch.setattr(effects, "OPTIMISATIONS", (SLEEPS, COUNTS))
    repository.commit(seconds=1.0, noise=0.001, counts={})
    page = repository.root / PAGE
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    return repository.root


def rows(root: Path) -> list[str]:
    return [line for line in on_page(root / PAGE).splitlines() if line.startswith("| it ")]


@pytest.mark.parametrize("optimisation", OPTIMISATIONS, ids=lambda each: each.name)
def test_an_optimisation_can_be_taken_back(optimisation: Optimisation, tmp_path: Path) -> None:
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE)
    optimisation.taken_back.apply(tmp_path)
    ast.parse((tmp_path / PACKAGE / optimisation.taken_back.file).read_text())
    assert optimisation.measured(), "a name that is no case raises ValueError"


def test_a_row_says_what_is_lost_without_it(root: Path, repository: Repository) -> None:
    measure([SLEEPS, COUNTS], 2, QUIET, root)
    slow, counted = rows(root)
    assert slow.startswith("| it does not dawdle | pusht inference, compiled, fp32 | kernels 90 | ")
    ((base, head),), (step,) = (
        re.findall(r"([\d.]+) → ([\d.]+) s", slow),
        re.findall(r"([\d.]+) \(.*\)x", slow),
    )
    assert float(base) == pytest.approx(5, rel=0.1)
    assert float(head) == pytest.approx(20, rel=0.1)
    assert float(step) == pytest.approx(1.5, rel=0.02)
    assert counted.startswith(
        "| it does not repeat | pusht inference, eager, fp32 | dispatched 500 → 900 |  | 1.0"
    )
    text = (root / PAGE).read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "medians over 2 fresh launches" in text
    assert repository.left_behind() == set()


def test_rows_of_the_same_subject_stay_and_others_go(root: Path, repository: Repository) -> None:
    measure([SLEEPS, COUNTS], 1, QUIET, root)
    slow, _ = rows(root)
    measure([COUNTS], 1, QUIET, root)
    assert rows(root)[0] == slow
    assert len(rows(root)) == 2
    repository.commit(seconds=1.0, noise=0.001, counts={})
    measure([COUNTS], 1, QUIET, root)
    assert [line.split("|")[1] for line in rows(root)] == [" it does not repeat "]


def test_rows_stand_in_the_order_of_the_list_and_once() -> None:
    case = Case(*COMPILED.split("-"))
    first, second = (row(each, case, [Launch(1.0, (1, 2), (3.0, 4.0))]) for each in OPTIMISATIONS[:2])
    again = row(OPTIMISATIONS[0], case, [Launch(2.0, (1, 2), (3.0, 4.0))])
    table = merged(merged(merged("", "about", [second]), "about", [first]), "about", [again])
    assert table.splitlines() == ["about", "", *effects.HEADER.splitlines(), again, second]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "nonsense"], "no optimisation's name holds nonsense"),
        (["--launches", "0"], "--launches takes at least 1"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        effects.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_side_that_fails_is_exit_code_2_and_leaves_the_page(
    root: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit(seconds=1.0, counts={}, fails={"compile": "no such operator"})
    page = (root / PAGE).read_text()
    with pytest.raises(MeasurementError, match="no such operator"):
        measure([SLEEPS], 1, QUIET, root)
    monkeypatch.setattr(effects, "measure", partial(measure, root=root))
    assert effects.main([]) == 2
    assert "effects: " in capsys.readouterr().err
    assert (root / PAGE).read_text() == page
    assert repository.left_behind() == set()
