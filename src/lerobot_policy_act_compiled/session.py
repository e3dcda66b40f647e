"""What the sessions of all runtimes share: a graph over the weights of a policy as they are now."""

from __future__ import annotations

import ctypes
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .onnx_graph import Graph, one_line

Arrays = dict[str, Any]  # NumPy's
# Of observations by name, to the graph's outputs. It calls its second argument once, while it computes where
# the runtime can; what that raises, it raises, and the outputs are lost.
Run = Callable[[Arrays, Callable[[], None]], list[Any]]


def nothing() -> None:
    """What there is to do meanwhile, where there is nothing."""


class Session(ABC):
    """``graph`` over the weights of ``policy`` as they are now.

    Args:
        threads: that it computes with.
        bf16: compute in bf16, as under autocast, where the processor can.

    Raises:
        ValueError: the runtime does not take the graph, or the policy lacks one of its weights.
    """

    NAME: ClassVar[str]
    TAKES_BF16: ClassVar[bool]
    KEEPS_NAN: ClassVar[bool]  # what is computed of NaN is NaN

    def __init__(self, graph: Graph, policy: ACTPolicy, threads: int, *, bf16: bool = False) -> None:
        try:
            runtime = self.runtime()
        except Exception as error:  # as one that lacks a library of the system
            raise ValueError(f"{self.NAME} cannot be imported ({one_line(error)})") from error
        try:
            state = policy.model.state_dict()
            found = {name: array(state[name]) for name in graph.weights if name in state}
            if graph.ahead:
                inputs, run = self.opened(runtime, graph.ahead, {}, threads, bf16=False)
                computed = run({name: array(state[name]) for name in inputs}, nothing)
                found |= zip(graph.computed, computed, strict=True)
            weights = {name: found[name] for name in graph.weights}
            self.inputs, self._run = self.opened(runtime, graph.model, weights, threads, bf16=bf16)
        except Exception as error:  # its own errors share no other base
            raise ValueError(
                f"{self.NAME} {runtime.__version__} does not take the graph ({one_line(error)})"
            ) from error

    @staticmethod
    @abstractmethod
    def runtime() -> Any:
        """The runtime's module."""

    @staticmethod
    @abstractmethod
    def opened(
        runtime: Any, model: bytes, weights: Arrays, threads: int, *, bf16: bool
    ) -> tuple[list[str], Run]:
        """The names of inputs that ``model`` has with these weights, and what runs it, in any thread."""

    def __call__(self, observations: dict[str, Tensor], meanwhile: Callable[[], None] = nothing) -> Tensor:
        """Actions ``(B, S, action_dim)``, fp32, in memory of their own.

        Args:
            meanwhile: called once, beside the runtime's work where it can; what it raises ends the call.
        """
        feed = {name: array(observations[name]) for name in self.inputs}
        return torch.from_numpy(self._run(feed, meanwhile)[0])


def array(tensor: Tensor) -> Any:
    """Its values where they lie, or, of a strided one, a copy."""
    return tensor.detach().contiguous().numpy()


def are_finite(observations: Iterable[Tensor]) -> bool:
    """Whether no float in these is NaN or infinite; a sum too large for its type says no, too.

    By NumPy, in this thread: torch's own threads would wait for more work on the cores that the engine needs
    next, which cost 6 ms of aloha's 168.
    """
    with np.errstate(all="ignore"):
        return all(bool(np.isfinite(array(value).sum())) for value in observations)


_with_threads: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def never_end_in_forks(session: Any) -> None:
    """To end it in a forked process waits, for ever, for threads that only the parent has."""
    _with_threads[id(session)] = session


def _hold_all() -> None:
    for each in list(_with_threads.values()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold_all)
