"""The action chunk on CUDA as one CUDA graph: mode ``captured``, and ``auto`` there.

Around the graphs of torch's compiler runs Python, guards, checks and copies, for as long as the GPU works or
longer. Here a call copies the observations into fixed memory, replays, and looks while the GPU works whether
the weights are still those of the graph. If they are not it takes the new ones and replays once more: nothing
is compiled for that.

Each kind of call, its shapes and precision, has a graph of its own. Its first actions, those after a change
of weights, and the first in each thread are compared with eager mode's. What cannot be captured, or does not
agree, ``otherwise`` does, and one line of the log says why. It runs in any thread, one call of a policy after
another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .compiling import CAPTURED, log_ready, usual
from .cuda_graph import Cuda, Recording, being_recorded, on
from .garbage_collector import collector_held_back
from .inductor import copy_of, has_tf32, keep_device_guard, layout_kept, settings
from .loss import Batch
from .onnx_graph import one_line
from .refused import needs_guards
from .tracing import traced
from .twin import Twin
from .weights import Weights, a_weight_of

log = logging.getLogger(__name__)

KINDS = 8  # of calls; each holds its graph's memory, and the one used longest ago goes


class Captured:
    """The action chunk of one policy by CUDA graphs.

    Args:
        asked: the mode as the configuration names it, for the log.
        function: the chunk of a policy or a twin, and a batch; it is compiled by torch.
        otherwise: the chunk for calls that are not captured.
    """

    def __init__(self, asked: str, function: Callable[[Any, Batch], Tensor], otherwise: Any) -> None:
        self._asked, self._function, self._otherwise = asked, function, otherwise
        self._lock = threading.RLock()  # a graph's memory is one call's at a time
        self._made: OrderedDict[Hashable, _Made] = OrderedDict()
        self._refused: set[Hashable] = set()
        self._twins: dict[_Arithmetic, Twin] = {}
        self._watch: _Watch | None = None
        self.by = "eager"  # what runs a call like the last one

    def __call__(self, policy: ACTPolicy, batch: Batch) -> Tensor:
        """Actions ``(B, S, action_dim)``; sets ``policy`` to eval mode."""
        kind = _kind(policy, batch)
        with self._lock, on(a_weight_of(policy).device):
            if kind not in self._refused and not being_recorded():
                try:
                    return self._act(policy, batch, kind)
                except Exception as why:  # compiling it otherwise raises the same, where it is not CUDA's
                    log.info("not captured: %s; the action chunk is compiled by torch alone", one_line(why))
                    self._made.pop(kind, None)
                    self._refused.add(kind)
        policy.eval()
        actions: Tensor = self._otherwise(policy, {name: usual(value) for name, value in batch.items()})
        self.by = "torch"
        return actions

    def _act(self, policy: ACTPolicy, batch: Batch, kind: Hashable) -> Tensor:
        made, watch = self._made.get(kind), self._watch
        if made is None or watch is None:
            made, watch = self._anew(policy, batch, kind), self._watch
        else:
            self._made.move_to_end(kind)
        assert watch is not None
        actions = made.started(batch, watch)
        policy.eval()  # as this and the check do not wait for the GPU, they cost nothing
        if not watch.holds_weights_of(policy, made.cuda):
            made = self._with_weights_of(policy, batch, kind)
            assert self._watch is not None
            actions = made.started(batch, self._watch)
            made.cuda.wait()
        if threading.get_ident() not in made.agreed:
            expected = self._function(policy, batch)
            if not expected.isfinite().all():
                self.by = "eager"
                return expected  # it would prove nothing
            _compare(actions, expected, made.tolerance)
            made.agreed.add(threading.get_ident())
        self.by = CAPTURED
        return actions

    def _anew(self, policy: ACTPolicy, batch: Batch, kind: Hashable) -> _Made:
        start = time.perf_counter()
        _check(policy, batch)
        keep_device_guard()
        policy.eval()
        cuda = Cuda()
        if self._watch is None:  # a twin that there is may have other weights
            self._made.clear()
            self._twins.clear()
            self._watch = _Watch(policy, cuda)
        arithmetic = _arithmetic(a_weight_of(policy))
        twin = self._twins.get(arithmetic)
        if twin is None:
            twin = Twin(policy, arithmetic.autocast, channels_last=arithmetic.channels_last)
            self._twins[arithmetic] = twin
        while len(self._made) >= KINDS:
            self._made.popitem(last=False)
        made = _Made(self._function, twin, arithmetic, batch, cuda)
        self._made[kind] = made
        log_ready("action_chunk", _named(self._asked), policy, "no artifact", start=start)
        return made

    def _with_weights_of(self, policy: ACTPolicy, batch: Batch, kind: Hashable) -> _Made:
        """What ``kind`` replays, with the weights as they are now."""
        made, watch = self._made[kind], self._watch
        self._watch = None  # first: if anything below fails, nothing stale is replayed
        if watch is None or not watch.renewed(policy):  # first, too: what is written from here on is a change
            watch = _Watch(policy, made.cuda)
        if not all(twin.take_weights_of(policy) for twin in self._twins.values()):
            log.info("the policy has changed: the action chunk is captured anew")
            return self._anew(policy, batch, kind)
        self._watch = watch
        for each in self._made.values():
            each.agreed.clear()
        return made


def _compare(actions: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise ValueError where the graph's actions are not eager mode's."""
    scale = max(1.0, float(expected.abs().max()))
    difference = float((actions - expected).abs().max())
    if not difference <= tolerance * scale:
        raise ValueError(f"its actions are {difference:.1e} off those of eager mode")


