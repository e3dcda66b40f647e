"""history.yml from an event to the published history: which commits, how many artifacts, which rights.

Git is real; asv is not: what it would write of a commit is written at once.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.history import asv_command, measure, publish
from benchmarks.history.measure import SUBJECT
from benchmarks.history.regressions import History, Step
from benchmarks.history.result_files import BASELINE, BRANCH
from benchmarks.repository import git

from ..github_api import REPOSITORY, GitHub
from ..workflows.github_actions import WORKFLOWS, Run
from .test_publish import WORSE, result

WORKFLOW = WORKFLOWS["history"]
JOBS = WORKFLOW["jobs"]


class Machine:
    """Runs the workflow's jobs, each in a fresh clone; the server takes pushes of who may write contents."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub) -> None:
        self.place, self.patch, self.github = place, monkeypatch, github
        self.server, self.artifacts = place / "server.git", place / "artifacts"
        self.regressions: tuple[Step, ...] = ()
        self.measured: list[str] = []
        git("init", "-q", "--bare", "-b", "main", str(self.server), root=place)
        self.commits = self.push(6)
        monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
        monkeypatch.setattr(asv_command, "run", lambda *_, **__: [])
        monkeypatch.setattr(measure, "measure", self._measure)
        monkeypatch.setattr(asv_command, "draw", lambda *_: [])
        monkeypatch.setattr(publish, "read_history", lambda *_: History(self.commits[-1], self.regressions))

    def clone(self) -> Path:
        clone = Path(tempfile.mkdtemp(dir=self.place))
        git("clone", "-q", str(self.server), str(clone), root=self.place)
        return clone

    def push(self, commits: int) -> list[str]:
        """Commits with the subject, pushed to main together."""
        self.may_write("write")
        work, made = self.clone(), list[str]()
        (work / SUBJECT).parent.mkdir(parents=True, exist_ok=True)
        for _ in range(commits):
            (work / SUBJECT).write_text(f"COMMIT = {len(made)}, {work.name!r}\n")
            git("add", "-A", root=work)
            git("commit", "-q", "-m", "a change", root=work)
            made.append(git("rev-parse", "HEAD", root=work))
        git("push", "-q", "origin", "HEAD:main", root=work)
        return made

    def may_write(self, contents: str) -> None:
        hook = self.server / "hooks" / "pre-receive"
        hook.write_text(f"#!/bin/sh\n[ {contents} = write ] || {{ echo 'HTTP 403' >&2; exit 1; }}\n")
        hook.chmod(0o755)

    def _measure(self, commits: Sequence[str], extra: Sequence[str], *args: Any) -> None:
        results, name = args[-1] / ".asv" / "results", extra[extra.index("--machine") + 1]
        (results / name).mkdir(parents=True, exist_ok=True)
        (results / "benchmarks.json").write_text('{"version": 2, "time_x": {}}')
        (results / name / "machine.json").write_text(json.dumps({"machine": name}))
        for commit in commits:
            (results / name / f"{commit[:8]}-env.json").write_text(json.dumps(result(commit)))
        self.measured += commits

    def workflow(self, run: Run, dies: Container[str] = ()) -> int:
        """All of its jobs; the last one's exit code.

        Args:
            dies: artifacts of jobs that end before they are uploaded.
        """
        assert run.starts(WORKFLOW)
        shutil.rmtree(self.artifacts, ignore_errors=True)
        self.artifacts.mkdir()
        self.measured = []
        run.results = {name: self._measuring(run, JOBS[name], dies) for name in ("cpu", "cuda")}
        return self._publishing(run, JOBS["publish"])

    def _measuring(self, run: Run, job: dict[str, Any], dies: Container[str]) -> str:
        if not run.job_runs(job):
            return "skipped"
        self.may_write(job["permissions"]["contents"])
        shards, ended = [None], "success"
        if "strategy" in job:
            shards = run.value(job["strategy"]["matrix"]["shard"].strip("${} "))
        for at, shard in enumerate(shards):
            run.of_the_job = {"matrix": {"shard": shard}, "strategy": {"job-index": at}}
            clone, (*_, step, upload) = self.clone(), job["steps"]
            assert measure.main(run.arguments(WORKFLOW, job, step), root=clone) == 0
            name = run.text(upload["with"]["name"])
            if name in dies:
                ended = "failure"
                continue
            for path in map(clone.joinpath, upload["with"]["path"].split()):
                shutil.copytree(path, self.artifacts / name / path.name)
        return ended

    def _publishing(self, run: Run, job: dict[str, Any]) -> int:
        assert run.job_runs(job)
        self.may_write(job["permissions"]["contents"])
        self.github.change(permissions=job["permissions"])
        clone, (*_, download, step) = self.clone(), job["steps"]
        (clone / ".asv" / "html").mkdir(parents=True)
        assert run.download(download, self.artifacts, clone) or download["continue-on-error"]
        self.patch.chdir(clone)
        return publish.main(run.arguments(WORKFLOW, job, step), root=clone)

    def on_branch(self, machine: str = "github-cpu") -> list[str]:
        """Commits with results of a machine on the branch, in the order of main."""
        listed = git("ls-tree", "-r", "--name-only", BRANCH, "--", f"results/{machine}/", root=self.server)
        return [each for each in self.commits if f"/{each[:8]}-env.json" in listed]

    @property
    def baseline(self) -> str | None:
        if BASELINE not in git("ls-tree", "--name-only", BRANCH, root=self.server).split():
            return None
        return str(json.loads(git("show", f"{BRANCH}:{BASELINE}", root=self.server))["commit"])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub) -> Machine:
    return Machine(tmp_path, monkeypatch, github)


