"""Request and answer: what a fresh process says, how it can fail, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.repository import ROOT, MeasurementError
from benchmarks.suite import fresh_process
from benchmarks.suite.fresh_process import AnswerError, FreshProcess
from benchmarks.suite.launch import as_request, launch
from benchmarks.suite.serving import is_the_machines
from benchmarks.suite.workloads import Case

# Answers what it is asked, after what ``do`` says.
SERVER = """
import atexit, os, subprocess, sys, time
from pathlib import Path
from benchmarks.suite.serving import serve

def answer(request):
    do = request["do"]
    print("not an answer")
    if do == "raise":
        raise ValueError("no such step")
    if do == "memory":
        raise RuntimeError("wrapped") from MemoryError("9 GiB")
    if do == "hang":
        time.sleep(3600)
    if do == "exit":
        print("Illegal instruction", file=sys.stderr, flush=True)
        os._exit(3)
    if do == "kill":
        os.kill(os.getpid(), 9)
    if do == "child":
        return {"pid": subprocess.Popen(["sleep", "3600"]).pid}
    if do == "daemon":  # in a session of its own, with the pipe that answers leave by
        if os.fork() == 0:
            os.setsid()
            time.sleep(3600)
        os._exit(0)
    if do == "close":
        os.closerange(3, 100)
        time.sleep(3600)
    if do == "long":
        return {"text": "x" * 2000}
    if do == "keep":
        atexit.register(Path(request["file"]).unlink)
    return {**request, "cache": os.environ["TORCHINDUCTOR_CACHE_DIR"]}

serve(answer)
"""


def process(cache: Path) -> FreshProcess:
    return FreshProcess("it", ("-c", SERVER), inductor_cache=cache, python_path=[ROOT])


def is_running(pid: int) -> bool:
    """Zombies apart: nobody waits for an orphan in a container without an init."""
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_it_answers_one_request_after_the_other_and_what_is_printed_is_no_answer(tmp_path: Path) -> None:
    with process(tmp_path) as asked:
        for number in range(2):
            answer = asked.ask("echo", timeout=60, number=number)
            assert answer == {"do": "echo", "number": number, "cache": str(tmp_path)}


def test_what_the_code_raises_is_an_answer_and_the_process_lives(tmp_path: Path) -> None:
    with process(tmp_path) as asked:
        with pytest.raises(AnswerError, match=r"^it failed: ValueError: no such step$"):
            asked.ask("raise", timeout=60)
        assert asked.ask("echo", timeout=60)


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("memory", "it ran out of memory or disk: RuntimeError: wrapped; free some and retry"),
        ("hang", "it gave no answer within 1 s and was stopped; does it hang"),
        ("exit", "it's worker ended with exit code 3: Illegal instruction"),
        ("kill", r"it's worker was killed; out of memory\? \(not an answer\)"),
    ],
)
def test_a_process_that_fails_says_why_in_one_line(do: str, said: str, tmp_path: Path) -> None:
    with process(tmp_path) as asked:
        asked.ask("echo", timeout=60)  # it has started
        with pytest.raises(MeasurementError, match=said) as error:
            asked.ask(do, timeout=1 if do == "hang" else 60)
        assert not isinstance(error.value, AnswerError)


def started_by(asked: FreshProcess) -> list[str]:
    """Processes that carry its mark."""
    found = []
    for process_ in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if asked._mark.encode() in (process_ / "environ").read_bytes():
                found.append(process_.name)
    return found


@pytest.mark.timeout(60)
def test_a_grandchild_that_holds_the_pipe_does_not_outlast_the_limit(tmp_path: Path) -> None:
    with process(tmp_path) as asked:
        asked.ask("echo", timeout=60)
        with pytest.raises(MeasurementError, match="no answer within 1 s"):
            asked.ask("daemon", timeout=1)
        assert len(started_by(asked)) == 1, "it left the group, so it is not killed with it"
    assert started_by(asked) == []


@pytest.mark.timeout(60)
def test_one_that_closes_its_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh_process, "CLOSING_SECONDS", 0.5)
    with (
        process(tmp_path) as asked,
        pytest.raises(MeasurementError, match="closed its answers and did not end"),
    ):
        asked.ask("close", timeout=60)


def test_an_answer_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process, "LARGEST_ANSWER", 1000)
    with (
        process(tmp_path) as asked,
        pytest.raises(MeasurementError, match=r"malformed answer .longer than 1,000 bytes"),
    ):
        asked.ask("long", timeout=60)


@pytest.mark.timeout(60)
def test_one_that_another_thread_stops_is_waited_for_no_longer(tmp_path: Path) -> None:
    with process(tmp_path) as asked:
        asked.ask("echo", timeout=60)
        asked.send("daemon")
        stop = threading.Timer(1, asked.kill)
        stop.start()
        with pytest.raises(MeasurementError):
            asked.receive(3600)
        stop.join()


def test_one_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"it: no worker could be started: .*nowhere"):
        FreshProcess("it", (), inductor_cache=tmp_path, python_path=[], python=str(tmp_path / "nowhere"))


def test_its_children_go_with_it(tmp_path: Path) -> None:
    with process(tmp_path) as asked:
        child = asked.ask("child", timeout=60)["pid"]
        assert is_running(child)
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def test_one_that_may_finish_removes_what_it_keeps_until_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    kept.touch()
    with process(tmp_path) as asked:
        asked.ask("keep", timeout=60, file=str(kept))
        asked.finish()
        assert not kept.exists()
    monkeypatch.setattr(fresh_process, "END_SECONDS", 0.1)
    with process(tmp_path) as asked:
        asked.send("hang")
        asked.finish()
    assert not is_running(asked._process.pid), "and one that does not end is killed"


def test_a_launch_names_its_cases_where_it_fails(tmp_path: Path) -> None:
    case = Case("tiny", "inference", "eager")
    with pytest.raises(AnswerError, match="launch of tiny-inference-eager-fp32-cpu failed: KeyError: 'walk'"):
        launch(as_request("walk", [case]), inductor_cache=tmp_path, timeout=300)


def test_what_is_the_machines_doing_and_what_the_codes() -> None:
    def wrapped(cause: BaseException) -> BaseException:
        error = RuntimeError("backend='inductor' raised")
        error.__cause__ = cause
        return error

    for cause in (
        MemoryError(),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        RuntimeError("g++: fatal error: Killed signal terminated program cc1plus"),
    ):
        assert is_the_machines(cause)
        assert is_the_machines(wrapped(cause))
    for mistake in (ValueError("shapes"), FileNotFoundError(errno.ENOENT, "no such file"), TypeError()):
        assert not is_the_machines(wrapped(mistake)), "a mistake in head is a regression"


@pytest.mark.parametrize(
    "ends",
    [
        "from benchmarks.suite.serving import serve; serve(print)",
        "from benchmarks.command import exit_code; exit_code('x', lambda: 0)",
    ],
    ids=["an answering process", "a command"],
)
def test_the_end_is_not_spent_on_garbage(ends: str) -> None:
    """With torch and LeRobot imported Python looks through 400,000 objects there, for 1.3 s."""
    script = f"""
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 0, file=sys.stderr))
{ends}
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "True"
