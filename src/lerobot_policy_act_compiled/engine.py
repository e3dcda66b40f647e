"""The action chunk by another runtime on a CPU: modes ``openvino`` and ``onnxruntime``, and ``auto`` there.

They take fp32 policies and observations, OpenVINO also under bf16's autocast. What they do not take,
``otherwise`` does, and one line of the log says why. The first call of a kind, and the first with other
weights, runs eager mode too and returns eager mode's actions; the engine is used from then on if its own
actions agree with them to TOLERANCE, or, in bf16, are at most AS_BF16 times as far from fp32's as they are.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .compiling import FirstCompiler, kind_of_call, log_ready
from .kept_graphs import KeptGraphs, architecture, is_known
from .loss import Batch
from .onnx_graph import Graph, graph_of, missing, one_line, to_install
from .onnxruntime_session import OnnxRuntime
from .openvino_session import OpenVino
from .refused import needs_guards
from .session import Session, are_finite, nothing
from .warm_start import WarmStart
from .weights import Weights, tensors_of

log = logging.getLogger(__name__)

SESSIONS: dict[str, type[Session]] = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}
TOLERANCE = 1e-5  # of the largest action, or of 1
AS_BF16 = 2  # times as far from fp32's actions as those of autocast
KINDS = 8  # of calls; each has a session of its own, with most weights laid out anew


class Engine:
    """The action chunk of one policy by another runtime.

    Args:
        name: one of SESSIONS.
        asked: the mode as the configuration names it, for the log.
        eager: the chunk uncompiled.
        otherwise: the chunk compiled by torch, for calls that the engine does not take.
        directory: keeps the graph for the next process; None: the user's cache directory.

    Raises:
        ValueError: the runtime is not installed.
    """

    def __init__(
        self,
        name: str,
        asked: str,
        eager: Callable[[ACTPolicy, Batch], Tensor],
        otherwise: FirstCompiler | WarmStart,
        directory: str | None,
    ) -> None:
        if (lacks := missing(name)) is not None:
            raise ValueError(f"compile_mode is {asked!r} and {lacks} is not installed: {to_install(name)}")
        self._name, self._session = name, SESSIONS[name]
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
        if made is not None and (actions := self._acted(made, policy, batch)) is not None:
            return actions
        with self._lock:
            if kind not in self._refused:
                try:
                    return self._anew(policy, batch, kind, threads)
                except _RefusedError as why:
                    log.info("%s is not used: %s; the action chunk is compiled by torch", self._name, why)
                    self._made.pop(kind, None)
                    self._refused.add(kind)
        actions = self._otherwise(policy, batch)
        self.by = self._otherwise.by
        return actions

    def _acted(self, made: _Made, policy: ACTPolicy, batch: Batch) -> Tensor | None:
        """None where the weights are no longer those of ``made``."""

        def look() -> None:
            if not made.weights.are_those_of(policy):
                raise _OtherWeightsError
            if not self._session.KEEPS_NAN and not are_finite(batch.values()):
                raise _NotFiniteError

        try:
            # The engine works meanwhile, as it takes 1.1 ms of pusht's 10 to look (two cores).
            actions = made(batch, look)
        except _OtherWeightsError:
            return None
        except _NotFiniteError:
            self.by = "eager"
            return self._eager(policy, batch)
        self.by = self._name
        return actions

    def _anew(self, policy: ACTPolicy, batch: Batch, kind: Hashable, threads: int) -> Tensor:
        """Eager mode's actions, and a session that agrees with them: for a new kind, or for other weights."""
        start = time.perf_counter()
        _check(policy, batch, bf16=self._session.TAKES_BF16)
        before = self._made.get(kind)
        if before is not None and before.weights.are_those_of(policy):  # another thread came first
            actions = self._acted(before, policy, batch)
            if actions is not None:
                return actions
        if before is None and len(self._made) >= KINDS:  # those of weights that are gone run no more
            self._made = {each: m for each, m in self._made.items() if m.weights.are_those_of(policy)}
        if before is None and len(self._made) >= KINDS:
            raise _RefusedError(f"it runs for {KINDS} other shapes of observations or numbers of threads")
        name = _name(policy, batch)
        keeps = bool(name) and is_known(policy)
        of_before = before is not None and bool(name) and before.architecture == name
        held = before.graph if before is not None and of_before else self._kept.read(name) if keeps else None
        bf16 = torch.is_autocast_enabled("cpu")
        make = partial(_made, self._session, policy=policy, name=name, threads=threads, bf16=bf16)
        with ThreadPoolExecutor(1) as meanwhile:
            session = meanwhile.submit(make, held) if held is not None else None
            right = self._right(policy, batch)  # a bad batch ends here, with LeRobot's own error
        if not right.actions.isfinite().all():
            self.by = "eager"
            return right.actions  # it would prove nothing
        of_held = _from_held(session, batch, right) if session is not None else None
        made = of_held or _agreeing(make(_exported(policy, batch)), batch, right)
        if keeps and of_held is None:
            self._kept.keep(name, made.graph)
        self._made[kind], self.by = made, self._name
        if of_held is not None and of_before:
            seconds = time.perf_counter() - start
            log.info("the weights have changed: %s took them in %.1f s", self._name, seconds)
            return right.actions
        whence = f"graph kept in {self._kept.directory}" if of_held is not None else "graph exported"
        log_ready("action_chunk", f"{self._asked} ({self._name})", policy, whence, start=start)
        return right.actions

    def _right(self, policy: ACTPolicy, batch: Batch) -> _Right:
        actions = self._eager(policy, batch)
        allowed = TOLERANCE * max(1.0, float(actions.abs().max()))
        if not torch.is_autocast_enabled("cpu"):
            return _Right(actions, actions, allowed)
        with torch.autocast("cpu", enabled=False):
            exact = self._eager(policy, batch)
        return _Right(actions, exact, max(allowed, AS_BF16 * float((actions - exact).abs().max())))


