"""Work on a GPU recorded into a CUDA graph and replayed: the calls that ``capture`` makes of CUDA."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .inductor import own_workspaces
from .weights import Weights

_recording = threading.Lock()  # of the whole process: torch empties its cache around each


@dataclass(frozen=True)
class Recording:
    """What replays the work, and the tensor that it writes each time to the same memory.

    ``work`` is kept for what it holds: a graph reads its constants where they were.
    """

    replay: Callable[[], Any]
    result: Tensor
    work: Callable[[], Any]


class Cuda:
    """The device that is current when it is made.

    A graph may be replayed in any thread, unlike those of torch's compiler, which belong to one.
    """

    def __init__(self) -> None:
        self._side = torch.cuda.Stream()

    def record(self, work: Callable[[], Tensor], *, warm: int = 3) -> Recording:
        """``work`` as a graph, which holds its memory as long as the recording lives.

        Args:
            work: waits for nothing and reads what stays where it is.
            warm: calls before it is recorded, for whatever a first call does: compiling, choosing kernels.

        Raises:
            RuntimeError: CUDA cannot record it, or has no memory for it.
        """
        with _recording:
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):
                for _ in range(warm):
                    work()
            torch.cuda.current_stream().wait_stream(self._side)
            graph = torch.cuda.CUDAGraph()
            # Of this thread only: others may allocate meanwhile, as a camera's or another policy's.
            with own_workspaces(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result = work()
        return Recording(graph.replay, result, work)

    def recorded_look(self, weights: Weights) -> Recording:
        """Looks at the values of ``weights``; its result, a byte of the host, becomes 0 where one differs.

        It is to be 1 before each replay. Raises what ``record`` does.
        """
        flag = torch.ones((), dtype=torch.uint8, pin_memory=True)
        look = lambda: flag.copy_(weights.samples_unchanged(), non_blocking=True)  # noqa: E731
        with suppress(ImportError):  # of Triton, which torch compiles by on most GPUs
            from .samples_by_triton import looking

            look = looking(weights.samples, flag)
        return self.record(look, warm=1)

    def replay(self, first: Recording, beside: Recording) -> Tensor:
        """Start both, ``beside`` on a stream of its own; a copy of what ``first`` writes."""
        before = torch.cuda.current_stream().record_event()
        first.replay()
        result = first.result.clone()
        self._side.wait_event(before)
        with torch.cuda.stream(self._side):
            beside.replay()
        return result

    def wait(self) -> None:
        """Return when all that this thread has started is done."""
        self._side.synchronize()
        torch.cuda.current_stream().synchronize()


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Make it the current one in the block: of several GPUs a policy may be on any."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def being_recorded() -> bool:
    """Whether somebody records this thread's work, in which nobody may wait."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
