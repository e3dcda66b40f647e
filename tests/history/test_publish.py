"""What a runner that died leaves is told, and is never the news that nothing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import asv_command, publish, result_files
from benchmarks.history.regressions import History, Step
from benchmarks.history.result_files import BASELINE, BRANCH
from benchmarks.repository import git

from ..github_api import GitHub

COLUMNS = ["result", "params", "version", "started_at"]
SHARES = ("history-cpu-0", "history-cpu-1")
COMMITS = ("a" * 8, "b" * 8)  # of which each share measured one
NEWEST = "c" * 40
WORSE = Step("x", "vm", 1, 2, "a" * 40, "b" * 40, ("b change",), None)


def result(commit: str, **fields: Any) -> dict[str, Any]:
    rows = {"time_x": [[1.0], [["'aloha'"]], "1", 1]}
    return {"commit_hash": commit, "date": 1, "result_columns": COLUMNS, "results": rows, **fields}


class Runner:
    """The publishing job: what the shards left, a server with an earlier baseline, an open issue."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub) -> None:
        self.server, self.root = directory / "server.git", directory / "project"
        self.artifacts = directory / "shards"
        git("init", "-q", "--bare", str(self.server), root=directory)
        git("init", "-q", str(self.root), root=directory)
        git("remote", "add", "origin", str(self.server), root=self.root)
        (self.root / ".asv" / "html").mkdir(parents=True)
        for share, commit in zip(SHARES, COMMITS, strict=True):
            self.write(self.artifacts / share, commit)
        self.write(directory / "before", "9" * 8)
        result_files.push_results(directory / "before", "d" * 40, BRANCH, str(self.server), "before")
        self.found, self.cpu = History(NEWEST, ()), "success"
        monkeypatch.setattr(asv_command, "draw", lambda *_: [])
        monkeypatch.setattr(publish, "read_history", lambda *_: self.found)
        monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
        self.github = github.with_issues({"number": 3}, label=publish.LABEL)

    def write(self, share: Path, commit: str) -> None:
        place = share / "results" / "vm"
        place.mkdir(parents=True)
        (place / f"{commit}-env.json").write_text(json.dumps(result(commit)))
        (place / "machine.json").write_text('{"machine": "vm"}')
        (place.parent / "benchmarks.json").write_text('{"version": 2, "time_x": {}}')
        (share / "versions" / "vm").mkdir(parents=True)
        (share / "versions" / "vm" / f"{commit}.json").write_text('{"torch": "2.11.0"}')

    def publish(self, *options: str) -> int:
        results = ("--result", f"cpu={self.cpu}", "cuda=skipped")
        return publish.main([str(self.artifacts), "--push", *options, *results], root=self.root)

    def on_branch(self, name: str) -> Any:
        return json.loads(git("show", f"{BRANCH}:{name}", root=self.server))

    def is_on_branch(self, commit: str) -> bool:
        name = f"results/vm/{commit}-env.json"
        return git("ls-tree", "--name-only", BRANCH, "--", name, root=self.server) == name


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub) -> Runner:
    return Runner(tmp_path, monkeypatch, github)


def of_first_share(text: str, name: str = f"results/vm/{COMMITS[0]}-env.json") -> Callable[[Runner], object]:
    return lambda runner: (runner.artifacts / SHARES[0] / name).write_text(text)


def link(runner: Runner) -> None:
    path = runner.artifacts / SHARES[0] / "results" / "vm" / f"{COMMITS[0]}-env.json"
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def lost(runner: Runner) -> None:
    """The job died before its upload: nothing says that there should have been a second share."""
    shutil.rmtree(runner.artifacts / SHARES[0])
    runner.cpu = "failure"


def old_results_only(runner: Runner) -> None:
    """The share measured nothing, and sends what ``--missing`` took from the branch."""
    shutil.rmtree(runner.artifacts / SHARES[0])
    runner.write(runner.artifacts / SHARES[0], "9" * 8)
    runner.cpu = "failure"


def linked_folder(runner: Runner) -> None:
    (runner.artifacts / SHARES[0] / "results").rename(runner.root / "elsewhere")
    (runner.artifacts / SHARES[0] / "results").symlink_to(runner.root / "elsewhere")


def cut_on_branch(runner: Runner, name: str = "results/vm/99999999-env.json", text: str = '{"res') -> None:
    with result_files.checked_out(BRANCH, str(runner.server)) as place:
        (place / name).write_text(text)
        git("add", "-A", root=place)
        git(*result_files.AUTHOR, "commit", "-q", "-m", "cut", root=place)
        git("push", "-q", str(runner.server), f"HEAD:{BRANCH}", root=place)


