"""What a fresh process answers to ``launch``: ``python -m benchmarks.suite.answers``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import profiling, roofline
from .environment import environment
from .openvino_operators import openvino_operators
from .precision import in_force, lerobot_train_flags, strict_fp32
from .serving import serve
from .steps import prepare
from .timer import fixed_compile_seconds, timed, turned, warmed_up
from .workloads import Case


def first_call(cases: Sequence[Case], fixed: bool = True) -> dict[str, Any]:
    """Make each case ready: seconds of its first call, graphs, kernels.

    What a first call costs without any compiling is in it too, well below a second.

    Args:
        fixed: measure before, and so apart, what a process's first compile costs whatever it is. An engine
            compiles nothing, and its user pays none of that.
    """
    from .compile_counters import first_compiled_call

    answer: dict[str, Any] = {"cases": {}}
    if fixed:
        answer["fixed_seconds"] = fixed_compile_seconds()
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


LEAST_ROUNDS, MOST_ROUNDS = 7, 100


def alternate(
    cases: Sequence[Case], seconds: float, pause: float = 0.0, least: int = LEAST_ROUNDS
) -> dict[str, Any]:
    """Seconds of each case's step, taken by turns so that the machine's drift hits all alike.

    The order turns with each round, so that no case is always the first. Rounds are taken for ``seconds``,
    all cases together.

    Args:
        pause: s before each step, in which the threads of another case's runtime come to rest.
        least: rounds, however long they take.
    """
    steps = [warmed_up(case) for case in cases]
    found: dict[str, list[float]] = {str(case): [] for case in cases}
    end = time.monotonic() + seconds
    for turn in range(MOST_ROUNDS):
        if turn >= least and time.monotonic() > end:
            break
        for step in turned(steps, turn):
            if pause:
                time.sleep(pause)
            found[str(step.case)].append(timed(step))
    return {"seconds": found}


def memory(cases: Sequence[Case]) -> dict[str, Any]:
    """Peak memory of each case's step, in bytes, after a first call."""
    from .step_counters import held_by_graphs, peak_memory

    peaks = {}
    for case in cases:
        of_others = held_by_graphs() if case.device == "cuda" else 0
        step = prepare(case)
        for _ in range(2):  # on CUDA the second call may record a graph
            step()
        peaks[str(case)] = peak_memory(step, case.device, of_others=of_others)
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

    def files() -> set[str]:  # each bears a hash of what it was made of
        return {file.name for file in Path(kept).glob("*") if file.suffix in (".pt2", ".act-graph")}

    step, before = prepare(cases[0]), files()
    step.policy.config.compile_artifact = kept
    begun = time.perf_counter()
    step()
    step.wait()
    return {"seconds": time.perf_counter() - begun, "made": files() != before}


def replaced(cases: Sequence[Case]) -> dict[str, Any]:
    """Seconds of the first case's next action chunk after all of its weights have changed."""
    import torch

    step = prepare(cases[0])
    for _ in range(2):
        step()
    with torch.no_grad():
        for parameter in step.policy.parameters():
            parameter.mul_(1.01)
    return {"seconds": timed(step)}


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
    from .compile_counters import trace

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


ANSWERS: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f
    for f in (
        *(first_call, alternate, memory, difference, traced, save, load, start, replaced),
        *(roofline.rates, roofline.work, profiling.step_breakdown, profiling.compile_breakdown),
        openvino_operators,
    )
}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """With the flags that ``lerobot-train`` sets; what was installed and in force is in the answer."""
    cases = [Case(**fields) for fields in request.pop("cases")]
    device = cases[0].device
    with lerobot_train_flags(device):
        found = ANSWERS[request.pop("do")](cases, **request)
        return {**found, "environment": {**environment(), "flags": in_force(device)}}


if __name__ == "__main__":
    serve(answer)
