"""How two workers share the time: by turns on fakes, in slices on real processes that burn it."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks.gate import pairing
from benchmarks.gate.cases import CompileTime, StepTime
from benchmarks.gate.channel import Worker
from benchmarks.gate.pairing import (
    BY_TURNS,
    CAN_SLICE,
    IN_SLICES,
    LEAST_PAIRS,
    SLICE,
    STEADY_HEAP,
    answers_in_slices,
    pairing_of,
    slices,
)
from benchmarks.gate.sides import Side, Source
from benchmarks.gate.timing import measure_launch
from benchmarks.repository import ROOT, MeasurementError
from benchmarks.suite.fresh_process import AnswerError
from benchmarks.suite.workloads import PHASES, Case

EAGER = StepTime(Case("pusht", "inference", "eager"))
BY_TURNS_EAGER = StepTime(Case("pusht", "inference", "eager", device="cuda"))
COMPILING = CompileTime(Case("pusht", "inference", "compiled", device="cuda"))
needs_stopping = pytest.mark.skipif(not CAN_SLICE, reason="a worker is stopped on Linux only")


class Turns:
    """Workers that keep the order in which they were asked."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.sent: list[str] = []
        self.environments: list[Any] = []

    def worker(self, side: str, environment: Any) -> Any:
        turns = self
        turns.environments.append(environment)

        class Fake:
            def __enter__(self) -> Fake:
                return self

            def __exit__(self, *_: object) -> None:
                turns.order.append(f"{side} ends")

            def send(self, do: str, **_: Any) -> None:
                turns.sent.append(do)

            def check_hello(self) -> dict[str, Any]:
                return {}

            def receive(self, _timeout: float) -> dict[str, Any]:
                return {"seconds": 1.0}

            def ask(self, _do: str, **_: Any) -> dict[str, Any]:
                turns.order.append(side)
                return {"seconds": [float(len(turns.order))]}

        return Fake()


def test_the_sides_take_turns_so_that_a_straight_drift_cancels() -> None:
    turns = Turns()
    rng = random.Random(0)  # noqa: S311  # five times its 4 s, of steps that take 1 s and more
    found = dict(measure_launch([BY_TURNS_EAGER], turns.worker, rng, 5.0))
    b, h = "base", "head"
    assert turns.order[:8] == [b, h, h, b, h, b, b, h]
    samples = found[BY_TURNS_EAGER]
    # The simulated clock only rises: neither side is ahead of the other over a block.
    assert sum(samples.base[:2]) == sum(samples.head[:2])
    assert set(turns.order[8:]) == {"base ends", "head ends"}
    assert turns.environments == [STEADY_HEAP, STEADY_HEAP], "or page faults come by chance"
    assert STEADY_HEAP.items() < IN_SLICES.environment.items()


def test_compiling_is_timed_before_all_else_and_on_both_sides_at_once() -> None:
    turns = Turns()
    found = measure_launch([BY_TURNS_EAGER, COMPILING], turns.worker, random.Random(0))  # noqa: S311
    case, samples = next(found)
    assert case == COMPILING
    assert turns.sent[-2:] == ["compile", "compile"], "one waits for the other"
    assert (samples.base, samples.head) == ([1.0], [1.0])
    assert [case for case, _ in found] == [BY_TURNS_EAGER]


def test_what_was_compiled_is_timed_before_another_is_made() -> None:
    """Dynamo forgets it then; see ``worker``."""
    others = [StepTime(Case("tiny", phase, "compiled", device="cuda")) for phase in PHASES]
    compiled = StepTime(COMPILING.case)
    for seed in range(10):
        rng = random.Random(seed)  # noqa: S311
        found = measure_launch([*others, compiled, COMPILING], Turns().worker, rng)
        assert [case for case, _ in found][:2] == [COMPILING, compiled]


def test_the_cpu_gets_slices_and_cuda_turns() -> None:
    assert pairing_of("cuda") is BY_TURNS
    assert pairing_of("cpu") is (IN_SLICES if CAN_SLICE else BY_TURNS)


