"""Whoever is stopped leaves nothing running, and whoever measures is alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import one_run
from benchmarks.history import measure
from benchmarks.repository import MeasurementError, git

ROOT = Path(__file__).resolve().parents[1]
# An asv that measures for ever, in a process of a session of its own, as the suite's fresh processes are.
ASV = """
import os, pathlib, signal, subprocess, sys, time
if "machine" in sys.argv:
    sys.exit()
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
started = subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
listed = next(word for word in sys.argv if word.startswith("HASHFILE:")).partition(":")[2]
files = [str(os.getpid()), str(started.pid), listed]
path = pathlib.Path(os.environ["STARTED"])
path.with_suffix(".part").write_text("\\n".join(files))
path.with_suffix(".part").replace(path)
while True:
    time.sleep(1)
"""
HISTORY = """
import sys
from pathlib import Path
from benchmarks import one_run
from benchmarks.history import measure
one_run.PATIENCE = 1.0
sys.exit(measure.main([], root=Path(sys.argv[1])))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / measure.SUBJECT).parent.mkdir(parents=True)
    (root / measure.SUBJECT).touch()
    git("init", "-q", root=root)
    git("add", "-A", root=root)
    git("commit", "-q", "-m", "a commit", root=root)
    return root


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ends(pid: int) -> bool:
    """Whether it ends within a moment; one that is killed does not do so at once."""
    for _ in range(100):
        if not is_there(pid):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_history_that_is_stopped_leaves_nothing_running(
    root: Path, tmp_path: Path, stubborn: bool, number: int
) -> None:
    (tmp_path / "asv.py").write_text(ASV)
    said = tmp_path / "started"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "src")]),
        "STARTED": str(said),
        **({"STUBBORN": "1"} if stubborn else {}),
    }
    history = subprocess.Popen(
        [sys.executable, "-c", HISTORY, str(root)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(600):
            if said.exists():
                break
            time.sleep(0.1)
        asv, child, listed = said.read_text().splitlines()
        assert is_there(int(child))
        history.send_signal(number)
        time.sleep(0.2)
        history.send_signal(signal.SIGTERM)  # as GitHub sends a second one while the first is heeded
        _, error = history.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            history.kill()
    assert history.returncode == 2
    assert error.strip() == f"history: {measure.INTERRUPTED}"
    assert [pid for pid in (asv, child) if is_there(int(pid))] == []
    assert not Path(listed).exists()
    with one_run.alone(root):
        pass


# On SIGINT it starts a process of another session, says which, and goes on.
STARTS_ANOTHER = """
import signal, subprocess, time
def start(*_):
    print(subprocess.Popen(["sleep", "600"], start_new_session=True).pid, flush=True)
signal.signal(signal.SIGINT, start)
print("ready", flush=True)
while True:
    time.sleep(1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_what_is_started_while_a_command_is_stopped_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_run, "PATIENCE", 1)
    command = [sys.executable, "-c", STARTS_ANOTHER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        one_run.stop(process)
        started = int(process.stdout.readline())
    assert ends(started)


def test_a_history_waits_for_no_gate_and_no_history(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with one_run.alone(root):
        assert measure.main([], root=root) == 2
        with (
            pytest.raises(MeasurementError, match="each would disturb the other's times"),
            one_run.alone(root),
        ):
            pass
    error = capsys.readouterr().err
    assert error.startswith("history: something is already being measured in this checkout; wait")
    assert len(error.splitlines()) == 1
