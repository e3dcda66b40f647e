"""The gate's workflows from an event to the comment: events as GitHub sends them, on real git."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gate import comment
from benchmarks.gate import run as gate_run

from .. import github_api
from ..github_api import HEAD, REPOSITORY, GitHub, pull, workflow_run
from ..workflows.github_actions import WORKFLOWS, Run
from .conftest import FAKE, Repository


def of_pull_request(action: str, sha: str = HEAD, **more: Any) -> Run:
    """An event of a fork's pull request; the commit is that of GitHub's merge, not the head."""
    fork = {"id": 2, "full_name": "stranger/r"}
    content = {"number": 7, "head": {"sha": sha, "ref": "patch-1", "repo": fork}}
    payload = {"action": action, "pull_request": content, "repository": REPOSITORY, **more}
    return Run("pull_request", payload, ref="refs/pull/7/merge", sha="e" * 40)


def by_hand(commit: str, ref: str = "refs/heads/main", **more: Any) -> Run:
    payload = {"inputs": {"commit": commit}, "repository": REPOSITORY, "ref": ref}
    return Run("workflow_dispatch", payload, ref=ref, **more)


def after(sha: str, conclusion: str, event: str = "pull_request") -> Run:
    """The event that follows a run of gate.yml."""
    return Run("workflow_run", workflow_run(sha, conclusion=conclusion, event=event))


UNTIMED = ("--workloads", "pusht-inference", "--no-times")


class Machine:
    """Runs the steps of a job: artifacts as the pinned action lays them out, the session's own function."""

    def __init__(self, repository: Repository, place: Path, github: GitHub) -> None:
        self.repository, self.place, self.github = repository, place, github
        self.artifacts = place / "artifacts-of-the-run"

    def gate(self, run: Run, workflow: str, job: str) -> int:
        """The gate's job; its exit code, and its artifact where it made a report."""
        content = WORKFLOWS[workflow]["jobs"][job]
        assert run.job_runs(content)
        shutil.rmtree(self.artifacts, ignore_errors=True)
        self.artifacts.mkdir(parents=True)
        workspace, code = self.repository.root, 0
        run.of_the_job["runner"] = {"temp": tempfile.mkdtemp(dir=self.place)}
        for step in content["steps"]:
            if not run.value(step.get("if", "success()")):
                continue
            if "run" in step and "nox" in step["run"]:
                given = run.arguments(WORKFLOWS[workflow], content, step)
                arguments = ["cpu" if each == "cuda" else each for each in given]  # no GPU here
                arguments += ["--workloads", "pusht-inference"]
                code = gate_run.main(arguments, root=workspace, command=FAKE)
            elif "run" in step:
                environment = run.environment(WORKFLOWS[workflow], content, step)
                subprocess.run(["bash", "-ec", step["run"]], cwd=workspace, env=environment, check=True)
            elif "upload-artifact" in step.get("uses", ""):
                report = workspace / run.text(step["with"]["path"])  # an absolute path stays what it is
                if any(report.glob("*")):
                    shutil.copytree(report, self.artifacts / run.text(step["with"]["name"]))
        return code

    def comment(self, run: Run, workflow: str) -> bool:
        """The job that comments; whether it ran."""
        content = WORKFLOWS[workflow]["jobs"]["comment"]
        if not run.job_runs(content):
            return False
        shutil.rmtree(self.place / "workspace", ignore_errors=True)
        workspace = self.place / "workspace"
        workspace.mkdir(parents=True)
        self.github.change(permissions=content["permissions"], calls=[])
        self.github.happens(run.payload)
        for step in content["steps"]:
            if "download-artifact" in step.get("uses", ""):
                assert run.download(step, self.artifacts, workspace) or step["continue-on-error"]
            elif "run" in step and "--install-only" not in step["run"]:
                directory, *options = run.arguments(WORKFLOWS[workflow], content, step)
                assert comment.main([str(workspace / directory), *options]) == 0
        return True


