"""A pull request from its first commit to the comment: what the workflows' jobs do, on real git."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.gate import comment
from benchmarks.gate import run as gate_run

from .conftest import FAKE, GitHub, Repository

WORKFLOWS = Path(__file__).resolve().parents[2] / ".github" / "workflows"


def arguments(workflow: str, job: str) -> list[str]:
    """What the job's command gives to its nox session."""
    steps: list[dict[str, Any]] = yaml.safe_load((WORKFLOWS / f"{workflow}.yml").read_text())["jobs"][job][
        "steps"
    ]
    (command,) = [step["run"] for step in steps if "run" in step]
    words = shlex.split(os.path.expandvars(command))
    return words[words.index("--") + 1 :]


class PullRequest:
    """The jobs of gate.yml and comment.yml, one after the other, as GitHub would run them."""

    def __init__(self, repository: Repository, artifacts: Path, github: GitHub) -> None:
        self.repository, self.artifacts, self.github = repository, artifacts, github

    def push(self, **behaviour: Any) -> int:
        """A commit on the branch, then both workflows; the gate's exit code."""
        self.repository.commit(**behaviour)
        shutil.rmtree("report", ignore_errors=True)  # each job has a fresh checkout
        only = ["--workloads", "pusht-inference"]
        code = gate_run.main([*arguments("gate", "cpu"), *only], root=self.repository.root, command=FAKE)
        shutil.rmtree(self.artifacts, ignore_errors=True)
        self.artifacts.mkdir()
        if Path("report").exists():
            shutil.copytree("report", self.artifacts / "gate-cpu")
        assert arguments("comment", "comment") == [self.artifacts.name]
        assert comment.main([str(self.artifacts)]) == 0
        return code

    @property
    def sent(self) -> tuple[str, str]:
        """How the last comment was sent, and its text."""
        call = self.github.calls[-1]
        return call["arguments"][1], call["body"]["body"]


@pytest.fixture
def pull_request(
    repository: Repository, tmp_path: Path, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> PullRequest:
    monkeypatch.chdir(repository.root)
    monkeypatch.setenv("UNDECIDED", "fail")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return PullRequest(repository, tmp_path / "artifacts", github)


def test_a_pull_request_that_is_slower_and_then_mended(
    pull_request: PullRequest, github: GitHub, tmp_path: Path
) -> None:
    github.answers()
    assert pull_request.push(seconds=0.11, counts={"kernels": 99}) == 1
    how, text = pull_request.sent
    assert how == "POST"
    assert text.startswith("**Regression: 2 of 3 cases slower")
    assert "Inductor kernels 90 → 99" in text
    summary = (tmp_path / "summary.md").read_text()
    assert summary.splitlines()[0] == text.splitlines()[0], "the job's page says the same"

    bot = {"id": 5, "user": {"login": "github-actions[bot]"}, "body": text}
    github.answers(comments=[bot])
    assert pull_request.push() == 0
    how, text = pull_request.sent
    assert how == "PATCH", "one comment, brought up to date"
    assert text.startswith("**No regression: of 3 cases 3 same**")


def test_a_pull_request_that_cannot_be_measured(pull_request: PullRequest, github: GitHub) -> None:
    github.answers()
    assert pull_request.push(fails={"hello": "No module named 'gone'"}) == 2
    assert pull_request.sent[1].startswith("**Could not measure**")
