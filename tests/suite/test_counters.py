"""A canary for every counter: on the installed torch it still counts, and counts right.

Each works on a function so small that the answer is known beforehand.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.suite import step_counters
from benchmarks.suite.compile_counters import (
    CapturingBackend,
    Compilation,
    count_compilation,
    first_compiled_call,
    trace,
    without_graph_caches,
)
from benchmarks.suite.step_counters import (
    device_waits,
    dispatched,
    kernel_launches,
    peak_memory,
    waits,
)
from lerobot_policy_act_compiled.releases import torch_is_at_least

pytestmark = pytest.mark.usefixtures("fresh_dynamo")

MEBIBYTE = 1 << 20


def two_ops(x: Tensor) -> Tensor:
    return torch.sin(x) + 1


def breaks_once(x: Tensor) -> Tensor:
    if x.sum() > 0:
        x = x + 1
    return x * 2


def test_trace_counts_graphs_and_ops() -> None:
    traced = trace(two_ops, torch.ones(3))
    assert (traced.graphs, traced.ops, traced.graph_breaks) == (1, 2, ())


def test_a_capturing_backend_counts_ops_as_a_trace_does_and_runs_the_graph() -> None:
    def function(x: Tensor) -> Tensor:
        return two_ops(x.reshape(3, 1)) @ torch.ones(1, 3)

    backend, x = CapturingBackend(), torch.ones(3)
    assert torch.equal(torch.compile(function, fullgraph=True, backend=backend)(x), function(x))
    assert backend.ops == [trace(function, x).ops]


def test_trace_says_where_and_why_a_graph_breaks() -> None:
    traced = trace(breaks_once, torch.ones(3))
    assert traced.graphs == 2
    (found,) = traced.graph_breaks
    assert found.file == __file__
    lines, first = inspect.getsourcelines(breaks_once)
    assert found.line == first + next(i for i, line in enumerate(lines) if "if x.sum()" in line)
    assert "branch" in found.reason or "jump" in found.reason
    assert str(found).startswith(f"{__file__}:{found.line}: ")


def reads_back(x: Tensor) -> Tensor:
    return x * x.sum().item()


@pytest.mark.parametrize(("function", "said"), [(breaks_once, "breaks_once"), (reads_back, "Tensor.item")])
def test_graph_breaks_are_counted_where_they_are_compiled(function: Any, said: str) -> None:
    compiled = torch.compile(function, backend="eager")
    with count_compilation() as compilation:
        compiled(torch.ones(3))
    (reason,) = compilation.graph_breaks
    assert said in reason
    with count_compilation() as again:
        compiled(torch.ones(3))
    assert again.graph_breaks == ()


def test_graphs_and_recompiles_are_counted() -> None:
    compiled = torch.compile(two_ops, backend="eager", dynamic=False)
    with count_compilation() as first:
        compiled(torch.ones(3))
        compiled(torch.ones(3))
    assert (first.graphs, first.recompiles, first.recompile_reasons) == (1, 0, ())
    with count_compilation() as second:
        compiled(torch.ones(4))
    assert (second.graphs, second.recompiles) == (1, 1)
    kept = torch_is_at_least("2.7")
    assert ("size" if kept else "two_ops (this torch keeps no reason)") in second.recompile_reasons[0]
    with count_compilation() as third:
        compiled(torch.ones(4))
    assert (third.graphs, third.recompiles) == (0, 0)


def test_inductor_kernels_are_counted_on_a_warm_cache_too() -> None:
    compiled = torch.compile(two_ops)
    for _ in range(2):  # the second compile of one graph is a hit of Inductor's cache
        torch.compiler.reset()
        with count_compilation() as compilation:
            compiled(torch.ones(3))
        assert compilation.graphs == 1
        assert compilation.kernels == 1
        assert compilation.cudagraph_skips == 0


def test_graphs_that_come_from_a_cache_are_counted_and_can_be_kept_from_it() -> None:
    def compilation() -> Compilation:
        torch.compiler.reset()
        return first_compiled_call(lambda: torch.compile(two_ops)(torch.ones(17)))

    compilation()
    assert compilation().cache_hits > 0
    with without_graph_caches():
        again = compilation()
    assert (again.cache_hits, again.kernels) == (0, 1)


def test_a_first_call_that_compiles_is_reported() -> None:
    compiled = torch.compile(two_ops, backend="eager")
    assert first_compiled_call(lambda: compiled(torch.ones(3))).graphs == 1


def test_a_first_call_that_compiles_nothing_is_an_error() -> None:
    compiled = torch.compile(two_ops, backend="eager")
    with (
        torch.compiler.set_stance("force_eager"),
        pytest.raises(RuntimeError, match="compiled nothing; is TORCHDYNAMO_DISABLE"),
    ):
        first_compiled_call(lambda: compiled(torch.ones(3)))


def test_flops_of_a_matrix_product() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert dispatched(lambda: a @ b).flops == 2 * 3 * 5 * 7


def test_flops_of_a_convolution() -> None:
    convolution, image = nn.Conv2d(3, 8, kernel_size=3, padding=1), torch.ones(2, 3, 10, 12)
    assert dispatched(lambda: convolution(image)).flops == 2 * (2 * 8 * 10 * 12) * (3 * 3 * 3)


def test_flops_of_fused_attention_on_a_cpu() -> None:
    query, key = torch.ones(2, 4, 6, 16), torch.ones(2, 4, 10, 16)
    with torch.no_grad():
        counted = dispatched(lambda: nn.functional.scaled_dot_product_attention(query, key, key)).flops
    assert counted == 2 * (2 * 2 * 4 * 6 * 10 * 16), "query times key, and weights times value"


def test_flops_of_a_backward_pass_are_counted() -> None:
    weight, x = torch.ones(5, 7, requires_grad=True), torch.ones(3, 5)
    assert dispatched(lambda: (x @ weight).sum().backward()).flops == 2 * (2 * 3 * 5 * 7)


def test_dispatched_ops_are_counted() -> None:
    x = torch.ones(3)
    assert dispatched(lambda: two_ops(x)).ops == 2
    assert dispatched(lambda: None).ops == 0


def test_peak_memory_is_what_is_held_at_one_time() -> None:
    def one_after_the_other() -> None:
        for _ in range(4):
            torch.empty(MEBIBYTE, dtype=torch.uint8)

    def together() -> None:
        held = [torch.empty(MEBIBYTE, dtype=torch.uint8) for _ in range(4)]
        held.clear()

    assert peak_memory(one_after_the_other, "cpu") == MEBIBYTE
    assert peak_memory(together, "cpu") == 4 * MEBIBYTE


def test_memory_that_cuda_graphs_hold_is_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """By recorded answers: a replayed step allocates nothing, and 43 MiB were said of one that held 700."""
    segments = [
        {"total_size": 20 * MEBIBYTE, "segment_pool_id": (0, 0)},
        {"total_size": 30 * MEBIBYTE, "segment_pool_id": (0, 7)},
        {"total_size": 2 * MEBIBYTE, "segment_pool_id": (3, 0)},
        {"total_size": 5 * MEBIBYTE},  # of a torch that names no pools
    ]
    says: dict[str, Any] = {
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 10 * MEBIBYTE,
        "max_memory_allocated": 11 * MEBIBYTE,
        "memory_snapshot": segments,
    }
    for name, answer in says.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    assert peak_memory(lambda: None, "cuda") == 33 * MEBIBYTE
    assert peak_memory(lambda: None, "cuda", of_others=30 * MEBIBYTE) == 3 * MEBIBYTE


@pytest.mark.parametrize("count", [kernel_launches, device_waits])
def test_calls_of_cuda_need_a_gpu(count: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="counted on CUDA devices only"):
        count(lambda: None)


def test_calls_of_cuda_are_counted_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """By recorded answers: what the profiler saw, its own wait at the end included."""
    calls: list[str] = []

    @contextmanager
    def profiled(device: str) -> Iterator[Any]:
        assert device == "cuda"
        calls.clear()
        events = lambda: [SimpleNamespace(name=lambda name=name: name) for name in calls]  # noqa: E731
        yield SimpleNamespace(profiler=SimpleNamespace(kineto_results=SimpleNamespace(events=events)))
        assert calls[-1] == "cudaDeviceSynchronize"

    monkeypatch.setattr(step_counters, "profiled", profiled)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("cudaDeviceSynchronize"))
    step = ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaLaunchKernel", "cudaGraphLaunch"]
    waits = ["cudaStreamSynchronize", "cudaStreamSynchronize"]
    assert kernel_launches(lambda: calls.extend(step + waits)) == 3
    assert device_waits(lambda: calls.extend(step + waits)) == 2
    assert device_waits(lambda: calls.extend(step)) == 0


@pytest.mark.gpu
def test_kernel_launches_are_counted() -> None:
    x = torch.ones(1000, device="cuda")
    assert kernel_launches(lambda: torch.sin(x)) == 1
    assert kernel_launches(lambda: (torch.sin(x), torch.cos(x))) == 2
    with pytest.raises(RuntimeError, match="saw no kernel launch"):
        kernel_launches(lambda: None)


@pytest.mark.gpu
def test_waits_for_a_gpu_are_counted() -> None:
    x = torch.ones(1000, device="cuda")
    assert device_waits(lambda: torch.sin(x)) == 0
    assert device_waits(lambda: (x.sum().item(), torch.cuda.synchronize())) == 2


@pytest.mark.gpu
def test_peak_memory_on_cuda() -> None:
    def hold() -> None:
        held = [torch.empty(MEBIBYTE, dtype=torch.uint8, device="cuda") for _ in range(4)]
        held.clear()

    assert peak_memory(hold, "cuda") == 4 * MEBIBYTE


@pytest.mark.gpu
def test_cudagraph_skips_are_counted() -> None:
    # A graph that works on the CPU too cannot be replayed as a CUDA graph; newer releases of torch replay
    # a part of it, and count no skip, unless they are told not to.
    compiled = torch.compile(lambda x, y: (x.sin(), y.cos()), mode="reduce-overhead")
    config: Any = torch._inductor.config
    whole = config.patch(graph_partition=False) if hasattr(config, "graph_partition") else nullcontext()
    with whole, count_compilation() as compilation:
        compiled(torch.ones(3, device="cuda"), torch.ones(3))
    assert compilation.cudagraph_skips == 1


def test_a_wait_is_counted_and_computing_is_none() -> None:
    matrix = torch.rand(400, 400)
    threads = torch.get_num_threads()
    assert waits(lambda: matrix @ matrix) == 0
    assert waits(partial(time.sleep, 0.001)) == 1
    assert torch.get_num_threads() == threads