@pytest.fixture
def machine(
    repository: Repository, tmp_path: Path, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    monkeypatch.chdir(repository.root)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return Machine(repository, tmp_path / "machine", github)


def test_a_forks_pull_request_that_is_slower_and_then_mended(
    machine: Machine, github: GitHub, tmp_path: Path
) -> None:
    machine.repository.commit(seconds=0.11, counts={"kernels": 99})
    opened = of_pull_request("opened")
    assert opened.jobs()["gate"] == ["cpu"]
    assert machine.gate(opened, "gate", "cpu") == 1
    assert machine.comment(after(HEAD, "failure"), "comment")
    (text,) = github.comments()
    assert text.startswith("**Regression: 2 of 3 cases slower")
    assert "Inductor kernels 90 → 99" in text
    summary = (tmp_path / "summary.md").read_text()
    assert summary.splitlines()[0] == text.splitlines()[0], "the job's page says the same"

    machine.repository.commit()
    github.change(pulls=[pull(7, "d" * 40)])
    assert machine.gate(of_pull_request("synchronize", "d" * 40), "gate", "cpu") == 0
    assert machine.comment(after("d" * 40, "success"), "comment")
    (text,) = github.comments()
    assert text.startswith("**No regression: of 3 cases 3 same**"), "one comment, brought up to date"


def test_a_pull_request_that_cannot_be_measured(machine: Machine, github: GitHub, tmp_path: Path) -> None:
    machine.repository.commit(fails={"hello": "No module named 'gone'"})
    assert machine.gate(of_pull_request("opened"), "gate", "cpu") == 2
    assert list(machine.artifacts.iterdir()) == []
    said = (tmp_path / "summary.md").read_text()
    assert said == "Could not measure: head failed: RuntimeError: No module named 'gone'\n"
    assert machine.comment(after(HEAD, "failure"), "comment")
    assert github.comments()[0].startswith("**Could not measure**")


@pytest.mark.parametrize("installs", [True, False])
def test_a_report_in_a_pull_requests_own_files_is_nobodys_verdict(
    machine: Machine, github: GitHub, monkeypatch: pytest.MonkeyPatch, installs: bool
) -> None:
    repository = machine.repository
    repository.commit()
    for place in ("report", ".gate/report"):
        arguments = [*UNTIMED, "--report", str(repository.root / place)]
        assert gate_run.main(arguments, root=repository.root, command=FAKE) == 0
    repository.git("add", "-Af", "report", ".gate/report")
    repository.commit(fails={"hello": "No module named 'gone'"})
    if not installs:  # its packages do not install, so no gate runs that could remove a report
        monkeypatch.setattr(gate_run, "main", lambda *_, **__: 2)
    assert machine.gate(of_pull_request("opened"), "gate", "cpu") == 2
    assert list(machine.artifacts.iterdir()) == []
    assert machine.comment(after(HEAD, "failure"), "comment")
    assert github.comments()[0].startswith("**Could not measure**: the gate ended without a report")


@pytest.mark.parametrize("action", ["labeled", "unlabeled", "edited", "closed", "assigned"])
@pytest.mark.parametrize("label", ["gate-cuda", "cpu"])
def test_a_label_starts_nothing(action: str, label: str) -> None:
    """GitHub counts a skipped job as a success: it would turn a red check green."""
    assert of_pull_request(action, label={"name": label}).jobs() == {}


@pytest.mark.parametrize("conclusion", ["skipped", "cancelled", "neutral", "stale", "action_required", None])
def test_what_measured_nothing_replaces_no_report(machine: Machine, github: GitHub, conclusion: Any) -> None:
    assert not machine.comment(after(HEAD, conclusion), "comment")
    assert github.calls == []


def test_a_report_of_an_older_attempt_is_not_shown_again(machine: Machine, github: GitHub) -> None:
    machine.repository.commit()
    assert machine.gate(of_pull_request("opened"), "gate", "cpu") == 0
    again = after(HEAD, "failure")
    again.payload["workflow_run"]["run_attempt"] = 2
    assert machine.comment(again, "comment")
    assert github.comments()[0].startswith("**Could not measure**")


def test_three_commits_pushed_to_main_are_measured_as_one_and_not_commented(
    machine: Machine, github: GitHub
) -> None:
    machine.repository.git("checkout", "-q", "main")
    before = machine.repository.git("rev-parse", "HEAD")
    for _ in range(3):  # the first is slower, and the last no slower than its parent
        machine.repository.commit(seconds=0.11)
    pushed = Run("push", {"before": before, "commits": [{}] * 3, "repository": REPOSITORY})
    assert pushed.jobs()["gate"] == ["cpu"]
    assert "release" not in pushed.jobs(), "only a tag starts it"
    assert machine.gate(pushed, "gate", "cpu") == 1
    assert not machine.comment(after("a" * 40, "failure", event="push"), "comment")
    assert github.calls == []
    assert "gate" not in Run("push", {"repository": REPOSITORY}, ref="refs/heads/work").jobs()


def test_a_tag_starts_a_release_and_nothing_else() -> None:
    assert Run("push", {"repository": REPOSITORY}, ref="refs/tags/v0.1.0").jobs() == {"release": ["package"]}
    assert Run("push", {"repository": REPOSITORY}, ref="refs/tags/nightly").jobs() == {}


@pytest.mark.parametrize(("kept", "code"), [(True, 1), (False, 2)])
def test_a_force_push_to_main_is_compared_with_the_commit_that_it_removed(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, code: int
) -> None:
    """No branch has it, so the clone lacks it; the server gives it by its SHA as long as it keeps it."""
    repository, origin = machine.repository, tmp_path / "origin"
    repository.git("checkout", "-q", "main")
    first, removed = repository.git("rev-parse", "HEAD"), repository.commit()
    repository.git("clone", "-q", "--bare", ".", str(origin))
    repository.git("reset", "-q", "--hard", first)
    repository.commit(seconds=0.11)
    repository.git("push", "-q", "--force", str(origin), "main")
    if not kept:
        repository.git("-C", str(origin), "gc", "-q", "--prune=now")
    machine.repository = Repository(tmp_path / "clone")
    repository.git("clone", "-q", origin.as_uri(), str(machine.repository.root))
    monkeypatch.chdir(machine.repository.root)
    pushed = Run("push", {"before": removed, "forced": True, "repository": REPOSITORY})
    assert machine.gate(pushed, "gate", "cpu") == code


def test_a_later_push_to_a_pull_request_is_still_compared_with_main(machine: Machine) -> None:
    """GitHub names the commit before it too, which was slower already."""
    before = machine.repository.commit(seconds=0.11)
    machine.repository.commit(seconds=0.11)
    assert machine.gate(of_pull_request("synchronize", before=before), "gate", "cpu") == 1


def test_a_force_push_takes_the_place_of_what_runs_and_the_old_commit_is_silent(
    machine: Machine, github: GitHub
) -> None:
    first, forced = of_pull_request("opened"), of_pull_request("synchronize", "d" * 40)
    assert first.group("gate") == forced.group("gate")
    github.change(pulls=[pull(7, "d" * 40)])
    assert machine.comment(after(HEAD, "success"), "comment"), "it had ended before the push"
    assert github.comments() == []


def test_a_gpu_is_started_by_hand_and_has_its_own_comment_and_status(
    machine: Machine, github: GitHub
) -> None:
    machine.repository.commit()
    assert machine.gate(of_pull_request("opened"), "gate", "cpu") == 0
    assert machine.comment(after(HEAD, "success"), "comment")
    machine.repository.commit(seconds=0.11)
    run = by_hand(HEAD)
    assert run.jobs()["gate-cuda"] == ["cuda"]
    assert machine.gate(run, "gate-cuda", "cuda") == 1
    run.results["cuda"] = "failure"
    assert machine.comment(run, "gate-cuda")
    of_cpu, of_cuda = github.comments()
    assert of_cpu.startswith("**No regression")
    assert of_cuda.startswith("**Regression")
    assert github["statuses"] == {HEAD: "failure"}


def test_no_kind_of_measurement_cancels_another() -> None:
    """Of one commit, as a pull request's head, at main, by hand, and where its report is shown."""
    pushed = Run("push", {"repository": REPOSITORY}, sha=HEAD)
    runs = {"gate": of_pull_request("opened"), "gate-cuda": by_hand(HEAD), "comment": after(HEAD, "success")}
    groups = {pushed.group("gate"), *(run.group(workflow) for workflow, run in runs.items())}
    groups |= {WORKFLOWS[name]["concurrency"]["group"] for name in ("history", "upstream")}
    assert len(groups) == 6
    assert pushed.group("tests") not in groups


@pytest.mark.parametrize("result", ["skipped", "cancelled"])
def test_a_gpu_that_measured_nothing_leaves_no_comment(machine: Machine, github: GitHub, result: str) -> None:
    run = by_hand(HEAD)
    run.results["cuda"] = result
    assert not machine.comment(run, "gate-cuda")
    assert github.calls == []


def test_what_is_started_by_hand_runs_at_main_only() -> None:
    """A branch's own file may say otherwise; the runner group and the environment do not listen to it."""
    jobs = by_hand(HEAD, ref="refs/heads/work").jobs()
    assert jobs == {"gate-cuda": [], "history": [], "upstream": [], "zizmor": []}


@pytest.mark.parametrize(
    ("commit", "taken"),
    [
        (HEAD, True),
        ("main", False),
        (HEAD[:39], False),
        (HEAD + "0", False),
        (HEAD + "\n", False),
        (HEAD.upper(), False),
        ("$(touch owned)" + HEAD[:26], False),
        ("refs/pull/7/head", False),
        ("", False),
    ],
)
def test_a_gpu_is_given_a_commit_and_nothing_else(tmp_path: Path, commit: str, taken: bool) -> None:
    """Before anything is checked out, in the shell that GitHub takes: ``bash -e FILE``."""
    run, step = by_hand(commit), WORKFLOWS["gate-cuda"]["jobs"]["cuda"]["steps"][0]
    script = tmp_path / "step.sh"
    script.write_text(step["run"])
    variables = {**os.environ, **{name: run.text(value) for name, value in step["env"].items()}}
    done = subprocess.run(["bash", "-e", str(script)], cwd=tmp_path, env=variables, check=False)
    assert (done.returncode == 0) is taken
    assert [path.name for path in tmp_path.iterdir()] == ["step.sh"]


def test_the_recorder_refuses_what_github_refuses(machine: Machine, github: GitHub) -> None:
    """A job with too few rights must not look as if it had worked."""
    github.holds(permissions={"contents": "read"})
    assert comment.main([str(machine.place)]) == 2
    github.happens({"inputs": {"commit": HEAD}, "repository": REPOSITORY})
    github.holds(permissions={"pull-requests": "write"})
    assert comment.main([str(machine.place), "--device", "cuda", "--status", "success"]) == 2
    assert github["statuses"] == {}
    assert github_api.GH.count("refuse(") > 5
