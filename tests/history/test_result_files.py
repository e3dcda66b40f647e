"""Results as files: put together without loss, kept on a branch that others push to as well."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import result_files
from benchmarks.repository import MeasurementError, git

COLUMNS = ["result", "params", "version", "started_at"]
NAN = float("nan")


def write(home: Path, machine: str, commit: str, **measured: Any) -> None:
    """A file as asv writes it: benchmarks by name, each a list of values and when it was started."""
    place = home / result_files.RESULTS / machine
    place.mkdir(parents=True, exist_ok=True)
    found = {name: [values, [], "1", started] for name, (values, started) in measured.items()}
    document = {"commit_hash": commit, "date": 0, "result_columns": COLUMNS, "results": found}
    (place / f"{commit}-env.json").write_text(json.dumps(document))
    (place / "machine.json").write_text(json.dumps({"machine": machine}))
    names = {"version": 2, "time_a": {}, "time_b": {}}
    (place.parent / "benchmarks.json").write_text(json.dumps(names))


def values(home: Path, machine: str, commit: str) -> dict[str, Any]:
    found = json.loads((home / result_files.RESULTS / machine / f"{commit}-env.json").read_text())["results"]
    return {name: result[0] for name, result in found.items()}


def contents(home: Path) -> dict[str, str]:
    return {path.relative_to(home).as_posix(): path.read_text() for path in home.rglob("*.json")}


def files(home: Path) -> set[str]:
    return set(contents(home))


def test_other_commits_are_other_files(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / str(number), "vm", f"{number}" * 8, time_a=([1.0], 1))
        result_files.merge(tmp_path / str(number), tmp_path / "all")
    expected = {"results/vm/11111111-env.json", "results/vm/22222222-env.json"}
    assert expected | {"results/vm/machine.json", "results/benchmarks.json"} == files(tmp_path / "all")
    before = contents(tmp_path / "all")
    result_files.merge(tmp_path / "1", tmp_path / "all")
    assert contents(tmp_path / "all") == before, "nothing new"


@pytest.mark.parametrize("turn", [1, -1])
def test_of_one_commit_each_benchmark_keeps_its_newer_result_that_did_not_fail(
    tmp_path: Path, turn: int
) -> None:
    write(tmp_path / "old", "vm", "1" * 8, time_a=([1.0], 1), time_b=([2.0], 1), time_c=([3.0], 1))
    write(tmp_path / "new", "vm", "1" * 8, time_a=([1.5], 2), time_b=([None], 2), time_d=([4.0], 2))
    for source in ("old", "new")[::turn]:
        result_files.merge(tmp_path / source, tmp_path / "all")
    expected = {"time_a": [1.5], "time_b": [2.0], "time_c": [3.0], "time_d": [4.0]}
    assert values(tmp_path / "all", "vm", "1" * 8) == expected


def test_half_a_file_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "old", "vm", "1" * 8, time_a=([1.0], 1))
    result_files.merge(tmp_path / "old", tmp_path / "all")
    write(tmp_path / "new", "vm", "1" * 8, time_a=([2.0], 2))
    path = tmp_path / "new" / "results" / "vm" / ("1" * 8 + "-env.json")
    path.write_text(path.read_text()[:30])
    result_files.merge(tmp_path / "new", tmp_path / "all")
    assert values(tmp_path / "all", "vm", "1" * 8) == {"time_a": [1.0]}


@pytest.mark.parametrize(
    ("measured", "whole"),
    [
        ({"time_a": ([1.0, NAN], 1), "time_b": ([1.0], 1)}, True),
        ({"time_a": ([1.0], 1)}, False),
        ({"time_a": ([1.0, None], 1), "time_b": ([1.0], 1)}, False),
        ({"time_a": (None, 1), "time_b": ([1.0], 1)}, False),
    ],
)
def test_a_commit_is_measured_when_nothing_lacks_or_failed(
    tmp_path: Path, measured: dict[str, Any], whole: bool
) -> None:
    write(tmp_path, "vm", "1" * 8, **measured)
    assert result_files.is_measured("1" * 40, "vm", tmp_path) is whole
    assert not result_files.is_measured("1" * 40, "another", tmp_path)
    assert not result_files.is_measured("2" * 40, "vm", tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> str:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "server.git")], check=True)
    return str(tmp_path / "server.git")


def on_branch(server: str) -> set[str]:
    with result_files.checked_out("results", server) as place:
        return files(place)


def test_the_branch_is_made_when_there_is_none(server: str, tmp_path: Path) -> None:
    write(tmp_path / "home", "vm", "1" * 8, time_a=([1.0], 1))
    for message in ("first", "again"):
        result_files.push_results(tmp_path / "home", None, "results", server, message)
        assert "results/vm/11111111-env.json" in on_branch(server)
    assert git("log", "--format=%s", "results", root=Path(server)) == "first", "nothing new, no commit"


@pytest.mark.parametrize("there", [False, True])
def test_two_that_push_at_once_lose_nothing(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    homes = [tmp_path / str(number) for number in range(3)]
    for number, home in enumerate(homes):
        write(home, "vm", f"{number}" * 8, time_a=([1.0], 1))
    if there:
        result_files.push_results(homes[0], None, "results", server, "there before")
    others = [homes[1]]

    def with_another_job(*args: str, **options: Any) -> str:
        if args[0] == "push" and others:  # it comes between this job's look and its push
            result_files.push_results(others.pop(), None, "results", server, "the other job")
        return git(*args, **options)

    monkeypatch.setattr(result_files, "git", with_another_job)
    result_files.push_results(homes[2], None, "results", server, "this job")
    assert {"results/vm/11111111-env.json", "results/vm/22222222-env.json"} <= on_branch(server)
    assert ("results/vm/00000000-env.json" in on_branch(server)) is there


def test_a_branch_that_takes_no_push_is_said(server: str, tmp_path: Path) -> None:
    hook = Path(server) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    write(tmp_path / "home", "vm", "1" * 8, time_a=([1.0], 1))
    with pytest.raises(MeasurementError, match=r"branch results took none of 5 pushes .*run this job again"):
        result_files.push_results(tmp_path / "home", None, "results", server, "first")


def test_pages_are_one_commit(server: str, tmp_path: Path) -> None:
    for text in ("old", "new"):
        (tmp_path / "html").mkdir(exist_ok=True)
        (tmp_path / "html" / "index.html").write_text(text)
        result_files.force_push_pages(tmp_path / "html", "gh-pages", server, text)
    with result_files.checked_out("gh-pages", server) as place:
        assert (place / "index.html").read_text() == "new"
        assert git("rev-list", "--count", "HEAD", root=place) == "1"
    assert not (tmp_path / "html" / ".git").exists()
