"""One fresh process that compiles or measures: ``python -m benchmarks.launch REQUEST``.

The launch is the unit of replication: two launches differ by more than two samples of one.
A request and its answer are JSON on one line, so a caller needs no torch of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import machine, profiling
from .precision import in_force, lerobot_train_flags, strict_fp32
from .repository import ROOT
from .workloads import Case, Step, prepare

# Every process of Inductor compiles and loads a library to see whether the processor's vector
# instructions work: 10 s of 15 with an empty cache, 3 s with a full one, and nothing of the model.
TRUST_THE_PROCESSOR = {"TORCHINDUCTOR_VEC_ISA_OK": "1"}


def launch(request: dict[str, Any], *, inductor_cache: Path, timeout: float = 1800) -> dict[str, Any]:
    """Run ``request`` in a fresh process with its own Inductor cache directory.

    Args:
        request: ``do``, the name of a function of ANSWERS, and ``cases``, a list of Case's fields.
        inductor_cache: empty for a cold compile, filled by an earlier launch for a warm one.
        timeout: s

    Raises:
        RuntimeError: the launch failed; its last lines of output are in the message.
        subprocess.TimeoutExpired: it took longer than ``timeout``; it has been killed.
    """
    environment = {
        **os.environ,
        **TRUST_THE_PROCESSOR,
        "TORCHINDUCTOR_CACHE_DIR": str(inductor_cache),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.launch", json.dumps(request)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise RuntimeError(f"launch of {request['cases']} ended with exit code {done.returncode}: {tail}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def as_request(do: str, cases: Sequence[Case], **options: Any) -> dict[str, Any]:
    """The request that asks a launch to ``do`` something with ``cases``."""
    return {"do": do, "cases": [asdict(case) for case in cases], **options}


def fixed_compile_seconds() -> float:
    """Time of a process's first Inductor compile, of a function that is nothing: 5 s and more when cold.

    It is the toolchain's check and has nothing to do with a model.
    """
    import torch

    start = time.perf_counter()
    torch.compile(lambda x: x.sin() + 1)(torch.zeros(64))
    return time.perf_counter() - start


def first_call(cases: Sequence[Case]) -> dict[str, Any]:
    """Compile each case: seconds of its first call, graphs, kernels; the fixed cost apart.

    What a first call costs without any compiling is in it too, well below a second.
    """
    from .counters import first_compiled_call

    answer: dict[str, Any] = {"fixed_seconds": fixed_compile_seconds(), "cases": {}}
    for case in cases:
        step = prepare(case)
        start = time.perf_counter()
        compilation = first_compiled_call(step)
        step.wait()
        seconds = time.perf_counter() - start
        answer["cases"][str(case)] = {
            "seconds": seconds,
            "graphs": compilation.graphs,
            "kernels": compilation.kernels,
        }
    return answer


def warmed_up(case: Case, *, again: bool = True) -> Step:
    """The case's step after its first calls, compiled where it is to be.

    Args:
        again: call a compiled step a second time; without, whoever times it leaves out that call.

    Raises:
        RuntimeError: the case compiles, and nothing was compiled.
    """
    from .counters import first_compiled_call

    step = prepare(case)
    if case.compiles:
        first_compiled_call(step)
    if again or not case.compiles:
        step()  # allocators, thread pools and, on CUDA, the recording of graphs
    step.wait()
    return step


LEAST_ROUNDS, MOST_ROUNDS = 7, 100


def alternate(cases: Sequence[Case], seconds: float) -> dict[str, Any]:
    """Seconds of each case's step, taken by turns so that the machine's drift hits all alike.

    The order turns with each round, so that no case always follows the same one. Rounds are taken
    for ``seconds``, all cases together, and at least LEAST_ROUNDS of them.
    """
    steps = [warmed_up(case) for case in cases]
    found: dict[str, list[float]] = {str(case): [] for case in cases}
    end = time.monotonic() + seconds
    for turn in range(MOST_ROUNDS):
        if turn >= LEAST_ROUNDS and time.monotonic() > end:
            break
        for step in turned(steps, turn):
            found[str(step.case)].append(timed(step))
    return {"seconds": found}


def turned(steps: Sequence[Step], turn: int) -> list[Step]:
    """The steps in the order of this turn: each begins with another, so that none always follows the same."""
    shift = turn % len(steps)
    return [*steps[shift:], *steps[:shift]]


def timed(step: Step) -> float:
    """Seconds of one call, waiting for the device before and after."""
    step.wait()
    start = time.perf_counter()
    step()
    step.wait()
    return time.perf_counter() - start


def memory(cases: Sequence[Case]) -> dict[str, Any]:
    """Peak memory of each case's step, in bytes, after a first call."""
    from .counters import peak_memory

    peaks = {}
    for case in cases:
        step = prepare(case)
        step()
        peaks[str(case)] = peak_memory(step, case.device)
    return {"bytes": peaks}