class _RefusedError(Exception):
    """Why the engine does not run."""


class _OtherWeightsError(Exception):
    """The actions are those of other weights."""


class _NotFiniteError(Exception):
    """An observation is not finite, and the actions do not show it."""


@dataclass(frozen=True)
class _Right:
    """Eager mode's actions, and how far a session's may be off ``exact``, which fp32 gives."""

    actions: Tensor
    exact: Tensor
    allowed: float


@dataclass(frozen=True)
class _Made:
    graph: Graph
    architecture: str
    session: Session
    weights: Weights
    dtype: torch.dtype = torch.float32  # eager mode's, of the actions

    def __call__(self, batch: Batch, meanwhile: Callable[[], None] = nothing) -> Tensor:
        return self.session(batch, meanwhile).to(self.dtype)


def _made(
    session: type[Session], graph: Graph, *, policy: ACTPolicy, name: str, threads: int, bf16: bool
) -> _Made:
    weights = Weights(policy)  # first: what is written while the session is made is a change
    try:
        return _Made(graph, name, session(graph, policy, threads, bf16=bf16), weights)
    except ValueError as error:
        raise _RefusedError(one_line(error)) from error


def _name(policy: ACTPolicy, batch: Batch) -> str:
    """The architecture's; empty where it cannot be told, as in a program that was frozen into one file."""
    try:
        return architecture(policy, batch)
    except (OSError, TypeError, PackageNotFoundError) as why:
        log.info("the graph is not kept for the next start: %s", why)
        return ""


def _from_held(session: Future[_Made], batch: Batch, right: _Right) -> _Made | None:
    """The session over a graph of earlier; None where that one is of no use."""
    try:
        return _agreeing(session.result(), batch, right)
    except _RefusedError as why:
        log.info("the graph is exported anew: with the one that there is, %s", why)
        return None


def _exported(policy: ACTPolicy, batch: Batch) -> Graph:
    try:
        return graph_of(policy, batch)
    except Exception as error:  # whatever an exporter raises
        raise _RefusedError(f"the policy cannot be exported ({one_line(error)})") from error


def _agreeing(made: _Made, batch: Batch, right: _Right) -> _Made:
    made = replace(made, dtype=right.actions.dtype)
    try:
        difference = float((made(batch) - right.exact).abs().max())
    except Exception as error:  # as its own errors, and another shape of actions
        raise _RefusedError(f"it does not run ({one_line(error)})") from error
    if not difference <= right.allowed:
        raise _RefusedError(f"its actions are {difference:.1e} off those of eager mode")
    return made


def _check(policy: ACTPolicy, batch: Batch, *, bf16: bool) -> None:
    """Raise _RefusedError where an engine, that takes ``bf16`` or not, cannot stand for ``policy``."""
    if torch.is_autocast_enabled("cpu"):
        if not bf16:
            raise _RefusedError("autocast is on, and it computes in fp32")
        if (dtype := torch.get_autocast_dtype("cpu")) != torch.bfloat16:
            raise _RefusedError(f"autocast is to {dtype}, and it computes in fp32 or bf16")
    if (why := needs_guards(policy)) is not None:
        raise _RefusedError(why)
    names = policy.config.input_features
    values = [*(batch.get(name) for name in names), *(w for w in tensors_of(policy) if w.is_floating_point())]
    if any(not isinstance(v, Tensor) or v.dtype != torch.float32 or v.device.type != "cpu" for v in values):
        raise _RefusedError("an observation or a weight is missing, or is not fp32 on the CPU")
