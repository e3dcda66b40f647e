"""One side of a comparison in a process of its own: it answers requests about cases.

``python -m benchmarks.gate.worker`` with the side's ``src`` first on PYTHONPATH. The first answer says
what was imported.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ..suite.asv_cases import has_mode
from ..suite.precision import in_force, lerobot_train_flags, strict_fp32
from ..suite.profiling import operator_times
from ..suite.serving import serve
from ..suite.steps import prepare
from ..suite.timer import fixed_compile_seconds, timed, warmed_up
from ..suite.workloads import Case, Step
from . import cores
from .auto_counters import auto, auto_on_cuda
from .graphs import graph, recompiles
from .identity import hello

# By the case and by what was in force when it was made: compiled code, and a CUDA graph's more so, holds
# what it was compiled or recorded with, so no step that is compared is timed. One and the same on a CPU.
_steps: dict[tuple[Case, str], Step] = {}


def ready(case: Case, again: bool = True) -> Step:
    """The case's step with the flags in force, made once a process; ``again`` as in ``warmed_up``."""
    key = case, in_force(case.device)
    if key not in _steps:
        _begin(case)
        _steps[key] = warmed_up(case, again=again)
    return _steps[key]


def _begin(case: Case) -> None:
    """What comes before a step is made.

    Dynamo forgets what it compiled: it would find a second workload's shapes changed, compile them
    as dynamic ones, and a pusht tick after aloha's take 47 ms instead of 41. What was compiled is
    gone with it, so such a step is made again if it is asked for again.
    """
    import torch

    cores.free()
    if case.compiles:
        torch.compiler.reset()
        for other in [other for other in _steps if other[0].compiles]:
            del _steps[other]


def warm(case: Case, again: bool = True) -> dict[str, Any]:
    ready(case, again)
    return {}


def compile(case: Case) -> dict[str, Any]:  # noqa: A001  # a request's name
    """Seconds to compile the case's step with no graph in the cache, see ``cases.CompileTime``; its kernels.

    Of this thread, which does all of it: another guest of the machine takes none of them.
    """
    from ..suite.compile_counters import first_compiled_call, without_graph_caches

    _begin(case)
    fixed_compile_seconds()
    step = prepare(case)
    with without_graph_caches():
        start = time.thread_time()
        compilation = first_compiled_call(step)
        seconds = time.thread_time() - start
    if compilation.cache_hits:
        raise RuntimeError(f"{compilation.cache_hits} graphs of {case} came from a cache; nothing was timed")
    step()
    _steps[case, in_force(case.device)] = step
    return {"seconds": seconds, "kernels": compilation.kernels}


def sample(case: Case, samples: int, busy: bool = False) -> dict[str, Any]:
    """Seconds of each of ``samples`` steps.

    Args:
        busy: count the time that cores are busy, and not the clock's; see ``pairing``.
    """
    step = ready(case)
    if case.device == "cpu":
        cores.pin()
    by_auto = case.variant == "auto"
    take = (seconds_of_caller if by_auto else busy_seconds) if busy else timed
    return {"seconds": [take(step) for _ in range(samples)]}


def busy_seconds(step: Step) -> float:
    """Time of the processor that one call takes, of all threads, over their number."""
    import torch

    start = time.process_time()
    step()
    return (time.process_time() - start) / torch.get_num_threads()


def seconds_of_caller(step: Step) -> float:
    """Time of the processor that one call takes of the thread that makes it.

    Of ``auto``, whose engine brings threads of its own: they sleep while Python works, so their share would
    count such a stretch by half. The caller computes with them, and spins until they are done. Standard
    deviation of a launch of pusht's tick over eight: 0.5%, as with ``busy_seconds``; by the clock 1.5%.
    """
    start = time.thread_time()
    step()
    return time.thread_time() - start


def operators(case: Case) -> dict[str, Any]:
    """Where the time of a step goes, by operator."""
    return operator_times(ready(case))


def ballast(units: dict[str, int] | None = None) -> dict[str, Any]:
    """Seconds of one unit of the extra work that ``slowdown`` put into this side.

    Args:
        units: of it for each step from now on, by ``slowdown.key``; what it does not name stays.
    """
    import importlib

    cores.pin()
    extra = importlib.import_module("lerobot_policy_act_compiled._ballast")
    if units is not None:
        extra.UNITS.update(units)
        return {}
    return {"seconds": extra.seconds_per_unit()}


