"""A side's own environment: what it holds, how long it stays, and that nothing of an installation goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from benchmarks.gate import environments
from benchmarks.gate.environments import python_for
from benchmarks.gate.sides import Side, Source
from benchmarks.repository import ROOT, MeasurementError

from ..test_one_run import ends
from .conftest import PYPROJECT

SIDE = Side(Source("head", "HEAD", "a" * 40, False, "head", ""), Path(), {}, ("another",))
# An installation that starts a build, says which, and does not end.
UV = """
import os, pathlib, subprocess, sys, time
build = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path(os.environ["STARTED"]).write_text(str(build.pid))
time.sleep(600)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path


def test_an_environment_stays_and_knows_when_it_was_used_last(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, tuple[str, ...]]] = []

    def uv(_: Side, what: str, *rest: str) -> None:
        made.append((what, rest))
        if what == "venv":
            Path(rest[-1]).mkdir(parents=True)

    monkeypatch.setattr(environments, "_uv", uv)
    python = python_for(SIDE, root, print)
    (complete,) = root.glob(".gate/environments/*/complete")
    assert complete.parent in Path(python).parents
    os.utime(complete, (1, 1))
    assert python_for(SIDE, root, print) == python
    assert [what for what, _ in made] == ["venv", "pip"]
    installed = (*SIDE.dependencies, *environments.RULER)
    assert made[1][1][-len(installed) :] == installed
    assert time.time() - complete.stat().st_mtime < 60, "or `prune` would take it for an old one"


def test_it_holds_what_a_worker_imports() -> None:
    code = "import sys; before = set(sys.modules); import benchmarks.gate.worker; "
    code += "print(*({name.partition('.')[0] for name in {*sys.modules} - before} - sys.stdlib_module_names))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    needed = {Requirement(line).name for line in environments.RULER}
    assert {"benchmarks", "packaging"} <= {*done.stdout.split()} <= {"benchmarks", *needed}


def test_why_it_does_not_install_may_be_of_any_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "uv.py").write_text("import sys; sys.stderr.buffer.write(b'caf\\xe9'); sys.exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(root))
    with pytest.raises(MeasurementError, match=r"^head: its dependencies do not install: caf\ufffd$"):
        python_for(SIDE, root, print)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_an_installation_that_takes_too_long_ends_with_all_it_started(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = root / "started"

    def takes_too_long(_: Any, timeout: float) -> None:
        while not (started.exists() and started.read_text()):
            time.sleep(0.05)
        raise subprocess.TimeoutExpired("uv", timeout)

    (root / "uv.py").write_text(UV)
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("STARTED", str(started))
    monkeypatch.setattr(subprocess.Popen, "communicate", takes_too_long)
    with pytest.raises(MeasurementError, match=r"^head: its dependencies did not install within 1800 s$"):
        python_for(SIDE, root, print)
    assert ends(int(started.read_text()))
