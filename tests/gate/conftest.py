"""A throw-away repository whose subject says how it behaves, and the gate run on it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gate import run as gate_run
from benchmarks.repository import PACKAGE

FAKE = (str(Path(__file__).with_name("fake_worker.py")),)
RULER = Path(__file__).resolve().parents[2]
PYPROJECT = '[project]\nname = "subject"\nversion = "1"\ndependencies = ["torch"]\n'


@dataclass
class Repository:
    """A git repository with a subject in it."""

    root: Path
    edits: int = 0

    def git(self, *args: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *identity, *args], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, **behaviour: Any) -> None:
        """Make the subject behave so, without a commit; other code than before even if it does the same."""
        self.edits += 1
        file = self.root / PACKAGE / "__init__.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"nan = float('nan')\nBEHAVIOUR = {behaviour!r}\nEDIT = {self.edits}\n")

    def commit(self, message: str = "a change", **behaviour: Any) -> str:
        self.write(**behaviour)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def left_behind(self) -> set[str]:
        """What a gate left in the checkout, its caches and its report apart."""
        found = {path.name for path in (self.root / ".gate").glob("*")}
        worktrees = self.git("worktree", "list").splitlines()
        return found - {"lock", "report", "inductor", "answers"} | set(worktrees[1:])


def workers_alive(repository: Repository) -> list[str]:
    """Processes that run a side of this repository, zombies apart."""
    mark = str(repository.root)
    alive = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in environment and process.name != str(os.getpid()):
            alive.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return alive


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """On branch ``work``, one commit after main; both are the same subject."""
    repository = Repository(tmp_path / "checkout")
    repository.root.mkdir()
    repository.git("init", "-q", "-b", "main")
    (repository.root / "pyproject.toml").write_text(PYPROJECT)
    (repository.root / ".gitignore").write_text(".gate/\n__pycache__/\n")
    repository.commit("first")
    repository.git("checkout", "-q", "-b", "work")
    return repository


@dataclass
class Run:
    """What a gate did."""

    code: int
    report: dict[str, Any]
    markdown: str
    said: str

    @property
    def asked(self) -> list[str]:
        """Requests that the run sent in the exact tiers."""
        return sorted(
            line.partition("left] ")[2]
            for line in self.said.splitlines()
            if " pusht-" in line or " tiny " in line
        )


@pytest.fixture
def run_gate(repository: Repository, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run the gate on the repository, with workers that need no torch."""

    def run(*args: str, named: bool = True) -> Run:
        named = named and "--workloads" not in args
        argv = ["--workloads", "pusht-inference", *args] if named else list(args)
        code = gate_run.main(argv, root=repository.root, command=FAKE)
        captured = capsys.readouterr()
        report = repository.root / ".gate" / "report" / "report.json"
        found = json.loads(report.read_text()) if report.exists() else {}
        markdown = report.with_suffix(".md").read_text() if report.exists() else ""
        return Run(code, found, markdown, captured.out + captured.err)

    return run
