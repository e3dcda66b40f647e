"""What stays in .gate: what was used last, and no more of it than there is room for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.gate import prune as pruning
from benchmarks.gate.prune import DAYS, MOST_ENVIRONMENTS, prune
from benchmarks.gate.workplace import workplace

DAY = 24 * 3600


def written(path: Path, size: int = 1, days: float = 0) -> Path:
    """A file of so many bytes, written so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def names(home: Path) -> set[str]:
    return {path.name for path in home.rglob("*") if path.is_file()}


def test_the_environments_used_last_stay(tmp_path: Path) -> None:
    environments = tmp_path / "environments"
    for number in range(MOST_ENVIRONMENTS + 2):
        written(environments / str(number) / "complete", days=number)
    written(environments / "unfinished" / "bin" / "python")
    prune(tmp_path)
    assert {path.name for path in environments.iterdir()} == {str(n) for n in range(MOST_ENVIRONMENTS)}


def test_an_environment_that_nobody_uses_goes(tmp_path: Path) -> None:
    old = written(tmp_path / "environments" / "old" / "complete", days=DAYS + 1)
    prune(tmp_path)
    assert not old.parent.exists()


def test_compiled_code_has_an_end_and_the_oldest_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "LARGEST_CACHE", 100)
    for name, days in (("new", 0), ("older", 1), ("oldest", 2)):
        written(tmp_path / "inductor" / name / "kernel.so", 45, days)
        written(tmp_path / "inductor" / name / f"{name}.cpp", 1, days)
    prune(tmp_path)
    assert names(tmp_path) == {"kernel.so", "new.cpp", "older.cpp"}
    assert not list((tmp_path / "inductor" / "oldest").iterdir()), "an entry goes as a whole"


def test_one_entry_that_is_too_large_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "LARGEST_CACHE", 100)
    written(tmp_path / "inductor" / "headers" / "large.gch", 101)
    written(tmp_path / "inductor" / "graph" / "small.py", 50, days=1)
    written(tmp_path / "inductor" / "graph" / "old" / "old.py", 1, days=DAYS + 1)
    prune(tmp_path)
    assert names(tmp_path) == {"small.py"}


def test_a_run_prunes_when_it_ends_and_leaves_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "LARGEST_CACHE", 100)
    with workplace(tmp_path):
        written(tmp_path / ".gate" / "inductor" / "kernel.so", 101)
        written(tmp_path / ".gate" / "answers" / ".abc.json.17")
        kept = written(tmp_path / ".gate" / "answers" / "abc.json")
    assert names(tmp_path) <= {kept.name, "lock"}
    with workplace(tmp_path):
        pass
