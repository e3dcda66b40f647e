"""Bad input and faults: one line that names the side and the remedy, exit code 2, nothing left behind."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.gate import channel, environments, exact_tiers, pairing, report, sides
from benchmarks.gate import run as gate_run
from benchmarks.gate.workplace import workplace
from benchmarks.one_run import sigterm_interrupts
from benchmarks.repository import PACKAGE, MeasurementError

from .conftest import FAKE, RULER, Repository, Run, workers_alive

Gate = Callable[..., Run]


def assert_could_not_measure(done: Run, repository: Repository, pattern: str) -> None:
    assert done.code == 2
    lines = [line for line in done.said.splitlines() if line.startswith("gate: ")]
    assert len(lines) == 1
    assert re.search(pattern, lines[0]), lines[0]
    assert "Traceback" not in done.said
    assert done.report == {}
    assert repository.left_behind() == set()
    assert workers_alive(repository) == []


def test_an_unknown_ref(repository: Repository, run_gate: Gate) -> None:
    for side in ("base", "head"):
        done = run_gate(f"--{side}", "nowhere")
        assert_could_not_measure(done, repository, rf"{side} 'nowhere' is no commit .* fetch it")


def test_a_ref_that_looks_like_an_option(repository: Repository, run_gate: Gate) -> None:
    assert_could_not_measure(run_gate("--base=--all"), repository, "base '--all' is no commit")


def test_a_ref_without_the_subject(repository: Repository, run_gate: Gate) -> None:
    repository.git("checkout", "-q", "--orphan", "before")
    repository.git("rm", "-rq", "--cached", "src")
    repository.git("commit", "-q", "-m", "no subject yet")
    repository.git("checkout", "-q", "-f", "work")
    done = run_gate("--base", "before")
    assert_could_not_measure(
        done, repository, "base .* has no src/lerobot_policy_act_compiled; choose a later"
    )


def test_main_without_a_parent_has_no_base(repository: Repository, run_gate: Gate) -> None:
    repository.git("checkout", "-q", "main")
    assert_could_not_measure(run_gate(), repository, "has no parent commit here.*name one by --base")


def test_unknown_cases_and_none(repository: Repository, run_gate: Gate) -> None:
    repository.commit()
    for name, said in (
        ("walking", "unknown workload 'walking'; choose one of aloha"),
        ("pusht-x", "unknown phase 'x'"),
    ):
        assert_could_not_measure(run_gate("--workloads", name), repository, said)


@pytest.mark.parametrize("effect", ["0%", "-3%", "300%"])
def test_an_effect_that_makes_no_sense(repository: Repository, run_gate: Gate, effect: str) -> None:
    assert_could_not_measure(run_gate(f"--min-effect={effect}"), repository, "minimum effect of")


def test_a_device_that_is_not_there(repository: Repository, run_gate: Gate) -> None:
    repository.commit()
    done = run_gate("--device", "cuda")
    assert_could_not_measure(done, repository, "--device cuda was asked for and torch sees none")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit", "worker ended with exit code 3: Illegal instruction"),
        ("kill", "worker was killed; out of memory"),
        ("hang", r"gave no answer within [12] s"),
        ("memory", "ran out of memory or disk"),
    ],
)
@pytest.mark.parametrize("side", ["base", "head", "both"])
@pytest.mark.parametrize("request_", ["hello", "counts", "sample"])
def test_a_worker_that_fails(
    repository: Repository,
    run_gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
    request_: str,
    how: str,
    said: str,
) -> None:
    if how == "hang":  # enough for the other side, on a busy machine too; to start takes longest
        module, name, seconds = {
            "hello": (channel, "START_SECONDS", 2.0),
            "counts": (exact_tiers, "TIMEOUT", 1.0),
            "sample": (pairing, "STEP_TIMEOUT", 1.0),
        }[request_]
        monkeypatch.setattr(module, name, seconds)
    fails: dict[str, Any] = {"fails": {request_: how}}
    for name in ("base", "head"):
        repository.commit("one side", **(fails if side in (name, "both") else {}))
    done = run_gate("--base", "HEAD^")
    assert_could_not_measure(done, repository, ("base|head" if side == "both" else side) + ".*" + said)


@pytest.mark.timeout(60)  # the limit of one answer is 900 s
@pytest.mark.parametrize("lost", ["base", "head"])
def test_a_side_that_is_lost_is_not_waited_for_by_the_other(
    repository: Repository, run_gate: Gate, lost: str
) -> None:
    for name in ("base", "head"):
        repository.commit(name, fails={"counts": "kill"} if name == lost else {"learning": "hang"})
    assert_could_not_measure(run_gate("--base", "HEAD^"), repository, f"{lost}'s worker was killed")


def test_a_base_that_does_not_import(repository: Repository, run_gate: Gate) -> None:
    broken = repository.commit(fails={"hello": "No module named 'gone'"})
    repository.commit()
    done = run_gate("--base", broken)
    assert_could_not_measure(done, repository, "base failed: RuntimeError: No module named 'gone'")


def test_a_base_whose_step_raises(repository: Repository, run_gate: Gate) -> None:
    broken = repository.commit(fails={"outputs": "shape mismatch"})
    repository.commit()
    done = run_gate("--base", broken)
    assert_could_not_measure(done, repository, "base failed.*shape mismatch.*choose another base")


def test_a_base_that_does_not_install(
    repository: Repository, run_gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = repository.root / "pyproject.toml"
    before = project.read_text()
    project.write_text(before.replace("torch", "torch-that-nobody-published==99"))
    base = repository.commit()
    project.write_text(before)
    repository.commit()
    monkeypatch.setattr(environments, "INSTALL_SECONDS", 60)
    monkeypatch.setenv("UV_OFFLINE", "1")
    done = run_gate("--base", base)
    assert done.code == 2
    assert re.search(r"base: its dependencies do not install: .*nobody-published", done.said)
    assert repository.left_behind() <= {"environments"}


@pytest.mark.parametrize("bad", [0.0, float("nan"), -1.0])
def test_times_that_are_none(repository: Repository, run_gate: Gate, bad: float) -> None:
    repository.commit(time=bad)
    assert_could_not_measure(run_gate(), repository, "pusht-inference.*head reported a time of")


def test_a_worker_that_imports_something_else(repository: Repository, run_gate: Gate) -> None:
    repository.commit(imported="/usr/lib/python3/site-packages/lerobot_policy_act_compiled/__init__.py")
    assert_could_not_measure(run_gate(), repository, "head imported /usr/lib.*not its own checkout")


def test_a_worker_that_ran_other_contents(repository: Repository) -> None:
    repository.commit()
    _, head = sides.resolve(None, None, repository.root)
    side = sides.check_out(head, repository.root / ".gate" / "side", repository.root)
    imported = str(side.path / PACKAGE / "__init__.py")
    side.check(imported, dict(side.blobs))
    with pytest.raises(MeasurementError, match=r"head ran other code than .*: __init__\.py"):
        side.check(imported, {"__init__.py": "0" * 40})
    with pytest.raises(MeasurementError, match=r"head ran other code than .*: no module"):
        side.check(imported, {})


@pytest.mark.parametrize(("module", "name"), [(sides, "_copy_working_tree"), (report, "markdown")])
def test_a_full_disk(
    repository: Repository, run_gate: Gate, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    repository.commit()
    monkeypatch.setattr(module, name, full)
    assert_could_not_measure(run_gate(), repository, "No space left on device")
    assert not list((repository.root / ".gate").glob("report/*"))


def test_two_gates_in_one_checkout(repository: Repository, run_gate: Gate) -> None:
    repository.commit()
    with workplace(repository.root):
        done = run_gate()
    assert_could_not_measure(done, repository, "already being measured in this checkout")
    assert run_gate().code == 0, "the lock is gone with the gate that held it"


def test_what_a_killed_gate_left_goes_with_the_next(repository: Repository, run_gate: Gate) -> None:
    repository.commit()
    (repository.root / ".gate" / "run" / "base").mkdir(parents=True)
    assert run_gate().code == 0
    assert repository.left_behind() == set()


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["base", "learning", "counts", "launch 1", "launch 3"])
def test_an_interrupt_leaves_nothing(repository: Repository, signal_: signal.Signals, moment: str) -> None:
    repository.commit(noise=2.0)  # never decided: there is always another launch
    script = (  # a shell's background job has SIGINT ignored, and so have its children
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import sys; from pathlib import Path; from benchmarks.gate.run import main; "
        "sys.exit(main(['--workloads', 'pusht-inference'], root=Path(sys.argv[1]), command=sys.argv[2:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(repository.root), *FAKE],
        cwd=RULER,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if moment in line:
            process.send_signal(signal_)
            break
    said += process.stderr.readlines()
    assert process.wait(timeout=30) == 2, said
    assert said[-1].startswith("gate: could not measure: interrupted"), said
    assert repository.left_behind() == set()
    deadline = time.monotonic() + 10
    while workers_alive(repository) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers_alive(repository) == []


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_stop_the_cleaning_up(first: signal.Signals) -> None:
    before, cleaned_up = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)], []

    def work() -> None:
        try:
            os.kill(os.getpid(), first)
            time.sleep(10)
        finally:
            for each in (signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), each)
            cleaned_up.append("everything")

    try:
        with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
            work()
        after = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    finally:
        for each, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(each, handler)
    assert cleaned_up
    assert after == [signal.SIG_IGN] * 2, "or the second one would take the place of the exit code"
    with sigterm_interrupts():
        pass
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_exit_code_of_bad_usage_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gate_run.main(["--min-effect", "three"])
    assert caught.value.code == 2
    assert "'three' is no share; write 3% or 0.03" in capsys.readouterr().err
