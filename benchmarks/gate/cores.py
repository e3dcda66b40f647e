"""Which core each of a worker's threads runs on. No torch until a step is timed.

Free threads of two processes that take turns wake up on one core now and then, and a parallel
region waits for both. Variance of a pair of steps times its seconds on two cores, %²s, free and
with a core to each thread: 94 and 18-25 (60 ms steps of pusht), 75 and 28-66 (350 ms of aloha).
"""

from __future__ import annotations

import os
from pathlib import Path

CAN_PIN = hasattr(os, "sched_setaffinity") and Path("/proc/self/task").is_dir()
_ALL = os.sched_getaffinity(0) if CAN_PIN else set()
_pool: list[int] = []  # threads of torch's parallel regions, beside the one that calls


def _threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def find_pool() -> None:
    """Start torch's threads and see which they are; before anything else of torch's has run."""
    import torch

    if CAN_PIN and not _pool:
        before = _threads()
        torch.ones(1 << 22).add_(1)
        _pool.extend(sorted(_threads() - before))


def pin() -> None:
    """A core to each thread that computes, where there are as many; 0 is this thread."""
    cores = sorted(_ALL)
    if _pool and len(_pool) < len(cores):
        for thread, core in zip([0, *_pool], cores, strict=False):
            os.sched_setaffinity(thread, {core})


def free() -> None:
    """Every thread on any core: what compiles starts processes of its own, on the cores of its parent."""
    for thread in [0, *_pool] if CAN_PIN else []:
        os.sched_setaffinity(thread, _ALL)
