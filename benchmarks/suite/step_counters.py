"""Exact counts of what a running step does: operators, FLOPs, waits, memory. Uses private torch API.

Every function has a canary test in tests/suite/test_counters.py; see `compile_counters`.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

Work = Callable[[], Any]


def _cpu_attention_flops(query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


# torch's counter has no entry for fused attention on a CPU: 6.9 of 107 GFLOP in aloha_3cam inference.
_FLOPS_TORCH_LEAVES_OUT = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops}


class _CountOps(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Dispatched:
    """What eager mode sends to the device, the backward pass included.

    Attributes:
        ops: operators.
        flops: floating-point operations of those that are matrix products, convolutions or attention.
        flops_by_op: the same for each of these operators.
    """

    ops: int
    flops: int
    flops_by_op: Mapping[str, int]


def dispatched(work: Work) -> Dispatched:
    """Count the operators of one call of ``work``, and their floating-point operations."""
    with (
        FlopCounterMode(display=False, custom_mapping=_FLOPS_TORCH_LEAVES_OUT) as flop_counter,
        _CountOps() as ops,  # entered last, so called first: the other mode takes composite operators apart
    ):
        work()
    by_op = {str(op): int(count) for op, count in flop_counter.get_flop_counts().get("Global", {}).items()}
    return Dispatched(ops.count, int(flop_counter.get_total_flops()), by_op)


@contextmanager
def profiled(device: str, **options: Any) -> Iterator[torch.profiler.profile]:
    """torch's profiler on the host's work, and on CUDA also the device's."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with warnings.catch_warnings():
        # Said at the start of any profile that is not to go on after its first cycle.
        warnings.filterwarnings("ignore", message="Warning: Profiler clears events")
        with torch.profiler.profile(activities=activities, **options) as profile:
            yield profile


def waits(work: Work) -> int:
    """How often a call gives up its core by itself: it sleeps, reads a disk, waits for a thread or a lock.

    With one thread of torch's, or each end of a parallel region might wait; the least of up to three
    calls, as a page that has to be read from disk is nobody's fault. 0 for ACT's eager steps.
    """
    import resource

    def switches() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    threads, found = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(3):
            before = switches()
            work()
            found.append(switches() - before)
            if not found[-1]:
                break
    finally:
        torch.set_num_threads(threads)
    return min(found)


def peak_memory(work: Work, device: str, *, of_others: int = 0) -> int:
    """Most bytes of tensors that ``work`` holds at one time beyond those it began with.

    On a CPU from the allocator's own events in the profiler (every allocation, Inductor's
    buffers included; not memory that a library takes for itself); on CUDA from the caching
    allocator's statistics, and what CUDA graphs hold from replay to replay is counted whole: a step
    works in it and allocates nothing. Both are exact for a given program.

    Args:
        of_others: bytes that CUDA graphs of this process hold and ``work`` does not replay.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before) + held_by_graphs() - of_others
    with profiled("cpu", profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    if not events:
        raise RuntimeError("torch's profiler reported no allocation; peak memory cannot be counted")
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def held_by_graphs() -> int:
    """Bytes of the device in pools of their own, as those that a CUDA graph was recorded with."""
    return sum(
        segment["total_size"]
        for segment in torch.cuda.memory_snapshot()
        if tuple(segment.get("segment_pool_id", (0, 0))) != (0, 0)
    )


def kernel_launches(work: Work) -> int:
    """Kernels launched on the CUDA device by ``work``; a replayed CUDA graph counts as one launch.

    Raises:
        RuntimeError: there is no CUDA device, or the profiler saw no launch at all.
    """
    count = _calls(work, LAUNCHES)
    if count == 0:
        raise RuntimeError("the profiler saw no kernel launch; is CUPTI available to it?")
    return count


def device_waits(work: Work) -> int:
    """How often ``work`` waits until the CUDA device is done.

    Raises:
        RuntimeError: there is no CUDA device.
    """
    return _calls(work, WAITS) - _calls(lambda: None, WAITS)  # the profiler waits, too, at its end


LAUNCHES = {
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cudaGraphLaunch",
}
WAITS = {
    "cudaDeviceSynchronize",
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "cuCtxSynchronize",
    "cuStreamSynchronize",
    "cudaMemcpy",
}


def _calls(work: Work, names: Collection[str]) -> int:
    """Calls of CUDA with these names that the host makes in ``work``."""
    if not torch.cuda.is_available():
        raise RuntimeError("calls of CUDA are counted on CUDA devices only, and torch sees none")
    torch.cuda.synchronize()
    with profiled("cuda") as profile:
        work()
        torch.cuda.synchronize()
    return sum(event.name() in names for event in profile.profiler.kineto_results.events())