def save(cases: Sequence[Case], into: str) -> dict[str, Any]:
    """Compile the first case's action chunk ahead of time into the directory ``into``."""
    from lerobot_policy_act_compiled import save_artifact

    start = time.perf_counter()
    save_artifact(prepare(cases[0]).policy, into)
    return {"seconds": time.perf_counter() - start}


def load(cases: Sequence[Case], saved: str) -> dict[str, Any]:
    """Seconds to load what ``save`` made into a policy that is there, and to have its first action chunk."""
    from lerobot_policy_act_compiled import load_artifact

    step = prepare(cases[0])
    start = time.perf_counter()
    load_artifact(step.policy, saved).predict_action_chunk(step.batch)
    step.wait()
    return {"seconds": time.perf_counter() - start}


def start(cases: Sequence[Case], kept: str) -> dict[str, Any]:
    """Seconds of the first case's first call with ``compile_artifact=kept``; whether it made that."""

    def packages() -> list[tuple[str, int]]:
        return sorted((file.name, file.stat().st_mtime_ns) for file in Path(kept).glob("*.pt2"))

    step, before = prepare(cases[0]), packages()
    step.policy.config.compile_artifact = kept
    begun = time.perf_counter()
    step()
    step.wait()
    return {"seconds": time.perf_counter() - begun, "made": packages() != before}


def difference(cases: Sequence[Case]) -> dict[str, Any]:
    """Largest absolute difference of each case's actions from those of the first case, in strict fp32."""
    with strict_fp32(cases[0].device):
        results = [prepare(case)() for case in cases]
    return {
        "difference": {
            str(case): (result - results[0]).abs().max().item()
            for case, result in zip(cases, results, strict=True)
        }
    }


def traced(cases: Sequence[Case]) -> dict[str, Any]:
    """Graphs, graph breaks and ops that Dynamo captures of each case's forward."""
    from .counters import trace

    traces = {}
    for case in cases:
        step = prepare(case)
        found = trace(step.forward, step.batch)
        traces[str(case)] = {
            "graphs": found.graphs,
            "ops": found.ops,
            "graph_breaks": [str(graph_break) for graph_break in found.graph_breaks],
        }
    return {"traces": traces}


def environment() -> dict[str, Any]:
    """What belongs beside every figure: versions, processor, threads."""
    import platform
    from importlib.metadata import version

    import torch

    return {
        "torch": torch.__version__,
        "lerobot": version("lerobot"),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu": processor(),
    }


def processor() -> str:
    """What matrix products run on: AVX2, AVX512, or AVX512 with AMX, whose bf16 is many times as fast."""
    import torch

    capability = str(torch.backends.cpu.get_cpu_capability())
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch does not say
        return capability
    return f"{capability} with AMX" if torch.cpu.get_capabilities().get("amx_bf16") else capability


ANSWERS: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f
    for f in (
        *(first_call, alternate, memory, difference, traced, save, load, start),
        *(machine.rates, machine.work, profiling.step_breakdown, profiling.compile_breakdown),
    )
}


def main(argument: str) -> None:
    request = json.loads(argument)
    cases = [Case(**fields) for fields in request.pop("cases")]
    device = cases[0].device
    with lerobot_train_flags(device):
        answer = ANSWERS[request.pop("do")](cases, **request)
        print(json.dumps({**answer, "environment": {**environment(), "flags": in_force(device)}}))


if __name__ == "__main__":
    main(sys.argv[1])
