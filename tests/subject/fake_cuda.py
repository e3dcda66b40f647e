"""CUDA's calls that ``capture`` makes, on a CPU: a graph is the work itself, done again at each replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lerobot_policy_act_compiled.cuda_graph import Recording


class FakeCuda:
    """As ``cuda_graph.Cuda``; counts what was recorded, replayed and waited for, of all objects together."""

    recorded: list[str]  # "graph" and "look"
    replays: int
    waits: int
    values_change: bool  # the next look finds other values, which nothing has counted

    @classmethod
    def forget(cls) -> None:
        cls.recorded, cls.replays, cls.waits, cls.values_change = [], 0, 0, False

    def record(self, work: Callable[[], torch.Tensor], *, warm: int = 3) -> Recording:
        for _ in range(warm):
            work()
        result = work()
        self.recorded.append("graph")
        return Recording(lambda: result.copy_(work()), result, work)

    def recorded_look(self, weights: Any) -> Recording:
        flag = torch.ones((), dtype=torch.uint8)

        def look() -> None:
            if type(self).values_change or not weights.samples_unchanged():
                flag.zero_()
            type(self).values_change = False

        self.recorded.append("look")
        return Recording(look, flag, look)

    def replay(self, first: Recording, beside: Recording) -> torch.Tensor:
        type(self).replays += 1
        first.replay()
        beside.replay()
        return first.result.clone()

    def wait(self) -> None:
        """Everything is done."""
        type(self).waits += 1


FakeCuda.forget()
