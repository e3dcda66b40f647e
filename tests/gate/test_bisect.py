"""The commit that made it worse, among others that did not; real git and real processes, without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.gate import bisect

from .conftest import FAKE, Repository

Found = tuple[int, str]


@pytest.fixture
def run_bisect(repository: Repository, capsys: pytest.CaptureFixture[str]) -> Callable[..., Found]:
    def run_it(*args: str) -> Found:
        code = bisect.main(
            ["main..work", "--case", "pusht-inference", *args], root=repository.root, command=FAKE
        )
        captured = capsys.readouterr()
        assert repository.left_behind() == set()
        return code, captured.out + captured.err

    return run_it


def ten(repository: Repository, which: int, **worse: Any) -> list[str]:
    """Ten commits, worse from number ``which`` on; each is other code."""
    return [
        repository.commit(f"change {number}", **(worse if number >= which else {})) for number in range(10)
    ]


@pytest.mark.parametrize("which", [0, 3, 9])
def test_a_counter_is_found_in_seconds_a_commit(
    which: int, repository: Repository, run_bisect: Callable[..., Found]
) -> None:
    commits = ten(repository, which, counts={"ops": 271})
    code, said = run_bisect()
    assert code == 0
    assert f"{commits[which][:7]}" in said
    assert f"t: change {which}\n" in said
    assert "pusht-inference: ops captured 270 → 271" in said
    assert "launch" not in said, "it was timed"
    assert said.count("commits left") <= 4


def test_the_first_of_two_regressions_is_the_one(
    repository: Repository, run_bisect: Callable[..., Found]
) -> None:
    for number in range(6):
        worse = {"ops": 271} if number >= 2 else {}
        repository.commit(f"change {number}", counts=worse | ({"kernels": 99} if number >= 4 else {}))
    assert "t: change 2\n" in run_bisect()[1]


def test_another_regression_on_the_way_is_passed_over(
    repository: Repository, run_bisect: Callable[..., Found]
) -> None:
    for number in range(6):
        worse = {"kernels": 99} if number in (2, 3) else {"ops": 271} if number == 5 else {}
        repository.commit(f"change {number}", counts=worse)
    code, said = run_bisect()
    assert (code, "t: change 5\n" in said) == (0, True)


def test_what_is_worse_elsewhere_is_not_the_cases(
    repository: Repository, run_bisect: Callable[..., Found]
) -> None:
    """Every comparison counts what ``auto`` does, too."""
    for number in range(4):
        counts = {"counts": {"ops": 271}} if number >= 2 else {}
        repository.commit(f"change {number}", auto={"auto_made": 2}, **counts)
    assert "t: change 2\n" in run_bisect()[1]


@pytest.mark.parametrize(
    "case", ["pusht-inference-stock", "pusht-inference-eager-fp32-cuda", "pusht-inf", "walker", "pusht"]
)
def test_an_unknown_case_is_refused_before_anything_runs(
    case: str, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit(counts={"ops": 271})
    code = bisect.main(["main..work", "--case", case], root=repository.root, command=FAKE)
    said = capsys.readouterr().err
    assert (code, "unknown" in said) == ((0, False) if case == "pusht" else (2, True))


def test_a_merged_branch_is_one_change(repository: Repository, run_bisect: Callable[..., Found]) -> None:
    repository.git("checkout", "-q", "-b", "side")
    for number in range(3):
        repository.commit(f"side {number}", counts={"ops": 271})
    repository.git("checkout", "-q", "work")
    repository.git("merge", "-q", "--no-ff", "-m", "merged", "side")
    code, said = run_bisect()
    assert (code, "t: merged\n" in said) == (0, True)


def test_a_commit_without_the_subject_is_not_asked(
    repository: Repository, run_bisect: Callable[..., Found]
) -> None:
    repository.commit("code", counts={"ops": 271})
    for number in range(4):
        (repository.root / "README.md").write_text(f"{number}\n")
        repository.git("add", "-A")
        repository.git("commit", "-q", "-m", f"words {number}")
    code, said = run_bisect()
    assert (code, "t: code\n" in said, "commits left" in said) == (0, True, False)


def test_what_is_slower_is_timed(repository: Repository, run_bisect: Callable[..., Found]) -> None:
    for number in range(3):
        repository.commit(f"change {number}", seconds=0.13 if number >= 1 else 0.1)
    code, said = run_bisect()
    assert code == 0
    assert "t: change 1\n" in said
    assert "pusht-inference-eager-fp32-cpu: " in said


@pytest.mark.parametrize(
    ("case", "worse"),
    [("tiny-inference", {"auto": {"auto_tick_ops": 2}}), ("pusht-tick_ensemble", {"seconds": 0.15})],
)
def test_a_commit_that_lost_the_engine_is_not_judged_by_what_it_cannot_show(
    case: str, worse: dict[str, Any], repository: Repository, run_bisect: Callable[..., Found]
) -> None:
    for number in range(6):
        lost = {"auto": {"auto_by_torch": 1}} if number in (2, 3) else {}
        repository.commit(f"change {number}", **((worse if number >= 1 else {}) | lost))
    code, said = run_bisect("--case", case)
    assert code == 3
    assert "cannot be judged: " in said
    assert " was not measured there" in said
    assert "t: change 1\n" in said


def test_where_nothing_was_measured_nothing_is_said_to_be_fine(
    repository: Repository, run_bisect: Callable[..., Found]
) -> None:
    repository.commit(seconds=0.15, auto={"auto_by_torch": 1})
    code, said = run_bisect("--case", "pusht-tick_ensemble")
    assert code == 2
    assert "is not known to be worse" in said
    assert "auto was not timed" in said


@pytest.mark.parametrize("how", ["a mistake", "kill"])
def test_a_commit_that_fails_otherwise_is_not_judged(
    how: str, repository: Repository, run_bisect: Callable[..., Found]
) -> None:
    """``kill``: it cannot be measured at all."""
    repository.commit("fine")
    repository.commit("broken", fails={"counts": how})
    repository.commit("slower", counts={"ops": 271})
    repository.commit("as slow", counts={"ops": 271})
    code, said = run_bisect()
    assert code == 3
    assert "cannot be judged" in said
    assert "t: broken\n" in said
    assert "t: slower\n" in said


@pytest.mark.parametrize(
    ("between", "why"),
    [
        ("main..main", "no commit of main..main touches src or pyproject.toml"),
        ("work..main", "work is no ancestor of main"),
        ("main", "'main' is no range of commits; write GOOD..BAD"),
        ("main...work", "is no range of commits"),
        ("nowhere..work", "Needed a single revision"),
    ],
)
def test_what_it_cannot_search(
    between: str, why: str, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit()
    assert bisect.main([between], root=repository.root, command=FAKE) == 2
    assert why in capsys.readouterr().err


def test_where_nothing_is_worse_it_says_so(repository: Repository, run_bisect: Callable[..., Found]) -> None:
    repository.commit()
    code, said = run_bisect()
    assert code == 2
    assert "nothing is worse than in" in said
    assert "No regression" in said
