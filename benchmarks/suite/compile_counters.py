"""Exact counts of what torch.compile makes: graphs, breaks, recompiles, kernels. Uses private torch API.

Every function measures one thing and has a canary test (tests/suite/test_counters.py)
that proves on the installed torch that it still counts: a counter that a release renamed or
switched off must fail a test, not report zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch._dynamo
import torch._inductor.metrics as inductor_metrics
from torch._dynamo.utils import (
    clear_compilation_metrics,
    compilation_time_metrics,
    counters,
    get_compilation_metrics,
)

Work = Callable[[], Any]
ENGINES = ("openvino", "onnxruntime")  # as the subject names them


@dataclass(frozen=True)
class GraphBreak:
    """Where a graph ended before its time, in the user's code, and torch's reason."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Trace:
    """What Dynamo makes of a function: ``ops`` are the operators and functions called in its graphs."""

    graphs: int
    ops: int
    graph_breaks: tuple[GraphBreak, ...]


def trace(function: Callable[..., Any], *args: Any) -> Trace:
    """Trace ``function(*args)`` as torch.compile would, without a backend.

    Source: torch._dynamo.explain. Its ``op_count`` leaves out tensor methods (``x.reshape``);
    so do the figures of ours.
    """
    torch._dynamo.reset()
    explained = torch._dynamo.explain(function)(*args)
    torch._dynamo.reset()
    breaks = tuple(
        GraphBreak(frame.filename, frame.lineno or 0, " ".join(str(reason.reason).split()))
        for reason in explained.break_reasons
        if reason.graph_break and reason.user_stack
        for frame in reason.user_stack[-1:]
    )
    if len(breaks) < explained.graph_break_count:  # a break without a place is still a break
        missing = explained.graph_break_count - len(breaks)
        breaks += (GraphBreak("unknown", 0, "torch reported no place for this break"),) * missing
    return Trace(explained.graph_count, explained.op_count, breaks)


class CapturingBackend:
    """A backend for torch.compile that runs graphs as they are and keeps the ops of each.

    Attributes:
        ops: operators and functions called in each graph it got, counted as ``trace`` counts them.
        names: of these, over all graphs.
    """

    def __init__(self) -> None:
        self.ops: list[int] = []
        self.names: list[str] = []

    def __call__(self, graph: torch.fx.GraphModule, _inputs: Sequence[Any]) -> Callable[..., Any]:
        names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        self.ops.append(len(names))
        self.names += names
        return graph.forward


@dataclass
class Compilation:
    """What was compiled inside ``count_compilation``; filled when the block ends."""

    graphs: int = 0
    graph_breaks: tuple[str, ...] = ()
    recompiles: int = 0
    recompile_reasons: tuple[str, ...] = ()
    kernels: int = 0
    cudagraph_skips: int = 0
    cache_hits: int = 0


@contextmanager
def count_compilation() -> Iterator[Compilation]:
    """Count graphs, recompiles and Inductor kernels compiled in the block.

    A graph counts when a backend got it; a recompile is a frame compiled again because a guard
    failed; kernels count on a cache hit too (Inductor replays its metrics with the artifact).
    ``graph_breaks`` are torch's reasons, or where it went on after a branch, for which it counts
    none (torch 2.11); ``trace`` gives the places.
    ``cache_hits`` are graphs whose code came from a cache.
    """
    result = Compilation()
    hits = _cache_hits()
    graphs = counters["stats"]["unique_graphs"]
    breaks = counters["graph_break"].copy()
    skips = counters["inductor"]["cudagraph_skips"]
    kernels = inductor_metrics.generated_kernel_count
    clear_compilation_metrics()
    yield result
    result.graphs = counters["stats"]["unique_graphs"] - graphs
    result.kernels = inductor_metrics.generated_kernel_count - kernels
    result.cache_hits = _cache_hits() - hits
    result.cudagraph_skips = counters["inductor"]["cudagraph_skips"] - skips
    frames = {
        str(metric.compile_id): metric for metric in get_compilation_metrics() if metric.co_name is not None
    }
    resumed = {str(m.co_name) for m in frames.values() if str(m.co_name).startswith("torch_dynamo_resume")}
    reasons = (counters["graph_break"] - breaks).elements()
    result.graph_breaks = tuple(" ".join(str(reason).split()) for reason in reasons) or tuple(sorted(resumed))
    again = [m for compile_id, m in frames.items() if not compile_id.partition("_")[0].endswith("/0")]
    result.recompiles = len(again)
    result.recompile_reasons = tuple(
        # torch 2.6 counts them and does not keep why.
        str(getattr(m, "recompile_reason", None) or f"{m.co_name} (this torch keeps no reason)")
        for m in again
    )


def _cache_hits() -> int:
    return int(counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"])


def runs_by_engine(step: Any) -> bool:
    """Whether the step's action chunk is run by an engine that torch compiles nothing for."""
    by: dict[str, str] = getattr(
        getattr(step, "policy", None), "compiled_by", dict
    )()  # older subjects have none
    return by.get("predict_action_chunk") in ENGINES


def first_compiled_call(step: Work) -> Compilation:
    """Run a compiled step's first call.

    Raises:
        RuntimeError: nothing was compiled, and no engine runs it; the step would be measured eager under a
            wrong name.
    """
    with count_compilation() as compilation:
        step()
    if compilation.graphs == 0 and not runs_by_engine(step):
        raise RuntimeError(f"{step!r} compiled nothing; is TORCHDYNAMO_DISABLE or TORCH_COMPILE_DISABLE set?")
    return compilation


@contextmanager
def compile_stages() -> Iterator[list[float]]:
    """Seconds spent in the block, filled when it ends: Dynamo; AOTAutograd; Inductor; waiting for compilers.

    A backward graph that is compiled when its gradient is asked for adds to the last two.

    Raises:
        RuntimeError: torch accounts for nothing under these names.
    """
    found: list[float] = []
    compilation_time_metrics.clear()
    yield found
    frame, backend, inductor, waiting = (
        compilation_time_metrics.get(name, [])
        for name in (
            "_compile.compile_inner",
            "OutputGraph.call_user_compiler",
            "compile_fx_inner",
            "async_compile.wait",
        )
    )
    if not (frame and backend):  # a graph that comes from a cache has no Inductor in it
        raise RuntimeError("torch keeps no account of its compiling under the names of release 2.11")
    within_backend = sum(inductor[: len(backend)])
    found += [
        sum(frame) - sum(backend),
        sum(backend) - within_backend,
        sum(inductor) - sum(waiting),
        sum(waiting),
    ]


@contextmanager
def without_graph_caches() -> Iterator[None]:
    """Compile every graph anew, though its kernels may lie in the cache as libraries."""
    import torch._functorch.config as aot_config
    import torch._inductor.config as inductor_config

    with (
        inductor_config.patch(fx_graph_cache=False, fx_graph_remote_cache=False),
        aot_config.patch(enable_autograd_cache=False),
    ):
        yield