@dataclass(frozen=True)
class _Arithmetic:
    """How the GPU is to compute, which decides how a graph is best laid out."""

    autocast: torch.dtype | None
    channels_last: bool
    tolerance: float  # of the largest action, or of 1, between a graph and eager mode


def _arithmetic(weight: Tensor) -> _Arithmetic:
    device = weight.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if autocast is not None or weight.dtype != torch.float32:
        return _Arithmetic(autocast, True, 5e-2)
    # An H100's convolutions read channels last in TF32. In full fp32 they lay images out anew around each.
    products, convolutions = has_tf32(weight.device)
    return _Arithmetic(None, convolutions, 1e-2 if products or convolutions else 1e-4)


class _Made:
    """One kind of call: where its observations go, and the graph that reads them there."""

    def __init__(
        self, function: Callable[..., Tensor], twin: Twin, arithmetic: _Arithmetic, batch: Batch, cuda: Cuda
    ) -> None:
        self.cuda, self.tolerance = cuda, arithmetic.tolerance
        self.agreed: set[int] = set()  # threads in which its actions were compared with eager mode's
        self._names = list(batch)
        dense = torch.contiguous_format
        self._inputs = [torch.empty_like(value, memory_format=dense) for value in batch.values()]
        self._take(batch)
        observed = dict(zip(self._names, self._inputs, strict=True))
        run = torch.compile(copy_of(function), fullgraph=True, dynamic=False)
        self._constants: list[Tensor] = []
        # ``frozen``: what depends on shapes alone is a constant of the graph.
        with (
            collector_held_back(),
            nullcontext() if arithmetic.channels_last else layout_kept(),
            traced(frozen=True, merged_products=True, constants=self._constants),
        ):
            self._graph = cuda.record(lambda: run(twin, observed))

    def _take(self, batch: Batch) -> None:
        # One by one: torch's call for all of them takes 16 us of an H100 for one image.
        for own, name in zip(self._inputs, self._names, strict=True):
            own.copy_(batch[name], non_blocking=True)

    def started(self, batch: Batch, watch: _Watch) -> Tensor:
        self._take(batch)
        watch.before()
        return self.cuda.replay(self._graph, watch.look)


class _Watch:
    """Whether the weights are those that the twins have taken: on the host, and beside the graph."""

    def __init__(self, policy: ACTPolicy, cuda: Cuda) -> None:
        self._weights = Weights(policy)
        self.look: Recording = cuda.recorded_look(self._weights)
        self._same = self.look.result.numpy()

    def renewed(self, policy: ACTPolicy) -> bool:
        """Watch the values as they are now; False where they lie elsewhere."""
        return self._weights.renew(policy)

    def before(self) -> None:
        self._same[...] = 1

    def holds_weights_of(self, policy: ACTPolicy, cuda: Cuda) -> bool:
        """Waits for the GPU; once they have changed, never again."""
        marked = self._weights.seem_those_of(policy)
        cuda.wait()
        return marked and bool(self._same)


def _kind(policy: ACTPolicy, batch: Batch) -> Hashable:
    """What a graph is for: observations, weights, precision."""
    weight = a_weight_of(policy)
    device = weight.device
    observations = tuple(
        [(name, v.shape, v.dtype, v.device) if isinstance(v, Tensor) else name for name, v in batch.items()]
    )
    return observations, weight.dtype, device, settings(device.type)["precision"], has_tf32(device)


def _named(asked: str) -> str:
    return asked if asked == CAPTURED else f"{asked} ({CAPTURED})"


def _check(policy: ACTPolicy, batch: Batch) -> None:
    """Raise ValueError where no graph can stand for ``policy`` on ``batch``."""
    device = a_weight_of(policy).device
    if (why := needs_guards(policy)) is not None:
        raise ValueError(why)
    values = [batch.get(name) for name in policy.config.input_features]
    if any(not isinstance(value, Tensor) or value.device != device for value in values):
        raise ValueError(f"an observation is missing, or is not on {device}")