def counts(case: Case) -> dict[str, Any]:
    """All counts of a case: those of ``graph``, and those of its compiled code."""
    from ..suite.compile_counters import count_compilation
    from ..suite.step_counters import held_by_graphs, kernel_launches, peak_memory

    found = graph(case)
    if found["graph_breaks"]:
        return found
    with count_compilation() as compilation:
        compiled = ready(case.as_variant("compiled"))
    found |= {
        "kernels": compilation.kernels,
        "peak_memory_compiled": peak_memory(compiled, case.device),
    }
    if case.device == "cuda":
        found |= {
            "launches_eager": kernel_launches(ready(case.as_variant("eager"))),
            "launches_compiled": kernel_launches(compiled),
            "cudagraph_skips": compilation.cudagraph_skips,
        }
        if case.phase == "inference" and has_mode("auto"):
            of_others = held_by_graphs()
            found |= auto_on_cuda(ready(case.as_variant("auto")), of_others)
    return found


def outputs(case: Case, compiled: bool = True) -> dict[str, Any]:
    """Actions, eager and ``compiled``, of the case's weights and batch, and the names in its state dict."""
    variants = ("eager", "compiled") if compiled else ("eager",)
    steps = {variant: ready(case.as_variant(variant)) for variant in variants}
    keys = {key: list(value.shape) for key, value in steps["eager"].policy.state_dict().items()}
    actions = {}
    for variant, step in steps.items():
        step.policy.reset()
        actions[variant] = step().flatten().tolist()
    return {"values": actions, "state_dict": keys}


def learning(case: Case) -> dict[str, Any]:
    """Loss and gradients of ``case`` in float64 without dropout, eager and as the graph Inductor gets.

    Float64, because in float32 rounding alone moves the backbone's first gradient by 1%; each
    gradient as its norm and its product with a seeded vector, which a wrong sign or order changes.
    aot_eager, because Inductor's float64 attention has no backward pass on a CPU (torch 2.11).
    """
    import torch

    values: dict[str, dict[str, float]] = {}
    for variant in ("eager", "compiled"):
        step = prepare(case.as_variant("eager"), dropout=0.0)
        step.policy.double()
        batch = {
            key: value.double() if value.is_floating_point() else value for key, value in step.batch.items()
        }
        forward = step.forward
        if variant == "compiled":
            torch.compiler.reset()
            forward = torch.compile(forward, fullgraph=True, backend="aot_eager")
        torch.manual_seed(0)  # of the latent
        loss, _ = forward(batch)
        loss.backward()
        values[variant] = {"loss": loss.item()}
        for name, parameter in step.policy.named_parameters():
            if parameter.grad is None:
                continue
            generator = torch.Generator().manual_seed(0)
            vector = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            gradient = parameter.grad.cpu()
            values[variant][f"norm of {name}'s gradient"] = gradient.norm().item()
            values[variant][f"direction of {name}'s gradient"] = (gradient * vector).sum().item()
    return {"values": values}


ANSWERS: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f
    for f in (warm, compile, sample, operators, graph, recompiles, counts, outputs, learning, auto)
}

TIMED = ("sample", "compile")  # of a side; whoever runs it has a garbage collector
COMPARED, COUNTED = ("outputs", "learning", "auto"), ("graph", "recompiles", "counts")


def flags_for(do: str, device: str) -> AbstractContextManager[None]:
    """Strict fp32 for what is compared, else what ``lerobot-train`` sets; what is counted without chance."""
    return strict_fp32(device) if do in COMPARED else lerobot_train_flags(device, benchmark=do not in COUNTED)


@contextmanager
def without_garbage_collector() -> Iterator[None]:
    """Importing, tracing and compiling take 10 to 20% less time. A side's subject may not do so itself."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    do = request.pop("do")
    if do == "hello":
        with without_garbage_collector():
            return hello()
    if do == "ballast":
        return ballast(**request)
    case = Case(**request.pop("case"))
    with flags_for(do, case.device), nullcontext() if do in TIMED else without_garbage_collector():
        return ANSWERS[do](case, **request)


if __name__ == "__main__":
    serve(answer)
