"""The action chunk by ONNX Runtime on a CPU: mode ``onnxruntime``, and ``auto`` where that is installed.

It takes fp32 policies and observations. What it does not take, ``otherwise`` does, and one line of the log
says why. The first call of a kind, and the first with other weights, runs eager mode too and returns eager
mode's actions; the engine is used from then on if its own actions agree with them to TOLERANCE.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .compiling import FirstCompiler, kind_of_call, log_ready
from .kept_graphs import KeptGraphs, architecture, is_known
from .loss import Batch
from .onnx_graph import INSTALL, Graph, Session, graph_of, missing, one_line
from .refused import needs_guards
from .warm_start import WarmStart
from .weights import Weights, tensors_of

log = logging.getLogger(__name__)

ENGINE = "onnxruntime"
TOLERANCE = 1e-5  # of the largest action, or of 1
KINDS = 8  # of calls; each has a session of its own, with most weights laid out anew


class Engine:
    """The action chunk of one policy by ONNX Runtime.

    Args:
        asked: the mode as the configuration names it, for the log.
        eager: the chunk uncompiled.
        otherwise: the chunk compiled by torch, for calls that the engine does not take.
        directory: keeps the graph for the next process; None: the user's cache directory.

    Raises:
        ValueError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        asked: str,
        eager: Callable[[ACTPolicy, Batch], Tensor],
        otherwise: FirstCompiler | WarmStart,
        directory: str | None,
    ) -> None:
        if (name := missing()) is not None:
            raise ValueError(f"compile_mode is {asked!r} and {name} is not installed: {INSTALL}")
        self._asked, self._eager, self._otherwise = asked, eager, otherwise
        self._kept = KeptGraphs(directory)
        self._lock = threading.RLock()  # two threads that come at once make one session
        self._made: dict[Hashable, _Made] = {}
        self._refused: set[Hashable] = set()
        self.by = "eager"  # what runs a call like the last one

    def __call__(self, policy: ACTPolicy, batch: Batch) -> Tensor:
        """Actions ``(B, S, action_dim)``."""
        # A session has its threads from the start, and a forked process has none of them.
        threads = torch.get_num_threads()
        kind = kind_of_call(policy, batch), threads, os.getpid()
        made = self._made.get(kind)
        if made is not None and made.weights.are_those_of(policy):
            self.by = ENGINE
            return made.session(batch)
        with self._lock:
            if kind not in self._refused:
                try:
                    return self._anew(policy, batch, kind, threads)
                except _RefusedError as why:
                    log.info("onnxruntime is not used: %s; the action chunk is compiled by torch", why)
                    self._made.pop(kind, None)
                    self._refused.add(kind)
        actions = self._otherwise(policy, batch)
        self.by = self._otherwise.by
        return actions

    def _anew(self, policy: ACTPolicy, batch: Batch, kind: Hashable, threads: int) -> Tensor:
        """Eager mode's actions, and a session that agrees with them: for a new kind, or for other weights."""
        start = time.perf_counter()
        _check(policy, batch)
        before = self._made.get(kind)
        if before is not None and before.weights.are_those_of(policy):  # another thread came first
            return before.session(batch)
        if before is None and len(self._made) >= KINDS:  # those of weights that are gone run no more
            self._made = {each: m for each, m in self._made.items() if m.weights.are_those_of(policy)}
        if before is None and len(self._made) >= KINDS:
            raise _RefusedError(f"it runs for {KINDS} other shapes of observations or numbers of threads")
        name = _name(policy, batch)
        keeps = bool(name) and is_known(policy)
        of_before = before is not None and bool(name) and before.architecture == name
        held = before.graph if before is not None and of_before else self._kept.read(name) if keeps else None
        with ThreadPoolExecutor(1) as meanwhile:
            session = meanwhile.submit(_made, held, policy, name, threads) if held is not None else None
            expected = self._eager(policy, batch)  # a bad batch ends here, with LeRobot's own error
        if not expected.isfinite().all():
            self.by = "eager"
            return expected  # it would prove nothing
        of_held = _from_held(session, batch, expected) if session is not None else None
        made = of_held or _exported(policy, batch, name, threads, expected)
        if keeps and of_held is None:
            self._kept.keep(name, made.graph)
        self._made[kind], self.by = made, ENGINE
        if of_held is not None and of_before:
            log.info("the weights have changed: onnxruntime took them in %.1f s", time.perf_counter() - start)
            return expected
        whence = f"graph kept in {self._kept.directory}" if of_held is not None else "graph exported"
        log_ready("action_chunk", f"{self._asked} (onnxruntime)", policy, whence, start=start)
        return expected


class _RefusedError(Exception):
    """Why the engine does not run."""


@dataclass(frozen=True)
class _Made:
    graph: Graph
    architecture: str
    session: Session
    weights: Weights


def _made(graph: Graph, policy: ACTPolicy, name: str, threads: int) -> _Made:
    weights = Weights(policy)  # first: what is written while the session is made is a change
    try:
        return _Made(graph, name, Session(graph, policy, threads), weights)
    except ValueError as error:
        raise _RefusedError(one_line(error)) from error


def _name(policy: ACTPolicy, batch: Batch) -> str:
    """The architecture's; empty where it cannot be told, as in a program that was frozen into one file."""
    try:
        return architecture(policy, batch)
    except (OSError, TypeError, PackageNotFoundError) as why:
        log.info("the graph is not kept for the next start: %s", why)
        return ""


def _from_held(session: Future[_Made], batch: Batch, expected: Tensor) -> _Made | None:
    """The session over a graph of earlier; None where that one is of no use."""
    try:
        return _agreeing(session.result(), batch, expected)
    except _RefusedError as why:
        log.info("the graph is exported anew: with the one that there is, %s", why)
        return None


def _exported(policy: ACTPolicy, batch: Batch, name: str, threads: int, expected: Tensor) -> _Made:
    try:
        graph = graph_of(policy, batch)
    except Exception as error:  # whatever an exporter raises
        raise _RefusedError(f"the policy cannot be exported ({one_line(error)})") from error
    return _agreeing(_made(graph, policy, name, threads), batch, expected)


def _agreeing(made: _Made, batch: Batch, expected: Tensor) -> _Made:
    try:
        difference = float((made.session(batch) - expected).abs().max())
    except Exception as error:  # as its own errors, and another shape of actions
        raise _RefusedError(f"it does not run ({one_line(error)})") from error
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise _RefusedError(f"its actions are {difference:.1e} off those of eager mode")
    return made


def _check(policy: ACTPolicy, batch: Batch) -> None:
    """Raise _RefusedError where the engine cannot stand for ``policy`` on ``batch``."""
    if torch.is_autocast_enabled("cpu"):
        raise _RefusedError("autocast is on, and it computes in fp32")
    if (why := needs_guards(policy)) is not None:
        raise _RefusedError(why)
    names = policy.config.input_features
    values = [*(batch.get(name) for name in names), *(w for w in tensors_of(policy) if w.is_floating_point())]
    if any(not isinstance(v, Tensor) or v.dtype != torch.float32 or v.device.type != "cpu" for v in values):
        raise _RefusedError("an observation or a weight is missing, or is not fp32 on the CPU")