# Burns processor time, and says when it ran: a stamp for each stretch without a gap.
BURNER = """
import json, sys, time
def burn(seconds):
    ran, start = [[time.monotonic()] * 2], time.process_time()
    while time.process_time() - start < seconds:
        now = time.monotonic()
        if now - ran[-1][1] > 0.001:  # the other's last slice may be as short as 2 ms
            ran.append([now, now])
        ran[-1][1] = now
    return ran
seconds, first = float(sys.argv[1]), 10  # the first step says that it took ten times as long
for line in sys.stdin:
    do = json.loads(line)["do"]
    if do == "fail":
        print(json.dumps({"error": "RuntimeError: no"}), flush=True)
    elif do == "exit" and seconds > 0.1:
        sys.exit("gone")
    elif do == "hang":
        time.sleep(100)
    else:
        ran = burn(seconds)
        print(json.dumps({"seconds": [first * seconds], "ran": ran}), flush=True)
        first = 1
"""


@pytest.fixture
def burners(tmp_path: Path) -> Iterator[dict[str, Worker]]:
    """Two workers whose steps take 0.10 and 0.15 s of a processor."""
    sides = {
        name: Side(Source(name, "HEAD", "a" * 40, False, name, ""), tmp_path, {}, ())
        for name in ("base", "head")
    }
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Worker(side, tmp_path, command=("-c", BURNER, seconds)))
            for (name, side), seconds in zip(sides.items(), ("0.10", "0.15"), strict=True)
        }


@needs_stopping
def test_in_slices_one_runs_at_a_time_and_both_get_there(burners: dict[str, Worker]) -> None:
    answers = answers_in_slices(burners, ("base", "head"), "sample")
    stretches = sorted((start, end, name) for name, answer in answers.items() for start, end in answer["ran"])
    # A turn of the other's that is too short for a gap stands inside a stretch: it counts, not what follows.
    base, head = ([ran for ran in stretches if ran[2] == name] for name in ("base", "head"))
    overlap = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in itertools.product(base, head))
    assert overlap < 0.01, "\n".join(map(str, stretches))
    names = [name for _, _, name in stretches]
    assert min(names.count("base"), names.count("head")) > 2, "each was stopped and went on"
    shared = [end - start for start, end, _ in stretches[1:-3]]
    assert median(shared) < 2.5 * SLICE


@needs_stopping
def test_as_many_steps_on_either_side_for_the_time_asked_for(burners: dict[str, Worker]) -> None:
    samples = slices(burners, EAGER, 0.1)  # and one lap that is not counted
    assert samples.base == [0.10] * LEAST_PAIRS
    assert samples.head == [0.15] * LEAST_PAIRS
    assert len(slices(burners, EAGER, 1.2).base) == 5


@needs_stopping
@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("fail", "failed: RuntimeError: no"),
        ("exit", "head's worker ended with exit code 1: gone"),
        ("hang", "gave no answer within 0 s and was stopped; does it hang"),
    ],
)
def test_a_fault_in_a_slice_is_an_error(
    burners: dict[str, Worker], monkeypatch: pytest.MonkeyPatch, do: str, said: str
) -> None:
    monkeypatch.setattr(pairing, "STEP_TIMEOUT", 0.3)
    with pytest.raises((MeasurementError, AnswerError), match=said):
        answers_in_slices(burners, ("base", "head"), do)


DRIVER = """
import contextlib, os, signal, sys
from pathlib import Path
from benchmarks.gate.channel import Worker
from benchmarks.suite.fresh_process import AnswerError
from benchmarks.gate.sides import Side, Source
source = Source("head", "HEAD", "a" * 40, False, "head", "")
worker = Worker(Side(source, Path(sys.argv[1]), {}, ()), Path("."))
with contextlib.suppress(AnswerError):
    worker.ask("nothing", timeout=60)
worker.pause()
print(worker._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_stopping
def test_a_stopped_worker_ends_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    process = Path("/proc") / done.stdout.strip()
    for _ in range(100):
        if not process.exists() or "(zombie)" in (process / "status").read_text():
            return
        time.sleep(0.05)
    os.kill(int(process.name), signal.SIGKILL)
    pytest.fail("it is still there")