def without_a_machine(runner: Runner) -> None:
    for path in runner.artifacts.rglob("machine.json"):
        path.write_text("")
    cut_on_branch(runner, "results/vm/machine.json", "")


def rows(*rows: Any) -> str:
    return json.dumps(result(COMMITS[0], results={f"time_{at}": row for at, row in enumerate(rows)}))


OF_FIRST = f"history-cpu-0: results/vm/{COMMITS[0]}-env.json"
# What may lie there, what is said of it, and whether the first share's commit is lost by it.
DAMAGE: dict[str, tuple[Callable[[Runner], object], str, bool]] = {
    "cut": (of_first_share(json.dumps(result(COMMITS[0]))[:80]), f"{OF_FIRST} is cut short", True),
    "empty": (of_first_share(""), f"{OF_FIRST} is empty", True),
    "zeros": (of_first_share("\0" * 99), f"{OF_FIRST} is empty", True),
    "an object": (of_first_share("{}"), f"{OF_FIRST} is no file of asv's results", True),
    "no columns": (of_first_share('{"results": {}}'), f"{OF_FIRST} is no file of asv's", True),
    "a row of nothing": (of_first_share(rows(None)), f"{OF_FIRST} is no file of asv's", True),
    "a row of words": (of_first_share(rows([[1.0], [], "1", "now"])), f"{OF_FIRST} is no file", True),
    "parameters": (of_first_share(rows([[1.0], [1], "1", 1])), f"{OF_FIRST} is no file", True),
    "a link": (link, f"{OF_FIRST} is a link", True),
    "a linked folder": (linked_folder, "history-cpu-0 holds no results", True),
    "no share": (lambda runner: shutil.rmtree(runner.artifacts), "shards is missing: no shard", True),
    "a share of nothing": (
        lambda runner: shutil.rmtree(runner.artifacts / SHARES[0] / "results"),
        "history-cpu-0 holds no results",
        True,
    ),
    "one share of two is gone": (lost, "job cpu ended with failure: commits may lack results", True),
    "the share holds only old results": (old_results_only, "job cpu ended with failure", True),
    "jobs that were stopped": (lambda runner: setattr(runner, "cpu", "cancelled"), "with cancelled", False),
    "a job of no result": (lambda runner: setattr(runner, "cpu", ""), "ended with no result", False),
    "versions": (
        lambda runner: (runner.artifacts / SHARES[0] / "versions" / "vm" / f"{COMMITS[0]}.json").write_text(
            "{"
        ),
        f"history-cpu-0: versions/vm/{COMMITS[0]}.json is cut short",
        False,
    ),
    "the branch": (cut_on_branch, f"branch {BRANCH}: results/vm/99999999-env.json is cut short", False),
    "the machine": (without_a_machine, ".asv: results/vm/machine.json is missing", False),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("options", [(), ("--accept",)], ids=["", "accept"])
def test_damage_is_told_and_what_is_whole_is_published(
    runner: Runner, capsys: pytest.CaptureFixture[str], damage: str, options: tuple[str, ...]
) -> None:
    make, told, lost = DAMAGE[damage]
    make(runner)
    assert runner.publish(*options) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert [line for line in lines if told in line and line.startswith("publish: damaged: ")]
    assert last.startswith("publish: published without what is damaged")
    assert runner.is_on_branch(COMMITS[0]) is not lost
    assert runner.is_on_branch(COMMITS[1]) is (damage != "no share")
    assert git("log", "-1", "--format=%s", publish.PAGES, root=runner.server).startswith("History up to")
    assert runner.on_branch(BASELINE) == {"commit": "d" * 40}, "the baseline did not move"
    assert runner.github.sent == [], "no issue was closed"


@pytest.mark.parametrize("options", [(), ("--accept",)], ids=["", "accept"])
def test_a_whole_history_closes_the_issue_and_a_word_moves_the_baseline(
    runner: Runner, options: tuple[str, ...]
) -> None:
    assert runner.publish(*options) == 0
    assert all(map(runner.is_on_branch, COMMITS))
    assert runner.on_branch(BASELINE) == {"commit": NEWEST if options else "d" * 40}
    assert runner.github.sent[-1] == ("PATCH", "repos/o/r/issues/3", {"state": "closed"})


def test_a_regression_is_told_beside_the_damage(runner: Runner) -> None:
    runner.found = History(NEWEST, (WORSE,))
    shutil.rmtree(runner.artifacts / SHARES[0] / "results")
    assert runner.publish() == 2
    ((method, where, _),) = runner.github.sent
    assert (method, where) == ("PATCH", "repos/o/r/issues/3")


def test_one_artifact_lies_in_the_directory_itself(runner: Runner, tmp_path: Path) -> None:
    """As actions/download-artifact puts it there, where its pattern fits one only."""
    (runner.artifacts / SHARES[0]).rename(tmp_path / "one")
    shutil.rmtree(runner.artifacts)
    (tmp_path / "one").rename(runner.artifacts)
    assert runner.publish() == 0
    assert runner.is_on_branch(COMMITS[0])


@pytest.mark.parametrize("text", ["", "{}", '{"commit": 7}', '{"commit": "main"}', '{"commit": "dd'])
def test_a_baseline_that_cannot_be_read_is_not_the_beginning(
    runner: Runner, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """All that was ever accepted would be reported anew."""
    cut_on_branch(runner, BASELINE, text)
    runner.found = History(NEWEST, (WORSE,))
    assert runner.publish() == 2
    error = capsys.readouterr().err
    assert error.startswith(f"publish: {BASELINE} ")
    assert "run with --accept to begin anew" in error
    assert runner.github.sent == []
    assert runner.publish("--accept") == 0
    assert runner.on_branch(BASELINE) == {"commit": NEWEST}


def test_what_failed_at_the_newest_commit_is_no_clean_history(
    runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    share = runner.artifacts / SHARES[-1] / "results" / "vm" / f"{COMMITS[-1]}-env.json"
    failed = {"time_x": [[None], [["'aloha'"]], "1", 1], "time_y": [[1.0], [["'aloha'"]], "1", 1]}
    share.write_text(json.dumps(result(COMMITS[-1], results=failed)))
    runner.found = History(COMMITS[-1] + NEWEST[8:], ())
    assert runner.publish() == 2
    assert f"commit {COMMITS[-1]}: time_x failed on vm" in capsys.readouterr().err
    assert runner.github.sent == [], "no issue was closed"


def test_what_asv_leaves_out_is_damage_too(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asv_command, "draw", lambda *_: ["Skipping results: malformed machine.json"])
    assert runner.publish() == 2
    assert runner.on_branch(BASELINE) == {"commit": "d" * 40}


def test_a_link_on_the_branch_leads_nowhere(runner: Runner, tmp_path: Path) -> None:
    """Whoever can push there could have this job write outside of it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    with result_files.checked_out(BRANCH, str(runner.server)) as place:
        git("config", "core.symlinks", "true", root=place)
        shutil.rmtree(place / "results" / "vm")
        (place / "results" / "vm").symlink_to(outside)
        git("add", "-A", root=place)
        git(*result_files.AUTHOR, "commit", "-q", "-m", "link", root=place)
        git("push", "-q", str(runner.server), f"HEAD:{BRANCH}", root=place)
    assert runner.publish() == 2
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("server", [None, "https://github.example.com"])
def test_asvs_pages_link_to_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str | None
) -> None:
    (tmp_path / "asv.conf.json").write_text('{"benchmark_dir": "benchmarks/suite", "env_dir": ".asv/env"}')
    configs: list[dict[str, Any]] = []

    def run(*args: str, **_: Path) -> list[str]:
        configs.append(json.loads(Path(args[args.index("--config") + 1]).read_text()))
        return [
            "[ 14.29%] \u00b7\u00b7 Error loading results file 'x': missing key",
            "[50.00%] \u00b7 Loading results",
        ]

    monkeypatch.setattr(asv_command, "run", run)
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    if server:
        monkeypatch.setenv("GITHUB_SERVER_URL", server)
    else:
        monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    left_out = asv_command.draw(tmp_path, tmp_path)
    assert left_out == ["Error loading results file 'x': missing key"]
    monkeypatch.delenv("GITHUB_REPOSITORY")
    asv_command.draw(tmp_path, tmp_path)
    there, not_there = configs
    assert there.pop("show_commit_url") == f"{server or 'https://github.com'}/o/r/commit/"
    assert there == not_there
    assert there["html_dir"] == str(tmp_path / ".asv" / "html")


def test_the_issues_of_a_job_are_the_bots(runner: Runner) -> None:
    runner.github.with_issues({"number": 3, "user": {"login": "somebody"}}, label=publish.LABEL)
    assert runner.publish() == 0
    assert runner.github.sent == []
