"""What goes wrong in ``test_thirty_faults``: each breaks one part of a repository, a worker or the gate."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from benchmarks.gate import run as gate_run
from benchmarks.repository import PACKAGE

from .conftest import FAKE, Repository

Patch = pytest.MonkeyPatch
Arrange = Callable[[Repository, Patch], Any]


def head(message: str = "head", **behaviour: Any) -> Arrange:
    return lambda repository, _: repository.commit(message, **behaviour) and None


def base(**behaviour: Any) -> Arrange:
    def arrange(repository: Repository, _: Patch) -> None:
        repository.git("checkout", "-q", "main")
        repository.commit("base", **behaviour)
        repository.git("checkout", "-q", "-B", "work")
        repository.commit("head")

    return arrange


def hung(module: Any, name: str, **behaviour: Any) -> Arrange:
    def arrange(repository: Repository, patch: Patch) -> None:
        patch.setattr(module, name, 1.0)
        repository.commit("head", **behaviour)

    return arrange


def raising(error: BaseException, module: Any, name: str) -> Arrange:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    return lambda _, patch: patch.setattr(module, name, fails)


def full(module: Any, name: str) -> Arrange:
    return raising(OSError(errno.ENOSPC, "No space left on device"), module, name)


def no_main(repository: Repository, _: Patch) -> None:
    repository.git("branch", "-q", "-D", "main")


def shallow(repository: Repository, _: Patch) -> None:
    """As actions/checkout leaves it: one commit, and no main."""
    repository.git("branch", "-q", "-D", "main")
    (repository.root / ".git" / "shallow").write_text(repository.git("rev-parse", "HEAD") + "\n")


def shallow_with_main(repository: Repository, _: Patch) -> None:
    tips = repository.git("rev-parse", "HEAD", "main")
    (repository.root / ".git" / "shallow").write_text(tips + "\n")


def on_main(repository: Repository, _: Patch) -> None:
    repository.git("checkout", "-q", "-B", "main")


def on_mains_first_commit(repository: Repository, _: Patch) -> None:
    repository.git("checkout", "-q", "main")


def latin_1_subject(repository: Repository, _: Patch) -> None:
    repository.write()
    repository.git("add", "-A")
    tree = repository.git("write-tree")
    head_, who = repository.git("rev-parse", "HEAD"), b"t <t@example.org> 1700000000 +0000"
    text = b"tree %b\nparent %b\nauthor %b\ncommitter %b\n\nd\xe9j\xe0 vu\n" % (
        tree.encode(),
        head_.encode(),
        who,
        who,
    )
    made = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin"],
        cwd=repository.root,
        input=text,
        capture_output=True,
        check=True,
    )
    repository.git("reset", "-q", "--hard", made.stdout.decode().strip())


def file_names(repository: Repository, _: Patch) -> None:
    package = repository.root / PACKAGE
    (package / "données.json").write_text("{}")
    (package / os.fsdecode(b"caf\xe9.txt")).write_text("not UTF-8")
    benchmarks = repository.root / "benchmarks"
    benchmarks.mkdir()
    (benchmarks / "règle.py").write_text("")
    repository.commit("names")


def bad_project(repository: Repository, _: Patch) -> None:
    (repository.root / "pyproject.toml").write_text("[project\n")
    repository.commit("no TOML")


def odd_project(repository: Repository, _: Patch) -> None:
    (repository.root / "pyproject.toml").write_text("[project]\ndependencies = 5\n")
    repository.commit("no list")


def no_subject(repository: Repository, _: Patch) -> None:
    repository.git("rm", "-rq", "src")
    repository.git("commit", "-q", "-m", "no subject")


def a_file_for_a_directory(repository: Repository, _: Patch) -> None:
    (repository.root / ".gate").write_text("")


def a_directory_for_the_lock(repository: Repository, _: Patch) -> None:
    (repository.root / ".gate" / "lock").mkdir(parents=True)


def old_report(repository: Repository, _: Patch) -> None:
    repository.commit("head")
    directory = repository.root / ".gate" / "report"
    directory.mkdir(parents=True)
    (directory / "report.md").write_text("**No regression**")
    (directory / "report.json").write_text('{"exit_code": 0, "headline": "No regression"}')


def locked(repository: Repository, patch: Patch) -> None:
    (repository.root / ".gate").mkdir()
    lock = FileLock(repository.root / ".gate" / "lock")
    lock.acquire()
    patch.setattr(repository, "lock", lock, raising=False)


def kept(content: Callable[[Path], Any]) -> Arrange:
    """A first run keeps answers; then something else lies in the place of each file of them."""

    def arrange(repository: Repository, _: Patch) -> None:
        gate_run.main(["--workloads", "pusht-inference", "--no-times"], root=repository.root, command=FAKE)
        for path in (repository.root / ".gate" / "answers").iterdir():
            path.unlink()
            content(path)
        repository.commit("head", counts={"kernels": 91})

    return arrange


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")