def pushed() -> Run:
    return Run("push", {"repository": REPOSITORY})


def by_hand(*, commits: str = "1", shards: str = '["1/1"]', accept: bool = False, **more: Any) -> Run:
    """The inputs as the context ``inputs`` has them: a boolean is one."""
    inputs = {"commits": commits, "shards": shards, "accept": accept}
    return Run("workflow_dispatch", {"inputs": inputs, "repository": REPOSITORY}, **more)


def test_a_push_measures_its_newest_commit_and_the_night_the_others(machine: Machine) -> None:
    assert machine.workflow(pushed()) == 0
    assert machine.measured == machine.commits[-1:]
    assert machine.on_branch() == machine.commits[-1:]
    assert machine.baseline is None, "nothing was accepted"
    machine.commits += machine.push(2)
    assert machine.workflow(Run("schedule")) == 0
    newest = machine.commits[-5:]
    assert machine.measured == [each for each in newest if each != machine.commits[5]], "it has results"
    assert machine.on_branch() == newest
    assert git("ls-tree", "--name-only", publish.PAGES, root=machine.server)


def test_by_hand_a_past_is_measured_in_shares(machine: Machine) -> None:
    assert machine.workflow(by_hand(commits="6", shards='["1/2", "2/2"]')) == 0
    assert machine.measured == [*machine.commits[::2], *machine.commits[1::2]]
    assert machine.on_branch() == machine.commits


@pytest.mark.parametrize("accept", [False, True])
def test_what_became_worse_is_an_issue_until_it_is_accepted(machine: Machine, accept: bool) -> None:
    machine.regressions = (WORSE,)
    assert machine.workflow(pushed()) == 0
    ((method, where, body),) = machine.github.sent
    assert (method, where, body["labels"]) == ("POST", "repos/o/r/issues", [publish.LABEL])
    assert BASELINE not in git("ls-tree", "--name-only", BRANCH, root=machine.server)
    machine.commits += machine.push(1)
    assert machine.workflow(by_hand(accept=accept)) == 0
    (issue,) = machine.github["issues"]
    assert issue["state"] == ("closed" if accept else "open")
    assert (BASELINE in git("ls-tree", "--name-only", BRANCH, root=machine.server)) is accept


WITH_A_GPU = {"HISTORY_CUDA": "true"}


@pytest.mark.parametrize(
    ("run", "dies", "kept"),
    [
        (by_hand(commits="2", shards='["1/2", "2/2"]'), {"history-cpu-0"}, ["history-cpu-1"]),
        (by_hand(commits="2", variables=WITH_A_GPU), {"history-cpu-0"}, ["history-cuda"]),
        (by_hand(commits="2", variables=WITH_A_GPU), {"history-cuda"}, ["history-cpu-0"]),
        (by_hand(commits="2"), {"history-cpu-0"}, []),
        (by_hand(commits="2", accept=True), {"history-cpu-0"}, []),
    ],
)
def test_a_job_that_dies_before_its_upload_moves_no_baseline(
    machine: Machine, capsys: pytest.CaptureFixture[str], run: Run, dies: set[str], kept: list[str]
) -> None:
    assert machine.workflow(by_hand(accept=True)) == 0
    accepted = machine.baseline
    assert accepted == machine.commits[-1]
    machine.commits += machine.push(2)
    machine.github.with_issues({"number": 3}, label=publish.LABEL)
    assert machine.workflow(run, dies) == 2
    assert [path.name for path in machine.artifacts.iterdir()] == kept
    assert machine.baseline == accepted
    assert machine.github.sent == [], "no issue is closed"
    (died,) = (name for name, ended in run.results.items() if ended == "failure")
    assert f"publish: damaged: job {died} ended with failure" in capsys.readouterr().err
    run.results = {}
    assert machine.workflow(run) == 0, "it is run again"
    assert machine.on_branch()[-2:] == machine.commits[-2:]
    accepts = run.payload["inputs"]["accept"]
    assert machine.baseline == (machine.commits[-1] if accepts else accepted)


def test_both_machines_are_published_together(machine: Machine) -> None:
    assert machine.workflow(by_hand(commits="2", variables=WITH_A_GPU)) == 0
    assert machine.on_branch("github-cpu") == machine.on_branch("github-cuda") == machine.commits[-2:]


@pytest.mark.parametrize(("right", "refused"), [("contents", "failed to push"), ("issues", "HTTP 403")])
def test_the_last_job_needs_each_right_that_it_has(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    right: str,
    refused: str,
) -> None:
    machine.regressions = (WORSE,)
    monkeypatch.setitem(JOBS["publish"]["permissions"], right, "read")
    assert machine.workflow(pushed()) == 2
    assert refused in capsys.readouterr().err
